"""NetBSD/i386, plain and PAE. Sources: sys/arch/i386/include/kcore.h, pcb.h, machdep.c; lib/libkvm/kvm_i386{,pae}.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CField, CStruct, RamSeg
from kvmlib.ports.base import NETBSD, Machine, Mmu, Pcb, RegisterFact, counted_ram
from kvmlib.ports.trapframes import ILP32_CHAIN, NETBSD_I386
from kvmlib.ports.x86_paging import i386, i386_pae
from kvmlib.translate import Translator
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_UNREADABLE = ("could not read PDE", "could not read PTE")
_INVALID = ("invalid translation (invalid PDE)", "invalid translation (invalid PTE)")
PLAIN = i386(_UNREADABLE, _INVALID)
PAE = i386_pae(_UNREADABLE, _INVALID)
#: I386_KCORE_PAE in pdppaddr (kcore.h).
KCORE_PAE = 0x200
FRAME = 0xFFFFF000


def _mmu(m: Mmu) -> Translator:
    pdppaddr = m.hdr["pdppaddr"]
    return Radix(PAE if pdppaddr & KCORE_PAE else PLAIN, pdppaddr & FRAME, m.read, "little")


def _decode(value: int, hdr: Mapping[str, Any]) -> str:
    if value & KCORE_PAE:
        return f"PAE: page directories at pa {value & FRAME:#x}"
    return f"page directory at pa {value & FRAME:#x}, no PAE"


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.plan import SamplePlan
    from kvmlib.ports.x86_plan import I386_CODE, LOCAL_APIC, NETBSD_ATTACH, i386_space

    return (
        SamplePlan(
            text_va=0xC0200000,
            text_pa=0x200000,
            ram=(RamSeg(0, 0x9F000), RamSeg(0x100000, 0x500000)),
            direct_va=None,
            stack_va=0xDA000000,
            heap_va=0xDB000000,
            user_fp=0xBFBFE5A8,
            device_pa=LOCAL_APIC,
            device_symbol="local_apic",
            msgbuf_bytes=0x4000,
            spaces=(i386_space(PLAIN, self_map=767, pae=False), i386_space(PAE, self_map=1532, pae=True)),
            code=I386_CODE,
            cpu_hdr=lambda space, root, segments: {
                "pdppaddr": root | (KCORE_PAE if space.variant == "pae" else 0),
                "nmemsegs": segments,
            },
            nic="wm0",
            cpu_model="Intel(R) Pentium(R) III CPU family 1133MHz",
            attach=NETBSD_ATTACH,
            sparse=True,
        ),
    )


MACHINE = Machine(
    system=NETBSD,
    arch="i386",
    mid=134,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=3,
    translator="radix, 2 levels or PAE",
    libkvm="2 levels and PAE, 2 and 4 MiB pages",
    ours="the same",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/i386/include/kcore.h",
        8,
        (
            CField(0, "u32", "pdppaddr", "uint32_t", "pa of the page directory; bit 0x200 (I386_KCORE_PAE) says PAE"),
            CField(4, "u32", "nmemsegs", "uint32_t", "number of RAM segments that follow"),
        ),
    ),
    ram=counted_ram("nmemsegs"),
    segments_offset=lambda hdr: 8,
    root=lambda hdr: int(hdr["pdppaddr"]) & FRAME,
    mmu=_mmu,
    register_facts=(
        RegisterFact("pdppaddr", 32, "PDPpaddr: where address translation starts, and whether it is PAE", _decode),
    ),
    dumpmag_bytes=4,
    pcb=Pcb(
        640,
        {"esp": (4, 4), "ebp": (8, 4), "cr0": (12, 4), "cr2": (16, 4), "cr3": (20, 4)},
        sp="esp",
        fp="ebp",
        at_sp=("edi", "esi", "ebx", "pc"),
    ),
    trapframes=(NETBSD_I386,),
    frames=(ILP32_CHAIN,),
    elf_machine="EM_386",
    samples=_samples,
)
