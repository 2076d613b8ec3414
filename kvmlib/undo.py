"""A record of an invalidation, from which exactly the bytes that were there can be put back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from kvmlib.errors import FormatError, KvmError
from kvmlib.image import open_image
from kvmlib.kvm import DumpMag, Invalidation, Kvm
from kvmlib.text import printable

_KIND = "kvmdump undo record"


def write_record(kd: Kvm, mag: DumpMag, path: str | os.PathLike[str]) -> str:
    """Write down what clearing `mag` will change, before it is done; returns the record's path.

    Raises:
        KvmError: it can't be written, or a file is there.
    """
    record = {
        "kind": _KIND,
        "dump": str(Path(kd.path).resolve()),
        "size": kd.image.size,
        "offset": mag.offset,
        "before": mag.data.hex(),
        "after": bytes(len(mag.data)).hex(),
    }
    try:
        with open(path, "x", encoding="ascii") as f:
            f.write(json.dumps(record, indent=1) + "\n")
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        raise KvmError(f"cannot write the undo record {printable(os.fspath(path))}: {e.strerror}") from e
    return os.fspath(path)


def undo(path: str | os.PathLike[str], dump: str | os.PathLike[str]) -> Invalidation:
    """Put back what an invalidation of `dump` changed.

    Raises:
        FormatError: the record is none, or is another dump's.
        KvmError: something else is at that place by now, or it can't be written.
    """
    name, record = printable(os.fspath(path)), _read_record(path)
    image = open_image(dump, write=True)
    try:
        if image.size != record.size or str(Path(dump).resolve()) != record.dump:
            raise FormatError(
                f"{name} is the record of {printable(record.dump)} with {record.size} bytes, "
                f"not of {printable(os.fspath(dump))} with {image.size}; nothing was written"
            )
        now = image.read(record.offset, len(record.before))
        if now != record.after:
            raise KvmError(
                f"at {record.offset:#x} of {printable(os.fspath(dump))} {record.after.hex()} was expected, "
                f"{now.hex()} is there; nothing was written"
            )
        image.write(record.offset, record.before)
    finally:
        image.close()
    return Invalidation(record.offset, record.after, record.before)


class _Record(NamedTuple):
    dump: str
    size: int
    offset: int
    before: bytes
    after: bytes


def _read_record(path: str | os.PathLike[str]) -> _Record:
    name = printable(os.fspath(path))
    try:
        record = json.loads(Path(path).read_bytes())
        if record["kind"] != _KIND:
            raise ValueError
        before, after = bytes.fromhex(record["before"]), bytes.fromhex(record["after"])
        dump, size, offset = record["dump"], record["size"], record["offset"]
        # Nothing but a dumpmag is ever put back: a record could come from anyone.
        if len(before) not in (4, 8) or after != bytes(len(before)):
            raise ValueError
        # JSON has other numbers too, up to infinity.
        if type(dump) is not str or type(size) is not int or type(offset) is not int or offset < 0:
            raise ValueError
        return _Record(dump, size, offset, before, after)
    except OSError as e:
        raise KvmError(f"cannot read the undo record {name}: {e.strerror}") from e
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise FormatError(f"{name} is no undo record: what kvmdump inval writes was expected") from e
