"""The bytes at the cursor as everything they could be: integers, a date, a pointer, a string, an instruction."""

from __future__ import annotations

import datetime

import kvmlib
from kvmtui.widgets.insn import instruction
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.pointee import pointee, quoted
from kvmtui.widgets.shape import ByteOrder

#: Bytes that are looked at.
SEEN = 64
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NONE = "-"


class InspectorPane(Lines):
    """What the bytes at the cursor could be."""

    DEFAULT_CSS = """
    InspectorPane { max-height: 40%; border-top: solid $panel; }
    """


def inspect_lines(
    kd: kvmlib.Kvm,
    data: bytes,
    address: int,
    byteorder: ByteOrder,
    width: int,
    marks: kvmlib.Landmarks | None = None,
) -> list[Line]:
    """Return what `data`, which lies at `address`, could be, as lines of at most `width` columns.

    The number of lines and their columns stay the same wherever the cursor goes.
    """
    machine = kd.machine
    assert machine is not None
    numbers = []
    for size in (1, 2, 4, 8):
        plain, signed = (_integer(data, size, byteorder, sign) for sign in (False, True))
        numbers.append((f"u{8 * size}", plain, 3 * size - (size > 1)))
        numbers.append((f"i{8 * size}", signed, 3 * size + (size == 1)))
    lines: list[Line] = []
    row: list[tuple[str, str]] = []
    for name, value, digits in numbers:
        room = max(digits, 4) + 1
        if row and sum(len(t) for t, _ in row) + len(name) + 1 + room > width:
            lines.append(row)
            row = []
        row += [(f"{name} ", "label"), (value.ljust(room), "")]
    lines.append(row)
    for name, value in (
        ("time_t", _dates(data, byteorder)),
        ("pointer", _pointer(kd, data, machine.long_bytes, byteorder, marks)),
        ("string", quoted(data) or _NONE),
    ):
        lines.append([(f"{name:<8}", "label"), (kvmlib.printable(value)[: max(0, width - 8)], "")])
    if (code := instruction(kd, data, address)) is not None:
        lines.append([("code    ", "label"), ((code or _NONE)[: max(0, width - 8)], "")])
    return lines


def _integer(data: bytes, size: int, byteorder: ByteOrder, signed: bool) -> str:
    if len(data) < size:
        return _NONE
    return str(int.from_bytes(data[:size], byteorder, signed=signed))


def _dates(data: bytes, byteorder: ByteOrder) -> str:
    said = []
    for size in (8, 4):
        if len(data) >= size:
            date = date_of(int.from_bytes(data[:size], byteorder, signed=True))
            said.append(f"{date or 'no date'} ({8 * size} bits)")
    return "  ".join(said) or _NONE


def date_of(seconds: int) -> str:
    """Return a time_t as a date; empty where it is none that a calendar has."""
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment.year >= 1000 else ""


def _pointer(kd: kvmlib.Kvm, data: bytes, size: int, byteorder: ByteOrder, marks: kvmlib.Landmarks | None) -> str:
    if len(data) < size:
        return _NONE
    value = int.from_bytes(data[:size], byteorder)
    return f"{value:#0{2 * size + 2}x}  {pointee(kd, value, marks)}".rstrip()
