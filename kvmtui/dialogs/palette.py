"""The palette: find an action by its name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.app import App
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.widgets import Input

from kvmtui.actions import Action
from kvmtui.place import Place

_GROUPS = {"dump": "dump", "app": "kvmtui"}


def command_name(action: Action) -> str:
    """Name an action as "group: Action"."""
    group = "view" if action.id.startswith("view(") else _GROUPS.get(action.where, action.where)
    return f"{group}: {action.label}"


class ActionProvider(Provider):
    """Offers the actions that can be done where the palette was opened."""

    def _actions(self) -> Iterator[Action]:
        place = self.screen
        if isinstance(place, Place):
            yield from (a for a in place.actions_here() if a.id != "palette")

    async def discover(self) -> Hits:
        for action in self._actions():
            name = command_name(action)
            yield DiscoveryHit(Content(name), partial(self._run, action), text=name, help=_help(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            name = command_name(action)
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), partial(self._run, action), text=name, help=_help(action))

    async def _run(self, action: Action) -> None:
        place = self.screen
        if isinstance(place, Place):
            await place.run_table_action(action)


def _help(action: Action) -> str:
    return f"{action.shown_key:<7}{action.help}"


class Palette(CommandPalette):
    """Textual's palette with our actions only, and without a blinking cursor, which would send bytes for ever."""

    DEFAULT_CSS = """
    Palette SearchIcon { display: none; }
    Palette #--input { padding-left: 1; }
    """

    def __init__(self) -> None:
        super().__init__(providers=[ActionProvider], placeholder="Find an action", id="--command-palette")

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False


def is_open(app: App[object]) -> bool:
    """Say whether the palette is on the screen."""
    return CommandPalette.is_open(app)
