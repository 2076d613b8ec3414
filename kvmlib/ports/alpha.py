"""What OpenBSD's and NetBSD's Alphas have in common: the header, two kernel segments, three levels of tables.

Sources: sys/arch/alpha/include/kcore.h, alpha_cpu.h, pte.h of both systems; lib/libkvm/kvm_alpha.c; Alpha Architecture
Reference Manual, OSF/1 part, chapter 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kvmlib.errors import FormatError
from kvmlib.kcore import CField, CStruct, Headers, Read
from kvmlib.ports.base import Machine, Mmu, RegisterFact, Settled
from kvmlib.translate import Translator
from kvmlib.translate.linear import Regions, Via, Window
from kvmlib.translate.radix import Level, Page, Paging, Pointer, Radix

#: K0SEG is mapped directly, K1SEG by page tables (alpha_cpu.h).
K0SEG, K1SEG, K1SEG_END = 0xFFFFFC0000000000, 0xFFFFFE0000000000, 1 << 64
#: Both systems are compiled for pages of 8 KiB: the indexes never move, whatever page_size says.
_PAGE_SHIFT, _INDEX_BITS = 13, 10
#: The sizes that the architecture allows.
_PAGE_SIZES = (8192, 16384, 32768, 65536)
_V = 1
_PFN = 0xFFFFFFFF << 32
_NAMES = "V FOR FOW FOE ASM GH0 GH1 - KRE URE - - KWE UWE - - WIRED PVLIST EXEC"
_FLAGS = {bit: name for bit, name in enumerate(_NAMES.split()) if name != "-"}
_PROTECTION = 1 << 3 | 1 << 8 | 1 << 9 | 1 << 12 | 1 << 13

CPU_HDR = CStruct(
    "cpu_kcore_hdr_t",
    "sys/arch/alpha/include/kcore.h",
    24,
    (
        CField(0, "u64", "lev1map_pa", "u_int64_t", "pa of the kernel's level 1 page table"),
        CField(8, "u64", "page_size", "u_int64_t", "bytes of a page"),
        CField(16, "u64", "nmemsegs", "u_int64_t", "number of RAM segments that follow"),
    ),
)


def _paging(page_size: int) -> Paging:
    left = page_size.bit_length() - 1 - 32
    shift = None if page_size == 1 << _PAGE_SHIFT else page_size.bit_length() - 1
    table = Pointer(mask=_V, value=_V, frame=_PFN, left=left)
    page = Page(mask=_V, value=_V, frame=_PFN, left=left, shift=shift)

    def level(n: int, kind: Page | Pointer) -> Level:
        name, shift = f"L{n} page table", _PAGE_SHIFT + (3 - n) * _INDEX_BITS
        return Level(
            name,
            shift,
            _INDEX_BITS,
            (kind,),
            f"could not read L{n} PTE",
            f"invalid translation (invalid L{n} PTE)",
        )

    return Paging(
        name="three levels of 8 KiB tables",
        entry_bytes=8,
        levels=(level(1, table), level(2, table), level(3, page)),
        flags=_FLAGS,
        protection=_PROTECTION,
        va_bits=64,
        canonical_bits=_PAGE_SHIFT + 3 * _INDEX_BITS,
    )


def k0seg(page_size: int) -> Window:
    """The directly mapped segment; kvatop answers page by page."""
    return Window("K0SEG", K0SEG, K1SEG, 0, unit=page_size)


PAGING = _paging(1 << _PAGE_SHIFT)


def root(hdr: Mapping[str, Any]) -> int:
    """Return where the level 1 table is."""
    return int(hdr["lev1map_pa"])


def mmu(m: Mmu) -> Translator:
    """Set up the two segments."""
    size = m.hdr["page_size"]
    tables = Radix(_paging(size), root(m.hdr), m.read, "little")
    return Regions(
        f"K0SEG directly, K1SEG by {tables.name}",
        64,
        (k0seg(size), Via(K1SEG, K1SEG_END, tables)),
        f"invalid kernel virtual address, which are those from {K0SEG:#x} on",
    )


def settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Take the page size from the header.

    Raises:
        FormatError: no Alpha has such pages.
    """
    size = machine.parse_cpu_hdr(headers.cpu_data)["page_size"]
    if size not in _PAGE_SIZES:
        raise FormatError(
            f"no dump of {machine.name} at {headers.offset:#x}: page_size is {size}, "
            f"an Alpha's pages have {', '.join(str(s) for s in _PAGE_SIZES)} bytes"
        )
    return Settled(dataclasses.replace(machine, page_size=size), headers)


REGISTER_FACTS = (
    RegisterFact(
        "lev1map_pa",
        64,
        "where K1SEG's translation starts",
        lambda value, hdr: f"level 1 page table at pa {value:#x}",
    ),
    RegisterFact("page_size", 64, "how many bytes a page has", lambda value, hdr: f"pages of {value >> 10} KiB"),
)
#: What savectx stores in struct pcb (pcb.h): the stack pointer, s0 to s6, the return address, the processor status.
PCB_FIELDS = {
    "ksp": (0, 8),
    **{f"s{i}": (64 + 8 * i, 8) for i in range(7)},
    "ra": (120, 8),
    "ps": (128, 8),
}
