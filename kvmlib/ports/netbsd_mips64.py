"""NetBSD/mips64: big-endian MIPS of 64 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from kvmlib.ports import mips, mips_plan

MACHINE = mips.netbsd(
    "mips64",
    "big",
    64,
    ports=("evbmips", "sbmips", "sgimips", "algor"),
    samples=mips_plan.MIPS64,
)
