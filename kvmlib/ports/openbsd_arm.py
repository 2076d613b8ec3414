"""OpenBSD/arm (armv7). Sources: sys/arch/arm/include/{kcore,pcb}.h, arm32/kvm_machdep.c, cpuswitch.S.

And lib/libkvm/kvm_arm.c. Its kernels leave kernelbase and staticsize 0, so that nothing says where they are mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import Headers, Read
from kvmlib.ports.base import OPENBSD, Machine, Mmu, Pcb, Settled, listed_ram
from kvmlib.ports.static_range import (
    NPHYS_RAM_SEGS,
    PAGE,
    cpu_hdr,
    first_segment,
    nothing,
    only,
    register_facts,
    settle,
    static_range,
    translator,
)
from kvmlib.ports.trapframes import ARM, ARM_FRAMES
from kvmlib.translate import Translator
from kvmlib.translate.linear import Window

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: Where the kernel's addresses begin (vmparam.h).
ARM_KERNEL_BASE = 0xC0000000
_BITS = 32
_HDR = cpu_hdr("sys/arch/arm/include/kcore.h", _BITS)


def _left_out(hdr: Mapping[str, Any]) -> bool:
    """Tell whether the kernel left the fields of the range alone."""
    return not hdr["kernelbase"] and not static_range(hdr, _BITS)


def _mmu(m: Mmu) -> Translator:
    if not _left_out(m.hdr):
        return translator(m, _BITS)
    return nothing(
        _BITS,
        "for this system's kernels leave kernelbase and staticsize 0; -m openbsd/arm-guess takes the first RAM "
        f"segment for va {ARM_KERNEL_BASE:#x} (ARM_KERNEL_BASE)",
    )


def _guess(m: Mmu) -> Translator:
    """Do what `_mmu` does; but where the header says nothing, guess.

    The kernel's image is loaded near the start of RAM and is mapped there in a row. What it maps later isn't, so the
    further an address lies behind the kernel, the less likely the guess is right.
    """
    first = first_segment(m.cpu_data, _BITS)
    if first is None or not first.size or not _left_out(m.hdr):
        return _mmu(m)
    stop = min(ARM_KERNEL_BASE + first.size, 1 << _BITS)
    window = Window("the guessed kernel range", ARM_KERNEL_BASE, stop, first.start, unit=PAGE, flags=("guess",))
    return only(window, _BITS, "the guess is")


def _settle_guess(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    settled = settle(machine, headers, read, image_size)
    if not _left_out(machine.parse_cpu_hdr(headers.cpu_data)):
        return settled
    guess = (
        f"as asked for, all its addresses are a guess: va {ARM_KERNEL_BASE:#x} is where the first RAM segment begins"
    )
    return settled._replace(reasons=(guess,))


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.arm_plan import openbsd_armv7

    return (openbsd_armv7(_HDR),)


_USUAL = Machine(
    system=OPENBSD,
    arch="arm",
    mid=143,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=7,
    translator="one static range",
    libkvm="the static range, which armv7 kernels leave out",
    ours="the same; a guess on request",
    ports=("armv7", "armish", "zaurus"),
    cpu_hdr=_HDR,
    ram=listed_ram(64, NPHYS_RAM_SEGS, keep_empty=True),
    segments_offset=lambda hdr: 64,
    settle=settle,
    mmu=_mmu,
    register_facts=register_facts(_BITS),
    dumpmag_bytes=4,
    # savectx pushes r4 to r7 and lr, and four bytes that keep sp aligned to 8.
    pcb=Pcb(
        344,
        {"r8": (32, 4), "r9": (36, 4), "r10": (40, 4), "r11": (44, 4), "r12": (48, 4), "sp": (52, 4)},
        sp="sp",
        fp="r11",
        at_sp=("", "r4", "r5", "r6", "r7", "pc"),
    ),
    trapframes=(ARM,),
    frames=ARM_FRAMES,
    elf_machine="EM_ARM",
    samples=_samples,
)
_GUESS = replace(_USUAL, variant="guess", on_request=True, settle=_settle_guess, mmu=_guess, samples=tuple)
MACHINE = replace(_USUAL, forms=(_GUESS,))
