"""The Motorola MMUs' tables as NetBSD's m68k ports describe them in their dumps: in numbers, so one reader fits all.

Source: sys/arch/m68k/include/kcore.h (struct m68k_kcore_hdr), pte_motorola.h; lib/libkvm/kvm_m68k_cmn.c; the manuals of
MC68851, MC68030 and MC68040. The form of 2025 with TCR and SRP instead of these numbers (gen68k) isn't read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import Mmu, RegisterFact
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.linear import Regions, Via, Window, wrapping
from kvmlib.translate.radix import Level, Page, Paging, Pointer, Radix

BITS = 32
TOP = 1 << BITS
#: Table indices have no more bits than these: fields of the MMU's register TC have four.
_MOST_INDEX_BITS = 15
#: enum in machine/cpu.h; only 68040 and 68060 have three levels.
MMU_68060, MMU_68040, MMU_68030, MMU_HP, MMU_68851, MMU_SUN = -3, -2, -1, 0, 1, 2
_MMU_NAMES = {
    MMU_68060: "68060",
    MMU_68040: "68040",
    MMU_68030: "68030",
    MMU_HP: "HP's own MMU",
    MMU_68851: "68851",
    MMU_SUN: "Sun's own MMU",
}
_UNREADABLE = "invalid address ({va:x})"
_RO, _U, _M, _CI, _W = 1 << 2, 1 << 3, 1 << 4, 1 << 6, 1 << 8
_CACHE_MODES = ("CWT", "CCB", "CIS", "CIN")
_CACHE_MODE = 3 << 5
_SUPERVISOR, _GLOBAL = 1 << 7, 1 << 10

#: What all machines' headers begin with; `name` says how it goes on.
HEAD = (
    CField(0, "char", "name", "char[16]", "the port's name: it says which of the structures follows", 16),
    CField(16, "u32", "page_size", "uint32_t", "bytes of a page"),
    CField(20, "u32", "kernbase", "uint32_t", "va that the kernel's space begins at: KERNBASE"),
)
CPU_HDR = CStruct(
    "cpu_kcore_hdr_t",
    "sys/arch/m68k/include/kcore.h",
    92,
    (
        *HEAD,
        CField(24, "u32", "mmutype", "int32_t", "which MMU: 68040 and 68060 have three levels of tables, others two"),
        CField(28, "u32", "sg_v", "uint32_t", "bit of a segment table's entry that makes it valid: SG_V"),
        CField(32, "u32", "sg_frame", "uint32_t", "bits of such an entry that are the page table's pa: SG_FRAME"),
        CField(36, "u32", "sg_ishift", "uint32_t", "lowest va bit of the segment table's index: SG_ISHIFT"),
        CField(40, "u32", "sg_pmask", "uint32_t", "va bits that are the page table's index: SG_PMASK"),
        CField(44, "u32", "sg40_shift1", "uint32_t", "68040: lowest va bit of the level 1 index"),
        CField(48, "u32", "sg40_mask2", "uint32_t", "68040: va bits that are the level 2 index"),
        CField(52, "u32", "sg40_shift2", "uint32_t", "68040: lowest va bit of the level 2 index"),
        CField(56, "u32", "sg40_mask3", "uint32_t", "68040: va bits that are the page table's index"),
        CField(60, "u32", "sg40_shift3", "uint32_t", "68040: lowest va bit of the page table's index"),
        CField(64, "u32", "sg40_addr1", "uint32_t", "68040: bits of a level 1 descriptor that are a pa"),
        CField(68, "u32", "sg40_addr2", "uint32_t", "68040: bits of a level 2 descriptor that are a pa"),
        CField(72, "u32", "pg_v", "uint32_t", "bit of a page table's entry that makes it valid: PG_V"),
        CField(76, "u32", "pg_frame", "uint32_t", "bits of such an entry that are the page's pa: PG_FRAME"),
        CField(80, "u32", "sysseg_pa", "uint32_t", "pa of the kernel's top table"),
        CField(84, "u32", "reloc", "uint32_t", "pa that kernbase lies at, below relocend"),
        CField(88, "u32", "relocend", "uint32_t", "va that the kernel's image ends at: below, no tables are needed"),
    ),
)


def root(hdr: Mapping[str, Any]) -> int:
    """Return the pa of the top table."""
    return int(hdr["sysseg_pa"])


def mmu_type(value: int) -> int:
    """Return the C int that is stored as `value`."""
    return value - TOP if value >= TOP >> 1 else value


def shift_of(page_size: int) -> int:
    """Return log2 of a page's size."""
    return page_size.bit_length() - 1


# -- tables ----------------------------------------------------------------------------------------------------------


def paging(hdr: Mapping[str, Any]) -> Paging:
    """Return the form of tables that the header's numbers describe.

    Raises:
        ValueError: they describe none, and why.
    """
    three = mmu_type(hdr["mmutype"]) in (MMU_68040, MMU_68060)
    for name in ("sg_v", "pg_v"):
        if hdr[name].bit_count() != 1:
            raise ValueError(f"{name} is {hdr[name]:#x}, but one bit makes an entry valid")
    return _three_levels(hdr) if three else _two_levels(hdr)


def _two_levels(hdr: Mapping[str, Any]) -> Paging:
    page = shift_of(hdr["page_size"])
    (shift,) = _shifts(hdr, "sg_ishift")
    _spans(hdr, "sg_pmask", page, shift)
    return Paging(
        name=f"segment table and page tables, pages of {_size(1 << page)}",
        entry_bytes=4,
        levels=(
            Level(
                "segment table",
                shift,
                BITS - shift,
                (_table(hdr["sg_v"], hdr["sg_frame"]),),
                _UNREADABLE,
                "invalid segment ({entry:x})",
                own_flags=_flags(hdr["sg_v"], {_RO: "RO", _U: "U"}),
            ),
            Level(
                "page table",
                page,
                shift - page,
                (Page(mask=hdr["pg_v"], value=hdr["pg_v"], frame=hdr["pg_frame"]),),
                _UNREADABLE,
                "page not valid",
                own_flags=_flags(hdr["pg_v"], {_RO: "RO", _U: "U", _M: "M", _CI: "CI", _W: "W"}),
            ),
        ),
        flags={},
        protection=_RO | _CI,
        va_bits=BITS,
        canonical_bits=BITS,
    )


def _three_levels(hdr: Mapping[str, Any]) -> Paging:
    page = shift_of(hdr["page_size"])
    if hdr["sg40_shift3"] != page:
        raise ValueError(f"sg40_shift3 is {hdr['sg40_shift3']}, but a page has {page} bits")
    shift1, shift2 = _shifts(hdr, "sg40_shift1", "sg40_shift2")
    _spans(hdr, "sg40_mask2", shift2, shift1)
    _spans(hdr, "sg40_mask3", page, shift2)
    table_flags = _flags(hdr["sg_v"], {_RO: "RO", _U: "U"})
    words = ("invalid level 1 descriptor ({entry:x})", "invalid level 2 descriptor ({entry:x})")
    return Paging(
        name=f"three levels of tables, pages of {_size(1 << page)}",
        entry_bytes=4,
        levels=(
            Level(
                "root table",
                shift1,
                BITS - shift1,
                (_table(hdr["sg_v"], hdr["sg40_addr1"]),),
                _UNREADABLE,
                words[0],
                own_flags=table_flags,
            ),
            Level(
                "pointer table",
                shift2,
                shift1 - shift2,
                (_table(hdr["sg_v"], hdr["sg40_addr2"]),),
                _UNREADABLE,
                words[1],
                own_flags=table_flags,
            ),
            Level(
                "page table",
                page,
                shift2 - page,
                (Page(mask=hdr["pg_v"], value=hdr["pg_v"], frame=hdr["pg_frame"]),),
                _UNREADABLE,
                "page not valid",
                words=_page40_words if hdr["pg_v"] == 1 else None,
            ),
        ),
        flags={},
        protection=_RO | _CACHE_MODE | _SUPERVISOR,
        va_bits=BITS,
        canonical_bits=BITS,
    )


def _table(valid: int, frame: int) -> Pointer:
    return Pointer(mask=valid, value=valid, frame=frame)


def _shifts(hdr: Mapping[str, Any], *names: str) -> list[int]:
    """Return the lowest va bits of the indices, the top table's first."""
    page = shift_of(hdr["page_size"])
    shifts = [int(hdr[name]) for name in names]
    for above, below in pairwise((BITS, *shifts, page)):
        if not 0 < above - below <= _MOST_INDEX_BITS:
            said = ", ".join(f"{name} is {hdr[name]}" for name in names)
            raise ValueError(
                f"{said}, a page has {page} bits: that makes an index of {above - below} bits, "
                f"1 to {_MOST_INDEX_BITS} were expected"
            )
    return shifts


def _spans(hdr: Mapping[str, Any], name: str, low: int, high: int) -> None:
    """Check that the mask called `name` is all bits from `low` up to `high`."""
    wanted = (1 << high) - (1 << low)
    if hdr[name] != wanted:
        raise ValueError(f"{name} is {hdr[name]:#x}, but the bits that the other indices leave are {wanted:#x}")


def _flags(valid: int, others: Mapping[int, str]) -> dict[int, str]:
    """Name bits by their numbers: first the one that the header calls valid."""
    return {valid.bit_length() - 1: "V"} | {bit.bit_length() - 1: name for bit, name in others.items() if bit != valid}


def _page40_words(entry: int) -> tuple[str, ...]:
    """Name what an entry of the 68040's page table says; the cache mode has two bits."""
    bits = {1: "V", _RO: "RO", _U: "U", _M: "M", _SUPERVISOR: "S", _GLOBAL: "G"}
    return (*(name for bit, name in bits.items() if entry & bit), _CACHE_MODES[(entry & _CACHE_MODE) >> 5])


# -- translation -----------------------------------------------------------------------------------------------------


class _Image(Regions):
    """The kernel's image without tables, all else by tables.

    The image ends in the middle of a page, and relocend with it. That page belongs together: from an address before
    the end all the page's bytes can be read, as libkvm does.
    """

    def __init__(self, name: str, parts: Sequence[Window | Via], end: int, page: int) -> None:
        super().__init__(name, BITS, parts, "")
        self._end = end
        self._page = page

    def kvatop(self, va: int) -> tuple[int, int]:
        """Translate as the parts say."""
        pa, n = super().kvatop(va)
        return pa, self._page - va % self._page if va < self._end == va + n else n


def mmu(m: Mmu) -> Translator:
    """Return the translator that the header describes."""
    hdr = m.hdr
    try:
        tables = Radix(paging(hdr), hdr["sysseg_pa"], m.read, "big")
    except ValueError as e:
        return Unavailable(f"the CPU header describes no page tables: {e}", BITS)
    end, page = hdr["relocend"], hdr["page_size"]
    if not end:
        return tables
    image = Window("the kernel's image", 0, end, (hdr["reloc"] - hdr["kernbase"]) % TOP, page)
    name = f"the kernel's image directly up to va {end:#x}, then {tables.name}"
    return _Image(name, [*wrapping(image, BITS), Via(0, TOP, tables)], end, page)


# -- registers -------------------------------------------------------------------------------------------------------


def _size(n: int) -> str:
    return f"{n >> 20} MiB" if n >= 1 << 20 else f"{n >> 10} KiB" if n >= 1 << 10 else f"{n} bytes"


def decode_page_size(value: int, hdr: Mapping[str, Any]) -> str:
    """Say it in KiB."""
    return f"pages of {_size(value)}"


def _decode_mmu(value: int, hdr: Mapping[str, Any]) -> str:
    kind = mmu_type(value)
    name = _MMU_NAMES.get(kind, "no MMU known")
    return f"{kind}: {name}, {'three' if kind in (MMU_68040, MMU_68060) else 'two'} levels of tables"


def _decode_bit(value: int, hdr: Mapping[str, Any]) -> str:
    return f"bit {value.bit_length() - 1}" if value.bit_count() == 1 else "not one bit"


def _decode_ishift(value: int, hdr: Mapping[str, Any]) -> str:
    if not 0 < value < BITS:
        return "no va bit"
    return f"{1 << BITS - value} entries, each for {_size(1 << value)}"


def _decode_root(value: int, hdr: Mapping[str, Any]) -> str:
    kind = "root table" if mmu_type(hdr["mmutype"]) in (MMU_68040, MMU_68060) else "segment table"
    return f"{kind} at pa {value:#x}"


def _decode_reloc(value: int, hdr: Mapping[str, Any]) -> str:
    return f"va {hdr['kernbase']:#x} is pa {value:#x}"


def _decode_relocend(value: int, hdr: Mapping[str, Any]) -> str:
    if not value:
        return "nothing is mapped without tables"
    pa = (hdr["reloc"] - hdr["kernbase"]) % TOP
    return f"va 0x0-{value - 1:#x} -> pa {pa:#x}-{(pa + value - 1) % TOP:#x}, without tables"


PAGE_SIZE = RegisterFact("page_size", 32, "bytes of a page", decode_page_size)
KERNBASE = RegisterFact("kernbase", 32, "va that the kernel's space begins at")
REGISTER_FACTS = (
    PAGE_SIZE,
    KERNBASE,
    RegisterFact("mmutype", 32, "which MMU the machine has", _decode_mmu),
    RegisterFact("sysseg_pa", 32, "where address translation starts", _decode_root),
    RegisterFact("reloc", 32, "where the kernel's image lies", _decode_reloc),
    RegisterFact("relocend", 32, "end of the kernel's image", _decode_relocend),
    RegisterFact("sg_v", 32, "what makes an entry for a table valid", _decode_bit),
    RegisterFact("sg_frame", 32, "two levels: bits that are a page table's pa"),
    RegisterFact("sg_ishift", 32, "two levels: lowest va bit of the segment table's index", _decode_ishift),
    RegisterFact("sg_pmask", 32, "two levels: va bits of the page table's index"),
    RegisterFact("sg40_shift1", 32, "three levels: lowest va bit of the level 1 index", _decode_ishift),
    RegisterFact("sg40_mask2", 32, "three levels: va bits of the level 2 index"),
    RegisterFact("sg40_shift2", 32, "three levels: lowest va bit of the level 2 index"),
    RegisterFact("sg40_mask3", 32, "three levels: va bits of the page table's index"),
    RegisterFact("sg40_shift3", 32, "three levels: lowest va bit of the page table's index"),
    RegisterFact("sg40_addr1", 32, "three levels: bits of a level 1 descriptor that are a pa"),
    RegisterFact("sg40_addr2", 32, "three levels: bits of a level 2 descriptor that are a pa"),
    RegisterFact("pg_v", 32, "what makes an entry for a page valid", _decode_bit),
    RegisterFact("pg_frame", 32, "bits of such an entry that are a page's pa"),
)
