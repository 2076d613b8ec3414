"""The page tables of amd64 and i386, as both systems use them.

Source: Intel SDM volume 3, chapter 4; machine/pte.h of both systems; libkvm's words from its kvm_*.c.
"""

from __future__ import annotations

from kvmlib.translate.radix import Level, Page, Paging, Pointer

_FLAGS = {0: "P", 1: "RW", 2: "US", 3: "PWT", 4: "PCD", 5: "A", 6: "D", 7: "PS", 8: "G"}
_FLAGS64 = {**_FLAGS, 63: "NX"}
_LAST = {7: "PAT"}
_LAST_WORDS = ("could not read PTE", "invalid translation (invalid PTE)")
_P = 1
_PS = 1 << 7
_PROTECTION = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8
_PROTECTION64 = _PROTECTION | 1 << 63
_FRAME = 0x000FFFFFFFFFF000
_FRAME_2M = 0x000FFFFFFFE00000
_FRAME_1G = 0x000FFFFFC0000000

_TABLE = Pointer(mask=_P, value=_P, frame=_FRAME)


def _page(frame: int) -> Page:
    """A page of the last level."""
    return Page(mask=_P, value=_P, frame=frame)


def _large(frame: int) -> Page:
    """A large page: PS tells it from a table."""
    return Page(mask=_P | _PS, value=_P | _PS, frame=frame)


def _words(level: int) -> tuple[str, str]:
    return f"could not read PT level {level} entry", f"invalid translation (invalid level {level} PDE)"


AMD64 = Paging(
    name="four levels of 4 KiB tables",
    entry_bytes=8,
    levels=(
        Level("PML4", 39, 9, (_TABLE,), *_words(4)),
        Level("PDPT", 30, 9, (_large(_FRAME_1G), _TABLE), *_words(3)),
        Level("page directory", 21, 9, (_large(_FRAME_2M), _TABLE), *_words(2)),
        Level(
            "page table",
            12,
            9,
            (_page(_FRAME),),
            "could not read PTE",
            "invalid translation (invalid PTE)",
            flags=_LAST,
        ),
    ),
    flags=_FLAGS64,
    protection=_PROTECTION64,
    va_bits=64,
    canonical_bits=48,
)


def i386(unreadable: tuple[str, str], invalid: tuple[str, str]) -> Paging:
    """Plain i386 paging; the arguments are libkvm's words for the directory and for the table."""
    table = Pointer(mask=_P, value=_P, frame=0xFFFFF000)
    return Paging(
        name="two levels of 4 KiB tables",
        entry_bytes=4,
        levels=(
            Level("page directory", 22, 10, (_large(0xFFC00000), table), unreadable[0], invalid[0]),
            Level("page table", 12, 10, (_page(0xFFFFF000),), unreadable[1], invalid[1], flags=_LAST),
        ),
        flags=_FLAGS,
        protection=_PROTECTION,
        va_bits=32,
        canonical_bits=32,
    )


def i386_pae(unreadable: tuple[str, str], invalid: tuple[str, str], pa_bits: int = 52) -> Paging:
    """PAE paging as the kernels lay it out: four page directories in a row, so the PDPT isn't needed.

    `pa_bits` is the width of the kernel's paddr_t: what is above in an entry is no part of an address.
    """
    frame, frame_2m = (mask & (1 << pa_bits) - 1 for mask in (_FRAME, _FRAME_2M))
    table = Pointer(mask=_P, value=_P, frame=frame)
    return Paging(
        name="PAE: four page directories in a row, then 4 KiB tables",
        entry_bytes=8,
        levels=(
            Level("page directories", 21, 11, (_large(frame_2m), table), unreadable[0], invalid[0]),
            Level("page table", 12, 9, (_page(frame),), unreadable[1], invalid[1], flags=_LAST),
        ),
        flags=_FLAGS64,
        protection=_PROTECTION64,
        va_bits=32,
        canonical_bits=32,
    )
