"""NetBSD/sparc: sun4, sun4c and sun4m. Sources: sys/arch/sparc/include/{kcore,param,pte}.h, sparc/{pmap,machdep}.c;
lib/libkvm/kvm_sparc.c.

Behind the RAM segments the CPU data has the kernel's segment map, and what the MMU of a sun4 or sun4c holds: all PMEGs.
The dump code saves the registers in the pcb of the process that was running, so there is no dumppcb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvmlib.errors import FormatError
from kvmlib.kcore import CField, CStruct, Headers, Read
from kvmlib.ports import sparc
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, Settled
from kvmlib.translate import ReadPhysical, Translator, Unavailable
from kvmlib.translate.segmap import SUN4, SUN4C, SUN4M, SegmentMap, sun4_map, sun4m_map

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: cputype (param.h).
CPU_TYPES = ("sun4", "sun4c", "sun4m", "sun4u", "sun4d")
_FORMS = {sparc.SUN4: SUN4, sparc.SUN4C: SUN4C, sparc.SUN4M: SUN4M}
#: CPUs with pages of 8 KiB.
_PAGE_8K = (sparc.SUN4, sparc.SUN4U)
_HDR = CStruct(
    "cpu_kcore_hdr_t",
    "sys/arch/sparc/include/kcore.h",
    32,
    (
        CField(0, "u32", "cputype", "int", "the CPU's type"),
        CField(4, "u32", "kernbase", "u_int", "KERNBASE: where the segment map begins"),
        CField(8, "u32", "nmemseg", "int", "number of RAM segments"),
        CField(12, "u32", "memsegoffset", "u_int", "where they begin, in bytes from the start of this header"),
        CField(16, "u32", "nsegmap", "int", "number of segments in the kernel's segment map"),
        CField(20, "u32", "segmapoffset", "u_int", "where the map begins, in bytes from the start of this header"),
        CField(24, "u32", "npmeg", "int", "number of PMEGs, groups of PTEs; sun4m has none"),
        CField(28, "u32", "pmegoffset", "u_int", "where they begin, in bytes from the start of this header"),
    ),
)


def _segment_map(hdr: Mapping[str, Any], cpu_data: bytes, read: ReadPhysical) -> SegmentMap | None:
    """Set up the translation; None where libkvm knows none. Raises FormatError where the map can't be in there."""
    cputype = hdr["cputype"]
    if cputype == sparc.SUN4M:
        return sun4m_map(hdr, cpu_data, "big", read)
    return sun4_map(hdr, cpu_data, "big") if cputype in _FORMS else None


def _mmu(m: Mmu) -> Translator:
    found = _segment_map(m.hdr, m.cpu_data, m.read)
    if found is not None:
        return found
    name = CPU_TYPES[m.hdr["cputype"]]
    return Unavailable(f"Unsupported CPU type: how a {name} describes its page tables in a dump is not known", 32)


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Tell the page size by the CPU's type.

    Raises:
        FormatError: there is no such CPU; the segment map or the PMEGs aren't in the CPU data.
    """
    hdr = _HDR.parse(headers.cpu_data, "big")
    cputype = hdr["cputype"]
    if cputype >= len(CPU_TYPES):
        raise FormatError(f"Unsupported CPU type: cputype is {cputype:#x}, {len(CPU_TYPES) - 1} is the last there is")
    _segment_map(hdr, headers.cpu_data, lambda pa, n: bytes(n))
    page = 8192 if cputype in _PAGE_8K else 4096
    return Settled(replace(machine, page_size=page), headers, (f"its CPU is a {CPU_TYPES[cputype]}",))


def _decode_cputype(value: int, hdr: Mapping[str, Any]) -> str:
    return CPU_TYPES[value] if value < len(CPU_TYPES) else "no type that is known"


def _decode_nsegmap(value: int, hdr: Mapping[str, Any]) -> str:
    form = _FORMS.get(hdr["cputype"])
    if form is None:
        return ""
    return f"{value} segments of {1 << form.segment_shift - 10} KiB from va {hdr['kernbase']:#x}"


def _decode_npmeg(value: int, hdr: Mapping[str, Any]) -> str:
    form = _FORMS.get(hdr["cputype"])
    if form is None or form.in_memory:
        return "none: the PTEs are in memory" if form else ""
    return f"{value} PMEGs of {form.ptes} PTEs; the last stands for what isn't mapped"


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import sparc_plan

    return sparc_plan.samples(_HDR)


MACHINE = Machine(
    system=NETBSD,
    arch="sparc",
    mid=138,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=7,
    translator="segment map, by the CPU's type",
    libkvm="sun4c, sun4m; sun4's pages are 4 bytes too long",
    ours="also sun4, whose pages have 8192 bytes",
    settle=_settle,
    cpu_hdr=_HDR,
    cpu_rest="the segment map at segmapoffset, the PMEGs at pmegoffset, then what the kernel's buffer held before",
    ram=sparc.ram,
    segments_offset=sparc.segments_offset,
    mmu=_mmu,
    register_facts=(
        RegisterFact("cputype", 32, "the CPU's type", _decode_cputype),
        RegisterFact("kernbase", 32, "KERNBASE: where the segment map begins"),
        RegisterFact("nmemseg", 32, "number of RAM segments", sparc.decode_nmemseg),
        RegisterFact("nsegmap", 32, "number of segments in the map", _decode_nsegmap),
        RegisterFact("npmeg", 32, "number of PMEGs", _decode_npmeg),
    ),
    dumpmag_bytes=4,
    elf_machine="EM_SPARC",
    samples=_samples,
)
