"""What there is to say about a header's field, in lines. Pure: no widget."""

from __future__ import annotations

from collections.abc import Sequence

import kvmlib
from kvmtui.widgets.lines import Line
from kvmtui.widgets.wrap import wrap

#: Columns of the field's name where both forms stand side by side.
_NAME = 24
#: Bytes of a field in a row; the rest is in its text.
_RAW = 8
_ORDERS = {"little": "little-endian, the lowest byte first", "big": "big-endian, the highest byte first"}


def byte_order(field: kvmlib.Field, machine: kvmlib.Machine | None) -> str:
    """Say in which order a number's bytes stand; empty for what is no number."""
    text = _ORDERS.get(field.order, "")
    if text and machine is not None and field.order != machine.byteorder:
        text += f", though {machine.name} is {machine.byteorder}-endian"
    return text


def raw(data: bytes, most: int) -> str:
    """Return bytes in hex, as many as `most`."""
    return data.hex(" ") if len(data) <= most else f"{data[: max(1, most - 1)].hex(' ')} .."


def name_of(field: kvmlib.Field) -> str:
    """Return a field as it is declared: type and name."""
    return field.name if field.name == field.ctype else f"{field.ctype} {field.name}"


def detail(field: kvmlib.Field, machine: kvmlib.Machine | None, start: int | None, width: int) -> list[Line]:
    """Return what is known about a field, in lines of at most `width` columns.

    `start` is the header's offset in the file, None where this form isn't in the file.
    """
    at = f"offset {field.offset:#x}" if width < 72 else f"offset {field.offset:#x} in the header"
    if start is not None:
        at += f", file {start + field.offset:#x}" if width < 72 else f", {start + field.offset:#x} in the file"
    at += ": " if width < 72 else f", {field.size} byte{'' if field.size == 1 else 's'}: "
    lines = _declared(field, width)
    if field.warning:
        lines += _wrapped(f"! {field.warning}", "bad", width)
    lines += _wrapped(field.text, "strong", width)
    room = max(4, (width - len(at) + 1) // 3)
    lines += _wrapped(f"{at}{raw(field.raw, room)}", "", width)
    lines += _wrapped(field.meaning, "", width)
    lines += _wrapped(byte_order(field, machine), "label", width)
    return _clean(lines)


def about(path: str, field: kvmlib.Field, machine: kvmlib.Machine | None, start: int | None, width: int) -> list[Line]:
    """Return all that is known about a field, every byte included."""
    lines: list[Line] = [[(path, "strong")], [("", "")]]
    if field.warning:
        lines += [*_wrapped(f"! {field.warning}", "bad", width), [("", "")]]
    facts = [
        ("type", field.ctype),
        ("declared in", field.header),
        ("meaning", field.meaning),
        ("value", field.text),
        ("byte order", byte_order(field, machine)),
        ("offset", f"{field.offset:#x} ({field.offset}) in the header"),
        ("in the file", f"{start + field.offset:#x} ({start + field.offset})" if start is not None else ""),
        ("size", f"{field.size} byte{'' if field.size == 1 else 's'}"),
    ]
    if field.value is not None:
        bits = 8 * field.size
        facts += [
            ("hex", f"{field.value & (1 << bits) - 1:#0{2 + bits // 4}x}"),
            ("decimal", f"{field.value}"),
            ("binary", " ".join(f"{b:08b}" for b in field.raw) + ("" if field.order == "big" else "  (as it lies)")),
        ]
    for label, text in facts:
        lines += labelled(label, text, width) if text else []
    lines += [[("", "")], [("bytes", "label")]]
    each = 16 if width >= 74 else 8 if width >= 41 else 4
    for i in range(0, len(field.raw), each):
        row = field.raw[i : i + each]
        text = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)
        lines.append([(f"{field.offset + i:6x}  ", "label"), (f"{row.hex(' '):<{3 * each}} {text}", "")])
    return _clean(lines)


def labelled(label: str, text: str, width: int) -> list[Line]:
    """Return a fact with its label before it."""
    rows = wrap(text, max(10, width - 13))
    return [[(f"{label if not i else '':<13}", "label"), (row, "")] for i, row in enumerate(rows)]


# -- both forms side by side -------------------------------------------------------------------------------------------


class PairRows:
    """Both forms of a header as rows: only those that are seen are made."""

    def __init__(self, pairs: Sequence[kvmlib.FieldPair], width: int) -> None:
        self.pairs = pairs
        self.width = width
        name = _NAME if width >= 72 else 15
        #: Columns of the name, and of each form.
        self.columns = (name, max(8, (width - name - 2) // 2))

    def __len__(self) -> int:
        return len(self.pairs)

    def selectable(self, number: int) -> bool:
        return True

    def heading(self) -> Line:
        name, column = self.columns
        return [(f"  {'':<{name}}{'device form':<{column}}{'saved form':<{column}}", "strong")]

    def line(self, number: int) -> Line:
        pair = self.pairs[number]
        name, column = self.columns
        role = "match" if pair.differs else "strong" if pair.field.children else ""
        text = f"{'  ' * pair.depth}{pair.field.name}"
        cells = [_cell(f, column - 1) for f in (pair.device, pair.saved)]
        mark = "! " if any(f is not None and f.warning for f in (pair.device, pair.saved)) else "  "
        line: list[tuple[str, str]] = [(mark, "bad"), (f"{text[: name - 1]:<{name}}", role if role == "strong" else "")]
        for cell in cells:
            shown = cell or "-"
            line += [(shown, role if cell else "faint"), (" " * (column - len(shown)), "")]
        return line


def _cell(field: kvmlib.Field | None, width: int) -> str:
    if field is None:
        return ""
    if field.children or field.value is None:
        return f"{field.size} bytes"[:width]
    text = raw(field.raw, min(_RAW, max(2, (width + 1) // 3)))
    value = f"  {field.value:#x}"
    return text + value if len(text) + len(value) <= width else text


def pair_detail(pair: kvmlib.FieldPair, width: int) -> list[Line]:
    """Say what a field is in either form, and why they differ."""
    field = pair.field
    lines = _declared(field, width)
    for form, found in (("device", pair.device), ("saved", pair.saved)):
        text = "has no such field" if found is None else f"offset {found.offset:#x}: {found.text}"
        lines += _wrapped(f"{form:<7}{text}", "" if found else "faint", width)
    for found in (pair.device, pair.saved):
        if found is not None and found.warning:
            lines += _wrapped(f"! {found.warning}", "bad", width)
            break
    lines += _wrapped(pair.why if pair.differs else "the same in both forms", "" if pair.differs else "label", width)
    return _clean(lines)


def _declared(field: kvmlib.Field, width: int) -> list[Line]:
    name = name_of(field)
    if not field.header:
        return [[(name, "strong")]]
    if len(name) + 2 + len(field.header) <= width:
        return [[(name, "strong"), (f"  {field.header}", "label")]]
    return [*_wrapped(name, "strong", width), *_wrapped(field.header, "label", width)]


def _wrapped(text: str, role: str, width: int) -> list[Line]:
    return [[(row, role)] for row in wrap(text, max(10, width))] if text else []


def _clean(lines: Sequence[Line]) -> list[Line]:
    return [[(kvmlib.printable(text), role) for text, role in line] for line in lines]
