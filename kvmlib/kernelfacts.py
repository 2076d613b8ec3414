"""What a dump tells of the kernel and its machine: version, host, CPUs, memory, load, times.

By the kernel's variables or, where these can't be had, by its messages. Sources: sys/kern/kern_tc.c, init_main.c,
kern_sysctl.c, conf/newvers.sh, sys/resource.h of both systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from kvmlib.facts import Fact, attempt, in_bytes, short
from kvmlib.identify import find_banner
from kvmlib.kvm import Kvm
from kvmlib.said import Said
from kvmlib.text import c_string, decode, printable
from kvmlib.variables import integer, machine_of, string, symbol

#: Seconds: a crash before 1990 or after 2100 is a damaged number.
_PLAUSIBLE = range(631152000, 4102444800)
#: Digits of the seconds since boot: a hundred years have ten.
_DIGITS = 10
#: Most CPUs that are believed.
_CPUS_MAX = 4096


def version(kd: Kvm, said: Said) -> Fact:
    """Return the kernel's version: by its symbol, else by searching memory, else by the messages."""
    found, why = attempt(lambda: symbol(kd, "version"))
    text = None
    if found is not None:
        text, why = attempt(lambda: string(kd, found.value, limit=512, keep="\n\t"))
        if text is not None and text.startswith(machine_of(kd).system.title):
            return Fact("KERNEL", _joined(text.splitlines()), "symbol version", found.value)
        why = why or "the symbol version does not lead to one"
    assert kd.dump_off is not None
    banner = find_banner(kd.image, kd.dump_off, kd.image.size)
    if banner is not None:
        at, raw = banner
        whole, _ = attempt(lambda: kd.image.read(at, 512))
        text = decode(c_string(whole or raw), "\n\t")
        source = f"found by searching memory, at file offset {at:#x}"
        return Fact("KERNEL", _joined(text.splitlines()[:2]), source, pa=kd.memory.pa_at(at))
    if (heard := said.version) is not None:
        return said.fact("KERNEL", heard.text, heard.number)
    return Fact("KERNEL", f"not known: {short(kd, why)}", "")


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def host(kd: Kvm, said: Said) -> Iterator[Fact]:
    """Yield host, CPUs and load, as far as they are known."""
    found, why = attempt(lambda: symbol(kd, "hostname"))
    text = None
    if found is not None:
        text, why = attempt(lambda: string(kd, found.value, limit=256))
    if found is not None and text:
        yield Fact("HOST", text, "symbol hostname", found.value)
    else:
        yield Fact("HOST", f"not known: {short(kd, why) or 'hostname is empty'}", "")
    yield from _cpus(kd, said)
    yield _load(kd)


def _cpus(kd: Kvm, said: Said) -> Iterator[Fact]:
    count = kd.symbols.get("ncpus") or kd.symbols.get("ncpu")
    model = kd.symbols.get("cpu_model") or kd.symbols.get("cpu_brand_string")
    n, _ = attempt(lambda: integer(kd, count.value, 4)) if count else (None, "")
    name, _ = attempt(lambda: string(kd, model.value, limit=128)) if model else (None, "")
    if text := _cpu_text(n or 0, (name or "").strip()):
        used = [s for s, value in ((count, n), (model, name)) if s and value]
        yield Fact("CPU", text, "symbol " + printable(", ".join(s.name for s in used)), used[-1].value)
    elif (heard := said.cpu) is not None:
        yield said.fact("CPU", _cpu_text(said.cpus, heard.text), heard.number)
    else:
        yield Fact("CPU", "not known: neither a variable nor a message tells", "")


def _cpu_text(n: int, name: str) -> str:
    known = 0 < n <= _CPUS_MAX
    return f"{n} x {name}" if known and name else f"{n}" if known else name


def _load(kd: Kvm) -> Fact:
    """Read struct loadavg: three fixed-point numbers and, as a long, their scale (sys/resource.h)."""
    found, why = attempt(lambda: symbol(kd, "averunnable"))
    if found is None:
        return Fact("LOAD", f"not known: {short(kd, why)}", "")
    size = machine_of(kd).long_bytes
    at = found.value + (12 + size - 1) // size * size
    scale, why = attempt(lambda: integer(kd, at, size))
    loads = [attempt(lambda i=i: integer(kd, found.value + 4 * i, 4))[0] for i in range(3)]  # type: ignore[misc]
    if scale and scale <= 1 << 20 and all(v is not None for v in loads):
        text = ", ".join(f"{v / scale:.2f}" for v in loads if v is not None)
        return Fact("LOAD", text, "symbol averunnable", found.value)
    return Fact("LOAD", f"not known: {why or 'averunnable holds none'}", "", found.value)


def installed(kd: Kvm, said: Said) -> Iterator[Fact]:
    """Yield what memory the machine had, which may be more than was dumped."""
    found = kd.symbols.get("physmem")
    pages, _ = attempt(lambda: integer(kd, found.value, 4)) if found else (None, "")
    if found and pages:
        yield Fact("PHYSMEM", in_bytes(pages * machine_of(kd).page_size), "symbol physmem", found.value)
    elif (heard := said.memory) is not None:
        yield said.fact("PHYSMEM", in_bytes(heard[0]), heard[1])


# -- times -----------------------------------------------------------------------------------------------------------


def _time(kd: Kvm, *names: str) -> tuple[int | None, int | None, str]:
    """Return (seconds, va, why not) of the first of these variables that there is."""
    found, why = attempt(lambda: symbol(kd, *names))
    if found is None:
        return None, None, why
    _, why = attempt(lambda: integer(kd, found.value, 4))
    seconds = _seconds(kd, found.value, _PLAUSIBLE)
    return seconds, found.value, why or f"{printable(found.name)} holds no plausible time"


def _seconds(kd: Kvm, va: int, plausible: range) -> int | None:
    """Return the time_t at `va`, None where there is none: 64 bits now, a long before OpenBSD 5.5 and NetBSD 6."""
    for size in (8,) if machine_of(kd).long_bytes == 8 else (8, 4):
        value, _ = attempt(lambda size=size: integer(kd, va, size, signed=True))  # type: ignore[misc]
        if value is not None and value in plausible:
            return value
    return None


def crash(kd: Kvm) -> tuple[datetime | None, Fact]:
    """Return when the kernel crashed, None where that isn't known, and what to say of it."""
    seconds, va, why = _time(kd, "time_second", "time__second", "time")
    if seconds is None:
        return None, Fact("CRASH", f"time not known: {short(kd, why)}", "", va)
    when = datetime.fromtimestamp(seconds, UTC)
    days = machine_of(kd).system.savecore_days
    text = f"{when:%Y-%m-%d %H:%M:%S} UTC"
    if abs((datetime.now(UTC) - when).total_seconds()) > days * 86400:
        text += f"; savecore(8) wants -f for it, as it is more than {days} days away from now"
    return when, Fact("CRASH", text, "symbol time_second", va)


def uptime(kd: Kvm, said: Said, crashed: datetime | None) -> Fact:
    """Return how long the system was up and when it was booted.

    By time_uptime, boottime, or the seconds that NetBSD puts before its messages.
    """
    from humanize import precisedelta

    found, seconds = None, None
    if crashed is not None:
        now = int(crashed.timestamp())
        found = kd.symbols.get("time_uptime")
        seconds = _seconds(kd, found.value, range(now - _PLAUSIBLE.start)) if found else None
        if seconds is None:
            found = kd.symbols.get("boottime")
            booted = _seconds(kd, found.value, range(_PLAUSIBLE.start, now + 1)) if found else None
            seconds = None if booted is None else now - booted
    if crashed is not None and found is not None and seconds is not None:
        booted_at = f"{crashed - timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
        text = f"{precisedelta(seconds, minimum_unit='seconds')}; booted {booted_at}"
        return Fact("UPTIME", text, f"symbol {printable(found.name)}", found.value)
    if (stamp := said.seconds) is not None and len(stamp.text) <= _DIGITS:
        text = f"{precisedelta(int(stamp.text), minimum_unit='seconds')}, as the message is stamped"
        return said.fact("UPTIME", text, stamp.number)
    return Fact("UPTIME", "not known: neither a variable nor a message tells, nor when it was booted", "")
