"""The RISC-V's page tables: Sv39, Sv48 and Sv57.

Source: The RISC-V Instruction Set Manual, Volume II: Privileged Architecture, chapter "Supervisor-Level ISA", with
Svnapot and Svpbmt; for the C906's own bits (XTheadMae), NetBSD's riscv/include/pte.h. libkvm's words are from
kvm_riscv.c 1.4.
"""

from __future__ import annotations

from kvmlib.translate.radix import Hole, Level, Page, Paging, Pointer

_V, _R, _W, _X, _U, _G, _A, _D = (1 << i for i in range(8))
_FLAGS = {0: "V", 1: "R", 2: "W", 3: "X", 4: "U", 5: "G", 6: "A", 7: "D", 8: "RSW", 9: "WIRED"}
#: The page's number, which lies two bits lower in an entry than in an address.
_PPN = 0x003FFFFFFFFFFC00
_LEFT = 2
#: Svnapot: an entry of the last table that is one of 16 alike, with 1000 as the lowest bits of the number.
_N = 1 << 63
_NAPOT, _NAPOT_64K = 0xF << 10, 8 << 10
#: XTheadMae: one of these two is set in every entry of a C906, and neither means anything on other CPUs.
_THEAD = {63: "SO", 62: "C", 61: "B", 60: "SH", 59: "T"}
_IS_THEAD = 1 << 60 | 1 << 59
#: Reserved on all of them: an entry with one of these maps nothing.
_RESERVED = 0x1F << 54
_MEMORY_TYPES = ("", "PBMT=NC", "PBMT=IO", "PBMT=3")
_PROTECTION = _R | _W | _X | _U | _G | 0x1F << 59
_UNREADABLE, _INVALID = "could not read pte", "invalid translation (invalid pte)"


def _words(entry: int) -> tuple[str, ...]:
    names = [name for bit, name in _FLAGS.items() if entry >> bit & 1]
    if entry & _IS_THEAD:
        names += (name for bit, name in _THEAD.items() if entry >> bit & 1)
    else:
        names += [t] if (t := _MEMORY_TYPES[entry >> 61 & 3]) else []
        names += ["N"] if entry & _N else []
    return tuple(names)


def _leaves(more: int, value: int = 0, frame: int = _PPN, shift: int | None = None) -> tuple[Page, Page]:
    """Entries that map a page: readable, or for execution only. To write alone is reserved, so that fits none."""
    more |= _RESERVED
    return (
        Page(mask=_V | _R | more, value=_V | _R | value, frame=frame, left=_LEFT, shift=shift),
        Page(mask=_V | _R | _W | _X | more, value=_V | _X | value, frame=frame, left=_LEFT, shift=shift),
    )


def _level(number: int) -> Level:
    """Tables of level `number`, of which 0 is the last; what is not aligned to its size maps nothing."""
    shift = 12 + 9 * number
    n_alone = _N | _IS_THEAD
    hole = Hole(mask=_V | n_alone, value=_V | _N)
    if number:
        low = (1 << 9 * number) - 1 << 10
        table = Pointer(mask=_V | _R | _W | _X | _RESERVED, value=_V, frame=_PPN, left=_LEFT)
        return Level(
            f"level {number} table", shift, 9, (hole, *_leaves(low), table), _UNREADABLE, _INVALID, words=_words
        )
    large = _leaves(n_alone | _NAPOT, _N | _NAPOT_64K, _PPN & ~_NAPOT, 16)
    return Level("level 0 table", shift, 9, (*large, hole, *_leaves(0)), _UNREADABLE, _INVALID, words=_words)


def _sv(levels: int) -> Paging:
    bits = 12 + 9 * levels
    return Paging(
        name=f"Sv{bits}: {levels} levels of 4 KiB tables",
        entry_bytes=8,
        levels=tuple(_level(n) for n in reversed(range(levels))),
        flags=_FLAGS,
        protection=_PROTECTION,
        va_bits=64,
        canonical_bits=bits,
    )


SV39, SV48, SV57 = _sv(3), _sv(4), _sv(5)
