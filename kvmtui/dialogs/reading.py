"""A text that fills the screen, to be read."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from kvmtui.dialogs.base import Dialog
from kvmtui.widgets.lines import Line
from kvmtui.widgets.rowlist import ListRows, RowList


class ReadingDialog(Dialog[None]):
    """Any of Escape, q, ? and Enter leaves it."""

    DEFAULT_CSS = """
    ReadingDialog {
        align: center middle;
        & > RowList {
            width: 100%;
            max-width: 96;
            height: 1fr;
            padding: 0 1;
            border: solid $accent;
            border-title-style: bold;
            background: $surface;
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q,question_mark,enter", "cancel", "Close")]
    hint = "Escape closes"

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def lines(self, width: int) -> list[Line]:
        """Return the text in rows of at most `width` columns."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        rows = RowList()
        # A title is parsed as markup unless it is content already.
        rows.border_title = self._title.replace("[", r"\[")
        rows.border_subtitle = self.hint
        yield rows

    @property
    def rows(self) -> RowList:
        return self.query_one(RowList)

    def on_mount(self) -> None:
        self.rows.focus()
        self.call_after_refresh(self.fill)

    def on_resize(self) -> None:
        self.call_after_refresh(self.fill)

    def fill(self) -> None:
        """Show the lines, for the width there is."""
        width = self.rows.scrollable_content_region.width
        if width:
            self.rows.show(ListRows[str]([(line, None) for line in self.lines(width)]))
