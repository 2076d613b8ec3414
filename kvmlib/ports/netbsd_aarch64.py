"""NetBSD/aarch64. Sources: sys/arch/aarch64/include/{kcore,param,pte}.h, aarch64_machdep.c; lib/libkvm/kvm_aarch64.c.

The header of 2014 has no count of RAM segments, that of 2018 has; both are read. The page size is a matter of TCR_EL1.
Big-endian kernels (aarch64eb) write all in their own order, page tables included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kvmlib.errors import FormatError
from kvmlib.kcore import PHYS_RAM_SEG, ByteOrder, CField, CStruct, Headers, Read
from kvmlib.ports.aarch64_paging import Regime, paging, tcr_words
from kvmlib.ports.base import NETBSD, Machine, Mmu, RegisterFact, Settled, counted_ram, listed_ram
from kvmlib.ports.trapframes import LP64_CHAIN, NETBSD_AARCH64
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.linear import Regions, Via
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

_FIELDS_2014 = (
    CField(0, "u64", "kh_tcr1", "uint64_t", "TCR_EL1: how addresses are translated"),
    CField(8, "u64", "kh_ttbr1", "uint64_t", "TTBR1_EL1: where the kernel's page tables are"),
)
_HEADER = "sys/arch/aarch64/include/kcore.h"
HDR_2014 = CStruct("cpu_kcore_hdr_t", _HEADER, 16, _FIELDS_2014)
HDR_2018 = CStruct(
    "cpu_kcore_hdr_t",
    _HEADER,
    24,
    (*_FIELDS_2014, CField(16, "u64", "kh_nramsegs", "uint64_t", "number of RAM segments that follow")),
)
#: Bytes of the smallest page there is.
_SMALLEST = 4096
_ram_2014 = listed_ram(HDR_2014.size)
_ram_2018 = counted_ram("kh_nramsegs")


def _offset_2014(hdr: Mapping[str, Any]) -> int:
    return HDR_2014.size


def _offset_2018(hdr: Mapping[str, Any]) -> int:
    return HDR_2018.size


def _mmu(order: ByteOrder, m: Mmu) -> Translator:
    tcr = m.hdr["kh_tcr1"]
    regime = Regime.of(tcr)
    if regime is None:
        return Unavailable(f"kh_tcr1 is {tcr:#x}, its granule for TTBR1 (TG1) is reserved", 64)
    doubt = regime.doubt(tcr)
    if doubt:
        return Unavailable(f"kh_tcr1 is {tcr:#x}, {doubt}", 64)
    tables = Radix(paging(regime), regime.root(m.hdr["kh_ttbr1"]), m.read, order)
    otherwise = f"invalid kernel virtual address, TTBR1_EL1's tables are for {regime.base:#x} and above"
    return Regions(tables.name, 64, (Via(regime.base, 1 << 64, tables),), otherwise)


def _root(hdr: Mapping[str, Any]) -> int:
    regime = Regime.of(hdr["kh_tcr1"]) or Regime(12, 48, 48)
    return regime.root(hdr["kh_ttbr1"])


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Tell the page size by TCR_EL1, and the two headers by what stands where a count or the first segment would."""
    words = [int.from_bytes(headers.cpu_data[at : at + 8], machine.byteorder) for at in (0, 16, 24)]
    tcr, first, second = words
    regime = Regime.of(tcr)
    machine = replace(machine, page_size=regime.page if regime is not None else 4096)
    order = ("its numbers are big-endian",) if machine.byteorder == "big" else ()
    room = (len(headers.cpu_data) - HDR_2018.size) // PHYS_RAM_SEG.size
    # RAM begins at a multiple of the smallest page, whichever the tables have; 0 is no count where a size follows.
    begins = first > room if first else second > 0 and second % _SMALLEST == 0
    if begins and first % _SMALLEST == 0:
        machine = replace(machine, cpu_hdr=HDR_2014, ram=_ram_2014, segments_offset=_offset_2014)
        return Settled(machine, headers, ("the header of 2014, without kh_nramsegs", *order))
    if first > room:
        raise FormatError(
            f"this is not {machine.name}'s header: {first:#x} at byte 16 of the CPU data is neither a number of "
            f"RAM segments (0 to {room}) nor the start of one"
        )
    machine = replace(machine, cpu_hdr=HDR_2018, ram=_ram_2018, segments_offset=_offset_2018)
    return Settled(machine, headers, order)


def _decode_tcr(value: int, hdr: Mapping[str, Any]) -> str:
    return tcr_words(value)


def _decode_ttbr(value: int, hdr: Mapping[str, Any]) -> str:
    text = f"top table at pa {_root(hdr):#x}, ASID {value >> 48}"
    return text + (", CnP" if value & 1 else "")


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.aarch64_plan import NETBSD_4K, NETBSD_64K, NETBSD_2014

    return (NETBSD_4K, NETBSD_64K, NETBSD_2014)


def _samples_eb() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.aarch64_plan import NETBSD_EB

    return (NETBSD_EB,)


_LITTLE = Machine(
    system=NETBSD,
    arch="aarch64",
    mid=183,
    byteorder="little",
    long_bytes=8,
    page_size=4096,
    align_mask=15,
    translator="radix, by TCR_EL1",
    libkvm="4, 16 and 64 KiB granules, blocks",
    ours="also CnP, big-endian; reserved is unmapped",
    ports=("evbarm",),
    cpu_hdr=HDR_2018,
    ram=_ram_2018,
    segments_offset=_offset_2018,
    settle=_settle,
    root=_root,
    mmu=partial(_mmu, "little"),
    register_facts=(
        RegisterFact("kh_tcr1", 64, "TCR_EL1: how addresses are translated", _decode_tcr),
        RegisterFact("kh_ttbr1", 64, "TTBR1_EL1: where the translation of kernel addresses starts", _decode_ttbr),
    ),
    dumpmag_bytes=4,
    trapframes=(NETBSD_AARCH64,),
    frames=(LP64_CHAIN,),
    elf_machine="EM_AARCH64",
    samples=_samples,
)
#: Nothing but the byte order tells it from the usual one.
_BIG = replace(_LITTLE, byteorder="big", variant="eb", mmu=partial(_mmu, "big"), samples=_samples_eb)
MACHINE = replace(_LITTLE, forms=(_BIG,))
