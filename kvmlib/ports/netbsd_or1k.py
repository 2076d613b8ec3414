"""NetBSD/or1k. Sources: sys/arch/or1k/include/kcore.h, param.h; lib/libkvm/kvm_or1k.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import NETBSD, Machine, Mmu, listed_ram, register_array
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = "the header of NetBSD/or1k doesn't say where the page tables are, and libkvm translates nothing either"


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 32)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import unmapped_plan

    return (unmapped_plan.NETBSD_OR1K,)


MACHINE = Machine(
    system=NETBSD,
    arch="or1k",
    mid=184,
    byteorder="big",
    long_bytes=4,
    page_size=8192,
    align_mask=3,
    translator="none: no page table is named",
    libkvm="translates nothing",
    ours="physical memory only",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/or1k/include/kcore.h",
        64,
        (CField(0, "u64", "kh_misc", "uint64_t", "not used", 8),),
    ),
    ram=listed_ram(64),
    segments_offset=lambda hdr: 64,
    mmu=_mmu,
    register_facts=register_array("kh_misc", 8, 64, "not used", lambda value, hdr, i: ""),
    dumpmag_bytes=4,
    elf_machine="EM_OPENRISC",
    samples=_samples,
)
