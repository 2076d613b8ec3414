"""OpenBSD/powerpc (macppc). Sources: sys/arch/powerpc/include/kcore.h, macppc/machdep.c; lib/libkvm/kvm_powerpc.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import OPENBSD, Machine, Mmu, RegisterFact, listed_ram
from kvmlib.ports.trapframes import OPENBSD_POWERPC, POWERPC_FRAMES
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = (
    "the header of OpenBSD/powerpc has neither segment registers nor BATs, and its kernel fills in no page table "
    "(libkvm: vatop not yet implemented!)"
)


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 32)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import powerpc_plan

    return (powerpc_plan.OPENBSD,)


MACHINE = Machine(
    system=OPENBSD,
    arch="powerpc",
    ports=("macppc", "socppc"),
    mid=149,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=7,
    translator="none: no segment registers",
    libkvm="translates nothing",
    ours="physical memory only",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/powerpc/include/kcore.h",
        8,
        (
            CField(0, "u32", "ptable", "paddr_t", "pa of the page table; the kernel doesn't fill it in"),
            CField(4, "u32", "potable", "paddr_t", "pa of its overflow table; the kernel doesn't fill it in"),
        ),
    ),
    cpu_rest="the kernel's stack, if it were written: cpu_dump fills in the segment header only",
    ram=listed_ram(8, 4),
    segments_offset=lambda hdr: 8,
    mmu=_mmu,
    register_facts=(
        RegisterFact("ptable", 32, "the page table, if the kernel filled it in", lambda value, hdr: f"pa {value:#x}"),
        RegisterFact("potable", 32, "its overflow table, likewise", lambda value, hdr: f"pa {value:#x}"),
    ),
    # OpenBSD/macppc has its own value.
    dumpmag=(0x04959FCA, 0x8FCA0101),
    dumpmag_bytes=4,
    trapframes=(OPENBSD_POWERPC,),
    frames=POWERPC_FRAMES,
    elf_machine="EM_PPC",
    samples=_samples,
)
