"""What the samples of amd64 and i386 have in common: protection bits, instructions, devices."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from kvmlib.ports.plan import CodePlan, RadixPlan, Use

if TYPE_CHECKING:
    from kvmlib.translate.radix import Paging

_P, _RW, _US, _PWT, _PCD, _A, _D, _G = 1, 2, 4, 8, 16, 32, 64, 256
_NX = 1 << 63
_TABLE = _P | _RW | _A
#: The local APIC's registers (IA32_APIC_BASE).
LOCAL_APIC = 0xFEE00000


def _bits(nx: int) -> dict[Use, int]:
    return {
        "text": _P | _A | _G,
        "rodata": _P | _A | _G | nx,
        "data": _P | _RW | _A | _D | _G | nx,
        "device": _P | _RW | _PWT | _PCD | _A | _D | _G | nx,
    }


def amd64_space(paging: Paging, self_map: int) -> RadixPlan:
    """Text, constants and all of RAM in 2 MiB pages, RAM above 4 GiB in 1 GiB pages."""
    return RadixPlan(
        image_shift=21,
        direct_shifts=(21, 30),
        paging=paging,
        bits=_bits(_NX),
        table_bits=_TABLE,
        self_map=self_map,
        self_bits=_D,
    )


def i386_space(paging: Paging, self_map: int, *, pae: bool) -> RadixPlan:
    """Everything in 4 KiB pages; PAE has the bit that forbids execution."""
    return RadixPlan(
        variant="pae" if pae else "",
        image_shift=12,
        direct_shifts=(12, 12),
        paging=paging,
        bits=_bits(_NX if pae else 0),
        table_bits=_TABLE,
        self_map=self_map,
        self_bits=_D,
    )


def _call(distance: int) -> bytes:
    return b"\xe8" + struct.pack("<i", distance)


#: push rbp; mov rbp,rsp; sub rsp,0x40 ... leave; ret, with loads, tests and jumps over nothing between them.
AMD64_CODE = CodePlan(
    prologue=bytes.fromhex("55 4889e5 4883ec40"),
    epilogue=bytes.fromhex("c9 c3"),
    body=tuple(
        bytes.fromhex(i)
        for i in (
            "4889fb 4885db 7400",  # mov rbx,rdi; test rbx,rbx; je
            "4c8b6310",  # mov r12,[rbx+0x10]
            "8b4318 83c001 894318",  # mov eax,[rbx+0x18]; add eax,1; mov [rbx+0x18],eax
            "31c0",  # xor eax,eax
            "488d45d0 488945c8",  # lea rax,[rbp-0x30]; mov [rbp-0x38],rax
            "4d89e5 4983c508",  # mov r13,r12; add r13,8
            "48c1e803 4821d8",  # shr rax,3; and rax,rbx
            "39d0 7e00",  # cmp eax,edx; jle
            "488b55c8 4889d6",  # mov rdx,[rbp-0x38]; mov rsi,rdx
            "0fb603 3c2f 7500",  # movzx eax,[rbx]; cmp al,'/'; jne
        )
    ),
    pad=b"\xcc",
    call=_call,
    message=lambda va: bytes.fromhex("48c7c7") + struct.pack("<I", va & 0xFFFFFFFF),
    trap=b"\xcc",
)
#: push ebp; mov ebp,esp; sub esp,0x28 ... leave; ret.
I386_CODE = CodePlan(
    prologue=bytes.fromhex("55 89e5 83ec28"),
    epilogue=bytes.fromhex("c9 c3"),
    body=tuple(
        bytes.fromhex(i)
        for i in (
            "8b5d08 85db 7400",  # mov ebx,[ebp+8]; test ebx,ebx; je
            "8b7310",  # mov esi,[ebx+0x10]
            "8b4318 83c001 894318",  # mov eax,[ebx+0x18]; add eax,1; mov [ebx+0x18],eax
            "31c0",  # xor eax,eax
            "8d45e0 8945dc",  # lea eax,[ebp-0x20]; mov [ebp-0x24],eax
            "89f7 83c708",  # mov edi,esi; add edi,8
            "c1e803 21d8",  # shr eax,3; and eax,ebx
            "39d0 7e00",  # cmp eax,edx; jle
            "8b55dc 891424",  # mov edx,[ebp-0x24]; mov [esp],edx
            "0fb603 3c2f 7500",  # movzx eax,[ebx]; cmp al,'/'; jne
        )
    ),
    pad=b"\xcc",
    call=_call,
    message=lambda va: bytes.fromhex("c70424") + struct.pack("<I", va & 0xFFFFFFFF),
    trap=b"\xcc",
)
OPENBSD_ATTACH = """\
mainbus0 at root
bios0 at mainbus0: date 06/23/99, BIOS32 rev. 0 @ 0xfd200
acpi0 at bios0: ACPI 1.0
cpu0 at mainbus0: apid 0 (boot processor)
cpu0: {cpu_model}
ioapic0 at mainbus0: apid 1 pa 0xfec00000, version 20, 24 pins
pci0 at mainbus0 bus 0
pchb0 at pci0 dev 0 function 0 "Intel 82441FX" rev 0x02
pcib0 at pci0 dev 1 function 0 "Intel 82371SB ISA" rev 0x00
pciide0 at pci0 dev 1 function 1 "Intel 82371SB IDE" rev 0x00: DMA
vga1 at pci0 dev 2 function 0 "Cirrus Logic CL-GD5446" rev 0x00
em0 at pci0 dev 3 function 0 "Intel 82540EM" rev 0x03: apic 1 int 11, address 02:00:5e:10:00:01
wd0 at pciide0 channel 0 drive 0: <SAMPLE DISK>
wd0: 16-sector PIO, LBA48, 4096MB, 8388608 sectors
isa0 at pcib0
com0 at isa0 port 0x3f8/8 irq 4: ns16550a, 16 byte fifo
com0: console
pckbc0 at isa0 port 0x60/5 irq 1 irq 12
vscsi0 at root
softraid0 at root
"""
NETBSD_ATTACH = """\
mainbus0 (root)
cpu0 at mainbus0 apid 0: {cpu_model}
ioapic0 at mainbus0 apid 1: pa 0xfec00000, version 0x11, 24 pins
pci0 at mainbus0 bus 0: configuration mode 1
pci0: i/o space, memory space enabled, rd/line, rd/mult, wr/inv ok
pchb0 at pci0 dev 0 function 0: vendor 8086 product 1237 (rev. 0x02)
pcib0 at pci0 dev 1 function 0: vendor 8086 product 7000 (rev. 0x00)
piixide0 at pci0 dev 1 function 1: Intel 82371SB IDE Interface (PIIX3) (rev. 0x00)
vga0 at pci0 dev 2 function 0: vendor 1013 product 00b8 (rev. 0x00)
wm0 at pci0 dev 3 function 0: Intel i82540EM 1000BASE-T Ethernet (rev. 0x03)
wm0: Ethernet address 02:00:5e:10:00:01
isa0 at pcib0
com0 at isa0 port 0x3f8-0x3ff irq 4: ns16550a, working fifo
com0: console
atabus0 at piixide0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: drive supports 16-sector PIO transfers, LBA48 addressing
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
"""
