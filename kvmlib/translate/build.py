"""Page tables written from a description: what `radix` reads. For sample dumps and for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder
    from kvmlib.translate.radix import Level, Paging

#: ``alloc(n)``: the physical address of `n` bytes for a table, aligned to `n`.
Alloc = Callable[[int], int]


class Tables(NamedTuple):
    """Finished page tables: the root's physical address, and each table's address and bytes."""

    root: int
    pages: dict[int, bytes]


class TableBuilder:
    """Build the tables of any `Paging` form.

    Mistakes of the caller are ValueErrors: an address that isn't aligned, a page size that this form doesn't have, an
    entry used twice.
    """

    def __init__(self, paging: Paging, order: ByteOrder, alloc: Alloc, table_bits: int = 0) -> None:
        """Start with an empty root table; `table_bits` are set in entries that point to a table, besides `valid`."""
        self.paging = paging
        self.order = order
        self._alloc = alloc
        self._table_bits = table_bits
        self._low = (1 << paging.canonical_bits) - 1
        #: (depth, va bits above the table) -> (pa, entries).
        self._tables: dict[tuple[int, int], tuple[int, list[int]]] = {}
        self.root = self._table(0, 0)[0]

    def map(self, va: int, pa: int, size: int, bits: int = 0, shift: int | None = None) -> None:
        """Map `size` bytes at `va` to `pa` in pages of 1 << `shift` bytes, the smallest by default, with these bits."""
        depth = self._depth(self.paging.levels[-1].shift if shift is None else shift)
        level = self.paging.levels[depth]
        page = 1 << level.shift
        if va % page or pa % page or size % page:
            raise ValueError(f"va {va:#x}, pa {pa:#x} and size {size:#x} must be multiples of {page:#x}")
        for at in range(0, size, page):
            self._put(depth, va + at, self._page_entry(level, pa + at, bits))

    def put(self, va: int, shift: int, entry: int) -> None:
        """Write `entry` as it is where `va` selects it in a table of the level with that shift: for odd cases."""
        self._put(self._depth(shift), va, entry)

    def put_table(self, va: int, shift: int, pa: int) -> None:
        """Let the entry for `va` at the level with that shift point to a table at `pa`, which isn't built here."""
        depth = self._depth(shift)
        self._put(depth, va, self._table_entry(self.paging.levels[depth], pa))

    def self_map(self, index: int, bits: int = 0) -> None:
        """Make root entry `index` (and those behind it, where the root takes several pages) point to the root itself.

        This is how the x86 kernels see their own page tables, at a fixed range of virtual addresses.
        """
        top, below = self.paging.levels[0], self.paging.levels[1]
        step = self.paging.entry_bytes << below.bits
        root = self._tables[0, 0][0]
        for i in range(max(1, (self.paging.entry_bytes << top.bits) // step)):
            self._put(0, index + i << top.shift, self._table_entry(top, root + i * step) | bits)

    def finish(self) -> Tables:
        """Return the tables' bytes."""
        size = self.paging.entry_bytes
        pages = {pa: b"".join(e.to_bytes(size, self.order) for e in table) for pa, table in self._tables.values()}
        return Tables(self.root, pages)

    def _depth(self, shift: int) -> int:
        for depth, level in enumerate(self.paging.levels):
            if level.shift == shift:
                return depth
        raise ValueError(f"{self.paging.name}: no level has entries for {1 << shift:#x} bytes")

    def _page_entry(self, level: Level, pa: int, bits: int) -> int:
        if level.page_frame is None:
            raise ValueError(f"an entry of the {level.name} can't map a page")
        if pa & ~level.page_frame:
            raise ValueError(f"pa {pa:#x} doesn't fit in an entry of the {level.name}")
        entry = pa | bits | self.paging.valid
        if not level.maps_page(entry):
            entry |= level.page_bit
        return entry

    def _table_entry(self, level: Level, pa: int) -> int:
        if level.next_frame is None or pa & ~level.next_frame:
            raise ValueError(f"an entry of the {level.name} can't point to a table at pa {pa:#x}")
        return pa | self._table_bits | self.paging.valid

    def _table(self, depth: int, va: int) -> tuple[int, list[int]]:
        """Return the table of that depth that `va` goes through, with those above it."""
        level = self.paging.levels[depth]
        key = (depth, (va & self._low) >> level.shift + level.bits)
        if key not in self._tables:
            pa = self._alloc(self.paging.entry_bytes << level.bits)
            if depth:
                self._put(depth - 1, va, self._table_entry(self.paging.levels[depth - 1], pa))
            self._tables[key] = pa, [0] * (1 << level.bits)
        return self._tables[key]

    def _put(self, depth: int, va: int, entry: int) -> None:
        level = self.paging.levels[depth]
        index = va >> level.shift & (1 << level.bits) - 1
        entries = self._table(depth, va)[1]
        if entries[index]:
            raise ValueError(f"entry {index} of the {level.name} for va {va:#x} is used already")
        entries[index] = entry
