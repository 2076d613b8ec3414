"""NetBSD/mipsel: little-endian MIPS of 32 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports import mips

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import mips_plan

    return mips_plan.MIPSEL


MACHINE = mips.netbsd(
    "mipsel",
    "little",
    32,
    ports=("algor", "arc", "cobalt", "evbmips", "hpcmips", "playstation2", "pmax", "sbmips"),
    samples=_samples,
)
