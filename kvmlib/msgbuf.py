"""The kernel's message buffer: a ring of text that outlives the panic (sys/msgbuf.h, kern/subr_prf.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from kvmlib.errors import FormatError, KvmError
from kvmlib.kvm import Kvm
from kvmlib.msgscan import MSG_MAGIC, SIZE_MAX, Buffer, clean, hole, layout, scan
from kvmlib.variables import machine_of, pointer


class Messages(NamedTuple):
    """The messages, oldest first.

    Attributes:
        text: printable text; its newlines and tabs are kept, what could harm a terminal is escaped.
        source: where it was found, in words.
        va: of struct msgbuf; None where it was found without symbols.
        pa: the same, where that is known.
    """

    text: str
    source: str
    va: int | None
    pa: int | None = None

    @property
    def lines(self) -> list[str]:
        """The text line by line."""
        return self.text.splitlines()


class Ring(NamedTuple):
    """Where the messages lie.

    Attributes:
        va: of struct msgbuf.
        text_va: of the first byte of text.
        size: bytes of text there is room for (msg_bufs).
        next: where the next byte would be written (msg_bufx): the oldest one is there, once the ring went round.
    """

    va: int
    text_va: int
    size: int
    next: int

    def runs(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the (va, bytes) of the text from index `start` to `end`, in one piece or, around the end, in two."""
        pieces = [(start, end)] if start < end else [(start, self.size), (0, end)]
        return [(self.text_va + low, high - low) for low, high in pieces if low < high]


def find_ring(kd: Kvm) -> Ring:
    """Find the message buffer by the symbol ``msgbufp``.

    Raises:
        SymbolError: there is no such symbol.
        FormatError: it points to something else, or what is there can't be true; says what is there.
        KvmError: it can't be read.
    """
    machine = machine_of(kd)
    _, va = pointer(kd, "msgbufp")
    if va == 0:
        raise FormatError("msgbufp is a null pointer: the kernel had no message buffer yet")
    size = machine.long_bytes
    raw = kd.read(va, size * 4)
    magic, bufx, _, bufs = (int.from_bytes(raw[i * size : (i + 1) * size], machine.byteorder) for i in range(4))
    if magic != MSG_MAGIC:
        raise FormatError(
            f"msgbufp points to va {va:#x}, where {magic:#x} is: a message buffer begins with {MSG_MAGIC:#x}, "
            "is this the right kernel file?"
        )
    if not 0 < bufs <= SIZE_MAX:
        raise FormatError(
            f"the message buffer at va {va:#x} is damaged: it claims to hold {bufs:#x} bytes, "
            f"1 to {SIZE_MAX:#x} were expected"
        )
    # An index that is out of range begins at 0 again, in the kernel too.
    count = layout(machine, bufs) or machine.system.msgbuf_longs
    return Ring(va, va + size * count, bufs, bufx if bufx < bufs else 0)


def messages(kd: Kvm) -> Messages:
    """Return the kernel's messages: oldest first, as dmesg(8) prints them.

    They are found by the symbol ``msgbufp`` or, where that leads to none, by searching memory. NULs are skipped and
    priorities (``<3>``) are taken away. Where a part of the buffer isn't there, a line says so.

    Raises:
        KvmError: there is no message buffer; of the kind and with the reason that the symbol led to none.
    """
    try:
        return _by_symbol(kd)
    except KvmError as e:
        machine_of(kd)
        found = scan(kd)
        if found and found[0].kind != "leftover":
            return Messages(found[0].text, f"found by searching memory, at pa {found[0].pa:#x}", None, found[0].pa)
        what = "only older boots' message buffers were found by searching memory"
        e.args = (f"{e}; {what if found else 'no message buffer was found by searching memory either'}",)
        raise


def _by_symbol(kd: Kvm) -> Messages:
    ring = find_ring(kd)
    spans = [span for va, n in ring.runs(ring.next, ring.next) for span in kd.spans(va, n)]
    if not any(span.data for span in spans):
        kd.read(ring.text_va + ring.next, 1)  # Raises with the reason.
    data = b"".join(hole(span.size, span.kind) if span.data is None else span.data for span in spans)
    return Messages(clean(data), "symbol msgbufp", ring.va, kd.kvatop(ring.va)[0])


def buffers(kd: Kvm) -> tuple[Buffer, ...]:
    """Return every message buffer in memory with the reasons for and against it, the running kernel's first.

    That is the one that ``msgbufp`` leads to, if it leads to one.

    Raises:
        FormatError: no header was found yet.
    """
    found = scan(kd)
    try:
        ring, said = find_ring(kd), _by_symbol(kd)
    except KvmError:
        return found
    assert said.pa is not None
    same = next((b for b in found if b.pa == said.pa), None)
    longs = (ring.text_va - ring.va) // machine_of(kd).long_bytes
    reasons = ("msgbufp points to it", *(same.reasons if same else ()))
    mine = Buffer(said.pa, ring.va, ring.size, ring.next, longs, "kernel", 100, said.text, reasons)
    others = (replace(b, kind="leftover") if b.kind == "kernel" else b for b in found if b.pa != said.pa)
    return (mine, *others)


def between(kd: Kvm, ring: Ring, start: int, end: int) -> bytes:
    """Return the bytes of the ring from index `start` to index `end`, without NULs.

    Raises:
        KvmError: they can't be read.
    """
    return b"".join(kd.read(va, n) for va, n in ring.runs(start, end)).replace(b"\0", b"")
