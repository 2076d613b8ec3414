"""Bytes as ``hexdump -C`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

WIDTH = 16


def hexdump(data: bytes, start: int = 0, digits: int = 8, *, end: bool = True) -> Iterator[str]:
    """Yield lines of 16 bytes with their addresses from `start` on, repeats folded to ``*``.

    Args:
        data: the bytes.
        start: address of the first one.
        digits: hex digits of an address, 8 or 16.
        end: close with a line that holds only the address behind the last byte.
    """
    before, folded = None, False
    for at in range(0, len(data), WIDTH):
        row = data[at : at + WIDTH]
        if row == before and len(row) == WIDTH:
            if not folded:
                yield "*"
            folded = True
            continue
        before, folded = row, False
        yield f"{start + at:0{digits}x}  {_hex(row[:8]):<24} {_hex(row[8:]):<24} |{_ascii(row)}|"
    if end and data:
        yield f"{start + len(data):0{digits}x}"


def _hex(part: bytes) -> str:
    return " ".join(f"{b:02x}" for b in part)


def _ascii(row: bytes) -> str:
    return "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)
