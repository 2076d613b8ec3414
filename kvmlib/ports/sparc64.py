"""What OpenBSD and NetBSD have in common on sparc64: the header, locked blocks, three levels of tables, TTEs.

Sources: sys/arch/sparc64/include/{kcore,pte,pmap,pcb,param}.h of both systems, lib/libkvm/kvm_sparc64.c.

The kernel's text and data are in locked entries of the TLB, so its page tables don't have them: the header does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvmlib.kcore import CField
from kvmlib.ports.base import Mmu, RegisterFact
from kvmlib.ports.sparc import size_text
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.linear import Regions, Via, Window, wrapping
from kvmlib.translate.radix import Hole, Level, Page, Paging, Pointer, Radix

PAGE = 8192
HEADER = "sys/arch/sparc64/include/kcore.h"
#: cputype (param.h).
CPU_TYPES = ("sun4", "sun4c", "sun4m", "sun4u", "sun4us", "sun4v")
SUN4V = 5
#: Entries of a page table: a page of them.
_ENTRIES = PAGE // 8
_TOP = 1 << 64
_ALL = _TOP - 1

#: The fields that all headers begin with.
FIELDS = (
    CField(0, "u32", "cputype", "int", "the CPU's type; most kernels say sun4u on sun4v too"),
    CField(4, "u32", "nmemseg", "int", "number of RAM segments"),
    CField(8, "u64", "memsegoffset", "uint64_t", "where they begin, in bytes from the start of this header"),
    CField(16, "u32", "nsegmap", "int", "entries of the top page table"),
    CField(24, "u64", "segmapoffset", "uint64_t", "no offset: pa of the top page table, the kernel pmap's"),
    CField(32, "u64", "kernbase", "uint64_t", "KERNBASE: nothing below it is translated"),
    CField(40, "u64", "cpubase", "uint64_t", "va of struct cpu_info"),
    CField(48, "u64", "ktextbase", "uint64_t", "va of the kernel's text, in locked TLB entries"),
    CField(56, "u64", "ktextp", "uint64_t", "its pa"),
    CField(64, "u64", "ktextsz", "uint64_t", "its size in bytes"),
    CField(72, "u64", "kdatabase", "uint64_t", "va of the kernel's data, in locked TLB entries"),
    CField(80, "u64", "kdatap", "uint64_t", "its pa"),
    CField(88, "u64", "kdatasz", "uint64_t", "its size in bytes"),
)


def root(hdr: Mapping[str, Any]) -> int:
    """The top page table's pa."""
    return int(hdr["segmapoffset"])


def range_text(va: int, pa: int, size: int) -> str:
    """Show what a locked block maps."""
    if not size:
        return "nothing, its size is 0"
    return f"va {va:#x}-{va + size:#x} -> pa {pa:#x}-{pa + size:#x}, {size_text(size)}"


def _decode_cputype(value: int, hdr: Mapping[str, Any]) -> str:
    return CPU_TYPES[value] if value < len(CPU_TYPES) else "no type that is known"


def _decode_nsegmap(value: int, hdr: Mapping[str, Any]) -> str:
    return "" if value == _ENTRIES else f"expected {_ENTRIES}, what a page of them has"


def _decode_root(value: int, hdr: Mapping[str, Any]) -> str:
    return f"top page table at pa {value:#x}"


def _decode_text(value: int, hdr: Mapping[str, Any]) -> str:
    return "locked text: " + range_text(value, hdr["ktextp"], hdr["ktextsz"])


def _decode_data(value: int, hdr: Mapping[str, Any]) -> str:
    return "locked data: " + range_text(value, hdr["kdatap"], hdr["kdatasz"])


def _decode_size(value: int, hdr: Mapping[str, Any]) -> str:
    return size_text(value)


_FACTS = (
    RegisterFact("nsegmap", 32, "entries of the top page table", _decode_nsegmap),
    RegisterFact("segmapoffset", 64, "where address translation starts", _decode_root),
    RegisterFact("kernbase", 64, "KERNBASE: nothing below it is translated"),
    RegisterFact("cpubase", 64, "va of struct cpu_info"),
    RegisterFact("ktextbase", 64, "va of the kernel's text", _decode_text),
    RegisterFact("ktextp", 64, "pa of the kernel's text"),
    RegisterFact("ktextsz", 64, "size of the kernel's text in locked TLB entries", _decode_size),
    RegisterFact("kdatabase", 64, "va of the kernel's data", _decode_data),
    RegisterFact("kdatap", 64, "pa of the kernel's data"),
    RegisterFact("kdatasz", 64, "size of the kernel's data in locked TLB entries", _decode_size),
)


def register_facts(
    decode_nmemseg: Callable[[int, Mapping[str, Any]], str], warn_nmemseg: Callable[[int], str] = lambda value: ""
) -> tuple[RegisterFact, ...]:
    """Return the registers in all headers: what nmemseg counts is each system's own."""
    return (
        RegisterFact("cputype", 32, "the CPU's type", _decode_cputype),
        RegisterFact("nmemseg", 32, "number of RAM segments", decode_nmemseg, warn=warn_nmemseg),
        *_FACTS,
    )


# -- locked blocks -----------------------------------------------------------------------------------------------------


def block(name: str, va: int, pa: int, size: int) -> list[Window]:
    """Return what a block in locked TLB entries maps: nothing where its end is no address."""
    if va + size > _TOP:
        return []
    return wrapping(Window(name, va, va + size, pa, flags=("locked",)), 64)


def text_and_data(hdr: Mapping[str, Any]) -> list[Window]:
    """Return the two blocks that all headers describe."""
    return [
        *block("the locked text", hdr["ktextbase"], hdr["ktextp"], hdr["ktextsz"]),
        *block("the locked data", hdr["kdatabase"], hdr["kdatap"], hdr["kdatasz"]),
    ]


# -- translation table entries -----------------------------------------------------------------------------------------

#: What every TTE has in bit 63.
V = 1 << 63
_SUN4U = {60: "NFO", 59: "IE", 8: "EXEC", 7: "EXEC_ONLY", 10: "REAL_W"}
_SUN4U |= {5: "CP", 4: "CV", 3: "E", 2: "P", 1: "W", 0: "G"}
_SUN4U_STATE = {12: "TSB_LOCK", 11: "MODIFY", 9: "ACCESS", 6: "L"}
_SUN4U_SIZES = ("", "64K", "512K", "4M")
_SUN4V = {62: "NFO", 12: "IE", 7: "X", 57: "EXEC_ONLY", 61: "REAL_W", 10: "CP", 9: "CV", 11: "E", 8: "P", 6: "W"}
_SUN4V_STATE = {60: "TSB_LOCK", 5: "MODIFY", 4: "ACCESS"}
_SUN4V_SIZES = ("", "64K", "512K", "4M", "32M", "256M")


def _named(tte: int, state: Mapping[int, str], sizes: tuple[str, ...], size: int, bits: Mapping[int, str]) -> list[str]:
    # Without V it is a mapped range's protection that is asked for, or nothing at all.
    names = ["V", sizes[size] if size < len(sizes) else f"size {size}"] if tte & V else []
    names += [name for bit, name in bits.items() if tte >> bit & 1]
    return [n for n in names + [name for bit, name in state.items() if tte & V and tte >> bit & 1] if n]


def words_sun4u(tte: int) -> tuple[str, ...]:
    """Name the bits of a sun4u TTE."""
    return tuple(_named(tte, _SUN4U_STATE, _SUN4U_SIZES, tte >> 61 & 3, _SUN4U))


def words_sun4v(tte: int) -> tuple[str, ...]:
    """Name the bits of a sun4v TTE."""
    return tuple(_named(tte, _SUN4V_STATE, _SUN4V_SIZES, tte & 15, _SUN4V))


def words(tte: int) -> tuple[str, ...]:
    """Name the bits of a TTE where cputype says sun4u on sun4v machines too.

    The kernel's pages are privileged: the bit for that is where the other one has a part of the size or EXEC.
    """
    return words_sun4v(tte) if tte & 1 << 8 and not tte & 0xC else words_sun4u(tte)


def _mask(bits: Iterable[int]) -> int:
    return sum(1 << bit for bit in bits)


#: Bits that protection and caching can be in, on one or the other.
_PROTECTION = _mask({*_SUN4U, *_SUN4V})


def paging(frame: int, names: Callable[[int], tuple[str, ...]], invalid_address: str) -> Paging:
    """Return the form of the tables, for the mask of a TTE's address and libkvm's words for all failures."""
    pointer = (Hole(mask=_ALL, value=0), Pointer(mask=0, value=0, frame=_ALL))

    def failures(entry: str, invalid: str = "") -> tuple[str, str]:
        return f"could not read {entry}, {invalid_address}", f"invalid {invalid or entry}, {invalid_address}"

    return Paging(
        name="three levels of 8 KiB tables",
        entry_bytes=8,
        levels=(
            Level("segment table", 33, 10, pointer, *failures("L1 PTE"), own_flags={}),
            Level("page directory", 23, 10, pointer, *failures("L2 PTE"), own_flags={}),
            Level("page table", 13, 10, (Page(mask=V, value=V, frame=frame),), *failures("TTE", "L2 TTE"), words=names),
        ),
        flags={},
        protection=_PROTECTION,
        va_bits=64,
        canonical_bits=43,
        alias=True,
    )


# -- the whole ---------------------------------------------------------------------------------------------------------


def translator(m: Mmu, form: Paging, windows: Iterable[Window], invalid_address: str, zero: str) -> Translator:
    """Translate by `windows`, then by the tables, from kernbase up; `zero` is what libkvm calls address 0."""
    kernbase = m.hdr["kernbase"]
    tables = Radix(form, root(m.hdr), m.read, "big")
    kernel = Regions(tables.name, 64, [*windows, Via(0, _TOP, tables)], invalid_address)
    below = f"{{}}, the kernel begins at {kernbase:#x} (kernbase)".format
    null = Unavailable(below(zero), 64)
    return Regions(
        f"locked blocks, then {tables.name}",
        64,
        [Via(0, min(1, kernbase), null), Via(kernbase, _TOP, kernel)],
        below(invalid_address),
    )
