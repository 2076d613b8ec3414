"""Help for where you are, and all keys: from the table of actions."""

from __future__ import annotations

from kvmtui.actions import MOVES, actions_for
from kvmtui.dialogs.reading import ReadingDialog
from kvmtui.widgets.lines import Line
from kvmtui.widgets.wrap import wrap

_HEADINGS = {"walk": "In the page walk", "dump": "With a dump open", "app": "Everywhere"}


class HelpDialog(ReadingDialog):
    """Help for one place."""

    def __init__(self, title: str, explanation: str, places: tuple[str, ...]) -> None:
        super().__init__(f"Help: {title}")
        self._place = title
        self._explanation = explanation
        self._places = places

    def lines(self, width: int) -> list[Line]:
        """Return the help in rows of at most `width` columns."""
        lines: list[Line] = [[(row, "")] for row in wrap(self._explanation, width)]
        for place in (*self._places, "app"):
            lines += [[("", "")], [(_HEADINGS.get(place, f"Keys in {self._place}"), "strong")]]
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
