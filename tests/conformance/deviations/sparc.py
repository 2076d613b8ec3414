"""sparc64 of both systems, and sun4. What a locked block or a sun4's PTE maps is worked out here once more."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, fails, in_dump, translates

IDS = {"SPARC64-FIRST", "SPARC64-JUNK", "SUN4-8196", "WIRED-INT"}


def locked(kd: kvmlib.Kvm, va: int) -> tuple[int, int, int] | None:
    """(bytes before va in its block, pa, bytes left) where a block of text or data has it."""
    hdr = kd.cpu_hdr
    for kind in ("ktext", "kdata"):
        base, pa, size = (hdr[kind + field] for field in ("base", "p", "sz"))
        if hdr["kernbase"] <= va and base <= va < base + size:
            return va - base, pa + va - base, base + size - va
    return None


def netbsd_sparc64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    new = kd.cpu_hdr["memsegoffset"] > 152 and kd.cpu_hdr.get("newmagic") == 0x3AFEC01E
    found = None if new else locked(kd, va)
    if found is not None and found[0] == 0:
        return Excuse("SPARC64-FIRST", translates(lambda va: found[1:]))
    return None


def openbsd_sparc64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    found = locked(kd, va)
    if found is not None and (found[0] == 0 or found[2] >= 1 << 31):
        return Excuse("WIRED-INT", translates(lambda va: found[1:]))
    return None


def junk(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    if not in_dump(kd, pa) and entry["off"] != -1 and kd.cpu_hdr["nmemseg"] > len(kd.segments):
        return Excuse("SPARC64-JUNK", lambda kd, pa: not in_dump(kd, pa))
    return None


def sun4(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    """Where a segment has a PMEG, libkvm looks for it elsewhere, and takes other bits of the address for the offset."""
    hdr, data = kd.cpu_hdr, kd.cpu_data
    number = va - hdr["kernbase"] >> 18
    if hdr["cputype"] != 0 or not 0 <= number < hdr["nsegmap"]:
        return None
    record = data[hdr["segmapoffset"] + 16 * number :][:16]
    pmeg = int.from_bytes(record[12:14])
    if record[14] == 0 or pmeg == hdr["npmeg"] - 1:
        return None
    pte = int.from_bytes(data[hdr["pmegoffset"] + 4 * (32 * pmeg + (va >> 13 & 31)) :][:4])
    if pmeg >= hdr["npmeg"] or not pte >> 31:
        return Excuse("SUN4-8196", fails(rf"invalid address \({va:#x}\)"))
    offset = va & 8191
    return Excuse("SUN4-8196", translates(lambda va: ((pte & 0x7FFFF) << 13 | offset, 8192 - offset)))


TRANSLATIONS = {"netbsd/sparc": sun4, "netbsd/sparc64": netbsd_sparc64, "openbsd/sparc64": openbsd_sparc64}
PA2OFF = {"openbsd/sparc64": junk}
