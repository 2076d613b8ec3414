"""An ELF file that holds a kernel's symbols, and its sections' contents where they are known.

What comes out is for nm(1), gdb and `namelist`: symbols, their sections, and program headers for what has contents.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kvmlib.errors import FormatError
from kvmlib.namelist import EM_ALPHA, Symbol
from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_ET_EXEC = 2
_PT_LOAD = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS = 1, 2, 3, 8
_SHF_ALLOC = 2
_SHF = {"T": 2 | 4, "R": 2, "D": 2 | 1, "B": 2 | 1}
_PF = {"T": 4 | 1, "R": 4, "D": 4 | 2, "B": 4 | 2}
_NAMES = {"T": ".text", "R": ".rodata", "D": ".data", "B": ".bss"}
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC = 0, 1, 2
_SHN_ABS = 0xFFF1
_ALIGN = 16
#: Sections that are made here: symbols, their names, the sections' names.
_TABLES = 3


class ElfSection(NamedTuple):
    """A section of the kernel.

    Attributes:
        name: such as ``.text``.
        kind: T, R, D or B, as nm(1) calls it.
        va: where it begins.
        size: bytes in memory.
        data: its contents, empty when only its place is known.
        pa: where the boot loader puts it, if that differs from `va`.
    """

    name: str
    kind: str
    va: int
    size: int
    data: bytes = b""
    pa: int | None = None


class _Header(NamedTuple):
    """A section header before the sizes of C types matter."""

    name: str
    type: int
    flags: int
    va: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    align: int = 1
    entsize: int = 0


def write_elf(
    symbols: Iterable[Symbol],
    *,
    elf_machine: str,
    bits: int,
    byteorder: ByteOrder,
    sections: Sequence[ElfSection] = (),
    flags: int = 0,
    entry: int = 0,
) -> bytes:
    """Make a kernel file of `symbols`.

    Args:
        symbols: local ones (lower-case kind) may stand anywhere; ELF wants them first, so they are sorted.
        elf_machine: e_machine as pyelftools names it, such as ``EM_X86_64``.
        bits: 32 or 64.
        byteorder: of the machine.
        sections: where the symbols belong; for those that lie in none, sections without contents are made.
        flags: e_flags.
        entry: e_entry.

    Raises:
        FormatError: the address or size of a symbol has more bits.
    """
    elf = _Elf(elf_machine, bits, byteorder, flags, entry)
    ordered = sorted(symbols, key=lambda s: not s.kind.islower())
    for s in ordered:
        if not 0 <= s.value < 1 << bits or not 0 <= s.size < 1 << bits:
            raise FormatError(
                f"{printable(s.name)} at {s.value:#x} with {s.size:#x} bytes can't be in an ELF file of {bits} bits"
            )
    sections = [*sections, *_sections_for(ordered, sections, (1 << bits) - 1)]
    loaded = [s for s in sections if s.data]
    out = bytearray(elf.ehdr_size + elf.phdr_size * len(loaded))
    offsets = {s: _append(out, s.data, _ALIGN) for s in sections}
    headers = [*_headers(sections, offsets), *_tables(elf, out, ordered, sections)]
    sh_off = _append(out, elf.section_headers(headers), _ALIGN)
    program = b"".join(elf.program_header(s, offsets[s]) for s in loaded)
    start = elf.header(len(loaded), sh_off, len(headers)) + program
    out[: len(start)] = start
    return bytes(out)


def loaded_elf(
    symbols: Sequence[Symbol],
    *,
    elf_machine: str,
    bits: int,
    byteorder: ByteOrder,
    sections: Sequence[ElfSection],
    st_shndx: int | None = None,
) -> bytes:
    """Make what the boot loader leaves behind a kernel in memory: its ELF header, section headers and symbols.

    Source: lib/libsa/loadfile_elf.c of both systems. There are no program headers, the section headers come right after
    the ELF header, and only symbols and strings have a place, counted from the ELF header. `symbols` stay in the order
    they have; `st_shndx` replaces each one's section, as NetBSD's ksyms does.
    """
    elf = _Elf(elf_machine, bits, byteorder)
    headers = _headers(sections, {})
    out = bytearray(elf.ehdr_size + elf.shdr_size * (len(headers) + _TABLES))
    headers += _tables(elf, out, symbols, sections, st_shndx, _SHF_ALLOC)
    start = elf.header(0, elf.ehdr_size, len(headers)) + elf.section_headers(headers)
    out[: len(start)] = start
    return bytes(out)


def parse_symbols(text: str) -> list[Symbol]:
    """Read symbols as people write them down: nm(1)'s output, or lines of a name and an address (``panic 0xd024d3f9``).

    Empty lines and lines that begin with # are skipped. Where a line gives no kind, the symbol counts as text.

    Raises:
        FormatError: a line is neither; it is named.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 2 and re.fullmatch("0[xX][0-9a-fA-F]+", words[1]):
            found.append(Symbol(words[0], int(words[1], 16), 0, "T"))
        elif len(words) in (3, 4) and all(re.fullmatch("[0-9a-fA-F]+", w) for w in (words[0], *words[1:-2])):
            size = int(words[1], 16) if len(words) == 4 else 0
            found.append(Symbol(words[-1], int(words[0], 16), size, words[-2][:1]))
        else:
            raise FormatError(
                f"line {number} is no symbol: a name and an address (0x...) or a line of nm(1) was expected, "
                f"{printable(repr(line[:60]))} is there"
            )
    return found


def _sections_for(symbols: Sequence[Symbol], sections: Sequence[ElfSection], top: int) -> list[ElfSection]:
    """Make a section without contents for each kind of symbol, of each module, that lies outside of all `sections`.

    None goes on behind `top`, whatever size its symbols claim.
    """
    ends: dict[tuple[str, str], list[int]] = {}
    for s in symbols:
        kind = s.kind.upper()
        if kind in _NAMES and _section_of(s, sections) is None:
            ends.setdefault((kind, s.module), []).extend((s.value, s.value + max(s.size, 1)))
    ranges = sorted((min(v), max(v), *of) for of, v in ends.items())
    # Modules lie far from the kernel and from each other.
    return [
        ElfSection(_NAMES[kind] + (f".{module}" if module else ""), kind, low, min(high, top) - low)
        for low, high, kind, module in ranges
    ]


def _section_of(symbol: Symbol, sections: Sequence[ElfSection]) -> int | None:
    kind = symbol.kind.upper()
    inside = [i for i, s in enumerate(sections) if s.va <= symbol.value <= s.va + s.size]
    same = [i for i in inside if sections[i].kind == kind]
    return next(iter(same), None)


@dataclass(frozen=True, slots=True)
class _Elf:
    """The structures of elf(5) for one class and byte order."""

    machine: str
    bits: int
    byteorder: ByteOrder
    flags: int = 0
    entry: int = 0

    def pack(self, form32: str, form64: str, *values: int | bytes) -> bytes:
        order = "<" if self.byteorder == "little" else ">"
        return struct.pack(order + (form64 if self.bits == 64 else form32), *values)

    @property
    def ehdr_size(self) -> int:
        return 64 if self.bits == 64 else 52

    @property
    def phdr_size(self) -> int:
        return 56 if self.bits == 64 else 32

    @property
    def shdr_size(self) -> int:
        return 64 if self.bits == 64 else 40

    def header(self, phnum: int, sh_off: int, shnum: int) -> bytes:
        from elftools.elf.enums import ENUM_E_MACHINE

        ident = b"\x7fELF" + bytes([self.bits // 32, 1 if self.byteorder == "little" else 2, 1]) + bytes(9)
        return self.pack(
            "16sHHIIIIIHHHHHH",
            "16sHHIQQQIHHHHHH",
            ident,
            _ET_EXEC,
            EM_ALPHA if self.machine == "EM_ALPHA" else ENUM_E_MACHINE[self.machine],
            1,
            self.entry,
            self.ehdr_size if phnum else 0,
            sh_off,
            self.flags,
            self.ehdr_size,
            self.phdr_size if phnum else 0,
            phnum,
            self.shdr_size,
            shnum,
            shnum - 1,
        )

    def section_headers(self, headers: Iterable[_Header]) -> bytes:
        """All section headers; the last one is that of the section names."""
        headers = list(headers)
        at = _strings(h.name for h in headers)[1]
        return b"".join(self.pack("IIIIIIIIII", "IIQQQQIIQQ", at[h.name], *h[1:]) for h in headers)

    def program_header(self, s: ElfSection, offset: int) -> bytes:
        pa, size, flags = s.va if s.pa is None else s.pa, len(s.data), _PF[s.kind]
        if self.bits == 64:
            return self.pack("", "IIQQQQQQ", _PT_LOAD, flags, offset, s.va, pa, size, size, 1)
        return self.pack("IIIIIIII", "", _PT_LOAD, offset, s.va, pa, size, size, flags, 1)

    def symbol(self, name: int, s: Symbol, shndx: int) -> bytes:
        kind = s.kind.upper()
        # A symbol without a size came from a list that doesn't know what it is.
        stt = _STT_NOTYPE if kind == "A" or not s.size else _STT_FUNC if kind == "T" else _STT_OBJECT
        info = (0 if s.kind.islower() else 1) << 4 | stt
        if self.bits == 64:
            return self.pack("", "IBBHQQ", name, info, 0, shndx, s.value, s.size)
        return self.pack("IIIBBH", "", name, s.value, s.size, info, 0, shndx)


def _headers(sections: Iterable[ElfSection], offsets: Mapping[ElfSection, int]) -> list[_Header]:
    """Section headers of the kernel's own sections, behind the empty one that comes first."""
    headers = [_Header("", 0, 0, 0, 0, 0, align=0)]
    for s in sections:
        kind = _SHT_PROGBITS if s.data else _SHT_NOBITS
        align = 1 if s.va % _ALIGN else _ALIGN
        headers.append(_Header(s.name, kind, _SHF[s.kind], s.va, offsets.get(s, 0), len(s.data) or s.size, align=align))
    return headers


def _tables(
    elf: _Elf,
    out: bytearray,
    symbols: Sequence[Symbol],
    sections: Sequence[ElfSection],
    st_shndx: int | None = None,
    flags: int = 0,
) -> list[_Header]:
    """Append the symbols, their names and the sections' names to `out`, and return the headers of these three."""
    long = elf.bits // 8
    strings, at = _strings(s.name for s in symbols)
    where = [_section_of(s, sections) for s in symbols]
    shndx = [st_shndx if st_shndx is not None else _SHN_ABS if w is None else w + 1 for w in where]
    rows = [elf.symbol(at[s.name], s, x) for s, x in zip(symbols, shndx, strict=True)]
    entry = 24 if elf.bits == 64 else 16
    symtab = bytes(entry) + b"".join(rows)
    # sh_info: the number of the first symbol that is global.
    locals_first = next((i for i, s in enumerate(symbols) if not s.kind.islower()), len(symbols))
    names = _strings([*(s.name for s in sections), ".symtab", ".strtab", ".shstrtab"])[0]
    link = len(sections) + 2
    sym_at = _append(out, symtab, long)
    return [
        _Header(".symtab", _SHT_SYMTAB, flags, 0, sym_at, len(symtab), link, 1 + locals_first, long, entry),
        _Header(".strtab", _SHT_STRTAB, flags, 0, _append(out, strings, long), len(strings)),
        _Header(".shstrtab", _SHT_STRTAB, flags, 0, _append(out, names, long), len(names)),
    ]


def _strings(names: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    """Return a string table and where in it each name is."""
    table = bytearray(b"\0")
    at = {"": 0}
    for name in names:
        if name not in at:
            at[name] = len(table)
            table += name.encode("utf-8", "surrogateescape") + b"\0"
    return bytes(table), at


def _append(out: bytearray, data: bytes, align: int) -> int:
    out += bytes(-len(out) % align)
    offset = len(out)
    out += data
    return offset
