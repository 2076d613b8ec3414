"""What the parts of a whole disk are called: MBR, GPT and BSD disklabels. Nothing that is found here is ever needed.

Sources: sys/disklabel.h and machine/disklabel.h of both systems (DISKMAGIC, LABELSECTOR, LABELOFFSET),
sys/disklabel_gpt.h, sys/bootblock.h.
"""

from __future__ import annotations

import itertools
import re
import string
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from kvmlib.errors import KvmError

#: ``read(offset, n)`` of an image: short where it ends.
Read = Callable[[int, int], bytes]

_SECTORS = (512, 4096)
_TOP = 1 << 64
#: Labels lie in one of the first sectors of the disk or slice, at an offset that differs from port to port: 0, 64, 128.
_LABEL_AREA = 16
_LABEL_ALIGN = 4
#: Most places in there that are looked at: each label has its magic twice.
_MOST_PLACES = 64
#: Slices that may begin with a label, and the most of them that are looked at.
_LABELLED, _MOST_SLICES = ("openbsd", "netbsd", "freebsd"), 32
#: struct disklabel: d_magic, d_magic2; the label without partitions; one partition; the most there can be (OpenBSD).
_DISKMAGIC = 0x82564557
_MAGIC2_AT, _LABEL_BYTES, _PARTITION_BYTES, _MOST_LABELLED = 132, 148, 16, 64
_LETTERS = string.ascii_lowercase + string.ascii_uppercase
#: Most logical partitions of an MBR, and most entries of a GPT that are looked at.
_MOST_LOGICAL, _MOST_GPT = 128, 1024
_GPT_HEADER = struct.Struct("<8sIIII4Q16sQIII")

#: p_fstype. From 18 on the two systems differ, and a label doesn't say whose it is.
_FSTYPES = (
    "unused",
    "swap",
    "Version 6",
    "Version 7",
    "System V",
    "4.1BSD",
    "Eighth Edition",
    "4.2BSD",
    "MSDOS",
    "4.4LFS",
    "unknown",
    "HPFS",
    "ISO9660",
    "boot",
    "ADOS",
    "HFS",
    "ADFS",
    "ext2fs",
)
_RAID = 19
#: The type byte of an MBR's entry.
_MBR_TYPES = {
    0x01: "FAT12",
    0x04: "FAT16",
    0x06: "FAT16",
    0x07: "NTFS",
    0x0B: "FAT32",
    0x0C: "FAT32",
    0x0E: "FAT16",
    0x82: "Linux swap",
    0x83: "Linux",
    0xA5: "FreeBSD",
    0xA6: "OpenBSD",
    0xA9: "NetBSD",
    0xEF: "EFI",
}
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
#: The type GUID of a GPT's entry.
_GPT_TYPES = {
    "49f48d32-b10e-11dc-b99b-0019d1879648": "netbsd-swap",
    "49f48d5a-b10e-11dc-b99b-0019d1879648": "netbsd-ffs",
    "49f48d82-b10e-11dc-b99b-0019d1879648": "netbsd-lfs",
    "49f48daa-b10e-11dc-b99b-0019d1879648": "netbsd-raid",
    "2db519c4-b10f-11dc-b99b-0019d1879648": "netbsd-ccd",
    "2db519ec-b10f-11dc-b99b-0019d1879648": "netbsd-cgd",
    "824cc7a0-36a8-11e3-890a-952519ad3f61": "openbsd",
    "516e7cb5-6ecf-11d6-8ff8-00022d09712b": "freebsd-swap",
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "freebsd-ufs",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "efi",
    "21686148-6449-6e6f-744e-656564454649": "bios",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "linux-data",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "linux-swap",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "windows",
}


class Partition(NamedTuple):
    """A part of a disk, as one of its tables has it.

    Attributes:
        name: printable: which table, which entry, and in brackets what it is for: ``disklabel b (swap)``.
        start: offset of its first byte in the image.
        size: bytes, as the table says; the image may end before.
        fstype: what it is for, a word or two.
    """

    name: str
    start: int
    size: int
    fstype: str

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.start + self.size


def partitions(read: Read, size: int) -> list[Partition]:
    """Return the partitions of a whole disk, by where they begin; none where there is no table.

    Entries that are empty, unused, or begin behind the end are left out. Nothing here raises: a disk that can't be
    read, or whose tables are damaged, has no partitions.

    Args:
        read: ``read(offset, n)``, short where the disk ends.
        size: bytes of the image.
    """

    def careful(offset: int, n: int) -> bytes:
        with suppress(KvmError):
            return read(offset, n) if 0 <= offset < size else b""
        return b""

    tables = [_Tables.read(careful, size, sector) for sector in _SECTORS]
    # An MBR doesn't say how large a sector is; the others do, by where they are.
    best = max(tables, key=lambda t: (bool(t.labelled), t.gpt))
    found = [p for p in (*best.slices, *best.labelled) if p.size > 0 and p.start < size and p.end <= _TOP]
    return sorted(dict.fromkeys(found), key=lambda p: (p.start, -p.size))


def smallest_around(parts: Iterable[Partition], offset: int) -> Partition | None:
    """Return the smallest of these partitions that the byte at `offset` lies in; None if it lies in none."""
    around = [p for p in parts if p.start <= offset < p.end]
    return min(around, key=lambda p: p.size, default=None)


class _Tables(NamedTuple):
    """What is found if a sector has so many bytes."""

    slices: tuple[Partition, ...]
    labelled: tuple[Partition, ...]
    gpt: bool

    @classmethod
    def read(cls, read: Read, size: int, sector: int) -> _Tables:
        by_gpt = tuple(_gpt(read, size, sector))
        slices = by_gpt or tuple(_mbr(read, sector))
        bases = [s.start for s in slices if s.fstype.lower() in _LABELLED][:_MOST_SLICES]
        # A label counts from the start of the disk. In an image of its slice alone it would lead astray.
        whole = size if not slices else _TOP
        labelled = tuple(p for base in (0, *bases) for p in _labels(read, base, sector, whole))
        return cls(slices, labelled, bool(by_gpt))


# -- MBR -------------------------------------------------------------------------------------------------------------


def _mbr(read: Read, sector: int) -> Iterator[Partition]:
    """Yield the primary and logical partitions of an MBR (sys/bootblock.h, struct mbr_sector)."""
    logical = 0
    for number, (kind, start, count) in enumerate(_mbr_entries(read(0, 512)), 1):
        if kind in _EXTENDED:
            for kind_, start_, count_ in _logical(read, start, sector):
                yield _mbr_partition(5 + logical, kind_, start_ * sector, count_ * sector)
                logical += 1
        elif kind not in (0, _PROTECTIVE):
            yield _mbr_partition(number, kind, start * sector, count * sector)


def _mbr_partition(number: int, kind: int, start: int, size: int) -> Partition:
    fstype = _MBR_TYPES.get(kind, f"type {kind:#04x}")
    return Partition(f"MBR {number} ({fstype})", start, size, fstype)


def _mbr_entries(block: bytes) -> list[tuple[int, int, int]]:
    """Return (type, first sector, sectors) of the four entries; none where the block is no MBR."""
    if len(block) < 512 or block[510:] != b"\x55\xaa":
        return []
    entries = [block[at : at + 16] for at in range(446, 510, 16)]
    if any(e[0] not in (0, 0x80) for e in entries):
        return []
    return [(e[4], *struct.unpack("<II", e[8:])) for e in entries]


def _logical(read: Read, first: int, sector: int) -> Iterator[tuple[int, int, int]]:
    """Follow the chain of an extended partition: each link has one partition and the place of the next link."""
    at, seen = first, set[int]()
    while at not in seen and len(seen) < _MOST_LOGICAL:
        seen.add(at)
        following = None
        for kind, start, count in _mbr_entries(read(at * sector, 512)):
            if kind in _EXTENDED:
                following = first + start
            elif kind and count:
                yield kind, at + start, count
        if following is None:
            return
        at = following


# -- GPT -------------------------------------------------------------------------------------------------------------


def _gpt(read: Read, size: int, sector: int) -> Iterator[Partition]:
    """Yield the partitions of a GPT, by its second copy at the disk's end where the first is damaged."""
    for at in (sector, size // sector * sector - sector):
        entries = _gpt_entries(read, at, sector)
        if not entries:
            continue
        for number, e in enumerate(entries, 1):
            first, last = struct.unpack_from("<QQ", e, 32)
            if any(e[:16]) and first <= last:
                guid = str(uuid.UUID(bytes_le=e[:16]))
                fstype = _GPT_TYPES.get(guid, guid)
                yield Partition(f"GPT {number} ({fstype})", first * sector, (last - first + 1) * sector, fstype)
        return


def _gpt_entries(read: Read, at: int, sector: int) -> list[bytes]:
    """Return the entries of the GPT whose header is at `at`; none unless both checksums are right."""
    head = read(at, _GPT_HEADER.size)
    if len(head) < _GPT_HEADER.size:
        return []
    signature, _, header_size, crc, _, _, _, _, _, _, entries_lba, count, entry_size, entries_crc = _GPT_HEADER.unpack(
        head
    )
    if signature != b"EFI PART" or not _GPT_HEADER.size <= header_size <= sector:
        return []
    head = read(at, header_size)
    if zlib.crc32(head[:16] + bytes(4) + head[20:]) != crc:
        return []
    if count > _MOST_GPT or entry_size % 8 or not 128 <= entry_size <= 4096:
        return []
    data = read(entries_lba * sector, count * entry_size)
    if len(data) != count * entry_size or zlib.crc32(data) != entries_crc:
        return []
    return [data[i : i + entry_size] for i in range(0, len(data), entry_size)]


# -- disklabels ------------------------------------------------------------------------------------------------------


def _labels(read: Read, base: int, sector: int, disk: int) -> Iterator[Partition]:
    """Yield the partitions of the disklabels that lie in the first sectors from `base` on (bytes)."""
    area = read(base, _LABEL_AREA * sector)
    places = itertools.chain.from_iterable(
        ((m.start(), order) for m in re.finditer(re.escape(struct.pack(order + "I", _DISKMAGIC)), area))
        for order in ("<", ">")
    )
    for at, order in itertools.islice(places, _MOST_PLACES):
        if at % _LABEL_ALIGN == 0:
            yield from _label(area[at : at + _LABEL_BYTES + _MOST_LABELLED * _PARTITION_BYTES], order, sector, disk)


def _label(data: bytes, order: str, sector: int, disk: int) -> Iterator[Partition]:
    """Yield the partitions of the disklabel that `data` begins with; none where it isn't one, or is damaged."""
    if len(data) < _LABEL_BYTES:
        return
    (secsize,) = struct.unpack_from(order + "I", data, 40)
    (secperunit,) = struct.unpack_from(order + "I", data, 60)
    secperunith, version = struct.unpack_from(order + "HH", data, 112)
    magic2, _, count = struct.unpack_from(order + "IHH", data, _MAGIC2_AT)
    end = _LABEL_BYTES + count * _PARTITION_BYTES
    if magic2 != _DISKMAGIC or secsize != sector or not 0 < count <= _MOST_LABELLED or len(data) < end:
        return
    if _xor(data[:end]):
        return
    # d_version 1 is OpenBSD's label with 48 bits; NetBSD and older OpenBSD have p_fsize in their place.
    wide = version == 1
    if (secperunit | secperunith * wide << 32) * secsize > disk:
        return
    for i in range(count):
        entry = struct.unpack_from(order + "IIHHBBH", data, _LABEL_BYTES + i * _PARTITION_BYTES)
        size, offset, offseth, sizeh, kind, _, _ = entry
        if wide:
            size, offset = size | sizeh << 32, offset | offseth << 32
        if kind:
            fstype = _fstype(kind)
            yield Partition(
                f"disklabel {_LETTERS[i : i + 1] or i} ({fstype})", offset * secsize, size * secsize, fstype
            )


def _xor(data: bytes) -> int:
    """Return the exclusive or of all 16-bit words, which is 0 for a whole label, in either byte order."""
    total = 0
    for (word,) in struct.iter_unpack("<H", data):
        total ^= word
    return total


def _fstype(kind: int) -> str:
    if kind == _RAID:
        return "RAID"
    return _FSTYPES[kind] if kind < len(_FSTYPES) else f"type {kind}"
