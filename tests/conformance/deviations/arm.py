"""arm and aarch64 of NetBSD; arm, arm64 and riscv64 of OpenBSD. The right answers are worked out here once more."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, fails, translates

IDS = {"A64-CNP", "ARM-FINE", "ARMV7-ZERO", "STATIC-END"}

#: What a CPU makes of an address: (pa, bytes), or the words of the failure.
Answer = tuple[int, int] | str


def excuse(id: str, right: Answer) -> Excuse:
    return Excuse(id, fails(right) if isinstance(right, str) else translates(lambda va: right))


def entry_at(kd: kvmlib.Kvm, table: int, index: int, size: int) -> int:
    assert kd.machine is not None
    return int.from_bytes(kd.memory.read(table + size * index, size), kd.machine.byteorder)


def aarch64_answer(kd: kvmlib.Kvm, va: int) -> tuple[Answer, bool]:
    """The answer, and whether it ends at an entry that libkvm takes for a block and the architecture doesn't."""
    tcr, table = kd.cpu_hdr["kh_tcr1"], kd.cpu_hdr["kh_ttbr1"] & 0xFFFFFFFFFFFE
    granule, inputs = {1: 14, 2: 12, 3: 16}[tcr >> 30 & 3], 64 - (tcr >> 16 & 63)
    if va < (1 << 64) - (1 << inputs):
        return "invalid kernel virtual address", False
    address = va & (1 << inputs) - 1
    shift = granule
    while shift + granule - 3 < inputs:
        shift += granule - 3
    while True:
        entry = entry_at(kd, table, address >> shift, 8)
        address &= (1 << shift) - 1
        level = 3 - (shift - granule) // (granule - 3)
        kinds = {1: level == 2 or (level == 1 and granule == 12), 3: True}
        if not kinds.get(entry & 3, False):
            return r"invalid translation \(invalid pte\)", entry & 3 == 1
        if level == 3 or entry & 3 == 1:
            return ((entry & (1 << 48) - 1) >> shift << shift | address, (1 << shift) - address), False
        table = (entry & (1 << 48) - 1) >> granule << granule
        shift -= granule - 3


def aarch64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if kd.cpu_hdr["kh_tcr1"] >> 30 & 3 == 0 or va >> 48 != 0xFFFF:
        return None
    try:
        right, reserved = aarch64_answer(kd, va)
    except (kvmlib.NotInDumpError, kvmlib.TruncatedError):
        return None
    outside = right == "invalid kernel virtual address"
    return excuse("A64-CNP", right) if outside or reserved or kd.cpu_hdr["kh_ttbr1"] & 1 else None


def alike(kd: kvmlib.Kvm, table: int, index: int, count: int) -> int:
    """How many of `count` entries are the same from that one on."""
    entries = [entry_at(kd, table, index + i, 4) for i in range(count)]
    return next((i for i, e in enumerate(entries) if e != entries[0]), count)


def arm_answer(kd: kvmlib.Kvm, va: int) -> tuple[Answer, bool]:
    """The answer, and whether libkvm comes to another one."""
    hdr = kd.cpu_hdr
    table = hdr["PAKernelL1Table" if va >= hdr["UserL1TableSize"] << 17 else "PAUserL1Table"]
    first = entry_at(kd, table, va >> 20, 4)
    wrong, unit, size = False, 20, 20
    if first & 3 == 0:
        return "L1 entry is invalid", False
    if first & 3 == 2:
        entry, index = first, va >> 20
        wrong = bool(first >> 18 & 1)
        size = 24 if wrong else 20
    else:
        fine = first & 3 == 3
        unit = 10 if fine else 12
        table = first & (0xFFFFF000 if fine else 0xFFFFFC00)
        index = (va & 0xFFFFF) >> unit
        wrong = fine and bool(first & 0xFF000)
        entry = entry_at(kd, table, index, 4)
        if entry & 3 == 0:
            return "L2 entry is invalid", wrong
        wrong |= not fine and entry & 3 == 3
        size = {1: 16, 2: 12, 3: 10 if fine else 12}[entry & 3]
    offset = va & (1 << size) - 1
    left = ((1 << size) - offset + (1 << unit) - 1) >> unit
    own = alike(kd, table, index, left)
    # libkvm trusts one entry of a large page for all of them.
    n = min((1 << size) - offset, (own << unit) - (va & (1 << unit) - 1))
    return (entry >> size << size | offset, n), wrong or own < left


def arm(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if kd.cpu_hdr["version"] != 1 or kd.cpu_hdr["flags"]:
        return None
    try:
        right, wrong = arm_answer(kd, va)
    except (kvmlib.NotInDumpError, kvmlib.TruncatedError):
        return None
    return excuse("ARM-FINE", right) if wrong else None


def static_range(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    assert kd.machine is not None
    hdr = kd.cpu_hdr
    end = (hdr["kernelbase"] + hdr["kerneloffs"] + hdr["staticsize"]) % (1 << 8 * kd.machine.long_bytes)
    if "pa" in entry and va + entry["len"] > end:
        return excuse("STATIC-END", (int(entry["pa"], 16), end - va))
    return None


TRANSLATIONS = {
    "netbsd/aarch64": aarch64,
    "netbsd/arm": arm,
    "openbsd/arm": static_range,
    "openbsd/arm64": static_range,
    "openbsd/riscv64": static_range,
}
PA2OFF: dict[str, object] = {}
