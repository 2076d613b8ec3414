"""Help for where you are: all keys, from the table of actions, and the words, from the glossary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

import kvmlib
from kvmtui.actions import MOVES, actions_for
from kvmtui.dialogs.reading import ReadingDialog
from kvmtui.glossary import Term, search, term_lines
from kvmtui.widgets.field import Field
from kvmtui.widgets.lines import Line
from kvmtui.widgets.wrap import wrap

_HEADINGS = {"lesson": "In the lesson", "walk": "In the page walk", "dump": "With a dump open", "app": "Everywhere"}


class HelpDialog(ReadingDialog):
    """Help for one place: the word under the cursor, what the place is for, its keys, the words on the screen."""

    DEFAULT_CSS = """
    HelpDialog > Field, HelpDialog > Field:focus { width: 100%; max-width: 96; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("slash,f", "find", "Find a word")]
    hint = "/ finds a word, Escape closes"

    def __init__(
        self,
        title: str,
        explanation: str,
        places: tuple[str, ...],
        words: Sequence[Term] = (),
        word: Term | None = None,
    ) -> None:
        super().__init__(f"Help: {title}")
        self._place = title
        self._explanation = explanation
        self._places = places
        self._words = words
        self._word = word

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Field("/ to find a word", None, id="help-field")

    @property
    def field(self) -> Field:
        return self.query_one(Field)

    def on_mount(self) -> None:
        super().on_mount()
        self.field.rows = self.rows

    # -- finding a word ------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        self.field.focus()

    def on_input_changed(self) -> None:
        self.fill()

    def on_input_submitted(self) -> None:
        self.rows.focus()

    def on_field_left(self) -> None:
        self.field.value = ""
        self.rows.focus()

    def _found(self, wanted: str, width: int) -> list[Line]:
        found = search(wanted)
        if not found:
            return [[(row, "label")] for row in wrap(f"no word here has {kvmlib.printable(wanted)!r} in it", width)]
        return [line for term in found for line in term_lines(term, width)]

    def lines(self, width: int) -> list[Line]:
        """Return the help in rows of at most `width` columns."""
        if self.is_mounted and (wanted := self.field.value.strip()):
            return self._found(wanted, width)
        lines: list[Line] = []
        if self._word is not None:
            lines += [*term_lines(self._word, width), [("", "")]]
        lines += [[(row, "")] for row in wrap(self._explanation, width)]
        for place in (*self._places, "app"):
            lines += [[("", "")], [(_HEADINGS.get(place, f"Keys in {self._place}"), "strong")]]
            for action in actions_for(place):
                lines += _entry(action.shown_keys, action.help, width)
        lines += [[("", "")], [("Moving", "strong")]]
        for keys, meaning in MOVES:
            lines += _entry(keys, meaning, width)
        words = [t for t in self._words if t != self._word]
        if words:
            lines += [[("", "")], [("Words on this screen", "strong")]]
            lines += [line for term in words for line in term_lines(term, width)]
        return lines


def _entry(keys: str, meaning: str, width: int) -> list[Line]:
    column = 18 if width >= 60 else 10
    first = keys.ljust(column - 1) + " "
    if len(first) > column:
        return [[(keys, "strong")], *([(" " * column + row, "")] for row in wrap(meaning, width - column))]
    rows = wrap(meaning, max(10, width - column))
    return [[(first, "strong"), (rows[0], "")], *([(" " * column + row, "")] for row in rows[1:])]
