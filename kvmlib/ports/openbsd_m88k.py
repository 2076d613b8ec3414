"""OpenBSD/m88k (luna88k). Sources: sys/arch/m88k/include/kcore.h, cpu.h, luna88k/machdep.c; lib/libkvm/kvm_m88k.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import OPENBSD, Machine, Mmu, RegisterFact, listed_ram
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = (
    "the header of OpenBSD/m88k has only the CPU's type and the RAM, nothing says where the page tables are "
    "(libkvm: vatop not yet implemented!)"
)
#: cputyp (cpu.h), today's values and the older ones.
_CPUS = {0: "MC88100", 1: "MC88110", 0x100: "MC88100", 0x110: "MC88110"}


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 32)


def _decode(value: int, hdr: Mapping[str, Any]) -> str:
    return _CPUS.get(value, "a CPU that is not known")


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import unmapped_plan

    return (unmapped_plan.OPENBSD_M88K,)


MACHINE = Machine(
    system=OPENBSD,
    arch="m88k",
    ports=("luna88k", "mvme88k", "aviion"),
    mid=153,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=15,
    translator="none: no page table is named",
    libkvm="translates nothing",
    ours="physical memory only",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/m88k/include/kcore.h",
        8,
        (CField(0, "u32", "cputype", "int", "cputyp: which CPU it is"),),
    ),
    ram=listed_ram(8, 1),
    segments_offset=lambda hdr: 8,
    mmu=_mmu,
    register_facts=(RegisterFact("cputype", 32, "which CPU it is", _decode),),
    dumpmag_bytes=4,
    elf_machine="EM_88K",
    samples=_samples,
)
