"""What a cell looks like, and the fewest SGR codes that lead from one look to another.

Textual writes each piece of text with all its attributes before it and a reset behind it. On a serial line that is most
of what there is to wait for.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_NAMED_FORE, _NAMED_BACK = re.compile("[39][0-7]"), re.compile("(?:4|10)[0-7]")
#: Attributes that even a VT100 has no code to end: all are set again instead.
_ATTRIBUTES = frozenset({"1", "2", "3", "4", "5", "6", "7", "8", "9", "21", "51", "52", "53"})
#: Bold, underlined, reversed: what every terminal can do.
_MODEST = frozenset({"1", "4", "7"})


class Pen(NamedTuple):
    """The attributes and colours of a cell, as SGR codes."""

    attributes: frozenset[str] = frozenset()
    fore: str = ""
    back: str = ""


PLAIN = Pen()


@lru_cache(maxsize=4096)
def after(pen: Pen, codes: str) -> Pen:
    """Return the pen after SGR codes, as between ``ESC [`` and ``m``; a code that isn't known is left out."""
    parts = codes.split(";")
    i = 0
    while i < len(parts):
        code = parts[i] or "0"
        if code == "0":
            pen = PLAIN
        elif code in _ATTRIBUTES:
            pen = pen._replace(attributes=pen.attributes | {code})
        elif code in ("38", "48"):
            n = {"5": 3, "2": 5}.get(parts[i + 1] if i + 1 < len(parts) else "", 0)
            if not n or i + n > len(parts):
                # Nobody knows where the next code begins.
                break
            colour = ";".join(parts[i : i + n])
            pen = pen._replace(fore=colour) if code == "38" else pen._replace(back=colour)
            i += n - 1
        elif code in ("39", "49"):
            pen = pen._replace(fore="") if code == "39" else pen._replace(back="")
        elif _NAMED_FORE.fullmatch(code):
            pen = pen._replace(fore=code)
        elif _NAMED_BACK.fullmatch(code):
            pen = pen._replace(back=code)
        i += 1
    return pen


@lru_cache(maxsize=256)
def modest(pen: Pen) -> Pen:
    """Return what a terminal without colours can show of a pen."""
    return Pen(pen.attributes & _MODEST)


@lru_cache(maxsize=4096)
def between(sent: Pen, wanted: Pen) -> str:
    """Return the sequence that leads from one pen to another; empty when they are the same."""
    if sent == wanted:
        return ""
    if wanted == PLAIN:
        return "\x1b[0m"
    codes: list[str] = []
    if not sent.attributes <= wanted.attributes:
        codes.append("0")
        sent = PLAIN
    codes += sorted(wanted.attributes - sent.attributes)
    if wanted.fore != sent.fore:
        codes.append(wanted.fore or "39")
    if wanted.back != sent.back:
        codes.append(wanted.back or "49")
    return f"\x1b[{';'.join(codes)}m"
