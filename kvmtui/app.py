"""The application: it opens a dump, or lets one be chosen, and gives every screen the same keys.

All screens but the one that says what is being opened are imported when they are first wanted: that one is there at
once.
"""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Sequence
from importlib.resources import files
from typing import ClassVar, Literal

from rich.segment import Segment, Segments
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.driver import FrameDriver, frame_driver
from kvmtui.messages import FindHeaders, Opened, StartLesson
from kvmtui.opening import DEFAULT_SAMPLE, Opening, Request, Samples
from kvmtui.place import Place
from kvmtui.terminal import Look, ascii_filter
from kvmtui.views.waiting import WaitingScreen


class KvmtuiApp(App[None]):
    """kvmtui."""

    TITLE = "kvmtui"
    # Not CSS_PATH: Textual would open a file, and there is none when all of this runs from inside a zip file.
    CSS = files("kvmtui").joinpath("kvmtui.tcss").read_text(encoding="utf-8")
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_for("app"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]
    # Ours is bound by the table of actions, and opens our own palette.
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self, opening: Opening | None = None, samples: Samples | None = None, look: Look | None = None
    ) -> None:
        """Show the dump that is being opened, or the chooser."""
        look = look or Look()
        own_colours = look.display != "full" or not look.colour
        # Textual decides on NO_COLOR here and never again: the terminal's own colours, or greys.
        super().__init__(driver_class=frame_driver(look), ansi_color=True if own_colours else None)
        if own_colours:
            self.theme = "ansi-dark"
        self.animation_level: Literal["none", "basic", "full"] = "none"
        self._ascii = ascii_filter() if look.ascii else None
        self._opening = opening
        self.samples = samples or Samples()
        #: The sentence to leave with when there is nothing to show.
        self.failure = ""

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return filters if self._ascii is None else [*filters, self._ascii]

    def on_mount(self) -> None:
        self._leave_on_signals()
        if self._opening is None:
            self.push_screen(self._chooser())
        else:
            self.push_screen(WaitingScreen(self._opening), self._opened)

    def _opened(self, result: kvmlib.Kvm | kvmlib.KvmError | None) -> None:
        """Show the dump that was named on the command line, or leave."""
        if isinstance(result, kvmlib.Kvm):
            lesson = self._opening is not None and self._opening.request.lesson
            self.push_screen(self._dump_screen(result, lesson))
        else:
            self.failure = str(result) if result is not None else ""
            self.exit()

    def _leave_on_signals(self) -> None:
        """Leave in good order, so that neither a sample nor half a saved core stays behind."""
        import asyncio

        if self.is_headless:
            # Without a terminal it runs inside something else, such as a test, which wants the signals itself.
            return
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            # Not every system has them, and not every thread may ask for them.
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(getattr(signal, name), self.exit)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and isinstance(self.screen, Place):
            # A sentence stays until the next key; what that key does may say another.
            self.screen.say("")
        await super().on_event(event)

    def _fatal_error(self) -> None:
        # Textual's own account is drawn with colours and boxes, and has what variables hold: pieces of the dump.
        lines = [line for part in traceback.format_exception(self._exception) for line in part.splitlines()]
        said = "\n".join(kvmlib.printable(line).encode("ascii", "backslashreplace").decode() for line in lines)
        self._exit_renderables.append(Segments([Segment(f"{said}\nkvmtui: this is a bug in kvmtui\n")]))
        self._close_messages_no_wait()

    # -- from one dump to another ------------------------------------------------------------------------------------

    def on_opened(self, event: Opened) -> None:
        self.switch_screen(self._dump_screen(event.kd))

    def _dump_screen(self, kd: kvmlib.Kvm, lesson: bool = False, above: bool = False) -> Screen[None]:
        from kvmtui.screen import DumpScreen

        return DumpScreen(kd, sample=self.samples.holds(kd.path), lesson=lesson, above=above)

    def on_start_lesson(self, event: StartLesson) -> None:
        name = event.sample if event.sample in kvmlib.sample_names() else DEFAULT_SAMPLE

        def done(result: kvmlib.Kvm | kvmlib.KvmError | None) -> None:
            if isinstance(result, kvmlib.Kvm):
                self.push_screen(self._dump_screen(result, lesson=True, above=True))
            elif result is not None:
                from kvmtui.dialogs.confirm import MessageDialog

                self.push_screen(MessageDialog("The lesson cannot begin", [f"{result}."]))

        self.push_screen(WaitingScreen(Opening(Request(sample=name), self.samples)), done)

    def on_choose(self) -> None:
        self.switch_screen(self._chooser())

    def _chooser(self) -> Screen[None]:
        from kvmtui.views.chooser import ChooserScreen

        return ChooserScreen(self.samples)

    def on_find_headers(self, event: FindHeaders) -> None:
        from kvmtui.views.finding import FindScreen

        self.switch_screen(FindScreen(event.path, self.samples))

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        place = self.screen
        if isinstance(place, Place):
            from kvmtui.dialogs.help import HelpDialog
            from kvmtui.glossary import terms_in

            word = next(iter(terms_in(place.word)), None)
            self.push_screen(HelpDialog(place.help_title, place.help_text, place.places, place.terms(), word))

    def action_redraw(self) -> None:
        if isinstance(self._driver, FrameDriver):
            self._driver.redraw()

    def action_palette(self) -> None:
        if isinstance(self.screen, Place):
            from kvmtui.dialogs.palette import Palette

            self.push_screen(Palette())

    async def action_quit(self) -> None:
        from kvmtui.dialogs.save import SaveDialog

        busy = next((s for s in self.screen_stack if isinstance(s, SaveDialog) and s.busy), None)
        if busy is None:
            self.exit()
        else:
            busy.ask_to_quit()

    def action_help_quit(self) -> None:
        # ctrl+c: people press it to get out.
        place = self.screen
        if isinstance(place, Place):
            place.say("press q to leave")
