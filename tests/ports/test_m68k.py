"""The m68k machines: what their headers say, and each branch of their translation."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib.errors import FormatError, NotInDumpError, TranslationError
from kvmlib.kcore import CStruct, Headers, RamSeg, build_ram_segs
from kvmlib.ports import m68k_tables as tables
from kvmlib.ports.base import Machine, Mmu, Settled
from kvmlib.ports.m68k import COMMON, COMMON_A4, settle
from kvmlib.ports.m68k_sun import SUN2, SUN2_HDR, SUN3, SUN3_HDR, SUN3X_HDR
from kvmlib.translate import Translator

M68K = kvmlib.machine("netbsd/m68k")
M68000 = kvmlib.machine("netbsd/m68000")
TOP = 1 << 32

#: Where machine/kcore.h has each field.
COMMON_OFFSETS = {
    "page_size": 16,
    "kernbase": 20,
    "mmutype": 24,
    "sg_v": 28,
    "sg_frame": 32,
    "sg_ishift": 36,
    "sg_pmask": 40,
    "sg40_shift1": 44,
    "sg40_mask2": 48,
    "sg40_shift2": 52,
    "sg40_mask3": 56,
    "sg40_shift3": 60,
    "sg40_addr1": 64,
    "sg40_addr2": 68,
    "pg_v": 72,
    "pg_frame": 76,
    "sysseg_pa": 80,
    "reloc": 84,
    "relocend": 88,
}
SEGMAP_OFFSETS = {"page_size": 16, "kernbase": 20, "segshift": 24, "pg_frame": 28, "pg_valid": 32}
SUN3X_OFFSETS = {"page_size": 16, "kernbase": 20, "pg_frame": 24, "pg_valid": 28, "contig_end": 32, "kernCbase": 36}
#: A 68030 with pages of 4 KiB: va bits 31-22, 21-12, 11-0.
M030: dict[str, Any] = {
    "name": "hp300",
    "page_size": 0x1000,
    "kernbase": 0,
    "mmutype": TOP - 1,
    "sg_v": 2,
    "sg_frame": 0xFFFFF000,
    "sg_ishift": 22,
    "sg_pmask": 0x003FF000,
    "sg40_shift1": 25,
    "sg40_mask2": 0x01FC0000,
    "sg40_shift2": 18,
    "sg40_mask3": 0x0003F000,
    "sg40_shift3": 12,
    "sg40_addr1": 0xFFFFFE00,
    "sg40_addr2": 0xFFFFFF00,
    "pg_v": 1,
    "pg_frame": 0xFFFFF000,
    "sysseg_pa": 0x10000,
    "reloc": 0,
    "relocend": 0,
}
M030_8K = M030 | {
    "page_size": 0x2000,
    "sg_frame": 0xFFFFE000,
    "sg_ishift": 24,
    "sg_pmask": 0x00FFE000,
    "pg_frame": 0xFFFFE000,
}
M040 = M030 | {"mmutype": TOP - 2}
#: va bits 31-25, 24-18, 17-13, 12-0.
M060_8K = M030_8K | {"mmutype": TOP - 3, "sg40_mask3": 0x0003E000, "sg40_shift3": 13, "sg40_addr2": 0xFFFFFF80}
SUN3X: dict[str, Any] = {
    "name": "sun3x",
    "page_size": 0x2000,
    "kernbase": 0xF8000000,
    "pg_frame": 0xFFFFFF00,
    "pg_valid": 1,
    "contig_end": 0xF8040000,
    "kernCbase": 0xF8020000,
}


@dataclass
class Memory:
    """Physical memory: 32-bit words by their addresses, zeros elsewhere; [low, high) of it is in the dump."""

    words: Mapping[int, int]
    low: int = 0
    high: int = 0x100000
    reads: list[int] = field(default_factory=list)

    def read(self, pa: int, n: int) -> bytes:
        self.reads.append(pa)
        if pa < self.low or pa + n > self.high:
            raise NotInDumpError(f"pa {pa:#x} is not in the dump: no segment holds it", pa, size=0x1000)
        data = bytearray(n)
        for at, word in self.words.items():
            if pa <= at < pa + n:
                data[at - pa : at - pa + 4] = word.to_bytes(4, "big")
        return bytes(data)


def cpu_data(
    layout: CStruct, hdr: Mapping[str, Any], at: int = 96, ram: tuple[RamSeg, ...] = (RamSeg(0, 0x100000),)
) -> bytes:
    return (layout.build(hdr, "big").ljust(at, b"\0") + build_ram_segs(ram, "big")).ljust(1016, b"\0")


def settled(data: bytes, machine: Machine = M68K) -> Settled:
    headers = Headers("device", 0, machine.abi.kcore_hdr(), data, 8, 8 + len(data), None)
    return settle(machine, headers, lambda offset, n: bytes(n), 1 << 24)


def translator(hdr: Mapping[str, Any], words: Mapping[int, int], high: int = 0x100000) -> Translator:
    machine = settled(cpu_data(SUN3X_HDR if hdr["name"] == "sun3x" else tables.CPU_HDR, hdr)).machine
    return machine.mmu(Mmu(hdr, Memory(words, high=high).read, lambda name: None))


def error(t: Translator, va: int) -> TranslationError:
    with pytest.raises(TranslationError) as caught:
        t.kvatop(va)
    assert t.walk(va)[-1].outcome in ("invalid", "unreadable", "outside")
    return caught.value


def page(t: Translator, va: int) -> tuple[int, int]:
    """The answer for `va`, which the walk and the mappings must share."""
    pa, n = t.kvatop(va)
    assert t.walk(va)[-1].pa == pa
    (m,) = t.mappings(va, va + 1)
    assert (m.va, m.pa, m.size) == (va, pa, 1)
    return pa, n


# -- the header ------------------------------------------------------------------------------------------------------


def numbered(name: str) -> bytes:
    """A header in which each u32 holds its own offset, plus 0x01000000; the page size must be one."""
    words = [0x01000000 + at for at in range(0, 1016, 4)]
    words[4] = 4096
    return name.encode().ljust(16, b"\0") + struct.pack(">250I", *words[4:])


@pytest.mark.parametrize(("name", "offsets"), [("hp300", COMMON_OFFSETS), ("sun3x", SUN3X_OFFSETS)])
def test_each_field_is_where_the_kernel_has_it(name: str, offsets: Mapping[str, int]) -> None:
    machine = settled(numbered(name)).machine
    hdr = machine.parse_cpu_hdr(numbered(name))
    assert hdr.pop("name") == name
    assert hdr.pop("page_size") == 4096
    assert hdr == {field: 0x01000000 + at for field, at in offsets.items() if field != "page_size"}
    registers = {r.name: r.value for r in machine.registers(machine.parse_cpu_hdr(numbered(name)))}
    assert registers == {"page_size": 4096} | hdr


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("page_size", 0x1000, "pages of 4 KiB"),
        ("page_size", 0x2000, "pages of 8 KiB"),
        ("page_size", 0x100, "pages of 256 bytes"),
        ("mmutype", TOP - 3, "-3: 68060, three levels of tables"),
        ("mmutype", TOP - 2, "-2: 68040, three levels of tables"),
        ("mmutype", TOP - 1, "-1: 68030, two levels of tables"),
        ("mmutype", 0, "0: HP's own MMU, two levels of tables"),
        ("mmutype", 1, "1: 68851, two levels of tables"),
        ("mmutype", 2, "2: Sun's own MMU, two levels of tables"),
        ("mmutype", 7, "7: no MMU known, two levels of tables"),
        ("sg_v", 2, "bit 1"),
        ("pg_v", 3, "not one bit"),
        ("sg_ishift", 22, "1024 entries, each for 4 MiB"),
        ("sg40_shift1", 25, "128 entries, each for 32 MiB"),
        ("sg_ishift", 32, "no va bit"),
        ("sysseg_pa", 0x10000, "segment table at pa 0x10000"),
        ("reloc", 0xFFC00000, "va 0x0 is pa 0xffc00000"),
        ("relocend", 0x183A4, "va 0x0-0x183a3 -> pa 0x0-0x183a3, without tables"),
        ("relocend", 0, "nothing is mapped without tables"),
    ],
)
def test_registers_are_decoded(name: str, value: int, text: str) -> None:
    hdr = M030 | {name: value}
    machine = replace(M68K, **COMMON)
    assert {r.name: r.decoded for r in machine.registers(hdr)}[name] == text


def test_the_image_may_lie_elsewhere() -> None:
    hdr = M030 | {"kernbase": 0x1000, "reloc": 0x8000, "relocend": 0x2000, "mmutype": TOP - 2}
    decoded = {r.name: r.decoded for r in M68K.registers(hdr)}
    assert decoded["reloc"] == "va 0x1000 is pa 0x8000"
    assert decoded["relocend"] == "va 0x0-0x1fff -> pa 0x7000-0x8fff, without tables"
    assert decoded["sysseg_pa"] == "root table at pa 0x10000"


def test_registers_of_a_sun3x() -> None:
    decoded = {r.name: r.decoded for r in settled(cpu_data(SUN3X_HDR, SUN3X, 40)).machine.registers(SUN3X)}
    assert decoded["contig_end"] == "va 0xf8000000-0xf803ffff -> pa 0x0-0x3ffff, without a table"
    assert decoded["kernCbase"] == "PTEs at pa 0x20000"


# -- which of the layouts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hp300", "amiga", "atari", "", "sun", "sun3xx"])
def test_any_other_name_has_the_common_layout(name: str) -> None:
    found = settled(cpu_data(tables.CPU_HDR, M030 | {"name": name}))
    assert found.machine == replace(M68K, **COMMON)
    assert found.reasons[0] == f'its header has the name "{name}"'


def test_page_size_is_the_headers() -> None:
    found = settled(cpu_data(tables.CPU_HDR, M060_8K))
    assert found.machine.page_size == 0x2000
    assert found.machine == replace(M68K, page_size=0x2000, **COMMON)


def test_settling_twice_changes_nothing() -> None:
    for data in (
        cpu_data(tables.CPU_HDR, M060_8K),
        cpu_data(tables.CPU_HDR, M030, 92),
        cpu_data(SUN3X_HDR, SUN3X, 40),
    ):
        once = settled(data)
        assert settled(data, once.machine).machine == once.machine
        assert once.machine != M68K
    # What one dump said must not stick to the machine for another.
    assert settled(cpu_data(tables.CPU_HDR, M030), settled(data).machine).machine == replace(M68K, **COMMON)


@pytest.mark.parametrize("size", [0, 1, 512, 4095, 0x10000, 0x80000000])
def test_no_such_page_size(size: int) -> None:
    with pytest.raises(FormatError, match=f"at 0x0: page_size is {size}, a power of two from 1024 to 32768"):
        settled(cpu_data(tables.CPU_HDR, M030 | {"page_size": size}))


@pytest.mark.parametrize(("at", "form"), [(96, COMMON), (92, COMMON_A4)])
@pytest.mark.parametrize(
    "ram",
    [
        (RamSeg(0, 0x100000),),
        (RamSeg(0xFFC00000, 0x400000), RamSeg(0, 0x80000)),
        (RamSeg(0x8000000, 0x20000), RamSeg(0, 0x20000)),
    ],
)
def test_alignment_of_64_bit_numbers(at: int, form: dict[str, object], ram: tuple[RamSeg, ...]) -> None:
    inside = ram[-1].start + 0x10000
    data = cpu_data(tables.CPU_HDR, M030 | {"sysseg_pa": inside}, at, ram)
    found = settled(data)
    assert found.machine.segments_offset({}) == at
    assert found.machine.variant == form["variant"]
    assert found.reasons[1] == f"its RAM segments begin at byte {at} of the CPU data"
    assert found.machine.ram is not None
    assert found.machine.ram(found.machine, data, {}) == list(ram)


def test_a_root_outside_memory_does_not_decide_the_alignment() -> None:
    found = settled(cpu_data(tables.CPU_HDR, M030 | {"sysseg_pa": 0x7000000}, 92))
    assert found.machine.segments_offset({}) == 92


@pytest.mark.parametrize(
    "ram",
    [(), (RamSeg(0x100, 0x10000),), (RamSeg(0, 0x10100),), (RamSeg(0xFFFF0000, 0x20000),)],
    ids=["none", "start", "size", "wraps"],
)
def test_without_sensible_segments_96_is_kept(ram: tuple[RamSeg, ...]) -> None:
    found = settled(cpu_data(tables.CPU_HDR, M030, 92, ram))
    assert found.machine == replace(M68K, **COMMON)
    assert found.reasons[1].startswith("no RAM segments at byte 92 or 96")


def test_eight_segments_at_most() -> None:
    ram = tuple(RamSeg(i * 0x10000, 0x10000) for i in range(10))
    found = settled(cpu_data(tables.CPU_HDR, M030, 96, ram)).machine
    assert found.ram is not None
    assert found.ram(found, cpu_data(tables.CPU_HDR, M030, 96, ram), {}) == list(ram[:8])


def test_four_segments_of_a_sun3x() -> None:
    ram = tuple(RamSeg(i * 0x10000, 0x10000) for i in range(5))
    found = settled(cpu_data(SUN3X_HDR, SUN3X, 40, ram)).machine
    assert found.ram is not None
    assert found.ram(found, cpu_data(SUN3X_HDR, SUN3X, 40, ram), {}) == list(ram[:4])
    assert found.variant == "sun3x"
    assert found.root is not None
    assert found.root(SUN3X) == 0x20000


def test_cpu_data_that_is_too_short() -> None:
    with pytest.raises(FormatError, match="needs 92 bytes, but only 91"):
        settled(cpu_data(tables.CPU_HDR, M030)[:91])
    with pytest.raises(FormatError, match="needs 24 bytes"):
        settled(b"sun3x")


# -- two levels ------------------------------------------------------------------------------------------------------


def test_two_levels() -> None:
    # va 0x00805004: segment 2, page 5.
    t = translator(M030, {0x10008: 0x00011002 | 0xC, 0x11014: 0x0004D000 | 0x15D})
    assert page(t, 0x00805004) == (0x4D004, 0xFFC)
    assert page(t, 0x00805000) == (0x4D000, 0x1000)
    assert page(t, 0x00805FFF) == (0x4DFFF, 1)
    top, last = t.walk(0x00805004)
    assert (top.name, top.table_pa, top.index, top.flags, top.pa) == (
        "segment table", 0x10000, 2, ("V", "RO", "U"), 0x11000,
    )  # fmt: skip
    assert (last.name, last.index, last.flags) == ("page table", 5, ("V", "RO", "U", "M", "CI", "W"))
    assert [m.flags for m in t.mappings()] == [("RO", "CI")]


def test_two_levels_with_pages_of_8_kib() -> None:
    # va 0x0300600a: segment 3, page 3.
    t = translator(M030_8K, {0x1000C: 0x00012002, 0x1200C: 0x0004C001})
    assert page(t, 0x0300600A) == (0x4C00A, 0x1FF6)
    assert page(t, 0x03007FFF) == (0x4DFFF, 1)
    assert error(t, 0x03008000).size == 0x2000


@pytest.mark.parametrize("mmutype", [TOP - 1, 0, 1, 2, 99])
def test_all_but_68040_and_68060_have_two_levels(mmutype: int) -> None:
    t = translator(M030 | {"mmutype": mmutype}, {0x10000: 0x00011002, 0x11000: 0x00020001})
    assert page(t, 0) == (0x20000, 0x1000)


def test_invalid_segment_and_page() -> None:
    t = translator(M030, {0x10004: 0x1234501D, 0x10008: 0x00011002, 0x11004: 0x0004D0FE})
    e = error(t, 0x00400123)
    assert "va 0x400123 is not mapped: invalid segment (1234501d), entry 1 of the segment table at pa 0x10000" in str(e)
    assert e.size == 0x400000 - 0x123
    e = error(t, 0x00801123)
    assert "page not valid, entry 1 of the page table at pa 0x11000 is 0x4d0fe" in str(e)
    assert e.size == 0xEDD


def test_a_table_that_is_not_in_the_dump() -> None:
    t = translator(M030, {0x10008: 0x00300002})
    e = error(t, 0x00801123)
    assert "invalid address (801123), the page table is at pa 0x300000, which is not in the dump" in str(e)
    t = translator(M030 | {"sysseg_pa": 0x200000}, {})
    assert "invalid address (0), the segment table is at pa 0x200000" in str(error(t, 0))


# -- three levels ----------------------------------------------------------------------------------------------------


def test_three_levels() -> None:
    # va 0x020c3010: 1, 3, 3.
    t = translator(M040, {0x10004: 0x00011202 | 8, 0x1120C: 0x00011502 | 4, 0x1150C: 0x0004D000 | 0x4FD})
    assert page(t, 0x020C3010) == (0x4D010, 0xFF0)
    assert page(t, 0x020C3FFF) == (0x4DFFF, 1)
    root, pointer, last = t.walk(0x020C3010)
    assert (root.name, root.index, root.pa, root.flags) == ("root table", 1, 0x11200, ("V", "U"))
    assert (pointer.name, pointer.index, pointer.pa, pointer.flags) == ("pointer table", 3, 0x11500, ("V", "RO"))
    assert (last.name, last.index, last.flags) == ("page table", 3, ("V", "RO", "U", "M", "S", "G", "CIN"))


@pytest.mark.parametrize(("bits", "words"), [(0, "CWT"), (0x20, "CCB"), (0x40, "CIS"), (0x60, "CIN")])
def test_cache_modes(bits: int, words: str) -> None:
    t = translator(M040, {0x10000: 0x00011202, 0x11200: 0x00011502, 0x11500: 0x0004D001 | bits})
    assert t.walk(0)[-1].flags == ("V", words)
    assert next(t.mappings()).flags == (words,)


def test_three_levels_with_pages_of_8_kib() -> None:
    # va 0x020de010: 1, 3, 15; a page table has 32 entries, so it is aligned to 128 bytes.
    t = translator(M060_8K, {0x10004: 0x00011202, 0x1120C: 0x00011582, 0x115BC: 0x0004C001})
    assert page(t, 0x020DE010) == (0x4C010, 0x1FF0)
    assert page(t, 0x020DFFFF) == (0x4DFFF, 1)


def test_invalid_descriptors() -> None:
    t = translator(M040, {0x10000: 0x12345001, 0x10004: 0x00011202, 0x1120C: 0x777001, 0x11210: 0x00011502})
    e = error(t, 0x000C0123)
    assert "invalid level 1 descriptor (12345001), entry 0 of the root table at pa 0x10000" in str(e)
    assert e.size == 0x2000000 - 0xC0123
    e = error(t, 0x020C0123)
    assert "invalid level 2 descriptor (777001), entry 3 of the pointer table at pa 0x11200" in str(e)
    assert e.size == 0x40000 - 0x123
    assert "page not valid, entry 0 of the page table at pa 0x11500 is 0x0" in str(error(t, 0x02100000))


# -- the kernel's image ----------------------------------------------------------------------------------------------


def test_the_image_needs_no_tables() -> None:
    hdr = M030 | {"reloc": 0x40000, "relocend": 0x2000}
    t = translator(hdr, {0x10000: 0x00011002, 0x11000: 0x00050001, 0x11008: 0x00060001})
    assert page(t, 0) == (0x40000, 0x1000)
    assert page(t, 0x1004) == (0x41004, 0xFFC)
    assert page(t, 0x1FFF) == (0x41FFF, 1)
    assert t.walk(0x1FFF)[0].outcome == "window"
    # Behind it tables decide, which have something to say about the image too.
    assert page(t, 0x2000) == (0x60000, 0x1000)
    assert "page not valid" in str(error(t, 0x3000))
    assert [(m.va, m.pa, m.size) for m in t.mappings()] == [(0, 0x40000, 0x2000), (0x2000, 0x60000, 0x1000)]


def test_the_last_page_of_the_image_belongs_together() -> None:
    hdr = M030 | {"reloc": 0x40000, "relocend": 0x13A4}
    t = translator(hdr, {0x10000: 0x00011002, 0x11008: 0x00060001})
    assert page(t, 0x13A3) == (0x413A3, 0xC5D)
    assert page(t, 0x1000) == (0x41000, 0x1000)
    assert page(t, 0xFFF) == (0x40FFF, 1)
    assert "page not valid" in str(error(t, 0x13A4))
    assert [(m.va, m.size) for m in t.mappings()] == [(0, 0x13A4), (0x2000, 0x1000)]


def test_the_image_wraps_around_as_32_bit_numbers_do() -> None:
    hdr = M030 | {"kernbase": 0x3000, "reloc": 0x1000, "relocend": 0x5000}
    t = translator(hdr, {})
    assert page(t, 0x0) == (0xFFFFE000, 0x1000)
    assert page(t, 0x1FFF) == (0xFFFFFFFF, 1)
    assert page(t, 0x2000) == (0, 0x1000)
    assert page(t, 0x3008) == (0x1008, 0xFF8)
    assert page(t, 0x4FFF) == (0x2FFF, 1)
    # In the middle of a page too, should that ever be.
    t = translator(hdr | {"kernbase": 0x3004}, {})
    assert page(t, 0x2000) == (0xFFFFFFFC, 4)
    assert page(t, 0x2004) == (0, 0xFFC)
    assert "invalid segment (0)" in str(error(t, 0x5000))


def test_without_an_image_there_are_tables_only() -> None:
    t = translator(M030, {0x10000: 0x00011002, 0x11000: 0x00050001})
    assert page(t, 0) == (0x50000, 0x1000)
    assert "does not fit in 32 bits" in str(error(t, TOP))
    t = translator(M030 | {"relocend": 0x1000}, {})
    assert "does not fit in 32 bits" in str(error(t, TOP))


# -- numbers that describe no tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hdr", "words"),
    [
        (M030 | {"sg_v": 0}, "sg_v is 0x0, but one bit makes an entry valid"),
        (M030 | {"pg_v": 3}, "pg_v is 0x3, but"),
        (M030 | {"sg_ishift": 12}, "sg_ishift is 12, a page has 12 bits: that makes an index of 20 bits"),
        (M030_8K | {"sg_ishift": 13, "page_size": 0x8000}, "an index of 19 bits"),
        (M030_8K | {"sg_ishift": 17, "page_size": 0x8000, "sg_pmask": 0x10000}, "sg_pmask is 0x10000, but the bits"),
        (M030 | {"sg_ishift": 40}, "an index of -8 bits, 1 to 15 were expected"),
        (M030 | {"sg_ishift": 16}, "an index of 16 bits"),
        (M030 | {"sg_ishift": 28}, "an index of 16 bits"),
        (M030 | {"sg_ishift": 0xFFFFFFFF}, "an index of -4294967263 bits"),
        (M030 | {"sg_ishift": 20}, "sg_pmask is 0x3ff000, but the bits that the other indices leave are 0xff000"),
        (M030 | {"sg_pmask": 0x3FD000}, "sg_pmask is 0x3fd000, but"),
        (M040 | {"sg40_shift3": 13}, "sg40_shift3 is 13, but a page has 12 bits"),
        (M040 | {"sg40_shift1": 18}, "an index of 0 bits"),
        (M040 | {"sg40_shift2": 26}, "sg40_shift1 is 25, sg40_shift2 is 26, a page has 12 bits: that makes an index"),
        (M040 | {"sg40_mask2": 0x01F80000}, "sg40_mask2 is 0x1f80000, but the bits"),
        (M040 | {"sg40_mask3": 0x3E000}, "sg40_mask3 is 0x3e000, but the bits"),
    ],
)
def test_numbers_that_describe_no_tables(hdr: Mapping[str, Any], words: str) -> None:
    for h in (hdr, {**hdr, "relocend": 0x2000}):
        t = translator(h, {})
        assert words in str(error(t, 0))
        assert "the CPU header describes no page tables" in t.walk(0)[0].note
        assert list(t.mappings()) == []


def test_numbers_for_the_other_mmu_do_not_matter() -> None:
    assert page(translator(M030 | {"sg40_shift1": 0}, {0x10000: 0x11002, 0x11000: 0x20001}), 0)
    assert page(translator(M040 | {"sg_ishift": 0}, {0x10000: 0x11002, 0x11000: 0x12002, 0x12000: 0x20001}), 0)


# -- Sun-3x ----------------------------------------------------------------------------------------------------------


def test_sun3x_contiguous_range() -> None:
    t = translator(SUN3X, {})
    assert page(t, 0xF8000000) == (0, 0x40000)
    assert page(t, 0xF8003000) == (0x3000, 0x3D000)
    assert page(t, 0xF803FFFF) == (0x3FFFF, 1)
    for va in (0, 0x0E000000, 0xF7FFFFFF):
        assert "not a kernel address" in str(error(t, va))
    assert error(t, 0xF7FFFFFF).size == 1


def test_sun3x_table() -> None:
    # The first page behind the contiguous range has PTE 32, the last of all 16383.
    words = {0x20080: 0x0008205D, 0x20084: 0x00084002, 0x2FFFC: 0x00086001}
    t = translator(SUN3X, words)
    assert page(t, 0xF8040000) == (0x82000, 0x2000)
    assert page(t, 0xF8041FFF) == (0x83FFF, 1)
    assert page(t, 0xFFFFFFFF) == (0x87FFF, 1)
    (step,) = t.walk(0xF8040000)
    assert (step.name, step.index, step.flags) == ("PTEs of the kernel", 32, ("V", "WP", "U", "M", "CI"))
    e = error(t, 0xF8042005)
    assert "page not valid (VA=0xf8042005), entry 33 of the PTEs of the kernel at pa 0x20000 is 0x84002" in str(e)
    assert e.size == 0x1FFB


def test_sun3x_bits_of_pg_frame_below_the_page_count() -> None:
    t = translator(SUN3X, {0x20080: 0x00083F01})
    assert page(t, 0xF8040001) == (0x83F01, 0x1FFF)


def test_sun3x_table_that_is_not_in_the_dump() -> None:
    t = translator(SUN3X, {0x20080: 0x00082001}, high=0x20090)
    assert page(t, 0xF8040000) == (0x82000, 0x2000)
    assert "can not read PTE!, the PTEs of the kernel is at pa 0x20000, which is not in" in str(error(t, 0xF8048000))


def test_sun3x_table_ends_with_the_contiguous_range() -> None:
    t = translator(SUN3X | {"contig_end": 0xF8020100}, {0x200FC: 0x00082001})
    assert page(t, 0xF807E000) == (0x82000, 0x2000)
    assert "page not valid (VA=0xf8080000), the PTEs of the kernel at pa 0x20000 has 64 entries" in str(
        error(t, 0xF8080000)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernbase": 0xF9000000}, "kernbase is 0xf9000000, which leaves no power of two of addresses"),
        ({"kernbase": 0xFFFFE000}, "kernbase is 0xffffe000"),
        ({"kernbase": 0}, "kernCbase is 0x0"),
        (
            {"kernCbase": 0xF8040000},
            "kernCbase is 0xf8040000, which doesn't lie in 0xf8000000 to contig_end 0xf8040000",
        ),
        ({"kernCbase": 0xF7FFFFFC}, "kernCbase is 0xf7fffffc"),
        ({"contig_end": 0}, "contig_end 0x0"),
        ({"pg_valid": 0}, "pg_valid is 0x0"),
    ],
)
def test_sun3x_numbers_that_describe_no_table(change: dict[str, int], words: str) -> None:
    if "kernbase" in change and not change["kernbase"]:
        change = {"kernbase": 0, "kernCbase": 0, "contig_end": 0}
    t = translator(SUN3X | change, {})
    assert words in str(error(t, 0xF8000000))
    assert list(t.mappings()) == []


# -- Sun-2 and Sun-3 -------------------------------------------------------------------------------------------------

NO_PMEG = 255
SUN3_NUMBERS: dict[str, Any] = {
    "name": "sun3",
    "page_size": 0x2000,
    "kernbase": 0x0E000000,
    "segshift": 17,
    "pg_frame": 0x7FFFF,
    "pg_valid": 1 << 31,
}
SUN2_NUMBERS: dict[str, Any] = {
    "name": "sun2",
    "page_size": 0x800,
    "kernbase": 0x6000,
    "segshift": 15,
    "pg_frame": 0xFFF,
    "pg_valid": 1 << 31,
}


def segment_map(
    numbers: Mapping[str, Any], ksegmap: Mapping[int, int], ptes: Mapping[tuple[int, int], int], pmegs: int = 256
) -> bytes:
    """The CPU data: segment -> PMEG, (PMEG, page) -> PTE."""
    layout, page = (SUN2_HDR, 0x800) if numbers["name"] == "sun2" else (SUN3_HDR, 0x2000)
    segments = layout.size - 36
    hdr = layout.build({**numbers, "ksegmap": [ksegmap.get(i, NO_PMEG) for i in range(segments)]}, "big")
    words = [ptes.get((n // 16, n % 16), 0) for n in range(16 * pmegs)]
    return hdr.ljust(page - 8, b"\0") + struct.pack(f">{len(words)}I", *words)


def segment_translator(data: bytes, machine: Machine = M68K) -> Translator:
    found = settled(data, machine).machine
    return found.mmu(Mmu(found.parse_cpu_hdr(data), Memory({}).read, lambda name: None, data))


@pytest.mark.parametrize(("name", "segments"), [("sun2", 512), ("sun3", 256)])
def test_each_field_of_a_segment_map_is_where_the_kernel_has_it(name: str, segments: int) -> None:
    data = bytearray(numbered(name))
    data[36 : 36 + segments] = bytes(i % 251 for i in range(segments))
    machine = settled(bytes(data)).machine
    hdr = machine.parse_cpu_hdr(bytes(data))
    assert hdr.pop("name") == name
    assert hdr.pop("ksegmap") == tuple(i % 251 for i in range(segments))
    assert hdr.pop("page_size") == 4096
    assert hdr == {field: 0x01000000 + at for field, at in SEGMAP_OFFSETS.items() if field != "page_size"}
    registers = {r.name: r.value for r in machine.registers(machine.parse_cpu_hdr(bytes(data)))}
    assert registers == {"page_size": 4096} | hdr
    assert machine.ram is None
    assert machine.root is None
    assert machine.pcb is not None


def test_registers_of_a_sun3() -> None:
    machine = settled(segment_map(SUN3_NUMBERS, {}, {})).machine
    decoded = {r.name: r.decoded for r in machine.registers(SUN3_NUMBERS)}
    assert decoded["segshift"] == "segments of 128 KiB, 16 pages each"
    decoded = {r.name: r.decoded for r in machine.registers(SUN3_NUMBERS | {"segshift": 1 << 31})}
    assert decoded["segshift"] == "no segments"


def test_names_choose_the_segment_map() -> None:
    for numbers, form, size in ((SUN2_NUMBERS, SUN2, 0x800), (SUN3_NUMBERS, SUN3, 0x2000)):
        data = segment_map(numbers, {}, {})
        for machine in (M68K, M68000):
            found = settled(data, machine)
            assert found.machine == replace(machine, page_size=size, **form)
            assert found.reasons == (f'its header has the name "{numbers["name"]}"',)
            assert settled(data, found.machine) == found
    # The base of m68000 is a sun2 already.
    assert settled(segment_map(SUN2_NUMBERS, {}, {}), M68000).machine == M68000


def test_sun3_map() -> None:
    # va 0x0e0e6000: segment 7, page 3.
    t = segment_translator(segment_map(SUN3_NUMBERS, {7: 200, 255: 1}, {(200, 3): 0xF0000123, (1, 15): 0x8007FFFF}))
    assert page(t, 0x0E0E6004) == (0x123 * 0x2000 + 4, 0x1FFC)
    assert page(t, 0x0E0E7FFF) == (0x123 * 0x2000 + 0x1FFF, 1)
    assert page(t, 0x0FFFFFFF) == (0xFFFFFFFF, 1)
    assert t.walk(0x0E0E6004)[-1].flags == ("V", "W", "S", "X", "OBMEM")
    assert "page not valid (VA=0xe0e8005)" in str(error(t, 0x0E0E8005))
    # The map ends before the address space does.
    for va in (0x10000000, 0xFFFFFFFF):
        assert f"page not valid (VA={va:#x})" in str(error(t, va))
    for va in (0, 0x0DFFFFFF):
        assert "not a kernel address" in str(error(t, va))


def test_sun2_map() -> None:
    # kernbase isn't where a segment begins: va 0x00014800 is in the second segment from there, and its page is 9.
    t = segment_translator(segment_map(SUN2_NUMBERS, {1: 3, 511: 4}, {(3, 9): 0x80000021, (4, 11): 0x80000FFF}), M68000)
    assert page(t, 0x00014804) == (0x21 * 0x800 + 4, 0x7FC)
    assert page(t, 0x00014FFF) == (0x21 * 0x800 + 0x7FF, 1)
    assert page(t, 0x01005800) == (0x7FF800, 0x800)
    assert "page not valid (VA=0x15000)" in str(error(t, 0x15000))
    assert "page not valid (VA=0x1006000)" in str(error(t, 0x01006000))
    assert "not a kernel address" in str(error(t, 0x5FFF))


def test_pmegs_that_the_cpu_data_does_not_have() -> None:
    t = segment_translator(segment_map(SUN2_NUMBERS, {0: 63, 1: 64}, {(63, 12): 0x80000021}, pmegs=64), M68000)
    assert page(t, 0x6000) == (0x21 * 0x800, 0x800)
    assert "PMEG 64 is not in the CPU data of 6136 bytes" in str(error(t, 0xE000))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segshift": 16}, "segshift is 16, but a segment has 16 pages of 8192 bytes"),
        ({"segshift": 0xFFFFFFFF}, "segshift is 4294967295"),
        ({"pg_frame": 0xFFFFF}, "pg_frame is 0xfffff, which makes addresses of more than 32 bits"),
        ({"pg_valid": 0}, "pg_valid is 0x0, but one bit makes a PTE valid"),
        ({"pg_valid": 0xC0000000}, "pg_valid is 0xc0000000"),
        ({"kernbase": 0x0E001000}, "kernbase is 0xe001000, which is not where a page begins"),
    ],
)
def test_numbers_that_describe_no_segment_map(change: dict[str, int], words: str) -> None:
    t = segment_translator(segment_map(SUN3_NUMBERS | change, {}, {}))
    assert words in str(error(t, 0x0E000000))
    assert list(t.mappings()) == []


@pytest.mark.parametrize(
    ("machine", "data", "at", "found"),
    [
        (M68000, segment_map(SUN2_NUMBERS, {}, {}), 0x2000, True),
        (M68000, segment_map(SUN2_NUMBERS, {}, {}), 0x3FFC, True),
        (M68000, segment_map(SUN2_NUMBERS, {}, {}), 0x2002, False),
        (M68000, segment_map(SUN2_NUMBERS, {}, {}), 0x1FFC, False),
        (M68000, segment_map(SUN2_NUMBERS, {}, {}), 0x4000, False),
        (M68K, segment_map(SUN3_NUMBERS, {}, {}), 0x0, True),
        (M68K, segment_map(SUN3_NUMBERS, {}, {}), 0x200, True),
        (M68K, segment_map(SUN3_NUMBERS, {}, {}), 0x2000, False),
    ],
)
def test_the_message_buffer_is_evidence(machine: Machine, data: bytes, at: int, found: bool) -> None:
    evidence = settled(data, machine).machine.evidence
    assert evidence is not None
    memory = bytearray(0x8000)
    memory[at : at + 4] = b"\0\x06\x30\x61"
    said = evidence(lambda pa, n: bytes(memory[pa : pa + n]), [RamSeg(0, len(memory))])
    assert said == (f"the message buffer lies at pa {at:#x}, where these kernels have it" if found else "")
    # Less memory than that is no reason to fail.
    assert evidence(lambda pa, n: bytes(memory[pa : pa + n]), [RamSeg(0, 0)]) == ""


def test_evidence_looks_on_behind_what_is_not_aligned() -> None:
    evidence = settled(segment_map(SUN3_NUMBERS, {}, {})).machine.evidence
    assert evidence is not None
    memory = b"\0\0\0\x06\x30\x61\0\0\0\x06\x30\x61".ljust(0x2000, b"\0")
    assert "pa 0x8," in evidence(lambda pa, n: memory[pa : pa + n], [RamSeg(0, 0x2000)])


@pytest.mark.parametrize(("said", "room", "whole"), [(3, 6, True), (3, 5, False), (9, 6, False), (8, 1, True)])
def test_pages_that_sun2_does_not_count(said: int, room: int, whole: bool) -> None:
    """SUN2-DUMPEXTRA: only where the rest of the nine pages is in the file."""
    data = segment_map(SUN2_NUMBERS, {0: 255}, {(255, 12): 0x80000021})
    image = bytes(8) + data + bytes(0x10000)
    short = data[: said * 0x800 - 8]
    headers = Headers("savecore", 0, M68000.abi.kcore_hdr(), short, 8, 8 + len(short), 0x10000)
    found = settle(M68000, headers, lambda offset, n: image[offset : offset + n], said * 0x800 + room * 0x800)
    assert found.machine == M68000
    if whole:
        missing = (9 - said) * 0x800
        assert found.headers == headers._replace(
            cpu_data=data, data_off=headers.data_off + missing, data_size=0x10000 - missing
        )
        assert f"c_size is for {said} pages, but these kernels write 9 before memory" in found.reasons[1]
        assert page(segment_translator(found.headers.cpu_data, M68000), 0x6000) == (0x21 * 0x800, 0x800)
    else:
        assert found.headers == headers
        assert len(found.reasons) == 1


def test_sun3_counts_all_its_pages() -> None:
    data = segment_map(SUN3_NUMBERS, {}, {})
    assert len(data) == 3 * 0x2000 - 8
    headers = Headers("device", 0, M68K.abi.kcore_hdr(), data[:0x2000], 8, 0x2008, None)
    assert settle(M68K, headers, lambda offset, n: bytes(n), 1 << 24).headers == headers


# -- sample dumps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "name", "mmutype", "page_size", "segments_at"),
    [
        ("", "hp300", -1, 4096, 96),
        ("-040", "mvme68k", -2, 4096, 96),
        ("-060", "amiga", -3, 8192, 96),
        ("-u64a4", "x68k", -1, 8192, 92),
        ("-sun3x", "sun3x", None, 8192, 40),
        ("-sun3", "sun3", None, 8192, 0),
    ],
)
def test_samples(
    variant: str, name: str, mmutype: int | None, page_size: int, segments_at: int, tmp_path: Path
) -> None:
    sample = kvmlib.make_sample(f"netbsd/m68k{variant}", tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert kd.machine is not None
        assert kd.cpu_hdr["name"] == name
        assert kd.machine.page_size == page_size
        assert kd.machine.segments_offset(kd.cpu_hdr) == segments_at
        if mmutype is not None:
            assert tables.mmu_type(kd.cpu_hdr["mmutype"]) == mmutype
            end = kd.cpu_hdr["relocend"]
            assert kd.kvatop(end - 1) == (kd.kvatop(end - 2)[0] + 1, page_size - (end - 1) % page_size)
            assert end % page_size
            with pytest.raises(TranslationError):
                kd.kvatop(end)


def test_sample_of_a_sun2_counts_as_its_kernel_does(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("netbsd/m68000", tmp_path)
    raw = Path(sample.image).read_bytes()[sample.dump_off :]
    assert int.from_bytes(raw[4:8]) == 3 * 2048 - 8
    with kvmlib.open(sample.image) as kd:
        assert kd.dump_off == sample.dump_off + 9 * 2048
        assert len(kd.cpu_data) == 9 * 2048 - 8
