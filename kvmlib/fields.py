"""Every byte of a dump's header and what it means, as a tree: the device's form and the saved form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvmlib.errors import FormatError
from kvmlib.kcore import (
    FLAG_NAMES,
    KCORE_HDR,
    KCORE_MAGIC,
    KCORE_SEG,
    KCORESEG_MAGIC,
    PHYS_RAM_SEG,
    ByteOrder,
    CField,
    CStruct,
    Form,
    MidMag,
    RamSeg,
    build_device,
    build_saved,
)
from kvmlib.kvm import Kvm
from kvmlib.ports.base import Machine
from kvmlib.text import printable

_MAGICS = {KCORE_MAGIC: "KCORE_MAGIC", KCORESEG_MAGIC: "KCORESEG_MAGIC"}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a header.

    Attributes:
        name: its name in C.
        ctype: its C type, as the header file spells it.
        offset: bytes from the header's first byte.
        size: bytes.
        raw: its bytes.
        value: its number; None for a structure or for padding.
        text: the value for a person.
        meaning: one line.
        header: the header file that declares it; empty for padding.
        children: the fields of a structure, in order, without gaps.
        order: byte order of a number, ``little`` or ``big``; empty for what has none.
        warning: what a reader must not miss about the value, a sentence without its full stop; mostly empty.
    """

    name: str
    ctype: str
    offset: int
    size: int
    raw: bytes
    value: int | None
    text: str
    meaning: str
    header: str
    children: tuple[Field, ...] = ()
    order: str = ""
    warning: str = ""


def header_bytes(kd: Kvm, form: Form | None = None) -> bytes:
    """Return the header's bytes: as they lie in the file, or as they would be in the other form.

    Where `Machine.settle` put a saved core's headers right, they are as they should have been.

    Raises:
        FormatError: no header was found yet.
    """
    machine, size = _known(kd)
    assert kd.reading is not None
    assert kd.kcore_hdr is not None
    headers = kd.reading.headers
    form = form or headers.form
    if form == headers.form:
        raw = kd.image.read(headers.offset, headers.data_off - headers.offset)
        # In a saved core, CPU data that its kernel didn't count (sun2) lies behind the last header.
        if raw.startswith(headers.cpu_data, headers.cpu_off - headers.offset):
            return raw
    if form == "device":
        return build_device(machine.abi, headers.cpu_data)
    return build_saved(machine.abi, kd.kcore_hdr, headers.cpu_data, size)


def header_fields(kd: Kvm, form: Form | None = None) -> tuple[Field, ...]:
    """Return the header's fields; their leaves cover every byte of `header_bytes`.

    Raises:
        FormatError: no header was found yet.
    """
    machine, size = _known(kd)
    assert kd.kcore_hdr is not None
    raw = header_bytes(kd, form)
    tree = _Tree(machine, raw)
    if (form or kd.form) == "device":
        seghdr = machine.abi.align(KCORE_SEG.size)
        tree.struct(KCORE_SEG, seghdr, "the segment header the kernel writes")
        tree.cpu_data(len(raw) - seghdr)
        return tuple(tree.fields)
    hdr = kd.kcore_hdr
    tree.struct(KCORE_HDR, hdr.c_hdrsize, "the header of the whole file")
    tree.struct(KCORE_SEG, hdr.c_seghdrsize, "the header of the CPU segment")
    tree.cpu_data(len(raw) - hdr.c_hdrsize - 2 * hdr.c_seghdrsize)
    tree.struct(KCORE_SEG, hdr.c_seghdrsize, "the header of the memory segment; memory follows", memory=size)
    return tuple(tree.fields)


def _known(kd: Kvm) -> tuple[Machine, int]:
    if kd.reading is None:
        raise FormatError("no valid dump header yet, so it has no fields")
    size = kd.reading.size
    return kd.reading.machine, max(0, kd.image.size - kd.reading.headers.data_off) if size is None else size


class _Tree:
    """Builds the tree from left to right."""

    def __init__(self, machine: Machine, raw: bytes) -> None:
        self.machine = machine
        self.order: ByteOrder = machine.byteorder
        self.raw = raw
        self.at = 0
        self.fields: list[Field] = []
        self.hdr: Mapping[str, Any] = {}

    def struct(self, layout: CStruct, size: int, meaning: str, memory: int | None = None) -> None:
        """Add a structure and the padding behind it; `memory` are the bytes that its c_size should count."""
        children = self._children(layout, size)
        if memory is not None:
            children = tuple(
                replace(c, warning=_size_warning(c.value or 0, memory)) if c.name == "c_size" else c for c in children
            )
        self._add(layout.name, layout.name, size, meaning, layout.header, children)

    def cpu_data(self, size: int) -> None:
        """Add the CPU data: the machine's structure, its RAM segments, and the rest."""
        machine, start = self.machine, self.at
        data = self.raw[start : start + size]
        self.hdr = machine.parse_cpu_hdr(data)
        children: list[Field] = []
        if machine.cpu_hdr is not None:
            layout = machine.cpu_hdr
            children += self._children(layout, layout.size)
            children += self._segments(data, start)
            rest = machine.cpu_rest
        else:
            rest = machine.cpu_rest
        used = children[-1].offset + children[-1].size if children else start
        if used < start + size:
            children.append(self._padding(used, start + size - used, rest))
        self.at = start
        name = machine.cpu_hdr.name if machine.cpu_hdr else "CPU data"
        header = machine.cpu_hdr.header if machine.cpu_hdr else ""
        self._add(name, name, size, f"what only this machine has: {machine.name}", header, tuple(children))

    def _segments(self, data: bytes, start: int) -> list[Field]:
        machine, hdr = self.machine, self.hdr
        segments = machine.ram(machine, data, hdr) if machine.ram else []
        at = start + machine.segments_offset(hdr)
        found = []
        if segments and at > start + machine.least_cpu_data:
            gap = start + machine.least_cpu_data
            found.append(self._padding(gap, at - gap, "alignment"))
        for i, segment in enumerate(segments):
            found.append(self._segment(i, segment, at))
            at += PHYS_RAM_SEG.size
        return found + self._junk(len(segments), at, start + len(data)) if segments else found

    def _junk(self, segments: int, at: int, end: int) -> list[Field]:
        """Return what a count of RAM segments that is too high takes for more of them (openbsd/sparc64)."""
        counted = next((int(self.hdr[n]) for n in ("nmemsegs", "nmemseg") if n in self.hdr), 0)
        counted = min(counted, segments + (end - at) // PHYS_RAM_SEG.size)
        warning = f"this is no segment: the count in the header is too high, and the list has {segments}"
        found = []
        for i in range(segments, counted):
            raw = self.raw[at : at + PHYS_RAM_SEG.size]
            start, size = (int.from_bytes(half, self.order) for half in (raw[:8], raw[8:]))
            field = self._segment(i, RamSeg(start, size), at)
            found.append(replace(field, meaning="an entry that the kernel counted by mistake", warning=warning))
            at += PHYS_RAM_SEG.size
        return found

    def _segment(self, i: int, segment: RamSeg, at: int) -> Field:
        children = tuple(self._leaf(f, at, PHYS_RAM_SEG.header) for f in PHYS_RAM_SEG.fields)
        end = segment.start + segment.size
        text = f"pa {segment.start:#x} to {end:#x}"
        raw = self.raw[at : at + PHYS_RAM_SEG.size]
        meaning = "a run of RAM whose contents follow in this order"
        return Field(
            f"segs[{i}]", PHYS_RAM_SEG.name, at, len(raw), raw, None, text, meaning, PHYS_RAM_SEG.header, children
        )

    def _children(self, layout: CStruct, size: int) -> tuple[Field, ...]:
        found: list[Field] = []
        at = self.at
        for f in layout.fields:
            if self.at + f.offset > at:
                found.append(self._padding(at, self.at + f.offset - at, "alignment"))
            found += self._elements(f, layout.header)
            at = self.at + f.offset + f.size
        if self.at + size > at:
            found.append(self._padding(at, self.at + size - at, "alignment"))
        return tuple(found)

    def _elements(self, f: CField, header: str) -> list[Field]:
        if f.count == 1 or f.wire == "char":
            return [self._leaf(f, self.at, header)]
        each = f.size // f.count
        return [
            self._leaf(CField(f.offset + i * each, f.wire, f"{f.name}[{i}]", f.ctype, f.meaning), self.at, header)
            for i in range(f.count)
        ]

    def _leaf(self, f: CField, base: int, header: str) -> Field:
        raw = self.raw[base + f.offset : base + f.offset + f.size]
        if f.wire == "char":
            text = printable(raw.partition(b"\0")[0].decode("latin-1"))
            return Field(f.name, f.ctype, base + f.offset, len(raw), raw, None, text, f.meaning, header)
        order: ByteOrder = "big" if f.wire == "midmag" else self.order
        value = int.from_bytes(raw, order, signed=f.wire == "i32")
        text = _midmag_text(value) if f.wire == "midmag" else self._text(f.name, value)
        at = base + f.offset
        return Field(
            f.name, f.ctype, at, len(raw), raw, value, text, f.meaning, header, (), order, self._warning(f.name, value)
        )

    def _warning(self, name: str, value: int) -> str:
        return next((w for r in self.machine.register_facts if r.label == name and (w := r.warn(value))), "")

    def _text(self, name: str, value: int) -> str:
        for fact in self.machine.register_facts:
            if fact.label == name and (decoded := fact.decode(value, self.hdr)):
                return f"{value:#x}: {decoded}"
        return f"{value:#x}" if value < 10 else f"{value:#x} ({value})"

    def _padding(self, offset: int, size: int, meaning: str) -> Field:
        raw = self.raw[offset : offset + size]
        text = "zeros" if not any(raw) else "not zeros"
        return Field("padding", "char[]", offset, size, raw, None, f"{size} bytes, {text}", meaning, "")

    def _add(self, name: str, ctype: str, size: int, meaning: str, header: str, children: tuple[Field, ...]) -> None:
        raw = self.raw[self.at : self.at + size]
        self.fields.append(Field(name, ctype, self.at, size, raw, None, f"{size} bytes", meaning, header, children))
        self.at += size


def _size_warning(value: int, memory: int) -> str:
    """Say what is wrong with the c_size of CORE_DATA where `memory` bytes of memory should follow."""
    wrapped = memory & 0xFFFFFFFF
    if value != wrapped:
        return f"{memory:#x} bytes of memory should follow: c_size should be {wrapped:#x}"
    if memory > 0xFFFFFFFF:
        return (
            f"the field has 32 bits, and {memory:#x} bytes of memory follow: c_size is wrapped, "
            f"{memory >> 32} times 4 GiB are missing. The size is the sum of the RAM segments"
        )
    return ""


def _midmag_text(value: int) -> str:
    m = MidMag.of(value)
    flag = FLAG_NAMES.get(m.flag, str(m.flag))
    return f"{value:#010x}: flag {flag}, machine id {m.mid}, {_MAGICS.get(m.magic, 'no magic known')}"
