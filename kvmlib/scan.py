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


def hits(image: Image, memory: PhysicalMemory, needle: bytes, *, align: int = 1, most: int = _MOST) -> Iterator[Hit]:
    """Yield where `needle` lies in memory, segment by segment, at addresses that are multiples of `align`.

    What lies across the ends of two segments isn't found. After `most` hits, those between the multiples of `align`
    counted too, the search ends.
    """
    left = most
    for s in memory.ram:
        for at in image.places(needle, s.offset, s.offset + s.present):
            if not left:
                return
            left -= 1
            pa = s.start + at - s.offset
            if pa % align == 0:
                yield Hit(pa, at)


def page_hits(image: Image, memory: PhysicalMemory, needle: bytes, page: int) -> Iterator[Hit]:
    """Yield the pages (of `page` bytes) that begin with `needle`: much faster than `hits`, as it skips the rest."""
    # Most pages begin with a zero, and so does a big-endian number.
    telling = next((i for i, byte in enumerate(needle) if byte), 0)
    byte = needle[telling : telling + 1]
    for s in memory.ram:
        first = s.offset + -s.start % page
        samples = image.sample(first + telling, s.offset + s.present, page)
        i = samples.find(byte)
        while i >= 0:
            at = first + i * page
            if image.read(at, len(needle)) == needle:
                yield Hit(s.start + at - s.offset, at)
            i = samples.find(byte, i + 1)
