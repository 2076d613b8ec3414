"""NetBSD/powerpc64. Sources: sys/arch/powerpc/include/kcore.h with 64-bit registers; lib/libkvm/kvm_powerpc64.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, listed_ram, register_array
from kvmlib.ports.powerpc import cpu_name, sdr1_text
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.hashed import OEA64_BRIDGE

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = "a 64-bit PowerPC translates by its SLB, which the header of NetBSD/powerpc64 doesn't have"


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 64)


def _plain(name: str, count: int, meaning: str) -> tuple[RegisterFact, ...]:
    return register_array(name, count, 64, meaning, lambda value, hdr, i: "")


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import powerpc_plan

    return (powerpc_plan.NETBSD64,)


MACHINE = Machine(
    system=NETBSD,
    arch="powerpc64",
    mid=149,
    byteorder="big",
    long_bytes=8,
    page_size=4096,
    align_mask=7,
    translator="none: no SLB",
    libkvm="translates nothing",
    ours="physical memory only",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/powerpc/include/kcore.h",
        408,
        (
            CField(0, "u32", "pad", "uint32_t", "not used"),
            CField(4, "u32", "pvr", "uint32_t", "processor version register: which CPU it is"),
            CField(8, "u64", "sdr1", "register_t", "where the hashed page table is, and how large"),
            CField(16, "u64", "sr", "register_t", "segment registers", 16),
            CField(144, "u64", "dbatl", "register_t", "data BATs, lower halves", 8),
            CField(208, "u64", "dbatu", "register_t", "data BATs, upper halves", 8),
            CField(272, "u64", "ibatl", "register_t", "instruction BATs, lower halves", 8),
            CField(336, "u64", "ibatu", "register_t", "instruction BATs, upper halves", 8),
        ),
    ),
    ram=listed_ram(408),
    segments_offset=lambda hdr: 408,
    mmu=_mmu,
    register_facts=(
        RegisterFact("pvr", 32, "which CPU it is", lambda value, hdr: cpu_name(value)),
        RegisterFact("sdr1", 64, "the hashed page table", lambda value, hdr: sdr1_text(value, OEA64_BRIDGE)),
        *_plain("sr", 16, "segment register"),
        *_plain("dbatu", 8, "data BAT, upper half"),
        *_plain("dbatl", 8, "data BAT, lower half"),
        *_plain("ibatu", 8, "instruction BAT, upper half"),
        *_plain("ibatl", 8, "instruction BAT, lower half"),
    ),
    dumpmag_bytes=4,
    elf_machine="EM_PPC64",
    samples=_samples,
)
