"""A line of the summary, and what those who fill it need to say why something isn't known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kvmlib.errors import KvmError
from kvmlib.kvm import Kvm

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the summary.

    Attributes:
        label: what it is about, in capitals.
        text: printable; what is known, or why it isn't.
        source: where that was found; empty where it wasn't.
        va: an address to look at, or None.
        pa: a physical address to look at, or None; of use where there is no `va`.
        line: the number of the message that says it, 0 for the first one in the buffer; None if no message does.
    """

    label: str
    text: str
    source: str
    va: int | None = None
    pa: int | None = None
    line: int | None = None


def attempt(look: Callable[[], T]) -> tuple[T | None, str]:
    """Return what `look` finds and, where that is None, why it found nothing."""
    try:
        return look(), ""
    except KvmError as e:
        return None, str(e)


def short(kd: Kvm, why: str) -> str:
    """Say only which symbol is needed, where the line SYMBOLS says why there are none."""
    needed, found, _ = why.partition(" is needed")
    return needed + found if not len(kd.symbols) else why


def in_bytes(n: int) -> str:
    """Return a size for people, with the exact number of bytes."""
    from humanize import naturalsize

    return f"{naturalsize(n, binary=True, format='%.1f')} ({n} bytes)" if n >= 1024 else f"{n} bytes"
