"""OpenBSD/hppa. Sources: sys/arch/hppa/include/kcore.h, hppa/machdep.c; lib/libkvm/kvm_hppa.c.

The kernel runs where it lies: va and pa are the same, as far as there is memory. What it maps elsewhere (from
0xc0001000 on) is in a hashed page table, whose place no header tells. Physical address p lies p bytes into the memory
data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.errors import NotInDumpError, TruncatedError
from kvmlib.kcore import CField, CStruct, RamSeg
from kvmlib.ports.base import OPENBSD, Machine, Mmu
from kvmlib.ports.linear_memory import message_buffer_proof
from kvmlib.translate import Translator
from kvmlib.translate.linear import Regions, Window

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

PAGE = 4096
_TOP = 1 << 32


def _mmu(m: Mmu) -> Translator:
    end = min(m.memory_size + PAGE - 1 & -PAGE, _TOP)
    parts = [Window("the kernel's direct map", 0, end, 0, unit=PAGE)]
    why = f"only memory, which ends at {end:#x}, is mapped one to one, and no header tells what else is mapped"
    return Regions(f"va is pa, up to the end of memory at {end:#x}", 32, parts, why)


def _known_ram(m: Mmu) -> list[RamSeg]:
    """Return the memory that dumpsys writes: dumpsize pages, a variable of the kernel, which runs where it lies."""
    va, version = m.symbol("dumpsize"), m.symbol("version")
    if va is None:
        return []
    try:
        if version is not None and m.read(version, len(OPENBSD.banner)) != OPENBSD.banner:
            return []  # Another kernel's symbols.
        size = int.from_bytes(m.read(va, 4), "big") * PAGE
    except (NotInDumpError, TruncatedError):
        return []
    return [RamSeg(0, size)] if va < size <= _TOP else []


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import OPENBSD_HPPA

    return (OPENBSD_HPPA,)


MACHINE = Machine(
    system=OPENBSD,
    arch="hppa",
    mid=523,
    byteorder="big",
    long_bytes=4,
    page_size=PAGE,
    align_mask=7,
    translator="linear",
    libkvm="va is pa, whatever the address",
    ours="va is pa, as far as there is memory",
    cpu_hdr=CStruct(
        "struct cpu_kcore_hdr",
        "sys/arch/hppa/include/kcore.h",
        4,
        (CField(0, "u32", "dummy", "int", "nothing: the kernel leaves in it what was there"),),
    ),
    cpu_rest="whatever was on the kernel's stack",
    ram=None,
    known_ram=_known_ram,
    evidence=message_buffer_proof("big", 0),
    mmu=_mmu,
    dumpmag_bytes=4,
    elf_machine="EM_PARISC",
    samples=_samples,
)
