"""Where is the dump: every plausible header in an image, best first; and opening the best of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from kvmlib.candidates import DEV_BSIZE as DEV_BSIZE, Candidate as Candidate, compare, judge, rank
from kvmlib.carve import PROVEN, Carved, ranked, tables
from kvmlib.disks import Partition, partitions, smallest_around
from kvmlib.errors import FormatError, KvmError, TranslationError
from kvmlib.identify import QUICK_RANGE, Reading, doubt, open_dump, readings
from kvmlib.image import Image
from kvmlib.kcore import CORE_CPU, KCORE_MAGIC, MidMag
from kvmlib.ksyms import modules
from kvmlib.kvm import Kvm
from kvmlib.match import check
from kvmlib.namelist import NO_SYMBOLS, SymbolTable, kernel_beside, read_elf
from kvmlib.ports import MIDS
from kvmlib.ports.base import Machine
from kvmlib.remains import survivors
from kvmlib.text import printable

#: Bytes of an image that are looked at in one go: few enough to stay in the processor's cache.
_PIECE = 1 << 20
_MAGIC = KCORE_MAGIC.to_bytes(2, "big")
#: Bytes of CPU data after which the search ends: a sparse dump has a megabyte of it, most have a block.
_MOST_CPU_DATA = 16 << 20
#: Headers whose memory is looked at for proofs of their machine: no disk has so many dumps on it.
_MOST_PROVEN = 64
#: What was found in images that are open: the verdict on a dump asks for it too.
_known: WeakKeyDictionary[Image, list[Candidate]] = WeakKeyDictionary()


def find(path: str | os.PathLike[str], machine: str | Machine | None = None) -> list[Candidate]:
    """Return every plausible dump header in an image or on a device, best first.

    Raises:
        KvmError: it can't be read.
    """
    image = open_dump(path)
    try:
        return find_in(image, machine)
    finally:
        image.close()


def find_in(image: Image, machine: str | Machine | None = None) -> list[Candidate]:
    """Return every plausible dump header in an open image, best first."""
    try:
        saved, _ = _candidates(image, readings(image, None, machine), None)
    except FormatError:
        saved = []
    if saved:
        return saved
    found: list[tuple[Candidate, Reading]] = []
    parts = partitions(image.read, image.size)
    fitting = set()
    headers = spent = 0
    for offset in _midmags(image):
        try:
            read = readings(image, offset, machine, QUICK_RANGE, headers < _MOST_PROVEN)
        except FormatError:
            continue
        judged, fits = _candidates(image, read, smallest_around(parts, offset))
        found += zip(judged, read, strict=True)
        headers += 1
        if fits:
            fitting.add(offset)
        spent += len(read[0].headers.cpu_data)
        if spent > _MOST_CPU_DATA:
            break
    _known[image] = compare(image, rank(found, fitting))
    return _known[image]


def known(image: Image) -> list[Candidate]:
    """Return what the last search in an open image found; nothing where there was none."""
    return _known.get(image, [])


def _midmags(image: Image) -> Iterator[int]:
    """Yield the block offsets at which a kcore_seg of a known machine may begin."""
    words = DEV_BSIZE // 4
    buffer = bytearray(_PIECE)
    with memoryview(buffer) as view, view.cast("I") as numbers:
        for at in _pieces(image):
            n = image.look(at, view)
            # The first four bytes of every block, then a search for the magic: no loop over blocks in Python.
            firsts = numbers[: n // 4 : words].tobytes()
            i = firsts.find(_MAGIC)
            while i >= 0:
                if i % 4 == 2:
                    midmag = MidMag.parse(firsts[i - 2 : i + 2])
                    if midmag.flag == CORE_CPU and midmag.mid in MIDS:
                        yield at + i // 4 * DEV_BSIZE
                i = firsts.find(_MAGIC, i + 1)


def _pieces(image: Image) -> Iterator[int]:
    """Yield the offsets of the pieces of an image that aren't all in holes of a sparse file."""
    begin = 0
    for low, high in image.written(0, image.size):
        for at in range(max(begin, low - low % _PIECE), high, _PIECE):
            yield at
            begin = at + _PIECE


def _candidates(image: Image, read: list[Reading], part: Partition | None) -> tuple[list[Candidate], bool]:
    """Make a candidate of each reading of one header; the best says what else it could be, and whether it fits."""
    judged = [judge(image, r, part) for r in read]
    first, fits = judged[0]
    if unsure := doubt(read[0], read[1:]):
        first = dataclasses.replace(first, reasons=(*first.reasons, unsure))
    return [first, *(c for c, _ in judged[1:])], fits


def open(
    path: str | os.PathLike[str],
    *,
    system: str | os.PathLike[str] | None = None,
    machine: str | Machine | None = None,
    dump_off: int | None = None,
    write: bool = False,
    force: bool = False,
) -> Kvm:
    """Open a dump: find its header, decide the machine, enable translation, get symbols.

    Args:
        path: a saved core (plain or packed), an image of a partition or a whole disk, or a device.
        system: the kernel file; without it, one saved beside the core is used if there is one, else the symbols that
            lie in the dump.
        machine: ``os/arch``, to overrule what the evidence says.
        dump_off: where the header is, in bytes; without it, at 0 as a saved core, else wherever it is found.
        write: allow `Kvm.dump_inval`.
        force: use the kernel file although it is another kernel's than the dump's.

    Raises:
        KvmError: with a sentence that says what was looked for, where, and what was there instead; `system` isn't the
            dump's kernel. One beside the core that isn't is left out, and `Kvm.kernel_note` says why.
    """
    kd = Kvm(path, system=system, machine=machine, write=write)
    try:
        if kd.reading is None:
            kd.dump_mkheader(_best_offset(kd, machine) if dump_off is None else dump_off)
        elif dump_off:
            raise FormatError(
                f"{printable(kd.path)} is a saved core, whose header is at 0: no dump offset can be given"
            )
        if system is None and not _use_kernel_beside(kd, force):
            _use_carved(kd)
            if kd.kernel_note and not len(kd.symbols):
                kd.set_symbols(SymbolTable((), f"none: {kd.kernel_note}"))
        elif system is not None and not force:
            check(kd)
        _add_modules(kd)
    except BaseException:
        kd.close()
        raise
    return kd


def _best_offset(kd: Kvm, machine: str | Machine | None) -> int:
    found = find_in(kd.image, machine)
    if found:
        return found[0].offset
    raise FormatError(_no_dump_in(kd.image, machine, kd.geterr()))


def no_dump(path: str | os.PathLike[str], machine: str | Machine | None = None) -> str:
    """Say why there is no dump in an image in which `find` found none, and what is left of one.

    Raises:
        KvmError: it can't be read.
    """
    image = open_dump(path)
    try:
        return _no_dump_in(image, machine, "")
    finally:
        image.close()


def _no_dump_in(image: Image, machine: str | Machine | None, error: str) -> str:
    what = f"a dump header of {machine if isinstance(machine, str) else machine.name}" if machine else "a dump header"
    begin = image.read(0, 8).hex()
    details = [error or _nearly(image, machine), *survivors(image)]
    return (
        f"no dump in {printable(image.path)}: {what} was looked for at every {DEV_BSIZE} bytes of {image.size}, "
        f"none is there (it begins with {begin})" + "".join(f"; {d}" for d in details if d)
    )


def _nearly(image: Image, machine: str | Machine | None) -> str:
    """Say what is wrong with the last header that is almost one, such as one that is cut off; empty without one."""
    problem = ""
    for offset in _midmags(image):
        try:
            readings(image, offset, machine)
        except FormatError as e:
            problem = str(e)
    return problem


def _use_kernel_beside(kd: Kvm, force: bool) -> bool:
    beside = kernel_beside(kd.path)
    if beside is None:
        return False
    try:
        kd.set_symbols(read_elf(beside, f"{printable(Path(beside).name)}, beside the dump"))
        if not force:
            check(kd)
    except KvmError as e:
        # A file that merely has the right name is no reason not to open the dump.
        kd.kernel_note = f"the kernel beside the dump was left out: {e}"
        kd.set_symbols(NO_SYMBOLS)
        return False
    return True


def _use_carved(kd: Kvm) -> None:
    """Use the symbols that lie in memory, if what they call version is the kernel's version."""
    assert kd.machine is not None
    rest = []
    for found in tables(kd.image, kd.memory, kd.machine, kd.translator.kvatop):
        if found.score >= PROVEN and _fits(kd, found):
            return
        rest.append(found)
    if not any(_fits(kd, found) for found in ranked(rest)):
        kd.set_symbols(NO_SYMBOLS)


def _fits(kd: Kvm, found: Carved) -> bool:
    kd.set_symbols(found.table)
    return _is_this_kernels(kd)


def _add_modules(kd: Kvm) -> None:
    """Use the symbols of NetBSD's loaded modules too, where the kernel's lead to them."""
    head = kd.symbols.get("ksyms_symtabs")
    if head is None or kd.machine is None or kd.machine.os != "netbsd":
        return
    names, symbols, problem = modules(kd.read, head.value, kd.machine)
    if names or problem:
        count = f"{len(names)} loaded module" + "s" * (len(names) != 1) if names else "no loaded modules"
        source = f"{kd.symbols.source}, with {count}" + (f": {problem}" if problem else "")
        kd.set_symbols(kd.symbols.with_modules(symbols, source))


def _is_this_kernels(kd: Kvm) -> bool:
    """Tell whether the header, the page tables and the symbols agree: version leads to what the system says of itself.

    Where that page was lost, or nothing can be translated anyway, nothing speaks against them.
    """
    assert kd.machine is not None
    version, banner = kd.symbols.get("version"), kd.machine.system.banner
    assert version is not None
    try:
        return kd.read(version.value, len(banner)) == banner
    except TranslationError:
        return next(kd.mappings(), None) is None
    except KvmError:
        return True
