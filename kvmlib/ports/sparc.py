"""What the CPU headers of sparc and sparc64 have in common: the CPU's type, RAM segments at an offset.

Source: machine/kcore.h and machine/param.h of both systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvmlib.errors import FormatError
from kvmlib.kcore import RamSeg, parse_ram_segs
from kvmlib.ports.base import Machine

#: cputype; sparc64 has other types from 4 on.
SUN4, SUN4C, SUN4M, SUN4U, SUN4D = range(5)


def signed(value: int) -> int:
    """Return the int that these 32 bits are in C."""
    return value - (1 << 32) if value >> 31 else value


def size_text(n: int) -> str:
    """Spell a size in bytes in the largest unit that it is a multiple of."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n and n % (1 << shift) == 0:
            return f"{n >> shift} {unit}"
    return f"{n} bytes"


def segments_offset(hdr: Mapping[str, Any]) -> int:
    """Where in the CPU data the RAM segments begin: memsegoffset."""
    return int(hdr["memsegoffset"])


def ram(machine: Machine, cpu_data: bytes, hdr: Mapping[str, Any]) -> list[RamSeg]:
    """Read the nmemseg RAM segments at memsegoffset; as in C, a count below 0 means none.

    Raises:
        FormatError: they don't fit between the header and the end of the CPU data.
    """
    count, at = signed(hdr["nmemseg"]), segments_offset(hdr)
    if count <= 0:
        return []
    if not machine.least_cpu_data <= at <= len(cpu_data):
        raise FormatError(
            f"memsegoffset is {at:#x}, but RAM segments can only begin at {machine.least_cpu_data:#x}, "
            f"behind the header, to {len(cpu_data):#x}, the end of the CPU data"
        )
    return parse_ram_segs(cpu_data, machine.byteorder, at, count, "nmemseg")


def decode_nmemseg(value: int, hdr: Mapping[str, Any]) -> str:
    """Say what a count of RAM segments means."""
    count = signed(value)
    return f"{count} RAM segments at byte {segments_offset(hdr)} of the CPU data" if count > 0 else "no RAM segments"
