"""NetBSD/ia64: nothing of it was ever written. Sources: sys/arch/ia64/include/vmparam.h; lib/libkvm/kvm_ia64.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import NETBSD, Machine, Mmu
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = (
    "NetBSD/ia64 has no cpu_kcore_hdr, so nothing says where the page tables are (libkvm: vatop not yet implemented!)"
)


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 64)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import unmapped_plan

    return (unmapped_plan.NETBSD_IA64,)


MACHINE = Machine(
    system=NETBSD,
    arch="ia64",
    mid=159,
    byteorder="little",
    long_bytes=8,
    page_size=16384,
    align_mask=15,
    translator="none: the header is empty",
    libkvm="opens none",
    ours="the memory data, as it lies in the file",
    cpu_hdr=None,
    cpu_rest="not known: NetBSD/ia64 has no cpu_kcore_hdr",
    ram=None,
    mmu=_mmu,
    dumpmag_bytes=4,
    elf_machine="EM_IA_64",
    samples=_samples,
)
