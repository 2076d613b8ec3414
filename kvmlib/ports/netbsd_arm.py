"""NetBSD/arm. Sources: sys/arch/arm/include/{kcore,pcb}.h, arm32/kvm_machdep.c, cpuswitch.S; lib/libkvm/kvm_arm.c.

The old ABI and EABI have one machine id and the same structures, but align them to 4 and to 8 bytes. Big-endian ports
(earmeb and its like) write all in their own order, page tables included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kvmlib.errors import FormatError
from kvmlib.kcore import ByteOrder, CField, CStruct, Headers, Read
from kvmlib.ports.arm_paging import ARM as PAGING
from kvmlib.ports.base import NETBSD, Machine, Mmu, Pcb, RegisterFact, Settled, counted_ram
from kvmlib.ports.trapframes import ARM, ARM_FRAMES, NETBSD_ARM
from kvmlib.translate import Translator, Unavailable
from kvmlib.translate.linear import Regions, Via
from kvmlib.translate.radix import Radix

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan

#: The only one there is (cpu_dump writes it as a number).
VERSION = 1
#: KCORE_ARM_APX in flags (kcore.h): tables in another format, which no kernel has ever announced.
KCORE_ARM_APX = 1
#: What a first-level table must be aligned to (TTBR0, TTBR1).
L1_TABLE_SIZE = 0x4000
#: _ALIGNBYTES: sizeof(int) - 1 in the old ABI, sizeof(long long) - 1 in EABI.
OLD_ABI_ALIGN_MASK = 3
EABI_ALIGN_MASK = 7


def user_limit(hdr: Mapping[str, Any]) -> int:
    """Return the first va that the kernel's table is for; libkvm computes it so from the size of the user's."""
    return min(int(hdr["UserL1TableSize"]) << 17, 1 << 32)


def _mmu(order: ByteOrder, m: Mmu) -> Translator:
    if m.hdr["version"] != VERSION:
        return Unavailable(f"unsupported kcore structure version: {m.hdr['version']}, not {VERSION}", 32)
    if m.hdr["flags"]:
        return Unavailable(f"kcore flags not supported: flags is {m.hdr['flags']:#x}", 32)
    kernel = Radix(PAGING, m.hdr["PAKernelL1Table"], m.read, order)
    limit = user_limit(m.hdr)
    if not limit:
        return kernel
    user = Radix(PAGING, m.hdr["PAUserL1Table"], m.read, order)
    name = f"{kernel.name}; below va {limit:#x} at pa {user.root:#x}"
    return Regions(name, 32, (Via(0, limit, user), Via(limit, 1 << 32, kernel)), "")


def _settle(machine: Machine, headers: Headers, read: Read, image_size: int) -> Settled:
    """Tell the ABI by where the RAM segments begin: at ALIGN(sizeof(cpu_kcore_hdr_t))."""
    assert machine.cpu_hdr is not None
    size = machine.cpu_hdr.size
    omemsegs = machine.parse_cpu_hdr(headers.cpu_data)["omemsegs"]
    if omemsegs < size:
        raise FormatError(f"this is not {machine.name}'s header: omemsegs is {omemsegs}, its fields take {size} bytes")
    old = omemsegs == size
    machine = replace(machine, align_mask=OLD_ABI_ALIGN_MASK if old else EABI_ALIGN_MASK)
    if headers.form == "device":
        headers = headers._replace(kcore_hdr=machine.abi.kcore_hdr())
    reasons = [f"omemsegs is {'the old ABI' if old else 'EABI'}'s"]
    if machine.byteorder == "big":
        reasons.append("its numbers are big-endian")
    return Settled(machine, headers, tuple(reasons))


def _decode_version(value: int, hdr: Mapping[str, Any]) -> str:
    return "" if value == VERSION else f"not supported: version {VERSION} is known"


def _decode_flags(value: int, hdr: Mapping[str, Any]) -> str:
    return "KCORE_ARM_APX" if value == KCORE_ARM_APX else ""


def _decode_kernel_table(value: int, hdr: Mapping[str, Any]) -> str:
    text = f"first-level table of 4096 entries at pa {value:#x}, for va {user_limit(hdr):#x} and above"
    return text + (", not aligned to 16 KiB" if value % L1_TABLE_SIZE else "")


def _decode_user_table(value: int, hdr: Mapping[str, Any]) -> str:
    limit = user_limit(hdr)
    return f"first-level table at pa {value:#x}, for all below va {limit:#x}" if limit else "none"


def _decode_user_size(value: int, hdr: Mapping[str, Any]) -> str:
    limit = user_limit(hdr)
    return f"addresses below {limit:#x} are the user table's" if limit else "there is no user table"


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.arm_plan import BEAGLE, IQ80321

    return (BEAGLE, IQ80321)


def _samples_eb() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.arm_plan import BEAGLE_EB

    return (BEAGLE_EB,)


_LITTLE = Machine(
    system=NETBSD,
    arch="arm",
    mid=143,
    byteorder="little",
    long_bytes=4,
    page_size=4096,
    align_mask=EABI_ALIGN_MASK,
    translator="radix, 2 levels",
    libkvm="2 levels, sections, 64, 4 and 1 KiB pages",
    ours="also supersections, fine tables, big-endian",
    ports=("acorn32", "cats", "epoc32", "evbarm", "hpcarm", "iyonix", "netwinder", "shark", "zaurus"),
    cpu_hdr=CStruct(
        "cpu_kcore_hdr_t",
        "sys/arch/arm/include/kcore.h",
        28,
        (
            CField(0, "u32", "version", "uint32_t", "version of this structure: 1"),
            CField(4, "u32", "flags", "uint32_t", "flags: 0, as KCORE_ARM_APX was never used"),
            CField(8, "u32", "PAKernelL1Table", "uint32_t", "pa of the kernel's first-level table"),
            CField(12, "u32", "PAUserL1Table", "uint32_t", "pa of a process's first-level table; kernels leave it 0"),
            CField(16, "u16", "UserL1TableSize", "uint16_t", "size of that table; kernels write 0"),
            CField(20, "u32", "nmemsegs", "uint32_t", "number of RAM segments"),
            CField(24, "u32", "omemsegs", "uint32_t", "where they begin, in bytes from the start of this structure"),
        ),
    ),
    ram=counted_ram("nmemsegs"),
    segments_offset=lambda hdr: int(hdr["omemsegs"]),
    settle=_settle,
    root=lambda hdr: int(hdr["PAKernelL1Table"]),
    mmu=partial(_mmu, "little"),
    register_facts=(
        RegisterFact("version", 32, "version of the CPU header", _decode_version),
        RegisterFact("flags", 32, "what is special about the page tables", _decode_flags),
        RegisterFact("PAKernelL1Table", 32, "where the translation of kernel addresses starts", _decode_kernel_table),
        RegisterFact("PAUserL1Table", 32, "where the translation of user addresses starts", _decode_user_table),
        RegisterFact("UserL1TableSize", 16, "which addresses are the user's", _decode_user_size),
        RegisterFact("nmemsegs", 32, "number of RAM segments"),
    ),
    dumpmag_bytes=4,
    pcb=Pcb(
        632,
        {"r8": (0, 4), "r9": (4, 4), "r10": (8, 4), "r11": (12, 4), "r12": (16, 4), "sp": (20, 4)},
        sp="sp",
        fp="r11",
        # savectx pushes these; ip is the sp of dumpsys.
        at_sp=("r4", "r5", "r6", "r7", "ip", "pc"),
    ),
    trapframes=(NETBSD_ARM, ARM),
    frames=ARM_FRAMES,
    elf_machine="EM_ARM",
    samples=_samples,
)
#: Nothing but the byte order tells it from the usual one.
_BIG = replace(_LITTLE, byteorder="big", variant="eb", mmu=partial(_mmu, "big"), samples=_samples_eb)
MACHINE = replace(_LITTLE, forms=(_BIG,))
