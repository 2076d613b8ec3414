"""NetBSD/sh3el. Sources: sys/arch/sh3; lib/libkvm/kvm_sh3.c.

dumpsys is empty on these ports, so there is no header besides the segment's own, and none that says where memory lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import NETBSD, Machine, Mmu
from kvmlib.translate import Translator, Unavailable

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_WHY = (
    "vatop not yet implemented! NetBSD's sh3 ports have no dump code, "
    "and no header of theirs says which physical address memory begins with"
)


def mmu(m: Mmu) -> Translator:
    """Say why nothing can be translated."""
    return Unavailable(_WHY, 32)


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import SH3EL

    return (SH3EL,)


MACHINE = Machine(
    system=NETBSD,
    arch="sh3el",
    mid=145,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=3,
    translator="none",
    libkvm="none: not yet implemented",
    ours="none, and says why",
    ports=("dreamcast", "evbsh3", "hpcsh", "landisk", "mmeye"),
    cpu_hdr=None,
    cpu_rest="not known: this system has no CPU header",
    ram=None,
    mmu=mmu,
    dumpmag_bytes=4,
    elf_machine="EM_SH",
    samples=_samples,
)
