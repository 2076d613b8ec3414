"""OpenBSD/amd64. Sources: sys/arch/amd64/include/kcore.h, pcb.h, pmap.h, machdep.c; lib/libkvm/kvm_amd64.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CField, CStruct, RamSeg
from kvmlib.ports.base import OPENBSD, Machine, Mmu, Pcb, RegisterFact, counted_ram
from kvmlib.ports.trapframes import LP64_CHAIN, OPENBSD_AMD64
from kvmlib.ports.x86_paging import AMD64 as PAGING
from kvmlib.translate import Translator
from kvmlib.translate.linear import AssumedWindow, Window
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: pcb_cr3 may carry a PCID in its low 12 bits and CR3_REUSE_PCID in bit 63 (pmap.c).
CR3_FRAME = 0x000FFFFFFFFFF000
CR3_REUSE_PCID = 1 << 63
#: PMAP_DIRECT_BASE and the start of slot 511 (pmap.h of 6.8): the direct map takes L4 slots 507 to 510.
DIRECT = Window("the direct map", 0xFFFFFD8000000000, 0xFFFFFF8000000000, 0, unit=4096, flags=("assumed",))


def _mmu(m: Mmu) -> Translator:
    return AssumedWindow(Radix(PAGING, m.hdr["ptdpaddr"] & CR3_FRAME, m.read, "little"), DIRECT)


def _decode_cr3(value: int, hdr: Mapping[str, Any]) -> str:
    text = f"PML4 at pa {value & CR3_FRAME:#x}"
    if value & 0xFFF:
        text += f", PCID {value & 0xFFF}"
    if value & CR3_REUSE_PCID:
        text += ", CR3_REUSE_PCID"
    return text


def _warn_cr3(value: int) -> str:
    if value & ~CR3_FRAME == 0:
        return ""
    return (
        f"{value & ~CR3_FRAME:#x} is no part of the address: the PCID in bits 0 to 11, CR3_REUSE_PCID in bit 63. "
        "libkvm takes them for a part of it"
    )


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.plan import SamplePlan
    from kvmlib.ports.x86_plan import AMD64_CODE, LOCAL_APIC, OPENBSD_ATTACH, amd64_space

    return (
        SamplePlan(
            text_va=0xFFFFFFFF81000000,
            text_pa=0x1000000,
            ram=(
                RamSeg(0x10000, 0x8F000),
                RamSeg(0x100000, 0x100000),
                RamSeg(0x1000000, 0x500000),
                RamSeg(0x100000000, 0x40000),
            ),
            direct_va=DIRECT.start,
            stack_va=0xFFFF800000100000,
            heap_va=0xFFFF800001000000,
            user_fp=0x7F7FFFFD5C40,
            device_pa=LOCAL_APIC,
            device_symbol="local_apic",
            msgbuf_bytes=0x20000,
            spaces=(amd64_space(PAGING, self_map=255),),
            code=AMD64_CODE,
            cpu_hdr=lambda space, root, segments: {"ptdpaddr": root, "nmemsegs": segments},
            trap_registers={"trapno": 3, "cs": 8, "ss": 0x10, "rflags": 0x10202},
            nic="em0",
            cpu_model="AMD EPYC-Rome Processor",
            attach=OPENBSD_ATTACH,
        ),
    )


MACHINE = Machine(
    system=OPENBSD,
    arch="amd64",
    mid=157,
    byteorder="little",
    long_bytes=8,
    page_size=4096,
    align_mask=7,
    translator="radix, 4 levels",
    libkvm="4 levels, 2 MiB pages; the direct map is assumed",
    ours="also 1 GiB pages; the tables decide",
    cpu_hdr=CStruct(
        "struct cpu_kcore_hdr",
        "sys/arch/amd64/include/kcore.h",
        16,
        (
            CField(0, "u64", "ptdpaddr", "u_int64_t", "pa of the top page table: proc0's cr3"),
            CField(8, "u64", "nmemsegs", "u_int64_t", "number of RAM segments that follow"),
        ),
    ),
    ram=counted_ram("nmemsegs"),
    segments_offset=lambda hdr: 16,
    root=lambda hdr: int(hdr["ptdpaddr"]) & CR3_FRAME,
    mmu=_mmu,
    register_facts=(
        RegisterFact("ptdpaddr", 64, "cr3 of proc0: where address translation starts", _decode_cr3, warn=_warn_cr3),
    ),
    dumpmag_bytes=8,
    pcb=Pcb(896, {"cr3": (840, 8), "rsp": (848, 8), "rbp": (856, 8)}, sp="rsp", fp="rbp", at_sp=("pc",)),
    trapframes=(OPENBSD_AMD64,),
    frames=(LP64_CHAIN,),
    elf_machine="EM_X86_64",
    samples=_samples,
)
