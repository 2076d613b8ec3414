"""Rows that are all alike fold to one; numbers in other shapes."""

import pytest
from hypothesis import given, strategies as st
from textual.app import App, ComposeResult

import kvmlib
from kvmtui.widgets.folds import FoldedModel
from kvmtui.widgets.hexlayout import layout_for
from kvmtui.widgets.hexview import HexView
from kvmtui.widgets.rows import Extent, Tiling
from kvmtui.widgets.shape import Shape, next_unit
from kvmtui.widgets.space import BytesSpace
from tests.tui.hosting import press, settle

ROWS = 40


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 9))), st.lists(st.integers(0, ROWS - 1)))
def test_rows_and_addresses_agree_whatever_is_folded(folds: list[tuple[int, int]], opened: list[int]) -> None:
    model = FoldedModel(Tiling.of([Extent(0, ROWS * 16, "present")]), 16)
    hidden: set[int] = set()  # whole rows that aren't shown by themselves
    for first, more in folds:
        last = min(ROWS - 1, first + more)
        model.fold(first, last)
    for whole in opened:
        model.open(whole)
    for first, last in model.folds:
        hidden.update(range(first + 1, last + 1))
    shown = [whole for whole in range(ROWS) if whole not in hidden]
    assert model.total == len(shown)
    assert [model.whole_row(i) for i in range(model.total)] == shown
    for number, whole in enumerate(shown):
        row = model.row(number)
        assert (row.number, row.start) == (number, whole * 16)
        following = shown[number + 1] if number + 1 < len(shown) else ROWS
        assert row.size == (following - whole) * 16
        for inside in range(whole, following):
            assert model.row_of(inside * 16 + 5) == number
    for whole in opened:
        assert whole not in hidden or not model.open(whole)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59))
def test_alike_finds_the_whole_run(pattern: bytes, at: int) -> None:
    rows = [b % 2 for b in pattern]
    at = min(at, len(rows) - 1)
    data = b"".join(bytes((r,)) * 16 for r in rows)
    model = FoldedModel(Tiling.of([Extent(0, len(data), "present")]), 16)
    first, last = model.alike(at, lambda a, n: data[a : a + n], True)
    assert set(rows[first : last + 1]) == {rows[at]}
    assert first == 0 or rows[first - 1] != rows[at]
    assert last == len(rows) - 1 or rows[last + 1] != rows[at]
    assert model.alike(at, lambda a, n: data[a : a + n], False) == (at, last)


class Host(App[None]):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def compose(self) -> ComposeResult:
        yield HexView(BytesSpace(self.data))

    @property
    def hex(self) -> HexView:
        return self.query_one(HexView)

    def lines(self) -> list[str]:
        return [self.hex.render_line(y).text.rstrip() for y in range(min(self.hex.size.height, self.hex.model.total))]


def data(*rows: int) -> bytes:
    return b"".join(bytes((r,)) * 16 for r in rows)


async def test_equal_rows_fold_and_unfold() -> None:
    app = Host(data(1, *[0] * 5000, 2, 3, 3, *[4] * 9))
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.fold_alike(True)
        await settle(pilot)
        lines = app.lines()
        assert lines[2] == f"00000020  *  {4999 * 16} bytes more, the same as the row above"
        assert [line[10:12] for line in lines] == ["01", "00", "* ", "02", "03", "03", "04", "* "], "two rows stay two"
        # The fold is one step, both ways.
        await press(pilot, "down", "down")
        assert app.hex.cursor == 0x20
        assert app.lines() == lines
        await press(pilot, "down")
        assert app.hex.cursor == 5001 * 16
        await press(pilot, "up", "up")
        assert app.hex.cursor == 0x10
        # What is in it can be gone to, and is shown then.
        app.hex.move_to(0x4000)
        await settle(pilot)
        lines = app.lines()
        row = next(i for i, line in enumerate(lines) if line.startswith("00004000"))
        assert "the same" in lines[row - 1]
        assert "the same" in lines[row + 1]
        app.hex.fold_alike(False)
        await settle(pilot)
        assert app.hex.cursor == 0x4000
        assert not any("the same" in line for line in app.lines())
        app.hex.fold_alike(True)
        await settle(pilot)
        lines = app.lines()
        row = next(i for i, line in enumerate(lines) if line.startswith("00004000"))
        assert "the same" in lines[row - 1]
        assert "the same" in lines[row + 1]
        await press(pilot, "end", "home", "end", "pageup")
        top = app.hex.scroll_offset.y
        assert top <= app.hex.model.row_of(app.hex.cursor) < top + app.hex.size.height


async def test_what_cannot_be_read_does_not_fold() -> None:
    app = Host(data(*[0] * 100))

    def fail(address: int, n: int) -> bytes:
        raise kvmlib.KvmError("gone")

    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.space.read = fail  # type: ignore[method-assign]
        app.hex.fold_alike(True)
        await settle(pilot)
        assert "gone" in app.lines()[0]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (Shape(), "00 01 7f 80 ff 41 0a 5c"),
        (Shape(1, "dec"), "  0   1 127 128 255  65  10  92"),
        (Shape(1, "char"), r"\0 01 7f 80 ff  A \n \\"),
        (Shape(2), "0100 807f 41ff 5c0a"),
        (Shape(2, "hex", "big"), "0001 7f80 ff41 0a5c"),
        (Shape(4), "807f0100 5c0a41ff"),
        (Shape(4, "dec"), "2155806976 1544176127"),
        (Shape(8, "hex", "big"), "00017f80ff410a5c"),
        (Shape(8, "char", "big"), r".....A.\ "),
        (Shape(8, "dec"), f"{int.from_bytes(bytes((0, 1, 127, 128, 255, 65, 10, 92)), 'little'):>20}"),
    ],
)
async def test_shapes(shape: Shape, text: str) -> None:
    first = bytes((0, 1, 0x7F, 0x80, 0xFF, 0x41, 0x0A, 0x5C))
    app = Host(first + bytes(range(32, 256)))
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.reshape(shape)
        await settle(pilot)
        assert app.lines()[0].startswith(f"0000  {text}"), app.lines()[0]
        assert app.hex.layout_.width <= 79
        await press(pilot, "right")
        assert app.hex.cursor == shape.unit
        await press(pilot, "left")
        assert app.hex.cursor == 0
        column = app.hex.layout_.hex_column(shape.unit)
        await pilot.click(HexView, offset=(column + app.hex.layout_.cell - 1, 0))
        assert app.hex.cursor == shape.unit


async def test_a_number_of_which_a_part_is_missing_has_no_value() -> None:
    app = Host(bytes(range(1, 7)))
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.reshape(Shape(4))
        await settle(pilot)
        assert app.lines()[0].startswith("0000  04030201 --------  ")


def test_units_go_round() -> None:
    shape, seen = Shape(1, "dec", "big"), []
    for _ in range(6):
        seen.append((shape.unit, shape.pointers))
        shape = next_unit(shape, 4)
    assert seen == [(1, False), (2, False), (4, False), (8, False), (4, True), (1, False)]
    assert (shape.form, shape.byteorder) == ("dec", "big")


@pytest.mark.parametrize("columns", [30, 39, 79, 119, 159])
@pytest.mark.parametrize("digits", [4, 8, 16])
def test_layouts_fit(columns: int, digits: int) -> None:
    shapes = [Shape(u, f) for u in (1, 2, 4, 8) for f in ("hex", "dec", "char")]
    for shape in [*shapes, Shape(4, pointers=True), Shape(8, pointers=True)]:
        layout = layout_for(columns, digits, shape)
        assert layout.bytes % shape.unit == 0
        assert len(layout.heading()) == layout.width
        if columns >= 39 or digits < 16:
            assert layout.width <= max(columns, 44), shape


async def test_endless_zeros_fold_without_an_end() -> None:
    app = Host(bytes(64 << 20))
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.fold_alike(True)
        for key in ("end", "up", "pageup", "up", "home", "down", "down", "pagedown", "end"):
            await press(pilot, key)
            top = app.hex.scroll_offset.y
            assert top <= app.hex.model.row_of(app.hex.cursor) < top + app.hex.size.height, key
        assert app.hex.cursor == (64 << 20) - 1
        app.hex.move_to(32 << 20)
        await settle(pilot)
        assert any(line.startswith("02000000") for line in app.lines())
