"""The page walk of an address, level by level."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import GoTo, Status
from kvmtui.place import Place
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.walklines import Stop, walk_lines, walk_stops

__all__ = ["WalkPane", "walk_lines"]

#: Addresses that are listed for a physical one.
_MOST = 1000


class WalkPane(Lines, can_focus=True):
    """How the machine gets from a virtual address to a physical one, and where it stops. The arrows step through it."""

    DEFAULT_CSS = """
    WalkPane {
        max-height: 60%;
        border-top: solid $panel;
    }
    WalkPane:focus { border-top: solid $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_for("walk"),
        Binding("up,left,k,h", "step(-1)", "Step back", show=False),
        Binding("down,right,j,l", "step(1)", "Step forward", show=False),
        Binding("home,less_than_sign", "edge(False)", "First step", show=False),
        Binding("end,greater_than_sign", "edge(True)", "Last step", show=False),
    ]

    class Found(Message):
        """The virtual addresses of a physical one are known, or why they aren't."""

        def __init__(self, pa: int, found: list[kvmlib.Mapping], more: bool, problem: str) -> None:
            super().__init__()
            self.pa = pa
            self.found = found
            self.more = more
            self.problem = problem

    def __init__(self, kd: kvmlib.Kvm, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kd = kd
        self.va: int | None = None
        #: The physical address that is asked about where no va is known.
        self.pa: int | None = None
        #: The step that the cursor is on.
        self.at = 0
        self._stops: tuple[Stop, ...] = ()
        self._found: WalkPane.Found | None = None

    def show_va(self, va: int | None, pa: int | None = None) -> None:
        """Walk to another address; None when it isn't known. `pa` is what it is known to be mapped to."""
        if (va, pa) != (self.va, self.pa):
            self.at = 0
            self._found = None
        self.va, self.pa = va, pa
        self._walk()

    @property
    def stop(self) -> Stop | None:
        """What the cursor stands on."""
        return self._stops[self.at] if self.at < len(self._stops) else None

    def on_resize(self) -> None:
        super().on_resize()
        self._grow(self.has_focus)
        self._walk()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._grow(value)
        self._walk()
        # The bottom line names other keys here.
        if self.is_attached and isinstance(self.screen, Place):
            self.screen.bottom.refresh()

    def _grow(self, focus: bool) -> None:
        """Take all rows that what stands beside it doesn't need, while it has the focus."""
        if not focus or not isinstance(self.parent, Widget):
            self.styles.max_height = None
            return
        others = [w for w in self.parent.children if w is not self and w.display]
        least = (w.outer_size.height if (rows := w.styles.min_height) is None else int(rows.value) for w in others)
        self.styles.max_height = max(4, self.parent.size.height - sum(least))

    def _walk(self) -> None:
        # Filled in before it becomes visible: its height is then known at once, and the screen is painted once.
        width = self.size.width or self.container_size.width
        if not width and isinstance(self.parent, Widget):
            width = self.parent.size.width
        if not width:
            return
        lines, stops = walk_stops(self.kd, self.va, width, self.at if self.has_focus else None)
        more, found = self._reverse_lines(len(lines), len(stops), width)
        self._stops = (*stops, *found)
        self.at = max(0, min(self.at, len(self._stops) - 1))
        self.show([*lines, *more])
        self.call_after_refresh(self._reveal)

    def _reveal(self) -> None:
        stop = self.stop
        if stop is None or not self.has_focus:
            return
        top, height = round(self.scroll_target_y), max(1, self.scrollable_content_region.height)
        first = 0 if self.at == 0 else stop.line
        if first < top or stop.lines >= height:
            self.scroll_to(y=first, animate=False)
        elif stop.line + stop.lines > top + height:
            self.scroll_to(y=stop.line + stop.lines - height, animate=False)

    # -- the way back --------------------------------------------------------------------------------------------------

    @property
    def _target_pa(self) -> int | None:
        """The physical address in the end of the walk, or the one that is asked about."""
        if self.va is None:
            return self.pa
        last = self.kd.walk(self.va)[-1]
        return last.pa if last.outcome in ("page", "window") else None

    def _reverse_lines(self, line: int, number: int, width: int) -> tuple[list[Line], list[Stop]]:
        found = self._found
        if found is None:
            return [], []
        if found.problem:
            return [[(kvmlib.printable(found.problem)[:width], "bad")]], []
        count = len(found.found)
        many = f"more than {count} virtual addresses are" if found.more else f"{count} virtual addresses are"
        lines: list[Line] = [
            [(f"{'1 virtual address is' if count == 1 else many} mapped to pa {found.pa:#x}"[:width], "strong")]
        ]
        stops: list[Stop] = []
        for m in found.found:
            mark = "> " if self.has_focus and number + len(stops) == self.at else "  "
            stops.append(Stop(line + len(lines), 1, m.va, physical=False))
            address = f"{m.va:#0{self.kd.translator.bits // 4 + 2}x}"
            rest = "  ".join(("", *(part for part in (" ".join(m.flags), self.kd.describe(m.va)) if part)))
            room = max(0, width - len(mark) - len(address))
            lines.append([(mark, "strong"), (address, ""), (kvmlib.printable(rest)[:room], "label")])
        return lines, stops

    @work(thread=True, exclusive=True, group="reverse", exit_on_error=False)
    def _look(self, pa: int) -> None:
        worker = get_current_worker()
        found: list[kvmlib.Mapping] = []
        problem, more = "", False
        try:
            for va, mapping in kvmlib.vas_of(self.kd, pa, should_stop=lambda: worker.is_cancelled):
                more = len(found) == _MOST
                if more:
                    break
                found.append(mapping._replace(va=va))
        except kvmlib.KvmError as e:
            problem = str(e)
        if not worker.is_cancelled:
            self.post_message(self.Found(pa, found, more, problem))

    def on_walk_pane_found(self, event: Found) -> None:
        event.stop()
        if event.pa == self._target_pa:
            # The cursor goes to the first address, which makes it seen.
            self.at = len(self._stops) - (len(self._found.found) if self._found else 0)
            self._found = event
            self._walk()
            self.post_message(Status(""))

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_step(self, by: int) -> None:
        """Go a step forward, or back."""
        self._to(self.at + by)

    def action_edge(self, end: bool) -> None:
        self._to(len(self._stops) - 1 if end else 0)

    def _to(self, number: int) -> None:
        number = max(0, min(number, len(self._stops) - 1))
        if number != self.at:
            self.at = number
            self._walk()

    def action_open(self) -> None:
        """Show in Memory what the step reads."""
        stop = self.stop
        if stop is None or stop.target is None:
            self.post_message(Status("this step reads nothing from memory"))
        else:
            self.post_message(GoTo(stop.target, stop.physical))

    def action_reverse(self) -> None:
        """List the virtual addresses that are mapped to the same physical one."""
        pa = self._target_pa
        if pa is None:
            self.post_message(Status("there is no physical address to look for"))
        else:
            self.post_message(Status(f"looking through the page tables for pa {pa:#x} ..."))
            self._look(pa)
