"""Segment maps: what the builder writes, the reader must find; what isn't mapped, it must say."""

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kvmlib.errors import FormatError, NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate.build_segmap import SegmentBuilder
from kvmlib.translate.segmap import SUN4, SUN4C, SUN4M, SegmentMap, sun3_form, sun3_map, sun4_map, sun4m_map

BASE = 0xF0000000
SUN3 = {"name": "sun3", "kernbase": 0x0E000000, "segshift": 17, "pg_frame": 0x7FFFF, "pg_valid": 1 << 31}
SUN2 = {"name": "sun2", "kernbase": 0x6000, "segshift": 15, "pg_frame": 0xFFF, "pg_valid": 1 << 31}
Pages = dict[int, int]  # va -> pa


def nothing(pa: int, n: int) -> bytes:
    raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=4096)


def sun4(pages: Pages, cputype: int) -> SegmentMap:
    form = SUN4C if cputype else SUN4
    builder = SegmentBuilder(form, BASE, 1024)
    for va, pa in pages.items():
        builder.map(va, pa, 1 << form.page_shift, 1 << 30)
    groups = builder.groups(spare=3)
    cpu = bytes(48) + builder.sun4_records(groups) + groups.pmegs
    counts = {"nsegmap": 1024, "segmapoffset": 48, "npmeg": groups.total, "pmegoffset": 48 + 16384}
    return sun4_map({"cputype": cputype, "kernbase": BASE, **counts}, cpu, "big")


def sun4m(pages: Pages) -> SegmentMap:
    builder = SegmentBuilder(SUN4M, BASE, 1024)
    for va, pa in pages.items():
        builder.map(va, pa, 4096, 1 << 7)
    at = [0x10000]

    def alloc(n: int) -> int:
        at[0] += 3 * n
        return at[0] - n

    records, tables = builder.sun4m_records(alloc)

    def read(pa: int, n: int) -> bytes:
        for start, data in tables.items():
            if start <= pa and pa + n <= start + len(data):
                return data[pa - start : pa - start + n]
        return nothing(pa, n)

    return sun4m_map({"kernbase": BASE, "nsegmap": 1024, "segmapoffset": 48}, bytes(48) + records, "big", read)


def sun3(pages: Pages, hdr: dict[str, Any], page_shift: int, segments: int) -> SegmentMap:
    builder = SegmentBuilder(sun3_form(hdr, page_shift), hdr["kernbase"], segments)
    for va, pa in pages.items():
        builder.map(va, pa, 1 << page_shift, 1 << (29 if page_shift == 11 else 30))
    groups = builder.groups(invalid=255)
    cpu = bytes((1 << page_shift) - 8) + groups.pmegs
    return sun3_map({**hdr, "ksegmap": groups.numbers}, cpu, page_shift, "big")


#: name -> (makes a map, its base, page shift, segment shift, segments, words for an invalid page)
KINDS: dict[str, tuple[Callable[[Pages], SegmentMap], int, int, int, int, str]] = {
    "sun4": (lambda p: sun4(p, 0), BASE, 13, 18, 1024, "invalid address (0x"),
    "sun4c": (lambda p: sun4(p, 1), BASE, 12, 18, 1024, "invalid address (0x"),
    "sun4m": (sun4m, BASE, 12, 18, 1024, "invalid address (0x"),
    "sun3": (lambda p: sun3(p, SUN3, 13, 256), 0x0E000000, 13, 17, 256, "page not valid (VA=0x"),
    "sun2": (lambda p: sun3(p, SUN2, 11, 512), 0x6000, 11, 15, 512, "page not valid (VA=0x"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def some_pages(kind: str, dice: random.Random) -> Pages:
    """Pages side by side, alone, first and last of a segment, and at both ends of the map; pa in no order."""
    _, base, page_shift, segment_shift, segments, _ = KINDS[kind]
    page, top = 1 << page_shift, min(base + (segments << segment_shift), 1 << 32)
    found = {base, top - page, base + (5 << segment_shift), base + (6 << segment_shift) - page}
    found |= {base + (9 << segment_shift) + i * page for i in range(4)}
    found |= {dice.randrange(base, top) // page * page for _ in range(20)}
    frames = dice.sample(range(1, 4000), len(found))
    return {va: pa * page for va, pa in zip(sorted(found), frames, strict=True)}


@kinds
@given(st.randoms(use_true_random=False))
def test_pages_translate_and_nothing_else_does(kind: str, dice: random.Random) -> None:
    make, base, page_shift, segment_shift, segments, words = KINDS[kind]
    pages, page = some_pages(kind, dice), 1 << page_shift
    tables = make(pages)
    top = min(base + (segments << segment_shift), 1 << 32)
    points = {va + at for va in pages for at in (-1, 0, 1, page - 1, page)} | {
        dice.randrange(1 << 32) for _ in range(20)
    }
    for va in points - {1 << 32}:
        home = va // page * page
        last = tables.walk(va)[-1]
        if home in pages:
            assert tables.kvatop(va) == (pages[home] + va - home, page - (va - home))
            assert (last.outcome, last.pa) == ("page", pages[home] + va - home)
            assert "V" in last.flags or kind == "sun4m"
            continue
        with pytest.raises(TranslationError) as e:
            tables.kvatop(va)
        assert (last.outcome == "outside") == (not base <= va < top)
        assert last.note == str(e.value)
        if base <= va < top:
            assert words in str(e.value)
        assert not any(va < other + page and other < va + e.value.size for other in pages)
    found = [(m.va, m.pa, m.size) for m in tables.ranges(0, 1 << 32)]
    assert found == [(va, pa, page) for va, pa in sorted(pages.items())]


@kinds
def test_ranges_are_cut(kind: str) -> None:
    make, base, page_shift, _, _, _ = KINDS[kind]
    page = 1 << page_shift
    tables = make({base: 7 * page, base + page: 9 * page})
    found = [(m.va, m.pa, m.size) for m in tables.ranges(base + 16, base + page + 8)]
    assert found == [(base + 16, 7 * page + 16, page - 16), (base + page, 9 * page, 8)]
    assert next(tables.ranges(base, base + 1)).flags in (("W", "OBMEM"), ("C", "ACC=r--r--"))


@kinds
def test_below_the_kernel(kind: str) -> None:
    make, base, _, _, _, _ = KINDS[kind]
    tables = make({})
    with pytest.raises(TranslationError, match=r"not a kernel address|invalid address") as e:
        tables.kvatop(base - 5)
    assert e.value.size == 5
    for va in (-1, 1 << 32):
        with pytest.raises(TranslationError, match="does not fit"):
            tables.kvatop(va)


def test_sun4_segment_steps() -> None:
    tables = sun4({BASE + 0x40000: 0x2000}, 0)
    first, last = tables.walk(BASE + 0x40010)
    assert (first.name, first.index, first.entry, first.outcome) == ("segment map", 1, 3, "next")
    assert "in the CPU data at byte 64; PMEG 3 is in the CPU data at byte" in first.note
    assert (last.name, last.index, last.entry, last.entry_pa) == ("PMEG 3", 0, 1 << 31 | 1 << 30 | 1, None)
    assert [s.outcome for s in tables.walk(BASE)] == ["invalid"]


def test_sun4m_table_is_in_memory() -> None:
    tables = sun4m({BASE + 0x43000: 0x7000})
    first, last = tables.walk(BASE + 0x43000)
    assert first.entry == BASE + 0x10200
    assert (last.table_pa, last.entry_pa, last.entry) == (0x10200, 0x1020C, 0x702 | 1 << 7)
    assert last.flags == ("C", "ACC=r--r--", "ET=PTE")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (NotInDumpError("no", 0x10200, size=64), "0x10204, which is not in the dump"),
        (TruncatedError("no", 0x10200, 0x9000), "0x10204, which should be at file offset 0x9000"),
    ],
)
def test_a_table_that_is_not_there(error: Exception, where: str) -> None:
    record = struct.pack(">QIHBb", 0, BASE + 0x10200, 0, 64, 0)

    def read(pa: int, n: int) -> bytes:
        raise error

    tables = sun4m_map({"kernbase": BASE, "nsegmap": 1, "segmapoffset": 0}, record, "big", read)
    with pytest.raises(TranslationError, match=f"cannot read pte for {BASE + 0x1004:#x}.*{where}") as e:
        tables.kvatop(BASE + 0x1004)
    # As far as PTEs are known to be missing: 16 of them, or all that are left.
    assert e.value.size == (16 if isinstance(error, NotInDumpError) else 63) * 4096 - 4
    assert tables.walk(BASE)[-1].outcome == "unreadable"
    assert list(tables.ranges(0, 1 << 32)) == []


def test_half_a_table() -> None:
    record = struct.pack(">QIHBb", 0, BASE + 0x10000, 0, 64, 0)

    def read(pa: int, n: int) -> bytes:
        return struct.pack(">I", 0x402) if (pa, n) == (0x10008, 4) else nothing(pa, n)

    tables = sun4m_map({"kernbase": BASE, "nsegmap": 1, "segmapoffset": 0}, record, "big", read)
    assert tables.kvatop(BASE + 0x2010) == (0x4010, 0xFF0)
    assert [m.va for m in tables.ranges(0, 1 << 32)] == [BASE + 0x2000]


def test_what_the_header_counts_must_be_there() -> None:
    hdr = {"cputype": 1, "kernbase": BASE, "nsegmap": 2, "segmapoffset": 0, "npmeg": 2, "pmegoffset": 32}
    ptes = struct.pack(">64I", *[1 << 31] * 64)
    records = struct.pack(">QIHBb", 0, 0, 0, 1, 0) + struct.pack(">QIHBb", 0, 0, 200, 1, 0)
    good = sun4_map(hdr, records + 2 * ptes, "big")
    assert good.kvatop(BASE) == (0, 4096)
    with pytest.raises(TranslationError, match="PMEG 200 is none of the 2"):
        good.kvatop(BASE + 0x40000)
    with pytest.raises(FormatError, match="nsegmap is 3"):
        sun4_map({**hdr, "nsegmap": 3, "npmeg": 0}, records, "big")
    with pytest.raises(FormatError, match="npmeg is 3 at pmegoffset 0x20"):
        sun4_map({**hdr, "npmeg": 3}, records + 2 * ptes, "big")
    with pytest.raises(FormatError, match="nsegmap is 2 at segmapoffset 0xffff0000"):
        sun4m_map({**hdr, "segmapoffset": 0xFFFF0000}, records, "big", nothing)


def test_sun3_pmeg_that_was_not_stored() -> None:
    hdr = {**SUN3, "ksegmap": (1, 0)}
    cpu = bytes(8184) + struct.pack(">16I", *[1 << 31 | 5] * 16)
    tables = sun3_map(hdr, cpu, 13, "big")
    assert tables.kvatop(0x0E000000 + (1 << 17)) == (5 << 13, 8192)
    with pytest.raises(TranslationError, match="page not valid"):
        tables.kvatop(0x0E000000)


def test_what_cannot_be_mapped() -> None:
    builder = SegmentBuilder(SUN4, BASE, 2)
    builder.map(BASE, 0, 8192)
    for va, pa, size in (
        (BASE, 0, 8192),
        (BASE + 1, 0, 8192),
        (BASE, 0, 4096),
        (BASE + 0x80000, 0, 8192),
        (0, 0, 8192),
    ):
        with pytest.raises(ValueError):
            builder.map(va, pa, size)
    with pytest.raises(ValueError, match="doesn't fit"):
        builder.map(BASE + 8192, 1 << 33, 8192)
