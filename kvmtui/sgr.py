"""Fewer bytes for the same picture: colours and attributes are sent when they change, and only what changes of them.

Textual writes each piece of text with all its attributes before it and a reset behind it. On a serial line that is most
of what there is to wait for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from textual.driver import Driver

_SGR = re.compile(r"\x1b\[([0-9;]*)m")
#: What may be sent while another look is still set: it puts nothing on the screen.
_MOVE = re.compile(r"\x1b\[[0-9;]*H|[\r\n]+")
_PARTS = re.compile(r"(\x1b\[[0-9;]*[mH]|[\r\n]+)")
_NAMED_FORE, _NAMED_BACK = re.compile("[39][0-7]"), re.compile("(?:4|10)[0-7]")
#: Attributes that even a VT100 has no code to end: all are set again instead.
_ATTRIBUTES = frozenset({"1", "2", "3", "4", "5", "7", "9"})


class _Look(NamedTuple):
    attributes: frozenset[str] = frozenset()
    fore: str = ""
    back: str = ""


class Slimmer:
    """Rewrites what goes to one terminal."""

    def __init__(self) -> None:
        self._sent = self._wanted = _Look()

    def slim(self, data: str) -> str:
        """Return what makes the terminal look as `data` would."""
        out: list[str] = []
        for part in _PARTS.split(data):
            if not part:
                continue
            found = _SGR.fullmatch(part)
            if found is None:
                if not _MOVE.fullmatch(part):
                    out.append(self._change())
                out.append(part)
            elif (look := _after(self._wanted, found[1].split(";"))) is not None:
                self._wanted = look
            else:
                # Nothing that is known here: as it is, and what comes behind it goes on as if it wasn't there.
                out += [self._change(), part]
        return "".join(out)

    def _change(self) -> str:
        """Return what leads from the look that was sent to the one that is wanted."""
        sent, wanted = self._sent, self._wanted
        self._sent = wanted
        if sent == wanted:
            return ""
        if wanted == _Look():
            return "\x1b[0m"
        codes: list[str] = []
        if not sent.attributes <= wanted.attributes:
            codes.append("0")
            sent = _Look()
        codes += sorted(wanted.attributes - sent.attributes)
        if wanted.fore != sent.fore:
            codes.append(wanted.fore or "39")
        if wanted.back != sent.back:
            codes.append(wanted.back or "49")
        return f"\x1b[{';'.join(codes)}m"


def _after(look: _Look, codes: list[str]) -> _Look | None:
    """Return the look after these codes; None where there is one that isn't known."""
    i = 0
    while i < len(codes):
        code = codes[i] or "0"
        if code == "0":
            look = _Look()
        elif code in _ATTRIBUTES:
            look = look._replace(attributes=look.attributes | {code})
        elif code in ("38", "48"):
            n = {"5": 3, "2": 5}.get(codes[i + 1] if i + 1 < len(codes) else "", 0)
            if not n or i + n > len(codes):
                return None
            colour = ";".join(codes[i : i + n])
            look = look._replace(fore=colour) if code == "38" else look._replace(back=colour)
            i += n - 1
        elif code in ("39", "49"):
            look = look._replace(fore="") if code == "39" else look._replace(back="")
        elif _NAMED_FORE.fullmatch(code):
            look = look._replace(fore=code)
        elif _NAMED_BACK.fullmatch(code):
            look = look._replace(back=code)
        else:
            return None
        i += 1
    return look


def slim_driver(base: type[Driver]) -> type[Driver]:
    """Return a driver like `base` that sends fewer bytes."""

    class SlimDriver(base):  # type: ignore[misc, valid-type]
        _slimmer: Slimmer | None = None

        def write(self, data: str) -> None:
            if self._slimmer is None:
                self._slimmer = Slimmer()
            super().write(self._slimmer.slim(data))

    return SlimDriver
