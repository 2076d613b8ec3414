"""Sample dumps of the m68k machines with the common CPU header: one of each MMU, page size and alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvmlib.kcore import CStruct, RamSeg, build_ram_segs
from kvmlib.ports import m68k_tables as tables
from kvmlib.ports.code_cisc import M68K
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use
from kvmlib.translate.build import Tables
from kvmlib.translate.linear import Window

#: Bytes of CPU data where the header block is 1024 bytes long.
_CPU_DATA = 1016
_RO, _U, _M, _CI = 1 << 2, 1 << 3, 1 << 4, 1 << 6
#: Cache modes of the 68040: copyback, and not at all.
_CCB, _CIN = 1 << 5, 3 << 5


def _common(name: str, mmutype: int, shift: int, *, reloc: int, relocend: int) -> dict[str, Any]:
    """The CPU header of a port: its MMU, log2 of its page, and where the kernel's image is."""
    return {
        "name": name,
        "page_size": 1 << shift,
        "kernbase": 0,
        "mmutype": mmutype % tables.TOP,
        "sg_v": 2,
        "sg_frame": tables.TOP - (1 << shift),
        "sg_ishift": 2 * shift - 2,
        "sg_pmask": (1 << 2 * shift - 2) - (1 << shift),
        "sg40_shift1": 25,
        "sg40_mask2": 0x01FC0000,
        "sg40_shift2": 18,
        "sg40_mask3": 0x40000 - (1 << shift),
        "sg40_shift3": shift,
        "sg40_addr1": 0xFFFFFE00,
        # As many bits as a table of 1 << 18 - shift entries leaves.
        "sg40_addr2": tables.TOP - (1 << 20 - shift),
        "pg_v": 1,
        "pg_frame": tables.TOP - (1 << shift),
        "sysseg_pa": 0,
        "reloc": reloc,
        "relocend": relocend,
    }


def cpu_data(
    layout: CStruct, hdr: Mapping[str, Any], root: str, base: int, segments_at: int, size: int
) -> Callable[[SpacePlan, Tables, Sequence[RamSeg]], bytes]:
    """Return what makes the CPU data: `size` bytes with the RAM segments at `segments_at`.

    The field `root` gets the top table's pa, counted from `base`.
    """

    def data(space: SpacePlan, made: Tables, segments: Sequence[RamSeg]) -> bytes:
        raw = layout.build({**hdr, root: base + made.root}, "big").ljust(segments_at, b"\0")
        return (raw + build_ram_segs(segments, "big")).ljust(size, b"\0")

    return data


def _common_space(variant: str, hdr: Mapping[str, Any]) -> RadixPlan:
    """The kernel's image by its window, all else by tables."""
    m68040 = tables.mmu_type(hdr["mmutype"]) in (tables.MMU_68040, tables.MMU_68060)
    cached, device = (_CCB, _CIN) if m68040 else (0, _CI)
    bits: dict[Use, int] = {
        "text": _RO | _U | cached,
        "rodata": _RO | _U | cached,
        "data": _U | _M | cached,
        "device": _U | _M | device,
    }
    shift = tables.shift_of(hdr["page_size"])
    return RadixPlan(
        variant=variant,
        image_shift=shift,
        paging=tables.paging(hdr),
        bits=bits,
        table_bits=_U,
        windows=(Window("the kernel's image", 0, hdr["relocend"], hdr["reloc"], 1 << shift),),
    )


def _common_plan(
    variant: str, hdr: Mapping[str, Any], ram: Sequence[RamSeg], attach: str, *, segments_at: int = 96, **more: Any
) -> SamplePlan:
    """The sample of a port with the common header; its message buffer is in the last pages of the first segment."""
    msgbuf_bytes = 2 * hdr["page_size"]
    return SamplePlan(
        ram=tuple(ram),
        direct_va=None,
        msgbuf_bytes=msgbuf_bytes,
        msgbuf=(0x00F00000, ram[0].start + ram[0].size - msgbuf_bytes),
        spaces=(_common_space(variant, hdr),),
        code=M68K,
        cpu_hdr=None,
        cpu_data=cpu_data(tables.CPU_HDR, hdr, "sysseg_pa", 0, segments_at, _CPU_DATA),
        attach=attach,
        **more,
    )


#: RAM ends at the top of the address space; the last page is the ROM's.
_HP300_RAM = RamSeg(0xFFC00000, 0x3FF000)
HP300 = _common_plan(
    "",
    _common("hp300", tables.MMU_68030, 12, reloc=_HP300_RAM.start, relocend=0x142D4),
    [_HP300_RAM],
    """\
mainbus0 (root)
intio0 at mainbus0
rtc0 at intio0 addr 0x420000
hil0 at intio0 addr 0x428000 ipl 1
dma0 at intio0 addr 0x500000: 98620C, 2 channels, 32-bit DMA
dio0 at mainbus0
com0 at dio0 scode 9 ipl 5: ns16550a, working fifo
com0: console
le0 at dio0 scode 21 ipl 5: address 02:00:5e:10:00:01
spc0 at dio0 scode 14 ipl 4: SCSI ID 7
scsibus0 at spc0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
""",
    # The vector table comes first.
    text_va=0x400,
    text_pa=_HP300_RAM.start + 0x400,
    stack_va=0x01200000,
    heap_va=0x01800000,
    user_fp=0xFFEFFA3C,
    device_pa=0x00428000,
    port="hp300",
    nic="le0",
    cpu_model="HP 9000/345 (50MHz MC68030 CPU+MMU)",
)
MVME68K = _common_plan(
    "040",
    _common("mvme68k", tables.MMU_68040, 12, reloc=0, relocend=0x1D1F0),
    [RamSeg(0, 0x300000), RamSeg(0x10000000, 0x100000)],
    """\
mainbus0 (root)
pcctwo0 at mainbus0: Peripheral Channel Controller (PCCchip2), Rev 1, Vector Base 0x50
clock0 at pcctwo0 ipl 5: Mostek MK48T08 time-of-day clock, interval timer
clmpcc0 at pcctwo0 ipl 4: Cirrus Logic CD2400 Serial Controller
clmpcc0: console
ie0 at pcctwo0 ipl 3: Ethernet address 02:00:5e:10:00:01
osiop0 at pcctwo0 ipl 2: NCR53C710 rev 2, 50MHz, SCSI ID 7
scsibus0 at osiop0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
vmetwo0 at mainbus0: VMEchip2, Rev 1
""",
    text_va=0x8000,
    text_pa=0x8000,
    stack_va=0x02400000,
    heap_va=0x03000000,
    user_fp=0xFFFFDB20,
    device_pa=0xFFF42000,
    port="mvme68k",
    nic="ie0",
    cpu_model="Motorola MVME-167: 33MHz MC68040 CPU+MMU+FPU",
)
AMIGA = _common_plan(
    "060",
    _common("amiga", tables.MMU_68060, 13, reloc=0x08000000, relocend=0x1DE10),
    [RamSeg(0x08000000, 0x400000)],
    """\
mainbus0 (root)
clock0 at mainbus0: CIA B system hz 100 hardware hz 709379
ser0 at mainbus0: input fifo 512 output fifo 32
kbd0 at mainbus0: CIA A type Amiga
zbus0 at mainbus0: mem 0x00e90000-0x00f7ffff
le0 at zbus0: A2065 Ethernet, address 02:00:5e:10:00:01
afsc0 at mainbus0: rev 2 target 7
scsibus0 at afsc0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
""",
    text_va=0x2000,
    text_pa=0x08002000,
    stack_va=0x02400000,
    heap_va=0x03000000,
    user_fp=0x0DFFF9F4,
    device_pa=0x00DFE000,
    port="amiga",
    nic="le0",
    cpu_model="Amiga 4000 (m68060 CPU/MMU/FPU)",
)
X68K = _common_plan(
    "u64a4",
    _common("x68k", tables.MMU_68030, 13, reloc=0, relocend=0x1C0B4),
    [RamSeg(0, 0x200000), RamSeg(0x01000000, 0x100000)],
    """\
mainbus0 (root)
intio0 at mainbus0
mfp0 at intio0 addr 0xe88000 intr 64
com0 at intio0 addr 0xefff00 intr 240: ns16550a, working fifo
com0: console
rtc0 at intio0 addr 0xe8a000: RP5C15
ne0 at intio0 addr 0xece300 intr 249: Neptune-X Ethernet
ne0: Ethernet address 02:00:5e:10:00:01
mha0 at intio0 addr 0xea0000: MB86601A, SCSI ID 7
scsibus0 at mha0: 8 targets, 8 luns per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
""",
    segments_at=92,
    text_va=0x2000,
    text_pa=0x2000,
    stack_va=0x02400000,
    heap_va=0x03000000,
    user_fp=0xFFFFDA64,
    device_pa=0x00E88000,
    port="x68k",
    nic="ne0",
    cpu_model="X68030 (MC68030 CPU+MMU, MC68882 FPU)",
)
