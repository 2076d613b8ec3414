"""What is known about one address: va, pa, file offset, segment, symbol. Pure: no widget."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import kvmlib

if TYPE_CHECKING:
    from kvmtui.widgets.space import Space, VirtualSpace


@dataclass(frozen=True, slots=True)
class Where:
    """The facts about an address, None where there is none.

    Attributes:
        va, pa: the address.
        offset: where its byte lies in the file.
        segment: number of the dump's segment, counted from 0.
        symbol: the symbol it lies in or behind, with the distance; may be empty.
        problem: why there is no byte to show, as a sentence; empty where there is one.
        kind: present, unmapped, not_in_dump or truncated.
    """

    va: int | None
    pa: int | None
    offset: int | None
    segment: int | None
    symbol: str
    problem: str
    kind: str


def where_va(kd: kvmlib.Kvm, va: int) -> Where:
    """Look a virtual address up."""
    try:
        pa, _ = kd.kvatop(va)
    except kvmlib.TranslationError as e:
        return Where(va, None, None, None, kd.describe(va), str(e), "unmapped")
    return _located(kd, va, pa)


def where_pa(kd: kvmlib.Kvm, pa: int, space: VirtualSpace | None) -> Where:
    """Look a physical address up; `space` knows which va is mapped to it."""
    return _located(kd, space.va_of(pa) if space else None, pa)


def _located(kd: kvmlib.Kvm, va: int | None, pa: int) -> Where:
    symbol = kd.describe(va) if va is not None else ""
    try:
        offset, _ = kd.memory.locate(pa, 1)
    except kvmlib.NotInDumpError as e:
        return Where(va, pa, None, None, symbol, str(e), "not_in_dump")
    segment = _segment(kd, pa, offset)
    if offset >= kd.image.size:
        problem = f"pa {pa:#x} should be at file offset {offset:#x}, but the file ends at {kd.image.size:#x}"
        return Where(va, pa, None, segment, symbol, problem, "truncated")
    return Where(va, pa, offset, segment, symbol, "", "present")


def _offset_of(segment: kvmlib.Segment) -> int:
    return segment.offset


def _segment(kd: kvmlib.Kvm, pa: int, offset: int) -> int | None:
    """Return the number of the segment that holds `pa`: where several do, the one that its file offset belongs to."""
    ram = kd.ram
    # They lie in the file in the header's order, so bisection finds it among 100,000; if they don't, look at each.
    i = bisect.bisect_right(ram, offset, key=_offset_of) - 1
    for number in chain((i,), range(len(ram))):
        s = ram[number]
        if s.start <= pa < s.start + s.size and s.offset + pa - s.start == offset:
            return number
    return None


def why_not(kd: kvmlib.Kvm, va: int) -> str:
    """Say why a va isn't mapped, in less than a line; empty where it is."""
    last = kd.walk(va)[-1]
    if last.outcome in ("page", "window"):
        return ""
    if last.outcome == "outside" or (last.entry is None and last.outcome == "invalid"):
        return last.note
    table = f"{last.name}[{last.index}] at pa {last.entry_pa:#x}" if last.entry_pa is not None else last.name
    if last.outcome == "unreadable":
        return f"{table} is not in the dump"
    return f"not mapped: {table} is {last.entry or 0:#x}"


def pointer_at(kd: kvmlib.Kvm, space: Space, address: int) -> tuple[int, int] | None:
    """Return (address, value) of the pointer that `address` lies in; None where it can't be read."""
    machine = kd.machine
    assert machine is not None
    size = machine.long_bytes
    at = address // size * size
    try:
        return at, int.from_bytes(space.read(at, size), machine.byteorder)
    except kvmlib.KvmError:
        return None


def status_lines(
    kd: kvmlib.Kvm, where: Where, pointer: tuple[int, int] | None, note: str, width: int
) -> list[list[tuple[str, str]]]:
    """Return the lines below the bytes: two of them, three where the terminal is narrow. The columns stay the same."""
    bits = kd.translator.bits
    digits = max(8, len(f"{kd.image.size:x}"))
    va = _hex(where.va, bits // 4)
    pa = _hex(where.pa, max(8, len(f"{where.pa or 0:x}")))
    facts = [
        f"va {va}",
        f"pa {pa}",
        f"file {_hex(where.offset, digits)}",
        f"seg {'-' if where.segment is None else where.segment}",
    ]
    if note:
        last = [(note, "bad")]
    elif where.problem:
        last = [(_problem(kd, where), "bad")]
    else:
        last = [(where.symbol or "no symbol", "strong" if where.symbol else "label")]
        if pointer is not None and not why_not(kd, pointer[1]):
            name = kd.describe(pointer[1])
            last += [("  -> ", "label"), (f"{pointer[1]:#x}{' ' + name if name else ''}", "")]
    lines: list[list[tuple[str, str]]] = [[(line, "")] for line in _flow(facts, width)]
    if where.symbol and (note or where.problem):
        lines[-1].append((f"  {where.symbol}", "strong"))
    return [*lines, [(kvmlib.printable(text), role) for text, role in last]]


def _problem(kd: kvmlib.Kvm, where: Where) -> str:
    if where.kind == "unmapped" and where.va is not None:
        return why_not(kd, where.va)
    if where.kind == "not_in_dump":
        return "in no segment of the dump" if where.va is None else "mapped, but in no segment of the dump"
    return where.problem.partition("which ")[2] or where.problem


def _hex(value: int | None, digits: int) -> str:
    return f"{value:#0{digits + 2}x}" if value is not None else "-".ljust(digits + 2)


def _flow(facts: list[str], width: int) -> list[str]:
    """Put facts side by side, two blanks apart, on as many lines as they need."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines
