"""Segment maps: what the builder writes, the reader must find; what isn't mapped, it must say."""

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kvmlib.errors import FormatError, NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate.build_segmap import SegmentBuilder
from kvmlib.translate.segmap import (
    SUN4,
    SUN4C,
    SUN4M,
    SegmentForm,
    SegmentMap,
    sun3_form,
    sun3_map,
    sun4_map,
    sun4m_map,
)

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
    with pytest.raises(ValueError, match="part of the page's number"):
        builder.map(BASE + 8192, 0, 8192, 1)


# -- any CPU data at all, against the recipe -------------------------------------------------------------------------

# Too many numbers for a strategy to draw them one by one.
seeds = st.integers(0, 1 << 32).map(random.Random)


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4])


def sparc_recipe(hdr: dict[str, Any], cpu: bytes, memory: dict[int, int], va: int) -> int | None:
    """The pa of `va` as kvm_sparc.c gets it, but for its pages of 8196 bytes."""
    if va < hdr["kernbase"]:
        return None
    number = ((va >> 24 & 255) - (hdr["kernbase"] >> 24)) * 64 + (va >> 18 & 63)
    if number >= hdr["nsegmap"]:
        return None
    record = cpu[hdr["segmapoffset"] + 16 * number :][:16]
    if record[14] == 0:
        return None
    if hdr["cputype"] == 2:
        pte = memory.get((word(record, 8) + 4 * (va >> 12 & 63) - hdr["kernbase"]) % (1 << 32))
        return None if pte is None or pte & 3 != 2 else ((pte & 0xFFFFFF00) << 4) % (1 << 32) + (va & 4095)
    pmeg, shift = int.from_bytes(record[12:14]), 13 if hdr["cputype"] == 0 else 12
    if pmeg >= hdr["npmeg"] - 1:
        return None
    ptes = 1 << 18 - shift
    pte = word(cpu, hdr["pmegoffset"] + 4 * (pmeg * ptes + (va >> shift) % ptes))
    return ((pte & 0x7FFFF) << shift) + va % (1 << shift) if pte >> 31 else None


def sun3_recipe(hdr: dict[str, Any], cpu: bytes, page_shift: int, va: int) -> int | None:
    """The pa of `va` as kvm_sun3.c and kvm_sun2.c get it: the PTE's number is not counted from kernbase."""
    number = va - hdr["kernbase"] >> hdr["segshift"]
    if not 0 <= number < len(hdr["ksegmap"]):
        return None
    at = (1 << page_shift) - 8 + 64 * hdr["ksegmap"][number]
    if at + 64 > len(cpu):
        return None
    pte = word(cpu, at + 4 * ((va & 15 << page_shift) >> page_shift))
    return ((pte & hdr["pg_frame"]) << page_shift) + va % (1 << page_shift) if pte >> 31 else None


def agrees(tables: SegmentMap, recipe: Callable[[int], int | None], points: set[int], page_shift: int) -> None:
    """Hold kvatop, walk and ranges to the recipe at these points, and so the hole that an error names."""
    page = 1 << page_shift
    found = list(tables.ranges(0, 1 << 32))
    assert [m.va for m in found] == sorted({m.va for m in found})
    mapped = {m.va: m.pa for m in found}
    for va in points:
        pa, last = recipe(va), tables.walk(va)[-1]
        assert last.pa == pa
        if pa is not None:
            assert tables.kvatop(va) == (pa, page - va % page)
            assert mapped[va - va % page] + va % page == pa
            assert last.outcome == "page"
            continue
        assert va - va % page not in mapped
        with pytest.raises(TranslationError) as e:
            tables.kvatop(va)
        assert str(e.value) == last.note
        # All of the hole is one, and it goes at least to the end of the page.
        assert e.value.size >= page - va % page
        ends = range(va - va % page, min(va + e.value.size, 1 << 32), page)
        step = max(1, len(ends) // 64)
        assert not any(recipe(at) is not None for at in (*ends[1::step], va + e.value.size - 1))


def edges(base: int, segment: int, count: int, page: int, dice: random.Random) -> set[int]:
    starts = {base + segment * n for n in (0, 1, count - 1, count, *(dice.randrange(count) for _ in range(20)))}
    starts |= {s + page * dice.randrange(segment // page) for s in starts}
    points = {s + d for s in starts for d in (-1, 0, 1, page - 1)} | {0, (1 << 32) - 1}
    return {p for p in points if 0 <= p < 1 << 32}


@pytest.mark.parametrize("base", [0xF0000000, 0xE8000000])
@pytest.mark.parametrize("cputype", [0, 1])
@settings(max_examples=20)
@given(dice=seeds)
def test_any_sun4(cputype: int, base: int, dice: random.Random) -> None:
    # Sometimes fewer segments than there are addresses, or more.
    count = ((1 << 32) - base >> 18) + dice.choice([-100, 0, 3])
    npmeg, first, gap = dice.randrange(1, 9), dice.randrange(32, 80), dice.randrange(16)
    records = b"".join(
        struct.pack(">QIHBb", 0, dice.getrandbits(32), dice.randrange(npmeg + 2), dice.choice([0, 1, 255]), -1)
        for _ in range(count)
    )
    cpu = bytes(first) + records + bytes(gap) + dice.randbytes(npmeg * (128 if cputype == 0 else 256))
    counts = {"nsegmap": count, "segmapoffset": first, "npmeg": npmeg, "pmegoffset": first + len(records) + gap}
    hdr = {"cputype": cputype, "kernbase": base, **counts}
    page_shift = 12 if cputype else 13
    points = edges(base, 1 << 18, count, 1 << page_shift, dice)
    agrees(sun4_map(hdr, cpu, "big"), lambda va: sparc_recipe(hdr, cpu, {}, va), points, page_shift)


@settings(max_examples=20)
@given(dice=seeds)
def test_any_sun4m(dice: random.Random) -> None:
    # Tables may lie anywhere, across the end of what was dumped, and across the end of the 32 bits.
    starts = [0x10000, 0x10100, 0x20000 - 128, 0x30004, 0xFFFFFF80]
    memory = {(pa + 4 * i) % (1 << 32): dice.getrandbits(32) & ~1 for pa in starts for i in range(64)}
    memory = {pa: pte for pa, pte in memory.items() if not 0x20000 <= pa < 0x20020}
    count = 120
    places = [(pa + BASE) % (1 << 32) for pa in [*starts, 0x50000]]
    cpu = b"".join(
        struct.pack(">QIHBb", 0, dice.choice(places), dice.getrandbits(16), dice.choice([0, 1, 64]), 0)
        for _ in range(count)
    )
    hdr = {"cputype": 2, "kernbase": BASE, "nsegmap": count, "segmapoffset": 0}

    def read(pa: int, n: int) -> bytes:
        missing = [at for at in range(pa, pa + n, 4) if at not in memory]
        if missing:
            end = missing[0]
            while end not in memory and end < missing[0] + 4096:
                end += 4
            raise NotInDumpError("no", missing[0], size=end - missing[0])
        return b"".join(memory[at].to_bytes(4) for at in range(pa, pa + n, 4))

    points = edges(BASE, 1 << 18, count, 4096, dice)
    agrees(sun4m_map(hdr, cpu, "big", read), lambda va: sparc_recipe(hdr, cpu, memory, va), points, 12)


@pytest.mark.parametrize(("hdr", "page_shift", "count"), [(SUN3, 13, 256), (SUN2, 11, 512)], ids=["sun3", "sun2"])
@settings(max_examples=20)
@given(dice=seeds)
def test_any_sun3(hdr: dict[str, Any], page_shift: int, count: int, dice: random.Random) -> None:
    full = {**hdr, "ksegmap": tuple(dice.randrange(12) for _ in range(count))}
    # The last of ten PMEGs is cut off.
    cpu = bytes((1 << page_shift) - 8) + dice.randbytes(640 - dice.randrange(1, 64))
    points = edges(hdr["kernbase"], 1 << hdr["segshift"], count, 1 << page_shift, dice)
    tables = sun3_map(full, cpu, page_shift, "big")
    agrees(tables, lambda va: sun3_recipe(full, cpu, page_shift, va), points, page_shift)


def test_a_map_that_reaches_the_top() -> None:
    hdr = {**SUN3, "kernbase": 0xFFFFE000, "ksegmap": (0, 0)}
    cpu = bytes(8184) + struct.pack(">16I", *[1 << 31 | 5] * 16)
    tables = sun3_map(hdr, cpu, 13, "big")
    assert tables.kvatop(0xFFFFFFFF) == ((5 << 13) + 0x1FFF, 1)
    assert [(m.va, m.size) for m in tables.ranges(0, 1 << 33)] == [(0xFFFFE000, 0x2000)]
    for va in (1 << 32, 0x100000010):
        with pytest.raises(TranslationError, match="does not fit in 32 bits"):
            tables.kvatop(va)


# -- how far a hole goes ---------------------------------------------------------------------------------------------


@kinds
def test_how_far_a_hole_goes(kind: str) -> None:
    make, base, page_shift, segment_shift, segments, _ = KINDS[kind]
    page, segment, top = 1 << page_shift, 1 << segment_shift, base + (KINDS[kind][4] << segment_shift)
    tables = make({base + segment: 3 * page})

    def hole(va: int) -> int:
        with pytest.raises(TranslationError) as e:
            tables.kvatop(va)
        return e.value.size

    # A page of a segment that has others, then below the map and above it.
    assert hole(base + segment + page + 7) == page - 7
    assert hole(0) == base
    assert top == 1 << 32 or hole(top + 9) == (1 << 32) - top - 9
    # A segment that isn't mapped; on sun3 and sun2 it has a PMEG like the others, of PTEs that aren't valid.
    whole = kind.startswith("sun4")
    assert hole(base + 3 * segment + 5) == (segment if whole else page) - 5
    assert hole(base + segments * segment - 1) == 1


# -- what PTEs say ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "pte", "flags", "shown"),
    [
        (SUN4, 0xF3800000, "V W S X A M IOC OBMEM", "W S X OBMEM"),
        (SUN4, 0x8C000000, "V VME32", "VME32"),
        (SUN4C, 0xA4000000, "V S OBIO", "S OBIO"),
        (SUN4C, 0x80800000, "V OBMEM", "OBMEM"),
        (SUN4M, 0xFE, "C M R ACC=rwx--- ET=PTE", "C ACC=rwx---"),
        (SUN4M, 0x15, "ACC=rw-r-- ET=PTD", "ACC=rw-r--"),
        (sun3_form(SUN3, 13), 0xFB000000, "V W S X A M VME16", "W S X VME16"),
        (sun3_form(SUN2, 11), 0xA8F00000, "V W S A M VME8/MBIO", "W S VME8/MBIO"),
    ],
)
def test_flags(form: SegmentForm, pte: int, flags: str, shown: str) -> None:
    assert " ".join(form.flag_names(pte)) == flags
    assert " ".join(form.flag_names(pte, form.protection)) == shown


@pytest.mark.parametrize(
    ("pte", "pa", "says"),
    [(0x1234502, 0x12345000, ""), (0xF1234502, 0x12345000, "0xf12345010"), (0xFFFFFF02, 0xFFFFF000, "0xffffff010")],
)
def test_a_sun4m_address_has_36_bits_of_which_the_kernel_keeps_32(pte: int, pa: int, says: str) -> None:
    record = struct.pack(">QIHBb", 0, BASE, 0, 64, 0)
    hdr = {"kernbase": BASE, "nsegmap": 1, "segmapoffset": 0}
    tables = sun4m_map(hdr, record, "big", lambda at, n: pte.to_bytes(4) * (n // 4))
    assert tables.kvatop(BASE + 16) == (pa + 16, 4080)
    note = tables.walk(BASE + 16)[-1].note
    assert f"the PTE says {says}" in note if says else "the PTE says" not in note


# -- tables and headers ----------------------------------------------------------------------------------------------


def test_little_endian_records_and_ptes() -> None:
    record = struct.pack("<QIHBb", 0, BASE + 0x100, 0, 64, 0)
    hdr = {"kernbase": BASE, "nsegmap": 1, "segmapoffset": 0}
    tables = sun4m_map(hdr, record, "little", lambda at, n: struct.pack("<64I", *range(0x402, 0x442)))
    assert tables.kvatop(BASE) == (0x4000, 4096)


def test_a_table_is_read_once() -> None:
    asked: list[tuple[int, int]] = []
    record = struct.pack(">QIHBb", 0, BASE + 0x100, 0, 64, 0)

    def read(pa: int, n: int) -> bytes:
        asked.append((pa, n))
        return struct.pack(">I", 0x402) * (n // 4)

    tables = sun4m_map({"kernbase": BASE, "nsegmap": 2, "segmapoffset": 0}, 2 * record, "big", read)
    for va in (BASE, BASE + 0x3000, BASE + 0x40000):
        tables.kvatop(va)
        tables.walk(va)
    assert len(list(tables.ranges(0, 1 << 32))) == 128
    assert asked == [(0x100, 256)]


@pytest.mark.parametrize("kernbase", [0xF0800000, 0xF0000004])
def test_the_kernel_begins_with_a_region(kernbase: int) -> None:
    hdr = {"cputype": 1, "kernbase": kernbase, "nsegmap": 0, "segmapoffset": 0, "npmeg": 0, "pmegoffset": 0}
    with pytest.raises(FormatError, match=f"kernbase is {kernbase:#x}"):
        sun4_map(hdr, b"", "big")
    with pytest.raises(FormatError, match=f"kernbase is {kernbase:#x}"):
        sun4m_map(hdr, b"", "big", nothing)


@pytest.mark.parametrize(("change", "why"), [({"segshift": 18}, "segshift is 18"), ({"pg_frame": 1 << 19}, "pg_frame")])
def test_numbers_that_are_no_sun3(change: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        sun3_map({**SUN3, "ksegmap": (0,), **change}, bytes(10000), 13, "big")


def test_pmegs_run_out() -> None:
    builder = SegmentBuilder(SUN4, BASE, 4)
    for n in range(3):
        builder.map(BASE + (n << 18), 0, 8192)
    assert builder.groups(invalid=3).total == 4
    with pytest.raises(ValueError, match="3 segments need more PMEGs than 2"):
        builder.groups(invalid=2)
