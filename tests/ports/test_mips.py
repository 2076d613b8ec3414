"""MIPS, of 32 and 64 bits: headers, page tables, windows, and how the two are told apart."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib.errors import NotInDumpError
from kvmlib.kcore import Headers, RamSeg
from kvmlib.ports.base import Machine, Mmu
from kvmlib.translate import ReadPhysical, Translator
from kvmlib.translate.xkphys import Xkphys

NETBSD = ("netbsd/mips64", "netbsd/mips64el", "netbsd/mipseb", "netbsd/mipsel")
SYSMAP = 0x3000
R3000 = {"archlevel": 1, "pg_shift": 12, "pg_frame": 0xFFFFF000, "pg_v": 0x200}
R4000 = {"archlevel": 3, "pg_shift": 6, "pg_frame": 0x3FFFFFC0, "pg_v": 2}
VR4100 = {"archlevel": 3, "pg_shift": 4, "pg_frame": 0x3FFFFFC0, "pg_v": 2}
XKPHYS, XKSEG, CKSEG0 = 0x8000000000000000, 0xC000000000000000, 0xFFFFFFFF80000000


def memory(parts: dict[int, bytes]) -> ReadPhysical:
    """Physical memory that has these parts only."""

    def read(pa: int, n: int) -> bytes:
        for start, data in parts.items():
            if start <= pa and pa + n <= start + len(data):
                return data[pa - start : pa - start + n]
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa)

    return read


def translator(name: str, form: dict[str, int], ptes: list[int], size: int | None = None) -> Translator:
    m = kvmlib.machine(name)
    table = b"".join(pte.to_bytes(4, m.byteorder) for pte in ptes)
    hdr = {"sysmappa": SYSMAP, "sysmapsize": len(ptes) if size is None else size, **form}
    return m.mmu(Mmu(hdr, memory({SYSMAP: table}), lambda name: None))


def fails(t: Translator, va: int, words: str) -> int:
    """Expect a failure with these words, and return how far it is said to go."""
    with pytest.raises(kvmlib.TranslationError, match=words) as caught:
        t.kvatop(va)
    last = t.walk(va)[-1]
    assert last.outcome in ("outside", "invalid", "unreadable")
    assert last.note in str(caught.value)
    return caught.value.size


def works(t: Translator, va: int) -> tuple[int, int]:
    found = t.kvatop(va)
    assert t.walk(va)[-1].pa == found[0]
    return found


# -- headers -----------------------------------------------------------------------------------------------------------


def cpu_data(m: Machine, hdr: dict[str, int], segments: list[tuple[int, int]]) -> bytes:
    order = ">" if m.byteorder == "big" else "<"
    names = ("sysmappa", "sysmapsize", "archlevel", "pg_shift", "pg_frame", "pg_v")
    data = struct.pack(f"{order}7I4x", *(hdr.get(n, 0) for n in names), hdr.get("nmemsegs", len(segments)))
    return (data + b"".join(struct.pack(f"{order}QQ", *s) for s in segments)).ljust(504, b"\0")


def settle(m: Machine, hdr: dict[str, int]) -> Any:
    headers = Headers("device", 0, m.abi.kcore_hdr(), cpu_data(m, hdr, []), 8, 512, None)
    assert m.settle is not None
    return m.settle(m, headers, lambda offset, n: b"", 512)


@pytest.mark.parametrize("name", NETBSD)
def test_each_field_of_the_header(name: str) -> None:
    m = kvmlib.machine(name)
    data = struct.pack(">7I4x" if m.byteorder == "big" else "<7I4x", *range(101, 107), 2)
    data += struct.pack(">4Q" if m.byteorder == "big" else "<4Q", 0x1000, 0x2000, 0x8000000, 0x3000)
    hdr = m.parse_cpu_hdr(data)
    assert hdr == {
        "sysmappa": 101,
        "sysmapsize": 102,
        "archlevel": 103,
        "pg_shift": 104,
        "pg_frame": 105,
        "pg_v": 106,
        "nmemsegs": 2,
    }
    assert m.ram is not None
    assert m.ram(m, data, hdr) == [(0x1000, 0x2000), (0x8000000, 0x3000)]
    assert m.root is not None
    assert m.root(hdr) == 101


@pytest.mark.parametrize("name", NETBSD)
def test_more_segments_than_there_is_room_for(name: str) -> None:
    m = kvmlib.machine(name)
    assert m.ram is not None
    for count, fits in ((29, True), (30, False), (0xFFFFFFFF, False)):
        data = cpu_data(m, {"nmemsegs": count}, [])
        if fits:
            assert len(m.ram(m, data, m.parse_cpu_hdr(data))) == count
        else:
            with pytest.raises(kvmlib.FormatError, match="nmemsegs"):
                m.ram(m, data, m.parse_cpu_hdr(data))


@pytest.mark.parametrize(("name", "most"), [("netbsd/mipseb", 1 << 18), ("netbsd/mips64el", 1 << 24)])
def test_headers_that_cannot_be(name: str, most: int) -> None:
    m = kvmlib.machine(name)
    assert settle(m, {"pg_shift": 31, "sysmapsize": most}).machine is m
    with pytest.raises(kvmlib.FormatError, match="pg_shift is 32"):
        settle(m, {"pg_shift": 32})
    with pytest.raises(kvmlib.FormatError, match=f"sysmapsize is {most + 1}"):
        settle(m, {"sysmapsize": most + 1})


def test_registers_in_words() -> None:
    m = kvmlib.machine("netbsd/mipsel")
    hdr = {"sysmappa": 0x5000, "sysmapsize": 4096, **R4000}
    text = {r.name: r.decoded for r in m.registers(hdr)}
    assert text == {
        "sysmappa": "page table at pa 0x5000",
        "sysmapsize": "4096 PTEs: va 0xc0000000 to 0xc1000000, 16384 KiB",
        "archlevel": "R4000 (MIPS III and later)",
        "pg_shift": "page number is PTE >> 6",
        "pg_frame": "page number in bits 29:6",
        "pg_v": "valid if bit 1 is set",
    }
    wide = {r.name: r.decoded for r in kvmlib.machine("netbsd/mips64").registers({**hdr, **R3000, "pg_v": 0})}
    assert wide["sysmapsize"] == "4096 PTEs: va 0xc000000000000000 to 0xc000000001000000, 16384 KiB"
    assert wide["archlevel"] == "R3000 (MIPS I)"
    assert wide["pg_v"] == "valid if no bit is set"
    assert m.registers({**hdr, "archlevel": 2})[2].decoded.startswith("none known")


# -- page table entries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETBSD)
@pytest.mark.parametrize(
    ("form", "pte", "pa", "flags"),
    [
        (R3000, 0x00123200, 0x123000, ("V",)),
        (R3000, 0xFFFFFF00 | 0x3, 0xFFFFF000, ("N", "D", "V", "G", "wired", "ro")),
        (R4000, 0x123 << 6 | 2, 0x123000, ("V",)),
        (R4000, 0x123 << 6 | 3 << 3 | 6, 0x123000, ("D", "V", "cached")),
        (R4000, 0xC0000000 | 0xFFFFF << 6 | 0x3F, 0xFFFFF000, ("wired", "ro", "D", "V", "G", "uncached accelerated")),
        (R4000, 0x10 << 6 | 1 << 3 | 2, 0x10000, ("V", "cache attribute 1")),
        (VR4100, 0x40 << 4 | 2 << 3 | 2, 0x40000, ("V", "uncached")),
    ],
)
def test_forms_of_entries(name: str, form: dict[str, int], pte: int, pa: int, flags: tuple[str, ...]) -> None:
    t = translator(name, form, [0, pte])
    va = (XKSEG if "64" in name else 0xC0000000) + 0x1234
    assert works(t, va) == (pa + 0x234, 4096 - 0x234)
    assert t.walk(va)[-1].flags == flags
    assert fails(t, va - 0x1000, r"invalid translation \(invalid PTE\)") == 4096 - 0x234


def test_an_entry_without_the_valid_bit() -> None:
    for form, pte in ((R3000, 0xFFFFFFFF & ~0x200), (R4000, 0xFFFFFFFF & ~2)):
        fails(translator("netbsd/mipseb", form, [pte]), 0xC0000000, "invalid PTE")


def test_any_bit_of_pg_v_will_do() -> None:
    t = translator("netbsd/mipseb", {**R4000, "pg_v": 5}, [1 << 6, 1 << 6 | 1, 1 << 6 | 4, 1 << 6 | 2])
    fails(t, 0xC0000000, "invalid PTE")
    assert [works(t, 0xC0000000 + i * 4096) for i in (1, 2)] == [(0x1000, 4096)] * 2
    fails(t, 0xC0003000, "invalid PTE")
    fails(translator("netbsd/mipseb", {**R4000, "pg_v": 0}, [0xFFFFFFFF]), 0xC0000000, "invalid PTE")


def test_what_does_not_fit_in_32_bits_is_lost_there_only() -> None:
    """A page number of 24 bits makes 36 bits of address: paddr_t has 32 in a kernel of 32 bits, as in libkvm."""
    pte = 0x123456 << 6 | 2
    assert works(translator("netbsd/mipseb", R4000, [pte]), 0xC0000000)[0] == 0x23456000
    assert works(translator("netbsd/mips64", R4000, [pte]), XKSEG)[0] == 0x123456000


def test_bits_of_the_frame_below_the_shift_are_lost() -> None:
    t = translator("netbsd/mipseb", {**R4000, "pg_frame": 0xFFFFFFFF}, [0x123 << 6 | 0x3F])
    assert works(t, 0xC0000000)[0] == 0x123000
    t = translator("netbsd/mipseb", {**R4000, "pg_shift": 16, "pg_frame": 0xFFFFFFFF}, [0x12345678])
    fails(t, 0xC0000000, "invalid PTE")
    t = translator("netbsd/mipseb", {**R4000, "pg_shift": 16, "pg_frame": 0xFFFFFFFF}, [0x1234567A])
    assert works(t, 0xC0000000)[0] == 0x1234 << 12


# -- windows and their edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["netbsd/mipseb", "netbsd/mipsel"])
def test_all_of_32_bits(name: str) -> None:
    t = translator(name, R4000, [5 << 6 | 2, 0, 7 << 6 | 2])
    assert fails(t, 0, "invalid kernel virtual address") == 0x80000000
    assert fails(t, 0x7FFFFFFF, "invalid kernel virtual address") == 1
    assert works(t, 0x80000000) == (0, 4096)
    assert works(t, 0x9FFFFFFF) == (0x1FFFFFFF, 1)
    assert works(t, 0xA0000FF0) == (0xFF0, 16)
    assert works(t, 0xBFFFFFFF) == (0x1FFFFFFF, 1)
    assert works(t, 0xC0000000) == (0x5000, 4096)
    assert works(t, 0xC0000FFF) == (0x5FFF, 1)
    assert fails(t, 0xC0001800, "invalid PTE") == 0x800
    assert works(t, 0xC0002FFF) == (0x7FFF, 1)
    assert fails(t, 0xC0003000, "invalid KSEG2 address.*ends at va 0xc0003000") == 0x3FFFD000
    assert fails(t, 0xFFFFFFFF, "invalid KSEG2 address") == 1
    fails(t, 1 << 32, "does not fit in 32 bits")
    assert [t.walk(va)[-1].name for va in (0x80000000, 0xA0000000)] == ["KSEG0", "KSEG1"]
    assert [(m.va, m.pa, m.size, m.flags) for m in t.mappings()] == [
        (0x80000000, 0, 0x20000000, ("cached",)),
        (0xA0000000, 0, 0x20000000, ("uncached",)),
        (0xC0000000, 0x5000, 0x1000, ()),
        (0xC0002000, 0x7000, 0x1000, ()),
    ]


def test_a_table_for_all_of_kseg2() -> None:
    """Sysmapsize * 4096 is all of KSEG2 then: in C that makes 0 as the end, and nothing would translate."""
    t = translator("netbsd/mipseb", R4000, [0] * 0x3FFFF + [9 << 6 | 2])
    assert works(t, 0xFFFFFFFF) == (0x9FFF, 1)


@pytest.mark.parametrize("name", ["netbsd/mips64", "netbsd/mips64el"])
def test_all_of_64_bits(name: str) -> None:
    """MIPS64-XKSEG: the table is indexed from the start of XKSEG."""
    t = translator(name, R4000, [5 << 6 | 2, 0, 7 << 6 | 4 | 2])
    assert fails(t, 0x7FFFFFFFFFFFFFFF, "invalid kernel virtual address") == 1
    for cca in range(8):
        base = XKPHYS + (cca << 59)
        assert works(t, base) == (0, 4096)
        assert works(t, base + 0x12345678FFF) == (0x12345678FFF, 1)
        assert works(t, base + (1 << 59) - 1) == ((1 << 59) - 1, 1)
    assert t.walk(0x9000000000000000)[0].flags == ("uncached",)
    assert works(t, XKSEG) == (0x5000, 4096)
    fails(t, XKSEG + 0x1000, "invalid PTE")
    assert works(t, XKSEG + 0x2FFF) == (0x7FFF, 1)
    assert fails(t, XKSEG + 0x3000, "invalid XKSEG address") == CKSEG0 - XKSEG - 0x3000
    assert fails(t, CKSEG0 - 1, "invalid XKSEG address") == 1
    assert works(t, CKSEG0) == (0, 4096)
    assert works(t, 0xFFFFFFFF9FFFFFFF) == (0x1FFFFFFF, 1)
    assert works(t, 0xFFFFFFFFA0000001) == (1, 4095)
    assert works(t, 0xFFFFFFFFBFFFFFFF) == (0x1FFFFFFF, 1)
    assert fails(t, 0xFFFFFFFFC0000000, "invalid kernel virtual address") == 0x40000000
    assert fails(t, (1 << 64) - 1, "invalid kernel virtual address") == 1
    found = list(t.mappings())
    assert [m.va for m in found[:8]] == [XKPHYS + (cca << 59) for cca in range(8)]
    assert [(m.va, m.pa, m.size, m.flags) for m in found[8:]] == [
        (XKSEG, 0x5000, 0x1000, ()),
        (XKSEG + 0x2000, 0x7000, 0x1000, ("D",)),
        (CKSEG0, 0, 0x20000000, ("cached",)),
        (CKSEG0 + 0x20000000, 0, 0x20000000, ("uncached",)),
    ]


@pytest.mark.parametrize(
    ("form", "pte", "flags"),
    [
        (R3000, 0x00123000 | 0xF03, ("N", "D", "G", "ro")),
        (R4000, 0xC0000000 | 0x123 << 6 | 2 << 3 | 7, ("ro", "D", "G", "uncached")),
    ],
)
def test_what_protects_a_range(form: dict[str, int], pte: int, flags: tuple[str, ...]) -> None:
    """All flags but the valid bit and the pmap's note that the page is wired."""
    [m] = translator("netbsd/mipsel", form, [pte]).mappings(0xC0000000)
    assert (m.pa, m.flags) == (0x123000, flags)


def test_a_table_with_a_hole_in_it() -> None:
    """Only what is missing is left out, and that without a step for each entry."""
    m = kvmlib.machine("netbsd/mipsel")
    reads = []

    def read(pa: int, n: int) -> bytes:
        reads.append(pa)
        for start, stop in ((SYSMAP, SYSMAP + 8), (SYSMAP + 0x40000, SYSMAP + 0x40008)):
            if start <= pa and pa + n <= stop:
                return (5 << 6 | 2).to_bytes(4, "little")
        following = SYSMAP + 0x40000 if pa < SYSMAP + 0x40000 else 1 << 32
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=following - pa)

    t = m.mmu(Mmu({"sysmappa": SYSMAP, "sysmapsize": 1 << 18, **R4000}, read, lambda name: None))
    assert [va for va, _, _, _ in t.ranges(0xC0000000, 1 << 32)] == [0xC0000000, 0xC0001000, 0xD0000000, 0xD0001000]
    assert len(reads) < 20
    assert fails(t, 0xC0002000, "could not read PTE") == 0xD0000000 - 0xC0002000


def test_a_table_that_is_partly_missing() -> None:
    t = translator("netbsd/mipsel", R4000, [5 << 6 | 2], size=1 << 18)
    assert works(t, 0xC0000000) == (0x5000, 4096)
    fails(t, 0xC0001000, "could not read PTE")
    fails(t, 0xFFFFFFFF, "could not read PTE")
    # One step for each entry would take long.
    assert [m.va for m in t.mappings(0xC0000000)] == [0xC0000000]


# -- openbsd/mips64 and XKPHYS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openbsd/mips64", "openbsd/mips64-loongson"])
def test_openbsd(name: str) -> None:
    """MIPS64-INIT: what translates, page by page of 16 KiB, and why the rest doesn't."""
    m = kvmlib.machine(name)
    t = m.mmu(Mmu({}, memory({}), lambda name: None))
    assert works(t, 0x9800000000012345) == (0x12345, 0x1CBB)
    assert works(t, XKPHYS) == (0, 16384)
    assert works(t, CKSEG0) == (0, 16384)
    assert works(t, 0xFFFFFFFFBFFFFFFF) == (0x1FFFFFFF, 1)
    # SGI's IP27 has an uncached alias of memory at 3 << 57; the kernel looks at 36 bits.
    assert works(t, 0x9600000300000000) == (0x300000000, 16384)
    assert fails(t, 0, r"invalid address \(0\), .*Sysmap") == XKPHYS
    assert fails(t, XKSEG, r"invalid address \(c000000000000000\)") == CKSEG0 - XKSEG
    assert fails(t, 0xFFFFFFFFC0000000, r"invalid address \(ffffffffc0000000\)") == 0x40000000
    found = list(t.mappings())
    assert len(found) == 10
    assert {m.size for m in found} == {1 << 36, 0x20000000}


def test_openbsd_header() -> None:
    for name, order in (("openbsd/mips64", ">"), ("openbsd/mips64-loongson", "<")):
        m = kvmlib.machine(name)
        data = struct.pack(f"{order}QI4x", 0x101, 0x102) + b"".join(
            struct.pack(f"{order}QQ", 0x1000 * i, 0x100 + i) for i in range(9)
        )
        hdr = m.parse_cpu_hdr(data)
        assert hdr == {"kernel_pa": 0x101, "mmutype": 0x102}
        assert m.registers(hdr)[0].decoded == "kernel at pa 0x101"
        assert [(r.name, r.value) for r in m.registers(hdr)] == [("kernel_pa", 0x101), ("mmutype", 0x102)]
        assert m.ram is not None
        assert m.ram(m, data, hdr) == [(0x1000 * i, 0x100 + i) for i in range(8)]


@pytest.mark.parametrize("size", [143, 144])
def test_openbsd_header_needs_its_eight_segments(size: int) -> None:
    """As little as 16 bytes would fit the wrong byte order."""
    m = kvmlib.machine("openbsd/mips64")
    headers = Headers("device", 0x200, m.abi.kcore_hdr(), bytes(size), 0x208, 0x208 + size, None)
    assert m.settle is not None
    if size == 144:
        assert m.settle(m, headers, lambda offset, n: b"", 4096).machine is m
    else:
        with pytest.raises(kvmlib.FormatError, match="c_size is 143"):
            m.settle(m, headers, lambda offset, n: b"", 4096)


def test_xkphys_alone() -> None:
    t = Xkphys(40, 4096)
    assert works(t, 0xA800000000000FFF) == (0xFFF, 1)
    assert works(t, 0xA800010000000FFF) == (0xFFF, 1)
    assert fails(t, XKPHYS - 1, "not in XKPHYS") == 1
    fails(t, XKSEG, "not in XKPHYS")
    cut = list(t.ranges(0x9000000000001000, 0x9800000000002000))
    assert [(m.va, m.pa, m.size) for m in cut] == [
        (0x9000000000001000, 0x1000, (1 << 40) - 0x1000),
        (0x9800000000000000, 0, 0x2000),
    ]
    assert list(t.ranges(0x9000010000000000, 0x9800000000000000)) == []


# -- 32 or 64 bits -----------------------------------------------------------------------------------------------------

RAM = [RamSeg(0x2000, 0x4000), RamSeg(0x10000000, 0x4000)]


def evidence(bits: int, order: str, words: list[int], at: int = 0x2000) -> str:
    name = {(32, "big"): "mipseb", (32, "little"): "mipsel", (64, "big"): "mips64", (64, "little"): "mips64el"}
    m = kvmlib.machine(f"netbsd/{name[bits, order]}")
    data = b"".join(w.to_bytes(4, m.byteorder) for w in words)
    parts = {s.start: bytes(s.size) for s in RAM}
    home = next(s.start for s in RAM if s.start <= at < s.start + s.size)
    parts[home] = bytes(at - home) + data + bytes(len(parts[home]) - (at - home) - len(data))
    assert m.evidence is not None
    return m.evidence(memory(parts), RAM)


def long_words(order: str, *values: int) -> list[int]:
    """The words that these doublewords consist of, in the order of memory."""
    halves = [(v >> 32, v & 0xFFFFFFFF) for v in values]
    return [w for high, low in halves for w in ((high, low) if order == "big" else (low, high))]


@pytest.mark.parametrize("order", ["big", "little"])
def test_pointers_tell_the_width(order: str) -> None:
    wide = long_words(order, 0xFFFFFFFF80002010)
    narrow = [0x80002010, 7]
    assert "pointers in memory have 64 bits, such as at pa 0x2008: 1 against 0" in evidence(64, order, wide, 0x2008)
    assert evidence(32, order, wide) == ""
    assert "pointers in memory have 32 bits, such as at pa 0x2000: 1 against 0" in evidence(32, order, narrow)
    assert evidence(64, order, narrow) == ""
    assert evidence(32, order, [0, 0]) == evidence(64, order, [0, 0]) == ""
    # As many of each prove nothing.
    assert evidence(32, order, wide + narrow) == evidence(64, order, wide + narrow) == ""


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (0xFFFFFFFF80005FFC, 64),
        (0xFFFFFFFF80005FFE, 0),
        (0xFFFFFFFF80006000, 0),  # no RAM there
        (0xFFFFFFFF90000000, 64),
        (0xFFFFFFFFA0002000, 0),  # nobody points to uncached memory
        (0xFFFFFFFFFFFFFFFF, 0),
        (0x9800000010000010, 64),
        (0x9800000020000010, 0),
        (0x0000000080002000, 32),
        (0x8000200080002004, 32),
        (0x000000008BFF0000, 0),
        (0x9000001000000000, 0),  # lbu zero,16(zero)
        (0x8000201F8000205F, 0),  # two PTEs
    ],
)
def test_what_counts_as_a_pointer(order: str, value: int, bits: int) -> None:
    words = long_words(order, value)
    assert [b for b in (32, 64) if evidence(b, order, words, 0x10000008)] == ([bits] if bits else [])


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_pointer_across_doublewords_is_none(order: str) -> None:
    """Structures of 64 bits are aligned: one word further on, it is two words of something else."""
    words = [0, *long_words(order, 0xFFFFFFFF80002010), 0]
    assert evidence(64, order, words) == ""


def test_only_the_first_of_memory_is_searched() -> None:
    m = kvmlib.machine("netbsd/mips64")
    asked = []

    def read(pa: int, n: int) -> bytes:
        asked.append((pa, n))
        return bytes(n)

    assert m.evidence is not None
    assert m.evidence(read, [RamSeg(0, 10 << 20), RamSeg(0x20000000, 1 << 30)]) == ""
    assert sum(n for _, n in asked) == 16 << 20
    assert max(pa + n for pa, n in asked) == 0x20000000 + (6 << 20)


def test_a_segment_that_is_cut_off_is_searched_as_far_as_it_goes() -> None:
    m = kvmlib.machine("netbsd/mips64")
    data = bytes.fromhex("ffffffff80000010") + bytes((1 << 20) - 8)
    assert m.evidence is not None
    assert "at pa 0x0" in m.evidence(memory({0: data}), [RamSeg(0, 4 << 20)])


def test_machines_are_equal_to_themselves_only() -> None:
    """Settled machines are compared."""
    machines = [kvmlib.machine(name) for name in NETBSD]
    for m in machines:
        assert settle(m, R4000).machine == m
        assert [other for other in machines if replace(m) == other] == [m]


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flags", "device"),
    [
        ("netbsd/mipseb", ("wired", "D", "V", "G", "cached"), ("wired", "D", "V", "G", "uncached")),
        ("netbsd/mipseb-r3000", ("D", "V", "G"), ("N", "D", "V", "G")),
        ("netbsd/mipsel", ("wired", "D", "V", "G", "cached"), ("wired", "D", "V", "G", "uncached")),
        ("netbsd/mipsel-r3000", ("D", "V", "G"), ("N", "D", "V", "G")),
        ("netbsd/mips64", ("wired", "D", "V", "G", "cached"), ("wired", "D", "V", "G", "uncached")),
        ("netbsd/mips64el", ("wired", "D", "V", "G", "cached"), ("wired", "D", "V", "G", "uncached")),
    ],
)
def test_samples_of_netbsd(tmp_path: Path, name: str, flags: tuple[str, ...], device: tuple[str, ...]) -> None:
    sample = kvmlib.make_sample(name, tmp_path)
    base = XKSEG if "64" in name else 0xC0000000
    with kvmlib.open(sample.image) as kd:
        assert kd.machine is not None
        assert kd.machine.name == name.partition("-")[0]
        assert kd.doubt == ""
        assert kd.walk(base + 0x400000)[-1].flags == flags
        assert kd.walk(base + 0x460000)[-1].flags == device
        with pytest.raises(kvmlib.NotInDumpError):
            kd.read(base + 0x460000, 4)
        for where, words in (
            (0x405000, "invalid PTE"),
            (0x450000, "invalid PTE"),
            (0x1000000, "address, the kernel's"),
        ):
            with pytest.raises(kvmlib.TranslationError, match=words):
                kd.kvatop(base + where)


def test_sample_with_memory_above_4_gib(tmp_path: Path) -> None:
    """Only XKPHYS reaches it."""
    sample = kvmlib.make_sample("netbsd/mips64", tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert kd.kvatop(0x9800000410000010) == (0x410000010, 4080)
        assert kd.read(0x9800000410000010, 16) == sample.read_physical(0x410000010, 16)
        with pytest.raises(kvmlib.NotInDumpError):
            kd.read(0x9800000410080000, 1)


@pytest.mark.parametrize(("name", "order"), [("openbsd/mips64", "big"), ("openbsd/mips64-loongson", "little")])
def test_samples_of_openbsd(tmp_path: Path, name: str, order: str) -> None:
    """MIPS64-INIT: the byte order is found out; malloc'ed memory can be read, stacks can't."""
    sample = kvmlib.make_sample(name, tmp_path)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert kd.machine is not None
        assert (kd.machine.name, kd.machine.byteorder) == ("openbsd/mips64", order)
        heap = next(w for w in sample.mapped if w.va >> 60 == 9)
        assert kd.read(heap.va, 64) == sample.read_physical(heap.pa, 64)
        with pytest.raises(kvmlib.TranslationError, match="Sysmap"):
            kd.read(0xC000000000104000, 1)
