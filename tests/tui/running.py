"""The whole application under a pilot."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from textual.pilot import Pilot
from textual.screen import Screen

from kvmtui.app import KvmtuiApp
from kvmtui.opening import Opening, Request, Samples
from kvmtui.screen import DumpScreen
from kvmtui.terminal import Look
from kvmtui.views.base import View
from tests.tui.hosting import settle

ViewT = TypeVar("ViewT", bound=View)


@asynccontextmanager
async def running(
    path: Path | None, size: tuple[int, int] = (80, 24), look: Look | None = None
) -> AsyncIterator[Pilot[None]]:
    """Run kvmtui with a dump, or with the chooser."""
    samples = Samples()
    opening = None
    if path is not None:
        opening = Opening(Request(str(path)), samples)
        assert opening.wait(60)
    app = KvmtuiApp(opening, samples, look)
    try:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await settle(pilot)
            yield pilot
    finally:
        samples.remove()


async def write(pilot: Pilot[None], text: str) -> None:
    """Write into the field that has the focus."""
    await pilot.press(*(_KEYS.get(c, c) for c in text))
    await settle(pilot)


_KEYS = {
    "/": "slash",
    ".": "full_stop",
    "+": "plus",
    "_": "underscore",
    "-": "minus",
    ":": "colon",
    "*": "asterisk",
    " ": "space",
}


def dump_screen(pilot: Pilot[None]) -> DumpScreen:
    """Return the screen of the dump, whatever dialog is over it."""
    return next(s for s in pilot.app.screen_stack if isinstance(s, DumpScreen))


def view(pilot: Pilot[None], kind: type[ViewT]) -> ViewT:
    """Return the view that is shown, which must be of this kind."""
    found = dump_screen(pilot).view
    assert isinstance(found, kind)
    return found


def names(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


def content(path: Path) -> bytes:
    """Return a file's bytes."""
    return path.read_bytes()


def top(pilot: Pilot[None]) -> Screen[object]:
    """Return what is on top: a screen or a dialog."""
    return pilot.app.screen
