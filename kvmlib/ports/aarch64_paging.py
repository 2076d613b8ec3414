"""The page tables that TTBR1_EL1 points to, in the form that TCR_EL1 gives them.

Source: Arm Architecture Reference Manual for A-profile, D8 (translation) and D24 (TCR_EL1, TTBR1_EL1).
libkvm's words from NetBSD's kvm_aarch64.c.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kvmlib.translate.radix import Hole, Level, Page, Paging, Pointer

#: TCR_EL1.TG1 and TG0 -> log2 of the granule, in bytes.
TG1 = {1: 14, 2: 12, 3: 16}
TG0 = {0: 12, 1: 16, 2: 14}
#: TCR_EL1.IPS -> bits of a physical address.
IPS = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 56}
#: Levels whose entries may be blocks, by granule; level 3 has pages.
BLOCK_LEVELS = {12: (1, 2), 14: (2,), 16: (2,)}
#: And of 64 KiB, where physical addresses have 52 bits.
BLOCK_LEVELS_52 = (1, 2)
_SHAREABLE = ("non-shareable", "reserved shareability", "outer shareable", "inner shareable")
_CACHEABLE = ("non-cacheable", "write-back write-allocate", "write-through", "write-back")
_BLOCK_OR_PAGE = {10: "AF", 11: "nG", 51: "DBM", 52: "Contiguous", 53: "PXN", 54: "UXN"}
_TABLE = {59: "PXNTable", 60: "UXNTable", 63: "NSTable"}
#: AttrIndx, NS, AP, SH, nG, PXN and UXN.
_PROTECTION = 0x1F << 2 | 7 << 7 | 1 << 11 | 3 << 53


class Regime(NamedTuple):
    """How kernel addresses are translated, as far as TCR_EL1 says.

    Attributes:
        granule: log2 of the granule's bytes.
        input_bits: how many bits of an address count: 64 - T1SZ.
        pa_bits: bits of a physical address: IPS.
    """

    granule: int
    input_bits: int
    pa_bits: int

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return 1 << self.granule

    @property
    def base(self) -> int:
        """The first address that TTBR1_EL1's tables are for."""
        return (1 << 64) - (1 << self.input_bits)

    @property
    def levels(self) -> int:
        """How many levels of tables there are; the last is level 3."""
        return -((self.granule - self.input_bits) // (self.granule - 3))

    @property
    def large(self) -> bool:
        """Whether entries hold pa bits 51 to 48 in their bits 15 to 12 (FEAT_LPA)."""
        return self.granule == 16 and self.pa_bits >= 52

    @classmethod
    def of(cls, tcr: int) -> Regime | None:
        """Take TCR_EL1 apart; None where TG1 is reserved."""
        granule = TG1.get(tcr >> 30 & 3)
        return None if granule is None else cls(granule, 64 - (tcr >> 16 & 0x3F), IPS[tcr >> 32 & 7])

    def doubt(self, tcr: int) -> str:
        """Say why these tables can't be followed, as a clause; empty if they can."""
        most = 52 if self.granule == 16 else 48
        if tcr >> 59 & 1 and self.granule != 16:
            return "TCR_EL1.DS is set: entries of 4 and 16 KiB granules with 52-bit addresses are not supported"
        if not self.granule < self.input_bits <= most:
            page = self.page >> 10
            return f"T1SZ is {64 - self.input_bits}, {64 - most} to {63 - self.granule} go with a {page} KiB granule"
        return ""

    def root(self, ttbr: int) -> int:
        """Return the top table's pa in TTBR1_EL1: neither the ASID (63-48) nor CnP (0) is part of it."""
        if self.large:
            return ttbr & 0xFFFFFFFFFFC0 | (ttbr & 0x3C) << 46
        return ttbr & 0xFFFFFFFFFFFE


def table_words(entry: int) -> tuple[str, ...]:
    """Name what an entry says besides an address, in a table above the last level."""
    if entry & 3 != 3:
        return page_words(entry)
    permissions = entry >> 61 & 3
    named = (f"APTable={permissions:02b}",) if permissions else ()
    return (*named, *(name for bit, name in _TABLE.items() if entry >> bit & 1))


def page_words(entry: int) -> tuple[str, ...]:
    """Name what an entry for a block or a page says besides an address."""
    return (
        f"AttrIndx={entry >> 2 & 7}",
        *(("NS",) if entry >> 5 & 1 else ()),
        "read-only" if entry >> 7 & 1 else "read-write",
        *(("EL0",) if entry >> 6 & 1 else ()),
        _SHAREABLE[entry >> 8 & 3],
        *(name for bit, name in _BLOCK_OR_PAGE.items() if entry >> bit & 1),
    )


def _address(low: int) -> int:
    """Return the mask of an entry's address bits from bit `low` on."""
    return (1 << 48) - (1 << low)


def _level(regime: Regime, number: int) -> Level:
    """Describe the table of that level (0 to 3)."""
    granule = regime.granule
    shift = granule + (3 - number) * (granule - 3)
    # pa bits 51 to 48 are nowhere near the others. No machine has memory there, so such an entry is left alone.
    far = tuple(Hole(mask=1 | 1 << bit, value=1 | 1 << bit) for bit in range(12, 16)) if regime.large else ()
    last = Page(mask=3, value=3, frame=_address(granule))
    table = Pointer(mask=3, value=3, frame=_address(granule))
    block = Page(mask=3, value=1, frame=_address(shift))
    blocks = BLOCK_LEVELS_52 if regime.large else BLOCK_LEVELS[granule]
    return Level(
        f"level {number} table",
        shift,
        min(granule - 3, regime.input_bits - shift),
        (*far, last) if number == 3 else (*far, block, table) if number in blocks else (table,),
        "could not read pte",
        "invalid translation (invalid pte)",
        words=page_words if number == 3 else table_words,
    )


@cache
def paging(regime: Regime) -> Paging:
    """Return the form of the tables; `regime` must be one that `Regime.doubt` has nothing to say against."""
    count = regime.levels
    return Paging(
        name=f"{count} level{'s' if count > 1 else ''} of tables, {regime.page >> 10} KiB granule",
        entry_bytes=8,
        levels=tuple(_level(regime, number) for number in range(4 - count, 4)),
        flags={},
        protection=_PROTECTION,
        va_bits=64,
        canonical_bits=regime.input_bits,
        base=regime.base,
    )


def walk_attributes(tcr: int, shift: int) -> str:
    """Say how the tables themselves are read: the cacheability and shareability at bit `shift` of TCR_EL1 on."""
    inner, outer, shareable = (tcr >> shift + i & 3 for i in (0, 2, 4))
    return f"walks {_SHAREABLE[shareable]}, inner {_CACHEABLE[inner]}, outer {_CACHEABLE[outer]}"


def tcr_words(tcr: int) -> str:
    """Decode TCR_EL1."""
    return "; ".join(
        (
            _half_words("TTBR1", tcr, TG1.get(tcr >> 30 & 3), tcr >> 16 & 0x3F, "T1SZ", 23, 24),
            _half_words("TTBR0", tcr, TG0.get(tcr >> 14 & 3), tcr & 0x3F, "T0SZ", 7, 8),
            f"{IPS[tcr >> 32 & 7]}-bit pa (IPS {tcr >> 32 & 7})",
            f"{16 if tcr >> 36 & 1 else 8}-bit ASID from TTBR{tcr >> 22 & 1}",
            *(name for bit, name in ((37, "TBI0"), (38, "TBI1"), (39, "HA"), (40, "HD"), (59, "DS")) if tcr >> bit & 1),
        )
    )


def _half_words(name: str, tcr: int, granule: int | None, size: int, field: str, off: int, walks: int) -> str:
    if tcr >> off & 1:
        return f"{name} off (EPD{name[-1]})"
    grains = f"{1 << granule - 10} KiB granule" if granule is not None else "reserved granule"
    return f"{name} {grains}, {64 - size}-bit va ({field} {size}), {walk_attributes(tcr, walks)}"
