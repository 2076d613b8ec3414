"""Sample dumps of the MIPS machines: a few of the computers that these ports run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kvmlib.kcore import RamSeg
from kvmlib.ports.code_risc import MIPS64_BE, MIPS64_LE, MIPS_BE, MIPS_LE
from kvmlib.ports.mips import COMPAT, KSEG0, PAGE, XKPHYS_CACHED, kseg01, paging
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use, WindowPlan
from kvmlib.translate.linear import Window
from kvmlib.translate.xkphys import CCA_SHIFT, START as XKPHYS, cca_name

#: Sysmapsize: PTEs for 16 MiB.
_PTES = 4096
R3000 = {"archlevel": 1, "pg_shift": 12, "pg_frame": 0xFFFFF000, "pg_v": 0x200}
R4000 = {"archlevel": 3, "pg_shift": 6, "pg_frame": 0x3FFFFFC0, "pg_v": 2}
_N, _D1, _G1 = 1 << 11, 1 << 10, 1 << 8
_R3000_BITS: dict[Use, int] = {
    "text": _G1 | 1,
    "rodata": _G1 | 1,
    "data": _D1 | _G1,
    "device": _N | _D1 | _G1,
}
_WIRED, _RO, _UNCACHED, _CACHED, _D3, _G3 = 1 << 31, 1 << 30, 2 << 3, 3 << 3, 1 << 2, 1 << 0
_R4000_BITS: dict[Use, int] = {
    "text": _WIRED | _RO | _CACHED | _G3,
    "rodata": _WIRED | _RO | _CACHED | _G3,
    "data": _WIRED | _CACHED | _D3 | _G3,
    "device": _WIRED | _UNCACHED | _D3 | _G3,
}
#: e_flags: position-dependent, with the ABI and the least CPU.
_O32, _MIPS3, _MIPS64R2, _NOREORDER = 0x1000, 0x20000000, 0x80000000, 1


def _xkphys(pa_bits: int, page: int) -> tuple[Window, ...]:
    starts = (XKPHYS + (cca << CCA_SHIFT) for cca in range(8))
    return tuple(Window("XKPHYS", s, s + (1 << pa_bits), 0, page, (cca_name(s >> CCA_SHIFT & 7),)) for s in starts)


def _space(form: Mapping[str, int], bits: Literal[32, 64], variant: str) -> RadixPlan:
    """The kernel in KSEG0, stacks and malloc'ed memory in KSEG2 or XKSEG."""
    r3000 = form["archlevel"] == 1
    return RadixPlan(
        variant=variant,
        image_shift=12,
        # 64 KiB at a time, which is no size of a page here: it is only a window.
        direct_shifts=(16, 16),
        windows=(*kseg01(bits, PAGE), *(_xkphys(59, PAGE) if bits == 64 else ())),
        paging=paging({"sysmapsize": _PTES, **form}, bits),
        bits=_R3000_BITS if r3000 else _R4000_BITS,
    )


def _netbsd(bits: Literal[32, 64], form: Mapping[str, int], text: int, variant: str = "", **more: Any) -> SamplePlan:
    """A NetBSD machine whose kernel's text lies at pa `text`."""
    high, kseg2 = (COMPAT, 0xC000000000000000) if bits == 64 else (0, 0xC0000000)

    def cpu_hdr(space: SpacePlan, root: int, segments: int) -> dict[str, int]:
        return {"sysmappa": root, "sysmapsize": _PTES, **form, "nmemsegs": segments}

    return SamplePlan(
        text_va=high + KSEG0 + text,
        text_pa=text,
        direct_va=XKPHYS_CACHED << 32 if bits == 64 else None,
        stack_va=kseg2 + 0x102000,
        heap_va=kseg2 + 0x400000,
        user_fp=0xFFFFFFEF40 if bits == 64 else 0x7FFFE5A8,
        msgbuf_bytes=0x4000,
        spaces=(_space(form, bits, variant),),
        cpu_hdr=cpu_hdr,
        **more,
    )


_INDY = _netbsd(
    32,
    R4000,
    0x08069000,
    # Memory begins at 128 MiB; its first 512 KiB show at 0 too, where the exception vectors are.
    ram=(RamSeg(0x08000000, 0x300000), RamSeg(0x0A000000, 0x80000)),
    device_pa=0x1FB80000,
    code=MIPS_BE,
    elf_flags=_O32 | _MIPS3 | _NOREORDER,
    port="sgimips",
    nic="sq0",
    cpu_model="MIPS R4600 CPU (0x2020) Rev. 2.0",
    attach="""\
mainbus0 (root): SGI-IP22 [SGI, 0800690a1c2b], 1 processor
cpu0 at mainbus0: {cpu_model} with built-in FPU Rev. 2.0
cpu0: 16KB/32B 2-way set-associative L1 instruction cache, 48 TLB entries
imc0 at mainbus0 addr 0x1fa00000: revision 3
gio0 at imc0
hpc0 at gio0 addr 0x1fb80000: SGI HPC3
zsc0 at hpc0 offset 0x59830
zstty0 at zsc0 channel 1 (console i/o)
sq0 at hpc0 offset 0x54000: SGI Seeq 80c03
sq0: Ethernet address 02:00:5e:10:00:01
wdsc0 at hpc0 offset 0x44000: WD33C93B SCSI, rev=0, target 7
scsibus2 at wdsc0: 8 targets, 8 luns per target
sd0 at scsibus2 target 1 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 2048 MB, 4161 cyl, 16 head, 63 sec, 512 bytes/sect x 4194304 sectors
""",
)
_NEWS = _netbsd(
    32,
    R3000,
    0x1000,
    "r3000",
    ram=(RamSeg(0, 0x300000),),
    device_pa=0x1FF80000,
    code=MIPS_BE,
    elf_flags=_O32 | _NOREORDER,
    port="newsmips",
    nic="le0",
    cpu_model="MIPS R3000A CPU (0x230) Rev. 3.0",
    attach="""\
mainbus0 (root)
cpu0 at mainbus0: {cpu_model} with MIPS R3010 FPC (0x340) Rev. 4.0
cpu0: 64KB/4B direct-mapped L1 Instruction cache, 64 TLB entries
hb0 at mainbus0
zsc0 at hb0 addr 0xbfec0000 level 1 vector 64
zstty0 at zsc0 channel 0 (console i/o)
sc0 at hb0 addr 0xbfe00100 level 0: target 7
scsibus0 at sc0: 8 targets, 8 luns per target
le0 at hb0 addr 0xbff80000 level 1: address 02:00:5e:10:00:01
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 512 MB, 1658 cyl, 10 head, 63 sec, 512 bytes/sect x 1048576 sectors
""",
)
MIPSEB = (_INDY, _NEWS)

_QUBE = _netbsd(
    32,
    R4000,
    0x1000,
    ram=(RamSeg(0, 0x300000),),
    device_pa=0x14000000,
    code=MIPS_LE,
    elf_flags=_O32 | _MIPS3 | _NOREORDER,
    port="cobalt",
    nic="tlp0",
    cpu_model="QED RM5200 CPU (0x28a0) Rev. 10.0",
    attach="""\
mainbus0 (root)
com0 at mainbus0 addr 0x1c800000 level 3: st16650a, working fifo
com0: console
cpu0 at mainbus0: {cpu_model} with built-in FPU Rev. 1.0
cpu0: 32KB/32B 2-way set-associative L1 Instruction cache, 48 TLB entries
gt0 at mainbus0 addr 0x14000000
pci0 at gt0
pchb0 at pci0 dev 0 function 0: Galileo GT-64011/GT-64111 System Controller, rev 1
tlp0 at pci0 dev 7 function 0: DECchip 21143 Ethernet, pass 4.1
tlp0: Ethernet address 02:00:5e:10:00:01
pcib0 at pci0 dev 9 function 0: VIA Technologies VT82C586 PCI-ISA Bridge, rev 39
viaide0 at pci0 dev 9 function 1: VIA Technologies VT82C586 ATA33 controller
atabus0 at viaide0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
)
_DECSTATION = _netbsd(
    32,
    R3000,
    0x30000,
    "r3000",
    ram=(RamSeg(0, 0x300000), RamSeg(0x2000000, 0x80000)),
    device_pa=0x1E000000,
    code=MIPS_LE,
    elf_flags=_O32 | _NOREORDER,
    port="pmax",
    nic="le0",
    cpu_model="MIPS R3000A CPU (0x230) Rev. 3.0",
    attach="""\
mainbus0 (root): DECstation 5000/200
cpu0 at mainbus0: {cpu_model} with MIPS R3010 FPC (0x340) Rev. 4.0
cpu0: 64KB/4B direct-mapped L1 Instruction cache, 64 TLB entries
tc0 at mainbus0: 25 MHz clock
asc0 at tc0 slot 5 offset 0x0: NCR53C94, target 7
scsibus0 at asc0: 8 targets, 8 luns per target
le0 at tc0 slot 6 offset 0x0: address 02:00:5e:10:00:01
le0: 32 receive buffers, 8 transmit buffers
dc0 at ibus0 addr 0x1fe00000: DC7085
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk fixed
sd0: 1024 MB, 2080 cyl, 16 head, 63 sec, 512 bytes/sect x 2097152 sectors
""",
)
MIPSEL = (_QUBE, _DECSTATION)

MIPS64 = (
    _netbsd(
        64,
        R4000,
        0x100000,
        # What is beyond 256 MiB lies above 16 GiB.
        ram=(RamSeg(0, 0x300000), RamSeg(0x410000000, 0x80000)),
        device_pa=0x1F400000,
        code=MIPS64_BE,
        elf_flags=_MIPS64R2 | _NOREORDER,
        port="evbmips",
        nic="cnmac0",
        cpu_model="Cavium CN50xx CPU (0xd0601) Rev. 1",
        attach="""\
mainbus0 (root)
cpunode0 at mainbus0: 2 cores, crypto+kasumi
cpu0 at cpunode0 core 0: 500.00MHz
cpu0: {cpu_model}
cpu0: 64 TLB entries, 512TB (49-bit) VAs, 512TB (49-bit) PAs, 256MB max page size
iobus0 at mainbus0
iobus0: initializing POW
com0 at iobus0 address 0x0001180000000800: ns16650, no ERS, 16-byte FIFO
com0: console
cnmac0 at iobus0 address 0x0001180008000000
cnmac0: Ethernet address 02:00:5e:10:00:01
dwctwo0 at iobus0 address 0x0001180068000000
usb0 at dwctwo0: USB revision 2.0
umass0 at uhub0 port 1 configuration 1 interface 0
scsibus0 at umass0: 2 targets, 1 lun per target
sd0 at scsibus0 target 0 lun 0: <SAMPLE, DISK, 1.0> disk removable
""",
    ),
)
MIPS64EL = (
    _netbsd(
        64,
        R4000,
        0x200000,
        ram=(RamSeg(0, 0x300000), RamSeg(0x110000000, 0x80000)),
        device_pa=0x1FE00000,
        code=MIPS64_LE,
        elf_flags=_MIPS3 | _NOREORDER,
        port="evbmips",
        nic="rtk0",
        cpu_model="ICT Loongson 2F CPU (0x6303) Rev. 0.3",
        attach="""\
mainbus0 (root): Lemote Yeeloong laptop
cpu0 at mainbus0: 797MHz
cpu0: {cpu_model} with built-in FPU Rev. 0.1
cpu0: 64 TLB entries, 64KB/32B 4-way set-associative L1 instruction cache
bonito0 at mainbus0: memory and PCI-X controller
pci0 at bonito0 bus 0
rtk0 at pci0 dev 7 function 0: Realtek 8139 10/100BaseTX (rev. 0x10)
rtk0: Ethernet address 02:00:5e:10:00:01
voyager0 at pci0 dev 8 function 0
pcib0 at pci0 dev 14 function 0: AMD CS5536 Host-PCI Bridge (rev. 0x03)
viaide0 at pci0 dev 14 function 2: AMD CS5536 IDE Controller (rev. 0x01)
atabus0 at viaide0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
    ),
)


# -- OpenBSD -----------------------------------------------------------------------------------------------------------

_OPENBSD_PAGE = 16384


def _openbsd(text: int, ram: tuple[RamSeg, ...], heap: int, **more: Any) -> SamplePlan:
    """An OpenBSD machine with its kernel's text and malloc'ed memory at these pa.

    The latter is reached through XKPHYS, so it can be read; stacks can't.
    """
    cached = XKPHYS_CACHED << 32
    msgbuf_bytes = 2 * _OPENBSD_PAGE
    msgbuf = ram[-1].start + ram[-1].size - msgbuf_bytes
    return SamplePlan(
        text_va=COMPAT + KSEG0 + text,
        text_pa=text,
        ram=ram,
        direct_va=None,
        stack_va=0xC000000000100000,
        heap_va=cached + heap,
        user_fp=0xFFFFFF5C40,
        msgbuf_bytes=msgbuf_bytes,
        msgbuf=(cached + msgbuf, msgbuf),
        spaces=(WindowPlan(page=_OPENBSD_PAGE, windows=(*kseg01(64, _OPENBSD_PAGE), *_xkphys(36, _OPENBSD_PAGE))),),
        cpu_hdr=lambda space, root, segments: {"kernel_pa": text, "mmutype": 0},
        **more,
    )


OCTEON = _openbsd(
    0x1000000,
    (RamSeg(0, 0x80000), RamSeg(0x1000000, 0x300000)),
    0x1100000,
    code=MIPS64_BE,
    elf_flags=_MIPS64R2 | _NOREORDER,
    port="octeon",
    nic="cnmac0",
    cpu_model="CN50xx CPU rev 0.1 500 MHz",
    attach="""\
mainbus0 at root: board 20002 rev 2.12
cpu0 at mainbus0: {cpu_model}, Software FP emulation
cpu0: cache L1-I 32KB 4 way D 8KB 64 way, L2 128KB 8 way
clock0 at mainbus0: int 5
iobus0 at mainbus0
octcf0 at iobus0 base 0x1d000800 irq 0
cn30xxgmx0 at iobus0 base 0x1180008000000
cnmac0 at cn30xxgmx0: RGMII, address 02:00:5e:10:00:01
com0 at iobus0 base 0x1180000000800 irq 34: ns16550a, 64 byte fifo
com0: console
octhci0 at iobus0 irq 56
usb0 at octhci0: USB revision 2.0
umass0 at uhub0 port 1 configuration 1 interface 0
scsibus0 at umass0: 2 targets
sd0 at scsibus0 targ 1 lun 0: <SAMPLE, DISK, 1.0> removable
""",
)
LOONGSON = _openbsd(
    0x200000,
    (RamSeg(0, 0x400000),),
    0x20000,
    code=MIPS64_LE,
    elf_flags=_MIPS3 | _NOREORDER,
    port="loongson",
    nic="rl0",
    cpu_model="STC Loongson2F CPU 797 MHz",
    attach="""\
mainbus0 at root: Lemote Yeeloong
cpu0 at mainbus0: {cpu_model}, STC Loongson2F FPU
cpu0: cache L1-I 64KB D 64KB 4 way, L2 512KB 4 way
bonito0 at mainbus0: memory and PCI-X controller, rev 1
pci0 at bonito0 bus 0
rl0 at pci0 dev 7 function 0 "Realtek 8139" rev 0x10: irq 7, address 02:00:5e:10:00:01
smfb0 at pci0 dev 8 function 0 "Silicon Motion LynxEM+" rev 0xb0
glxpcib0 at pci0 dev 14 function 0 "AMD CS5536 ISA" rev 0x03
pciide0 at pci0 dev 14 function 2 "AMD CS5536 IDE" rev 0x01: DMA
wd0 at pciide0 channel 0 drive 0: <SAMPLE DISK>
wd0: 16-sector PIO, LBA48, 4096MB, 8388608 sectors
isa0 at glxpcib0
ykbec0 at isa0 port 0x381/3
""",
)
