"""The Memory view: units, pointers with what they point to, the inspector, the strip."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st
from textual.widget import Widget

import kvmlib
from kvmtui.views.memory import MemoryView
from kvmtui.widgets import insn
from kvmtui.widgets.inspector import InspectorPane, date_of, inspect_lines
from kvmtui.widgets.pointee import pointee, quoted
from kvmtui.widgets.rows import Extent, Kind, Tiling
from kvmtui.widgets.scale import Scale
from kvmtui.widgets.strip import SpaceStrip
from tests.dumps import KERNEL_PA
from tests.tui.hosting import POINTERS, SIZES, holed, hosted, press, screen, settle


def visible(widget: Widget) -> bool:
    return widget.display


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("machine", ["openbsd/amd64", "netbsd/i386"])
async def test_units_go_round_and_pointers_say_where_they_lead(
    machine: str, size: tuple[int, int], tmp_path: Path
) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        assert kd.machine is not None
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            va = dump.base + KERNEL_PA + POINTERS
            view.show_va(va)
            for unit in (2, 4, 8):
                await press(pilot, "v")
                number = int.from_bytes(kd.read(va, unit), "little")
                assert f"{number:0{2 * unit}x}" in "\n".join(screen(pilot)), unit
                assert view.hex.cursor == va
            await press(pilot, "v")
            text = "\n".join(screen(pilot))
            wide = kd.machine.long_bytes
            assert f"{wide}-byte pointers, little-endian"[: size[0] - 20] in text
            line = next(line for line in screen(pilot) if f"{dump.va('version'):0{2 * wide}x}" in line)
            assert "version  data"[: size[0] - 1 - line.index("version")] in line
            assert "not mapped" not in text.split("seg")[0]
            await press(pilot, "down")
            assert view.hex.cursor == va + wide
            await press(pilot, "x")
            assert "pointers are always in hex" in text + "\n".join(screen(pilot))
            await press(pilot, "v")
            assert view.hex.shape.unit == 1


async def test_form_and_byte_order(tmp_path: Path) -> None:
    dump = holed("netbsd/i386")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            data = kd.read(dump.va("version"), 4)
            view.show_va(dump.va("version"))
            await press(pilot, "v", "v", "O")
            assert data.hex() in "\n".join(screen(pilot))
            await press(pilot, "x")
            assert str(int.from_bytes(data, "big")) in "\n".join(screen(pilot))
            await press(pilot, "x")
            row = next(line for line in screen(pilot) if "NetBSD" in line)
            assert row.split()[1] == "NetB"


async def test_alike_rows_are_folded_and_z_shows_them(made: kvmlib.Sample) -> None:
    with kvmlib.open(made.image) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            zeros = next(f.address for f in kvmlib.look_for(kd, kvmlib.Pattern.of_hex("00" * 256), most=1))
            view.show_va(zeros)
            await settle(pilot)
            assert "more, the same as the row above" in "\n".join(screen(pilot))
            await press(pilot, "z")
            assert view.hex.cursor == zeros
            assert "the same as the row above" not in "\n".join(screen(pilot))


@pytest.mark.parametrize("size", SIZES)
async def test_the_inspector(size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            pane = view.query_one(InspectorPane)
            assert not visible(pane)
            view.show_va(dump.base + KERNEL_PA + POINTERS)
            await press(pilot, "d")
            assert visible(pane)
            assert view.hex.has_focus
            assert view.hex.size.height >= 3
            value = dump.va("version")
            words = pane.text.split()
            assert str(value) in words
            assert str(value - (1 << 64)) in words
            assert f'{value:#x}  version  data  "NetBSD'[: size[0] - 8] in pane.text
            view.show_va(value)
            await settle(pilot)
            assert '"NetBSD 7.6 (GENERIC)'[: size[0] - 10] in pane.text
            # At the end of a range there are fewer bytes, and in a hole none.
            last = kd.read(dump.base + KERNEL_PA + 16 * 4096 - 1, 1)[0]
            view.show_va(dump.base + KERNEL_PA + 16 * 4096 - 1)
            await settle(pilot)
            assert pane.text.split()[:2] == ["u8", str(last)]
            await press(pilot, "right")
            assert pane.text.split()[:2] == ["u8", "-"]
            assert "string  -" in pane.text
            await press(pilot, "d")
            assert not visible(pane)


@pytest.mark.parametrize("width", [30, 39, 79, 119])
def test_inspector_lines_fit_and_stay_as_many(width: int, tmp_path: Path) -> None:
    with holed("openbsd/amd64").open(tmp_path) as kd:
        counts = set()
        for data in (b"", b"\0" * 64, b"\xff" * 64, b"\x1b[2J\xe2\x80\xae" * 9, b"[red]text[/red]\0", b"\x80" * 3):
            lines = inspect_lines(kd, data, 0x1000, "little", width)
            counts.add(len(lines))
            for line in lines:
                text = "".join(text for text, _ in line)
                assert text.isprintable()
                assert len(text.rstrip()) <= width
        assert len(counts) == 1


def test_dates() -> None:
    assert date_of(0) == "1970-01-01 00:00:00 UTC"
    assert date_of(-1) == "1969-12-31 23:59:59 UTC"
    assert date_of(1 << 62) == ""
    assert date_of(-(1 << 62)) == ""


@given(st.binary(max_size=30))
def test_quoted_text_is_printable(data: bytes) -> None:
    said = quoted(data)
    assert said.isprintable()
    assert not said or said[1:-1] in data.decode("latin-1").replace("\n", r"\n").replace("\t", r"\t")


def test_an_instruction_is_shown_only_where_capstone_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(kd: kvmlib.Kvm) -> str:
        insn._engine.cache_clear()
        return "\n".join("".join(t for t, _ in line) for line in inspect_lines(kd, b"\x55" * 64, 0, "little", 79))

    class Cs:
        def __init__(self, arch: str, mode: int) -> None:
            assert (arch, mode) == ("x86", 8)

        def disasm_lite(self, data: bytes, va: int, count: int) -> list[tuple[int, int, str, str]]:
            return [(va, 1, "push", "rbp\x1b")] if data[0] == 0x55 else []

    fake = SimpleNamespace(
        Cs=Cs, CsError=ValueError, CS_ARCH_X86="x86", CS_MODE_64=8, CS_MODE_LITTLE_ENDIAN=0, CS_MODE_BIG_ENDIAN=1 << 31
    )
    with holed("openbsd/amd64").open(tmp_path) as kd:
        monkeypatch.setitem(sys.modules, "capstone", None)
        assert "code" not in text(kd)
        monkeypatch.setitem(sys.modules, "capstone", fake)
        assert text(kd).endswith(r"code    push rbp\x1b")
        assert insn.instruction(kd, b"\xff", 0) == ""
        assert insn._engine("hppa", "big") is None
        monkeypatch.setitem(sys.modules, "capstone", SimpleNamespace(CsError=ValueError))
        assert "code" not in text(kd)
    insn._engine.cache_clear()


def test_what_a_pointer_points_into(made: kvmlib.Sample) -> None:
    with kvmlib.open(made.image) as kd:
        marks = kvmlib.find_landmarks(kd)
        main = kd.nlist("main")["main"].value
        assert pointee(kd, main + 3, marks) == "main+0x3  text"
        version = pointee(kd, kd.nlist("version")["version"].value, marks)
        assert version.startswith('version  data  "OpenBSD ')
        assert "stack" in pointee(kd, marks.stack.start + 8, marks).split()
        assert pointee(kd, 0x10, marks) == ""
        assert pointee(kd, 0x7777_0000_0000_0000, marks) == ""
        buffer = next(b for b in kvmlib.buffers(kd) if b.va is not None)
        assert buffer.va is not None
        assert "message buffer" in pointee(kd, buffer.va + 64, marks)
        # Each table of a walk is known as one.
        for step in kd.walk(main):
            assert step.table_pa is not None
            va = next((va for va, _ in kvmlib.vas_of(kd, step.table_pa)), None)
            if va is not None:
                assert "page table" in pointee(kd, va, marks)
        with pytest.raises(kvmlib.Cancelled):
            kvmlib.find_landmarks(kd, lambda: True)


@pytest.mark.parametrize("name", ["netbsd/i386", "netbsd/sparc64", "openbsd/hppa", "netbsd/mipseb", "netbsd/m68k"])
def test_landmarks_of_other_machines(name: str, tmp_path: Path) -> None:
    with kvmlib.open(kvmlib.make_sample(name, tmp_path).image) as kd:
        marks = kvmlib.find_landmarks(kd)
        assert marks.buffers
        for low, high in marks.tables.values():
            assert low < high


KINDS: tuple[Kind, ...] = ("present", "unmapped", "not_in_dump", "truncated", "unlisted")


@given(
    st.lists(st.tuples(st.integers(1, 1 << 40), st.sampled_from(KINDS)), min_size=1, max_size=30), st.integers(1, 40)
)
def test_the_scale(sizes: list[tuple[int, Kind]], cells: int) -> None:
    at, extents = 0, []
    for size, kind in sizes:
        extents.append(Extent(at, size, kind))
        at += size
    scale = Scale(Tiling.of(extents))
    drawn = scale.draw(cells)
    assert len(drawn) == cells
    places = [scale.cell(a, cells) for e in extents for a in (e.start, e.start + e.size - 1)]
    assert places == sorted(places)
    assert places[0] == 0
    assert all(0 <= place < cells for place in places)
    for cell in range(cells):
        assert 0 <= scale.address(cell, cells) < at
        assert abs(scale.cell(scale.address(cell, cells), cells) - cell) <= 1
    if cells > 1 and "present" not in {kind for _, kind in sizes}:
        assert "|" not in drawn


@pytest.mark.parametrize("size", SIZES)
async def test_the_strip_follows_and_leads(size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed("openbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size, colour=False) as pilot:
            strip = view.query_one(SpaceStrip)
            await press(pilot, "home")
            assert view.hex.cursor == 0
            assert strip.here == 0
            await press(pilot, "end")
            assert strip.here == strip.size.height - 1
            column = [line[size[0] - 1 : size[0]] for line in screen(pilot)][2 : 2 + strip.size.height]
            assert "|" in column
            assert " " in {strip.render_line(y).text for y in range(strip.size.height)}
            lit = [strip.render_line(y)._segments[0].style for y in range(strip.size.height)]
            assert [style is not None and bool(style.reverse) for style in lit].index(True) == strip.here
            await pilot.click(SpaceStrip, offset=(0, 0))
            await settle(pilot)
            assert view.hex.cursor == 0
            await press(pilot, "backspace")
            assert strip.here == strip.size.height - 1
