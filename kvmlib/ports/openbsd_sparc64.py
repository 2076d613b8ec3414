"""OpenBSD/sparc64. Sources: sys/arch/sparc64/include/{kcore,pte,pcb}.h, pmap.c, machdep.c; lib/libkvm/kvm_sparc64.c.

The kernel takes the length of the PROM's list of memory, in bytes, for the number of entries in it: nmemseg is 16 for
each region and 32 more, and behind the regions the header has two empty entries and whatever came next in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CStruct, RamSeg
from kvmlib.ports import sparc, sparc64
from kvmlib.ports.base import OPENBSD, Machine, Mmu, Pcb
from kvmlib.ports.trapframes import SPARC64, SPARC64_FRAMES
from kvmlib.translate import Translator

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WORDS = "invalid address ({va:x})"
#: kvm_sparc64.c has more of an address than sun4u's TTEs: machines with sun4v have it.
_PAGING = sparc64.paging(0x00007FFFFFFFE000, sparc64.words, _WORDS)
_PAGING_SUN4V = sparc64.paging(0x00007FFFFFFFE000, sparc64.words_sun4v, _WORDS)


def _ram(machine: Machine, cpu_data: bytes, hdr: Mapping[str, Any]) -> list[RamSeg]:
    """The list ends at the first entry of size 0, for dumpsys too."""
    return list(itertools.takewhile(lambda s: s.size, sparc.ram(machine, cpu_data, hdr)))


def _decode_nmemseg(value: int, hdr: Mapping[str, Any]) -> str:
    regions, odd = divmod(sparc.signed(value) - 32, 16)
    if odd or regions < 1:
        return sparc.decode_nmemseg(value, hdr)
    return f"16 * {regions} + 32, by mistake: {sparc.decode_nmemseg(regions, hdr)}"


def _warn_nmemseg(value: int) -> str:
    regions, odd = divmod(sparc.signed(value) - 32, 16)
    if odd or regions < 1:
        return ""
    return f"this is the length in bytes of a list, not a count: {regions} segments are RAM, what follows is junk"


def _mmu(m: Mmu) -> Translator:
    form = _PAGING_SUN4V if m.hdr["cputype"] == sparc64.SUN4V else _PAGING
    return sparc64.translator(m, form, sparc64.text_and_data(m.hdr), _WORDS, "invalid address (0)")


_HDR = CStruct("struct cpu_kcore_hdr", sparc64.HEADER, 96, sparc64.FIELDS)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import sparc64_plan

    return sparc64_plan.openbsd(_PAGING, _HDR)


MACHINE = Machine(
    system=OPENBSD,
    arch="sparc64",
    mid=151,
    byteorder="big",
    long_bytes=8,
    page_size=sparc64.PAGE,
    align_mask=15,
    translator="locked blocks, radix, 3 levels",
    libkvm="locked blocks, but for their first byte; 3 levels",
    ours="all of the blocks, of any size; no junk taken for RAM",
    cpu_hdr=_HDR,
    cpu_rest="entries that nmemseg counts by mistake: empty ones and other memory; what the buffer held before",
    ram=_ram,
    segments_offset=sparc.segments_offset,
    root=sparc64.root,
    mmu=_mmu,
    register_facts=sparc64.register_facts(_decode_nmemseg, _warn_nmemseg),
    dumpmag_bytes=8,
    # snapshot() in locore.s doesn't save the pc.
    pcb=Pcb(1136, {"sp": (0, 8), "pstate": (24, 2), "cwp": (27, 1), "pil": (28, 1)}, sp="sp"),
    trapframes=(SPARC64,),
    frames=SPARC64_FRAMES,
    elf_machine="EM_SPARCV9",
    samples=_samples,
)
