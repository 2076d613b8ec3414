"""Proof for headers without segments: that memory begins where it is thought to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from kvmlib.kcore import ByteOrder, RamSeg
from kvmlib.translate import ReadPhysical

#: MSG_MAGIC (sys/msgbuf.h), then msg_bufx, msg_bufr, msg_bufs: the next byte to write and to read, and the size.
_MSG_MAGIC = 0x063061
_PAGE = 4096
#: Memory searched, in bytes.
_RANGE = 256 << 20
_PIECE = 4 << 20
#: Message buffers looked for pointers to: memory full of them would take long.
_TRIED = 8


def message_buffer_proof(order: ByteOrder, base: int) -> Callable[[ReadPhysical, Sequence[RamSeg]], str]:
    """Look for a message buffer and a pointer to it, on a machine of 32 bits whose kernel sees pa 0 at va `base`."""

    def proof(read: ReadPhysical, ram: Sequence[RamSeg]) -> str:
        for pa in itertools.islice(_buffers(read, ram, order), _TRIED):
            pointer = (base + pa).to_bytes(4, order)
            for at, piece in _pieces(read, ram):
                i = piece.find(pointer)
                while i >= 0 and i % 4:
                    i = piece.find(pointer, i + 1)
                if i >= 0:
                    return f"the message buffer is at pa {pa:#x}, as memory at pa {at + i:#x} says"
        return ""

    return proof


def _pieces(read: ReadPhysical, ram: Sequence[RamSeg]) -> Iterator[tuple[int, bytes]]:
    size = min(sum(s.size for s in ram), _RANGE)
    for at in range(0, size, _PIECE):
        yield at, read(at, min(_PIECE, size - at))


def _buffers(read: ReadPhysical, ram: Sequence[RamSeg], order: ByteOrder) -> Iterator[int]:
    """Yield the pa of pages that begin with a struct msgbuf that can be true."""
    magic = _MSG_MAGIC.to_bytes(4, order)
    for at, piece in _pieces(read, ram):
        for i in range(0, len(piece) - 15, _PAGE):
            if piece[i : i + 4] == magic:
                bufx, bufr, bufs = (int.from_bytes(piece[i + n : i + n + 4], order) for n in (4, 8, 12))
                if max(bufx, bufr) <= bufs and 0 < bufs < 1 << 24 and at + i:
                    yield at + i
