"""The registers at the panic: those in ``dumppcb``, saved by the dump code, and those in ``ddb_regs``, saved by ddb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvmlib.errors import FormatError, KvmError
from kvmlib.kvm import Kvm
from kvmlib.namelist import Symbol
from kvmlib.ports.base import Machine, Pcb, Register, Trapframe
from kvmlib.variables import integer, machine_of, symbol

#: Fewer functions than this are no picture of where the kernel's text is.
_ENOUGH_FUNCTIONS = 50
#: Bytes of text that may follow the last symbol.
_LAST_FUNCTION = 1 << 16
#: No function is longer than this. Where few symbols are known, the one before an address need not be its function.
_FUNCTION_MAX = 1 << 15


class SavedPcb(NamedTuple):
    """dumppcb, taken apart: its place, its layout, the registers in it, and those on the stack with their places."""

    va: int
    pcb: Pcb
    values: Mapping[str, int]
    on_stack: Mapping[str, tuple[int, int]]


class SavedTrap(NamedTuple):
    """ddb_regs, taken apart: its place, its layout, the registers in it."""

    va: int
    layout: Trapframe
    values: Mapping[str, int]

    @property
    def pc(self) -> int:
        """Where the trap happened."""
        return self.values[self.layout.pc]


def panic_registers(kd: Kvm) -> list[Register]:
    """Return the registers that the dump code saved: those in ``dumppcb``, then those that lie on the stack at its sp.

    Raises:
        SymbolError: there is no symbol ``dumppcb``.
        KvmError: this machine's kernel saves none, or they can't be read.
    """
    saved = saved_pcb(kd)
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
                code_name(kd, value) if name == "pc" else kd.describe(value),
            )
        )
    return found


def trap_registers(kd: Kvm) -> list[Register]:
    """Return the registers at the trap that entered ddb: what ``ddb_regs`` holds.

    Raises:
        SymbolError: there is no symbol ``ddb_regs``.
        FormatError: nobody entered ddb, or what is there can't be registers of the kernel's.
        KvmError: it isn't known how this machine keeps them, or they can't be read.
    """
    saved = saved_trap(kd)
    layout = saved.layout
    roles = {layout.pc: "where the trap happened", layout.sp: "stack pointer at the trap"}
    if layout.fp:
        roles[layout.fp] = "frame pointer at the trap"
    return [
        Register(
            name,
            value,
            8 * layout.fields[name][1],
            f"{roles.get(name, 'at the trap')}, ddb_regs+{layout.fields[name][0]:#x}",
            kd.describe(value),
        )
        for name, value in saved.values.items()
    ]


# -- dumppcb ---------------------------------------------------------------------------------------------------------


def _layouts(machine: Machine) -> tuple[Pcb, ...]:
    if machine.pcb is None:
        raise KvmError(f"{machine.name} saves no registers in its dumps")
    return (machine.pcb, *machine.older_pcbs)


def saved_pcb(kd: Kvm) -> SavedPcb:
    """Read dumppcb, in the layout whose stack and frame pointer are mapped.

    Raises:
        KvmError: as `panic_registers`.
    """
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
        (r for r in read if all(_is_mapped(kd, r[1][name]) for name in (r[0].sp, r[0].fp) if name)), read[0]
    )
    on_stack: dict[str, tuple[int, int]] = {}
    try:
        for i, name in enumerate(pcb.at_sp if values[pcb.sp] else ()):
            if not name:
                continue
            at = values[pcb.sp] + i * machine.long_bytes
            on_stack[name] = at, integer(kd, at, machine.long_bytes)
    except KvmError:
        pass  # What can't be read is left out.
    return SavedPcb(va, pcb, values, on_stack)


def _is_mapped(kd: Kvm, va: int) -> bool:
    try:
        return va != 0 and bool(kd.kvatop(va))
    except KvmError:
        return False


# -- ddb_regs --------------------------------------------------------------------------------------------------------


def saved_trap(kd: Kvm) -> SavedTrap:
    """Read ddb_regs, in the first layout whose pc lies in the kernel's text and whose frame pointer is mapped.

    Raises:
        KvmError: as `trap_registers`.
    """
    machine = machine_of(kd)
    if not machine.trapframes:
        raise KvmError(f"it is not known how {machine.name} keeps registers in ddb_regs")
    va = symbol(kd, "ddb_regs").value
    found: list[SavedTrap] = []
    for layout in machine.trapframes:
        raw = kd.read(va, layout.size)
        values = {name: int.from_bytes(raw[at : at + n], machine.byteorder) for name, (at, n) in layout.fields.items()}
        found.append(SavedTrap(va, layout, values))
    if not any(found[0].values.values()):
        raise FormatError("ddb_regs holds nothing but zeros: ddb was not entered")
    text = text_ranges(kd)
    believed = [s for s in found if (not not_text(s.pc, text) if text else _is_mapped(kd, s.pc))]
    if not believed:
        where = f" in the kernel's text ({text[0][0]:#x} to {text[0][1]:#x})" if text else ""
        raise FormatError(
            f"ddb_regs at va {va:#x} holds no registers of the kernel's: "
            f"a {found[0].layout.pc}{where} was expected, {found[0].pc:#x} is there"
        )
    return next((s for s in believed if _is_mapped(kd, s.values[s.layout.fp or s.layout.sp])), believed[0])


# -- text ------------------------------------------------------------------------------------------------------------


#: Where code is: [start, end) of the kernel's own, then of loaded modules.
Text = tuple[tuple[int, int], ...]


def text_ranges(kd: Kvm) -> Text:
    """Return where the kernel's text is, and its modules', as far as the symbols tell; empty if they don't."""
    functions: dict[str, list[Symbol]] = {"": []}
    for s in kd.symbols:
        if s.kind in "Tt":
            functions.setdefault(s.module, []).append(s)
    if len(functions[""]) < _ENOUGH_FUNCTIONS:
        return ()
    return tuple(_text(kd, module, found) for module, found in functions.items())


def _text(kd: Kvm, module: str, functions: list[Symbol]) -> tuple[int, int]:
    first, last = functions[0], functions[-1]
    end = None if module else kd.symbols.get("etext")
    if end is not None and end.value > first.value:
        return first.value, end.value
    limit = last.value + max(last.size, _LAST_FUNCTION)
    # What follows the text is constants or data, and most of it has names.
    behind = (s.value for s in kd.symbols if s.kind not in "TtAa" and s.value > last.value)
    return first.value, min(limit, next(behind, limit))


def not_text(pc: int, text: Text) -> str:
    """Say why an address can't be code; empty where it can."""
    if not text or any(start <= pc < end for start, end in text):
        return ""
    modules = " nor in a module's" if len(text) > 1 else ""
    return f"{pc:#x}, does not lie in the kernel's text ({text[0][0]:#x} to {text[0][1]:#x}){modules}"


def code_name(kd: Kvm, pc: int, *, behind: int = 1) -> str:
    """Name an address of code that lies `behind` bytes behind some instruction of its function.

    Behind the last call of a function that never gets back the next function begins, so the byte before a return
    address names it. An address that isn't one is 0 behind itself.
    """
    found = kd.symbols.at(pc - behind)
    if found is None or found[1] >= max(found[0].size, _FUNCTION_MAX):
        return ""
    return found[0].plus(found[1] + behind)
