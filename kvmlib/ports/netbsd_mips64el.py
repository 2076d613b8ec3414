"""NetBSD/mips64el: little-endian MIPS of 64 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports import mips

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import mips_plan

    return mips_plan.MIPS64EL


MACHINE = mips.netbsd(
    "mips64el",
    "little",
    64,
    ports=("evbmips", "sbmips", "arc", "cobalt", "hpcmips", "pmax"),
    samples=_samples,
)
