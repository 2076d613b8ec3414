"""PowerPC, 32 and 64 bits."""

import kvmlib
from tests.conformance.deviations.alpha_riscv import segsum, stub
from tests.conformance.deviations.base import Entry, Excuse

IDS = {"PPC-HASH", "SEGSUM", "STUB"}

Answer = tuple[int, int] | None


def _bat(kd: kvmlib.Kvm, va: int, *, libkvm: bool) -> Answer:
    """What a data BAT translates va to: by the manual, or as libkvm misreads them."""
    hdr = kd.cpu_hdr
    is_601 = hdr["pvr"] >> 16 == 1
    for upper, lower in list(zip(hdr["dbatu"], hdr["dbatl"], strict=True))[: 4 if is_601 else 8]:
        if is_601:
            valid, mask = (upper if libkvm else lower) & 0x40, (lower & 0x3F) << 17 | 0x1FFFF
            length = ((upper if libkvm else lower) & 0x3F) << 17 | 0x1FFFF
        else:
            valid, mask = upper & 2, (upper & 0x1FFFC) << 15 | 0x1FFFF
            length = (upper & 0x1FFC) << 15 | 0x1FFFF if libkvm else mask
        if not valid or va & 0xFFFE0000 & ~mask != upper & 0xFFFE0000:
            continue
        if libkvm:
            return (lower & 0xFFFE0000) + (va & length), length + 1 - (va & length)
        # What isn't compared is added; the bits of a length are contiguous, or it goes on as far as they are.
        unit = (mask + 1) & ~mask
        return (lower & 0xFFFE0000) + (va & mask), unit - va % unit
    return None


def _table(kd: kvmlib.Kvm, va: int, *, libkvm: bool) -> Answer:
    hdr = kd.cpu_hdr
    segment = hdr["sr"][va >> 28]
    if segment >> 31:
        return None
    vsid, page = segment & 0xFFFFFF, va >> 12 & 0xFFFF
    size = (hdr["sdr1"] & 0x1FF) << 10 | 0x3FF
    for secondary in (0, 1):
        number = (vsid ^ page ^ (0x7FFFF if secondary else 0)) & size
        group = kd.read_physical((hdr["sdr1"] & 0xFFFF0000) + 64 * number, 64)
        for i in range(0, 64, 8):
            first, second = (int.from_bytes(group[i + j : i + j + 4], "big") for j in (0, 4))
            h = 0 if libkvm else secondary
            if first == 1 << 31 | vsid << 7 | h << 6 | page >> 10:
                return (second & 0xFFFFF000) + va % 4096, 4096 - va % 4096
    return None


def translate(kd: kvmlib.Kvm, va: int, *, libkvm: bool = False) -> Answer:
    """What va translates to by the manual, or as libkvm would have it; None for nothing."""
    return _bat(kd, va, libkvm=libkvm) or _table(kd, va, libkvm=libkvm)


def _ours(kd: kvmlib.Kvm, va: int) -> bool:
    try:
        pa, n = kd.kvatop(va)
    except kvmlib.TranslationError:
        return translate(kd, va) is None
    return translate(kd, va) == (pa, n)


def netbsd_powerpc(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if kd.translator.name == "none":
        return None
    try:
        right, wrong = translate(kd, va), translate(kd, va, libkvm=True)
    except kvmlib.NotInDumpError:
        return None  # ABSENT
    return None if right == wrong else Excuse("PPC-HASH", _ours)


TRANSLATIONS = {"netbsd/powerpc": netbsd_powerpc}
PA2OFF = {
    "netbsd/powerpc": segsum,
    "netbsd/powerpc64": segsum,
    "openbsd/powerpc": stub,
    "openbsd/powerpc64": stub,
}
