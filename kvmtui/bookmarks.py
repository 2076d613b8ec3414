"""Bookmarks of a dump, in a file of their own: nothing that belongs to the dump is touched.

They are kept in ``$XDG_STATE_HOME/kvmtui/bookmarks`` (XDG Base Directory Specification), one file for each dump, which
is told by what is in it: a saved core has those of the device it was saved from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kvmlib

#: Stretches of memory that tell one dump from another, and the bytes of each.
_SAMPLES, _SAMPLE = 64, 64
#: A larger file than this was not written here.
_LARGEST = 1 << 20
#: Characters of a note, and bookmarks of a dump.
NOTE_MAX, MOST = 200, 1000


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A place, by its addresses; at least one of them is known."""

    va: int | None
    pa: int | None
    note: str = ""


def identity(kd: kvmlib.Kvm) -> str:
    """Return what tells this dump from others: the same for the device and the core that was saved from it.

    It stays the same when the dump is invalidated.
    """
    machine = kd.machine
    assert machine is not None
    told = hashlib.sha256(machine.name.encode())
    told.update(kd.cpu_data)
    for segment in kd.ram:
        told.update(f" {segment.start:x}+{segment.size:x}".encode())
    size = sum(segment.size for segment in kd.ram)
    places = iter(sorted(size * i // _SAMPLES for i in range(_SAMPLES)))
    try:
        mag = kd.dumpmag()
        changing = (mag.pa, mag.pa + len(mag.data))
    except kvmlib.KvmError:
        changing = (0, 0)
    at, place = 0, next(places, None)
    for segment in kd.ram:
        while place is not None and place < at + segment.size:
            pa = segment.start + place - at
            n = min(_SAMPLE, at + segment.size - place)
            data = bytearray().join(s.data or b"" for s in kd.memory.spans(pa, n))
            for i in range(max(0, changing[0] - pa), min(len(data), changing[1] - pa)):
                data[i] = 0
            told.update(data)
            place = next(places, None)
        at += segment.size
    return told.hexdigest()[:32]


def state_folder() -> Path:
    """Return where bookmarks are kept."""
    root = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a path that isn't absolute counts as none.
    base = Path(root) if root.startswith("/") else Path.home() / ".local" / "state"
    return base / "kvmtui" / "bookmarks"


class Bookmarks:
    """The bookmarks of one dump, oldest first."""

    def __init__(self, path: Path) -> None:
        """Read them.

        Raises:
            KvmError: there is such a file, but it can't be read, or it isn't one of these.
        """
        self.path = path
        self.items: list[Bookmark] = []
        try:
            with open(path, "rb") as f:
                data = f.read(_LARGEST + 1)
        except FileNotFoundError:
            return
        except OSError as e:
            raise kvmlib.KvmError(f"cannot read the bookmarks in {self.shown}: {e.strerror}") from e
        try:
            if len(data) > _LARGEST:
                raise ValueError("too large")
            self.items = [_bookmark(item) for item in json.loads(data)["bookmarks"]][:MOST]
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise kvmlib.KvmError(f"{self.shown} does not hold bookmarks: move it away to begin anew") from e

    @classmethod
    def of(cls, kd: kvmlib.Kvm) -> Bookmarks:
        """Return those of a dump."""
        return cls(state_folder() / f"{identity(kd)}.json")

    @property
    def shown(self) -> str:
        """The file's name, safe to show."""
        return kvmlib.printable(str(self.path))

    def at(self, va: int | None, pa: int | None) -> Bookmark | None:
        """Return the bookmark of a place."""
        return next((b for b in self.items if (b.va, b.pa) == (va, pa)), None)

    def add(self, bookmark: Bookmark) -> None:
        """Add a bookmark, in place of one that is there already.

        Raises:
            KvmError: there are too many; they can't be written.
        """
        items = [b for b in self.items if (b.va, b.pa) != (bookmark.va, bookmark.pa)]
        if len(items) >= MOST:
            raise kvmlib.KvmError(f"there are {MOST} bookmarks already: remove some first")
        self._write([*items, bookmark])

    def remove(self, bookmark: Bookmark) -> None:
        """Remove a bookmark.

        Raises:
            KvmError: they can't be written.
        """
        self._write([b for b in self.items if b != bookmark])

    def _write(self, items: list[Bookmark]) -> None:
        temporary = ""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = json.dumps({"bookmarks": [asdict(item) for item in items]}, indent=1)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, prefix=".", delete=False) as f:
                temporary = f.name
                f.write(text)
            Path(temporary).replace(self.path)
        except OSError as e:
            if temporary:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            raise kvmlib.KvmError(f"cannot write the bookmarks to {self.shown}: {e.strerror}") from e
        self.items = items


def _bookmark(item: Any) -> Bookmark:
    va, pa, note = item["va"], item["pa"], item["note"]
    for address in (va, pa):
        if address is not None and (type(address) is not int or not 0 <= address < 1 << 64):
            raise ValueError("not an address")
    if not isinstance(note, str) or (va is None and pa is None):
        raise ValueError("not a bookmark")
    return Bookmark(va, pa, note[:NOTE_MAX])
