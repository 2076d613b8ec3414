"""What is sent with fewer bytes makes the same picture."""

import pyte
from hypothesis import given, strategies as st
from textual.app import App
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver

from kvmtui.sgr import Slimmer, slim_driver

COLOURS = ["38;5;115", "48;5;233", "38;2;1;2;3", "48;2;4;5;6", "31", "42", "39", "49", "97", "104"]
CODES = st.lists(st.sampled_from(["0", "1", "3", "4", "7", "9", "", *COLOURS]), min_size=1, max_size=4)
PIECES = st.one_of(
    CODES.map(lambda codes: f"\x1b[{';'.join(codes)}m"),
    st.sampled_from(["text", " ", "\r\n", "\x1b[2;3H", "\x1b[1;1H", "\x1b[0m", "\x1b[K", "\x1b[2J", "\x1b[?25l"]),
)


def picture(*data: str) -> object:
    screen = pyte.Screen(20, 5)
    stream = pyte.Stream(screen)
    for piece in data:
        stream.feed(piece)
    return [[screen.buffer[y][x] for x in range(20)] for y in range(5)], (screen.cursor.x, screen.cursor.y)


@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=4))
def test_it_looks_the_same(writes: list[str]) -> None:
    slimmer = Slimmer()
    assert picture(*[slimmer.slim(data) for data in writes]) == picture(*writes)


def test_what_stays_is_not_sent_again() -> None:
    slim = Slimmer().slim
    one = "\x1b[38;5;1;48;5;233ma\x1b[0m\x1b[38;5;2;48;5;233mb\x1b[0m\x1b[7;38;5;2;48;5;233mc\x1b[0m"
    assert slim(one) == "\x1b[38;5;1;48;5;233ma\x1b[38;5;2mb\x1b[7mc"
    # A reset is only sent when something else follows; the attribute is ended as a VT100 ends it.
    assert slim("\x1b[5;1H\x1b[38;5;2;48;5;233md") == "\x1b[5;1H\x1b[0;38;5;2;48;5;233md"
    assert slim("\x1b[0m") == ""
    assert slim("\x1b[?1049l") == "\x1b[0m\x1b[?1049l"
    # What isn't known goes through.
    assert slim("\x1b[38;9m\x1b[53mx\x1b]0;title\x07") == "\x1b[38;9m\x1b[53mx\x1b]0;title\x07"


async def test_a_driver_that_sends_less() -> None:
    sent: list[str] = []

    class Kept(HeadlessDriver):
        def write(self, data: str) -> None:
            sent.append(data)

    driver: Driver = slim_driver(Kept)(App(), size=(80, 24))
    driver.write("\x1b[1ma\x1b[0m\x1b[1mb")
    driver.write("\x1b[0m\x1b[1mc")
    assert "".join(sent) == "\x1b[1mabc"
