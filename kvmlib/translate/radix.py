"""Page tables that are radix trees, described as data: one walker serves kvatop, walk and mappings.

A `Paging` form reads like the page of the CPU's manual: levels from the root down, what makes an entry valid, when it
points to another table and when it maps a page, and what its bits are called.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping as MappingType
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvmlib.errors import NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate import Mapping, ReadPhysical, Step, Translator

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

#: Decoded tables kept at most; 4 KiB each.
_KEPT = 4096
#: Tables are cut off by the page at least.
_PAGE = 4096
_TYPECODE = {4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Level:
    """One level of tables.

    Attributes:
        name: what the manual calls the table.
        shift: lowest va bit of the index.
        bits: how many va bits make the index; the table has 2**bits entries.
        next_frame: mask of the next table's address in an entry; None at the last level.
        page_frame: mask of the page's address in an entry that maps a page; None where no page can be mapped.
        page_bit: the bits that make an entry map a page where both are possible.
        flags: names of bits that mean something else at this level than in the other tables.
        unreadable, invalid: libkvm's words for the two failures, so that people find old mailing-list threads.
    """

    name: str
    shift: int
    bits: int
    next_frame: int | None
    page_frame: int | None
    unreadable: str
    invalid: str
    page_bit: int = 0
    flags: MappingType[int, str] = field(default_factory=dict)

    def maps_page(self, entry: int) -> bool:
        """Tell whether a valid entry maps a page rather than pointing to a table."""
        if self.page_frame is None:
            return False
        return self.next_frame is None or bool(entry & self.page_bit)


@dataclass(frozen=True, slots=True)
class Paging:
    """A form of paging.

    Attributes:
        name: one line for a person.
        entry_bytes: 4 or 8.
        valid: bits that must be set in an entry.
        levels: from the root down.
        flags: bit number -> the bit's name in the CPU's manual or in the kernel's headers.
        protection: mask of the flag bits that concern protection and caching, shown for mapped ranges.
        va_bits: 32 or 64: width of an address.
        canonical_bits: with 64, how many low bits count; the others must repeat the highest of them.
    """

    name: str
    entry_bytes: int
    valid: int
    levels: tuple[Level, ...]
    flags: MappingType[int, str]
    protection: int
    va_bits: int
    canonical_bits: int

    def flag_names(self, level: Level, entry: int) -> tuple[str, ...]:
        """Name the bits that are set in an entry of a table of that level."""
        return tuple(level.flags.get(bit, name) for bit, name in self.flags.items() if entry >> bit & 1)


class Radix(Translator):
    """A walker of radix page tables."""

    def __init__(self, paging: Paging, root: int, read: ReadPhysical, order: ByteOrder) -> None:
        """Walk from the table at pa `root`, with entries in byte order `order`."""
        self.paging = paging
        self.root = root
        self.name = f"{paging.name}, root table at pa {root:#x}"
        self.bits = paging.va_bits
        self._read = read
        self._order = order
        self._swap = order != sys.byteorder
        self._tables: dict[int, array[int]] = {}
        self._names: dict[tuple[int, int], tuple[str, ...]] = {}
        last = paging.levels[-1]
        self._span = last.shift + last.bits
        self._page = 1 << last.shift
        self._low = (1 << paging.canonical_bits) - 1
        self._half = 1 << (paging.canonical_bits - 1)
        self._top = 1 << paging.va_bits
        #: Last-level tables by the va bits above them: the short cut that makes kvatop two look-ups.
        self._leaves: dict[int, array[int]] = {}

    # -- addresses ---------------------------------------------------------------------------------------------------

    def _outside(self, va: int) -> tuple[str, int] | None:
        """Say why `va` can't be an address of this machine, and how far that goes; None if it can."""
        if not 0 <= va < self._top:
            return f"va {va:#x} does not fit in {self.bits} bits", 1
        if self._low + 1 < self._top and self._half <= va < self._top - self._half:
            n = self.paging.canonical_bits
            return (
                f"va {va:#x} is not canonical: bits {n - 1} to {self.bits - 1} must be equal",
                self._top - self._half - va,
            )
        return None

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, level: Level, pa: int) -> array[int]:
        """Return the whole table at `pa`, decoded."""
        table = self._tables.get(pa)
        if table is None or len(table) != 1 << level.bits:
            if len(self._tables) >= _KEPT:
                self._tables.clear()
                self._leaves.clear()
            table = self._tables[pa] = self._decode(self._read(pa, self.paging.entry_bytes << level.bits))
        return table

    def _decode(self, data: bytes) -> array[int]:
        table = array(_TYPECODE[self.paging.entry_bytes], data)
        if self._swap:
            table.byteswap()
        return table

    def _entry(self, level: Level, pa: int, index: int) -> int:
        """Return one entry of the table at `pa`, even where only a part of that table is in the dump."""
        try:
            return self._table(level, pa)[index]
        except (NotInDumpError, TruncatedError):
            size = self.paging.entry_bytes
            return int.from_bytes(self._read(pa + size * index, size), self._order)

    # -- one address -------------------------------------------------------------------------------------------------

    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, bytes left in the page)."""
        leaf = self._leaves.get(va >> self._span)
        if leaf is not None:
            level = self.paging.levels[-1]
            entry = leaf[va >> level.shift & (1 << level.bits) - 1]
            if entry & self.paging.valid == self.paging.valid:
                offset = va & self._page - 1
                return (entry & level.page_frame) | offset, self._page - offset  # type: ignore[operator]
        return self._descend(va)

    def _descend(self, va: int) -> tuple[int, int]:
        outside = self._outside(va)
        if outside:
            raise TranslationError(outside[0], va, outside[1])
        pa = self.root
        valid = self.paging.valid
        for level in self.paging.levels:
            index = va >> level.shift & (1 << level.bits) - 1
            try:
                entry = self._entry(level, pa, index)
            except (NotInDumpError, TruncatedError) as e:
                # Only as far as entries are known to be missing: other parts of the table may be there.
                each = self.paging.entry_bytes
                gap = e.size if isinstance(e, NotInDumpError) else _PAGE - (pa + each * index) % _PAGE
                missing = max(1, min(gap // each, (1 << level.bits) - index))
                size = (missing << level.shift) - (va & (1 << level.shift) - 1)
                raise TranslationError(self._unreadable(level, va, pa, e), va, size) from e
            offset = va & (1 << level.shift) - 1
            if entry & valid != valid:
                raise TranslationError(self._invalid(level, va, pa, index, entry), va, (1 << level.shift) - offset)
            if level.maps_page(entry):
                if level.next_frame is None and (table := self._tables.get(pa)) is not None:
                    self._leaves[va >> self._span] = table
                assert level.page_frame is not None
                return (entry & level.page_frame) + offset, (1 << level.shift) - offset
            assert level.next_frame is not None
            pa = entry & level.next_frame
        raise AssertionError("the last level maps pages")

    def _unreadable(self, level: Level, va: int, pa: int, why: NotInDumpError | TruncatedError) -> str:
        where = "which is not in the dump"
        if isinstance(why, TruncatedError):
            where = f"which should be at file offset {why.offset:#x}, but the file ends before it"
        what = level.unreadable.format(va=va)
        return f"va {va:#x} cannot be translated: {what}, the {level.name} is at pa {pa:#x}, {where}"

    def _invalid(self, level: Level, va: int, pa: int, index: int, entry: int) -> str:
        what = level.invalid.format(va=va)
        return f"va {va:#x} is not mapped: {what}, entry {index} of the {level.name} at pa {pa:#x} is {entry:#x}"

    def walk(self, va: int) -> list[Step]:
        """Return each level's step."""
        outside = self._outside(va)
        if outside:
            return [Step("virtual address", None, None, None, None, None, (), "outside", None, 0, 0, outside[0])]
        steps: list[Step] = []
        pa = self.root
        for level in self.paging.levels:
            step = self._step(level, pa, va)
            steps.append(step)
            if step.outcome != "next" or step.pa is None:
                break
            pa = step.pa
        return steps

    def _step(self, level: Level, pa: int, va: int) -> Step:
        index = va >> level.shift & (1 << level.bits) - 1
        entry_pa = pa + self.paging.entry_bytes * index

        def step(entry: int | None, outcome: str, to: int | None, note: str) -> Step:
            flags = self.paging.flag_names(level, entry) if entry is not None else ()
            return Step(level.name, pa, index, entry_pa, None, entry, flags, outcome, to, level.shift, level.bits, note)  # type: ignore[arg-type]

        try:
            entry = self._entry(level, pa, index)
        except (NotInDumpError, TruncatedError) as e:
            return step(None, "unreadable", None, self._unreadable(level, va, pa, e))
        if entry & self.paging.valid != self.paging.valid:
            return step(entry, "invalid", None, self._invalid(level, va, pa, index, entry))
        if level.maps_page(entry):
            assert level.page_frame is not None
            to = (entry & level.page_frame) + (va & (1 << level.shift) - 1)
            return step(entry, "page", to, f"maps a page of {_size(1 << level.shift)}: va {va:#x} is pa {to:#x}")
        assert level.next_frame is not None
        to = entry & level.next_frame
        return step(entry, "next", to, f"the next table is at pa {to:#x}")

    # -- all addresses -----------------------------------------------------------------------------------------------

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield every mapped page in [start, stop), cut at its ends."""
        for m in self._pages(0, self.root, 0, start, stop):
            if start <= m.va and m.va + m.size <= stop:
                yield m
            elif (low := max(start, m.va)) < (high := min(stop, m.va + m.size)):
                yield Mapping(low, m.pa + low - m.va, high - low, m.flags)

    def _pages(self, depth: int, pa: int, base: int, start: int, stop: int) -> Iterator[Mapping]:
        level = self.paging.levels[depth]
        valid, shift, page_frame, next_frame = self.paging.valid, level.shift, level.page_frame, level.next_frame
        protection = self.paging.protection
        size = 1 << shift
        for index, entry in self._present(level, pa):
            if entry & valid != valid:
                continue
            va = base + (index << shift)
            if depth == 0 and self._low + 1 < self._top and va & self._half:
                va += self._top - self._low - 1
            if va + size <= start or va >= stop:
                continue
            if page_frame is not None and (next_frame is None or entry & level.page_bit):
                bits = entry & protection
                flags = self._names.get((depth, bits))
                if flags is None:
                    flags = self._names[depth, bits] = self.paging.flag_names(level, bits)
                yield Mapping(va, entry & page_frame, size, flags)
            else:
                yield from self._pages(depth + 1, entry & next_frame, va, start, stop)  # type: ignore[operator]

    def _present(self, level: Level, pa: int) -> Iterator[tuple[int, int]]:
        """Yield the entries of a table that are in the dump."""
        try:
            yield from enumerate(self._table(level, pa))
        except (NotInDumpError, TruncatedError):
            for index in range(1 << level.bits):
                try:
                    yield index, self._entry(level, pa, index)
                except (NotInDumpError, TruncatedError):
                    continue


def _size(n: int) -> str:
    """Spell a power of two as the manuals do."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n >> shift:
            return f"{n >> shift} {unit}"
    return f"{n} bytes"
