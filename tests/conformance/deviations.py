"""Where an answer of libkvm's is not ours, and under which id of the list of deviations.

Each function says, for one recorded answer, which id excuses a difference; None means we must agree.
"""

from typing import Any

import kvmlib

Entry = dict[str, Any]

#: Marks in the vectors of answers that libkvm got by reading what isn't there.
_BY_ACCIDENT = ("stale_iobuf", "off_error", "pa2off_error")


def in_dump(kd: kvmlib.Kvm, pa: int, n: int = 1) -> bool:
    """Tell whether all of [pa, pa + n) lies in segments."""
    return all(s.kind != "not_in_dump" for s in kd.memory.spans(pa, n))


def of_pa2off(kd: kvmlib.Kvm, entry: Entry, pa: int) -> str | None:
    """Excuse an answer of pa2off."""
    return None if in_dump(kd, pa) or not kd.segments else "ABSENT"


def of_translation(kd: kvmlib.Kvm, entry: Entry, va: int) -> str | None:
    """Excuse an answer of kvatop."""
    if kd.translator.bits == 64 and not (va < 1 << 47 or va >= (1 << 64) - (1 << 47)):
        return "AMD64-CANON"
    assert kd.machine is not None
    if kd.machine.name == "openbsd/amd64":
        if va == 0xFFFFFF8000000000:
            return "AMD64-DIRECT"
        if any(step.name == "PDPT" and "PS" in step.flags for step in kd.walk(va)):
            return "AMD64-1G"
    large = any(step.shift > 12 and "PS" in step.flags for step in kd.walk(va))
    if kd.machine.name == "openbsd/i386" and large:
        return "I386-PAE"
    if any(step.outcome == "unreadable" for step in kd.walk(va)):
        return "ABSENT"
    return None
