"""Which column holds what in a row of a hex view, for the width at hand."""

from __future__ import annotations

from dataclasses import dataclass

from kvmtui.widgets.shape import Shape

_BYTES = Shape()
#: Columns that what a pointer points to gets at least.
_NOTE = 16


@dataclass(frozen=True, slots=True)
class HexLayout:
    """Columns of a row: address, the bytes as numbers, the same bytes as text; or a pointer and what it points to.

    Attributes:
        digits: hex digits of the address that are shown in each row.
        hidden: upper digits that aren't, because the row would be too long; the line above the rows names them.
        bytes: bytes in a row.
        compact: the bytes stand in groups of four without spaces, for narrow terminals.
        unit: bytes of one number.
        cell: columns of one number.
        note: columns for what a pointer points to, in place of the text.
    """

    digits: int
    hidden: int
    bytes: int
    compact: bool = False
    unit: int = 1
    cell: int = 2
    note: int = 0

    @property
    def gap(self) -> int:
        """Blank columns between the three parts."""
        return 1 if self.compact else 2

    def hex_column(self, i: int) -> int:
        """Return the first column of the number that byte `i` belongs to."""
        number = i // self.unit
        return self.digits + self.gap + (2 * i + i // 4 if self.compact else (self.cell + 1) * number)

    def text_column(self, i: int) -> int:
        """Return the column of byte `i` as a character, or with `i` 0 that of a pointer's note."""
        return self.hex_column(self.bytes - 1) + self.cell + self.gap + i

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.text_column(0) + (self.note or self.bytes)

    def byte_at(self, column: int) -> int | None:
        """Return which byte stands in a column; None for none. Of a number it is the first."""
        first = self.text_column(0)
        if first <= column < self.width:
            return 0 if self.note else column - first
        for i in range(0, self.bytes, self.unit):
            if self.hex_column(i) <= column < self.hex_column(i) + self.cell:
                return i
        return None

    def heading(self) -> str:
        """Return the line above the bytes: the last digits of their addresses."""
        line = [" "] * self.width
        if self.note:
            return "".join(line)
        for i in range(0, self.bytes, self.unit):
            at = self.hex_column(i)
            line[at : at + self.cell] = f"{i:>{self.cell}x}"
        for i in range(self.bytes):
            line[self.text_column(i)] = f"{i & 15:x}"
        return "".join(line)


def layout_for(columns: int, digits: int, shape: Shape = _BYTES) -> HexLayout:
    """Choose the layout for so many columns, the scrollbar not counted; an address has `digits` hex digits."""
    shown = (digits, 12) if digits > 12 else (digits,)
    unit, cell = shape.unit, shape.cell
    if shape.pointers:
        layouts = [HexLayout(d, digits - d, unit, False, unit, cell, _NOTE) for d in shown]
        fitting = next((c for c in layouts if c.width <= columns), layouts[-1])
        note = max(1, columns - fitting.text_column(0))
        return HexLayout(fitting.digits, fitting.hidden, unit, False, unit, cell, note)
    choices = [HexLayout(d, digits - d, n, False, unit, cell) for n in (32, 16, 8) for d in shown]
    if unit == 1 and cell == 2:
        choices += [HexLayout(d, digits - d, 8, True) for d in shown]
        choices += [HexLayout(d, digits - d, 4, compact) for compact in (False, True) for d in shown]
    else:
        choices += [HexLayout(d, digits - d, max(4, unit), False, unit, cell) for d in shown]
    return next((c for c in choices if c.width <= columns), choices[-1])
