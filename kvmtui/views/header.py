"""Header: every byte of the dump's header, beside what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from textual import work
from textual.containers import Container
from textual.message import Message

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.views.base import View
from kvmtui.widgets.fieldtree import FieldNodes, FieldTree
from kvmtui.widgets.hexview import HexView
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.space import BytesSpace, PendingSpace

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

Form = Literal["device", "savecore"]
_NAMES = {"device": "device form", "savecore": "saved form"}


class HeaderView(View):
    """The fields of the header and its bytes; the cursor in one lights the other."""

    view_id: ClassVar[str] = "header"
    title: ClassVar[str] = "Header"
    help_text: ClassVar[str] = (
        "Every byte of the dump's header and what it means. On one side the fields as the C header files declare them, "
        "on the other their bytes. Moving through the fields lights the bytes, moving through the bytes selects the "
        "field; Tab goes from one side to the other. Enter opens and closes a structure.\n"
        "A dump has two forms. The kernel writes the device form: one segment header with KCORE_MAGIC, then the CPU "
        "data. savecore(8) makes the saved form of it: kcore_hdr, the CPU segment, and the header of the memory "
        "segment. f shows the other form; the line at the top says which one is in the file."
    )
    DEFAULT_CSS = """
    HeaderView {
        & > #header-heading { height: 1; overflow-y: hidden; }
        & > #header-panes { layout: horizontal; height: 1fr; }
        & > #header-panes > FieldTree { width: 1fr; }
        & > #header-panes > HexView { width: 40; }
        & > #header-detail { overflow-y: hidden; border-top: solid $panel; height: 5; }
        &.-wide > #header-panes > HexView { width: 72; }
        &.-narrow > #header-panes { layout: vertical; }
        &.-narrow > #header-panes > FieldTree { width: 1fr; height: 1fr; }
        &.-narrow > #header-panes > HexView { width: 1fr; height: 1fr; }
        &.-low > #header-detail { border-top: none; height: 3; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("header")]

    class Read(Message):
        """The fields are known."""

        def __init__(self, form: Form, nodes: FieldNodes, data: bytes, problem: str) -> None:
            super().__init__()
            self.form = form
            self.nodes = nodes
            self.data = data
            self.problem = problem

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._form: Form | None = None
        self._following = False

    def compose(self) -> ComposeResult:
        yield Lines(id="header-heading")
        with Container(id="header-panes"):
            yield FieldTree(id="header-fields")
            yield HexView(PendingSpace("reading the header ..."), id="header-bytes")
        yield Lines(id="header-detail")

    @property
    def fields(self) -> FieldTree:
        return self.query_one(FieldTree)

    @property
    def hex(self) -> HexView:
        return self.query_one(HexView)

    @property
    def form(self) -> Form | None:
        """The form that is shown; None until it was read."""
        return self._form

    def on_show_view(self) -> None:
        if self._form is None:
            self._read("savecore" if self.kd.form == "savecore" else "device")
        self._focus(self.hex if self.screen.focused is self.hex else self.fields)

    def on_resize(self) -> None:
        # Here and not by the application's breakpoints: a pane may be narrower than the screen.
        width, height = self.size
        self.set_class(width < 72, "-narrow")
        self.set_class(width >= 110, "-wide")
        self.set_class(height < 16, "-low")
        self.call_after_refresh(self._tell)

    @work(thread=True, exclusive=True, group="header", exit_on_error=False)
    def _read(self, form: Form) -> None:
        nodes, data, problem = FieldNodes(()), b"", ""
        try:
            nodes = FieldNodes(kvmlib.header_fields(self.kd, form))
            data = kvmlib.header_bytes(self.kd, form)
        except kvmlib.KvmError as e:
            problem = str(e)
        self.post_message(self.Read(form, nodes, data, problem))

    def on_header_view_read(self, event: Read) -> None:
        self._form = event.form
        self.fields.show(event.nodes)
        self.hex.show(PendingSpace(event.problem) if event.problem else BytesSpace(event.data), 0)
        self._light()

    # -- one lights the other ----------------------------------------------------------------------------------------

    def on_field_tree_chosen(self, event: FieldTree.Chosen) -> None:
        event.stop()
        self._light()
        if event.field.size:
            self.hex.move_to(event.field.offset)

    def on_hex_view_moved(self, event: HexView.Moved) -> None:
        event.stop()
        # Only a person moving through the bytes chooses a field; when the field moved the bytes, it is chosen already.
        field = self.fields.field
        if self.screen.focused is self.hex or field is None:
            self.fields.select_byte(event.address)
            self._light()

    def _light(self) -> None:
        field = self.fields.field
        if field is not None:
            self.hex.mark(field.offset, field.size)
        self._tell()

    def _tell(self) -> None:
        if self._form is None:
            return
        self.query_one("#header-heading", Lines).show([self._heading()])
        self.query_one("#header-detail", Lines).show(self._detail())

    def _heading(self) -> Line:
        form, found = self._form or "device", self.kd.form
        reading = self.kd.reading
        size = self.hex.space.tiling.high
        if self.size.width < 72:
            there = reading is not None and form == found
            where = f"in the file at {reading.headers.offset:#x}" if reading and there else "not in the file"
            return [(_NAMES[form], "strong"), (f", {where}", "")]
        if form == found and reading is not None:
            where = f"as it is in the file, {size} bytes from {reading.headers.offset:#x}"
        elif form == "savecore":
            where = f"not in the file: {size} bytes as savecore would write them"
        else:
            where = f"not in the file: {size} bytes as the kernel wrote them"
        return [(_NAMES[form], "strong"), (f", {where}", "")]

    def _detail(self) -> list[Line]:
        field = self.fields.field
        if field is None:
            return []
        width = self.size.width
        declared = f"  {field.header}" if field.header else ""
        name = field.name if field.name == field.ctype else f"{field.ctype} {field.name}"
        reading = self.kd.reading if self._form == self.kd.form else None
        if width < 72:
            at = f"offset {field.offset:#x}"
            at += f", file {reading.headers.offset + field.offset:#x}: " if reading else ": "
        else:
            at = f"offset {field.offset:#x} in the header"
            at += f", {reading.headers.offset + field.offset:#x} in the file" if reading else ""
            at += f", {field.size} byte{'' if field.size == 1 else 's'}: "
        lines: list[Line] = [
            [(name, "strong"), (declared, "label")],
            [(field.text, "strong")],
            [(f"{at}{_raw(field.raw, max(1, (width - len(at) + 1) // 3))}", "")],
            [(field.meaning, "")],
        ]
        return [[(kvmlib.printable(text), role) for text, role in line] for line in lines]

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_form(self) -> None:
        """Show the other form of the header."""
        if self._form is not None:
            self._read("savecore" if self._form == "device" else "device")

    def action_pane(self) -> None:
        """Go from the fields to the bytes, or back."""
        if self.screen.focused is self.hex:
            self._focus(self.fields)
        else:
            self._focus(self.hex)
            self.fields.select_byte(self.hex.cursor)
            self._light()

    def _focus(self, pane: FieldTree | HexView) -> None:
        if self.screen.focused is not pane:
            pane.focus()


def _raw(data: bytes, most: int) -> str:
    """Return bytes in hex, as many as fit."""
    if len(data) <= most:
        return data.hex(" ")
    return f"{data[: most - 1].hex(' ')} .."
