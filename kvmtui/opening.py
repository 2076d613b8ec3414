"""Opening a dump beside the user interface: finding a header in a large image takes a while."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kvmlib

DEFAULT_SAMPLE = "openbsd/amd64"
#: A file of so many bytes is searched through in no time.
_SMALL = 64 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for: a dump, or a sample of a machine; as `kvmlib.open` and `kvmlib.make_sample` take it.

    `lesson` says that the lesson is to begin on it.
    """

    path: str = ""
    system: str | None = None
    machine: str | None = None
    dump_off: int | None = None
    sample: str | None = None
    force: bool = False
    lesson: bool = False

    @property
    def quick(self) -> bool:
        """Whether it takes no time worth mentioning to open it, or to tell why it can't be."""
        if self.sample is not None:
            return self.sample != DEFAULT_SAMPLE  # There may be no such machine.
        try:
            info = os.stat(self.path)
        except OSError:
            return True
        device = stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode)
        return not os.access(self.path, os.R_OK) or (info.st_size <= _SMALL and not device)

    @property
    def doing(self) -> str:
        """What is going on while it is opened, for a person."""
        if self.sample is not None:
            return f"making a sample dump of {kvmlib.printable(self.sample)} ..."
        what = "reading its header" if self.dump_off is not None else "looking for a dump header"
        return f"opening {kvmlib.printable(self.path)}: {what} ..."


class Samples:
    """Where sample dumps lie while the application runs; nothing stays behind."""

    def __init__(self) -> None:
        self._root: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def folder(self) -> str:
        """Make a fresh folder."""
        with self._lock:
            if self._root is None:
                self._root = tempfile.TemporaryDirectory(prefix="kvmtui-", ignore_cleanup_errors=True)
            return tempfile.mkdtemp(dir=self._root.name)

    def remove(self) -> None:
        """Remove everything; may be called more than once."""
        with self._lock:
            if self._root is not None:
                self._root.cleanup()
                self._root = None

    def holds(self, path: str) -> bool:
        """Say whether a file is one of the samples."""
        return self._root is not None and Path(self._root.name) in Path(path).parents


def open_dump(request: Request, samples: Samples) -> kvmlib.Kvm:
    """Open what was asked for.

    Raises:
        KvmError: it can't be opened; one sentence says why.
    """
    path = request.path
    try:
        if request.sample is not None:
            path = kvmlib.make_sample(request.sample, samples.folder()).image
        return kvmlib.open(
            path, system=request.system, machine=request.machine, dump_off=request.dump_off, force=request.force
        )
    except OSError as e:
        raise kvmlib.KvmError(f"{kvmlib.printable(str(e.filename or path))}: {e.strerror or e}") from e


class Opening:
    """A dump that is opened in a thread of its own, which doesn't hold up leaving the program.

    It begins when somebody wants to know.
    """

    def __init__(self, request: Request, samples: Samples) -> None:
        self.request = request
        self._samples = samples
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._call: Callable[[], None] | None = None
        self._kd: kvmlib.Kvm | None = None
        self._error: kvmlib.KvmError | None = None
        self._thread = threading.Thread(target=self._work, name="opening", daemon=True)

    def _begin(self) -> None:
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()

    def _work(self) -> None:
        try:
            self._kd = open_dump(self.request, self._samples)
        except kvmlib.KvmError as e:
            self._error = e
        except Exception as e:
            # A thread has nobody else to tell; what went wrong must not look like a dump that takes for ever.
            self._error = kvmlib.KvmError(
                f"{kvmlib.printable(self.request.path)} could not be opened: {type(e).__name__}: {e}"
            )
        with self._lock:
            self._done.set()
            call = self._call
            if self._abandoned and self._kd is not None:
                self._kd.close()
        if call is not None:
            # RuntimeError: whoever wanted to know is gone.
            with contextlib.suppress(RuntimeError):
                call()

    def wait(self, seconds: float) -> bool:
        """Wait a little; say whether it is done."""
        self._begin()
        return self._done.wait(seconds)

    def when_done(self, call: Callable[[], None]) -> None:
        """Call `call` when it is done, from whatever thread; at once if it is done already."""
        self._begin()
        with self._lock:
            if not self._done.is_set():
                self._call = call
                return
        call()

    def result(self) -> kvmlib.Kvm:
        """Return the dump.

        Raises:
            KvmError: it could not be opened.
        """
        self._begin()
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._kd is not None
        return self._kd

    def abandon(self) -> None:
        """Want it no more."""
        with self._lock:
            self._abandoned, self._call = True, None
            if self._done.is_set() and self._kd is not None:
                self._kd.close()
