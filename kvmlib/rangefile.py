"""A range of memory as a file: raw bytes, a hex dump, or a C array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from kvmlib.errors import Cancelled, KvmError
from kvmlib.hexdump import Hexdump
from kvmlib.kvm import Kvm
from kvmlib.outfiles import Directory, Partial, sentence
from kvmlib.text import printable

RangeForm = Literal["raw", "hexdump", "c"]

#: Bytes that are read at once; a multiple of what a line of either text has.
_PIECE = 1 << 16
_C_ROW = 12


def write_range(
    kd: Kvm,
    path: str | os.PathLike[str],
    address: int,
    size: int,
    form: RangeForm = "raw",
    *,
    physical: bool = False,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Write `size` bytes from va `address` on (pa, if `physical`) to a new file; return the file's size.

    The file appears whole or not at all, and one that is there already is never overwritten.

    Raises:
        Cancelled: `should_stop` said so; nothing was left behind.
        KvmError: a part of the range isn't there; the file exists, or can't be written.
    """
    if size <= 0:
        raise KvmError(f"a range of {size} bytes holds nothing to write")
    top = 1 << (64 if physical else kd.translator.bits)
    if not 0 <= address <= address + size <= top:
        raise KvmError(f"{size:#x} bytes from {address:#x} on reach beyond the last address")
    target = Path(os.fspath(path))
    if target.name in ("", ".", "..") or "\0" in str(target):
        raise KvmError(f"{printable(str(target))} is not the name of a file")
    with Directory(target.parent) as where:
        shown = printable(str(target))
        try:
            if os.path.lexists(target):
                raise FileExistsError
            with Partial(where, "kvm-range") as file:
                for done, piece in _pieces(kd, address, size, form, physical):
                    if should_stop is not None and should_stop():
                        raise Cancelled(f"writing was cancelled, and nothing was left in {where.shown}")
                    file.write(piece)
                    if progress is not None:
                        progress(done, size)
                file.sync()
                file.publish(target.name)
                file.keep()
                where.sync()
                return file.size
        except FileExistsError as e:
            raise KvmError(f"{shown} exists already, and nothing is overwritten: choose another name") from e
        except OSError as e:
            raise sentence(e, where.shown) from e


def _pieces(kd: Kvm, address: int, size: int, form: RangeForm, physical: bool) -> Iterator[tuple[int, bytes]]:
    """Yield how many bytes of memory are done, and what stands for the last of them in the file."""
    read = kd.read_physical if physical else kd.read
    dump = Hexdump(16 if physical or kd.translator.bits == 64 else 8)
    step = _PIECE - _PIECE % _C_ROW if form == "c" else _PIECE
    if form == "c":
        kind = "pa" if physical else "va"
        yield 0, f"/* {size} bytes at {kind} {address:#x} */\nstatic const unsigned char memory[{size}] = {{\n".encode()
    for at in range(0, size, step):
        data = read(address + at, min(step, size - at))
        if form == "raw":
            yield at + len(data), data
        elif form == "hexdump":
            yield at + len(data), b"".join(f"{line}\n".encode() for line in dump.feed(data, address + at))
        else:
            rows = (data[i : i + _C_ROW] for i in range(0, len(data), _C_ROW))
            yield at + len(data), b"".join(b"\t%s,\n" % ", ".join(f"0x{b:02x}" for b in row).encode() for row in rows)
    if form == "hexdump":
        yield size, b"".join(f"{line}\n".encode() for line in dump.close())
    elif form == "c":
        yield size, b"};\n"
