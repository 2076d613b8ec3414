"""NetBSD/powerpc, 32 bits. Sources: sys/arch/powerpc/include/kcore.h, oea/bat.h; lib/libkvm/kvm_powerpc.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmlib.kcore import CField, CStruct
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, listed_ram, register_array
from kvmlib.ports.powerpc import MPC601, bat_text, bat_text_601, cpu_name, sdr1_text, segment_text, version
from kvmlib.ports.trapframes import NETBSD_POWERPC, POWERPC_FRAMES
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.hashed import OEA, Hashed, bats, bats_601

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: Versions of CPUs with the BATs of all but the 601, as libkvm lists them.
_CLASSIC = frozenset({3, 4, 6, 7, 8, 0xA, 0xC, 0x81, 0x7000, *range(0x8000, 0x8008), 0x800C, 0x8081})
_BATS_601 = 4


def _supported(hdr: Mapping[str, Any]) -> bool:
    return version(hdr["pvr"]) in _CLASSIC or version(hdr["pvr"]) == MPC601


def _mmu(m: Mmu) -> Translator:
    hdr = m.hdr
    if not _supported(hdr):
        return Unavailable(f"Unsupported CPU type (pvr {hdr['pvr']:#010x})!", 32)
    blocks = (bats_601 if version(hdr["pvr"]) == MPC601 else bats)(hdr["dbatu"], hdr["dbatl"])
    return Hashed(m.read, "big", blocks, hdr["sr"], hdr["sdr1"])


def _root(hdr: Mapping[str, Any]) -> int:
    return OEA.table(hdr["sdr1"])[0]


def _decode_pvr(value: int, hdr: Mapping[str, Any]) -> str:
    return cpu_name(value) + ("" if _supported(hdr) else "; its translation is not supported")


def _decode_sdr1(value: int, hdr: Mapping[str, Any]) -> str:
    return sdr1_text(value, OEA) if _supported(hdr) else ""


def _decode_segment(value: int, hdr: Mapping[str, Any], i: int) -> str:
    return segment_text(i, value) if _supported(hdr) else ""


def _decode_bat(hdr: Mapping[str, Any], kind: str, i: int) -> str:
    upper, lower = hdr[f"{kind}u"][i], hdr[f"{kind}l"][i]
    if version(hdr["pvr"]) != MPC601:
        return bat_text(i, upper, lower) if _supported(hdr) else ""
    if kind == "ibat" or i >= _BATS_601:
        return "a 601 doesn't have it"
    return bat_text_601(i, upper, lower)


def _bats(kind: str, what: str) -> tuple[RegisterFact, ...]:
    """The registers of BATs; the upper half says what both mean."""
    upper = register_array(f"{kind}u", 8, 32, f"{what}, upper half", lambda value, hdr, i: _decode_bat(hdr, kind, i))
    return upper + register_array(f"{kind}l", 8, 32, f"{what}, lower half", lambda value, hdr, i: "")


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import powerpc_plan

    return (powerpc_plan.NETBSD, powerpc_plan.NETBSD_601)


MACHINE = Machine(
    system=NETBSD,
    arch="powerpc",
    ports=("amigappc", "bebox", "evbppc", "ibmnws", "macppc", "mvmeppc", "ofppc", "prep", "rs6000", "sandpoint"),
    mid=149,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=7,
    translator="BATs, hashed page table",
    libkvm="BATs without XBL; primary PTEGs only",
    ours="the same CPUs; XBL, secondary PTEGs, the 601",
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/powerpc/include/kcore.h",
        208,
        (
            CField(0, "u32", "pad", "uint32_t", "not used"),
            CField(4, "u32", "pvr", "uint32_t", "processor version register: which CPU it is"),
            CField(8, "u32", "sdr1", "register_t", "where the hashed page table is, and how large"),
            CField(12, "u32", "sr", "register_t", "segment registers, one for each 256 MiB of addresses", 16),
            CField(76, "u32", "dbatl", "register_t", "data BATs, lower halves: pa and protection", 8),
            CField(108, "u32", "dbatu", "register_t", "data BATs, upper halves: va and length", 8),
            CField(140, "u32", "ibatl", "register_t", "instruction BATs, lower halves", 8),
            CField(172, "u32", "ibatu", "register_t", "instruction BATs, upper halves", 8),
        ),
    ),
    ram=listed_ram(208),
    segments_offset=lambda hdr: 208,
    root=_root,
    mmu=_mmu,
    register_facts=(
        RegisterFact("pvr", 32, "which CPU it is", _decode_pvr),
        RegisterFact("sdr1", 32, "the hashed page table", _decode_sdr1),
        *register_array("sr", 16, 32, "segment register", _decode_segment),
        *_bats("dbat", "data BAT"),
        *_bats("ibat", "instruction BAT"),
    ),
    dumpmag_bytes=4,
    trapframes=(NETBSD_POWERPC,),
    frames=POWERPC_FRAMES,
    elf_machine="EM_PPC",
    samples=_samples,
)
