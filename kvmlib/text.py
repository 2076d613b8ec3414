"""Text that is safe to show: what comes out of a dump, or out of a file name, is never trusted."""

from __future__ import annotations

import re
import unicodedata

#: Unicode categories that move the cursor, change direction or show nothing; marks that enclose what is around them.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Marks over and under one letter that every script can do with; more of them are drawn over the lines around.
_MARKS = 2
#: Variation selectors: marks that change how many cells the character before them takes.
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


def printable(text: str, keep: str = "") -> str:
    r"""Replace every character that a terminal could act on by a visible escape such as ``\x1b`` or ``\u202e``.

    So are those that take no cell of their own, but for a mark or two on a letter. Characters in `keep` (say, a
    newline) stay as they are.
    """
    if text.isascii():
        if text.isprintable():
            return text
        return _CONTROL.sub(lambda m: m[0] if m[0] in keep else _escape(m[0]), text)
    shown, marks = [], _MARKS
    for c in text:
        category = unicodedata.category(c)
        marks = marks + 1 if category == "Mn" else 0 if category[0] in "LM" else _MARKS
        safe = c in keep or (category not in _UNSAFE and (category != "Mn" or (marks <= _MARKS and not _selects(c))))
        shown.append(c if safe else _escape(c))
    return "".join(shown)


def _selects(character: str) -> bool:
    return any(ord(character) in selectors for selectors in _SELECTORS)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def decode(data: bytes, keep: str = "") -> str:
    """Show bytes from a dump as text: UTF-8 where they are that, escapes elsewhere and where they could do harm."""
    return printable(data.decode("utf-8", "backslashreplace"), keep)


def c_string(data: bytes) -> bytes:
    """Return the bytes before the first NUL."""
    return data.partition(b"\0")[0]
