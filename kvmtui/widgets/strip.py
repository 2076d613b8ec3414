"""A strip beside the bytes: the whole address space from top to bottom, and where one is in it."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kvmtui.widgets.scale import Scale


class SpaceStrip(Widget):
    """One column; the cell of the cursor is lit. A click goes there."""

    DEFAULT_CSS = """
    SpaceStrip {
        width: 1;
        height: 1fr;
        & > .strip--cell { color: $text-muted; }
        & > .strip--here { text-style: reverse bold; }
    }
    SpaceStrip:ansi > .strip--cell { color: ansi_default; text-style: none; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"strip--cell", "strip--here"}

    class Picked(Message):
        """An address was clicked."""

        def __init__(self, address: int) -> None:
            super().__init__()
            self.address = address

    def __init__(self) -> None:
        super().__init__()
        self._scale: Scale | None = None
        self._address = 0
        self._drawn = ""

    @property
    def here(self) -> int:
        """The cell of the cursor, -1 for none."""
        cells = self.size.height
        return self._scale.cell(self._address, cells) if self._scale is not None and cells else -1

    def show(self, scale: Scale | None, address: int) -> None:
        """Show where `address` is on a scale."""
        old = self.here
        self._address = address
        if scale is not self._scale:
            self._scale, self._drawn = scale, ""
            self.refresh()
        elif self.here != old:
            self.refresh(Region(0, old, 1, 1), Region(0, self.here, 1, 1))

    def render_line(self, y: int) -> Strip:
        cells = self.size.height
        if self._scale is None or y >= cells:
            return Strip.blank(1, self.rich_style)
        if len(self._drawn) != cells:
            self._drawn = self._scale.draw(cells)
        look = self.get_component_rich_style("strip--here" if y == self.here else "strip--cell")
        return Strip([Segment(self._drawn[y], look)])

    def on_click(self, event: events.Click) -> None:
        if self._scale is not None and self.size.height:
            self.post_message(self.Picked(self._scale.address(event.y, self.size.height)))
