"""NetBSD/mipseb: big-endian MIPS of 32 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from kvmlib.ports import mips, mips_plan

MACHINE = mips.netbsd(
    "mipseb",
    "big",
    32,
    ports=("emips", "evbmips", "ews4800mips", "mipsco", "newsmips", "sbmips", "sgimips"),
    samples=mips_plan.MIPSEB,
)
