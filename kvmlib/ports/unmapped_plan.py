"""Sample dumps of machines whose dumps say nothing of the address space: or1k, ia64, m88k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmlib.kcore import RamSeg, build_ram_segs
from kvmlib.ports.code_cisc import IA64, M88K, OR1K
from kvmlib.ports.plan import SamplePlan, SpacePlan, WindowPlan
from kvmlib.translate.build import Tables
from kvmlib.translate.linear import Window


def _or1k_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
    return bytes(64) + build_ram_segs(segments, "big")


#: KERNEL_BASE, and the kernel at the start of RAM.
NETBSD_OR1K = SamplePlan(
    text_va=0xC0002000,
    text_pa=0x2000,
    ram=(RamSeg(0, 0x200000), RamSeg(0x1000000, 0x40000)),
    direct_va=None,
    stack_va=0xD0010000,
    heap_va=0xD1000000,
    user_fp=0x7FFFD5C0,
    msgbuf_bytes=0x4000,
    spaces=(WindowPlan(page=8192, windows=(Window("the kernel", 0xC0000000, 0xD0000000, 0),), translates=False),),
    code=OR1K,
    cpu_hdr=None,
    cpu_data=_or1k_data,
    nic="ethoc0",
    cpu_model="OpenRISC 1000, or1200-rev 8",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model}
pic0 at mainbus0: 32 interrupt lines
com0 at mainbus0 addr 0x90000000: ns16550a, working fifo
com0: console
ethoc0 at mainbus0 addr 0x92000000: OpenCores Ethernet MAC
ethoc0: Ethernet address 02:00:5e:10:00:01
wdc0 at mainbus0 addr 0x9e000000
wd0 at wdc0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
)
#: Region 7 is memory at its own address. Nothing is known of the header: what is in it here was on the kernel's stack.
NETBSD_IA64 = SamplePlan(
    text_va=0xE000000000100000,
    text_pa=0x100000,
    ram=(RamSeg(0, 0x400000),),
    direct_va=None,
    stack_va=0xA000000000010000,
    heap_va=0xA000000001000000,
    user_fp=0x9FFFFFFFFFFD5C0,
    msgbuf_bytes=0x8000,
    spaces=(WindowPlan(page=16384, windows=(Window("region 7", 0xE000000000000000, 1 << 64, 0),), translates=False),),
    code=IA64,
    cpu_hdr=None,
    nic="wm0",
    cpu_model="Itanium 2, Madison",
    attach="""\
mainbus0 (root)
acpi0 at mainbus0: Intel ACPICA
cpu0 at mainbus0: ACPI Id 0, {cpu_model}
iosapic0 at acpi0: 24 pins
pci0 at mainbus0 bus 0
com0 at acpi0 (COM1): ns16550a, working fifo
com0: console
wm0 at pci0 dev 3 function 0: Intel i82540EM 1000BASE-T Ethernet (rev. 0x03)
wm0: Ethernet address 02:00:5e:10:00:01
piixide0 at pci0 dev 1 function 1: Intel 82371SB IDE Interface (PIIX3) (rev. 0x00)
wd0 at piixide0 channel 0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
)


def _m88k_hdr(space: SpacePlan, root: int, segments: int) -> Mapping[str, int]:
    return {"cputype": 0}


#: A LUNA-88K, whose kernel lies at the same virtual as physical addresses.
OPENBSD_M88K = SamplePlan(
    text_va=0x20000,
    text_pa=0x20000,
    ram=(RamSeg(0, 0x280000),),
    direct_va=None,
    stack_va=0x40010000,
    heap_va=0x41000000,
    user_fp=0x7FFFD5C0,
    msgbuf_bytes=0x4000,
    spaces=(WindowPlan(windows=(Window("the kernel", 0, 0x20000000, 0),), translates=False),),
    code=M88K,
    cpu_hdr=_m88k_hdr,
    port="luna88k",
    nic="le0",
    cpu_model="OMRON LUNA-88K2",
    attach="""\
mainbus0 at root: {cpu_model}, 33MHz
cpu0 at mainbus0: M88100 rev 0x6, 2 CMMU
cpu0: M88200 (16K) rev 0x9, full Icache, M88200 (16K) rev 0x9, full Dcache
clock0 at mainbus0: DS1397
le0 at mainbus0: address 02:00:5e:10:00:01
le0: 32 receive buffers, 8 transmit buffers
sio0 at mainbus0: uPD7201A
siotty0 at sio0 channel 0 (console)
spc0 at mainbus0: MB89352, async
scsibus0 at spc0: 8 targets, initiator 7
sd0 at scsibus0 targ 6 lun 0: <SAMPLE, DISK, 1.0>
sd0: 2048MB, 512 bytes/sector, 4194304 sectors
vscsi0 at root
softraid0 at root
""",
)
