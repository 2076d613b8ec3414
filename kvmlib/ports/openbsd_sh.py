"""OpenBSD/sh (landisk). Sources: sys/arch/sh/include/kcore.h, pmap.h, pte.h, mmu_sh4.h; sys/arch/sh/sh/pmap.c;
sys/arch/landisk/landisk/machdep.c; lib/libkvm/kvm_sh.c.

The dump code counts the kernel's variable dumpsize down, so in a dump it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.errors import FormatError
from kvmlib.kcore import CField, CStruct, RamSeg, parse_ram_segs
from kvmlib.ports.base import OPENBSD, Machine, Mmu, RegisterFact
from kvmlib.translate import Translator
from kvmlib.translate.linear import Regions, Via, Window
from kvmlib.translate.radix import Level, Page, Paging, Pointer, Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

PAGE = 4096
P1, P2, P3, P4 = 0x80000000, 0xA0000000, 0xC0000000, 0xE0000000
#: kcore_segs[NPHYS_RAM_SEGS] (kcore.h).
SEGMENTS = 8
_FRAME = 0x1FFFF000
_V = 1 << 8
_WIRED = 1 << 31
_FLAGS = {31: "wired", 8: "V", 3: "C", 2: "D", 1: "SH", 0: "WT"}
_SIZE = 1 << 7 | 1 << 4
_SIZES = {0: "1K", 1 << 4: "4K", 1 << 7: "64K", 1 << 7 | 1 << 4: "1M"}
_PROTECTION = ("kernel r", "kernel rw", "user r", "user rw")


def _words(entry: int) -> tuple[str, ...]:
    """Name the flags of an entry; PR and SZ have two bits each."""
    if entry == 0:
        return ()
    single = tuple(name for bit, name in _FLAGS.items() if entry >> bit & 1)
    return (*single, *((_SIZES[entry & _SIZE],) if entry & _SIZE else ()), _PROTECTION[entry >> 5 & 3])


PAGING = Paging(
    name="two levels of 4 KiB tables",
    entry_bytes=4,
    levels=(
        Level(
            "level 1 table",
            22,
            7,
            # The kernel's own pointer to the table below, which it sees through P1.
            (Pointer(mask=0xE0000000 | PAGE - 1, value=P1, frame=_FRAME),),
            "could not read level 1 pte",
            "invalid level 1 pte: out of P1 (libkvm may say invalid level 1 pte: no valid bit)",
            own_flags={},
        ),
        Level(
            "level 2 table",
            12,
            10,
            (Page(mask=_V, value=_V, frame=_FRAME),),
            "could not read level 2 pte",
            "invalid level 2 pte: no valid bit",
            words=_words,
        ),
    ),
    flags={},
    protection=3 << 5 | 1 << 3 | 1 << 2 | 1 << 1 | 1 << 0,
    va_bits=32,
    canonical_bits=29,
    base=P3,
)


#: P1 and P2 reach all of memory.
WINDOWS = (Window("P1", P1, P2, 0, flags=("cached",)), Window("P2", P2, P3, 0, flags=("uncached",)))


def _mmu(m: Mmu) -> Translator:
    table = Radix(PAGING, m.hdr["kcore_kptp"], m.read, "little")
    parts: list[Window | Via] = [*WINDOWS, Via(P3, P4, table)]
    return Regions(f"P1, P2; P3: {table.name}", 32, parts, "not a kernel virtual address")


def _ram(machine: Machine, cpu_data: bytes, hdr: Mapping[str, Any]) -> list[RamSeg]:
    if hdr["kcore_nsegs"] > SEGMENTS:
        raise FormatError(f"kcore_nsegs is {hdr['kcore_nsegs']}, but kcore_segs has {SEGMENTS}")
    return parse_ram_segs(cpu_data, machine.byteorder, 8, hdr["kcore_nsegs"], "kcore_nsegs")


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import landisk

    return (landisk(PAGING, WINDOWS),)


MACHINE = Machine(
    system=OPENBSD,
    arch="sh",
    mid=145,
    byteorder="little",
    long_bytes=4,
    page_size=PAGE,
    align_mask=3,
    translator="windows and 2 levels",
    libkvm="windows; P3 never; the first segment only",
    ours="P3 as the kernel's pmap does; all segments",
    ports=("landisk",),
    cpu_hdr=CStruct(
        "struct cpu_kcore_hdr",
        "sys/arch/sh/include/kcore.h",
        8,
        (
            CField(0, "u32", "kcore_kptp", "paddr_t", "pa of the kernel's level 1 table: pm_ptp of its pmap"),
            CField(4, "u32", "kcore_nsegs", "unsigned int", "number of RAM segments that follow"),
        ),
    ),
    ram=_ram,
    segments_offset=lambda hdr: 8,
    root=lambda hdr: int(hdr["kcore_kptp"]),
    mmu=_mmu,
    register_facts=(
        RegisterFact(
            "kcore_kptp",
            32,
            "pm_ptp: where address translation starts",
            lambda v, hdr: f"level 1 table at pa {v:#x}",
        ),
        RegisterFact("kcore_nsegs", 32, "number of RAM segments", lambda v, hdr: f"{v} of {SEGMENTS} places are used"),
    ),
    dumpmag_bytes=4,
    elf_machine="EM_SH",
    samples=_samples,
)
