"""A one-line field above or below a list: the list moves while a person writes."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from kvmtui.widgets.rowlist import RowList


class Field(Input):
    """An Input in one line. Up, Down and the page keys move `rows`; Escape leaves it."""

    DEFAULT_CSS = """
    Field, Field:focus { border: none; height: 1; padding: 0; width: 1fr; background: $boost; }
    Field:ansi, Field:ansi:focus { background: ansi_default; text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("up", "rows(-1)", "Up", show=False),
        Binding("down", "rows(1)", "Down", show=False),
        Binding("pageup", "pages(-1)", "Page up", show=False),
        Binding("pagedown", "pages(1)", "Page down", show=False),
    ]

    class Left(Message):
        """A person wants out."""

    def __init__(self, placeholder: str, rows: RowList | None, *, id: str) -> None:
        super().__init__(placeholder=placeholder, select_on_focus=False, id=id)
        self.cursor_blink = False
        self.rows = rows

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def action_rows(self, by: int) -> None:
        if self.rows is not None:
            self.rows.action_rows(by)

    def action_pages(self, by: int) -> None:
        if self.rows is not None:
            self.rows.action_pages(by)
