"""One of a few words, in one line: Left and Right take another."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widget import Widget


class Choice(Widget, can_focus=True):
    """Shows all words, the chosen one in brackets."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    Choice:focus { text-style: bold; }
    """
    BINDINGS = [
        Binding("left", "step(-1)", "Before", show=False),
        Binding("right,space", "step(1)", "Next", show=False),
    ]

    class Changed(Message):
        """Another word was chosen."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, words: Sequence[str], index: int = 0, *, id: str) -> None:
        super().__init__(id=id)
        self.words = tuple(words)
        self.index = index

    @property
    def word(self) -> str:
        """The chosen word."""
        return self.words[self.index]

    def action_step(self, by: int) -> None:
        self.index = (self.index + by) % len(self.words)
        self.refresh()
        self.post_message(self.Changed(self))

    def on_click(self, event: events.Click) -> None:
        at = 0
        for i, word in enumerate(self.words):
            at += len(word) + 2
            if event.x < at:
                self.action_step(i - self.index)
                return

    def render(self) -> Content:
        return Content.assemble(
            *(
                (f"[{w}]", "bold reverse" if self.has_focus else "bold") if i == self.index else f" {w} "
                for i, w in enumerate(self.words)
            )
        )
