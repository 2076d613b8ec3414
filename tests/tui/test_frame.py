"""What is sent makes the very picture that was drawn, and is only what changed."""

import re

import pyte
import pytest
from hypothesis import given, strategies as st

from kvmtui.frame import Frame
from kvmtui.sgr import PLAIN, after, between

COLOURS = ["38;5;115", "48;5;233", "38;2;1;2;3", "48;2;4;5;6", "31", "42", "39", "49", "97", "104"]
CODES = st.lists(st.sampled_from(["0", "1", "3", "4", "7", "9", "", *COLOURS]), min_size=1, max_size=4)
SIZE = COLUMNS, ROWS = 20, 5
PIECES = st.one_of(
    CODES.map(lambda codes: f"\x1b[{';'.join(codes)}m"),
    st.tuples(st.integers(1, ROWS + 1), st.integers(1, COLUMNS + 1)).map(lambda at: f"\x1b[{at[0]};{at[1]}H"),
    st.sampled_from(["text", " ", " " * 9, "a" * 30, "\n", "\x1b[H", "\x1b[3H", "─│", "日本", "e\u0301", "\x1b[?25l"]),
)


class Picture:
    """What stands on a terminal that was fed."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(*SIZE)
        # No wrapping, and a newline begins a row, as on the terminals that Textual draws on.
        self.screen.reset_mode(7, private=True)
        self.screen.set_mode(20)
        self.stream = pyte.Stream(self.screen)

    def after(self, data: str) -> list[list[object]]:
        self.stream.feed(data)
        return [[self.screen.buffer[y][x] for x in range(COLUMNS)] for y in range(ROWS)]


def inside(data: str) -> bool:
    """Whether nothing is drawn beyond the edges: there terminals differ."""
    x = y = 0
    for part in pyte_parts(data):
        if part.startswith("\x1b["):
            if part.endswith("H"):
                y, x = ([int(n) - 1 for n in part[2:-1].split(";") if n] + [0, 0])[:2]
        elif part == "\n":
            x, y = 0, y + 1
        else:
            x += sum(2 if c in "日本" else 0 if c == "\u0301" else 1 for c in part)
        if x > COLUMNS or y >= ROWS:
            return False
    return True


def pyte_parts(data: str) -> list[str]:
    return [part for part in re.split(r"(\x1b\[[?0-9;]*[a-zA-Z]|\n)", data) if part]


@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=4))
def test_it_looks_the_same(writes: list[str]) -> None:
    frame, drawn, sent = Frame(*SIZE), Picture(), Picture()
    drawable = [f"\x1b[H{data}" for data in writes if inside(data)]
    for data in drawable:
        frame.draw(data)
        assert sent.after(frame.changes()) == drawn.after(data)
    assert frame.changes() == ("" if drawable else "\x1b[0m\x1b[2J")


def test_only_what_changed_is_sent() -> None:
    frame = Frame(40, 4)
    assert frame.draw("\x1b[1;1H\x1b[1mone\x1b[0m two three") == []
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[H\x1b[1mone\x1b[0m two three"
    assert frame.changes() == ""
    # The same once more, and what is gone before anybody saw it.
    frame.draw("\x1b[1;1H\x1b[1mone\x1b[0m two\x1b[3;1Hgone\x1b[3;1H    ")
    assert frame.changes() == ""
    # Cells between that are cheaper to send than to go round.
    frame.draw("\x1b[1;5HTwO\x1b[1;13HE")
    assert frame.changes() == "\x1b[1;5HTwO threE"
    frame.draw("\x1b[2;1Ha\x1b[2;20Hb")
    assert frame.changes() == "\x1b[2Ha\x1b[2;20Hb"
    # What ends in blanks is cleared; a few blanks are written.
    frame.draw("\x1b[1;5H                    ")
    assert frame.changes() == "\x1b[1;4H\x1b[K"
    frame.draw("\x1b[1;2H  ")
    assert frame.changes() == "\x1b[1;2H  "


def test_what_draws_nothing_is_handed_back() -> None:
    frame = Frame(10, 2)
    assert frame.draw("\x1b[?1049h\x1b]0;title\x07x\x07\x1b[?2026$p\x1b[>25u\x1bP+q\x1b\\\x1b(B\x1b7") == [
        "\x1b[?1049h",
        "\x1b]0;title\x07",
        "\x1b[?2026$p",
        "\x1b[>25u",
        "\x1bP+q\x1b\\",
        "\x1b(B",
        "\x1b7",
    ]
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[Hx"


def test_without_colours() -> None:
    frame = Frame(10, 2, plain=True)
    frame.draw("\x1b[3;31;42ma\x1b[0;1;2;7mb\x1b[4mc\x1b[0m")
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[Ha\x1b[1;7mb\x1b[4mc\x1b[0m"


def test_another_size_and_a_screen_that_something_else_wrote_on() -> None:
    frame = Frame(10, 2)
    frame.draw("\x1b[2;9Hab")
    frame.changes()
    frame.forget()
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[2;9Hab"
    frame.resize(10, 2)
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[2;9Hab", "Textual draws nothing anew then"
    frame.resize(5, 1)
    frame.draw("\x1b[1;4Habc\x1b[2;1Hd")
    assert frame.changes() == "\x1b[0m\x1b[2J\x1b[1;4Hab"


@pytest.mark.parametrize(
    ("codes", "sequence"),
    [
        (["1;31", "31"], ""),
        (["1", "0"], "\x1b[0m"),
        (["1;7", "0;7"], "\x1b[0;7m"),
        (["7;31", "7;32"], "\x1b[32m"),
        (["38;5;1;48;5;233", "38;5;2"], "\x1b[38;5;2m"),
        (["31;42", "39;4"], "\x1b[4;39m"),
        # What isn't known changes nothing.
        (["31", "77"], ""),
        (["31", "38;9"], ""),
    ],
)
def test_from_one_look_to_the_next(codes: list[str], sequence: str) -> None:
    sent = after(PLAIN, codes[0])
    assert between(sent, after(sent, codes[1])) == sequence
