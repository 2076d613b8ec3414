"""Help for where you are, and all keys: from the table of actions."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from kvmtui.actions import MOVES, actions_for
from kvmtui.dialogs.base import Dialog
from kvmtui.widgets.lines import Line
from kvmtui.widgets.rowlist import ListRows, RowList
from kvmtui.widgets.wrap import wrap

_HEADINGS = {"dump": "With a dump open", "app": "Everywhere"}


class HelpDialog(Dialog[None]):
    """Fills the screen; any of Escape, q and ? leaves it."""

    DEFAULT_CSS = """
    HelpDialog {
        align: center middle;
        & > RowList {
            width: 100%;
            max-width: 96;
            height: 100%;
            padding: 0 1;
            border: solid $accent;
            border-title-style: bold;
            background: $surface;
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q,question_mark,enter", "cancel", "Close")]

    def __init__(self, title: str, explanation: str, places: tuple[str, ...]) -> None:
        super().__init__()
        self._title = title
        self._explanation = explanation
        self._places = places

    def compose(self) -> ComposeResult:
        rows = RowList(id="help-rows")
        rows.border_title = f"Help: {self._title}"
        rows.border_subtitle = "Escape closes"
        yield rows

    def on_mount(self) -> None:
        self.query_one(RowList).focus()
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        rows = self.query_one(RowList)
        width = rows.scrollable_content_region.width
        if width:
            rows.show(ListRows[str]([(line, None) for line in self.lines(width)]))

    def lines(self, width: int) -> list[Line]:
        """Return the help in rows of at most `width` columns."""
        lines: list[Line] = [[(row, "")] for row in wrap(self._explanation, width)]
        for place in (*self._places, "app"):
            lines += [[("", "")], [(_HEADINGS.get(place, f"Keys in {self._title}"), "strong")]]
            for action in actions_for(place):
                lines += _entry(action.shown_keys, action.help, width)
        lines += [[("", "")], [("Moving", "strong")]]
        for keys, meaning in MOVES:
            lines += _entry(keys, meaning, width)
        return lines


def _entry(keys: str, meaning: str, width: int) -> list[Line]:
    column = 18 if width >= 60 else 10
    first = keys.ljust(column - 1) + " "
    if len(first) > column:
        return [[(keys, "strong")], *([(" " * column + row, "")] for row in wrap(meaning, width - column))]
    rows = wrap(meaning, max(10, width - column))
    return [[(first, "strong"), (rows[0], "")], *([(" " * column + row, "")] for row in rows[1:])]
