"""Physical memory over an image: which physical address lies at which file offset, and what is not there."""

from __future__ import annotations

import bisect
import functools
import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from kvmlib.errors import NotInDumpError, TruncatedError
from kvmlib.kcore import RamSeg

if TYPE_CHECKING:
    from kvmlib.image import Image

Kind = Literal["present", "unmapped", "not_in_dump", "truncated"]
_TOP = 1 << 64


@dataclass(frozen=True, slots=True)
class Segment:
    """One run of RAM in the dump.

    Attributes:
        start: first physical address.
        size: bytes the header says it has.
        offset: file offset of its first byte.
        present: bytes of it that are really in the file.
    """

    start: int
    size: int
    offset: int
    present: int


class Span(NamedTuple):
    """A stretch of virtual or physical memory that is all of one kind.

    `pa` is None where nothing is mapped, `offset` is None where the file has no place for it, `data` is None unless
    present. In spans of physical memory `va` is the physical address too.
    """

    va: int
    size: int
    kind: Kind
    pa: int | None
    offset: int | None
    data: bytes | None


class _Run(NamedTuple):
    start: int
    end: int
    offset: int


class PhysicalMemory:
    """Memory of a dump, by physical address.

    Memory segments lie one after the other in the file from `data_off` on. Where they overlap, the first in the header
    wins, as in libkvm. A look-up in 100,000 segments (a sparse dump) costs hardly more than in four.

    Attributes:
        segments: as they were given, in that order.
        ram: those of them that aren't empty.
        end: file offset of the first byte behind memory.
    """

    def __init__(self, image: Image, data_off: int, segments: Sequence[RamSeg]) -> None:
        """Lay out `segments`, in header order, from file offset `data_off` on."""
        self._image = image
        placed, at = [], data_off
        for start, size in segments:
            placed.append((start, size, at))
            at += size
        self._place(placed)
        self.end = at

    def _place(self, placed: list[tuple[int, int, int]]) -> None:
        size_of = self._image.size
        self.segments = [Segment(start, size, at, max(0, min(size, size_of - at))) for start, size, at in placed]
        self.ram = [s for s in self.segments if s.size]
        runs = _first_wins([_Run(start, min(start + size, _TOP), at) for start, size, at in placed if size])
        # Arrays, as they are small enough for the CPU's cache where runs are not.
        self._starts = array("Q", [r.start for r in runs])
        self._lasts = array("Q", [r.end - 1 for r in runs])
        self._to_offset = _compact([r.offset - r.start for r in runs])
        self._highest = self._lasts[-1] if runs else -1
        #: How many runs start below each multiple of 1 << `_shift`: where to look for one. About one run lies between.
        self._shift = max(0, (self._highest // max(1, len(runs))).bit_length() - 1)
        self._below = array("I")
        i = 0
        for block in range((self._highest >> self._shift) + 2):
            while i < len(runs) and runs[i].start < block << self._shift:
                i += 1
            self._below.append(i)

    @classmethod
    def linear(cls, image: Image, data_off: int, size: int, known: Sequence[RamSeg] = ()) -> PhysicalMemory:
        """Make memory where physical address p lies at `data_off` + p, `size` bytes of it (openbsd/i386, hppa).

        `known` are the ranges that the kernel says it wrote; with none, all bytes count as written.
        """
        memory = cls(image, data_off, ())
        memory._place([(s.start, s.size, data_off + s.start) for s in known or (RamSeg(0, size),)])
        memory.end = data_off + size
        return memory

    @property
    def missing(self) -> int:
        """Bytes that the segments promise and the file doesn't have."""
        return sum(s.size - s.present for s in self.segments)

    def locate(self, pa: int, n: int) -> tuple[int, int]:
        """Return (file offset, bytes) of the memory at `pa`, at most `n` bytes and only up to the end of its segment.

        Raises:
            NotInDumpError: no segment holds `pa`; its `size` says how far the gap goes.
        """
        starts, i = self._starts, -1
        if 0 <= pa <= self._highest:
            block, below = pa >> self._shift, self._below
            i = bisect.bisect_right(starts, pa, below[block], below[block + 1]) - 1
            if i >= 0 and pa <= self._lasts[i]:
                left = self._lasts[i] - pa + 1
                if left > n:
                    left = n
                return pa + self._to_offset[i], left
        elif pa > 0:
            i = len(starts) - 1
        # Behind the last segment there is one hole without an end.
        gap = starts[i + 1] - pa if i + 1 < len(starts) else max(_TOP - pa, n, 1)
        raise NotInDumpError(f"pa {pa:#x} is not in the dump: no segment holds it", pa, size=gap)

    def pa_at(self, offset: int) -> int | None:
        """Return the physical address whose byte lies at a file offset; None where there is none, or no such byte."""
        starts, to_offset = self._starts, self._to_offset
        i = bisect.bisect_right(self._by_offset, offset, key=lambda i: starts[i] + to_offset[i]) - 1
        if i < 0 or offset >= self._image.size:
            return None
        run = self._by_offset[i]
        pa = offset - to_offset[run]
        return pa if pa <= self._lasts[run] else None

    @functools.cached_property
    def _by_offset(self) -> list[int]:
        """The runs in the order in which they lie in the file."""
        return sorted(range(len(self._starts)), key=lambda i: self._starts[i] + self._to_offset[i])

    def read(self, pa: int, n: int) -> bytes:
        """Return all `n` bytes at `pa`.

        Raises:
            NotInDumpError: some of it is in no segment.
            TruncatedError: some of it lies behind the end of the file.
        """
        if n > 0:
            offset, left = self.locate(pa, n)
            if left == n and offset + n <= self._image.size:
                return self._image.read(offset, n)
        return self.gather([(pa, n)])

    def gather(self, pages: Iterable[tuple[int, int]]) -> bytes:
        """Return the bytes of many (pa, length) pages as one piece.

        Raises:
            NotInDumpError, TruncatedError: as in `read`.
        """
        starts, lasts, to_offset, below, shift = self._starts, self._lasts, self._to_offset, self._below, self._shift
        highest, size, bisect_right = self._highest, self._image.size, bisect.bisect_right
        runs = []
        for pa, n in pages:
            # As `locate` does it, without the call.
            if pa <= highest:
                block = pa >> shift
                i = bisect_right(starts, pa, below[block], below[block + 1]) - 1
                offset = pa + to_offset[i]
                if i >= 0 and pa + n - 1 <= lasts[i] and offset + n <= size:
                    runs.append((offset, n))
                    continue
            runs += self._parts(pa, n)
        return self._image.gather(runs)

    def _parts(self, pa: int, n: int) -> Iterator[tuple[int, int]]:
        """Yield (file offset, bytes) of what lies in several segments, or not all of it in the file."""
        while n > 0:
            offset, m = self.locate(pa, n)
            self._check_end(pa, offset, m)
            yield offset, m
            pa += m
            n -= m

    def _check_end(self, pa: int, offset: int, n: int) -> None:
        if offset + n > self._image.size:
            have = max(0, self._image.size - offset)
            raise TruncatedError(
                f"pa {pa + have:#x} should be at file offset {offset + have:#x}, "
                f"but the file ends at {self._image.size:#x}",
                pa + have,
                offset + have,
            )

    def spans(self, pa: int, n: int) -> Iterator[Span]:
        """Yield what is known of the `n` bytes at `pa`, each part with its kind."""
        while n > 0:
            try:
                offset, m = self.locate(pa, n)
            except NotInDumpError as e:
                m = min(n, e.size)
                yield Span(pa, m, "not_in_dump", pa, None, None)
            else:
                have = max(0, min(m, self._image.size - offset))
                if have:
                    yield Span(pa, have, "present", pa, offset, self._image.read(offset, have))
                if have < m:
                    yield Span(pa + have, m - have, "truncated", pa + have, offset + have, None)
            pa += m
            n -= m


def _compact(numbers: list[int]) -> Sequence[int]:
    """Return the same numbers as an array, unless a damaged header makes one too large."""
    try:
        return array("q", numbers)
    except OverflowError:
        return numbers


def _first_wins(runs: list[_Run]) -> list[_Run]:
    """Cut overlapping runs so that each address belongs to the run that comes first; the result is sorted."""
    order = sorted(range(len(runs)), key=lambda i: runs[i].start)
    if all(runs[a].end <= runs[b].start for a, b in pairwise(order)):
        return [runs[i] for i in order]
    edges = sorted({edge for r in runs for edge in (r.start, r.end)})
    cut: list[_Run] = []
    live: list[int] = []
    waiting = iter(order)
    upcoming = next(waiting, None)
    for left, right in pairwise(edges):
        while upcoming is not None and runs[upcoming].start <= left:
            heapq.heappush(live, upcoming)
            upcoming = next(waiting, None)
        while live and runs[live[0]].end <= left:
            heapq.heappop(live)
        if live:
            run = runs[live[0]]
            offset = run.offset + left - run.start
            if cut and cut[-1].end == left and cut[-1].offset + left - cut[-1].start == offset:
                cut[-1] = cut[-1]._replace(end=right)
            else:
                cut.append(_Run(left, right, offset))
    return cut
