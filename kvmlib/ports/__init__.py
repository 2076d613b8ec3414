"""The table of all machines: one file of facts each."""

from __future__ import annotations

from kvmlib.errors import KvmError
from kvmlib.ports import (
    netbsd_aarch64,
    netbsd_alpha,
    netbsd_amd64,
    netbsd_arm,
    netbsd_hppa,
    netbsd_i386,
    netbsd_ia64,
    netbsd_m68k,
    netbsd_m68000,
    netbsd_mips64,
    netbsd_mips64el,
    netbsd_mipseb,
    netbsd_mipsel,
    netbsd_or1k,
    netbsd_powerpc,
    netbsd_powerpc64,
    netbsd_riscv64,
    netbsd_sh3eb,
    netbsd_sh3el,
    netbsd_sparc,
    netbsd_sparc64,
    netbsd_vax,
    openbsd_alpha,
    openbsd_amd64,
    openbsd_arm,
    openbsd_arm64,
    openbsd_hppa,
    openbsd_i386,
    openbsd_m88k,
    openbsd_mips64,
    openbsd_powerpc,
    openbsd_powerpc64,
    openbsd_riscv64,
    openbsd_sh,
    openbsd_sparc64,
)
from kvmlib.ports.base import Machine
from kvmlib.text import printable

MACHINES: tuple[Machine, ...] = (
    openbsd_alpha.MACHINE,
    openbsd_amd64.MACHINE,
    openbsd_arm.MACHINE,
    openbsd_arm64.MACHINE,
    openbsd_hppa.MACHINE,
    openbsd_i386.MACHINE,
    openbsd_m88k.MACHINE,
    openbsd_mips64.MACHINE,
    openbsd_powerpc.MACHINE,
    openbsd_powerpc64.MACHINE,
    openbsd_riscv64.MACHINE,
    openbsd_sh.MACHINE,
    openbsd_sparc64.MACHINE,
    netbsd_aarch64.MACHINE,
    netbsd_alpha.MACHINE,
    netbsd_amd64.MACHINE,
    netbsd_arm.MACHINE,
    netbsd_hppa.MACHINE,
    netbsd_i386.MACHINE,
    netbsd_ia64.MACHINE,
    netbsd_m68000.MACHINE,
    netbsd_m68k.MACHINE,
    netbsd_mips64.MACHINE,
    netbsd_mips64el.MACHINE,
    netbsd_mipseb.MACHINE,
    netbsd_mipsel.MACHINE,
    netbsd_or1k.MACHINE,
    netbsd_powerpc.MACHINE,
    netbsd_powerpc64.MACHINE,
    netbsd_riscv64.MACHINE,
    netbsd_sh3eb.MACHINE,
    netbsd_sh3el.MACHINE,
    netbsd_sparc.MACHINE,
    netbsd_sparc64.MACHINE,
    netbsd_vax.MACHINE,
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
