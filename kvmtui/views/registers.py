"""Registers: those in the header, those at the panic, and the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.binding import BindingType
from textual.worker import get_current_worker

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import GoTo, Status
from kvmtui.views.listing import Item, ItemRows, ListingView
from kvmtui.widgets.rowlist import ListRows, Rows
from kvmtui.widgets.wrap import wrap

#: What is said about a register stands below it when there are fewer columns than this beside it.
_NARROW = 24


class RegistersView(ListingView):
    """What the CPU's registers held, as far as the dump knows."""

    view_id: ClassVar[str] = "registers"
    title: ClassVar[str] = "Registers"
    help_text: ClassVar[str] = (
        "First the numbers that the CORE_CPU segment of the header has, decoded. Then the registers at the panic: "
        "what the dump code stored in dumppcb before it wrote the dump; and those at the trap that entered ddb, where "
        "somebody did: ddb_regs. Then the stack that they lead to: each frame's return address and the function it "
        "lies in. All but the first need the kernel's symbols.\n"
        "Enter goes to the address that a register holds; a register that holds no virtual address may hold a "
        "physical one."
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("registers")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._rows: ItemRows | None = None
        self._panic: Sequence[kvmlib.Register] = ()
        self._panic_problem = ""
        self._trap: Sequence[kvmlib.Register] = ()
        self._trap_problem = ""
        self._stack: kvmlib.Stack | None = None
        self._stack_problem = ""
        self._known = False

    def ask(self) -> None:
        self.fill()
        self._read()

    @work(thread=True, exclusive=True, group="registers", exit_on_error=False)
    def _read(self) -> None:
        worker = get_current_worker()
        panic: Sequence[kvmlib.Register] = ()
        trap: Sequence[kvmlib.Register] = ()
        stack, panic_problem, trap_problem, stack_problem = None, "", "", ""
        try:
            panic = kvmlib.panic_registers(self.kd)
        except kvmlib.KvmError as e:
            panic_problem = str(e)
        try:
            trap = kvmlib.trap_registers(self.kd)
        except kvmlib.KvmError as e:
            trap_problem = str(e)
        try:
            stack = kvmlib.stack(self.kd)
        except kvmlib.KvmError as e:
            stack_problem = str(e)
        if not worker.is_cancelled:
            self._panic, self._panic_problem = panic, panic_problem
            self._trap, self._trap_problem = trap, trap_problem
            self._stack, self._stack_problem = stack, stack_problem
            self._known = True
            self.post_message(self.Filled())

    def build(self, width: int) -> Rows:
        rows = ItemRows()
        page = _Page(self.kd, rows, width)
        page.registers("In the header (CORE_CPU)", self.kd.registers, "this machine's header has no registers")
        if not self._known:
            page.say("reading the rest ...")
            return ListRows(rows)
        page.registers("At the panic (dumppcb)", self._panic, self._panic_problem or "none are known")
        page.registers("At the trap that entered ddb (ddb_regs)", self._trap, self._trap_problem)
        page.heading("Stack")
        if self._stack is None:
            page.say(self._stack_problem)
        else:
            page.frames(self._stack)
        return ListRows(rows)

    def action_jump(self) -> None:
        item = self.item(self.list.cursor)
        if item is None or item.va is None:
            self.post_message(Status("this line has no address to show in Memory"))
            return
        va = item.va
        try:
            self.kd.kvatop(va)
        except kvmlib.KvmError as e:
            pa = self._physical(va)
            if pa is None:
                self.post_message(Status(str(e), bad=True))
            else:
                self.post_message(GoTo(pa, physical=True))
        else:
            self.post_message(GoTo(va))

    def _physical(self, value: int) -> int | None:
        """Return the physical address that a register such as cr3 holds, without flag bits; None for none."""
        machine = self.kd.machine
        pa = value & -machine.page_size if machine else value
        try:
            self.kd.memory.locate(pa, 1)
        except kvmlib.KvmError:
            return None
        return pa


class _Page:
    """Rows that grow downwards."""

    def __init__(self, kd: kvmlib.Kvm, rows: ItemRows, width: int) -> None:
        self.kd = kd
        self.rows = rows
        self.width = width

    def heading(self, text: str) -> None:
        if self.rows:
            self.rows.append(([("", "")], None))
        self.rows.append(([(text, "strong")], None))

    def say(self, text: str) -> None:
        self.rows += [([(row, "label")], None) for row in wrap(kvmlib.printable(text), self.width)]

    def registers(self, heading: str, registers: Sequence[kvmlib.Register], otherwise: str) -> None:
        self.heading(heading)
        if not registers:
            self.say(otherwise)
            return
        column = max(len(r.name) for r in registers) + 2
        digits = max(r.width for r in registers) // 4 + 2
        for r in registers:
            value = f"{r.value:#0{r.width // 4 + 2}x}".ljust(digits)
            says = r.decoded or self.kd.describe(r.value) or r.meaning
            detail = f"{r.name}: {r.meaning}" if r.meaning else r.name
            self._row((r.name.ljust(column), "label"), value, (says, ""), Item(detail, r.value or None))

    def _row(self, name: tuple[str, str], value: str, says: tuple[str, str], item: Item) -> None:
        """Add a value and what it says, beside it where there is room for that, else below it."""
        indent = len(name[0]) + len(value) + 2
        text, role = kvmlib.printable(says[0]), says[1]
        beside = self.width - indent >= min(_NARROW, len(text))
        rows = wrap(text, self.width - (indent if beside else 2))
        self.rows.append(([name, (f"{value}  ", ""), (rows[0] if beside else "", role)], item))
        below = rows[1:] if beside else rows
        self.rows += [([(" " * (indent if beside else 2), ""), (row, role)], None) for row in below]

    def frames(self, stack: kvmlib.Stack) -> None:
        digits = self.kd.translator.bits // 4 + 2
        column = len(f"#{len(stack.frames)}") + 2
        for number, frame in enumerate(stack.frames):
            name = f"#{number}".ljust(column)
            item = Item(f"return address; the frame lies at {frame.fp:#x}", frame.pc)
            where = (f"{frame.where}  <- called panic", "strong") if frame is stack.panicked else (frame.where, "")
            self._row((name, "label"), f"{frame.pc:#0{digits}x}", where, item)
        if stack.source == "ddb_regs":
            self.say("from ddb_regs on, the registers at the trap that entered ddb")
        if stack.end:
            self.say(f"ends: {stack.end}")
