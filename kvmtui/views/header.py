"""Header: every byte of the dump's header, beside what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from textual import work
from textual.containers import Container
from textual.message import Message

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.dialogs.field import FieldDialog, PairDialog
from kvmtui.messages import Status
from kvmtui.views.base import View
from kvmtui.widgets.fieldtext import PairRows, detail, pair_detail
from kvmtui.widgets.fieldtree import FieldNodes, FieldTree
from kvmtui.widgets.hexview import HexView
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.rowlist import RowList
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
        "segment. f shows the other form, v both side by side with what differs lit; the line at the top says which "
        "one is in the file.\n"
        "! marks a value that says something else than it seems to: n goes to the next one. What doesn't fit below the "
        "fields is shown by a, or by Enter on a field that has no parts."
    )
    DEFAULT_CSS = """
    HeaderView {
        & > #header-heading { height: 1; overflow-y: hidden; }
        & > #header-panes { layout: horizontal; height: 1fr; }
        & > #header-panes > FieldTree { width: 1fr; }
        & > #header-panes > HexView { width: 40; }
        & > #header-pairs-heading { height: 1; overflow-y: hidden; display: none; }
        & > #header-pairs { display: none; }
        & > #header-detail { overflow-y: hidden; border-top: solid $panel; border-title-align: right; height: 7; }
        &.-both > #header-panes { display: none; }
        &.-both > #header-pairs { display: block; }
        &.-both > #header-pairs-heading { display: block; }
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

        def __init__(
            self, form: Form, nodes: FieldNodes, data: bytes, pairs: tuple[kvmlib.FieldPair, ...], problem: str
        ) -> None:
            super().__init__()
            self.form = form
            self.nodes = nodes
            self.data = data
            self.pairs = pairs
            self.problem = problem

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._form: Form | None = None
        self._pairs: tuple[kvmlib.FieldPair, ...] = ()

    def compose(self) -> ComposeResult:
        yield Lines(id="header-heading")
        with Container(id="header-panes"):
            yield FieldTree(id="header-fields")
            yield HexView(PendingSpace("reading the header ..."), id="header-bytes")
        yield Lines(id="header-pairs-heading")
        yield RowList(id="header-pairs")
        yield Lines(id="header-detail")

    @property
    def pairs(self) -> RowList:
        """Both forms side by side."""
        return self.query_one(RowList)

    @property
    def both(self) -> bool:
        """Whether both forms are shown."""
        return self.has_class("-both")

    @property
    def field(self) -> kvmlib.Field | None:
        """The field under the cursor; where both forms are shown, that of a form that has it."""
        if not self.both:
            return self.fields.field
        return self._pairs[self.pairs.cursor].field if self._pairs else None

    @property
    def word(self) -> str:
        field = self.field
        # The field's own name first, then what it is about.
        return f"{field.name}\n{field.meaning}\n{field.text}" if field is not None else ""

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
        self._focus(self.pairs if self.both else self.hex if self.screen.focused is self.hex else self.fields)

    def on_resize(self) -> None:
        # Here and not by the application's breakpoints: a pane may be narrower than the screen.
        width, height = self.size
        self.set_class(width < 72, "-narrow")
        self.set_class(width >= 110, "-wide")
        self.set_class(height < 16, "-low")
        if self.both:
            self._show_pairs()
        self.call_after_refresh(self._tell)

    @work(thread=True, exclusive=True, group="header", exit_on_error=False)
    def _read(self, form: Form) -> None:
        nodes, data, pairs, problem = FieldNodes(()), b"", self._pairs, ""
        try:
            nodes = FieldNodes(kvmlib.header_fields(self.kd, form))
            data = kvmlib.header_bytes(self.kd, form)
            pairs = pairs or kvmlib.header_pairs(self.kd)
        except kvmlib.KvmError as e:
            problem = str(e)
        self.post_message(self.Read(form, nodes, data, pairs, problem))

    def on_header_view_read(self, event: Read) -> None:
        self._form = event.form
        self._pairs = event.pairs
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

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        event.stop()
        self._tell()

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.action_about()

    def _light(self) -> None:
        field = self.fields.field
        if field is not None:
            self.hex.mark(field.offset, field.size)
        self._tell()

    def _tell(self) -> None:
        if self._form is None:
            return
        self.query_one("#header-heading", Lines).show([self._heading()])
        detail = self.query_one("#header-detail", Lines)
        lines = self._detail()
        detail.show(lines)
        cut = len(lines) > detail.scrollable_content_region.height
        detail.border_title = "a: all of it" if cut else ""

    def _heading(self) -> Line:
        if self.both:
            differ = sum(p.differs and not p.field.children for p in self._pairs)
            return [("both forms", "strong"), (f", {differ} fields differ" if differ != 1 else ", 1 field differs", "")]
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

    def _start(self) -> int | None:
        """Return where in the file the form that is shown begins; None where it isn't in the file."""
        reading = self.kd.reading
        return reading.headers.offset if reading is not None and self._form == self.kd.form else None

    def _detail(self) -> list[Line]:
        width = self.size.width
        if self.both:
            return pair_detail(self._pairs[self.pairs.cursor], width) if self._pairs else []
        field = self.fields.field
        return detail(field, self.kd.machine, self._start(), width) if field is not None else []

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_form(self) -> None:
        """Show the other form of the header."""
        if self._form is not None:
            self._read("savecore" if self._form == "device" else "device")

    def action_both(self) -> None:
        """Show both forms side by side, or one again."""
        if not self._pairs:
            return
        field = self.field
        self.toggle_class("-both")
        if self.both:
            self._show_pairs(field)
            self._focus(self.pairs)
        else:
            pair = self._pairs[max(0, self.pairs.cursor)]
            there = pair.device if self._form == "device" else pair.saved
            self._focus(self.fields)
            if there is not None:
                self.fields.select_field(there)
            self._light()
        self._tell()

    def _show_pairs(self, field: kvmlib.Field | None = None) -> None:
        """Fill in the list, with the cursor on a field or where it was."""
        rows = PairRows(self._pairs, self.pairs.scrollable_content_region.width or self.size.width - 1)
        at = self.pairs.cursor
        if field is not None:
            at = next((i for i, p in enumerate(self._pairs) if field in (p.device, p.saved)), at)
        self.query_one("#header-pairs-heading", Lines).show([rows.heading()])
        self.pairs.show(rows, max(0, at))

    def action_about(self) -> None:
        """Show all about the field under the cursor."""
        field = self.field
        if field is None:
            return
        if self.both:
            pair = self._pairs[self.pairs.cursor]
            self.app.push_screen(PairDialog(self.kd, pair))
        else:
            self.app.push_screen(FieldDialog(self.kd, self.fields.path, field, self._start()))

    def action_next(self) -> None:
        self._next(1)

    def action_previous(self) -> None:
        self._next(-1)

    def _next(self, by: int) -> None:
        where = "behind" if by > 0 else "before"
        if not self.both:
            if not self.fields.warned(by):
                self.post_message(Status(f"no field {where} this one has a warning"))
            return
        numbers = range(self.pairs.cursor + by, len(self._pairs) if by > 0 else -1, by)
        number = next((i for i in numbers if self._pairs[i].differs and not self._pairs[i].field.children), None)
        if number is None:
            self.post_message(Status(f"no field {where} this one differs"))
        else:
            self.pairs.move_to(number)

    def action_pane(self) -> None:
        """Go from the fields to the bytes, or back."""
        if self.both:
            self.action_both()
        elif self.screen.focused is self.hex:
            self._focus(self.fields)
        else:
            self._focus(self.hex)
            self.fields.select_byte(self.hex.cursor)
            self._light()

    def _focus(self, pane: FieldTree | HexView | RowList) -> None:
        if self.screen.focused is not pane:
            pane.focus()
