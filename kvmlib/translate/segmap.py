"""MMUs with a segment map: Sun's sun2, sun3, sun4, sun4c, and sun4m as NetBSD's dump header describes it.

An address is a segment, a page in it and an offset. The segment map says which group of page table entries (PMEG) a
segment uses. The MMU keeps both in its own memory, so the kernel copies them into the CPU data of a dump. On a sun4m
the entries are the kernel's own memory instead, and the map holds their virtual address.

Sources: NetBSD sys/arch/sparc/include/{kcore,pte,vmparam}.h, sys/arch/sun3/include/pte3.h, sys/arch/sun2/include/pte.h,
sys/arch/m68k/include/kcore.h; lib/libkvm/kvm_sparc.c, kvm_sun3.c, kvm_sun2.c, whose words the failures contain; SPARC
Reference MMU for sun4m's entries.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Mapping as MappingType, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kvmlib.errors import FormatError, NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate import Mapping, Outcome, ReadPhysical, Step, Translator

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_PTE = 4
_TOP = 1 << 32
#: A table that the file ends before is cut off by the page.
_PAGE = 4096


class Field(NamedTuple):
    """Several bits of a PTE that mean something together: their mask, and a word for each of their values."""

    mask: int
    words: tuple[str, ...]

    def word(self, pte: int) -> str:
        """Name the value that `pte` has there."""
        return self.words[(pte & self.mask) // (self.mask & -self.mask)]


class SegmentForm(NamedTuple):
    """A form of MMU with a segment map.

    Attributes:
        name: one line for a person.
        page_shift, segment_shift: a page has 1 << page_shift bytes, a segment 1 << segment_shift.
        valid: (mask, value): a PTE is valid when these bits have this value.
        frame, frame_shift: the page's physical address is the masked PTE shifted left; it has 32 bits at most.
        flags: bit number -> the bit's name in the CPU's manual.
        fields: what has several bits.
        protection: mask of the bits that concern protection, caching and the kind of memory, shown for mapped ranges.
        table: what the group of PTEs is called.
        in_memory: whether PTEs are in physical memory rather than in the CPU data.
        below, invalid, unreadable: libkvm's words for an address below the map, for one that isn't mapped and for a PTE
            that can't be read, with ``{va}`` for the address as C's ``%#lx`` prints it.
        lost: bits of the PTE's frame for which the kernel's physical addresses are too narrow.
    """

    name: str
    page_shift: int
    segment_shift: int
    valid: tuple[int, int]
    frame: int
    frame_shift: int
    flags: MappingType[int, str]
    protection: int
    table: str
    below: str
    invalid: str
    unreadable: str = ""
    fields: tuple[Field, ...] = field(default=())
    in_memory: bool = False
    lost: int = 0

    @property
    def ptes(self) -> int:
        """PTEs of a segment."""
        return 1 << (self.segment_shift - self.page_shift)

    def flag_names(self, pte: int, mask: int = _TOP - 1) -> tuple[str, ...]:
        """Name the bits among those in `mask` that are set in a PTE, and the values of its fields there."""
        bits = (name for bit, name in self.flags.items() if pte & mask & 1 << bit)
        return (*bits, *(f.word(pte) for f in self.fields if f.mask & mask))


_SPARC = "invalid address ({va})"
_SUN4_FLAGS = {31: "V", 30: "W", 29: "S", 28: "X", 25: "A", 24: "M"}
_SUN4_TYPE = 0x0C000000
_SUN4_PROTECTION = 0x70000000 | _SUN4_TYPE

#: libkvm has pages of 8196 bytes, by a slip of the pen, and so 31 PTEs for each segment; the hardware has 32.
SUN4 = SegmentForm(
    name="sun4 segment map: PMEGs of 32 PTEs, 8 KiB pages",
    page_shift=13,
    segment_shift=18,
    valid=(1 << 31, 1 << 31),
    frame=0x7FFFF,
    frame_shift=13,
    flags={**_SUN4_FLAGS, 23: "IOC"},
    fields=(Field(_SUN4_TYPE, ("OBMEM", "OBIO", "VME16", "VME32")),),
    protection=_SUN4_PROTECTION,
    table="PMEG",
    below=_SPARC,
    invalid=_SPARC,
)
SUN4C = SegmentForm(
    name="sun4c segment map: PMEGs of 64 PTEs, 4 KiB pages",
    page_shift=12,
    segment_shift=18,
    valid=(1 << 31, 1 << 31),
    frame=0x7FFFF,
    frame_shift=12,
    flags=_SUN4_FLAGS,
    fields=(Field(_SUN4_TYPE, ("OBMEM", "OBIO", "type2", "type3")),),
    protection=_SUN4_PROTECTION,
    table="PMEG",
    below=_SPARC,
    invalid=_SPARC,
)
#: Access rights of the supervisor, then of the user, as in SRACC_RW_R__ of pte.h.
_ACC = ("r--r--", "rw-rw-", "r-xr-x", "rwxrwx", "--x--x", "rw-r--", "r-x---", "rwx---")
SUN4M = SegmentForm(
    name="sun4m segment map: page tables of 64 PTEs, 4 KiB pages",
    page_shift=12,
    segment_shift=18,
    valid=(3, 2),
    # A PTE has 24 bits of page number for addresses of 36 bits, but paddr_t has 32.
    frame=0x0FFFFF00,
    frame_shift=4,
    flags={7: "C", 6: "M", 5: "R"},
    fields=(
        Field(0x1C, tuple(f"ACC={rights}" for rights in _ACC)),
        Field(3, ("ET=invalid", "ET=PTD", "ET=PTE", "ET=reserved")),
    ),
    protection=1 << 7 | 0x1C,
    table="page table",
    below=_SPARC,
    invalid=_SPARC,
    unreadable="cannot read pte for {va}",
    in_memory=True,
    lost=0xF0000000,
)

_SUN3_FLAGS = {31: "V", 30: "W", 29: "S", 28: "X", 25: "A", 24: "M"}
_SUN3_TYPE = Field(_SUN4_TYPE, ("OBMEM", "OBIO", "VME16", "VME32"))
#: What get_pte() of NetBSD's sun2 makes of the hardware's bits, so that they look like a sun3's; those are dumped.
_SUN2_FLAGS = {31: "V", 29: "W", 27: "S", 21: "A", 20: "M"}
#: The two upper types are the VME bus on some models and the Multibus on the others.
_SUN2_TYPE = Field(0x00C00000, ("OBMEM", "OBIO", "VME0/MBMEM", "VME8/MBIO"))


class Segment(NamedTuple):
    """One entry of a segment map.

    Attributes:
        record: the byte of the CPU data at which it lies.
        entry: what it holds: a PMEG's number, or where in virtual memory the PTEs are.
        at: where the PTEs begin: a byte of the CPU data, or a physical address; None when the segment isn't mapped.
        why: if it isn't, why not.
    """

    record: int
    entry: int
    at: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of a translation; `size` is how many bytes from the va on have the same fate."""

    outcome: Outcome
    note: str
    size: int
    number: int | None = None
    segment: Segment | None = None
    index: int = 0
    pte: int | None = None
    pa: int | None = None


class SegmentMap(Translator):
    """A walker of segment maps."""

    def __init__(
        self, form: SegmentForm, base: int, segments: Sequence[Segment], read: ReadPhysical, order: ByteOrder
    ) -> None:
        """Translate by `segments`, of which the first begins at va `base`.

        `base` is a multiple of the page size, not always of the segment's. ``read(at, n)`` gets PTEs, in byte order
        `order`, from where each segment says.
        """
        self.form = form
        self.base = base
        self.segments = segments
        self.name = f"{form.name}, {len(segments)} segments from va {base:#x}"
        self.bits = 32
        self._read = read
        self._swap = order != sys.byteorder
        self._order = order
        self._end = min(_TOP, base + (len(segments) << form.segment_shift))
        #: Decoded PTEs by where they are, and once more by segment: the short cut that makes kvatop one look-up.
        self._tables: dict[int, array[int]] = {}
        self._known: dict[int, array[int]] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    # -- PTEs --------------------------------------------------------------------------------------------------------

    def _table(self, at: int) -> array[int]:
        """Return all the PTEs of a segment, decoded."""
        table = self._tables.get(at)
        if table is None:
            n = _PTE * self.form.ptes
            head = min(n, _TOP - at)
            data = self._read(at, head) + (self._read(0, n - head) if head < n else b"")
            table = array("I", data)
            if self._swap:
                table.byteswap()
            self._tables[at] = table
        return table

    def _place(self, at: int, index: int) -> int:
        """Return where a PTE is; a physical address wraps around as the kernel's does."""
        return (at + _PTE * index) % _TOP

    def _pte(self, at: int, index: int) -> int:
        """Return one PTE, even where only a part of its table is in the dump."""
        try:
            return self._table(at)[index]
        except (NotInDumpError, TruncatedError):
            return int.from_bytes(self._read(self._place(at, index), _PTE), self._order)

    # -- one address -------------------------------------------------------------------------------------------------

    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, bytes left in the page)."""
        form = self.form
        table = self._known.get(va - self.base >> form.segment_shift)
        if table is not None and va < self._end:
            pte = table[va >> form.page_shift & form.ptes - 1]
            if pte & form.valid[0] == form.valid[1]:
                page = 1 << form.page_shift
                offset = va & page - 1
                return (pte & form.frame) << form.frame_shift | offset, page - offset
        found = self._find(va)
        if found.pa is None:
            raise TranslationError(found.note, va, found.size)
        return found.pa, found.size

    def _find(self, va: int) -> _Found:
        form = self.form
        if not 0 <= va < _TOP:
            return _Found("outside", f"va {va:#x} does not fit in {self.bits} bits", 1)
        if va < self.base:
            why = f"{self._words(form.below, va)}, the segment map begins at va {self.base:#x}"
            return _Found("outside", f"va {va:#x} is not mapped: {why}", self.base - va)
        if va >= self._end:
            why = f"{self._words(form.invalid, va)}, the {len(self.segments)} segments end at va {self._end:#x}"
            return _Found("outside", f"va {va:#x} is not mapped: {why}", _TOP - va)
        number = va - self.base >> form.segment_shift
        segment = self.segments[number]
        size = min(self.base + (number + 1 << form.segment_shift), self._end) - va
        if segment.at is None:
            note = f"va {va:#x} is not mapped: {self._words(form.invalid, va)}, segment {number}: {segment.why}"
            return _Found("invalid", note, size, number, segment)
        index = va >> form.page_shift & form.ptes - 1
        offset = va & (1 << form.page_shift) - 1
        try:
            pte = self._pte(segment.at, index)
        except (NotInDumpError, TruncatedError) as e:
            gap = min(self._gap(segment.at, index, e) << form.page_shift, size + offset) - offset
            return _Found("unreadable", self._unreadable(va, segment.at, index, e), gap, number, segment, index)
        if (table := self._tables.get(segment.at)) is not None:
            self._known[number] = table
        size = (1 << form.page_shift) - offset
        if pte & form.valid[0] != form.valid[1]:
            note = f"va {va:#x} is not mapped: {self._words(form.invalid, va)}, PTE {index} {self._where(segment)}"
            return _Found("invalid", f"{note} is {pte:#x}", size, number, segment, index, pte)
        pa = (pte & form.frame) << form.frame_shift | offset
        note = f"maps a page of {1 << form.page_shift - 10} KiB: va {va:#x} is pa {pa:#x}"
        if pte & form.lost:
            whole = (pte & (form.lost | form.frame)) << form.frame_shift | offset
            note += f" (the PTE says {whole:#x}, but the kernel's physical addresses have 32 bits)"
        return _Found("page", note, size, number, segment, index, pte, pa)

    def _words(self, words: str, va: int) -> str:
        return words.format(va=f"{va:#x}" if va else "0")

    def _where(self, segment: Segment) -> str:
        if self.form.in_memory:
            return f"of the {self.form.table} at pa {segment.at:#x}"
        return f"of {self.form.table} {segment.entry}, in the CPU data at byte {segment.at},"

    def _gap(self, at: int, index: int, why: NotInDumpError | TruncatedError) -> int:
        """Return how many PTEs are known to be missing: others of the table may be there."""
        pa = self._place(at, index)
        gap = why.size if isinstance(why, NotInDumpError) else _PAGE - pa % _PAGE
        return max(1, min(gap // _PTE, self.form.ptes - index, (_TOP - pa) // _PTE))

    def _unreadable(self, va: int, at: int, index: int, why: NotInDumpError | TruncatedError) -> str:
        where = "which is not in the dump"
        if isinstance(why, TruncatedError):
            where = f"which should be at file offset {why.offset:#x}, but the file ends before it"
        what = self._words(self.form.unreadable, va)
        return f"va {va:#x} cannot be translated: {what}, PTE {index} is at pa {self._place(at, index):#x}, {where}"

    def walk(self, va: int) -> list[Step]:
        """Return the step through the segment map, and the one through the PTEs."""
        form = self.form
        found = self._find(va)
        segment = found.segment
        if segment is None:
            return [Step("virtual address", None, None, None, None, None, (), "outside", None, 0, 0, found.note)]
        high = 32 - form.segment_shift

        def first(outcome: Outcome, to: int | None, note: str) -> Step:
            name, number, entry = "segment map", found.number, segment.entry
            return Step(name, None, number, None, None, entry, (), outcome, to, form.segment_shift, high, note)

        at = segment.at
        if at is None:
            return [first(found.outcome, None, found.note)]
        low = form.segment_shift - form.page_shift
        flags = form.flag_names(found.pte) if found.pte is not None else ()
        last = (None, found.pte, flags, found.outcome, found.pa, form.page_shift, low, found.note)
        held = f"the map's entry is in the CPU data at byte {segment.record}"
        if form.in_memory:
            up = first("next", at, f"{held}; the {form.table} is at pa {at:#x}")
            return [up, Step(form.table, at, found.index, self._place(at, found.index), *last)]
        up = first("next", None, f"{held}; {form.table} {segment.entry} is in the CPU data at byte {at}")
        here = f"in the CPU data at byte {self._place(at, found.index)}"
        if found.outcome == "page":
            last = (*last[:-1], f"{here}, {found.note}")
        return [up, Step(f"{form.table} {segment.entry}", None, found.index, None, *last)]

    # -- all addresses -----------------------------------------------------------------------------------------------

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield every mapped page in [start, stop), cut at its ends."""
        form = self.form
        mask, value = form.valid
        size = 1 << form.page_shift
        start, stop = max(start, self.base), min(stop, self._end)
        if start >= stop:
            return
        for number in range(start - self.base >> form.segment_shift, (stop - 1 - self.base >> form.segment_shift) + 1):
            at = self.segments[number].at
            if at is None:
                continue
            va = self.base + (number << form.segment_shift)
            for page in range(va, min(va + (1 << form.segment_shift), stop), size):
                if page + size <= start:
                    continue
                try:
                    pte = self._pte(at, page >> form.page_shift & form.ptes - 1)
                except (NotInDumpError, TruncatedError):
                    continue
                if pte & mask != value:
                    continue
                bits = pte & form.protection
                flags = self._names.get(bits)
                if flags is None:
                    flags = self._names[bits] = form.flag_names(bits, form.protection)
                low, high = max(page, start), min(page + size, stop)
                yield Mapping(low, ((pte & form.frame) << form.frame_shift) + low - page, high - low, flags)


# -- what the dump headers say ---------------------------------------------------------------------------------------

#: struct segmap of sys/arch/sparc/include/kcore.h: sg_wiremap, sg_pte, sg_pmeg, sg_npte, sg_nwired.
_RECORD = {"big": struct.Struct(">QIHBb"), "little": struct.Struct("<QIHBb")}
RECORD_BYTES = 16
#: NBPRG: 64 segments of sparc's map make a region, and the kernel begins with one.
_REGION = 1 << 24
#: sizeof(kcore_seg_t): on sun3 and sun2 it takes the first bytes of the page that the header is on.
_SEG = 8


def _records(hdr: MappingType[str, Any], cpu_data: bytes, order: ByteOrder) -> Iterator[tuple[int, int, int, int]]:
    """Yield each segment's record: where it lies in the CPU data, sg_pte, sg_pmeg, sg_npte."""
    count, at, base = hdr["nsegmap"], hdr["segmapoffset"], hdr["kernbase"]
    if base % _REGION:
        raise FormatError(f"kernbase is {base:#x}, but the kernel begins at a multiple of {_REGION:#x}")
    room = max(0, len(cpu_data) - at) // RECORD_BYTES
    if count > room:
        raise FormatError(
            f"nsegmap is {count} at segmapoffset {at:#x}, "
            f"but the CPU data of {len(cpu_data)} bytes has room for {room} segment records there"
        )
    rows = _RECORD[order].iter_unpack(cpu_data[at : at + count * RECORD_BYTES])
    for i, (_, sg_pte, sg_pmeg, sg_npte, _) in enumerate(rows):
        yield at + i * RECORD_BYTES, sg_pte, sg_pmeg, sg_npte


def sun4_map(hdr: MappingType[str, Any], cpu_data: bytes, order: ByteOrder) -> SegmentMap:
    """Set up a sun4 (cputype 0) or a sun4c (1) from its CPU header and CPU data.

    Raises:
        FormatError: nsegmap or npmeg says more than the CPU data has, or kernbase is no place for a kernel.
    """
    form = SUN4 if hdr["cputype"] == 0 else SUN4C
    npmeg, pmegs, each = hdr["npmeg"], hdr["pmegoffset"], _PTE * form.ptes
    room = max(0, len(cpu_data) - pmegs) // each
    if npmeg > room:
        raise FormatError(
            f"npmeg is {npmeg} at pmegoffset {pmegs:#x}, "
            f"but the CPU data of {len(cpu_data)} bytes has room for {room} PMEGs there"
        )

    def segment(record: int, pmeg: int, npte: int) -> Segment:
        if npte == 0:
            return Segment(record, pmeg, None, "it has no PTEs")
        if pmeg == npmeg - 1:
            return Segment(record, pmeg, None, f"PMEG {pmeg} is the one for what isn't mapped")
        if pmeg >= npmeg:
            return Segment(record, pmeg, None, f"PMEG {pmeg} is none of the {npmeg} that were dumped")
        return Segment(record, pmeg, pmegs + pmeg * each)

    segments = [segment(at, pmeg, npte) for at, _, pmeg, npte in _records(hdr, cpu_data, order)]
    return SegmentMap(form, hdr["kernbase"], segments, _reader(cpu_data), order)


def sun4m_map(hdr: MappingType[str, Any], cpu_data: bytes, order: ByteOrder, read: ReadPhysical) -> SegmentMap:
    """Set up a sun4m from its CPU header and CPU data; its page tables are read from physical memory.

    Raises:
        FormatError: nsegmap says more than the CPU data has, or kernbase is no place for a kernel.
    """
    base = hdr["kernbase"]

    def segment(record: int, sg_pte: int, npte: int) -> Segment:
        if npte == 0:
            return Segment(record, sg_pte, None, "it has no PTEs")
        # The kernel's own memory lies at va - kernbase.
        return Segment(record, sg_pte, (sg_pte - base) % _TOP)

    segments = [segment(at, sg_pte, npte) for at, sg_pte, _, npte in _records(hdr, cpu_data, order)]
    return SegmentMap(SUN4M, base, segments, read, order)


def sun3_form(hdr: MappingType[str, Any], page_shift: int) -> SegmentForm:
    """Return the form of a sun3 or a sun2, whose header has the numbers.

    Raises:
        ValueError: these numbers describe no segment map, and why.
    """
    shift, sun2 = hdr["segshift"], hdr["name"] == "sun2"
    if shift != page_shift + 4:
        raise ValueError(f"segshift is {shift}, but a segment has 16 pages of {1 << page_shift} bytes")
    if hdr["pg_frame"] << page_shift >= 1 << 32:
        raise ValueError(f"pg_frame is {hdr['pg_frame']:#x}, which makes addresses of more than 32 bits")
    kind = _SUN2_TYPE if sun2 else _SUN3_TYPE
    return SegmentForm(
        name=f"{hdr['name']} segment map: PMEGs of 16 PTEs, {1 << page_shift - 10} KiB pages",
        page_shift=page_shift,
        segment_shift=shift,
        valid=(hdr["pg_valid"], hdr["pg_valid"]),
        frame=hdr["pg_frame"],
        frame_shift=page_shift,
        flags=_SUN2_FLAGS if sun2 else _SUN3_FLAGS,
        fields=(kind,),
        protection=kind.mask | (1 << 29 | 1 << 27 if sun2 else 7 << 28),
        table="PMEG",
        below="not a kernel address",
        invalid="page not valid (VA={va})",
    )


def sun3_map(hdr: MappingType[str, Any], cpu_data: bytes, page_shift: int, order: ByteOrder) -> SegmentMap:
    """Set up a sun3 or a sun2 from its CPU header and CPU data; its PMEGs begin on the dump's second page.

    Raises:
        ValueError: the header describes no segment map, and why.
    """
    form = sun3_form(hdr, page_shift)
    first, each = (1 << page_shift) - _SEG, _PTE * form.ptes

    def segment(number: int, pmeg: int) -> Segment:
        record, at = 36 + number, first + pmeg * each
        if at + each > len(cpu_data):
            return Segment(record, pmeg, None, f"PMEG {pmeg} is not in the CPU data of {len(cpu_data)} bytes")
        return Segment(record, pmeg, at)

    segments = [segment(i, pmeg) for i, pmeg in enumerate(hdr["ksegmap"])]
    return SegmentMap(form, hdr["kernbase"], segments, _reader(cpu_data), order)


def _reader(cpu_data: bytes) -> ReadPhysical:
    """PTEs in the CPU data; each segment's were looked at, so all of them are there."""
    return lambda at, n: cpu_data[at : at + n]
