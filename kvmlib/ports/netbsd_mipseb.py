"""NetBSD/mipseb: big-endian MIPS of 32 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports import mips

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import mips_plan

    return mips_plan.MIPSEB


MACHINE = mips.netbsd(
    "mipseb",
    "big",
    32,
    ports=("emips", "evbmips", "ews4800mips", "mipsco", "newsmips", "sbmips", "sgimips"),
    samples=_samples,
)
