"""Summary: what the dump is, its state, and what the kernel said; each line knows where it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import work
from textual.binding import BindingType
from textual.worker import get_current_worker

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.messages import Summarised
from kvmtui.views.listing import Item, ItemRows, ListingView
from kvmtui.widgets.rowlist import ListRows, Rows
from kvmtui.widgets.wrap import shorten, wrap

_FRAMES = 8
_MESSAGES = 12
#: From so many columns on, the place where a line was found stands beside it.
_WIDE = 100
_SOURCE = 30


@dataclass(frozen=True, slots=True)
class Story:
    """All that the view shows."""

    summary: kvmlib.Summary
    stack: kvmlib.Stack | None
    stack_problem: str
    messages: kvmlib.Messages | None
    messages_problem: str


def read_story(kd: kvmlib.Kvm) -> Story:
    """Read it all; this may take a moment."""
    stack, stack_problem = None, ""
    messages, messages_problem = None, ""
    try:
        stack = kvmlib.stack(kd)
    except kvmlib.KvmError as e:
        stack_problem = str(e)
    try:
        messages = kvmlib.messages(kd)
    except kvmlib.KvmError as e:
        messages_problem = str(e)
    return Story(kvmlib.summary(kd), stack, stack_problem, messages, messages_problem)


class SummaryView(ListingView):
    """The first minute with a dump."""

    view_id: ClassVar[str] = "summary"
    title: ClassVar[str] = "Summary"
    help_text: ClassVar[str] = (
        "What the dump is, whether it is complete and worth saving, which kernel it is of, when and why that kernel "
        "panicked, where it was, and what it said last. The line at the bottom says where the line under the cursor "
        "was found; in a wide terminal it stands beside it. Enter shows that place in Memory, or the line in Messages "
        "that says it.\n"
        "States: fresh, the kernel's dumpmag is there and savecore(8) would save the dump; saved, it was cleared; "
        "truncated, the file ends before the memory does; overwritten, something else lies in a part of it; header "
        "only, there is no memory at all; not believable, the header contradicts itself; unknown, nothing says."
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("summary")]

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self.story: Story | None = None

    def ask(self) -> None:
        self.fill()
        self._read()

    @work(thread=True, exclusive=True, group="summary", exit_on_error=False)
    def _read(self) -> None:
        worker = get_current_worker()
        story = read_story(self.kd)
        if not worker.is_cancelled:
            self.story = story
            self.post_message(Summarised(story.summary))
            self.post_message(self.Filled())

    def build(self, width: int) -> Rows:
        if self.story is None:
            return ListRows([([("reading the dump ...", "faint")], None)])
        return ListRows(summary_rows(self.story, width))


def summary_rows(story: Story, width: int) -> ItemRows:
    """Return the summary in rows of at most `width` columns."""
    summary, rows = story.summary, ItemRows()
    column = max([9, *(len(f.label) + 2 for f in summary.facts)])
    page = _Page(rows, width, column)
    state = summary.state
    roles = {
        "STATE": "good" if state.verdict in ("fresh", "saved") else "bad",
        "COMPLETE": "good" if state.complete else "bad",
        "PANIC": "strong",
        "FAULT": "strong",
        "WHERE": "strong",
    }
    # Why it is this machine takes many rows, and the panic must be on the first screen.
    for fact in sorted(summary.facts, key=lambda f: f.label.upper() == "MACHINE"):
        page.fact(fact, roles.get(fact.label.upper(), ""))
    page.heading("Stack")
    if story.stack is None:
        page.say(story.stack_problem)
    else:
        page.stack(story.stack)
    page.heading("Last messages")
    if story.messages is None:
        page.say(story.messages_problem)
    else:
        lines = story.messages.text.rstrip("\n").split("\n")
        if len(lines) > _MESSAGES:
            page.say(f"{len(lines) - _MESSAGES} lines before these in Messages (7)")
        for number, line in list(enumerate(lines))[-_MESSAGES:]:
            detail = f"from {story.messages.source}; Enter goes to line {number + 1} of Messages"
            for row in wrap(kvmlib.printable(line), width):
                rows.append(([(row, "")], Item(detail, line=number)))
    return rows


def _place(fact: kvmlib.Fact) -> Item:
    """Return where a line was found, and the place that Enter goes to."""
    detail = f"from {fact.source}" if fact.source else "not found"
    if fact.va is not None:
        return Item(f"{detail}; Enter goes to {fact.va:#x}", fact.va)
    if fact.line is not None:
        return Item(f"{detail}; Enter shows it there", line=fact.line)
    if fact.pa is not None:
        return Item(f"{detail}; Enter goes to pa {fact.pa:#x}", fact.pa, physical=True)
    return Item(detail)


class _Page:
    """Rows that grow downwards."""

    def __init__(self, rows: ItemRows, width: int, column: int) -> None:
        self.rows = rows
        self.width = width
        self.column = column
        self.source = _SOURCE if width >= _WIDE else 0

    def fact(self, fact: kvmlib.Fact, role: str = "") -> None:
        """Add a line of the summary."""
        room = self.width - self.column - (self.source + 2 if self.source else 0)
        item = _place(fact)
        label = shorten(fact.label, self.column - 1).ljust(self.column)
        for i, row in enumerate(wrap(kvmlib.printable(fact.text, keep="\n"), room)):
            line = [(label if i == 0 else " " * self.column, "label"), (row, role)]
            if i == 0 and self.source:
                gap = " " * (room - cell_len(row) + 2)
                line += [(gap, ""), (shorten(kvmlib.printable(fact.source), self.source), "faint")]
            self.rows.append((line, item if i == 0 else None))

    def stack(self, stack: kvmlib.Stack) -> None:
        """Add the frames from the one that called panic on: those above it belong to panic and to the dump."""
        frames = stack.frames
        start = frames.index(stack.panicked) if stack.panicked is not None else 0
        if start:
            self.say(f"{start} frames of panic and of the dump before these in Registers (3)")
        for number, frame in list(enumerate(frames))[start : start + _FRAMES]:
            self.frame(number, frame)
        behind = len(frames) - start - _FRAMES
        if behind > 0:
            self.say(f"{behind} more in Registers (3)")
        else:
            self.say(f"ends: {stack.end}")

    def frame(self, number: int, frame: kvmlib.Frame) -> None:
        """Add a frame of the stack."""
        item = Item(f"return address of the frame at {frame.fp:#x}; Enter goes to {frame.pc:#x}", frame.pc)
        start = f"#{number}".ljust(4) + f"{frame.pc:#x}  "
        where = wrap(kvmlib.printable(frame.where), max(16, self.width - len(start)))
        self.rows.append(([(start, "label"), (where[0], "")], item))
        self.rows += [([(" " * len(start) + row, "")], None) for row in where[1:]]

    def heading(self, text: str) -> None:
        """Begin another part."""
        self.rows.append(([("", "")], None))
        self.rows.append(([(text, "strong")], None))

    def say(self, text: str) -> None:
        """Add a remark."""
        self.rows += [([(row, "label")], None) for row in wrap(kvmlib.printable(text), self.width)]
