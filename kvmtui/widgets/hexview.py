"""The hex view: one Line-API widget over rows. Nothing is read that isn't on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

import kvmlib
from kvmtui.widgets.folds import FEW, FoldedModel
from kvmtui.widgets.hexdraw import Lit, Note, RowPainter
from kvmtui.widgets.hexlayout import HexLayout, layout_for
from kvmtui.widgets.shape import Shape
from kvmtui.widgets.space import BytesSpace, Space

if TYPE_CHECKING:
    from rich.style import Style
    from textual import events


class HexView(ScrollView, can_focus=True):
    """Bytes of a `Space`, with a cursor on one of them."""

    DEFAULT_CSS = """
    HexView {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        & > .hexview--address { text-style: none; }
        & > .hexview--nul { color: $text-muted; text-style: dim; }
        & > .hexview--text { color: $text-success; }
        & > .hexview--other { color: $text-warning; }
        & > .hexview--unmapped { color: $text-muted; text-style: dim; }
        & > .hexview--not_in_dump { color: $text-accent; }
        & > .hexview--truncated { color: $text-error; text-style: bold; }
        & > .hexview--unlisted { color: $text-warning; }
        & > .hexview--unreadable { color: $text-error; text-style: bold; }
        & > .hexview--same { color: $text-muted; text-style: dim; }
        & > .hexview--note { color: $text-accent; }
        & > .hexview--mark { background: $primary-muted; text-style: underline; }
        & > .hexview--cursor { text-style: bold underline; }
    }
    HexView:focus > .hexview--cursor { text-style: reverse; }
    HexView:ansi > .hexview--mark { background: ansi_blue; text-style: underline; }
    HexView:ansi > .hexview--same { color: ansi_default; text-style: dim; }
    HexView:ansi > .hexview--note { color: ansi_cyan; }
    HexView:ansi > .hexview--nul { color: ansi_default; text-style: dim; }
    HexView:ansi > .hexview--text { color: ansi_green; }
    HexView:ansi > .hexview--other { color: ansi_yellow; }
    HexView:nocolor > .hexview--text { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"hexview--{role}"
        for role in (
            *("address", "nul", "text", "other", "unmapped", "not_in_dump", "truncated", "unlisted", "unreadable"),
            *("mark", "cursor", "same", "note"),
        )
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", "Left", show=False),
        Binding("right,l", "move(1)", "Right", show=False),
        Binding("up,k", "rows(-1)", "Up", show=False),
        Binding("down,j", "rows(1)", "Down", show=False),
        Binding("pageup,b", "pages(-1)", "Page up", show=False),
        Binding("pagedown,space", "pages(1)", "Page down", show=False),
        Binding("0", "row_edge(False)", "Start of row", show=False),
        Binding("$", "row_edge(True)", "End of row", show=False),
        Binding("home,ctrl+home,less_than_sign", "edge(False)", "First byte", show=False),
        Binding("end,ctrl+end,greater_than_sign", "edge(True)", "Last byte", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another address now."""

        def __init__(self, view: HexView, address: int) -> None:
            super().__init__()
            self.view = view
            self.address = address

        @property
        def control(self) -> HexView:
            return self.view

    def __init__(self, space: Space | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.space: Space = space or BytesSpace(b"")
        self.cursor = self.space.tiling.low
        self.layout_: HexLayout = layout_for(79, self.space.digits)
        self.model = FoldedModel(self.space.tiling, self.layout_.bytes)
        self.shape = Shape()
        #: Says what a pointer points to.
        self.note: Note | None = None
        #: Whether rows that are all alike are folded to one.
        self.folding = False
        self._busy = False
        self._looked: tuple[int, int, int] | None = None
        #: Rows to scroll at once when the cursor leaves the window: on a slow line one repaint for many moves.
        self.stride = 1
        self._mark = (0, 0)
        self._column = 0
        self._strips: LRUCache[int, Strip] = LRUCache(256)

    # -- what is shown -----------------------------------------------------------------------------------------------

    def show(self, space: Space, address: int) -> None:
        """Show another space, with the cursor on `address`."""
        self.space = space
        self.cursor = min(max(address, space.tiling.low), space.tiling.high - 1)
        self._mark = (0, 0)
        self._lay_out(keep_top=False)
        self.post_message(self.Moved(self, self.cursor))

    def reload(self) -> None:
        """Read again what is on the screen."""
        self._strips.clear()
        self.refresh()

    def reshape(self, shape: Shape) -> None:
        """Spell the bytes in another way."""
        self.shape = shape
        self._lay_out()

    def fold_alike(self, folding: bool) -> None:
        """Fold rows that are all alike, or show each of them."""
        self.folding = folding
        self._lay_out()

    def mark(self, start: int, size: int) -> None:
        """Light `size` bytes from `start` on; 0 for none."""
        if (start, size) == self._mark:
            return
        old, self._mark = self._mark, (start, size)
        self._forget(old)
        self._forget(self._mark)

    def _lay_out(self, keep_top: bool = True) -> None:
        top = self.model.row(min(self.scroll_offset.y, self.model.total - 1)).start
        self.layout_ = layout_for(self._columns or 79, self.space.digits, self.shape)
        self.model = FoldedModel(self.space.tiling, self.layout_.bytes)
        self._looked = None
        self._strips.clear()
        self._column = self.cursor % self.layout_.bytes
        self.virtual_size = Size(self._columns, self.model.total)
        if keep_top:
            self.scroll_to(y=self.model.row_of(self.model.clamp(top)), animate=False)
        self._reveal(centre=not keep_top)
        self._fold()
        self.refresh()

    def on_resize(self) -> None:
        if (
            layout_for(self._columns, self.space.digits, self.shape) == self.layout_
            and self.virtual_size.width == self._columns
        ):
            # Only the height changed: what is drawn stays good.
            self._reveal()
            self._fold()
        else:
            self._lay_out(keep_top=self.virtual_size.height > 1)

    @property
    def _columns(self) -> int:
        """Columns without the scrollbar."""
        return self.scrollable_content_region.width

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._strips.clear()
        self._refresh_row(self.model.row_of(self.cursor))

    # -- the cursor --------------------------------------------------------------------------------------------------

    def move_to(self, address: int, *, keep_column: bool = False, centre: bool = False) -> None:
        """Put the cursor on `address`, or on the nearest one there is, and make it visible."""
        address = self.model.clamp(address)
        old, self.cursor = self.cursor, address
        if not keep_column:
            self._column = address % self.layout_.bytes
        if self.model.open(self.model.whole_of(address)):
            self._refolded()
        if old != address:
            self._refresh_byte(old)
            self._refresh_byte(address)
            self.post_message(self.Moved(self, address))
        self._reveal(centre)

    def _reveal(self, centre: bool = False) -> None:
        """Scroll only when the cursor's row isn't in the window."""
        height, row = self._height, self.model.row_of(self.cursor)
        top = round(self.scroll_target_y)
        if top <= row < top + height:
            return
        if centre:
            target = row - height // 3
        elif row < top:
            target = min(row, top - self.stride)
        else:
            target = max(row - height + 1, top + self.stride)
        self.scroll_to(y=max(0, min(target, self.model.total - height)), animate=False)

    @property
    def _height(self) -> int:
        return max(1, self.size.height)

    def action_move(self, by: int) -> None:
        row = self.model.row(self.model.row_of(self.cursor))
        unit = self.layout_.unit
        if row.kind == "present":
            there = self.model.clamp(self.cursor // unit * unit + by * unit)
        else:
            there = self.model.clamp(row.start + row.size if by > 0 else row.start - 1)
        # A hole is one step, and the cursor stands at its beginning.
        row = self.model.row(self.model.row_of(there))
        self.move_to(there if row.kind == "present" else row.start)

    def action_rows(self, by: int) -> None:
        self._to_row(self.model.row_of(self.cursor) + by)

    def action_pages(self, by: int) -> None:
        # The window moves with the cursor, so that the cursor stays on the same line of the screen.
        step = max(1, self._height - 1) * by
        here = self.model.row_of(self.cursor)
        last = max(0, self.model.total - self._height)
        self.scroll_to(y=max(0, min(last, round(self.scroll_target_y) + step)), animate=False)
        self._to_row(here + step)

    def _to_row(self, number: int) -> None:
        row = self.model.row(max(0, min(number, self.model.total - 1)))
        if row.kind == "present":
            column = max(row.skip, min(self._column, row.skip + row.size - 1))
            self.move_to(row.start + column - row.skip, keep_column=True)
        elif row.number != self.model.row_of(self.cursor):
            self.move_to(row.start, keep_column=True)

    def action_row_edge(self, end: bool) -> None:
        row = self.model.row(self.model.row_of(self.cursor))
        self.move_to(row.start + row.size - 1 if end else row.start)

    def action_edge(self, end: bool) -> None:
        tiling = self.space.tiling
        self.move_to(tiling.high - 1 if end else tiling.low)

    def on_click(self, event: events.Click) -> None:
        number = event.y + self.scroll_offset.y
        if number < self.model.total:
            row = self.model.row(number)
            byte = self.layout_.byte_at(event.x)
            if row.kind != "present":
                self.move_to(row.start)
            elif byte is not None and row.skip <= byte < row.skip + row.size:
                self.move_to(row.start + byte - row.skip)

    # -- folding -----------------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._fold()

    def _fold(self) -> None:
        """Fold what is alike on the screen. Nothing changes as long as the same rows are on it."""
        if not self.folding or self._busy:
            return
        self._busy = True
        # Rows that come in for those that went away may be alike too. Where all is alike there is no end to that.
        for _ in range(self._height):
            top = round(self.scroll_target_y)
            looked = (top, self._height, self.model.total)
            if looked == self._looked or not self._fold_once(top):
                break
        self._looked = (round(self.scroll_target_y), self._height, self.model.total)
        self._busy = False

    def _fold_once(self, top: int) -> bool:
        """Fold the first run of rows on the screen that isn't yet; the cursor's row stays where it is."""
        model, last = self.model, min(round(self.scroll_target_y) + self._height, self.model.total)
        number = top
        while number < last:
            whole = model.whole_row(number)
            try:
                backwards = number == top and model.row(number).kind == "present"
                first, end = model.alike(whole, self.space.read, backwards)
            except kvmlib.KvmError:
                first = end = whole
            here = model.whole_of(self.cursor)
            pieces = [(first + 1, end)]
            if first + 1 < here <= end and model.row(model.shown(here)).kind != "same":
                pieces = [(first + 1, here - 1), (here + 1, end)]
            pieces = [(a, b) for a, b in pieces if b - a + 1 >= FEW and model.shown(a) != model.shown(b)]
            if pieces:
                anchor = self.model.row_of(self.cursor)
                row, kept = (anchor, here) if top <= anchor < last else (top, model.whole_row(top))
                for piece in pieces:
                    model.fold(*piece)
                self._refolded(max(0, model.shown(kept) - (row - top)))
                return True
            number = max(number, model.shown(end)) + 1
        return False

    def _refolded(self, top: int | None = None) -> None:
        """There are more rows now, or fewer."""
        self._strips.clear()
        self.virtual_size = Size(self._columns, self.model.total)
        if top is not None:
            self.scroll_to(y=max(0, min(top, self.model.total - self._height)), animate=False)
        self.refresh()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _refresh_byte(self, address: int) -> None:
        """Repaint one row, as far as the byte: an arrow key must be cheap on a serial line."""
        number = self.model.row_of(address)
        if self.model.row(number).kind == "present":
            column = 0 if self.layout_.note else address % self.layout_.bytes
            self._refresh_row(number, self.layout_.text_column(column) + 1)
        else:
            self._refresh_row(number)

    def _refresh_row(self, number: int, columns: int | None = None) -> None:
        self._strips.discard(number)
        y = number - self.scroll_offset.y
        if 0 <= y < self._height:
            self.refresh(Region(0, y, columns or self.layout_.width, 1))

    def _forget(self, stretch: tuple[int, int]) -> None:
        """Repaint the rows of a stretch that are on the screen."""
        start, size = stretch
        if not size:
            return
        top = self.scroll_offset.y
        first = max(top, self.model.row_of(self.model.clamp(start)))
        last = min(top + self._height - 1, self.model.row_of(self.model.clamp(start + size - 1)))
        for number in range(first, last + 1):
            self._refresh_row(number)
        self._strips.clear()

    def render_line(self, y: int) -> Strip:
        number = y + self.scroll_offset.y
        width = self._columns
        if number >= self.model.total:
            return Strip.blank(width, self.rich_style)
        strip = self._strips.get(number)
        if strip is None:
            lit = Lit(self.cursor, self._mark[0], sum(self._mark))
            painter = RowPainter(self.space, self.layout_, self.shape, self._style, self.rich_style, lit, self.note)
            strip = painter.draw(self.model.row(number)).adjust_cell_length(width, self.rich_style)
            self._strips[number] = strip
        return strip

    def _style(self, *roles: str) -> Style:
        return self.get_component_rich_style(*(f"hexview--{role}" for role in roles))
