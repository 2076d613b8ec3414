"""Which column holds what in a row of a hex view, for the width at hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HexLayout:
    """Columns of a row: address, bytes in hex, the same bytes as text.

    Attributes:
        digits: hex digits of the address that are shown in each row.
        hidden: upper digits that aren't, because the row would be too long; the line above the rows names them.
        bytes: bytes in a row.
        compact: the bytes stand in groups of four without spaces, for narrow terminals.
    """

    digits: int
    hidden: int
    bytes: int
    compact: bool = False

    @property
    def gap(self) -> int:
        """Blank columns between the three parts."""
        return 1 if self.compact else 2

    def hex_column(self, i: int) -> int:
        """Return the column of byte `i`'s first digit."""
        return self.digits + self.gap + (2 * i + i // 4 if self.compact else 3 * i)

    def text_column(self, i: int) -> int:
        """Return the column of byte `i` as a character."""
        return self.hex_column(self.bytes - 1) + 2 + self.gap + i

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.text_column(self.bytes)

    def byte_at(self, column: int) -> int | None:
        """Return which byte stands in a column; None for none."""
        first = self.text_column(0)
        if first <= column < self.width:
            return column - first
        for i in range(self.bytes):
            if self.hex_column(i) <= column < self.hex_column(i) + 2:
                return i
        return None

    def heading(self) -> str:
        """Return the line above the bytes: the last digits of their addresses."""
        line = [" "] * self.width
        for i in range(self.bytes):
            at = self.hex_column(i)
            line[at : at + 2] = f"{i:2x}"
            line[self.text_column(i)] = f"{i & 15:x}"
        return "".join(line)


def layout_for(columns: int, digits: int) -> HexLayout:
    """Choose the layout for so many columns, the scrollbar not counted; an address has `digits` hex digits."""
    shown = (digits, 12) if digits > 12 else (digits,)
    choices = [HexLayout(d, digits - d, n) for n in (32, 16, 8) for d in shown]
    choices += [HexLayout(d, digits - d, 8, True) for d in shown]
    choices += [HexLayout(d, digits - d, 4, compact) for compact in (False, True) for d in shown]
    return next((c for c in choices if c.width <= columns), choices[-1])
