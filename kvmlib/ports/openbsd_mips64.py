"""OpenBSD/mips64: loongson (little-endian), octeon and sgi (big-endian). No kernel is known to write a dump.

Sources: sys/arch/mips64/include/kcore.h, cpu.h, pte.h; sys/arch/{loongson,octeon,sgi}; lib/libkvm/kvm_mips64.c.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvmlib.errors import FormatError
from kvmlib.kcore import CField, CStruct, Headers, Read
from kvmlib.ports.base import OPENBSD, Machine, Mmu, RegisterFact, Settled, listed_ram
from kvmlib.ports.mips import kseg01
from kvmlib.translate import Translator
from kvmlib.translate.linear import Regions, Via, Window
from kvmlib.translate.xkphys import START as XKPHYS, STOP as XKSSEG, Xkphys

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: Loongson, octeon and most of sgi; kernels for SGI's IP32 have 4096.
PAGE = 16384
#: sizeof(struct cpu_kcore_hdr), which ends with eight RAM segments.
_HEADER = 144
#: XKPHYS_TO_PHYS (cpu.h): the kernel ignores bits 58 to 36.
_PA_BITS = 36
_WHY = (
    "invalid address ({va:x}), the header says nothing about the kernel's page table Sysmap, "
    "whose entries have 4 or 8 bytes, as the kernel was built"
)


def _mmu(m: Mmu) -> Translator:
    parts: list[Window | Via] = [Via(XKPHYS, XKSSEG, Xkphys(_PA_BITS, PAGE)), *kseg01(64, PAGE)]
    return Regions("XKPHYS, CKSEG0 and CKSEG1 only", 64, parts, _WHY)


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    if len(headers.cpu_data) < _HEADER:
        raise FormatError(
            f"no dump header at {headers.offset:#x}: c_size is {len(headers.cpu_data)}, "
            f"but struct cpu_kcore_hdr has {_HEADER} bytes"
        )
    return Settled(machine, headers)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.mips_plan import OCTEON

    return (OCTEON,)


def _samples_loongson() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.mips_plan import LOONGSON

    return (LOONGSON,)


BIG = Machine(
    system=OPENBSD,
    arch="mips64",
    mid=158,
    byteorder="big",
    long_bytes=8,
    page_size=PAGE,
    align_mask=7,
    translator="windows",
    libkvm="refuses: it can't read Sysmap",
    ours="XKPHYS, CKSEG0, CKSEG1; either byte order",
    ports=("octeon", "sgi"),
    cpu_hdr=CStruct(
        "struct cpu_kcore_hdr",
        "sys/arch/mips64/include/kcore.h",
        16,
        (
            CField(0, "u64", "kernel_pa", "u_int64_t", "pa of the kernel"),
            CField(8, "u32", "mmutype", "int32_t", "kind of MMU"),
        ),
    ),
    settle=_settle,
    ram=listed_ram(16, 8),
    segments_offset=lambda hdr: 16,
    mmu=_mmu,
    register_facts=(
        RegisterFact("kernel_pa", 64, "where the kernel lies", lambda v, hdr: f"kernel at pa {v:#x}"),
        RegisterFact("mmutype", 32, "kind of MMU"),
    ),
    dumpmag_bytes=8,
    elf_machine="EM_MIPS",
    samples=_samples,
)
LITTLE = replace(BIG, byteorder="little", variant="loongson", ports=("loongson",), samples=_samples_loongson)
MACHINE = replace(BIG, forms=(LITTLE,))
