"""Numbers, names and sizes as a person reads them."""

from __future__ import annotations

from pathlib import Path

import humanize

import kvmlib


def file_name(path: str) -> str:
    """Return the last part of a path, printable."""
    return kvmlib.printable(Path(path).name or path)


def size_of(n: float) -> str:
    """Spell a number of bytes: 512 bytes, 4.0 KiB, 1.5 GiB."""
    if n < 1024:
        return f"{int(n)} byte{'' if n == 1 else 's'}"
    return humanize.naturalsize(n, binary=True, format="%.1f")


def duration(seconds: float) -> str:
    """Spell a time that is left: 3 seconds, 2 minutes and 5 seconds."""
    import datetime

    if seconds < 1:
        return "less than a second"
    if seconds >= 3600:
        return humanize.precisedelta(datetime.timedelta(seconds=round(seconds)), minimum_unit="minutes", format="%d")
    return humanize.precisedelta(datetime.timedelta(seconds=round(seconds)), minimum_unit="seconds", format="%d")
