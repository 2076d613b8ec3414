"""The screen of an open dump: seven views, and what can be done with the dump."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.dom import DOMNode
from textual.widgets import Input

import kvmlib
from kvmtui.actions import Action, bindings_for
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.dialogs.goto import GoToDialog, Target
from kvmtui.lesson import Lesson
from kvmtui.messages import Choose, FindHeaders, GoTo, ShowLine, StartLesson, Status, Summarised
from kvmtui.place import Place
from kvmtui.views.base import View
from kvmtui.views.header import HeaderView
from kvmtui.views.lessonstrip import LessonStrip, scene_of
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

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("dump"), *bindings_for("lesson")]

    def __init__(self, kd: kvmlib.Kvm, *, sample: bool = False, lesson: bool = False, above: bool = False) -> None:
        """Show a dump.

        Args:
            kd: the dump.
            sample: whether it is a sample, which may be written to.
            lesson: whether to begin with the lesson.
            above: whether another place is below this one, to which the end of the lesson leads back.
        """
        super().__init__(file_name(kd.path))
        self.kd = kd
        self._sample = sample
        self._lesson_first = lesson
        self._above = above
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
        if self._lesson_first:
            await self.action_lesson()

    def on_unmount(self) -> None:
        # A packed dump has a copy in TMPDIR as long as it is open.
        self.kd.close()

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
        places = (self.current, "dump") if inner is None else ("walk", self.current, "dump")
        return places if self.lesson is None else ("lesson", *places)

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

    # -- the lesson --------------------------------------------------------------------------------------------------

    @property
    def lesson(self) -> LessonStrip | None:
        """The lesson's strip; None where there is no lesson."""
        return next(iter(self.query(LessonStrip)), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Letters are letters where a person writes.
        return action != "lesson_step" or (self.lesson is not None and not isinstance(self.focused, Input))

    async def action_lesson(self) -> None:
        """Start the lesson, or leave it. It is given on a sample, where saving and invalidating do no harm."""
        if (strip := self.lesson) is not None:
            await strip.remove()
            self.bottom.refresh()
            if self._above:
                self.dismiss()
        elif not self._sample:
            self.post_message(StartLesson(self.kd.machine.name if self.kd.machine else ""))
        else:
            strip = LessonStrip(Lesson(self.kd), lambda: scene_of(self.kd, self.view, self.saved_core is not None))
            await self.mount(strip, before=self.bottom)
            self.bottom.refresh()

    def action_lesson_step(self, by: int) -> None:
        """Go to another step of the lesson."""
        if self.lesson is not None:
            self.lesson.go(by)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_goto(self) -> None:
        here = self.view.here if isinstance(self.view, MemoryView) else None

        async def done(target: Target | None) -> None:
            if target is not None:
                await self._show_in_memory(target)

        self.app.push_screen(GoToDialog(self.kd, here), done)

    def action_save(self) -> None:
        # Not before somebody wants to: it takes in all of savecore(8).
        from kvmtui.dialogs.save import SaveDialog

        def done(saved: kvmlib.Saved | None) -> None:
            if saved is not None:
                self.saved_core = saved.core

        self.app.push_screen(SaveDialog(self.kd, self._folder), done)

    @property
    def _folder(self) -> str | None:
        """In the lesson the sample's own folder, where there is room, and nothing of it stays."""
        return str(Path(self.kd.path).parent) if self.lesson is not None else None

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
        from kvmtui.dialogs.invalidate import InvalidateDialog

        self.app.push_screen(InvalidateDialog(self.kd, mag, self.saved_core, self._folder), self._invalidated)

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
