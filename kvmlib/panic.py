"""What a dump tells of the panic: what it is, its state, what the kernel said; each fact with where it was found.

Sources: sys/kern/subr_prf.c, kern_tc.c, init_main.c, conf/newvers.sh of both systems; savecore(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from kvmlib.backtrace import stack
from kvmlib.dumpstate import State as State, extent, state as judge
from kvmlib.errors import KvmError
from kvmlib.identify import find_banner
from kvmlib.kvm import DumpMag, Kvm
from kvmlib.msgbuf import between, find_ring, messages, panic_line
from kvmlib.text import c_string, decode, printable
from kvmlib.variables import integer, machine_of, no_symbols, pointer, string, symbol

T = TypeVar("T")

#: Seconds: a crash before 1990 or after 2100 is a damaged number.
_PLAUSIBLE = range(631152000, 4102444800)
#: Bytes of panic text that are taken from the message buffer, as savecore(8) does.
_PANIC_MAX = 1023
#: What ddb's sync and reboot put into panicstr (ddb/db_command.c of NetBSD).
_DDB_WORDS = ("dump forced via kernel debugger", "reboot forced via kernel debugger")
#: Where the kernel's version was found, if the symbols are this kernel's.
_MATCHES = "symbol version"
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
    version = _version(kd)
    if mag is not None and mag.state == "cleared" and version.source != _MATCHES:
        # Another kernel's dumpmag is most likely some zeros: no reason to call a dump saved and give it away.
        mag = mag._replace(state="unknown")
    state = judge(kd, mag, why_no_mag)
    panic = _panic(kd)
    crashed, crash = _crash(kd)
    # The first screen of 80x24 must hold what people came for.
    facts = [
        _dump(kd),
        _state_fact(state, mag),
        _complete(kd),
        *panic,
        *_where(kd),
        version,
        crash,
        *_uptime(kd, crashed),
    ]
    facts += [*_host(kd), _memory(kd), *_installed(kd), _symbols(kd, version), _machine(kd)]
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
    return Fact("DUMP", f"{printable(kd.path)}: {form}, header at {kd.reading.headers.offset:#x}", "file")


def _machine(kd: Kvm) -> Fact:
    assert kd.reading is not None
    found = kd.reading
    others = [r.machine.name for r in kd.runners_up if r.score >= found.score - 20]
    doubt = f"; it {kd.doubt}" if kd.doubt else f"; next best: {others[0]}" if others else ""
    reasons = "; ".join(printable(r) for r in found.reasons)
    return Fact("MACHINE", f"{found.machine.name}, score {found.score} of 100: {reasons}{doubt}", "header")


def _state_fact(state: State, mag: DumpMag | None) -> Fact:
    text = f"{state.verdict}: {'; '.join(state.reasons)}"
    return Fact("STATE", text, "symbol dumpmag" if mag else "header", mag.va if mag else None)


def _complete(kd: Kvm) -> Fact:
    found = extent(kd)
    if found.promised is None:
        text = "not known: nothing says how much memory there should be (a kernel file would)"
        return Fact("COMPLETE", text, "file size")
    if found.missing:
        text = f"no: {_bytes(found.missing)} of {_bytes(found.promised)} are missing at the end"
    else:
        text = f"yes: all {_bytes(found.promised)} are in the file"
    return Fact("COMPLETE", text, f"{found.source} and file size")


def _memory(kd: Kvm) -> Fact:
    ram = kd.ram
    total = sum(s.size for s in ram)
    if not kd.segments:
        text = f"{_bytes(total)} from pa 0 on, up to the end of the image; no segments are listed"
        return Fact("MEMORY", text, "file size")
    top = max((s.start + s.size for s in ram), default=0)
    return Fact("MEMORY", f"{_bytes(total)} in {len(ram)} segments up to pa {top:#x}", extent(kd).source)


def _installed(kd: Kvm) -> Iterator[Fact]:
    """Yield what memory the machine had, which may be more than was dumped."""
    found = kd.symbols.get("physmem")
    pages, _ = _attempt(lambda: integer(kd, found.value, 4)) if found else (None, "")
    if found and pages:
        yield Fact("PHYSMEM", f"{_bytes(pages * machine_of(kd).page_size)}", "symbol physmem", found.value)


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
            return Fact("KERNEL", lines, _MATCHES, found.value)
        why = why or "the symbol version does not lead to one"
    assert kd.dump_off is not None
    banner = find_banner(kd.image, kd.dump_off, kd.image.size)
    if banner is not None:
        at, raw = banner
        whole, _ = _attempt(lambda: kd.image.read(at, 512))
        text = decode(c_string(whole or raw), "\n\t")
        lines = " ".join(line.strip() for line in text.splitlines()[:2])
        return Fact("KERNEL", lines, f"found by searching memory, at file offset {at:#x}")
    return Fact("KERNEL", f"not known: {_short(kd, why)}", "")


def _short(kd: Kvm, why: str) -> str:
    """Say only which symbol is needed, where the line SYMBOLS says why there are none."""
    needed, found, _ = why.partition(" is needed")
    return needed + found if not len(kd.symbols) else why


def _readable(kd: Kvm, name: str) -> bool:
    found = kd.symbols.get(name)
    return found is None or _attempt(lambda: kd.read(found.value, 1))[0] is not None


def _symbols(kd: Kvm, version: Fact) -> Fact:
    if not len(kd.symbols):
        return Fact("SYMBOLS", f"none: {no_symbols(kd)}", "")
    source = printable(kd.symbols.source)
    text = f"{len(kd.symbols)} from {source}"
    if version.source != _MATCHES:
        wrong = "; THIS KERNEL FILE DOES NOT MATCH: its symbol version does not lead to the kernel's version"
        text += wrong if _readable(kd, "version") else "; whether they match can't be told: version is not in the dump"
        if machine_of(kd).os == "openbsd":
            text += " (OpenBSD links a new kernel at each boot)"
    return Fact("SYMBOLS", text, "kernel file" if kd.symbols.path is not None else "found by searching memory")


def _host(kd: Kvm) -> Iterator[Fact]:
    """Yield host, CPUs and load, as far as they are known."""
    found, why = _attempt(lambda: symbol(kd, "hostname"))
    text = None
    if found is not None:
        text, why = _attempt(lambda: string(kd, found.value, limit=256))
    if found is not None and text:
        yield Fact("HOST", text, "symbol hostname", found.value)
    else:
        yield Fact("HOST", f"not known: {_short(kd, why) or 'hostname is empty'}", "")
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
    """Return (seconds, va, why not) of the first of these variables that there is."""
    found, why = _attempt(lambda: symbol(kd, *names))
    if found is None:
        return None, None, why
    _, why = _attempt(lambda: integer(kd, found.value, 4))
    seconds = _seconds(kd, found.value, _PLAUSIBLE)
    return seconds, found.value, why or f"{printable(found.name)} holds no plausible time"


def _seconds(kd: Kvm, va: int, plausible: range) -> int | None:
    """Return the time_t at `va`, None where there is none: 64 bits now, a long before OpenBSD 5.5 and NetBSD 6."""
    for size in (8,) if machine_of(kd).long_bytes == 8 else (8, 4):
        value, _ = _attempt(lambda size=size: integer(kd, va, size, signed=True))  # type: ignore[misc]
        if value is not None and value in plausible:
            return value
    return None


def _crash(kd: Kvm) -> tuple[datetime | None, Fact]:
    seconds, va, why = _time(kd, "time_second", "time__second", "time")
    if seconds is None:
        return None, Fact("CRASH", f"time not known: {_short(kd, why)}", "", va)
    when = datetime.fromtimestamp(seconds, UTC)
    days = machine_of(kd).system.savecore_days
    text = f"{when:%Y-%m-%d %H:%M:%S} UTC"
    if abs((datetime.now(UTC) - when).total_seconds()) > days * 86400:
        text += f"; savecore(8) wants -f for it, as it is more than {days} days away from now"
    return when, Fact("CRASH", text, "symbol time_second", va)


def _uptime(kd: Kvm, crashed: datetime | None) -> Iterator[Fact]:
    """Yield how long the system was up and when it was booted, by time_uptime or, failing that, by boottime."""
    if crashed is None:
        return
    now = int(crashed.timestamp())
    found = kd.symbols.get("time_uptime")
    seconds = _seconds(kd, found.value, range(now - _PLAUSIBLE.start)) if found else None
    if seconds is None:
        found = kd.symbols.get("boottime")
        booted = _seconds(kd, found.value, range(_PLAUSIBLE.start, now + 1)) if found else None
        seconds = None if booted is None else now - booted
    if found is None or seconds is None:
        return
    from humanize import precisedelta

    booted_at = f"{crashed - timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
    text = f"{precisedelta(seconds, minimum_unit='seconds')}; booted {booted_at}"
    yield Fact("UPTIME", text, f"symbol {printable(found.name)}", found.value)


# -- the panic -------------------------------------------------------------------------------------------------------


def _panic(kd: Kvm) -> list[Fact]:
    facts = []
    if machine_of(kd).os == "netbsd":
        facts += _panic_range(kd)
    if not facts:
        facts.append(_panicstr(kd))
    if (fault := _pointed(kd, "faultstr")) is not None:
        facts.append(fault)
    return facts + _before_ddb(kd, facts[0])


def _before_ddb(kd: Kvm, fact: Fact) -> list[Fact]:
    """NetBSD's ddb writes its own words over panicstr when it is told to dump; what was there is in the messages."""
    if not fact.text.startswith(_DDB_WORDS):
        return []
    line = panic_line(kd, but=_DDB_WORDS)
    return [] if line is None else [Fact("PANIC", f"before ddb forced the dump: {line}", _messages_source(kd))]


def _messages_source(kd: Kvm) -> str:
    """Say where the messages were found, as a fact's source."""
    found = messages(kd)
    return found.source if found.va is not None else f"messages, {found.source}"


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
        return Fact("PANIC", line, _messages_source(kd))
    found, why = _attempt(lambda: pointer(kd, "panicstr"))
    if found is not None:
        why = "panicstr is a null pointer" if found[1] == 0 else f"panicstr points to {found[1]:#x}, where no text is"
        return Fact("PANIC", f"none: {why}, so the kernel did not get to say why", "", found[0].value)
    return Fact("PANIC", f"not known: {_short(kd, why)}", "")


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
        yield Fact("WHERE", f"not known: {found.end if found else _short(kd, why)}", "")
        return
    frames = found.frames
    at = frames.index(found.panicked) if found.panicked is not None else 0
    text = " <- ".join(f.where or f"{f.pc:#x}" for f in frames[at : at + _WHERE])
    yield Fact("WHERE", text, "stack from dumppcb", frames[at].pc)
