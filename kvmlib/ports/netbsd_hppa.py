"""NetBSD/hppa. Sources: sys/arch/hppa/include/kcore.h, hppa/machdep.c; lib/libkvm/kvm_hppa.c.

The header holds nothing, and libkvm's translator was never written. Physical address p lies p bytes into the memory
data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import NETBSD, Machine, Mmu
from kvmlib.ports.linear_memory import message_buffer_proof
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _mmu(m: Mmu) -> Translator:
    return Unavailable(
        "could not read PTE, as libkvm says: the header does not tell where the kernel's hashed page table lies", 32
    )


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import NETBSD_HPPA

    return (NETBSD_HPPA,)


MACHINE = Machine(
    system=NETBSD,
    arch="hppa",
    mid=154,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=7,
    translator="none",
    libkvm="none: it fails for every address",
    ours="none, and says why; memory by pa",
    ports=("hp700",),
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/hppa/include/kcore.h",
        4,
        (CField(0, "u32", "dummy", "int", "nothing: the kernel leaves in it what was there"),),
    ),
    cpu_rest="whatever was in the buffer that the header was written from",
    ram=None,
    evidence=message_buffer_proof("big", 0),
    mmu=_mmu,
    dumpmag_bytes=4,
    elf_machine="EM_PARISC",
    samples=_samples,
)
