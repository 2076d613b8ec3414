"""The Header view: fields and bytes, each lighting the other."""

from pathlib import Path
from typing import Literal

import pytest

import kvmlib
from kvmtui.views.header import HeaderView
from kvmtui.widgets.fieldtree import FieldNodes, FieldTree
from kvmtui.widgets.lines import Lines
from tests.dumps import MACHINES
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
                detail = part(view, "detail")
                assert field.name in detail
                assert field.ctype in detail
                assert field.meaning in detail
                assert field.text in detail
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
