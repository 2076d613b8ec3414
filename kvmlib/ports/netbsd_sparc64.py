"""NetBSD/sparc64. Sources: sys/arch/sparc64/include/{kcore,pte,pcb}.h, pmap.c, machdep.c; lib/libkvm/kvm_sparc64.c.

The header of old kernels ends with kdatasz. In newer ones newmagic follows: text and data may then be in any number of
locked 4 MB entries, and each CPU has its own memory behind the same addresses.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvmlib.errors import FormatError
from kvmlib.kcore import CField, CStruct, Headers, Read
from kvmlib.ports import sparc, sparc64
from kvmlib.ports.base import NETBSD, Machine, Mmu, Pcb, RegisterFact, Settled
from kvmlib.ports.trapframes import SPARC64, SPARC64_FRAMES
from kvmlib.translate import Translator
from kvmlib.translate.linear import Window

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: SPARC64_KCORE_NEWMAGIC (kcore.h).
NEWMAGIC = 0x3AFEC01E
NEW_SIZE = 152
#: PAGE_SIZE_4M (vmparam.h).
_4M = 4 << 20
#: The CPU's own memory begins that far below its struct cpu_info (INTSTACK to CPUINFO_VA in param.h).
_BELOW_CPUBASE = 32 << 10
#: Locked blocks that the header's fields are made to show: no TLB has room for more.
_SHOWN = 64
_WORDS = "invalid address ({va:#x})"
_SUN4U = sparc64.paging(0x000007FFFFFFE000, sparc64.words, _WORDS)
_SUN4V = sparc64.paging(0x00FFFFFFFFFFE000, sparc64.words_sun4v, _WORDS)

OLD_HDR = CStruct("cpu_kcore_hdr_t", sparc64.HEADER, 96, sparc64.FIELDS)
_NEW_FIELDS = (
    *sparc64.FIELDS,
    CField(96, "u64", "newmagic", "uint64_t", "SPARC64_KCORE_NEWMAGIC: the fields that follow are there"),
    CField(104, "u64", "num4mbsegs", "uint64_t", "number of locked 4 MB blocks (struct cpu_kcore_4mbseg)"),
    CField(112, "u64", "off4mbsegs", "uint64_t", "where they are, in bytes from the start of this header"),
    CField(120, "u64", "numcpuinfos", "uint64_t", "number of CPUs whose own memory is known; 0: it isn't"),
    CField(128, "u64", "percpusz", "uint64_t", "bytes of a CPU's own memory, all at the same va"),
    CField(136, "u64", "thiscpu", "uint64_t", "number of the CPU that dumped"),
    CField(144, "u64", "cpusp", "uint64_t", "pa of the first CPU's own memory; the others' follows"),
)


def _is_new(hdr: Mapping[str, Any]) -> bool:
    """Tell whether the fields from newmagic on count."""
    return hdr["memsegoffset"] > NEW_SIZE and hdr.get("newmagic") == NEWMAGIC


# -- what is locked ----------------------------------------------------------------------------------------------------


def _check_blocks(hdr: Mapping[str, Any], cpu_data: bytes) -> None:
    count, at = hdr["num4mbsegs"], hdr["off4mbsegs"]
    if count and not NEW_SIZE <= at <= len(cpu_data):
        raise FormatError(
            f"off4mbsegs is {at:#x}, but the 4 MB blocks can only be at {NEW_SIZE:#x}, behind the header, "
            f"to {len(cpu_data):#x}, the end of the CPU data"
        )
    room = max(0, len(cpu_data) - at) // 16
    if count > room:
        raise FormatError(f"num4mbsegs is {count}, but behind off4mbsegs the CPU data has room for {room}")


def _blocks(hdr: Mapping[str, Any], cpu_data: bytes) -> list[tuple[int, int]]:
    """Return va and pa of each locked 4 MB block."""
    _check_blocks(hdr, cpu_data)
    start = hdr["off4mbsegs"]
    ends = range(start, start + 16 * hdr["num4mbsegs"], 16)
    return [(int.from_bytes(cpu_data[at : at + 8]), int.from_bytes(cpu_data[at + 8 : at + 16])) for at in ends]


def _windows(m: Mmu) -> list[Window]:
    hdr = m.hdr
    if not _is_new(hdr):
        return sparc64.text_and_data(hdr)
    windows = []
    for i, (va, pa) in enumerate(_blocks(hdr, m.cpu_data)):
        windows += sparc64.block(f"locked 4 MB block {i}", va, pa, _4M)
    if hdr["numcpuinfos"]:
        windows += sparc64.block(f"CPU {hdr['thiscpu']}'s own memory", _own_va(hdr), _own_pa(hdr), hdr["percpusz"])
    return windows


def _own_va(hdr: Mapping[str, Any]) -> int:
    return int(hdr["cpubase"] - _BELOW_CPUBASE) % (1 << 64)


def _own_pa(hdr: Mapping[str, Any]) -> int:
    return int(hdr["cpusp"] + hdr["thiscpu"] * hdr["percpusz"]) % (1 << 64)


def _mmu(m: Mmu) -> Translator:
    form = _SUN4V if m.hdr["cputype"] == sparc64.SUN4V else _SUN4U
    return sparc64.translator(m, form, _windows(m), _WORDS, "invalid address (0)")


# -- the new header ----------------------------------------------------------------------------------------------------


def _decode_newmagic(value: int, hdr: Mapping[str, Any]) -> str:
    return "SPARC64_KCORE_NEWMAGIC" if value == NEWMAGIC else "no magic, so the fields behind it don't count"


def _decode_blocks(value: int, hdr: Mapping[str, Any]) -> str:
    return f"{value} locked 4 MB blocks at byte {hdr['off4mbsegs']} of the CPU data"


def _decode_cpus(value: int, hdr: Mapping[str, Any]) -> str:
    return f"{value} CPU{'s' if value > 1 else ''}" if value else "the CPUs' own memory is not described"


def _decode_percpusz(value: int, hdr: Mapping[str, Any]) -> str:
    return f"{sparc.size_text(value)} at va {_own_va(hdr):#x}"


def _decode_cpusp(value: int, hdr: Mapping[str, Any]) -> str:
    return f"that of CPU {hdr['thiscpu']} is at pa {_own_pa(hdr):#x}"


def _decode_block(value: int, hdr: Mapping[str, Any], i: int) -> str:
    return sparc64.range_text(value, hdr[f"4mbseg[{i}].pa"], _4M)


_OLD_FACTS = sparc64.register_facts(sparc.decode_nmemseg)
_NEW_FACTS = (
    *_OLD_FACTS,
    RegisterFact("newmagic", 64, "whether the fields behind it count", _decode_newmagic),
    RegisterFact("num4mbsegs", 64, "number of locked 4 MB blocks", _decode_blocks),
    RegisterFact("numcpuinfos", 64, "number of CPUs whose own memory is known", _decode_cpus),
    RegisterFact("percpusz", 64, "size of a CPU's own memory", _decode_percpusz),
    RegisterFact("thiscpu", 64, "the CPU that dumped"),
    RegisterFact("cpusp", 64, "where the CPUs' own memory is", _decode_cpusp),
)


@functools.cache
def _new_form(count: int, at: int) -> dict[str, Any]:
    """Return what a machine with the new header has else, `count` blocks at `at` behind the header included."""
    fields, facts = list(_NEW_FIELDS), list(_NEW_FACTS)
    for i in range(count):
        va, pa = f"4mbseg[{i}].va", f"4mbseg[{i}].pa"
        fields.append(CField(at + 16 * i, "u64", va, "uint64_t", f"va of locked 4 MB block {i}"))
        fields.append(CField(at + 16 * i + 8, "u64", pa, "uint64_t", f"pa of locked 4 MB block {i}"))
        facts.append(RegisterFact(va, 64, f"locked 4 MB block {i}", functools.partial(_decode_block, i=i)))
    size = at + 16 * count if count else NEW_SIZE
    return {"cpu_hdr": CStruct(OLD_HDR.name, OLD_HDR.header, size, tuple(fields)), "register_facts": tuple(facts)}


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Tell the two headers by newmagic, and where the RAM segments begin."""
    data = headers.cpu_data
    new = CStruct(OLD_HDR.name, OLD_HDR.header, NEW_SIZE, _NEW_FIELDS)
    hdr = new.parse(data, "big") if len(data) >= NEW_SIZE else OLD_HDR.parse(data, "big")
    if not _is_new(hdr):
        return Settled(replace(machine, **OLD), headers, ("the old header, without newmagic",))
    _check_blocks(hdr, data)
    count, at = hdr["num4mbsegs"], hdr["off4mbsegs"]
    # Blocks elsewhere than before the RAM segments aren't written by any kernel: they count, but aren't shown.
    shown = min(count, _SHOWN) if at + 16 * count <= hdr["memsegoffset"] else 0
    return Settled(replace(machine, **_new_form(shown, at if shown else 0)), headers)


OLD: dict[str, Any] = {"cpu_hdr": OLD_HDR, "register_facts": _OLD_FACTS}


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports import sparc64_plan

    return sparc64_plan.netbsd(_SUN4U, OLD_HDR, _new_form(2, 160)["cpu_hdr"])


MACHINE = Machine(
    system=NETBSD,
    arch="sparc64",
    mid=156,
    byteorder="big",
    long_bytes=8,
    page_size=sparc64.PAGE,
    align_mask=15,
    translator="locked blocks, radix, 3 levels",
    libkvm="locked blocks, 3 levels; sun4u only",
    ours="also the first byte of the blocks in old headers; sun4v",
    settle=_settle,
    cpu_rest="what the kernel's 512-byte buffer held before",
    ram=sparc.ram,
    segments_offset=sparc.segments_offset,
    root=sparc64.root,
    mmu=_mmu,
    dumpmag_bytes=4,
    pcb=Pcb(1064, {"sp": (0, 8), "pc": (8, 8), "pstate": (24, 2), "cwp": (27, 1), "pil": (28, 1)}, sp="sp"),
    trapframes=(SPARC64,),
    frames=SPARC64_FRAMES,
    elf_machine="EM_SPARCV9",
    samples=_samples,
    **OLD,
)
