"""Symbols of a kernel, from an ELF file (nlist(3)).

pyelftools finds the sections; the symbol table itself (50,000 entries and more) is unpacked in one go.
"""

from __future__ import annotations

import bisect
import fnmatch
import functools
import io
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from kvmlib.errors import FormatError, KvmError, SymbolError
from kvmlib.packing import METHODS, method_of, pieces
from kvmlib.text import printable

#: An address further behind a symbol than this, in bytes, has nothing to do with it.
_NEAR = 1 << 20
#: Both name an ELF note of their kernels after themselves (sys/conf), and begin ``version`` with their name.
_SYSTEMS = {"openbsd": b"OpenBSD ", "netbsd": b"NetBSD "}
#: e_machine that pyelftools has no name for: alpha's files have kept the number from the time before there was one.
EM_ALPHA = 0x9026
_SHN_UNDEF = 0
_SHN_ABS = 0xFFF1
_STT_SECTION = 3
_STT_FILE = 4
_STT_FUNC = 2
_STB_LOCAL = 0
_SHF_WRITE = 1
_SHF_EXECINSTR = 4
#: No name is longer, in bytes; in a damaged table each could be as long as all the strings.
_NAME_MAX = 512
#: A packed kernel file is unpacked in memory, so there must be an end to it, in bytes.
_KERNEL_MAX = 512 << 20


class Symbol(NamedTuple):
    """A symbol of the kernel.

    Attributes:
        name: as it stands in the table; untrusted text.
        value: its virtual address.
        size: bytes, 0 where the table doesn't say.
        kind: nm(1)'s letter: T text, D data, B bss, R read-only data, A absolute; lower case when local.
        module: the loaded module that it belongs to (NetBSD), empty where it is the kernel's own.
    """

    name: str
    value: int
    size: int
    kind: str
    module: str = ""

    @property
    def label(self) -> str:
        """The name, and the module in brackets; untrusted text too."""
        return _label(self.name, self.module)

    def plus(self, offset: int) -> str:
        """Write symbol+offset, with the module in brackets; printable."""
        return printable(_label(self.name + (f"+{offset:#x}" if offset else ""), self.module))


class SymbolTable:
    """Symbols with look-up by name and by address.

    Attributes:
        source: where they come from, in words for a person.
        path: the file they come from, or None.
        elf_machine: e_machine as pyelftools names it, or None.
        system: ``openbsd`` or ``netbsd`` where the kernel file says so, or None.
        elf_bits, byteorder: the kernel file's class (32 or 64) and byte order, or None.
    """

    def __init__(
        self,
        symbols: Iterable[Symbol],
        source: str,
        path: str | None = None,
        elf_machine: str | None = None,
    ) -> None:
        """Take the symbols over."""
        self.system: str | None = None
        self.elf_bits: int | None = None
        self.byteorder: str | None = None
        self.source = source
        self.path = path
        self.elf_machine = elf_machine
        self._symbols = list(symbols)

    def __len__(self) -> int:
        """Count the symbols."""
        return len(self._symbols)

    def __iter__(self) -> Iterator[Symbol]:
        """Iterate in order of address."""
        return iter(self._by_value)

    @functools.cached_property
    def _by_value(self) -> list[Symbol]:
        return sorted(self._symbols, key=lambda s: (s.value, s.kind.islower(), s.name))

    @functools.cached_property
    def _values(self) -> list[int]:
        return [s.value for s in self._by_value]

    @functools.cached_property
    def _by_name(self) -> dict[str, Symbol]:
        table: dict[str, Symbol] = {}
        for s in self._symbols:
            # The kernel's own symbol wins over a module's of the same name, and a global one over a static one.
            known = table.get(s.name)
            if known is None or (bool(s.module), s.kind.islower()) < (bool(known.module), known.kind.islower()):
                table[s.name] = s
        return table

    def with_modules(self, symbols: Sequence[Symbol], source: str) -> SymbolTable:
        """Return a table that has these symbols of loaded modules too; `source` says where all of them come from."""
        table = SymbolTable([*self._symbols, *symbols], source, self.path, self.elf_machine)
        table.system, table.elf_bits, table.byteorder = self.system, self.elf_bits, self.byteorder
        return table

    def get(self, name: str) -> Symbol | None:
        """Find a symbol; as in nlist(3) a leading underscore is optional, on either side."""
        table = self._by_name
        return table.get(name) or table.get(name.removeprefix("_")) or table.get("_" + name)

    def at(self, va: int) -> tuple[Symbol, int] | None:
        """Return the symbol that `va` lies in or behind, and the distance in bytes; None where there is none."""
        i = bisect.bisect_right(self._values, va) - 1
        while i >= 0 and self._by_value[i].kind in "Aa":
            i -= 1
        if i < 0:
            return None
        found = self._by_value[i]
        # Of several names at one address the first (global before static) is the one to show.
        while i > 0 and self._values[i - 1] == found.value and self._by_value[i - 1].kind not in "Aa":
            i -= 1
            found = self._by_value[i]
        return found, va - found.value

    def match(self, pattern: str) -> list[Symbol]:
        """Return symbols whose name contains `pattern`, or matches it when it has wildcards; in order of address.

        Without wildcards the name of the module counts as well.
        """
        wanted = pattern.lower()
        if not any(c in wanted for c in "*?["):
            return [s for s in self._by_value if wanted in s.label.lower()]
        return [s for s in self._by_value if fnmatch.fnmatchcase(s.name.lower(), wanted)]

    def describe(self, va: int) -> str:
        """Name an address as symbol+offset, printable, where a symbol lies close before it; empty otherwise."""
        found = self.at(va)
        if found is None or found[1] >= max(found[0].size, _NEAR):
            return ""
        return found[0].plus(found[1])


def _label(name: str, module: str) -> str:
    return f"{name} [{module}]" if module else name


def resolve(text: str, symbols: SymbolTable, registers: Mapping[str, int]) -> int:
    """Return the address that a person wrote: 0x1234, symbol, symbol+0x10, register name, or plain hex digits.

    A symbol may have its module behind it, as `SymbolTable.describe` writes it: symbol+0x10 [module].

    Raises:
        SymbolError: it is none of these.
    """
    plain, module = _split_module(text.strip())
    word, sign, tail = _split_offset(plain)
    try:
        if module:
            base = next(s.value for s in symbols if (s.name, s.module) == (word, module))
        elif word.lower().startswith("0x"):
            base = int(word, 16)
        elif (symbol := symbols.get(word)) is not None:
            base = symbol.value
        else:
            base = registers[word] if word in registers else int(word, 16)
        return base + (int(sign + tail, 16) if sign else 0)
    except (ValueError, StopIteration):
        what = printable(repr(text.strip()))
    raise SymbolError(f"{what} is neither an address (0x...), nor a symbol, nor a register of this dump")


def _split_module(text: str) -> tuple[str, str]:
    """Split symbol [module]."""
    symbol, found, module = text.partition(" [")
    return (symbol, module[:-1]) if found and module.endswith("]") else (text, "")


def _split_offset(text: str) -> tuple[str, str, str]:
    """Split symbol+offset; kgdb and ddb print offsets in hex, so a bare number is hex too."""
    for sign in "+-":
        word, found, tail = text.partition(sign)
        if found and word:
            return word.strip(), sign, tail.strip()
    return text, "", ""


NO_SYMBOLS = SymbolTable((), "none: no kernel file was given, none lies beside the dump, and no symbols are in it")


def read_elf(path: str | os.PathLike[str], source: str | None = None) -> SymbolTable:
    """Read the symbol table of a kernel file.

    Raises:
        KvmError: the file can't be read.
        FormatError: it isn't ELF, is damaged, or has no symbols (stripped).
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    name = printable(os.fsdecode(path))
    try:
        with open_kernel(path) as f:
            elf = ELFFile(f)
            section = elf.get_section_by_name(".symtab")
            if section is None or section["sh_type"] != "SHT_SYMTAB":
                raise FormatError(f"{name} has no symbols: it was stripped")
            kinds = [section_kind(s["sh_type"], s["sh_flags"]) for s in elf.iter_sections()]
            strings = elf.get_section(section["sh_link"]).data()
            symbols = unpack_symbols(section.data(), strings, kinds, elf.elfclass, elf.little_endian)
            e_machine = elf["e_machine"]
            e_machine = "EM_ALPHA" if e_machine == EM_ALPHA else str(e_machine)
            table = SymbolTable(symbols, source or name, os.fsdecode(path), e_machine)
            table.elf_bits = elf.elfclass
            table.byteorder = "little" if elf.little_endian else "big"
            table.system = _system_of(elf, table.get("version"))
            return table
    except OSError as e:
        raise KvmError(f"cannot read the kernel file {name}: {e.strerror or printable(str(e))}") from e
    except FormatError:
        raise
    except ELFError as e:
        raise FormatError(f"{name} is not a kernel file: an ELF file was expected, {printable(str(e)).lower()}") from e
    except Exception as e:  # pyelftools raises whatever its parser met in a damaged file.
        raise FormatError(f"{name} is a damaged ELF file: {type(e).__name__} while reading its symbols") from e


def open_kernel(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a kernel file, unpacked in memory where savecore -z packed it.

    Raises:
        FormatError: its packed data is damaged, or can't be read here.
        OSError: it can't be read.
    """
    name, unpacked = printable(os.fsdecode(path)), io.BytesIO()
    with open(path, "rb") as f:
        how = method_of(f.read(4))
        if how is None:
            return open(path, "rb")
        f.seek(0)
        for piece in pieces(f, name, how):
            unpacked.write(piece)
            if unpacked.tell() > _KERNEL_MAX:
                raise FormatError(f"{name} unpacks to more than {_KERNEL_MAX >> 20} MiB, too much for a kernel")
    unpacked.seek(0)
    return unpacked


def _system_of(elf: Any, version: Symbol | None) -> str | None:
    """Tell whose kernel it is: by its note, else by its variable ``version``."""
    for system in _SYSTEMS:
        if elf.get_section_by_name(f".note.{system}.ident") is not None:
            return system
    if version is None:
        return None
    for section in elf.iter_sections():
        at = version.value - section["sh_addr"]
        if section["sh_type"] == "SHT_PROGBITS" and section["sh_addr"] and 0 <= at < section["sh_size"]:
            text = section.data()[at : at + 16]
            return next((system for system, banner in _SYSTEMS.items() if text.startswith(banner)), None)
    return None


def section_kind(sh_type: str, sh_flags: int) -> str:
    """Return nm(1)'s letter for the symbols of a section with this type (as pyelftools names it) and these flags."""
    if sh_flags & _SHF_EXECINSTR:
        return "T"
    if sh_type == "SHT_NOBITS":
        return "B"
    return "D" if sh_flags & _SHF_WRITE else "R"


def unpack_symbols(data: bytes, strings: bytes, kinds: list[str], elfclass: int, little: bool) -> list[Symbol]:
    """Unpack a symbol table; `kinds` has nm(1)'s letter of each section. Names outside `strings` are left out."""
    order = "<" if little else ">"
    if elfclass == 64:
        entry = struct.Struct(order + "IBBHQQ")
        rows = ((n, i, x, v, s) for n, i, _, x, v, s in entry.iter_unpack(data[: len(data) // entry.size * entry.size]))
    else:
        entry = struct.Struct(order + "IIIBBH")
        rows = ((n, i, x, v, s) for n, v, s, i, _, x in entry.iter_unpack(data[: len(data) // entry.size * entry.size]))
    found = []
    for st_name, st_info, st_shndx, value, size in rows:
        if st_name == 0 or st_shndx == _SHN_UNDEF or st_info & 0xF in (_STT_SECTION, _STT_FILE):
            continue
        end = strings.find(b"\0", st_name, st_name + _NAME_MAX)
        if end <= st_name:
            continue
        if st_shndx == _SHN_ABS:
            kind = "A"
        elif st_info & 0xF == _STT_FUNC:
            # The type before the section: NetBSD's ksyms table puts every symbol into one section.
            kind = "T"
        else:
            kind = kinds[st_shndx] if st_shndx < len(kinds) else "D"
        if st_info >> 4 == _STB_LOCAL:
            kind = kind.lower()
        found.append(Symbol(strings[st_name:end].decode("utf-8", "backslashreplace"), value, size, kind))
    return found


def kernel_beside(path: str) -> str | None:
    """Return the kernel file that savecore(8) saved beside a core, or a sample beside its image; None if there is none.

    bsd.N.core goes with bsd.N, netbsd.N.core with netbsd.N, either of them packed or not; NAME.img goes with NAME.elf.
    """
    packed = ("", *(m.suffix for m in METHODS))
    name = next((path.removesuffix(end) for end in packed[1:] if path.endswith(end)), path)
    if name.endswith(".core"):
        kernel = name.removesuffix(".core")
        candidates = [kernel + end for end in packed]
    elif name.endswith(".img"):
        candidates = [name.removesuffix(".img") + ".elf"]
    else:
        return None
    return next((c for c in candidates if Path(c).is_file()), None)
