"""Files as compress(1) writes them, made by hand: every width of codes, with and without block mode."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

CLEAR = 256


def write_codes(codes: Iterable[int], bits: int = 16, block: bool = True) -> bytes:
    """Write codes as the systems' zopen.c does: groups of eight, filled up where the width changes."""
    out = bytearray((0x1F, 0x9D, bits | 0x80 * block))
    first, full = 256 + block, 1 << bits
    known, most, width = first - 1, 511, 9  # One string less: the first code makes none.
    group: list[int] = []

    def flush(whole: bool) -> None:
        size = width if whole else -(-len(group) * width // 8)
        out.extend(sum(c << i * width for i, c in enumerate(group)).to_bytes(size, "little"))
        group.clear()

    for code in codes:
        group.append(code)
        clear = block and code == CLEAR
        known = first - 1 if clear else min(known + 1, full)
        if len(group) == 8 or clear or known > most:
            flush(True)
        if clear:
            most, width = 511, 9
        elif known > most:
            width += 1
            most = full if width == bits else (1 << width) - 1
    if group:
        flush(False)
    return bytes(out)


def codes_of(data: bytes, bits: int, block: bool, forget: bool) -> Iterator[int]:
    """Turn data into codes; with `forget`, strings are forgotten whenever there is room for no more."""
    known: dict[bytes, int] = {}
    begin = b""
    for i in range(len(data)):
        c = data[i : i + 1]
        if not begin or begin + c in known:
            begin += c
            continue
        yield known.get(begin, begin[0])
        if len(known) + 256 + block < 1 << bits:
            known[begin + c] = len(known) + 256 + block
        elif forget:
            yield CLEAR
            known.clear()
        begin = c
    if begin:
        yield known.get(begin, begin[0])


def pack(data: bytes, bits: int = 16, block: bool = True, forget: bool = False) -> bytes:
    return write_codes(codes_of(data, bits, block, forget), bits, block)


def pack_stream(source: BinaryIO, target: BinaryIO) -> None:
    """Pack as the package ncompress does: it reads and writes by itself, 1024 bytes at a time."""
    data = b"".join(iter(lambda: source.read(1024), b""))
    packed = pack(data)
    while packed:
        target.write(packed[:1024])
        packed = packed[1024:]


def zeros(strings: int) -> tuple[bytes, int]:
    """Return a file of zeros that takes `strings` strings, each longer by one than the one before; and their bytes."""
    return write_codes([0, *range(257, 256 + strings)]), strings * (strings + 1) // 2
