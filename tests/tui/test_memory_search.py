"""Searching in the Memory view, and who maps a byte."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

import kvmlib
from kvmtui.dialogs.choice import Choice
from kvmtui.dialogs.goto import Target
from kvmtui.dialogs.search import KINDS, Search, SearchDialog, pattern_of
from kvmtui.views import memory_search
from kvmtui.views.memory import MemoryView
from kvmtui.widgets.results import ResultsPane
from tests.dumps import KERNEL_PA, MACHINES
from tests.tui.hosting import POINTERS, SIZES, digest, holed, hosted, press, screen, settle


def listed(view: MemoryView) -> list[int]:
    return view.results.addresses


def shown(view: MemoryView) -> bool:
    return view.results.display


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("machine", ["openbsd/amd64", "netbsd/i386"])
async def test_search_lists_and_goes(machine: str, size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        before = digest(tmp_path)
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "/")
            dialog = pilot.app.screen
            assert isinstance(dialog, SearchDialog)
            assert not dialog.query_one(Input).cursor_blink
            assert KINDS["bytes"][:20] in "\n".join(screen(pilot))
            await press(pilot, "down")
            assert dialog.query_one("#search-kind", Choice).word == "text"
            dialog.query_one(Input).value = "SD 7.6 (GEN"
            await press(pilot, "enter")
            await settle(pilot)
            assert shown(view)
            assert view.results.rows.has_focus
            expected = [f.address for f in kvmlib.look_for(kd, kvmlib.Pattern.of_text("SD 7.6 (GEN", "little"))]
            assert listed(view) == expected
            assert f"{len(expected)} found: 'SD 7.6 (GEN' in virtual memory".startswith(view.results.heading)
            text = "\n".join(screen(pilot))
            assert f"{expected[0]:0{kd.translator.bits // 4}x}  SD 7.6 (GEN" in text
            start = view.here
            await press(pilot, "end", "enter")
            assert view.here == Target(expected[-1])
            await press(pilot, "backspace")
            assert view.here == start
            await press(pilot, "escape")
            assert not shown(view)
            assert view.hex.has_focus
            await press(pilot, "r")
            assert shown(view)
            await press(pilot, "r")
            assert not shown(view)
        assert digest(tmp_path) == before


async def test_next_and_previous_go_round(tmp_path: Path) -> None:
    dump = holed("netbsd/i386")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            await press(pilot, "n")
            assert "nothing was searched for yet" in view.query_one("#memory-status").text  # type: ignore[attr-defined]
            view.search(kvmlib.Pattern.of_hex("ff"), True)
            await settle(pilot)
            found = listed(view)
            assert len(found) > 2
            start = view.here
            await press(pilot, "n")
            assert view.here == Target(found[0], True), "physical memory was searched, so it is shown"
            await press(pilot, "n", "n")
            assert view.here == Target(found[2], True)
            await press(pilot, "N", "N", "N")
            assert view.here == Target(found[-1], True)
            assert "went round: that is the last place" in "\n".join(screen(pilot))
            await press(pilot, "backspace")
            assert view.here == start, "all of that was one jump"
            view.show_pa(found[2])
            await press(pilot, "/", "tab", "tab", "right")
            pilot.app.screen.query_one(Input).value = "ff"
            await press(pilot, "enter")
            await settle(pilot)
            assert listed(view) == found[2:]
            assert f"from {found[2]:#x} on" in view.results.heading


@pytest.mark.parametrize("machine", MACHINES)
async def test_who_points_here_and_who_maps_it(machine: str, tmp_path: Path) -> None:
    dump = holed(machine)
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            view.show_va(dump.va("version"))
            await press(pilot, "/", "up")
            assert pilot.app.screen.query_one("#search-kind", Choice).word == "pointer"
            await press(pilot, "enter")
            await settle(pilot)
            assert dump.base + KERNEL_PA + POINTERS in listed(view)
            await press(pilot, "escape", "a")
            await settle(pilot)
            expected = [va for va, _ in kvmlib.vas_of(kd, KERNEL_PA)]
            assert listed(view) == expected
            assert dump.va("version") in expected
            assert f"{len(expected)} found: virtual addresses of pa {KERNEL_PA:#x}" in view.results.heading
            await press(pilot, "escape")
            view.show_va(0x1234)
            await settle(pilot)
            await press(pilot, "a")
            assert not shown(view)
            assert "no physical address here" in "\n".join(screen(pilot))


async def test_a_search_can_be_cancelled_and_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, stopped = threading.Event(), threading.Event()

    def slow(kd: kvmlib.Kvm, pattern: object, *, progress: Any, should_stop: Any, **rest: object) -> Any:
        yield kvmlib.Found(dump.va("version"), 0, 1)
        progress(1 << 20, 4 << 20)
        going.set()
        while not should_stop():
            stopped.wait(0.01)
        raise kvmlib.Cancelled("the search was cancelled")

    monkeypatch.setattr(kvmlib, "look_for", slow)
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, (120, 40)) as pilot:
            view.search(kvmlib.Pattern.of_hex("00"), False)
            assert await asyncio.to_thread(going.wait, 10)
            await pilot.pause(3 * memory_search._TICK)
            assert listed(view) == [dump.va("version")], "it fills while it runs"
            assert "1 found, 1.0 MiB of 4.0 MiB, " in view.results.heading
            assert "left; Escape cancels" in view.results.heading
            await pilot.press("right")
            await pilot.press("escape")
            await settle(pilot)
            assert view.results.heading.startswith("1 found; cancelled: 00")
            assert shown(view)


async def test_an_error_is_said_and_hostile_bytes_do_no_harm(tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    evil = kvmlib.Symbol("[red]x[/red]\x1b[2J\u202e", dump.va("version"), 0, "D")
    with dump.open(tmp_path) as kd:
        kd.set_symbols(kvmlib.SymbolTable([*dump.symbols, evil], "made for the test"))
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            view.search(kvmlib.Pattern.of_text("\x1b[31m", "little"), False)
            await settle(pilot)
            assert r"0 found: '\x1b[31m' in virtual memory" in view.results.heading
            assert view.hex.has_focus, "there is nothing to choose"
            view.search(kvmlib.Pattern.of_text("NetBSD", "little"), False)
            await settle(pilot)
            text = "\n".join(screen(pilot))
            assert "\x1b" not in text
            assert "\u202e" not in text
            os.truncate(tmp_path / "dump.img", 5000)
            view.search(kvmlib.Pattern.of_hex("ab cd"), True)
            await settle(pilot)
            assert "0 found; " in view.results.heading
            assert "ends before file offset" in view.results.heading


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (Search("bytes", "zz"), "'zz' is not a byte"),
        (Search("text", ""), "nothing was written"),
        (Search("32-bit", "twelve"), "'twelve' is not a number"),
        (Search("16-bit", "0x12345"), "does not fit in 2 bytes"),
        (Search("pointer", "no_such_symbol"), "neither an address"),
        (Search("pointer", "pa:1000"), "a pointer holds a virtual address"),
        (Search("64-bit", "1" * 5000), "is not a number"),
    ],
)
async def test_what_cannot_be_looked_for_is_said_in_the_dialog(search: Search, sentence: str, tmp_path: Path) -> None:
    with holed("netbsd/i386").open(tmp_path) as kd:
        with pytest.raises(kvmlib.KvmError, match=sentence):
            pattern_of(kd, search)
        view = MemoryView(kd)
        async with hosted(view, (120, 40)) as pilot:
            pilot.app.push_screen(SearchDialog(kd, search, None))
            await settle(pilot)
            await press(pilot, "enter")
            assert isinstance(pilot.app.screen, SearchDialog)
            assert sentence[:12] in "\n".join(screen(pilot))
            await press(pilot, "escape")
            assert not shown(view)


def test_numbers(tmp_path: Path) -> None:
    with holed("netbsd/i386").open(tmp_path) as kd:
        assert pattern_of(kd, Search("32-bit", "-1")).said == "-0x1 in 4 bytes"
        assert pattern_of(kd, Search("16-bit", "0x10")).said == "0x10 in 2 bytes"
        assert pattern_of(kd, Search("64-bit", "10")).align == 8
        assert pattern_of(kd, Search("pointer", ""), Target(0x1000)).said == "0x1000 in 4 bytes"


async def test_the_choice_turns_with_keys_and_clicks(tmp_path: Path) -> None:
    with holed("netbsd/i386").open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view) as pilot:
            await press(pilot, "p", "/")
            place = pilot.app.screen.query_one("#search-place", Choice)
            assert place.word == "physical memory", "what is looked at"
            await press(pilot, "tab", "tab", "left")
            assert place.word == "virtual memory"
            await press(pilot, "space")
            assert place.word == "physical memory"
            await press(pilot, "right")
            assert place.word == "from here on"
            await press(pilot, "right", "right")
            await pilot.click("#search-kind", offset=(9, 0))
            assert pilot.app.screen.query_one("#search-kind", Choice).word == "text"
            await press(pilot, "escape")


async def test_the_pane_steps_through_nothing(tmp_path: Path) -> None:
    with holed("netbsd/i386").open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view):
            pane = view.query_one(ResultsPane)
            assert pane.step(5, 1) is None
            assert pane.chosen() is None
