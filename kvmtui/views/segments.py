"""Segments: the runs of RAM in the dump, as a table and to scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import work
from textual.binding import BindingType
from textual.widget import Widget

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import GoTo, Status
from kvmtui.views.listing import Item, ListingView
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.picture import LEGEND, Picture
from kvmtui.widgets.rowlist import ListRows, Rows
from kvmtui.widgets.rows import size_text
from kvmtui.widgets.wrap import wrap


class SegmentRows:
    """The table, made row by row as it is looked at: a sparse dump has 100,000 segments."""

    def __init__(self, segments: list[kvmlib.Segment], width: int) -> None:
        self.segments = segments
        self.number = len(str(len(segments)))
        end = max((s.start + s.size for s in segments), default=0)
        far = max((s.offset + s.present for s in segments), default=0)
        self.pa, self.file = max(8, len(f"{end:x}")) + 2, max(8, len(f"{far:x}")) + 2
        #: Narrow terminals do without the end, which is the start and the size together.
        self.narrow = width < self.number + 2 * self.pa + self.file + 32

    def heading(self) -> str:
        """Return the line above the table."""
        if self.narrow:
            return f"{'#':>{self.number}} {'pa':<{self.pa}} {'size':>9}  here"
        parts = (f"{'#':>{self.number}}", f"{'first pa':<{self.pa}}", f"{'last pa':<{self.pa}}", f"{'size':>9}")
        return "  ".join((*parts, f"{'offset':<{self.file}}", "present"))

    def __len__(self) -> int:
        return len(self.segments)

    def selectable(self, number: int) -> bool:
        return True

    def line(self, number: int) -> Line:
        s = self.segments[number]
        present, role = presence(s)
        if self.narrow:
            return [(f"{number:>{self.number}} {s.start:#0{self.pa}x} {size_text(s.size):>9}  ", ""), (present, role)]
        last = max(s.start, s.start + s.size - 1)
        parts = (
            f"{number:>{self.number}}",
            f"{s.start:#0{self.pa}x}",
            f"{last:#0{self.pa}x}",
            f"{size_text(s.size):>9}",
        )
        return [("  ".join((*parts, f"{s.offset:#0{self.file}x}  ")), ""), (present, role)]


def presence(s: kvmlib.Segment) -> tuple[str, str]:
    """Say in a word whether the file has a segment's bytes."""
    if s.present >= s.size:
        return "all", "good"
    if s.present == 0:
        return "NOTHING", "bad"
    return f"only {size_text(s.present)}", "bad"


class SegmentsView(ListingView):
    """Physical memory from end to end."""

    view_id: ClassVar[str] = "segments"
    title: ClassVar[str] = "Segments"
    help_text: ClassVar[str] = (
        "The runs of RAM that the dump holds, in the header's order, which is the order of their bytes in the file. "
        "Above the table the same to scale, from the lowest physical address on the left to the highest on the right:"
        " # is RAM that is in the file, % RAM of which the file has only a part, ! RAM that should be in the file and"
        " is not, + a stretch with both RAM and holes, . a hole. A ^ below it marks the segment under the cursor.\n"
        "Enter shows the segment's first byte in Memory, by its physical address."
    )
    DEFAULT_CSS = """
    SegmentsView {
        & > #segments-total { height: auto; overflow-y: hidden; }
        & > #segments-picture { height: 3; overflow-y: hidden; }
        & > #segments-legend { height: 1; overflow-y: hidden; }
        & > #segments-heading { height: 1; overflow-y: hidden; }
        &.-low > #segments-legend { display: none; }
        &.-low > #segments-picture { height: 2; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("segments")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._segments: list[kvmlib.Segment] | None = None
        self._picture = Picture(())
        self._listed = True
        self._problem = ""

    def above(self) -> Iterator[Widget]:
        yield Lines(id="segments-total")
        yield Lines(id="segments-legend")
        yield Lines(id="segments-picture")
        yield Lines(id="segments-heading")

    def on_resize(self) -> None:
        self.set_class(self.size.height < 16, "-low")
        super().on_resize()

    def ask(self) -> None:
        self.fill()
        self._read()

    @work(thread=True, exclusive=True, group="segments", exit_on_error=False)
    def _read(self) -> None:
        try:
            segments = list(self.kd.ram)
            self._listed = bool(self.kd.segments)
            self._picture = Picture(segments)
            self._segments = segments
        except kvmlib.KvmError as e:
            self._problem = str(e)
        self.post_message(self.Filled())

    def build(self, width: int) -> Rows:
        if self._segments is None:
            text = self._problem or "reading the segments ..."
            return ListRows[Item]([([(text, "bad" if self._problem else "faint")], None)])
        rows = SegmentRows(self._segments, width)
        self.query_one("#segments-total", Lines).show(self._totals(width))
        self.query_one("#segments-legend", Lines).show([[(LEGEND, "label")]])
        self.query_one("#segments-heading", Lines).show([[(rows.heading(), "label")]])
        self._draw(0)
        return rows

    def _totals(self, width: int) -> list[Line]:
        segments = self._segments or []
        promised, present = sum(s.size for s in segments), sum(s.present for s in segments)
        count = f"{len(segments):,} segment{'' if len(segments) == 1 else 's'}"
        if not self._listed:
            count = "no list of segments: one run from pa 0 on"
        text = f"{count}, {size_text(promised)} of RAM, "
        missing = promised - present
        state, role = (f"{size_text(missing)} missing", "bad") if missing else ("all of it in the file", "good")
        if len(text + state) > width:
            state = state.removesuffix(" in the file")
        if len(text + state) > width:
            return [*([(row, "")] for row in wrap(text.rstrip(), width)), [(state, role)]]
        return [[(text, ""), (state, role)]]

    def _draw(self, number: int) -> None:
        if self._segments:
            width = self._width
            mark = self._segments[number] if 0 <= number < len(self._segments) else None
            lines = self._picture.lines(width, mark)
            self.query_one("#segments-picture", Lines).show(lines[1:] if self.has_class("-low") else lines)

    def item(self, number: int) -> Item | None:
        if self._segments is None or not 0 <= number < len(self._segments):
            return None
        s = self._segments[number]
        present = f"{s.present:,} of {s.size:,} bytes are in the file" if s.present < s.size else f"{s.size:,} bytes"
        return Item(f"segment {number}: pa {s.start:#x} at file offset {s.offset:#x}, {present}", s.start, True)

    def tell(self) -> None:
        super().tell()
        self._draw(self.list.cursor)

    def action_jump(self) -> None:
        item = self.item(self.list.cursor)
        if item is None or item.va is None:
            self.post_message(Status("there is no segment here"))
        else:
            self.post_message(GoTo(item.va, physical=True))
