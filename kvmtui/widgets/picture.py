"""Physical memory drawn to scale in one line. Pure: no widget."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate

import kvmlib
from kvmtui.widgets.lines import Line

#: RAM in the file; RAM of which a part is; RAM that should be; RAM and holes in one cell; a hole.
PRESENT, PARTLY, MISSING, MIXED, HOLE = "#", "%", "!", "+", "."
LEGEND = "# in the file  ! missing  % partly missing  + RAM and holes  . hole"
_ROLE = {PRESENT: "good", PARTLY: "bad", MISSING: "bad", MIXED: "good", HOLE: "label"}


class Picture:
    """Segments sorted once, so that a picture of any width costs a bisection a column."""

    def __init__(self, segments: Sequence[kvmlib.Segment]) -> None:
        runs = sorted((s.start, s.size, s.present) for s in segments if s.size)
        self._starts = [start for start, _, _ in runs]
        self._sizes = [size for _, size, _ in runs]
        self._present = [present for _, _, present in runs]
        self._before = [0, *accumulate(self._sizes)]
        self._present_before = [0, *accumulate(self._present)]
        self.high = max((start + size for start, size, _ in runs), default=0)
        low = self._starts[0] if runs else 0
        # From 0, unless the machine's RAM begins so far up that it would all be in one column.
        self.low = 0 if low <= self.high // 2 else low

    def _bytes_to(self, pa: int) -> tuple[int, int]:
        """Count the bytes of RAM below `pa`, and those of them that are in the file."""
        i = bisect.bisect_right(self._starts, pa) - 1
        if i < 0:
            return 0, 0
        inside = min(self._sizes[i], pa - self._starts[i])
        return self._before[i] + inside, self._present_before[i] + min(self._present[i], inside)

    def cells(self, width: int) -> str:
        """Return a character for each of `width` equal stretches."""
        span = self.high - self.low
        if span <= 0 or width <= 0:
            return ""
        edges = [self.low + span * x // width for x in range(width + 1)]
        counts = [self._bytes_to(edge) for edge in edges]
        return "".join(
            _cell(edges[x + 1] - edges[x], counts[x + 1][0] - counts[x][0], counts[x + 1][1] - counts[x][1])
            for x in range(width)
        )

    def column(self, pa: int, width: int) -> int:
        """Return the column that an address falls into."""
        span = self.high - self.low
        return min(width - 1, max(0, (pa - self.low) * width // span)) if span > 0 else 0

    def lines(self, width: int, mark: kvmlib.Segment | None) -> list[Line]:
        """Return the picture, above it its ends, and below it the place of one segment."""
        cells = self.cells(width)
        picture: list[tuple[str, str]] = []
        for cell in cells:
            role = _ROLE[cell]
            if picture and picture[-1][1] == role:
                picture[-1] = (picture[-1][0] + cell, role)
            else:
                picture.append((cell, role))
        left, right = f"{self.low:#x}", f"{self.high:#x}"
        ends = (left + " " * max(1, width - len(left) - len(right)) + right)[:width]
        below = ""
        if mark is not None and mark.size and cells:
            first, last = self.column(mark.start, width), self.column(mark.start + mark.size - 1, width)
            below = " " * first + "^" * (last + 1 - first)
        return [[(ends, "label")], picture, [(below, "strong")]]


def _cell(size: int, ram: int, present: int) -> str:
    if ram <= 0:
        return HOLE
    if present <= 0:
        return MISSING
    if present < ram:
        return PARTLY
    return PRESENT if ram >= size else MIXED
