"""NetBSD/mipsel: little-endian MIPS of 32 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from kvmlib.ports import mips, mips_plan

MACHINE = mips.netbsd(
    "mipsel",
    "little",
    32,
    ports=("algor", "arc", "cobalt", "evbmips", "hpcmips", "playstation2", "pmax", "sbmips"),
    samples=mips_plan.MIPSEL,
)
