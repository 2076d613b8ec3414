"""NetBSD on 68020 and later, all ports but sun2.

Sources: sys/arch/m68k/include/kcore.h; cpu_init_kcorehdr and dumpsys in sys/arch/*/*/machdep.c; lib/libkvm/kvm_m68k*.c.

The CPU header begins with the port's name: see `m68k`. hp300, luna68k, news68k and next68k dump no more than the first
segment; mvme68k, x68k, mac68k, atari and amiga dump all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.base import NETBSD, Machine
from kvmlib.ports.m68k import COMMON, settle
from kvmlib.ports.trapframes import M68K, M68K_FRAMES

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


def _samples() -> tuple[SamplePlan, ...]:
    from kvmlib.ports.m68k_plan import AMIGA, HP300, MVME68K, X68K
    from kvmlib.ports.m68k_sun_plan import SUN3, SUN3X

    return (HP300, MVME68K, AMIGA, X68K, SUN3, SUN3X)


MACHINE = Machine(
    system=NETBSD,
    arch="m68k",
    mid=135,
    byteorder="big",
    long_bytes=4,
    page_size=4096,
    align_mask=3,
    settle=settle,
    ports=(
        "amiga",
        "atari",
        "cesfic",
        "hp300",
        "luna68k",
        "mac68k",
        "mvme68k",
        "news68k",
        "next68k",
        "sun3",
        "x68k",
    ),
    libkvm="chosen by the header's name",
    ours="both layouts of ram_segs; absent memory is told",
    dumpmag_bytes=4,
    trapframes=(M68K,),
    frames=M68K_FRAMES,
    elf_machine="EM_68K",
    samples=_samples,
    **COMMON,
)
