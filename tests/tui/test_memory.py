"""The Memory view and its go-to dialog."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input

import kvmlib
from kvmtui.dialogs.goto import GoToDialog, Target, parse_target
from kvmtui.views.memory import MemoryView
from kvmtui.widgets import space as spaces
from kvmtui.widgets.lines import Lines
from kvmtui.widgets.walk import WalkPane, walk_lines
from tests.dumps import KERNEL_PA, KERNEL_PAGES, MACHINES, PAGE, Dump
from tests.tui.hosting import ABSENT, ABSENT_PA, CUT, POINTERS, SIZES, digest, holed, hosted, press, screen, settle

each_machine = pytest.mark.parametrize("machine", MACHINES)
#: Each size with each width of a word; the other machines at 80x24.
each_size = pytest.mark.parametrize(
    ("machine", "size"),
    [(m, s) for s in SIZES for m in ("openbsd/amd64", "netbsd/i386")]
    + [(m, SIZES[0]) for m in ("openbsd/i386", "netbsd/amd64")],
)


def status(view: MemoryView) -> str:
    return view.query_one("#memory-status", Lines).text


def asking(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, GoToDialog)


def visible(widget: Widget) -> bool:
    return widget.display


def at(dump: Dump, offset: int) -> int:
    """Va of the kernel's byte at `offset`."""
    return dump.base + KERNEL_PA + offset


@each_size
async def test_it_begins_at_the_version_and_says_where_that_is(
    machine: str, size: tuple[int, int], tmp_path: Path
) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            assert view.hex.has_focus
            va = dump.va("version")
            assert view.here == Target(va)
            pa = kd.kvatop(va)[0]
            words = status(view).split()
            assert words[: words.index("seg")] == [
                *("va", f"{va:#x}"),
                *("pa", f"{pa:#010x}"),
                *("file", f"{kd.pa2off(pa):#010x}"),
            ]
            assert status(view).splitlines()[-1] == "version"
            text = screen(pilot)
            assert any(title in line for line in text for title in ("OpenBSD", "NetBSD"))
            assert text[1].startswith("va")
            assert all(len(line) <= size[0] for line in text)


@each_machine
async def test_go_to(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            offset = kd.pa2off(KERNEL_PA + 0x345)
            for text, expected in (
                (f"{at(dump, 0x123):#x}", Target(at(dump, 0x123))),
                (f"{at(dump, 0x124):x}", Target(at(dump, 0x124))),
                ("dumpmag", Target(dump.va("dumpmag"))),
                ("dumpmag+10", Target(dump.va("dumpmag") + 16)),
                (f"pa:{KERNEL_PA + 0x345:#x}", Target(KERNEL_PA + 0x345, True)),
                (f"off:{offset:x}", Target(KERNEL_PA + 0x345, True)),
                ("version", Target(dump.va("version"))),
                ("+20", Target(dump.va("version") + 0x20)),
            ):
                await press(pilot, "g")
                assert asking(pilot)
                pilot.app.screen.query_one(Input).value = text
                await press(pilot, "enter")
                assert not asking(pilot), text
                assert view.here == expected, text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no_such_thing", "'no_such_thing' is neither an address (0x...), nor a symbol, nor a register of this dump"),
        ("", "nothing was written: an address (0x...), a symbol or a register was expected"),
        ("0x123456789", "va 0x123456789 does not fit in 32 bits"),
        ("pa:xyz", "'xyz' is not a physical address in hex"),
        ("pa:-1", "pa -0x1 does not fit in 64 bits"),
        ("off:0x10", "file offset 0x10 lies before the memory, which begins at 0xa00"),
        ("off:99999999", "file offset 0x99999999 lies outside the file, which has 0x"),
        ("\x1b[31m", "'\\x1b[31m' is neither an address"),
    ],
)
async def test_a_place_that_is_not_there_is_said_in_the_dialog(text: str, sentence: str, tmp_path: Path) -> None:
    with holed("netbsd/i386").open(tmp_path) as kd:
        with pytest.raises(kvmlib.KvmError):
            parse_target(kd, text, Target(0))
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            before = view.here
            await press(pilot, "g")
            field = pilot.app.screen.query_one(Input)
            assert not field.cursor_blink
            field.value = text.replace("\x1b", "\\x1b") if "\x1b" in text else text
            await press(pilot, "enter")
            assert asking(pilot)
            shown = " ".join("".join(line) for line in screen(pilot)).replace("│", " ")
            assert " ".join(sentence.replace("\\x1b", "\\\\x1b").split()[:6]) in " ".join(shown.split())
            await press(pilot, "escape")
            assert view.here == before


async def test_the_dialog_completes_symbols(tmp_path: Path) -> None:
    with holed("netbsd/amd64").open(tmp_path) as kd:
        async with hosted(MemoryView(kd)) as pilot:
            await press(pilot, "g", *"dumpm")
            await press(pilot, "right")
            assert pilot.app.screen.query_one(Input).value == "dumpmag"


@each_machine
async def test_follow_and_back(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            start = at(dump, POINTERS) + 2
            view.show_va(start, remember=False)
            await settle(pilot)
            assert f"-> {dump.va('version'):#x} version" in status(view), "where it points to is said beforehand"
            await press(pilot, "enter")
            assert view.here == Target(dump.va("version"))
            await press(pilot, "backspace")
            assert view.here == Target(start)
            # Not mapped: it stays and says why.
            view.show_va(start + 8)
            await press(pilot, "enter")
            assert view.here == Target(start + 8)
            assert "pointer 0x1234: not mapped: " in status(view)
            await press(pilot, "right")
            assert "not mapped" not in status(view)
            # Mapped, but not dumped: it goes there.
            view.show_va(start + 16)
            await press(pilot, "enter")
            assert view.here == Target(at(dump, ABSENT * PAGE))
            for _ in range(4):
                await press(pilot, "backspace")
            assert view.here == Target(start)
            assert "no earlier place" in status(view)


@each_size
async def test_the_kinds_of_holes_differ_without_colour(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed(machine, cut=CUT)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size, colour=False) as pilot:
            end = at(dump, KERNEL_PAGES * PAGE - CUT)
            view.show_va(end - 1)
            await settle(pilot)
            await press(pilot, "right")
            assert view.hex.cursor == end
            text = "\n".join(screen(pilot))
            assert "-- 16 KiB not mapped" in text
            if machine == "openbsd/i386":
                # Nothing in this dump says how long it should be, so what is missing at its end was never in it.
                assert f":: {CUT} bytes mapped, not in" in text
            else:
                assert f"~~ {CUT} bytes cut off" in text
                assert "should be at file offset" in status(view)
            await press(pilot, "down", "down")
            assert view.hex.cursor == at(dump, ABSENT * PAGE)
            text = "\n".join(screen(pilot))
            assert ":: 4 KiB mapped, not in" in text
            if machine != "openbsd/i386":
                assert "mapped, but in no segment of the dump" in status(view)
            assert f"pa {ABSENT_PA:#010x}" in status(view)
            await press(pilot, "down")
            assert "not mapped: " in status(view)
            assert "pa -" in status(view)


async def test_ranges(tmp_path: Path) -> None:
    dump = holed("openbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            await press(pilot, "down", "left_square_bracket")
            assert view.hex.cursor == at(dump, 0)
            await press(pilot, "left_square_bracket")
            before = view.hex.cursor
            assert before < at(dump, 0)
            assert kd.read(before, 1)
            await press(pilot, "right_square_bracket")
            assert view.hex.cursor == at(dump, 0)
            await press(pilot, "right_square_bracket")
            assert "no range with memory behind" in status(view)


@each_machine
async def test_physical_memory_at_the_same_byte(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            va = at(dump, 0x1108)
            view.show_va(va)
            await press(pilot, "p")
            assert view.here == Target(KERNEL_PA + 0x1108, True)
            assert screen(pilot)[1].startswith("pa ")
            assert f"va {va:#x}" in status(view)
            await press(pilot, "right", "p")
            assert view.here == Target(va + 1)
            view.show_pa(KERNEL_PA)
            await settle(pilot)
            assert view.here == Target(KERNEL_PA, True)
            view.show_pa(0x4000_0000)
            await settle(pilot)
            assert "no memory of the dump lies behind this" in "\n".join(screen(pilot))
            view.show_va(at(dump, ABSENT * PAGE + 5000))
            await press(pilot, "p")
            assert "there is no physical address: not mapped" in status(view)


async def test_the_app_may_ask_for_an_address_before_anything_was_read(tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        view.show_va(dump.va("dumpmag"))
        async with hosted(view):
            assert view.here == Target(dump.va("dumpmag"))


@each_size
async def test_the_walk_pane(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            pane = view.query_one(WalkPane)
            assert not visible(pane)
            await press(pilot, "w")
            assert visible(pane)
            assert view.hex.has_focus
            assert view.hex.size.height >= 3
            va = view.hex.cursor
            for step in kd.walk(va):
                assert f"{step.name}[{step.index}]" in pane.text
                assert step.entry_pa is not None
                assert step.entry_offset is not None
                assert f"pa {step.entry_pa:#x} file {step.entry_offset:#x}" in pane.text
                assert f"{step.entry:x}  {' '.join(step.flags)}" in pane.text
            pa = kd.kvatop(va)[0]
            assert f"= pa {pa:#x}: file offset {kd.pa2off(pa):#x}" in pane.text
            if size == (80, 24):
                text = "\n".join(screen(pilot))
                assert pane.text.splitlines()[-1] in text, "all of it is visible"
            await press(pilot, "down")
            assert f"va {view.hex.cursor:#x}" in pane.text
            view.show_va(at(dump, ABSENT * PAGE + PAGE))
            await settle(pilot)
            assert "stops: va" in pane.text
            assert "-> not valid" in pane.text
            await press(pilot, "w")
            assert not visible(pane)


@pytest.mark.parametrize("width", [30, 39, 79, 119])
@each_machine
def test_walk_lines_fit(machine: str, width: int, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        for va in (dump.va("version"), 0x1234, at(dump, ABSENT * PAGE), 1 << kd.translator.bits - 1, None):
            for line in walk_lines(kd, va, width):
                assert len("".join(text for text, _ in line)) <= width


async def test_too_many_ranges_are_not_listed_but_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "LIMIT", 1)
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            assert "not all are listed" in status(view)
            view.show_va(at(dump, ABSENT * PAGE))
            await settle(pilot)
            text = "\n".join(screen(pilot))
            assert "?? " in text
            assert "not listed: too many ranges" in text
            assert view.here == Target(at(dump, ABSENT * PAGE))
            assert ":: 4 KiB mapped, not in the dump" in text


async def test_hostile_symbols_are_shown_as_text(tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    evil = kvmlib.Symbol("[red]x[/red]\x1b[2J\u202e", at(dump, 0x40), 0, "D")
    with dump.open(tmp_path) as kd:
        kd.set_symbols(kvmlib.SymbolTable([*dump.symbols, evil], "made for the test"))
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            view.show_va(evil.value)
            await settle(pilot)
            text = "\n".join(screen(pilot))
            assert r"[red]x[/red]\x1b[2J\u202e" in text
            assert "\x1b" not in text
            assert "\u202e" not in text


@each_machine
async def test_looking_changes_nothing(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        before = digest(tmp_path)
        async with hosted(MemoryView(kd)) as pilot:
            await press(
                pilot, "w", "pagedown", "p", "pagedown", "p", "enter", "backspace", "[", "]", "ctrl+end", "pageup"
            )
        assert digest(tmp_path) == before


async def test_the_walk_pane_scrolls_where_it_is_short(tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, (40, 12)) as pilot:
            await press(pilot, "w")
            last = f"= pa {kd.kvatop(view.hex.cursor)[0]:#x}"
            assert last not in "\n".join(screen(pilot))
            await press(pilot, "tab")
            assert view.query_one(WalkPane).has_focus
            await press(pilot, *["down"] * 20)
            assert last in "\n".join(screen(pilot))
            await press(pilot, "tab")
            assert view.hex.has_focus
