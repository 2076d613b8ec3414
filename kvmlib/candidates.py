"""Which of the headers in an image are dumps: how each fits its partition, and which of two is the newer.

Where the systems put a dump (dumpconf and dumpsys in sys/arch/*/machdep.c): it ends exactly where the partition does.
If all memory doesn't fit, NetBSD begins at ctod(1), block 8, and hopes that a sparse dump will; a sparse dump begins
where a dump of all memory would, and ends before.
"""

from __future__ import annotations

import bisect
import datetime
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kvmlib.disks import Partition
from kvmlib.errors import KvmError
from kvmlib.identify import Reading, find_banner
from kvmlib.image import Image
from kvmlib.ports.base import Machine

#: Dump devices are written in blocks of this many bytes (DEV_BSIZE).
DEV_BSIZE = 512
#: Where NetBSD puts a dump that doesn't fit, in bytes from the start of the partition: ctod(1).
_NETBSD_FIRST = 8 * DEV_BSIZE
#: NetBSD's machines that leave free and user pages out (sparse_dump).
_SPARSE = ("netbsd/amd64", "netbsd/i386")
#: From this score on a header without segments has memory behind it that belongs to it.
_PROVEN = 80
#: What a copy loses, and what a dump loses whose end was overwritten by a newer one.
_COPY, _OLDER = 50, 20
#: What a reading loses whose segments go on behind the image's end (identify).
_CUT_OFF = 20
#: From this score on two dumps side by side are compared, and at most so many.
_GOOD, _MOST_COMPARED = 60, 4
#: The date that a kernel was built, behind the number in its banner (sys/conf/newvers.sh).
_BUILT = re.compile(rb"#\d+: [A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)[ A-Z0-9+-]{0,12} (\d{4})")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plausible dump header.

    Attributes:
        offset: file offset in bytes; 0 for a saved core.
        machine: the machine it fits best.
        score: 0 to 100.
        reasons: what was found for and against it.
        length: bytes of headers and memory together, as far as the image has them.
        form: ``device`` or ``savecore``.
        partition: the name of the partition that it lies in, empty where the image has no table that says so.
        overwritten: file offset from which on a newer dump lies in its memory; None where there is none.
    """

    offset: int
    machine: Machine
    score: int
    reasons: tuple[str, ...]
    length: int
    form: str
    partition: str = ""
    overwritten: int | None = None


def judge(image: Image, r: Reading, part: Partition | None) -> tuple[Candidate, bool]:
    """Make a candidate of a reading; True with it if it fits its place exactly. `part` is the partition it lies in."""
    headers, score, reasons, fits = r.headers, r.score, list(r.reasons), False
    limit = image.size if part is None else min(part.end, image.size)
    end = limit if r.size is None else min(headers.data_off + r.size, image.size)
    if headers.form == "device":
        if (headers.data_off - headers.offset) % DEV_BSIZE:
            score -= 30
            reasons.append(f"header of {headers.data_off - headers.offset} bytes is not a whole number of blocks")
        points, said, fits = _place(image, r, part)
        score += points
        reasons += said
        if end <= headers.data_off:
            score -= 40
            reasons.append("no memory follows the header")
            fits = False
    name = "" if part is None else part.name
    length = max(end, headers.data_off) - headers.offset
    c = Candidate(headers.offset, r.machine, max(0, min(100, score)), tuple(reasons), length, headers.form, name)
    return c, fits


def _place(image: Image, r: Reading, part: Partition | None) -> tuple[int, list[str], bool]:
    """Weigh where on its partition a dump lies; without `part` the image is taken for one.

    Returns:
        Points for it, sentences, and whether its place is exactly one that the system would choose.
    """
    start, limit, where = (0, image.size, "the image") if part is None else (part.start, part.end, part.name)
    headers, page = r.headers, r.machine.page_size
    if r.machine.os == "netbsd" and headers.offset == start + _NETBSD_FIRST:
        return 5, [f"at block 8 of {where}, where NetBSD puts a dump that does not fit"], True
    if r.size is None:
        if part is None or (limit - headers.data_off) % page or limit <= headers.data_off:
            return 0, [], False
        return 5, [f"whole pages of memory follow it up to the end of {where}"], False
    end = headers.data_off + r.size
    if end == limit:
        # Where the image ends there too, that has its points already.
        said = [] if part is None else [f"headers and segments end exactly where {where} does"]
        return 0 if limit == image.size else 10, said, True
    if part is not None and end > limit:
        return -20, [f"it would end {end - limit} bytes behind the end of {where}"], False
    # The header of all memory has few segments, so it takes one block.
    room = limit - headers.offset - DEV_BSIZE
    if r.machine.name in _SPARSE and end < limit and room % page == 0:
        said = [f"a dump of {room} bytes of memory would end exactly where {where} does, so it may be a sparse one"]
        return 5, said, True
    return 0, [], False


def rank(found: Sequence[tuple[Candidate, Reading]], fitting: Collection[int] = ()) -> list[Candidate]:
    """Put the best first.

    A header inside a better dump's memory is a copy, such as the buffer it was written from, or a leftover. Only one
    that fits its own place exactly, and isn't the same again, is that of a newer dump: it overwrote the other's end.

    Args:
        found: candidates and what they were read from.
        fitting: offsets of those that fit their place exactly.
    """
    # That the image was cut off doesn't make a header less likely to be the one around another.
    order = sorted(
        found, key=lambda pair: (-pair[0].score - _CUT_OFF * _is_cut_off(*pair), -pair[0].length, pair[0].offset)
    )
    proven, same = _Cover(), dict[bytes, _Cover]()
    copies: list[Candidate] = []
    others: list[tuple[Candidate, Reading]] = []
    for c, reading in order:
        cpu_data = reading.headers.cpu_data
        around = proven.at(c.offset) or same.setdefault(cpu_data, _Cover()).at(c.offset)
        if around is not None and not (c.offset in fitting and around[1].headers.cpu_data != cpu_data):
            reason = f"lies inside the memory of the dump at {around[0].offset:#x}, so it is a copy or a leftover"
            copies.append(replace(c, score=max(0, c.score - _COPY), reasons=(*c.reasons, reason)))
            continue
        others.append((c, reading))
        # A header without segments claims all that follows it: that counts only where memory proves it, or where the
        # same header is there again.
        certain = reading.size is not None or c.score >= _PROVEN
        cover = proven if certain else same.setdefault(cpu_data, _Cover())
        cover.add(c.offset + 1, c.offset + c.length, (c, reading))
    return sorted((*_generations(others, fitting), *copies), key=lambda c: -c.score)


def _is_cut_off(c: Candidate, reading: Reading) -> bool:
    """Tell whether the segments need more of an image than there is."""
    return reading.size is not None and reading.headers.data_off + reading.size > c.offset + c.length


def _generations(found: Sequence[tuple[Candidate, Reading]], fitting: Collection[int]) -> list[Candidate]:
    """Tell older dumps, whose end a newer one overwrote."""
    newer = {c.offset: r.headers.cpu_data for c, r in found if c.offset in fitting and r.size is not None}
    offsets = sorted(newer)
    judged, over = [], dict[int, int]()
    for c, reading in found:
        i = bisect.bisect_right(offsets, c.offset)
        inside = offsets[i] if i < len(offsets) and offsets[i] < c.offset + c.length else None
        if inside is None or reading.headers.cpu_data == newer[inside]:
            judged.append(c)
            continue
        over.setdefault(inside, c.offset)
        reason = f"its memory from {inside:#x} on was overwritten by the dump there, which is the newer one"
        score = max(0, c.score - _OLDER)
        judged.append(replace(c, score=score, reasons=(*c.reasons, reason), overwritten=inside))
    return [
        replace(c, reasons=(*c.reasons, f"newer than the dump at {over[c.offset]:#x}, whose end it overwrote"))
        if c.offset in over
        else c
        for c in judged
    ]


class _Cover:
    """Which of several ranges a place lies in; where they overlap, the one that was added first.

    All together n ranges cost n log n: what is covered is kept as few long ranges, and each gap is filled once.
    """

    def __init__(self) -> None:
        #: Disjoint parts with their owners.
        self._starts: list[int] = []
        self._parts: list[tuple[int, tuple[Candidate, Reading]]] = []
        #: The same, neighbours joined.
        self._low: list[int] = []
        self._high: list[int] = []

    def at(self, place: int) -> tuple[Candidate, Reading] | None:
        i = bisect.bisect_right(self._starts, place) - 1
        if i < 0 or self._parts[i][0] <= place:
            return None
        return self._parts[i][1]

    def add(self, start: int, end: int, owner: tuple[Candidate, Reading]) -> None:
        if start >= end:
            return
        i, j = bisect.bisect_left(self._high, start), bisect.bisect_right(self._low, end)
        at = start
        for low, high in zip(self._low[i:j], self._high[i:j], strict=True):
            self._part(at, low, owner)
            at = max(at, high)
        self._part(at, end, owner)
        if i < j:
            start, end = min(start, self._low[i]), max(end, self._high[j - 1])
        self._low[i:j], self._high[i:j] = [start], [end]

    def _part(self, start: int, end: int, owner: tuple[Candidate, Reading]) -> None:
        if start < end:
            i = bisect.bisect_left(self._starts, start)
            self._starts.insert(i, start)
            self._parts.insert(i, (end, owner))


# -- side by side ----------------------------------------------------------------------------------------------------


def compare(image: Image, ranked: Sequence[Candidate]) -> list[Candidate]:
    """Say of good dumps that lie side by side which is likely the newer: nothing but their kernels' dates tells it."""
    good: dict[int, Candidate] = {}
    for c in ranked:
        if c.form == "device" and c.score >= _GOOD and c.overwritten is None:
            good.setdefault(c.offset, c)
    if len(good) > _MOST_COMPARED**2:
        return list(ranked)
    apart = [c for c in good.values() if not any(o.offset < c.offset < o.offset + o.length for o in good.values())]
    if not 2 <= len(apart) <= _MOST_COMPARED:
        return list(ranked)
    built = {c.offset: date for c in apart if (date := _built(image, c)) is not None}
    latest = max(built.values(), default=None)
    newest = [offset for offset, date in built.items() if date == latest]
    said: dict[int, str] = {}
    for c in apart:
        others = " and ".join(f"{o.offset:#x}" for o in apart if o is not c)
        if len(built) < len(apart) or len(newest) > 1:
            said[c.offset] = f"another dump is at {others}: nothing here says which is newer"
        elif c.offset in newest:
            said[c.offset] = (
                f"its kernel was built later than that of the dump at {others}, so this is likely the newer"
            )
        else:
            said[c.offset] = f"its kernel was built before that of the dump at {newest[0]:#x}, so this is likely older"
    told = [
        replace(c, reasons=(*c.reasons, said[c.offset])) if c is good.get(c.offset) and c in apart else c
        for c in ranked
    ]
    newer = newest[0] if len(newest) == 1 and len(built) == len(apart) else None
    return sorted(told, key=lambda c: (-c.score, c.offset != newer))


def _built(image: Image, c: Candidate) -> datetime.datetime | None:
    """Return when the kernel in a dump was built, by its own words; time zones are not looked at."""
    banner = find_banner(image, c.offset, c.offset + c.length)
    if banner is None:
        return None
    m = None
    with suppress(KvmError):
        m = _BUILT.search(image.read(banner[0], 400))
    if m is None or m[1] not in _MONTHS:
        return None
    with suppress(ValueError):
        return datetime.datetime(
            int(m[6]), _MONTHS.index(m[1]) + 1, int(m[2]), int(m[3]), int(m[4]), int(m[5]), tzinfo=datetime.UTC
        )
    return None
