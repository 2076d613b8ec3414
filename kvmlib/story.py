"""The panic's story: what the kernel's variables and its messages tell of how it died.

Sources: sys/kern/subr_prf.c of both systems, ddb/db_command.c of NetBSD, arch/*/trap.c of OpenBSD (faultstr).
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmlib.facts import Fact, attempt, short
from kvmlib.kvm import Kvm
from kvmlib.match import cached
from kvmlib.msgbuf import Messages, between, find_ring, messages
from kvmlib.said import Line, parse
from kvmlib.text import decode
from kvmlib.variables import integer, machine_of, pointer, string

#: Bytes of panic text that are taken from a variable or the message buffer, as savecore(8) does.
_PANIC_MAX = 1023
#: What ddb's sync and reboot put into panicstr (ddb/db_command.c of NetBSD).
_DDB_WORDS = ("dump forced via kernel debugger", "reboot forced via kernel debugger")
#: Calls that the line WHERE names.
WHERE = 3
#: Lines of a fault that make one fact, and panics during the panic that make one each.
_FAULTS, _AGAIN = 3, 3
#: Calls that the line TRACE names, and commands that the line DDB names.
_CALLS, _COMMANDS = 4, 12


class Story:
    """What is told of one dump's panic.

    Attributes:
        said: what the messages tell; nothing where there are none.
        panic: the panic itself, then what more is known of it; the first one is labelled PANIC or FAULT.
        later: which process ran, the stack trace and the ddb session in the messages.
    """

    def __init__(self, kd: Kvm) -> None:
        """Read it; nothing about the kernel's memory raises."""
        self._kd = kd
        found, _ = attempt(lambda: messages(kd))
        self.said = parse(found or Messages("", "", None))
        self.panic = tuple(self._panic())
        self.later = tuple(self._later())

    def where(self) -> Fact | None:
        """Return where it was, by the trace in the messages or by where ddb stopped; None where no message tells."""
        if place := self.said.place:
            text = " <- ".join(call.where for call in place[:WHERE])
            return self.said.fact("WHERE", text, place[0].number)
        return self._told("WHERE", self.said.stopped) if self.said.stopped else None

    def _told(self, label: str, line: Line) -> Fact:
        return self.said.fact(label, line.text, line.number)

    # -- the panic ---------------------------------------------------------------------------------------------------

    def _panic(self) -> Iterator[Fact]:
        kd = self._kd
        # Another kernel's addresses lead to anything.
        fits = cached(kd).fits
        variable, fault = (_pointed(kd, "panicstr"), _pointed(kd, "faultstr")) if fits else (None, None)
        ranged = _panic_range(kd) if fits else None
        panics = [line for line in self.said.panics if not line.text.startswith(_DDB_WORDS)]
        forced = variable is not None and variable.text.startswith(_DDB_WORDS)
        if ranged is not None and ranged.text.startswith(_DDB_WORDS):
            ranged = None
        if variable is not None and not forced:
            # Each panic moves the range, only the first one sets panicstr, which has less room.
            first: Fact | None = ranged if ranged is not None and _same(ranged.text, variable.text) else variable
        else:
            first = self._told("PANIC", panics[0]) if panics else ranged
        faults = [fault] if fault is not None else self._faults()
        if first is not None:
            yield first
            # The panic may have been told to say what the fault was.
            yield from (f for f in faults if not _same(f.text, first.text))
        else:
            yield from faults
            yield self._no_panic(fits, forced, bool(faults))
        if forced and variable is not None:
            yield Fact("DDB", f"put its own words over panicstr: {variable.text}", variable.source, variable.va)
        if first is not None:
            others = [line for line in panics if not _same(line.text, first.text)]
            yield from (self.said.fact("AGAIN", f"panic: {line.text}", line.number) for line in others[:_AGAIN])

    def _faults(self) -> list[Fact]:
        """Return what the messages say of a fault: its lines in a row are one fact."""
        lines = self.said.faults[:_FAULTS]
        together = [line for i, line in enumerate(lines) if line.number == lines[0].number + i]
        text = "; ".join(line.text for line in together)
        return [self.said.fact("FAULT", text, together[0].number)] if together else []

    def _no_panic(self, fits: bool, forced: bool, faulted: bool) -> Fact:
        kd = self._kd
        if not fits:
            return Fact("PANIC", "not known: no message tells, and the symbols are another kernel's", "")
        found, why = attempt(lambda: pointer(kd, "panicstr"))
        if forced:
            text = "none: ddb was told to dump, and no message tells of a panic before that"
            return Fact("PANIC", text, "", found[0].value if found else None)
        if found is None:
            return Fact("PANIC", f"not known: {short(kd, why)}", "")
        why = "panicstr is a null pointer" if found[1] == 0 else f"panicstr points to {found[1]:#x}, where no text is"
        if faulted:
            why += ", as a fault enters ddb without a panic"
        elif self.said.stopped:
            why += f", ddb was entered at {self.said.stopped.text}"
        else:
            why += ", so the kernel did not get to say why"
        return Fact("PANIC", f"none: {why}", "", found[0].value)

    # -- what came after ---------------------------------------------------------------------------------------------

    def _later(self) -> Iterator[Fact]:
        heard = self.said
        if heard.process:
            yield self._told("PROCESS", heard.process)
        if heard.trace:
            calls = [call for call in heard.trace if call.function]
            named = " <- ".join(call.where for call in calls[:_CALLS]) + (" <- ..." if len(calls) > _CALLS else "")
            yield heard.fact("TRACE", f"{_count(len(calls), 'call')}: {named}", heard.trace[0].number)
        if heard.commands:
            typed = "; ".join(line.text for line in heard.commands[:_COMMANDS])
            more = "; ..." if len(heard.commands) > _COMMANDS else ""
            text = f"{_count(len(heard.commands), 'command')} typed: {typed}{more}"
            yield heard.fact("DDB", text, heard.commands[0].number)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _same(a: str, b: str) -> bool:
    """Tell whether two texts are of one panic: buffers cut them off at different lengths, and at a newline."""
    a, b = a.strip(), b.strip()
    return a.startswith(b) or b.startswith(a)


def _pointed(kd: Kvm, name: str) -> Fact | None:
    """Return the string that a char * of the kernel points to; None where there is none."""
    if kd.symbols.get(name) is None:
        return None
    found, _ = attempt(lambda: pointer(kd, name))
    if found is None or found[1] == 0:
        return None
    text, _ = attempt(lambda: string(kd, found[1], limit=_PANIC_MAX, keep="\n"))
    text = " ".join((text or "").split("\n")).strip()
    return Fact(name.removesuffix("str").upper(), text, f"symbol {name}", found[1]) if text else None


def _panic_range(kd: Kvm) -> Fact | None:
    """NetBSD marks the panic's text in the message buffer: panicstart and panicend are indexes, 0 where unset."""
    if machine_of(kd).os != "netbsd":
        return None
    start, end = _index(kd, "panicstart"), _index(kd, "panicend")
    ring, _ = attempt(lambda: find_ring(kd))
    if ring is None or not 0 < start < ring.size or not 0 < end <= ring.size or start == end:
        return None
    raw, _ = attempt(lambda: between(kd, ring, start, end)[:_PANIC_MAX])
    text = decode(raw or b"").replace("\\x0a", " ").strip().removeprefix("panic: ")
    return Fact("PANIC", text, "symbols panicstart, panicend", ring.text_va + start) if text else None


def _index(kd: Kvm, name: str) -> int:
    found = kd.symbols.get(name)
    return (attempt(lambda: integer(kd, found.value, machine_of(kd).long_bytes))[0] or 0) if found else 0
