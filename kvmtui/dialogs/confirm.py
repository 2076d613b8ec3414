"""A question with two answers, and a message with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import Button

import kvmlib
from kvmtui.dialogs.base import Box, Dialog, button, text


class ConfirmDialog(Dialog[bool]):
    """Asks; the safe answer is focused, and is what Escape means."""

    BINDINGS: ClassVar[list[BindingType]] = [("y", "yes", "Yes"), ("n", "cancel", "No")]

    def __init__(self, title: str, paragraphs: Sequence[str], *, yes: str, no: str = "No") -> None:
        super().__init__()
        self._title = title
        self._paragraphs = [kvmlib.printable(p, keep="\n") for p in paragraphs]
        self._yes = yes
        self._no = no

    def compose(self) -> ComposeResult:
        with Box(self._title):
            for paragraph in self._paragraphs:
                yield text(paragraph)
            with Horizontal(classes="dialog-buttons"):
                yield button(f"{self._no} (n)", "no")
                yield button(f"{self._yes} (y)", "yes")

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        self.dismiss(True)

    def action_cancel(self) -> None:
        self.dismiss(False)


class MessageDialog(Dialog[None]):
    """Says something that must be read: an error, or what was done."""

    BINDINGS: ClassVar[list[BindingType]] = [("enter,q,space", "cancel", "OK")]

    def __init__(self, title: str, paragraphs: Sequence[str]) -> None:
        super().__init__()
        self._title = title
        self._paragraphs = [kvmlib.printable(p, keep="\n") for p in paragraphs]

    def compose(self) -> ComposeResult:
        with Box(self._title):
            for paragraph in self._paragraphs:
                yield text(paragraph)
            with Horizontal(classes="dialog-buttons"):
                yield button("OK", "ok")

    def on_mount(self) -> None:
        self.query_one("#ok", Button).focus()

    def on_button_pressed(self) -> None:
        self.dismiss(None)
