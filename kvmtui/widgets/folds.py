"""Rows of which stretches are folded to one row each: runs of rows that are all alike."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from itertools import accumulate
from operator import itemgetter

from kvmtui.widgets.rows import Row, RowModel, Tiling

#: Bytes before and behind a row that are compared with it at most: a person waits for them.
_LOOK = 1 << 20
#: Fewer rows than this aren't worth a row that says so.
FEW = 2

Read = Callable[[int, int], bytes]


class FoldedModel(RowModel):
    """A `RowModel` with folds. "Whole rows" count as if nothing was folded."""

    def __init__(self, tiling: Tiling, width: int) -> None:
        super().__init__(tiling, width)
        self.whole = self.total
        #: First and last whole row of each fold, ascending, never overlapping.
        self.folds: list[tuple[int, int]] = []
        self._gone = [0]

    def _count(self) -> None:
        self._gone = [0, *accumulate(last - first for first, last in self.folds)]
        self.total = self.whole - self._gone[-1]

    def _fold_of(self, whole: int) -> int:
        """Return which fold a whole row lies in, -1 for none."""
        i = bisect.bisect_right(self.folds, whole, key=itemgetter(0)) - 1
        return i if i >= 0 and whole <= self.folds[i][1] else -1

    def whole_row(self, number: int) -> int:
        """Return which whole row is shown as row `number`: of a fold the first."""
        low, high = 0, len(self.folds)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.folds[middle][0] - self._gone[middle] < number else (low, middle)
        if low < len(self.folds) and self.folds[low][0] - self._gone[low] == number:
            return self.folds[low][0]
        return number + self._gone[low]

    def shown(self, whole: int) -> int:
        """Return as which row a whole row is shown."""
        i = bisect.bisect_right(self.folds, whole, key=itemgetter(0)) - 1
        if i < 0:
            return whole
        first, last = self.folds[i]
        return (first if whole <= last else whole - (last - first)) - self._gone[i]

    def row(self, number: int) -> Row:
        if not 0 <= number < self.total:
            raise IndexError(f"there is no row {number}: there are {self.total}")
        whole = self.whole_row(number)
        row = self._at(whole)
        i = self._fold_of(whole)
        if i < 0:
            return row._replace(number=number)
        return Row(number, row.start, (self.folds[i][1] - whole + 1) * self.width, "same")

    def row_of(self, address: int) -> int:
        return self.shown(self._of(address))

    def whole_of(self, address: int) -> int:
        """Return the whole row of an address."""
        return self._of(address)

    def fold(self, first: int, last: int) -> None:
        """Fold whole rows; folds that meet become one."""
        i = bisect.bisect_left(self.folds, first - 1, key=itemgetter(1))
        j = bisect.bisect_right(self.folds, last + 1, key=itemgetter(0))
        meeting = self.folds[i:j]
        if meeting:
            first, last = min(first, meeting[0][0]), max(last, meeting[-1][1])
        self.folds[i:j] = [(first, last)]
        self._count()

    def open(self, whole: int) -> bool:
        """Take a whole row out of its fold, so that it is shown, unless it is the first; say if there was one."""
        i = self._fold_of(whole)
        if i < 0 or self.folds[i][0] == whole:
            return False
        first, last = self.folds[i]
        self.folds[i : i + 1] = [(a, b) for a, b in ((first, whole - 1), (whole + 1, last)) if a <= b]
        self._count()
        return True

    def alike(self, whole: int, read: Read, backwards: bool) -> tuple[int, int]:
        """Return the first and last whole row of those around `whole` that have the same bytes."""
        row = self._at(whole)
        if row.kind != "present" or row.size != self.width:
            return whole, whole
        start, size, _ = self.tiling[self.tiling.index(row.start)]
        data = read(row.start, self.width)
        behind = min(_LOOK, start + size - row.start - self.width) // self.width
        before = min(_LOOK, row.start - start) // self.width if backwards else 0
        last = whole + _same(data, lambda i, n: read(row.start + self.width * (1 + i), n * self.width), behind)
        first = whole - _same(data, lambda i, n: read(row.start - self.width * (i + n), n * self.width), before)
        return first, last


def _same(data: bytes, rows: Callable[[int, int], bytes], most: int) -> int:
    """Count the rows that are `data`; ``rows(i, n)`` are the n rows from the i-th on, going away from where it is."""
    done, step = 0, 1
    while done < most:
        step = min(step, most - done)
        if rows(done, step) == data * step:
            done += step
            step *= 4
        else:
            # One of these is another: there are fewer than `step` more.
            most = done + step - 1
            step = max(1, step // 4)
    return done
