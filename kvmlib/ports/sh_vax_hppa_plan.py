"""Sample dumps of the SuperH, VAX and PA-RISC machines."""

from __future__ import annotations

from typing import Any

from kvmlib.kcore import ByteOrder, RamSeg
from kvmlib.ports.code_cisc import HPPA, SH_BE, SH_LE, VAX as VAX_CODE
from kvmlib.ports.plan import RadixPlan, SamplePlan, Use, WindowPlan
from kvmlib.translate.linear import Window
from kvmlib.translate.radix import Paging

_MEMORY = RamSeg(0, 0x300000)
#: SH: cached, dirty, shared, 4 KiB; writable by the kernel.
_C, _D, _SH, _4K, _KRW = 1 << 3, 1 << 2, 1 << 1, 1 << 4, 1 << 5
_SH_BITS: dict[Use, int] = {
    "text": _C | _SH | _4K,
    "rodata": _C | _SH | _4K,
    "data": _C | _D | _SH | _4K | _KRW,
    "device": _D | _SH | _4K | _KRW,
}
_EF_SH3, _EF_SH4 = 3, 9


def landisk(paging: Paging, windows: tuple[Window, ...]) -> SamplePlan:
    """The kernel in P1, stacks and malloc'ed memory in P3."""
    return SamplePlan(
        text_va=0x8C002000,
        text_pa=0x0C002000,
        ram=(RamSeg(0x0C000000, 0x300000),),
        direct_va=None,
        stack_va=0xC0102000,
        heap_va=0xC1000000,
        user_fp=0x7FFEFC40,
        # The CompactFlash slot.
        device_pa=0x14000000,
        msgbuf_bytes=0x4000,
        spaces=(RadixPlan(image_shift=12, windows=windows, paging=paging, bits=_SH_BITS),),
        code=SH_LE,
        cpu_hdr=lambda space, root, segments: {"kcore_kptp": root, "kcore_nsegs": segments},
        elf_flags=_EF_SH4,
        port="landisk",
        nic="re0",
        cpu_model="HITACHI SH4 266.666670 MHz",
        attach="""\
mainbus0 at root
cpu0 at mainbus0: {cpu_model}
shb0 at mainbus0
scif0 at shb0
scif0: console
shpcic0 at mainbus0: HITACHI SH7751R
pci0 at shpcic0 bus 0
re0 at pci0 dev 0 function 0 "Realtek 8139" rev 0x20: RTL8139C+ (0x7480), address 02:00:5e:10:00:01
ohci0 at pci0 dev 1 function 0 "NEC USB" rev 0x43: irq 7, version 1.0
obio0 at mainbus0
wdc0 at obio0 port 0x14000000 irq 10
wd0 at wdc0 channel 0 drive 0: <SAMPLE DISK>
wd0: 1-sector PIO, LBA48, 4096MB, 8388608 sectors
rsclock0 at shb0: RS5C313 real time clock
power0 at obio0 irq 14
""",
    )


def _sh3(order: ByteOrder, **more: Any) -> SamplePlan:
    """A NetBSD/sh3 whose kernel is in P1, where a reader can't know it: no dump code says what is at pa 0."""
    return SamplePlan(
        text_va=0x8C010000,
        text_pa=0x10000,
        ram=(_MEMORY,),
        direct_va=None,
        stack_va=0xC0002000,
        heap_va=0xC0400000,
        user_fp=0x7FFFE5A8,
        msgbuf_bytes=0x4000,
        spaces=(WindowPlan(windows=(Window("P1", 0x8C000000, 0x8C000000 + _MEMORY.size, 0),), translates=False),),
        code=SH_LE if order == "little" else SH_BE,
        cpu_hdr=None,
        elf_flags=_EF_SH3,
        **more,
    )


SH3EL = _sh3(
    "little",
    port="evbsh3",
    nic="ne0",
    cpu_model="HITACHI SH7709A 133MHz",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model}
cpu0: full-associative 4-entry I/O, 128-entry 4-way TLB; 16KB cache
shb0 at mainbus0
scif0 at shb0
scif0: console
hd64461if0 at shb0: HITACHI HD64461
hd64461pcmcia0 at hd64461if0
pcmcia0 at hd64461pcmcia0
ne0 at pcmcia0 function 0: Ethernet address 02:00:5e:10:00:01
wdc0 at pcmcia1 function 0
atabus0 at wdc0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
""",
)
SH3EB = _sh3(
    "big",
    port="landisk",
    nic="rtk0",
    cpu_model="HITACHI SH7708R 100MHz",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model}
cpu0: 128-entry 4-way TLB; 8KB cache
shb0 at mainbus0
sci0 at shb0
sci0: console
mmeyepcmcia0 at mainbus0
pcmcia0 at mmeyepcmcia0
rtk0 at pcmcia0 function 0: Ethernet address 02:00:5e:10:00:01
wdc0 at pcmcia1 function 0
atabus0 at wdc0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
""",
)
#: The kernel's image only: what lies in S0 behind `end` is in a page table whose place a reader can't know.
VAX = SamplePlan(
    text_va=0x80000000,
    text_pa=0,
    ram=(_MEMORY,),
    direct_va=None,
    stack_va=0x82002000,
    heap_va=0x82400000,
    user_fp=0x7FFFE5A8,
    msgbuf_bytes=0x4000,
    spaces=(WindowPlan(windows=(Window("S0", 0x80000000, 0x80000000 + _MEMORY.size, 0),), until="end"),),
    code=VAX_CODE,
    cpu_hdr=None,
    nic="ze0",
    cpu_model="VAXstation 4000/60",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: KA46, Mariah, 2KB L1 cache, 256KB L2 cache
vsbus0 at mainbus0
vsbus0: 32K entry DMA SGMAP at PA 0x400000 (VA 0x80400000)
vsbus0: interrupt mask 0
ze0 at vsbus0 csr 0x200e0000 vec 120 ipl 17 maskbit 1 buf 0x0-0xffff
ze0: address 02:00:5e:10:00:01
asc0 at vsbus0 csr 0x200c0080 vec 774 ipl 17 maskbit 0
asc0: NCR53C94, 25MHz, SCSI ID 6
scsibus0 at asc0: 8 targets, 8 luns per target
dz0 at vsbus0 csr 0x200a0000 vec 124 ipl 17 maskbit 6
dz0: 4 lines
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
""",
)
_IDENTITY = (Window("memory", 0, _MEMORY.size, 0),)
_EFA_PARISC_1_1 = 0x0210
NETBSD_HPPA = SamplePlan(
    text_va=0x200000,
    text_pa=0x200000,
    ram=(_MEMORY,),
    direct_va=None,
    stack_va=0xC0002000,
    heap_va=0xC0400000,
    user_fp=0x7A0245A8,
    msgbuf_bytes=0x4000,
    spaces=(WindowPlan(windows=_IDENTITY, translates=False),),
    code=HPPA,
    cpu_hdr=None,
    elf_flags=_EFA_PARISC_1_1,
    nic="iee0",
    cpu_model="PA7100LC (Hummingbird) rev 0x20",
    attach="""\
mainbus0 (root) [flex fff80000]
pdc0 at mainbus0
cpu0 at mainbus0 hpa 0xfffbe000 irq 31: {cpu_model}
cpu0: PA-RISC 1.1c, 1024 KB cache, 64 shared TLB
mem0 at mainbus0 hpa 0xfffbf000: viper rev 0, ctrl 0x22
lasi0 at mainbus0 hpa 0xf0100000: rev 3.0
com1 at lasi0 hpa 0xf0105000 ipl 7: ns16550a, working fifo
com1: console
iee0 at lasi0 hpa 0xf0107000 ipl 8: Intel 82596 address 02:00:5e:10:00:01
osiop0 at lasi0 hpa 0xf0106000 ipl 9: NCR53C710 rev 2, 40MHz, SCSI ID 7
scsibus0 at osiop0: 8 targets, 8 luns per target
sd0 at scsibus0 target 6 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 2048 MB, 4161 cyl, 16 head, 63 sec, 512 bytes/sect x 4194304 sectors
""",
)
#: Pool memory is used where it lies; stacks are mapped by a hashed page table that a reader can't find.
OPENBSD_HPPA = SamplePlan(
    text_va=0x12000,
    text_pa=0x12000,
    ram=(_MEMORY,),
    direct_va=None,
    stack_va=0xC0002000,
    heap_va=0x180000,
    user_fp=0x78003C40,
    msgbuf_bytes=0x4000,
    spaces=(WindowPlan(windows=_IDENTITY),),
    code=HPPA,
    cpu_hdr=None,
    elf_flags=_EFA_PARISC_1_1,
    nic="ie0",
    cpu_model="HP 9000/712 (Gecko)",
    attach="""\
mainbus0 at root
pdc0 at mainbus0
power0 at mainbus0: DR25
mem0 at mainbus0 offset 7fbf000: viper rev 0, size 3MB
cpu0 at mainbus0 offset 7fbe000 irq 31: {cpu_model} PCXL 60MHz
cpu0: 64KB Icache, 64KB Dcache, 64 shared TLB, 8 shared BTLB
lasi0 at mainbus0 offset 100000: rev 3.0
com1 at lasi0 offset 5000 irq 5: ns16550a, 16 byte fifo
com1: console
ie0 at lasi0 offset 7000 irq 8: i82596CA v1.4, address 02:00:5e:10:00:01
osiop0 at lasi0 offset 6000 irq 9: NCR53C710 rev 2, 40MHz, SCSI ID 7
scsibus0 at osiop0: 8 targets, initiator 7
sd0 at scsibus0 targ 6 lun 0: <SAMPLE, DISK, 1.0>
sd0: 2048MB, 512 bytes/sector, 4194304 sectors
""",
)
