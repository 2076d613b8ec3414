"""OpenBSD/i386. Sources: sys/arch/i386/include/kcore.h, pcb.h, machdep.c, pmap.c; lib/libkvm/kvm_i386.c.

There is no CPU header: its 504 bytes are whatever was on the kernel's stack. The kernel keeps the page directory's
address in a variable, so translation needs its symbols. Physical address p lies p bytes into the memory data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvmlib.errors import NotInDumpError, TruncatedError
from kvmlib.kcore import RamSeg
from kvmlib.ports.base import OPENBSD, Machine, Mmu, Pcb
from kvmlib.ports.trapframes import ILP32_CHAIN, OPENBSD_I386, OPENBSD_I386_OLD
from kvmlib.ports.x86_paging import i386, i386_pae
from kvmlib.translate import ReadPhysical, Translator, Unavailable
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan, SpacePlan

_WORDS = ("invalid address ({va:x})", "invalid address ({va:x})")
PLAIN = i386(_WORDS, _WORDS)
#: paddr_t has 32 bits here, with PAE too (machine/_types.h).
PAE = i386_pae(_WORDS, _WORDS, pa_bits=32)
#: KERNBASE has been 0xd0000000 since 2.9 and 0xe0000000 before (vmparam.h); kernels are smaller than 256 MiB.
KERNBASE_MASK = 0xF0000000
#: Entries of dumpmem[] (machdep.c: VM_PHYSSEG_MAX).
DUMPMEM_MAX = 16
FRAME = 0xFFFFF000
PAGE = 4096
#: Where a page directory maps itself: KERNBASE / NBPD - 1, with PAE - 4 (pmap.h).
PDSLOT_PTE = 831
PDSLOT_PTE_PAE = 1660
#: Memory searched for such a directory, in bytes; the kernel makes its own early.
EVIDENCE_RANGE = 256 << 20
_PIECE = 1 << 20


def _variable(m: Mmu, name: str, offset: int = 0) -> int | None:
    """Read a 32-bit variable of the kernel, which is mapped from KERNBASE on."""
    va = m.symbol(name)
    return None if va is None else int.from_bytes(m.read((va & ~KERNBASE_MASK) + offset, 4), "little")


def _mmu(m: Mmu) -> Translator:
    try:
        root = _variable(m, "PTDpaddr")
        pae = bool(_variable(m, "cpu_pae"))
    except (NotInDumpError, TruncatedError) as e:
        return Unavailable(f"PTDpaddr could not be read, {e}", 32)
    if root is None:
        return Unavailable(
            "this kernel keeps its page directory's address in its variable PTDpaddr, so its symbols are needed", 32
        )
    if root == 0 or root % 4096:
        return Unavailable(f"PTDpaddr holds {root:#x}, which is no page directory: is this the right kernel file?", 32)
    return Radix(PAE if pae else PLAIN, root, m.read, "little")


def _evidence(read: ReadPhysical, ram: Sequence[RamSeg]) -> str:
    """Look for a page directory that maps itself (PDSLOT_PTE, pmap.h): it holds its own address."""
    size = sum(s.size for s in ram)
    for at in range(0, min(size, EVIDENCE_RANGE), _PIECE):
        piece = read(at, min(_PIECE + 4 * PAGE, size - at))
        # First one byte of each page's two entries, as there may be thousands of headers to try: that of the address.
        for number, plain, pae in zip(
            range(at // PAGE, (at + _PIECE) // PAGE),
            piece[4 * PDSLOT_PTE + 2 :: PAGE],
            piece[8 * PDSLOT_PTE_PAE + 2 :: PAGE].ljust(_PIECE // PAGE, b"\0"),
            strict=False,
        ):
            byte = number >> 4 & 0xFF
            if byte not in (plain, pae):
                continue
            pa, i = number * PAGE, number * PAGE - at
            if _maps(piece, i + 4 * PDSLOT_PTE, pa):
                return f"the page directory at pa {pa:#x} maps itself in slot {PDSLOT_PTE}"
            if _maps(piece, i + 8 * PDSLOT_PTE_PAE, pa) and _maps(piece, i + 8 * PDSLOT_PTE_PAE + 8, pa + PAGE):
                return f"the four page directories at pa {pa:#x} map themselves from slot {PDSLOT_PTE_PAE} on"
    return ""


def _maps(piece: bytes, at: int, pa: int) -> bool:
    entry = int.from_bytes(piece[at : at + 4], "little")
    return pa != 0 and entry & 1 == 1 and entry & FRAME == pa


def _known_ram(m: Mmu) -> list[RamSeg]:
    """Return dumpmem[], the page ranges that dumpsys writes; empty where they can't be read or can't be true."""
    try:
        count = _variable(m, "ndumpmem") or 0
        pages = [
            (_variable(m, "dumpmem", 8 * i) or 0, _variable(m, "dumpmem", 8 * i + 4) or 0)
            for i in range(min(count, DUMPMEM_MAX))
        ]
    except (NotInDumpError, TruncatedError):
        return []
    if not all(0 < start < end <= 1 << 20 for start, end in pages):
        return []
    return [RamSeg(start << 12, end - start << 12) for start, end in pages]


def _sample_variables(space: SpacePlan, root: int, ram: Sequence[RamSeg]) -> dict[str, bytes]:
    """What the kernel of a sample has in the variables that are read above."""
    pae = space.variant == "pae"
    words = [page for s in ram for page in (s.start >> 12, s.start + s.size >> 12)]
    return {
        "PTDpaddr": struct.pack("<I", root),
        "PTDsize": struct.pack("<I", 0x4000 if pae else 0x1000),
        "cpu_pae": struct.pack("<I", pae),
        "ndumpmem": struct.pack("<I", len(ram)),
        "dumpmem": struct.pack(f"<{len(words)}I", *words).ljust(8 * DUMPMEM_MAX, b"\0"),
    }


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.plan import SamplePlan
    from kvmlib.ports.x86_plan import I386_CODE, LOCAL_APIC, OPENBSD_ATTACH, i386_space

    return (
        SamplePlan(
            text_va=0xD0200000,
            text_pa=0x200000,
            ram=(RamSeg(0x1000, 0x9E000), RamSeg(0x100000, 0x500000)),
            direct_va=None,
            stack_va=0xF3000000,
            heap_va=0xF4000000,
            user_fp=0xCFBD8C44,
            device_pa=LOCAL_APIC,
            device_symbol="local_apic",
            msgbuf_bytes=0x4000,
            spaces=(i386_space(PLAIN, self_map=831, pae=False), i386_space(PAE, self_map=1660, pae=True)),
            code=I386_CODE,
            cpu_hdr=None,
            variables=_sample_variables,
            trap_registers={"trapno": 3, "cs": 8, "ds": 0x10, "es": 0x10, "ss": 0x10, "eflags": 0x10202},
            nic="em0",
            cpu_model='Intel Pentium III ("GenuineIntel" 686-class)',
            attach=OPENBSD_ATTACH,
        ),
    )


MACHINE = Machine(
    system=OPENBSD,
    arch="i386",
    mid=134,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=3,
    translator="radix, 2 levels or PAE",
    libkvm="2 levels; PAE mostly wrong; no large pages",
    ours="PAE and large pages; by symbols",
    cpu_hdr=None,
    cpu_rest="whatever was on the kernel's stack: this system has no CPU header",
    ram=None,
    evidence=_evidence,
    known_ram=_known_ram,
    mmu=_mmu,
    dumpmag_bytes=4,
    pcb=Pcb(584, {"cr3": (520, 4), "esp": (524, 4), "ebp": (528, 4)}, sp="esp", fp="ebp", at_sp=("pc",)),
    # It began with a struct i386tss until the kernel stopped switching tasks in hardware (machine/pcb.h, tss.h).
    older_pcbs=(Pcb(104, {"cr3": (0x1C, 4), "esp": (0x38, 4), "ebp": (0x3C, 4)}, sp="esp", fp="ebp"),),
    trapframes=(OPENBSD_I386, OPENBSD_I386_OLD),
    frames=(ILP32_CHAIN,),
    elf_machine="EM_386",
    samples=_samples,
)
