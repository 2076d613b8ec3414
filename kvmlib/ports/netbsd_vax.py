"""NetBSD/vax. Sources: sys/arch/vax/include/vmparam.h, vax/machdep.c; lib/libkvm/kvm_vax.c.

The kernel's image is mapped from the start of S0 on, to memory from pa 0 on, up to the symbol ``end``. What comes
behind is in the system page table, whose place no header tells. The dump code writes memory without a header, so those
that there are were put before it by somebody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import NETBSD, Machine, Mmu
from kvmlib.ports.linear_memory import message_buffer_proof
from kvmlib.ports.trapframes import VAX as TRAPFRAME, VAX_FRAMES
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.linear import Regions, Via, Window

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: Where S0 begins (KERNBASE).
S0 = 0x80000000


def _mmu(m: Mmu) -> Translator:
    end = m.symbol("end")
    if end is None:
        return Unavailable(
            "pmap_stod: no such symbol, and without the address of end it is not known how far the kernel is mapped", 32
        )
    user = "the kernel begins at 80000000"
    # libkvm's words; C prints 0 without 0x.
    parts: list[Window | Via] = [
        Window("S0", S0, end, 0),
        Via(0, 1, Regions("P0", 32, (), f"invalid address (0<80000000), {user}")),
        Via(1, S0, Regions("P0 and P1", 32, (), f"invalid address ({{va:#x}}<80000000), {user}")),
    ]
    why = (
        f"invalid address ({{va:#x}}<{end:x}), the kernel's image ends there, and no header tells what is mapped behind"
    )
    return Regions(f"S0 from va {S0:#x} to {end:#x}, where the kernel's image ends", 32, parts, why)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import VAX

    return (VAX,)


MACHINE = Machine(
    system=NETBSD,
    arch="vax",
    mid=150,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=3,
    translator="linear",
    libkvm="the kernel's image; not without symbols",
    ours="the same; opens without symbols",
    cpu_hdr=None,
    cpu_rest="not known: this system has no CPU header",
    ram=None,
    evidence=message_buffer_proof("little", S0),
    mmu=_mmu,
    dumpmag_bytes=4,
    trapframes=(TRAPFRAME,),
    frames=VAX_FRAMES,
    elf_machine="EM_VAX",
    samples=_samples,
)
