"""Shown while a dump is opened."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Static

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import Opened
from kvmtui.opening import Opening, Request, Samples
from kvmtui.place import Place
from kvmtui.widgets.format import file_name

#: Seconds in which this screen is drawn.
_FIRST = 0.02


class WaitingScreen(Place):
    """Ends with the dump, with the error, or with None when a person wouldn't wait.

    It is there before anything of the dump is known: what takes long to import is left to what comes after it.
    """

    DEFAULT_CSS = """
    WaitingScreen > #waiting { height: 1fr; content-align: center middle; text-align: center; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("waiting")]
    places = ("waiting",)
    help_title = "Opening a dump"
    help_text = (
        "A header is looked for where -o says, else at the beginning, else in all of the image; then what the kernel "
        "left in memory is read. Escape cancels: the dump itself is never changed by this."
    )

    def __init__(self, opening: Opening) -> None:
        sample = opening.request.sample
        super().__init__(file_name(opening.request.path) if sample is None else f"sample of {sample}")
        self._opening = opening
        self._ended = False

    def compose(self) -> ComposeResult:
        yield self.title_bar
        yield Static(self._opening.request.doing, markup=False, id="waiting")
        yield self.bottom

    def on_screen_resume(self) -> None:
        # Something shall be seen before the work begins. It may also have ended while a dialog was above this.
        self.set_timer(_FIRST, lambda: self._opening.when_done(self._tell))

    def on_unmount(self) -> None:
        # Where the application ends before this does.
        if not self._ended:
            self._opening.abandon()

    def _tell(self) -> None:
        # From the opening's thread, or from this one when it is done already: this is right in both.
        self.call_later(self._finish)

    def _finish(self) -> None:
        if self.app.screen is not self:
            return
        try:
            self._end(self._opening.result())
        except kvmlib.KvmError as e:
            self._end(e)

    def _end(self, result: kvmlib.Kvm | kvmlib.KvmError | None) -> None:
        if not self._ended:
            self._ended = True
            self.dismiss(result)

    def action_cancel(self) -> None:
        self._opening.abandon()
        self._end(None)


def open_from(screen: Screen[None], request: Request, samples: Samples) -> None:
    """Open a dump that was chosen on a screen: the application shows it, or a dialog says why it can't be opened."""

    def done(result: kvmlib.Kvm | kvmlib.KvmError | None) -> None:
        if isinstance(result, kvmlib.Kvm):
            screen.post_message(Opened(result))
        elif result is not None:
            from kvmtui.dialogs.confirm import MessageDialog

            screen.app.push_screen(MessageDialog("It cannot be opened", [f"{result}."]))

    screen.app.push_screen(WaitingScreen(Opening(request, samples)), done)
