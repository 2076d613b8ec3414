"""The PowerPC's BATs, segment registers and hashed table.

What is expected comes from `Machine` and the helpers here, which follow the manual's recipe with fixed numbers and know
nothing of `PteForm`.
"""

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from kvmlib.errors import NotInDumpError, TranslationError, TruncatedError
from kvmlib.kcore import ByteOrder
from kvmlib.translate import Mapping
from kvmlib.translate.build_hashed import HashedBuilder
from kvmlib.translate.hashed import (
    OEA,
    OEA64_BRIDGE,
    Bat,
    Hashed,
    PteForm,
    bat_pair,
    bat_pair_601,
    bats,
    bats_601,
)

TOP = 1 << 32
KIB, MIB = 1 << 10, 1 << 20
FILE = 0x2000
T = 1 << 31
SEGMENTS = (*(0x1000 + 0x111 * i for i in range(5)), T | 0x123, *(0x20000 + 0x111 * i for i in range(10)))


@dataclass
class Memory:
    """Physical memory from `start` on: `holes` [low, high) were not dumped, for `lost` ones the file is too short."""

    start: int
    data: bytearray = field(repr=False)
    holes: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def gaps(self) -> list[tuple[int, int, bool]]:
        ends = (0, self.start), (self.start + len(self.data), 1 << 70)
        return [(*hole, False) for hole in (*ends, *self.holes)] + [(*part, True) for part in self.lost]

    def missing(self, pa: int, n: int) -> bool:
        return any(pa < high and low < pa + n for low, high, _ in self.gaps())

    def read(self, pa: int, n: int) -> bytes:
        there = [(max(low, pa), high, lost) for low, high, lost in self.gaps() if pa < high and low < pa + n]
        if not there:
            return bytes(self.data[pa - self.start : pa - self.start + n])
        at, high, lost = min(there)
        if lost:
            raise TruncatedError("the file ends", at, FILE + at)
        raise NotInDumpError("a hole", at, size=high - at)


def group32(sdr1: int, vsid: int, page: int, secondary: bool) -> int:
    """Return the pa of a PTEG: 32-bit CPUs, 7.6.1."""
    h = (vsid & 0x7FFFF) ^ page
    if secondary:
        h = ~h & 0x7FFFF
    top = (sdr1 >> 16 & 0x1FF) | ((h >> 10) & sdr1 & 0x1FF)
    return (sdr1 & 0xFE000000) | top << 16 | (h & 0x3FF) << 6


def group64(sdr1: int, vsid: int, page: int, secondary: bool) -> int:
    """Return the pa of a PTEG: 64-bit CPUs."""
    h = (vsid & (1 << 39) - 1) ^ page
    if secondary:
        h = ~h & (1 << 39) - 1
    bits = 11 + (sdr1 & 31)
    return (sdr1 >> 18 << 18) | (h % (1 << bits)) * 128


def first32(vsid: int, page: int, secondary: bool) -> int:
    return 0x80000000 | vsid << 7 | secondary << 6 | page >> 10


def first64(vsid: int, page: int, secondary: bool) -> int:
    return vsid << 12 | (page >> 11) << 7 | secondary << 1 | 1


@dataclass
class Machine:
    """A PowerPC by the book."""

    memory: Memory
    segments: list[int]
    sdr1: int
    upper: list[int] = field(default_factory=lambda: [0] * 8)
    lower: list[int] = field(default_factory=lambda: [0] * 8)
    wide: bool = False
    is601: bool = False
    order: ByteOrder = "big"

    def group(self, vsid: int, page: int, secondary: bool) -> int:
        return (group64 if self.wide else group32)(self.sdr1, vsid, page, secondary)

    def first(self, vsid: int, page: int, secondary: bool) -> int:
        return (first64 if self.wide else first32)(vsid, page, secondary)

    def words(self, pa: int) -> tuple[int, ...]:
        code = (">" if self.order == "big" else "<") + ("16Q" if self.wide else "16I")
        return struct.unpack_from(code, self.memory.data, pa - self.memory.start)

    def write(self, pa: int, slot: int, first: int, second: int) -> None:
        code = (">" if self.order == "big" else "<") + ("QQ" if self.wide else "II")
        at = pa - self.memory.start + slot * struct.calcsize(code)
        struct.pack_into(code, self.memory.data, at, first, second)

    def vsid(self, va: int) -> int:
        return self.segments[va >> 28] & (0x7FFFFFF if self.wide else 0xFFFFFF)

    def put(self, va: int, pa: int, slot: int = 0, secondary: bool = False, bits: int = 2, flip: int = 0) -> None:
        """Write an entry for `va`, with some bits of its first word turned over."""
        vsid, page = self.vsid(va), va >> 12 & 0xFFFF
        self.write(
            self.group(vsid, page, secondary), slot, self.first(vsid, page, secondary) ^ flip, pa & ~0xFFF | bits
        )

    def bat(self, va: int) -> int | None:
        """Return the number of the BAT pair that holds `va`."""
        for i, (u, low) in enumerate(zip(self.upper, self.lower, strict=True)):
            if self.is601:
                valid, length = i < 4 and low & 0x40, (low & 0x3F) << 17
            else:
                valid, length = u & 2, (u & 0x1FFFC) << 15
            if valid and (va & 0xFFFE0000 & ~length) == u & 0xFFFE0000:
                return i
        return None

    def bat_pa(self, i: int, va: int) -> int:
        u, low = self.upper[i], self.lower[i]
        length = (low & 0x3F) << 17 if self.is601 else (u & 0x1FFFC) << 15
        return (low & 0xFFFE0000) + (va & (length | 0x1FFFF))

    def pa(self, va: int) -> int | str:
        """Return what `va` is, or why it's nothing."""
        i = self.bat(va)
        if i is not None:
            return self.bat_pa(i, va)
        if self.segments[va >> 28] & T:
            return "direct-store"
        vsid, page = self.vsid(va), va >> 12 & 0xFFFF
        # A 64-bit entry's first word has a few bits that are software's.
        mask = ~0x78 if self.wide else ~0
        for secondary in (False, True):
            at = self.group(vsid, page, secondary)
            if self.memory.missing(at, 128 if self.wide else 64):
                return f"could not read {'secondary' if secondary else 'primary'} PTEG, it is at pa {at:#x}"
            words = self.words(at)
            for slot in range(8):
                if words[2 * slot] & mask == self.first(vsid, page, secondary):
                    return words[2 * slot + 1] & ~0xFFF | va & 0xFFF
        return "no valid entry"

    def translator(self) -> Hashed:
        decode = bats_601 if self.is601 else bats
        form = OEA64_BRIDGE if self.wide else OEA
        registers = decode(self.upper, self.lower)
        return Hashed(self.memory.read, self.order, registers, self.segments, self.sdr1, form)


def machine(mask: int = 0, origin: int = 0x200000) -> Machine:
    return Machine(Memory(origin, bytearray((mask + 1) << 16)), list(SEGMENTS), origin | mask)


def wide(size: int = 0, origin: int = 0x400000) -> Machine:
    m = Machine(Memory(origin, bytearray(0x40000 << size)), list(SEGMENTS), origin | size, wide=True)
    m.segments[2] = 0x7654321
    return m


MACHINES = [machine, wide]


def classic(va: int, pa: int, length: int, low: int = 0x12, valid: int = 2) -> tuple[int, int]:
    return va | length | valid, pa | low


def with_bats(*pairs: tuple[int, int], is601: bool = False) -> Machine:
    m = machine()
    m.is601 = is601
    for i, (u, low) in enumerate(pairs):
        m.upper[i], m.lower[i] = u, low
    return m


def failure(t: Hashed, va: int) -> TranslationError:
    with pytest.raises(TranslationError) as e:
        t.kvatop(va)
    assert e.value.size >= 1
    assert e.value.va == va
    step = t.walk(va)[-1]
    assert step.note == str(e.value)
    assert step.outcome in ("invalid", "unreadable", "outside")
    assert step.pa is None
    return e.value


# -- block address translation -----------------------------------------------------------------------------------------

LENGTHS = [(((1 << n) - 1) << 2, 128 * KIB << n) for n in range(16)]


@pytest.mark.parametrize(("length", "size"), LENGTHS)
def test_each_length(length: int, size: int) -> None:
    va = 0xC0000000 & -size
    t = with_bats(classic(va, 0x100000000 - size, length)).translator()
    for at in (0, 1, size // 2, size - 1):
        assert t.kvatop(va + at) == (0x100000000 - size + at, size - at)
        (step,) = t.walk(va + at)
        assert (step.name, step.outcome, step.pa) == ("BAT", "window", 0x100000000 - size + at)
        assert step.flags == ("Vs", "M", "PP=10")
        assert "DBAT0" in step.note
    if va:
        failure(t, va - 1)
    if va + size < TOP:
        failure(t, va + size)
    assert list(t.mappings()) == [Mapping(va, 0x100000000 - size, size, ("Vs", "M", "PP=10"))]


@pytest.mark.parametrize(("mask", "size"), [((1 << n) - 1, 128 * KIB << n) for n in range(7)])
def test_each_length_of_the_601(mask: int, size: int) -> None:
    # W in the upper word is the bit that is V in the lower one, Ks and Ku look like a length.
    t = with_bats((0x90000000 | 0x4D, 0x10000000 | 0x40 | mask), is601=True).translator()
    flags = ("V", "W", "Ks", "Ku", "PP=01")
    assert list(t.mappings()) == [Mapping(0x90000000, 0x10000000, size, flags)]
    assert t.kvatop(0x90000000 + size - 1) == (0x10000000 + size - 1, 1)
    failure(t, 0x90000000 + size)
    assert with_bats((0x90000000 | 0x4D, 0x10000000 | mask), is601=True).translator().bats == ()


def test_the_601_has_four() -> None:
    pairs = [(0x10000000 * i, 0x40 | 0x20000 * i) for i in range(8)]
    assert [b.name for b in bats_601(*zip(*pairs, strict=True))] == ["BAT0", "BAT1", "BAT2", "BAT3"]
    assert len(bats(*zip(*(classic(0x10000000 * i, 0, 0) for i in range(8)), strict=True))) == 8


def test_valid_for_the_kernel() -> None:
    assert bat_pair(0, *classic(0x90000000, 0, 0, valid=1)).blocks == ()
    assert "not valid" in bat_pair(0, *classic(0x90000000, 0, 0, valid=1)).text
    assert "not valid" in bat_pair_601(0, 0x90000042, 0x3F).text
    pair = bat_pair(3, *classic(0x90000000, 0x20000000, 0x3C, low=0x69, valid=3))
    assert pair.blocks == (Bat("DBAT3", 0x90000000, 2 * MIB, 0x20000000, ("Vs", "Vp", "W", "I", "G", "PP=01")),)
    assert pair.text == "va 0x90000000 to 0x901fffff is pa 0x20000000, 2 MiB"


def test_a_block_number_under_the_length_matches_nothing() -> None:
    m = with_bats(classic(0x90020000, 0, 4), classic(0x90040000, 0x500000, 4))
    assert "matches no address" in bat_pair(0, m.upper[0], m.lower[0]).text
    assert bat_pair_601(1, 0x90020000, 0x41).blocks == ()
    assert list(m.translator().mappings()) == [Mapping(0x90040000, 0x500000, 256 * KIB, ("Vs", "M", "PP=10"))]


def test_an_odd_length_is_a_mask() -> None:
    # Of the block's number, bits 0x40000 and 0x100000 aren't compared.
    m = with_bats(classic(0x90000000, 0x500000, 0x28))
    at = [0x90000000, 0x90040000, 0x90100000, 0x90140000]
    assert [b.va for b in m.translator().bats] == at
    for i in range(32):
        va = 0x90000000 + i * 0x20000
        inside = va in at
        assert (m.bat(va) == 0) == inside
        if inside:
            assert m.translator().kvatop(va + 5) == (0x500000 + (va & 0x140000) + 5, 0x1FFFB)
        else:
            failure(m.translator(), va)
    assert "4 blocks of 128 KiB" in bat_pair(0, m.upper[0], m.lower[0]).text


def test_the_first_bat_wins() -> None:
    m = with_bats(
        classic(0x90040000, 0x1000000, 0),
        classic(0x90000000, 0x2000000, 0x1C),
        classic(0x90000000, 0x3000000, 0x3C),
    )
    t = m.translator()
    flags = ("Vs", "M", "PP=10")
    assert list(t.mappings()) == [
        Mapping(0x90000000, 0x2000000, 0x40000, flags),
        Mapping(0x90040000, 0x1000000, 0x20000, flags),
        Mapping(0x90060000, 0x2060000, 0xA0000, flags),
        Mapping(0x90100000, 0x3100000, 0x100000, flags),
    ]
    assert t.kvatop(0x90010000) == (0x2010000, 0x30000)
    assert t.kvatop(0x9005FFFF) == (0x101FFFF, 1)
    assert t.kvatop(0x90060000) == (0x2060000, 0xA0000)


def test_a_bat_hides_the_table() -> None:
    m = with_bats(classic(0x90020000, 0x500000, 0))
    for va in (0x9001F000, 0x90020000, 0x9003F000, 0x90040000):
        m.put(va, 0x700000 + (va & 0xFF000))
    t = m.translator()
    assert [(x.va, x.pa, x.size) for x in t.ranges(0, TOP)] == [
        (0x9001F000, 0x71F000, 0x1000),
        (0x90020000, 0x500000, 0x20000),
        (0x90040000, 0x740000, 0x1000),
    ]
    assert t.kvatop(0x9001FFFE) == (0x71FFFE, 2)
    assert t.kvatop(0x90020001) == (0x500001, 0x1FFFF)
    assert t.kvatop(0x90040000) == (0x740000, 0x1000)


@pytest.mark.parametrize(
    ("va", "size", "pa"), [(1, 4096, 0), (0, 4095, 0), (0, 0, 0), (TOP - 4096, 8192, 0), (0, 1, 1)]
)
def test_what_is_no_bat(va: int, size: int, pa: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        Bat("B", va, size, pa, ())


# -- segments ----------------------------------------------------------------------------------------------------------


def test_direct_store() -> None:
    m = with_bats(classic(0x54000000, 0x500000, 0))
    t = m.translator()
    e = failure(t, 0x50000123)
    assert "direct-store" in str(e)
    assert "0x80000123" in str(e)
    assert e.size == 0x4000000 - 0x123
    assert failure(t, 0x54020000).size == 0xC000000 - 0x20000
    assert failure(t, 0x5FFFFFFF).size == 1
    assert t.kvatop(0x54000000) == (0x500000, 0x20000)
    (step,) = t.walk(0x50000123)
    assert (step.name, step.index, step.entry, step.flags) == ("segment register", 5, T | 0x123, ("T",))
    assert (step.shift, step.bits, step.table_pa) == (28, 4, None)


def test_a_bat_in_another_segment_does_not_shorten_a_failure() -> None:
    assert failure(with_bats(classic(0x60000000, 0, 0)).translator(), 0x50000000).size == 0x10000000
    assert failure(with_bats(classic(0x40000000, 0, 0)).translator(), 0x50000000).size == 0x10000000


def test_segment_register_flags() -> None:
    m = machine()
    m.segments[4] |= 0x70000000
    m.put(0x40001000, 0x9000)
    steps = m.translator().walk(0x40001234)
    assert steps[0].flags == ("Ks", "Kp", "N")
    assert steps[0].outcome == "next"
    assert steps[0].pa == steps[1].table_pa
    assert "0x1444" in steps[0].note
    assert steps[1].pa == 0x9234


def test_several_segments_with_one_vsid() -> None:
    m = machine()
    m.segments[3] = m.segments[8] = m.segments[15] = 0x1333
    m.segments[5] = T | 0x1333
    m.put(0x30005000, 0x9000)
    m.put(0x30FFF000, 0xA000, secondary=True)
    t = m.translator()
    expected = [(0x30005000, 0x9000), (0x30FFF000, 0xA000), (0x80005000, 0x9000), (0x80FFF000, 0xA000)]
    assert [(x.va, x.pa) for x in t.mappings()] == [*expected, (0xF0005000, 0x9000), (0xF0FFF000, 0xA000)]
    for va, pa in expected:
        assert t.kvatop(va + 1) == (pa + 1, 0xFFF)


@pytest.mark.parametrize("n", [0, 15, 17])
def test_there_are_sixteen_segments(n: int) -> None:
    with pytest.raises(ValueError, match="16"):
        Hashed(machine().memory.read, "big", (), [0] * n, 0)
    with pytest.raises(ValueError, match="16"):
        HashedBuilder("big", lambda size: 0, [0] * n)


@pytest.mark.parametrize("va", [-1, TOP, TOP + 0x1000, -TOP])
def test_outside(va: int) -> None:
    m = machine()
    m.put(va & 0xFFFFF000, 0x9000)
    for t in (m.translator(), with_bats(classic(0, 0, 0x1FFFC)).translator()):
        e = failure(t, va)
        assert e.size == 1
        assert "32 bits" in str(e)
        assert t.walk(va)[0].outcome == "outside"


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_example_in_the_manual() -> None:
    # Programming Environments Manual, "Page Table Address Generation": VSID 0xCA701C, va 0x00FFA01B, SDR1 0x0F980007.
    t = Hashed(Memory(0x0F980000, bytearray(0x80000)).read, "big", (), [0xCA701C] * 16, 0x0F980007)
    steps = t.walk(0x00FFA01B)
    assert [s.table_pa for s in steps] == [None, 0x0F9FF980, 0x0F980640]
    assert [s.outcome for s in steps] == ["next", "next", "invalid"]


@pytest.mark.parametrize("new", MACHINES)
@pytest.mark.parametrize("slot", range(8))
@pytest.mark.parametrize("secondary", [False, True])
def test_a_page(new: Callable[[], Machine], slot: int, secondary: bool) -> None:
    m = new()
    va, each = 0x2ABCD123, 16 if m.wide else 8
    m.put(va, 0x7654000, slot, secondary, 0x19A)
    t = m.translator()
    assert t.kvatop(va) == (0x7654123, 0xEDD)
    steps = t.walk(va)
    assert [s.name for s in steps] == ["segment register", "primary PTEG", "secondary PTEG"][: 2 + secondary]
    last, group = steps[-1], m.group(m.vsid(va), 0xABCD, secondary)
    assert (last.outcome, last.pa, last.index, last.table_pa) == ("page", 0x7654123, slot, group)
    assert last.entry_pa == group + each * slot
    assert last.entry == m.first(m.vsid(va), 0xABCD, secondary) << 4 * each | 0x765419A
    assert last.flags == ("V", *(["H"] if secondary else []), "R", "C", "M", "G", "PP=10")
    assert (last.shift, last.bits) == (12, 16)
    if secondary:
        missed = steps[1]
        assert (missed.outcome, missed.pa, missed.index, missed.entry) == ("next", group, None, None)
        assert missed.table_pa == missed.entry_pa == m.group(m.vsid(va), 0xABCD, False)
    assert list(t.mappings()) == [Mapping(0x2ABCD000, 0x7654000, 0x1000, ("M", "G", "PP=10"))]


@pytest.mark.parametrize(
    ("pp", "ks", "access"),
    [(0, 0, "read and write"), (0, 1, "no access"), (1, 0, "read and write"), (1, 1, "read only")]
    + [(2, ks, "read and write") for ks in (0, 1)]
    + [(3, ks, "read only") for ks in (0, 1)],
)
def test_protection(pp: int, ks: int, access: str) -> None:
    m = machine()
    m.segments[2] |= ks << 30
    m.put(0x20000000, 0x9000, bits=pp)
    t = m.translator()
    assert access in t.walk(0x20000000)[-1].note
    assert f"PP={pp:02b}" in t.walk(0x20000000)[-1].flags
    assert [x.flags for x in t.mappings()] == [(f"PP={pp:02b}",)]


#: Bits of the first word, turned over one at a time: V, H, a bit of the API, the lowest and highest of the VSID.
WRONG32 = [0x80000000, 0x40, 1, 0x20, 0x80, 0x40000000]
WRONG64 = [1, 2, 4, 0x80, 0x800, 0x1000, 1 << 63]


@pytest.mark.parametrize("secondary", [False, True])
@pytest.mark.parametrize(("new", "flip"), [*((machine, bit) for bit in WRONG32), *((wide, bit) for bit in WRONG64)])
def test_an_entry_for_something_else(new: Callable[[], Machine], flip: int, secondary: bool) -> None:
    m = new()
    va = 0x2ABCD123
    m.put(va, 0x9000, 0, secondary, flip=flip)
    t = m.translator()
    e = failure(t, va)
    assert e.size == 0xEDD
    assert f"VSID {m.vsid(va):#x} and API {0xABCD >> (11 if m.wide else 10):#x}" in str(e)
    for which in (False, True):
        assert f"at {'' if which else 'pa '}{m.group(m.vsid(va), 0xABCD, which):#x}" in str(e)
    assert [s.outcome for s in t.walk(va)] == ["next", "next", "invalid"]
    # Right behind it there may be the right one.
    m.put(va, 0xA000, 1, secondary)
    assert m.translator().kvatop(va)[0] == 0xA123


@pytest.mark.parametrize("bit", [0x8, 0x10, 0x20, 0x40])
def test_bits_that_are_for_software(bit: int) -> None:
    m = wide()
    m.put(0x2ABCD123, 0x9000, flip=bit)
    assert m.translator().kvatop(0x2ABCD123)[0] == 0x9123
    assert len(list(m.translator().mappings())) == 1


def test_a_segment_register_has_more_than_a_vsid() -> None:
    m = machine()
    m.put(0x2ABCD000, 0x9000)
    m.segments[2] |= 0x7F000000
    assert m.translator().kvatop(0x2ABCD000)[0] == 0x9000
    m = wide()
    m.put(0x2ABCD000, 0x12_3456_7000)
    m.segments[2] |= 0xABCD_1234_7800_0000
    assert m.translator().kvatop(0x2ABCD000)[0] == 0x12_3456_7000


@pytest.mark.parametrize("new", MACHINES)
def test_the_first_entry_wins(new: Callable[[], Machine]) -> None:
    m = new()
    for slot, pa in ((5, 0xA000), (2, 0x9000)):
        m.put(0x2ABCD000, pa, slot)
    m.put(0x2ABCD000, 0xB000, 0, secondary=True)
    m.put(0x2ABCE000, 0xC000, 7, secondary=True)
    m.put(0x2ABCE000, 0xD000, 6, secondary=True)
    t = m.translator()
    assert t.kvatop(0x2ABCD000)[0] == t.walk(0x2ABCD000)[-1].pa == 0x9000
    assert [(x.va, x.pa) for x in t.mappings()] == [(0x2ABCD000, 0x9000), (0x2ABCE000, 0xD000)]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("new", MACHINES)
def test_byte_order(new: Callable[[], Machine], order: ByteOrder) -> None:
    m = new()
    m.order = order
    m.put(0x2ABCD000, 0x9000)
    t = m.translator()
    assert t.kvatop(0x2ABCD000)[0] == 0x9000
    assert t.walk(0x2ABCD000)[-1].entry == m.first(m.vsid(0x2ABCD000), 0xABCD, False) << (64 if m.wide else 32) | 0x9002
    assert len(list(t.mappings())) == 1


@pytest.mark.parametrize("mask", [0, 1, 7, 0x1FF, 5, 2])
def test_table_sizes(mask: int) -> None:
    m = machine(mask, 0x04000000)
    m.memory.data = bytearray(0x2000000)
    pages = [0x2ABCD, 0x30000, 0x3FFFF, 0xF1234, 0x0FFFF, 0x60400]
    for i, page in enumerate(pages):
        m.put(page << 12, 0x100000 + (i << 12), i % 8, secondary=bool(i & 1))
    t = m.translator()
    for i, page in enumerate(pages):
        assert t.kvatop(page << 12)[0] == 0x100000 + (i << 12)
    assert sorted((x.va >> 12, x.pa) for x in t.mappings()) == sorted(
        (page, 0x100000 + (i << 12)) for i, page in enumerate(pages)
    )


@pytest.mark.parametrize("size", [0, 1, 3, 28, 31])
def test_table_sizes_of_64_bit_cpus(size: int) -> None:
    # The largest tables have their PTEGs anywhere in memory: only those that matter are there.
    m = wide()
    m.memory.data = bytearray(0x40000 << min(size, 3))
    m.sdr1 = 0x400000 | size
    m.segments = [n << 7 for n in range(16)]
    m.put(0x0ABCD000, 0x9000)
    m.put(0x10000000, 0xA000)
    t = m.translator()
    if size < 28:
        m.put(0x20001000, 0xB000, secondary=True)
    assert [x.pa for x in t.mappings()] == [0x9000, 0xA000, 0xB000][: 3 if size < 28 else 2]
    assert t.kvatop(0x0ABCD000)[0] == 0x9000


@pytest.mark.parametrize("size", range(32))
def test_where_groups_are_on_64_bit_cpus(size: int) -> None:
    vsid, origin = 0x7654321, 0x1000_0000_0000_0000
    t = Hashed(lambda pa, n: bytes(n), "big", (), [vsid] * 16, origin | size, OEA64_BRIDGE)
    steps = t.walk(0x2ABCD000)
    assert [s.table_pa for s in steps[1:]] == [group64(origin | size, vsid, 0xABCD, which) for which in (False, True)]


def test_no_execute() -> None:
    m = wide()
    m.put(0x2ABCD000, 0x9000, bits=0x1E)
    t = m.translator()
    assert t.walk(0x2ABCD000)[-1].flags == ("V", "M", "G", "N", "PP=10")
    assert next(t.mappings()).flags == ("M", "G", "N", "PP=10")
    m = machine()
    m.put(0x2ABCD000, 0x9000, bits=0x1E)
    assert next(m.translator().mappings()).flags == ("M", "G", "PP=10")


# -- what isn't in the dump --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", MACHINES)
@pytest.mark.parametrize("secondary", [False, True])
def test_a_group_that_is_not_in_the_dump(new: Callable[[], Machine], secondary: bool) -> None:
    m = new()
    va = 0x2ABCD123
    m.put(va, 0x9000, 0, secondary=True)
    pa = m.group(m.vsid(va), 0xABCD, secondary)
    # One byte of it is enough: the entries that are there can't tell what the others are.
    m.memory.holes = [(pa + 63, pa + 0x1000)]
    t = m.translator()
    e = failure(t, va)
    which = "secondary" if secondary else "primary"
    assert f"could not read {which} PTEG, it is at pa {pa:#x}, which is not in the dump" in str(e)
    assert e.size == 0xEDD
    last = t.walk(va)[-1]
    assert (last.name, last.outcome, last.index, last.entry) == (f"{which} PTEG", "unreadable", 0, None)
    assert last.table_pa == last.entry_pa == pa
    assert len(t.walk(va)) == 2 + secondary
    assert list(t.mappings()) == []


def test_a_group_behind_the_end_of_the_file() -> None:
    m = machine()
    va = 0x2ABCD123
    m.put(va, 0x9000)
    pa = m.group(m.vsid(va), 0xABCD, False)
    m.memory.lost = [(pa + 8, 1 << 64)]
    e = failure(m.translator(), va)
    assert "could not read primary PTEG" in str(e)
    assert f"should be at file offset {FILE + pa + 8:#x}, but the file ends before it" in str(e)
    m.memory.lost = [(pa + 64, 1 << 64)]
    assert m.translator().kvatop(va)[0] == 0x9123


@pytest.mark.parametrize("end", [False, True])
def test_ranges_leave_out_what_is_missing(end: bool) -> None:
    m = machine()
    pages = {m.group(m.vsid(i << 12), i, False): i for i in range(1024)}
    for i in range(1024):
        m.put(i << 12, 0x100000 + (i << 12))
    first = m.memory.start
    if end:
        # Behind the segment that the file is too short for there may be another one, which has been read before.
        m.memory.lost = [(first + 0x5678, first + 0x8000)]
        there = {i for pa, i in pages.items() if pa + 64 <= first + 0x5678 or pa >= first + 0x8000}
    else:
        m.memory.holes = [(first + 0x1000, first + 0x1041), (first + 0x8001, first + 0x9000)]
        gone = [*range(first + 0x1000, first + 0x1080, 64), *range(first + 0x8000, first + 0x9000, 64)]
        there = {i for pa, i in pages.items() if pa not in gone}
        assert len(there) == 1024 - 2 - 64
    assert {x.va >> 12 for x in m.translator().ranges(0, TOP)} == there


def test_ranges_are_cut() -> None:
    m = with_bats(classic(0x90020000, 0x500000, 0))
    m.put(0x90001000, 0x9000)
    m.put(0x90050000, 0xA000)
    t = m.translator()
    flags = ("Vs", "M", "PP=10")
    assert list(t.ranges(0x90001800, 0x90050010)) == [
        Mapping(0x90001800, 0x9800, 0x800, ("PP=10",)),
        Mapping(0x90020000, 0x500000, 0x20000, flags),
        Mapping(0x90050000, 0xA000, 0x10, ("PP=10",)),
    ]
    assert list(t.ranges(0x90021000, 0x90022000)) == [Mapping(0x90021000, 0x501000, 0x1000, flags)]
    assert list(t.ranges(0x90001100, 0x90001200)) == [Mapping(0x90001100, 0x9100, 0x100, ("PP=10",))]
    for empty in ((0x90002000, 0x90020000), (0x90040000, 0x90050000), (0x90021000, 0x90021000), (TOP, TOP + 5), (5, 0)):
        assert list(t.ranges(*empty)) == []


# -- everything at once ------------------------------------------------------------------------------------------------


@st.composite
def machines(draw: st.DrawFn) -> tuple[Machine, list[int]]:
    """A machine with a few entries in its table, right and wrong ones, and the pages that they are or may be for."""
    is_wide = draw(st.booleans())
    m = wide(draw(st.integers(0, 1))) if is_wide else machine(draw(st.sampled_from([0, 1, 3, 2, 5])), 0x1000000)
    m.order = draw(st.sampled_from(["big", "little"]))
    # Few VSIDs, so that some registers have the same one, and some whose hashes differ in high bits only.
    vsids = st.sampled_from([0x123, 0x124, 0x80123, 0x600123, 0xFFFFFF])
    m.segments = [draw(vsids) | draw(st.sampled_from([0, 0, 0, 1 << 30, T])) for _ in range(16)]
    m.is601 = not is_wide and draw(st.booleans())
    for i in range(0 if is_wide else draw(st.integers(0, 8))):
        block = draw(st.sampled_from([0, 0x10000000, 0x10040000, 0x10080000, 0x7FFE0000, 0xF0000000, 0xFFFE0000]))
        if m.is601:
            m.upper[i] = block | draw(st.integers(0, 0x7F))
            m.lower[i] = draw(st.integers(0, 15)) << 28 | draw(st.sampled_from([0, 0x40])) | draw(st.integers(0, 0x3F))
        else:
            length = (1 << draw(st.integers(0, 15))) - 1
            if draw(st.integers(0, 9)) == 0:
                length ^= 1 << draw(st.integers(0, 5))
            m.upper[i] = block | length << 2 & 0x1FFFC | draw(st.integers(0, 3))
            m.lower[i] = draw(st.integers(0, 15)) << 28 | draw(st.integers(0, 0x7F))
    pages: list[int] = []
    flips = WRONG64 if is_wide else WRONG32
    low = st.sampled_from([0, 1, 0x3FF, 0x400, 0x7FF, 0xABCD, 0xFFFF, 0x8001, 0x40, 0x60])
    for i in range(draw(st.integers(0, 40))):
        page = draw(st.integers(0, 15)) << 16 | draw(low)
        flip = draw(st.sampled_from([0, 0, 0, 0, *flips]))
        m.put(
            page << 12,
            0x100000 + (i << 12),
            draw(st.integers(0, 7)),
            draw(st.booleans()),
            draw(st.integers(0, 127)),
            flip,
        )
        pages.append(page)
        # With H turned over it is a right entry for the page whose hash is the complement.
        pages.append(page ^ (0x7FF if is_wide else 0x3FF))
    memory = m.memory
    for _ in range(draw(st.integers(0, 3))):
        if pages:
            page = draw(st.sampled_from(pages))
            at = m.group(m.vsid(page << 12), page & 0xFFFF, draw(st.booleans())) + draw(st.integers(-64, 64))
            memory.holes.append((at, at + draw(st.integers(1, 5000))))
    if draw(st.integers(0, 3)) == 0:
        memory.lost.append((memory.start + draw(st.integers(0, len(memory.data))), 1 << 64))
    return m, [number << 16 | page & 0xFFFF for page in pages for number in range(16)]


@given(machines(), st.data())
@settings(deadline=None)
def test_everything_agrees(made: tuple[Machine, list[int]], data: st.DataObject) -> None:
    m, pages = made
    t = m.translator()
    found = list(t.ranges(0, TOP))
    for a, b in itertools.pairwise(found):
        assert a.va + a.size <= b.va
    points = {page << 12 | 0x123 for page in pages} | {data.draw(st.integers(0, TOP - 1)) for _ in range(8)}
    for x in found:
        points |= {x.va - 1, x.va, x.va + x.size // 2, x.va + x.size - 1, x.va + x.size}
    for block in m.upper:
        points |= {(block & 0xFFFE0000) + at for at in (-1, 0, 0x1FFFF, 0x20000)}
    for va in points:
        if not 0 <= va < TOP:
            continue
        expected = m.pa(va)
        around = [x for x in found if x.va <= va < x.va + x.size]
        if isinstance(expected, int):
            pa, n = t.kvatop(va)
            assert pa == expected
            assert [(x.pa + va - x.va, x.va + x.size) for x in around] == [(pa, va + n)]
            for last in (va + n - 1, va + n // 2):
                assert m.pa(last) == pa + last - va
            step = t.walk(va)[-1]
            assert step.outcome == ("page" if m.bat(va) is None else "window")
            assert step.pa == pa
        else:
            assert around == []
            e = failure(t, va)
            assert expected in str(e)
            assert m.pa(va + e.size - 1) == m.pa(va + e.size // 2) == expected
            if expected == "direct-store":
                end = va + e.size
                assert end % 0x10000000 == 0 or m.bat(end) is not None
            else:
                assert e.size == 0x1000 - va % 0x1000


# -- the builder -------------------------------------------------------------------------------------------------------

FORMS = [(OEA, False), (OEA64_BRIDGE, True)]


def built(builder: HashedBuilder, is_wide: bool) -> Machine:
    root, pages = builder.finish()[:2]
    assert list(pages) == [root]
    memory = Memory(root, bytearray(pages[root]))
    return Machine(memory, list(builder.segments), builder.sdr1, wide=is_wide, order=builder.order)


def alloc(n: int) -> int:
    return -(-0x1000000 // n) * n


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("form", "is_wide"), FORMS)
@pytest.mark.parametrize("times", [0, 1, 8])
def test_what_was_built(form: PteForm, is_wide: bool, order: ByteOrder, times: int) -> None:
    smallest = 2048 if is_wide else 1024
    builder = HashedBuilder(order, alloc, SEGMENTS, smallest * times, form)
    builder.map(0xC0000000, 0x200000, 0x300000, 0x12)
    builder.map(0xEFFFF000, 0x5000, 0x2000, 0x2B)
    builder.map(0x10000000, 0x9000, 0x1000, 2, secondary=True)
    m = built(builder, is_wide)
    assert len(m.memory.data) == smallest * max(times, 1) * (128 if is_wide else 64)
    for va, pa in ((0xC0000000, 0x200000), (0xC02FFFFF, 0x4FFFFF), (0xEFFFF000, 0x5000), (0xF0000FFF, 0x6FFF)):
        assert m.pa(va) == pa
    assert m.pa(0x10000000) == 0x9000
    group = m.words(m.group(m.vsid(0x10000000), 0, True))
    assert m.first(m.vsid(0x10000000), 0, True) in group[::2]
    assert [(x.va, x.pa, x.size, x.flags) for x in m.translator().mappings()] == [
        (0x10000000, 0x9000, 0x1000, ("PP=10",)),
        (0xC0000000, 0x200000, 0x300000, ("M", "PP=10")),
        (0xEFFFF000, 0x5000, 0x2000, ("I", "G", "PP=11")),
    ]


@pytest.mark.parametrize(("form", "is_wide"), FORMS)
def test_full_groups(form: PteForm, is_wide: bool) -> None:
    builder = HashedBuilder("big", alloc, SEGMENTS, form=form)
    low = 11 if is_wide else 10
    vas = [0x20000000 | 0x5000 | api << 12 + low for api in range(17)]
    for i, va in enumerate(vas[:16]):
        builder.map(va, 0x10000 + (i << 12), 0x1000)
    with pytest.raises(ValueError, match="no room"):
        builder.map(vas[16], 0, 0x1000)
    m = built(builder, is_wide)
    t = m.translator()
    for i, va in enumerate(vas[:16]):
        assert m.pa(va) == t.kvatop(va)[0] == 0x10000 + (i << 12)
        assert t.walk(va)[-1].name == ("primary PTEG" if i < 8 else "secondary PTEG")
        assert t.walk(va)[-1].index == i % 8
    failure(t, vas[16])
    assert len(list(t.ranges(0, TOP))) == 16


def test_odd_entries() -> None:
    builder = HashedBuilder("big", alloc, SEGMENTS)
    builder.put(0x20000000, 0x12345678, 0x9ABCDEF0, secondary=True, slot=6)
    builder.put(0x20000000, 1, 2, secondary=True)
    m = built(builder, False)
    words = m.words(m.group(m.vsid(0x20000000), 0, True))
    assert words == (1, 2, *[0] * 10, 0x12345678, 0x9ABCDEF0, 0, 0)
    for slot in (0, 6, 8, -1):
        with pytest.raises(ValueError, match="can't be used"):
            builder.put(0x20000000, 1, 2, secondary=True, slot=slot)
    for first, second in ((1 << 32, 0), (0, 1 << 32), (-1, 0)):
        with pytest.raises(ValueError, match="words"):
            builder.put(0x20000000, first, second)
    for _ in range(6):
        builder.put(0x20000000, 1, 2, secondary=True)
    with pytest.raises(ValueError, match="no room"):
        builder.put(0x20000000, 1, 2, secondary=True)


@pytest.mark.parametrize(
    ("va", "pa", "size", "bits", "why"),
    [
        (0x1001, 0, 0x1000, 0, "multiples"),
        (0x1000, 1, 0x1000, 0, "multiples"),
        (0x1000, 0, 0x800, 0, "multiples"),
        (0xFFFFF000, 0, 0x2000, 0, "32 bits"),
        (-0x1000, 0, 0x1000, 0, "32 bits"),
        (0, 0xFFFFF000, 0x2000, 0, "entry"),
        (0, -0x1000, 0x1000, 0, "entry"),
        (0, 0, 0x1000, 0x1000, "bits"),
        (0, 0, 0x1000, -1, "bits"),
        (0x50000000, 0, 0x1000, 0, "direct-store"),
        (0x4FFFF000, 0, 0x2000, 0, "direct-store"),
    ],
)
def test_what_cannot_be_mapped(va: int, pa: int, size: int, bits: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HashedBuilder("big", alloc, SEGMENTS).map(va, pa, size, bits)


def test_nothing_is_mapped_twice() -> None:
    builder = HashedBuilder("big", alloc, [0x123] * 16)
    builder.map(0x20000000, 0, 0x1000)
    with pytest.raises(ValueError, match="mapped already"):
        builder.map(0x30000000, 0x1000, 0x1000, secondary=True)
    for va in (-1, TOP):
        with pytest.raises(ValueError, match="32 bits"):
            builder.put(va, 0, 0)


@pytest.mark.parametrize("groups", [512, 1023, 1536, 1024 << 10, -1024])
def test_table_sizes_that_there_are_not(groups: int) -> None:
    with pytest.raises(ValueError, match="PTEGs"):
        HashedBuilder("big", alloc, SEGMENTS, groups)


@pytest.mark.parametrize("at", [0x8000, 1 << 32])
def test_where_a_table_cannot_be(at: int) -> None:
    with pytest.raises(ValueError, match="can't be at pa"):
        HashedBuilder("big", lambda n: at, SEGMENTS)
