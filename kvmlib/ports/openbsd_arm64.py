"""OpenBSD/arm64. Sources: sys/arch/arm64/include/kcore.h, arm64/machdep.c; lib/libkvm/kvm_arm64.c.

Its kernels write no dumps yet; this is the form that libkvm reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import OPENBSD, Machine, Mmu, listed_ram
from kvmlib.ports.static_range import NPHYS_RAM_SEGS, cpu_hdr, register_facts, settle, translator
from kvmlib.ports.trapframes import LP64_CHAIN, OPENBSD_ARM64
from kvmlib.translate import Translator

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_BITS = 64
_HDR = cpu_hdr("sys/arch/arm64/include/kcore.h", _BITS)


def _mmu(m: Mmu) -> Translator:
    return translator(m, _BITS)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.aarch64_plan import openbsd_arm64

    return (openbsd_arm64(_HDR),)


MACHINE = Machine(
    system=OPENBSD,
    arch="arm64",
    mid=159,
    byteorder="little",
    long_bytes=8,
    page_size=4096,
    align_mask=7,
    translator="one static range",
    libkvm="the static range; kernels don't dump",
    ours="the same",
    cpu_hdr=_HDR,
    ram=listed_ram(128, NPHYS_RAM_SEGS, keep_empty=True),
    segments_offset=lambda hdr: 128,
    settle=settle,
    mmu=_mmu,
    register_facts=register_facts(_BITS),
    dumpmag_bytes=8,
    trapframes=(OPENBSD_ARM64,),
    frames=(LP64_CHAIN,),
    elf_machine="EM_AARCH64",
    samples=_samples,
)
