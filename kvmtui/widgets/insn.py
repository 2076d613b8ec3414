"""The instruction at an address, where capstone is installed; without it there is nothing to see of this."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import kvmlib

#: For each architecture as machines are named: capstone's names of the architecture and its modes.
_ARCH = {
    "amd64": ("X86", "64"),
    "i386": ("X86", "32"),
    "aarch64": ("ARM64", "ARM"),
    "arm64": ("ARM64", "ARM"),
    "arm": ("ARM", "ARM"),
    "mips64": ("MIPS", "MIPS64"),
    "mips64el": ("MIPS", "MIPS64"),
    "mipseb": ("MIPS", "MIPS32"),
    "mipsel": ("MIPS", "MIPS32"),
    "powerpc": ("PPC", "32"),
    "powerpc64": ("PPC", "64"),
    "sparc": ("SPARC", "BIG_ENDIAN"),
    "sparc64": ("SPARC", "V9"),
    "m68k": ("M68K", "M68K_040"),
    "riscv64": ("RISCV", "RISCV64"),
}


def instruction(kd: kvmlib.Kvm, data: bytes, va: int) -> str | None:
    """Return the instruction that `data` begins with, as text, empty where it is none; None where nobody can tell."""
    machine = kd.machine
    engine = _engine(machine.arch, machine.byteorder) if machine is not None else None
    if engine is None:
        return None
    for _, _, name, operands in engine.disasm_lite(data, va, 1):
        return kvmlib.printable(f"{name} {operands}".strip())
    return ""


@functools.cache
def _engine(arch: str, byteorder: str) -> Any:
    if arch not in _ARCH:
        return None
    try:
        capstone = importlib.import_module("capstone")
    except ImportError:
        return None
    kind, mode = _ARCH[arch]
    try:
        order = capstone.CS_MODE_BIG_ENDIAN if byteorder == "big" else capstone.CS_MODE_LITTLE_ENDIAN
        return capstone.Cs(getattr(capstone, f"CS_ARCH_{kind}"), getattr(capstone, f"CS_MODE_{mode}") | order)
    except (AttributeError, capstone.CsError):
        # An older capstone, or one that was built without this architecture.
        return None
