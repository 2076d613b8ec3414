"""Whose dump is it: the machine id is shared by several machines, so the rest is decided by evidence."""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from operator import itemgetter
from typing import NamedTuple
from weakref import WeakKeyDictionary

from kvmlib.errors import FormatError, KvmError
from kvmlib.image import Image, open_image
from kvmlib.kcore import Headers, MidMag, RamSeg, read_device, read_saved
from kvmlib.memory import PhysicalMemory
from kvmlib.ports import MACHINES, machine as machine_by_name
from kvmlib.ports.base import Machine, Settled
from kvmlib.text import printable

#: Memory searched for the kernel's banner, in bytes: kernels are loaded low. The second is for many headers at once.
_BANNER_RANGE, QUICK_RANGE = 256 << 20, 64 << 20
_PIECE = 64 << 10
#: What both banners have in them, and the most bytes before it.
_WORD, _BEFORE = b"BSD ", 4
#: More than a banner's bytes, so that none is missed between two pieces.
_OVERLAP = 256
_BANNER = re.compile(rb"(OpenBSD|NetBSD) \d{1,2}\.[ -~]{1,60}\([ -~]{1,80}\) #\d+")
#: The second line of ``version`` names the directory that the kernel was built in (sys/conf/newvers.sh).
_BUILT = re.compile(rb"/sys/arch/([a-z0-9]{2,16})/compile/")
#: Readings whose scores differ by no more than this are as good as each other.
_TIE = 4
_TOP = 1 << 64
#: What `find_banner` found: (from, up to, result), in order. Many headers of one image ask for it.
_banners: WeakKeyDictionary[Image, list[tuple[int, int, tuple[int, bytes] | None]]] = WeakKeyDictionary()


class Reading(NamedTuple):
    """One way to read a dump's headers.

    Attributes:
        machine: as this machine's dump.
        headers: what they say then.
        segments: its RAM segments; None where memory is linear.
        score: 0 to 100, how well the evidence fits.
        reasons: sentences, what was found for and against.
    """

    machine: Machine
    headers: Headers
    segments: list[RamSeg] | None
    score: int
    reasons: tuple[str, ...]

    def memory(self, image: Image) -> PhysicalMemory:
        """Lay the memory out."""
        off = self.headers.data_off
        if self.segments is None:
            return PhysicalMemory.linear(image, off, linear_size(self.headers, image.size))
        return PhysicalMemory(image, off, self.segments)

    @property
    def size(self) -> int | None:
        """Bytes of memory that should follow the headers, None where they don't say."""
        return None if self.segments is None else sum(s.size for s in self.segments)


def linear_size(headers: Headers, image_size: int) -> int:
    """Return how many bytes of memory follow a header without segments, in the image or by its own promise."""
    left = max(0, image_size - headers.data_off)
    return max(left, headers.promised(left) or 0)


def open_dump(path: str | os.PathLike[str], write: bool = False) -> Image:
    """Open a file or device as `open_image` does; a packed core may unpack to what its header promises, not more.

    Raises:
        KvmError: as `open_image`.
    """
    return open_image(path, write, _promised)


def _promised(head: Image) -> int | None:
    """Return how many bytes a saved core has that begins as this image does; the most, where it may be several's."""
    try:
        found = readings(head, None)
    except KvmError:
        return None
    sizes = []
    for r in found:
        # Without segments there is only c_size, whose 32 bits are all of it where memory has no more: not with PAE.
        if r.size is None and (r.machine.long_bytes > 4 or r.machine.arch == "i386"):
            return None
        sizes.append(r.headers.data_off + max(r.size or 0, r.headers.data_size or 0))
    return max(sizes)


def readings(
    image: Image,
    offset: int | None,
    machine: str | Machine | None = None,
    most: int = _BANNER_RANGE,
    prove: bool = True,
) -> list[Reading]:
    """Read the headers at `offset` as each machine's that fits, best first; `offset` None means a saved core's.

    At most `most` bytes of memory are searched for the kernel's own words. Without `prove` what only the machines
    themselves know is not looked for in memory, which takes some of them as long as the memory is large.

    Raises:
        FormatError: no machine's header is there; says what is.
    """
    wanted = (machine_by_name(machine),) if machine is not None else MACHINES
    forms = [form for known in wanted for form in (known, *(f for f in known.forms if not f.on_request))]
    if machine is None and len(raw := image.read(offset or 0, 4)) == 4:
        # The others would only say that this is not their id, and a hostile image has thousands of headers.
        mid = MidMag.parse(raw).mid
        forms = [m for m in forms if m.mid == mid]
    found, problems = [], []
    for m in forms:
        try:
            found.append(_judge(image, *_settle(image, m, _read_headers(image, offset, m)), prove))
        except FormatError as e:
            problems.append((m, e))
    if not found:
        raise _best_problem(image, offset, machine, problems)
    found.sort(key=lambda r: -r.score)
    if len(found) > 1:
        found = _by_memory(image, _by_banner(image, found, most), most, prove)
    elif machine is None and found[0].segments is None:
        _check_lone(image, found[0], problems, most)
    return found


def _check_lone(image: Image, reading: Reading, problems: list[tuple[Machine, FormatError]], most: int) -> None:
    """A header without segments fits anything: don't take the other system's damaged one for it.

    Raises:
        FormatError: what is wrong with the other system's header, when memory is that system's.
    """
    damaged = [e for m, e in problems if m.mid == reading.machine.mid]
    start = reading.headers.data_off
    banner = find_banner(image, start, start + most) if damaged else None
    if banner is not None and not banner[1].startswith(reading.machine.system.banner):
        raise damaged[0]


def _settle(image: Image, m: Machine, headers: Headers) -> Settled:
    """Let the header tell what it knows about its own machine."""
    return m.settle(m, headers, image.read, image.size) if m.settle is not None else Settled(m, headers)


def doubt(best: Reading, others: Iterable[Reading]) -> str:
    """Say which other machines it could be as well; empty where the evidence is for one."""
    names = [best.machine.name]
    names += [r.machine.name for r in others if r.score >= best.score - _TIE and r.machine.name not in names]
    return f"could be {' or '.join(sorted(set(names)))}: use -m to choose" if len(names) > 1 else ""


def _read_headers(image: Image, offset: int | None, m: Machine) -> Headers:
    if offset is not None:
        return read_device(image.read, image.size, offset, m.abi, m.least_cpu_data)
    headers = read_saved(image.read, image.size, m.byteorder)
    if headers.kcore_hdr.midmag.mid != m.mid:
        raise FormatError(
            f"this is not a saved core of {m.name}: machine id {m.mid} was expected, "
            f"{headers.kcore_hdr.midmag.mid} is there"
        )
    return headers


def _best_problem(
    image: Image, offset: int | None, machine: str | Machine | None, problems: list[tuple[Machine, FormatError]]
) -> FormatError:
    """Choose the sentence that helps most: that of a machine whose id is there, else one that names what is there."""
    raw = image.read(offset or 0, 4)
    midmag = MidMag.parse(raw) if len(raw) == 4 else None
    for m, e in problems:
        if machine is not None or (midmag and midmag.mid == m.mid):
            return e
    if offset is None:
        return FormatError(f"{printable(image.path)} is not a saved core: it starts with {raw.hex() or 'nothing'}")
    return FormatError(
        f"no dump header at {offset:#x} of {printable(image.path)}: a kcore_seg with KCORE_MAGIC (8fca) was expected, "
        f"{raw.hex() or 'nothing'} is there" + (f", and the image ends at {image.size:#x}" if len(raw) < 4 else "")
    )


def _judge(image: Image, m: Machine, headers: Headers, settled: tuple[str, ...], prove: bool) -> Reading:
    """Weigh what the headers say. Raises FormatError where they can't be this machine's."""
    hdr = m.parse_cpu_hdr(headers.cpu_data)
    reasons = [f"{_form(headers)} header of machine id {m.mid} at {headers.offset:#x}", *settled]
    if m.ram is None:
        return _judge_linear(image, m, headers, reasons, prove)
    listed = m.ram(m, headers.cpu_data, hdr)
    # Machines with a fixed array have entries in it that stand for nothing.
    segments = [s for s in listed if s != (0, 0)]
    score = 60
    if not segments:
        score -= 30
        reasons.append("it lists no RAM segments")
    doubt = _doubt(segments, m.page_size)
    if doubt:
        score -= 40
        reasons.append(doubt)
    elif segments:
        reasons.append(f"{len(segments)} RAM segments, page-aligned, none overlapping")
        score += 10
    if m.root is not None:
        root = m.root(hdr)
        if any(s.start <= root < s.start + s.size for s in segments):
            score += 15
            reasons.append(f"the top page table, pa {root:#x}, lies in a segment")
        else:
            score -= 30
            reasons.append(f"the top page table, pa {root:#x}, lies in no segment")
    end = headers.data_off + sum(s.size for s in segments)
    if end == image.size:
        score += 10
        reasons.append("headers and segments end exactly where the image ends")
    elif end > image.size:
        score -= 20
        reasons.append(f"cut off: the segments need the image to reach {end:#x}, it ends at {image.size:#x}")
    return Reading(m, headers, listed, max(0, min(100, score)), tuple(reasons))


def _judge_linear(image: Image, m: Machine, headers: Headers, reasons: list[str], prove: bool) -> Reading:
    """Weigh a header without segments by the memory behind it."""
    size = max(0, image.size - headers.data_off)
    reasons.append("its header has no segments to check")
    score = 40
    if m.evidence is not None and prove:
        proof = m.evidence(PhysicalMemory.linear(image, headers.data_off, size).read, [RamSeg(0, size)])
        score += 45 if proof else 0
        reasons.append(proof or "nothing in memory proves that it begins where it is thought to")
    return Reading(m, headers, None, score, tuple(reasons))


def _form(headers: Headers) -> str:
    return "saved core's" if headers.form == "savecore" else "dump device's"


def _doubt(segments: Iterable[RamSeg], page: int) -> str:
    last = 0
    for s in sorted(segments):
        if s.start % page or s.size % page or s.size == 0:
            return f"the segment at pa {s.start:#x} with {s.size:#x} bytes is not made of pages"
        if s.start < last:
            return f"the segment at pa {s.start:#x} overlaps another"
        last = s.start + s.size
        if last > _TOP:
            return f"the segment at pa {s.start:#x} with {s.size:#x} bytes wraps around"
    return ""


def _by_banner(image: Image, found: list[Reading], most: int) -> list[Reading]:
    """Let the kernel's own words decide between readings of different systems."""
    if len({r.machine.system.name for r in found}) == 1:
        return found
    start = found[0].headers.data_off
    banner = find_banner(image, start, start + most)
    if banner is None:
        return found
    at, text = banner
    judged = []
    for r in found:
        fits = text.startswith(r.machine.system.banner)
        words = text.decode("ascii", "backslashreplace")
        reason = f'memory says "{words}" at {at:#x}' + ("" if fits else f", so it is not {r.machine.system.title}'s")
        score = r.score + 20 if fits else r.score - 50
        judged.append(Reading(r.machine, r.headers, r.segments, max(0, min(100, score)), (*r.reasons, reason)))
    judged.sort(key=lambda r: -r.score)
    return judged


def _by_memory(image: Image, found: list[Reading], most: int, prove: bool) -> list[Reading]:
    """Let memory decide between machines of one system whose headers look alike, such as mips and mips64.

    Where the kernel was built says the port; what the machines themselves know decides the rest.
    """
    best = [r for r in found if r.score >= found[0].score - _TIE]
    if len({r.machine.name for r in best}) == 1:
        return found
    port = _built_for(image, found[0].headers.data_off, most)
    proofs = {id(r): _proofs(image, r, port, prove) for r in best}
    longest = max(len(p) for p in proofs.values())
    judged = [
        # Scores end at 100, so what has less to show loses instead of the other gaining.
        r._replace(score=max(0, r.score - 10 * (longest - len(p))), reasons=(*r.reasons, *p))
        if (p := proofs.get(id(r))) is not None
        else r
        for r in found
    ]
    judged.sort(key=lambda r: -r.score)
    return judged


def _proofs(image: Image, r: Reading, port: str | None, prove: bool) -> tuple[str, ...]:
    """Return what in memory speaks for this machine."""
    proofs = []
    if port is not None and (port == r.machine.arch or port in r.machine.ports):
        proofs.append(f"its kernel was built in sys/arch/{port}")
    if prove and r.machine.evidence is not None and r.segments is not None:
        try:
            proof = r.machine.evidence(r.memory(image).read, r.segments)
        except KvmError:
            proof = ""
        proofs += [proof] if proof else []
    return tuple(proofs)


def _built_for(image: Image, start: int, most: int) -> str | None:
    """Return the directory under sys/arch that the kernel says it was built in."""
    banner = find_banner(image, start, start + most)
    built = _BUILT.search(image.read(banner[0], 400)) if banner else None
    return built.group(1).decode() if built else None


def find_banner(image: Image, start: int, stop: int) -> tuple[int, bytes] | None:
    """Return (file offset, text) of the first kernel banner in bytes [start, stop) of the image; 256 MiB at most."""
    stop = min(stop, start + _BANNER_RANGE)
    known = _banners.setdefault(image, [])
    i = bisect.bisect_right(known, start, key=itemgetter(0))
    begin = start
    if i and start < known[i - 1][1]:
        # It was searched from an earlier place on: there is nothing before `begin`, or only what was found.
        _, begin, found = known[i - 1]
        if found is not None:
            return found if found[0] + len(found[1]) <= stop else None
    found = _search_banner(image, begin, stop)
    known.insert(i, (start, found[0] + 1 if found else stop - _OVERLAP, found))
    return found


def _search_banner(image: Image, start: int, stop: int) -> tuple[int, bytes] | None:
    # Finding bytes is many times faster than the regular expression, and memory is mostly something else.
    while (at := image.find(_WORD, start, stop)) >= 0:
        start = max(start, at - _BEFORE)
        with suppress(KvmError):
            if m := _BANNER.search(image.read(start, min(_PIECE + _OVERLAP, stop - start))):
                return start + m.start(), m.group()
        start += _PIECE
    return None
