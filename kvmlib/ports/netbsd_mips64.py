"""NetBSD/mips64: big-endian MIPS of 64 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports import mips

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import mips_plan

    return mips_plan.MIPS64


MACHINE = mips.netbsd(
    "mips64",
    "big",
    64,
    ports=("evbmips", "sbmips", "sgimips", "algor"),
    samples=_samples,
)
