"""How one row of a hex view is drawn. It reads the row's bytes and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

import kvmlib
from kvmtui.widgets.hexlayout import HexLayout
from kvmtui.widgets.rows import Row, RowKind, size_text
from kvmtui.widgets.shape import Shape
from kvmtui.widgets.space import Space

#: What fills the row of a hole: told apart without colour too.
FILL: dict[RowKind, str] = {"unmapped": "-", "not_in_dump": ":", "truncated": "~", "unlisted": "?"}
_UNREADABLE = "!"
_BYTE_ROLE = tuple("nul" if b == 0 else "text" if 0x20 <= b < 0x7F else "other" for b in range(256))
_TEXT = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in range(256))

#: Says what a pointer points to, in printable words; empty where it is none.
Note = Callable[[int], str]
Cells = Iterable[tuple[str, Style]]


class Lit(NamedTuple):
    """What stands out: the cursor's address, and a stretch of marked ones."""

    cursor: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RowPainter:
    """Draws rows of one space in one layout; `style` looks up the looks of roles."""

    space: Space
    layout: HexLayout
    shape: Shape
    style: Callable[..., Style]
    blank: Style
    lit: Lit
    note: Note | None = None

    def draw(self, row: Row) -> Strip:
        """Return a row."""
        layout = self.layout
        start = row.start - row.skip if row.kind == "present" else row.start
        address = f"{start & (1 << 4 * layout.digits) - 1:0{layout.digits}x}{' ' * layout.gap}"
        if row.kind == "same":
            text = f"*  {size_text(row.size)} more, the same as the row above"
            here = row.start <= self.lit.cursor < row.start + row.size
            look = self.style("same", "cursor") if here else self.style("same")
            return _strip([(address, self.style("address")), (text[: layout.width - len(address)], look)])
        if row.kind != "present":
            extent = self.space.tiling[self.space.tiling.index(row.start)]
            end = f"to {extent.start + extent.size:#x}"
            return self._hole(row, address, FILL[row.kind], self.space.hole(extent), row.kind, end)
        try:
            data = self.space.read(row.start, row.size)
        except kvmlib.KvmError as e:
            return self._hole(row, address, _UNREADABLE, str(e), "unreadable", "")
        return _strip(
            self._numbers(row, address, data)
            if self.layout.unit > 1 or self.layout.cell != 2
            else self._bytes(row, address, data)
        )

    def _hole(self, row: Row, address: str, fill: str, text: str, role: str, end: str) -> Strip:
        room = self.layout.width - len(address)
        said = f"{fill * 2} {text}"
        if end and len(said) + len(end) + 4 <= room:
            said += f", {end}"
        said = f"{kvmlib.printable(said)} "[:room]
        here = row.start <= self.lit.cursor < row.start + row.size
        style = self.style(role, "cursor") if here else self.style(role)
        rest = fill * (room - len(said))
        return _strip([(address, self.style("address")), (said, style), (rest, self.style(role))])

    def _look(self, role: str, low: int, high: int) -> Style:
        """Return the look of the addresses [low, high)."""
        lit = ["mark"] if low < self.lit.end and self.lit.start < high else []
        here = ["cursor"] if low <= self.lit.cursor < high else []
        return self.style(role, *lit, *here)

    def _bytes(self, row: Row, address: str, data: bytes) -> Iterator[tuple[str, Style]]:
        layout, blank = self.layout, self.blank
        styles = {role: self.style(role) for role in ("nul", "text", "other")}
        low, high = min(self.lit.start, self.lit.cursor), max(self.lit.end, self.lit.cursor + 1)
        looks = []
        for at, byte in enumerate(data, row.start):
            role = _BYTE_ROLE[byte]
            looks.append(self._look(role, at, at + 1) if low <= at < high else styles[role])
        yield address, self.style("address")
        column = len(address)
        for i, byte in enumerate(data):
            at = layout.hex_column(row.skip + i)
            yield " " * (at - column), _between(looks[i - 1], looks[i], blank) if i else blank
            yield self.shape.spell(data[i : i + 1]) if self.shape.form == "char" else f"{byte:02x}", looks[i]
            column = at + 2
        yield " " * (layout.text_column(row.skip) - column), blank
        yield from self._text(row, data, looks)

    def _numbers(self, row: Row, address: str, data: bytes) -> Iterator[tuple[str, Style]]:
        layout, shape, blank = self.layout, self.shape, self.blank
        unit = layout.unit
        yield address, self.style("address")
        column = len(address)
        before = blank
        value = None
        first = row.start - row.skip
        for i in range(0, layout.bytes, unit):
            low = first + i
            if low + unit <= row.start or low >= row.start + row.size:
                continue
            piece = data[max(0, low - row.start) : low + unit - row.start]
            at = layout.hex_column(i)
            roles = {_BYTE_ROLE[b] for b in piece}
            look = self._look(roles.pop() if len(roles) == 1 else "other", low, low + unit)
            yield " " * (at - column), _between(before, look, blank)
            # A number of which a part isn't there has no value.
            whole = len(piece) == unit
            yield shape.spell(piece) if whole else "-" * layout.cell, look
            value = int.from_bytes(piece, shape.byteorder) if whole else None
            column, before = at + layout.cell, look
        if layout.note:
            said = self.note(value) if self.note is not None and value is not None else ""
            yield " " * layout.gap, blank
            yield said[: layout.note], self.style("note")
            return
        yield " " * (layout.text_column(row.skip) - column), blank
        looks = [self._look(_BYTE_ROLE[byte], at, at + 1) for at, byte in enumerate(data, row.start)]
        yield from self._text(row, data, looks)

    def _text(self, row: Row, data: bytes, looks: list[Style]) -> Iterator[tuple[str, Style]]:
        # As text they all look alike: each change of colour costs as much as a dozen characters.
        for i, byte in enumerate(data):
            at = row.start + i
            special = at == self.lit.cursor or self.lit.start <= at < self.lit.end
            yield _TEXT[byte], looks[i] if special else self.blank


def _between(left: Style, right: Style, blank: Style) -> Style:
    """Choose a blank's look so that there are few changes: either neighbour's, unless it would be seen on a blank."""
    if left is right:
        return left
    return next((style for style in (left, right) if not style.reverse and not style.underline), blank)


def _strip(cells: Cells) -> Strip:
    """Join neighbours that look the same."""
    segments: list[Segment] = []
    run: list[str] = []
    look: Style | None = None
    for text, style in cells:
        if style is not look and style != look:
            if run:
                segments.append(Segment("".join(run), look))
            run, look = [], style
        run.append(text)
    if run:
        segments.append(Segment("".join(run), look))
    return Strip([s for s in segments if s.text])
