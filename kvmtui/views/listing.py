"""A view that is a list of rows with a sentence below it about the row under the cursor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

import kvmlib
from kvmtui.messages import GoTo, ShowLine, Status
from kvmtui.views.base import View
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.rowlist import ListRows, RowList, Rows
from kvmtui.widgets.wrap import wrap


@dataclass(frozen=True, slots=True)
class Item:
    """What a row stands for.

    Attributes:
        detail: what stands below the list about it.
        va: where Enter goes, None for nowhere.
        physical: whether that is a physical address.
        line: the line of Messages where Enter goes if there is no `va`; 0 is the first one.
    """

    detail: str = ""
    va: int | None = None
    physical: bool = False
    line: int | None = None


ItemRows = list[tuple[Line, Item | None]]


class ListingView(View):
    """Rows, and a sentence about the one under the cursor."""

    DEFAULT_CSS = """
    ListingView > .listing--detail { height: auto; max-height: 4; overflow-y: hidden; border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    class Filled(Message):
        """What was read off the UI thread has arrived."""

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._asked = False
        self._width = 0
        self._detail_rows = 1

    def compose(self) -> ComposeResult:
        yield from self.above()
        yield RowList(id=f"{self.view_id}-rows")
        yield Lines(id=f"{self.view_id}-detail", classes="listing--detail")

    def above(self) -> Iterator[Widget]:
        """Yield what stands above the rows."""
        yield from ()

    @property
    def list(self) -> RowList:
        return self.query_one(RowList)

    @property
    def detail(self) -> Lines:
        return self.query_one(f"#{self.view_id}-detail", Lines)

    # -- filling it --------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Start reading what the rows are about; posts `Filled` when it is there. Called once, and after `forget`."""
        self.fill()

    def build(self, width: int) -> Rows:
        """Return the rows for so many columns."""
        raise NotImplementedError

    def on_show_view(self) -> None:
        if not self._asked:
            self._asked = True
            self.ask()
        if self.screen.focused is not self.list:
            self.list.focus()

    def forget(self) -> None:
        self._asked = False

    def on_listing_view_filled(self, event: Filled) -> None:
        event.stop()
        self.fill()

    def fill(self) -> None:
        """Make the rows again, the cursor staying where it is."""
        self._width = self.list.scrollable_content_region.width or self.app.size.width - 1
        self.list.show(self.build(self._width), max(0, self.list.cursor))

    def on_resize(self) -> None:
        self._detail_rows = 1
        # Once the rows' own width is known.
        self.call_after_refresh(self._refit)

    def _refit(self) -> None:
        if self._asked and self.is_mounted and self.list.scrollable_content_region.width not in (0, self._width):
            self.fill()

    @property
    def word(self) -> str:
        rows = self.list
        return "".join(text for text, _ in rows.rows.line(rows.cursor)) if rows.cursor >= 0 else ""

    # -- the row under the cursor ------------------------------------------------------------------------------------

    def item(self, number: int) -> Item | None:
        """Return what a row stands for."""
        rows = self.list.rows
        return rows.item(number) if isinstance(rows, ListRows) else None

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        event.stop()
        self.tell()

    def tell(self) -> None:
        """Say below the list what the row under the cursor is."""
        item = self.item(self.list.cursor)
        rows = wrap(kvmlib.printable(item.detail) if item else "", self.size.width or self.app.size.width)
        # It only grows: a list that changes its height with each row would be sent anew with each.
        self._detail_rows = max(self._detail_rows, len(rows))
        rows += [""] * (self._detail_rows - len(rows))
        self.detail.show([[(row, "label")] for row in rows])

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.action_jump()

    def action_jump(self) -> None:
        """Show in Memory or in Messages what the row is about."""
        item = self.item(self.list.cursor)
        if item is not None and item.va is not None:
            self.post_message(GoTo(item.va, item.physical))
        elif item is not None and item.line is not None:
            self.post_message(ShowLine(item.line))
        else:
            self.post_message(Status("this line has no address to show in Memory"))
