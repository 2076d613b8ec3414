"""NetBSD's list of symbol tables: the kernel's own, and one of each loaded module (sys/ksyms.h, kern/kern_ksyms.c).

The list is the variable ``ksyms_symtabs``. Where no symbol tells its address, the kernel's own entry in it is found
near ``ksyms_hdr``, a variable of the same file: an ELF header, and the names of /dev/ksyms's sections.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kvmlib.errors import KvmError
from kvmlib.image import Image
from kvmlib.memory import PhysicalMemory
from kvmlib.namelist import Symbol, unpack_symbols
from kvmlib.ports.base import Machine
from kvmlib.scan import hits
from kvmlib.text import decode

#: No table of symbols or of names is larger, in bytes; nor are all modules' together.
LARGE, _MODULES = 8 << 20, 8 << 20
#: Names of sections in ksyms_hdr; kernels of all ages have these four in a row.
SECTION_NAMES = b"\0.symtab\0.strtab\0.shstrtab\0.bss\0"
#: Memory on either side of ksyms_hdr in which the kernel's own entry is looked for: with KDTRACE_HOOKS there is a large
#: array between them. Bytes.
_NEAR = 1 << 20
#: A va and its pa agree within a page of this size, at least; bytes.
_PAGE = 4096
#: Tables of a list that are followed, entries that are looked at, bytes of a module's name.
_TABLES, _ENTRIES, _NAME = 1024, 16, 64
#: sd_name of the kernel's own table.
_OWN_NAME = b"netbsd\0"

Read = Callable[[int, int], bytes]
Kvatop = Callable[[int], tuple[int, int]]


class Layout(NamedTuple):
    """Sizes of C structures on a machine: a long, an Elf_Sym, and a struct ksyms_symtab up to sd_gone, in bytes."""

    long: int
    symbol: int
    order: str

    @classmethod
    def of(cls, machine: Machine) -> Layout:
        """Return the machine's."""
        order = "<" if machine.byteorder == "little" else ">"
        return cls(machine.long_bytes, 24 if machine.long_bytes == 8 else 16, order)

    @property
    def letter(self) -> str:
        """A long's in a format of struct."""
        return "Q" if self.long == 8 else "I"

    @property
    def table(self) -> struct.Struct:
        """Struct ksyms_symtab from sd_queue to sd_gone."""
        return struct.Struct(f"{self.order}7{self.letter}4iB")


class Table(NamedTuple):
    """A struct ksyms_symtab; its fields have their C names without ``sd_``, and ``next`` and ``prev`` are sd_queue."""

    next: int
    prev: int
    name: int
    symstart: int
    minsym: int
    maxsym: int
    strstart: int
    usroffset: int
    symsize: int
    strsize: int
    nglob: int
    gone: int

    def is_plausible(self, layout: Layout) -> bool:
        """Tell whether this can be a table's entry."""
        return (
            0 < self.symsize <= LARGE
            and 0 < self.strsize <= LARGE
            and 0 <= self.usroffset <= 4 * LARGE
            and self.symsize % layout.symbol == 0
            and 0 <= self.nglob * layout.symbol <= self.symsize
            and min(self.name, self.symstart, self.strstart) > 0
            and self.minsym <= self.maxsym
            and self.symstart % 4 == 0
            and self.gone <= 1
        )


class Kernel(NamedTuple):
    """The kernel's own entry, found without symbols.

    Attributes:
        pa: where it is.
        table: what it says.
        distance: va - pa of the kernel's image; None where only translation tells what is where.
    """

    pa: int
    table: Table
    distance: int | None


class Modules(NamedTuple):
    """What the list has behind the kernel's own entry.

    Attributes:
        names: of the loaded modules whose symbols could be read.
        symbols: theirs.
        problem: why it isn't all of them, in words that follow ``loaded modules:``; empty without a problem.
    """

    names: Sequence[str]
    symbols: Sequence[Symbol]
    problem: str


# -- without symbols -------------------------------------------------------------------------------------------------


def find_kernel(
    image: Image, memory: PhysicalMemory, machine: Machine, headers: Sequence[int], kvatop: Kvatop | None
) -> Iterator[Kernel]:
    """Yield what can be the kernel's own entry in ``ksyms_symtabs``.

    Args:
        image: the dump.
        memory: its memory.
        machine: NetBSD's machine that it is of.
        headers: physical addresses at which ``ksyms_hdr`` can be.
        kvatop: turns a va into (pa, bytes that follow there). Without it, and where it fails, the kernel counts as
            loaded in one piece.
    """
    layout = Layout.of(machine)
    names: list[int] | None = None
    for pa, table in itertools.islice(_near(memory, headers, layout), _ENTRIES):
        if kvatop is not None and _is_listed(memory, None, kvatop, pa, table, layout):
            yield Kernel(pa, table, None)
            continue
        if names is None:
            names = [hit.pa for hit in hits(image, memory, _OWN_NAME)]
        for distance in (table.name - name for name in names):
            if distance % _PAGE == 0 and _is_listed(memory, distance, None, pa, table, layout):
                yield Kernel(pa, table, distance)
                break


def _near(memory: PhysicalMemory, headers: Sequence[int], layout: Layout) -> Iterator[tuple[int, Table]]:
    """Yield (pa, entry) of what looks like the kernel's own entry."""
    seen = set()
    for header in headers:
        start, data = _around(memory, header, layout.long)
        count = len(data) // layout.long
        longs = struct.unpack_from(f"{layout.order}{count}{layout.letter}", data)
        # prev, name, symstart, minsym, maxsym, strstart: most of memory fails at the first of these.
        fields = zip(*(longs[i:] for i in range(1, 7)), strict=False)
        for i, (prev, name, symstart, minsym, maxsym, strstart) in enumerate(fields):
            at = i * layout.long
            if not (prev and name and symstart and strstart and minsym < maxsym):
                continue
            if at + layout.table.size > len(data) or start + at in seen:
                continue
            table = Table._make(layout.table.unpack_from(data, at))
            if table.is_plausible(layout) and not table.usroffset and not table.gone:
                seen.add(start + at)
                yield start + at, table


def _around(memory: PhysicalMemory, pa: int, align: int) -> tuple[int, bytes]:
    """Return the memory around `pa` that is there in one piece, and where it begins."""
    start = max(0, pa - _NEAR) // align * align
    for span in memory.spans(start, 2 * _NEAR):
        if span.va <= pa < span.va + span.size and span.data is not None:
            return span.va + -span.va % align, span.data[-span.va % align :]
    return start, b""


def _is_listed(
    memory: PhysicalMemory, distance: int | None, kvatop: Kvatop | None, pa: int, table: Table, layout: Layout
) -> bool:
    """Tell whether the list's head and the entry at `pa` point to each other, and the entry is called netbsd."""
    read = reader(memory, distance, kvatop)
    try:
        (first,) = struct.unpack(layout.order + layout.letter, read(table.prev, layout.long))
        at = kvatop(first)[0] if kvatop is not None else first - (distance or 0)
        return at == pa and read(table.name, len(_OWN_NAME)) == _OWN_NAME
    except KvmError:
        return False


def reader(memory: PhysicalMemory, distance: int | None, kvatop: Kvatop | None) -> Read:
    """Return what reads virtual memory: `distance` behind its pa or, with None, by `kvatop`."""

    def read(va: int, n: int) -> bytes:
        if distance is not None:
            return memory.read(va - distance, n)
        assert kvatop is not None
        pieces = []
        while n > 0:
            pa, m = kvatop(va)
            pieces.append(memory.read(pa, min(m, n)))
            va, n = va + m, n - m
        return b"".join(pieces)

    return read


# -- the list --------------------------------------------------------------------------------------------------------


def modules(read: Read, head: int, machine: Machine) -> Modules:
    """Return the modules behind the kernel's own table in the list whose head is at va `head`.

    Tables that can't be true, or are kept only for those who have /dev/ksyms open (sd_gone), are left out.
    """
    layout = Layout.of(machine)
    names: list[str] = []
    symbols: list[Symbol] = []
    problem = ""
    left = _MODULES
    entries = _entries(read, head, layout)
    try:
        for table in itertools.islice(entries, 1, _TABLES):
            if table.gone:
                continue
            name = _name(read, table.name)
            size = table.symsize + table.strsize
            found: list[Symbol] | None = None
            if table.is_plausible(layout) and size <= left:
                left -= size
                try:
                    found = _read_symbols(read, table, layout)
                except KvmError:
                    problem = f"{name}'s can't be read"
                    continue
            if found is None:
                problem = f"{name}'s can't be true"
                continue
            names.append(name)
            symbols += (s._replace(module=name) for s in found)
    except KvmError:
        problem = "their list can't be followed" + (" to its end" if names else "")
    return Modules(names, symbols, problem)


def kernel_table(read: Read, head: int, machine: Machine) -> int | None:
    """Return the va of the first symbol of the first table in the list whose head is at va `head`; None without one.

    Raises:
        KvmError: it can't be read.
    """
    table = next(_entries(read, head, Layout.of(machine)), None)
    return None if table is None else table.symstart


def read_long(read: Read, va: int, machine: Machine) -> int:
    """Return the long at `va`."""
    return int.from_bytes(read(va, machine.long_bytes), machine.byteorder)


def _entries(read: Read, head: int, layout: Layout) -> Iterator[Table]:
    """Yield the entries of the list.

    Raises:
        KvmError: one can't be read, or doesn't point back to the one before it.
    """
    back = head
    (va,) = struct.unpack(layout.order + layout.letter, read(head, layout.long))
    while va:
        table = Table._make(layout.table.unpack(read(va, layout.table.size)))
        # This also ends a list that runs in a circle.
        if table.prev != back:
            raise KvmError(f"what is at va {va:#x} is no entry of it")
        yield table
        back, va = va, table.next


def _name(read: Read, va: int) -> str:
    """Return a module's name; it may end right before memory that isn't there."""
    for n in (_NAME, -va % _PAGE):
        try:
            name = read(va, n).partition(b"\0")[0]
        except KvmError:
            continue
        return decode(name) or "?"
    return "?"


def _read_symbols(read: Read, table: Table, layout: Layout) -> list[Symbol] | None:
    """Return a table's symbols; None where there are names outside of its strings.

    Raises:
        KvmError: it can't be read.
    """
    data, strings = read(table.symstart, table.symsize), read(table.strstart, table.strsize)
    if outside(data, table.usroffset, table.usroffset + len(strings), layout):
        return None
    # In /dev/ksyms all names are in one table of strings, and are counted from where the first module's begin.
    entry = struct.Struct(f"{layout.order}I{layout.symbol - 4}s")
    rows = (entry.pack(name - table.usroffset, rest) for name, rest in entry.iter_unpack(data))
    return unpack_symbols(b"".join(rows), strings, [], 8 * layout.long, layout.order == "<")


def outside(data: bytes, first: int, stop: int, layout: Layout) -> int:
    """Count the symbols whose st_name isn't in [first, stop)."""
    entry = struct.Struct(f"{layout.order}I{layout.symbol - 4}x")
    whole = data[: len(data) // entry.size * entry.size]
    return sum(1 for (name,) in entry.iter_unpack(whole) if not first <= name < stop)
