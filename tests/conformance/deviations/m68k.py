"""m68k, sun2, sun3 and sun3x."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, absent

IDS = {"SUN2-DUMPEXTRA"}
#: sun2's kernels write a header page and eight with the MMU's PMEGs, without the eight bytes of the segment header.
SUN2_CPU_DATA = 9 * 2048 - 8
SUN2_PMEGS = 2048 - 8


def counted(kd: kvmlib.Kvm) -> int:
    """Bytes of CPU data that the header says there are."""
    assert kd.reading is not None
    return int.from_bytes(kd.image.read(kd.reading.headers.cpu_off - 4, 4))


def uncounted(kd: kvmlib.Kvm) -> int:
    """SUN2-DUMPEXTRA: bytes of CPU data that are in the file, though the header doesn't count them."""
    if kd.cpu_hdr.get("name") != "sun2":
        return 0
    assert kd.reading is not None
    headers = kd.reading.headers
    missing = SUN2_CPU_DATA - counted(kd)
    # In a saved core, the header of the memory segment lies between them.
    first = headers.cpu_off + counted(kd) + (headers.kcore_hdr.c_seghdrsize if headers.form == "savecore" else 0)
    return missing if missing > 0 and first + missing <= kd.image.size else 0


def m68k(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    last = kd.walk(va)[-1]
    if last.outcome == "unreadable":
        # Libkvm's own words for it: it fails too, unless something else lies where it looks.
        return absent("can not read PTE!" if last.name == "PTEs of the kernel" else f"invalid address \\({va:x}\\)")
    return None


def sun2_pte(kd: kvmlib.Kvm, va: int) -> int | None:
    """The byte of the CPU data at which the PTE of `va` lies, if the map reaches that far."""
    hdr = kd.cpu_hdr
    number = (va - hdr["kernbase"]) >> hdr["segshift"]
    if not 0 <= number < len(hdr["ksegmap"]):
        return None
    return SUN2_PMEGS + 64 * int(hdr["ksegmap"][number]) + 4 * (va >> 11 & 15)


def sun2_is_right(kd: kvmlib.Kvm, va: int) -> bool:
    at = sun2_pte(kd, va)
    pte = 0 if at is None else int.from_bytes(kd.cpu_data[at : at + 4])
    try:
        found = kd.kvatop(va)
    except kvmlib.TranslationError:
        return not pte & kd.cpu_hdr["pg_valid"]
    page = (pte & kd.cpu_hdr["pg_frame"]) << 11
    return bool(pte & kd.cpu_hdr["pg_valid"]) and found == (page + va % 2048, 2048 - va % 2048)


def sun2(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if not uncounted(kd):
        return None
    at = sun2_pte(kd, va)
    # A read gets what lies too far left; a translation is right where its PTE is in the pages that are counted.
    if "sha256" in entry or (at is not None and at + 4 > counted(kd)):
        return Excuse("SUN2-DUMPEXTRA", sun2_is_right)
    return None


TRANSLATIONS = {"netbsd/m68k": m68k, "netbsd/m68000": sun2}
PA2OFF: dict[str, object] = {}
