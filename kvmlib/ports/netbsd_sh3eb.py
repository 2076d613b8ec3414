"""NetBSD/sh3eb. Sources: as for sh3el."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvmlib.ports import netbsd_sh3el

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.sh_vax_hppa_plan import SH3EB

    return (SH3EB,)


MACHINE = replace(
    netbsd_sh3el.MACHINE,
    arch="sh3eb",
    byteorder="big",
    ports=("evbsh3", "mmeye"),
    samples=_samples,
)
