"""What a terminal shows, and what it should show: only the cells that differ are sent.

Textual sends whole widgets, and each change as it comes. A frame takes that in, and what is drawn over before it was
sent is never sent: on a slow line only the last picture is, however many keys were typed ahead.
"""

from __future__ import annotations

import re

from kvmtui.sgr import PLAIN, Pen, after, between, modest

Cell = tuple[str, Pen]

_BLANK: Cell = (" ", PLAIN)
_PARTS = re.compile(
    r"("
    r"\x1b\[[<-?]?[0-9:;]*[ -/]*[@-~]"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x1f\x7f]"
    r")"
)
_PEN, _PLACE = re.compile(r"\x1b\[([0-9;]*)m"), re.compile(r"\x1b\[(?:(\d+)(?:;(\d+))?)?H")
#: Cells that are the same and stand between two that differ: to send so many costs no more than to go round them.
_BRIDGE = 5
#: From so many cells on it is shorter to clear to the end of the row than to write blanks.
_TAIL = 4


class Frame:
    """The picture on one terminal."""

    def __init__(self, columns: int = 80, rows: int = 24, *, plain: bool = False) -> None:
        """Begin with a blank picture, and a screen that shows nobody knows what.

        Args:
            columns: the terminal's width.
            rows: the terminal's height.
            plain: use no colours and no attributes but bold, underline and reverse.
        """
        self._plain = plain
        self._x = self._y = 0
        self._pen = self._sent = PLAIN
        self._wanted: list[list[Cell]] = []
        self._shown: list[list[Cell]] | None = None
        self.columns = self.rows = 0
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Take the terminal's size. With another one nobody knows what the screen shows, and all is drawn anew."""
        self.forget()
        if (columns, rows) != (self.columns, self.rows):
            self.columns, self.rows = columns, rows
            self._wanted = self._blank()

    def forget(self) -> None:
        """Send the whole picture next time: something else has written on the screen."""
        self._shown = None

    def _blank(self) -> list[list[Cell]]:
        return [[_BLANK] * self.columns for _ in range(self.rows)]

    def draw(self, data: str) -> list[str]:
        """Take what is to be drawn; return the control sequences in it that draw nothing."""
        others: list[str] = []
        for i, part in enumerate(_PARTS.split(data)):
            if not i % 2:
                if part:
                    self._write(part)
            elif found := _PEN.fullmatch(part):
                pen = after(self._pen, found[1])
                self._pen = modest(pen) if self._plain else pen
            elif found := _PLACE.fullmatch(part):
                self._y, self._x = int(found[1] or 1) - 1, int(found[2] or 1) - 1
            elif part == "\n":
                self._y, self._x = self._y + 1, 0
            elif len(part) > 1:
                others.append(part)
        return others

    def _write(self, text: str) -> None:
        cells = [(c, self._pen) for c in text] if text.isascii() else _cells(text, self._pen)
        start, self._x = self._x, self._x + len(cells)
        if not cells or not 0 <= self._y < self.rows or start >= self.columns:
            return
        row = self._wanted[self._y]
        del cells[self.columns - start :]
        end = start + len(cells)
        # Half a wide character is none.
        if row[start][0] == "" and start:
            row[start - 1] = (" ", row[start - 1][1])
        if end < self.columns and row[end][0] == "":
            row[end] = (" ", row[end][1])
        row[start:end] = cells

    def changes(self) -> str:
        """Return what makes the terminal show the picture."""
        out: list[str] = []
        if self._shown is None:
            self._shown = self._blank()
            self._sent = PLAIN
            out.append("\x1b[0m\x1b[2J")
        for y, (row, old) in enumerate(zip(self._wanted, self._shown, strict=True)):
            if row != old:
                self._change_row(y, row, old, out)
                self._shown[y] = row.copy()
        if self._sent != PLAIN:
            # A kernel writes on its console whenever it likes: not in our colours.
            out.append(between(self._sent, PLAIN))
            self._sent = PLAIN
        return "".join(out)

    def _change_row(self, y: int, row: list[Cell], old: list[Cell], out: list[str]) -> None:
        end = len(row)
        while end and row[end - 1] == _BLANK:
            end -= 1
        if sum(cell != _BLANK for cell in old[end:]) < _TAIL:
            end = len(row)
        x = 0
        while x < end:
            if row[x] == old[x]:
                x += 1
                continue
            start, x = _run(row, old, x, end)
            out.append(_place(start, y))
            for text, pen in row[start:x]:
                if pen != self._sent:
                    out.append(between(self._sent, pen))
                    self._sent = pen
                out.append(text)
        if end < len(row):
            out += [_place(end, y), between(self._sent, PLAIN), "\x1b[K"]
            self._sent = PLAIN


def _run(row: list[Cell], old: list[Cell], x: int, end: int) -> tuple[int, int]:
    """Return the cells [from, to) to send at once, from the one at `x` on, which differs."""
    start = x - 1 if row[x][0] == "" and x else x
    last = x
    while x < end and x - last - 1 <= _BRIDGE:
        if row[x] != old[x]:
            # Neither do they need codes of their own.
            if any(pen not in (row[last][1], row[x][1]) for _, pen in row[last + 1 : x]):
                break
            last = x
        x += 1
    return start, last + 1


def _place(x: int, y: int) -> str:
    if x:
        return f"\x1b[{y + 1};{x + 1}H"
    return f"\x1b[{y + 1}H" if y else "\x1b[H"


def _cells(text: str, pen: Pen) -> list[Cell]:
    """Return the cells of a text; behind a character that takes two stands an empty one."""
    from rich.cells import get_character_cell_size

    cells: list[Cell] = []
    for c in text:
        width = get_character_cell_size(c)
        if width:
            cells.append((c, pen))
            cells += [("", pen)] * (width - 1)
        elif cells:
            # It stands on the character before it.
            at = -2 if cells[-1][0] == "" and len(cells) > 1 else -1
            cells[at] = (cells[at][0] + c, pen)
    return cells
