"""amd64 and i386."""

import kvmlib
from tests.conformance.deviations.base import Entry, Excuse, fails, translates

IDS = {"AMD64-CANON", "AMD64-DIRECT", "AMD64-1G", "I386-PAE"}


def amd64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if not (va < 1 << 47 or va >= (1 << 64) - (1 << 47)):
        return Excuse("AMD64-CANON", fails("not canonical"))
    return None


def openbsd_amd64(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if va == 0xFFFFFF8000000000:
        return Excuse("AMD64-DIRECT", lambda kd, va: kd.walk(va)[-1].outcome != "window")
    if any(step.name == "PDPT" and "PS" in step.flags for step in kd.walk(va)):
        return Excuse("AMD64-1G", translates())
    return amd64(kd, entry, va)


def openbsd_i386(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    if any(step.shift > 12 and "PS" in step.flags for step in kd.walk(va)):
        return Excuse("I386-PAE", translates())
    return None


TRANSLATIONS = {"openbsd/amd64": openbsd_amd64, "netbsd/amd64": amd64, "openbsd/i386": openbsd_i386}
PA2OFF: dict[str, object] = {}
