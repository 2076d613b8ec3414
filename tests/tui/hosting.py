"""What the tests of the views share: an application that shows one view, and a dump with every kind of hole."""

import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

import kvmlib
from kvmtui.views.base import View
from tests.dumps import KERNEL_PA, KERNEL_PAGES, PAGE, Dump, make_dump

SIZES = ((80, 24), (120, 40), (40, 12))
#: The kernel's page table, as tests.dumps lays it out: the last of the chain.
_TABLE = {"amd64": 0x4000, "i386": 0x2000}
#: Page number behind the kernel's pages at which a page is mapped that was not dumped.
ABSENT = KERNEL_PAGES + 4
ABSENT_PA = 0x900000
#: Bytes that a "truncated" dump lacks.
CUT = PAGE + 0x120


class Host(App[None]):
    """Shows one view and nothing else."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [("g", "goto", "Go to")]

    def __init__(self, view: View, *, colour: bool = True) -> None:
        super().__init__(ansi_color=None if colour else True)
        if not colour:
            self.theme = "ansi-dark"
        self.animation_level = "none"
        self.view = view

    def compose(self) -> ComposeResult:
        yield Static("host")
        yield self.view

    def on_mount(self) -> None:
        self.view.on_show_view()

    async def action_goto(self) -> None:
        await self.view.run_action("goto")


@asynccontextmanager
async def hosted(view: View, size: tuple[int, int] = (80, 24), *, colour: bool = True) -> AsyncIterator[Pilot[None]]:
    """Run `view` in an application of its own; it has read all it wants when this begins."""
    app = Host(view, colour=colour)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        yield pilot


async def settle(pilot: Pilot[None]) -> None:
    """Wait until the workers have answered and the answer is on the screen."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    await drawn(pilot)


async def drawn(pilot: Pilot[None]) -> None:
    """Wait until all of the screen is there: a pilot's pause takes a process that has to wait for the CPU for idle."""
    for _ in range(500):
        await pilot.pause()
        if not pilot.app.is_running:
            return
        top = pilot.app.screen
        if all(widget.is_mounted for widget in top.query("*")) and not top._layout_required:
            return
    raise AssertionError("the screen is never drawn")


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, and let each have its effect."""
    for key in keys:
        await pilot.press(key)
        if any(not worker.is_finished for worker in pilot.app.workers):
            await settle(pilot)
        else:
            await drawn(pilot)


def screen(pilot: Pilot[None]) -> list[str]:
    """Return the text on the screen, line by line."""
    return [strip.text.rstrip() for strip in pilot.app.screen._compositor.render_strips()]


def holed(machine: str, *, cut: int = 0) -> Dump:
    """Make a dump that maps a page which was not dumped, and whose kernel has the pointers at POINTERS."""
    dump = make_dump(machine, cut=cut)
    arch = machine.partition("/")[2]
    wide = arch == "amd64"
    entry, size = ("<Q", 8) if wide else ("<I", 4)
    device = bytearray(dump.device)
    start = len(device) - (0 if cut else 1000) - len(dump.memory)
    assert bytes(device[start : start + len(dump.memory)]) == dump.memory

    def place(pa: int) -> int:
        linear = machine == "openbsd/i386"
        return start + (pa if linear else pa - 0x1000 if pa < KERNEL_PA else 0x6000 + pa - KERNEL_PA)

    page = ((dump.base + KERNEL_PA) >> 12) + ABSENT & (511 if wide else 1023)
    struct.pack_into(entry, device, place(_TABLE[arch]) + page * size, ABSENT_PA | 0x3)
    pointers = place(KERNEL_PA + POINTERS)
    for i, value in enumerate((dump.va("version"), 0x1234, dump.base + KERNEL_PA + ABSENT * PAGE)):
        struct.pack_into(entry, device, pointers + 8 * i, value)
    return Dump(**{**vars(dump), "device": bytes(device)})


#: Offset in the kernel of three pointers, 8 bytes apart: to `version`, to 0x1234, and to the page that was not dumped.
POINTERS = 0x2000


def digest(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


Opener = Callable[[Dump], kvmlib.Kvm]
