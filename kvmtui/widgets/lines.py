"""A few lines of text that often change a little: of each line only the part up to the last change is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

#: Pieces of a line: text and the role it plays (empty, label, strong, faint, bad or good).
Line = Sequence[tuple[str, str]]


class Lines(ScrollView, can_focus=False):
    """Lines of text in a few roles. The text must be printable."""

    DEFAULT_CSS = """
    Lines {
        height: auto;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        & > .lines--label { color: $text-muted; }
        & > .lines--strong { text-style: bold; }
        & > .lines--faint { color: $text-muted; text-style: dim; }
        & > .lines--bad { color: $text-error; text-style: bold; }
        & > .lines--good { color: $text-success; }
    }
    Lines:ansi > .lines--label { color: ansi_cyan; }
    Lines:ansi > .lines--faint { color: ansi_default; text-style: dim; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--label",
        "lines--strong",
        "lines--faint",
        "lines--bad",
        "lines--good",
    }

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []

    @property
    def text(self) -> str:
        """All of it, as plain text."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines."""
        old, self._lines = self._lines, list(lines)
        if len(old) != len(lines):
            self.virtual_size = Size(self.size.width, len(lines))
            self.refresh(layout=True)
            return
        top, height = self.scroll_offset.y, self.size.height
        for y, (before, after) in enumerate(zip(old, lines, strict=True)):
            if before != after and top <= y < top + height:
                self.refresh(Region(0, y - top, _changed(before, after, self.size.width), 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines)

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._lines))

    def render_line(self, y: int) -> Strip:
        number, width = y + self.scroll_offset.y, self.size.width
        base = self.rich_style
        if number >= len(self._lines):
            return Strip.blank(width, base)
        segments = [
            Segment(text, self.get_component_rich_style(f"lines--{role}") if role else base)
            for text, role in self._lines[number]
        ]
        return Strip(segments).adjust_cell_length(width, base)


def _changed(before: Line, after: Line, width: int) -> int:
    """Return how many columns there are up to the last difference.

    Textual sends a changed line from the widget's left edge on, so it is of no use to know where the differences begin.
    """
    if not all(text.isascii() for text, _ in (*before, *after)):
        return width
    old, new = _cells(before, width), _cells(after, width)
    return max((x + 1 for x in range(width) if old[x] != new[x]), default=0)


def _cells(line: Line, width: int) -> list[tuple[str, str]]:
    cells = [(c, role) for text, role in line for c in text][:width]
    return cells + [(" ", "")] * (width - len(cells))
