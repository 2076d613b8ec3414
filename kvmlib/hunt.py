"""Looking for bytes, text, a value or a pointer in the memory of a dump, by physical or by virtual address.

Memory is read in pieces into one buffer, so that it doesn't matter how large the dump is, and a bad block is an error
and not a signal. What lies across two ranges is found where their addresses follow one another, wherever in the file
they are.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Literal, NamedTuple

from kvmlib.errors import Cancelled, KvmError, NotInDumpError
from kvmlib.kvm import Kvm
from kvmlib.text import printable
from kvmlib.translate import Mapping

#: Bytes looked at in one go: they stay in the CPU's cache, and between two of them a person may cancel.
_PIECE = 1 << 20
#: Ranges of memory that are searched at most: page tables that a crash overwrote can claim billions.
_RANGES = 500_000
#: Bytes that a pattern has at most.
_LONGEST = 4096
_NUMBER = {1, 2, 4, 8}

Progress = Callable[[int, int], None]


class Found(NamedTuple):
    """Where something was found.

    Attributes:
        address: of its first byte: va, or pa where physical memory was searched.
        offset: file offset of its first byte.
        size: bytes it has.
        what: which form it was found in, where the pattern has several (``UTF-16``); empty otherwise.
    """

    address: int
    offset: int
    size: int
    what: str = ""


@dataclass(frozen=True, slots=True)
class _Needle:
    """Bytes with gaps: `parts` are (position, bytes), one of which, the `anchor`, is what is searched for."""

    parts: tuple[tuple[int, bytes], ...]
    anchor: tuple[int, bytes]
    size: int
    what: str = ""

    def hits(self, buffer: bytearray, start: int, stop: int) -> Iterator[int]:
        """Yield where in `buffer` it begins, so that it ends in (start, stop]."""
        skip, anchor = self.anchor
        rest = tuple(part for part in self.parts if part is not self.anchor)
        at = max(0, start + 1 - self.size) + skip
        last = stop - self.size + skip + len(anchor)
        while (at := buffer.find(anchor, at, last)) >= 0:
            if all(buffer.startswith(data, at - skip + position) for position, data in rest):
                yield at - skip
            at += 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for; made by one of the class methods.

    Attributes:
        said: it in words, for a person; printable.
        align: the addresses it may lie at are multiples of this.
    """

    needles: tuple[_Needle, ...]
    said: str
    align: int = 1

    @classmethod
    def of_hex(cls, text: str) -> Pattern:
        """Make a pattern of bytes in hex, ``??`` for any: ``de ad ?? ef``, with or without blanks.

        Raises:
            KvmError: it is something else, too long, or has nothing but ``??``.
        """
        digits = "".join(text.lower().split())
        pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
        values: list[int | None] = []
        for pair in pairs:
            if pair == "??":
                values.append(None)
            elif len(pair) == 2 and all(c in "0123456789abcdef" for c in pair):
                values.append(int(pair, 16))
            else:
                raise KvmError(f"{printable(repr(pair))} is not a byte: two hex digits or ?? were expected")
        return cls((_needle(values),), " ".join(pairs))

    @classmethod
    def of_text(cls, text: str, byteorder: Literal["little", "big"]) -> Pattern:
        """Make a pattern that is found as UTF-8 and as UTF-16 in `byteorder`.

        Raises:
            KvmError: it is empty, too long or no text.
        """
        try:
            forms = [(text.encode(), ""), (text.encode(f"utf-16-{byteorder[0]}e"), "UTF-16")]
        except UnicodeEncodeError as e:
            raise KvmError(f"{printable(repr(text))} cannot be written as UTF-8") from e
        return cls(tuple(_needle(list(data), what) for data, what in forms), printable(repr(text)))

    @classmethod
    def of_value(cls, value: int, width: int, byteorder: Literal["little", "big"]) -> Pattern:
        """Make a pattern of an integer of `width` bytes (1, 2, 4 or 8) at multiples of its width; it may be negative.

        Raises:
            KvmError: it doesn't fit.
        """
        if width not in _NUMBER:
            raise KvmError(f"an integer has 1, 2, 4 or 8 bytes, not {width}")
        if not -(1 << 8 * width - 1) <= value < 1 << 8 * width:
            raise KvmError(f"{value:#x} does not fit in {width} byte{'' if width == 1 else 's'}")
        data = (value % (1 << 8 * width)).to_bytes(width, byteorder)
        return cls((_needle(list(data)),), f"{value:#x} in {width} byte{'' if width == 1 else 's'}", width)

    @property
    def longest(self) -> int:
        """Bytes of its longest form."""
        return max(needle.size for needle in self.needles)


def _needle(values: Sequence[int | None], what: str = "") -> _Needle:
    if not values:
        raise KvmError("nothing was written to look for")
    if len(values) > _LONGEST:
        raise KvmError(f"a pattern has at most {_LONGEST} bytes, not {len(values)}")
    parts: list[tuple[int, bytes]] = []
    for i, value in enumerate(values):
        if value is None:
            continue
        if parts and parts[-1][0] + len(parts[-1][1]) == i:
            parts[-1] = (parts[-1][0], parts[-1][1] + bytes((value,)))
        else:
            parts.append((i, bytes((value,))))
    if not parts:
        raise KvmError("a pattern needs at least one byte that isn't ??")
    # The longest part is the rarest, and memory is full of zeros.
    anchor = max(parts, key=lambda part: (len(part[1].replace(b"\0", b"")), len(part[1])))
    return _Needle(tuple(parts), anchor, len(values), what)


class _Run(NamedTuple):
    """Bytes of the file that lie at consecutive addresses."""

    address: int
    offset: int
    size: int


def look_for(
    kd: Kvm,
    pattern: Pattern,
    *,
    physical: bool = False,
    start: int = 0,
    stop: int | None = None,
    most: int = 10_000,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Found]:
    """Yield where `pattern` lies whole in [start, stop), ascending, as it is found; at most `most` places.

    What the dump lacks is passed over. `progress` is told the bytes that were looked at, and how many there are.

    Raises:
        Cancelled: `should_stop` said so.
        KvmError: the file can't be read, or memory has more ranges than can be listed.
    """
    check = _checker(should_stop)
    runs: list[_Run] = []
    keep = pattern.longest - 1
    for run in _meeting_data(kd, _runs(kd, physical, start, stop), pattern, keep):
        check()
        if len(runs) == _RANGES:
            raise KvmError(f"memory has more than {_RANGES:,} ranges there: search a part of it, or physical memory")
        runs.append(run)
    total, done, left = sum(run.size for run in runs), 0, most
    buffer = bytearray(keep + _PIECE)
    held, behind = 0, -1
    with memoryview(buffer) as view:
        for group in _groups(runs):
            check()
            if group[0].address != behind:
                held = 0
            filled = held
            for run in group:
                if kd.image.readinto(run.offset, view[filled : filled + run.size]) < run.size:
                    raise KvmError(f"the file ends before file offset {run.offset + run.size:#x} now: it shrank")
                filled += run.size
            base = group[0].address - held
            for at, needle in _hits(pattern, buffer, held, filled, base, left):
                left -= 1
                yield Found(base + at, _offset(runs, base + at), needle.size, needle.what)
            done += filled - held
            if progress is not None:
                progress(done, total)
            if left <= 0:
                return
            behind = base + filled
            held = min(keep, filled)
            view[:held] = view[filled - held : filled]


def _hits(
    pattern: Pattern, buffer: bytearray, held: int, filled: int, base: int, most: int
) -> list[tuple[int, _Needle]]:
    """Return the first `most` places in a buffer, of which `held` bytes were looked at before."""
    found: list[tuple[int, _Needle]] = []
    for needle in pattern.needles:
        places = needle.hits(buffer, held, filled)
        if pattern.align > 1:
            places = (at for at in places if (base + at) % pattern.align == 0)
        found += [(at, needle) for at in islice(places, most)]
    return sorted(found, key=itemgetter(0))[:most]


def vas_of(
    kd: Kvm, pa: int, size: int = 1, should_stop: Callable[[], bool] | None = None
) -> Iterator[tuple[int, Mapping]]:
    """Yield each va that is mapped to one of the `size` bytes at `pa`, with its range: the first such va of the range.

    It goes through all mapped ranges once.

    Raises:
        Cancelled: `should_stop` said so.
    """
    check = _checker(should_stop)
    for mapping in kd.mappings():
        check()
        if mapping.pa < pa + size and pa < mapping.pa + mapping.size:
            yield mapping.va + max(0, pa - mapping.pa), mapping


def _checker(should_stop: Callable[[], bool] | None) -> Callable[[], None]:
    def check() -> None:
        if should_stop is not None and should_stop():
            raise Cancelled("the search was cancelled")

    return check


def _runs(kd: Kvm, physical: bool, start: int, stop: int | None) -> Iterator[_Run]:
    """Yield what the file has of [start, stop), by ascending address."""
    if physical:
        top = 1 << 64
        end = top if stop is None else min(stop, top)
        yield from _placed(kd, start, start, end - start)
        return
    for mapping in kd.mappings(start, stop):
        low = max(start, mapping.va)
        high = mapping.va + mapping.size
        if stop is not None:
            high = min(high, stop)
        yield from _placed(kd, low, mapping.pa + low - mapping.va, high - low)


def _placed(kd: Kvm, address: int, pa: int, size: int) -> Iterator[_Run]:
    """Yield what the file has of `size` bytes from `pa` on, which lie from `address` on."""
    end, locate = kd.image.size, kd.memory.locate
    while size > 0:
        try:
            offset, n = locate(pa, size)
        except NotInDumpError as e:
            n = min(size, e.size)
        else:
            if offset < end:
                yield _Run(address, offset, min(n, end - offset))
        address += n
        pa += n
        size -= n


def _meeting_data(kd: Kvm, runs: Iterator[_Run], pattern: Pattern, keep: int) -> Iterator[_Run]:
    """Leave out of `runs` the holes of a sparse file in which the pattern can't lie."""
    if not all(any(needle.anchor[1]) for needle in pattern.needles):
        yield from runs
        return
    for run in runs:
        if run.size < _PIECE:
            yield run
            continue
        end = run.offset + run.size
        # The ends stay: what lies across them goes on in another run.
        parts = [(run.offset, run.offset), *kd.image.written(run.offset, end), (end, end)]
        at = run.offset
        for low, high in parts:
            low, high = max(at, low - keep), min(end, high + keep)
            if low < high:
                yield _Run(run.address + low - run.offset, low, high - low)
                at = high


def _groups(runs: Sequence[_Run]) -> Iterator[list[_Run]]:
    """Cut runs into pieces, and put together those pieces whose addresses follow one another."""
    group: list[_Run] = []
    size = 0
    for run in runs:
        if group and run.address != group[-1].address + group[-1].size:
            yield group
            group, size = [], 0
        at = 0
        while at < run.size:
            n = min(run.size - at, _PIECE - size)
            group.append(_Run(run.address + at, run.offset + at, n))
            at += n
            size += n
            if size == _PIECE:
                yield group
                group, size = [], 0
    if group:
        yield group


def _offset(runs: Sequence[_Run], address: int) -> int:
    run = runs[bisect.bisect_right(runs, address, key=itemgetter(0)) - 1]
    return run.offset + address - run.address
