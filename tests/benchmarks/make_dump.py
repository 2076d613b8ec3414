"""A dump to measure with: openbsd/amd64, 512 MiB of RAM in four segments, 65,536 scattered 4 KiB pages mapped in a row,
and 128 pages of 2 MiB.

    python -m tests.benchmarks.make_dump FILE

Every page of RAM says which one it is, so that a reader can check what it got. The same bytes each time.
"""

import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from kvmlib import machine

PAGE = 4096
#: What lies before the header, as the swap partition's first blocks do.
DUMP_OFF = 16 * PAGE
HEADER = 512
#: The first mapped address; the pages follow one another from here.
VA = 0xFFFF_8000_0000_0000
PAGES = 65_536
LENGTH = PAGES * PAGE
#: From here on as many bytes are mapped in pages of 2 MiB, to memory from LARGE_PA on.
LARGE_VA = VA + (1 << 30)
LARGE_PA = 0x100000000
#: (first pa, bytes), in all 512 MiB: low memory, the gap below 1 MiB, a gap for a device, the rest above 4 GiB.
SEGMENTS = (
    (0x1000, 0x9F000),
    (0x100000, 0x7F00000),
    (0x10000000, 0x8000000),
    (0x100000000, 0x20000000 - 0x9F000 - 0x7F00000 - 0x8000000),
)

_PRESENT, _WRITABLE, _LARGE, _NX = 1 << 0, 1 << 1, 1 << 7, 1 << 63
_LARGE_PAGE = 2 << 20
_ENTRIES = PAGE // 8


def page(pa: int) -> bytes:
    """What the page at `pa` holds where it is no page table."""
    return b"page %011x" % pa * (PAGE // 16)


def pages() -> Iterator[int]:
    """Yield the pa of each page of RAM, in the dump's order."""
    for start, size in SEGMENTS:
        yield from range(start, start + size, PAGE)


def layout() -> tuple[dict[int, bytes], int, list[int]]:
    """Return the page tables by pa, the pa of the root, and the mapped pages in order of va."""
    every = list(pages())
    random.Random("kvmtui").shuffle(every)
    leaves = PAGES // _ENTRIES
    root, pdpt, directory, large, *tables = every[: 4 + leaves]
    mapped = every[4 + leaves : 4 + leaves + PAGES]

    def table(entries: list[int], first: int = 0) -> bytes:
        row = [0] * first + entries
        words = array("Q", row + [0] * (_ENTRIES - len(row)))
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()

    inner = _PRESENT | _WRITABLE
    made = {
        root: table([pdpt | inner], VA >> 39 & 511),
        pdpt: table([directory | inner, large | inner]),
        directory: table([pa | inner for pa in tables]),
        large: table([LARGE_PA + at | inner | _LARGE | _NX for at in range(0, LENGTH, _LARGE_PAGE)]),
    }
    for number, pa in enumerate(tables):
        part = mapped[number * _ENTRIES : (number + 1) * _ENTRIES]
        made[pa] = table([frame | inner | _NX for frame in part])
    return made, root, mapped


def header(root: int) -> bytes:
    """Return the header: kcore_seg and OpenBSD's cpu_kcore_hdr, filled up to a whole block."""
    mid = machine("openbsd/amd64").mid
    midmag = (1 << 26 | mid << 16 | 0x8FCA).to_bytes(4, "big")
    words = [root, len(SEGMENTS), *(number for segment in SEGMENTS for number in segment)]
    cpu = b"".join(word.to_bytes(8, "little") for word in words)
    return (midmag + (HEADER - 8).to_bytes(4, "little") + cpu).ljust(HEADER, b"\0")


def make_dump(path: Path) -> None:
    """Write the dump to `path`."""
    tables, root, _ = layout()
    with path.open("wb") as out:
        out.write(bytes(DUMP_OFF) + header(root))
        for pa in pages():
            out.write(tables.get(pa) or page(pa))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.benchmarks.make_dump FILE")
    make_dump(Path(sys.argv[1]))
