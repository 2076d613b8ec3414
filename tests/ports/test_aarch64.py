"""NetBSD/aarch64: both headers, every granule, each kind of entry at each level, the two registers in words."""

import struct

import pytest

import kvmlib
from kvmlib.errors import FormatError
from kvmlib.kcore import RamSeg
from kvmlib.ports import netbsd_aarch64
from kvmlib.ports.aarch64_paging import Regime, page_words, table_words
from kvmlib.ports.aarch64_plan import TCR
from kvmlib.ports.base import Machine, Mmu, Settled
from kvmlib.translate import Mapping, Translator
from tests.ports.arm_memory import Memory, headers, why
from tests.samples import sample_in

MACHINE = netbsd_aarch64.MACHINE
BIG = MACHINE.forms[0]
K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
#: TG1 by log2 of the granule.
TG1 = {12: 2, 14: 1, 16: 3}
GRANULES = (12, 14, 16)


def tcr(granule: int, inputs: int = 48, ips: int = 5) -> int:
    return ips << 32 | TG1[granule] << 30 | (64 - inputs) << 16


def data_2018(tcr1: int = tcr(12), ttbr1: int = 0, segments: tuple[RamSeg, ...] = (), order: str = "<") -> bytes:
    head = struct.pack(order + "QQQ", tcr1, ttbr1, len(segments))
    return (head + b"".join(struct.pack(order + "QQ", *s) for s in segments)).ljust(496, b"\0")


def data_2014(tcr1: int = tcr(12), ttbr1: int = 0, segments: tuple[RamSeg, ...] = ()) -> bytes:
    return (struct.pack("<QQ", tcr1, ttbr1) + b"".join(struct.pack("<QQ", *s) for s in segments)).ljust(496, b"\0")


def settled(data: bytes, machine: Machine = MACHINE) -> Settled:
    assert machine.settle is not None
    return machine.settle(machine, headers(data, machine.abi.kcore_hdr()), lambda at, n: b"", 0)


def ram(data: bytes, machine: Machine = MACHINE) -> list[RamSeg]:
    m = settled(data, machine).machine
    assert m.ram is not None
    return m.ram(m, data, m.parse_cpu_hdr(data))


# -- header ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "order"), [(MACHINE, "<"), (BIG, ">")], ids=["little", "big"])
def test_each_field_is_where_the_kernel_puts_it(machine: Machine, order: str) -> None:
    raw = struct.pack(order + "QQQ", 11, 22, 33)
    assert machine.parse_cpu_hdr(raw) == {"kh_tcr1": 11, "kh_ttbr1": 22, "kh_nramsegs": 33}
    assert netbsd_aarch64.HDR_2014.parse(raw, machine.byteorder) == {"kh_tcr1": 11, "kh_ttbr1": 22}


SEGMENTS = (RamSeg(0x40000000, 0x80000), RamSeg(0x80000000, 0x10000))


def test_the_header_of_2018() -> None:
    data = data_2018(segments=SEGMENTS)
    assert ram(data) == list(SEGMENTS)
    m = settled(data).machine
    assert (m.least_cpu_data, m.segments_offset(m.parse_cpu_hdr(data))) == (24, 24)


def test_the_header_of_2014() -> None:
    data = data_2014(segments=SEGMENTS)
    assert ram(data) == list(SEGMENTS)
    m = settled(data).machine
    assert (m.least_cpu_data, m.segments_offset(m.parse_cpu_hdr(data))) == (16, 16)
    assert any("2014" in r for r in settled(data).reasons)
    assert not any("2014" in r for r in settled(data_2018(segments=SEGMENTS)).reasons)


def test_the_header_of_2014_with_ram_at_0() -> None:
    assert ram(data_2014(segments=(RamSeg(0, 0x80000),))) == [RamSeg(0, 0x80000)]


def test_the_header_of_2014_whose_ram_begins_between_two_large_pages() -> None:
    segments = (RamSeg(0x40003000, 0x80000), RamSeg(0x80001000, 0x10000))
    assert ram(data_2014(tcr(16), segments=segments)) == list(segments)


def test_a_header_without_segments() -> None:
    assert ram(data_2018()) == []
    assert settled(data_2018()).machine.least_cpu_data == 24


def test_as_many_segments_as_fit() -> None:
    segments = tuple(RamSeg(i << 20, 0x1000) for i in range(1, 30))
    assert ram(data_2018(segments=segments)) == list(segments)


def test_settling_again_changes_nothing() -> None:
    for data in (data_2014(tcr(16), segments=SEGMENTS), data_2018(tcr(14), segments=SEGMENTS)):
        m = settled(data).machine
        assert settled(data, m).machine == m


def test_a_settled_machine_settles_for_another_dump_too() -> None:
    other = settled(data_2014(tcr(16), segments=SEGMENTS)).machine
    again = settled(data_2018(0, segments=SEGMENTS), other).machine
    assert again.page_size == 4096
    assert ram(data_2018(0, segments=SEGMENTS), other) == list(SEGMENTS)


@pytest.mark.parametrize("count", [30, 0x7FF, 2**64 - 1])
def test_hostile_count(count: int) -> None:
    data = bytearray(data_2018(segments=SEGMENTS))
    struct.pack_into("<Q", data, 16, count)
    with pytest.raises(FormatError, match=f"{count:#x} at byte 16"):
        settled(bytes(data))


@pytest.mark.parametrize("granule", GRANULES)
def test_page_size(granule: int) -> None:
    assert settled(data_2018(tcr(granule))).machine.page_size == 1 << granule


def test_big_endian() -> None:
    data = data_2018(tcr(16), segments=SEGMENTS, order=">")
    assert ram(data, BIG) == list(SEGMENTS)
    assert settled(data, BIG).machine.page_size == 64 * K
    assert any("big-endian" in r for r in settled(data, BIG).reasons)


# -- registers ---------------------------------------------------------------------------------------------------------


def decoded(name: str, **hdr: int) -> str:
    fields = {"kh_tcr1": tcr(12), "kh_ttbr1": 0, "kh_nramsegs": 0, **hdr}
    return next(r.decoded for r in MACHINE.registers(fields) if r.name == name)


WALKS = "walks non-shareable, inner non-cacheable, outer non-cacheable"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, f"TTBR1 reserved granule, 64-bit va (T1SZ 0), {WALKS}"),
        (1 << 30, f"TTBR1 16 KiB granule, 64-bit va (T1SZ 0), {WALKS}"),
        (2 << 30, f"TTBR1 4 KiB granule, 64-bit va (T1SZ 0), {WALKS}"),
        (3 << 30, f"TTBR1 64 KiB granule, 64-bit va (T1SZ 0), {WALKS}"),
        (2 << 30 | 25 << 16, "TTBR1 4 KiB granule, 39-bit va (T1SZ 25)"),
        (1 << 24, "(T1SZ 0), walks non-shareable, inner write-back write-allocate, outer non-cacheable"),
        (2 << 26, "(T1SZ 0), walks non-shareable, inner non-cacheable, outer write-through"),
        (3 << 26, "(T1SZ 0), walks non-shareable, inner non-cacheable, outer write-back;"),
        (3 << 28, "(T1SZ 0), walks inner shareable"),
        (2 << 28, "(T1SZ 0), walks outer shareable"),
        (1 << 23, "TTBR1 off (EPD1); TTBR0"),
        (0, f"TTBR0 4 KiB granule, 64-bit va (T0SZ 0), {WALKS}"),
        (1 << 14 | 16, "TTBR0 64 KiB granule, 48-bit va (T0SZ 16)"),
        (2 << 14, "TTBR0 16 KiB granule"),
        (3 << 14, "TTBR0 reserved granule"),
        (3 << 12, "(T0SZ 0), walks inner shareable"),
        (1 << 8, "(T0SZ 0), walks non-shareable, inner write-back write-allocate, outer non-cacheable"),
        (1 << 10, "(T0SZ 0), walks non-shareable, inner non-cacheable, outer write-back write-allocate"),
        (1 << 7, "TTBR0 off (EPD0)"),
        (0, "32-bit pa (IPS 0); 8-bit ASID from TTBR0"),
        (5 << 32 | 1 << 36 | 1 << 22, "48-bit pa (IPS 5); 16-bit ASID from TTBR1"),
        (6 << 32, "52-bit pa (IPS 6)"),
        (1 << 37 | 1 << 38 | 1 << 39 | 1 << 40 | 1 << 59, "TBI0; TBI1; HA; HD; DS"),
    ],
)
def test_tcr_in_words(value: int, words: str) -> None:
    assert words in decoded("kh_tcr1", kh_tcr1=value)


def test_ttbr_in_words() -> None:
    assert decoded("kh_ttbr1", kh_ttbr1=0x40036000) == "top table at pa 0x40036000, ASID 0"
    assert decoded("kh_ttbr1", kh_ttbr1=0x0042000040036001) == "top table at pa 0x40036000, ASID 66, CnP"


def test_52_bit_tables_in_ttbr() -> None:
    far = {"kh_tcr1": tcr(16, 48, 6), "kh_ttbr1": 0x4003603C}
    assert decoded("kh_ttbr1", **far).startswith("top table at pa 0xf000040036000,")
    assert decoded("kh_ttbr1", **{**far, "kh_tcr1": tcr(16)}).startswith("top table at pa 0x4003603c,")


# -- translation -------------------------------------------------------------------------------------------------------

ROOT, L1, L2, L3 = 0x40000000, 0x40010000, 0x40020000, 0x40030000
TABLES = {0: ROOT, 1: L1, 2: L2, 3: L3}
PAGE = 0x48000000


def shift_of(granule: int, level: int) -> int:
    return granule + (3 - level) * (granule - 3)


def translator(
    entries: dict[int, dict[int, int]],
    granule: int = 12,
    *,
    inputs: int = 48,
    ips: int = 5,
    ttbr: int | None = None,
    machine: Machine = MACHINE,
    bits: int = 0,
) -> Translator:
    """Tables by hand, level -> index -> entry. The top one is at ROOT, whatever its level."""
    memory = Memory(machine.byteorder)
    top = min(entries)
    for level, found in entries.items():
        pa = ROOT if level == top else TABLES[level]
        memory.table(pa, 1 << granule - 3, 8, found)
    hdr = {"kh_tcr1": tcr(granule, inputs, ips) | bits, "kh_ttbr1": ROOT if ttbr is None else ttbr}
    return machine.mmu(Mmu(hdr, memory.read, lambda name: None))


def check_page(t: Translator, va: int, size: int, pa: int) -> None:
    """All of the page is there, to the byte, and nothing on either side."""
    assert t.kvatop(va) == (pa, size)
    assert t.kvatop(va + 1) == (pa + 1, size - 1)
    assert t.kvatop(va + size - 1) == (pa + size - 1, 1)
    assert why(t, va + size // 2) == ""
    assert "invalid pte" in why(t, va - 1)
    assert "invalid pte" in why(t, va + size)
    assert [(m.va, m.pa, m.size) for m in t.mappings()] == [(va, pa, size)]


@pytest.mark.parametrize("machine", [MACHINE, BIG], ids=["little", "big"])
def test_page_of_4_kib(machine: Machine) -> None:
    entries = {0: {0x180: L1 | 3}, 1: {5: L2 | 3}, 2: {6: L3 | 3}, 3: {7: 0xFFF0000048000FFF}}
    t = translator(entries, machine=machine)
    check_page(t, 0xFFFFC00000000000 | 5 << 30 | 6 << 21 | 7 << 12, 4 * K, PAGE)


def test_page_of_16_kib() -> None:
    # Level 0 has two entries: bit 47 alone.
    entries = {0: {1: L1 | 3}, 1: {0x405: L2 | 3}, 2: {6: L3 | 3}, 3: {7: 0x48000000 | 0xFFF}}
    t = translator(entries, 14)
    check_page(t, 0xFFFF800000000000 | 0x405 << 36 | 6 << 25 | 7 << 14, 16 * K, PAGE)


def test_page_of_64_kib() -> None:
    entries = {1: {0x30: L2 | 3}, 2: {6: L3 | 3}, 3: {7: 0x48000000 | 0xFFFF}}
    t = translator(entries, 16)
    check_page(t, 0xFFFF000000000000 | 0x30 << 42 | 6 << 29 | 7 << 16, 64 * K, PAGE)


@pytest.mark.parametrize(("granule", "level", "size"), [(12, 1, G), (12, 2, 2 * M), (14, 2, 32 * M), (16, 2, 512 * M)])
def test_blocks(granule: int, level: int, size: int) -> None:
    top = 1 if granule == 16 else 0
    pa = 0x7E0000000000 | 3 * size
    entries = {at: {1: TABLES[at + 1] | 3} for at in range(top, level)}
    # Address bits below the block's size are ignored.
    t = translator({**entries, level: {2: pa | size - (1 << granule) | 0x701}}, granule)
    va = 0xFFFF000000000000 | 2 << shift_of(granule, level)
    va |= sum(1 << shift_of(granule, at) for at in range(top, level))
    check_page(t, va, size, pa)


def test_entry_bits_that_are_no_address() -> None:
    # 15-12 belong to the address only where pa has 52 bits.
    t = translator({1: {0: L2 | 3}, 2: {0: L3 | 3}, 3: {0: 0xFFFF000048000000 | 0xF703}}, 16)
    assert t.kvatop(0xFFFF000000000000) == (PAGE, 64 * K)


@pytest.mark.parametrize("granule", GRANULES)
@pytest.mark.parametrize("entry", [0, 2, 0x48000702, 1 | PAGE])
def test_reserved_in_the_last_table(granule: int, entry: int) -> None:
    """A64-CNP: 01 is no page there, though libkvm takes it for one."""
    top = 1 if granule == 16 else 0
    entries: dict[int, dict[int, int]] = {at: {0: TABLES[at + 1] | 3} for at in range(top, 3)}
    t = translator({**entries, 3: {0: entry, 1: PAGE | 3}}, granule)
    text = why(t, 0xFFFF000000000000)
    assert f"invalid translation (invalid pte), entry 0 of the level 3 table at pa 0x40030000 is {entry:#x}" in text
    assert why(t, 0xFFFF000000000000 | 1 << granule) == ""


@pytest.mark.parametrize(("granule", "level"), [(12, 0), (14, 0), (14, 1), (16, 1)])
def test_levels_without_blocks(granule: int, level: int) -> None:
    top = 1 if granule == 16 else 0
    entries: dict[int, dict[int, int]] = {at: {0: TABLES[at + 1] | 3} for at in range(top, level)}
    t = translator({**entries, level: {0: 0x401}}, granule)
    text = why(t, 0xFFFF000000000000)
    assert f"invalid translation (invalid pte), entry 0 of the level {level} table" in text
    assert list(t.mappings()) == []


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("entry", [0, 0xFFFFFFFFFFFFFFFE])
def test_invalid_at_each_level(level: int, entry: int) -> None:
    entries: dict[int, dict[int, int]] = {at: {0: TABLES[at + 1] | 3} for at in range(level)}
    t = translator({**entries, level: {0: entry}})
    text = why(t, 0xFFFF000000000FFF)
    assert f"invalid translation (invalid pte), entry 0 of the level {level} table" in text


@pytest.mark.parametrize("level", [0, 1, 2])
def test_tables_that_are_not_in_the_dump(level: int) -> None:
    entries: dict[int, dict[int, int]] = {at: {0: TABLES[at + 1] | 3} for at in range(level)}
    t = translator({**entries, level: {0: 0x7E0000000003}})
    text = why(t, 0xFFFF000000000000)
    assert f"could not read pte, the level {level + 1} table is at pa 0x7e0000000000, which is not in the dump" in text


def test_the_top_table_is_not_in_the_dump() -> None:
    assert "could not read pte, the level 0 table is at pa 0x50000000" in why(
        translator({0: {}}, ttbr=0x50000000), 0xFFFF000000000000
    )


@pytest.mark.parametrize("ttbr", [ROOT | 1, 0x42 << 48 | ROOT, 0xFFFF << 48 | ROOT | 1])
def test_cnp_and_asid_are_no_address(ttbr: int) -> None:
    t = translator({0: {0: L1 | 3}, 1: {0: 0x401}}, ttbr=ttbr)
    assert t.kvatop(0xFFFF000000001234) == (0x1234, G - 0x1234)


@pytest.mark.parametrize(
    ("granule", "inputs", "level", "count"),
    [
        # D8.2.1: where the walk begins, and how many entries the first table has.
        (12, 48, 0, 512),
        (12, 40, 0, 2),
        (12, 39, 1, 512),
        (12, 31, 1, 2),
        (12, 30, 2, 512),
        (12, 25, 2, 16),
        (14, 48, 0, 2),
        (14, 47, 1, 2048),
        (14, 37, 1, 2),
        (14, 36, 2, 2048),
        (14, 25, 3, 2048),
        (16, 52, 1, 1024),
        (16, 48, 1, 64),
        (16, 43, 1, 2),
        (16, 42, 2, 8192),
        (16, 30, 2, 2),
        (16, 29, 3, 8192),
    ],
)
def test_size_of_addresses(granule: int, inputs: int, level: int, count: int) -> None:
    base = (1 << 64) - (1 << inputs)
    t = translator({level: {}}, granule, inputs=inputs)
    first, top = t.walk(base)[0], t.walk((1 << 64) - 1)[0]
    assert (first.name, first.index, first.table_pa) == (f"level {level} table", 0, ROOT)
    assert (top.name, top.index, top.table_pa) == (f"level {level} table", count - 1, ROOT)
    assert "invalid translation (invalid pte)" in why(t, base)
    assert "invalid kernel virtual address" in why(t, base - 1)


@pytest.mark.parametrize("va", [0, 0xFFFFFFFFFFFF, 0x0001000000000000, 0xFF00C00000001000, 0xFFFEFFFFFFFFFFFF])
def test_addresses_that_are_not_the_kernels(va: int) -> None:
    t = translator({0: {0: L1 | 3}, 1: {0: 0x401}})
    text = why(t, va)
    assert "invalid kernel virtual address, TTBR1_EL1's tables are for 0xffff000000000000 and above" in text


def test_address_bits_above_the_input_size_count() -> None:
    """A64-CNP: libkvm drops bits 47 to 39 here."""
    t = translator({1: {0: 0x401}}, inputs=39)
    assert t.kvatop(0xFFFFFF8000000000) == (0, G)
    assert "invalid kernel virtual address" in why(t, 0xFFFFC00000000000)
    with pytest.raises(kvmlib.TranslationError) as caught:
        t.kvatop(0xFFFFFF7FFFFFF000)
    assert caught.value.size == 0x1000


def test_reserved_granule() -> None:
    hdr = {"kh_tcr1": 5 << 32 | 16 << 16, "kh_ttbr1": ROOT}
    t = MACHINE.mmu(Mmu(hdr, Memory().read, lambda name: None))
    assert "kh_tcr1 is 0x500100000, its granule for TTBR1 (TG1) is reserved" in why(t, 0xFFFF000000000000)


@pytest.mark.parametrize(
    ("granule", "inputs", "limits"),
    [
        (12, 49, "16 to 51"),
        (12, 12, "16 to 51"),
        (14, 49, "16 to 49"),
        (14, 14, "16 to 49"),
        (16, 53, "12 to 47"),
        (16, 16, "12 to 47"),
        (16, 64, "12 to 47"),
    ],
)
def test_sizes_that_no_cpu_has(granule: int, inputs: int, limits: str) -> None:
    t = translator({0: {}}, granule, inputs=inputs)
    text = why(t, 0xFFFFFFFFFFFFFFFF)
    assert f"T1SZ is {64 - inputs}, {limits} go with a {1 << granule - 10} KiB granule" in text


@pytest.mark.parametrize("granule", GRANULES)
def test_the_least_size(granule: int) -> None:
    t = translator({3: {1: PAGE | 3}}, granule, inputs=granule + 1)
    assert t.kvatop((1 << 64) - 1) == (PAGE + (1 << granule) - 1, 1)


def test_52_bit_addresses_in_small_granules() -> None:
    for granule in (12, 14):
        text = why(translator({0: {0: 0x401}}, granule, bits=1 << 59), 0xFFFF000000000000)
        assert "TCR_EL1.DS is set" in text
    # The bit means nothing with a granule of 64 KiB.
    entries = {1: {0: L2 | 3}, 2: {0: 1}}
    assert why(translator(entries, 16, bits=1 << 59), 0xFFFF000000000000) == ""


def test_52_bit_addresses_in_64_kib_granules() -> None:
    base = 0xFFFF000000000000
    entries = {1: {0: L2 | 3, 1: 5 << 42 | 0x401, 2: 0x1000 | 0x401, 3: L2 | 0x8003}, 2: {0: L3 | 3}, 3: {0: 0x4003}}
    t = translator(entries, 16, ips=6)
    # Level 1 may have blocks of 4 TiB.
    assert t.kvatop(base | 1 << 42) == (5 << 42, 4 * T)
    # No memory is at pa bits 51 to 48: those entries are left alone.
    for va in (base | 2 << 42, base | 3 << 42, base):
        assert "invalid pte" in why(t, va)
    assert translator(entries, 16).kvatop(base) == (0, 64 * K)


# -- what the entries' bits are called ---------------------------------------------------------------------------------

PLAIN = ("AttrIndx=0", "read-write", "non-shareable")


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (3, PLAIN),
        (0x0000FFFFFFFFF003, PLAIN),
        (3 | 5 << 2, ("AttrIndx=5", "read-write", "non-shareable")),
        (3 | 1 << 5, ("AttrIndx=0", "NS", "read-write", "non-shareable")),
        (3 | 1 << 6, ("AttrIndx=0", "read-write", "EL0", "non-shareable")),
        (3 | 1 << 7, ("AttrIndx=0", "read-only", "non-shareable")),
        (3 | 2 << 8, ("AttrIndx=0", "read-write", "outer shareable")),
        (3 | 3 << 8, ("AttrIndx=0", "read-write", "inner shareable")),
        *((3 | 1 << bit, (*PLAIN, name)) for bit, name in ((10, "AF"), (11, "nG"), (51, "DBM"), (52, "Contiguous"))),
        *((3 | 1 << bit, (*PLAIN, name)) for bit, name in ((53, "PXN"), (54, "UXN"))),
    ],
)
def test_page_words(entry: int, names: tuple[str, ...]) -> None:
    assert page_words(entry) == names
    # A block's bits are the same.
    assert table_words(entry & ~2) == names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (3, ()),
        (0x0000FFFFFFFFFFFF, ()),
        (3 | 1 << 59, ("PXNTable",)),
        (3 | 1 << 60, ("UXNTable",)),
        (3 | 1 << 61, ("APTable=01",)),
        (3 | 1 << 62, ("APTable=10",)),
        (3 | 1 << 63, ("NSTable",)),
    ],
)
def test_table_words(entry: int, names: tuple[str, ...]) -> None:
    assert table_words(entry) == names


def test_mappings_name_the_protection() -> None:
    entries = {0: {0: L1 | 3}, 1: {0: L2 | 3, 1: 0x40000681}, 2: {0: L3 | 3}, 3: {0: PAGE | 0x703, 1: PAGE | 0x1303}}
    base = 0xFFFF000000000000
    # Whether a page was used makes no difference to a range.
    assert list(translator(entries).mappings()) == [
        Mapping(base, PAGE, 8 * K, ("AttrIndx=0", "read-write", "inner shareable")),
        Mapping(base + G, 0x40000000, G, ("AttrIndx=0", "read-only", "outer shareable")),
    ]


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "page", "blocks"),
    [
        ("netbsd/aarch64", 4 * K, {2 * M, G}),
        ("netbsd/aarch64-eb", 4 * K, {2 * M, G}),
        ("netbsd/aarch64-hdr16", 4 * K, {2 * M, G}),
        ("netbsd/aarch64-16k", 16 * K, {32 * M}),
        ("netbsd/aarch64-64k", 64 * K, {512 * M}),
    ],
)
def test_a_sample_has_every_page_size(
    name: str, page: int, blocks: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sample = sample_in(tmp_path_factory.mktemp("sample"), name)
    with kvmlib.open(sample.image) as kd:
        assert kd.machine is not None
        assert kd.machine.page_size == page
        assert kd.machine.least_cpu_data == (16 if name.endswith("hdr16") else 24)
        sizes = set()
        for w in sample.mapped:
            pa, n = kd.kvatop(w.va)
            assert pa == w.pa
            sizes.add(n)
        assert sizes == {page, *blocks}


def test_the_samples_tcr_is_sane() -> None:
    for granule, value in TCR.items():
        regime = Regime.of(value)
        assert regime == Regime(granule, 48, 48)
        assert regime.doubt(value) == ""
        assert f"TTBR0 {1 << granule - 10} KiB" in decoded("kh_tcr1", kh_tcr1=value)
