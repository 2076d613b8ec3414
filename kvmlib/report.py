"""What kvmdump prints, as plain data for JSON and as text for people; reading is done elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping as MappingType, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kvmlib.backtrace import Stack, stack
from kvmlib.candidates import Candidate
from kvmlib.errors import KvmError
from kvmlib.facts import Fact
from kvmlib.kvm import Kvm
from kvmlib.match import Match, cached
from kvmlib.msgbuf import messages
from kvmlib.msgscan import Buffer
from kvmlib.namelist import Symbol
from kvmlib.panic import summary
from kvmlib.ports.base import Machine, Register
from kvmlib.registers import panic_registers, trap_registers
from kvmlib.text import printable
from kvmlib.translate import Mapping, Step

if TYPE_CHECKING:
    from kvmlib.dumpstate import Damage
    from kvmlib.savecore import Saved

#: Columns of a rescue console, and of a mail that is quoted once.
WIDTH = 79
_LABEL = 10
_LAST_MESSAGES = 15
#: Parts that the map of what was written over memory has in the text.
_DAMAGE_MAX = 20


def info_data(kd: Kvm) -> dict[str, Any]:
    """Return all that ``kvmdump info`` knows, for JSON; what isn't known is null."""
    found = summary(kd)
    assert kd.reading is not None
    assert kd.machine is not None
    assert kd.kcore_hdr is not None
    return {
        "path": printable(kd.path),
        "machine": kd.machine.name,
        "machine_reasons": [printable(r) for r in kd.reading.reasons],
        "doubt": kd.doubt,
        "runners_up": [{"machine": r.machine.name, "score": r.score} for r in kd.runners_up],
        "form": kd.form,
        "header_off": kd.reading.headers.offset,
        "dump_off": kd.dump_off,
        "kcore_hdr": asdict(kd.kcore_hdr),
        "cpu_hdr": plain(kd.cpu_hdr),
        "registers": [_register_data(r) for r in kd.registers],
        "segments": [asdict(s) for s in kd.segments],
        "ram": [asdict(s) for s in kd.ram],
        "state": {"verdict": found.state.verdict, "reasons": [printable(r) for r in found.state.reasons]},
        "complete": found.state.complete,
        "damage": [asdict(d) for d in found.state.damage],
        "symbols": {"source": printable(kd.symbols.source), "count": len(kd.symbols)},
        "match": _match_data(cached(kd)),
        "kernel_note": printable(kd.kernel_note),
        "version": found.version,
        "panic": found.panic,
        "crashed": found.crashed.isoformat() if found.crashed else None,
        "dumpmag": None if found.dumpmag is None else {k: getattr(found.dumpmag, k) for k in ("va", "value", "state")},
        "facts": [asdict(f) for f in found.facts],
        "panic_registers": [_register_data(r) for r in _registers(kd, panic_registers)],
        "trap_registers": [_register_data(r) for r in _registers(kd, trap_registers)],
        "stack": _stack_data(kd),
    }


def _match_data(m: Match) -> dict[str, Any]:
    return asdict(m) | {"reasons": [printable(r) for r in m.reasons]}


def _register_data(r: Register) -> dict[str, Any]:
    return asdict(r)


def _registers(kd: Kvm, saved: Callable[[Kvm], list[Register]]) -> list[Register]:
    """Return those that were saved, which may be none."""
    try:
        return saved(kd)
    except KvmError:
        return []


def _stack(kd: Kvm) -> Stack:
    try:
        return stack(kd)
    except KvmError as e:
        return Stack((), str(e))


def _stack_data(kd: Kvm) -> dict[str, Any]:
    found = _stack(kd)
    return {"frames": [asdict(f) for f in found.frames], "end": printable(found.end), "source": found.source}


def report_text(kd: Kvm) -> str:
    """Return the report of a dump: what ``kvmdump info`` prints, at most 79 columns wide."""
    lines: list[str] = []
    found = summary(kd)
    for fact in found.facts:
        lines += _fact_lines(fact)
    lines += _damage_lines(found.state.damage)
    lines += _register_lines("CORE_CPU", kd.registers)
    lines += _register_lines("DUMPPCB", _registers(kd, panic_registers))
    lines += _register_lines("TRAP", _registers(kd, trap_registers))
    lines += _stack_lines(_stack(kd))
    lines += _message_lines(kd)
    return "\n".join(lines)


def _labelled(label: str, text: str) -> list[str]:
    indent = " " * _LABEL
    return textwrap.wrap(
        printable(text), WIDTH, initial_indent=f"{label:<{_LABEL}}", subsequent_indent=indent, break_on_hyphens=False
    )


def _fact_lines(fact: Fact) -> list[str]:
    return _labelled(fact.label, f"{fact.text}  [{fact.source}]" if fact.source else fact.text)


def _damage_lines(damage: Sequence[Damage]) -> list[str]:
    """Return the map of what was written over memory: what is certain comes first."""
    lines, label = [], "DAMAGE"
    parts = sorted(damage, key=lambda d: (not d.certain, d.pa))
    for d in parts[:_DAMAGE_MAX]:
        doubt = "" if d.certain else " (may be the kernel's own)"
        lines += _labelled(label, f"pa {d.pa:#x} to {d.pa + d.size - 1:#x}: {d.what}{doubt}")
        label = ""
    behind = len(parts) - _DAMAGE_MAX
    return lines + (_labelled("", f"and {behind} more parts (--json lists all)") if behind > 0 else [])


def _register_lines(label: str, registers: Sequence[Register]) -> list[str]:
    lines = []
    width = max((len(r.name) for r in registers), default=0)
    for r in registers:
        text = f"{r.name:<{max(9, width + 1)}}{r.value:#0{r.width // 4 + 2}x}" + (f"  {r.decoded}" if r.decoded else "")
        lines += _labelled(label, text)
        label = ""
    return lines


def _stack_lines(found: Stack) -> list[str]:
    lines, label = [], "STACK"
    for i, f in enumerate(found.frames):
        lines += _labelled(label, f"#{i:<3}{f.pc:#x}  {f.where}")
        label = ""
    if found.source == "ddb_regs":
        lines += _labelled(label, "from ddb_regs on, the registers at the trap that entered ddb")
        label = ""
    return lines + _labelled(label, f"ends: {found.end}" if found.frames else f"not known: {found.end}")


def _message_lines(kd: Kvm) -> list[str]:
    try:
        found = messages(kd)
    except KvmError as e:
        return _labelled("MESSAGES", f"not known: {e}")
    text = found.lines
    said = f"the last of {len(text)} lines (kvmdump dmesg prints all)  [{found.source}]"
    lines = _labelled("MESSAGES", said)
    for line in text[-_LAST_MESSAGES:]:
        lines += textwrap.wrap(printable(line, "\t"), WIDTH - 2, initial_indent="  ", subsequent_indent="    ") or [""]
    return lines


# -- the other commands --------------------------------------------------------------------------------------------


def find_data(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the candidates, for JSON."""
    return [{**asdict_flat(c), "machine": c.machine.name, "reasons": [printable(r) for r in c.reasons]} for c in found]


def asdict_flat(c: Candidate) -> dict[str, Any]:
    """Return a candidate's plain numbers."""
    return {
        "offset": c.offset,
        "score": c.score,
        "length": c.length,
        "form": c.form,
        "partition": c.partition,
        "overwritten": c.overwritten,
    }


def find_text(found: Sequence[Candidate]) -> str:
    """Return the candidates, best first, with the reasons below each."""
    lines = []
    for c in found:
        lines.append(f"{c.offset:#x}  {c.machine.name}  score {c.score}  {c.form}, {c.length} bytes")
        if c.partition:
            lines.append(f"    in {printable(c.partition)}")
        for reason in c.reasons:
            lines += textwrap.wrap(printable(reason), WIDTH, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(lines)


def buffer_data(b: Buffer) -> dict[str, Any]:
    """Return a message buffer, for JSON."""
    return asdict(b) | {"reasons": [printable(r) for r in b.reasons]}


def buffer_text(b: Buffer) -> str:
    """Return a message buffer: a line about it, the reasons, its text."""
    where = f"pa {b.pa:#x}" + (f", va {b.va:#x}" if b.va is not None else "")
    lines = [f"== {b.kind}, score {b.score}, {where}, {b.size} bytes =="]
    for reason in b.reasons:
        lines += textwrap.wrap(printable(reason), WIDTH, initial_indent="=  ", subsequent_indent="=    ")
    return "\n".join([*lines, b.text.rstrip("\n")])


def step_data(step: Step) -> dict[str, Any]:
    """Return one step of a page walk, for JSON."""
    return asdict(step)


def walk_text(va: int, name: str, steps: Sequence[Step]) -> str:
    """Return a page walk, a level at a time."""
    lines = [f"va {va:#x}" + (f"  {name}" if name else "")]
    for step in steps:
        head = step.name if step.table_pa is None else f"{step.name} at pa {step.table_pa:#x}"
        if step.index is not None:
            bits = f" (va bits {step.shift + step.bits - 1} to {step.shift})" if step.bits else ""
            lines.append(f"  {head}: entry {step.index}{bits}")
        elif step.table_pa is not None:
            lines.append(f"  {head}")
        if (entry := _entry_text(step)) is not None:
            lines += textwrap.wrap(entry, WIDTH, initial_indent="    ", subsequent_indent="      ")
        lines += textwrap.wrap(printable(step.note), WIDTH, initial_indent="    -> ", subsequent_indent="       ")
    return "\n".join(lines)


def _entry_text(step: Step) -> str | None:
    """Return where a step's entry is and what it holds; None where there is none to show."""
    if step.entry is None and step.outcome != "unreadable":
        return None
    value = "unreadable" if step.entry is None else f"{step.entry:#x}"
    flags = f"  {' '.join(step.flags)}" if step.flags else ""
    if step.entry_pa is None:
        return value + flags
    where = f"file offset {step.entry_offset:#x}" if step.entry_offset is not None else "not in the file"
    return f"at pa {step.entry_pa:#x}, {where}: {value}{flags}"


def mapping_data(m: Mapping) -> dict[str, Any]:
    """Return a mapped range, for JSON."""
    return {"va": m.va, "pa": m.pa, "size": m.size, "flags": list(m.flags)}


def mapping_text(m: Mapping, digits: int) -> str:
    """Return a mapped range in a line."""
    return f"{m.va:0{digits}x}-{m.va + m.size - 1:0{digits}x}  pa {m.pa:0{digits}x}  {m.size:>14}  {' '.join(m.flags)}"


def symbol_data(s: Symbol) -> dict[str, Any]:
    """Return a symbol, for JSON; only those of loaded modules have one."""
    found = {"name": printable(s.name), "value": s.value, "size": s.size, "kind": s.kind}
    return found | {"module": printable(s.module)} if s.module else found


def symbol_text(s: Symbol, digits: int) -> str:
    """Return a symbol as nm(1) prints it, which knows no modules: their names go with those of their symbols."""
    return f"{s.value:0{digits}x} {s.kind} {printable(s.label)}"


def saved_data(done: Saved) -> dict[str, Any]:
    """Return what was saved, for JSON."""
    return plain(asdict(done)) | {
        "warnings": [printable(w) for w in done.warnings],
        "holes": [h._asdict() for h in done.holes],
    }


def saved_text(done: Saved) -> str:
    """Return what was saved: a line for each file, and what is known of it."""
    lines = [f"core    {printable(done.core)}  ({done.bytes} bytes)"]
    lines += [f"        {done.resumed} of them were there already"] if done.resumed else []
    lines.append(f"kernel  {printable(done.kernel)}" if done.kernel else f"kernel  {printable(done.kernel_source)}")
    lines += [f"        {printable(done.kernel_source)}"] if done.kernel else []
    lines.append(f"info    {printable(done.info)}")
    lines += [f"sha256  {done.sha256}  (read back and compared)"] if done.sha256 else []
    return "\n".join(lines)


def machine_data(m: Machine) -> dict[str, Any]:
    """Return a machine, for JSON."""
    return {
        "name": m.name,
        "os": m.os,
        "arch": m.arch,
        "mid": m.mid,
        "byteorder": m.byteorder,
        "long_bytes": m.long_bytes,
        "page_size": m.page_size,
        "translator": m.translator,
        "libkvm": m.libkvm,
        "here": m.ours,
        "forms": [{"variant": f.variant, "byteorder": f.byteorder} for f in m.forms],
    }


def machines_text(found: Iterable[Machine]) -> str:
    """Return the table of machines, at most 79 columns wide: a line of numbers each, then what libkvm and we do."""
    found = list(found)
    rows = [("machine", "mid", "order", "long", "page", "translation"), *(_machine_row(m) for m in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    text = [lines[0]]
    for m, line in zip(found, lines[1:], strict=True):
        text.append(line)
        text += _labelled("  libkvm", m.libkvm) + _labelled("  here", m.ours)
    return "\n".join(text)


def machines_markdown(found: Iterable[Machine]) -> str:
    """Return the same as a Markdown table, as it stands in the README."""
    rows = [("machine", "id", "byte order", "page", "translation", "libkvm", "here"), ("---",) * 7]
    for m in found:
        name, mid, order, _, page, translator = _machine_row(m)
        rows.append((name, mid, order, page, translator, m.libkvm, m.ours))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---").replace("|--- |", "|---|")


def _machine_row(m: Machine) -> tuple[str, ...]:
    orders = "/".join(dict.fromkeys(f.byteorder for f in (m, *m.forms)))
    return m.name, str(m.mid), orders, str(m.long_bytes), str(m.page_size), m.translator


def plain(values: MappingType[str, Any]) -> dict[str, Any]:
    """Return values with every text made printable, for JSON."""
    return {k: printable(v) if isinstance(v, str) else v for k, v in values.items()}
