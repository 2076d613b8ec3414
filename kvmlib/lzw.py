"""Read what compress(1), and the zopen(3) of OpenBSD's savecore(8), wrote: files called .Z.

No package is used for it: those there are hold either the whole file or every string of the dictionary, and as dumps
are full of zeros that is as much memory as the dump has (2 GiB at most), out of a file of some kilobytes. Here a long
string is the code of its beginning and the bytes that follow, so 16 bits of codes are some megabytes whatever is in
the file. Source of the facts: usr.bin/compress/zopen.c of both systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_BITS_MASK, _UNKNOWN_FLAGS, _BLOCK_MODE = 0x1F, 0x60, 0x80
#: Bits of the first codes, and the most that any compress(1) writes.
_LEAST_BITS, _MOST_BITS = 9, 16
#: Code that forgets all strings, in block mode.
_CLEAR = 256
#: Bytes read in one go, and bytes passed on in one go or a little more.
_READ, _PIECE = 1 << 16, 1 << 20
#: Bytes of a string that are kept with it; the others are another string's.
_TAIL = 256


def unpack(packed: BinaryIO) -> Iterator[bytes]:
    """Yield the contents of a .Z file, about a MiB at a time.

    Raises:
        ValueError: it is damaged; says how. There is no checksum: not all damage is noticed.
    """
    begin = packed.read(3)
    if len(begin) < 3:
        raise ValueError("it ends inside its header")
    most_bits = begin[2] & _BITS_MASK
    if begin[2] & _UNKNOWN_FLAGS or not _LEAST_BITS <= most_bits <= _MOST_BITS:
        raise ValueError(f"codes of {_LEAST_BITS} to {_MOST_BITS} bits were expected, its header says {begin[2]:#04x}")
    block_mode = bool(begin[2] & _BLOCK_MODE)
    first, full = _CLEAR + block_mode, 1 << most_bits
    # As the systems have it, with at most 9 bits (compress -b 9) codes take 10 when all 512 strings are there.
    widest = max(most_bits, _LEAST_BITS + 1)
    # String number n is string number heads[n] and then tails[n]; without a head it is the tail alone.
    heads = [-1] * first
    tails = [bytes((n & 0xFF,)) for n in range(first)]
    width, mask = _LEAST_BITS, (1 << _LEAST_BITS) - 1
    previous, last = -1, b""
    out = bytearray()
    buffer, at = b"", 0
    while True:
        if len(buffer) - at < width:
            buffer, at = buffer[at:] + packed.read(_READ), 0
        # Codes come in groups of eight. Where their width changes, the rest of the group is left out.
        group = buffer[at : at + width]
        at += width
        if not group:
            break
        bits = int.from_bytes(group, "little")
        for _ in range(len(group) * 8 // width):
            code = bits & mask
            bits >>= width
            if code == _CLEAR and block_mode:
                del heads[first:], tails[first:]
                width, mask = _LEAST_BITS, (1 << _LEAST_BITS) - 1
                previous = -1
                bits = 0
                break
            if code < len(tails):
                entry = tails[code]
                if (head := heads[code]) >= 0:
                    entry = _whole(head, entry, heads, tails)
            elif code == len(tails) and previous >= 0:
                entry = last + last[:1]
            else:
                raise ValueError(f"code {code} is there where only {len(tails)} are known")
            out += entry
            if previous >= 0 and len(tails) < full:
                tail = tails[previous]
                if len(tail) < _TAIL:
                    heads.append(heads[previous])
                    tails.append(tail + entry[:1])
                else:
                    heads.append(previous)
                    tails.append(entry[:1])
            previous, last = code, entry
            if len(tails) > mask and width < widest:
                width, mask = width + 1, mask << 1 | 1
                bits = 0
                break
        else:
            # Less than a byte of zeros is left at the end of a whole file.
            if len(group) < width and (bits or len(group) * 8 % width >= 8):
                raise ValueError("it ends inside a code")
        if len(out) >= _PIECE:
            yield bytes(out)
            out.clear()
    if out:
        yield bytes(out)


def _whole(head: int, tail: bytes, heads: list[int], tails: list[bytes]) -> bytes:
    parts = [tail]
    while head >= 0:
        parts.append(tails[head])
        head = heads[head]
    parts.reverse()
    return b"".join(parts)
