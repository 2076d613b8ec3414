"""What a plausible kernel of a machine looks like in memory: the facts from which `sample` makes a dump.

Nothing here is needed for reading a dump.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from kvmlib.translate.build import Alloc, TableBuilder, Tables
from kvmlib.translate.linear import Window

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder, RamSeg
    from kvmlib.ports.base import Pcb
    from kvmlib.translate.radix import Paging

#: What a range of addresses is for; each machine has its own bits to say so.
Use = Literal["text", "rodata", "data", "device"]


class Wanted(NamedTuple):
    """A range that shall be mapped, in pages of 1 << `shift` bytes, the smallest where it is None."""

    va: int
    pa: int
    size: int
    use: Use
    shift: int | None = None


class Oddities(NamedTuple):
    """Entries that no sane kernel has, but a dump may: places where a translation must fail, and say why.

    Attributes:
        lost_table: (va, pa): the last table for this va is at a pa that isn't in the dump; None where there is one
            table only.
        stale: (va, entry): the last table's entry isn't valid, though it isn't zero.
    """

    lost_table: tuple[int, int] | None
    stale: tuple[int, int]


class SpacePlan(Protocol):
    """How an address space is written down for the CPU.

    Attributes:
        variant: which of the machine's forms this is, empty for the usual one; part of the sample's name.
        page: bytes of the kernel's page.
        image_shift: page size (as a shift) in which the kernel maps its own text and constants.
        direct_shifts: page sizes of the map of all RAM, below and above 4 GiB.
        windows: what is mapped without tables.
        levels: how many levels of tables there are; 0 where only windows are mapped.
        extra: further ranges to map, such as a large page of each size.
        translates: whether a reader of the dump can translate at all.
    """

    @property
    def variant(self) -> str:
        """See above."""

    @property
    def page(self) -> int:
        """See above."""

    @property
    def image_shift(self) -> int:
        """See above."""

    @property
    def direct_shifts(self) -> tuple[int, int]:
        """See above."""

    @property
    def windows(self) -> tuple[Window, ...]:
        """See above."""

    @property
    def levels(self) -> int:
        """See above."""

    @property
    def extra(self) -> tuple[Wanted, ...]:
        """See above."""

    @property
    def translates(self) -> bool:
        """See above."""

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write the tables for `wanted`, none of which lies in a window."""


def in_window(windows: Sequence[Window], va: int) -> int | None:
    """Return the pa that the first window with `va` in it gives it, None where there is none."""
    return next((w.pa + va - w.start for w in windows if w.start <= va < w.stop), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RadixPlan:
    """An address space in radix page tables, with windows beside them.

    Attributes:
        variant, image_shift, direct_shifts, windows, extra: see `SpacePlan`.
        paging: the tables' form.
        bits: flag bits of an entry that maps a page for each use.
        table_bits: flag bits of an entry that points to a table.
        self_map: the root's entry through which the kernel sees its own tables (PDSLOT_PTE, PDIR_SLOT_PTE), or None.
        self_bits: further flag bits of that entry.
        small: log2 of the kernel's page, where it isn't what an entry of the last table stands for.
    """

    variant: str = ""
    image_shift: int
    direct_shifts: tuple[int, int] = (0, 0)
    windows: tuple[Window, ...] = ()
    extra: tuple[Wanted, ...] = ()
    paging: Paging
    bits: Mapping[Use, int]
    table_bits: int = 0
    self_map: int | None = None
    self_bits: int = 0
    small: int | None = None

    @property
    def page(self) -> int:
        """Bytes of the kernel's page."""
        return 1 << (self.paging.levels[-1].shift if self.small is None else self.small)

    @property
    def levels(self) -> int:
        """How many levels of tables there are."""
        return len(self.paging.levels)

    @property
    def translates(self) -> bool:
        """They can be read."""
        return True

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write the tables."""
        builder = TableBuilder(self.paging, order, alloc, self.table_bits)
        for w in wanted:
            builder.map(w.va, w.pa, w.size, self.bits[w.use], self.small if w.shift is None else w.shift)
        if odd.lost_table is not None:
            builder.put_table(odd.lost_table[0], self.paging.levels[-2].shift, odd.lost_table[1])
        builder.put(odd.stale[0], self.paging.levels[-1].shift, odd.stale[1])
        if self.self_map is not None:
            builder.self_map(self.self_map, self.self_bits)
        return builder.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """An address space without tables that a reader could find: windows only, or (`translates` False) not even these.

    The kernel of such a sample still lies where `windows` say, but a reader can't know.

    Attributes:
        until: the symbol of the kernel's that the last window ends at; empty where it ends where it says.
    """

    variant: str = ""
    page: int = 4096
    windows: tuple[Window, ...]
    translates: bool = True
    until: str = ""

    @property
    def image_shift(self) -> int:
        """The kernel's text and constants begin on a page."""
        return self.page.bit_length() - 1

    @property
    def direct_shifts(self) -> tuple[int, int]:
        """There is no map of all RAM besides the windows."""
        return 0, 0

    @property
    def levels(self) -> int:
        """There are no tables."""
        return 0

    @property
    def extra(self) -> tuple[Wanted, ...]:
        """Nothing else can be mapped."""
        return ()

    def build(self, wanted: Sequence[Wanted], odd: Oddities, order: ByteOrder, alloc: Alloc) -> Tables:
        """Write nothing."""
        return Tables(0, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePlan:
    """Enough of a CPU's instructions for text that looks like text.

    Attributes:
        prologue, epilogue: how a function begins and ends.
        body: harmless instructions to fill it with.
        pad: what stands between functions, one byte or one instruction.
        call: the call of a function, for the distance from the end of the call to it.
        message: pass a string's address as the first argument.
        trap: the instruction that enters the debugger.
    """

    prologue: bytes
    epilogue: bytes
    body: tuple[bytes, ...]
    pad: bytes
    call: Callable[[int], bytes]
    message: Callable[[int], bytes]
    trap: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePlan:
    """How a plausible kernel of a machine lies in memory.

    Attributes:
        text_va, text_pa: where the kernel's text begins.
        ram: the segments that its dump code would write.
        direct_va: where the kernel maps all of RAM, or None.
        stack_va: where kernel stacks are mapped, page by page; the page at this address stays unmapped.
        heap_va: where malloc'ed memory is mapped, scattered pages.
        user_fp: a user process's frame pointer, which ends the kernel's chain of frames; 0 where what the system call's
            entry left on the stack looks like one more frame, though its return address is none.
        device_pa: device memory that a page of the kernel's (`device_symbol`) is mapped to, or without a symbol, a page
            of the heap; None where there is none.
        lost_pages: how many pages behind `heap_va` the va lies whose table is not in the dump.
        msgbuf_bytes: MSGBUFSIZE.
        msgbuf: (va, pa) of the message buffer, where it has a place of its own; else it is put where it fits.
        spaces: the forms of address space that this machine has.
        code: its instructions.
        cpu_hdr: the CPU header's fields, for a form, the root table and the number of segments; None without a header.
        cpu_data: instead, the whole CPU data, for a form, its tables and the segments; padded to whole blocks.
        c_size: bytes of CPU data that the header says there are, where the kernel counts wrong (sun2).
        variables: variables that translation depends on (openbsd/i386): name -> bytes.
        pcb: the layout of dumppcb, where only the header tells the machine whether it has one.
        trap_registers: what ddb_regs holds at a trap, besides pc, sp, fp and the return address.
        port: the directory under sys/arch that its kernel was built in, where it isn't the machine's name.
        nic: the network interface's name.
        cpu_model: what the CPU calls itself.
        attach: the lines of devices in the boot messages.
        elf_flags: e_flags of its kernels.
        sparse: whether its dump code leaves free pages out, as it does by default.
    """

    text_va: int
    text_pa: int
    ram: tuple[RamSeg, ...]
    direct_va: int | None
    stack_va: int
    heap_va: int
    user_fp: int
    device_pa: int | None = None
    device_symbol: str = ""
    msgbuf_bytes: int
    msgbuf: tuple[int, int] | None = None
    spaces: tuple[SpacePlan, ...]
    code: CodePlan
    cpu_hdr: Callable[[SpacePlan, int, int], Mapping[str, int]] | None
    cpu_data: Callable[[SpacePlan, Tables, Sequence[RamSeg]], bytes] | None = None
    c_size: int | None = None
    variables: Callable[[SpacePlan, int, Sequence[RamSeg]], Mapping[str, bytes]] = lambda space, root, ram: {}
    pcb: Pcb | None = None
    trap_registers: Mapping[str, int] = field(default_factory=dict)
    port: str = ""
    nic: str
    cpu_model: str
    attach: str
    elf_flags: int = 0
    lost_pages: int = 0x1000
    sparse: bool = False
