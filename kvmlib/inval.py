"""Invalidate a dump: what speaks against it, and the one way in which it is done.

The only action that writes to a dump: dumpmag's bytes, nothing else. A record of them reaches the disk first, so that
they can be put back (`kvmlib.undo`) whatever happens in between.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from contextlib import closing
from typing import Literal, NamedTuple

from kvmlib.copying import difference
from kvmlib.errors import Cancelled, FormatError, KvmError
from kvmlib.identify import open_dump
from kvmlib.image import Image, UnpackedImage
from kvmlib.inuse import in_use
from kvmlib.kvm import DumpMag, Invalidation, Kvm
from kvmlib.match import cached, proof
from kvmlib.outfiles import Directory
from kvmlib.saveplan import memory_size
from kvmlib.savesource import Meter
from kvmlib.text import printable
from kvmlib.undo import write_record


class Obstacle(NamedTuple):
    """Why a dump should not be invalidated.

    Attributes:
        kind: what it is about, for programs.
        text: the reason, for a person, without a full stop.
        forcible: whether a person may go ahead all the same, who takes the loss or the doubt upon himself.
    """

    kind: Literal["unsaved", "unproven", "in use", "read-only"]
    text: str
    forcible: bool


def check_invalidation(
    kd: Kvm,
    saved: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Obstacle, ...]:
    """Look what speaks against invalidating `kd`; nothing is changed.

    Args:
        kd: a dump with a header and symbols.
        saved: the saved core, plain or compressed. It is compared with the dump byte for byte: nothing proves better
            that the dump is saved. Not done where something else stands in the way that can't be forced.
        progress: called with (bytes done, bytes in total) while that goes on.
        should_stop: polled meanwhile; True makes it stop.

    Returns:
        The reasons; none where all is well.

    Raises:
        SymbolError, TranslationError, NotInDumpError, TruncatedError, KvmError: there is no dumpmag to clear.
        Cancelled: `should_stop` said so.
    """
    kd.dumpmag_to_clear()
    found = []
    try:
        if used := in_use(kd.path):
            found.append(Obstacle("in use", used, False))
    except KvmError as e:
        found.append(Obstacle("in use", str(e), True))
    if not any(o.kind == "in use" for o in found) and (refused := _not_writable(kd)):
        found.append(Obstacle("read-only", refused, False))
    if cached(kd).verdict != "same":
        doubt = proof(kd).removeprefix("not proven: ")
        found.append(Obstacle("unproven", f"dumpmag's address is not proven: {doubt}", True))
    if all(o.forcible for o in found):
        if saved is None:
            unsaved = "nothing shows that this dump was saved: no saved core was named to compare it with"
        else:
            unsaved = _difference(kd, os.fsdecode(saved), progress, should_stop)
        if unsaved:
            found.append(Obstacle("unsaved", unsaved, True))
    return tuple(found)


def invalidate(kd: Kvm, mag: DumpMag, record: str | os.PathLike[str]) -> Invalidation:
    """Clear the dumpmag that was shown; the dump is open for writing only meanwhile. `check_invalidation` comes first.

    Args:
        kd: the dump, which may be open for reading only.
        mag: `Kvm.dumpmag`, as a person has seen and confirmed it.
        record: where the undo record goes; it is on the disk before the dump is touched.

    Raises:
        KvmError: it can't be written, it isn't any more what was shown, or the device is in use by now.
    """
    with Kvm(kd.path, system=kd.symbols, machine=kd.machine, write=True) as writer:
        if kd.form == "device":
            assert kd.reading is not None
            writer.dump_mkheader(kd.reading.headers.offset)
        writer.image.check_writable()
        used = ""
        if writer.dumpmag_to_clear()[:4] != mag[:4]:
            raise KvmError(f"dumpmag at file offset {mag.offset:#x} has changed meanwhile; nothing was written")
        with contextlib.suppress(KvmError):
            # What isn't known stood in `check_invalidation`'s answer.
            used = in_use(kd.path)
        if used:
            raise KvmError(f"{used}; nothing was written")
        name = write_record(writer, mag, record)
        try:
            return writer.dump_inval()
        except KvmError as e:
            raise KvmError(f"{e}; what was there before is in the undo record {printable(name)}") from e


def _not_writable(kd: Kvm) -> str:
    try:
        if isinstance(kd.image, UnpackedImage):
            kd.image.check_writable()
        open_dump(kd.path, write=True).close()
    except KvmError as e:
        return str(e)
    return ""


# -- is it saved? ----------------------------------------------------------------------------------------------------


def _difference(
    kd: Kvm,
    core: str,
    progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> str:
    """Say in what a saved core differs from what saving `kd` would write now; empty where they are the same."""
    shown = printable(core)
    try:
        if os.path.samefile(core, kd.path):
            return f"{shown} is the dump itself, which proves nothing"
        _settle(core)
        with closing(open_dump(core)) as image:
            return _compare(kd, image, shown, progress, should_stop)
    except Cancelled:
        raise
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        return f"the saved core {shown} cannot be compared with the dump: {reason}"
    except KvmError as e:
        return f"the saved core {shown} cannot be compared with the dump: {e}"


def _settle(core: str) -> None:
    """Have a saved core reach the disk, and its name, and forget what the system keeps of it: a cache is no copy."""
    fd = os.open(core, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        with contextlib.suppress(OSError, AttributeError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    with Directory(os.path.dirname(os.path.realpath(core))) as where:
        where.sync()


def _compare(
    kd: Kvm,
    core: Image,
    shown: str,
    progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> str:
    if kd.reading is None:
        raise FormatError(f"no valid dump header in {printable(kd.path)} yet")
    size, header = memory_size(kd), io.BytesIO()
    begin = kd.dump_wrtheader(header, size.promised)
    if core.read(0, begin) != header.getvalue():
        return f"{shown} is not this dump, saved: its headers are others"
    if core.size != begin + size.present:
        return f"{shown} is not this dump, saved: it has {core.size} bytes, {begin + size.present} were expected"
    meter = Meter(size.present, progress, should_stop, "comparing")
    meter.left = "nothing was changed"
    memory, copy = _From(kd.image, kd.reading.headers.data_off), _From(core, begin)
    if (at := difference(memory, copy, size.present, meter)) is not None:
        return f"{shown} is not this dump, saved: it differs from offset {begin + at:#x} on"
    meter.finish()
    return ""


class _From(NamedTuple):
    """What an image holds from some offset on."""

    image: Image
    offset: int

    def readinto(self, at: int, view: memoryview) -> int:
        n, at = self.image.readinto(self.offset + at, view), self.offset + at
        if n < len(view):
            raise KvmError(f"{printable(self.image.path)} ended after {at + n:#x} while it was compared")
        return n
