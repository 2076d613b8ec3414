"""Sample dumps of NetBSD/sparc: one of each CPU type that there are dumps of."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvmlib.kcore import ByteOrder, CStruct, RamSeg, build_ram_segs
from kvmlib.ports import sparc
from kvmlib.ports.code_cisc import SPARC
from kvmlib.ports.plan import Oddities, SamplePlan, SpacePlan, Use, Wanted, WindowPlan
from kvmlib.translate.build import Alloc, Tables
from kvmlib.translate.build_segmap import SegmentBuilder
from kvmlib.translate.linear import Window
from kvmlib.translate.segmap import RECORD_BYTES, SUN4, SUN4C, SUN4M, SegmentForm

_KERNBASE = 0xF0000000
#: NKREG * NSEGRG: segments of 256 KiB from KERNBASE to the end of the address space.
_SEGMENTS = 1024
_HDR_SIZE = 32
_BLOCK = 512
# PG_W, PG_S, PG_NC, and PG_OBIO where a device is.
_SUN4_BITS: dict[Use, int] = {"text": 2 << 28, "rodata": 2 << 28, "data": 6 << 28, "device": 7 << 28 | 0x04000000}
# Cacheable, modified, referenced, and the access rights. Devices are in the last 4 of 64 GB; a paddr_t has 32 bits.
_C, _M, _R, _RX, _RWX = 1 << 7, 1 << 6, 1 << 5, 6 << 2, 7 << 2
_SUN4M_BITS: dict[Use, int] = {
    "text": _C | _R | _RX,
    "rodata": _C | _R | _RX,
    "data": _C | _M | _R | _RWX,
    "device": _M | _R | _RWX | 0xF0000000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """An address space in a segment map that the CPU data has, with its PTEs behind it or, on a sun4m, in memory.

    Attributes:
        variant: see `SpacePlan`.
        form: the map's form.
        bits: bits of a PTE that maps a page for each use.
        pmegs: PMEGs that the MMU has; the last one is for what isn't mapped.
    """

    variant: str
    form: SegmentForm
    bits: Mapping[Use, int]
    pmegs: int = 0

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return 1 << self.form.page_shift

    @property
    def image_shift(self) -> int:
        """The kernel's text and constants begin on a page."""
        return self.form.page_shift

    @property
    def direct_shifts(self) -> tuple[int, int]:
        """There is no map of all RAM."""
        return 0, 0

    @property
    def windows(self) -> tuple[Window, ...]:
        """Nothing is mapped without the map."""
        return ()

    @property
    def levels(self) -> int:
        """The map, and page tables where they are in memory and can be lost."""
        return 2 if self.form.in_memory else 1

    @property
    def extra(self) -> tuple[Wanted, ...]:
        """There is one size of page."""
        return ()

    @property
    def translates(self) -> bool:
        """They can be read."""
        return True

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write the map, and the PTEs of the segments in use."""
        builder = SegmentBuilder(self.form, _KERNBASE, _SEGMENTS)
        for w in wanted:
            builder.map(w.va, w.pa, w.size, self.bits[w.use])
        builder.put(*odd.stale)
        if not self.form.in_memory:
            groups = builder.groups(invalid=self.pmegs - 1)
            return Tables(0, {}, builder.sun4_records(groups) + groups.pmegs)
        records, pages = builder.sun4m_records(alloc)
        if odd.lost_table is not None:
            va, pa = odd.lost_table
            at = (va - _KERNBASE >> self.form.segment_shift) * RECORD_BYTES
            lost = struct.pack(">QIHBb", 0, _KERNBASE + pa, 0, self.form.ptes, 0)
            records = records[:at] + lost + records[at + RECORD_BYTES :]
        return Tables(0, pages, records)


def _plan(layout: CStruct, cputype: int, space: SpacePlan, **more: Any) -> SamplePlan:
    """The sample of one CPU: the kernel at KERNBASE + 0x4000, the message buffer in the pages before it in memory."""

    def cpu_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
        segmap = _HDR_SIZE + 16 * len(segments)
        pmegs = segmap + _SEGMENTS * RECORD_BYTES
        fields = {"cputype": cputype, "kernbase": _KERNBASE, "nmemseg": len(segments), "memsegoffset": _HDR_SIZE}
        fields |= {"nsegmap": _SEGMENTS, "segmapoffset": segmap}
        fields |= {"npmeg": getattr(space, "pmegs", 0), "pmegoffset": pmegs}
        maps = tables.cpu or bytes(_SEGMENTS * RECORD_BYTES)
        data = layout.build(fields, "big") + build_ram_segs(segments, "big") + maps
        # The buffer still holds the block before.
        return data + (bytes(8) + data)[-_BLOCK:][: -(8 + len(data)) % _BLOCK]

    return SamplePlan(
        text_va=_KERNBASE + 0x4000,
        text_pa=0x4000,
        direct_va=None,
        stack_va=0xF3000000,
        heap_va=0xF1000000,
        user_fp=0xEFFFF8A8,
        msgbuf_bytes=0x2000,
        msgbuf=(0xFE004000, 0x2000),
        spaces=(space,),
        code=SPARC,
        cpu_hdr=None,
        cpu_data=cpu_data,
        nic="le0",
        **more,
    )


_SUN4D_IMAGE = Window("the kernel's image", _KERNBASE, _KERNBASE + 0x200000, 0)


def samples(layout: CStruct) -> tuple[SamplePlan, ...]:
    """The samples, for the CPU header's layout."""
    return (
        _plan(
            layout,
            sparc.SUN4M,
            SegmentPlan(variant="", form=SUN4M, bits=_SUN4M_BITS),
            ram=(RamSeg(0, 0x200000), RamSeg(0x4000000, 0x100000)),
            device_pa=0xF1000000,
            cpu_model="TI,TMS390Z50 @ 60 MHz, on-chip FPU",
            attach=_SUN4M_ATTACH,
        ),
        _plan(
            layout,
            sparc.SUN4C,
            SegmentPlan(variant="sun4c", form=SUN4C, bits=_SUN4_BITS, pmegs=128),
            ram=(RamSeg(0, 0x200000), RamSeg(0x2000000, 0x100000)),
            # The hardware knows 16 bits of a page's number: this is 0xf1000000.
            device_pa=0x1000000,
            cpu_model="LSI L64811 @ 25 MHz, LSI L64814 FPU",
            attach=_SUN4C_ATTACH,
        ),
        _plan(
            layout,
            sparc.SUN4,
            SegmentPlan(variant="sun4", form=SUN4, bits=_SUN4_BITS, pmegs=512),
            ram=(RamSeg(0, 0x200000), RamSeg(0x1000000, 0x100000)),
            device_pa=0xF1000000,
            cpu_model="4/260 @ 16.67 MHz, FPC version 0",
            attach=_SUN4_ATTACH,
        ),
        _plan(
            layout,
            sparc.SUN4D,
            WindowPlan(variant="sun4d", windows=(_SUN4D_IMAGE,), translates=False),
            ram=(RamSeg(0, 0x200000), RamSeg(0x10000000, 0x100000)),
            cpu_model="TI,TMS390Z55 @ 50 MHz, on-chip FPU",
            attach=_SUN4D_ATTACH,
        ),
    )


_SUN4M_ATTACH = """\
mainbus0 (root): SUNW,SPARCstation-20: hostid 72a1b2c3
cpu0 at mainbus0: {cpu_model}
cpu0: 20K instruction (64 b/l), 16K data (32 b/l), 1024K external (32 b/l): cache enabled
obio0 at mainbus0
clock0 at obio0 slot 0 offset 0x200000: mk48t08
timer0 at obio0 slot 0 offset 0xd00000: delay constant 28
zs0 at obio0 slot 0 offset 0x100000 level 12 softpri 6
zstty0 at zs0 channel 0 (console i/o)
iommu0 at mainbus0 addr 0xe0000000: version 0x1/0x0, page-size 4096, range 64MB
sbus0 at iommu0: clock = 25 MHz
dma0 at sbus0 slot 15 offset 0x400000: DMA rev 2
esp0 at dma0 slot 15 offset 0x800000 level 4: ESP200, 40MHz, SCSI ID 7
ledma0 at sbus0 slot 15 offset 0x400010: DMA rev 2
le0 at ledma0 slot 15 offset 0xc00000 level 6: address 02:00:5e:10:00:01
scsibus0 at esp0: 8 targets, 8 luns per target
sd0 at scsibus0 target 3 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
"""
_SUN4C_ATTACH = """\
mainbus0 (root): SUNW,Sun 4/65: hostid 53a1b2c3
cpu0 at mainbus0: {cpu_model}
cpu0: 65536 byte write-through, 16 bytes/line, hw flush: cache enabled
memreg0 at mainbus0 ioaddr 0xf4000000
clock0 at mainbus0 ioaddr 0xf2000000: mk48t02
timer0 at mainbus0 ioaddr 0xf3000000: delay constant 10
zs0 at mainbus0 ioaddr 0xf1000000 ipl 12 softpri 6
zstty0 at zs0 channel 0 (console i/o)
sbus0 at mainbus0 ioaddr 0xf8000000: clock = 25 MHz
dma0 at sbus0 slot 0 offset 0x400000: DMA rev 1
esp0 at sbus0 slot 0 offset 0x800000 level 3: ESP100A, 25MHz, SCSI ID 7
le0 at sbus0 slot 0 offset 0xc00000 level 5: address 02:00:5e:10:00:01
scsibus0 at esp0: 8 targets, 8 luns per target
sd0 at scsibus0 target 3 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
"""
_SUN4_ATTACH = """\
mainbus0 (root): Sun 4/260: hostid 22a1b2c3
cpu0 at mainbus0: {cpu_model}
cpu0: 131072 byte write-back, 16 bytes/line, sw flush: cache enabled
obio0 at mainbus0
zs0 at obio0 addr 0xf1000000 level 12 softpri 6
zstty0 at zs0 channel 0 (console i/o)
timer0 at obio0 addr 0xef000000: delay constant 8
vme0 at mainbus0
le0 at obio0 addr 0xf9000000 level 6: address 02:00:5e:10:00:01
si0 at vme0 addr 0x200000 level 3 vect 0x40
scsibus0 at si0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
"""
_SUN4D_ATTACH = """\
mainbus0 (root): SUNW,SPARCserver-1000: hostid 80a1b2c3
cpuunit0 at mainbus0: device id 0
cpu0 at cpuunit0: {cpu_model}
bootbus0 at cpuunit0
zs0 at bootbus0 slot 0 offset 0x0 level 12 softpri 6
zstty0 at zs0 channel 0 (console i/o)
sbi0 at mainbus0
sbus0 at sbi0: clock = 20 MHz
dma0 at sbus0 slot 3 offset 0x400000: DMA rev 2
esp0 at dma0 slot 3 offset 0x800000 level 4: ESP200, 40MHz, SCSI ID 7
le0 at sbus0 slot 3 offset 0xc00000 level 6: address 02:00:5e:10:00:01
scsibus0 at esp0: 8 targets, 8 luns per target
sd0 at scsibus0 target 3 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
"""
