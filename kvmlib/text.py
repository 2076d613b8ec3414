"""Text that is safe to show: what comes out of a dump, or out of a file name, is never trusted."""

from __future__ import annotations

import unicodedata

#: Unicode categories that move the cursor, change direction or show nothing.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, keep: str = "") -> str:
    r"""Replace every character that a terminal could act on by a visible escape such as ``\x1b`` or ``\u202e``.

    Characters in `keep` (say, a newline) stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSAFE else _escape(c) for c in text)


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
