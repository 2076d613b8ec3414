"""Page tables that are radix trees, described as data: one walker serves kvatop, walk and mappings.

A `Paging` form reads like the page of the CPU's manual: levels from the root down, what makes an entry valid, when it
points to another table and when it maps a page, and what its bits are called.
"""

from __future__ import annotations

import functools
import operator
import sys
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping as MappingType
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from kvmlib.errors import NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate import Outcome, Range, ReadPhysical, Step, Translator

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

#: Decoded tables kept at most; 4 KiB each.
_KEPT = 4096
#: Tables are cut off by the page at least.
_PAGE = 4096
_TYPECODE = {4: "I", 8: "Q"}


class Page(NamedTuple):
    """An entry that maps memory.

    Attributes:
        mask, value: an entry is one of these when ``entry & mask == value``.
        frame: mask of the bits that hold the page's address.
        left: how far these bits are shifted left to make it; negative: right.
        shift: the page has 1 << `shift` bytes; None where it is as large as what the entry stands for. A larger page
            stands in several entries, all alike (ARM's large pages).
    """

    mask: int
    value: int
    frame: int
    left: int = 0
    shift: int | None = None


class Pointer(NamedTuple):
    """An entry that points to another table.

    Attributes:
        mask, value, frame, left: as in `Page`.
        below: the form of that table; None for the next one in `Paging.levels`.
    """

    mask: int
    value: int
    frame: int
    left: int = 0
    below: Level | None = None


class Hole(NamedTuple):
    """An entry that maps nothing, though what follows in `Level.entries` would take it for something."""

    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Level:
    """One level of tables.

    Attributes:
        name: what the manual calls the table.
        shift: lowest va bit of the index.
        bits: how many va bits make the index; the table has 2**bits entries.
        entries: what an entry can be, the first that fits counts; one that fits none is invalid.
        unreadable, invalid: libkvm's words for the two failures, so that people find old mailing-list threads.
        flags: names of bits that mean something else at this level than in the other tables.
        own_flags: the names of all bits at this level, where the others' don't matter.
        words: names the flags of an entry where they are no single bits.
        size: entries that the table has, where they are fewer than 2**bits.
    """

    name: str
    shift: int
    bits: int
    entries: tuple[Page | Pointer | Hole, ...]
    unreadable: str
    invalid: str
    flags: MappingType[int, str] = field(default_factory=dict)
    own_flags: MappingType[int, str] | None = None
    words: Callable[[int], tuple[str, ...]] | None = None
    size: int | None = None

    def kind(self, entry: int) -> Page | Pointer | None:
        """Return what `entry` is, None when it is invalid."""
        for kind in self.entries:
            if entry & kind.mask == kind.value:
                return None if isinstance(kind, Hole) else kind
        return None

    @property
    def deciding(self) -> int:
        """The bits of an entry that say what it is."""
        return functools.reduce(operator.or_, (kind.mask for kind in self.entries), 0)

    @property
    def count(self) -> int:
        """Entries in a table."""
        return 1 << self.bits if self.size is None else self.size

    def page(self, shift: int | None = None) -> Page | None:
        """Return the kind of entry that maps a page of 1 << `shift` bytes, by default of what an entry stands for."""
        wanted = self.shift if shift is None else shift
        return next((k for k in self.entries if isinstance(k, Page) and (k.shift or self.shift) == wanted), None)

    @property
    def pointer(self) -> Pointer | None:
        """The first kind of entry that points to another table."""
        return next((k for k in self.entries if isinstance(k, Pointer)), None)


def address(entry: int, kind: Page | Pointer) -> int:
    """Return the physical address in an entry of that kind."""
    return (entry & kind.frame) << kind.left if kind.left >= 0 else (entry & kind.frame) >> -kind.left


@dataclass(frozen=True, slots=True)
class Paging:
    """A form of paging.

    Attributes:
        name: one line for a person.
        entry_bytes: 4 or 8.
        levels: from the root down.
        flags: bit number -> the bit's name in the CPU's manual or in the kernel's headers.
        protection: mask of the flag bits that concern protection and caching, shown for mapped ranges.
        va_bits: 32 or 64: width of an address.
        canonical_bits: how many low bits count, where not all do.
        base: where the addresses lie that these tables are for, a multiple of 1 << canonical_bits: only they are
            translated. None: of the bits above canonical_bits, all must repeat the highest of those that count.
        alias: bits above canonical_bits are ignored: each address has others that mean the same.
    """

    name: str
    entry_bytes: int
    levels: tuple[Level, ...]
    flags: MappingType[int, str]
    protection: int
    va_bits: int
    canonical_bits: int
    base: int | None = None
    alias: bool = False

    def flag_names(self, level: Level, entry: int) -> tuple[str, ...]:
        """Name the bits that are set in an entry of a table of that level."""
        if level.words is not None:
            return level.words(entry)
        names = self.flags if level.own_flags is None else level.own_flags
        return tuple(level.flags.get(bit, names[bit]) for bit in self.flag_bits(level, entry))

    def flag_bits(self, level: Level, entry: int) -> tuple[int, ...]:
        """Return the bits that `flag_names` names, in the same order; none where the names are no single bits'."""
        if level.words is not None:
            return ()
        return tuple(bit for bit in (self.flags if level.own_flags is None else level.own_flags) if entry >> bit & 1)


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
        #: What entries are and the names of their protection bits, for each level, by the bits that decide both.
        self._meanings: dict[str, dict[int, tuple[Page | Pointer | None, tuple[str, ...], int, int]]] = {}
        #: Tables, by their level's name and pa, that map nothing: where tables point to themselves or to one another,
        #: `ranges` would come to the same ones again and again.
        self._barren: set[tuple[str, int]] = set()
        last = paging.levels[-1]
        self._span = last.shift + last.bits
        self._page = 1 << last.shift
        self._low = (1 << paging.canonical_bits) - 1
        self._half = 1 << (paging.canonical_bits - 1)
        self._top = 1 << paging.va_bits
        #: Last-level tables by the va bits above them: the short cut that makes kvatop two look-ups.
        self._leaves: dict[int, array[int]] = {}
        leaf = last.entries[0]
        one_kind = len(last.entries) == 1 and isinstance(leaf, Page) and leaf.shift is None and last.size is None
        straight = all(k.below is None for lv in paging.levels for k in lv.entries if isinstance(k, Pointer))
        self._short_cut = leaf if one_kind and straight and isinstance(leaf, Page) else None
        left = self._short_cut.left if self._short_cut else 0
        self._left, self._right = max(left, 0), max(-left, 0)
        self._last = (1 << last.bits) - 1

    # -- addresses ---------------------------------------------------------------------------------------------------

    def _outside(self, va: int) -> tuple[str, int] | None:
        """Say why `va` can't be an address of this machine, and how far that goes; None if it can."""
        p = self.paging
        if not 0 <= va < self._top:
            return f"va {va:#x} does not fit in {self.bits} bits", 1
        if p.alias or self._low + 1 == self._top:
            return None
        if p.base is not None:
            if p.base <= va <= p.base + self._low:
                return None
            gap = p.base - va if va < p.base else self._top - va
            return f"va {va:#x} is none of these tables': they are for {p.base:#x} to {p.base + self._low:#x}", gap
        if self._half <= va < self._top - self._half:
            n = p.canonical_bits
            return (
                f"va {va:#x} is not canonical: bits {n - 1} to {self.bits - 1} must be equal",
                self._top - self._half - va,
            )
        return None

    def _lift(self, va: int) -> int:
        """Return the address that a table's low va bits stand for."""
        if self.paging.base is not None:
            return self.paging.base + va
        if self._low + 1 < self._top and not self.paging.alias and va & self._half:
            return va + self._top - self._low - 1
        return va

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, level: Level, pa: int) -> array[int]:
        """Return the whole table at `pa`, decoded."""
        table = self._tables.get(pa)
        if table is None or len(table) != level.count:
            if len(self._tables) >= _KEPT:
                self._tables.clear()
                self._leaves.clear()
            table = self._tables[pa] = self._decode(self._read(pa, self.paging.entry_bytes * level.count))
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

    def _missing(self, level: Level, pa: int, index: int, why: NotInDumpError | TruncatedError) -> int:
        """Return how many entries from `index` on are known to be missing: other parts of the table may be there."""
        each = self.paging.entry_bytes
        gap = why.size if isinstance(why, NotInDumpError) else _PAGE - (pa + each * index) % _PAGE
        return max(1, min(gap // each, level.count - index))

    # -- one address -------------------------------------------------------------------------------------------------

    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, bytes left in the page)."""
        leaf = self._leaves.get(va >> self._span)
        if leaf is not None:
            kind, page = self._short_cut, self._page
            entry = leaf[va // page & self._last]
            if entry & kind.mask == kind.value:  # type: ignore[union-attr]
                offset = va & page - 1
                # address(), without the call.
                return ((entry & kind.frame) << self._left >> self._right) + offset, page - offset  # type: ignore[union-attr]
        return self._descend(va)

    def pages(self, va: int, n: int) -> Iterator[tuple[int, int]]:
        """Yield (pa, bytes) of each page, or part of one, that the `n` bytes at `va` lie in."""
        kind, page, top = self._short_cut, self._page, self._top - 1
        left, right = self._left, self._right
        while n > 0:
            pa, m = self.kvatop(va)
            if m >= n:
                yield pa, n
                return
            yield pa, m
            va = va + m & top
            n -= m
            leaf = self._leaves.get(va >> self._span)
            if leaf is None or kind is None:
                continue
            # What follows in the same table, as far as it is whole pages.
            mask, value, frame = kind.mask, kind.value, kind.frame
            index, more = va // page & self._last, 0
            for entry in leaf[index : index + n // page]:
                if entry & mask != value:
                    break
                yield (entry & frame) << left >> right, page
                more += page
            va = va + more & top
            n -= more

    def _descend(self, va: int) -> tuple[int, int]:
        outside = self._outside(va)
        if outside:
            raise TranslationError(outside[0], va, outside[1])
        pa, level, depth = self.root, self.paging.levels[0], 0
        while True:
            index = va >> level.shift & (1 << level.bits) - 1
            offset = va & (1 << level.shift) - 1
            if index >= level.count:
                raise TranslationError(
                    self._behind(level, va, pa, index), va, ((1 << level.bits) - index << level.shift) - offset
                )
            try:
                entry = self._entry(level, pa, index)
            except (NotInDumpError, TruncatedError) as e:
                missing = self._missing(level, pa, index, e)
                raise TranslationError(self._unreadable(level, va, pa, e), va, (missing << level.shift) - offset) from e
            kind = level.kind(entry)
            if kind is None:
                raise TranslationError(self._invalid(level, va, pa, index, entry), va, (1 << level.shift) - offset)
            if isinstance(kind, Page):
                if self._short_cut is kind and (table := self._tables.get(pa)) is not None:
                    self._leaves[va >> self._span] = table
                return self._in_page(level, kind, pa, va, entry)
            pa = address(entry, kind)
            depth += 1
            level = kind.below or self.paging.levels[depth]

    def _in_page(self, level: Level, kind: Page, table: int, va: int, entry: int) -> tuple[int, int]:
        """Return (pa, bytes left) of `va` in the page that `entry` of the table at `table` maps."""
        own = (1 << level.shift) - (va & (1 << level.shift) - 1)
        if kind.shift is None or kind.shift == level.shift:
            return address(entry, kind) + (va & (1 << level.shift) - 1), own
        offset = va & (1 << kind.shift) - 1
        # A large page stands in several entries. Where one of them differs, the page ends there.
        index = va >> level.shift & (1 << level.bits) - 1
        last = (va - offset + (1 << kind.shift) - 1) >> level.shift & (1 << level.bits) - 1
        for i in range(index + 1, last + 1):
            try:
                if i >= level.count or self._entry(level, table, i) != entry:
                    break
            except (NotInDumpError, TruncatedError):
                break
            own += 1 << level.shift
        return address(entry, kind) + offset, min(own, (1 << kind.shift) - offset)

    def _unreadable(self, level: Level, va: int, pa: int, why: NotInDumpError | TruncatedError) -> str:
        where = "which is not in the dump"
        if isinstance(why, TruncatedError):
            where = f"which should be at file offset {why.offset:#x}, but the file ends before it"
        what = level.unreadable.format(va=va)
        return f"va {va:#x} cannot be translated: {what}, the {level.name} is at pa {pa:#x}, {where}"

    def _invalid(self, level: Level, va: int, pa: int, index: int, entry: int) -> str:
        what = level.invalid.format(va=va, entry=entry)
        return f"va {va:#x} is not mapped: {what}, entry {index} of the {level.name} at pa {pa:#x} is {entry:#x}"

    def _behind(self, level: Level, va: int, pa: int, index: int) -> str:
        what = level.invalid.format(va=va)
        return (
            f"va {va:#x} is not mapped: {what}, the {level.name} at pa {pa:#x} has {level.count} entries, not {index}"
        )

    def walk(self, va: int) -> list[Step]:
        """Return each level's step."""
        outside = self._outside(va)
        if outside:
            return [Step("virtual address", None, None, None, None, None, (), "outside", None, 0, 0, outside[0])]
        steps: list[Step] = []
        pa, level = self.root, self.paging.levels[0]
        while True:
            step, kind = self._step(level, pa, va)
            steps.append(step)
            if not isinstance(kind, Pointer) or step.pa is None:
                return steps
            pa, level = step.pa, kind.below or self.paging.levels[len(steps)]

    def _step(self, level: Level, pa: int, va: int) -> tuple[Step, Page | Pointer | None]:
        index = va >> level.shift & (1 << level.bits) - 1
        entry_pa = pa + self.paging.entry_bytes * index

        def step(entry: int | None, outcome: Outcome, to: int | None, note: str) -> Step:
            flags = self.paging.flag_names(level, entry) if entry is not None else ()
            bits = self.paging.flag_bits(level, entry) if entry is not None else ()
            place, part = (level.name, pa, index, entry_pa, None), (level.shift, level.bits)
            return Step(*place, entry, flags, outcome, to, *part, note, flag_bits=bits)

        if index >= level.count:
            return step(None, "invalid", None, self._behind(level, va, pa, index)), None
        try:
            entry = self._entry(level, pa, index)
        except (NotInDumpError, TruncatedError) as e:
            return step(None, "unreadable", None, self._unreadable(level, va, pa, e)), None
        kind = level.kind(entry)
        if kind is None:
            return step(entry, "invalid", None, self._invalid(level, va, pa, index, entry)), None
        if isinstance(kind, Page):
            shift = level.shift if kind.shift is None else kind.shift
            to = address(entry, kind) + (va & (1 << shift) - 1)
            found = step(entry, "page", to, f"maps a page of {_size(1 << shift)}: va {va:#x} is pa {to:#x}")
            return replace(found, page_shift=kind.shift), kind
        to = address(entry, kind)
        return step(entry, "next", to, f"the next table is at pa {to:#x}"), kind

    # -- all addresses -----------------------------------------------------------------------------------------------

    def ranges(self, start: int, stop: int) -> Iterator[Range]:
        """Yield every mapped page in [start, stop), cut at its ends."""
        return self._pages(self.paging.levels[0], 0, self.root, 0, start, stop)

    def _pages(
        self, level: Level, depth: int, pa: int, base: int, start: int, stop: int
    ) -> Generator[Range, None, bool]:
        """Yield the pages in [start, stop) of the table at `pa`, cut at its ends; tell whether there were any."""
        shift = level.shift
        size = 1 << shift
        meanings = self._meanings.setdefault(level.name, {})
        deciding = level.deciding | self.paging.protection
        found = False
        for index, entry in self._present(level, pa):
            meaning = meanings.get(entry & deciding)
            if meaning is None:
                if len(meanings) >= _KEPT:
                    meanings.clear()
                meaning = meanings[entry & deciding] = self._meaning(level, entry)
            kind, flags, left, right = meaning
            if kind is None:
                continue
            va = base + (index << shift)
            if depth == 0:
                va = self._lift(va)
            end = va + size
            if end <= start or va >= stop:
                continue
            # address(), without the call.
            to = (entry & kind.frame) << left >> right
            if isinstance(kind, Page):
                if kind.shift is not None:
                    to += va & (1 << kind.shift) - 1
                found = True
                if start <= va and end <= stop:
                    yield va, to, size, flags
                else:
                    low = max(start, va)
                    yield low, to + low - va, min(stop, end) - low, flags
                continue
            below = kind.below or self.paging.levels[depth + 1]
            if (below.name, to) in self._barren:
                continue
            if (yield from self._pages(below, depth + 1, to, va, start, stop)):
                found = True
            elif start <= va and end <= stop:
                self._barren.add((below.name, to))
        return found

    def _meaning(self, level: Level, entry: int) -> tuple[Page | Pointer | None, tuple[str, ...], int, int]:
        """Return what an entry is, its protection in words, and how far its frame is shifted left and right."""
        kind = level.kind(entry)
        if kind is None:
            return None, (), 0, 0
        flags = self.paging.flag_names(level, entry & self.paging.protection) if isinstance(kind, Page) else ()
        return kind, flags, max(kind.left, 0), max(-kind.left, 0)

    def _present(self, level: Level, pa: int) -> Iterator[tuple[int, int]]:
        """Return the entries of a table that are in the dump."""
        try:
            return enumerate(self._table(level, pa))
        except (NotInDumpError, TruncatedError):
            return self._parts(level, pa)

    def _parts(self, level: Level, pa: int) -> Iterator[tuple[int, int]]:
        """Do what `_present` does, run by run: a table may be large, and damage may promise a larger one."""
        each, index, n = self.paging.entry_bytes, 0, level.count
        while n:
            at = pa + each * index
            try:
                part = self._read(at, each * n)
            except (NotInDumpError, TruncatedError) as e:
                if n > 1:
                    # What there is before it, or else the one entry.
                    n = max(1, (e.pa - at) // each)
                    continue
                index += self._missing(level, pa, index, e)
            else:
                yield from enumerate(self._decode(part), index)
                index += n
            n = level.count - index


def _size(n: int) -> str:
    """Spell a power of two as the manuals do."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n >> shift:
            return f"{n >> shift} {unit}"
    return f"{n} bytes"
