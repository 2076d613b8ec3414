"""What the header of an m68k dump says about its machine: the port's name chooses among four layouts.

Source: sys/arch/m68k/include/kcore.h, lib/libkvm/kvm_m68k.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvmlib.errors import FormatError
from kvmlib.kcore import CStruct, Headers, RamSeg, Read
from kvmlib.ports.base import Machine, Settled, listed_ram
from kvmlib.ports.m68k_sun import SUN2, SUN3, SUN3X, sun2_pages
from kvmlib.ports.m68k_tables import CPU_HDR, HEAD, REGISTER_FACTS, TOP, mmu, root
from kvmlib.text import printable

_HEAD = CStruct("cpu_kcore_hdr_t", CPU_HDR.header, 24, HEAD)
#: Page sizes in bytes that the MMUs can have, without those that no kernel would take; there are 2, 4 and 8 KiB.
LEAST_PAGE, MOST_PAGE = 1024, 32768
#: Segments in ram_segs (kcore.h: M68K_NPHYS_RAM_SEGS).
RAM_SEGS = 8


def _at_96(hdr: Mapping[str, Any]) -> int:
    return 96


def _at_92(hdr: Mapping[str, Any]) -> int:
    return 92


#: With 64-bit numbers aligned to 8 bytes, as the compilers for NetBSD seem to do it.
COMMON: dict[str, Any] = {
    "variant": "",
    "translator": "radix, 2 or 3 levels",
    "cpu_hdr": CPU_HDR,
    "cpu_rest": "empty places of ram_segs[8], then zeros or what was on the kernel's stack, as the port does it",
    "ram": listed_ram(96, RAM_SEGS),
    "segments_offset": _at_96,
    "root": root,
    "evidence": None,
    "mmu": mmu,
    "register_facts": REGISTER_FACTS,
    "pcb": None,
}
#: With 64-bit numbers aligned to 4 bytes or 2.
COMMON_A4 = COMMON | {"variant": "u64a4", "ram": listed_ram(92, RAM_SEGS), "segments_offset": _at_92}
_BY_NAME = {"sun2": SUN2, "sun3": SUN3, "sun3x": SUN3X}


def settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Choose the layout by the header's name, and take the page size from it.

    Raises:
        FormatError: there is no such page size.
    """
    hdr = _HEAD.parse(headers.cpu_data, machine.byteorder)
    page = hdr["page_size"]
    if page.bit_count() != 1 or not LEAST_PAGE <= page <= MOST_PAGE:
        raise FormatError(
            f"no {machine.name} header at {headers.offset:#x}: page_size is {page}, "
            f"a power of two from {LEAST_PAGE} to {MOST_PAGE} was expected"
        )
    name = hdr["name"][:15]
    reasons = [f'its header has the name "{printable(name)}"']
    form = _BY_NAME.get(name)
    if form is None:
        form, reason = _by_alignment(machine, headers.cpu_data, page)
        reasons.append(reason)
    if form is SUN2:
        headers, reason = sun2_pages(headers, read, image_size, page)
        reasons.append(reason)
    return Settled(replace(machine, page_size=page, **form), headers, tuple(filter(None, reasons)))


def _by_alignment(machine: Machine, cpu_data: bytes, page: int) -> tuple[dict[str, Any], str]:
    """Find out where ram_segs begins: that depends on how the kernel's compiler aligned 64-bit numbers.

    Read from the wrong byte, a list is empty or has addresses of more than 32 bits, so at most one makes sense.
    """
    hdr = CPU_HDR.parse(cpu_data, machine.byteorder)
    for inside in (root(hdr), None):
        for form, at in ((COMMON, 96), (COMMON_A4, 92)):
            if _sensible(form["ram"](machine, cpu_data, hdr), page, inside):
                return form, f"its RAM segments begin at byte {at} of the CPU data"
    return COMMON, "no RAM segments at byte 92 or 96 of the CPU data make sense, so byte 96 is taken"


def _sensible(segments: Sequence[RamSeg], page: int, inside: int | None) -> bool:
    """Tell whether these can be RAM segments of a machine with 32-bit addresses, `inside` in one of them."""
    fit = all(s.start % page == 0 and s.size % page == 0 and s.start + s.size <= TOP for s in segments)
    return fit and any(inside is None or s.start <= inside < s.start + s.size for s in segments)
