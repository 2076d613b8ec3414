"""Page tables written from a description: what `radix` reads. For sample dumps and for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kvmlib.translate.radix import Level, Page, Paging, Pointer, address

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

#: ``alloc(n)``: the physical address of `n` bytes for a table, aligned to `n`.
Alloc = Callable[[int], int]


class Tables(NamedTuple):
    """Finished page tables.

    Attributes:
        root: the top table's physical address.
        pages: each table's physical address and bytes.
        cpu: tables that lie in the dump's CPU data and not in memory (segment maps), as a port's `SamplePlan` lays
            them out there.
    """

    root: int
    pages: dict[int, bytes]
    cpu: bytes = b""


class TableBuilder:
    """Build the tables of any `Paging` form.

    Mistakes of the caller are ValueErrors: an address that isn't aligned, a page size that this form doesn't have, an
    entry used twice.
    """

    def __init__(self, paging: Paging, order: ByteOrder, alloc: Alloc, table_bits: int = 0) -> None:
        """Start with an empty root table; `table_bits` are further bits of entries that point to a table."""
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
        depth, kind = self._page_kind(shift)
        level = self.paging.levels[depth]
        page, each = 1 << (kind.shift or level.shift), 1 << level.shift
        if va % page or pa % page or size % page:
            raise ValueError(f"va {va:#x}, pa {pa:#x} and size {size:#x} must be multiples of {page:#x}")
        for at in range(0, size, page):
            for copy in range(0, page, each):
                self._put(depth, va + at + copy, self._entry(level, kind, pa + at, bits))

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

    def _page_kind(self, shift: int | None) -> tuple[int, Page]:
        """Return the depth and kind of the entries for pages of that size."""
        if shift is None:
            shift = self.paging.levels[-1].shift
        for depth, level in enumerate(self.paging.levels):
            if (kind := level.page(shift)) is not None:
                return depth, kind
        raise ValueError(f"{self.paging.name}: no entry maps a page of {1 << shift:#x} bytes")

    def _entry(self, level: Level, kind: Page | Pointer, pa: int, bits: int) -> int:
        """Return an entry of that kind that holds `pa` and these bits."""
        field = pa >> kind.left if kind.left >= 0 else pa << -kind.left
        if field & ~kind.frame or address(field, kind) != pa:
            raise ValueError(f"pa {pa:#x} doesn't fit in an entry of the {level.name}")
        entry = field | bits | kind.value
        if level.kind(entry) is not kind:
            raise ValueError(f"{entry:#x} isn't such an entry of the {level.name}: its bits say something else")
        return entry

    def _table_entry(self, level: Level, pa: int) -> int:
        kind = level.pointer
        if kind is None:
            raise ValueError(f"an entry of the {level.name} can't point to a table")
        return self._entry(level, kind, pa, self._table_bits)

    def _table(self, depth: int, va: int) -> tuple[int, list[int]]:
        """Return the table of that depth that `va` goes through, with those above it."""
        level = self.paging.levels[depth]
        key = (depth, (va & self._low) >> level.shift + level.bits)
        if key not in self._tables:
            pa = self._alloc(self.paging.entry_bytes * level.count)
            if depth:
                self._put(depth - 1, va, self._table_entry(self.paging.levels[depth - 1], pa))
            self._tables[key] = pa, [0] * level.count
        return self._tables[key]

    def _put(self, depth: int, va: int, entry: int) -> None:
        level = self.paging.levels[depth]
        index = va >> level.shift & (1 << level.bits) - 1
        entries = self._table(depth, va)[1]
        if index >= len(entries):
            raise ValueError(f"the {level.name} has {len(entries)} entries, va {va:#x} would need one more")
        if entries[index]:
            raise ValueError(f"entry {index} of the {level.name} for va {va:#x} is used already")
        entries[index] = entry
