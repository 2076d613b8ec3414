"""A PowerPC's hashed page table written from its form: what `hashed` reads. For sample dumps and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvmlib.translate.build import Alloc, Tables
from kvmlib.translate.hashed import OEA, PteForm

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_TOP = 1 << 32
_PAGE = 4096
_SLOTS = 8
_DIRECT = 1 << 31


class HashedBuilder:
    """Build the hashed page table of any `PteForm`.

    Mistakes of the caller are ValueErrors: an address that isn't aligned or doesn't fit, a direct-store segment, a page
    mapped twice, a page for which both PTEGs are full, a table size that the form doesn't have.

    Attributes:
        root: the table's physical address.
        sdr1: the value of SDR1 that says where the table is and how large.
    """

    def __init__(
        self, order: ByteOrder, alloc: Alloc, segments: Sequence[int], groups: int = 0, form: PteForm = OEA
    ) -> None:
        """Start with an empty table of `groups` PTEGs (0: as few as the form allows).

        `segments` are the values of the 16 segment registers. Registers with the same VSID share their pages.
        """
        if len(segments) != 16:
            raise ValueError(f"a PowerPC has 16 segment registers, not {len(segments)}")
        smallest = 1 << form.low_bits
        groups = groups or smallest
        more = groups // smallest - 1
        field = more if form.size_is_mask else groups.bit_length() - 1 - form.low_bits
        if groups.bit_count() != 1 or groups < smallest or field > form.size_field:
            raise ValueError(f"a {form.name} can't have {groups} PTEGs")
        self.form = form
        self.order = order
        self.segments = tuple(segments)
        self.root = alloc(groups * form.group_bytes)
        if self.root % (groups * form.group_bytes) or self.root >> 8 * form.word:
            raise ValueError(f"a table of {groups} PTEGs can't be at pa {self.root:#x}")
        self.sdr1 = self.root | field
        self._mask = groups - 1
        self._groups: list[list[tuple[int, int] | None]] = [[None] * _SLOTS for _ in range(groups)]
        self._mapped: set[tuple[int, int]] = set()

    def map(self, va: int, pa: int, size: int, bits: int = 0, secondary: bool = False) -> None:
        """Map `size` bytes at `va` to `pa` in pages of 4 KiB, with these bits in each entry's second word.

        An entry goes to the primary PTEG, to the secondary one where that is full, or at once if `secondary`.
        """
        if va % _PAGE or pa % _PAGE or size % _PAGE:
            raise ValueError(f"va {va:#x}, pa {pa:#x} and size {size:#x} must be multiples of {_PAGE:#x}")
        if not 0 <= va <= va + size <= _TOP:
            raise ValueError(f"{size:#x} bytes at va {va:#x} don't fit in 32 bits")
        if not 0 <= pa <= pa + size <= 1 << 8 * self.form.word:
            raise ValueError(f"{size:#x} bytes at pa {pa:#x} don't fit in an entry")
        if not 0 <= bits < _PAGE:
            raise ValueError(f"the bits {bits:#x} are a part of the page's address")
        for at in range(0, size, _PAGE):
            self._map(va + at, pa + at | bits, secondary)

    def _map(self, va: int, word: int, secondary: bool) -> None:
        vsid, index = self._page(va)
        if (vsid, index) in self._mapped:
            raise ValueError(f"va {va:#x} is mapped already")
        primary, other = (self._groups[self.form.hash(vsid, index, which) & self._mask] for which in (False, True))
        secondary = secondary or None not in primary
        group = other if secondary else primary
        if None not in group:
            raise ValueError(f"there is no room left for va {va:#x}")
        group[group.index(None)] = self.form.first_word(vsid, index, secondary), word
        self._mapped.add((vsid, index))

    def put(self, va: int, first: int, second: int, secondary: bool = False, slot: int | None = None) -> None:
        """Write an entry's two words as they are to a PTEG of the page at `va`: for odd cases.

        It goes to `slot`, which must be free, or to the first one that is.
        """
        vsid, index = self._page(va)
        group = self._groups[self.form.hash(vsid, index, secondary) & self._mask]
        if not 0 <= min(first, second) <= max(first, second) < 1 << 8 * self.form.word:
            raise ValueError(f"{first:#x} and {second:#x} are not two words of {self.form.word} bytes")
        if slot is None:
            if None not in group:
                raise ValueError(f"there is no room left for va {va:#x}")
            slot = group.index(None)
        if not 0 <= slot < _SLOTS or group[slot] is not None:
            raise ValueError(f"entry {slot} of the PTEG for va {va:#x} can't be used, or is already")
        group[slot] = first, second

    def _page(self, va: int) -> tuple[int, int]:
        """Return the VSID and the page index of `va`."""
        if not 0 <= va < _TOP:
            raise ValueError(f"va {va:#x} doesn't fit in 32 bits")
        segment = self.segments[va >> 28]
        if segment & _DIRECT:
            raise ValueError(f"va {va:#x} lies in a direct-store segment")
        return self.form.vsid(segment), va >> 12 & 0xFFFF

    def finish(self) -> Tables:
        """Return the table's bytes."""
        size = self.form.word
        words = (word for group in self._groups for entry in group for word in entry or (0, 0))
        return Tables(self.root, {self.root: b"".join(word.to_bytes(size, self.order) for word in words)})
