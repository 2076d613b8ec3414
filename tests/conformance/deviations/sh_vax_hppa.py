"""SuperH, VAX and PA-RISC."""

import kvmlib
from tests.conformance.deviations.alpha_riscv import stub as not_implemented
from tests.conformance.deviations.base import Entry, Excuse, fails, in_dump, translates

IDS = {"HPPA-IDENT", "SH-P3", "SH-SEG", "STUB"}
P3, P4 = 0xC0000000, 0xE0000000
MISPLACED = "physical address out of the image"


def openbsd_sh(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if P3 <= va < P4:
        return sh_p3(kd, va)
    if MISPLACED in str(entry.get("off_error") or entry.get("error")):
        # The translation is right, only what it is used for isn't.
        return Excuse("SH-SEG", translates(lambda va: (va & 0x1FFFFFFF, 0x20000000 - (va & 0x1FFFFFFF))))
    return None


def sh_p3(kd: kvmlib.Kvm, va: int) -> Excuse | None:
    """What the kernel's pmap makes of it: level 1 has pointers into P1, as it sees the tables."""

    def word(pa: int) -> int | None:
        if not in_dump(kd, pa, 4) or kd.pa2off(pa) + 4 > kd.image.size:
            return None
        return int.from_bytes(kd.read_physical(pa, 4), "little")

    pointer = word(kd.cpu_hdr["kcore_kptp"] + 4 * (va - P3 >> 22))
    if pointer is None:
        return Excuse("SH-P3", fails("could not read level 1 pte"))
    if pointer & 0xE0000FFF != 0x80000000:
        # libkvm fails too; only the last byte of P3 is none of a kernel's to it.
        return Excuse("SH-P3", fails("invalid level 1 pte")) if va == P4 - 1 else None
    pte = word((pointer & 0x1FFFFFFF) + 4 * (va >> 12 & 1023))
    if pte is None:
        return Excuse("SH-P3", fails("could not read level 2 pte"))
    if not pte & 0x100:
        return Excuse("SH-P3", fails("invalid level 2 pte: no valid bit"))
    page = pte & 0x1FFFF000
    return Excuse("SH-P3", translates(lambda va: (page + va % 4096, 4096 - va % 4096)))


def sh_segments(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    if MISPLACED not in entry.get("off_error", ""):
        return None
    return Excuse("SH-SEG", lambda kd, pa: found_at(kd, pa) == (kd.pa2off(pa) if in_dump(kd, pa) else None))


def found_at(kd: kvmlib.Kvm, pa: int) -> int | None:
    """Where the header's own list of segments puts it."""
    assert kd.dump_off is not None
    at = kd.dump_off
    for i in range(kd.cpu_hdr["kcore_nsegs"]):
        raw = kd.cpu_data[8 + 16 * i : 24 + 16 * i]
        start, size = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
        if start <= pa < start + size:
            return at + pa - start
        at += size
    return None


def hppa(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    end = kd.ram[-1].start + kd.ram[-1].size + 4095 & ~4095
    return Excuse("HPPA-IDENT", fails("mapped one to one")) if va >= end else None


def stub(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    """NetBSD's for hppa returns 0 and says nothing."""
    assert entry["off"] == 0
    assert "error" not in entry
    return Excuse("STUB", lambda kd, pa: kd.pa2off(pa) == (kd.dump_off or 0) + pa)


TRANSLATIONS = {"openbsd/sh": openbsd_sh, "openbsd/hppa": hppa}
PA2OFF = {
    "openbsd/sh": sh_segments,
    "netbsd/sh3el": not_implemented,
    "netbsd/sh3eb": not_implemented,
    "netbsd/hppa": stub,
}
