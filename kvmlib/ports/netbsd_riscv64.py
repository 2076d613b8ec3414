"""NetBSD/riscv, 64 bits. Sources: sys/arch/riscv/include/kcore.h, sysreg.h, pmap.h; lib/libkvm/kvm_riscv.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, listed_ram, register_array
from kvmlib.ports.riscv_paging import SV39, SV48, SV57
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: satp: MODE, ASID and PPN (sysreg.h).
_MODE, _ASID, _PPN = 60, 44, (1 << 44) - 1
_MODES = {8: SV39, 9: SV48, 10: SV57}


def _root(hdr: Mapping[str, Any]) -> int:
    return (int(hdr["kh_satp"]) & _PPN) << 12


def _mmu(m: Mmu) -> Translator:
    satp = m.hdr["kh_satp"]
    paging = _MODES.get(satp >> _MODE)
    if paging is None:
        return Unavailable(
            f"kh_satp is {satp:#x}, whose mode {satp >> _MODE} is none of Sv39 (8), Sv48 (9) and Sv57 (10)", 64
        )
    return Radix(paging, _root(m.hdr), m.read, "little")


def _decode_satp(value: int, hdr: Mapping[str, Any]) -> str:
    mode = value >> _MODE
    if mode not in _MODES:
        return "no translation (Bare)" if mode == 0 else f"mode {mode}, which is none that is known"
    asid = value >> _ASID & 0xFFFF
    return f"Sv{_MODES[mode].canonical_bits}, root table at pa {_root(hdr):#x}, ASID {asid}"


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import riscv_plan

    return (riscv_plan.NETBSD,)


MACHINE = Machine(
    system=NETBSD,
    arch="riscv64",
    ports=("riscv",),
    mid=185,
    byteorder="little",
    long_bytes=8,
    page_size=4096,
    align_mask=15,
    translator="radix, 3 to 5 levels",
    libkvm="translates nothing",
    ours="Sv39, Sv48 and Sv57, all page sizes",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/riscv/include/kcore.h",
        64,
        (
            CField(0, "u64", "kh_satp", "uint64_t", "satp: how addresses translate, and where the root table is"),
            CField(8, "u64", "kh_misc", "uint64_t", "not used; before 2023 kh_satp was the first of these", 7),
        ),
    ),
    ram=listed_ram(64),
    segments_offset=lambda hdr: 64,
    root=_root,
    mmu=_mmu,
    register_facts=(
        RegisterFact("kh_satp", 64, "satp: where address translation starts, and how", _decode_satp),
        *register_array("kh_misc", 7, 64, "not used", lambda value, hdr, i: ""),
    ),
    dumpmag_bytes=4,
    elf_machine="EM_RISCV",
    samples=_samples,
)
