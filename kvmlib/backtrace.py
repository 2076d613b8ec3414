"""Where it happened: the stack, from the registers in ``dumppcb`` or in ``ddb_regs`` on, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvmlib.errors import KvmError
from kvmlib.kvm import Kvm
from kvmlib.ports.base import FrameLayout
from kvmlib.registers import SavedPcb, SavedTrap, Text, code_name, not_text, saved_pcb, saved_trap, text_ranges
from kvmlib.variables import integer, machine_of

#: Frames that are followed at most.
FRAMES_MAX = 64
#: What panic(9) is at most, where its symbol has no size.
_PANIC_MAX = 1 << 10


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack.

    Attributes:
        pc: the address that the code in it goes on at.
        fp: where it lies: its frame pointer or, where the stack pointer leads from frame to frame, that.
        where: symbol+offset of `pc`; empty where no symbol tells.
    """

    pc: int
    fp: int
    where: str


class Stack(NamedTuple):
    """A stack, newest frame first.

    Attributes:
        frames: what could be followed.
        end: why it stops there, a sentence without its full stop.
        panicked: the frame that called panic(9), None where that isn't on the stack.
        source: the registers that it begins with: ``dumppcb``, when the dump began, or ``ddb_regs``, at the trap that
            entered ddb.
    """

    frames: tuple[Frame, ...]
    end: str
    panicked: Frame | None = None
    source: str = "dumppcb"


def stack(kd: Kvm) -> Stack:
    """Follow the frames from ``dumppcb`` on, or from ``ddb_regs`` on where these tell more.

    That is so where dumppcb's lead to no caller of panic(9), and either can't be followed, or came through the trap
    into ddb, which hides the function that trapped.

    Raises:
        SymbolError: there is no symbol ``dumppcb``.
        KvmError: this machine's kernel saves no registers, or they can't be read.
    """
    try:
        begun, problem = _from_pcb(kd, saved_pcb(kd)), None
    except KvmError as e:
        begun, problem = None, e
    if begun is not None and begun.panicked:
        return begun
    try:
        trapped = _from_trap(kd, saved_trap(kd))
    except KvmError as e:
        if begun is not None:
            return begun
        assert problem is not None
        machine = machine_of(kd)
        if machine.pcb is None and machine.trapframes:
            raise KvmError(f"{problem}, and {e}") from e
        raise problem from e
    if begun is None or trapped.panicked or len(begun.frames) < 2:
        return trapped
    return trapped if trapped.frames[0].fp in [f.fp for f in begun.frames] else begun


def _from_pcb(kd: Kvm, saved: SavedPcb) -> Stack:
    pcb, layouts = saved.pcb, machine_of(kd).frames
    fp = saved.values.get(pcb.sp if _by_sp(layouts) else pcb.fp, 0)
    frames: list[Frame] = []
    in_pcb = saved.va + pcb.fields.get(pcb.pc, (0, 0))[0], saved.values.get(pcb.pc, 0)
    at, pc = saved.on_stack.get(pcb.pc, in_pcb)
    if pc:
        if doubt := not_text(pc, text_ranges(kd)):
            return Stack((), f"the return address at va {at:#x}, {doubt}")
        frames.append(Frame(pc, fp + _bias(layouts), code_name(kd, pc)))
    if layouts and fp == 0:
        end = f"dumppcb at va {saved.va:#x} holds no {_pointer(layouts)}: the dump code did not get to save it"
        return Stack(tuple(frames), end)
    return _finish(kd, frames, fp, "dumppcb")


def _from_trap(kd: Kvm, saved: SavedTrap) -> Stack:
    layout, layouts = saved.layout, machine_of(kd).frames
    fp = saved.values[layout.fp if layout.fp and not _by_sp(layouts) else layout.sp]
    frames = [Frame(saved.pc, fp + _bias(layouts), code_name(kd, saved.pc, behind=0))]
    if layouts and fp == 0:
        end = f"ddb_regs at va {saved.va:#x} holds no {_pointer(layouts)}"
        return Stack(tuple(frames), end, source="ddb_regs")
    found = _finish(kd, frames, fp, "ddb_regs")
    ra = saved.values.get(layout.ra, 0)
    if ra and _is_leaf(kd, ra, found.frames):
        # Nothing on the stack tells who called a function that calls none.
        return _finish(kd, [*frames, Frame(ra, frames[0].fp, code_name(kd, ra))], fp, "ddb_regs")
    return found


def _is_leaf(kd: Kvm, ra: int, frames: Sequence[Frame]) -> bool:
    """Whether the newest function seems to have called none yet: the return address is in neither it nor the next."""
    text, caller = text_ranges(kd), kd.symbols.at(ra - 1)
    if not text or not_text(ra, text) or caller is None:
        return False
    known = [kd.symbols.at(f.pc - i) for i, f in enumerate(frames[:2])]
    return all(k is not None and k[0] != caller[0] for k in known)


def _by_sp(layouts: Sequence[FrameLayout]) -> bool:
    return any(layout.by_sp for layout in layouts)


def _pointer(layouts: Sequence[FrameLayout]) -> str:
    """What leads from frame to frame."""
    return "stack pointer" if _by_sp(layouts) else "frame pointer"


def _bias(layouts: Sequence[FrameLayout]) -> int:
    return layouts[0].bias if layouts else 0


def _finish(kd: Kvm, frames: Sequence[Frame], fp: int, source: str) -> Stack:
    """Follow the frames from the one at `fp` on, in the layout that leads furthest."""
    machine = machine_of(kd)
    if not machine.frames:
        end = f"{machine.name} does not chain its frames by a frame pointer, so they can't be followed"
        return _named(kd, frames, end, source)
    text, best, why = text_ranges(kd), list(frames), ""
    for layout in machine.frames:
        found = list(frames)
        end = _follow(kd, fp, layout, text, found)
        if not why or len(found) > len(best):
            best, why = found, end
    return _named(kd, best, why, source)


def _named(kd: Kvm, frames: Sequence[Frame], end: str, source: str) -> Stack:
    panics = [s for s in (kd.symbols.get("panic"), kd.symbols.get("vpanic")) if s is not None]
    inside = [i for i, f in enumerate(frames) if any(0 < f.pc - s.value <= (s.size or _PANIC_MAX) for s in panics)]
    outer = frames[inside[-1] + 1 :] if inside else []
    return Stack(tuple(frames), end, outer[0] if outer else None, source)


def _follow(kd: Kvm, fp: int, layout: FrameLayout, text: Text, frames: list[Frame]) -> str:
    """Add the frames from the one at `fp` on to `frames`; return why they end."""
    size = machine_of(kd).long_bytes
    pointer = _pointer((layout,))
    saved_pc = "address of the call" if layout.call else "return address"
    while len(frames) < FRAMES_MAX:
        at = fp + layout.bias
        if at % layout.align:
            return f"the {pointer} {fp:#x} is not aligned, so it is none"
        try:
            older = integer(kd, at + layout.fp, size)
            outer = older + layout.bias if older else 0
            # Nothing lies around the last frame.
            pc = 0 if layout.outer and not outer else integer(kd, (outer if layout.outer else at) + layout.pc, size)
        except KvmError as e:
            return f"the frame at {at:#x} can't be read: {e}"
        if pc == 0:
            return f"the chain ends here: the next {saved_pc} is 0"
        if doubt := not_text(pc, text):
            return f"the {saved_pc} in the frame at {at:#x}, {doubt}"
        frames.append(Frame(pc, outer, code_name(kd, pc, behind=0 if layout.call else 1)))
        if older == 0:
            return f"the chain ends here: the next {pointer} is 0"
        if older <= fp:
            why = "so it is a user process's, or damaged"
            return f"the next {pointer}, {older:#x}, does not lie above this one, {fp:#x}, {why}"
        fp = older
    return f"only the first {FRAMES_MAX} frames are followed"
