"""The page walk of an address as lines. Pure: no widget."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import pairwise

import kvmlib
from kvmtui.widgets.lines import Line
from kvmtui.widgets.where import where_va

#: Before the step that the cursor is on, and before the others.
_HERE, _ELSE = "> ", "  "


@dataclass(frozen=True, slots=True)
class Stop:
    """Something in the walk that the cursor can stand on.

    Attributes:
        line, lines: the first of its lines, and how many there are.
        target: the address that Enter shows in Memory; None where there is none.
        physical: whether that is a physical address.
        last: whether the walk ends here.
    """

    line: int
    lines: int
    target: int | None
    physical: bool = True
    last: bool = False


def walk_lines(kd: kvmlib.Kvm, va: int | None, width: int) -> list[Line]:
    """Return the walk to `va` as lines of at most `width` columns."""
    return walk_stops(kd, va, width)[0]


def walk_stops(
    kd: kvmlib.Kvm, va: int | None, width: int, cursor: int | None = None
) -> tuple[list[Line], tuple[Stop, ...]]:
    """Return the walk to `va` as lines of at most `width` columns, and what the cursor can stand on.

    The step under the `cursor`, a number of a stop, is shown at length; None: the cursor isn't shown.
    """
    if va is None:
        text = "no virtual address is known that is mapped to this one; Tab, then r, looks through all page tables"
        return _wrapped(text, "faint", width), ()
    translator = kd.translator
    digits = translator.bits // 4
    steps = kd.walk(va)
    last = steps[-1]
    lines = [*_fitted([(f"va {va:#0{digits + 2}x}", "strong"), (f"  {translator.name}", "faint")], width)]
    room = width if cursor is None else max(10, width - len(_HERE))
    stops: list[Stop] = []
    found = last.outcome in ("page", "window")
    parts = [(_step(kd, step, va, room), step.entry_pa) for step in steps]
    if found:
        parts.append((_end(kd, va, last, room), last.pa))
    else:
        shown, target = parts.pop()
        parts.append(([*shown, *_wrapped(f"stops: {last.note}", "bad", room)], target))
    for number, (part, target) in enumerate(parts):
        if number == cursor:
            part = [*part, *_at_length(translator.bits, steps, number, va, room)]
        if cursor is not None:
            part = [[(_HERE if number == cursor and not i else _ELSE, "strong"), *line] for i, line in enumerate(part)]
        stops.append(Stop(len(lines), len(part), target, last=number == len(parts) - 1))
        lines += part
    return lines, tuple(stops)


def _end(kd: kvmlib.Kvm, va: int, last: kvmlib.Step, width: int) -> list[Line]:
    found = where_va(kd, va)
    end = f"file offset {found.offset:#x}" if found.offset is not None else found.problem
    return _wrapped(f"= pa {last.pa:#x}: {end}", "strong" if not found.problem else "bad", width)


# -- one step at length ------------------------------------------------------------------------------------------------


def _at_length(bits: int, steps: list[kvmlib.Step], number: int, va: int, width: int) -> list[Line]:
    """Return what there is to say about a step besides what always stands there; behind the last one, about the end."""
    last = steps[-1]
    if number >= len(steps):
        if last.outcome != "page":
            return _wrapped(f"  {last.note}", "label", width)
        size = _page_shift(last)
        offset = va & (1 << size) - 1
        lines = _bits(bits, steps, va, size, 0, width)
        text = f"  page at pa {_frame(last):#x} + offset {offset:#x}, the va's bits {size - 1}..0"
        return [*lines, *_wrapped(text, "label", width)]
    step = steps[number]
    lines = _bits(bits, steps, va, step.shift + step.bits, step.shift, width) if step.bits else []
    if step.table_pa is not None and step.index and step.entry_pa is not None and step.entry_pa != step.table_pa:
        each = (step.entry_pa - step.table_pa) // step.index
        text = f"  table at pa {step.table_pa:#x} + {step.index} * {each} bytes = pa {step.entry_pa:#x}"
        lines += _wrapped(text, "label", width)
    for bit, name in zip(step.flag_bits, step.flags, strict=False):
        text = f"bit {bit} {name}"
        if lines and lines[-1][0][1] == "flag" and len(lines[-1][0][0]) + 2 + len(text) <= width:
            lines[-1] = [(f"{lines[-1][0][0]}, {text}", "flag")]
        else:
            lines.append([(f"  {text}"[:width], "flag")])
    lines = [[(text, "label" if role == "flag" else role) for text, role in line] for line in lines]
    if step.outcome in ("next", "page"):
        # The others have said it: it is why the walk stops, or all that there is to a window.
        lines += _wrapped(f"  {step.note}", "label", width)
    return lines


def _bits(bits: int, steps: list[kvmlib.Step], va: int, high: int, low: int, width: int) -> list[Line]:
    """Return the va bit by bit, a group for each step; the bits from `low` up to `high` in brackets."""
    cuts = {0, bits, high, low, *(s.shift for s in steps if s.bits), *(s.shift + s.bits for s in steps if s.bits)}
    edges = sorted((c for c in cuts if 0 <= c <= bits), reverse=True)
    groups: list[tuple[str, str]] = []
    for top, bottom in pairwise(edges):
        text = f"{va >> bottom & (1 << top - bottom) - 1:0{top - bottom}b}"
        lit = low <= bottom and top <= high
        groups.append((f"[{text}]" if lit else text, "strong" if lit else "faint"))
    lines: list[list[tuple[str, str]]] = [[("  ", "")]]
    used = 2
    for text, role in groups:
        if used + len(text) + 1 > width and used > 2:
            lines.append([("  ", "")])
            used = 2
        lines[-1] += [(text[: width - 2], role), (" ", "")]
        used += len(text) + 1
    return [line[:-1] for line in lines]


# -- what always stands there --------------------------------------------------------------------------------------


def _step(kd: kvmlib.Kvm, step: kvmlib.Step, va: int, width: int) -> list[Line]:
    if step.index is None and step.entry_pa is None:
        # A window, or an address that can't be one: there is no table to show.
        return [[(step.name, "strong")]] if step.outcome != "window" else [*_wrapped(step.note, "", width)]
    head = [(step.name if step.index is None else f"{step.name}[{step.index}]", "strong")]
    if step.bits:
        bits = f"{va >> step.shift & (1 << step.bits) - 1:0{step.bits}b}"
        head.append((f"  bits {step.shift + step.bits - 1}..{step.shift} = {bits}", ""))
    if step.entry_pa is not None:
        at = f"file {step.entry_offset:#x}" if step.entry_offset is not None else "not in the file"
        head.append((f"  at pa {step.entry_pa:#x} {at}", "label"))
    lines = [*_fitted(head, width)]
    if step.entry is None:
        return lines if step.outcome != "next" else [*lines, *_wrapped(f"  {step.note}", "label", width)]
    size = _entry_digits(kd, step)
    flags = " ".join(step.flags) or "no flags"
    to = ("  -> not valid", "bad")
    if step.outcome == "next" and step.pa is None:
        to = ("", "")
    if step.pa is not None:
        kind = "next table" if step.outcome == "next" else f"{_page(step)} page"
        to = (f"  -> {kind} pa {step.pa if step.outcome == 'next' else _frame(step):#x}", "")
    lines += _fitted([(f"  {step.entry:#0{size + 2}x}", ""), (f"  {flags}", "label"), to], width)
    return lines


def _entry_digits(kd: kvmlib.Kvm, step: kvmlib.Step) -> int:
    """Hex digits of a table's entry, from the distance of two of them."""
    if step.index and step.table_pa is not None and step.entry_pa is not None:
        return 2 * (step.entry_pa - step.table_pa) // step.index
    return 16 if kd.translator.bits == 64 or (step.entry or 0) >> 32 else 8


def _page_shift(step: kvmlib.Step) -> int:
    return step.shift if step.page_shift is None else step.page_shift


def _page(step: kvmlib.Step) -> str:
    page = _page_shift(step)
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if page >= shift:
            return f"{1 << page - shift} {unit}"
    return f"{1 << page} bytes"


def _frame(step: kvmlib.Step) -> int:
    assert step.pa is not None
    return step.pa >> _page_shift(step) << _page_shift(step)


def _fitted(pieces: list[tuple[str, str]], width: int) -> list[Line]:
    """Put pieces on one line while they fit, the rest on further lines, indented."""
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for text, role in pieces:
        if lines[-1] and used + len(text) > width:
            lines.append([])
            used = 0
            text = f"    {text.strip()}"
        parts = [text]
        if len(text) > width:
            parts = textwrap.wrap(text, width, subsequent_indent="    ", drop_whitespace=False)
        for part in parts:
            if lines[-1] and used + len(part) > width:
                lines.append([])
                used = 0
            lines[-1].append((part, role))
            used += len(part)
    return [tuple(line) for line in lines]


def _wrapped(text: str, role: str, width: int) -> list[Line]:
    return [[(line, role)] for line in textwrap.wrap(kvmlib.printable(text), max(10, width), subsequent_indent="  ")]
