"""Where an answer of libkvm's is not ours, and under which id of the list of deviations.

Each family of machines has a module with its rules. A rule looks at one recorded answer and says which id excuses a
difference, and what ours must be then; None means we must agree.
"""

from collections.abc import Callable, Mapping

import kvmlib
from tests.conformance.deviations import alpha_riscv, arm, m68k, mips, powerpc, sh_vax_hppa, sparc, x86
from tests.conformance.deviations.base import Entry, Excuse, absent, in_dump, nothing

__all__ = ["IDS", "Excuse", "in_dump", "of_pa2off", "of_translation"]

_FAMILIES = (alpha_riscv, arm, m68k, mips, powerpc, sh_vax_hppa, sparc, x86)

#: All ids that may excuse something, as in the README's list.
IDS = frozenset({"ABSENT", "STRADDLE", "SEGSUM"}.union(*(f.IDS for f in _FAMILIES)))
_TRANSLATIONS: Mapping[str, Callable[[kvmlib.Kvm, Entry, int], Excuse | None]] = {
    name: rule for f in _FAMILIES for name, rule in f.TRANSLATIONS.items()
}
_PA2OFF: Mapping[str, Callable[[kvmlib.Kvm, Entry, int], Excuse | None]] = {
    name: rule for f in _FAMILIES for name, rule in f.PA2OFF.items()
}


def of_translation(kd: kvmlib.Kvm, entry: Entry, va: int) -> Excuse | None:
    """Excuse an answer of kvatop."""
    assert kd.machine is not None
    found = _TRANSLATIONS.get(kd.machine.name, nothing)(kd, entry, va)
    if found is None and any(step.outcome == "unreadable" for step in kd.walk(va)):
        return absent(r"could not read|cannot read|invalid address")
    assert found is None or found.id in IDS
    return found


def of_pa2off(kd: kvmlib.Kvm, entry: Entry, pa: int) -> Excuse | None:
    """Excuse an answer of pa2off, for a device."""
    assert kd.machine is not None
    found = _PA2OFF.get(kd.machine.name, nothing)(kd, entry, pa)
    assert found is None or found.id in IDS
    if found is None and kd.segments and not in_dump(kd, pa):
        return Excuse("ABSENT", lambda kd, pa: not in_dump(kd, pa))
    return found
