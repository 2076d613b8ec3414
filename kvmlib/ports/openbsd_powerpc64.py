"""OpenBSD/powerpc64. Sources: sys/arch/powerpc64/include/kcore.h (empty), vmparam.h; lib/libkvm/kvm_powerpc64.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import OPENBSD, Machine, Mmu
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = (
    "kcore.h of OpenBSD/powerpc64 is empty, so nothing says where the page table is "
    "(libkvm: _kvm_kvatop not yet implemented)"
)


def _mmu(m: Mmu) -> Translator:
    return Unavailable(_WHY, 64)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import powerpc_plan

    return (powerpc_plan.OPENBSD64,)


MACHINE = Machine(
    system=OPENBSD,
    arch="powerpc64",
    mid=160,
    byteorder="big",
    long_bytes=8,
    page_size=4096,
    align_mask=7,
    translator="none: the header is empty",
    libkvm="translates nothing",
    ours="the memory data, as it lies in the file",
    cpu_hdr=None,
    cpu_rest="not known: kcore.h of OpenBSD/powerpc64 is empty",
    ram=None,
    mmu=_mmu,
    dumpmag_bytes=8,
    elf_machine="EM_PPC64",
    samples=_samples,
)
