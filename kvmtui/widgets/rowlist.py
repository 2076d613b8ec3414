"""A list of rows as one Line-API widget, with a cursor: only the rows on the screen are ever made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

import kvmlib
from kvmtui.widgets.lines import Line

T = TypeVar("T")
ROLES = ("label", "strong", "faint", "bad", "good", "match")


class Rows(Protocol):
    """What a `RowList` shows. `line` is asked only for rows on the screen, so there may be very many."""

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def line(self, number: int) -> Line:
        """Return the text of a row, in pieces with their roles."""
        ...

    def selectable(self, number: int) -> bool:
        """Say whether the cursor may stand on a row."""
        ...


class ListRows(Generic[T]):
    """Rows that lie at hand, each with what it stands for: None for a heading or the rest of a long text."""

    def __init__(self, rows: Sequence[tuple[Line, T | None]] = ()) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def line(self, number: int) -> Line:
        return self.rows[number][0]

    def selectable(self, number: int) -> bool:
        return self.rows[number][1] is not None

    def item(self, number: int) -> T | None:
        """Return what a row stands for."""
        return self.rows[number][1] if 0 <= number < len(self.rows) else None


class RowList(ScrollView, can_focus=True):
    """Rows with a cursor on one of those that can be chosen."""

    DEFAULT_CSS = """
    RowList {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        & > .rowlist--label { color: $text-muted; }
        & > .rowlist--strong { text-style: bold; }
        & > .rowlist--faint { color: $text-muted; text-style: dim; }
        & > .rowlist--bad { color: $text-error; text-style: bold; }
        & > .rowlist--good { color: $text-success; }
        & > .rowlist--match { background: $warning-muted; text-style: underline; }
        & > .rowlist--cursor { text-style: bold underline; }
    }
    RowList:focus > .rowlist--cursor { text-style: reverse; }
    RowList:ansi > .rowlist--label { color: ansi_cyan; }
    RowList:ansi > .rowlist--faint { color: ansi_default; text-style: dim; }
    RowList:ansi > .rowlist--match { background: ansi_default; text-style: bold underline; }
    RowList:nocolor > .rowlist--match { text-style: bold underline; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rowlist--{role}" for role in (*ROLES, "cursor")}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "rows(-1)", "Up", show=False),
        Binding("down,j", "rows(1)", "Down", show=False),
        Binding("pageup,b", "pages(-1)", "Page up", show=False),
        Binding("pagedown,space", "pages(1)", "Page down", show=False),
        Binding("home,less_than_sign", "edge(False)", "First", show=False),
        Binding("end,greater_than_sign", "edge(True)", "Last", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another row, or there are other rows."""

        def __init__(self, rows: RowList, number: int) -> None:
            super().__init__()
            self.rows = rows
            self.number = number

        @property
        def control(self) -> RowList:
            return self.rows

    class Chosen(Message):
        """The row under the cursor was clicked a second time."""

        def __init__(self, rows: RowList, number: int) -> None:
            super().__init__()
            self.rows = rows
            self.number = number

        @property
        def control(self) -> RowList:
            return self.rows

    def __init__(self, rows: Rows | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Rows = rows if rows is not None else ListRows[object]()
        #: The row the cursor stands on; -1 when there is none to stand on.
        self.cursor = self._nearest(0)

    @property
    def text(self) -> str:
        """All rows as plain text."""
        return "\n".join("".join(text for text, _ in self.rows.line(i)) for i in range(len(self.rows)))

    def show(self, rows: Rows, cursor: int = 0) -> None:
        """Show other rows, with the cursor on `cursor` or near it."""
        self.rows = rows
        self.cursor = self._nearest(cursor)
        self.virtual_size = Size(self._columns, len(rows))
        if self.cursor < 0:
            self.scroll_to(y=0, animate=False)
        self._reveal()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    @property
    def _columns(self) -> int:
        return self.scrollable_content_region.width

    @property
    def _height(self) -> int:
        return max(1, self.size.height)

    def on_resize(self) -> None:
        self.virtual_size = Size(self._columns, len(self.rows))
        self._reveal()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._refresh_row(self.cursor)

    # -- the cursor --------------------------------------------------------------------------------------------------

    def _nearest(self, number: int) -> int:
        """Return the row to stand on when `number` is wanted: it, or the next below, or the next above; -1 for none."""
        count = len(self.rows)
        if not count:
            return -1
        number = max(0, min(number, count - 1))
        below = next((i for i in range(number, count) if self.rows.selectable(i)), None)
        if below is not None:
            return below
        return next((i for i in range(number, -1, -1) if self.rows.selectable(i)), -1)

    def move_to(self, number: int, centre: bool = False) -> None:
        """Put the cursor on a row, or near it."""
        number = self._nearest(number)
        if number < 0:
            return
        old, self.cursor = self.cursor, number
        if old != number:
            self._refresh_row(old)
            self._refresh_row(number)
            self.post_message(self.Moved(self, number))
        self._reveal(centre)

    def _reveal(self, centre: bool = False) -> None:
        """Scroll only when the cursor's row isn't in the window."""
        top, row, height = round(self.scroll_target_y), self.cursor, self._height
        # Headings above the first row that can be chosen come into view with it.
        first = 0 if row == self._nearest(0) and row < height else row
        if row < 0 or (top <= first and row < top + height):
            return
        if centre:
            target = row - height // 3
        else:
            target = first if first < top else row - height + 1
        self._scroll(target)

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=max(0, min(top, len(self.rows) - self._height)), animate=False)

    def _refresh_row(self, number: int) -> None:
        y = number - self.scroll_offset.y
        if 0 <= y < self.size.height:
            self.refresh(Region(0, y, self._columns, 1))

    def action_rows(self, by: int) -> None:
        number = self.cursor + by
        while 0 <= number < len(self.rows) and not self.rows.selectable(number):
            number += by
        if self.cursor >= 0 and 0 <= number < len(self.rows):
            self.move_to(number)
        else:
            # Nothing more to stand on: what lies beyond can still be read.
            self._scroll(round(self.scroll_target_y) + by)

    def action_pages(self, by: int) -> None:
        step = max(1, self._height - 1) * by
        self._scroll(round(self.scroll_target_y) + step)
        self._follow(self.cursor + step)

    def action_edge(self, end: bool) -> None:
        self._scroll(len(self.rows) if end else 0)
        self._follow(len(self.rows) - 1 if end else 0)

    def _follow(self, number: int) -> None:
        """Take the cursor along, but only to a row that is on the screen already."""
        near = self._nearest(number)
        top = round(self.scroll_target_y)
        if top <= near < top + self._height:
            self.move_to(near)
            return
        seen = [i for i in range(top, min(top + self._height, len(self.rows))) if self.rows.selectable(i)]
        if seen:
            self.move_to(min(seen, key=lambda i: abs(i - number)))

    def on_click(self, event: events.Click) -> None:
        number = event.y + self.scroll_offset.y
        if number < len(self.rows) and self.rows.selectable(number):
            if number == self.cursor:
                self.post_message(self.Chosen(self, number))
            else:
                self.move_to(number)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        number, width, base = y + self.scroll_offset.y, self._columns, self.rich_style
        if number >= len(self.rows):
            return Strip.blank(width, base)
        here = number == self.cursor
        segments = []
        for text, role in self.rows.line(number):
            roles = [f"rowlist--{r}" for r in (role, "cursor" if here else "") if r]
            look = self.get_component_rich_style(*roles) if roles else base
            segments.append(Segment(kvmlib.printable(text), look))
        rest = self.get_component_rich_style("rowlist--cursor") if here else base
        return Strip(segments).adjust_cell_length(width, rest)
