"""NetBSD/mips64el: little-endian MIPS of 64 bits. Sources: sys/arch/mips; lib/libkvm/kvm_mips.c."""

from __future__ import annotations

from kvmlib.ports import mips, mips_plan

MACHINE = mips.netbsd(
    "mips64el",
    "little",
    64,
    ports=("evbmips", "sbmips", "arc", "cobalt", "hpcmips", "pmax"),
    samples=mips_plan.MIPS64EL,
)
