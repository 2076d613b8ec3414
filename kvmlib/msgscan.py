"""Message buffers found by what they say of themselves, without symbols (sys/msgbuf.h, kern/subr_prf.c, subr_log.c)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

from kvmlib.errors import KvmError
from kvmlib.identify import find_banner
from kvmlib.kvm import Kvm
from kvmlib.memory import PhysicalMemory, Span
from kvmlib.ports.base import Machine
from kvmlib.scan import hits, page_hits
from kvmlib.text import decode
from kvmlib.variables import machine_of

MSG_MAGIC = 0x063061
#: A larger buffer is none: the systems use 8 to 128 KiB, and people who raise it stay far below this. Bytes.
SIZE_MAX = 4 << 20
#: Header and text are a multiple of this, in every kernel; mostly of a page. Bytes.
UNIT = 512
#: Most buffers that are looked at, most ranges of addresses and most addresses of one buffer.
_BUFFERS, _RANGES, _ADDRESSES = 32, 1 << 17, 8
#: struct msgbuf and text of OpenBSD's consbufp (CONSBUFSIZE in kern/subr_log.c), bytes.
_CONSOLE_BYTES = 16384
#: What kernels print: everything else, where there is much of it, is no text.
_TEXT = bytes([*b"\0\a\b\t\n\f\r\x1b", *range(0x20, 0x7F)])
#: The priority that log(9) puts before a line.
_PRIORITY = re.compile(rb"^<\d{1,3}>", re.MULTILINE)
#: What NetBSD puts before a line since 9: seconds since boot.
STAMP = r"(?:\[ *\d+\.\d+\] ?)?"
#: A dump that was broken off ends in the middle of a line of numbers.
_BANNER = re.compile(
    rf"(?:^{STAMP}|(?<=\d ))(?P<words>(?:Open|Net)BSD \d{{1,2}}\.[^\n]{{1,60}}?\([^)\n]{{1,80}}\)(?:$| #\d+.*))",
    re.MULTILINE,
)
#: What is printed before the banner, and which of these lines can be the first.
_ABOVE = re.compile(rf"^{STAMP}(?:\s|Copyright \(c\)|\[ using |All rights reserved|The Regents)")
_FIRST = re.compile(rf"^{STAMP}(?:Copyright \(c\)|\[ using )")
_PANIC = re.compile(rf"^{STAMP}(?:panic: |uvm_fault\(|fatal .*(?:fault|trap)|kernel: .* trap)", re.MULTILINE)
_DUMPING = re.compile(rf"^{STAMP}dumping to dev", re.MULTILINE)
_REBOOTING = re.compile(rf"^{STAMP}rebooting\.\.\.$", re.MULTILINE)
_HOLE = {
    "unmapped": "not mapped",
    "not_in_dump": "not in the dump",
    "truncated": "behind the end of the file",
    "present": "somewhere else: what is in their place is no text",
}

Kind = Literal["kernel", "console", "leftover"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A message buffer.

    Attributes:
        pa: of struct msgbuf.
        va: the same, where the page tables or a symbol tell it; else None.
        size: bytes of text there is room for (msg_bufs).
        next: where the next byte would be written (msg_bufx).
        longs: C longs before the text: 5 on OpenBSD, 4 on NetBSD.
        kind: ``kernel``, ``console`` (OpenBSD's copy of what went to /dev/console) or ``leftover``.
        score: 0 to 100, how well the evidence fits the running kernel's buffer.
        text: printable, oldest message first.
        reasons: what was found for and against it.
    """

    pa: int
    va: int | None
    size: int
    next: int
    longs: int
    kind: Kind
    score: int
    text: str
    reasons: tuple[str, ...]


class _Header(NamedTuple):
    pa: int
    longs: int
    next: int
    size: int


class _Piece(NamedTuple):
    """A part of the text: where it begins in it, its bytes, and the bytes themselves or, where they aren't, why."""

    start: int
    size: int
    data: bytes | None
    why: str


#: What was found: several questions about one dump ask for it.
_found: WeakKeyDictionary[PhysicalMemory, tuple[Buffer, ...]] = WeakKeyDictionary()


def scan(kd: Kvm) -> tuple[Buffer, ...]:
    """Search physical memory for message buffers; the running kernel's comes first, as far as that can be told.

    Raises:
        FormatError: no header was found yet.
    """
    machine_of(kd)
    memory = kd.memory
    if memory not in _found:
        _found[memory] = _search(kd)
    return _found[memory]


def layout(machine: Machine, size: int) -> int | None:
    """Return how many longs come before a text of `size` bytes: the machine's own, or else the other system's.

    OpenBSD's early kernels had NetBSD's four. None where neither fills its pages.
    """
    own = machine.system.msgbuf_longs
    return next((n for n in (own, 9 - own) if (size + n * machine.long_bytes) % UNIT == 0), None)


def clean(data: bytes) -> str:
    """Return messages as printable text: without NULs and priorities (``<3>``), with newlines and tabs."""
    return decode(_PRIORITY.sub(b"", data.replace(b"\0", b"")), "\n\t")


def hole(size: int, why: str) -> bytes:
    """Return the line that stands for messages that aren't there; `why` is a span's kind."""
    return f"\n[{size} bytes of the message buffer are {_HOLE[why]}]\n".encode()


def boots(text: str) -> tuple[str, ...]:
    """Cut messages before each boot's first line, the oldest boot first; all parts together are the text again.

    A boot begins with the copyright above the kernel's banner or, without one, with the banner. What comes before the
    first of these is a part too: the end of a boot whose beginning was overwritten.
    """
    starts = [0, *(_boot_start(text, m.start()) for m in _BANNER.finditer(text)), len(text)]
    parts = [text[a:b] for a, b in pairwise(starts)]
    return tuple(p for p in parts if p)


def _boot_start(text: str, banner: int) -> int:
    """Return where the lines begin that belong to the banner at `banner`."""
    start = at = banner
    for _ in range(20):
        above = text.rfind("\n", 0, max(0, at - 1)) + 1
        line = text[above:at]
        if above == at or not line.endswith("\n") or not _ABOVE.match(line):
            break
        at = above
        if _FIRST.match(line):
            start = at
    return start


# -- finding them ----------------------------------------------------------------------------------------------------


def _search(kd: Kvm) -> tuple[Buffer, ...]:
    machine, memory = machine_of(kd), kd.memory
    magic = MSG_MAGIC.to_bytes(machine.long_bytes, machine.byteorder)
    pages = (hit.pa for hit in page_hits(kd.image, memory, magic, machine.page_size))
    found = _headers(kd, pages)
    if not found:
        # Only the bytes that aren't zero, as memory is full of zeros; the header shows whether the others are there.
        core = magic.strip(b"\0")
        first = magic.index(core)
        everywhere = (hit.pa - first for hit in hits(kd.image, memory, core))
        found = _headers(kd, (pa for pa in everywhere if pa % machine.long_bytes == 0))
    if not found:
        return ()
    addresses = _addresses(kd, found)
    buffers = [_read(kd, h, addresses.get(h.pa, [])) for h in found]
    return _rank(kd, buffers)


def _headers(kd: Kvm, places: Iterable[int]) -> list[_Header]:
    """Return the plausible ones among the headers at these physical addresses."""
    plausible = (h for pa in dict.fromkeys(places) if (h := _header(kd, pa)) is not None)
    return list(islice(plausible, _BUFFERS))


def _header(kd: Kvm, pa: int) -> _Header | None:
    machine = machine_of(kd)
    n = machine.long_bytes
    try:
        raw = kd.memory.read(pa, 4 * n)
        magic, bufx, bufr, bufs = (int.from_bytes(raw[i : i + n], machine.byteorder) for i in range(0, 4 * n, n))
        longs = layout(machine, bufs) if 0 < bufs <= SIZE_MAX else None
        if magic != MSG_MAGIC or longs is None or bufx > bufs or bufr > bufs:
            return None
        start = pa + longs * n
        data = kd.memory.read(start, min(bufs, -start % machine.page_size or machine.page_size))
    except KvmError:
        return None
    return _Header(pa, longs, bufx, bufs) if _is_text(data) else None


def _is_text(data: bytes) -> bool:
    """Tell whether bytes are text, NULs not counted: chance makes two of five bytes printable."""
    said = len(data) - data.count(0)
    return len(data.translate(None, _TEXT)) * 4 <= said


def _addresses(kd: Kvm, found: Sequence[_Header]) -> dict[int, list[int]]:
    """Return at which virtual addresses each of these headers is mapped; nothing where there is no translation."""
    known: dict[int, list[int]] = {h.pa: [] for h in found}
    with suppress(KvmError):
        for m in islice(kd.mappings(), _RANGES):
            for pa, vas in known.items():
                if m.pa <= pa < m.pa + m.size and len(vas) < _ADDRESSES:
                    vas.append(m.va + pa - m.pa)
    return known


def _read(kd: Kvm, h: _Header, vas: Sequence[int]) -> Buffer:
    """Read the text: by virtual address where that gives as much, as NetBSD's pages may lie far apart in memory."""
    machine = machine_of(kd)
    before = h.longs * machine.long_bytes
    straight = list(_pieces(kd.memory.spans(h.pa + before, h.size), machine.page_size))
    best, rating, va = straight, _rating(straight), None
    for address in vas:
        mapped = list(_pieces(kd.spans(address + before, h.size), machine.page_size))
        rated = _rating(mapped)
        # A mapping that isn't straight was made for this buffer.
        if rated > rating or (rated == rating and (va is None or (best == straight and mapped != straight))):
            best, rating, va = mapped, rated, address
    reasons = [
        f"magic {MSG_MAGIC:#x} at pa {h.pa:#x}, {h.longs} longs and {h.size} bytes of text are whole "
        + ("pages" if (h.size + before) % machine.page_size == 0 else f"blocks of {UNIT} bytes")
    ]
    score = 45 + 10 * (h.pa % machine.page_size == 0)
    if h.longs != machine.system.msgbuf_longs:
        score -= 5
        reasons.append(f"{machine.system.title} has {machine.system.msgbuf_longs} longs there now")
    lost = sum(p.size for p in best if p.data is None)
    if lost:
        score -= 10
        reasons.append(f"{lost} of its {h.size} bytes are missing or no text")
    if best != straight:
        reasons.append("its pages lie apart in memory, the page tables tell where")
    return Buffer(h.pa, va, h.size, h.next, h.longs, "leftover", score, clean(_in_order(best, h)), tuple(reasons))


def _pieces(spans: Iterable[Span], page: int) -> Iterator[_Piece]:
    """Cut what is known of the text where pages end; a page without text is none of it."""
    at = 0
    for span in spans:
        if span.data is None or span.pa is None:
            yield _Piece(at, span.size, None, span.kind)
        else:
            edges = [0, *range(-span.pa % page or page, span.size, page), span.size]
            for low, high in pairwise(edges):
                data = span.data[low:high]
                yield _Piece(at + low, high - low, data if _is_text(data) else None, span.kind)
        at += span.size


def _rating(pieces: Sequence[_Piece]) -> int:
    """Return how much of the text is there, what isn't counted against it."""
    return sum(-p.size if p.data is None else bool(p.data.strip(b"\0")) for p in pieces)


def _in_order(pieces: Sequence[_Piece], h: _Header) -> bytes:
    """Return the text from the oldest byte on, with a line for each part that isn't there."""
    turn = h.next if h.next < h.size else 0
    out = []
    for low, high in ((turn, h.size), (0, turn)):
        for p in pieces:
            a, b = max(low, p.start), min(high, p.start + p.size)
            if a < b:
                out.append(hole(b - a, p.why) if p.data is None else p.data[a - p.start : b - p.start])
    return b"".join(out)


# -- whose are they --------------------------------------------------------------------------------------------------


def _rank(kd: Kvm, buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """Judge them by what they say; best first. The best is the kernel's, unless it is the console's or an older one."""
    running = _running(kd, buffers)
    first, *others = sorted((_judge(kd, b, running) for b in buffers), key=lambda b: (-b.score, -b.pa))
    if first.kind != "console" and not _REBOOTING.search(_last_boot(first)):
        first = replace(first, kind="kernel")
    return first, *others


def _last_boot(b: Buffer) -> str:
    return (boots(b.text) or ("",))[-1]


def _judge(kd: Kvm, b: Buffer, running: str | None) -> Buffer:
    score, reasons = b.score, list(b.reasons)
    last = _last_boot(b)
    banner = _BANNER.search(last)
    if not b.text.strip():
        return replace(b, score=score - 40, reasons=(*reasons, "it is empty"))
    if banner and running:
        words = banner["words"]
        same = words.startswith(running) or running.startswith(words)
        score += 20 if same else -20
        reasons.append("its last boot is the running kernel's" if same else "its last boot is another kernel's")
    elif banner:
        score += 10
        reasons.append("it has a kernel's first words")
    panicked, dumping = _PANIC.search(last), _DUMPING.search(last)
    if panicked:
        score += 10
        reasons.append("its last boot ends in a panic")
    rebooting = _REBOOTING.search(last)
    if rebooting:
        score -= 30
        what = (
            "it goes on behind the dump, so that was an" if dumping else "its last boot ended in a reboot, so it is an"
        )
        reasons.append(f"{what} older one")
    elif dumping:
        score += 15
        reasons.append("it ends where this dump was being written")
    kind = b.kind
    whole = b.size + b.longs * machine_of(kd).long_bytes
    if machine_of(kd).os == "openbsd" and whole == _CONSOLE_BYTES and not (banner or panicked or dumping or rebooting):
        kind = "console"
        score -= 30
        reasons.append("16 KiB without a kernel's first or last words, as OpenBSD's copy of /dev/console")
    return replace(b, kind=kind, score=max(0, min(100, score)), reasons=tuple(reasons))


def _running(kd: Kvm, buffers: Sequence[Buffer]) -> str | None:
    """Return the banner's first line as the kernel itself has it, outside of these buffers; None if it isn't there."""
    assert kd.dump_off is not None
    n = machine_of(kd).long_bytes
    own = []
    for b in buffers:
        with suppress(KvmError):
            own.append((kd.pa2off(b.pa), b.size + b.longs * n))
    start = kd.dump_off
    for _ in range(4 * _BUFFERS):
        banner = find_banner(kd.image, start, kd.image.size)
        if banner is None:
            return None
        at = banner[0]
        inside = next((begin + size for begin, size in own if begin <= at < begin + size), None)
        if inside is None:
            return re.split(r"[\n\0]", kd.image.read(at, 256).decode("latin-1"))[0]
        start = inside
    return None
