"""Sample dumps of NetBSD's RISC-V: Sv39, Sv48 and Sv57, each with a page of every size that it has."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kvmlib.kcore import RamSeg, build_ram_segs
from kvmlib.ports.code_risc import RISCV64
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use, Wanted
from kvmlib.ports.riscv_paging import SV39, SV48, SV57
from kvmlib.translate.build import Tables
from kvmlib.translate.radix import Paging

_W, _X, _G, _A, _D, _WIRED = 1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 9
_KERNEL = _G | _A | _D | _WIRED
#: Memory type IO (Svpbmt).
_IO = 2 << 61
_BITS: dict[Use, int] = {
    "text": _KERNEL | _X,
    "rodata": _KERNEL,
    "data": _KERNEL | _W,
    "device": _KERNEL | _W | _IO,
}
_MODES = {"": 8, "sv48": 9, "sv57": 10}
#: RISCV_DIRECTMAP_START, VM_KERNEL_IO_BASE (vmparam.h).
_DIRECT, _IO_VA = 0xFFFFFFE000000000, 0xFFFFFFC003000000
_MEGAPAGE, _RAM = 21, 0x80200000


def _space(variant: str, paging: Paging, *large: Wanted) -> RadixPlan:
    """All of RAM in pages of 1 GiB."""
    return RadixPlan(
        variant=variant,
        image_shift=12,
        direct_shifts=(30, 30),
        extra=(
            Wanted(_IO_VA, 0x10000000, 1 << _MEGAPAGE, "device", _MEGAPAGE),
            Wanted(0xFFFFFFC080000000, _RAM, 1 << _MEGAPAGE, "data", _MEGAPAGE),
            # Svnapot; the second of these isn't RAM.
            Wanted(0xFFFFFFC090000000, _RAM + 0x210000, 0x10000, "data", 16),
            Wanted(0xFFFFFFC090010000, 0x70000000, 0x10000, "data", 16),
            *large,
        ),
        paging=paging,
        bits=_BITS,
    )


#: Memory from 0 on in the largest page; most of it isn't RAM.
_TERAPAGE = Wanted(0xFFFFC00000000000, 0, 1 << 39, "data", 39)
_PETAPAGE = Wanted(0xFF80000000000000, 0, 1 << 48, "data", 48)


def _cpu_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
    satp = _MODES[space.variant] << 60 | tables.root >> 12
    return struct.pack("<8Q", satp, *[0] * 7) + build_ram_segs(segments, "little")


#: A virtual machine, whose firmware keeps the first 2 MiB of RAM.
NETBSD = SamplePlan(
    text_va=0xFFFFFFC000000000,
    text_pa=_RAM,
    ram=(RamSeg(_RAM, 0x280000), RamSeg(0x90000000, 0x20000), RamSeg(0x140000000, 0x40000)),
    direct_va=_DIRECT,
    stack_va=0xFFFFFFC005000000,
    heap_va=0xFFFFFFC006000000,
    user_fp=0x3FFFFFE6C0,
    device_pa=0x10001000,
    msgbuf_bytes=0x8000,
    spaces=(_space("", SV39), _space("sv48", SV48, _TERAPAGE), _space("sv57", SV57, _TERAPAGE, _PETAPAGE)),
    code=RISCV64,
    cpu_hdr=None,
    cpu_data=_cpu_data,
    port="riscv",
    nic="vioif0",
    cpu_model="rv64imafdc, riscv-virtio",
    attach="""\
mainbus0 (root)
simplebus0 at mainbus0: SAMPLE virt
cpus0 at simplebus0
cpu0 at cpus0: {cpu_model}
intc0 at cpu0: local interrupt controller
simplebus1 at simplebus0
plic0 at simplebus1: RISC-V PLIC (96 IRQs, 1 context)
com0 at simplebus1: ns16550a, working fifo
com0: console
virtio0 at simplebus1
ld0 at virtio0: <SAMPLE DISK>
ld0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
virtio1 at simplebus1
vioif0 at virtio1: Ethernet address 02:00:5e:10:00:01
""",
)
