"""Sample dumps of Sun-2, Sun-3 and Sun-3x."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvmlib.kcore import ByteOrder, CStruct, RamSeg
from kvmlib.ports import m68k_tables as tables
from kvmlib.ports.code_cisc import M68K
from kvmlib.ports.m68k_plan import cpu_data
from kvmlib.ports.m68k_sun import PCB, SUN2_HDR, SUN3_HDR, SUN3X_HDR, sun3x_paging
from kvmlib.ports.plan import Oddities, RadixPlan, SamplePlan, SpacePlan, Use, Wanted
from kvmlib.translate.build import Alloc, Tables
from kvmlib.translate.build_segmap import SegmentBuilder
from kvmlib.translate.linear import Window
from kvmlib.translate.segmap import sun3_form

_RO, _U, _M, _CI = 1 << 2, 1 << 3, 1 << 4, 1 << 6

_SUN3X: dict[str, Any] = {
    "name": "sun3x",
    "page_size": 8192,
    "kernbase": 0xF8000000,
    "pg_frame": 0xFFFFFF00,
    "pg_valid": 1,
    "contig_end": 0xF8060000,
    # Not yet: it moves to where the table is.
    "kernCbase": 0xF8000000,
}
SUN3X = SamplePlan(
    text_va=0xF8004000,
    text_pa=0x4000,
    ram=(RamSeg(0, 0x300000), RamSeg(0x02000000, 0x100000)),
    direct_va=None,
    stack_va=0xFA000000,
    heap_va=0xFB000000,
    user_fp=0x0DFFFA08,
    device_pa=0x50400000,
    msgbuf_bytes=8192,
    msgbuf=(0xF8000000, 0),
    spaces=(
        RadixPlan(
            variant="sun3x",
            image_shift=13,
            paging=sun3x_paging(_SUN3X),
            bits={"text": _RO | _U, "rodata": _RO | _U, "data": _U | _M, "device": _U | _M | _CI},
            windows=(Window("the contiguous range", _SUN3X["kernbase"], _SUN3X["contig_end"], 0),),
        ),
    ),
    code=M68K,
    cpu_hdr=None,
    cpu_data=cpu_data(SUN3X_HDR, _SUN3X, "kernCbase", _SUN3X["kernbase"], 40, 8192 - 8),
    pcb=PCB,
    port="sun3",
    nic="le0",
    cpu_model="Sun 3/80",
    attach="""\
mainbus0 (root)
obio0 at mainbus0
clock0 at obio0 addr 0x6000 ipl 5: mk48t02
zsc1 at obio0 addr 0x62002000 ipl 6 softpri 3
zstty0 at zsc1 channel 0 (console i/o)
le0 at obio0 addr 0x65002000 ipl 3: address 02:00:5e:10:00:01
esp0 at obio0 addr 0x66000000 ipl 2: NCR53C90, 20MHz, SCSI ID 7
scsibus0 at esp0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
obmem0 at mainbus0
bwtwo0 at obmem0 addr 0x50400000 (1152x900)
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """An address space in a Sun-2's or Sun-3's segment map; there are no tables in memory.

    Attributes:
        variant, extra: see `SpacePlan`.
        hdr: the CPU header, without the map.
        segments: segments of the map.
        bits: flag bits of a PTE for each use.
    """

    variant: str = ""
    extra: tuple[Wanted, ...] = ()
    hdr: Mapping[str, Any]
    segments: int
    bits: Mapping[Use, int]

    @property
    def page(self) -> int:
        """Bytes of the kernel's page."""
        return int(self.hdr["page_size"])

    @property
    def image_shift(self) -> int:
        """The kernel's text and constants begin on a page."""
        return tables.shift_of(self.page)

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
        """One: nothing can be lost, as all PMEGs are dumped."""
        return 1

    @property
    def translates(self) -> bool:
        """They can be read."""
        return True

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Fill the map, and the PMEGs of the segments; the last PMEG is that of all others."""
        builder = SegmentBuilder(sun3_form(self.hdr, self.image_shift), self.hdr["kernbase"], self.segments)
        for w in wanted:
            builder.map(w.va, w.pa, w.size, self.bits[w.use])
        builder.put(*odd.stale)
        groups = builder.groups(invalid=255)
        return Tables(0, {}, bytes(groups.numbers) + groups.pmegs)


def _segment_cpu_data(
    layout: CStruct, hdr: Mapping[str, Any], segments: int
) -> Callable[[SpacePlan, Tables, Sequence[RamSeg]], bytes]:
    """Return what makes the CPU data: the header and the map on the first page, then the PMEGs."""

    def data(space: SpacePlan, made: Tables, ram: Sequence[RamSeg]) -> bytes:
        raw = layout.build({**hdr, "ksegmap": list(made.cpu[:segments])}, "big")
        return raw.ljust(hdr["page_size"] - 8, b"\0") + made.cpu[segments:]

    return data


# What a page of each use has in its PTE: PG_WRITE, PG_SYSTEM and PG_NC.
_SUN3_BITS: dict[Use, int] = {"text": 2 << 28, "rodata": 2 << 28, "data": 6 << 28, "device": 7 << 28}
_SUN2_BITS: dict[Use, int] = {"text": 0, "rodata": 0, "data": 1 << 29, "device": 1 << 29}
_SUN3 = {
    "name": "sun3",
    "page_size": 8192,
    "kernbase": 0x0E000000,
    "segshift": 17,
    "pg_frame": 0x7FFFF,
    "pg_valid": 1 << 31,
}
_SUN2_PAGE = 2048
_SUN2 = {
    "name": "sun2",
    "page_size": _SUN2_PAGE,
    "kernbase": 0x6000,
    "segshift": 15,
    "pg_frame": 0xFFF,
    "pg_valid": 1 << 31,
}
SUN3 = SamplePlan(
    text_va=0x0E004000,
    text_pa=0x4000,
    ram=(RamSeg(0, 0x300000),),
    direct_va=None,
    stack_va=0x0F000000,
    heap_va=0x0F200000,
    user_fp=0x0DFFFA08,
    # The frame buffer.
    device_pa=0xFF000000,
    msgbuf_bytes=8192,
    msgbuf=(0x0E000000, 0),
    spaces=(SegmentPlan(variant="sun3", hdr=_SUN3, segments=256, bits=_SUN3_BITS),),
    code=M68K,
    cpu_hdr=None,
    cpu_data=_segment_cpu_data(SUN3_HDR, _SUN3, 256),
    pcb=PCB,
    port="sun3",
    nic="ie0",
    cpu_model="Sun 3/160",
    attach="""\
mainbus0 (root)
obio0 at mainbus0
zsc1 at obio0 addr 0x20000 ipl 6 softpri 3
zstty0 at zsc1 channel 0 (console i/o)
eeprom0 at obio0 addr 0x40000
clock0 at obio0 addr 0x60000 ipl 5
ie0 at obio0 addr 0xc0000 ipl 3: address 02:00:5e:10:00:01
si0 at obio0 addr 0x140000 ipl 2
scsibus0 at si0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
obmem0 at mainbus0
bwtwo0 at obmem0 addr 0xff000000 (1152x900)
""",
)
SUN2 = SamplePlan(
    text_va=0x6000,
    text_pa=0x6000,
    ram=(RamSeg(0, 0x200000),),
    direct_va=None,
    stack_va=0x00A00000,
    heap_va=0x00A80000,
    user_fp=0x00EFF9F8,
    # The frame buffer.
    device_pa=0x00700000,
    msgbuf_bytes=8192,
    # Below kernbase, so no reader of a dump can translate it; but it is mapped once more.
    msgbuf=(0x00900000, 0x2000),
    spaces=(SegmentPlan(hdr=_SUN2, segments=512, bits=_SUN2_BITS),),
    # A 68010 has no calls with 32 bits of distance.
    code=replace(M68K, call=lambda distance: b"\x61\x00" + (distance + 2).to_bytes(2, "big", signed=True)),  # bsrw
    cpu_hdr=None,
    cpu_data=_segment_cpu_data(SUN2_HDR, _SUN2, 512),
    # DUMP_EXTRA is 3 pages, though 9 are written.
    c_size=3 * _SUN2_PAGE - 8,
    pcb=PCB,
    port="sun2",
    nic="ie0",
    cpu_model="Sun 2/120",
    # EF_M68000.
    elf_flags=0x01000000,
    attach="""\
mainbus0 (root)
obio0 at mainbus0
timer0 at obio0 addr 0x2800: interrupting at level 5
zs0 at obio0 addr 0x2000 ipl 6
zstty0 at zs0 channel 0 (console i/o)
obmem0 at mainbus0
bwtwo0 at obmem0 addr 0x700000 (1152x900)
mbmem0 at mainbus0
ie0 at mbmem0 addr 0x88000 ipl 3: address 02:00:5e:10:00:01
sc0 at mbmem0 addr 0x80000 ipl 2: SCSI ID 7
scsibus0 at sc0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
""",
)
