"""Whole disks for tests: the tables are packed by hand here, so that reader and test can't be wrong alike."""

import struct
import uuid
import zlib
from collections.abc import Sequence

SWAP, FFS = 1, 7
NETBSD_SWAP = "49f48d32-b10e-11dc-b99b-0019d1879648"
NETBSD_FFS = "49f48d5a-b10e-11dc-b99b-0019d1879648"
OPENBSD_GPT = "824cc7a0-36a8-11e3-890a-952519ad3f61"

#: (first sector, sectors, p_fstype), or None for an empty entry.
Entry = tuple[int, int, int] | None


def disklabel(
    entries: Sequence[Entry], *, order: str = "<", sector: int = 512, disk: int = 1 << 40, wide: bool = False
) -> bytes:
    """A struct disklabel of a disk of `disk` bytes; `wide` makes it OpenBSD's with 48-bit numbers."""
    label = bytearray(148)
    struct.pack_into(order + "I", label, 0, 0x82564557)
    label[8:24] = b"a disk".ljust(16, b"\0")
    sectors = disk // sector
    struct.pack_into(order + "I", label, 40, sector)
    struct.pack_into(order + "I", label, 60, sectors & 0xFFFFFFFF)
    if wide:
        struct.pack_into(order + "HH", label, 112, sectors >> 32, 1)
    struct.pack_into(order + "I", label, 132, 0x82564557)
    struct.pack_into(order + "HII", label, 138, len(entries), 8192, 65536)
    for entry in entries:
        start, size, kind = entry or (0, 0, 0)
        middle = struct.pack(order + "HH", start >> 32, size >> 32) if wide else struct.pack(order + "I", 2048)
        label += struct.pack(order + "II", size & 0xFFFFFFFF, start & 0xFFFFFFFF) + middle
        label += struct.pack(order + "BBH", kind, 0, 0)
    total = 0
    for (word,) in struct.iter_unpack(order + "H", label):
        total ^= word
    struct.pack_into(order + "H", label, 136, total)
    return bytes(label)


def mbr(entries: Sequence[tuple[int, int, int]]) -> bytes:
    """A block with (type, first sector, sectors) of up to four partitions."""
    block = bytearray(512)
    for i, (kind, start, size) in enumerate(entries):
        struct.pack_into("<B3xB3xII", block, 446 + 16 * i, 0, kind, start, size)
    block[510:] = b"\x55\xaa"
    return bytes(block)


def put_gpt(disk: bytearray, entries: Sequence[tuple[str, int, int]], *, sector: int = 512) -> None:
    """Write both copies of a GPT with (type GUID, first sector, sectors)."""
    table = b"".join(
        uuid.UUID(kind).bytes_le + uuid.uuid4().bytes + struct.pack("<QQQ", start, start + size - 1, 0) + bytes(72)
        for kind, start, size in entries
    ).ljust(128 * 128, b"\0")
    last = len(disk) // sector - 1
    for at, other, entries_at in ((1, last, 2), (last, 1, last - len(table) // sector)):
        head = struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            at,
            other,
            2 + len(table) // sector,
            last - len(table) // sector - 1,
            bytes(16),
            entries_at,
            128,
            128,
            zlib.crc32(table),
        )
        head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
        disk[at * sector : at * sector + len(head)] = head
        disk[entries_at * sector : entries_at * sector + len(table)] = table
    disk[:512] = mbr([(0xEE, 1, last)])
