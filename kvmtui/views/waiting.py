"""Shown while a dump is opened."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Static

import kvmlib
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.messages import Opened
from kvmtui.opening import Opening, Request, Samples


class WaitingScreen(Screen[kvmlib.Kvm | kvmlib.KvmError | None]):
    """Ends with the dump, with the error, or with None when a person wouldn't wait."""

    DEFAULT_CSS = """
    WaitingScreen { align: center middle; }
    WaitingScreen > Static { width: auto; max-width: 90%; height: auto; }
    """
    BINDINGS = [Binding("escape,q", "cancel", "Cancel")]

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self._opening = opening

    def compose(self) -> ComposeResult:
        yield Static(f"{self._opening.request.doing}\n\nEscape cancels", markup=False, id="waiting")

    def on_mount(self) -> None:
        self._opening.when_done(self._tell)

    def _tell(self) -> None:
        # From the opening's thread, or from this one when it is done already: this is right in both.
        self.call_later(self._finish)

    def _finish(self) -> None:
        if not self.is_current:
            return
        try:
            self.dismiss(self._opening.result())
        except kvmlib.KvmError as e:
            self.dismiss(e)

    def action_cancel(self) -> None:
        self._opening.abandon()
        self.dismiss(None)


def open_from(screen: Screen[None], request: Request, samples: Samples) -> None:
    """Open a dump that was chosen on a screen: the application shows it, or a dialog says why it can't be opened."""

    def done(result: kvmlib.Kvm | kvmlib.KvmError | None) -> None:
        if isinstance(result, kvmlib.Kvm):
            screen.post_message(Opened(result))
        elif result is not None:
            screen.app.push_screen(MessageDialog("It cannot be opened", [f"{result}."]))

    screen.app.push_screen(WaitingScreen(Opening(request, samples)), done)
