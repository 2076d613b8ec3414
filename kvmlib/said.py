"""What the kernel's messages tell by themselves: the panic, its stack trace, what was typed into ddb, the machine.

Only the last boot's messages count: the buffer outlives a warm boot, and an earlier panic is another story.
Sources: sys/kern/subr_prf.c, ddb/db_trap.c, ddb/db_run.c, arch/*/db_trace.c, arch/*/trap.c of both systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from kvmlib.facts import Fact
from kvmlib.msgbuf import Messages
from kvmlib.msgscan import STAMP, boots

#: Calls of a trace, commands and panics that are kept.
_CALLS_MAX, _COMMANDS_MAX, _PANICS_MAX = 128, 64, 8
#: Characters of a line that are looked at: no kernel prints longer ones, damaged memory does.
_LINE_MAX = 1024
#: Functions of panic(9) itself, and those that call it for an assertion.
_PANICS = frozenset({"panic", "vpanic", "kern_assert", "__assert"})
_TRAPS = re.compile(r"\w*(?:trap|alltraps|calltrap|fatal|intr_vector)\w*")

_STAMP = re.compile(STAMP)
_SECONDS = re.compile(r"\[ *(\d+)\.\d+\]")
_PANIC = re.compile(r"panic: (.*)")
_FAULT = re.compile(
    r"uvm_fault\(.*\) -> (?:0x)?[0-9a-f]+$|fatal .*(?:fault|trap).*|(?:kernel|supervisor): .*(?:fault|trap).*"
    r"|trap type \d+ code .*"
)
_STOPPED = re.compile(r"Stopped (?P<who>in pid \S+ \(.*?\) )?at\s+(?:\w+:)?(?P<where>[\w.$]+(?:\+(?:0x)?[0-9a-f]+)?)")
_NAME = r"(?:\w+:)?(?P<where>[A-Za-z_.$?][\w.$?]*(?:\+(?:0x)?[0-9a-f]+)?)"
_CALLS = (
    # panic(f00,1) at panic+0x90; vpanic() at netbsd:vpanic+0xa2; fp c0de panic() at c0ffee netbsd:panic+0x34
    re.compile(rf"(?:fp (?:0x)?[0-9a-f]+ )?(?P<name>[\w.$?]+)\(.*\) at (?:(?:0x)?[0-9a-f]{{8,16}} )?{_NAME}:?$"),
    # 0x9b6f7d6c: netbsd:vpanic+0x10; 0x1ff3dd50: at panic+0x8c
    re.compile(rf"0x[0-9a-f]+: (?:at )?{_NAME}(?:[ :(].*)?$"),
)
_MARK = re.compile(r"--- .* ---$|end of kernel$|Bad frame pointer: .*|(?:trace )?fp (?:0x)?[0-9a-f]+$")
_PROMPT = re.compile(r"(?:ddb|db)(?:\{\d+\})?> ?(?P<command>\S.*)$")
_THREADS = re.compile(r"\s*TID\s+PID\s+UID\b.*\bCOMMAND$")
_THREAD = re.compile(r"\*\s*(\d+)\s+(\d+)\s+(\d+)\s+\S+\s+\S+\s+(\d+)\S*\s+(\S.*)$")
_MEMORY = re.compile(r"(?:real mem|total memory)\s*= (?P<n>\d+)(?: (?P<unit>[KMG])B)?")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_BANNER = re.compile(r"(?:Open|Net)BSD \d{1,2}\..*\(.*")
_CPU = re.compile(r"cpu(\d+) at ")
#: Not a list of features, caches, a frequency alone, or a remark.
_MODEL = re.compile(
    r"cpu0(?: at [^:]*)?: (?P<model>(?!Use |\d+K|DC |[\d.]+ ?MHz|(?:Begin|End) )[A-Z0-9](?=.* |[^,]*$).*)"
)


class Line(NamedTuple):
    """A message: its number, 0 for the first one in the buffer, and what is of interest in it."""

    number: int
    text: str


class Call(NamedTuple):
    """A line of a stack trace: its number, symbol+offset, and the function; that is empty for a mark such as a trap."""

    number: int
    where: str
    function: str


class Said(NamedTuple):
    """What the last boot's messages tell; a line that isn't there is None or missing.

    Attributes:
        messages: all of them.
        version: the kernel's banner.
        panics: what panic(9) said, each time.
        faults: what was said of a trap that the kernel did not survive.
        stopped: where ddb was entered, symbol+offset.
        process: the process that ran then.
        trace: the first stack trace after the trouble began.
        commands: what was typed into ddb.
        memory: bytes of memory that the kernel found at boot.
        cpu: the CPU's name.
        cpus: how many attached.
        seconds: since boot, at the first sign of trouble or else in the last message; NetBSD says it, OpenBSD doesn't.
    """

    messages: Messages
    version: Line | None = None
    panics: tuple[Line, ...] = ()
    faults: tuple[Line, ...] = ()
    stopped: Line | None = None
    process: Line | None = None
    trace: tuple[Call, ...] = ()
    commands: tuple[Line, ...] = ()
    memory: tuple[int, int] | None = None
    cpu: Line | None = None
    cpus: int = 0
    seconds: Line | None = None

    @property
    def source(self) -> str:
        """Where the messages were found, in words."""
        return f"messages ({self.messages.source.partition(',')[0]})"

    def fact(self, label: str, text: str, number: int) -> Fact:
        """Return what the message with this number tells as a fact."""
        return Fact(label, text, f"{self.source}, line {number + 1}", line=number)

    @property
    def place(self) -> tuple[Call, ...]:
        """The calls of the trace from the function on that called panic(9) or that was interrupted by a trap."""
        calls = self.trace
        inside = [i for i, c in enumerate(calls) if c.function in _PANICS]
        i = first = inside[-1] + 1 if inside else 0
        while i < len(calls) and calls[i].function and _TRAPS.fullmatch(calls[i].function):
            i += 1
        # A trap's own functions are passed over only where the trace tells of the trap.
        if i < len(calls) and not calls[i].function and "trap" in calls[i].where:
            first = i + 1
        return tuple(c for c in calls[first:] if c.function)


def parse(found: Messages) -> Said:
    """Find out what these messages tell."""
    text = found.text
    last = boots(text)[-1] if text else ""
    start = text.count("\n", 0, len(text) - len(last))
    raw = [line[:_LINE_MAX] for line in last.splitlines()]
    lines = [Line(start + i, _STAMP.sub("", line, count=1).strip()) for i, line in enumerate(raw)]
    panics = tuple(_matches(lines, _PANIC))
    faults = tuple(_matches(lines, _FAULT))
    stopped = next(_matches(lines, _STOPPED, "where"), None)
    signs = (*panics[:1], *faults[:1], *((stopped,) if stopped else ()))
    trouble = min((line.number for line in signs), default=None)
    before, after = (lines, []) if trouble is None else (lines[: trouble - start], lines[trouble - start :])
    stamps = [Line(start + i, m[1]) for i, line in enumerate(raw) if (m := _SECONDS.match(line))]
    return Said(
        found,
        _version(lines),
        panics[:_PANICS_MAX],
        faults[:_PANICS_MAX],
        stopped,
        _process(after),
        tuple(_trace(after)),
        tuple(_matches(after, _PROMPT))[:_COMMANDS_MAX],
        _memory(lines),
        next(_matches(before, _MODEL), None),
        len({m[1] for line in lines if (m := _CPU.match(line.text))}),
        next((s for s in stamps if s.number == trouble), stamps[-1] if stamps else None),
    )


def _matches(lines: Sequence[Line], pattern: re.Pattern[str], group: str | int | None = None) -> Iterator[Line]:
    """Yield what `pattern` finds at the start of these lines: that group, or the last one that is part of it."""
    for line in lines:
        if m := pattern.match(line.text):
            yield Line(line.number, m[m.lastgroup or m.lastindex or 0 if group is None else group].strip())


def _version(lines: Sequence[Line]) -> Line | None:
    for line, following in zip_longest(lines, lines[1:], fillvalue=Line(0, "")):
        if m := _BANNER.search(line.text):
            built = following.text if "@" in following.text and ":/" in following.text else ""
            return Line(line.number, f"{m[0]} {built}".strip())
    return None


def _process(lines: Sequence[Line]) -> Line | None:
    """Return the process that ran: by OpenBSD's table of threads, else by the words of NetBSD's ddb."""
    for i, line in enumerate(lines):
        if _THREADS.match(line.text):
            for row in lines[i + 1 : i + 65]:
                if m := _THREAD.match(row.text):
                    tid, pid, uid, cpu, command = m.groups()
                    return Line(row.number, f"{command}, pid {pid}, tid {tid}, uid {uid}, on CPU {cpu}")
        if (m := _STOPPED.match(line.text)) and m["who"]:
            pid, _, command = m["who"].strip().removeprefix("in pid ").partition(" ")
            return Line(line.number, f"{command.strip('()')}, pid {pid}")
    return None


def _trace(lines: Sequence[Line]) -> Iterator[Call]:
    """Yield the first run of lines that are calls, with the marks between them."""
    begun = 0
    for line in lines:
        call = next((m for p in _CALLS if (m := p.match(line.text))), None)
        if call is not None:
            yield Call(line.number, call["where"], call["where"].partition("+")[0])
        elif begun and _MARK.match(line.text):
            yield Call(line.number, line.text, "")
        elif begun:
            return
        begun += call is not None or begun > 0
        if begun >= _CALLS_MAX:
            return


def _memory(lines: Sequence[Line]) -> tuple[int, int] | None:
    """Return bytes and line."""
    for line in lines:
        if m := _MEMORY.match(line.text):
            # Longer numbers are no size.
            return (int(m["n"]) * _UNITS[m["unit"] or ""], line.number) if len(m["n"]) <= 18 else None
    return None
