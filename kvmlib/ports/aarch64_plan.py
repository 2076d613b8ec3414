"""Sample dumps of 64-bit Arm: NetBSD's with each granule, and what OpenBSD's libkvm would read."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kvmlib.kcore import CStruct, RamSeg, build_ram_segs
from kvmlib.ports.aarch64_paging import Regime, paging
from kvmlib.ports.arm_plan import static_cpu_data
from kvmlib.ports.code_risc import AARCH64, RISCV64
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use, Wanted, WindowPlan
from kvmlib.translate.build import Tables
from kvmlib.translate.linear import Window

_READ_ONLY, _INNER, _AF, _PXN, _UXN = 1 << 7, 3 << 8, 1 << 10, 1 << 53, 1 << 54
#: LX_BLKPAG_OS_READ and _WRITE (pmap.c): what was asked for, whatever the CPU may do at the moment.
_OS_READ, _OS_WRITE = 1 << 55, 1 << 56
#: AttrIndx of device memory in the kernel's MAIR_EL1 (LX_BLKPAG_ATTR_DEVICE_MEM).
_DEVICE = 3 << 2
_MEMORY = _AF | _INNER | _UXN | _OS_READ
_BITS: Mapping[Use, int] = {
    "text": _MEMORY | _READ_ONLY,
    "rodata": _MEMORY | _READ_ONLY | _PXN,
    "data": _MEMORY | _PXN | _OS_WRITE,
    "device": _AF | _DEVICE | _UXN | _PXN | _OS_READ | _OS_WRITE,
}
#: TCR_EL1: 48-bit addresses in both halves, 48-bit pa, 16-bit ASIDs, tables cached, and the granule of both halves.
_TCR = 0x1535103510
TCR = {12: _TCR | 2 << 30, 14: _TCR | 1 << 30 | 2 << 14, 16: _TCR | 3 << 30 | 1 << 14}
#: The PL011 of QEMU's virt machine.
_UART = 0x9000000
_DIRECT = 0xFFFF000000000000


def _space(variant: str, granule: int, direct: tuple[int, int], extra: tuple[Wanted, ...]) -> RadixPlan:
    regime = Regime.of(TCR[granule])
    assert regime is not None
    return RadixPlan(
        variant=variant,
        image_shift=granule,
        direct_shifts=direct,
        extra=extra,
        paging=paging(regime),
        bits=_BITS,
    )


#: EFI's runtime services and device registers get blocks too.
_4K = _space(
    "",
    12,
    (21, 30),
    (
        Wanted(0xFFFFC000E0000000, _UART, 0x1000, "device", 12),
        Wanted(0xFFFFC000E0200000, 0x8000000, 0x400000, "device", 21),
    ),
)
_16K = _space("16k", 14, (25, 25), (Wanted(0xFFFFC000E0000000, 0x8000000, 1 << 25, "device", 25),))
_64K = _space("64k", 16, (29, 29), (Wanted(0xFFFFC000E0000000, 0, 1 << 29, "device", 29),))


def _hdr(space: SpacePlan, root: int, segments: int) -> Mapping[str, int]:
    return {"kh_tcr1": TCR[space.page.bit_length() - 1], "kh_ttbr1": root, "kh_nramsegs": segments}


def _cpu_data_2014(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
    return struct.pack("<QQ", TCR[12], tables.root) + build_ram_segs(segments, "little")


NETBSD_4K = SamplePlan(
    text_va=0xFFFFC00000000000,
    text_pa=0x40200000,
    ram=(RamSeg(0x40000000, 0x300000), RamSeg(0x48000000, 0x20000), RamSeg(0x100000000, 0x40000)),
    direct_va=_DIRECT,
    stack_va=0xFFFFC00040100000,
    heap_va=0xFFFFC00041000000,
    user_fp=0,
    device_pa=_UART,
    lost_pages=0x8000,
    msgbuf_bytes=0x8000,
    spaces=(_4K, _16K),
    code=AARCH64,
    cpu_hdr=_hdr,
    port="evbarm",
    nic="vioif0",
    cpu_model="Cortex-A57 r1p0 (Cortex V8A core)",
    attach="""\
armfdt0 (root)
simplebus0 at armfdt0: SAMPLE virt
cpus0 at simplebus0
cpu0 at cpus0: {cpu_model}
cpu0: package 0, core 0, smt 0
cpu0: IC enabled, DC enabled, EL0/EL1 stack Alignment check enabled
gic0 at simplebus0: GIC
armgic0 at gic0: Generic Interrupt Controller, 288 sources (277 valid)
gtmr0 at simplebus0: Generic Timer
plcom0 at simplebus0: ARM PL011 UART
plcom0: console
virtio0 at simplebus0
ld0 at virtio0 unit 0: <SAMPLE DISK>
ld0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
virtio1 at simplebus0
vioif0 at virtio1 unit 1: Ethernet address 02:00:5e:10:00:01
""",
)
#: Its pages are so large that it needs more memory.
NETBSD_64K = replace(
    NETBSD_4K,
    ram=(RamSeg(0x40000000, 0x700000), RamSeg(0x240000000, 0x40000)),
    msgbuf_bytes=0x10000,
    spaces=(_64K,),
)
#: With the header that has no count.
NETBSD_2014 = replace(
    NETBSD_4K,
    spaces=(replace(_4K, variant="hdr16"),),
    cpu_hdr=None,
    cpu_data=_cpu_data_2014,
)
NETBSD_EB = replace(NETBSD_4K, spaces=(_4K,))


def openbsd_arm64(layout: CStruct) -> SamplePlan:
    """A virtual machine; `layout` is the CPU header."""
    base = 0xFFFFFF8000000000
    return SamplePlan(
        text_va=base + 0x200000,
        text_pa=0x40200000,
        ram=(RamSeg(0x40000000, 0x400000), RamSeg(0x48000000, 0x20000)),
        direct_va=None,
        stack_va=0xFFFFFF8040100000,
        heap_va=0xFFFFFF8041000000,
        user_fp=0x7FFFFE6C0,
        msgbuf_bytes=0x10000,
        spaces=(WindowPlan(windows=(_window(base + 0x200000, 0x200000, 0x40200000),)),),
        code=AARCH64,
        cpu_hdr=None,
        cpu_data=lambda space, tables, segments: static_cpu_data(layout, base, space, segments),
        nic="vio0",
        cpu_model="ARM Cortex-A57 r1p0",
        attach="""\
mainbus0 at root: SAMPLE virt
cpu0 at mainbus0 mpidr 0: {cpu_model}
cpu0: 48KB 64b/line 3-way L1 PIPT I-cache, 32KB 64b/line 2-way L1 D-cache
psci0 at mainbus0: PSCI 0.2
ampintc0 at mainbus0 nirq 288, ncpu 1: "interrupt-controller"
agtimer0 at mainbus0: 62500 kHz
pluart0 at mainbus0: rev 1, 16 byte fifo
pluart0: console
virtio0 at mainbus0: Virtio Block Device
vioblk0 at virtio0
scsibus0 at vioblk0: 1 targets
sd0 at scsibus0 targ 0 lun 0: <VirtIO, SAMPLE DISK, >
sd0: 4096MB, 512 bytes/sector, 8388608 sectors
virtio1 at mainbus0: Virtio Network Device
vio0 at virtio1: address 02:00:5e:10:00:01
vscsi0 at root
softraid0 at root
""",
    )


def openbsd_riscv64(layout: CStruct) -> SamplePlan:
    """A virtual machine, whose firmware keeps the first 2 MiB of RAM; `layout` is the CPU header."""
    base = 0xFFFFFFC000000000
    return SamplePlan(
        text_va=base,
        text_pa=0x80200000,
        ram=(RamSeg(0x80200000, 0x200000), RamSeg(0x88000000, 0x20000)),
        direct_va=None,
        stack_va=0xFFFFFFC040100000,
        heap_va=0xFFFFFFC041000000,
        user_fp=0x3FFFFFE6C0,
        msgbuf_bytes=0x10000,
        spaces=(WindowPlan(windows=(_window(base, 0x200000, 0x80200000),)),),
        code=RISCV64,
        cpu_hdr=None,
        cpu_data=lambda space, tables, segments: static_cpu_data(layout, base, space, segments),
        nic="vio0",
        cpu_model="SAMPLE rv64imafdcsu",
        attach="""\
mainbus0 at root: SAMPLE riscv-virtio
cpu0 at mainbus0: {cpu_model}
intc0 at cpu0
simplebus0 at mainbus0: "soc"
plic0 at simplebus0
com0 at simplebus0: ns16550a, 16 byte fifo
com0: console
virtio0 at simplebus0: Virtio Block Device
vioblk0 at virtio0
scsibus0 at vioblk0: 1 targets
sd0 at scsibus0 targ 0 lun 0: <VirtIO, SAMPLE DISK, >
sd0: 4096MB, 512 bytes/sector, 8388608 sectors
virtio1 at simplebus0: Virtio Network Device
vio0 at virtio1: address 02:00:5e:10:00:01
vscsi0 at root
softraid0 at root
""",
    )


def _window(start: int, size: int, pa: int) -> Window:
    return Window("the kernel's static range", start, start + size, pa, unit=4096)
