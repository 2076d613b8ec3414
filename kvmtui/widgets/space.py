"""What a hex view can show: the virtual addresses of a dump, the physical ones, or a few bytes that lie at hand."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Protocol

import kvmlib
from kvmtui.widgets.rows import Extent, Kind, Tiling, size_text, tile
from kvmtui.widgets.scale import Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Ranges that are listed at most. A kernel has some thousands; page tables that a crash overwrote can claim billions.
LIMIT = 200_000
_TOP = 1 << 64


class Space(Protocol):
    """Addresses and what lies there.

    Attributes:
        label: what an address of it is called: va, pa or offset.
        digits: hex digits of its addresses.
        tiling: which addresses there are bytes for.
    """

    label: str
    digits: int
    tiling: Tiling

    def read(self, address: int, n: int) -> bytes:
        """Return all `n` bytes at `address`, or raise KvmError."""
        ...

    def hole(self, extent: Extent) -> str:
        """Say in a few words what is the matter with an extent that has no bytes."""
        ...


class PendingSpace:
    """Stands in until it is known what there is."""

    label = "va"
    digits = 8

    def __init__(self, text: str) -> None:
        self.text = text
        self.tiling = Tiling.of([Extent(0, 1, "unlisted")])

    def read(self, address: int, n: int) -> bytes:
        return b""

    def hole(self, extent: Extent) -> str:
        return self.text


class BytesSpace:
    """Bytes that lie at hand, addressed by their offset."""

    label = "offset"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.digits = 4 if len(data) <= 0x10000 else 8
        self.tiling = Tiling.of([Extent(0, max(1, len(data)), "present" if data else "unmapped")])

    def read(self, address: int, n: int) -> bytes:
        return self.data[address : address + n]

    def hole(self, extent: Extent) -> str:
        return "no bytes"


class PhysicalSpace:
    """Physical memory: the segments and what lies between them."""

    label = "pa"

    def __init__(self, kd: kvmlib.Kvm, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.kd = kd
        pieces = islice(_watched(_located(kd, 0, 0, _TOP), should_stop), LIMIT)
        extents = list(tile(pieces, 0, _TOP, "not_in_dump"))
        self.tiling = Tiling.of(extents)
        self.scale = Scale(self.tiling)
        self.digits = 8 if extents[-1].start <= 1 << 32 else 12 if extents[-1].start <= 1 << 48 else 16

    def read(self, address: int, n: int) -> bytes:
        return self.kd.read_physical(address, n)

    def hole(self, extent: Extent) -> str:
        size = size_text(extent.size)
        if extent.kind == "truncated":
            return f"{size} cut off: the file ends before it"
        if extent.start + extent.size == _TOP:
            return "no memory of the dump lies behind this"
        return f"{size} in no segment of the dump"


class VirtualSpace:
    """The kernel's virtual memory: what the page tables map, and of that, what the dump holds.

    Attributes:
        mappings: the mapped ranges, ascending.
        complete: False when there were more than LIMIT; then only addresses from `start` on were looked at.
    """

    label = "va"

    def __init__(self, kd: kvmlib.Kvm, start: int = 0, should_stop: Callable[[], bool] = lambda: False) -> None:
        """List the mapped ranges from va `start` on. Takes a while for many: not for the thread that draws."""
        self.kd = kd
        bits = kd.translator.bits
        self.digits = bits // 4
        self.mappings: list[kvmlib.Mapping] = []
        top = 1 << bits
        pieces: list[Extent] = []
        high = top
        for mapping in kd.mappings(start):
            if len(pieces) >= LIMIT or should_stop():
                high = mapping.va
                break
            self.mappings.append(mapping)
            room = LIMIT - len(pieces)
            found = list(islice(_located(kd, mapping.va, mapping.pa, mapping.size), room + 1))
            if len(found) > room:
                high = found[-1].start
                found.pop()
            pieces += found
        self.complete = start == 0 and high == top
        extents: list[Extent] = [Extent(0, start, "unlisted")] if start else []
        extents += tile(pieces, start, high, "unmapped") if start < high else ()
        if high < top:
            extents.append(Extent(high, top - high, "unlisted"))
        self.tiling = Tiling.of(extents)
        self.scale = Scale(self.tiling)
        self._last: kvmlib.Mapping | None = None

    def read(self, address: int, n: int) -> bytes:
        return self.kd.read(address, n)

    def hole(self, extent: Extent) -> str:
        size = size_text(extent.size)
        if extent.kind == "truncated":
            return f"{size} cut off: the file ends before it"
        if extent.kind == "not_in_dump":
            return f"{size} mapped, not in the dump"
        if extent.kind == "unlisted":
            return f"{size} not listed: too many ranges"
        return f"{size} not mapped"

    def vas_of(self, pa: int) -> Iterator[tuple[int, kvmlib.Mapping]]:
        """Yield every va that is mapped to `pa`, with its range."""
        for mapping in self.mappings:
            if mapping.pa <= pa < mapping.pa + mapping.size:
                yield mapping.va + pa - mapping.pa, mapping

    def va_of(self, pa: int) -> int | None:
        """Return one va that is mapped to `pa`: in the range that the last answer came from, if that holds it too."""
        last = self._last
        if last is None or not last.pa <= pa < last.pa + last.size:
            self._last = last = next((m for _, m in self.vas_of(pa)), None)
        return None if last is None else last.va + pa - last.pa

    def prefer(self, va: int) -> None:
        """Have `va_of` answer from the range that `va` lies in, where it can."""
        self._last = next((m for m in self.mappings if m.va <= va < m.va + m.size), self._last)


def _located(kd: kvmlib.Kvm, address: int, pa: int, size: int) -> Iterator[Extent]:
    """Yield what the dump holds of `size` bytes from `pa` on, as extents from `address` on. Reads nothing."""
    end = kd.image.size
    locate = kd.memory.locate
    while size > 0:
        kind: Kind
        try:
            offset, n = locate(pa, size)
        except kvmlib.NotInDumpError as e:
            n, kind = min(size, e.size), "not_in_dump"
            yield Extent(address, n, kind)
        else:
            have = max(0, min(n, end - offset))
            if have:
                yield Extent(address, have, "present")
            if have < n:
                yield Extent(address + have, n - have, "truncated")
        address += n
        pa += n
        size -= n


def _watched(extents: Iterable[Extent], should_stop: Callable[[], bool]) -> Iterator[Extent]:
    for extent in extents:
        if should_stop():
            return
        yield extent
