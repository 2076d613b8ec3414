"""The table of all machines: one file of facts each."""

from __future__ import annotations

from kvmlib.errors import KvmError
from kvmlib.ports import netbsd_amd64, netbsd_i386, openbsd_amd64, openbsd_i386
from kvmlib.ports.base import Machine
from kvmlib.text import printable

MACHINES: tuple[Machine, ...] = (
    openbsd_amd64.MACHINE,
    openbsd_i386.MACHINE,
    netbsd_amd64.MACHINE,
    netbsd_i386.MACHINE,
)
MIDS = frozenset(m.mid for m in MACHINES)


def machines() -> tuple[Machine, ...]:
    """Return every machine whose dumps can be read."""
    return MACHINES


def machine(name: str | Machine) -> Machine:
    """Return the machine called `name` (``os/arch``).

    Raises:
        KvmError: there is no such machine; the names there are are listed.
    """
    if isinstance(name, Machine):
        return name
    for m in MACHINES:
        if m.name == name.strip().lower():
            return m
    known = ", ".join(m.name for m in MACHINES)
    raise KvmError(f"there is no machine {printable(repr(name))}: the machines are {known}")
