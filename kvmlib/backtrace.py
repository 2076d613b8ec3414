"""Where it happened: the registers that the dump code saved in ``dumppcb``, and the stack by its frame pointers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvmlib.errors import KvmError
from kvmlib.kvm import Kvm
from kvmlib.ports.base import Machine, Pcb, Register
from kvmlib.text import printable
from kvmlib.variables import integer, machine_of, symbol

#: Frames that are followed at most.
FRAMES_MAX = 64
#: Fewer functions than this are no picture of where the kernel's text is.
_ENOUGH_FUNCTIONS = 50
#: Bytes of text that may follow the last symbol.
_LAST_FUNCTION = 1 << 16
#: No function is longer than this. Where few symbols are known, the one before an address need not be its function.
_FUNCTION_MAX = 1 << 15
#: What panic(9) is at most, where its symbol has no size.
_PANIC_MAX = 1 << 10


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack.

    Attributes:
        pc: the address that the code in it goes on at.
        fp: its frame pointer.
        where: symbol+offset of `pc`; empty where no symbol tells.
    """

    pc: int
    fp: int
    where: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, newest frame first.

    Attributes:
        frames: what could be followed.
        end: why it stops there, a sentence without its full stop.
        panicked: the frame that called panic(9), None where that isn't on the stack.
    """

    frames: tuple[Frame, ...]
    end: str
    panicked: Frame | None = None


@dataclass(frozen=True, slots=True)
class _Saved:
    """dumppcb, taken apart: its place, its layout, the registers in it, and those on the stack with their places."""

    va: int
    pcb: Pcb
    values: Mapping[str, int]
    on_stack: Mapping[str, tuple[int, int]]


def panic_registers(kd: Kvm) -> list[Register]:
    """Return the registers that the dump code saved: those in ``dumppcb``, then those that lie on the stack at its sp.

    Raises:
        SymbolError: there is no symbol ``dumppcb``.
        KvmError: this machine's kernel saves none, or they can't be read.
    """
    saved = _saved(kd)
    pcb, machine = saved.pcb, machine_of(kd)
    roles = {pcb.fp: "frame pointer when the dump began", pcb.sp: "stack pointer when the dump began"}
    found = [
        Register(
            name,
            value,
            8 * pcb.fields[name][1],
            f"{roles.get(name, 'saved in dumppcb')}, dumppcb+{pcb.fields[name][0]:#x}",
            kd.describe(value),
        )
        for name, value in saved.values.items()
    ]
    for name, (va, value) in saved.on_stack.items():
        what = "where dumpsys goes on" if name == "pc" else "of the code that called for the dump"
        at = va - saved.values[pcb.sp]
        found.append(
            Register(
                name,
                value,
                8 * machine.long_bytes,
                f"{what}, on the stack at {pcb.sp}+{at:#x}",
                _return_name(kd, value) if name == "pc" else kd.describe(value),
            )
        )
    return found


def stack(kd: Kvm) -> Stack:
    """Follow the frame pointers from ``dumppcb`` on.

    Raises:
        SymbolError: there is no symbol ``dumppcb``.
        KvmError: this machine's kernel saves no registers, or they can't be read.
    """
    saved = _saved(kd)
    frames: list[Frame] = []
    end = _follow(kd, saved, frames)
    panics = [s for s in (kd.symbols.get("panic"), kd.symbols.get("vpanic")) if s is not None]
    inside = [i for i, f in enumerate(frames) if any(0 < f.pc - s.value <= (s.size or _PANIC_MAX) for s in panics)]
    outer = frames[inside[-1] + 1 :] if inside else []
    return Stack(tuple(frames), end, outer[0] if outer else None)


def _follow(kd: Kvm, saved: _Saved, frames: list[Frame]) -> str:
    """Add the frames to `frames`; return why they end."""
    pcb, size = saved.pcb, machine_of(kd).long_bytes
    if not pcb.fp:
        return f"{machine_of(kd).name} does not chain its frames by a frame pointer, so they can't be followed"
    fp = saved.values.get(pcb.fp, 0)
    if fp == 0:
        return f"dumppcb at va {saved.va:#x} holds no frame pointer: the dump code did not get to save it"
    text = _text_range(kd)
    at, pc = saved.on_stack.get("pc", (0, 0))
    if pc:
        if doubt := _not_text(pc, text):
            return f"the return address at va {at:#x}, {doubt}"
        frames.append(Frame(pc, fp, _return_name(kd, pc)))
    while len(frames) < FRAMES_MAX:
        if fp % size:
            return f"the frame pointer {fp:#x} is not aligned, so it is none"
        try:
            older, pc = integer(kd, fp, size), integer(kd, fp + size, size)
        except KvmError as e:
            return f"the frame at {fp:#x} can't be read: {e}"
        if pc == 0:
            return "the chain ends here: the next return address is 0"
        if doubt := _not_text(pc, text):
            return f"the return address in the frame at {fp:#x}, {doubt}"
        frames.append(Frame(pc, older, _return_name(kd, pc)))
        if older == 0:
            return "the chain ends here: the next frame pointer is 0"
        if older <= fp:
            why = "so it is a user process's, or damaged"
            return f"the next frame pointer, {older:#x}, does not lie above this one, {fp:#x}, {why}"
        fp = older
    return f"only the first {FRAMES_MAX} frames are followed"


def _layouts(machine: Machine) -> tuple[Pcb, ...]:
    if machine.pcb is None:
        raise KvmError(f"{machine.name} saves no registers in its dumps")
    return (machine.pcb, *machine.older_pcbs)


def _saved(kd: Kvm) -> _Saved:
    machine = machine_of(kd)
    layouts = _layouts(machine)
    va = symbol(kd, "dumppcb").value
    errors: list[KvmError] = []
    read: list[tuple[Pcb, dict[str, int]]] = []
    for pcb in layouts:
        try:
            read.append((pcb, {name: integer(kd, va + at, n) for name, (at, n) in pcb.fields.items()}))
        except KvmError as e:
            errors.append(e)
    if not read:
        raise errors[0]
    pcb, values = next(
        (r for r in read if all(_is_stack(kd, r[1][name]) for name in (r[0].sp, r[0].fp) if name)), read[0]
    )
    on_stack: dict[str, tuple[int, int]] = {}
    try:
        for i, name in enumerate(pcb.at_sp if values[pcb.sp] else ()):
            if not name:
                continue
            at = values[pcb.sp] + pcb.bias + i * machine.long_bytes
            on_stack[name] = at, integer(kd, at, machine.long_bytes)
    except KvmError:
        pass  # What can't be read is left out.
    return _Saved(va, pcb, values, on_stack)


def _is_stack(kd: Kvm, va: int) -> bool:
    try:
        return va != 0 and bool(kd.kvatop(va))
    except KvmError:
        return False


def _text_range(kd: Kvm) -> tuple[int, int] | None:
    """Return where the kernel's text is, as far as the symbols tell."""
    functions = [s for s in kd.symbols if s.kind in "Tt"]
    if len(functions) < _ENOUGH_FUNCTIONS:
        return None
    first, last = functions[0], functions[-1]
    end = kd.symbols.get("etext")
    if end is not None and end.value > first.value:
        return first.value, end.value
    limit = last.value + max(last.size, _LAST_FUNCTION)
    # What follows the text is constants or data, and most of it has names.
    behind = (s.value for s in kd.symbols if s.kind not in "TtAa" and s.value > last.value)
    return first.value, min(limit, next(behind, limit))


def _not_text(pc: int, text: tuple[int, int] | None) -> str:
    if text is None or text[0] <= pc < text[1]:
        return ""
    return f"{pc:#x}, does not lie in the kernel's text ({text[0]:#x} to {text[1]:#x})"


def _return_name(kd: Kvm, pc: int) -> str:
    """Name a return address: behind the last call of a function that never gets there the next function begins."""
    found = kd.symbols.at(pc - 1)
    if found is None or found[1] >= max(found[0].size, _FUNCTION_MAX):
        return ""
    return f"{printable(found[0].name)}+{found[1] + 1:#x}"
