"""The page walk of an address, level by level."""

from __future__ import annotations

import textwrap

from textual.binding import Binding
from textual.widget import Widget

import kvmlib
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.where import where_va


class WalkPane(Lines, can_focus=True):
    """How the machine gets from a virtual address to a physical one, and where it stops."""

    DEFAULT_CSS = """
    WalkPane {
        max-height: 60%;
        border-top: solid $panel;
    }
    WalkPane:focus { border-top: solid $accent; }
    """
    BINDINGS = [
        Binding("up,k", "rows(-1)", "Up", show=False),
        Binding("down,j", "rows(1)", "Down", show=False),
    ]

    def __init__(self, kd: kvmlib.Kvm, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kd = kd
        self.va: int | None = None

    def show_va(self, va: int | None) -> None:
        """Walk to another address; None when it isn't known."""
        self.va = va
        self._walk()

    def action_rows(self, by: int) -> None:
        self.scroll_relative(y=by, animate=False)

    def on_resize(self) -> None:
        super().on_resize()
        self._walk()

    def _walk(self) -> None:
        # Filled in before it becomes visible: its height is then known at once, and the screen is painted once.
        width = self.size.width or self.container_size.width
        if not width and isinstance(self.parent, Widget):
            width = self.parent.size.width
        if width:
            self.show(walk_lines(self.kd, self.va, width))


def walk_lines(kd: kvmlib.Kvm, va: int | None, width: int) -> list[Line]:
    """Return the walk to `va` as lines of at most `width` columns."""
    if va is None:
        return _wrapped("no virtual address is known that is mapped to this one", "faint", width)
    translator = kd.translator
    digits = translator.bits // 4
    steps = kd.walk(va)
    lines = [*_fitted([(f"va {va:#0{digits + 2}x}", "strong"), (f"  {translator.name}", "faint")], width)]
    for step in steps:
        lines += _step(kd, step, va, width)
    last = steps[-1]
    if last.outcome in ("page", "window"):
        found = where_va(kd, va)
        end = f"file offset {found.offset:#x}" if found.offset is not None else found.problem
        lines += _wrapped(f"= pa {last.pa:#x}: {end}", "strong" if not found.problem else "bad", width)
    else:
        lines += _wrapped(f"stops: {last.note}", "bad", width)
    return lines


def _step(kd: kvmlib.Kvm, step: kvmlib.Step, va: int, width: int) -> list[Line]:
    if step.index is None and step.entry_pa is None:
        # A window, or an address that can't be one: there is no table to show.
        return [[(step.name, "strong")]] if step.outcome != "window" else [*_wrapped(step.note, "", width)]
    head = [(step.name if step.index is None else f"{step.name}[{step.index}]", "strong")]
    if step.bits:
        bits = f"{va >> step.shift & (1 << step.bits) - 1:0{step.bits}b}"
        head.append((f"  bits {step.shift + step.bits - 1}..{step.shift} = {bits}", ""))
    if step.entry_pa is not None:
        at = f"file {step.entry_offset:#x}" if step.entry_offset is not None else "not in the file"
        head.append((f"  at pa {step.entry_pa:#x} {at}", "label"))
    lines = [*_fitted(head, width)]
    if step.entry is None:
        return lines if step.outcome != "next" else [*lines, *_wrapped(f"  {step.note}", "label", width)]
    size = _entry_digits(kd, step)
    flags = " ".join(step.flags) or "no flags"
    to = ("  -> not valid", "bad")
    if step.outcome == "next" and step.pa is None:
        to = ("", "")
    if step.pa is not None:
        kind = "next table" if step.outcome == "next" else f"{_page(step)} page"
        to = (f"  -> {kind} pa {step.pa if step.outcome == 'next' else _frame(step):#x}", "")
    lines += _fitted([(f"  {step.entry:#0{size + 2}x}", ""), (f"  {flags}", "label"), to], width)
    return lines


def _entry_digits(kd: kvmlib.Kvm, step: kvmlib.Step) -> int:
    """Hex digits of a table's entry, from the distance of two of them."""
    if step.index and step.table_pa is not None and step.entry_pa is not None:
        return 2 * (step.entry_pa - step.table_pa) // step.index
    return 16 if kd.translator.bits == 64 or (step.entry or 0) >> 32 else 8


def _page_shift(step: kvmlib.Step) -> int:
    return step.shift if step.page_shift is None else step.page_shift


def _page(step: kvmlib.Step) -> str:
    page = _page_shift(step)
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if page >= shift:
            return f"{1 << page - shift} {unit}"
    return f"{1 << page} bytes"


def _frame(step: kvmlib.Step) -> int:
    assert step.pa is not None
    return step.pa >> _page_shift(step) << _page_shift(step)


def _fitted(pieces: list[tuple[str, str]], width: int) -> list[Line]:
    """Put pieces on one line while they fit, the rest on further lines, indented."""
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for text, role in pieces:
        if lines[-1] and used + len(text) > width:
            lines.append([])
            used = 0
            text = f"    {text.strip()}"
        parts = [text]
        if len(text) > width:
            parts = textwrap.wrap(text, width, subsequent_indent="    ", drop_whitespace=False)
        for part in parts:
            if lines[-1] and used + len(part) > width:
                lines.append([])
                used = 0
            lines[-1].append((part, role))
            used += len(part)
    return [tuple(line) for line in lines]


def _wrapped(text: str, role: str, width: int) -> list[Line]:
    return [[(line, role)] for line in textwrap.wrap(kvmlib.printable(text), max(10, width), subsequent_indent="  ")]
