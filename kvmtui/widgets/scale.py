"""A whole address space in a few cells: each range and each hole gets a share that grows with its size's logarithm.

To scale, a kernel would be one cell between two holes of many TiB.
"""

from __future__ import annotations

import bisect
import math
from itertools import accumulate

from kvmtui.widgets.rows import Kind, Tiling

#: What stands for a kind: it stands beside text, and must not look like a part of it.
CELLS: dict[Kind, str] = {"present": "|", "truncated": "~", "not_in_dump": ":", "unlisted": "?", "unmapped": " "}


class Scale:
    """Where each address stands on a strip."""

    def __init__(self, tiling: Tiling) -> None:
        self._tiling = tiling
        ends = [*tiling.starts[1:], tiling.high]
        shares = (math.log2(end - start + 1) for start, end in zip(tiling.starts, ends, strict=True))
        self._before = [0.0, *accumulate(shares)]

    def cell(self, address: int, cells: int) -> int:
        """Return which of `cells` cells an address falls into."""
        i = self._tiling.index(min(max(address, self._tiling.low), self._tiling.high - 1))
        start, size, _ = self._tiling[i]
        share = self._before[i + 1] - self._before[i]
        at = self._before[i] + share * min(max(address - start, 0), size - 1) / size
        return min(cells - 1, int(at * cells / self._before[-1]))

    def address(self, cell: int, cells: int) -> int:
        """Return the first address that falls into a cell, or is near it."""
        at = self._before[-1] * cell / cells
        i = min(len(self._tiling) - 1, bisect.bisect_right(self._before, at) - 1)
        start, size, _ = self._tiling[i]
        share = self._before[i + 1] - self._before[i]
        return start + min(size - 1, int(size * max(0.0, at - self._before[i]) / share))

    def draw(self, cells: int) -> str:
        """Return a character for each cell: that of the kind which has most of it."""
        before, kinds = self._before, self._tiling.kinds
        drawn = []
        for cell in range(cells):
            low, high = before[-1] * cell / cells, before[-1] * (cell + 1) / cells
            shares = dict.fromkeys(CELLS, 0.0)
            for i in range(max(0, bisect.bisect_right(before, low) - 1), len(kinds)):
                if before[i] >= high:
                    break
                shares[kinds[i]] += min(high, before[i + 1]) - max(low, before[i])
            drawn.append(CELLS[max(shares, key=shares.__getitem__)])
        return "".join(drawn)
