"""The Header view: fields and bytes, each lighting the other."""

from pathlib import Path
from typing import Literal

import pytest

import kvmlib
from kvmtui.dialogs.field import FieldDialog
from kvmtui.views.header import HeaderView
from kvmtui.widgets.fieldtree import FieldNodes, FieldTree
from kvmtui.widgets.lines import Lines
from kvmtui.widgets.rowlist import RowList
from tests.dumps import MACHINES
from tests.samples import sample_in
from tests.tui.hosting import SIZES, digest, holed, hosted, press, screen

each_machine = pytest.mark.parametrize("machine", MACHINES)
#: Each size with each width of a word; the other machines at 80x24.
each_size = pytest.mark.parametrize(
    ("machine", "size"),
    [(m, s) for s in SIZES for m in ("openbsd/amd64", "netbsd/i386")]
    + [(m, SIZES[0]) for m in ("openbsd/i386", "netbsd/amd64")],
)


def part(view: HeaderView, name: str) -> str:
    return view.query_one(f"#header-{name}", Lines).text


def form_of(view: HeaderView) -> str | None:
    return view.form


def lit(view: HeaderView) -> tuple[int, int]:
    return view.hex._mark


@each_size
async def test_the_cursor_in_the_fields_lights_the_bytes(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    with holed(machine).open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view, size) as pilot:
            assert view.fields.has_focus
            seen = []
            for _ in range(view.fields.row_count):
                field = view.fields.field
                assert field is not None
                seen.append(field.name)
                assert lit(view) == (field.offset, field.size)
                assert view.hex.cursor == field.offset
                detail = words(part(view, "detail"))
                assert field.name in detail
                assert field.ctype in detail
                assert words(field.meaning) in detail
                assert words(field.text) in detail
                assert field.raw[:4].hex(" ") in detail
                await press(pilot, "down")
            assert seen[:3] == ["struct kcore_seg", "c_midmag", "c_size"]
            assert all(len(line) <= size[0] for line in screen(pilot))


@each_size
async def test_the_cursor_in_the_bytes_selects_the_field(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    with holed(machine).open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "tab")
            assert view.hex.has_focus
            data = kvmlib.header_bytes(kd)
            for offset in range(10):
                assert view.hex.cursor == offset
                field = view.fields.field
                assert field is not None
                assert field.offset <= offset < field.offset + field.size
                assert not field.children, "the smallest field that owns the byte"
                assert lit(view) == (field.offset, field.size)
                assert field.raw == data[field.offset : field.offset + field.size]
                await press(pilot, "right")
            await press(pilot, "tab")
            assert view.fields.has_focus
            await press(pilot, "up")
            assert view.hex.cursor == lit(view)[0]


@each_machine
@pytest.mark.parametrize("form", ["device", "savecore"])
def test_every_byte_has_an_owner(machine: str, form: Literal["device", "savecore"], tmp_path: Path) -> None:
    with holed(machine).open(tmp_path) as kd:
        nodes = FieldNodes(kvmlib.header_fields(kd, form))
        data = kvmlib.header_bytes(kd, form)
        for offset in range(len(data)):
            number = nodes.owner(offset)
            assert number is not None
            field = nodes.fields[number]
            assert not field.children
            assert field.raw == data[field.offset : field.offset + field.size]
            assert field.offset <= offset < field.offset + field.size
        assert nodes.owner(len(data)) is None


@each_machine
async def test_both_forms(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            assert part(view, "heading") == "device form, as it is in the file, 512 bytes from 0x800"
            assert "0x800 in the file" in part(view, "detail")
            await press(pilot, "f")
            assert form_of(view) == "savecore"
            size = len(dump.saved_header)
            assert part(view, "heading") == f"saved form, not in the file: {size} bytes as savecore would write them"
            assert "in the file" not in part(view, "detail")
            # On openbsd/i386 nothing in the device says how much memory follows.
            known = size - 4 if machine == "openbsd/i386" else size
            assert view.hex.space.read(0, known) == dump.saved_header[:known]
            await press(pilot, "f")
            assert form_of(view) == "device"
    (tmp_path / "bsd.0.core").write_bytes(dump.saved)
    with kvmlib.open(tmp_path / "bsd.0.core", machine=machine) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            assert part(view, "heading").startswith("saved form, as it is in the file")
            await press(pilot, "f")
            assert part(view, "heading") == "device form, not in the file: 512 bytes as the kernel wrote them"


async def test_stack_garbage_is_one_field(tmp_path: Path) -> None:
    with holed("openbsd/i386").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            await press(pilot, "tab", "ctrl+end")
            field = view.fields.field
            assert field is not None
            assert (field.name, field.size) == ("padding", 504)
            assert "kernel's stack" in part(view, "detail")


async def test_structures_open_and_close(tmp_path: Path) -> None:
    with holed("netbsd/amd64").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            rows = view.fields.row_count
            await press(pilot, "enter")
            assert view.fields.row_count == rows - 2
            assert screen(pilot)[2].startswith("+ struct kcore_seg")
            await press(pilot, "enter")
            assert view.fields.row_count == rows
            # From a part to the structure around it.
            await press(pilot, "down", "down", "left")
            assert view.fields.path == "struct kcore_seg"
            # A byte inside of a closed segment opens it.
            await press(pilot, "tab")
            view.hex.move_to(next(i for i in range(512) if view.fields.nodes.owner(i) is None or i == 28))
            await press(pilot, "right")
            assert view.fields.path == "cpu_kcore_hdr_t > segs[0] > start"


def _segments(n: int) -> list[kvmlib.Field]:
    def leaf(i: int, name: str, at: int) -> kvmlib.Field:
        return kvmlib.Field(name, "uint64_t", 16 * i + at, 8, bytes(8), 0, "0x0", "", "sys/kcore.h")

    parts = tuple(
        kvmlib.Field(
            f"segs[{i}]",
            "phys_ram_seg_t",
            16 * i,
            16,
            bytes(16),
            None,
            "",
            "",
            "",
            (leaf(i, "start", 0), leaf(i, "size", 8)),
        )
        for i in range(n)
    )
    return [kvmlib.Field("struct x", "struct x", 0, 16 * n, bytes(16 * n), None, "", "", "", parts)]


async def test_a_hundred_thousand_segments(tmp_path: Path) -> None:
    with holed("netbsd/amd64").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            drawn = []
            draw = FieldTree.render_line

            def counted(self: FieldTree, y: int) -> object:
                drawn.append(y)
                return draw(self, y)

            view.fields.render_line = counted.__get__(view.fields)  # type: ignore[method-assign]
            view.fields.show(FieldNodes(_segments(100_000)))
            assert view.fields.row_count == 100_001
            await press(pilot, "end")
            assert view.fields.path == "struct x > segs[99999]"
            view.fields.select_byte(16 * 77_777 + 9)
            assert view.fields.path == "struct x > segs[77777] > size"
            await press(pilot, "up")
            assert view.fields.path == "struct x > segs[77777] > start"
            assert 0 < len(drawn) < 1000, "only what is seen is drawn"


@each_machine
async def test_looking_changes_nothing(machine: str, tmp_path: Path) -> None:
    with holed(machine).open(tmp_path) as kd:
        before = digest(tmp_path)
        async with hosted(HeaderView(kd)) as pilot:
            await press(pilot, "down", "tab", "ctrl+end", "f", "tab", "end")
        assert digest(tmp_path) == before


# -- both forms, warnings, all about a field ---------------------------------------------------------------------------


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("size", SIZES)
async def test_both_forms_side_by_side(size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    with holed("openbsd/amd64").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view, size, colour=colour) as pilot:
            await press(pilot, "down", "v")
            assert view.both
            assert view.pairs.has_focus
            pairs = kvmlib.header_pairs(kd)
            pair = pairs[view.pairs.cursor]
            assert pair.device == kvmlib.header_fields(kd, "device")[0].children[0], "the cursor stays on its field"
            text = "\n".join(screen(pilot))
            assert "device form" in text
            assert "saved form" in text
            row = next(line for line in screen(pilot) if "04 9d" in line and "04 00" in line)
            assert "c_midmag" in row
            assert all(len(line) <= size[0] for line in screen(pilot))
            detail = words(part(view, "detail"))
            assert "CORE_CPU" in detail
            assert "KCORESEG_MAGIC" in detail
            assert pair.why.split(".")[0] in detail
            # What differs is lit without colour too, what doesn't isn't.
            lit_rows = [i for i, p in enumerate(pairs) if any(role == "match" for _, role in view.pairs.rows.line(i))]
            assert lit_rows == [i for i, p in enumerate(pairs) if p.differs]
            style = view.pairs.get_component_rich_style("rowlist--match")
            assert colour or style.underline
            await press(pilot, "v")
            assert not view.has_class("-both")
            assert view.fields.has_focus
            assert view.fields.path == "struct kcore_seg > c_midmag"


async def test_from_difference_to_difference(tmp_path: Path) -> None:
    with holed("netbsd/amd64").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view) as pilot:
            await press(pilot, "v", "home")
            pairs = kvmlib.header_pairs(kd)
            wanted = [i for i, p in enumerate(pairs) if p.differs and not p.field.children]
            found = []
            for _ in wanted:
                await press(pilot, "n")
                found.append(view.pairs.cursor)
            assert found == wanted
            await press(pilot, "n", "N")
            assert view.pairs.cursor == wanted[-2]


@pytest.mark.parametrize("size", SIZES)
async def test_warnings_stand_where_the_value_is(size: tuple[int, int], tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, "openbsd/sparc64").image) as kd:
        view = HeaderView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "n")
            assert view.fields.field is not None
            assert view.fields.field.name == "nmemseg"
            assert words(f"! {view.fields.field.warning}") in words(part(view, "detail"))
            assert any("nmemseg  !" in line for line in screen(pilot))
            await press(pilot, "n", "n")
            assert view.fields.path == "struct cpu_kcore_hdr > segs[3]"
            await press(pilot, "N")
            assert view.fields.path == "struct cpu_kcore_hdr > segs[2]"


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_cut_without_a_way_to_see_it(size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    with holed("openbsd/i386").open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view, size, colour=colour) as pilot:
            await press(pilot, "end")
            field = view.fields.field
            assert field is not None
            assert field.size == 504
            await press(pilot, "enter")
            dialog = pilot.app.screen
            assert isinstance(dialog, FieldDialog)
            width = dialog.rows.scrollable_content_region.width
            lines = ["".join(text for text, _ in line) for line in dialog.lines(width)]
            assert max(map(len, lines)) <= width
            each = 16 if width >= 74 else 8 if width >= 41 else 4
            for i in range(0, 504, each):
                assert any(field.raw[i : i + each].hex(" ") in line for line in lines)
            await press(pilot, "escape", "home", "down", "a")
            text = words(pilot.app.screen.query_one(RowList).text)
            for fact in ("uint32_t", "sys/kcore.h", "c_midmag", "0x04868fca", "big-endian", "00000100 10000110"):
                assert fact in text


@each_size
async def test_byte_order_is_told(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    with holed(machine).open(tmp_path) as kd:
        view = HeaderView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "down")
            assert f"big-endian, the highest byte first, though {machine}" in words(part(view, "detail"))
            await press(pilot, "down")
            assert "little-endian, the lowest byte first" in words(part(view, "detail"))
