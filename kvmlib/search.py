"""Where is the dump: every plausible header in an image, best first; and opening the best of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvmlib.carve import carve
from kvmlib.errors import FormatError, KvmError, TranslationError
from kvmlib.identify import Reading, doubt, readings
from kvmlib.image import Image, open_image
from kvmlib.kcore import CORE_CPU, MidMag
from kvmlib.kvm import Kvm
from kvmlib.match import check
from kvmlib.namelist import NO_SYMBOLS, SymbolTable, kernel_beside, read_elf
from kvmlib.ports import MIDS
from kvmlib.ports.base import Machine
from kvmlib.text import printable

#: Dump devices are written in blocks of this many bytes (DEV_BSIZE).
DEV_BSIZE = 512
#: Where NetBSD puts a dump that doesn't fit: one page after the start (ctod(1)), in bytes.
_NETBSD_FIRST = 8 * DEV_BSIZE
_PIECE = 4 << 20
#: From this score on a header without segments has memory behind it that belongs to it.
_PROVEN = 80


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plausible dump header.

    Attributes:
        offset: file offset in bytes; 0 for a saved core.
        machine: the machine it fits best.
        score: 0 to 100.
        reasons: what was found for and against it.
        length: bytes of headers and memory together, as far as the image has them.
        form: ``device`` or ``savecore``.
    """

    offset: int
    machine: Machine
    score: int
    reasons: tuple[str, ...]
    length: int
    form: str


def find(path: str | os.PathLike[str], machine: str | Machine | None = None) -> list[Candidate]:
    """Return every plausible dump header in an image or on a device, best first.

    Raises:
        KvmError: it can't be read.
    """
    image = open_image(path)
    try:
        return find_in(image, machine)
    finally:
        image.close()


def find_in(image: Image, machine: str | Machine | None = None) -> list[Candidate]:
    """Return every plausible dump header in an open image, best first."""
    try:
        saved = _candidates(image, readings(image, None, machine))
    except FormatError:
        saved = []
    if saved:
        return saved
    found: list[tuple[Candidate, Reading]] = []
    for offset in _midmags(image):
        try:
            read = readings(image, offset, machine)
            found += zip(_candidates(image, read), read, strict=True)
        except FormatError:
            continue
    return _rank(found)


def _midmags(image: Image) -> Iterator[int]:
    """Yield the block offsets at which a kcore_seg of a known machine may begin."""
    for at in range(0, image.size, _PIECE):
        piece = image.read(at, _PIECE)
        # Byte 2 of every block, then a search for the magic's first byte: no loop over blocks in Python.
        firsts = piece[2::DEV_BSIZE]
        i = firsts.find(b"\x8f")
        while i >= 0:
            raw = piece[i * DEV_BSIZE : i * DEV_BSIZE + 4]
            if raw[3:4] == b"\xca":
                midmag = MidMag.parse(raw)
                if midmag.flag == CORE_CPU and midmag.mid in MIDS:
                    yield at + i * DEV_BSIZE
            i = firsts.find(b"\x8f", i + 1)


def _candidates(image: Image, read: list[Reading]) -> list[Candidate]:
    """Make a candidate of each reading of one header; the best says what else it could be."""
    first, *others = (_candidate(image, r) for r in read)
    if unsure := doubt(read[0], read[1:]):
        first = dataclasses.replace(first, reasons=(*first.reasons, unsure))
    return [first, *others]


def _candidate(image: Image, r: Reading) -> Candidate:
    headers, score, reasons = r.headers, r.score, list(r.reasons)
    end = image.size if r.size is None else min(headers.data_off + r.size, image.size)
    if headers.form == "device":
        if (headers.data_off - headers.offset) % DEV_BSIZE:
            score -= 30
            reasons.append(f"header of {headers.data_off - headers.offset} bytes is not a whole number of blocks")
        if r.machine.os == "netbsd" and headers.offset == _NETBSD_FIRST:
            score += 5
            reasons.append("at block 8, where NetBSD puts a dump that does not fit")
        if end == headers.data_off:
            score -= 40
            reasons.append("no memory follows the header")
    return Candidate(
        headers.offset, r.machine, max(0, min(100, score)), tuple(reasons), end - headers.offset, headers.form
    )


def _rank(found: list[tuple[Candidate, Reading]]) -> list[Candidate]:
    """Put the best first; a header inside a better dump's memory is a copy, such as the buffer it was written from."""
    found.sort(key=lambda pair: (-pair[0].score, -pair[0].length, pair[0].offset))
    ranked: list[Candidate] = []
    outer: list[tuple[Candidate, Reading]] = []
    for c, reading in found:
        around = next((o for o, its in outer if _holds(o, its, c, reading)), None)
        if around is not None:
            reason = f"lies inside the memory of the dump at {around.offset:#x}, so it is a copy or a leftover"
            c = dataclasses.replace(c, score=max(0, c.score - 50), reasons=(*c.reasons, reason))
        else:
            outer.append((c, reading))
        ranked.append(c)
    ranked.sort(key=lambda c: -c.score)
    return ranked


def _holds(outer: Candidate, its: Reading, inner: Candidate, reading: Reading) -> bool:
    """Tell whether a header lies in another dump's memory.

    A header without segments claims all the image that follows it: that counts only where memory proves it, or where
    the same header is there again.
    """
    if not outer.offset < inner.offset < outer.offset + outer.length:
        return False
    return its.size is not None or outer.score >= _PROVEN or its.headers.cpu_data == reading.headers.cpu_data


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
        path: a saved core (plain or gzip), an image of a partition or a whole disk, or a device.
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
    except BaseException:
        kd.close()
        raise
    return kd


def _best_offset(kd: Kvm, machine: str | Machine | None) -> int:
    found = find_in(kd.image, machine)
    if found:
        return found[0].offset
    what = f"a dump header of {machine if isinstance(machine, str) else machine.name}" if machine else "a dump header"
    begin = kd.image.read(0, 8).hex()
    detail = f"; {kd.geterr()}" if kd.geterr() else _nearly(kd.image, machine)
    raise FormatError(
        f"no dump in {printable(kd.path)}: {what} was looked for at every {DEV_BSIZE} bytes of {kd.image.size}, "
        f"none is there (it begins with {begin}){detail}"
    )


def _nearly(image: Image, machine: str | Machine | None) -> str:
    """Say what is wrong with the last header that is almost one, such as one that is cut off; empty without one."""
    problem = ""
    for offset in _midmags(image):
        try:
            readings(image, offset, machine)
        except FormatError as e:
            problem = f"; {e}"
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
    """Use the symbols that the boot loader put into memory, if what they call version is the kernel's version."""
    assert kd.machine is not None
    for found in carve(kd.image, kd.memory, kd.machine):
        kd.set_symbols(found.table)
        if _is_this_kernels(kd):
            return
    kd.set_symbols(NO_SYMBOLS)


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
