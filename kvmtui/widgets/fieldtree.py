"""A tree of header fields as one Line-API widget: a sparse dump has 100,000 segments, so none is drawn unseen."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

import kvmlib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

#: Structures with more parts than this begin closed.
_MANY = 64


class FieldNodes:
    """The fields in the order of a walk through the tree, each with its depth and where its parts end."""

    def __init__(self, roots: Sequence[kvmlib.Field]) -> None:
        self.fields: list[kvmlib.Field] = []
        self.depths: list[int] = []
        self.ends: list[int] = []
        self.parents: list[int] = []
        for root in roots:
            self._add(root, 0, -1)

    def _add(self, field: kvmlib.Field, depth: int, parent: int) -> None:
        number = len(self.fields)
        self.fields.append(field)
        self.depths.append(depth)
        self.parents.append(parent)
        self.ends.append(0)
        for child in field.children:
            self._add(child, depth + 1, number)
        self.ends[number] = len(self.fields)

    def children(self, number: int) -> list[int]:
        """Return the numbers of a field's parts."""
        found = []
        at, end = number + 1, self.ends[number]
        while at < end:
            found.append(at)
            at = self.ends[at]
        return found

    def roots(self) -> list[int]:
        found, at = [], 0
        while at < len(self.fields):
            found.append(at)
            at = self.ends[at]
        return found

    def owner(self, offset: int) -> int | None:
        """Return the smallest field that holds the byte at `offset`; None behind the last one."""
        found = None
        choices = self.roots()
        while choices:
            i = bisect.bisect_right(choices, offset, key=lambda n: self.fields[n].offset) - 1
            # Two fields may begin at the same place when one has no bytes: the last one that does hold the byte counts.
            if i < 0 or not offset < self.fields[choices[i]].offset + self.fields[choices[i]].size:
                return found
            found = choices[i]
            choices = self.children(found)
        return found

    def path(self, number: int) -> str:
        """Return the name of a field with those of the structures around it."""
        names = []
        while number >= 0:
            names.append(self.fields[number].name)
            number = self.parents[number]
        return " > ".join(reversed(names))


class FieldTree(ScrollView, can_focus=True):
    """The fields, one a row; structures open and close."""

    DEFAULT_CSS = """
    FieldTree {
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        & > .fieldtree--struct { text-style: bold; }
        & > .fieldtree--padding { color: $text-muted; text-style: dim; }
        & > .fieldtree--value { color: $text-success; }
        & > .fieldtree--warning { color: $text-error; text-style: bold; }
        & > .fieldtree--cursor { text-style: bold underline; }
    }
    FieldTree:focus > .fieldtree--cursor { text-style: reverse; }
    FieldTree:ansi > .fieldtree--value { color: ansi_green; }
    FieldTree:ansi > .fieldtree--padding { color: ansi_default; text-style: dim; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "fieldtree--struct",
        "fieldtree--padding",
        "fieldtree--value",
        "fieldtree--warning",
        "fieldtree--cursor",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "rows(-1)", "Up", show=False),
        Binding("down,j", "rows(1)", "Down", show=False),
        Binding("pageup,b", "pages(-1)", "Page up", show=False),
        Binding("pagedown", "pages(1)", "Page down", show=False),
        Binding("home,less_than_sign", "edge(False)", "First", show=False),
        Binding("end,greater_than_sign", "edge(True)", "Last", show=False),
        Binding("enter,space", "open_close", "Open or close", show=False),
        Binding("left,h", "close", "Close", show=False),
        Binding("plus", "open", "Open", show=False),
    ]

    class Chosen(Message):
        """The cursor stands on another field."""

        def __init__(self, field: kvmlib.Field, path: str) -> None:
            super().__init__()
            self.field = field
            self.path = path

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.nodes = FieldNodes(())
        #: Numbers of the visible fields, ascending.
        self._rows: list[int] = []
        self._open: set[int] = set()
        self._at = 0

    @property
    def field(self) -> kvmlib.Field | None:
        """The field under the cursor."""
        return self.nodes.fields[self._rows[self._at]] if self._rows else None

    @property
    def path(self) -> str:
        """Its name, with the structures around it."""
        return self.nodes.path(self._rows[self._at]) if self._rows else ""

    @property
    def row_count(self) -> int:
        return len(self._rows)

    def show(self, nodes: FieldNodes) -> None:
        """Show other fields, with the cursor on the first."""
        self.nodes = nodes
        self._rows = nodes.roots()
        self._open = set()
        self._at = 0
        for number in nodes.roots():
            self._set_open(number, True)
        self._measure()
        self.scroll_to(y=0, animate=False)

    def select_byte(self, offset: int) -> None:
        """Put the cursor on the field that owns a byte, opening what it lies in; posts nothing."""
        number = self.nodes.owner(offset)
        if number is not None and self._rows and self._rows[self._at] != number:
            self._go(number, tell=False)

    def select_field(self, field: kvmlib.Field) -> None:
        """Put the cursor on one of the fields."""
        number = next((i for i, f in enumerate(self.nodes.fields) if f is field or f == field), None)
        if number is not None and self._rows:
            self._go(number, tell=True)

    def warned(self, by: int) -> bool:
        """Go to the next field with a warning, or with `by` -1 to the one before; say whether there is one."""
        if not self._rows:
            return False
        here = self._rows[self._at]
        numbers = range(here + 1, len(self.nodes.fields)) if by > 0 else range(here - 1, -1, -1)
        number = next((i for i in numbers if self.nodes.fields[i].warning), None)
        if number is not None:
            self._go(number, tell=True)
        return number is not None

    def _go(self, number: int, tell: bool) -> None:
        """Put the cursor on a field, opening what it lies in."""
        around = []
        parent = self.nodes.parents[number]
        while parent >= 0:
            around.append(parent)
            parent = self.nodes.parents[parent]
        closed = [n for n in reversed(around) if n not in self._open]
        for n in closed:
            self._set_open(n, True)
        if closed:
            self._measure()
        self._to(bisect.bisect_left(self._rows, number), tell=tell)

    def _set_open(self, number: int, wanted: bool) -> None:
        children = self.nodes.children(number)
        at = bisect.bisect_left(self._rows, number)
        if not children or wanted == (number in self._open) or self._rows[at] != number:
            return
        if wanted:
            self._open.add(number)
            self._rows[at + 1 : at + 1] = children
            if len(children) <= _MANY:
                for child in children:
                    if len(self.nodes.children(child)) > 2:
                        self._set_open(child, True)
        else:
            end = bisect.bisect_left(self._rows, self.nodes.ends[number])
            self._open -= set(self._rows[at:end])
            del self._rows[at + 1 : end]

    def _measure(self) -> None:
        self.virtual_size = Size(self._columns, len(self._rows))
        self.refresh()

    @property
    def _columns(self) -> int:
        return self.scrollable_content_region.width

    def on_resize(self) -> None:
        self.virtual_size = Size(self._columns, len(self._rows))
        self._reveal()

    # -- the cursor --------------------------------------------------------------------------------------------------

    def _to(self, row: int, tell: bool = True) -> None:
        row = max(0, min(row, len(self._rows) - 1))
        old, self._at = self._at, row
        self._refresh_row(old)
        self._refresh_row(row)
        self._reveal()
        if tell and row != old:
            self._tell()

    def _tell(self) -> None:
        field = self.field
        if field is not None:
            self.post_message(self.Chosen(field, self.path))

    def _reveal(self) -> None:
        height, top = max(1, self.size.height), round(self.scroll_target_y)
        if self._at < top:
            self.scroll_to(y=self._at, animate=False)
        elif self._at >= top + height:
            self.scroll_to(y=self._at - height + 1, animate=False)

    def _refresh_row(self, row: int) -> None:
        y = row - self.scroll_offset.y
        if 0 <= y < self.size.height:
            self.refresh(Region(0, y, self._columns, 1))

    def action_rows(self, by: int) -> None:
        self._to(self._at + by)

    def action_pages(self, by: int) -> None:
        self._to(self._at + by * max(1, self.size.height - 1))

    def action_edge(self, end: bool) -> None:
        self._to(len(self._rows) - 1 if end else 0)

    def action_open_close(self) -> None:
        if self._rows:
            number = self._rows[self._at]
            if not self.nodes.fields[number].children:
                # There is nothing to open: the key may mean something else to what is around.
                raise SkipAction
            self._set_open(number, number not in self._open)
            self._measure()

    def action_open(self) -> None:
        if self._rows:
            self._set_open(self._rows[self._at], True)
            self._measure()

    def action_close(self) -> None:
        """Close this structure, or go to the one around this field."""
        if not self._rows:
            return
        number = self._rows[self._at]
        if number in self._open:
            self._set_open(number, False)
            self._measure()
        elif self.nodes.parents[number] >= 0:
            self._to(bisect.bisect_left(self._rows, self.nodes.parents[number]))

    def on_click(self, event: events.Click) -> None:
        row = event.y + self.scroll_offset.y
        if row < len(self._rows):
            if row == self._at and self.nodes.fields[self._rows[row]].children:
                self.action_open_close()
            self._to(row)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        row, width, base = y + self.scroll_offset.y, self._columns, self.rich_style
        if row >= len(self._rows):
            return Strip.blank(width, base)
        number = self._rows[row]
        field = self.nodes.fields[number]
        sign = "-" if number in self._open else "+" if field.children else " "
        name = f"{'  ' * self.nodes.depths[number]}{sign} {kvmlib.printable(field.name)}"
        value = f"  {kvmlib.printable(field.text)}"
        role = "padding" if not field.children and field.value is None else "struct" if field.children else ""
        look = self.get_component_rich_style(f"fieldtree--{role}") if role else base
        side = self.get_component_rich_style("fieldtree--value") if not role else look
        if row == self._at:
            roles = ([f"fieldtree--{role}"] if role else []) + ["fieldtree--cursor"]
            look = side = self.get_component_rich_style(*roles)
        segments = [Segment(name, look)]
        if field.warning:
            warned = self.get_component_rich_style("fieldtree--warning")
            segments.append(Segment("  !", look if row == self._at else warned))
        strip = Strip([*segments, Segment(value, side)])
        return strip.adjust_cell_length(width, look if row == self._at else base)
