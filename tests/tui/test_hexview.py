"""The hex view: what it draws, what it reads, where its cursor goes."""

from textual.app import App, ComposeResult

import kvmlib
from kvmtui.widgets.hexdraw import FILL
from kvmtui.widgets.hexview import HexView
from kvmtui.widgets.rows import Extent, Tiling
from tests.tui.hosting import press, settle

ROW = 16


class FakeSpace:
    """64 rows of bytes, a hole of each kind, 4 more rows; counts what is read."""

    label = "va"
    digits = 12

    def __init__(self) -> None:
        size = 64 * ROW
        self.holes = {
            "unmapped": size,
            "not_in_dump": size + 0x1000,
            "truncated": size + 0x2000,
            "unlisted": size + 0x3000,
        }
        extents = [Extent(0, size, "present")]
        extents += [Extent(start, 0x1000, kind) for kind, start in self.holes.items()]  # type: ignore[arg-type]
        self.tiling = Tiling.of([*extents, Extent(size + 0x4000, 4 * ROW, "present")])
        self.read_at: list[int] = []
        self.fails = False

    def read(self, address: int, n: int) -> bytes:
        self.read_at.append(address)
        if self.fails:
            raise kvmlib.KvmError("the file shrank while \x1b[31mit was open")
        return bytes((address + i) & 0xFF for i in range(n))

    def hole(self, extent: Extent) -> str:
        return f"{extent.kind} [bold]here[/bold]"


class Host(App[None]):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self) -> None:
        super().__init__()
        self.space = FakeSpace()

    def compose(self) -> ComposeResult:
        yield HexView(self.space)

    @property
    def hex(self) -> HexView:
        return self.query_one(HexView)

    def line(self, y: int) -> str:
        return self.hex.render_line(y).text


async def test_a_row_and_what_is_read() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)):
        assert app.line(2).rstrip() == (
            "000000000020  20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f   !\"#$%&'()*+,-./"
        )
        assert app.hex.render_line(2).cell_length == 79
        read = set(app.space.read_at)
        assert read, "something is on the screen"
        assert max(read) < 24 * ROW, "and nothing else was read"


async def test_only_two_rows_are_drawn_again_when_the_cursor_moves() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        # Textual paints a widget once more with the first change after it was laid out.
        await press(pilot, "right")
        app.space.read_at.clear()
        await press(pilot, "right")
        assert set(app.space.read_at) == {0}
        app.space.read_at.clear()
        await press(pilot, "down")
        assert set(app.space.read_at) == {0, ROW}


async def test_holes_are_one_row_each_and_differ_without_colour() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.move_to(app.space.holes["unlisted"])
        await settle(pilot)
        top = app.hex.scroll_offset.y
        lines = {}
        for kind, start in app.space.holes.items():
            row = app.hex.model.row_of(start)
            assert row == app.hex.model.row_of(start + 0xFFF)
            lines[kind] = app.line(row - top)
        for kind, line in lines.items():
            fill = FILL[kind]  # type: ignore[index]
            assert line.startswith(f"{app.space.holes[kind]:012x}  {fill * 2} {kind} [bold]here[/bold], to 0x"), line
            assert line.rstrip().endswith(fill * 8)
        assert len(set(FILL.values())) == len(FILL)


async def test_moving() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        hex_, end = app.hex, 64 * ROW
        last = app.space.tiling.high - 1

        async def go(*keys: str) -> int:
            await press(pilot, *keys)
            top = hex_.scroll_offset.y
            assert top <= hex_.model.row_of(hex_.cursor) < top + hex_.size.height, "the cursor is always visible"
            return hex_.cursor

        assert await go("left") == 0
        assert await go("up") == 0
        assert await go("right", "l") == 2
        assert await go("down", "j") == 34
        assert await go("k") == 18
        assert await go("$") == 31
        assert await go("0") == 16
        assert await go("$") == 31
        assert await go("0") == 16
        assert await go("pagedown") == 16 + 23 * ROW
        assert await go("pageup") == 16
        assert await go("end") == last
        assert await go("right") == last
        assert await go("home") == 0
        hex_.move_to(end - 3)
        # Down through the four holes, the column is kept.
        assert await go("down") == app.space.holes["unmapped"]
        assert await go("down", "down", "down") == app.space.holes["unlisted"]
        assert await go("down") == end + 0x4000 + 13
        assert await go("up", "up", "up", "up", "up") == end - 3
        # Sideways a hole is one step.
        assert await go("$") == end - 1
        assert await go("right") == end
        assert await go("right") == end + 0x1000
        assert await go("left") == end
        assert await go("left") == end - 1


async def test_an_error_is_a_row_and_does_no_harm() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        app.space.fails = True
        app.hex.reload()
        await settle(pilot)
        assert app.line(0).startswith("000000000000  !! the file shrank while \\x1b[31mit was open !!!")


async def test_a_narrow_terminal_and_back() -> None:
    app = Host()
    async with app.run_test(size=(40, 12)) as pilot:
        assert app.line(1).rstrip() == "000000000008 08090a0b 0c0d0e0f ........"
        await press(pilot, "down", "down", "right")
        assert app.hex.cursor == 17
        await pilot.resize_terminal(120, 40)
        await settle(pilot)
        assert app.hex.cursor == 17
        assert app.line(1).startswith("000000000010  10 11 12")


async def test_mark_lights_bytes_by_style_only() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        app.hex.move_to(0x20)
        before = app.line(1)
        app.hex.mark(0x14, 4)
        await settle(pilot)
        strip = app.hex.render_line(1)
        assert strip.text == before
        lit = "".join(s.text for s in strip if s.style is not None and s.style.underline)
        assert lit.replace(" ", "") == "14151617...."


async def test_the_byte_classes_look_different() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)):
        app.hex.move_to(0x100)
        styles = {}
        for y, byte in ((0, "00"), (4, "41"), (8, "80")):
            strip = app.hex.render_line(y)
            styles[byte] = next(s.style for s in strip if byte in s.text.split() and not s.text.startswith("0000"))
        assert len({str(s) for s in styles.values()}) == 3


async def test_a_click_puts_the_cursor_there() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.click(HexView, offset=(app.hex.layout_.hex_column(5), 3))
        assert app.hex.cursor == 3 * ROW + 5
        await pilot.click(HexView, offset=(app.hex.layout_.text_column(7), 4))
        assert app.hex.cursor == 4 * ROW + 7
