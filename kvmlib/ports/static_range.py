"""What OpenBSD's arm, arm64 and riscv64 have in common: one range of kernel addresses that is mapped in a row.

Sources: sys/arch/{arm,arm64,riscv64}/include/kcore.h; lib/libkvm/kvm_{arm,arm64,riscv64}.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvmlib.errors import FormatError
from kvmlib.kcore import PHYS_RAM_SEG, CField, CStruct, Headers, RamSeg, Read
from kvmlib.ports.base import Machine, Mmu, RegisterFact, Settled
from kvmlib.translate.linear import Regions, Window, wrapping

#: NPHYS_RAM_SEGS (kcore.h): entries of ram_segs[]. There is no count, and those of size 0 don't end the list.
NPHYS_RAM_SEGS = 8
PAGE = 4096
#: libkvm's words for an address that isn't in the range.
UNREACHABLE = "kvm_vatop: va {va:x} unreachable"


def cpu_hdr(header: str, bits: int) -> CStruct:
    """Describe struct cpu_kcore_hdr up to ram_segs, in words of `bits`."""
    names = (
        ("kernelbase", "KERNEL_BASE: the va that the first RAM segment would begin at"),
        ("kerneloffs", "how far behind that the range begins, in bytes"),
        ("staticsize", "size of the range, in bytes"),
        ("pmap_kernel_l1", "pm_l1 of the kernel's pmap; nobody uses it"),
        ("pmap_kernel_l2", "pm_l2 of the kernel's pmap; nobody uses it"),
    )
    wire, ctype, size = f"u{bits}", f"u_int{bits}_t", bits // 8
    fields = [CField(i * size, wire, name, ctype, meaning) for i, (name, meaning) in enumerate(names)]
    reserved = CField(len(names) * size, wire, "reserved", ctype, "room for more", count=11)
    return CStruct("cpu_kcore_hdr_t", header, 16 * size, (*fields, reserved))


def static_range(hdr: Mapping[str, Any], bits: int) -> range:
    """Return the addresses of the range; none where it would wrap around, as in C."""
    start = (hdr["kernelbase"] + hdr["kerneloffs"]) % (1 << bits)
    return range(start, (start + hdr["staticsize"]) % (1 << bits))


def first_segment(cpu_data: bytes, bits: int) -> RamSeg | None:
    """Return ram_segs[0]; None where the CPU data ends before it."""
    at = 16 * bits // 8
    data = cpu_data[at : at + PHYS_RAM_SEG.size]
    return RamSeg(**PHYS_RAM_SEG.parse(data, "little")) if len(data) == PHYS_RAM_SEG.size else None


def translator(m: Mmu, bits: int) -> Regions:
    """Set up the range that the header describes."""
    vas, first = static_range(m.hdr, bits), first_segment(m.cpu_data, bits)
    if not vas or first is None:
        return nothing(bits, "the header describes no range of kernel addresses")
    window = Window("the kernel's static range", vas.start, vas.stop, first.start + m.hdr["kerneloffs"], unit=PAGE)
    return only(window, bits, "the header describes")


def nothing(bits: int, why: str) -> Regions:
    """Translate nothing; `why` is a clause."""
    return Regions("none", bits, (), f"{UNREACHABLE}, {why}")


def only(window: Window, bits: int, who: str) -> Regions:
    """Translate the addresses of `window`; `who` knows of no others ("the header describes")."""
    where = f"va {window.start:#x} to {window.stop:#x}"
    otherwise = f"{UNREACHABLE}, {who} only {where}"
    # pa is an unsigned long in C.
    return Regions(f"{window.name}, {where}", bits, wrapping(window, bits), otherwise)


def settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Refuse the other system's header, which has other numbers here: KERNEL_BASE is a page's address.

    Raises:
        FormatError: it isn't.
    """
    base = machine.parse_cpu_hdr(headers.cpu_data)["kernelbase"]
    if base % PAGE:
        raise FormatError(f"this is not {machine.name}'s header: kernelbase is {base:#x}, no page begins there")
    return Settled(machine, headers)


def register_facts(bits: int) -> tuple[RegisterFact, ...]:
    """Return the header's numbers, decoded."""

    def size(value: int, hdr: Mapping[str, Any]) -> str:
        vas = static_range(hdr, bits)
        return f"{value >> 10} KiB: va {vas.start:#x} to {vas.stop:#x}" if vas else "no range"

    return (
        RegisterFact("kernelbase", bits, "KERNEL_BASE, where kernel addresses begin"),
        RegisterFact("kerneloffs", bits, "how far behind it the range begins"),
        RegisterFact("staticsize", bits, "size of the range that is mapped in a row", size),
        RegisterFact("pmap_kernel_l1", bits, "pm_l1 of the kernel's pmap"),
        RegisterFact("pmap_kernel_l2", bits, "pm_l2 of the kernel's pmap"),
    )
