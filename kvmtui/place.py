"""What the screens have in common that a person can be on: a title, a bottom line, help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textual.dom import DOMNode
from textual.geometry import Region
from textual.screen import Screen

from kvmtui.actions import Action, reachable
from kvmtui.glossary import Term, terms_in
from kvmtui.widgets.bars import Bar, BottomBar, TitleBar


class Place(Screen[Any]):
    """A screen that a person can be on; not a dialog."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title_bar = TitleBar(title)
        self.bottom = BottomBar(self.actions_here)

    @property
    def places(self) -> tuple[str, ...]:
        """Where a person is, nearest first, as the table of actions names it."""
        raise NotImplementedError

    @property
    def help_title(self) -> str:
        """What this place is called."""
        raise NotImplementedError

    @property
    def help_text(self) -> str:
        """What this place is for."""
        raise NotImplementedError

    @property
    def word(self) -> str:
        """What is under the cursor, as text; help begins with it where it is a term."""
        return ""

    def terms(self) -> list[Term]:
        """Return the glossary's terms that are on the screen."""
        parts = []
        for widget in self.query("*"):
            if not widget.children and not isinstance(widget, Bar) and widget.is_on_screen:
                size = widget.size
                parts += [strip.text for strip in widget.render_lines(Region(0, 0, size.width, size.height))]
        return terms_in("\n".join(parts))

    def actions_here(self) -> Iterator[Action]:
        """Yield the actions that can be done here."""
        return reachable(*self.places, "app")

    def say(self, text: str, bad: bool = False) -> None:
        """Show a sentence on the bottom line until the next key."""
        self.bottom.say(text, bad)

    def owner(self, action: Action) -> DOMNode:
        """Return what an action belongs to."""
        return self.app if action.where == "app" else self

    async def run_table_action(self, action: Action) -> None:
        """Do what an action of the table does, as its key would."""
        await self.app.run_action(action.id, self.owner(action))
