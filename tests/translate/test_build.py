"""What the builder writes, the walker must read: any form of radix tree, both byte orders."""

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from kvmlib.errors import NotInDumpError, TranslationError
from kvmlib.kcore import ByteOrder
from kvmlib.ports.x86_paging import AMD64, i386, i386_pae
from kvmlib.translate import Mapping
from kvmlib.translate.build import TableBuilder
from kvmlib.translate.radix import Level, Page, Paging, Pointer, Radix

WORDS = ("could not read", "invalid")
I386 = i386(WORDS, WORDS)
PAE = i386_pae(WORDS, WORDS)
RW = 2


@dataclass
class Memory:
    """Page tables' memory; tables are put at places that don't follow one another."""

    pages: dict[int, bytes] = field(default_factory=dict)
    taken: int = 0

    def alloc(self, n: int) -> int:
        at = -(-(self.taken + n) // n) * n
        self.taken = at + n
        return at

    def read(self, pa: int, n: int) -> bytes:
        for start, data in self.pages.items():
            if start <= pa and pa + n <= start + len(data):
                return data[pa - start : pa - start + n]
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=4096 - pa % 4096)


class Range(NamedTuple):
    va: int
    pa: int
    size: int
    shift: int


def radix(builder: TableBuilder, memory: Memory) -> Radix:
    tables = builder.finish()
    memory.pages = tables.pages
    return Radix(builder.paging, tables.root, memory.read, builder.order)


def synthetic(entry_bytes: int, va_bits: int, page_shift: int, bits: list[int], valid: int) -> Paging:
    """A form that no CPU has: tables of odd sizes, valid and page bits that aren't x86's."""
    frame = ((1 << 8 * entry_bytes) - 1) & ~0xFF
    levels: list[Level] = []
    shift = page_shift
    for i, width in enumerate(bits):
        page_frame = frame & ~((1 << shift) - 1) & ((1 << 8 * entry_bytes) - 1)
        page = 0x40 if i else 0
        kinds: tuple[Page | Pointer, ...] = (Page(mask=valid | page, value=valid | page, frame=page_frame),)
        if i:
            kinds += (Pointer(mask=valid, value=valid, frame=frame),)
        levels.insert(0, Level(f"level {i}", shift, width, kinds, "no read", "no entry"))
        shift += width
    return Paging("synthetic", entry_bytes, tuple(levels), {1: "RW"}, 2, va_bits, min(shift, va_bits))


def page_frame(level: Level) -> int:
    kind = level.page()
    assert kind is not None
    return kind.frame


@st.composite
def pagings(draw: st.DrawFn) -> Paging:
    known = draw(st.sampled_from([AMD64, I386, PAE, None]))
    if known is not None:
        return known
    entry_bytes = draw(st.sampled_from([4, 8]))
    page_shift = draw(st.integers(10, 13))
    bits = draw(st.lists(st.integers(6, 9), min_size=2, max_size=4 if entry_bytes == 8 else 2))
    return synthetic(entry_bytes, 8 * entry_bytes, page_shift, bits, draw(st.sampled_from([1, 0x21, 0x80])))


@st.composite
def spaces(draw: st.DrawFn) -> tuple[Paging, ByteOrder, list[Range]]:
    """An address space: ranges that don't overlap, many of them side by side or at the ends."""
    paging = draw(pagings())
    top = 1 << paging.canonical_bits
    ranges: list[Range] = []
    for _ in range(draw(st.integers(1, 12))):
        level = draw(st.sampled_from([lv for lv in paging.levels if lv.page() is not None]))
        page = 1 << level.shift
        last = top // page - 1
        number = draw(st.one_of(st.integers(0, 3), st.integers(0, last), st.integers(max(0, last - 3), last)))
        size = page * min(draw(st.integers(1, 4)), last - number + 1)
        pa = draw(st.integers(0, 200)) * page & page_frame(level)
        low = number * page
        if low >= top // 2 and paging.canonical_bits < paging.va_bits:
            low += (1 << paging.va_bits) - top
        crosses = low < top // 2 < low + size and paging.canonical_bits < paging.va_bits
        fits = (pa + size - 1) & ~(page_frame(level) | page - 1) == 0
        if fits and not crosses and all(low + size <= r.va or r.va + r.size <= low for r in ranges):
            ranges.append(Range(low, pa, size, level.shift))
    return paging, draw(st.sampled_from(["little", "big"])), sorted(ranges)


def build(paging: Paging, order: ByteOrder, ranges: list[Range]) -> Radix:
    memory = Memory()
    builder = TableBuilder(paging, order, memory.alloc)
    for r in ranges:
        builder.map(r.va, r.pa, r.size, RW, r.shift)
    return radix(builder, memory)


@given(spaces(), st.data())
def test_every_mapped_address_translates(space: tuple[Paging, ByteOrder, list[Range]], data: st.DataObject) -> None:
    paging, order, ranges = space
    tables = build(paging, order, ranges)
    for r in ranges:
        for at in {0, 1, r.size - 1, r.size // 2, data.draw(st.integers(0, r.size - 1))}:
            pa, n = tables.kvatop(r.va + at)
            assert pa == r.pa + at
            assert n == (1 << r.shift) - at % (1 << r.shift)
            steps = tables.walk(r.va + at)
            assert (steps[-1].outcome, steps[-1].pa) == ("page", pa)


@given(spaces(), st.data())
def test_nothing_else_translates(space: tuple[Paging, ByteOrder, list[Range]], data: st.DataObject) -> None:
    paging, order, ranges = space
    tables = build(paging, order, ranges)
    points = {p for r in ranges for p in (r.va - 1, r.va + r.size)} | {
        data.draw(st.integers(0, (1 << paging.va_bits) - 1))
    }
    for va in points:
        if any(r.va <= va < r.va + r.size for r in ranges):
            continue
        with pytest.raises(TranslationError) as e:
            tables.kvatop(va)
        assert e.value.size >= 1
        assert not any(va < r.va + r.size and r.va < va + e.value.size for r in ranges)


@given(spaces())
def test_mappings_are_what_was_mapped(space: tuple[Paging, ByteOrder, list[Range]]) -> None:
    paging, order, ranges = space
    joined: list[Mapping] = []
    for r in ranges:
        last = joined[-1] if joined else None
        if last and last.va + last.size == r.va and last.pa + last.size == r.pa:
            joined[-1] = last._replace(size=last.size + r.size)
        else:
            joined.append(Mapping(r.va, r.pa, r.size, ("RW",)))
    assert [m._replace(flags=("RW",)) for m in build(paging, order, ranges).mappings()] == joined


@given(spaces())
def test_tables_are_disjoint_and_whole(space: tuple[Paging, ByteOrder, list[Range]]) -> None:
    paging, order, ranges = space
    memory = Memory()
    builder = TableBuilder(paging, order, memory.alloc)
    for r in ranges:
        builder.map(r.va, r.pa, r.size, RW, r.shift)
    tables = builder.finish()
    assert len(tables.pages[tables.root]) == paging.entry_bytes << paging.levels[0].bits
    ends = sorted((pa, pa + len(data)) for pa, data in tables.pages.items())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("paging", "slot", "base"),
    [(AMD64, 255, 0x7F8000000000), (I386, 831, 0xCFC00000), (PAE, 1660, 0xCF800000)],
    ids=["amd64", "i386", "pae"],
)
def test_self_map_shows_the_tables(paging: Paging, slot: int, base: int) -> None:
    memory = Memory()
    builder = TableBuilder(paging, "little", memory.alloc, RW)
    va, pa = 0xD0345000, 0x123000
    builder.map(va, pa, 0x1000, RW)
    builder.self_map(slot)
    tables = radix(builder, memory)
    entry_pa = tables.kvatop(base + (va >> 12) * paging.entry_bytes)[0]
    entry = int.from_bytes(memory.read(entry_pa, paging.entry_bytes), "little")
    assert entry & ~0xFFF == pa
    # Four page directories take four entries, and the last of them shows itself as well.
    assert entry_pa == tables.walk(va)[-1].entry_pa


def test_odd_entries() -> None:
    memory = Memory()
    builder = TableBuilder(AMD64, "little", memory.alloc)
    builder.put_table(0xFFFF800000200000, 21, 0x7777000)
    builder.put(0xFFFF800000400000, 12, 0x5AA000)
    tables = radix(builder, memory)
    with pytest.raises(TranslationError, match="0x7777000, which is not in the dump") as e:
        tables.kvatop(0xFFFF800000201000)
    assert e.value.size == 0x1FF000
    with pytest.raises(TranslationError, match="is 0x5aa000") as e:
        tables.kvatop(0xFFFF800000400010)
    assert e.value.size == 0xFF0
    assert list(tables.mappings()) == []


def test_table_bits_are_only_in_entries_for_tables() -> None:
    memory = Memory()
    builder = TableBuilder(I386, "big", memory.alloc, 0x60)
    builder.map(0x1000, 0x5000, 0x1000)
    steps = radix(builder, memory).walk(0x1000)
    assert [s.entry & 0xFFF for s in steps if s.entry is not None] == [0x61, 0x1]


@pytest.mark.parametrize(
    ("va", "pa", "size", "shift"),
    [
        (0x1001, 0, 0x1000, None),
        (0x1000, 1, 0x1000, None),
        (0x1000, 0, 0x800, None),
        (0x1000, 0, 0x200000, 21),
        (0, 0, 0x1000, 13),
        (0, 0, 1 << 39, 39),
        (0, 1 << 52, 0x1000, None),
    ],
)
def test_what_cannot_be_mapped(va: int, pa: int, size: int, shift: int | None) -> None:
    builder = TableBuilder(AMD64, "little", Memory().alloc)
    with pytest.raises(ValueError):
        builder.map(va, pa, size, shift=shift)


def test_nothing_is_mapped_twice() -> None:
    builder = TableBuilder(AMD64, "little", Memory().alloc)
    builder.map(0x200000, 0, 0x200000, shift=21)
    with pytest.raises(ValueError, match="used already"):
        builder.map(0x201000, 0x1000, 0x1000)
