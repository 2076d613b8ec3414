"""Ranges of virtual addresses that hardware or kernel maps to consecutive physical ones without a page table."""

from __future__ import annotations

import bisect
import functools
import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from kvmlib.errors import TranslationError
from kvmlib.translate import Mapping, Range, Step, Translator
from kvmlib.translate.radix import Radix


class Window(NamedTuple):
    """A direct map: va in [start, stop) is pa `pa` + va - start.

    Attributes:
        name: what the manual or the kernel calls it.
        start, stop: virtual addresses.
        pa: where `start` lies.
        unit: how many bytes kvatop calls contiguous at a time (libkvm answers page by page), None for all that follow.
        flags: what is special about it, such as ``uncached``.
    """

    name: str
    start: int
    stop: int
    pa: int
    unit: int | None = None
    flags: tuple[str, ...] = ()

    def kvatop(self, va: int) -> tuple[int, int]:
        """Translate an address that lies in the window."""
        left = self.stop - va
        if self.unit is not None:
            left = min(left, self.unit - va % self.unit)
        return self.pa + va - self.start, left

    def step(self, va: int, note: str = "") -> Step:
        """Return the one step that such a translation takes."""
        pa = self.kvatop(va)[0]
        note = note or f"{self.name} is mapped directly: va {va:#x} is pa {pa:#x}"
        return Step(self.name, None, None, None, None, None, self.flags, "window", pa, 0, 0, note)


def wrapping(window: Window, bits: int) -> list[Window]:
    """Cut a window in two where its physical addresses wrap around at 1 << `bits`, as C's arithmetic does."""
    top = 1 << bits
    pa = window.pa % top
    edge = window.start + top - pa
    if edge >= window.stop:
        return [window._replace(pa=pa)]
    return [window._replace(pa=pa, stop=edge), window._replace(pa=0, start=edge)]


class Via(NamedTuple):
    """Addresses in [start, stop) are translated by `translator`."""

    start: int
    stop: int
    translator: Translator


class Regions(Translator):
    """An address space in parts: windows, and ranges with page tables. Where parts overlap, the first one counts."""

    def __init__(self, name: str, bits: int, parts: Sequence[Window | Via], otherwise: str) -> None:
        """Translate by `parts`; `otherwise` says why an address in none of them can't be, with ``{va}`` for it."""
        self.name = name
        self.bits = bits
        self.otherwise = otherwise
        self._pieces = _first_wins(parts, 1 << bits)
        self._starts = [start for start, _, _ in self._pieces]

    def _part(self, va: int) -> tuple[int, Window | Via] | None:
        """Return where the part that `va` lies in ends or is covered by another one, and the part."""
        i = bisect.bisect_right(self._starts, va) - 1
        if i >= 0 and va < self._pieces[i][1]:
            return self._pieces[i][1], self._pieces[i][2]
        return None

    def _nowhere(self, va: int) -> str:
        if not 0 <= va < 1 << self.bits:
            return f"va {va:#x} does not fit in {self.bits} bits"
        return f"va {va:#x} cannot be translated: {self.otherwise.format(va=va)}"

    def kvatop(self, va: int) -> tuple[int, int]:
        """Translate by the part that `va` lies in."""
        found = self._part(va)
        if found is None:
            i = bisect.bisect_right(self._starts, va)
            stop = self._starts[i] if i < len(self._starts) else 1 << self.bits
            raise TranslationError(self._nowhere(va), va, max(1, stop - va))
        stop, part = found
        if isinstance(part, Window):
            pa, n = part.kvatop(va)
        else:
            try:
                pa, n = part.translator.kvatop(va)
            except TranslationError as e:
                if e.size > stop - va:
                    raise TranslationError(str(e), va, stop - va) from e
                raise
        return pa, min(n, stop - va)

    def walk(self, va: int) -> list[Step]:
        """Return the steps of the part that `va` lies in."""
        found = self._part(va)
        if found is None:
            note = self._nowhere(va)
            return [Step("virtual address", None, None, None, None, None, (), "outside", None, 0, 0, note)]
        part = found[1]
        return [part.step(va)] if isinstance(part, Window) else part.translator.walk(va)

    def ranges(self, start: int, stop: int) -> Iterator[Range]:
        """Yield the windows and what the other parts map."""
        for first, end, part in self._pieces:
            low, high = max(first, start), min(end, stop)
            if low >= high:
                continue
            if isinstance(part, Window):
                yield Mapping(low, part.pa + low - part.start, high - low, part.flags)
            else:
                yield from part.translator.ranges(low, high)


def _first_wins(parts: Sequence[Window | Via], top: int) -> list[tuple[int, int, Window | Via]]:
    """Cut parts that overlap so that each address belongs to the first one in `parts`; the result is sorted."""
    kept = [(p.start, min(p.stop, top), p) for p in parts if p.start < min(p.stop, top)]
    edges = sorted({edge for start, stop, _ in kept for edge in (start, stop)})
    waiting = sorted(range(len(kept)), key=lambda i: kept[i][0], reverse=True)
    live: list[int] = []
    pieces: list[tuple[int, int, Window | Via]] = []
    for left, right in pairwise(edges):
        while waiting and kept[waiting[-1]][0] <= left:
            heapq.heappush(live, waiting.pop())
        while live and kept[live[0]][1] <= left:
            heapq.heappop(live)
        if not live:
            continue
        part = kept[live[0]][2]
        if pieces and pieces[-1][1] == left and pieces[-1][2] is part:
            pieces[-1] = pieces[-1][0], right, part
        else:
            pieces.append((left, right, part))
    return pieces


class AssumedWindow(Translator):
    """Page tables, and a direct map to fall back on when the root table has nothing at all to say about it.

    libkvm takes the direct map for granted. Here the tables decide where there are any; a dump without them is still
    translated, and each step says that this was assumed.
    """

    def __init__(self, tables: Radix, window: Window) -> None:
        """Translate by `tables`, and by `window` where their root has no entry."""
        self.tables = tables
        self.window = window
        self.name = tables.name
        self.bits = tables.bits

    @functools.cached_property
    def _silent(self) -> bool:
        """Whether the root table has nothing at all to say about the window."""
        step = 1 << self.tables.paging.levels[0].shift
        slots = range(self.window.start, self.window.stop, step)
        return all(self.tables.walk(va)[0].outcome in ("invalid", "unreadable") for va in slots)

    def _assumed(self, va: int) -> bool:
        return self.window.start <= va < self.window.stop and self._silent

    def kvatop(self, va: int) -> tuple[int, int]:
        """Translate by the tables, or by the window where the root table says nothing."""
        if self._assumed(va):
            return self.window.kvatop(va)
        return self.tables.kvatop(va)

    def pages(self, va: int, n: int) -> Iterator[tuple[int, int]]:
        """Yield the pages of the tables, or of the window too."""
        if va + n <= self.window.start or self.window.stop <= va <= (1 << self.bits) - n or not self._silent:
            return self.tables.pages(va, n)
        return super().pages(va, n)

    def walk(self, va: int) -> list[Step]:
        """Return the tables' steps, and one for the window where it was needed."""
        steps = self.tables.walk(va)
        if self._assumed(va):
            pa = self.window.kvatop(va)[0]
            note = (
                f"no page table says so, but this system has {self.window.name} here: va {va:#x} is taken as pa {pa:#x}"
            )
            steps.append(self.window.step(va, note))
        return steps

    def ranges(self, start: int, stop: int) -> Iterator[Range]:
        """Yield the tables' ranges, and the window where they have nothing to say about it."""
        if not self._silent:
            yield from self.tables.ranges(start, stop)
            return
        w = self.window
        low, high = max(start, w.start), min(stop, w.stop)
        yield from self.tables.ranges(start, min(stop, w.start))
        if low < high:
            yield Mapping(low, w.pa + low - w.start, high - low, w.flags)
        yield from self.tables.ranges(max(start, w.stop), stop)
