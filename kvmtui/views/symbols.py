"""Symbols: the kernel's namelist, filtered as one types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual import work
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.views.listing import Item, ListingView
from kvmtui.widgets.field import Field
from kvmtui.widgets.lines import Line
from kvmtui.widgets.rowlist import ListRows, Rows
from kvmtui.widgets.wrap import wrap

#: nm(1)'s letters in words.
KINDS = {"T": "text", "D": "data", "B": "bss", "R": "read-only data", "A": "absolute"}


class SymbolRows:
    """Symbols, each made into a row when it is seen."""

    def __init__(self, symbols: Sequence[kvmlib.Symbol], bits: int, width: int) -> None:
        self.symbols = symbols
        self.digits = bits // 4
        self.wide = width >= self.digits + 40

    def __len__(self) -> int:
        return len(self.symbols)

    def selectable(self, number: int) -> bool:
        return True

    def line(self, number: int) -> Line:
        s = self.symbols[number]
        size = f"{f'{s.size:#x}' if s.size else '-':>9}  " if self.wide else ""
        return [(f"{s.value:0{self.digits}x} {s.kind}  {size}", ""), (s.label, "strong")]


class SymbolsView(ListingView):
    """Find a symbol by a part of its name."""

    view_id: ClassVar[str] = "symbols"
    title: ClassVar[str] = "Symbols"
    help_text: ClassVar[str] = (
        "The kernel's symbols in order of address: address, kind, size, name. / goes to the filter, where the list "
        "follows each letter: a part of the name, or a pattern with * and ?; upper and lower case are alike. Up and "
        "Down work there too, Enter shows the symbol in Memory, Escape goes back to the list.\n"
        "Kinds, as in nm(1): T text, D data, B bss, R read-only data, A absolute; a small letter is a symbol of one "
        "file only."
    )
    DEFAULT_CSS = """
    SymbolsView {
        & > #symbols-filter-line { height: 1; }
        & > #symbols-filter-line > Static { width: 8; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("symbols")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._found: Sequence[kvmlib.Symbol] | None = None

    def above(self) -> Iterator[Widget]:
        yield Horizontal(
            Static("Filter", markup=False),
            Field("/ for part of a name, * and ?", None, id="symbols-filter"),
            id="symbols-filter-line",
        )

    def on_mount(self) -> None:
        self.field.rows = self.list

    @property
    def field(self) -> Field:
        return self.query_one(Field)

    def ask(self) -> None:
        self.fill()
        self._sort()

    @work(thread=True, exclusive=True, group="symbols", exit_on_error=False)
    def _sort(self) -> None:
        # The table sorts itself when it is first asked, which takes a moment for 50,000 symbols.
        self._found = self.kd.symbols.match("")
        self.post_message(self.Filled())

    def build(self, width: int) -> Rows:
        if self._found is None:
            return ListRows[Item]([([("sorting the symbols ...", "faint")], None)])
        if not self._found:
            source = self.kd.symbols.source
            text = f"No symbols: {source}." if not len(self.kd.symbols) else "No symbol has such a name."
            if not len(self.kd.symbols):
                text += " kvmtui -N system DUMP names the kernel file."
            return ListRows[Item]([([(row, "label")], None) for row in wrap(kvmlib.printable(text), width)])
        return SymbolRows(self._found, self.kd.translator.bits, width)

    def item(self, number: int) -> Item | None:
        if not self._found or not 0 <= number < len(self._found):
            return None
        s = self._found[number]
        kind = KINDS.get(s.kind.upper(), f"kind {s.kind}") + (", local" if s.kind.islower() else "")
        count = f"{number + 1:,} of {len(self._found):,}"
        return Item(f"{count}: {kind}, from {self.kd.symbols.source}", s.value)

    # -- the filter --------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.field.focus()

    def on_input_changed(self) -> None:
        if self._asked:
            self._found = self.kd.symbols.match(self.field.value.strip())
            self.list.cursor = 0
            self.fill()

    def on_input_submitted(self) -> None:
        self.action_jump()

    def on_field_left(self) -> None:
        self.list.focus()
