"""What a machine is: facts, each of which a port's maintainer could check against the kernel's headers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kvmlib.kcore import PHYS_RAM_SEG, Abi, ByteOrder, CStruct, Headers, RamSeg, Read, parse_ram_segs
from kvmlib.translate import ReadPhysical, Translator

if TYPE_CHECKING:
    from kvmlib.ports.plan import SamplePlan


class System(NamedTuple):
    """What one of the two systems does the same way on all its machines.

    Attributes:
        name: ``openbsd`` or ``netbsd``.
        title: how it spells itself.
        kernel_name: how savecore(8) names the kernel: the last part of _PATH_UNIX.
        banner: what ``version`` starts with (sys/conf/newvers.sh).
        msgbuf_longs: C longs before the text in struct msgbuf (sys/msgbuf.h).
        savecore_days: crash times further away than this are unreasonable to savecore(8).
    """

    name: str
    title: str
    kernel_name: str
    banner: bytes
    msgbuf_longs: int
    savecore_days: int


OPENBSD = System("openbsd", "OpenBSD", "bsd", b"OpenBSD ", 5, 7)
NETBSD = System("netbsd", "NetBSD", "netbsd", b"NetBSD ", 4, 60)


@dataclass(frozen=True, slots=True)
class Register:
    """A register as the dump holds it.

    Attributes:
        name: the C field's or the CPU's name.
        value: the number.
        width: bits.
        meaning: one line.
        decoded: what the value says, for a person; may be empty.
    """

    name: str
    value: int
    width: int
    meaning: str
    decoded: str = ""


@dataclass(frozen=True, slots=True)
class RegisterFact:
    """A register in the CPU header.

    Attributes:
        name: the C field.
        width: bits.
        meaning: one line.
        decode: says what the value means, given it and all the header's fields.
        index: which element, where the field is an array.
        warn: says what is unusual about a value, a sentence without its full stop; mostly empty.
    """

    name: str
    width: int
    meaning: str
    decode: Callable[[int, Mapping[str, Any]], str] = lambda value, hdr: ""
    index: int | None = None
    warn: Callable[[int], str] = lambda value: ""

    @property
    def label(self) -> str:
        """What the register is called: the field's name, with its number in an array."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"

    def value(self, hdr: Mapping[str, Any]) -> int:
        """Return its number."""
        found = hdr[self.name]
        return int(found if self.index is None else found[self.index])


class FrameLayout(NamedTuple):
    """How a function's frame leads to its caller's (the ABI; where ddb has a struct for it, machine/frame.h).

    Attributes:
        fp: where the caller's frame pointer was saved, bytes from where the frame pointer points.
        pc: where the return address was saved, in the same way.
        align: such pointers are multiples of this, bytes.
        by_sp: the stack pointer leads from frame to frame: what is said about the frame pointer is meant of it.
        bias: what must be added to such a pointer to get an address, bytes (2047 on sparc64).
        outer: `pc` is meant of the caller's frame (PowerPC's LR save word).
        call: what is saved there is the address of the call, not the one behind it (SPARC's i7).
    """

    fp: int
    pc: int
    align: int
    by_sp: bool = False
    bias: int = 0
    outer: bool = False
    call: bool = False


class Pcb(NamedTuple):
    """Where ``dumppcb`` (struct pcb, machine/pcb.h) keeps what the dump code's savectx stored.

    Attributes:
        size: sizeof(struct pcb), bytes.
        fields: register -> (offset, bytes).
        sp, fp: names of the stack and frame pointer among them; `fp` is empty where none is saved.
        at_sp: registers that lie on the stack from sp on, in order, one long each; the return address is called "pc",
            and a long that is none has an empty name.
        pc: which of them is where the code goes on.
    """

    size: int
    fields: Mapping[str, tuple[int, int]]
    sp: str
    fp: str = ""
    at_sp: tuple[str, ...] = ()
    pc: str = "pc"


class Trapframe(NamedTuple):
    """Where ``ddb_regs`` (db_regs_t, machine/db_machdep.h) keeps the registers at the trap that entered ddb.

    Attributes:
        fields: register -> (offset, bytes).
        pc, sp, fp: which of them are the program counter, the stack and the frame pointer; `fp` is empty where no
            register is one by convention.
        ra: which of them holds a leaf function's return address; empty where calls put it on the stack.
    """

    fields: Mapping[str, tuple[int, int]]
    pc: str
    sp: str
    fp: str = ""
    ra: str = ""

    @property
    def size(self) -> int:
        """Bytes that the registers take."""
        return max(at + n for at, n in self.fields.values())


class Mmu(NamedTuple):
    """What a machine needs to set up its translator.

    Attributes:
        hdr: the CPU header's fields.
        read: physical memory.
        symbol: a kernel symbol's address, or None.
        cpu_data: the whole CPU segment, for tables that lie in it.
        memory_size: bytes of memory that the dump has, or should have.
    """

    hdr: Mapping[str, Any]
    read: ReadPhysical
    symbol: Callable[[str], int | None]
    cpu_data: bytes = b""
    memory_size: int = 0


class Settled(NamedTuple):
    """What a dump's own header tells about the machine it is of.

    Attributes:
        machine: the machine as this dump has it.
        headers: the headers, put right where the kernel is known to write them wrong.
        reasons: sentences about what was put right.
    """

    machine: Machine
    headers: Headers
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that dumps, as ``os/arch``.

    Attributes:
        system: which of the two systems.
        arch: the port's name.
        mid: machine id in c_midmag (sys/exec_aout.h).
        byteorder: of everything but c_midmag.
        long_bytes: sizeof(long).
        page_size: bytes; the unit of dumpsize.
        align_mask: _ALIGNBYTES (machine/param.h).
        translator: one word or two on how addresses translate.
        libkvm: what the system's own library does with such a dump, a few words.
        ours: what kvmlib does beyond that, or does otherwise, a few words.
        variant: which form of the machine this is, where one machine has several; empty for the usual one.
        forms: other forms that the header doesn't tell apart, such as the other byte order; each is tried.
        on_request: this form rests on a guess, so only who names it (``os/arch-variant``) gets it.
        settle: for machines whose header says more about itself than its contents: page size, layout, ABI.
        ports: names under sys/arch whose kernels are this machine's, besides `arch`.
        cpu_hdr: struct cpu_kcore_hdr (machine/kcore.h) up to its array of RAM segments, or None where the system has
            none.
        cpu_rest: what the CPU data holds behind what is described here.
        ram: reads the RAM segments in the CPU data; None where physical address p lies p bytes into the memory data.
        segments_offset: where in the CPU data the array of RAM segments begins, in bytes.
        evidence: given ``read(pa, n)`` and where memory is, a sentence about what in it proves that it is this
            machine's, empty if nothing does.
        known_ram: for such machines: the ranges that the kernel's own variables say it dumped, empty if they don't.
        root: the page-table root's physical address in the CPU header, where it is there.
        mmu: sets up the translator.
        register_facts: the registers in the CPU header.
        dumpmag: values of the kernel's dumpmag that mean a fresh dump.
        dumpmag_bytes: sizeof(dumpmag).
        pcb: the layout of dumppcb, or None where the dump code saves none.
        older_pcbs: that of older kernels, to be tried where the registers at today's offsets can't be any.
        trapframes: the layouts of ddb_regs, today's first; empty where ddb keeps none there, or it isn't known.
        frames: how a function's frame leads to its caller's, for each compiler that kernels were built with; empty
            where only the code tells.
        elf_machine: e_machine of its kernels (EM_*).
        samples: tells how to make sample dumps; called for that only, so that nothing else pays for these facts.
    """

    system: System
    arch: str
    mid: int
    byteorder: ByteOrder
    long_bytes: int
    page_size: int
    align_mask: int
    translator: str
    libkvm: str = ""
    ours: str = ""
    variant: str = ""
    forms: tuple[Machine, ...] = ()
    on_request: bool = False
    settle: Callable[[Machine, Headers, Read, int], Settled] | None = None
    ports: tuple[str, ...] = ()
    cpu_hdr: CStruct | None
    cpu_rest: str = "zeros up to the end of the block"
    ram: Callable[[Machine, bytes, Mapping[str, Any]], list[RamSeg]] | None
    segments_offset: Callable[[Mapping[str, Any]], int] = lambda hdr: 0
    mmu: Callable[[Mmu], Translator]
    evidence: Callable[[ReadPhysical, Sequence[RamSeg]], str] | None = None
    known_ram: Callable[[Mmu], list[RamSeg]] | None = None
    root: Callable[[Mapping[str, Any]], int] | None = None
    register_facts: tuple[RegisterFact, ...] = ()
    dumpmag: tuple[int, ...] = (0x8FCA0101,)
    dumpmag_bytes: int
    pcb: Pcb | None = None
    older_pcbs: tuple[Pcb, ...] = ()
    trapframes: tuple[Trapframe, ...] = ()
    frames: tuple[FrameLayout, ...] = ()
    elf_machine: str
    samples: Callable[[], tuple[SamplePlan, ...]] = tuple

    @property
    def os(self) -> str:
        """``openbsd`` or ``netbsd``."""
        return self.system.name

    @property
    def name(self) -> str:
        """``os/arch``."""
        return f"{self.system.name}/{self.arch}"

    @property
    def abi(self) -> Abi:
        """What the compiler makes of the headers."""
        return Abi(self.mid, self.byteorder, self.align_mask)

    @property
    def least_cpu_data(self) -> int:
        """Bytes that the CPU segment must have at least."""
        return self.cpu_hdr.size if self.cpu_hdr else 0

    def parse_cpu_hdr(self, cpu_data: bytes) -> dict[str, Any]:
        """Return the CPU header's fields by their C names; empty where there is no such structure."""
        return self.cpu_hdr.parse(cpu_data, self.byteorder) if self.cpu_hdr else {}

    def registers(self, hdr: Mapping[str, Any]) -> list[Register]:
        """Return the CPU header's registers, decoded."""
        return [
            Register(f.label, f.value(hdr), f.width, f.meaning, f.decode(f.value(hdr), hdr))
            for f in self.register_facts
        ]

    def __repr__(self) -> str:
        """Show the name only: the rest is long."""
        return f"<Machine {self.name}>"


def counted_ram(count: str) -> Callable[[Machine, bytes, Mapping[str, Any]], list[RamSeg]]:
    """The CPU header's field `count` says how many RAM segments there are."""

    def ram(machine: Machine, cpu_data: bytes, hdr: Mapping[str, Any]) -> list[RamSeg]:
        return parse_ram_segs(cpu_data, machine.byteorder, machine.segments_offset(hdr), hdr[count], count)

    return ram


def listed_ram(
    offset: int, most: int | None = None, *, keep_empty: bool = False
) -> Callable[[Machine, bytes, Mapping[str, Any]], list[RamSeg]]:
    """RAM segments from byte `offset` of the CPU data on, without a count: the first of size 0 ends the list.

    Args:
        offset: bytes from the start of the CPU data.
        most: entries that the array has; None if it goes on to the end of the CPU data.
        keep_empty: entries of size 0 are part of the list, and don't end it.
    """

    def ram(machine: Machine, cpu_data: bytes, hdr: Mapping[str, Any]) -> list[RamSeg]:
        room = max(0, len(cpu_data) - offset) // PHYS_RAM_SEG.size
        count = room if most is None else min(most, room)
        segments = parse_ram_segs(cpu_data, machine.byteorder, offset, count, "the number of RAM segments")
        if keep_empty:
            return segments
        return list(itertools.takewhile(lambda s: s.size, segments))

    return ram


def register_array(
    name: str, count: int, width: int, meaning: str, decode: Callable[[int, Mapping[str, Any], int], str]
) -> tuple[RegisterFact, ...]:
    """The registers of an array field; `decode` gets the value, the header's fields and the index."""

    def one(i: int) -> RegisterFact:
        return RegisterFact(name, width, meaning, lambda value, hdr: decode(value, hdr, i), i)

    return tuple(one(i) for i in range(count))
