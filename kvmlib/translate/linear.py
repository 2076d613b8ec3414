"""Ranges of virtual addresses that hardware or kernel maps to consecutive physical ones without a page table."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from kvmlib.translate import Mapping, Step, Translator
from kvmlib.translate.radix import Radix


@dataclass(frozen=True, slots=True)
class Window:
    """A direct map: va in [start, stop) is pa `pa` + va - start.

    `unit` is how many bytes kvatop calls contiguous at a time (libkvm answers page by page), None for the whole window.
    """

    name: str
    start: int
    stop: int
    pa: int
    unit: int | None = None

    def kvatop(self, va: int) -> tuple[int, int]:
        """Translate an address that lies in the window."""
        left = self.stop - va
        if self.unit is not None:
            left = min(left, self.unit - va % self.unit)
        return self.pa + va - self.start, left


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

    def walk(self, va: int) -> list[Step]:
        """Return the tables' steps, and one for the window where it was needed."""
        steps = self.tables.walk(va)
        if self._assumed(va):
            pa = self.window.kvatop(va)[0]
            note = (
                f"no page table says so, but this system has {self.window.name} here: va {va:#x} is taken as pa {pa:#x}"
            )
            steps.append(Step(self.window.name, None, None, None, None, None, ("assumed",), "window", pa, 0, 0, note))
        return steps

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield the tables' ranges, and the window where they have nothing to say about it."""
        if not self._silent:
            yield from self.tables.ranges(start, stop)
            return
        w = self.window
        low, high = max(start, w.start), min(stop, w.stop)
        yield from self.tables.ranges(start, min(stop, w.start))
        if low < high:
            yield Mapping(low, w.pa + low - w.start, high - low, ("assumed",))
        yield from self.tables.ranges(max(start, w.stop), stop)
