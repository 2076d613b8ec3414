"""Sample dumps for tests to look at, and to damage in one place."""

import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import kvmlib

#: One of each system, each width, each form of page table.
NAMES = ("openbsd/amd64", "openbsd/i386", "openbsd/i386-pae", "netbsd/amd64", "netbsd/i386", "netbsd/i386-pae")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kvmtui-samples-")


@functools.cache
def _made(name: str) -> kvmlib.Sample:
    return kvmlib.make_sample(name, _folder().name)


def sample_in(folder: Path, name: str) -> kvmlib.Sample:
    """A copy of the sample `name` in `folder`, which the test may damage."""
    made = _made(name)
    image, kernel = (shutil.copy(path, folder) for path in (made.image, made.kernel))
    return replace(made, image=str(image), kernel=str(kernel))


def file_offset(sample: kvmlib.Sample, va: int) -> int:
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        return kd.pa2off(kd.kvatop(va)[0])


def va_of(sample: kvmlib.Sample, name: str) -> int:
    found: int = next(s.value for s in sample.symbols if s.name == name)
    return found


def open_with(sample: kvmlib.Sample, symbols: kvmlib.SymbolTable) -> kvmlib.Kvm:
    """The sample with other symbols than its kernel's."""
    kd = kvmlib.Kvm(sample.image, system=symbols, machine=sample.machine)
    kd.dump_mkheader(sample.dump_off)
    return kd


def poke(sample: kvmlib.Sample, where: str | int, data: bytes) -> None:
    """Write `data` over what is at a symbol or a va; it must not cross a page."""
    offset = file_offset(sample, va_of(sample, where) if isinstance(where, str) else where)
    with open(sample.image, "r+b") as f:
        f.seek(offset)
        f.write(data)


def poke_long(sample: kvmlib.Sample, where: str | int, value: int) -> None:
    poke(sample, where, value.to_bytes(sample.machine.long_bytes, sample.machine.byteorder))


def long_at(sample: kvmlib.Sample, where: str) -> int:
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        return int.from_bytes(kd.read(va_of(sample, where), sample.machine.long_bytes), sample.machine.byteorder)


def without_symbols(sample: kvmlib.Sample) -> None:
    """Take the kernel file away, and what makes the symbols in the dump recognizable."""
    Path(sample.kernel).unlink()
    forget_symbols(Path(sample.image))


def forget_symbols(image: Path) -> Path:
    """Take away what makes the symbols in a dump recognizable; return the same path."""
    image.write_bytes(image.read_bytes().replace(b"\x7fELF", b"\0ELF"))
    return image


def truncate(sample: kvmlib.Sample, size: int) -> None:
    with open(sample.image, "r+b") as f:
        f.truncate(size)
