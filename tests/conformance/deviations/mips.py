"""MIPS, of 32 and 64 bits."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, fails, in_dump, translates

IDS = {"MIPS64-INIT", "MIPS64-XKSEG"}
XKSEG = 0xC000000000000000


def xkseg(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    hdr = kd.cpu_hdr
    index = (va - XKSEG) >> 12
    if not 0 <= index < hdr["sysmapsize"]:
        return None
    assert kd.machine is not None
    at = hdr["sysmappa"] + 4 * index
    if not in_dump(kd, at, 4) or kd.pa2off(at) + 4 > kd.image.size:
        return Excuse("MIPS64-XKSEG", fails("could not read PTE"))
    pte = int.from_bytes(kd.read_physical(at, 4), kd.machine.byteorder)
    if not pte & hdr["pg_v"]:
        return Excuse("MIPS64-XKSEG", fails(r"invalid translation \(invalid PTE\)"))
    page = (pte & hdr["pg_frame"]) >> hdr["pg_shift"]
    return Excuse("MIPS64-XKSEG", translates(lambda va: (page * 4096 + va % 4096, 4096 - va % 4096)))


TRANSLATIONS = {"netbsd/mips64": xkseg, "netbsd/mips64el": xkseg}
PA2OFF: dict[str, object] = {}
