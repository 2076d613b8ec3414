"""What a terminal can do, decided before the application starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.segment import Segment
    from textual.color import Color
    from textual.filter import LineFilter

_ASCII = {
    **dict.fromkeys("│┃║▏▎▍▌▋▊▉▐▕", "|"),
    **dict.fromkeys("─━═▁▂▃▅▆▇▔╴╶╸╺╾╼▀▄", "-"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬", "+"),
    **dict.fromkeys("█▓", "#"),
    **dict.fromkeys("▒", "%"),
    **dict.fromkeys("░", ":"),
    **dict.fromkeys("·•●○∙", "."),
    **dict.fromkeys("▶▸►→❯", ">"),
    **dict.fromkeys("◀◂◄←", "<"),
    **dict.fromkeys("▲▴↑", "^"),
    **dict.fromkeys("▼▾↓", "v"),
    "…": ".",
    "✓": "x",
    "–": "-",
    "—": "-",
    "\N{NO-BREAK SPACE}": " ",
}
_TABLE = str.maketrans(_ASCII)


#: The tiers, from the terminal that can do most to the one that can do least.
DISPLAYS = ("full", "ansi", "rescue")
#: Consoles and serial terminals: TERM begins with one of these.
_RESCUE = ("vt", "linux", "cons", "wsvt", "pccon", "sun")
#: What TERM has in it where there are more colours than 16.
_MANY_COLOURS = ("256color", "direct", "truecolor", "kitty", "alacritty", "foot", "ghostty", "wezterm")
#: The smallest and the largest size that can be asked for.
_SIZES = (20, 5), (500, 200)


@dataclass(frozen=True, slots=True)
class Look:
    """How the application may draw.

    Attributes:
        ascii: nothing but ASCII.
        colour: False: only bold, underline and reverse.
        display: ``full``; ``ansi``: the terminal's own 16 colours; ``rescue``: ASCII without colours, and no
            sequence that a VT100 doesn't know.
        why: what decided on `display`, in a few words.
        alternate: whether the terminal has a second screen, so that the first comes back in the end.
    """

    ascii: bool = False
    colour: bool = True
    display: str = "full"
    why: str = ""
    alternate: bool = True

    @property
    def modest(self) -> bool:
        """Whether the terminal is asked for nothing that a VT100 doesn't know."""
        return self.display == "rescue"

    @classmethod
    def of(cls, environment: Mapping[str, str], ascii: bool = False, display: str | None = None) -> Look:
        """Decide from the environment (https://no-color.org: any text but an empty one counts).

        Args:
            environment: TERM, COLORTERM and NO_COLOR count.
            ascii: whether nothing but ASCII is wished.
            display: the tier that is wished; None to choose one.
        """
        term = environment.get("TERM", "")
        colour = not environment.get("NO_COLOR")
        why = ""
        if display is not None:
            why = "as asked for"
        elif term.startswith(_RESCUE):
            display, why = "rescue", f"TERM is {term}"
        elif not colour:
            display, why = "ansi", "NO_COLOR is set"
        elif environment.get("COLORTERM") in ("truecolor", "24bit"):
            display, why = "full", f"COLORTERM is {environment['COLORTERM']}"
        elif not term:
            # Nothing says what it can't do.
            display = "full"
        else:
            display, why = "full" if any(name in term for name in _MANY_COLOURS) else "ansi", f"TERM is {term}"
        rescue = display == "rescue"
        return cls(ascii or rescue, colour and not rescue, display, why, not term.startswith("vt"))

    def told(self) -> str:
        """Say it in one line."""
        but = [text for text, on in (("ASCII only", self.ascii), ("no colours", not self.colour)) if on]
        return f"{self.display}{''.join(f', {text}' for text in but)} ({self.why})"

    def prepare(self, environment: MutableMapping[str, str]) -> None:
        """Tell Textual, which reads its environment when it is imported."""
        # No animation anywhere: on a serial line each frame costs seconds.
        environment.setdefault("TEXTUAL_ANIMATIONS", "none")
        # Textual would take an empty NO_COLOR for a wish.
        environment.pop("NO_COLOR", None)
        if not self.colour:
            environment["NO_COLOR"] = "1"
        if self.display != "full":
            environment["TEXTUAL_COLOR_SYSTEM"] = "standard"
        if self.modest:
            # ESC alone, or the beginning of an arrow key? On a slow line its other bytes may come late.
            environment.setdefault("ESCDELAY", "250")


def size_of(text: str) -> tuple[int, int]:
    """Read a size as ``80x24``.

    Raises:
        ValueError: it is none, or none that can be drawn in.
    """
    columns, _, rows = text.partition("x")
    size = int(columns), int(rows)
    if not all(low <= n <= high for low, n, high in zip(_SIZES[0], size, _SIZES[1], strict=True)):
        raise ValueError(text)
    return size


def why_plain() -> str:
    """Say why the application can't run here, in a few words; empty when it can."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.__stderr__)):
        return "this is not a terminal"
    term = os.environ.get("TERM", "")
    if not term:
        return "TERM is not set"
    return f"TERM is {term}" if term in ("dumb", "unknown") else ""


def size_told(wished: tuple[int, int] | None) -> str:
    """Say what size is drawn in, and where it comes from."""
    import shutil

    columns, rows = wished or shutil.get_terminal_size()
    return f"{columns}x{rows} ({'as asked for' if wished else 'of the terminal, or what is usual'})"


@lru_cache(maxsize=4096)
def to_ascii(text: str) -> str:
    """Write a text in ASCII, in as many columns."""
    if text.isascii():
        return text
    text = text.translate(_TABLE)
    if text.isascii():
        return text
    from rich.cells import get_character_cell_size

    return "".join(c if c.isascii() else "?" * get_character_cell_size(c) for c in text)


def ascii_filter() -> LineFilter:
    """Make the filter that leaves nothing but ASCII; Textual has no such mode."""
    from rich.segment import Segment
    from textual.filter import LineFilter

    class AsciiFilter(LineFilter):
        """Translates each line just before it is sent."""

        def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
            return [Segment(to_ascii(text), style, control) for text, style, control in segments]

    return AsciiFilter()
