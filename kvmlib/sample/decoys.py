"""What else lies in a machine's memory and looks like something of the kernel's, but isn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.elfwriter import ElfSection, loaded_elf, write_elf
from kvmlib.namelist import Symbol
from kvmlib.sample.ram import noise
from kvmlib.sample.story import BOOT, SHUTDOWN, Scene

if TYPE_CHECKING:
    from kvmlib.sample.machine import SampleMachine

#: Where a program's text is.
_TEXT = 0x400000
#: Names that a program may share with the kernel.
_PROGRAM = ("main", "environ", "version", "ostype", "osrelease", "optarg", "usage")
#: First long of struct msgbuf (sys/msgbuf.h).
MSG_MAGIC = 0x063061
#: How far the variables of the kernel before this one are from where they are now.
_MOVED = 0x1B0


def program(m: SampleMachine) -> bytes:
    """Return the first page of a program that somebody ran: an ELF file as it is on disk, program headers and all."""
    symbols = [Symbol(name, _TEXT + 16 * i, 16, "T") for i, name in enumerate(_PROGRAM)]
    text = ElfSection(".text", "T", _TEXT, 16 * len(symbols), noise("program", 16 * len(symbols)))
    return write_elf(
        symbols,
        sections=[text],
        elf_machine=m.machine.elf_machine,
        bits=8 * m.words.long_bytes,
        byteorder=m.words.order,
    )[: m.page]


def symbols(m: SampleMachine) -> bytes:
    """Return the table of the kernel that ran before the last boot: the same build, linked in another order (KARL)."""
    old = [s._replace(value=s.value - _MOVED) for s in m.kernel.symbols if s.kind != "t"]
    kept = [s for i, s in enumerate(old) if s.kind != "T" or i % 3]
    return loaded_elf(
        kept,
        sections=m.kernel.elf_sections(),
        elf_machine=m.machine.elf_machine,
        bits=8 * m.words.long_bytes,
        byteorder=m.words.order,
    )


def messages(m: SampleMachine, scene: Scene) -> bytes:
    """Return the message buffer, of one page, of the boot before the last: it was somewhere else then."""
    w = m.words
    longs = m.machine.system.msgbuf_longs
    room = m.page - longs * w.long_bytes
    text = (BOOT[m.machine.os](m.story, scene) + SHUTDOWN).encode()[-room:]
    return w.long(*(MSG_MAGIC, len(text) % room, 0, room, 0)[:longs]) + text.ljust(room, b"\0")


def header(m: SampleMachine, current: bytes) -> bytes:
    """Return the header of a dump that this machine wrote once, with half the memory: the kernel's copy of the block.

    Such a copy may well lie at a block boundary of the dump device when memory is dumped.
    """
    old = bytearray(current)
    for s in m.ram.segments:
        for n in (8, 4):
            size = s.size.to_bytes(n, m.words.order)
            if (at := old.rfind(size)) > 8:
                old[at : at + n] = (s.size // 2 // m.page * m.page).to_bytes(n, m.words.order)
                break
    return bytes(old)
