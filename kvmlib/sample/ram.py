"""Memory of the machine that a sample dump is of, while it is being filled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmlib.kcore import RamSeg


def noise(seed: str, n: int) -> bytes:
    """Return `n` bytes that look random and are the same each time."""
    return hashlib.shake_128(seed.encode()).digest(n)


class Ram:
    """RAM in segments; reads and writes by physical address. A write where there is no RAM is a KeyError."""

    def __init__(self, segments: Sequence[RamSeg]) -> None:
        """Start with zeros."""
        self.segments = tuple(segments)
        self._data = [bytearray(s.size) for s in segments]

    def _find(self, pa: int, n: int) -> tuple[bytearray, int]:
        for s, data in zip(self.segments, self._data, strict=True):
            if s.start <= pa and pa + n <= s.start + s.size:
                return data, pa - s.start
        raise KeyError(f"no RAM at pa {pa:#x}")

    def read(self, pa: int, n: int) -> bytes:
        """Return `n` bytes."""
        data, at = self._find(pa, n)
        return bytes(data[at : at + n])

    def write(self, pa: int, new: bytes) -> None:
        """Put bytes there."""
        data, at = self._find(pa, len(new))
        data[at : at + len(new)] = new


class Frames:
    """Page frames of RAM that nobody uses yet."""

    def __init__(self, segments: Iterable[RamSeg], used: Iterable[tuple[int, int]], page: int) -> None:
        """Take all frames of `segments`, of `page` bytes, except those in the (pa, bytes) ranges `used`."""
        self._page = page
        taken = {pa for start, size in used for pa in range(start - start % page, start + size, page)}
        self._free = [pa for s in segments for pa in range(s.start, s.start + s.size, page) if pa not in taken]
        # Page 0 is never given out: a page table there would look like a mistake.
        self._free = [pa for pa in self._free if pa]
        self._turn = 0
        #: What is left of the frame that small tables are put into: (pa, end).
        self._shared = (0, 0)
        #: Those that were given out.
        self.given: set[int] = set()

    def one(self) -> int:
        """Return a frame, the next one far from the last, as in a machine that has been up for a while."""
        self._turn = (self._turn + 0x2F3) % len(self._free)
        pa = self._free.pop(self._turn)
        self.given.add(pa)
        return pa

    def take(self, pa: int) -> int:
        """Return this frame: what is mapped without tables has no choice. ValueError if it isn't free."""
        self._free.remove(pa)
        self.given.add(pa)
        return pa

    def run(self, n: int) -> int:
        """Return the lowest `n` bytes of frames in a row, aligned to `n`."""
        free = set(self._free)
        for pa in self._free:
            frames = range(pa, pa + n, self._page)
            if pa % n == 0 and free.issuperset(frames):
                self._free = [f for f in self._free if f not in frames]
                self.given.update(frames)
                return pa
        raise KeyError(f"no {n:#x} bytes of RAM in a row")

    def alloc(self, n: int) -> int:
        """Return room for a page table of `n` bytes."""
        if n >= self._page:
            return self.one() if n == self._page else self.run(n)
        at = -(-self._shared[0] // n) * n
        if at + n > self._shared[1]:
            at = self.one()
            self._shared = at, at + self._page
        self._shared = at + n, self._shared[1]
        return at
