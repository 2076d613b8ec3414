"""Asks for one line of text: the note of a bookmark."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Input

from kvmtui.bookmarks import NOTE_MAX
from kvmtui.dialogs.base import Box, Dialog, text


class NoteDialog(Dialog[str | None]):
    """Ends with the text, which may be empty, or with None."""

    def __init__(self, place: str, note: str) -> None:
        super().__init__()
        self._place = place
        self._note = note

    def compose(self) -> ComposeResult:
        with Box("Bookmark"):
            yield text(self._place)
            field = Input(self._note, placeholder="a note, or nothing", select_on_focus=False, max_length=NOTE_MAX)
            field.cursor_blink = False
            yield field
            yield text("Enter: keep   Escape: cancel", classes="dialog-faint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())
