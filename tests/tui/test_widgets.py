"""The small parts: broken text, progress, the picture of memory, lists, the terminal's looks."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

import kvmlib
from kvmtui.terminal import Look, to_ascii, why_plain
from kvmtui.widgets.format import duration, file_name, size_of
from kvmtui.widgets.picture import Picture
from kvmtui.widgets.progress import Meter
from kvmtui.widgets.rowlist import ListRows, RowList
from kvmtui.widgets.wrap import cut, shorten, wrap
from tests.tui.hosting import screen

# -- text ------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(" \n漢"), max_size=200)


@given(texts, st.integers(2, 60))
def test_wrapped_text_fits_and_loses_nothing_but_blanks(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cell_len(row) <= width for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())


@given(texts, st.integers(2, 60))
def test_cut_text_fits_and_loses_nothing(text: str, width: int) -> None:
    rows = list(cut(text.replace("\n", ""), width))
    assert all(cell_len(row) <= width for row in rows)
    assert "".join(rows) == text.replace("\n", "")
    assert rows


def test_words_stay_whole_where_they_can() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("0123456789 x", 4) == ["0123", "4567", "89 x"]
    assert wrap("a\n\nb", 10) == ["a", "", "b"]
    assert wrap("", 10) == [""]


def test_shortened_text_keeps_both_ends() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghij", 7) == "ab..hij"
    assert shorten("abcdefghij", 3) == "abc"


def test_sizes_and_times_in_words() -> None:
    assert [size_of(n) for n in (0, 1, 1023, 1024, 1536 << 20)] == [
        *("0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 GiB"),
    ]
    assert [duration(s) for s in (0.2, 1, 65, 3700)] == [
        *("less than a second", "1 second", "1 minute and 5 seconds", "1 hour and 1 minute"),
    ]
    assert file_name("/a/b\x1b[0m.core") == r"b\x1b[0m.core"


# -- progress --------------------------------------------------------------------------------------------------------


def test_progress_in_bytes_rate_and_time_left() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    assert meter.words() == "starting ..."
    now[0] += 2
    meter.tell(20 << 20, 100 << 20)
    assert meter.words() == "20.0 MiB of 100.0 MiB, 10.0 MiB/s, 8 seconds left"
    assert meter.bar(27) == "[####................]  20%"
    meter.tell(100 << 20, 100 << 20)
    assert meter.bar(27) == "[####################] 100%"


def test_rate_is_that_of_the_last_seconds_and_falls_when_nothing_moves() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    for second in range(1, 21):
        now[0] = second
        meter.tell(second * 1000 if second <= 10 else 10_000 + (second - 10) * 10, 1_000_000)
    assert meter.rate < 20
    still = meter.rate
    now[0] = 60
    assert 0 < meter.rate < still / 5


# -- the picture of memory -------------------------------------------------------------------------------------------


def segment(start: int, size: int, present: int | None = None) -> kvmlib.Segment:
    return kvmlib.Segment(start, size, 0, size if present is None else present)


def test_picture_to_scale() -> None:
    segments = [segment(0, 10), segment(20, 10, 0), segment(30, 10, 5), segment(50, 5), segment(60, 40)]
    assert Picture(segments).cells(10) == "#.!%.+####"


def test_picture_begins_where_ram_begins_when_that_is_far_up() -> None:
    picture = Picture([segment(1 << 40, 100)])
    assert picture.low == 1 << 40
    assert picture.cells(5) == "#####"


def test_picture_marks_one_segment() -> None:
    segments = [segment(0, 50), segment(60, 20)]
    lines = ["".join(text for text, _ in line) for line in Picture(segments).lines(8, segments[1])]
    assert lines == ["0x0 0x50", "#####.##", "      ^^"]


def test_picture_of_nothing() -> None:
    assert Picture(()).cells(10) == ""
    assert Picture(()).lines(10, None)[1] == []


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 90),
)
def test_picture_agrees_with_counting_every_byte(runs: list[tuple[int, int, bool]], width: int) -> None:
    at, segments, kinds = 0, [], list[str]()
    for gap, size, here in runs:
        segments.append(segment(at + gap, size, size if here else 0))
        kinds += "." * gap + ("#" if here else "!") * size
        at += gap + size
    picture = Picture(segments)
    span = picture.high - picture.low
    for x, cell in enumerate(picture.cells(width)):
        low, high = picture.low + span * x // width, picture.low + span * (x + 1) // width
        there = set(kinds[low:high])
        ram = there - {"."}
        expected = "." if not ram else "!" if ram == {"!"} else "%" if len(ram) == 2 else "#" if there == {"#"} else "+"
        assert cell == expected


# -- lists -----------------------------------------------------------------------------------------------------------


class ListApp(App[None]):
    def __init__(self, rows: ListRows[str]) -> None:
        super().__init__()
        self.rows = RowList()
        self.shown = rows
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.rows

    def on_mount(self) -> None:
        self.rows.show(self.shown)
        self.rows.focus()

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        self.chosen.append(event.number)


def some_rows(pattern: str) -> ListRows[str]:
    """Make a row for each character: one to stand on for x, a heading for anything else."""
    return ListRows([([(f"row {i}", "")], str(i) if c == "x" else None) for i, c in enumerate(pattern)])


async def test_cursor_skips_headings_and_stays_on_the_screen() -> None:
    app = ListApp(some_rows("-xx--x" + "-" * 30 + "x---"))
    async with app.run_test(size=(40, 10)) as pilot:
        seen = [app.rows.cursor]
        for _ in range(3):
            await pilot.press("down")
            seen.append(app.rows.cursor)
        assert seen == [1, 2, 5, 36]
        assert any("row 36" in line for line in screen(pilot))
        await pilot.press("down", "down", "down")
        # Nothing more to stand on, but the rest comes into view.
        assert app.rows.cursor == 36
        assert "row 39" in screen(pilot)[-1]
        await pilot.press("up", "up", "up")
        # The heading above the first one comes back with it.
        assert app.rows.cursor == 1
        assert "row 0" in screen(pilot)[0]
        await pilot.press("end")
        await pilot.press("home")
        assert app.rows.cursor == 1
        assert "row 0" in screen(pilot)[0]


async def test_rows_that_cannot_be_chosen_scroll() -> None:
    app = ListApp(some_rows("-" * 30))
    async with app.run_test(size=(40, 10)) as pilot:
        assert app.rows.cursor == -1
        await pilot.press("down")
        assert "row 1" in screen(pilot)[0]
        await pilot.press("pagedown")
        assert "row 10" in screen(pilot)[0]
        await pilot.press("end")
        assert "row 29" in screen(pilot)[-1]


async def test_a_click_moves_and_a_second_one_chooses() -> None:
    app = ListApp(some_rows("xxx"))
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.click(RowList, offset=(1, 2))
        assert (app.rows.cursor, app.chosen) == (2, [])
        await pilot.click(RowList, offset=(1, 2))
        await pilot.pause()
        assert app.chosen == [2]


# -- the terminal ----------------------------------------------------------------------------------------------------


def test_no_color_counts_unless_it_is_empty() -> None:
    assert Look.of({}) == Look(ascii=False, colour=True)
    assert Look.of({"NO_COLOR": ""}).colour
    assert not Look.of({"NO_COLOR": "0"}).colour


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"))))
def test_ascii_takes_as_many_columns(text: str) -> None:
    plain = to_ascii(text)
    assert plain.isascii()
    assert cell_len(plain) == cell_len("".join(c for c in text))


def test_frames_and_bars_have_ascii_forms() -> None:
    assert to_ascii("┌─┐│█▁") == "+-+|#-"


@pytest.mark.parametrize(("term", "reason"), [("dumb", "TERM is dumb"), ("", "TERM is not set"), ("vt100", "")])
def test_terminals_that_cannot_show_it(term: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty:
        def isatty(self) -> bool:
            return True

    for stream in ("stdin", "stdout", "__stderr__"):
        monkeypatch.setattr(f"sys.{stream}", Tty())
    monkeypatch.setenv("TERM", term)
    assert why_plain() == reason


def test_pipes_are_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert why_plain() == "this is not a terminal"
