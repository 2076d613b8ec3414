"""Whether a dump is whole and whether it was saved before: read only, and with reasons."""

from __future__ import annotations

from dataclasses import dataclass

from kvmlib.errors import KvmError
from kvmlib.kvm import DumpMag, Kvm
from kvmlib.variables import integer, machine_of

_MAG_WORDS = {"fresh": "a dump that was not saved yet", "cleared": "cleared: it was saved or invalidated"}
_MASK32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class State:
    """Whether the dump is worth saving.

    Attributes:
        verdict: ``fresh``, ``saved`` (dumpmag was cleared, or this is the saved core), ``truncated``, ``header only``
            or ``unknown``.
        complete: whether all memory that there should be is in the file; False too where nothing says how much that is.
        reasons: sentences.
    """

    verdict: str
    complete: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extent:
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
    if (dumpsize := _dumpsize(kd)) > 0:
        return Extent(dumpsize, min(dumpsize, left), "symbol dumpsize")
    return Extent(None, left, "")


def _dumpsize(kd: Kvm) -> int:
    found = kd.symbols.get("dumpsize")
    try:
        pages = integer(kd, found.value, 4, signed=True) if found else 0
    except KvmError:
        return 0
    size = pages * machine_of(kd).page_size
    return size if size <= 1 << kd.translator.bits else 0


def state(kd: Kvm, mag: DumpMag | None, why: str) -> State:
    """Judge a dump; `mag` is its dumpmag, or `why` says why it can't be looked at.

    Raises:
        FormatError: no header was found yet.
    """
    memory = extent(kd)
    reasons = list(_doubts(kd, memory))
    if kd.form == "savecore":
        reasons.append("this file is a saved core")
    if mag is None:
        reasons.append(f"dumpmag can't be looked at: {why}")
    elif mag.state == "fresh" and kd.form == "savecore":
        reasons.append(f"dumpmag is {mag.value:#x}: savecore(8) clears it on the dump device only")
    else:
        meaning = _MAG_WORDS.get(mag.state, "which proves nothing: the kernel file may be the wrong one")
        reasons.append(f"dumpmag is {mag.value:#x}, {meaning}")
    if memory.present == 0:
        verdict = "header only"
    elif memory.missing:
        verdict = "truncated"
    elif kd.form == "savecore":
        verdict = "saved"
    else:
        verdict = {"fresh": "fresh", "cleared": "saved"}.get(mag.state if mag else "", "unknown")
    return State(verdict, memory.promised is not None and not memory.missing, tuple(reasons))


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
