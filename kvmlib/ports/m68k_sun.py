"""Sun-2, Sun-3 and Sun-3x: the m68k machines whose dumps have another CPU header than the rest.

Sources: sys/arch/m68k/include/kcore.h (struct sun2_kcore_hdr, sun3_kcore_hdr, sun3x_kcore_hdr); dumpsys in
sys/arch/{sun2,sun3}/*/machdep.c; lib/libkvm/kvm_sun{2,3,3x}.c.

Sun-2 and Sun-3 have no tables in memory: the MMU's own RAM is dumped, between the header and memory. All of memory
follows, from physical address 0 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvmlib.kcore import CField, CStruct, Headers, RamSeg, Read
from kvmlib.ports.base import Mmu, Pcb, RegisterFact, listed_ram
from kvmlib.ports.m68k_tables import BITS, HEAD, KERNBASE, PAGE_SIZE, TOP, shift_of
from kvmlib.translate import ReadPhysical, Translator, Unavailable
from kvmlib.translate.linear import Regions, Via, Window
from kvmlib.translate.radix import Level, Page, Paging, Radix
from kvmlib.translate.segmap import sun3_map

#: sizeof(kcore_seg_t): the first page of the dump begins with it.
_SEG = 8
#: PMEGs that the MMU has, and PTEs in each (machine/pte.h: NPMEG, NPAGSEG).
PMEGS = 256
PTES = 16
PMEG_BYTES = 4 * PMEGS * PTES
#: MSG_MAGIC of sys/msgbuf.h, a long.
_MSG_MAGIC = (0x063061).to_bytes(4)
_HEADER = "sys/arch/m68k/include/kcore.h"
_OUTSIDE = "not a kernel address"
_INVALID = "page not valid (VA={va:#x})"

#: struct pcb (m68k/pcb.h): D2-D7, A2-A7 from byte 12 on; then the FPU's state. savectx leaves sp at its return address.
PCB = Pcb(388, {"a6": (52, 4), "sp": (56, 4)}, sp="sp", fp="a6", at_sp=("pc",))


def _segmap_hdr(segments: int) -> CStruct:
    return CStruct(
        "cpu_kcore_hdr_t",
        _HEADER,
        36 + segments,
        (
            *HEAD,
            CField(24, "u32", "segshift", "uint32_t", "log2 of a segment's bytes: SEGSHIFT"),
            CField(28, "u32", "pg_frame", "uint32_t", "bits of a PTE that are the page's number: PG_FRAME"),
            CField(32, "u32", "pg_valid", "uint32_t", "bit of a PTE that makes it valid: PG_VALID"),
            CField(36, "u8", "ksegmap", "u_char[]", "number of the PMEG that maps this segment", segments),
        ),
    )


SUN2_HDR, SUN3_HDR = _segmap_hdr(512), _segmap_hdr(256)


# -- Sun-3x ----------------------------------------------------------------------------------------------------------

SUN3X_HDR = CStruct(
    "cpu_kcore_hdr_t",
    _HEADER,
    40,
    (
        *HEAD,
        CField(24, "u32", "pg_frame", "uint32_t", "bits of a PTE that are the page's pa: MMU_SHORT_PTE_BASEADDR"),
        CField(28, "u32", "pg_valid", "uint32_t", "bit of a PTE that makes it valid: MMU_DT_PAGE"),
        CField(32, "u32", "contig_end", "uint32_t", "va that the directly mapped range ends at"),
        CField(36, "u32", "kernCbase", "uint32_t", "va of the kernel's PTEs, in that range"),
    ),
)


def _sun3x_root(hdr: Mapping[str, Any]) -> int:
    """Return the pa of the kernel's PTEs."""
    return int(hdr["kernCbase"] - hdr["kernbase"]) % TOP


def sun3x_paging(hdr: Mapping[str, Any]) -> Paging:
    """Return the form of the one table: a PTE for each page from kernbase on.

    Raises:
        ValueError: there can't be such a table, and why.
    """
    base, end, table = hdr["kernbase"], hdr["contig_end"], hdr["kernCbase"]
    page = shift_of(hdr["page_size"])
    bits = (TOP - base).bit_length() - 1
    if TOP - base != 1 << bits or bits <= page:
        raise ValueError(f"kernbase is {base:#x}, which leaves no power of two of addresses")
    if not base <= table < end:
        raise ValueError(f"kernCbase is {table:#x}, which doesn't lie in {base:#x} to contig_end {end:#x}")
    if hdr["pg_valid"].bit_count() != 1:
        raise ValueError(f"pg_valid is {hdr['pg_valid']:#x}, but one bit makes a PTE valid")
    entries = min(1 << bits - page, (end - table) // 4)
    valid = hdr["pg_valid"]
    level = Level(
        "PTEs of the kernel",
        page,
        bits - page,
        (Page(mask=valid, value=valid, frame=hdr["pg_frame"]),),
        "can not read PTE!",
        _INVALID,
        own_flags={valid.bit_length() - 1: "V"} | {2: "WP", 3: "U", 4: "M", 6: "CI"},
        size=None if entries == 1 << bits - page else entries,
    )
    return Paging(
        name=f"one table of PTEs for pages of {hdr['page_size'] >> 10} KiB",
        entry_bytes=4,
        levels=(level,),
        flags={},
        protection=1 << 2 | 1 << 6,
        va_bits=BITS,
        canonical_bits=bits,
        base=base,
    )


def _sun3x_mmu(m: Mmu) -> Translator:
    hdr = m.hdr
    try:
        tables = Radix(sun3x_paging(hdr), _sun3x_root(hdr), m.read, "big")
    except ValueError as e:
        return Unavailable(f"the CPU header describes no table: {e}", BITS)
    base, end = hdr["kernbase"], hdr["contig_end"]
    direct = Window("the contiguous range", base, end, 0)
    return Regions(
        f"va {base:#x}-{end - 1:#x} directly, then {tables.name}", BITS, [direct, Via(base, TOP, tables)], _OUTSIDE
    )


def _decode_contig(value: int, hdr: Mapping[str, Any]) -> str:
    base = hdr["kernbase"]
    return f"va {base:#x}-{value - 1:#x} -> pa 0x0-{value - 1 - base:#x}, without a table" if value > base else "empty"


def _decode_table(value: int, hdr: Mapping[str, Any]) -> str:
    return f"PTEs at pa {_sun3x_root(hdr):#x}"


SUN3X: dict[str, Any] = {
    "variant": "sun3x",
    "translator": "contiguous range, one table",
    "cpu_hdr": SUN3X_HDR,
    "cpu_rest": "empty places of ram_segs[4], then zeros up to the end of the page",
    "ram": listed_ram(40, 4),
    "segments_offset": lambda hdr: 40,
    "root": _sun3x_root,
    "evidence": None,
    "mmu": _sun3x_mmu,
    "register_facts": (
        PAGE_SIZE,
        KERNBASE,
        RegisterFact("contig_end", 32, "end of what is mapped directly", _decode_contig),
        RegisterFact("kernCbase", 32, "where the kernel's PTEs are", _decode_table),
        RegisterFact("pg_valid", 32, "what makes a PTE valid"),
        RegisterFact("pg_frame", 32, "bits of a PTE that are a page's pa"),
    ),
    "pcb": PCB,
}


# -- Sun-2 and Sun-3 -------------------------------------------------------------------------------------------------


def sun2_pages(headers: Headers, read: Read, image_size: int, page: int) -> tuple[Headers, str]:
    """Put the headers of a Sun-2 right, which writes the MMU's RAM in 8 pages but counts 2 (DUMP_EXTRA).

    Returns:
        The headers, the 6 others taken from what would be memory, and a sentence that says so.
    """
    missing = page - _SEG + PMEG_BYTES - len(headers.cpu_data)
    if missing <= 0 or missing % page or headers.data_off + missing > image_size:
        return headers, ""
    data_off = headers.data_off + missing
    all_pages = headers._replace(
        cpu_data=headers.cpu_data + read(headers.data_off, missing),
        data_off=data_off,
        data_size=None if headers.data_size is None else max(0, headers.data_size - missing),
    )
    pages = (len(all_pages.cpu_data) + _SEG) // page
    return all_pages, (
        f"c_size is for {pages - missing // page} pages, but these kernels write {pages} before memory, "
        f"so it is taken to begin at {data_off:#x}"
    )


def _segmap_mmu(m: Mmu) -> Translator:
    hdr = m.hdr
    page = shift_of(hdr["page_size"])
    try:
        if hdr["pg_valid"].bit_count() != 1:
            raise ValueError(f"pg_valid is {hdr['pg_valid']:#x}, but one bit makes a PTE valid")
        if hdr["kernbase"] % hdr["page_size"]:
            raise ValueError(f"kernbase is {hdr['kernbase']:#x}, which is not where a page begins")
        return sun3_map(hdr, m.cpu_data, page, "big")
    except ValueError as e:
        return Unavailable(f"the CPU header describes no segment map: {e}", BITS)


def _message_buffer(start: int, stop: int) -> Callable[[ReadPhysical, Sequence[RamSeg]], str]:
    """Look for the message buffer at the place that these kernels have for it, so that it outlives a reboot."""

    def evidence(read: ReadPhysical, ram: Sequence[RamSeg]) -> str:
        data = read(start, max(0, min(stop, ram[0].size) - start))
        at = data.find(_MSG_MAGIC)
        while at % 4 and at >= 0:
            at = data.find(_MSG_MAGIC, at + 1)
        return "" if at < 0 else f"the message buffer lies at pa {start + at:#x}, where these kernels have it"

    return evidence


def _decode_segshift(value: int, hdr: Mapping[str, Any]) -> str:
    return f"segments of {1 << value >> 10} KiB, {PTES} pages each" if 10 <= value < BITS else "no segments"


def _segmap(name: str, layout: CStruct, msgbuf: tuple[int, int]) -> dict[str, Any]:
    """The form of a machine with a segment map, whose CPU header is `layout`.

    The message buffer lies within the range `msgbuf` of physical addresses.
    """
    return {
        "variant": name,
        "translator": "segment map",
        "cpu_hdr": layout,
        "cpu_rest": f"zeros up to the end of the first page, then the MMU's {PMEGS} PMEGs of {PTES} PTEs",
        "ram": None,
        "segments_offset": lambda hdr: 0,
        "root": None,
        "evidence": _message_buffer(*msgbuf),
        "mmu": _segmap_mmu,
        "register_facts": (
            PAGE_SIZE,
            KERNBASE,
            RegisterFact("segshift", 32, "log2 of a segment's bytes", _decode_segshift),
            RegisterFact("pg_valid", 32, "what makes a PTE valid"),
            RegisterFact("pg_frame", 32, "bits of a PTE that are a page's number"),
        ),
        "pcb": PCB,
    }


#: The buffer is in pages 4 to 7 of a Sun-2, as the PROM has the first ones, and in page 0 of a Sun-3 (cpu_startup).
SUN2, SUN3 = _segmap("", SUN2_HDR, (0x2000, 0x4000)), _segmap("sun3", SUN3_HDR, (0, 0x2000))
