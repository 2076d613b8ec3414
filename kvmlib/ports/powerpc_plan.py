"""Sample dumps of PowerPCs: NetBSD's with BATs and a hashed page table, and those whose dumps have neither."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvmlib.kcore import RamSeg, build_ram_segs
from kvmlib.ports.code_risc import POWERPC, POWERPC64
from kvmlib.ports.plan import Oddities, SamplePlan, SpacePlan, Use, Wanted, WindowPlan
from kvmlib.translate.build import Alloc, Tables
from kvmlib.translate.build_hashed import HashedBuilder
from kvmlib.translate.hashed import OEA, Bat, bats, bats_601
from kvmlib.translate.linear import Window

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_R, _C, _I, _M, _G = 1 << 8, 1 << 7, 1 << 5, 1 << 4, 1 << 3
_RW, _RO = 2, 3
_BITS: Mapping[Use, int] = {
    "text": _R | _M | _RO,
    "rodata": _R | _M | _RO,
    "data": _R | _C | _M | _RW,
    "device": _R | _C | _I | _G | _RW,
}
_GROUPS = 2048
_DIRECT_STORE = 1 << 31
#: SR_PRKEY, and the VSIDs of the kernel's segments (pmap.h): KERNELN_SEGMENT, EMPTY_SEGMENT.
_KP, _SUKEY, _VSID = 0x20000000, 0x40000000, 0xFFFFF0
_KERNEL_SEGMENTS = (13, 14)
_OFF = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedPlan:
    """BATs, segment registers, and a hashed page table of which every third page is in its secondary PTEG.

    Attributes:
        variant, extra: see `SpacePlan`.
        pvr: which CPU it is.
        pairs: the data BATs, (upper, lower).
        direct_store: segments that hold no memory.
    """

    variant: str = ""
    extra: tuple[Wanted, ...] = ()
    pvr: int
    pairs: tuple[tuple[int, int], ...]
    direct_store: tuple[int, ...] = ()

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return 4096

    @property
    def image_shift(self) -> int:
        """The kernel's text and constants begin on a page."""
        return 12

    @property
    def direct_shifts(self) -> tuple[int, int]:
        """There is no map of all RAM besides the BATs."""
        return 0, 0

    @property
    def levels(self) -> int:
        """There is one table."""
        return 1

    @property
    def translates(self) -> bool:
        """It can be read."""
        return True

    @property
    def registers(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """All eight upper and all eight lower registers of the data BATs."""
        pairs = [*self.pairs, *[_OFF] * (8 - len(self.pairs))]
        return tuple(u for u, _ in pairs), tuple(low for _, low in pairs)

    @property
    def blocks(self) -> list[Bat]:
        """What the data BATs map."""
        return (bats_601 if self.pvr >> 16 == 1 else bats)(*self.registers)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The same, as windows."""
        return tuple(Window(b.name, b.va, b.va + b.size, b.pa, flags=b.flags) for b in self.blocks)

    @property
    def segments(self) -> list[int]:
        """The 16 segment registers."""
        segments = [_SUKEY | _KP | _VSID] * 16
        for i in _KERNEL_SEGMENTS:
            segments[i] = _KP | _VSID + i
        for i in self.direct_store:
            segments[i] = _DIRECT_STORE | 0x7F00000 | i
        return segments

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write the table."""
        builder = HashedBuilder(order, alloc, self.segments, _GROUPS)
        for w in wanted:
            for at in range(0, w.size, 4096):
                va = w.va + at
                builder.map(va, w.pa + at, 4096, _BITS[w.use], secondary=(va >> 12) % 3 == 0)
        va, entry = odd.stale
        segment = self.segments[va >> 28]
        builder.put(va, OEA.first_word(OEA.vsid(segment), va >> 12 & 0xFFFF, False) & ~OEA.valid, entry)
        return builder.finish()


def _cpu_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
    assert isinstance(space, HashedPlan)
    sdr1 = tables.root | (_GROUPS >> OEA.low_bits) - 1
    upper, lower = space.registers
    # The instruction BATs are those of the data, but a 601 has only one kind.
    iupper, ilower = ([0] * 8, [0] * 8) if space.variant == "601" else (upper, lower)
    words = (0, space.pvr, sdr1, *space.segments, *lower, *upper, *ilower, *iupper, 0)
    return struct.pack(">52I", *words) + build_ram_segs(segments, "big")


#: A 7455 with HIGH_BAT_EN and XBSEN, and so with blocks of more than 256 MiB. PCI's memory lies above 2 GiB.
_G4 = HashedPlan(
    pvr=0x80010302,
    pairs=(
        (0x00001FFE, 0x00000000 | _M | _RW),
        (0x80001FFE | 0x6000, 0x80000000 | _I | _G | _RW),
        (0xF1000000 | 0x7E, 0xF1000000 | _I | _G | _RW),
        (0xFE000000 | 0x2, 0xFE000000 | _I | _G | _RW),
        (0x10000002, 0x10000000 | _M | _RO),
        (0x20000001, 0x20000000 | _M | _RW),
    ),
    extra=(
        Wanted(0x80000000, 0x80000000, 0x100000, "device"),
        Wanted(0xF1000000, 0xF1000000, 0x1000, "device"),
        Wanted(0xFE000000, 0xFE000000, 0x1000, "device"),
        Wanted(0x10000000, 0x10000000, 0x20000, "rodata"),
    ),
)
#: Its blocks have 8 MiB at most, and it has but four. Devices are in direct-store segments.
_601 = HashedPlan(
    variant="601",
    pvr=0x00010002,
    pairs=((0x00000012, 0x0000007F), (0x90000072, 0x90000043), (0xC0000062, 0xC0000040), _OFF),
    direct_store=(8, 15),
    extra=(
        Wanted(0x90000000, 0x90000000, 0x80000, "device"),
        Wanted(0xC0000000, 0xC0000000, 0x20000, "device"),
    ),
)
_MAC_ATTACH = """\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model}
cpu0: HID0 0x8450c0bc<EMCP,TBEN,NAP,DPM,ICE,DCE,SGE,BTIC,LRSTK,FOLD,BHT>
cpu0: 1000.00 MHz, 256KB L2 cache, 1MB L3 cache
uninorth0 at mainbus0
pci0 at uninorth0 bus 0
pci0: i/o space, memory space enabled
obio0 at pci0 dev 23 function 0: addr 0x80000000
zsc0 at obio0 offset 0x13000: irq 22,23
zstty0 at zsc0 channel 0 (console)
wdc0 at obio0 offset 0x1f000 irq 19: DMA transfer
wd0 at wdc0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
gem0 at pci0 dev 15 function 0: Apple GMAC Ethernet (rev. 0x01)
gem0: Ethernet address 02:00:5e:10:00:01
"""
NETBSD = SamplePlan(
    text_va=0x100000,
    text_pa=0x100000,
    ram=(RamSeg(0, 0x240000), RamSeg(0x400000, 0x40000)),
    direct_va=None,
    stack_va=0xD0010000,
    heap_va=0xD1000000,
    user_fp=0xFFFFD5C0,
    device_pa=0xF8000000,
    msgbuf_bytes=0x4000,
    spaces=(_G4,),
    code=POWERPC,
    cpu_hdr=None,
    cpu_data=_cpu_data,
    port="macppc",
    nic="gem0",
    cpu_model="7455 (Revision 3.2), ID 0 (primary)",
    attach=_MAC_ATTACH,
)
NETBSD_601 = replace(
    NETBSD,
    spaces=(_601,),
    port="prep",
    nic="pcn0",
    cpu_model="601 (Revision 0.2), ID 0 (primary)",
    attach="""\
mainbus0 (root): SAMPLE PReP
cpu0 at mainbus0: {cpu_model}
cpu0: 66.00 MHz
pci0 at mainbus0 bus 0
pci0: i/o space, memory space enabled
pcib0 at pci0 dev 11 function 0: Intel 82378ZB System I/O (rev. 0x03)
pcn0 at pci0 dev 12 function 0: AMD PCnet-PCI Ethernet
pcn0: Ethernet address 02:00:5e:10:00:01
isa0 at pcib0
com0 at isa0 port 0x3f8-0x3ff irq 4: ns16550a, working fifo
com0: console
wdc0 at isa0 port 0x1f0-0x1f7 irq 14
wd0 at wdc0 drive 0: <SAMPLE DISK>
wd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
""",
)
_KERNEL = Window("the kernel", 0, 0x10000000, 0)


def _no_hdr(space: SpacePlan, root: int, segments: int) -> Mapping[str, int]:
    return {"ptable": 0, "potable": 0}


#: The kernel lies where BATs map all memory at its own address, but the header doesn't have them.
OPENBSD = replace(
    NETBSD,
    ram=(RamSeg(0, 0x280000),),
    stack_va=0xE0010000,
    heap_va=0xE1000000,
    device_pa=None,
    spaces=(WindowPlan(windows=(_KERNEL,), translates=False),),
    cpu_hdr=_no_hdr,
    cpu_data=None,
    cpu_model="7455 (Revision 0x303)",
    attach="""\
mainbus0 at root: model PowerMac3,6
cpu0 at mainbus0: {cpu_model}: 1000 MHz: 256KB L2 cache, 1MB L3 cache
mem0 at mainbus0
memc0 at mainbus0: uni-n rev 0x24
mpcpcibr0 at mainbus0 pci: uni-north
pci0 at mpcpcibr0 bus 0
macobio0 at pci0 dev 23 function 0 "Apple Keylargo" rev 0x03
openpic0 at macobio0 offset 0x40000: version 0x4614 feature 3f0302 LE
zs0 at macobio0 offset 0x13000: irq 22,23
zstty0 at zs0 channel 0 console
wdc0 at macobio0 offset 0x1f000 irq 19: DMA
wd0 at wdc0 channel 0 drive 0: <SAMPLE DISK>
wd0: 16-sector PIO, LBA48, 4096MB, 8388608 sectors
gem0 at pci0 dev 15 function 0 "Apple Uni-N GMAC" rev 0x01: irq 41, address 02:00:5e:10:00:01
vscsi0 at root
softraid0 at root
""",
)


#: The G5's page table has memory of its own, which isn't dumped.
_TABLE = 0x1000000


def _cpu_data_64(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
    return struct.pack(">2I50Q", 0, 0x00390202, _TABLE, *[0] * 49) + build_ram_segs(segments, "big")


#: A Power Mac G5.
NETBSD64 = replace(
    NETBSD,
    port="",
    stack_va=0xC000000000010000,
    heap_va=0xC000000001000000,
    user_fp=0xFFFFFFFFD5C0,
    device_pa=None,
    spaces=(WindowPlan(windows=(_KERNEL,), translates=False),),
    code=POWERPC64,
    cpu_data=_cpu_data_64,
    cpu_model="970 (Revision 2.2), ID 0 (primary)",
)
#: A Talos II. Nothing is known of the header: what is in it here was on the kernel's stack.
OPENBSD64 = replace(
    OPENBSD,
    port="",
    stack_va=0xC000000000010000,
    heap_va=0xC000000001000000,
    user_fp=0xBFFFFFFFFD5C0,
    msgbuf_bytes=0x10000,
    code=POWERPC64,
    cpu_hdr=None,
    nic="bge0",
    cpu_model="IBM POWER9 (rev 2.3)",
    attach="""\
mainbus0 at root: T2P9D01 REV 1.01
cpu0 at mainbus0 pir 0: {cpu_model}
opal0 at mainbus0: skiboot
opalcons0 at opal0: console
xics0 at mainbus0
xive0 at mainbus0: IRQ 16
phb0 at mainbus0: chip 0x0
pci0 at phb0 bus 0
ahci0 at pci0 dev 0 function 0 "Marvell 88SE9235 AHCI" rev 0x11: AHCI 1.0
scsibus0 at ahci0: 32 targets
sd0 at scsibus0 targ 0 lun 0: <ATA, SAMPLE DISK, 1.0>
sd0: 4096MB, 512 bytes/sector, 8388608 sectors
bge0 at pci0 dev 1 function 0 "Broadcom BCM5719" rev 0x01: address 02:00:5e:10:00:01
vscsi0 at root
softraid0 at root
""",
)
