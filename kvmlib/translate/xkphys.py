"""XKPHYS: virtual addresses of a 64-bit MIPS that hold the physical address they mean.

Source: MIPS64 Architecture, volume III, "Virtual Memory"; XKPHYS_TO_PHYS in machine/cpuregs.h and machine/cpu.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmlib.errors import TranslationError
from kvmlib.translate import Mapping, Step, Translator

START = 0x8000000000000000
STOP = 0xC000000000000000
#: Bits 61 to 59 say how the memory is cached.
CCA_SHIFT = 59
#: What they mean, as far as the CPUs agree on it (the field C of EntryLo is the same).
CCA_NAMES = {
    2: "uncached",
    3: "cached",
    4: "coherent exclusive",
    5: "coherent, exclusive on write",
    6: "coherent, update on write",
    7: "uncached accelerated",
}


def cca_name(cca: int) -> str:
    """Name a cache attribute."""
    return CCA_NAMES.get(cca, f"cache attribute {cca}")


class Xkphys(Translator):
    """All of XKPHYS: eight windows on physical memory, one for each cache attribute.

    Where the kernel knows fewer bits of a physical address than a window has, it ignores those between, so each address
    has others that mean the same; `ranges` leaves these out.
    """

    def __init__(self, pa_bits: int, page: int) -> None:
        """A physical address has `pa_bits` bits; `page` is how many bytes kvatop calls contiguous at a time."""
        self.name = "XKPHYS, mapped directly"
        self.bits = 64
        self._size = 1 << pa_bits
        self._page = page

    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, bytes left in the page)."""
        if not START <= va < STOP:
            raise TranslationError(f"va {va:#x} is not in XKPHYS", va)
        return va & self._size - 1, self._page - va % self._page

    def walk(self, va: int) -> list[Step]:
        """Return the one step that it takes."""
        try:
            pa = self.kvatop(va)[0]
        except TranslationError as e:
            return [Step("XKPHYS", None, None, None, None, None, (), "outside", None, 0, 0, str(e))]
        note = f"XKPHYS is mapped directly: va {va:#x} is pa {pa:#x}"
        return [Step("XKPHYS", None, None, None, None, None, _flags(va), "window", pa, 0, 0, note)]

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield the windows that meet [start, stop)."""
        for va in range(START, STOP, 1 << CCA_SHIFT):
            low, high = max(va, start), min(va + self._size, stop)
            if low < high:
                yield Mapping(low, low - va, high - low, _flags(va))


def _flags(va: int) -> tuple[str, ...]:
    return (cca_name(va >> CCA_SHIFT & 7),)
