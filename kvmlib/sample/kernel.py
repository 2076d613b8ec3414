"""The kernel of a sample dump: sections, variables, functions with calls in them, and a name for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvmlib.elfwriter import ElfSection
from kvmlib.namelist import Symbol
from kvmlib.sample.ram import noise

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder
    from kvmlib.ports.base import FrameLayout
    from kvmlib.ports.plan import CodePlan, Use

_KINDS = {"T": ".text", "R": ".rodata", "D": ".data", "B": ".bss"}


class Words:
    """Bytes of C integers on a machine."""

    def __init__(self, order: ByteOrder, long_bytes: int) -> None:
        """Know the byte order and sizeof(long)."""
        self.order = order
        self.long_bytes = long_bytes

    def u32(self, *values: int) -> bytes:
        """Ints."""
        return b"".join((v & 0xFFFFFFFF).to_bytes(4, self.order) for v in values)

    def u64(self, *values: int) -> bytes:
        """64-bit integers, such as time_t."""
        return b"".join((v & (1 << 64) - 1).to_bytes(8, self.order) for v in values)

    def long(self, *values: int) -> bytes:
        """Longs and pointers."""
        n = self.long_bytes
        return b"".join((v & (1 << 8 * n) - 1).to_bytes(n, self.order) for v in values)


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What a stack is made of.

    Attributes:
        layout: how a function's frame leads to its caller's.
        user_fp: the user process's frame pointer, which ends it.
        trapframe: bytes that a trap takes.
        call: bytes from a call to where it returns to, where the stack tells the call's own address.
    """

    layout: FrameLayout
    user_fp: int
    trapframe: int
    call: int


@dataclass
class Section:
    """A section while it is being filled; `data` is what the kernel file has, which for bss is its size only."""

    kind: str
    va: int
    data: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.va + len(self.data)


class Kernel:
    """The kernel's image: text, rodata, data and bss, one behind the other, at va - pa all the same."""

    def __init__(self, text_va: int, text_pa: int, image_shift: int, page: int) -> None:
        """Begin with the text section."""
        self._page = page
        self._shift = image_shift
        self._offset = text_pa - text_va
        self.sections = [Section("T", text_va)]
        self.symbols: list[Symbol] = []
        #: What the boot loader left behind bss.
        self.loaded = b""
        self._at: dict[str, int] = {}

    def pa(self, va: int) -> int:
        """Where the boot loader put it."""
        return va + self._offset

    def va(self, name: str) -> int:
        """Return a symbol's address."""
        return self._at[name]

    def begin(self, kind: str) -> None:
        """Begin the next section, on a page of its own where its protection differs."""
        align = 1 << (self._shift if kind in "RD" else 6)
        self.sections.append(Section(kind, -(-self.sections[-1].end // align) * align))

    def add(self, name: str, data: bytes | int, *, align: int = 8, local: bool = False) -> int:
        """Add a variable (its first contents, or only its size) to the last section and name it; return its address."""
        section = self.sections[-1]
        section.data += bytes(-section.end % align)
        va = section.end
        section.data += bytes(data) if isinstance(data, int) else data
        if name:
            kind = section.kind.lower() if local else section.kind
            self.symbols.append(Symbol(name, va, data if isinstance(data, int) else len(data), kind))
            self._at[name] = va
        return va

    def image_ranges(self) -> list[tuple[Use, int, int]]:
        """Return (use, va, bytes) of what has to be mapped, in whole pages; bss and what follows are part of data."""
        text, rodata, data, _bss = self.sections
        page = 1 << self._shift

        def whole(n: int, unit: int) -> int:
            return -(-n // unit) * unit

        return [
            ("text", text.va, whole(len(text.data), page)),
            ("rodata", rodata.va, whole(len(rodata.data), page)),
            ("data", data.va, self.end - data.va),
        ]

    @property
    def loaded_va(self) -> int:
        """The first page behind bss, where the boot loader puts the symbols."""
        return -(-self.sections[-1].end // self._page) * self._page

    @property
    def end(self) -> int:
        """The first page behind all of it."""
        return self.loaded_va + -(-len(self.loaded) // self._page) * self._page

    def elf_sections(self) -> list[ElfSection]:
        """Return the sections for the kernel file."""
        return [
            ElfSection(
                _KINDS[s.kind], s.kind, s.va, len(s.data), b"" if s.kind == "B" else bytes(s.data), self.pa(s.va)
            )
            for s in self.sections
        ]


class Text:
    """Functions, laid out one after the other, with calls at known places."""

    def __init__(self, kernel: Kernel, code: CodePlan) -> None:
        """Lay functions out in the kernel's last section."""
        self._kernel = kernel
        self._code = code
        #: (caller, callee) -> the address behind the call.
        self.returns: dict[tuple[str, str], int] = {}
        #: (where the call is, the address behind it, callee): the distance is filled in at the end.
        self._calls: list[tuple[int, int, str]] = []
        #: (where the instruction is, symbol of the string whose address it loads).
        self._messages: list[tuple[int, str]] = []
        #: function -> address behind its trap instruction.
        self.traps: dict[str, int] = {}

    def add(self, name: str, callees: Sequence[str], message: str | None = None) -> None:
        """Add a function that calls these, in this order; `message` is the string that it gives to the last of them."""
        code = self._code
        seed = noise(name, 64)
        out, start = self._begin()

        def fill(n: int, salt: int) -> None:
            for i in range(n):
                out.extend(code.body[seed[(salt + i) % 64] % len(code.body)])

        fill(3 + seed[0] % 24, 1)
        for i, callee in enumerate(callees):
            fill(2 + seed[32 + i] % 12, 5 * i)
            if message and i == len(callees) - 1:
                self._messages.append((start + len(out), message))
                out += code.message(0)
            at = start + len(out)
            out += code.call(0)
            self.returns.setdefault((name, callee), start + len(out))
            self._calls.append((at, start + len(out), callee))
        fill(2 + seed[1] % 20, 40)
        out += code.epilogue
        self._kernel.add(name, bytes(out), align=1)

    def add_trap(self, name: str) -> None:
        """Add a function that does nothing but enter the debugger."""
        out, start = self._begin()
        out += self._code.trap
        self.traps[name] = start + len(out)
        self._kernel.add(name, bytes(out + self._code.epilogue), align=1)

    def _begin(self) -> tuple[bytearray, int]:
        section = self._kernel.sections[-1]
        section.data += self._code.pad * (-section.end % 16 // len(self._code.pad))
        return bytearray(self._code.prologue), section.end

    def link(self) -> None:
        """Fill in where the calls go and where the strings are, now that all of it has a place."""
        section = self._kernel.sections[0]
        for at, after, callee in self._calls:
            call = self._code.call(self._kernel.va(callee) - after)
            section.data[at - section.va : at - section.va + len(call)] = call
        for at, message in self._messages:
            load = self._code.message(self._kernel.va(message))
            section.data[at - section.va : at - section.va + len(load)] = load


def stack_chain(
    chain: Sequence[str], returns: Mapping[tuple[str, str], int], top: int, words: Words, plan: StackPlan
) -> tuple[dict[int, bytes], list[tuple[int, int]], dict[str, int]]:
    """Lay out the frames of a call chain on a stack that grows down from `top`.

    `chain` names functions, the newest first; ``!`` before a name says that it has no frame of its own (assembler).
    The function behind such a one in the middle of the chain was interrupted, so nothing returns into it there.

    Returns:
        The stack's contents by address, the (pc, frame's address) pairs that a walk along the frames finds, and the
        address of each function's frame.
    """
    layout, long = plan.layout, words.long_bytes
    frames: dict[str, int] = {}
    sp = top
    for name in reversed(chain):
        if name.startswith("!"):
            sp -= plan.trapframe
            continue
        sp -= max(0, layout.fp + long, layout.pc + long)
        sp -= sp % max(2 * long, layout.align)
        frames[name] = sp
        sp -= max(0, -layout.fp, -layout.pc) + 0x20 + noise(name, 1)[0] % 6 * 16
    pieces: dict[int, bytes] = {}
    bare = [n.removeprefix("!") for n in chain]
    first = next(i for i, n in enumerate(chain) if n in frames)
    found = [(returns[bare[first], bare[first - 1]] - plan.call, frames[chain[first]])]
    for i, name in enumerate(chain):
        if name not in frames or i + 1 == len(chain):
            continue
        outer = next((frames[n] for n in chain[i + 1 :] if n in frames), None)
        back = returns[bare[i + 1], bare[i]] - plan.call
        pieces[frames[name] + layout.fp] = words.long(plan.user_fp if outer is None else outer - layout.bias)
        if layout.outer and outer is None:
            continue  # It lies on the user process's stack.
        pieces[(outer if layout.outer and outer else frames[name]) + layout.pc] = words.long(back)
        found.append((back, plan.user_fp + layout.bias if outer is None else outer))
    return pieces, found, frames
