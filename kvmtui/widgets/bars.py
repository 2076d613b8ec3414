"""The three lines around a view: what is open, the views, the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

import kvmlib
from kvmtui.actions import Action, actions_for
from kvmtui.widgets.wrap import shorten, wrap


class Bar(Widget):
    """One line of text."""

    DEFAULT_CSS = """
    Bar { height: 1; width: 1fr; overflow: hidden; }
    """

    def line(self, width: int) -> Content:
        """Return what stands in the line, for this many columns."""
        raise NotImplementedError

    def render(self) -> Content:
        return self.line(self.size.width)


class TitleBar(Bar):
    """The file, the machine, the state."""

    DEFAULT_CSS = """
    TitleBar { background: $panel; color: $foreground; }
    TitleBar:ansi { background: ansi_default; color: ansi_default; }
    """

    def __init__(self, name: str, facts: Iterable[str] = ()) -> None:
        super().__init__()
        self._file = kvmlib.printable(name)
        self._facts = tuple(facts)

    def tell(self, *facts: str) -> None:
        """Change what stands behind the file's name."""
        if facts != self._facts:
            self._facts = facts
            self.refresh()

    def line(self, width: int) -> Content:
        facts = [kvmlib.printable(f) for f in self._facts]
        # The file's name gives way first, but some of it always stays.
        while facts and width - sum(len(f) + 2 for f in facts) < min(len(self._file), 12) + 8:
            facts.pop(0)
        rest = "".join(f"  {f}" for f in facts)
        room = max(0, width - len(rest) - 8)
        return Content.assemble(("kvmtui", "bold"), "  ", shorten(self._file, room), rest)


class TabBar(Bar):
    """The views with their numbers; the current one stands in brackets, reversed."""

    class Picked(Message):
        """A view's name was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self) -> None:
        super().__init__()
        self.tabs = [a for a in actions_for("dump") if a.id.startswith("view(")]
        self.current = self.tabs[0].id
        self._ends: list[int] = []

    def select(self, action: str) -> None:
        """Mark another view."""
        if action != self.current:
            self.current = action
            self.refresh()

    def line(self, width: int) -> Content:
        texts: list[str] = []
        for style in (_full, _short, _number):
            texts = [style(a, a.id == self.current) for a in self.tabs]
            if sum(map(len, texts)) <= width:
                break
        self._ends = []
        at = 0
        for text in texts:
            at += len(text)
            self._ends.append(at)
        return Content.assemble(
            *((t, "bold reverse") if a.id == self.current else t for t, a in zip(texts, self.tabs, strict=True))
        )

    def on_click(self, event: events.Click) -> None:
        for action, end in zip(self.tabs, self._ends, strict=False):
            if event.x < end:
                self.post_message(self.Picked(action.id))
                return


def _bracketed(text: str, here: bool) -> str:
    return f"[{text}]" if here else f" {text} "


def _full(action: Action, here: bool) -> str:
    return _bracketed(f"{action.shown_key} {action.label}", here)


def _short(action: Action, here: bool) -> str:
    return _bracketed(f"{action.shown_key} {action.label if here else action.label[:3]}", here)


def _number(action: Action, here: bool) -> str:
    return _bracketed(f"{action.shown_key} {action.label}" if here else action.shown_key, here)


class BottomBar(Bar):
    """The keys that do something here; instead of them a sentence, until the next key."""

    DEFAULT_CSS = """
    BottomBar { background: $panel; color: $foreground; }
    BottomBar:ansi { background: ansi_default; color: ansi_default; }
    """

    def __init__(self, actions: Callable[[], Iterable[Action]]) -> None:
        super().__init__()
        self._actions = actions
        self.said = ""
        self._bad = False

    def say(self, text: str, bad: bool = False) -> None:
        """Show a sentence; an empty one brings the keys back."""
        text = kvmlib.printable(text)
        if (text, bad) != (self.said, self._bad):
            self.said, self._bad = text, bad
            self._fit()
            self.refresh()

    def _fit(self) -> None:
        """Take the rows that the sentence needs; one, when it is the keys."""
        rows = len(self._sentence(self.size.width)) if self.said and self.size.width else 1
        if rows != self.size.height:
            self.styles.height = rows

    def _sentence(self, width: int) -> list[str]:
        return wrap(f"! {self.said}" if self._bad else self.said, width)

    def on_resize(self) -> None:
        self._fit()

    def line(self, width: int) -> Content:
        if self.said:
            text = "\n".join(self._sentence(width))
            return Content.assemble((text, "bold reverse" if self._bad else "bold"))
        actions = [a for a in self._actions() if a.show_in_footer]
        # Help comes before all that doesn't fit: it names the rest.
        last = [a for a in actions if a.id in ("help", "quit")]
        room = width - sum(_room(a) for a in last)
        shown: list[Action] = []
        for action in (a for a in actions if a not in last):
            if _room(action) > room:
                break
            shown.append(action)
            room -= _room(action)
        parts: list[str | tuple[str, str]] = []
        for action in (*shown, *last):
            parts += [(f" {action.shown_key}", "bold"), f" {action.label} "]
        return Content.assemble(*parts)


def _room(action: Action) -> int:
    return len(action.shown_key) + len(action.label) + 3
