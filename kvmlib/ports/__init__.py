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
    """Return the machine called `name` (``os/arch``), or one of its forms (``os/arch-variant``).

    Raises:
        KvmError: there is no such machine; the names there are are listed.
    """
    if isinstance(name, Machine):
        return name
    wanted = name.strip().lower()
    for m in MACHINES:
        for form in (m, *m.forms):
            if wanted == m.name or (form.variant and wanted == f"{m.name}-{form.variant}"):
                return form
    known = ", ".join(m.name for m in MACHINES)
    raise KvmError(f"there is no machine {printable(repr(name))}: the machines are {known}")
