"""Whether a dump is whole, whether it was saved before, and what was written over it: read only, and with reasons."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from kvmlib.errors import KvmError
from kvmlib.kvm import DumpMag, Kvm
from kvmlib.search import known
from kvmlib.variables import integer, machine_of

_MAG_WORDS = {"fresh": "a dump that was not saved yet", "cleared": "cleared: it was saved or invalidated"}
_MASK32 = 0xFFFFFFFF
#: A header with a lower score than this contradicts itself.
_BELIEVABLE = 30
#: Most pages of memory that are looked at, on a file and on a device (which reads 64 KiB for each); most functions,
#: and most addresses whose page tables are.
_PAGES, _PAGES_OF_DEVICE, _FUNCTIONS, _ADDRESSES = 2048, 512, 256, 64
#: Parts of the map that a reason names.
_NAMED = 4
#: What files of text are made of, and fs_magic of both kinds of FFS (ufs/ffs/fs.h) in both byte orders.
_TEXT = bytes([*b"\t\n\r", *range(0x20, 0x7F)])
_SUPERBLOCKS = tuple(m.to_bytes(4, order) for m in (0x011954, 0x19540119) for order in ("little", "big"))
_NOISE = "random bytes: encrypted swap, or data that was packed"


class State(NamedTuple):
    """Whether the dump is worth saving.

    Attributes:
        verdict: ``fresh``, ``saved`` (dumpmag was cleared, or this is the saved core), ``truncated``, ``overwritten``,
            ``header only``, ``not believable`` or ``unknown``.
        complete: whether all memory that there should be is in the file, and nothing else was written over it; False
            too where nothing says how much that is.
        reasons: sentences.
        damage: what lies in memory that isn't the kernel's, by physical address.
    """

    verdict: str
    complete: bool
    reasons: tuple[str, ...]
    damage: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class Damage:
    """Memory that holds something else than the kernel left there.

    Attributes:
        pa: of its first byte.
        size: bytes; as far as the samples tell.
        what: what is there, in a few words.
        certain: whether it can't be the kernel's own; random bytes may be, too.
    """

    pa: int
    size: int
    what: str
    certain: bool


class Extent(NamedTuple):
    """How much memory there should be and how much there is, in bytes.

    Attributes:
        promised: what should be there; None where nothing says so.
        present: what is in the file.
        source: where `promised` was found.
    """

    promised: int | None
    present: int
    source: str

    @property
    def missing(self) -> int:
        """Bytes that should be in the file and aren't."""
        return 0 if self.promised is None else max(0, self.promised - self.present)


def extent(kd: Kvm) -> Extent:
    """Find out how much of its memory the dump has.

    Raises:
        FormatError: no header was found yet.
    """
    machine_of(kd)
    assert kd.reading is not None
    headers = kd.reading.headers
    left = max(0, kd.image.size - headers.data_off)
    if kd.segments:
        promised = sum(s.size for s in kd.segments)
        listed = "dumpmem" if kd.symbols.get("dumpmem") else "dumpsize"
        source = "header" if kd.reading.segments is not None else f"symbol {listed}"
        return Extent(promised, promised - kd.memory.missing, source)
    if (by_header := headers.promised(left)) is not None:
        return Extent(by_header, min(by_header, left), "CORE_DATA header")
    if (size := dumpsize(kd)) is not None:
        return Extent(size, min(size, left), "symbol dumpsize")
    return Extent(None, left, "")


def dumpsize(kd: Kvm) -> int | None:
    """Return the bytes of memory that the kernel's variable dumpsize (pages) says it dumps.

    None unless it can be read and can be true: with another kernel's symbols it may be any number.

    Raises:
        FormatError: no header was found yet.
    """
    machine = machine_of(kd)
    assert kd.dump_off is not None
    symbol, version, banner = kd.symbols.get("dumpsize"), kd.symbols.get("version"), machine.system.banner
    if symbol is None:
        return None
    try:
        if version is not None and kd.read(version.value, len(banner)) != banner:
            return None
        pa, _ = kd.kvatop(symbol.value)
        size = integer(kd, symbol.value, 4, signed=True) * machine.page_size
    except KvmError:
        return None
    most = kd.memory.end - kd.dump_off if kd.segments else 1 << kd.translator.bits
    return size if pa < size <= most else None


def state(kd: Kvm, mag: DumpMag | None, why: str) -> State:
    """Judge a dump; `mag` is its dumpmag, or `why` says why it can't be looked at.

    Raises:
        FormatError: no header was found yet.
    """
    memory, damage = extent(kd), damage_map(kd)
    certain = [d for d in damage if d.certain]
    reasons = [*_doubts(kd, memory), *_damaged(certain)]
    if kd.form == "savecore":
        reasons.append("this file is a saved core")
    if mag is None:
        reasons.append(f"dumpmag can't be looked at: {why}")
    elif mag.state == "fresh" and kd.form == "savecore":
        reasons.append(f"dumpmag is {mag.value:#x}: savecore(8) clears it on the dump device only")
    else:
        meaning = _MAG_WORDS.get(mag.state, "which proves nothing: the kernel file may be the wrong one")
        reasons.append(f"dumpmag is {mag.value:#x}, {meaning}")
    reasons += _damaged(d for d in damage if not d.certain)
    if memory.present == 0:
        verdict = "header only"
    elif kd.reading is not None and kd.reading.score < _BELIEVABLE:
        verdict = "not believable"
        reasons[:0] = kd.reading.reasons
    elif memory.missing:
        verdict = "truncated"
    elif certain:
        verdict = "overwritten"
    elif kd.form == "savecore":
        verdict = "saved"
    else:
        verdict = {"fresh": "fresh", "cleared": "saved"}.get(mag.state if mag else "", "unknown")
    whole = memory.promised is not None and not memory.missing and not certain
    return State(verdict, whole, tuple(reasons), tuple(damage))


def _doubts(kd: Kvm, memory: Extent) -> list[str]:
    assert kd.reading is not None
    doubts = []
    if memory.missing:
        doubts.append(
            f"the file ends {memory.missing} bytes before the memory does: "
            f"{memory.present} of {memory.promised} bytes are there"
        )
    data_size = kd.reading.headers.data_size
    expected = kd.reading.size
    if data_size is not None and expected is not None and data_size != expected & _MASK32:
        doubts.append(f"CORE_DATA claims {data_size} bytes, but the segments have {expected}")
    return doubts


# -- what was written over it ----------------------------------------------------------------------------------------


def damage_map(kd: Kvm) -> list[Damage]:
    """Return what lies in memory that isn't the kernel's, by physical address; a sample of all pages is looked at.

    Raises:
        FormatError: no header was found yet.
    """
    machine_of(kd)
    found = [*_newer_dump(kd), *_kernels_pages(kd)]
    found += (d for d in _noise(kd) if not any(f.pa <= d.pa and d.pa + d.size <= f.pa + f.size for f in found))
    return sorted(found, key=lambda d: (d.pa, d.size))


def _damaged(damage: Iterable[Damage]) -> list[str]:
    """Say what was written over the dump: a few parts of each kind."""
    reasons = []
    for what, group in groupby(sorted(damage, key=lambda d: (d.what, d.pa)), key=lambda d: d.what):
        parts = list(group)
        more = f" and {len(parts) - _NAMED} more places" if len(parts) > _NAMED else ""
        places = ", ".join(f"pa {d.pa:#x}+{d.size:#x}" for d in parts[:_NAMED])
        word = "overwritten" if parts[0].certain else "may be overwritten"
        reasons.append(f"{word} at {places}{more}: {what}")
    return reasons


def _newer_dump(kd: Kvm) -> Iterator[Damage]:
    """Yield the memory in whose place a newer dump lies, if the image was searched."""
    assert kd.reading is not None
    mine = (c for c in known(kd.image) if c.offset == kd.reading.headers.offset and kd.form == "device")
    start = next((c.overwritten for c in mine if c.machine == kd.machine), None)
    if start is None:
        return
    for s in kd.ram:
        lost = s.offset + s.present - max(start, s.offset)
        if lost > 0:
            yield Damage(s.start + s.present - lost, lost, f"the newer dump at {start:#x}", True)


def _kernels_pages(kd: Kvm) -> Iterator[Damage]:
    """Yield pages that are page tables or the kernel's code, and hold what neither can be."""
    page = machine_of(kd).page_size
    code = [s.value for s in kd.symbols if s.kind in "Tt"]
    code = code[:: len(code) // _FUNCTIONS + 1]
    step = (1 << kd.translator.bits) // _ADDRESSES
    uses: dict[int, str] = {}
    for va in (*code[:: len(code) // _ADDRESSES + 1], *range(0, _ADDRESSES * step, step)):
        for s in kd.walk(va):
            if s.table_pa is not None:
                uses.setdefault(s.table_pa - s.table_pa % page, "page tables")
    for va in code:
        with suppress(KvmError):
            pa, _ = kd.kvatop(va)
            uses.setdefault(pa - pa % page, "kernel text")
    bad: list[Damage] = []
    for pa, use in sorted(uses.items()):
        what = ""
        with suppress(KvmError):
            what = _foreign(kd.read_physical(pa, page))
        if what:
            bad.append(Damage(pa, page, f"{what} where {use} should be", True))
    yield from _joined(bad)


def _joined(parts: Iterable[Damage]) -> Iterator[Damage]:
    """Join neighbours that hold the same."""
    last: Damage | None = None
    for d in parts:
        if last is not None and last.pa + last.size == d.pa and last.what == d.what:
            last = Damage(last.pa, last.size + d.size, d.what, d.certain)
        else:
            if last is not None:
                yield last
            last = d
    if last is not None:
        yield last


def _foreign(data: bytes) -> str:
    """Say what a page holds that is neither code nor a page table; empty if it may be either."""
    if _is_noise(data):
        return "random bytes (encrypted swap)"
    if len(data) - len(data.translate(None, _TEXT)) > len(data) * 15 // 16:
        return "text"
    for at in range(0, len(data), 512):
        block = data[at : at + 512]
        if block[:4] == b"\x7fELF" and block[4:5] in b"\1\2" and block[16:18] in (b"\2\0", b"\0\2", b"\3\0", b"\0\3"):
            return "a program file"
        if data[at + 1372 : at + 1376] in _SUPERBLOCKS:
            return "a file system's superblock"
    return ""


def _is_noise(data: bytes) -> bool:
    """Tell whether bytes are as good as random: the counts are cheap, the packing is for the few that pass."""
    few = len(data) // 64
    return data.count(0) <= few and data.count(255) <= few and len(zlib.compress(data, 1)) >= len(data)


def _noise(kd: Kvm) -> Iterator[Damage]:
    """Yield runs of random bytes, found by looking at pages that are evenly spread over memory."""
    page = machine_of(kd).page_size
    most = _PAGES_OF_DEVICE if kd.image.kind == "device" else _PAGES
    step = page * max(1, -(-sum(s.present for s in kd.ram) // (page * most)))
    found = []
    skip = 0
    for s in kd.ram:
        at = skip
        while at + page <= s.present:
            with suppress(KvmError):
                if _is_noise(kd.image.read(s.offset + at, page)):
                    found.append(Damage(s.start + at, min(step, s.present - at), _NOISE, False))
            at += step
        # A sparse dump has many short runs: where in the next one the next page to look at lies.
        skip = max(0, at - s.present)
    yield from _joined(found)
