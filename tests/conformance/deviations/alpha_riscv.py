"""Alpha, RISC-V, and the machines of which libkvm knows nothing but the header: or1k, ia64, m88k."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, fails, in_dump

IDS = {"RISCV", "SEGSUM", "STUB"}

_SATP_BITS = {8: 39, 9: 48, 10: 57}


def riscv(kd: kvmlib.Kvm, va: int) -> tuple[int, int] | None:
    """What va translates to by the manual's recipe, None for a page fault."""
    satp = kd.cpu_hdr["kh_satp"]
    bits = _SATP_BITS[satp >> 60]
    if va >> bits - 1 not in (0, (1 << 65 - bits) - 1):
        return None
    table, shift = (satp & (1 << 44) - 1) << 12, bits
    while shift > 12:
        shift -= 9
        try:
            pte = int.from_bytes(kd.read_physical(table + 8 * (va >> shift & 511), 8), "little")
        except kvmlib.NotInDumpError:
            return None
        v, r, w, x = (pte >> i & 1 for i in range(4))
        if not v or (w and not r):
            return None
        table = (pte >> 10 & (1 << 44) - 1) << 12
        if r or x:
            size = 1 << shift
            return None if table % size else (table + va % size, size - va % size)
    return None


def _is_fault(kd: kvmlib.Kvm, va: int) -> bool:
    return riscv(kd, va) is None and fails(r"invalid translation \(invalid pte\)|could not read pte|canonical")(kd, va)


def netbsd_riscv64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    """Libkvm translates nothing, so its reads fail. What is right is recorded too: "page fault" is the CPU's word."""
    if entry.get("error") == "page fault":
        return Excuse("RISCV", _is_fault)
    if "ret" in entry:
        return Excuse("RISCV", lambda kd, va: riscv(kd, va) == kd.kvatop(va))
    return None


def plain_sum(kd: kvmlib.Kvm, pa: int, *, next_size: bool = False) -> int | None:
    """The file offset of `pa` by the sizes before its segment, or (`next_size`) as libkvm adds them up."""
    assert kd.dump_off is not None
    at = kd.dump_off
    for i, s in enumerate(kd.segments):
        if s.start <= pa < s.start + s.size:
            return at + pa - s.start
        at += kd.segments[i + 1].size if next_size and i + 1 < len(kd.segments) else s.size
    return None


def segsum(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    if in_dump(kd, pa) and plain_sum(kd, pa) != plain_sum(kd, pa, next_size=True):
        return Excuse("SEGSUM", lambda kd, pa: kd.pa2off(pa) == plain_sum(kd, pa))
    return None


def _listed(kd: kvmlib.Kvm, pa: int) -> bool:
    return plain_sum(kd, pa) == (kd.pa2off(pa) if in_dump(kd, pa) else None)


def stub(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    """Libkvm has nothing but "not yet implemented" to say, with 0 or -1, for every pa."""
    assert "not yet implemented" in (entry.get("error") or entry.get("off_error") or entry.get("pa2off_error", ""))
    assert entry["off"] in (0, -1)
    if kd.segments:
        return Excuse("STUB", _listed)
    return Excuse("STUB", lambda kd, pa: kd.pa2off(pa) == (kd.dump_off or 0) + pa)


TRANSLATIONS = {"netbsd/riscv64": netbsd_riscv64}
PA2OFF = {"netbsd/riscv64": segsum, "netbsd/or1k": segsum, "netbsd/ia64": stub, "openbsd/m88k": stub}
