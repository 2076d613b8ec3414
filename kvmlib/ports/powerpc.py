"""The PowerPC's registers in words: version, page table, segment registers, BATs.

Sources: PowerPC Programming Environments Manual, chapter 7; PowerPC 601 user's manual, chapter 6; NetBSD's
powerpc/oea/spr.h for the versions' names.
"""

from __future__ import annotations

from kvmlib.translate.hashed import PteForm, bat_pair, bat_pair_601

#: The upper half of PVR.
_CPUS = {
    0x1: "PowerPC 601",
    0x3: "PowerPC 603",
    0x4: "PowerPC 604",
    0x5: "PowerPC 602",
    0x6: "PowerPC 603e",
    0x7: "PowerPC 603ev",
    0x8: "PowerPC 750",
    0x9: "PowerPC 604e",
    0xA: "PowerPC 604ev",
    0xC: "PowerPC 7400",
    0x14: "PowerPC 620",
    0x20: "PowerPC 403",
    0x35: "POWER4",
    0x38: "POWER4+",
    0x39: "PowerPC 970",
    0x3A: "POWER5",
    0x3B: "POWER5+",
    0x3C: "PowerPC 970FX",
    0x3E: "POWER6",
    0x40: "POWER3",
    0x41: "POWER3-II",
    0x44: "PowerPC 970MP",
    0x45: "PowerPC 970GX",
    0x50: "PowerPC 860",
    0x70: "Cell",
    0x81: "PowerPC 8240",
    0x90: "PA6T",
    0x4011: "PowerPC 405GP",
    0x7000: "PowerPC 750FX",
    0x7002: "PowerPC 750GX",
    0x8000: "PowerPC 7450",
    0x8001: "PowerPC 7455",
    0x8002: "PowerPC 7457",
    0x8003: "PowerPC 7447A",
    0x8004: "PowerPC 7448",
    0x800C: "PowerPC 7410",
    0x8011: "PowerPC 5200",
    0x8020: "PowerPC e500",
    0x8021: "PowerPC e500v2",
    0x8081: "PowerPC 8245",
    0x8082: "PowerPC G2",
    0x8083: "PowerPC e300c1",
    0x8084: "PowerPC e300c2",
    0x8085: "PowerPC e300c3",
}
MPC601 = 0x01
#: What the kernel may do by PP: in a BAT, and in a 601's BAT without and with Ks.
_PP = ("no access", "read only", "read and write", "read only")
_PP_601 = (("read and write", "read and write", "read and write", "read only"), _PP)
_CACHING = {6: "write-through", 5: "not cached", 4: "coherent", 3: "guarded"}


def version(pvr: int) -> int:
    """Return which CPU it is."""
    return pvr >> 16


def cpu_name(pvr: int) -> str:
    """Name the CPU."""
    name = _CPUS.get(version(pvr), "a CPU that is not known")
    return f"{name}, revision {pvr & 0xFFFF:#x}"


def sdr1_text(sdr1: int, form: PteForm) -> str:
    """Say where the hashed page table is and how large."""
    pa, mask = form.table(sdr1)
    size = (mask + 1) * form.group_bytes
    return f"page table of {size >> 10} KiB at pa {pa:#x}"


def segment_text(number: int, value: int) -> str:
    """Say what segment register `number` of a 32-bit CPU holds."""
    what = f"va {number << 28:#x}: "
    if value >> 31:
        return f"{what}a direct-store segment (T=1), which holds no memory"
    keys = {30: "Ks", 29: "Kp", 28: "N, not for execution"}
    return what + ", ".join([f"VSID {value & 0xFFFFFF:#x}", *(k for bit, k in keys.items() if value >> bit & 1)])


def _caching(bits: int) -> list[str]:
    return [word for bit, word in _CACHING.items() if bits >> bit & 1]


def bat_text(number: int, upper: int, lower: int) -> str:
    """Say what a BAT pair maps, and how the kernel may use it."""
    pair = bat_pair(number, upper, lower)
    return ", ".join([pair.text, _PP[lower & 3], *_caching(lower)]) if pair.blocks else pair.text


def bat_text_601(number: int, upper: int, lower: int) -> str:
    """Say what a BAT pair of a 601 maps, whose protection is in the upper register."""
    pair = bat_pair_601(number, upper, lower)
    access = _PP_601[upper >> 3 & 1][upper & 3]
    return ", ".join([pair.text, access, *_caching(upper & ~8)]) if pair.blocks else pair.text
