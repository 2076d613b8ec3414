"""The kernel's symbols from the dump itself.

Both systems' boot loaders leave an ELF header, section headers, symbols and strings behind the kernel's bss
(lib/libsa/loadfile_elf.c, loadfile_elf32.c). It is found by searching physical memory, so that no translation is
needed; NetBSD's ksyms sorts the symbols in place later (kern/kern_ksyms.c) and leaves the old table's end behind. Where
NetBSD's loader left no header, or it is lost, ksyms' own list leads to the table.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from kvmlib.errors import KvmError, NotInDumpError, TruncatedError
from kvmlib.image import Image
from kvmlib.ksyms import (
    LARGE,
    SECTION_NAMES,
    Kvatop,
    Layout,
    Read,
    find_kernel,
    kernel_table,
    outside,
    read_long,
    reader,
)
from kvmlib.memory import PhysicalMemory
from kvmlib.namelist import EM_ALPHA, Symbol, SymbolTable, section_kind, unpack_symbols
from kvmlib.ports.base import Machine
from kvmlib.scan import hits

_SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS = 2, 3, 8
_TYPES = {_SHT_NOBITS: "SHT_NOBITS"}
#: Section headers that a kernel may have.
_SECTIONS = range(3, 65)
#: Bytes of section names in ksyms_hdr, and sections that a kernel's symbols may belong to.
_NAMES, _SHN_MOST = 64, 64
#: A kernel has more symbols than this.
_FEW = 20
#: ELF headers that are looked at, tables that are read, bytes of all these, and places of ksyms_hdr: memory that is
#: full of them says nothing.
_HEADERS, _TRIED, _BUDGET, _PLACES = 1 << 16, 16, 24 << 20, 8
#: Names that every kernel has, and nothing else has all of.
_KERNELS_OWN = ("version", "ostype", "osrelease", "panicstr", "msgbufp", "dumpmag")
#: The boot loader puts the table behind bss, no more than so many of these pages further on; bytes.
_PAGE, _BEHIND = 4096, 64
#: From this score on the table leads to the kernel's own words.
PROVEN = 80


class Carved(NamedTuple):
    """A symbol table in memory.

    Attributes:
        table: the symbols; its `path` is None.
        pa: where the ELF header is or, where there is none, NetBSD's own entry for the table.
        score: 0 to 100, how sure it is that they are this kernel's.
        reasons: sentences.
    """

    table: SymbolTable
    pa: int
    score: int
    reasons: tuple[str, ...]


class _Section(NamedTuple):
    type: int
    flags: int
    va: int
    offset: int
    size: int
    link: int


class _Form(NamedTuple):
    """ELF of one class and byte order: struct formats of the two headers, and the size of a program header."""

    ehdr: struct.Struct
    shdr: struct.Struct
    phdr: int


class _Found(NamedTuple):
    """A table as it lies in memory: its bytes, those of its names, and where they belong.

    Attributes:
        pa: see `Carved`.
        what: how it was found, for the first reason.
        at: pa of the first symbol.
        data, strings: the table and its names.
        sections: section headers, none where they are lost.
        ways: what va - pa of the kernel's image can be, the likeliest first; None is to translate.
    """

    pa: int
    what: str
    at: int
    data: bytes
    strings: bytes
    sections: Sequence[_Section]
    ways: Callable[[SymbolTable], Iterable[int | None]]


def carve(image: Image, memory: PhysicalMemory, machine: Machine, kvatop: Kvatop | None = None) -> list[Carved]:
    """Return the symbol tables in memory that can be a kernel's, the best first.

    Args:
        image: the dump.
        memory: its memory.
        machine: the machine it is of.
        kvatop: turns a va into (pa, bytes that follow there), where there is a way to do that already.
    """
    return ranked(tables(image, memory, machine, kvatop))


def ranked(found: Iterable[Carved]) -> list[Carved]:
    """Sort tables, the best first; of two as good as each other the larger one is the later."""
    return sorted(found, key=lambda c: (-c.score, -len(c.table), c.pa))


def tables(image: Image, memory: PhysicalMemory, machine: Machine, kvatop: Kvatop | None = None) -> Iterator[Carved]:
    """Yield what `carve` returns, as it is found: who is content with a proven one needn't search all of memory."""
    proven = False
    #: Where NetBSD's ksyms_hdr can be: the same search finds them.
    headers: list[int] = []
    for one in _judged(_loaded(image, memory, machine, kvatop, headers), memory, machine, kvatop):
        proven = proven or one.score >= PROVEN
        yield one
    if headers and not proven:
        yield from _judged(_listed(image, memory, machine, kvatop, headers), memory, machine, kvatop)


def _judged(
    found: Iterable[_Found], memory: PhysicalMemory, machine: Machine, kvatop: Kvatop | None
) -> Iterator[Carved]:
    left = _BUDGET
    for f in itertools.islice(found, _TRIED):
        left -= len(f.data) + len(f.strings)
        if left < 0:
            return
        if (one := _judge(memory, machine, f, kvatop)) is not None:
            yield one


def _form(layout: Layout) -> _Form:
    if layout.long == 8:
        return _Form(struct.Struct(layout.order + "16sHHIQQQIHHHHHH"), struct.Struct(layout.order + "IIQQQQIIQQ"), 56)
    return _Form(struct.Struct(layout.order + "16sHHIIIIIHHHHHH"), struct.Struct(layout.order + "IIIIIIIIII"), 32)


# -- finding them ----------------------------------------------------------------------------------------------------


def _loaded(
    image: Image, memory: PhysicalMemory, machine: Machine, kvatop: Kvatop | None, headers: list[int]
) -> Iterator[_Found]:
    """Yield the boot loader's tables; note down where ksyms_hdr can be."""
    layout = Layout.of(machine)
    form = _form(layout)
    ident = b"\x7fELF" + bytes((layout.long // 4, 1 if layout.order == "<" else 2, 1))
    for hit in hits(image, memory, ident, align=4, most=_HEADERS):
        try:
            head = form.ehdr.unpack(memory.read(hit.pa, form.ehdr.size))
            _, _, e_machine, _, _, phoff, shoff, _, _, _, phnum, shentsize, shnum, _ = head
            if shentsize != form.shdr.size or shnum not in _SECTIONS or _name(e_machine) != machine.elf_machine:
                continue
            if phoff == phnum == 0 and shoff == form.ehdr.size:
                # So the loader leaves it. Programs in the page cache have program headers.
                if (found := _read(memory, hit.pa, form, shnum, kvatop)) is not None:
                    yield found
            elif machine.os == "netbsd" and (phoff, phnum, shoff) == (form.ehdr.size, 1, form.ehdr.size + form.phdr):
                names = memory.read(hit.pa + shoff + shnum * form.shdr.size, _NAMES)
                if SECTION_NAMES in names and len(headers) < _PLACES:
                    headers.append(hit.pa)
        except (NotInDumpError, TruncatedError):
            continue  # A table that isn't whole is none.


def _read(memory: PhysicalMemory, pa: int, form: _Form, shnum: int, kvatop: Kvatop | None) -> _Found | None:
    """Read the table behind the boot loader's ELF header; None where there is none.

    Raises:
        NotInDumpError, TruncatedError: it isn't whole.
    """
    raw = memory.read(pa + form.ehdr.size, shnum * form.shdr.size)
    sections = [_section(row) for row in form.shdr.iter_unpack(raw)]
    for s in sections:
        if s.type != _SHT_SYMTAB or s.link >= shnum:
            continue
        names = sections[s.link]
        if names.type == _SHT_STRTAB and all(x.offset and 0 < x.size <= LARGE for x in (s, names)):
            data, strings = (memory.read(pa + x.offset, x.size) for x in (s, names))
            what = f"behind an ELF header at pa {pa:#x}, as the boot loader leaves them"
            return _Found(pa, what, pa + s.offset, data, strings, sections, lambda t: _behind_bss(t, pa, kvatop))
    return None


def _behind_bss(table: SymbolTable, pa: int, kvatop: Kvatop | None) -> Iterator[int | None]:
    """Yield what va - pa is if the ELF header at `pa` is the first thing behind the kernel's bss, or soon after it."""
    end = table.get("end")
    if end is not None:
        # A va and its pa agree within the page.
        first = end.value + (pa - end.value) % _PAGE - pa
        yield from range(first, first + _BEHIND * _PAGE, _PAGE)
    if kvatop is not None:
        yield None


def _section(row: tuple[int, ...]) -> _Section:
    _, type_, flags, va, offset, size, link, _, _, _ = row
    return _Section(type_, flags, va, offset, size, link)


@functools.cache
def _name(e_machine: int) -> str:
    from elftools.elf.enums import ENUM_E_MACHINE

    if e_machine == EM_ALPHA:
        return "EM_ALPHA"
    return next((name for name, number in ENUM_E_MACHINE.items() if number == e_machine), "")


def _listed(
    image: Image, memory: PhysicalMemory, machine: Machine, kvatop: Kvatop | None, headers: Sequence[int]
) -> Iterator[_Found]:
    """Yield the tables that NetBSD's own list names as the kernel's."""
    for pa, table, distance in find_kernel(image, memory, machine, headers, kvatop):
        read = reader(memory, distance, kvatop)
        try:
            data, strings = read(table.symstart, table.symsize), read(table.strstart, table.strsize)
            at = _pa(table.symstart, distance, kvatop)
        except KvmError:
            continue
        what = f"listed in ksyms_symtabs, whose entry for the kernel is at pa {pa:#x}"
        yield _Found(pa, what, at, data, strings, (), _only(distance))


def _only(way: int | None) -> Callable[[SymbolTable], Iterable[int | None]]:
    return lambda table: (way,)


# -- whose symbols they are ------------------------------------------------------------------------------------------


def _judge(memory: PhysicalMemory, machine: Machine, found: _Found, kvatop: Kvatop | None) -> Carved | None:
    layout = Layout.of(machine)
    symbols = _symbols(found, machine, layout)
    if len(symbols) < _FEW:
        return None
    table = SymbolTable(symbols, f"the dump itself, at pa {found.pa:#x}", None, machine.elf_machine)
    table.elf_bits, table.byteorder = 8 * machine.long_bytes, machine.byteorder
    own = [name for name in _KERNELS_OWN if table.get(name) is not None]
    version = table.get("version")
    if version is None:
        return None
    score = 20 + 5 * len(own)
    reasons = [
        f"{len(symbols)} symbols {found.what}",
        f"{len(own)} of {len(_KERNELS_OWN)} names that every kernel has are there",
    ]
    if strange := outside(found.data, 0, len(found.strings), layout):
        score -= 30
        reasons.append(f"{strange} of the names lie outside of the string table: it is damaged")
    else:
        score += 10
        reasons.append("all names lie in the string table")
    title = machine.system.title
    for way in found.ways(table):
        if not _says(reader(memory, way, kvatop), version.value, machine):
            continue
        score += 30
        reasons.append(f"version is {title}'s, at pa {_pa(version.value, way, kvatop):#x}")
        if agrees := _agrees(memory, machine, table, found, way, kvatop):
            score += 10
            reasons.append(agrees)
        break
    else:
        reasons.append(f"version isn't {title}'s where the kernel would be if it lay right before them")
    return Carved(table, found.pa, max(0, score), tuple(reasons))


def _symbols(found: _Found, machine: Machine, layout: Layout) -> list[Symbol]:
    """Return the symbols, each once: the end of a table that was packed in place is there twice."""
    kinds = [section_kind(_TYPES.get(s.type, ""), s.flags) for s in found.sections]
    by_place = machine.os == "netbsd"
    if by_place:
        # ksyms gives all symbols one section's number, whatever the loader's section of that number is.
        kinds = ["X"] * _SHN_MOST
    symbols = unpack_symbols(found.data, found.strings, kinds, 8 * layout.long, layout.order == "<")
    unique = {(s.name, s.value): s for s in reversed(symbols)}
    ordered = list(reversed(unique.values()))
    return _with_kinds(ordered, found.sections) if by_place else ordered


def _with_kinds(symbols: list[Symbol], sections: Sequence[_Section]) -> list[Symbol]:
    """Give each symbol whose section isn't known the kind of the section that its address is in."""
    places = sorted((s for s in sections if s.va and s.size), key=lambda s: s.va)
    starts = [s.va for s in places]

    def kind(symbol: Symbol) -> str:
        i = bisect.bisect_right(starts, symbol.value) - 1
        s = places[i] if i >= 0 and symbol.value <= places[i].va + places[i].size else None
        letter = "D" if s is None else section_kind(_TYPES.get(s.type, ""), s.flags)
        return letter if symbol.kind == "X" else letter.lower()

    return [s._replace(kind=kind(s)) if s.kind in "Xx" else s for s in symbols]


def _says(read: Read, version: int, machine: Machine) -> bool:
    """Tell whether what `version` leads to begins with the system's name."""
    try:
        return read(version, len(machine.system.banner)) == machine.system.banner
    except KvmError:
        return False


def _pa(va: int, way: int | None, kvatop: Kvatop | None) -> int:
    if way is not None:
        return va - way
    assert kvatop is not None
    return kvatop(va)[0]


def _agrees(
    memory: PhysicalMemory, machine: Machine, table: SymbolTable, found: _Found, way: int | None, kvatop: Kvatop | None
) -> str:
    """Say which variable of the kernel's leads to this table; empty if none does."""
    ssym, head, read = table.get("ssym"), table.get("ksyms_symtabs"), reader(memory, way, kvatop)
    with suppress(KvmError):
        if ssym is not None:
            at = _pa(read_long(read, ssym.value, machine), way, kvatop)
            return "ssym says that they are here" if at == found.pa else ""
        if head is not None and (first := kernel_table(read, head.value, machine)) is not None:
            return "ksyms_symtabs says that they are here" if _pa(first, way, kvatop) == found.at else ""
    return ""
