"""Memory: translated virtual memory, or physical memory, as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.message import Message
from textual.worker import get_current_worker

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import Status
from kvmtui.views.memory_places import MemoryPlaces
from kvmtui.widgets.inspector import SEEN, InspectorPane, inspect_lines
from kvmtui.widgets.pointee import pointee
from kvmtui.widgets.shape import FORMS, ByteOrder, Shape, next_unit
from kvmtui.widgets.walk import WalkPane

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType


class MemoryView(MemoryPlaces):
    """The kernel's memory, byte by byte."""

    view_id: ClassVar[str] = "memory"
    title: ClassVar[str] = "Memory"
    help_text: ClassVar[str] = (
        "The bytes of the kernel's memory, by virtual address. Only mapped memory scrolls by; each hole is one row "
        "that says how large it is:\n"
        "  --  not mapped: no page table has an entry for it\n"
        "  ::  mapped, but that memory was not dumped\n"
        "  ~~  it should be in the dump, but the file ends before it\n"
        "Rows that are all alike are folded to one, which begins with *. The strip on the right is the whole address "
        "space from top to bottom, not to scale: | memory, blank not mapped, : not dumped, ~ cut off; the cursor's "
        "place stands out.\n"
        "The lines below the bytes say where the cursor is: virtual address, physical address, file offset, segment, "
        "symbol, and the pointer under the cursor when it points to mapped memory. A pointer is read at the address "
        "under the cursor rounded down to its size, in the machine's byte order.\n"
        "/ searches; what is found is a list that fills while the search runs: Enter shows the place, n and N go from "
        "one to the next, Escape cancels the search, and hides the list when it is done.\n"
        "Bookmarks are kept with a note in a file of your own, under XDG_STATE_HOME; the dump isn't touched.\n"
        "Arrows or h j k l move, Space and b turn pages, 0 and $ go to the ends of the row, Home and End or < and > "
        "to the ends of everything. Tab goes to the pane below the bytes, and back.\n"
        "w shows the page walk. In it the arrows step from level to level: the bits of the address that choose the "
        "entry stand in brackets, Enter shows the table in Memory, r lists every address that is mapped to the same "
        "byte."
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("memory")]
    DEFAULT_CSS = """
    MemoryView {
        & > InspectorPane { display: none; }
        &.-inspect > InspectorPane { display: block; }
    }
    """

    class Landmarked(Message):
        """It is known where the page tables, the message buffers and the stack are."""

        def __init__(self, marks: kvmlib.Landmarks) -> None:
            super().__init__()
            self.marks = marks

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._marks: kvmlib.Landmarks | None = None
        self._marking = False

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield InspectorPane(id="memory-inspector")

    def on_mount(self) -> None:
        assert self.kd.machine is not None
        self.hex.shape = Shape(byteorder=self.kd.machine.byteorder)
        self.hex.folding = True
        self.hex.note = self._note_of

    @property
    def word(self) -> str:
        return "page walk" if self.inner is not None else ""

    @property
    def inner(self) -> WalkPane | None:
        return next((pane for pane in self.query(WalkPane) if pane.has_focus), None)

    # -- how bytes are spelled -----------------------------------------------------------------------------------------

    def action_units(self) -> None:
        assert self.kd.machine is not None
        self._reshape(next_unit(self.hex.shape, self.kd.machine.long_bytes))

    def action_form(self) -> None:
        shape = self.hex.shape
        if shape.pointers:
            self.say("pointers are always in hex: v takes other units")
            return
        form = FORMS[(FORMS.index(shape.form) + 1) % len(FORMS)]
        self._reshape(Shape(shape.unit, form, shape.byteorder))

    def action_byteorder(self) -> None:
        shape = self.hex.shape
        other: ByteOrder = "big" if shape.byteorder == "little" else "little"
        self._reshape(Shape(shape.unit, shape.form, other, shape.pointers))

    def _reshape(self, shape: Shape) -> None:
        self.hex.reshape(shape)
        self.tell()
        if shape.pointers:
            self._look_for_landmarks()
        self.post_message(Status(shape.said or "bytes in hex"))

    def action_fold(self) -> None:
        folding = not self.hex.folding
        self.hex.fold_alike(folding)
        self.post_message(Status("rows that are all alike are folded" if folding else "every row is shown"))

    # -- what numbers could mean ---------------------------------------------------------------------------------------

    def _note_of(self, value: int) -> str:
        return pointee(self.kd, value, self._marks)

    def action_inspect(self) -> None:
        self._look_for_landmarks()
        self.toggle_class("-inspect")
        self.make_room("-walk", "-results")
        self.tell()

    def action_walk(self) -> None:
        self.make_room("-inspect", "-results")
        super().action_walk()

    def tell(self) -> None:
        super().tell()
        if self.has_class("-inspect"):
            shape, width = self.hex.shape, self.size.width
            lines = inspect_lines(self.kd, self._seen(), self.hex.cursor, shape.byteorder, width, self._marks)
            self.query_one(InspectorPane).show(lines)

    def _seen(self) -> bytes:
        """Return the bytes from the cursor on, as far as they are there."""
        space, cursor = self.hex.space, self.hex.cursor
        extent = space.tiling[space.tiling.index(cursor)]
        if extent.kind != "present":
            return b""
        try:
            return space.read(cursor, min(SEEN, extent.start + extent.size - cursor))
        except kvmlib.KvmError:
            return b""

    def _look_for_landmarks(self) -> None:
        if self._marks is None and not self._marking:
            self._marking = True
            self._find_landmarks()

    @work(thread=True, exclusive=True, group="landmarks", exit_on_error=False)
    def _find_landmarks(self) -> None:
        worker = get_current_worker()
        try:
            marks = kvmlib.find_landmarks(self.kd, lambda: worker.is_cancelled)
        except kvmlib.KvmError:
            return
        self.post_message(self.Landmarked(marks))

    def on_memory_view_landmarked(self, event: Landmarked) -> None:
        self._marks = event.marks
        self.hex.reload()
        self.tell()
