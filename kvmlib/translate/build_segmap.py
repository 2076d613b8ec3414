"""Segment maps written from a description: what `segmap` reads. For sample dumps and for tests."""

from __future__ import annotations

import struct
from typing import NamedTuple

from kvmlib.translate.build import Alloc
from kvmlib.translate.segmap import SegmentForm

_TOP = 1 << 32
_RECORD = struct.Struct(">QIHBb")


class Groups(NamedTuple):
    """PMEGs, and which of them maps each segment.

    Attributes:
        numbers: of each segment from the map's base on.
        pmegs: the bytes of all PMEGs, the invalid one last.
        total: how many these are.
    """

    numbers: tuple[int, ...]
    pmegs: bytes
    total: int


class SegmentBuilder:
    """Build the map of any `SegmentForm`, big-endian.

    Mistakes of the caller are ValueErrors: an address that isn't aligned or isn't in the map, a page mapped twice.
    """

    def __init__(self, form: SegmentForm, base: int, segments: int) -> None:
        """Start with nothing mapped in a map of so many segments from va `base` on."""
        self.form = form
        self.base = base
        self.segments = segments
        #: segment -> its PTEs.
        self._ptes: dict[int, list[int]] = {}

    def map(self, va: int, pa: int, size: int, bits: int = 0) -> None:
        """Map `size` bytes at `va` to `pa`, with these bits in each PTE."""
        form = self.form
        page = 1 << form.page_shift
        if va % page or pa % page or size % page:
            raise ValueError(f"va {va:#x}, pa {pa:#x} and size {size:#x} must be multiples of {page:#x}")
        if bits & form.frame:
            raise ValueError(f"bits {bits:#x} are a part of the page's number")
        for at in range(pa, pa + size, page):
            frame = at >> form.frame_shift
            if frame & ~form.frame:
                raise ValueError(f"pa {at:#x} doesn't fit in a PTE")
            self.put(va + at - pa, frame | bits | form.valid[1])

    def put(self, va: int, pte: int) -> None:
        """Write `pte` as it is where `va` selects it: for odd cases."""
        form = self.form
        number = va - self.base >> form.segment_shift
        if not 0 <= number < self.segments:
            raise ValueError(f"va {va:#x} is in none of the map's {self.segments} segments")
        ptes = self._ptes.setdefault(number, [0] * form.ptes)
        index = va >> form.page_shift & form.ptes - 1
        if ptes[index]:
            raise ValueError(f"va {va:#x} is mapped already")
        ptes[index] = pte

    def groups(self, spare: int = 0, invalid: int | None = None) -> Groups:
        """Put the PTEs into PMEGs, numbered from `spare` on, in an order that isn't the segments'.

        `invalid` is the number of the last, invalid PMEG: 255 on sun3 and sun2; None: the next free one.
        """
        order = sorted(self._ptes, key=lambda n: (n * 7 % 5, n))
        number = {segment: spare + i for i, segment in enumerate(order)}
        last = spare + len(order) if invalid is None else invalid
        if spare + len(order) > last:
            raise ValueError(f"{len(order)} segments need more PMEGs than {last}")
        pmegs = [bytes(4 * self.form.ptes)] * (last + 1)
        for segment, i in number.items():
            pmegs[i] = struct.pack(f">{self.form.ptes}I", *self._ptes[segment])
        return Groups(tuple(number.get(n, last) for n in range(self.segments)), b"".join(pmegs), last + 1)

    def _count(self, number: int) -> int:
        """sg_npte: how many PTEs of a segment are in use."""
        return sum(map(bool, self._ptes.get(number, ())))

    def sun4_records(self, groups: Groups) -> bytes:
        """Return the segment records (struct segmap) of a sun4 or sun4c."""
        return b"".join(_RECORD.pack(0, 0, pmeg, self._count(n), 0) for n, pmeg in enumerate(groups.numbers))

    def sun4m_records(self, alloc: Alloc) -> tuple[bytes, dict[int, bytes]]:
        """Return the segment records of a sun4m, and the page tables: pa -> bytes."""
        pages: dict[int, bytes] = {}
        records = []
        for n in range(self.segments):
            sg_pte = 0
            if n in self._ptes:
                pa = alloc(4 * self.form.ptes)
                pages[pa] = struct.pack(f">{self.form.ptes}I", *self._ptes[n])
                sg_pte = (pa + self.base) % _TOP
            records.append(_RECORD.pack(0, sg_pte, 0, self._count(n), 0))
        return b"".join(records), pages
