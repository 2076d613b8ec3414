"""Messages: the kernel's message buffer, as dmesg(8) prints it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.worker import get_current_worker

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import Status
from kvmtui.views.listing import Item, ListingView
from kvmtui.widgets.field import Field
from kvmtui.widgets.lines import Line
from kvmtui.widgets.rowlist import ListRows, RowList, Rows
from kvmtui.widgets.wrap import cut, wrap


class MessageRows:
    """The messages broken into rows, with what was searched for marked in them."""

    def __init__(self, text: str, width: int, wanted: str) -> None:
        self.rows: list[str] = []
        #: For each row the stretches of it that match.
        self.matches: list[list[tuple[int, int]]] = []
        #: The rows in which a match begins.
        self.found: list[int] = []
        #: The row in which each boot's messages begin, and the one in which each line does.
        self.boots: list[int] = []
        self.lines: list[int] = []
        boots = [0, *accumulate(len(part) for part in kvmlib.boots(text))][:-1]
        at = 0
        for line in text.split("\n"):
            at += len(line) + 1
            while len(self.boots) < len(boots) and boots[len(self.boots)] < at:
                self.boots.append(len(self.rows))
            self.lines.append(len(self.rows))
            line = kvmlib.printable(line.expandtabs())
            hits = _hits(line, wanted)
            start = 0
            for row in cut(line, width):
                end = start + len(row)
                here = [(max(a, start), min(b, end)) for a, b in hits if a < end and b > start]
                self.matches.append([(a - start, b - start) for a, b in here])
                if any(start <= a < end for a, _ in hits):
                    self.found.append(len(self.rows))
                self.rows.append(row)
                start = end

    def __len__(self) -> int:
        return len(self.rows)

    def selectable(self, number: int) -> bool:
        return True

    def line(self, number: int) -> Line:
        row, pieces, at = self.rows[number], list[tuple[str, str]](), 0
        for start, end in self.matches[number]:
            pieces += [(row[at:start], ""), (row[start:end], "match")]
            at = end
        return [*pieces, (row[at:], "")]


def _hits(line: str, wanted: str) -> list[tuple[int, int]]:
    """Return where `wanted` is in a line; upper and lower case are alike."""
    hits: list[tuple[int, int]] = []
    low, small = line.lower(), wanted.lower()
    # Some letters become longer when they are made small; then places don't agree any more.
    if not small or len(low) != len(line):
        return hits
    at = low.find(small)
    while at >= 0:
        hits.append((at, at + len(small)))
        at = low.find(small, at + len(small))
    return hits


class MessagesView(ListingView):
    """What the kernel printed, the panic at its end."""

    view_id: ClassVar[str] = "messages"
    title: ClassVar[str] = "Messages"
    help_text: ClassVar[str] = (
        "The kernel's message buffer, oldest line first. It begins at its end, where the panic is. It may hold the "
        "messages of several boots. Without symbols it is found by searching memory. / searches: "
        "matches are underlined, n goes to the next one and N to the one before. Long lines go on in the next row."
    )
    DEFAULT_CSS = """
    MessagesView {
        & > Field { display: none; }
        &.-searching > Field { display: block; }
        &.-searching > #messages-detail { display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("messages")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._messages: kvmlib.Messages | None = None
        self._problem = ""
        self._known = False
        #: The line to go to once the messages are there.
        self._line: int | None = None
        self._wanted = ""
        self._start = 0

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Field("what to search for", None, id="messages-search")

    def on_mount(self) -> None:
        self.field.rows = self.list

    @property
    def field(self) -> Field:
        return self.query_one(Field)

    def ask(self) -> None:
        self.fill()
        self._read()

    @work(thread=True, exclusive=True, group="messages", exit_on_error=False)
    def _read(self) -> None:
        worker = get_current_worker()
        messages, problem = None, ""
        try:
            messages = kvmlib.messages(self.kd)
        except kvmlib.KvmError as e:
            problem = str(e)
        if not worker.is_cancelled:
            self._messages, self._problem = messages, problem
            self.post_message(self.Filled())

    def on_listing_view_filled(self, event: ListingView.Filled) -> None:
        super().on_listing_view_filled(event)
        if not self._known and self._messages is not None:
            self.list.move_to(len(self.list.rows) - 1)
        self._known = True
        if self._line is not None:
            self.go(self._line)

    def go(self, number: int) -> None:
        """Put the cursor on a line, now or as soon as the messages are there."""
        rows = self.list.rows if self._known else None
        self._line = None if isinstance(rows, MessageRows) else number
        if isinstance(rows, MessageRows):
            self.list.move_to(rows.lines[min(number, len(rows.lines) - 1)], centre=True)

    def build(self, width: int) -> Rows:
        if self._messages is None:
            text = f"No messages: {self._problem}." if self._problem else "reading the message buffer ..."
            return ListRows[Item]([([(row, "label")], None) for row in wrap(kvmlib.printable(text), width)])
        return MessageRows(self._messages.text.rstrip("\n"), width, self._wanted)

    def item(self, number: int) -> Item | None:
        if self._messages is None or number < 0:
            return None
        rows = self.list.rows
        found = ""
        if self._wanted and isinstance(rows, MessageRows):
            which = rows.found.index(number) + 1 if number in rows.found else 0
            found = f", {f'{which} of ' if which else ''}{len(rows.found)} match{'' if len(rows.found) == 1 else 'es'}"
        boot = ""
        if isinstance(rows, MessageRows) and len(rows.boots) > 1:
            boot = f", boot {bisect_right(rows.boots, number)} of {len(rows.boots)}"
        said = self._messages
        how = said.source if said.va is None else f"from {said.source}"
        detail = f"row {number + 1} of {len(rows)}{boot}{found}; {how}"
        return Item(detail, said.pa if said.va is None else said.va, physical=said.va is None)

    # -- searching ---------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        self._start = max(0, self.list.cursor)
        self.add_class("-searching")
        self.field.focus()

    def on_input_changed(self) -> None:
        self._search(self.field.value)
        self._go(self._start, 1, include=True)

    def _search(self, wanted: str) -> None:
        self._wanted = wanted
        self.fill()

    def on_input_submitted(self) -> None:
        rows = self.list.rows
        if self._wanted and isinstance(rows, MessageRows) and not rows.found:
            self.post_message(Status(f"nothing matches {self._wanted}", bad=True))
        self._close()

    def on_field_left(self) -> None:
        self._close()

    def _close(self) -> None:
        self.list.focus()
        self.remove_class("-searching")
        self.tell()

    def _go(self, start: int, step: int, include: bool = False) -> bool:
        """Go to the nearest match from a row on, round the end; say whether there is one."""
        rows = self.list.rows
        if not isinstance(rows, MessageRows) or not rows.found:
            return False
        if step > 0:
            target = next((i for i in rows.found if i > start or (include and i == start)), rows.found[0])
        else:
            target = next((i for i in reversed(rows.found) if i < start), rows.found[-1])
        self.list.move_to(target, centre=True)
        return True

    def action_next(self) -> None:
        self._again(1)

    def action_previous(self) -> None:
        self._again(-1)

    def _again(self, step: int) -> None:
        before = self.list.cursor
        if not self._wanted:
            self.post_message(Status("nothing was searched for yet: / searches"))
        elif not self._go(before, step):
            self.post_message(Status(f"nothing matches {self._wanted}", bad=True))
        elif (self.list.cursor - before) * step <= 0:
            self.post_message(Status("went round: that is the " + ("first" if step > 0 else "last") + " match"))

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
