"""OpenBSD/alpha. Sources: sys/arch/alpha/include/kcore.h, pcb.h, alpha/machdep.c; lib/libkvm/kvm_alpha.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports import alpha
from kvmlib.ports.base import OPENBSD, Machine, Pcb, counted_ram
from kvmlib.ports.trapframes import ALPHA

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import alpha_plan

    return (alpha_plan.OPENBSD,)


MACHINE = Machine(
    system=OPENBSD,
    arch="alpha",
    mid=141,
    byteorder="little",
    long_bytes=8,
    page_size=8192,
    align_mask=7,
    translator="K0SEG; radix, 3 levels",
    libkvm="K0SEG and 3 levels",
    ours="the same",
    settle=alpha.settle,
    cpu_hdr=alpha.CPU_HDR,
    ram=counted_ram("nmemsegs"),
    segments_offset=lambda hdr: 24,
    root=alpha.root,
    mmu=alpha.mmu,
    register_facts=alpha.REGISTER_FACTS,
    dumpmag_bytes=8,
    pcb=Pcb(416, alpha.PCB_FIELDS, sp="ksp", pc="ra"),
    trapframes=(ALPHA,),
    elf_machine="EM_ALPHA",
    samples=_samples,
)
