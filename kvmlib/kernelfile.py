"""What a kernel file has besides its symbols: the contents of its sections, by address."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import BinaryIO, TypeVar

from kvmlib.namelist import SymbolTable, open_kernel

T = TypeVar("T")

#: Most sections that are looked at.
_SECTIONS = 4096
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR, _SHF_COMPRESSED = 1, 2, 4, 0x800
#: A sample has at most so many bytes, and at least so many, of which so many differ from each other: what is shorter or
#: plainer is the same elsewhere by chance.
_SAMPLE_BYTES, _LEAST_BYTES, _LEAST_KINDS = 64, 8, 4
_TOP = 1 << 64


def spread(items: Sequence[T], n: int) -> list[T]:
    """Return at most `n` of them, from all over."""
    return list(items[:: -(-len(items) // n) or 1])


class KernelFile:
    """What a kernel file has in its sections, by address. It never raises: what can't be read isn't there.

    Attributes:
        problem: why there is nothing, where something went wrong.
    """

    def __init__(self, path: str | None) -> None:
        """Look at the sections of the file; `path` None is a file without any."""
        self.problem = ""
        self._file: BinaryIO | None = None
        #: (va, bytes, file offset, nothing writes to it), ascending.
        self._sections: list[tuple[int, int, int, bool]] = []
        if path is None:
            return
        from elftools.elf.elffile import ELFFile

        try:
            self._file = open_kernel(path)
            for s in islice(ELFFile(self._file).iter_sections(), _SECTIONS):
                flags = s["sh_flags"]
                if s["sh_type"] == "SHT_PROGBITS" and flags & _SHF_ALLOC and not flags & _SHF_COMPRESSED:
                    unchanging = bool(flags & _SHF_EXECINSTR) or not flags & _SHF_WRITE
                    self._sections.append((s["sh_addr"], s["sh_size"], s["sh_offset"], unchanging))
        except Exception as e:  # pyelftools raises whatever its parser met in a damaged file.
            self.problem = f"its contents cannot be read: {type(e).__name__}"
        self._sections.sort()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def some(self, va: int, n: int, *, constant: bool = False) -> bytes:
        """Return up to `n` bytes at `va`: those that its section has; with `constant`, none that change."""
        i = bisect.bisect_right(self._sections, va, key=lambda s: s[0]) - 1
        if i < 0 or self._file is None:
            return b""
        start, size, offset, unchanging = self._sections[i]
        n = min(n, start + size - va)
        if n <= 0 or (constant and not unchanging):
            return b""
        try:
            self._file.seek(offset + va - start)
            return self._file.read(n)
        except (OSError, OverflowError, ValueError):
            return b""

    def samples(self, symbols: SymbolTable, most: int) -> list[tuple[int, bytes]]:
        """Return (va, bytes) at up to `most` symbols: text and constants, nothing that is the same everywhere."""
        if not self._sections:
            return []
        places = sorted({s.value for s in symbols if s.kind in "TtRr"})
        # Not all of them have contents, and some are too short.
        chosen = spread(list(pairwise([*places, _TOP])), 4 * most)
        found = [(va, self.some(va, min(_SAMPLE_BYTES, end - va), constant=True)) for va, end in chosen]
        return spread([(va, d) for va, d in found if len(d) >= _LEAST_BYTES and len(set(d)) >= _LEAST_KINDS], most)
