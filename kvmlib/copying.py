"""Moving a dump's memory: copied, hashed, and looked at again."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from kvmlib.errors import KvmError
from kvmlib.holes import written
from kvmlib.outfiles import Partial
from kvmlib.packing import Writer
from kvmlib.savesource import Content, Meter

#: What bytes are copied to.
Stream = Partial | Writer

#: Bytes that are copied in one go, whole blocks: they stay in the processor's cache between reading and writing.
_PIECE = 1 << 19
#: The same where the kernel copies.
_KERNEL_PIECE = 1 << 23
#: Holes in a file are made of whole blocks.
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)
#: Seconds until it is looked again whether more was written.
_WHILE = 0.001


class Readable(Protocol):
    """Something to be compared: a `Content`, a `Written` file, a `Packed` one."""

    def readinto(self, offset: int, view: memoryview, /) -> int:
        """Fill `view` from `offset` on; returns the bytes read, fewer only at the end."""
        ...


class Written(NamedTuple):
    """A file that was written as it is."""

    fd: int

    def readinto(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset` on.

        Raises:
            KvmError: it can't be read.
        """
        done = 0
        try:
            while done < len(view) and (n := os.preadv(self.fd, [view[done:]], offset + done)):
                done += n
        except OSError as e:
            raise KvmError(f"what was written cannot be read at {offset + done:#x}: {e.strerror}") from e
        return done


class Packed:
    """A compressed file, unpacked from its beginning to its end and nowhere kept."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Take what is unpacked from `pieces`, which raise KvmError or OSError where they can't be."""
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readinto(self, offset: int, view: memoryview) -> int:
        """Fill `view` with what comes next, which must be what is at `offset`.

        Raises:
            KvmError: it can't be unpacked.
        """
        done = 0
        try:
            while done < len(view):
                if not self._rest:
                    self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    break
                n = min(len(self._rest), len(view) - done)
                view[done : done + n] = self._rest[:n]
                self._rest = self._rest[n:]
                done += n
        except (OSError, KvmError) as e:
            raise KvmError(f"what was written cannot be unpacked at {offset + done:#x}: {e}; nothing was saved") from e
        return done


class Digest:
    """SHA-256 of what is copied. It takes longer than copying, so another thread computes it meanwhile."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Digest:
        """Compute until the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Let the thread end."""
        self._pool.shutdown()

    def update(self, view: memoryview) -> None:
        """Take the next bytes, which must stay as they are until after the next call."""
        self._wait()
        self._pending = self._pool.submit(self._hash.update, view)

    def hex(self) -> str:
        """Return the digest of all that was taken."""
        self._wait()
        return self._hash.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


class Follower:
    """SHA-256 of a file that is being written: another thread reads what is there already, and need not keep up."""

    def __init__(self, part: Partial) -> None:
        """Follow `part` from its beginning on."""
        self._part = part
        self._hash = hashlib.sha256()
        self._ending = threading.Event()
        self._given_up = False
        self._pool = ThreadPoolExecutor(1)
        self._work = self._pool.submit(self._follow)

    def __enter__(self) -> Follower:
        """Follow until the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Let the thread end, whether or not it has seen all."""
        self._given_up = True
        self._ending.set()
        self._pool.shutdown()

    def hex(self) -> str:
        """Return the digest of the whole file, to which nothing is written any more.

        Raises:
            KvmError: it can't be read.
        """
        self._ending.set()
        self._work.result()
        return self._hash.hexdigest()

    def _follow(self) -> None:
        fd = os.open(self._part.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            written, at = Written(fd), 0
            with memoryview(bytearray(_PIECE)) as view:
                while not self._given_up:
                    # In this order: what is written before the end is seen is seen too.
                    ending, n = self._ending.is_set(), min(self._part.size - at, _PIECE)
                    if n:
                        got = written.readinto(at, view[:n])
                        # A hole at the end of what is there.
                        view[got:n] = bytes(n - got)
                        self._hash.update(view[:n])
                        at += n
                    elif ending:
                        return
                    else:
                        self._ending.wait(_WHILE)
        finally:
            os.close(fd)


def copy(content: Content, out: Stream, meter: Meter, *, at: int = 0, sparse: bool, digest: Digest | None) -> None:
    """Copy `content` from `at` on.

    Args:
        content: what is copied.
        out: where to; it holds what is before `at` already.
        meter: told of each piece.
        at: a multiple of the block size where `sparse`.
        sparse: leave holes for blocks of zeros.
        digest: takes the bytes too.

    Raises:
        KvmError: the source can't be read.
        OSError: `out` can't be written.
    """
    # Two, as one is being hashed still while the other is read into.
    buffers = [bytearray(min(_PIECE, content.size)) for _ in range(1 if digest is None else 2)]
    views = [memoryview(buffer) for buffer in buffers]
    data_end = 0  # Up to here the source has no hole.
    while at < content.size:
        if not sparse and digest is None and isinstance(out, Partial):
            at = _copy_in_kernel(content, out, meter, at)
        elif sparse and digest is None and isinstance(out, Partial) and at >= data_end:
            at, data_end = _skip_hole(content, out, meter, at)
        if at == content.size:
            break
        # Up to a whole piece of the file: so its blocks lie at the same places in each piece.
        n = content.readinto(at, views[0][: _PIECE - at % _PIECE])
        if digest is not None:
            digest.update(views[0][:n])
        if sparse and isinstance(out, Partial):
            _write_sparse(out, buffers[0], views[0], n)
        else:
            out.write(views[0][:n])
        at += n
        meter.add(n)
        buffers.reverse()
        views.reverse()


def _copy_in_kernel(content: Content, out: Partial, meter: Meter, at: int) -> int:
    """Copy as far as the kernel does it by itself; return how far that is."""
    source, offset = content.descriptor(), content.source_offset(at)
    if source is None or offset < 0:
        return at
    while n := out.receive(source, content.source_offset(at), min(_KERNEL_PIECE, content.size - at)):
        at += n
        meter.add(n)
    return at


def _skip_hole(content: Content, out: Partial, meter: Meter, at: int) -> tuple[int, int]:
    """Skip what is a hole in the source too, without reading it; return where it ends, and where to look again."""
    source, offset = content.descriptor(), content.source_offset(at)
    if source is None or offset < 0:
        return at, at
    # No further than the source goes now: what it lost meanwhile is no hole.
    end = min(offset + content.size - at, os.fstat(source).st_size)
    low, high = next(written(source, offset, end), (end, end))
    data_end, n = at + high - offset, low - offset
    n -= n % _BLOCK
    if n > 0:
        out.skip(n)
        meter.add(n)
        at += n
    return at, data_end


def _write_sparse(out: Partial, buffer: bytearray, view: memoryview, n: int) -> None:
    """Write the first `n` bytes of a buffer, but leave holes for blocks of zeros."""
    # Blocks that begin with a byte that isn't 0 are the most, and are passed over without being looked at further.
    begins, start = buffer[:n:_BLOCK], 0
    i = begins.find(0)
    while i >= 0:
        at = i * _BLOCK
        if at + _BLOCK <= n and buffer[at : at + _BLOCK] == _ZEROS:
            if at > start:
                out.write(view[start:at])
            out.skip(_BLOCK)
            start = at + _BLOCK
        i = begins.find(0, i + 1)
    if n > start:
        out.write(view[start:n])


def difference(content: Readable, written: Readable, size: int, meter: Meter) -> int | None:
    """Compare the first `size` bytes of two; return where they differ first, None if nowhere.

    Raises:
        KvmError: one of the two can't be read.
    """
    # Bytearrays are compared by memcmp(3), views of them one by one.
    ours, theirs = (bytearray(min(_PIECE, size)) for _ in range(2))
    at = 0
    while at < size:
        n = content.readinto(at, memoryview(ours)[: size - at])
        got = written.readinto(at, memoryview(theirs)[:n])
        if got < n or (ours != theirs and ours[:n] != theirs[:n]):
            same = zip(ours[:n], theirs[:got], strict=False)
            return at + next((i for i, (a, b) in enumerate(same) if a != b), got)
        at += n
        meter.add(n)
    return None
