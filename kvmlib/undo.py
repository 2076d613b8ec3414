"""A record of an invalidation, from which exactly the bytes that were there can be put back."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from kvmlib.errors import FormatError, KvmError
from kvmlib.identify import open_dump
from kvmlib.inuse import in_use
from kvmlib.kvm import DumpMag, Invalidation, Kvm
from kvmlib.outfiles import Directory
from kvmlib.ports import machines
from kvmlib.text import printable

_KIND = "kvmdump undo record"
#: Bytes that a record may have: a path and a few numbers.
_MOST = 1 << 16


def record_in(directory: str | os.PathLike[str], dump: str | os.PathLike[str]) -> str:
    """Return a free name for a record of `dump` in `directory`, which is made if there is none."""
    _make_directory(Path(directory))
    stem = Path(directory, f"{Path(os.fsdecode(dump)).name}.undo")
    return next(name for i in range(1 << 20) if not os.path.lexists(name := f"{stem}{f'.{i}' if i else ''}"))


def _make_directory(path: Path) -> None:
    """Make a directory and those above it, and have their names reach the disk."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    try:
        path.mkdir(0o700)
    except OSError as e:
        raise KvmError(f"cannot make {printable(str(path))} for the undo record: {e.strerror}") from e
    _sync(path.parent)


def _sync(path: Path) -> None:
    with Directory(path) as where:
        where.sync()


def write_record(kd: Kvm, mag: DumpMag, path: str | os.PathLike[str]) -> str:
    """Write down what clearing `mag` will change, before it is done, and have it reach the disk.

    Returns:
        The record's path.

    Raises:
        KvmError: it can't be written, or a file is there. No record is left.
    """
    name = os.fsdecode(path)
    record = {
        "kind": _KIND,
        "dump": str(Path(kd.path).resolve()),
        "size": kd.image.size,
        "offset": mag.offset,
        "before": mag.data.hex(),
        "after": bytes(len(mag.data)).hex(),
    }
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                left = memoryview(json.dumps(record, indent=1).encode() + b"\n")
                while left:
                    left = left[os.write(fd, left) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            _sync(Path(name).parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise KvmError(f"cannot write the undo record {printable(name)}: {reason}; nothing was cleared") from e
    return name


def undo(path: str | os.PathLike[str], dump: str | os.PathLike[str]) -> Invalidation:
    """Put back what an invalidation of `dump` changed.

    Raises:
        FormatError: the record is none, or is another dump's.
        KvmError: something else is at that place by now, the device is in use, or it can't be written.
    """
    name, record = printable(os.fspath(path)), _read_record(path)
    if used := in_use(dump):
        raise KvmError(f"{used}; nothing was written")
    image = open_dump(dump, write=True)
    try:
        if image.size != record.size or str(Path(dump).resolve()) != record.dump:
            raise FormatError(
                f"{name} is the record of {printable(record.dump)} with {record.size} bytes, "
                f"not of {printable(os.fspath(dump))} with {image.size}; nothing was written"
            )
        image.write(record.offset, record.before, (record.after, *_torn(record.before, record.after)))
    finally:
        image.close()
    return Invalidation(record.offset, record.after, record.before)


def _torn(before: bytes, after: bytes) -> list[bytes]:
    """Return what is there where the power went while the one was written over the other, in either direction."""
    cuts = range(1, len(before))
    torn = [new[:i] + old[i:] for i in cuts for new, old in ((after, before), (before, after))]
    return [data for data in torn if data != before]


class _Record(NamedTuple):
    dump: str
    size: int
    offset: int
    before: bytes
    after: bytes


def _read_record(path: str | os.PathLike[str]) -> _Record:
    name = printable(os.fspath(path))
    try:
        record = json.loads(_small_file(path))
        if record["kind"] != _KIND:
            raise ValueError
        before, after = bytes.fromhex(record["before"]), bytes.fromhex(record["after"])
        dump, size, offset = record["dump"], record["size"], record["offset"]
        # Nothing but a dumpmag is ever put back: a record could come from anyone.
        if not _is_dumpmag(before) or after != bytes(len(before)):
            raise ValueError
        # JSON has other numbers too, up to infinity.
        if type(dump) is not str or type(size) is not int or type(offset) is not int or offset < 0:
            raise ValueError
        return _Record(dump, size, offset, before, after)
    except OSError as e:
        raise KvmError(f"cannot read the undo record {name}: {e.strerror}") from e
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise FormatError(f"{name} is no undo record: what kvmdump inval writes was expected") from e


def _small_file(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of a regular file, as far as a record could go: a pipe has no end, and may have no writer."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(kind := os.fstat(fd).st_mode) and not stat.S_ISDIR(kind):
            raise ValueError
        # A directory says itself that it is one.
        data = os.read(fd, _MOST + 1)
    finally:
        os.close(fd)
    if len(data) > _MOST:
        raise ValueError
    return data


def _is_dumpmag(data: bytes) -> bool:
    """Tell whether this is what some machine's kernel has in dumpmag."""
    return any(len(data) == m.dumpmag_bytes and int.from_bytes(data, m.byteorder) in m.dumpmag for m in machines())
