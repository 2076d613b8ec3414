"""The screen of an open dump: seven views, and what can be done with the dump."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.dom import DOMNode

import kvmlib
from kvmtui.actions import Action, bindings_for
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.dialogs.goto import GoToDialog, Target
from kvmtui.dialogs.invalidate import InvalidateDialog
from kvmtui.dialogs.save import SaveDialog
from kvmtui.messages import Choose, FindHeaders, GoTo, ShowLine, Status, Summarised
from kvmtui.place import Place
from kvmtui.views.base import View
from kvmtui.views.header import HeaderView
from kvmtui.views.memory import MemoryView
from kvmtui.views.messages import MessagesView
from kvmtui.views.registers import RegistersView
from kvmtui.views.segments import SegmentsView
from kvmtui.views.summary import SummaryView
from kvmtui.views.symbols import SymbolsView
from kvmtui.widgets.bars import TabBar
from kvmtui.widgets.format import file_name

VIEWS: tuple[type[View], ...] = (
    SummaryView,
    HeaderView,
    RegistersView,
    SegmentsView,
    MemoryView,
    SymbolsView,
    MessagesView,
)


class DumpScreen(Place):
    """A dump; each view is made when it is first looked at."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("dump")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(file_name(kd.path))
        self.kd = kd
        self.current = ""
        #: The core that the dump was saved to last, in this session.
        self.saved_core: str | None = None
        self._views: dict[str, View] = {}
        self._tabs = TabBar()
        self._state = "..."

    def compose(self) -> ComposeResult:
        yield self.title_bar
        yield self._tabs
        yield Container(id="view")
        yield self.bottom

    async def on_mount(self) -> None:
        self._title()
        await self.show_view("summary")

    def _title(self) -> None:
        machine = self.kd.machine.name if self.kd.machine else ""
        form = "saved core" if self.kd.form == "savecore" else "device form"
        self.title_bar.tell(form, machine, f"[{self._state}]")

    # -- views -------------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The view that is shown."""
        return self._views[self.current]

    async def show_view(self, view_id: str) -> View:
        """Show another view."""
        view = self._made(view_id)
        if view_id != self.current:
            if self.current:
                self.view.display = False
            self.current = view_id
            self._tabs.select(f"view('{view_id}')")
            if not view.is_attached:
                await self.query_one("#view", Container).mount(view)
            view.display = True
            self.bottom.refresh()
        view.on_show_view()
        return view

    def _made(self, view_id: str) -> View:
        """Return a view, made now if nobody looked at it yet."""
        if view_id not in self._views:
            self._views[view_id] = next(v for v in VIEWS if v.view_id == view_id)(self.kd)
        return self._views[view_id]

    async def action_view(self, view_id: str) -> None:
        await self.show_view(view_id)

    async def on_tab_bar_picked(self, event: TabBar.Picked) -> None:
        await self.run_action(event.action)

    async def on_go_to(self, event: GoTo) -> None:
        await self._show_in_memory(Target(event.va, event.physical))

    async def _show_in_memory(self, target: Target) -> None:
        memory = self._made("memory")
        assert isinstance(memory, MemoryView)
        # Before it is shown, so that it doesn't begin by listing what isn't wanted.
        memory.go(target)
        await self.show_view("memory")

    async def on_show_line(self, event: ShowLine) -> None:
        messages = self._made("messages")
        assert isinstance(messages, MessagesView)
        # Before they are shown, so that they don't begin at their end.
        messages.go(event.number)
        await self.show_view("messages")

    def on_status(self, event: Status) -> None:
        self.say(event.text, event.bad)

    def on_summarised(self, event: Summarised) -> None:
        self._state = event.summary.state.verdict
        self._title()

    # -- help and palette --------------------------------------------------------------------------------------------

    @property
    def places(self) -> tuple[str, ...]:
        inner = self.view.inner if self.current else None
        # The page walk is the only part of a view that has actions of its own.
        return (self.current, "dump") if inner is None else ("walk", self.current, "dump")

    @property
    def help_title(self) -> str:
        return self.view.title

    @property
    def help_text(self) -> str:
        return self.view.help_text

    @property
    def word(self) -> str:
        return self.view.word

    def owner(self, action: Action) -> DOMNode:
        inner = self.view.inner
        if action.where == "walk" and inner is not None:
            return inner
        return self.view if action.where == self.current else super().owner(action)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_goto(self) -> None:
        here = self.view.here if isinstance(self.view, MemoryView) else None

        async def done(target: Target | None) -> None:
            if target is not None:
                await self._show_in_memory(target)

        self.app.push_screen(GoToDialog(self.kd, here), done)

    def action_save(self) -> None:
        def done(saved: kvmlib.Saved | None) -> None:
            if saved is not None:
                self.saved_core = saved.core

        self.app.push_screen(SaveDialog(self.kd), done)

    def action_headers(self) -> None:
        self.post_message(FindHeaders(self.kd.path))

    def action_choose(self) -> None:
        self.post_message(Choose())

    def action_invalidate(self) -> None:
        try:
            mag = self.kd.dumpmag_to_clear()
        except kvmlib.KvmError as e:
            self.app.push_screen(MessageDialog("Invalidate", [f"This dump cannot be invalidated: {e}."]))
            return
        self.app.push_screen(InvalidateDialog(self.kd, mag, self.saved_core), self._invalidated)

    def _invalidated(self, done: kvmlib.Invalidation | None) -> None:
        if done is None:
            return
        # Short enough for 80 columns, with the 8 bytes of a 64-bit machine.
        self.say(f"invalidated at {done.offset:#x}: {done.before.hex(' ')} -> {done.after.hex(' ')}")
        for view in self._views.values():
            view.forget()
        self.view.on_show_view()
        if self.current != "summary" and isinstance(summary := self._views.get("summary"), SummaryView):
            # Its verdict stands in the title, whichever view is shown.
            summary.ask()
