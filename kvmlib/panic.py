"""What a dump tells of the panic: what it is, its state, what the kernel said; each fact with where it was found.

Sources: sys/kern/subr_prf.c, kern_tc.c, init_main.c, conf/newvers.sh of both systems; savecore(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from kvmlib.backtrace import stack
from kvmlib.errors import KvmError
from kvmlib.identify import find_banner
from kvmlib.kvm import DumpMag, Kvm
from kvmlib.msgbuf import between, find_ring, panic_line
from kvmlib.text import decode, printable
from kvmlib.variables import integer, machine_of, no_symbols, pointer, string, symbol

T = TypeVar("T")

#: Seconds: a crash before 1990 or after 2100 is a damaged number.
_PLAUSIBLE = range(631152000, 4102444800)
#: Bytes of panic text that are taken from the message buffer, as savecore(8) does.
_PANIC_MAX = 1023
#: Frames named in the line WHERE; all of them are in the stack.
_WHERE = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the summary.

    Attributes:
        label: what it is about, in capitals.
        text: printable; what is known, or why it isn't.
        source: where that was found.
        va: an address to look at, or None.
    """

    label: str
    text: str
    source: str
    va: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Whether the dump is worth saving.

    Attributes:
        verdict: ``fresh``, ``saved`` (dumpmag was cleared), ``truncated``, ``header only`` or ``unknown``.
        complete: whether all memory that the header promises is in the file.
        reasons: sentences.
    """

    verdict: str
    complete: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is to know in the first minute.

    Attributes:
        facts: one line each, most important first.
        state: the verdict.
        version: the kernel's version, both lines; None if it isn't known.
        panic: the panic's text, or None.
        dumpmag: the kernel's dumpmag, or None where it can't be looked at.
        crashed: when, or None.
    """

    facts: tuple[Fact, ...]
    state: State
    version: str | None
    panic: str | None
    dumpmag: DumpMag | None
    crashed: datetime | None


def summary(kd: Kvm) -> Summary:
    """Sum up what a dump tells. What can't be known is a fact that says why; nothing about the kernel's memory raises.

    Raises:
        FormatError: no header was found yet.
    """
    machine_of(kd)
    mag, why_no_mag = _attempt(kd.dumpmag)
    state = _state(kd, mag, why_no_mag)
    version = _version(kd)
    panic = _panic(kd)
    crashed, crash = _crash(kd)
    facts = [_dump(kd), _state_fact(kd, state, mag), _complete(kd), _memory(kd), version, _symbols(kd, version)]
    facts += _host(kd)
    facts += [crash, *_uptime(kd, crashed), *panic, *_where(kd)]
    known = version.source != ""
    return Summary(
        tuple(facts),
        state,
        version.text if known else None,
        next((f.text for f in panic if f.source), None),
        mag,
        crashed,
    )


def _attempt(look: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return look(), ""
    except KvmError as e:
        return None, str(e)


# -- the file --------------------------------------------------------------------------------------------------------


def _dump(kd: Kvm) -> Fact:
    assert kd.reading is not None
    form = "saved core" if kd.form == "savecore" else "dump device"
    others = [r.machine.name for r in kd.runners_up if r.score >= kd.reading.score - 20]
    doubt = f"; it could also be {' or '.join(others)} (use -m)" if others else ""
    text = f"{printable(kd.path)}: {form} of {kd.reading.machine.name}, header at {kd.reading.headers.offset:#x}{doubt}"
    return Fact("DUMP", text, "header")


def _state(kd: Kvm, mag: DumpMag | None, why: str) -> State:
    ram = kd.ram
    total, missing = sum(s.size for s in ram), kd.memory.missing
    reasons = []
    if missing:
        reasons.append(
            f"the file ends {missing} bytes before the memory does: {total - missing} of {total} bytes are there"
        )
    if mag is not None:
        words = {"fresh": "a dump that was not saved yet", "cleared": "cleared: it was saved or invalidated"}
        meaning = words.get(mag.state, "neither a dump's magic nor zero: the kernel file may be the wrong one")
        reasons.append(f"dumpmag is {mag.value:#x}, {meaning}")
    else:
        reasons.append(f"dumpmag can't be looked at: {why}")
    if total and missing == total:
        verdict = "header only"
    elif missing:
        verdict = "truncated"
    else:
        verdict = {"fresh": "fresh", "cleared": "saved"}.get(mag.state if mag else "", "unknown")
    return State(verdict, not missing, tuple(reasons))


def _state_fact(kd: Kvm, state: State, mag: DumpMag | None) -> Fact:
    return Fact(
        "STATE",
        f"{state.verdict}: {'; '.join(state.reasons)}",
        "symbol dumpmag" if mag else "",
        mag.va if mag else None,
    )


def _complete(kd: Kvm) -> Fact:
    total, missing = sum(s.size for s in kd.ram), kd.memory.missing
    if missing:
        return Fact(
            "COMPLETE", f"no: {_bytes(missing)} of {_bytes(total)} are missing at the end", "header and file size"
        )
    if not kd.segments:
        return Fact(
            "COMPLETE", "yes, as far as can be told: the header does not say how much there should be", "file size"
        )
    return Fact("COMPLETE", "yes: all memory that the header lists is in the file", "header and file size")


def _memory(kd: Kvm) -> Fact:
    ram = kd.ram
    total = sum(s.size for s in ram)
    if not kd.segments:
        return Fact(
            "MEMORY", f"{_bytes(total)} from pa 0 on, up to the end of the image; no segments are listed", "file size"
        )
    source = "header" if kd.reading and kd.reading.segments is not None else "symbol dumpmem"
    top = max(s.start + s.size for s in ram)
    return Fact("MEMORY", f"{_bytes(total)} in {len(ram)} segments up to pa {top:#x}", source)


def _bytes(n: int) -> str:
    from humanize import naturalsize

    return f"{naturalsize(n, binary=True, format='%.1f')} ({n} bytes)" if n >= 1024 else f"{n} bytes"


# -- the kernel ------------------------------------------------------------------------------------------------------


def _version(kd: Kvm) -> Fact:
    found, why = _attempt(lambda: symbol(kd, "version"))
    text = None
    if found is not None:
        text, why = _attempt(lambda: string(kd, found.value, limit=512, keep="\n\t"))
        if text is not None and text.startswith(machine_of(kd).system.title):
            lines = " ".join(line.strip() for line in text.splitlines())
            return Fact("KERNEL", lines, "symbol version", found.value)
        why = why or "the symbol version does not lead to one"
    assert kd.dump_off is not None
    banner = find_banner(kd.image, kd.dump_off, kd.image.size)
    if banner is not None:
        at, raw = banner
        return Fact("KERNEL", decode(raw), f"found by searching memory, at file offset {at:#x}")
    return Fact("KERNEL", f"not known: {why}", "")


def _symbols(kd: Kvm, version: Fact) -> Fact:
    if not len(kd.symbols):
        return Fact("SYMBOLS", f"none: {no_symbols(kd)}", "")
    source = printable(kd.symbols.source)
    text = f"{len(kd.symbols)} from {source}"
    if version.source != "symbol version":
        text += "; THIS KERNEL FILE DOES NOT MATCH: its symbol version does not lead to the kernel's version"
    return Fact("SYMBOLS", text, "kernel file")


def _host(kd: Kvm) -> Iterator[Fact]:
    """Yield host, CPUs and load, as far as they are known."""
    found = kd.symbols.get("hostname")
    text, _ = _attempt(lambda: string(kd, found.value, limit=256)) if found else (None, "")
    if found and text:
        yield Fact("HOST", text, "symbol hostname", found.value)
    yield from _cpus(kd)
    yield from _load(kd)


def _cpus(kd: Kvm) -> Iterator[Fact]:
    count = kd.symbols.get("ncpus") or kd.symbols.get("ncpu")
    model = kd.symbols.get("cpu_model") or kd.symbols.get("cpu_brand_string")
    n, _ = _attempt(lambda: integer(kd, count.value, 4)) if count else (None, "")
    name, _ = _attempt(lambda: string(kd, model.value, limit=128)) if model else (None, "")
    parts = [f"{n} x" if n and 0 < n <= 4096 and name else f"{n}" if n and 0 < n <= 4096 else "", (name or "").strip()]
    text = " ".join(p for p in parts if p)
    if text:
        used = [s for s, value in ((count, n), (model, name)) if s and value]
        yield Fact("CPU", text, "symbol " + printable(", ".join(s.name for s in used)), used[-1].value)


def _load(kd: Kvm) -> Iterator[Fact]:
    """Read struct loadavg: three fixed-point numbers and, as a long, their scale (sys/resource.h)."""
    found = kd.symbols.get("averunnable")
    if found is None:
        return
    size = machine_of(kd).long_bytes
    at = found.value + (12 + size - 1) // size * size
    scale, _ = _attempt(lambda: integer(kd, at, size))
    loads = [_attempt(lambda i=i: integer(kd, found.value + 4 * i, 4))[0] for i in range(3)]  # type: ignore[misc]
    if scale and scale <= 1 << 20 and all(v is not None for v in loads):
        text = ", ".join(f"{v / scale:.2f}" for v in loads if v is not None)
        yield Fact("LOAD", text, "symbol averunnable", found.value)


def _time(kd: Kvm, *names: str) -> tuple[int | None, int | None, str]:
    """Return (seconds, va, why not) of a time_t: 64 bits since OpenBSD 5.5 and NetBSD 6, a long before."""
    found, why = _attempt(lambda: symbol(kd, *names))
    if found is None:
        return None, None, why
    for size in (8,) if machine_of(kd).long_bytes == 8 else (8, 4):
        value, why = _attempt(lambda size=size: integer(kd, found.value, size, signed=True))  # type: ignore[misc]
        if value is not None and value in _PLAUSIBLE:
            return value, found.value, ""
    return None, found.value, why or f"{printable(found.name)} holds no plausible time"


def _crash(kd: Kvm) -> tuple[datetime | None, Fact]:
    seconds, va, why = _time(kd, "time_second", "time__second", "time")
    if seconds is None:
        return None, Fact("CRASH", f"time not known: {why}", "", va)
    when = datetime.fromtimestamp(seconds, UTC)
    return when, Fact("CRASH", f"{when:%Y-%m-%d %H:%M:%S} UTC", "symbol time_second", va)


def _uptime(kd: Kvm, crashed: datetime | None) -> Iterator[Fact]:
    found = kd.symbols.get("time_uptime")
    if found is None:
        return
    seconds, _ = _attempt(lambda: integer(kd, found.value, machine_of(kd).long_bytes))
    if seconds is None or crashed is None or not 0 <= seconds <= int(crashed.timestamp()) - _PLAUSIBLE.start:
        return
    from humanize import precisedelta

    booted = datetime.fromtimestamp(int(crashed.timestamp()) - seconds, UTC)
    text = f"{precisedelta(seconds, minimum_unit='seconds')}; booted {booted:%Y-%m-%d %H:%M:%S} UTC"
    yield Fact("UPTIME", text, "symbol time_uptime", found.value)


# -- the panic -------------------------------------------------------------------------------------------------------


def _panic(kd: Kvm) -> list[Fact]:
    facts = []
    if machine_of(kd).os == "netbsd":
        facts += _panic_range(kd)
    if not facts:
        facts.append(_panicstr(kd))
    if (fault := _pointed(kd, "faultstr")) is not None:
        facts.append(fault)
    return facts


def _pointed(kd: Kvm, name: str) -> Fact | None:
    """Return the string that a char * of the kernel points to; None where there is none."""
    if kd.symbols.get(name) is None:
        return None
    found, _ = _attempt(lambda: pointer(kd, name))
    if found is None or found[1] == 0:
        return None
    text, _ = _attempt(lambda: string(kd, found[1], limit=_PANIC_MAX))
    return Fact(name.removesuffix("str").upper(), text, f"symbol {name}", found[1]) if text else None


def _panicstr(kd: Kvm) -> Fact:
    fact = _pointed(kd, "panicstr")
    if fact is not None:
        return fact
    if (line := panic_line(kd)) is not None:
        return Fact("PANIC", line, "messages")
    found, why = _attempt(lambda: pointer(kd, "panicstr"))
    if found is not None:
        why = "panicstr is a null pointer" if found[1] == 0 else f"panicstr points to {found[1]:#x}, where no text is"
        return Fact("PANIC", f"none: {why}, so the kernel did not get to say why", "", found[0].value)
    return Fact("PANIC", f"not known: {why}", "")


def _panic_range(kd: Kvm) -> list[Fact]:
    """NetBSD marks the panic's text in the message buffer: panicstart and panicend are indexes, 0 where unset."""
    size = machine_of(kd).long_bytes
    start, end = _index(kd, "panicstart", size), _index(kd, "panicend", size)
    ring, _ = _attempt(lambda: find_ring(kd))
    if ring is None or not 0 < start < ring.size or not 0 < end <= ring.size or start == end:
        return []
    raw, _ = _attempt(lambda: between(kd, ring, start, end)[:_PANIC_MAX])
    text = decode(raw or b"").replace("\\x0a", " ").strip()
    return (
        [Fact("PANIC", text.removeprefix("panic: "), "symbols panicstart, panicend", ring.text_va + start)]
        if text
        else []
    )


def _index(kd: Kvm, name: str, size: int) -> int:
    found = kd.symbols.get(name)
    return (_attempt(lambda: integer(kd, found.value, size))[0] or 0) if found else 0


def _where(kd: Kvm) -> Iterator[Fact]:
    found, why = _attempt(lambda: stack(kd))
    if found is None or not found.frames:
        if found is not None:
            yield Fact("WHERE", f"not known: {found.end}", "")
        elif len(kd.symbols):
            yield Fact("WHERE", f"not known: {why}", "")
        return
    frames = found.frames
    first = found.panicked
    at = frames.index(first) if first is not None else 0
    text = " <- ".join(f.where or f"{f.pc:#x}" for f in frames[at : at + _WHERE])
    yield Fact("WHERE", text, "stack from dumppcb", frames[at].pc)
