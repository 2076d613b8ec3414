"""The symbols that lie in a sample's memory: the boot loader's copy, NetBSD's list of tables, and a module's table."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile

from kvmlib.elfwriter import loaded_elf
from kvmlib.namelist import Symbol

if TYPE_CHECKING:
    from kvmlib.sample.machine import SampleMachine

#: What NetBSD's ksyms writes into each symbol as its section, and the sections that it makes up (sys/ksyms.h).
_SHBSS, _SHSTRTAB, _SECTIONS = 5, 4, 7
_SECTION_NAMES = b"\0.note.netbsd.ident\0.symtab\0.strtab\0.shstrtab\0.bss\0.SUNW_ctf\0"
#: __NetBSD_Version__ (sys/param.h) of the release that the story is about.
_VERSION = 799005900
_MODULE = "tmpfs"
#: Functions of the module that is loaded, and its variables; those that are static begin with a dash.
_MODULE_FUNCTIONS = ("tmpfs_mount", "tmpfs_lookup", "tmpfs_create", "tmpfs_read", "-tmpfs_modcmd", "-tmpfs_init")
_MODULE_DATA = ("tmpfs_vfsops", "tmpfs_vnodeop_p", "-tmpfs_sysctl_log")


def table_bytes(long_bytes: int) -> int:
    """sizeof(struct ksyms_symtab) (sys/ksyms.h)."""
    return 12 * long_bytes + 16


def header_bytes(long_bytes: int) -> int:
    """sizeof(struct ksyms_hdr): an ELF header, a program header, section headers, their names, a note."""
    ehdr, phdr, shdr = (64, 56, 64) if long_bytes == 8 else (52, 32, 40)
    return ehdr + phdr + _SECTIONS * shdr + 64 + 24


def load_symbols(m: SampleMachine) -> None:
    """Let the boot loader put the symbols behind bss, and the kernel find them."""
    kernel, w = m.kernel, m.words
    if m.openbsd:
        elf = _loaded(m, sorted(kernel.symbols, key=lambda s: not s.kind.islower()), None)
        va = kernel.loaded_va
        kernel.loaded = elf
        m.set("ssym", w.long(va), va)
        m.set("esym", w.long(va + len(elf)), va + len(elf))
    else:
        elf = _loaded(m, _in_order(kernel.symbols), _SHBSS)
        # A byte count comes first.
        kernel.loaded = w.long(len(elf)) + _sort_symbols(m, elf, kernel.loaded_va + w.long_bytes)
        m.set("ksyms_hdr", _header(m))


def _in_order(symbols: Sequence[Symbol]) -> list[Symbol]:
    """Return symbols as NetBSD sorts them."""
    return sorted(symbols, key=lambda s: (s.kind.islower(), s.name))


def _loaded(m: SampleMachine, symbols: Sequence[Symbol], st_shndx: int | None) -> bytes:
    return loaded_elf(
        symbols,
        elf_machine=m.machine.elf_machine,
        bits=8 * m.words.long_bytes,
        byteorder=m.machine.byteorder,
        sections=m.kernel.elf_sections(),
        st_shndx=st_shndx,
    )


def _tables(elf: bytes) -> dict[str, tuple[int, int]]:
    return {s.name: (s["sh_offset"], s["sh_size"]) for s in ELFFile(BytesIO(elf)).iter_sections()}


def _entry(m: SampleMachine) -> int:
    return 24 if m.words.long_bytes == 8 else 16


def _sort_symbols(m: SampleMachine, elf: bytes, va: int) -> bytes:
    """Do what NetBSD does with the symbols at boot (kern_ksyms.c): pack them to the front, and list the table.

    `elf` lies at `va`, its symbols in their new order already. Where the table got shorter, its old end stays.
    """
    w, kernel, entry = m.words, m.kernel, _entry(m)
    tables = _tables(elf)
    (sym_at, sym_size), (str_at, str_size) = tables[".symtab"], tables[".strtab"]
    symbols = elf[sym_at : sym_at + sym_size]
    table, head = kernel.va("kernel_symtab"), kernel.va("ksyms_symtabs")
    module = m.run
    where = va + sym_at, sym_size - entry, va + str_at, str_size
    m.set("kernel_symtab", _table(m, (module, head, kernel.va("netbsd")), kernel.symbols, where, 0))
    # A list's head holds the first one's address, and where the last one's pointer to the next is.
    m.set("ksyms_symtabs", w.long(table, module))
    m.module, *sizes = _module(m, module, table, str_size)
    for name, size in ("ksyms_symsz", sym_size - entry + sizes[0]), ("ksyms_strsz", str_size + sizes[1]):
        m.set(name, w.u32(size), size)
    return elf[:sym_at] + symbols[entry:] + symbols[-entry:] + elf[sym_at + sym_size :]


def _table(
    m: SampleMachine,
    links: tuple[int, int, int],
    symbols: Sequence[Symbol],
    where: tuple[int, int, int, int],
    usroffset: int,
) -> bytes:
    """Return a struct ksyms_symtab: next, prev, name; symbols' address and bytes, strings' address and bytes."""
    w, values = m.words, [s.value for s in symbols]
    symstart, symsize, strstart, strsize = where
    globals_ = sum(s.kind.isupper() for s in symbols)
    longs = w.long(*links, symstart, min(values), max(values), strstart)
    # usroffset, symsize, strsize, nglob; gone; CTF, nmap.
    return longs + w.u32(usroffset, symsize, strsize, globals_) + w.long(0, 0, 0, 0, 0)


def module_symbols(m: SampleMachine) -> list[Symbol]:
    """Return the symbols of the module that is loaded; it lies at the end of its page."""
    end = m.run + m.page
    names = [*((n, "T") for n in _MODULE_FUNCTIONS), *((n, "D") for n in _MODULE_DATA)]
    return [
        Symbol(n.removeprefix("-"), end - 16 * (len(names) - i), 16, kind.lower() if n.startswith("-") else kind)
        for i, (n, kind) in enumerate(names)
    ]


def _module(m: SampleMachine, va: int, before: int, usroffset: int) -> tuple[bytes, int, int]:
    """Return what lies at `va`, the list's entry of a loaded module, its name, its symbols and theirs; and two sizes.

    /dev/ksyms was read, which is when each module's names are counted from the end of those before it.
    """
    symbols = _in_order(module_symbols(m))
    elf = _loaded(m, symbols, _SHBSS)
    tables = _tables(elf)
    (sym_at, sym_size), (str_at, str_size) = tables[".symtab"], tables[".strtab"]
    entry, order = _entry(m), m.words.order
    rows = bytearray(elf[sym_at + entry : sym_at + sym_size])
    for at in range(0, len(rows), entry):
        st_name = int.from_bytes(rows[at : at + 4], order) + usroffset
        rows[at : at + 4] = st_name.to_bytes(4, order)
    name_va = va + table_bytes(m.words.long_bytes)
    name = _MODULE.encode().ljust(8, b"\0")
    start = name_va + len(name)
    where = start, len(rows), start + len(rows), str_size
    table = _table(m, (0, before, name_va), symbols, where, usroffset)
    return table + name + rows + elf[str_at : str_at + str_size], len(rows), str_size


def _header(m: SampleMachine) -> bytes:
    """Return ksyms_hdr, which /dev/ksyms begins with; its sizes are filled in while somebody has that open."""
    w, long = m.words, m.words.long_bytes
    ehdr, phdr, shdr = (64, 56, 64) if long == 8 else (52, 32, 40)
    out = bytearray(header_bytes(long))
    out[:20] = _loaded(m, [], None)[:20]
    out[20:24] = w.u32(1)
    sizes = [ehdr, phdr, 1, shdr, _SECTIONS, _SHSTRTAB]
    out[24 : 24 + 3 * long + 4] = w.long(0, ehdr, ehdr + phdr) + w.u32(0)
    out[28 + 3 * long : ehdr] = b"".join(size.to_bytes(2, w.order) for size in sizes)
    names = ehdr + phdr + _SECTIONS * shdr
    out[names : names + len(_SECTION_NAMES)] = _SECTION_NAMES
    out[names + 64 :] = w.u32(7, 4, 1) + b"NetBSD\0\0" + w.u32(_VERSION)
    return bytes(out)
