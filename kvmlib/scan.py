"""Searching physical memory for what says by itself what it is: no translation, no symbols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvmlib.image import Image
from kvmlib.memory import PhysicalMemory

#: Most hits of one search: memory that is full of them says nothing.
_MOST = 4096


class Hit(NamedTuple):
    """Where something was found: physical address and file offset."""

    pa: int
    offset: int


def hits(image: Image, memory: PhysicalMemory, needle: bytes, *, align: int = 1) -> Iterator[Hit]:
    """Yield where `needle` lies in memory, segment by segment, at addresses that are multiples of `align`.

    What lies across the ends of two segments isn't found. After 4096 hits the search ends.
    """
    left = _MOST
    for s in memory.ram:
        at, stop = s.offset, s.offset + s.present
        while left and (at := image.find(needle, at, stop)) >= 0:
            pa = s.start + at - s.offset
            at += 1
            if pa % align == 0:
                left -= 1
                yield Hit(pa, at - 1)


def page_hits(image: Image, memory: PhysicalMemory, needle: bytes, page: int) -> Iterator[Hit]:
    """Yield the pages (of `page` bytes) that begin with `needle`: much faster than `hits`, as it skips the rest."""
    for s in memory.ram:
        first = s.offset + -s.start % page
        firsts = image.sample(first, s.offset + s.present, page)
        i = firsts.find(needle[:1])
        while i >= 0:
            at = first + i * page
            if image.read(at, len(needle)) == needle:
                yield Hit(s.start + at - s.offset, at)
            i = firsts.find(needle[:1], i + 1)
