"""Rows of a hex view over a sparse address space: what is there scrolls by, each hole is one row.

Nothing here reads a dump or knows Textual. Extents tile an address space from end to end; prefix sums over the rows
they take and bisection turn a row number into addresses and back, however large the space is.
"""

from __future__ import annotations

import bisect
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: present: bytes to show. unmapped: no page there. not_in_dump: memory that was not dumped. truncated: it was, but the
#: file ends before it. unlisted: not looked at, because there are too many ranges.
Kind = Literal["present", "unmapped", "not_in_dump", "truncated", "unlisted"]
RowKind = Kind | Literal["same"]


class Extent(NamedTuple):
    """A stretch of addresses that is all of one kind."""

    start: int
    size: int
    kind: Kind


class Row(NamedTuple):
    """A row of the view: `size` addresses from `start` on. "same" are rows like the one before them, folded to one.

    Where `kind` is present, `skip` columns are left blank before the first byte: rows begin at multiples of the width.
    """

    number: int
    start: int
    size: int
    kind: RowKind
    skip: int = 0


def tile(pieces: Iterable[Extent], low: int, high: int, gap: Kind) -> Iterator[Extent]:
    """Yield extents that cover [low, high): `pieces` (ascending), with `gap` between them, like neighbours joined."""
    held: Extent | None = None
    for piece in _filled(pieces, low, high, gap):
        if held is not None and held.kind == piece.kind:
            held = Extent(held.start, held.size + piece.size, held.kind)
        else:
            if held is not None:
                yield held
            held = piece
    if held is not None:
        yield held


def _filled(pieces: Iterable[Extent], low: int, high: int, gap: Kind) -> Iterator[Extent]:
    at = low
    for piece in pieces:
        start, end = max(piece.start, at), min(piece.start + piece.size, high)
        if start >= end:
            continue
        if start > at:
            yield Extent(at, start - at, gap)
        yield Extent(start, end - start, piece.kind)
        at = end
    if at < high:
        yield Extent(at, high - at, gap)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Extents kept small: the start and kind of each, and where the last one ends."""

    starts: array[int]
    kinds: tuple[Kind, ...]
    high: int

    @classmethod
    def of(cls, extents: Iterable[Extent]) -> Tiling:
        """Keep extents that follow one another without gaps.

        Raises:
            ValueError: there is none, or there is a gap.
        """
        starts: array[int] = array("Q")
        kinds: list[Kind] = []
        at = None
        for start, size, kind in extents:
            if size <= 0 or (at is not None and start != at):
                raise ValueError(f"an extent at {start:#x} of {size} bytes doesn't follow {at}")
            starts.append(start)
            kinds.append(kind)
            at = start + size
        if at is None:
            raise ValueError("a tiling needs at least one extent")
        return cls(starts, tuple(kinds), at)

    @property
    def low(self) -> int:
        """The first address."""
        return self.starts[0]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> Extent:
        start = self.starts[i]
        end = self.starts[i + 1] if i + 1 < len(self.starts) else self.high
        return Extent(start, end - start, self.kinds[i])

    def index(self, address: int) -> int:
        """Return the number of the extent that holds `address`, which must lie in [low, high)."""
        if not self.low <= address < self.high:
            raise ValueError(f"{address:#x} lies outside {self.low:#x} to {self.high:#x}")
        return bisect.bisect_right(self.starts, address) - 1

    def next_present(self, address: int) -> int | None:
        """Return where the next range with bytes begins, behind the extent of `address`; None if there is none."""
        for i in range(self.index(address) + 1, len(self)):
            if self.kinds[i] == "present":
                return self.starts[i]
        return None

    def previous_present(self, address: int) -> int | None:
        """Return where the range with bytes around `address` begins, or if `address` is there, the one before."""
        for i in range(self.index(address), -1, -1):
            if self.kinds[i] == "present" and self.starts[i] < address:
                return self.starts[i]
        return None


class RowModel:
    """Rows of `width` bytes over a tiling.

    Attributes:
        tiling: the extents.
        width: bytes in a row; rows begin at its multiples.
        total: number of rows.
    """

    def __init__(self, tiling: Tiling, width: int) -> None:
        self.tiling = tiling
        self.width = width
        ends = [*tiling.starts[1:], tiling.high]
        counts = (
            (end - 1) // width - start // width + 1 if kind == "present" else 1
            for start, end, kind in zip(tiling.starts, ends, tiling.kinds, strict=True)
        )
        self._before = [0, *accumulate(counts)]
        self.total = self._before[-1]

    def row(self, number: int) -> Row:
        """Return row `number`, counted from 0.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= number < self.total:
            raise IndexError(f"there is no row {number}: there are {self.total}")
        return self._at(number)

    def _at(self, number: int) -> Row:
        i = bisect.bisect_right(self._before, number) - 1
        start, size, kind = self.tiling[i]
        if kind != "present":
            return Row(number, start, size, kind)
        base = (start // self.width + number - self._before[i]) * self.width
        first, end = max(start, base), min(start + size, base + self.width)
        return Row(number, first, end - first, kind, first - base)

    def row_of(self, address: int) -> int:
        """Return the number of the row that holds `address`.

        Raises:
            ValueError: it lies outside the address space.
        """
        return self._of(address)

    def _of(self, address: int) -> int:
        i = self.tiling.index(address)
        start, _, kind = self.tiling[i]
        if kind != "present":
            return self._before[i]
        return self._before[i] + address // self.width - start // self.width

    def clamp(self, address: int) -> int:
        """Return the nearest address of the space."""
        return min(max(address, self.tiling.low), self.tiling.high - 1)


def size_text(n: int) -> str:
    """Spell a number of bytes for a person: exactly where that is short, else to one decimal."""
    for shift, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >> shift:
            whole, rest = divmod(n, 1 << shift)
            if not rest:
                return f"{whole} {unit}"
            if shift > 10:
                return f"{n / (1 << shift):.1f} {unit}"
    return f"{n} byte" + ("" if n == 1 else "s")
