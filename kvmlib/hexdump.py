"""Bytes as ``hexdump -C`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

WIDTH = 16


class Hexdump:
    """Makes lines of 16 bytes, repeats folded to ``*``, of memory that comes in pieces.

    Attributes:
        digits: hex digits of an address, 8 or 16.
    """

    def __init__(self, digits: int = 8) -> None:
        """Begin."""
        self.digits = digits
        self._row = bytearray()
        self._at = 0
        self._before: bytes | None = None
        self._folded = False

    def feed(self, data: bytes, at: int) -> Iterator[str]:
        """Yield the lines that `data` completes; `at` is the address of its first byte, where the last piece ended."""
        if not self._row:
            self._at = at
        self._row += data
        whole = len(self._row) - len(self._row) % WIDTH
        for i in range(0, whole, WIDTH):
            yield from self._line(bytes(self._row[i : i + WIDTH]), self._at + i)
        self._at += whole
        del self._row[:whole]

    def close(self, *, end: bool = True) -> Iterator[str]:
        """Yield what is left and, with `end`, the address behind it. The next piece may be anywhere."""
        anything = self._row or self._before is not None
        if self._row:
            yield from self._line(bytes(self._row), self._at)
        if anything and end:
            yield f"{self._at + len(self._row):0{self.digits}x}"
        self._row.clear()
        self._before, self._folded = None, False

    def _line(self, row: bytes, at: int) -> Iterator[str]:
        if row == self._before:
            if not self._folded:
                yield "*"
            self._folded = True
            return
        self._before, self._folded = row, False
        yield f"{at:0{self.digits}x}  {_hex(row[:8]):<24} {_hex(row[8:]):<24} |{_ascii(row)}|"


def hexdump(data: bytes, start: int = 0, digits: int = 8) -> Iterator[str]:
    """Yield the lines of `data`, whose first byte has the address `start`, with `digits` hex digits of address."""
    dump = Hexdump(digits)
    yield from dump.feed(data, start)
    yield from dump.close()


def _hex(part: bytes) -> str:
    return " ".join(f"{b:02x}" for b in part)


def _ascii(row: bytes) -> str:
    return "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)
