"""The kernel's message buffer: a ring of text that outlives the panic (sys/msgbuf.h, kern/subr_prf.c)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmlib.errors import FormatError, KvmError
from kvmlib.kvm import Kvm
from kvmlib.memory import Span
from kvmlib.text import decode
from kvmlib.variables import machine_of, pointer

MSG_MAGIC = 0x063061
#: A larger buffer is none: the systems use 8 to 128 KiB, and people who raise it stay far below this. Bytes.
SIZE_MAX = 4 << 20
#: The priority that log(9) puts before a line.
_PRIORITY = re.compile(rb"^<\d{1,3}>", re.MULTILINE)
_HOLE = {"unmapped": "not mapped", "not_in_dump": "not in the dump", "truncated": "behind the end of the file"}


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages, oldest first.

    Attributes:
        text: printable text; its newlines and tabs are kept, what could harm a terminal is escaped.
        source: where it was found, in words.
        va: of struct msgbuf.
    """

    text: str
    source: str
    va: int | None

    @property
    def lines(self) -> list[str]:
        """The text line by line."""
        return self.text.splitlines()


@dataclass(frozen=True, slots=True)
class Ring:
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
    size, count = machine.long_bytes, machine.system.msgbuf_longs
    raw = kd.read(va, size * count)
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
    return Ring(va, va + size * count, bufs, bufx if bufx < bufs else 0)


def messages(kd: Kvm) -> Messages:
    """Return the kernel's messages: oldest first, as dmesg(8) prints them.

    NULs are skipped and priorities (``<3>``) are taken away. Where a part of the buffer isn't there, a line says so.

    Raises:
        SymbolError: there is no symbol ``msgbufp``.
        FormatError: what it points to is no message buffer, or a damaged one.
        KvmError: it can't be read.
    """
    ring = find_ring(kd)
    spans = [span for va, n in ring.runs(ring.next, ring.next) for span in kd.spans(va, n)]
    if not any(span.data for span in spans):
        kd.read(ring.text_va + ring.next, 1)  # Raises with the reason.
    data = b"".join(_hole(span) if span.data is None else span.data for span in spans)
    text = _PRIORITY.sub(b"", data.replace(b"\0", b""))
    return Messages(decode(text, "\n\t"), "symbol msgbufp", ring.va)


def between(kd: Kvm, ring: Ring, start: int, end: int) -> bytes:
    """Return the bytes of the ring from index `start` to index `end`, without NULs.

    Raises:
        KvmError: they can't be read.
    """
    return b"".join(kd.read(va, n) for va, n in ring.runs(start, end)).replace(b"\0", b"")


def panic_line(kd: Kvm, but: tuple[str, ...] = ()) -> str | None:
    """Return what follows ``panic: `` in the last message that begins so; None if there is none or no messages.

    Texts that begin with one of `but` don't count.
    """
    try:
        lines = messages(kd).lines
    except KvmError:
        return None
    found = [line.removeprefix("panic: ") for line in lines if line.startswith("panic: ")]
    return next((text for text in reversed(found) if not text.startswith(but)), None)


def _hole(span: Span) -> bytes:
    return f"\n[{span.size} bytes of the message buffer are {_HOLE[span.kind]}]\n".encode()
