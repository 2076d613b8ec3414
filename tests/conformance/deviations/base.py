"""What the rules of all families are made of."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import kvmlib

Entry = dict[str, Any]


class Excuse(NamedTuple):
    """Why an answer of ours may be another one: the id, and what must be true of ours at that address."""

    id: str
    ours: Callable[[kvmlib.Kvm, int], bool]


def nothing(kd: kvmlib.Kvm, entry: Entry, address: int) -> Excuse | None:
    """No excuse."""
    return None


def in_dump(kd: kvmlib.Kvm, pa: int, n: int = 1) -> bool:
    """Tell whether all of [pa, pa + n) lies in segments."""
    return all(s.kind != "not_in_dump" for s in kd.memory.spans(pa, n))


def fails(words: str) -> Callable[[kvmlib.Kvm, int], bool]:
    """Ours is an error whose text matches `words`."""

    def check(kd: kvmlib.Kvm, va: int) -> bool:
        try:
            kd.kvatop(va)
        except kvmlib.TranslationError as e:
            return re.search(words, str(e)) is not None
        return False

    return check


def translates(to: Callable[[int], tuple[int, int]] | None = None) -> Callable[[kvmlib.Kvm, int], bool]:
    """Ours is an answer: where it can be computed in another way, ``to(va)`` gives its (pa, n)."""

    def check(kd: kvmlib.Kvm, va: int) -> bool:
        try:
            found = kd.kvatop(va)
        except kvmlib.TranslationError:
            return False
        return to is None or found == to(va)

    return check


def absent(words: str = "could not read") -> Excuse:
    """A page table is not in the dump: ours says so, libkvm reads whatever bytes lie there."""
    return Excuse("ABSENT", fails(words))
