"""The kernel's symbols from the dump itself: the table that the boot loader put into memory.

Both systems' boot loaders leave an ELF header, section headers, symbols and strings behind the kernel's bss
(lib/libsa/loadfile_elf.c, loadfile_elf32.c). It is found by searching physical memory, so that no translation is
needed; NetBSD's ksyms sorts the symbols in place later (kern/kern_ksyms.c) and leaves the old table's end behind.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import NamedTuple

from kvmlib.errors import NotInDumpError, TruncatedError
from kvmlib.image import Image
from kvmlib.memory import PhysicalMemory
from kvmlib.namelist import EM_ALPHA, SymbolTable, section_kind, unpack_symbols
from kvmlib.ports.base import Machine
from kvmlib.scan import hits

_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS = 1, 2, 3, 8
_TYPES = {_SHT_NOBITS: "SHT_NOBITS"}
#: Section headers that a kernel may have.
_SECTIONS = range(3, 65)
#: A kernel has more symbols than this, and no table of it is larger, in bytes.
_FEW = 20
_LARGE = 64 << 20
#: Tables that are read at most: memory that is full of them says nothing.
_TRIED = 16
#: Names that every kernel has, and nothing else has all of.
_KERNELS_OWN = ("version", "ostype", "osrelease", "panicstr", "msgbufp", "dumpmag")


@dataclass(frozen=True, slots=True)
class Carved:
    """A symbol table in memory.

    Attributes:
        table: the symbols.
        pa: where the ELF header is.
        score: 0 to 100, how sure it is that they are a kernel's.
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
    """ELF of one class and byte order: struct formats of the two headers, and their sizes."""

    ehdr: struct.Struct
    shdr: struct.Struct


def _form(bits: int, little: bool) -> _Form:
    order = "<" if little else ">"
    if bits == 64:
        return _Form(struct.Struct(order + "16sHHIQQQIHHHHHH"), struct.Struct(order + "IIQQQQIIQQ"))
    return _Form(struct.Struct(order + "16sHHIIIIIHHHHHH"), struct.Struct(order + "IIIIIIIIII"))


def carve(image: Image, memory: PhysicalMemory, machine: Machine) -> list[Carved]:
    """Return the symbol tables in memory that can be a kernel's, the best first."""
    bits, little = 8 * machine.long_bytes, machine.byteorder == "little"
    ident = b"\x7fELF" + bytes((bits // 32, 1 if little else 2, 1))
    form = _form(bits, little)
    found: list[Carved] = []
    for hit in itertools.islice(
        (h for h in hits(image, memory, ident, align=4) if _loaded(memory, h.pa, form)), _TRIED
    ):
        try:
            if (one := _read(memory, hit.pa, machine, form)) is not None:
                found.append(one)
        except (NotInDumpError, TruncatedError):
            continue  # A table that isn't whole is none.
    # Of two as good as each other the larger is the later: older ones are overwritten from the front.
    found.sort(key=lambda c: (-c.score, -len(c.table), c.pa))
    return found


def _loaded(memory: PhysicalMemory, pa: int, form: _Form) -> bool:
    """Tell whether an ELF header is one as the boot loader leaves it: it takes the program headers away.

    Programs in the page cache have them.
    """
    try:
        head = form.ehdr.unpack(memory.read(pa, form.ehdr.size))
    except (NotInDumpError, TruncatedError):
        return False
    _, _, _, _, _, phoff, shoff, _, _, _, phnum, shentsize, shnum, _ = head
    return phoff == 0 and phnum == 0 and shoff == form.ehdr.size and shentsize == form.shdr.size and shnum in _SECTIONS


def _read(memory: PhysicalMemory, pa: int, machine: Machine, form: _Form) -> Carved | None:
    head = form.ehdr.unpack(memory.read(pa, form.ehdr.size))
    e_machine, shnum = head[2], head[12]
    if _name(e_machine) != machine.elf_machine:
        return None
    raw = memory.read(pa + form.ehdr.size, shnum * form.shdr.size)
    sections = [_section(row) for row in form.shdr.iter_unpack(raw)]
    for s in sections:
        if s.type == _SHT_SYMTAB and s.link < shnum and sections[s.link].type == _SHT_STRTAB:
            return _judge(memory, pa, machine, sections, s)
    return None


def _section(row: tuple[int, ...]) -> _Section:
    _, type_, flags, va, offset, size, link, _, _, _ = row
    return _Section(type_, flags, va, offset, size, link)


def _name(e_machine: int) -> str:
    from elftools.elf.enums import ENUM_E_MACHINE

    if e_machine == EM_ALPHA:
        return "EM_ALPHA"
    return next((name for name, number in ENUM_E_MACHINE.items() if number == e_machine), "")


def _judge(
    memory: PhysicalMemory, pa: int, machine: Machine, sections: list[_Section], symtab: _Section
) -> Carved | None:
    strtab = sections[symtab.link]
    if not (symtab.offset and strtab.offset and 0 < symtab.size <= _LARGE and 0 < strtab.size <= _LARGE):
        return None
    data, strings = (memory.read(pa + s.offset, s.size) for s in (symtab, strtab))
    kinds = [section_kind(_TYPES.get(s.type, ""), s.flags) for s in sections]
    bits = 8 * machine.long_bytes
    unpacked = unpack_symbols(data, strings, kinds, bits, machine.byteorder == "little")
    # The end of a table that was packed in place is there twice.
    symbols = list(dict.fromkeys(unpacked))
    if len(symbols) < _FEW:
        return None
    source = f"the dump itself, at pa {pa:#x}"
    table = SymbolTable(symbols, source, None, machine.elf_machine)
    own = [name for name in _KERNELS_OWN if table.get(name) is not None]
    if "version" not in own:
        return None
    reasons = (
        f"{len(symbols)} symbols behind an ELF header at pa {pa:#x}, as the boot loader leaves them",
        f"{len(own)} of {len(_KERNELS_OWN)} names that every kernel has are there",
    )
    return Carved(table, pa, 40 + 10 * len(own), reasons)
