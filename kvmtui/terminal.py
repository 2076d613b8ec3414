"""What a terminal can do, decided before the application starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.segment import Segment
    from textual.color import Color
    from textual.filter import LineFilter

_ASCII = {
    **dict.fromkeys("│┃║▏▎▍▌▋▊▉▐▕", "|"),
    **dict.fromkeys("─━═▁▂▔╴╶╸╺╾╼▀▄", "-"),
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


@dataclass(frozen=True, slots=True)
class Look:
    """How the application may draw.

    Attributes:
        ascii: nothing but ASCII.
        colour: False when NO_COLOR is set: only bold, underline and reverse.
    """

    ascii: bool = False
    colour: bool = True

    @classmethod
    def of(cls, environment: Mapping[str, str], ascii: bool = False) -> Look:
        """Decide from the environment (https://no-color.org: any text but an empty one counts)."""
        return cls(ascii, not environment.get("NO_COLOR"))


def why_plain() -> str:
    """Say why the application can't run here, in a few words; empty when it can."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.__stderr__)):
        return "this is not a terminal"
    term = os.environ.get("TERM", "")
    if not term:
        return "TERM is not set"
    return f"TERM is {term}" if term in ("dumb", "unknown") else ""


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
