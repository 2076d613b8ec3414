"""What a search found: a list that fills while it runs, with a line above it that says how far it is."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical

import kvmlib
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.rowlist import RowList


class FoundRows:
    """Addresses, ascending, each with what is said about it. The text is made only for rows on the screen."""

    def __init__(self, addresses: Sequence[int], digits: int, words: Callable[[int], str]) -> None:
        """`words` says something about the row of that number."""
        self.addresses = addresses
        self._digits = digits
        self._words = words

    def __len__(self) -> int:
        return len(self.addresses)

    def line(self, number: int) -> Line:
        said = kvmlib.printable(self._words(number))
        return [(f"{self.addresses[number]:0{self._digits}x}  ", ""), (said, "label")]

    def selectable(self, number: int) -> bool:
        return True


class ResultsPane(Vertical):
    """The places that were found.

    Attributes:
        addresses: of them, ascending; va, or pa where `physical`.
    """

    DEFAULT_CSS = """
    ResultsPane {
        display: none;
        height: 40%;
        min-height: 4;
        & > #results-heading { height: 1; overflow-y: hidden; }
        & > RowList { height: 1fr; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.addresses: list[int] = []
        self.physical = False
        self._digits = 8
        self._words: Callable[[int], str] = lambda number: ""
        self._shown = 0

    def compose(self) -> ComposeResult:
        yield Lines(id="results-heading")
        yield RowList(id="results-rows")

    @property
    def rows(self) -> RowList:
        return self.query_one(RowList)

    @property
    def heading(self) -> str:
        """What the line above the list says."""
        return self.query_one("#results-heading", Lines).text

    def begin(self, physical: bool, digits: int, words: Callable[[int], str]) -> None:
        """Empty the list."""
        self.addresses, self.physical, self._digits, self._words = [], physical, digits, words
        self._shown = -1
        self.fill()

    def say(self, text: str, bad: bool = False) -> None:
        """Say how far it is, or what came of it."""
        width = max(10, self.app.size.width - 1)
        line = kvmlib.printable(text)[:width]
        self.query_one("#results-heading", Lines).show([[(line, "bad" if bad else "strong")]])

    def fill(self) -> None:
        """Show what came since the last time."""
        count = len(self.addresses)
        if count != self._shown:
            self._shown = count
            rows = FoundRows(self.addresses[:count], self._digits, self._words)
            self.rows.show(rows, max(0, self.rows.cursor))

    def __contains__(self, address: int) -> bool:
        i = bisect.bisect_left(self.addresses, address)
        return i < len(self.addresses) and self.addresses[i] == address

    def chosen(self) -> int | None:
        """Return the address under the cursor of the list."""
        number = self.rows.cursor
        return self.addresses[number] if 0 <= number < len(self.addresses) else None

    def step(self, address: int | None, by: int) -> tuple[int, bool] | None:
        """Return the next address behind `address`, or before it, and whether it went round the end; None for none."""
        count = len(self.addresses)
        if not count:
            return None
        if address is None:
            number = 0 if by > 0 else count - 1
        elif by > 0:
            number = bisect.bisect_right(self.addresses, address)
        else:
            number = bisect.bisect_left(self.addresses, address) - 1
        round_ = not 0 <= number < count
        number %= count
        self.rows.move_to(number)
        return self.addresses[number], round_
