"""Packers that read for themselves, fed from a stream: a function in a thread, a program between pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kvmlib.errors import KvmError

if TYPE_CHECKING:
    from kvmlib.packing import Writer

#: Pieces that wait for a function, at most.
_WAITING = 4
#: Bytes that go through a pipe in one go.
_PIPE = 1 << 16
#: Seconds without a sign of life after which a program is given up.
_PATIENCE = 60.0


class _StoppedError(Exception):
    """There will be no more data, and what there was is of no use."""


@contextlib.contextmanager
def through_function(packs: Callable[[Any, Any], None], target: Writer) -> Iterator[Writer]:
    """Let ``packs(source, target)`` pack what is written to what this yields; it runs in a thread.

    Raises:
        Exception: what `packs` or `target` raised.
    """
    feeder = _Feeder()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            packs(feeder, target)
        except BaseException as e:
            failed.append(e)
        finally:
            feeder.drain()

    thread = threading.Thread(target=run, name="kvmlib packer", daemon=True)
    thread.start()
    try:
        yield _Fed(feeder, failed)
    except BaseException:
        feeder.pieces.put(_StoppedError())
        thread.join()
        raise
    feeder.pieces.put(b"")
    thread.join()
    if failed:
        raise failed[0]


class _Feeder:
    """A file to read from, whose contents come piece by piece from another thread. An empty piece is the end."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | _StoppedError] = queue.Queue(_WAITING)
        self._piece = b""
        self._at = 0
        self._ended = False

    def read(self, n: int) -> bytes:
        if self._at == len(self._piece) and not self._ended:
            piece = self.pieces.get()
            if isinstance(piece, _StoppedError):
                self._ended = True
                raise piece
            self._piece, self._at, self._ended = piece, 0, not piece
        data = self._piece[self._at : self._at + n]
        self._at += len(data)
        return data

    def drain(self) -> None:
        """Throw away what still comes, so that nobody waits for room."""
        while not self._ended:
            self._ended = not isinstance(piece := self.pieces.get(), bytes) or not piece


class _Fed:
    """What is written goes to a `_Feeder`."""

    def __init__(self, feeder: _Feeder, failed: list[BaseException]) -> None:
        self._feeder = feeder
        self._failed = failed

    def write(self, data: bytes | memoryview, /) -> int:
        if self._failed:
            raise self._failed[0]
        if len(data):
            # A copy: whoever writes uses the buffer again.
            self._feeder.pieces.put(bytes(data))
        return len(data)


@contextlib.contextmanager
def through_program(command: Sequence[str], magic: bytes, target: Writer) -> Iterator[Writer]:
    """Let a program that reads stdin and writes stdout pack what is written to what this yields.

    Raises:
        KvmError: it can't be run, fails, hangs, or writes something that doesn't begin with `magic`.
        OSError: what `target` raised.
    """
    out = _Program(command, magic, target)
    try:
        yield out
        out.finish()
    finally:
        out.close()


class _Program:
    """A program between two pipes, both served from here: without a thread there is nothing to wait for in vain."""

    def __init__(self, command: Sequence[str], magic: bytes, target: Writer) -> None:
        self._name = os.path.basename(command[0])  # noqa: PTH119
        self._magic = magic
        self._target = target
        self._ended = False
        self._begin = b""
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as e:
            raise KvmError(f"cannot run {self._name}(1): {e.strerror}") from e
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._in, selectors.EVENT_WRITE)
        self._selector.register(self._out, selectors.EVENT_READ)

    def write(self, data: bytes | memoryview, /) -> int:
        left = memoryview(data)
        while left:
            left = left[self._turn(left) :]
        return len(data)

    def finish(self) -> None:
        """Take all that still comes, and make sure that the program was content."""
        self._selector.unregister(self._in)
        self._in.close()
        while not self._ended:
            self._turn(memoryview(b""))
        if status := self._wait():
            raise KvmError(f"{self._name}(1) failed with status {status}")
        if self._begin != self._magic:
            raise KvmError(f"{self._name}(1) wrote what was not expected: it begins with {self._begin.hex()}")

    def _turn(self, left: memoryview) -> int:
        """Wait for one of the pipes and use it; returns how many bytes of `left` went into the program."""
        ready = self._selector.select(_PATIENCE)
        if not ready:
            raise KvmError(f"{self._name}(1) did nothing for {_PATIENCE:.0f} seconds and was given up")
        taken = 0
        for key, _ in ready:
            if key.fileobj is self._out:
                self._take()
            else:
                try:
                    taken = os.write(self._in.fileno(), left[:_PIPE])
                except BlockingIOError:
                    pass
                except BrokenPipeError as e:
                    raise KvmError(f"{self._name}(1) ended early, with status {self._wait()}") from e
        return taken

    def _take(self) -> None:
        piece = os.read(self._out.fileno(), _PIPE)
        if not piece:
            self._selector.unregister(self._out)
            self._ended = True
            return
        if len(self._begin) < len(self._magic):
            self._begin += piece[: len(self._magic) - len(self._begin)]
        self._target.write(piece)

    def _wait(self) -> int:
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired as e:
            raise KvmError(f"{self._name}(1) does not end and was given up") from e

    def close(self) -> None:
        """Have nothing of it left."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._selector.close()
        self._in.close()
        self._out.close()
