"""Save a dump as savecore(8) does: DIRECTORY/<bsd|netbsd>.N.core and the kernel beside it, all or nothing.

How the files come into being without ever being seen half written is `kvmlib.outfiles`'s business; here is what goes
into them, what they are called, and whether there is a reason not to. Sources of the facts: sbin/savecore/savecore.c of
both systems.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmlib.dumpstate import dumpsize
from kvmlib.errors import Cancelled, FormatError, KvmError
from kvmlib.outfiles import Directory, Partial, sentence
from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.identify import Reading
    from kvmlib.kvm import Kvm

#: Called with (bytes done, bytes in total), core and kernel together, before compression.
Progress = Callable[[int, int], None]
#: Polled while copying; True cancels.
ShouldStop = Callable[[], bool]

_PIECE = 1 << 20
_PROGRESS_SECONDS = 0.1
_GZIP_LEVEL = 1
_KIB = 1024


@dataclass(frozen=True, slots=True)
class SavePlan:
    """What `save` would do, found out without changing anything.

    Attributes:
        directory: where to.
        number: N of the file names; another save may take it first, then `save` uses the next.
        core: path of the core file.
        kernel: path of the kernel file, None when there is none to save.
        kernel_from: the file that `kernel` will be a copy of.
        size: bytes of the core file before compression: headers and the memory that the dump really has.
        size_from: where the memory's size is known from, for a person.
        free: bytes that are free in the directory for this user.
        minfree: KiB that must stay free, from DIRECTORY/minfree; 0 when there is none.
        warnings: sentences that don't stand in the way.
        refusal: the sentence why `save` refuses unless it is forced; empty if it may go ahead.
    """

    directory: str
    number: int
    core: str
    kernel: str | None
    kernel_from: str | None
    size: int
    size_from: str
    free: int
    minfree: int
    warnings: tuple[str, ...]
    refusal: str


@dataclass(frozen=True, slots=True)
class Saved:
    """What `save` wrote.

    Attributes:
        core: path of the core file.
        kernel: path of the kernel file, or None.
        bytes: size of the core file as it lies on the disk.
        number: N of the file names.
        warnings: sentences on what went less well; the files are complete all the same.
    """

    core: str
    kernel: str | None
    bytes: int
    number: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Size:
    """Bytes of memory: what the dump should have (goes into the header), what it has, and how that is known."""

    promised: int
    present: int
    source: str
    warnings: tuple[str, ...]
    refusal: str


def plan_save(kd: Kvm, directory: str | os.PathLike[str], *, compress: bool = False) -> SavePlan:
    """Look what saving `kd` into `directory` would do; nothing is changed.

    Args:
        kd: a dump with a header.
        directory: where to, as savecore(8)'s argument.
        compress: the files will be packed by gzip; space is counted as if they weren't, as savecore(8) does.

    Raises:
        FormatError: `kd` has no header yet.
        KvmError: it is no directory that can be written to; no force would help.
    """
    size, name, suffix = _memory_size(kd), _kernel_name(kd), _suffix(compress)
    with Directory(directory) as where:
        where.check_writable()
        number, bounds_warnings = _next_number(where, name)
        minfree, minfree_warnings = where.number_in("minfree")
        free = where.free()
        header = kd.dump_wrtheader(io.BytesIO(), size.promised)
        kernel_from, kernel_size = _kernel_file(kd)
        needed = header + size.present + kernel_size
        crowded = _space_refusal(free, needed, minfree, where.shown)
        warnings = [*size.warnings, *_saved_before(kd), *_unreasonable_time(kd), *bounds_warnings, *minfree_warnings]
        if needed > free and not crowded:
            warnings.append(f"{needed} bytes are needed, but only {free} are free in {where.shown}")
        return SavePlan(
            where.path,
            number,
            where.join(_core_name(name, number, suffix)),
            None if kernel_from is None else where.join(_kernel_copy_name(name, number, suffix)),
            kernel_from,
            header + size.present,
            size.source,
            free,
            minfree,
            (*warnings, *_leftovers(where, name)),
            "; ".join(filter(None, (crowded, size.refusal))),
        )


def save(
    kd: Kvm,
    directory: str | os.PathLike[str],
    *,
    compress: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Saved:
    """Save the dump and its kernel into `directory`, as savecore(8) does; never overwrites, and leaves all or nothing.

    Args:
        kd: a dump with a header; a device, an image, or a saved core again.
        directory: where to.
        compress: pack both files with gzip.
        force: go ahead although `plan_save` finds a reason to refuse.
        progress: called about ten times a second, and at the end.
        should_stop: polled for every piece that is copied; True makes it stop.

    Raises:
        Cancelled: `should_stop` said so.
        KvmError: refused, or it could not be done (disk full, no permission, dump unreadable). Nothing is left behind.
    """
    plan = plan_save(kd, directory, compress=compress)
    if plan.refusal and not force:
        raise KvmError(f"not saved: {plan.refusal}")
    size, name, suffix = _memory_size(kd), _kernel_name(kd), _suffix(compress)
    with Directory(directory) as where, contextlib.ExitStack() as cleanup:
        try:
            with contextlib.ExitStack() as sources:
                kernel_in = None if plan.kernel_from is None else sources.enter_context(_open_kernel(plan.kernel_from))
                kernel_size = 0 if kernel_in is None else os.fstat(kernel_in).st_size
                meter = _Meter(plan.size + kernel_size, where.shown, progress, should_stop)
                core = cleanup.enter_context(Partial(where, _core_name(name, plan.number, suffix)))
                kernel = None
                with _stream(core, compress) as out:
                    meter.add(kd.dump_wrtheader(out, size.promised))
                    _copy_memory(kd, size.present, out, meter)
                if kernel_in is not None:
                    kernel = cleanup.enter_context(Partial(where, _kernel_copy_name(name, plan.number, suffix)))
                    with _stream(kernel, compress) as out:
                        _copy_descriptor(kernel_in, out, meter)
            parts = [core] if kernel is None else [kernel, core]
            for part in parts:
                part.sync()
            meter.finish()
            number, warnings = _publish(where, name, suffix, parts, core)
        except OSError as e:
            raise sentence(e, where.shown) from e
    return Saved(
        where.join(core.final),
        None if kernel is None else where.join(kernel.final),
        core.size,
        number,
        tuple(warnings),
    )


def _publish(where: Directory, name: str, suffix: str, parts: list[Partial], core: Partial) -> tuple[int, list[str]]:
    """Give the files their names, the core last, and count `bounds` up. Returns N and what went less well."""
    number = -1
    with where.locked():
        while True:
            number = _next_number(where, name, number + 1)[0]
            with Partial(where, "bounds") as bounds:
                # Written before anything has its name, so that a full disk can still stop it all.
                bounds.write(f"{number + 1}\n".encode())
                bounds.sync()
                try:
                    for part in parts:
                        part.publish((_core_name if part is core else _kernel_copy_name)(name, number, suffix))
                except FileExistsError:
                    # Someone who doesn't lock took the number just now: the next one will do.
                    for part in parts:
                        part.withdraw()
                    continue
                where.sync()
                for part in parts:
                    part.keep()
                try:
                    bounds.replace("bounds")
                    where.sync()
                except OSError as e:
                    # The files are safe, and a bounds that lags behind does no harm.
                    return number, [f"{where.shown}/bounds could not be rewritten: {e.strerror}"]
                return number, []


# -- what is to be saved ---------------------------------------------------------------------------------------------


def _reading(kd: Kvm) -> Reading:
    if kd.reading is None:
        raise FormatError(f"no valid dump header was found in {printable(kd.path)} yet, so there is nothing to save")
    return kd.reading


def _kernel_name(kd: Kvm) -> str:
    return _reading(kd).machine.system.kernel_name


def _suffix(compress: bool) -> str:
    return ".gz" if compress else ""


def _core_name(kernel_name: str, number: int, suffix: str) -> str:
    return f"{kernel_name}.{number}.core{suffix}"


def _kernel_copy_name(kernel_name: str, number: int, suffix: str) -> str:
    return f"{kernel_name}.{number}{suffix}"


def _next_number(where: Directory, kernel_name: str, least: int = 0) -> tuple[int, list[str]]:
    """Return what bounds says, or the next number that is free in every spelling, and what is wrong with bounds."""
    number, warnings = where.number_in("bounds")
    number = max(number, least)
    pattern = re.compile(rf"{kernel_name}\.([0-9]+)(\.core)?(\.(gz|Z|zst))?")
    taken = {int(m[1]) for name in where.names() if (m := pattern.fullmatch(name))}
    while number in taken:
        number += 1
    return number, warnings


def _leftovers(where: Directory, kernel_name: str) -> list[str]:
    found = [name for name in where.names() if Partial.is_one(name, kernel_name)]
    if not found:
        return []
    return [
        f"{len(found)} files like {printable(min(found))} are in {where.shown}: either a save is running now, "
        "or one was killed and they can be removed"
    ]


def _memory_size(kd: Kvm) -> _Size:
    """Find out how many bytes of memory the dump has, and how many the file has of them."""
    reading = _reading(kd)
    left = max(0, kd.image.size - reading.headers.data_off)
    warnings = []
    if reading.size is not None:
        promised, source = reading.size, "the segments in the header"
    elif (by_header := reading.headers.promised(left)) is not None:
        promised, source = by_header, "the CORE_DATA header"
    elif (by_kernel := dumpsize(kd)) is not None:
        promised, source = by_kernel, "the kernel's variable dumpsize"
    elif kd.segments:
        promised, source = kd.memory.end - reading.headers.data_off, "the kernel's list of the memory it dumps"
    else:
        promised, source = left, "the end of the image"
        warnings.append("nothing says where memory ends (a kernel file would), so all up to the image's end is saved")
    missing = max(0, promised - left)
    refusal = ""
    if missing:
        refusal = (
            f"the dump is truncated: {missing} of its {promised} bytes of memory are missing, "
            f"because {printable(kd.path)} ends at {kd.image.size:#x}"
        )
        warnings.append(f"the saved core will be cut off where the dump is: {missing} bytes of memory are missing")
    return _Size(promised, promised - missing, source, tuple(warnings), refusal)


def _kernel_file(kd: Kvm) -> tuple[str | None, int]:
    """Return the kernel file to copy and its size."""
    if kd.symbols.path is None:
        return None, 0
    try:
        return kd.symbols.path, os.stat(kd.symbols.path).st_size
    except OSError as e:
        raise KvmError(f"cannot read the kernel file {printable(kd.symbols.path)}: {e.strerror}") from e


def _space_refusal(free: int, needed: int, minfree: int, shown: str) -> str:
    if minfree <= 0 or (free - needed) // _KIB >= minfree:
        return ""
    return (
        f"there is not enough space in {shown}: {needed} bytes are needed and {free} are free, "
        f"but minfree says that {minfree} KiB must stay free"
    )


def _saved_before(kd: Kvm) -> list[str]:
    try:
        mag = kd.dumpmag()
    except KvmError:
        return []
    if mag.state == "cleared":
        return ["dumpmag is cleared: this dump was saved or invalidated before"]
    if mag.state == "unknown":
        return [f"dumpmag holds {mag.value:#x}, which is none: the dump is not whole, or the kernel file is wrong"]
    return []


def _unreasonable_time(kd: Kvm) -> list[str]:
    """Say so when the time of the crash is far from now; savecore(8) refuses such a dump."""
    machine = _reading(kd).machine
    symbol = next(iter(kd.nlist("time_second", "time__second", "time").values()), None)
    if symbol is None:
        return []
    try:
        data = kd.read(symbol.value, 8)
    except KvmError:
        return []
    wide = int.from_bytes(data, machine.byteorder, signed=True)
    narrow = int.from_bytes(data[:4], machine.byteorder, signed=True)
    # time_t had 32 bits in the past, and the symbol's size need not tell.
    seconds = narrow if symbol.size == 4 or not 0 <= wide < 1 << 40 else wide
    if seconds == 0:
        return ["the time of the crash is unreasonable: the kernel's clock says 0"]
    days = machine.system.savecore_days
    if abs(seconds - time.time()) <= days * 86400:
        return []
    try:
        when = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        when = f"{seconds} seconds after 1970"
    return [f"the time of the crash, {when}, is unreasonable: it is more than {days} days away from now"]


# -- copying ---------------------------------------------------------------------------------------------------------


class _Meter:
    """Counts bytes, tells the caller, and asks whether to go on."""

    def __init__(self, total: int, shown: str, progress: Progress | None, should_stop: ShouldStop | None) -> None:
        self._total = total
        self._shown = shown
        self._progress = progress
        self._should_stop = should_stop
        self._done = 0
        self._next = 0.0

    def add(self, n: int) -> None:
        self._done += n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            self._report()
        self._poll()

    def finish(self) -> None:
        self._report()
        self._poll()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def _poll(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise Cancelled(f"saving was cancelled, and nothing was left in {self._shown}")


def _copy_memory(kd: Kvm, size: int, out: _Stream, meter: _Meter) -> None:
    offset = _reading(kd).headers.data_off
    end = offset + size
    with memoryview(bytearray(min(_PIECE, max(1, size)))) as buffer:
        while offset < end:
            n = kd.image.readinto(offset, buffer[: min(len(buffer), end - offset)])
            if n == 0:
                raise KvmError(f"{printable(kd.path)} ended at {offset:#x} while it was copied, {end:#x} was expected")
            out.write(buffer[:n])
            offset += n
            meter.add(n)


def _copy_descriptor(source: int, out: _Stream, meter: _Meter) -> None:
    while piece := os.read(source, _PIECE):
        out.write(piece)
        meter.add(len(piece))


@contextlib.contextmanager
def _open_kernel(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise KvmError(f"cannot read the kernel file {printable(path)}: {e.strerror}") from e
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise KvmError(f"the kernel file {printable(path)} is no regular file any more")
        yield fd
    finally:
        os.close(fd)


#: What memory is copied to.
_Stream = Partial | gzip.GzipFile


@contextlib.contextmanager
def _stream(part: Partial, compress: bool) -> Iterator[_Stream]:
    if not compress:
        yield part
        return
    # No name and no time in it: the same dump gives the same bytes.
    with gzip.GzipFile("", "wb", _GZIP_LEVEL, part, 0) as packed:
        yield packed
