"""Sample dumps of 32-bit ARM: two boards of NetBSD's, one of them with tables of before ARMv6, and one of OpenBSD's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvmlib.kcore import CStruct, RamSeg, build_ram_segs
from kvmlib.ports.arm_paging import ARM as PAGING, FINE
from kvmlib.ports.code_risc import ARM, ARM_BE
from kvmlib.ports.plan import Oddities, RadixPlan, SamplePlan, SpacePlan, Use, Wanted, WindowPlan
from kvmlib.translate.build import Alloc, TableBuilder, Tables
from kvmlib.translate.linear import Window

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_MIB = 1 << 20
_C_B = 0xC
#: EF_ARM_EABI_VER5, and EF_ARM_ABI_FLOAT_HARD or _SOFT (ELF for the Arm Architecture).
EABI_HARD_FLOAT, EABI_SOFT_FLOAT = 0x5000400, 0x5000200


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPlan(RadixPlan):
    """Short-descriptor tables, whose bits lie elsewhere for each page size.

    Attributes:
        bits_by_shift: page size -> the bits for each use.
        fine_va: the 1 MiB from here on has a fine table, and so all page sizes that a fine table can have.
    """

    bits_by_shift: Mapping[int, Mapping[Use, int]]
    fine_va: int | None = None

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write the tables."""
        fine = [w for w in wanted if self.fine_va is not None and self.fine_va <= w.va < self.fine_va + _MIB]
        builder = TableBuilder(self.paging, order, alloc, self.table_bits)
        for w in wanted:
            if w not in fine:
                shift = 12 if w.shift is None else w.shift
                builder.map(w.va, w.pa, w.size, self.bits_by_shift[shift][w.use], shift)
        if odd.lost_table is not None:
            builder.put_table(odd.lost_table[0], 20, odd.lost_table[1])
        builder.put(odd.stale[0], 12, odd.stale[1])
        if not fine:
            return builder.finish()
        table = alloc(0x1000)
        assert self.fine_va is not None
        builder.put(self.fine_va, 20, table | self.table_bits | FINE)
        tables = builder.finish()
        tables.pages[table] = self._fine_table(fine, order)
        return tables

    def _fine_table(self, wanted: Sequence[Wanted], order: ByteOrder) -> bytes:
        """Write a fine table: a page of 1 << n bytes stands in so many entries of 1 KiB."""
        kinds = {16: 1, 12: 2, 10: 3}
        entries = [0] * 1024
        for w in wanted:
            shift = 12 if w.shift is None else w.shift
            for at in range(0, w.size, 1 << 10):
                pa = w.pa + at >> shift << shift
                entries[w.va + at >> 10 & 1023] = pa | self.bits_by_shift[shift][w.use] | kinds[shift]
        return b"".join(e.to_bytes(4, order) for e in entries)


def _armv7(read_write: int, read_only: int, tex: int, s: int, xn: int) -> dict[Use, int]:
    """The bits of ARMv7's entries: memory is write-back write-allocate and shared, as on a multiprocessor."""
    memory = tex | _C_B | s
    return {
        "text": read_only | memory,
        "rodata": read_only | memory | xn,
        "data": read_write | memory | xn,
        "device": read_write | s | xn | 4,
    }


def _before(permissions: int) -> dict[Use, int]:
    """The bits of entries before ARMv6: the kernel may write everything, and execute it."""
    cached = permissions | _C_B
    return {"text": cached, "rodata": cached, "data": cached, "device": permissions}


_SECTION_V7 = _armv7(0x400, 0x8400, 1 << 12, 1 << 16, 1 << 4)
_BEAGLE = ArmPlan(
    image_shift=12,
    paging=PAGING,
    bits={},
    bits_by_shift={
        12: _armv7(0x010, 0x210, 1 << 6, 1 << 10, 1),
        16: _armv7(0x010, 0x210, 1 << 12, 1 << 10, 1 << 15),
        20: _SECTION_V7,
        24: _SECTION_V7,
    },
    extra=(
        Wanted(0xC4000000, 0x80010000, 0x20000, "data", 16),
        # The second of these isn't RAM.
        Wanted(0xC4020000, 0x88010000, 0x20000, "data", 16),
        Wanted(0xC6000000, 0x80000000, _MIB, "data", 20),
        # Only its beginning is RAM.
        Wanted(0xC7000000, 0x88000000, 16 * _MIB, "data", 24),
        Wanted(0xF9000000, 0x44C00000, 2 * _MIB, "device", 20),
        Wanted(0xFA000000, 0x48000000, 16 * _MIB, "device", 24),
    ),
)
_BEAGLE_ATTACH = """\
mainbus0 (root)
cpu0 at mainbus0 core 0: {cpu_model}
cpu0: DC enabled IC enabled WB enabled LABT branch prediction enabled
vfp0 at cpu0: NEON MPE (VFP 3.0+), rounding, exceptions
obio0 at mainbus0 base 0x44000000-0x4fffffff: L4 interconnect
omapicu0 at obio0 addr 0x48200000-0x48200fff intrbase 0
com0 at obio0 addr 0x44e09000-0x44e09fff intr 72: ns16550a, working fifo
com0: console
sdhc0 at obio0 addr 0x48060100-0x480600ff intr 64: SDHC controller
sdmmc0 at sdhc0 slot 0
ld0 at sdmmc0: <SAMPLE CARD>
cpsw0 at obio0 addr 0x4a100000-0x4a107fff intr 40: TI CPSW Ethernet
cpsw0: Ethernet address 02:00:5e:10:00:01
"""


def _netbsd_hdr(space: SpacePlan, root: int, segments: int) -> Mapping[str, int]:
    return {
        "version": 1,
        "flags": 0,
        "PAKernelL1Table": root,
        "PAUserL1Table": 0,
        "UserL1TableSize": 0,
        "nmemsegs": segments,
        "omemsegs": 28 if space.variant == "oabi" else 32,
    }


#: A BeagleBone: the kernel lies at the same virtual as physical addresses (KERNEL_BASE_PHYS in its std.beagle).
BEAGLE = SamplePlan(
    text_va=0x80300000,
    text_pa=0x80300000,
    ram=(RamSeg(0x80000000, 0x400000), RamSeg(0x88000000, 0x20000)),
    direct_va=None,
    stack_va=0xC0100000,
    heap_va=0xC1000000,
    user_fp=0x7FFFE5C4,
    device_pa=0x44E09000,
    msgbuf_bytes=0x4000,
    spaces=(_BEAGLE,),
    code=ARM,
    cpu_hdr=_netbsd_hdr,
    port="evbarm",
    nic="cpsw0",
    cpu_model="Cortex-A8 r3p2 (Cortex V7A core)",
    attach=_BEAGLE_ATTACH,
    elf_flags=EABI_HARD_FLOAT,
)
#: The same with a big-endian kernel.
BEAGLE_EB = replace(BEAGLE, code=ARM_BE, elf_flags=EABI_SOFT_FLOAT)
_FINE_VA = 0xCE000000
#: An Intel IQ80321: an XScale, which has fine tables still.
IQ80321 = SamplePlan(
    text_va=0xC0200000,
    text_pa=0xA0200000,
    ram=(RamSeg(0xA0000000, 0x300000), RamSeg(0xA4000000, 0x20000)),
    direct_va=None,
    stack_va=0xC8000000,
    heap_va=0xC9000000,
    user_fp=0xBFFFE5C4,
    device_pa=0xFE800000,
    msgbuf_bytes=0x4000,
    spaces=(
        ArmPlan(
            variant="oabi",
            image_shift=12,
            paging=PAGING,
            bits={},
            bits_by_shift={10: _before(0x10), 12: _before(0x550), 16: _before(0x550), 20: _before(0x400)},
            extra=(
                Wanted(0xCC000000, 0xA0000000, 2 * _MIB, "data", 20),
                Wanted(0xCD000000, 0xA0010000, 0x10000, "data", 16),
                Wanted(_FINE_VA, 0xA0010000, 0x20000, "data", 16),
                Wanted(_FINE_VA + 0x20000, 0xA0123000, 0x3000, "data", 12),
                Wanted(_FINE_VA + 0x24000, 0xA0120400, 0x1400, "data", 10),
                # The second of these isn't RAM.
                Wanted(_FINE_VA + 0x28000, 0xA401FC00, 0x800, "data", 10),
                Wanted(0xFE000000, 0xFE800000, _MIB, "device", 20),
            ),
            fine_va=_FINE_VA,
        ),
    ),
    code=ARM,
    cpu_hdr=_netbsd_hdr,
    port="evbarm",
    nic="wm0",
    cpu_model="i80321 400MHz B1 (XScale core)",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model}
cpu0: DC enabled IC enabled WB enabled LABT branch prediction enabled
cpu0: 32KB/32B 32-way Instruction cache
cpu0: 32KB/32B 32-way write-back-locking Data cache
obio0 at mainbus0
com0 at obio0 addr 0xfe800000: ns16550a, working fifo
com0: console
iopxs0 at mainbus0: i80321 I/O Processor
pci0 at iopxs0 bus 0: i/o space, memory space enabled
wm0 at pci0 dev 4 function 0: Intel i82544EI 1000BASE-T Ethernet (rev. 0x02)
wm0: Ethernet address 02:00:5e:10:00:01
wdc0 at pci0 dev 6 function 0
wd0 at wdc0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
)


def static_cpu_data(layout: CStruct, kernelbase: int, space: SpacePlan, segments: Sequence[RamSeg]) -> bytes:
    """Return the CPU data of OpenBSD's ARMs: the range is that of the form's window, or not filled in."""
    fields = {f.name: 0 for f in layout.fields if f.count == 1}
    if space.translates:
        (window,) = space.windows
        fields["kernelbase"] = kernelbase
        fields["kerneloffs"] = window.start - kernelbase
        fields["staticsize"] = window.stop - window.start
    listed = [*segments, *[RamSeg(0, 0)] * (8 - len(segments))]
    return layout.build({**fields, "reserved": (0,) * 11}, "little") + build_ram_segs(listed, "little")


_WINDOW = Window("the kernel's static range", 0xC0300000, 0xC0500000, 0x40300000, unit=4096)


def openbsd_armv7(layout: CStruct) -> SamplePlan:
    """A board with an Allwinner A20; `layout` is the CPU header. Kernels leave it as the variant "zero" has it."""
    return SamplePlan(
        text_va=0xC0300000,
        text_pa=0x40300000,
        ram=(RamSeg(0x40000000, 0x500000), RamSeg(0x48000000, 0x20000)),
        direct_va=None,
        stack_va=0xCC000000,
        heap_va=0xCD000000,
        user_fp=0xBFFFE5C4,
        msgbuf_bytes=0x8000,
        spaces=(WindowPlan(windows=(_WINDOW,)), WindowPlan(variant="zero", windows=(_WINDOW,), translates=False)),
        code=ARM,
        cpu_hdr=None,
        cpu_data=lambda space, tables, segments: static_cpu_data(layout, 0xC0000000, space, segments),
        port="armv7",
        nic="dwge0",
        cpu_model="ARM Cortex-A7 r0p4",
        attach="""\
mainbus0 at root: SAMPLE A20
cpu0 at mainbus0 mpidr 0: {cpu_model}
cpu0: 32KB 32b/line 2-way L1 VIPT I-cache, 32KB 64b/line 4-way L1 D-cache
cortex0 at mainbus0
simplebus0 at mainbus0: "soc"
sxiccmu0 at simplebus0
sxipio0 at simplebus0: 175 pins
ampintc0 at simplebus0 nirq 160, ncpu 2: "interrupt-controller"
com0 at simplebus0: dw16550, 64 byte fifo
com0: console
sximmc0 at simplebus0
sdmmc0 at sximmc0: 4-bit, sd high-speed, mmc high-speed, dma
ahci0 at simplebus0: AHCI 1.1
ahci0: port 0: 3.0Gb/s
scsibus0 at ahci0: 32 targets
sd0 at scsibus0 targ 0 lun 0: <ATA, SAMPLE DISK, 1.00>
sd0: 4096MB, 512 bytes/sector, 8388608 sectors
dwge0 at simplebus0: address 02:00:5e:10:00:01
vscsi0 at root
softraid0 at root
""",
        elf_flags=EABI_SOFT_FLOAT,
    )
