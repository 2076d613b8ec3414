"""A list of places to choose one from: where one was, and bookmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical

import kvmlib
from kvmtui.dialogs.base import Dialog, text
from kvmtui.widgets.rowlist import ListRows, RowList

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType


class PickDialog(Dialog[int | None]):
    """Ends with the number of the chosen line, or with None."""

    DEFAULT_CSS = """
    PickDialog {
        & > Vertical {
            width: 78;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 0 1;
            border: solid $accent;
            border-title-style: bold;
            background: $surface;
        }
        & RowList { height: auto; max-height: 16; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter,o", "pick", "Go there"),
        ("delete,x", "remove", "Remove"),
        ("q", "cancel", "Close"),
    ]

    def __init__(self, title: str, lines: list[str], remove: Callable[[int], list[str]] | None = None) -> None:
        """`remove` removes a line and returns those that are left; it says itself what goes wrong."""
        super().__init__()
        self._title = title
        self._lines = lines
        self._remove = remove

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            yield RowList(id="pick-rows")
            removing = "x: remove   " if self._remove is not None else ""
            yield text(f"Enter: go there   {removing}Escape: close", classes="dialog-faint")

    @property
    def rows(self) -> RowList:
        return self.query_one(RowList)

    def on_mount(self) -> None:
        self._fill()
        self.rows.focus()

    def _fill(self) -> None:
        self.rows.styles.height = min(16, max(1, len(self._lines)))
        rows = [([(kvmlib.printable(line), "")], i) for i, line in enumerate(self._lines)]
        self.rows.show(ListRows[int](rows), max(0, self.rows.cursor))

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.action_pick()

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        event.stop()

    def action_pick(self) -> None:
        self.dismiss(self.rows.cursor if self._lines else None)

    def action_remove(self) -> None:
        if self._remove is not None and self._lines:
            self._lines = self._remove(self.rows.cursor)
            if self._lines:
                self._fill()
            else:
                self.dismiss(None)
