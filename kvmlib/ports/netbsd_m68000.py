"""NetBSD on the 68010: sun2. Sources: sys/arch/sun2/sun2/machdep.c, sys/arch/m68k/include/kcore.h; kvm_sun2.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import NETBSD, Machine
from kvmlib.ports.m68k import settle
from kvmlib.ports.m68k_sun import SUN2
from kvmlib.ports.trapframes import M68K, M68K_FRAMES

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.m68k_sun_plan import SUN2 as SAMPLE

    return (SAMPLE,)


MACHINE = Machine(
    system=NETBSD,
    arch="m68000",
    mid=144,
    byteorder="big",
    long_bytes=4,
    page_size=2048,
    align_mask=3,
    settle=settle,
    ports=("sun2",),
    libkvm="segment map; 6 of 9 pages before memory are missed",
    ours="all 9 pages",
    dumpmag_bytes=4,
    trapframes=(M68K,),
    frames=M68K_FRAMES,
    elf_machine="EM_68K",
    samples=_samples,
    **SUN2,
)
