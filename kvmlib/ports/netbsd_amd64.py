"""NetBSD/amd64. Sources: sys/arch/amd64/include/kcore.h, pcb.h, machdep.c; lib/libkvm/kvm_x86_64.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.kcore import CField, CStruct, RamSeg
from kvmlib.ports.base import NETBSD, Machine, Mmu, Pcb, RegisterFact, counted_ram
from kvmlib.ports.trapframes import LP64_CHAIN, NETBSD_AMD64
from kvmlib.ports.x86_paging import AMD64 as PAGING
from kvmlib.translate import Translator
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

FRAME = 0x000FFFFFFFFFF000


def _mmu(m: Mmu) -> Translator:
    return Radix(PAGING, m.hdr["ptdpaddr"] & FRAME, m.read, "little")


def _warn_root(value: int) -> str:
    extra = value & ~FRAME
    return f"{extra:#x} is no part of the address: bits 0 to 11 and 52 to 63 of a cr3 are flags" if extra else ""


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.plan import SamplePlan
    from kvmlib.ports.x86_plan import AMD64_CODE, LOCAL_APIC, NETBSD_ATTACH, amd64_space

    return (
        SamplePlan(
            text_va=0xFFFFFFFF80200000,
            text_pa=0x200000,
            ram=(
                RamSeg(0, 0x9F000),
                RamSeg(0x100000, 0x600000),
                RamSeg(0x1000000, 0x40000),
                RamSeg(0x100000000, 0x40000),
            ),
            direct_va=0xFFFF900000000000,
            stack_va=0xFFFFD90000100000,
            heap_va=0xFFFFD90040000000,
            user_fp=0x7F7FFFC8E5D0,
            device_pa=LOCAL_APIC,
            device_symbol="local_apic",
            msgbuf_bytes=0x8000,
            spaces=(amd64_space(PAGING, self_map=255),),
            code=AMD64_CODE,
            cpu_hdr=lambda space, root, segments: {"ptdpaddr": root, "nmemsegs": segments},
            nic="wm0",
            cpu_model="AMD EPYC-Rome Processor",
            attach=NETBSD_ATTACH,
            sparse=True,
        ),
    )


MACHINE = Machine(
    system=NETBSD,
    arch="amd64",
    mid=157,
    byteorder="little",
    long_bytes=8,
    page_size=4096,
    align_mask=7,
    translator="radix, 4 levels",
    libkvm="4 levels, 2 MiB and 1 GiB pages",
    ours="the same, and canonical addresses only",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/amd64/include/kcore.h",
        16,
        (
            CField(0, "u64", "ptdpaddr", "uint64_t", "pa of the PML4: the kernel's PDPpaddr"),
            CField(8, "u64", "nmemsegs", "uint64_t", "number of RAM segments that follow"),
        ),
    ),
    ram=counted_ram("nmemsegs"),
    segments_offset=lambda hdr: 16,
    root=lambda hdr: int(hdr["ptdpaddr"]) & FRAME,
    mmu=_mmu,
    register_facts=(
        RegisterFact(
            "ptdpaddr",
            64,
            "PDPpaddr: where address translation starts",
            lambda value, hdr: f"PML4 at pa {value & FRAME:#x}",
            warn=_warn_root,
        ),
    ),
    dumpmag_bytes=4,
    pcb=Pcb(
        640,
        {"cr2": (16, 8), "cr3": (24, 8), "rsp": (32, 8), "rbp": (40, 8)},
        sp="rsp",
        fp="rbp",
        at_sp=("r15", "r14", "r13", "r12", "rbx", "pc"),
    ),
    trapframes=(NETBSD_AMD64,),
    frames=(LP64_CHAIN,),
    elf_machine="EM_X86_64",
    samples=_samples,
)
