"""Sample dumps of both systems' Alphas: kernel and messages in K0SEG, stacks and malloc'ed memory in K1SEG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kvmlib.kcore import RamSeg
from kvmlib.ports.alpha import PAGING, k0seg
from kvmlib.ports.code_risc import ALPHA
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use

_PAGE = 8192
_ASM, _KRE, _KWE, _WIRED, _EXEC = 1 << 4, 1 << 8, 1 << 12, 1 << 16, 1 << 18
_BITS: dict[Use, int] = {
    "text": _ASM | _KRE | _WIRED | _EXEC,
    "rodata": _ASM | _KRE | _WIRED,
    "data": _ASM | _KRE | _KWE | _WIRED,
    "device": _ASM | _KRE | _KWE | _WIRED,
}


def _hdr(space: SpacePlan, root: int, segments: int) -> Mapping[str, int]:
    return {"lev1map_pa": root, "page_size": _PAGE, "nmemsegs": segments}


#: The console keeps the first memory, and a page behind it.
NETBSD = SamplePlan(
    text_va=0xFFFFFC0000300000,
    text_pa=0x300000,
    ram=(RamSeg(0, 0x100000), RamSeg(0x102000, 0x2FE000)),
    direct_va=None,
    stack_va=0xFFFFFE0001000000,
    heap_va=0xFFFFFE0002000000,
    user_fp=0x11FFFB40,
    # I/O space of the first Pchip of a Tsunami.
    device_pa=0x801FC000000,
    msgbuf_bytes=0x4000,
    spaces=(
        RadixPlan(
            image_shift=13,
            windows=(k0seg(_PAGE),),
            paging=PAGING,
            bits=_BITS,
            table_bits=_ASM | _KRE | _KWE | _WIRED,
        ),
    ),
    code=ALPHA,
    cpu_hdr=_hdr,
    nic="tlp0",
    cpu_model="COMPAQ AlphaServer DS10 466 MHz, s/n SAMPLE",
    attach="""\
COMPAQ AlphaServer DS10 466 MHz, 462MHz, s/n SAMPLE
8192 byte page size, 1 processor.
mainbus0 (root)
cpu0 at mainbus0: ID 0 (primary), 21264-4
cpu0: Architecture extensions: 0x303<PMI,MVI,CIX,FIX,BWX>
tsc0 at mainbus0: 21272 Core Logic Chipset, Cchip rev 0
tsc0: 4 Dchips, 2 memory buses of 32 bytes
tsp0 at tsc0
pci0 at tsp0 bus 0
pci0: i/o space, memory space enabled
sio0 at pci0 dev 7 function 0: vendor 10b9 product 1533 (rev. 0xc3)
tlp0 at pci0 dev 9 function 0: DECchip 21143 Ethernet, pass 4.1
tlp0: interrupting at dec 6600 irq 29
tlp0: Ethernet address 02:00:5e:10:00:01
aceride0 at pci0 dev 13 function 0: Acer Labs M5229 UDMA IDE Controller (rev. 0xc1)
atabus0 at aceride0 channel 0
isa0 at sio0
com0 at isa0 port 0x3f8-0x3ff irq 4: ns16550a, working fifo
com0: console
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
""",
)
OPENBSD = replace(
    NETBSD,
    text_va=0xFFFFFC0000230000,
    text_pa=0x230000,
    nic="dc0",
    cpu_model="AlphaServer DS10 466 MHz",
    attach="""\
{cpu_model}
8192 byte page size, 1 processor.
mainbus0 at root
cpu0 at mainbus0: ID 0 (primary), 21264-4 (pass 4)
cpu0: architecture extensions: 303<PMI,MVI,CIX,FIX,BWX>
tsc0 at mainbus0: 21272 Chipset, Cchip rev 0
tsc0: 4 Dchips, 2 memory buses of 32 bytes
tsp0 at tsc0
pci0 at tsp0 bus 0
sio0 at pci0 dev 7 function 0 "Acer Labs M1533 ISA" rev 0xc3
dc0 at pci0 dev 9 function 0 "DEC 21142/3" rev 0x41: dec 6600 irq 29, address 02:00:5e:10:00:01
pciide0 at pci0 dev 13 function 0 "Acer Labs M5229 UDMA IDE" rev 0xc1: DMA
wd0 at pciide0 channel 0 drive 0: <SAMPLE DISK>
wd0: 16-sector PIO, LBA48, 4096MB, 8388608 sectors
isa0 at sio0
com0 at isa0 port 0x3f8/8 irq 4: ns16550a, 16 byte fifo
com0: console
vscsi0 at root
softraid0 at root
""",
)
