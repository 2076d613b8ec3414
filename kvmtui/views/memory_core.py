"""What the Memory view is built on: the ranges of memory, the cursor in them, and the ways to go somewhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import work
from textual.containers import Horizontal
from textual.message import Message
from textual.worker import get_current_worker

import kvmlib
from kvmtui.dialogs.goto import GoToDialog, Target
from kvmtui.views.base import View
from kvmtui.widgets.hexview import HexView
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.space import LIMIT, PendingSpace, PhysicalSpace, Space, VirtualSpace
from kvmtui.widgets.strip import SpaceStrip
from kvmtui.widgets.walk import WalkPane
from kvmtui.widgets.where import Where, pointer_at, status_lines, where_pa, where_va, why_not

if TYPE_CHECKING:
    from textual.app import ComposeResult


#: Places that Back remembers.
_REMEMBERED = 1000


class MemoryCore(View):
    """The kernel's memory, byte by byte, with a cursor."""

    DEFAULT_CSS = """
    MemoryCore {
        & > #memory-heading { height: 1; color: $text-muted; overflow-y: hidden; }
        & > #memory-status { overflow-y: hidden; }
        & > #memory-panes { height: 1fr; min-height: 3; }
        & > #memory-panes > HexView { scrollbar-size-vertical: 0; }
        & > WalkPane { display: none; }
        &.-walk > WalkPane { display: block; }
        &.-walk.-low > #memory-heading { display: none; }
        &.-walk.-low > WalkPane { border-top: none; }
    }
    MemoryCore:ansi > #memory-heading { color: ansi_default; }
    """

    class Listed(Message):
        """The ranges of memory are known, or why they can't be."""

        def __init__(self, space: VirtualSpace | PhysicalSpace | None, problem: str, note: str) -> None:
            super().__init__()
            self.space = space
            self.problem = problem
            self.note = note

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._virtual: VirtualSpace | None = None
        self._physical: PhysicalSpace | None = None
        self.history: list[Target] = []
        self._wanted: Target | None = None
        self._listing = False
        self._note = ""
        self._noted: Target | None = None
        self.where: Where | None = None

    def compose(self) -> ComposeResult:
        yield Lines(id="memory-heading")
        with Horizontal(id="memory-panes"):
            yield HexView(id="memory-bytes")
            yield SpaceStrip()
        yield Lines(id="memory-status")
        yield WalkPane(self.kd, id="memory-walk")

    @property
    def hex(self) -> HexView:
        return self.query_one(HexView)

    @property
    def here(self) -> Target:
        """Where the cursor stands."""
        return Target(self.hex.cursor, self.physical)

    @property
    def physical(self) -> bool:
        """Whether physical memory is shown."""
        return isinstance(self.hex.space, PhysicalSpace)

    # -- from outside ------------------------------------------------------------------------------------------------

    def on_show_view(self) -> None:
        """Show memory; what was read before may have changed, by an invalidation for example."""
        if self._virtual is None and self._physical is None:
            self._list(self._wanted)
        else:
            self.hex.reload()
            self.tell()
        self._focus_hex()

    def show_va(self, va: int, remember: bool = True) -> None:
        """Show a virtual address; with `remember`, Back returns to where the cursor is now."""
        self.go(Target(va), remember)

    def show_pa(self, pa: int) -> None:
        """Show a physical address."""
        self.go(Target(pa, True))

    def go(self, target: Target, remember: bool = True) -> None:
        """Show an address of either kind."""
        if remember and not self._listing and (self._virtual or self._physical):
            self.remember()
        self._show(target)

    def remember(self) -> None:
        """Have Back return to where the cursor is now."""
        if not self.history or self.history[-1] != self.here:
            self.history.append(self.here)
            del self.history[:-_REMEMBERED]

    # -- listing what there is, off the UI thread ----------------------------------------------------------------------

    def _show(self, target: Target) -> None:
        space: Space | None = self._physical if target.physical else self._virtual
        self._note = ""
        if not self.is_mounted or self._listing:
            self._wanted = target
        elif space is None:
            self._list(target)
        elif space is self._virtual and self._unlisted(target.address):
            self._list(target, target.address & ~0xFFF)
        elif self.hex.space is space:
            self.hex.move_to(target.address, centre=True)
            self.tell()
        else:
            self.hex.show(space, target.address)

    def _unlisted(self, va: int) -> bool:
        assert self._virtual is not None
        tiling = self._virtual.tiling
        return tiling[tiling.index(min(max(va, tiling.low), tiling.high - 1))].kind == "unlisted"

    def _list(self, target: Target | None, start: int = 0) -> None:
        self._wanted, self._listing = target, True
        if self._virtual is None and self._physical is None:
            what = "segments" if target is not None and target.physical else "page tables"
            self.hex.show(PendingSpace(f"reading the {what} ..."), 0)
            # As many lines as there will be, so that nothing moves when they come.
            self.query_one("#memory-heading", Lines).show([[("", "")]])
            self.query_one("#memory-status", Lines).show([[("", "")]] * (2 if self.app.size.width >= 70 else 3))
        self._list_ranges(target is not None and target.physical, start)

    @work(thread=True, exclusive=True, group="memory", exit_on_error=False)
    def _list_ranges(self, physical: bool, start: int) -> None:
        worker = get_current_worker()
        space: VirtualSpace | PhysicalSpace | None = None
        problem = note = ""
        try:
            if physical:
                space = PhysicalSpace(self.kd, lambda: worker.is_cancelled)
            else:
                space = VirtualSpace(self.kd, start, lambda: worker.is_cancelled)
                if not space.complete:
                    note = f"more than {LIMIT:,} ranges: not all are listed, but go to reaches every address"
                if not space.mappings and not start:
                    problem = f"no virtual memory is mapped here ({self.kd.translator.name}): this is physical memory"
                    space = PhysicalSpace(self.kd, lambda: worker.is_cancelled)
        except kvmlib.KvmError as e:
            problem = str(e)
        if not worker.is_cancelled:
            self.post_message(self.Listed(space, problem, note))

    def on_memory_core_listed(self, event: Listed) -> None:
        self._listing = False
        if isinstance(event.space, VirtualSpace):
            self._virtual = event.space
        elif event.space is not None:
            self._physical = event.space
        if event.space is None:
            self.hex.show(PendingSpace(event.problem), 0)
            return
        target, self._wanted = self._wanted, None
        if target is None:
            target = self._first(event.space)
        elif target.physical != isinstance(event.space, PhysicalSpace):
            # Asked for while the other kind of memory was still being listed.
            self._show(target)
            return
        self.hex.show(event.space, target.address)
        self.say(event.problem or event.note)

    def _first(self, space: VirtualSpace | PhysicalSpace) -> Target:
        """Choose where to begin: text that says what this is, else the kernel's first bytes, else the first bytes."""
        tiling = space.tiling
        if isinstance(space, PhysicalSpace):
            return Target(tiling.low if tiling.kinds[0] == "present" else tiling.next_present(tiling.low) or 0, True)
        symbol = self.kd.symbols.get("version")
        if symbol is not None and where_va(self.kd, symbol.value).kind == "present":
            return Target(symbol.value)
        half = 1 << self.kd.translator.bits - 1
        if tiling.low <= half < tiling.high and (kernel := tiling.next_present(half)) is not None:
            return Target(kernel)
        return Target(tiling.next_present(tiling.low) or tiling.low)

    # -- what is under the cursor --------------------------------------------------------------------------------------

    def on_hex_view_moved(self, event: HexView.Moved) -> None:
        event.stop()
        if self._noted != self.here:
            self._note = ""
        self.tell()

    def on_resize(self) -> None:
        self.set_class(self.size.height < 14, "-low")
        if not self._listing:
            self.call_after_refresh(self.tell)

    def tell(self) -> None:
        """Fill in the lines that say where the cursor stands, and the walk."""
        view = self.hex
        if not isinstance(view.space, VirtualSpace | PhysicalSpace):
            return
        address = view.cursor
        if self.physical:
            where = where_pa(self.kd, address, self._virtual)
        else:
            where = where_va(self.kd, address)
        self.where = where
        self.query_one("#memory-heading", Lines).show([self._heading()])
        self.query_one(SpaceStrip).show(view.space.scale, address)
        lines = status_lines(self.kd, where, self._pointer(), self._note, self.size.width)
        # Where there are few rows the walk has the numbers already.
        crowded = self.has_class("-walk") and self.has_class("-low")
        self.query_one("#memory-status", Lines).show(lines[-1:] if crowded else lines)
        if self.has_class("-walk"):
            self.query_one(WalkPane).show_va(where.va, where.pa)

    def on_space_strip_picked(self, event: SpaceStrip.Picked) -> None:
        self.go(Target(event.address, self.physical))

    def _heading(self) -> Line:
        view = self.hex
        layout, label = view.layout_, view.space.label
        upper = f" {view.cursor >> 4 * layout.digits:0{layout.hidden}x}+" if layout.hidden else ""
        line = layout.heading()
        if layout.note:
            line = " " * layout.hex_column(0) + view.shape.said
        return [(f"{label}{upper}".ljust(layout.hex_column(0)), "strong"), (line[layout.hex_column(0) :], "")]

    def _pointer(self) -> tuple[int, int] | None:
        """Return where the pointer under the cursor lies and what it says; None where it can't be read."""
        return pointer_at(self.kd, self.hex.space, self.hex.cursor)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_follow(self) -> None:
        pointer = self._pointer()
        if pointer is None:
            self.say("there is no pointer under the cursor: no bytes are there")
            return
        _, va = pointer
        reason = why_not(self.kd, va)
        if reason:
            self.say(f"pointer {va:#x}: {reason}")
        else:
            self.go(Target(va))

    def action_back(self) -> None:
        if self.history:
            self._show(self.history.pop())
        else:
            self.say("there is no earlier place to go back to")

    def action_goto(self) -> None:
        def done(target: Target | None) -> None:
            if target is not None:
                self.go(target)

        self.app.push_screen(GoToDialog(self.kd, self.here), done)

    def action_walk(self) -> None:
        if not self.has_class("-walk") and self.where is not None:
            self.query_one(WalkPane).show_va(self.where.va, self.where.pa)
        self.toggle_class("-walk")
        self.tell()
        self._focus_hex()

    def _focus_hex(self) -> None:
        # Taking the focus again would paint everything again.
        if self.screen.focused is not self.hex:
            self.hex.focus()

    def action_physical(self) -> None:
        """Switch between virtual and physical memory, staying on the same byte."""
        where = self.where
        if where is None:
            return
        if not self.physical:
            if where.pa is None:
                self.say(f"there is no physical address: {why_not(self.kd, self.hex.cursor)}")
                return
            if self._virtual is not None and where.va is not None:
                self._virtual.prefer(where.va)
            self.go(Target(where.pa, True))
        elif where.va is not None:
            self.go(Target(where.va))
        elif self._virtual is None:
            self._list(None)
        else:
            self.say("no virtual address is mapped to this byte")

    def action_next_range(self) -> None:
        found = self.hex.space.tiling.next_present(self.hex.cursor)
        self._range(found, "there is no range with memory behind this one")

    def action_previous_range(self) -> None:
        found = self.hex.space.tiling.previous_present(self.hex.cursor)
        self._range(found, "there is no range with memory before this one")

    def _range(self, address: int | None, otherwise: str) -> None:
        if address is None:
            self.say(otherwise)
        else:
            self.hex.move_to(address, centre=True)

    def say(self, text: str) -> None:
        self._note, self._noted = text, self.here
        self.tell()
