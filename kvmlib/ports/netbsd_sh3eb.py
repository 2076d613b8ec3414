"""NetBSD/sh3eb. Sources: as for sh3el."""

from __future__ import annotations

from dataclasses import replace

from kvmlib.ports import netbsd_sh3el
from kvmlib.ports.sh_vax_hppa_plan import SH3EB

MACHINE = replace(
    netbsd_sh3el.MACHINE,
    arch="sh3eb",
    byteorder="big",
    ports=("evbsh3", "mmeye"),
    samples=(SH3EB,),
)
