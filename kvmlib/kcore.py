"""The on-disk structures of kvm_dump(3), declared once with construct, parsed and built in both forms.

Source of the facts: sys/kcore.h and lib/libkvm/kvm.c of both systems. There are two forms:

* *device*: what the kernel writes. One ``kcore_seg`` with KCORE_MAGIC and CORE_CPU, the CPU data, then memory.
* *savecore*: what savecore(8) makes of it. ``kcore_hdr``, a CORE_CPU segment, a CORE_DATA segment header, then memory.

construct knows no types, so nothing of it leaves this module.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import construct

from kvmlib.errors import FormatError

KCORE_MAGIC = 0x8FCA
KCORESEG_MAGIC = 0x8FAC
CORE_CPU = 1
CORE_DATA = 2
CORE_STACK = 4
#: More bytes of CPU data are not believed: a sparse dump has a segment of 16 bytes for each run of pages, and there is
#: room for a million.
MOST_CPU_DATA = 16 << 20
FLAG_NAMES = {0: "0", CORE_CPU: "CORE_CPU", CORE_DATA: "CORE_DATA", CORE_STACK: "CORE_STACK"}

ByteOrder = Literal["little", "big"]
Form = Literal["device", "savecore"]
#: ``read(offset, n)`` of an image: short where it ends.
Read = Callable[[int, int], bytes]

_MIDMAG = construct.BitStruct(
    "flag" / construct.BitsInteger(6), "mid" / construct.BitsInteger(10), "magic" / construct.BitsInteger(16)
)
_WIRE = {
    "little": {
        "u8": construct.Int8ul,
        "u16": construct.Int16ul,
        "u32": construct.Int32ul,
        "i32": construct.Int32sl,
        "u64": construct.Int64ul,
    },
    "big": {
        "u8": construct.Int8ub,
        "u16": construct.Int16ub,
        "u32": construct.Int32ub,
        "i32": construct.Int32sb,
        "u64": construct.Int64ub,
    },
}
_WIRE_BYTES = {"char": 1, "u8": 1, "u16": 2, "u32": 4, "i32": 4, "u64": 8, "midmag": 4}


class MidMag(NamedTuple):
    """``c_midmag`` taken apart: always big-endian on disk, whatever the machine (sys/kcore.h)."""

    flag: int
    mid: int
    magic: int

    @classmethod
    def parse(cls, data: bytes) -> MidMag:
        """Take the four bytes apart."""
        bits = _MIDMAG.parse(data)
        return cls(bits.flag, bits.mid, bits.magic)

    @classmethod
    def of(cls, value: int) -> MidMag:
        """Take the number apart."""
        return cls(value >> 26 & 0x3F, value >> 16 & 0x3FF, value & 0xFFFF)

    @property
    def value(self) -> int:
        """The 32-bit number."""
        return self.flag << 26 | self.mid << 16 | self.magic


@dataclass(frozen=True, slots=True)
class CField:
    """One field of a C structure as it lies on disk.

    Attributes:
        offset: bytes from the start of the structure.
        wire: u8, u16, u32, i32, u64, midmag (32 bits, big-endian on every machine), or char (text up to a NUL).
        name: the field's name in C.
        ctype: its type as the header file spells it.
        meaning: one line for a person.
        count: number of elements when it is an array.
    """

    offset: int
    wire: str
    name: str
    ctype: str
    meaning: str
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return _WIRE_BYTES[self.wire] * self.count


class CStruct(NamedTuple):
    """A C structure as facts that can be checked against its header file line by line."""

    name: str
    header: str
    size: int
    fields: tuple[CField, ...]

    def parse(self, data: bytes, order: ByteOrder) -> dict[str, Any]:
        """Return the fields by name; arrays as tuples, text (of latin-1, so nothing is lost) as str.

        Raises:
            FormatError: `data` is shorter than the structure.
        """
        if len(data) < self.size:
            raise FormatError(f"{self.name} needs {self.size} bytes, but only {len(data)} are there")
        values = _construct(self, order).parse(data)
        return {f.name: _python(f, values[f.name]) for f in self.fields}

    def build(self, values: Mapping[str, Any], order: ByteOrder) -> bytes:
        """Return the structure's bytes, gaps as zeros."""
        texts = {f.name: f.size for f in self.fields if f.wire == "char"}
        plain = {k: v.encode("latin-1").ljust(texts[k], b"\0") if k in texts else v for k, v in values.items()}
        return bytes(_construct(self, order).build(plain))


def _python(f: CField, value: Any) -> Any:
    if f.wire == "char":
        return bytes(value).partition(b"\0")[0].decode("latin-1")
    return tuple(value) if f.count > 1 else int(value)


@functools.cache
def _construct(layout: CStruct, order: ByteOrder) -> Any:
    parts: list[Any] = []
    at = 0
    for f in layout.fields:
        if f.offset > at:
            parts.append(construct.Padding(f.offset - at))
        parts.append(f.name / _wire(f, order) * f.meaning)
        at = f.offset + f.size
    if layout.size > at:
        parts.append(construct.Padding(layout.size - at))
    return construct.Struct(*parts)


def _wire(f: CField, order: ByteOrder) -> Any:
    if f.wire == "char":
        return construct.Bytes(f.count)
    wire = construct.Int32ub if f.wire == "midmag" else _WIRE[order][f.wire]
    return construct.Array(f.count, wire) if f.count > 1 else wire


KCORE_HDR = CStruct(
    "struct kcore_hdr",
    "sys/kcore.h",
    12,
    (
        CField(0, "midmag", "c_midmag", "uint32_t", "flags, machine id and KCORE_MAGIC; big-endian on every machine"),
        CField(4, "u16", "c_hdrsize", "uint16_t", "bytes of this header, alignment included"),
        CField(6, "u16", "c_seghdrsize", "uint16_t", "bytes of a segment header, alignment included"),
        CField(8, "u32", "c_nseg", "uint32_t", "number of segments: CORE_CPU and CORE_DATA"),
    ),
)
KCORE_SEG = CStruct(
    "struct kcore_seg",
    "sys/kcore.h",
    8,
    (
        CField(0, "midmag", "c_midmag", "uint32_t", "flag, machine id and magic; big-endian on every machine"),
        CField(4, "u32", "c_size", "uint32_t", "bytes in this segment, without this header"),
    ),
)
PHYS_RAM_SEG = CStruct(
    "phys_ram_seg_t",
    "sys/kcore.h",
    16,
    (
        CField(0, "u64", "start", "uint64_t", "physical address of the first byte"),
        CField(8, "u64", "size", "uint64_t", "bytes"),
    ),
)


class RamSeg(NamedTuple):
    """A run of RAM: physical start address and size, in bytes (phys_ram_seg_t)."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class KcoreHdr:
    """``kcore_hdr``: the numbers as they stand in the file (or as mkheader makes them for a device)."""

    c_midmag: int
    c_hdrsize: int
    c_seghdrsize: int
    c_nseg: int

    @property
    def midmag(self) -> MidMag:
        """``c_midmag`` taken apart."""
        return MidMag.of(self.c_midmag)


class Abi(NamedTuple):
    """What a machine's C compiler makes of these structures.

    Attributes:
        mid: machine id (sys/exec_aout.h).
        order: byte order.
        align_mask: ``_ALIGNBYTES`` of machine/param.h, so ALIGN(n) = (n + align_mask) & ~align_mask.
    """

    mid: int
    order: ByteOrder
    align_mask: int

    def align(self, n: int) -> int:
        """ALIGN(n)."""
        return (n + self.align_mask) & ~self.align_mask

    def kcore_hdr(self) -> KcoreHdr:
        """The header that mkheader makes for this machine."""
        midmag = MidMag(0, self.mid, KCORE_MAGIC)
        return KcoreHdr(midmag.value, self.align(KCORE_HDR.size), self.align(KCORE_SEG.size), 2)


class Headers(NamedTuple):
    """A dump's headers.

    Attributes:
        form: which form they were found in.
        offset: file offset of the first header, in bytes.
        kcore_hdr: as found, or as made for a device.
        cpu_data: the CORE_CPU segment's contents.
        cpu_off: file offset of `cpu_data`.
        data_off: file offset of the first byte of memory.
        data_size: the CORE_DATA segment's c_size (low 32 bits of the real size), or None on a device.
    """

    form: Form
    offset: int
    kcore_hdr: KcoreHdr
    cpu_data: bytes
    cpu_off: int
    data_off: int
    data_size: int | None

    def promised(self, left: int) -> int | None:
        """Return the bytes of memory that CORE_DATA promises, `left` being there; None on a device.

        Its c_size has 32 bits: the file's length tells how many times 4 GiB come to that.
        """
        if self.data_size is None:
            return None
        return self.data_size + (max(0, left - self.data_size) >> 32 << 32)


def read_device(read: Read, size: int, offset: int, abi: Abi, least: int) -> Headers:
    """Read the header that a kernel wrote on its dump device at `offset` (bytes).

    `least` is the smallest believable CPU segment in bytes, `size` the image's size in bytes.

    Raises:
        FormatError: no header, another machine's, or one that can't be true; the bytes found are named.
    """
    align = abi.align(KCORE_SEG.size)
    raw = read(offset, KCORE_SEG.size)
    if len(raw) < KCORE_SEG.size:
        raise FormatError(
            f"no dump header at {offset:#x}: {KCORE_SEG.size} bytes were expected there, "
            f"but the image ends at {size:#x}, so {len(raw)} are left"
        )
    midmag = MidMag.parse(raw[:4])
    if midmag.magic != KCORE_MAGIC or midmag.mid != abi.mid:
        raise FormatError(
            f"no dump header at {offset:#x}: invalid magic in cpu_hdr, "
            f"{MidMag(CORE_CPU, abi.mid, KCORE_MAGIC).value:08x} was expected and {raw[:4].hex()} is there"
        )
    if midmag.flag != CORE_CPU:
        raise FormatError(
            f"no dump header at {offset:#x}: the flag in {raw[:4].hex()} is {midmag.flag}, "
            f"a dump device has CORE_CPU ({CORE_CPU}) there"
        )
    c_size = KCORE_SEG.parse(raw, abi.order)["c_size"]
    most = min(MOST_CPU_DATA, max(0, size - offset - align))
    if not max(least, 1) <= c_size <= most:
        raise FormatError(
            f"no dump header at {offset:#x}: invalid size in cpu_hdr, c_size is {c_size}, "
            f"{max(least, 1)} to {most} bytes were expected"
        )
    cpu = read(offset + align, c_size)
    if len(cpu) < c_size:
        raise FormatError(
            f"the dump header at {offset:#x} is cut off: {len(cpu)} of {c_size} bytes of CPU data are left"
        )
    cpu_off = offset + align
    return Headers("device", offset, abi.kcore_hdr(), cpu, cpu_off, cpu_off + c_size, None)


def read_saved(read: Read, size: int, order: ByteOrder) -> Headers:
    """Read the headers of a file that savecore(8) wrote; any machine of that byte order.

    Sizes are taken from the file, as libkvm does, not from the machine's alignment rules.

    Raises:
        FormatError: this isn't a saved core, or its headers are damaged; what was found is named.
    """
    raw = read(0, KCORE_HDR.size)
    if len(raw) < KCORE_HDR.size or MidMag.parse(raw[:4]).magic != KCORE_MAGIC:
        raise FormatError(
            f"not a saved core: KCORE_MAGIC (8fca) was expected at byte 2, {raw[2:4].hex() or 'nothing'} is there"
        )
    hdr = KcoreHdr(**KCORE_HDR.parse(raw, order))
    if hdr.c_nseg != 2:
        raise FormatError(f"not a saved core: c_nseg is {hdr.c_nseg}, 2 segments were expected")
    if hdr.c_hdrsize < KCORE_HDR.size or hdr.c_seghdrsize < KCORE_SEG.size:
        raise FormatError(
            f"not a saved core: c_hdrsize {hdr.c_hdrsize} or c_seghdrsize {hdr.c_seghdrsize} is too small"
        )
    c_size = _read_segment(read, size, hdr.c_hdrsize, CORE_CPU, order)
    cpu_off = hdr.c_hdrsize + hdr.c_seghdrsize
    if cpu_off + c_size > size:
        raise FormatError(
            f"damaged saved core: the CORE_CPU segment has {c_size} bytes, but the file ends at {size:#x}"
        )
    if c_size > MOST_CPU_DATA:
        raise FormatError(
            f"damaged saved core: the CORE_CPU segment has {c_size} bytes, at most {MOST_CPU_DATA} were expected"
        )
    data_size = _read_segment(read, size, cpu_off + c_size, CORE_DATA, order)
    data_off = cpu_off + c_size + hdr.c_seghdrsize
    return Headers("savecore", 0, hdr, read(cpu_off, c_size), cpu_off, data_off, data_size)


def _read_segment(read: Read, size: int, offset: int, flag: int, order: ByteOrder) -> int:
    raw = read(offset, KCORE_SEG.size)
    if len(raw) < KCORE_SEG.size:
        raise FormatError(
            f"damaged saved core: {FLAG_NAMES[flag]} should begin at {offset:#x}, but the file ends at {size:#x}"
        )
    midmag = MidMag.parse(raw[:4])
    if midmag.magic != KCORESEG_MAGIC or midmag.flag != flag:
        raise FormatError(
            f"damaged saved core: {FLAG_NAMES[flag]} with KCORESEG_MAGIC ({MidMag(flag, 0, KCORESEG_MAGIC).value:08x}) "
            f"was expected at {offset:#x}, {raw[:4].hex()} is there"
        )
    return int(KCORE_SEG.parse(raw, order)["c_size"])


def build_device(abi: Abi, cpu_data: bytes) -> bytes:
    """Build the header block that a kernel writes on its dump device."""
    seg = {"c_midmag": MidMag(CORE_CPU, abi.mid, KCORE_MAGIC).value, "c_size": len(cpu_data)}
    return KCORE_SEG.build(seg, abi.order).ljust(abi.align(KCORE_SEG.size), b"\0") + cpu_data


def build_saved(abi: Abi, hdr: KcoreHdr, cpu_data: bytes, dumpsize: int) -> bytes:
    """Build the headers of a saved core.

    `dumpsize` is the memory's size in bytes. The field has 32 bits and the systems write its low 32 bits, so we do.
    """
    c_size = abi.align(len(cpu_data))

    def segment(flag: int, n: int) -> bytes:
        seg = {"c_midmag": MidMag(flag, 0, KCORESEG_MAGIC).value, "c_size": n & 0xFFFFFFFF}
        return KCORE_SEG.build(seg, abi.order).ljust(hdr.c_seghdrsize, b"\0")

    fields = {
        "c_midmag": hdr.c_midmag,
        "c_hdrsize": hdr.c_hdrsize,
        "c_seghdrsize": hdr.c_seghdrsize,
        "c_nseg": hdr.c_nseg,
    }
    return b"".join(
        (
            KCORE_HDR.build(fields, abi.order).ljust(hdr.c_hdrsize, b"\0"),
            segment(CORE_CPU, c_size),
            cpu_data.ljust(c_size, b"\0"),
            segment(CORE_DATA, dumpsize),
        )
    )


def parse_ram_segs(data: bytes, order: ByteOrder, offset: int, count: int, field: str) -> list[RamSeg]:
    """Read `count` phys_ram_seg structures at `offset` of the CPU data.

    There may be 100,000 of them (sparse dumps), so they are unpacked in one go; a test holds it equal to PHYS_RAM_SEG.

    Raises:
        FormatError: the CPU data has no room for so many; `field` is the C name of the count.
    """
    room = max(0, (len(data) - offset) // PHYS_RAM_SEG.size)
    if not 0 <= count <= room:
        raise FormatError(f"{field} is {count}, but the CPU data of {len(data)} bytes has room for {room} segments")
    pairs = struct.iter_unpack("<QQ" if order == "little" else ">QQ", data[offset : offset + count * PHYS_RAM_SEG.size])
    return [RamSeg(start, size) for start, size in pairs]


def build_ram_segs(segments: Iterable[RamSeg], order: ByteOrder) -> bytes:
    """Build an array of phys_ram_seg."""
    return b"".join(struct.pack("<QQ" if order == "little" else ">QQ", s.start, s.size) for s in segments)
