"""ARM's short-descriptor page tables: a first-level table of 16 KiB, coarse and fine second-level tables.

Source: ARM Architecture Reference Manual, ARMv7-A edition, B3.5, and ARMv5 edition, B3.3; libkvm's words from its
kvm_arm.c. The dump doesn't say which version of the architecture its CPU has. Where both versions have an entry they
agree on the address; the names of its bits are those of version 6 and later.
"""

from __future__ import annotations

from kvmlib.translate.radix import Level, Page, Paging, Pointer

#: Bits 1 and 0 of an entry.
FAULT, COARSE, SECTION, FINE = 0, 1, 2, 3
LARGE, SMALL, TINY = 1, 2, 3
#: Of a section: it is one of 16 entries for a supersection.
SUPERSECTION = 1 << 18
_TYPE = 3


def _names(fields: dict[str, int], bits: dict[str, int]) -> tuple[str, ...]:
    """Name the access permissions and the other fields that aren't 0, then the bits that are set."""
    shown = [f"AP={fields['AP']:03b}"] if "AP" in fields else []
    shown += [f"TEX={fields['TEX']:03b}"] if fields.get("TEX") else []
    shown += [name for name, bit in bits.items() if bit]
    shown += [f"domain={fields['domain']}"] if "domain" in fields else []
    return tuple(shown)


def first_level_words(entry: int) -> tuple[str, ...]:
    """Name what an entry of the first-level table says besides an address."""
    domain = {"domain": entry >> 5 & 15}
    if entry & _TYPE in (COARSE, FINE):
        return _names(domain, {"NS": entry >> 3 & 1})
    if entry & _TYPE == FAULT:
        return ()
    fields = {"AP": entry >> 13 & 4 | entry >> 10 & 3, "TEX": entry >> 12 & 7}
    # Bits 8 to 5 of a supersection are no domain, and it is always in domain 0.
    fields |= {"domain": 0} if entry & SUPERSECTION else domain
    cached = {"C": entry >> 3 & 1, "B": entry >> 2 & 1}
    return _names(fields, cached | {"XN": entry >> 4 & 1, "nG": entry >> 17 & 1, "S": entry >> 16 & 1})


def coarse_words(entry: int) -> tuple[str, ...]:
    """Name what an entry of a coarse table says besides an address."""
    kind = entry & _TYPE
    if kind == FAULT:
        return ()
    tex, xn = (entry >> 12 & 7, entry >> 15 & 1) if kind == LARGE else (entry >> 6 & 7, entry & 1)
    fields = {"AP": entry >> 7 & 4 | entry >> 4 & 3, "TEX": tex}
    cached = {"C": entry >> 3 & 1, "B": entry >> 2 & 1}
    return _names(fields, cached | {"XN": xn, "nG": entry >> 11 & 1, "S": entry >> 10 & 1})


def fine_words(entry: int) -> tuple[str, ...]:
    """Name what an entry of a fine table says: each quarter of a page has permissions of its own, a tiny page one."""
    kind = entry & _TYPE
    if kind == FAULT:
        return ()
    quarters = range(1 if kind == TINY else 4)
    permissions = [f"AP{i if kind != TINY else ''}={entry >> 4 + 2 * i & 3:02b}" for i in quarters]
    return (*permissions, *(name for name, bit in (("C", 8), ("B", 4)) if entry & bit))


_COARSE = Level(
    "coarse table",
    12,
    8,
    (
        Page(mask=_TYPE, value=LARGE, frame=0xFFFF0000, shift=16),
        # Bit 0 is XN (version 6), or says that it is an extended small page (XScale): 4 KiB either way.
        Page(mask=SMALL, value=SMALL, frame=0xFFFFF000),
    ),
    "could not read L2 entry",
    "L2 entry is invalid",
    words=coarse_words,
)
_FINE = Level(
    "fine table",
    10,
    10,
    (
        Page(mask=_TYPE, value=LARGE, frame=0xFFFF0000, shift=16),
        Page(mask=_TYPE, value=SMALL, frame=0xFFFFF000, shift=12),
        Page(mask=_TYPE, value=TINY, frame=0xFFFFFC00),
    ),
    "could not read L2 entry",
    "L2 entry is invalid",
    words=fine_words,
)
ARM = Paging(
    name="a first-level table of 1 MiB sections, then coarse or fine tables",
    entry_bytes=4,
    levels=(
        Level(
            "first-level table",
            20,
            12,
            (
                Page(mask=_TYPE | SUPERSECTION, value=SECTION, frame=0xFFF00000),
                # Its bits 23-20 and 8-5 are pa bits 39-32 where a CPU has them; the kernels' paddr_t has 32 bits.
                Page(mask=_TYPE | SUPERSECTION, value=SECTION | SUPERSECTION, frame=0xFF000000, shift=24),
                Pointer(mask=_TYPE, value=COARSE, frame=0xFFFFFC00),
                Pointer(mask=_TYPE, value=FINE, frame=0xFFFFF000, below=_FINE),
            ),
            "could not read L1 entry",
            "L1 entry is invalid",
            words=first_level_words,
        ),
        _COARSE,
    ),
    flags={},
    # All that the three functions above look at.
    protection=0x3FFFF,
    va_bits=32,
    canonical_bits=32,
)
