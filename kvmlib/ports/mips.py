"""MIPS: what the kernels of both systems have in common, and NetBSD's header, which is the same for 32 and 64 bits.

Sources: MIPS R4000 User's Manual, MIPS R3000 Hardware User's Manual; NetBSD's sys/arch/mips/include/kcore.h,
cpuregs.h, mips1_pte.h, mips3_pte.h, mips_machdep.c, pmap.c; lib/libkvm/kvm_mips.c.
"""

from __future__ import annotations

import bisect
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from kvmlib.errors import FormatError, KvmError
from kvmlib.kcore import ByteOrder, CField, CStruct, Headers, RamSeg, Read
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, Settled, counted_ram
from kvmlib.translate import ReadPhysical, Translator, Unavailable
from kvmlib.translate.linear import Regions, Via, Window
from kvmlib.translate.radix import Hole, Level, Page, Paging, Radix
from kvmlib.translate.xkphys import START as XKPHYS, STOP as XKSEG, Xkphys, cca_name

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

PAGE = 4096
#: Addresses of 64 bits that stand for the 32-bit ones begin here (CKSEG0 and so on).
COMPAT = 0xFFFFFFFF00000000
KSEG0, KSEG1, KSEG2 = 0x80000000, 0xA0000000, 0xC0000000
#: MIPS_PHYS_MASK: what KSEG0 and KSEG1 can reach.
PHYS_MASK = 0x1FFFFFFF
#: MIPS_XKPHYS_TO_PHYS of NetBSD: all bits below the cache attribute.
_XKPHYS_PA_BITS = 59
#: PTEs that a table can have at most: KSEG2 has no more pages; XKSEG is larger than any kernel's memory for a table.
_MOST_PTES = {32: 1 << 18, 64: 1 << 24}
_NOT_KERNEL = "invalid kernel virtual address"
#: Memory searched for pointers, in bytes.
_EVIDENCE_RANGE = 16 << 20
_PIECE = 1 << 20
#: The upper half of an address in XKPHYS, cached, of memory below 4 GiB.
XKPHYS_CACHED = 0x98000000
#: From here on words may be instructions that load or store a word.
_LOADS = 0x8C000000
#: EntryLo of the R3000 and of the R4000, with what NetBSD's pmap keeps in bits that the hardware ignores.
_MIPS1_FLAGS = {11: "N", 10: "D", 9: "V", 8: "G", 1: "wired", 0: "ro"}
_MIPS3_FLAGS = {31: "wired", 30: "ro", 2: "D", 1: "V", 0: "G"}
_MIPS1_PROTECTION = 1 << 11 | 1 << 10 | 1 << 8 | 1 << 0
_MIPS3_PROTECTION = 1 << 30 | 7 << 3 | 1 << 2 | 1 << 0


def kseg01(bits: int, page: int) -> list[Window]:
    """The two windows on low memory that every MIPS has, for addresses of `bits` bits."""
    high, c = (COMPAT, "C") if bits == 64 else (0, "")
    return [
        Window(f"{c}KSEG0", high + KSEG0, high + KSEG1, 0, unit=page, flags=("cached",)),
        Window(f"{c}KSEG1", high + KSEG1, high + KSEG2, 0, unit=page, flags=("uncached",)),
    ]


# -- page table entries ----------------------------------------------------------------------------------------------


def mips1_words(entry: int) -> tuple[str, ...]:
    """Name the flags of an R3000's entry."""
    return tuple(name for bit, name in _MIPS1_FLAGS.items() if entry >> bit & 1)


def mips3_words(entry: int) -> tuple[str, ...]:
    """Name the flags of an R4000's entry; bits 5 to 3 are a cache attribute."""
    cca = entry >> 3 & 7
    return tuple(name for bit, name in _MIPS3_FLAGS.items() if entry >> bit & 1) + ((cca_name(cca),) if cca else ())


def paging(hdr: Mapping[str, Any], bits: int) -> Paging:
    """The kernel's page table as the header describes it: one level, up to `sysmapsize` entries.

    An entry's frame number is ``(pte & pg_frame) >> pg_shift``, and it is valid if any bit of pg_v is set.
    """
    shift = hdr["pg_shift"]
    left = 12 - shift
    frame = hdr["pg_frame"] >> shift << shift
    if bits == 32 and left > 0:
        # As in C: what doesn't fit in 32 bits is lost.
        frame &= 0xFFFFFFFF >> left
    valid = [1 << bit for bit in range(32) if hdr["pg_v"] >> bit & 1]
    r4000 = hdr["archlevel"] != 1
    index_bits = 18 if bits == 32 else 32
    return Paging(
        name=f"one level of {hdr['sysmapsize']} entries, {'R4000' if r4000 else 'R3000'} form",
        entry_bytes=4,
        levels=(
            Level(
                "Sysmap",
                12,
                index_bits,
                tuple(Page(mask=bit, value=bit, frame=frame, left=left) for bit in valid) or (Hole(mask=0, value=0),),
                "could not read PTE",
                "invalid translation (invalid PTE)",
                words=mips3_words if r4000 else mips1_words,
                size=hdr["sysmapsize"],
            ),
        ),
        flags={},
        protection=_MIPS3_PROTECTION if r4000 else _MIPS1_PROTECTION,
        va_bits=bits,
        canonical_bits=12 + index_bits,
        base=KSEG2 if bits == 32 else XKSEG,
    )


def _mmu32(order: ByteOrder) -> Callable[[Mmu], Translator]:
    def mmu(m: Mmu) -> Translator:
        end = KSEG2 + m.hdr["sysmapsize"] * PAGE
        table = Radix(paging(m.hdr, 32), m.hdr["sysmappa"], m.read, order)
        behind = Unavailable(f"invalid KSEG2 address, the kernel's page table ends at va {end:#x}", 32)
        parts: list[Window | Via] = [*kseg01(32, PAGE), Via(KSEG2, end, table), Via(end, 1 << 32, behind)]
        return Regions(f"KSEG0, KSEG1; KSEG2: {table.name}", 32, parts, _NOT_KERNEL)

    return mmu


def _mmu64(order: ByteOrder) -> Callable[[Mmu], Translator]:
    def mmu(m: Mmu) -> Translator:
        end = XKSEG + m.hdr["sysmapsize"] * PAGE
        table = Radix(paging(m.hdr, 64), m.hdr["sysmappa"], m.read, order)
        behind = Unavailable(f"invalid XKSEG address, the kernel's page table ends at va {end:#x}", 64)
        parts: list[Window | Via] = [
            Via(XKPHYS, XKSEG, Xkphys(_XKPHYS_PA_BITS, PAGE)),
            *kseg01(64, PAGE),
            Via(XKSEG, end, table),
            Via(end, COMPAT + KSEG0, behind),
        ]
        return Regions(f"XKPHYS, CKSEG0, CKSEG1; XKSEG: {table.name}", 64, parts, _NOT_KERNEL)

    return mmu


# -- NetBSD's header -------------------------------------------------------------------------------------------------

CPU_HDR = CStruct(
    "cpu_kcore_hdr_t",
    "sys/arch/mips/include/kcore.h",
    28,
    (
        CField(0, "u32", "sysmappa", "uint32_t", "pa of the kernel's page table, Sysmap"),
        CField(4, "u32", "sysmapsize", "uint32_t", "number of PTEs in it"),
        CField(8, "u32", "archlevel", "uint32_t", "form of the PTEs: 1 is the R3000's, 3 the R4000's"),
        CField(12, "u32", "pg_shift", "uint32_t", "how far a PTE is shifted right to get the page's number"),
        CField(16, "u32", "pg_frame", "uint32_t", "mask of the page's number in a PTE"),
        CField(20, "u32", "pg_v", "uint32_t", "a PTE's valid bit"),
        CField(24, "u32", "nmemsegs", "uint32_t", "number of RAM segments that follow"),
    ),
)


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    hdr = machine.parse_cpu_hdr(headers.cpu_data)
    most = _MOST_PTES[8 * machine.long_bytes]
    if hdr["pg_shift"] > 31:
        raise FormatError(f"pg_shift is {hdr['pg_shift']}, but a PTE has 32 bits")
    if hdr["sysmapsize"] > most:
        raise FormatError(f"sysmapsize is {hdr['sysmapsize']}, but a kernel has {most} PTEs at most")
    return Settled(machine, headers)


def _range(value: int, base: int) -> str:
    return f"{value} PTEs: va {base:#x} to {base + value * PAGE:#x}, {value * PAGE >> 10} KiB"


def _facts(base: int) -> tuple[RegisterFact, ...]:
    levels = {1: "R3000 (MIPS I)", 3: "R4000 (MIPS III and later)"}
    return (
        RegisterFact(
            "sysmappa", 32, "Sysmap: where address translation starts", lambda v, hdr: f"page table at pa {v:#x}"
        ),
        RegisterFact("sysmapsize", 32, "Sysmapsize", lambda v, hdr: _range(v, base)),
        RegisterFact(
            "archlevel", 32, "whose PTEs these are", lambda v, hdr: levels.get(v, "none known, read as an R4000's")
        ),
        RegisterFact("pg_shift", 32, "PG_SHIFT of these PTEs", lambda v, hdr: f"page number is PTE >> {v}"),
        RegisterFact("pg_frame", 32, "PG_FRAME of these PTEs", lambda v, hdr: f"page number in {_bits(v)}"),
        RegisterFact("pg_v", 32, "PG_V of these PTEs", lambda v, hdr: f"valid if {_bits(v)} set"),
    )


def _bits(mask: int) -> str:
    """Spell a mask as the manuals do; all masks that kernels use have their bits in a row."""
    if mask == 0:
        return "no bit is"
    high, low = mask.bit_length() - 1, (mask & -mask).bit_length() - 1
    return f"bit {low} is" if high == low else f"bits {high}:{low}"


# -- 32 or 64 bits ---------------------------------------------------------------------------------------------------


def _pointers(read: ReadPhysical, ram: Sequence[RamSeg], order: ByteOrder) -> tuple[list[int], list[int]]:
    """Return the pa of doublewords that are pointers of 64 bits into RAM, and of those with such a pointer of 32 bits.

    Pointers of 64 bits are those into CKSEG0, with their sign extended, and into the cached window of XKPHYS. Words
    from 0x8c000000 on don't count as pointers of 32 bits: they may be instructions that load or store a word. Nor do
    odd numbers, which may be PTEs of wired pages.
    """
    wide, narrow = [], []
    runs = sorted((s.start, s.start + s.size) for s in ram)
    starts = [start for start, _ in runs]

    def points(word: int, stop: int) -> bool:
        return KSEG0 <= word < stop and word & 3 == 0 and present(word & PHYS_MASK)

    def present(pa: int) -> bool:
        i = bisect.bisect_right(starts, pa) - 1
        return i >= 0 and pa < runs[i][1]

    for pa, high, low in _doublewords(read, ram, order):
        if high == 0xFFFFFFFF:
            if points(low, KSEG1):
                wide.append(pa)
        elif high == XKPHYS_CACHED and present(low):
            wide.append(pa)
        elif points(high, _LOADS) or points(low, _LOADS):
            narrow.append(pa)
    return wide, narrow


def _doublewords(read: ReadPhysical, ram: Sequence[RamSeg], order: ByteOrder) -> Iterator[tuple[int, int, int]]:
    """Yield (pa, high half, low half) of the doublewords in the first of RAM that may have a pointer in them."""
    left = _EVIDENCE_RANGE
    for s in ram:
        for at in range(0, min(s.size, left), _PIECE):
            try:
                words = array("I", read(s.start + at, min(_PIECE, s.size - at) & ~7))
            except KvmError:
                break
            if order != sys.byteorder:
                words.byteswap()
            first, second = words[::2], words[1::2]
            halves = zip(first, second, strict=True) if order == "big" else zip(second, first, strict=True)
            for i, (high, low) in enumerate(halves):
                if (high | low) >= KSEG0:
                    yield s.start + at + 8 * i, high, low
        left -= min(s.size, left)


def _evidence(bits: int, order: ByteOrder) -> Callable[[ReadPhysical, Sequence[RamSeg]], str]:
    """Tell kernels of 32 and 64 bits apart by the pointers in their memory."""

    def evidence(read: ReadPhysical, ram: Sequence[RamSeg]) -> str:
        wide, narrow = _pointers(read, ram, order)
        ours, theirs = (wide, narrow) if bits == 64 else (narrow, wide)
        if len(ours) <= len(theirs):
            return ""
        return f"pointers in memory have {bits} bits, such as at pa {ours[0]:#x}: {len(ours)} against {len(theirs)}"

    return evidence


def netbsd(
    arch: str,
    order: ByteOrder,
    bits: Literal[32, 64],
    ports: tuple[str, ...],
    samples: Callable[[], tuple[SamplePlan, ...]],
) -> Machine:
    """One of the four NetBSD machines; `ports` are names under sys/arch."""
    wide = bits == 64
    return Machine(
        system=NETBSD,
        arch=arch,
        mid=142 if order == "big" else 139,
        byteorder=order,
        long_bytes=bits // 8,
        page_size=PAGE,
        align_mask=7,
        translator="windows and 1 level",
        libkvm="windows; XKSEG by the wrong base" if wide else "windows and 1 level",
        ours="XKSEG too; told from 32 bits by its pointers" if wide else "the same; told from 64 bits by its pointers",
        ports=ports,
        cpu_hdr=CPU_HDR,
        ram=counted_ram("nmemsegs"),
        segments_offset=_segments_offset,
        settle=_settle,
        root=_root,
        mmu=_mmu64(order) if wide else _mmu32(order),
        evidence=_evidence(bits, order),
        register_facts=_facts(XKSEG if wide else KSEG2),
        dumpmag_bytes=4,
        elf_machine="EM_MIPS",
        samples=samples,
    )


def _segments_offset(hdr: Mapping[str, Any]) -> int:
    return 32


def _root(hdr: Mapping[str, Any]) -> int:
    return int(hdr["sysmappa"])
