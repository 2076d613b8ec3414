"""Screens as text, readable in a diff: in `screens`, the same with colour and without.

``KVMTUI_SCREENS=write pytest tests/tui/test_screens.py`` writes them anew.
"""

import os
from pathlib import Path

import pytest

import kvmlib
from kvmtui.lesson import Lesson
from kvmtui.views.header import HeaderView
from kvmtui.views.lessonstrip import step_lines
from kvmtui.views.memory import MemoryView
from kvmtui.widgets.lines import Line
from kvmtui.widgets.walk import WalkPane
from tests.samples import sample_in, va_of
from tests.tui.hosting import hosted, press, screen, settle

FOLDER = Path(__file__).parent / "screens"
SIZES = ((80, 24), (120, 40))
each_size = pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
each_look = pytest.mark.parametrize("colour", [True, False], ids=["colour", "no colour"])
#: Keys from the header's first field on, and the sample.
HEADER = {
    "header-field": ("openbsd/amd64", ("down",)),
    "header-bytes": ("netbsd/i386", ("tab", "right", "right", "right", "right")),
    "header-both": ("openbsd/amd64", ("v", "home")),
    "header-warning": ("openbsd/sparc64", ("n",)),
    "header-about": ("netbsd/mips64", ("down", "a")),
}
WALK: dict[str, tuple[str, tuple[str, ...]]] = {
    "walk-first": ("openbsd/amd64", ()),
    "walk-end": ("openbsd/amd64", ("end",)),
    "walk-back": ("openbsd/amd64", ("r",)),
    "walk-window": ("openbsd/riscv64", ()),
}
#: Keys from panicstr on, and the sample.
MEMORY: dict[str, tuple[str, tuple[str, ...]]] = {
    "memory-bytes": ("openbsd/amd64", ()),
    "memory-unfolded": ("openbsd/amd64", ("z",)),
    "memory-decimal": ("netbsd/sparc64", ("v", "v", "x")),
    "memory-pointers": ("netbsd/i386", ("v", "v", "v", "v")),
    "memory-inspector": ("netbsd/amd64", ("d",)),
    "memory-physical": ("openbsd/i386", ("p",)),
    "memory-walk": ("netbsd/i386-pae", ("w",)),
    "memory-first-hole": ("openbsd/amd64", ("left_square_bracket", "up")),
}


def check(name: str, size: tuple[int, int], lines: list[str]) -> None:
    path = FOLDER / f"{name}-{size[0]}x{size[1]}.txt"
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    if os.environ.get("KVMTUI_SCREENS") == "write":
        path.write_text(text)
    assert path.read_text() == text


def plain(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


@each_look
@each_size
@pytest.mark.parametrize("name", HEADER)
async def test_header(name: str, size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    machine, keys = HEADER[name]
    with kvmlib.open(sample_in(tmp_path, machine).image) as kd:
        async with hosted(HeaderView(kd), size, colour=colour) as pilot:
            await press(pilot, *keys)
            await settle(pilot)
            # The first line is the host's.
            check(name, size, screen(pilot)[1:])


@each_look
@each_size
@pytest.mark.parametrize("name", WALK)
async def test_walk(name: str, size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    machine, keys = WALK[name]
    sample = sample_in(tmp_path, machine)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        view = MemoryView(kd)
        view.show_va(va_of(sample, "version"))
        async with hosted(view, size, colour=colour) as pilot:
            await press(pilot, "w", "tab", *keys)
            await settle(pilot)
            check(name, size, view.query_one(WalkPane).text.splitlines())


@each_look
@each_size
@pytest.mark.parametrize("name", MEMORY)
async def test_memory(name: str, size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    machine, keys = MEMORY[name]
    sample = sample_in(tmp_path, machine)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        view = MemoryView(kd)
        view.show_va(va_of(sample, "panicstr"))
        async with hosted(view, size, colour=colour) as pilot:
            await press(pilot, *keys)
            await settle(pilot)
            check(name, size, screen(pilot)[1:])


@each_look
@each_size
async def test_memory_results(size: tuple[int, int], colour: bool, tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, "netbsd/i386").image) as kd:
        view = MemoryView(kd)
        async with hosted(view, size, colour=colour) as pilot:
            view.search(kvmlib.Pattern.of_text("panic", "little"), False)
            await settle(pilot)
            check("memory-results", size, screen(pilot)[1:])


@each_size
@pytest.mark.parametrize("machine", ["openbsd/amd64", "netbsd/vax"])
def test_lesson(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, machine).image) as kd:
        steps = Lesson(kd).steps
        lines: list[str] = []
        for number, step in enumerate(steps):
            lines += [*plain(step_lines(step, number, len(steps), False, size[0])), ""]
        check(f"lesson-{machine.replace('/', '-')}", size, lines)
