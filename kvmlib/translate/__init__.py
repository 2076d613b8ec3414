"""How a virtual address becomes a physical one: one interface, few algorithms.

A translator never sees a file: it gets ``read(pa, n)`` for physical memory and the numbers of the CPU header.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kvmlib.errors import TranslationError

#: ``read(pa, n)``: all `n` bytes of physical memory, or NotInDumpError or TruncatedError.
ReadPhysical = Callable[[int, int], bytes]
Outcome = Literal["next", "page", "window", "invalid", "unreadable", "outside"]


@dataclass(frozen=True, slots=True)
class Step:
    """One level of a translation, for showing it.

    Attributes:
        name: what the CPU's manual calls the table.
        table_pa: where the table starts, or None when there is no table (a window, a bad address).
        index: the entry's number in it.
        entry_pa: where the entry is.
        entry_offset: the same as a file offset; filled in by `Kvm`, None when it isn't in the file.
        entry: its value, or None when it couldn't be read.
        flags: names of the bits set in it.
        outcome: next (there is another table), page (the translation is done), window (done without a table), invalid,
            unreadable, outside (the address is none that this machine can have).
        pa: the next table's address, or what `va` translates to when the outcome is page or window.
        shift: lowest bit of the va that selects the entry.
        bits: how many bits of the va do.
        note: a sentence about the outcome.
        page_shift: log2 of the page's bytes, where the page isn't as large as what the entry stands for.
        flag_bits: which bit of the entry each of `flags` is; empty where they are no single bits.
    """

    name: str
    table_pa: int | None
    index: int | None
    entry_pa: int | None
    entry_offset: int | None
    entry: int | None
    flags: tuple[str, ...]
    outcome: Outcome
    pa: int | None
    shift: int
    bits: int
    note: str
    page_shift: int | None = None
    flag_bits: tuple[int, ...] = ()


#: What `Mapping` tells, not named: where there are millions, that is half the time.
Range = tuple[int, int, int, tuple[str, ...]]


class Mapping(NamedTuple):
    """A range of virtual addresses that is mapped to consecutive physical ones with the same protection.

    `flags` names the bits of the last entry that concern protection and caching; "accessed" and "dirty" are left out.
    """

    va: int
    pa: int
    size: int
    flags: tuple[str, ...]


class Translator(ABC):
    """Virtual addresses of one address space.

    Attributes:
        name: one line on how it translates, for a person.
        bits: width of a virtual address, 32 or 64.
    """

    name: str
    bits: int

    @abstractmethod
    def walk(self, va: int) -> list[Step]:
        """Return each step of the translation of `va`; the last one says how it ended. It never raises."""

    @abstractmethod
    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, n): the physical address and the bytes that stay contiguous from there within the page.

        Raises:
            TranslationError: `va` has no physical address; its `size` is how far that is known to go.
        """

    def pages(self, va: int, n: int) -> Iterator[tuple[int, int]]:
        """Yield (pa, bytes) of each page, or part of one, that the `n` bytes at `va` lie in.

        Raises:
            TranslationError: the next one isn't mapped.
        """
        top = (1 << self.bits) - 1
        while n > 0:
            pa, m = self.kvatop(va)
            m = min(m, n)
            yield pa, m
            # As in C, where an address is an unsigned long: behind the last one comes 0.
            va = va + m & top
            n -= m

    @abstractmethod
    def ranges(self, start: int, stop: int) -> Iterator[Range]:
        """Yield the mapped ranges that meet [start, stop), ascending; adjacent ones may come separately."""

    def mappings(self, start: int = 0, stop: int | None = None) -> Iterator[Mapping]:
        """Yield the mapped ranges in [start, stop), ascending, adjacent ones merged. `stop` None means all."""
        top = 1 << self.bits
        return merge(self.ranges(start, top if stop is None else min(stop, top)))


def merge(ranges: Iterable[Range]) -> Iterator[Mapping]:
    """Join ranges that follow one another in va and pa and have the same flags."""
    first_va = first_pa = size = stop_va = stop_pa = 0
    common: tuple[str, ...] = ()
    for va, pa, n, flags in ranges:
        if va == stop_va and pa == stop_pa and size and flags == common:
            size += n
        else:
            if size:
                # Mapping(), at half the price: there may be millions.
                yield tuple.__new__(Mapping, (first_va, first_pa, size, common))
            first_va, first_pa, size, common = va, pa, n, flags
        stop_va, stop_pa = va + n, pa + n
    if size:
        yield Mapping(first_va, first_pa, size, common)


class Unavailable(Translator):
    """A machine whose translation can't be known: it says why."""

    def __init__(self, why: str, bits: int) -> None:
        """`why` is a sentence without its full stop."""
        self.name = "none"
        self.bits = bits
        self.why = why

    def walk(self, va: int) -> list[Step]:
        """Return one step that says why."""
        return [Step("no translation", None, None, None, None, None, (), "outside", None, 0, 0, self.why)]

    def kvatop(self, va: int) -> tuple[int, int]:
        """Raise TranslationError that says why."""
        raise TranslationError(f"va {va:#x} cannot be translated: {self.why}", va, max(1, (1 << self.bits) - va))

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield nothing."""
        return iter(())
