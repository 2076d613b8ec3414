"""A dump of 64 GiB, nearly all of it holes in the file."""

import struct
from pathlib import Path

import kvmlib

GIB = 1 << 30
START, SIZE = 0x100000, 64 * GIB
#: 1 GiB pages from here on, pa 0 first.
VA = 0xFFFF_8000_0000_0000
#: What the last page begins with.
TEXT = b"the last words of a large machine"


def make_large(path: Path) -> bool:
    """Make it; tell whether the file system makes holes, so that it takes no room."""
    mid = kvmlib.machine("openbsd/amd64").mid
    head = (1 << 26 | mid << 16 | 0x8FCA).to_bytes(4, "big") + struct.pack("<I", 504)
    head += struct.pack("<QQQQ", START, 1, START, SIZE)
    tables = bytearray(3 * 4096)
    struct.pack_into("<Q", tables, (VA >> 39 & 511) * 8, START + 4096 | 3)
    for i in range(SIZE // GIB + 1):
        struct.pack_into("<Q", tables, 4096 + 8 * i, i * GIB | 0x83)
    with open(path, "wb") as f:
        f.write(head.ljust(512, b"\0") + tables)
        f.truncate(512 + SIZE)
        f.seek(512 + SIZE - 4096)
        f.write(TEXT)
    return path.stat().st_blocks * 512 <= 1 << 20
