"""What a save is about: how much memory there is, which kernel goes with it, how files are called, what to warn of.

Sources: sbin/savecore/savecore.c of both systems.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmlib.carve import carve
from kvmlib.dumpstate import dumpsize
from kvmlib.elfwriter import write_elf
from kvmlib.errors import FormatError, KvmError
from kvmlib.image import Image, MappedFile
from kvmlib.match import cached
from kvmlib.namelist import SymbolTable
from kvmlib.outfiles import Directory, Partial
from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.identify import Reading
    from kvmlib.kvm import Kvm

_KIB = 1024
#: Whatever has a number of a system's in its name.
_NUMBERED = r"(?:{kernel}\.([0-9]+)(?:\.core)?(?:\.(?:gz|Z|zst))?|info\.([0-9]+)(?:\.json)?)"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of memory.

    Attributes:
        promised: what the dump should have, which goes into the header.
        present: what it has.
        source: how that is known.
        warnings: sentences that don't stand in the way.
        refusal: the sentence that does; empty without one.
    """

    promised: int
    present: int
    source: str
    warnings: tuple[str, ...]
    refusal: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel file that goes beside the core.

    Attributes:
        path: the file that it is a copy of, None where there is none.
        data: what it holds where it is made of symbols, None where it isn't.
        size: its bytes; 0 where there is no kernel file at all.
        source: says which of these it is, and why.
    """

    path: str | None
    data: bytes | None
    size: int
    source: str


def reading_of(kd: Kvm) -> Reading:
    """Return the headers and the machine.

    Raises:
        FormatError: no header was found yet.
    """
    if kd.reading is None:
        raise FormatError(f"no valid dump header was found in {printable(kd.path)} yet, so there is nothing to save")
    return kd.reading


# -- names -----------------------------------------------------------------------------------------------------------


def kernel_name(kd: Kvm) -> str:
    """Return ``bsd`` or ``netbsd``."""
    return reading_of(kd).machine.system.kernel_name


def core_name(name: str, number: int, suffix: str) -> str:
    """Return the name of core number `number`."""
    return f"{name}.{number}.core{suffix}"


def kernel_copy_name(name: str, number: int, suffix: str) -> str:
    """Return the name of its kernel."""
    return f"{name}.{number}{suffix}"


def next_number(where: Directory, name: str, least: int = 0) -> tuple[int, list[str]]:
    """Return what bounds says, or the next number that is free in every spelling, and what is wrong with bounds."""
    number, warnings = where.number_in("bounds")
    number = max(number, least)
    pattern = re.compile(_NUMBERED.format(kernel=name))
    taken = {int(m[1] or m[2]) for entry in where.names() if (m := pattern.fullmatch(entry))}
    while number in taken:
        number += 1
    return number, warnings


def unfinished(where: Directory, name: str) -> list[str]:
    """Return the temporary names of cores and kernels that are being written, or were when a save was killed."""
    return sorted(entry for entry in where.names() if Partial.is_one(entry, name))


# -- contents --------------------------------------------------------------------------------------------------------


def memory_size(kd: Kvm) -> Size:
    """Find out how many bytes of memory the dump has, and how many the file has of them."""
    reading = reading_of(kd)
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
    return Size(promised, promised - missing, source, tuple(warnings), refusal)


def choose_kernel(kd: Kvm) -> Kernel:
    """Find out what is saved as the kernel: the file in use if it is this dump's, else what its symbols make."""
    reading = reading_of(kd)
    table, path, why_not = kd.symbols, kd.symbols.path, ""
    try:
        fit = cached(kd)
        if len(table) and not fit.fits:
            why_not = f"{printable(path or table.source)} is not the kernel of this dump: {'; '.join(fit.reasons)}"
            found = carve(kd.image, reading.memory(kd.image), reading.machine)
            table, path = (found[0].table if found else SymbolTable((), "none")), None
        proven = "proven to be" if fit.verdict == "same" else "not proven to be"
    except KvmError as e:
        # A medium with bad blocks can't be searched, but saved.
        proven = f"not proven ({e}) to be"
        if why_not:
            table, path = SymbolTable((), "none"), None
    if path is not None:
        try:
            info = os.stat(path)
        except OSError as e:
            raise KvmError(f"cannot read the kernel file {printable(path)}: {e.strerror}") from e
        if not stat.S_ISREG(info.st_mode) or info.st_size == 0:
            raise KvmError(f"the kernel file {printable(path)} is no regular file any more, or empty")
        return Kernel(path, None, info.st_size, f"a copy of {printable(path)}, {proven} the kernel of this dump")
    if not len(table):
        return Kernel(None, None, 0, f"none: {why_not or 'no kernel file is known, and the dump holds no symbols'}")
    m = reading.machine
    data = write_elf(table, elf_machine=m.elf_machine, bits=m.long_bytes * 8, byteorder=m.byteorder)
    made = f"an ELF file made of {len(table)} symbols, found in {printable(table.source)}"
    return Kernel(None, data, len(data), f"{made}; {why_not}" if why_not else made)


@contextlib.contextmanager
def open_kernel_file(kernel: Kernel) -> Iterator[Image | None]:
    """Open the kernel file to copy it; None where it is made of symbols.

    Raises:
        KvmError: it can't be read any more, or is something else now.
    """
    if kernel.path is None:
        yield None
        return
    shown = printable(kernel.path)
    try:
        fd = os.open(kernel.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise KvmError(f"cannot read the kernel file {shown}: {e.strerror}") from e
    image = None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size != kernel.size:
            raise KvmError(f"the kernel file {shown} is no regular file any more, or its size has changed")
        image = MappedFile(kernel.path, fd, info.st_size, False)
        yield image
    finally:
        image.close() if image is not None else os.close(fd)


# -- warnings --------------------------------------------------------------------------------------------------------


def space_refusal(free: int, needed: int, minfree: int, shown: str) -> str:
    """Return why minfree forbids to write so much; empty where it doesn't."""
    if minfree <= 0 or (free - needed) // _KIB >= minfree:
        return ""
    return (
        f"there is not enough space in {shown}: {needed} bytes are needed and {free} are free, "
        f"but minfree says that {minfree} KiB must stay free"
    )


def leftovers(where: Directory, name: str) -> list[str]:
    """Say so where a save left something unfinished."""
    found = unfinished(where, name)
    if not found:
        return []
    return [
        f"{len(found)} files like {printable(found[0])} are in {where.shown}: either a save is running now, "
        "or one was killed: --resume (resume=True) goes on with its copy, or they can be removed"
    ]


def saved_before(kd: Kvm) -> list[str]:
    """Say so when dumpmag tells that the dump was saved already, or that it isn't one."""
    try:
        mag = kd.dumpmag()
    except KvmError:
        return []
    if mag.state == "cleared":
        return ["dumpmag is cleared: this dump was saved or invalidated before"]
    if mag.state == "unknown":
        return [f"dumpmag holds {mag.value:#x}, which is none: the dump is not whole, or the kernel file is wrong"]
    return []


def unreasonable_time(kd: Kvm) -> list[str]:
    """Say so when the time of the crash is far from now; savecore(8) refuses such a dump."""
    machine = reading_of(kd).machine
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
