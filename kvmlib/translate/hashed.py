"""The PowerPC's address translation: block registers first, then segment registers and a hashed page table.

Source: PowerPC Programming Environments Manual (32-bit and 64-bit), chapter 7; PowerPC 601 user's manual, chapter 6;
NetBSD's powerpc/oea/bat.h and powerpc/oea/pte.h. libkvm's words are from its kvm_powerpc.c.
"""

from __future__ import annotations

import bisect
import functools
import sys
from array import array
from collections.abc import Iterator, Mapping as MappingType, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kvmlib.errors import NotInDumpError, TranslationError, TruncatedError
from kvmlib.translate import Mapping, ReadPhysical, Step, Translator

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder

_TOP = 1 << 32
_SEGMENT = 1 << 28
_PAGE = 4096
#: The smallest block, and the bits of a BAT register that hold a block's number.
_BLOCK = 1 << 17
_NUMBER = _TOP - _BLOCK
#: Bits of a segment register; the bottom ones are its VSID.
_DIRECT = 1 << 31
_KS = 1 << 30
_SEGMENT_FLAGS = {31: "T", 30: "Ks", 29: "Kp", 28: "N"}
#: Entries in a PTEG.
_SLOTS = 8
#: Decoded PTEGs kept at most.
_KEPT = 1 << 16
_WIMG = {6: "W", 5: "I", 4: "M", 3: "G"}
_PP = 3
#: Bits of an entry's second word that mappings show: not R and C. On 64-bit CPUs bit 2 forbids execution.
_SHOWN = 0x7F
_TYPECODE = {4: "I", 8: "Q"}
_REGISTER = "segment register"


def _names(bits: MappingType[int, str], value: int) -> tuple[str, ...]:
    return tuple(name for bit, name in bits.items() if value >> bit & 1)


def _pp(value: int) -> str:
    return f"PP={value & _PP:02b}"


# -- block address translation -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bat:
    """A range that a pair of BAT registers maps: va in [va, va + size) is pa `pa` + va - `va`.

    Attributes:
        name: of the pair, for a person.
        va: first virtual address, a multiple of 4 KiB.
        size: bytes, a multiple of 4 KiB; all of it lies below 4 GiB.
        pa: what `va` translates to, a multiple of 4 KiB.
        flags: names of the bits that concern validity, protection and caching.

    Raises:
        ValueError: it isn't made of whole pages, or goes past 4 GiB.
    """

    name: str
    va: int
    size: int
    pa: int
    flags: tuple[str, ...]

    def __post_init__(self) -> None:
        if (self.va | self.size | self.pa) % _PAGE or not 0 <= self.va < self.va + self.size <= _TOP:
            raise ValueError(f"{self.name}: {self.size:#x} bytes at va {self.va:#x} are not whole pages below 4 GiB")


class BatPair(NamedTuple):
    """What a pair of BAT registers says: the ranges it maps (one, rarely more, none if it is off), and a sentence."""

    blocks: tuple[Bat, ...]
    text: str


def bat_pair(number: int, upper: int, lower: int) -> BatPair:
    """Decode data BAT pair `number` of any PowerPC but the 601.

    It counts when it is valid for the supervisor (Vs). The block's length is BL with XBL above it: up to 4 GiB. CPUs
    without XBL have zeros there.
    """
    flags = (*_names({1: "Vs", 0: "Vp"}, upper), *_names(_WIMG, lower), _pp(lower))
    if not upper & 2:
        return BatPair((), "not valid for the kernel (Vs=0)")
    return _blocks(f"DBAT{number}", upper, lower, (upper & 0x1FFFC) << 15 | _BLOCK - 1, flags)


def bat_pair_601(number: int, upper: int, lower: int) -> BatPair:
    """Decode BAT pair `number` of a 601: valid bit and length (BSM) are in its lower word, other bits in the upper."""
    flags = ("V", *_names({6: "W", 5: "I", 4: "M", 3: "Ks", 2: "Ku"}, upper), _pp(upper))
    if not lower & 0x40:
        return BatPair((), "not valid (V=0)")
    return _blocks(f"BAT{number}", upper, lower, (lower & 0x3F) << 17 | _BLOCK - 1, flags)


def bats(upper: Sequence[int], lower: Sequence[int]) -> list[Bat]:
    """Return what the data BATs map, in their order, from all upper and all lower registers (not for the 601)."""
    pairs = enumerate(zip(upper, lower, strict=True))
    return [block for number, (u, low) in pairs for block in bat_pair(number, u, low).blocks]


def bats_601(upper: Sequence[int], lower: Sequence[int]) -> list[Bat]:
    """Return what a 601's BATs map; it has four pairs, and whatever follows in a dump's header is none."""
    pairs = enumerate(zip(upper[:4], lower[:4], strict=True))
    return [block for number, (u, low) in pairs for block in bat_pair_601(number, u, low).blocks]


def _blocks(name: str, upper: int, lower: int, mask: int, flags: tuple[str, ...]) -> BatPair:
    """Return what a valid pair maps; `mask` is the part of an address that it doesn't compare."""
    first, pa = upper & _NUMBER, lower & _NUMBER
    if first & mask:
        # The CPU compares the whole block number with an address in which these bits are zero.
        text = f"valid, but matches no address: va {first:#x} is no multiple of its length, {mask + 1:#x}"
        return BatPair((), text)
    # Lengths are powers of two. Other bits mean nothing by the manual: what is left out of the comparison still is.
    size = (mask + 1) & ~mask
    parts = mask & -size
    blocks, part = [], 0
    while True:
        blocks.append(Bat(name, first | part, size, pa + part, flags))
        part = (part - parts) & parts
        if not part:
            break
    text = f"va {first:#x} to {first | mask:#x} is pa {pa:#x}, {_size(mask + 1)}"
    if parts:
        text = f"va {first:#x} is pa {pa:#x}, with the odd length mask {mask:#x}: {len(blocks)} blocks of {_size(size)}"
    return BatPair(tuple(blocks), text)


def _size(n: int) -> str:
    """Spell a block's size as the manuals do."""
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if n >> shift:
            return f"{n >> shift} {unit}"
    return f"{n >> 10} KiB"


class _Window(NamedTuple):
    start: int
    stop: int
    bat: Bat


def _first_wins(bats: Sequence[Bat]) -> list[_Window]:
    """Cut blocks that overlap so that each address belongs to the one that comes first; the result is sorted."""
    windows: list[_Window] = []
    for bat in bats:
        at, stop = bat.va, bat.va + bat.size
        first = last = bisect.bisect_right(windows, at, key=lambda w: w.stop)
        cut: list[_Window] = []
        while at < stop:
            known = windows[last] if last < len(windows) and windows[last].start < stop else None
            if at < (end := known.start if known else stop):
                cut.append(_Window(at, end, bat))
            if known:
                cut.append(known)
                last += 1
            at = known.stop if known else stop
        windows[first:last] = cut
    return windows


# -- the hashed table --------------------------------------------------------------------------------------------------


class PteForm(NamedTuple):
    """A form of hashed page table: entries of two words, eight of them in a PTEG.

    Attributes:
        name: one line for a person.
        word: bytes of a word, 4 or 8. The bits of an entry's first word (VSID, API, V, H) differ, see the next four.
        valid, secondary: the bits V and H.
        compared: mask of the bits that the CPU compares; the others are software's.
        vsid_shift, api_shift: lowest bits of the VSID and of the API.
        api_bits: how many of the 16 bits of a page index are the API. The others take part in a PTEG's number only, so
            the smallest table has a PTEG for each of their values.
        segment_bits: how many bits of a segment register are its VSID.
        hash_bits: width of the hash.
        size_field: mask of the table's size in SDR1. The bits above those of the smallest table are its address.
        size_is_mask: whether that size is a mask of further hash bits (HTABMASK), or their number (HTABSIZE).
        first_flags, second_flags: bit number -> name, for both words, without PP.
    """

    name: str
    word: int
    valid: int
    secondary: int
    compared: int
    vsid_shift: int
    api_shift: int
    api_bits: int
    segment_bits: int
    hash_bits: int
    size_field: int
    size_is_mask: bool
    first_flags: MappingType[int, str]
    second_flags: MappingType[int, str]

    @property
    def group_bytes(self) -> int:
        """Bytes of a PTEG."""
        return 2 * self.word * _SLOTS

    @property
    def low_bits(self) -> int:
        """How many bits of the page index are not in the API."""
        return 16 - self.api_bits

    @property
    def frame(self) -> int:
        """Mask of the page's address in an entry's second word."""
        return (1 << 8 * self.word) - _PAGE

    def table(self, sdr1: int) -> tuple[int, int]:
        """Return (pa of the table, mask of the hash bits that are a PTEG's number)."""
        size = sdr1 & self.size_field
        more = size if self.size_is_mask else (1 << size) - 1
        origin = (1 << 8 * self.word) - (self.group_bytes << self.low_bits)
        return sdr1 & origin, more << self.low_bits | (1 << self.low_bits) - 1

    def vsid(self, segment: int) -> int:
        """Return the VSID in a segment register."""
        return segment & (1 << self.segment_bits) - 1

    def hash(self, vsid: int, index: int, secondary: bool) -> int:
        """Return the primary or secondary hash of page `index` of a segment."""
        every = (1 << self.hash_bits) - 1
        primary = (vsid ^ index) & every
        return primary ^ every if secondary else primary

    def first_word(self, vsid: int, index: int, secondary: bool) -> int:
        """Return the first word of a valid entry for page `index` of a segment."""
        api = index >> self.low_bits
        return vsid << self.vsid_shift | api << self.api_shift | self.valid | (self.secondary if secondary else 0)


#: The table of 32-bit CPUs (OEA).
OEA = PteForm(
    name="32-bit hashed page table",
    word=4,
    valid=1 << 31,
    secondary=1 << 6,
    compared=0xFFFFFFFF,
    vsid_shift=7,
    api_shift=0,
    api_bits=6,
    segment_bits=24,
    hash_bits=19,
    size_field=0x1FF,
    size_is_mask=True,
    first_flags={31: "V", 6: "H"},
    second_flags={8: "R", 7: "C", **_WIMG},
)
#: The table of 64-bit CPUs, for a 32-bit kernel that has segment registers (OEA64 bridge). Their segments have no large
#: pages, so that entries with L=1 are none of theirs.
OEA64_BRIDGE = PteForm(
    name="64-bit hashed page table",
    word=8,
    valid=1,
    secondary=2,
    compared=0xFFFFFFFFFFFFFF87,
    vsid_shift=12,
    api_shift=7,
    api_bits=5,
    segment_bits=27,
    hash_bits=39,
    size_field=0x1F,
    size_is_mask=False,
    first_flags={0: "V", 1: "H", 2: "L"},
    second_flags={8: "R", 7: "C", **_WIMG, 2: "N"},
)


class Hashed(Translator):
    """A walker of the PowerPC's translation, with the supervisor's rights."""

    def __init__(
        self,
        read: ReadPhysical,
        order: ByteOrder,
        bats: Sequence[Bat],
        segments: Sequence[int],
        sdr1: int,
        form: PteForm = OEA,
    ) -> None:
        """Translate by `bats`, of which the first that holds an address wins, then by the table that `sdr1` points to.

        `segments` are the values of the 16 segment registers, `order` is the byte order of the table.

        Raises:
            ValueError: there are not 16 segment registers.
        """
        if len(segments) != 16:
            raise ValueError(f"a PowerPC has 16 segment registers, not {len(segments)}")
        self.bits = 32
        self.form = form
        self.bats = tuple(bats)
        self.segments = tuple(segments)
        self.root, self._mask = form.table(sdr1)
        first = "BATs, then a " if bats else ""
        self.name = f"{first}{form.name} of {1 << self._mask.bit_count()} PTEGs at pa {self.root:#x}"
        self._read = read
        self._swap = order != sys.byteorder
        self._windows = _first_wins(bats)
        self._starts = [w.start for w in self._windows]
        self._groups: dict[int, tuple[list[int], array[int]]] = {}

    # -- one address -------------------------------------------------------------------------------------------------

    def _window(self, va: int) -> _Window | None:
        """Return the part of a BAT's block that `va` lies in."""
        i = bisect.bisect_right(self._starts, va) - 1
        return self._windows[i] if i >= 0 and va < self._windows[i].stop else None

    def _group_pa(self, vsid: int, index: int, secondary: bool) -> int:
        number = self.form.hash(vsid, index, secondary) & self._mask
        return self.root | number * self.form.group_bytes

    def _decode(self, data: bytes) -> array[int]:
        words = array(_TYPECODE[self.form.word], data)
        if self._swap:
            words.byteswap()
        return words

    def _group(self, pa: int) -> tuple[list[int], array[int]]:
        """Return the PTEG at `pa`: what is compared of the first words, and all words."""
        group = self._groups.get(pa)
        if group is None:
            if len(self._groups) >= _KEPT:
                self._groups.clear()
            words = self._decode(self._read(pa, self.form.group_bytes))
            group = self._groups[pa] = [w & self.form.compared for w in words[::2]], words
        return group

    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, bytes left in the BAT's block or in the page)."""
        if (window := self._window(va)) is not None:
            return window.bat.pa + va - window.bat.va, window.stop - va
        offset = va % _PAGE
        if 0 <= va < _TOP and not (segment := self.segments[va >> 28]) & _DIRECT:
            vsid, index = self.form.vsid(segment), va >> 12 & 0xFFFF
            try:
                for secondary in (False, True):
                    firsts, words = self._group(self._group_pa(vsid, index, secondary))
                    wanted = self.form.first_word(vsid, index, secondary)
                    if wanted in firsts:
                        return words[2 * firsts.index(wanted) + 1] & self.form.frame | offset, _PAGE - offset
            except (NotInDumpError, TruncatedError):
                pass
        last = self.walk(va)[-1]
        end = va + 1 if last.outcome == "outside" else va - offset + _PAGE
        if last.name == _REGISTER:
            # All of the segment, but for what a BAT takes from it.
            i = bisect.bisect_right(self._starts, va)
            end = min([va // _SEGMENT * _SEGMENT + _SEGMENT, *self._starts[i : i + 1]])
        raise TranslationError(last.note, va, end - va)

    def walk(self, va: int) -> list[Step]:
        """Return the steps: the BAT that holds `va`, or its segment register and one or two PTEGs.

        Where no entry of a PTEG is the right one, that step has no index and no entry, and its entry_pa is the PTEG.
        """
        if not 0 <= va < _TOP:
            note = f"va {va:#x} does not fit in {self.bits} bits"
            return [Step("virtual address", None, None, None, None, None, (), "outside", None, 0, 0, note)]
        if (window := self._window(va)) is not None:
            bat = window.bat
            pa = bat.pa + va - bat.va
            note = f"{bat.name} maps {_size(bat.size)} from va {bat.va:#x} to pa {bat.pa:#x}: va {va:#x} is pa {pa:#x}"
            return [Step("BAT", None, None, None, None, None, bat.flags, "window", pa, 0, 0, note)]
        number = va >> 28
        segment = self.segments[number]
        head = (_REGISTER, None, number, None, None, segment, _names(_SEGMENT_FLAGS, segment))
        if segment & _DIRECT:
            note = f"segment register {number} is {segment:#x}: a direct-store segment (T=1), which holds no memory"
            return [Step(*head, "invalid", None, 28, 4, f"va {va:#x} is not mapped: {note}")]
        pa = self._group_pa(self.form.vsid(segment), va >> 12 & 0xFFFF, False)
        note = f"the segment has VSID {self.form.vsid(segment):#x}, the primary PTEG is at pa {pa:#x}"
        steps = [Step(*head, "next", pa, 28, 4, note), self._group_step(va, segment, False)]
        if steps[-1].outcome == "next":
            steps.append(self._group_step(va, segment, True))
        return steps

    def _group_step(self, va: int, segment: int, secondary: bool) -> Step:
        vsid, index = self.form.vsid(segment), va >> 12 & 0xFFFF
        primary_pa, secondary_pa = (self._group_pa(vsid, index, which) for which in (False, True))
        name, table = ("secondary PTEG", secondary_pa) if secondary else ("primary PTEG", primary_pa)
        try:
            firsts, words = self._group(table)
        except (NotInDumpError, TruncatedError) as e:
            where = "which is not in the dump"
            if isinstance(e, TruncatedError):
                where = f"which should be at file offset {e.offset:#x}, but the file ends before it"
            note = f"va {va:#x} cannot be translated: could not read {name}, it is at pa {table:#x}, {where}"
            return Step(name, table, 0, table, None, None, (), "unreadable", None, 12, 16, note)
        wanted = self.form.first_word(vsid, index, secondary)
        if wanted in firsts:
            slot = firsts.index(wanted)
            first, second = words[2 * slot : 2 * slot + 2]
            flags = (*_names(self.form.first_flags, first), *_names(self.form.second_flags, second), _pp(second))
            pa = second & self.form.frame | va % _PAGE
            note = f"maps a page of 4 KiB ({_access(second, segment)} for the kernel): va {va:#x} is pa {pa:#x}"
            entry, entry_pa = first << 8 * self.form.word | second, table + 2 * self.form.word * slot
            return Step(name, table, slot, entry_pa, None, entry, flags, "page", pa, 12, 16, note)
        what = f"no valid entry with VSID {vsid:#x} and API {index >> self.form.low_bits:#x}"
        if secondary:
            note = f"{what} in the primary PTEG at pa {primary_pa:#x} or the secondary at {secondary_pa:#x}"
            note = f"va {va:#x} is not mapped: {note}"
            return Step(name, table, None, table, None, None, (), "invalid", None, 12, 16, note)
        note = f"{what} is here, the secondary PTEG is at pa {secondary_pa:#x}"
        return Step(name, table, None, table, None, None, (), "next", secondary_pa, 12, 16, note)

    # -- all addresses -----------------------------------------------------------------------------------------------

    def ranges(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield the BATs' blocks and the table's pages between them in [start, stop), cut at its ends."""
        at = start
        for window in self._windows:
            low, high = max(at, window.start), min(stop, window.stop)
            if low < high:
                yield from self._mapped(at, low)
                yield Mapping(low, window.bat.pa + low - window.bat.va, high - low, window.bat.flags)
                at = high
        yield from self._mapped(at, stop)

    def _mapped(self, start: int, stop: int) -> Iterator[Mapping]:
        """Yield the table's pages in [start, stop), cut at its ends."""
        if start >= stop:
            return
        vas, words = self._pages
        names: dict[int, tuple[str, ...]] = {}
        for i in range(bisect.bisect_right(vas, start - _PAGE), bisect.bisect_left(vas, stop)):
            va, word = vas[i], words[i]
            bits = word & _SHOWN
            if bits not in names:
                names[bits] = (*_names(self.form.second_flags, bits), _pp(bits))
            low, high = max(start, va), min(stop, va + _PAGE)
            yield Mapping(low, (word & self.form.frame) + low - va, high - low, names[bits])

    @functools.cached_property
    def _pages(self) -> tuple[list[int], list[int]]:
        """Every page that the table maps, ascending: its va, and its entry's second word."""
        found: dict[tuple[int, int], int] = {}
        # The CPU looks at the secondary PTEG only where it has seen all of the primary one and found nothing.
        later: list[tuple[int, int, int]] = []
        for vsid, index, secondary, word in self._entries():
            if secondary:
                later.append((vsid, index, word))
            else:
                found.setdefault((vsid, index), word)
        for vsid, index, word in later:
            try:
                self._group(self._group_pa(vsid, index, False))
            except (NotInDumpError, TruncatedError):
                continue
            found.setdefault((vsid, index), word)
        numbers: dict[int, list[int]] = {}
        for number, segment in enumerate(self.segments):
            if not segment & _DIRECT:
                numbers.setdefault(self.form.vsid(segment), []).append(number)
        pages = sorted((n << 28 | index << 12, word) for (vsid, index), word in found.items() for n in numbers[vsid])
        return [va for va, _ in pages], [word for _, word in pages]

    def _entries(self) -> Iterator[tuple[int, int, bool, int]]:
        """Yield (VSID, page index, H, second word) of every entry that the CPU could come to, PTEG by PTEG."""
        form, mask, low_bits = self.form, self._mask, self.form.low_bits
        vsids = {form.vsid(segment) for segment in self.segments if not segment & _DIRECT}
        # The table is read in pieces as large as the smallest table, and only where a hash can point: a damaged SDR1
        # may promise terabytes.
        indexes = range(0, 1 << 16, 1 << low_bits)
        hashes = (form.hash(vsid, i, which) & mask for vsid in vsids for i in indexes for which in (False, True))
        for piece in sorted({number >> low_bits << low_bits for number in hashes}):
            start = self.root | piece * form.group_bytes
            for pa, words in self._present(start, form.group_bytes << low_bits):
                first = piece + (pa - start) // form.group_bytes
                for i, word in enumerate(words[::2]):
                    if not word & form.valid or (vsid := (word & ~form.valid) >> form.vsid_shift) not in vsids:
                        continue
                    secondary, number = bool(word & form.secondary), first + i // _SLOTS
                    # A PTEG's number is a part of the hash, the rest of the page index is in the entry.
                    api = word >> form.api_shift & (1 << form.api_bits) - 1
                    index = api << low_bits | (form.hash(vsid, 0, secondary) ^ number) & (1 << low_bits) - 1
                    here = form.hash(vsid, index, secondary) & mask == number
                    if here and word & form.compared == form.first_word(vsid, index, secondary):
                        yield vsid, index, secondary, words[2 * i + 1]

    def _present(self, pa: int, size: int) -> Iterator[tuple[int, array[int]]]:
        """Yield the parts of a piece of the table that are in the dump, in whole PTEGs: where, and the words."""
        group, stop = self.form.group_bytes, pa + size
        while pa < stop:
            try:
                words = self._decode(self._read(pa, stop - pa))
            except (NotInDumpError, TruncatedError) as e:
                have = (e.pa - pa) // group * group
                if have > 0:
                    yield pa, self._decode(self._read(pa, have))
                # Behind the end of the file only the page is given up: the next one may be in another segment.
                gap = e.size if isinstance(e, NotInDumpError) else _PAGE - e.pa % _PAGE
                pa += max(have + group, -((pa - e.pa - gap) // group) * group)
            else:
                yield pa, words
                return


def _access(word: int, segment: int) -> str:
    """Say what the PP bits of an entry's second word let the supervisor do, whose key is the segment's Ks."""
    pp = word & _PP
    if pp == 3 or (pp == 1 and segment & _KS):
        return "read only"
    return "no access" if pp == 0 and segment & _KS else "read and write"
