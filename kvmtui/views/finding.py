"""Every dump header in an image: where, of which machine, how well it fits and why; and opening one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import Choose
from kvmtui.opening import Request, Samples
from kvmtui.place import Place
from kvmtui.views.waiting import open_from
from kvmtui.widgets.format import file_name, size_of
from kvmtui.widgets.lines import Line
from kvmtui.widgets.rowlist import ListRows, RowList
from kvmtui.widgets.wrap import wrap

_INDENT = "    "


class FindScreen(Place):
    """Choose one of the headers in an image."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("find")]
    places = ("find",)
    help_title = "Headers in an image"
    help_text = (
        "Every header that a kernel may have written into this image, the best first: its offset, the machine, a score "
        "from 0 to 100, how much of the dump is there, the partition if the disk has a table that names it, and what "
        "speaks for and against it. An image may hold several: an older dump that a newer one did not overwrite "
        "whole, and copies of a header in the memory that was dumped.\n"
        "Enter opens the dump whose header is under the cursor."
    )

    class Found(Message):
        """The image was searched."""

        def __init__(self, found: list[kvmlib.Candidate], problem: str) -> None:
            super().__init__()
            self.found = found
            self.problem = problem

    def __init__(self, path: str, samples: Samples) -> None:
        super().__init__(file_name(path))
        self._path = path
        self._samples = samples
        self._found: list[kvmlib.Candidate] | None = None
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield self.title_bar
        yield RowList(id="find-rows")
        yield self.bottom

    @property
    def rows(self) -> RowList:
        return self.query_one(RowList)

    def on_mount(self) -> None:
        self.title_bar.tell("every header")
        self.rows.focus()
        self._fill()
        self._find()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    @work(thread=True, exclusive=True, group="find", exit_on_error=False)
    def _find(self) -> None:
        try:
            self.post_message(self.Found(kvmlib.find(self._path), ""))
        except kvmlib.KvmError as e:
            self.post_message(self.Found([], str(e)))

    def on_find_screen_found(self, event: Found) -> None:
        self._found, self._problem = event.found, event.problem
        self._fill()

    def _fill(self) -> None:
        if self.is_mounted:
            width = self.rows.scrollable_content_region.width or self.app.size.width - 1
            self.rows.show(ListRows(list(self._rows(width))), max(0, self.rows.cursor))

    def _rows(self, width: int) -> Iterator[tuple[Line, kvmlib.Candidate | None]]:
        if self._found is None:
            yield [("searching the image ...", "faint")], None
        elif not self._found:
            for row in wrap(self._problem or "there is no dump header in it", width):
                yield [(row, "bad")], None
        for c in self._found or ():
            form = "saved core" if c.form == "savecore" else "device form"
            facts = f"  {c.machine.name}  score {c.score}  {form}, {size_of(c.length)}"
            yield [(f"{c.offset:#x}", "strong"), (facts, "")], c
            where = [f"in {c.partition}"] if c.partition else []
            for reason in (*where, *c.reasons):
                for i, row in enumerate(wrap(kvmlib.printable(reason), max(16, width - len(_INDENT) - 2))):
                    yield [(_INDENT + ("  " if i else "") + row, "label")], None

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        self.post_message(Choose())

    def on_row_list_chosen(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        rows = self.rows.rows
        chosen = rows.item(self.rows.cursor) if isinstance(rows, ListRows) else None
        if not isinstance(chosen, kvmlib.Candidate):
            return
        offset = chosen.offset if chosen.form == "device" else None
        # The best reading of a header needs no word of ours, and so the doubts about it are still told.
        best = next(c for c in self._found or () if c.offset == chosen.offset)
        machine = None if chosen is best else chosen.machine.name
        open_from(self, Request(self._path, machine=machine, dump_off=offset), self._samples)
