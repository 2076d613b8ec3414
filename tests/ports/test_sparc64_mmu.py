"""sparc64 of both systems: locked blocks, and each branch of the tables."""

import struct

import pytest

from kvmlib.errors import FormatError
from kvmlib.ports import sparc64
from kvmlib.ports.base import Machine
from kvmlib.translate import Mapping, Translator
from tests.ports.sparc64_dumps import (
    DIRECTORY,
    NETBSD,
    OPENBSD,
    ROOT,
    TABLE,
    TTE,
    fails,
    new_header,
    old_header,
    padded,
    segments,
    settled,
    translator,
)

# -- locked blocks -----------------------------------------------------------------------------------------------------

TEXT = {"ktextbase": 0x1000000, "ktextp": 0x4000000, "ktextsz": 0x400000}
DATA = {"kdatabase": 0x1400000, "kdatap": 0x9000000, "kdatasz": 0x200000}


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_text_and_data_are_mapped_from_their_first_byte_to_their_last(machine: Machine) -> None:
    """SPARC64-FIRST, WIRED-INT."""
    t = translator(machine, padded(old_header(**TEXT, **DATA)))
    assert t.kvatop(0x1000000) == (0x4000000, 0x400000)
    assert t.kvatop(0x13FFFFF) == (0x43FFFFF, 1)
    assert t.kvatop(0x1400000) == (0x9000000, 0x200000)
    assert t.kvatop(0x15FFFFF) == (0x91FFFFF, 1)
    assert [s.name for s in t.walk(0x1000000)] == ["the locked text"]
    assert [s.name for s in t.walk(0x1400000)] == ["the locked data"]
    assert "invalid L1 PTE" in fails(t, 0x1600000)
    assert list(t.mappings()) == [
        Mapping(0x1000000, 0x4000000, 0x400000, ("locked",)),
        Mapping(0x1400000, 0x9000000, 0x200000, ("locked",)),
    ]


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_a_block_of_any_size(machine: Machine) -> None:
    """WIRED-INT: sizes and what is left have 64 bits."""
    t = translator(machine, padded(old_header(ktextbase=0x1000000, ktextp=0x1000, ktextsz=0x180000000, **DATA)))
    assert t.kvatop(0x1000000) == (0x1000, 0x180000000)
    # The first of the two that has it counts.
    assert t.kvatop(0x1400000) == (0x401000, 0x180000000 - 0x400000)
    # One that would go on behind the last address is none.
    t = translator(machine, padded(old_header(ktextbase=0x1000000, ktextsz=(1 << 64) - 0xFFFFFF)))
    assert "invalid L1 PTE" in fails(t, 0x1000000)
    t = translator(machine, padded(old_header(ktextbase=0x1000000, ktextsz=(1 << 64) - 0x1000000)))
    assert t.kvatop((1 << 64) - 1)[1] == 1


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_nothing_is_mapped_below_kernbase(machine: Machine) -> None:
    entries = {ROOT: DIRECTORY, DIRECTORY + 8 * 2: TABLE, TABLE + 8 * 0x200: TTE, TABLE + 8 * 0x1FF: TTE}
    data = padded(old_header(kernbase=0x1400010, **TEXT, **DATA))
    t = translator(machine, data, entries)
    words = "invalid address (140000f)" if machine is OPENBSD else "invalid address (0x140000f)"
    assert f"{words}, the kernel begins at 0x1400010 (kernbase)" in fails(t, 0x140000F)
    assert "invalid address (0)," in fails(t, 0)
    assert ("invalid address (1)," if machine is OPENBSD else "invalid address (0x1),") in fails(t, 1)
    assert t.kvatop(0x1400010) == (0x9000010, 0x1FFFF0)
    assert next(iter(t.mappings())).va == 0x1400010
    assert "does not fit in 64 bits" in fails(t, 1 << 64)
    t = translator(machine, padded(old_header(kernbase=0, ktextsz=0x10)), entries)
    assert t.kvatop(0) == (0, 0x10)


def test_newer_kernels_have_any_number_of_blocks() -> None:
    """Of two that have an address, the first counts; text and data as the header has them don't."""
    blocks = ((0x1000000, 0x4000000), (0x1400000, 0x9000000), (0x1200000, 0x100000))
    data = padded(new_header(blocks, ktextbase=0x1800000, ktextsz=0x400000))
    t = translator(NETBSD, data)
    assert t.kvatop(0x1000000) == (0x4000000, 0x400000)
    assert t.kvatop(0x13FFFFF) == (0x43FFFFF, 1)
    assert t.kvatop(0x1400000) == (0x9000000, 0x400000)
    assert t.kvatop(0x17FFFFF) == (0x93FFFFF, 1)
    assert t.walk(0x1200000)[0].name == "locked 4 MB block 0"
    assert "invalid L1 PTE" in fails(t, 0x1800000)


def test_blocks_elsewhere_count_but_are_not_shown() -> None:
    behind = new_header(num4mbsegs=1, off4mbsegs=176, memsegoffset=160)
    data = padded(behind + struct.pack(">QQQQ", 0x10000, 0x2000, 0x1000000, 0x4000000))
    assert translator(NETBSD, data).kvatop(0x1000000) == (0x4000000, 0x400000)
    assert settled(NETBSD, data).least_cpu_data == 152
    assert segments(NETBSD, data) == [(0x10000, 0x2000)]
    far = ((0x1234567800000000, 0x8765432100000000),)
    assert translator(NETBSD, padded(new_header(far))).kvatop(far[0][0]) == (far[0][1], 0x400000)
    many = tuple((0x1000000 + (i << 22), i << 22) for i in range(70))
    data = padded(new_header(many))
    assert settled(NETBSD, data).least_cpu_data == 160 + 64 * 16
    assert translator(NETBSD, data).kvatop(0x1000000 + (69 << 22)) == (69 << 22, 0x400000)


@pytest.mark.parametrize(
    ("count", "at", "words"),
    [
        (22, 160, "num4mbsegs is 22, .* room for 21"),
        ((1 << 64) - 1, 160, "num4mbsegs is 18446744073709551615"),
        (1, 151, "off4mbsegs is 0x97, .* at 0x98, behind the header, to 0x1f0"),
        (1, 497, "off4mbsegs is 0x1f1"),
        (1, (1 << 64) - 8, "off4mbsegs is 0xf{15}8"),
    ],
)
def test_blocks_lie_in_the_cpu_data(count: int, at: int, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        settled(NETBSD, padded(new_header(num4mbsegs=count, off4mbsegs=at, memsegoffset=160)))


def test_blocks_up_to_the_end_of_the_cpu_data() -> None:
    settled(NETBSD, padded(new_header(num4mbsegs=21, off4mbsegs=160, memsegoffset=160)))
    settled(NETBSD, padded(new_header(num4mbsegs=0, off4mbsegs=1 << 63, memsegoffset=160)))
    settled(NETBSD, padded(new_header(num4mbsegs=1, off4mbsegs=152, memsegoffset=160)))


def test_the_cpus_own_memory() -> None:
    def own(*blocks: tuple[int, int], **numbers: int) -> Translator:
        cpus = {"numcpuinfos": 4, "percpusz": 0x10000, "thiscpu": 2, "cpusp": 0x60000}
        return translator(NETBSD, padded(new_header(blocks, **cpus | numbers)))

    t = own()
    assert "invalid L1 PTE" in fails(t, 0xE000FFFF)
    assert t.kvatop(0xE0010000) == (0x80000, 0x10000)
    assert t.kvatop(0xE001FFFF) == (0x8FFFF, 1)
    assert "invalid L1 PTE" in fails(t, 0xE0020000)
    assert t.walk(0xE0018000)[0].name == "CPU 2's own memory"
    assert "invalid L1 PTE" in fails(own(numcpuinfos=0), 0xE0010000)
    # The sum has 64 bits.
    assert own(thiscpu=3 << 48).kvatop(0xE0010000)[0] == 0x60000
    # Locked blocks come first.
    assert own((0xE0000000, 0x4000000)).kvatop(0xE0010000) == (0x4010000, 0x3F0000)
    # So far down that it would begin at the other end of the address space: nothing.
    assert "invalid L1 PTE" in fails(own(cpubase=0x7000, kernbase=0), 0x7000)


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(va: int, tte: int) -> dict[int, int]:
    return {
        ROOT + 8 * (va >> 33 & 1023): DIRECTORY,
        DIRECTORY + 8 * (va >> 23 & 1023): TABLE,
        TABLE + 8 * (va >> 13 & 1023): tte,
    }


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
@pytest.mark.parametrize("va", [0x2800000, 0x2AAB54CA000, 0x7FFFFFFE000])
def test_three_levels(machine: Machine, va: int) -> None:
    t = translator(machine, padded(old_header()), tables(va, TTE | 0x123456000))
    assert t.kvatop(va) == (0x123456000, 8192)
    assert t.kvatop(va + 8191) == (0x123457FFF, 1)
    # Bits 43 and up don't count.
    for alias in (va | 1 << 43, va | 0xFFFFF << 44):
        assert t.kvatop(alias + 5) == (0x123456005, 8187)
    assert [s.name for s in t.walk(va)] == ["segment table", "page directory", "page table"]
    assert [(s.pa, s.outcome) for s in t.walk(va)] == [(DIRECTORY, "next"), (TABLE, "next"), (0x123456000, "page")]
    assert list(t.mappings()) == [Mapping(va, 0x123456000, 8192, ())]
    assert "invalid L2 TTE" in fails(t, va ^ 0x2000)


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_how_it_fails_at_each_level(machine: Machine) -> None:
    va = 0x2AAB54CA008
    shown = f"invalid address ({va:x})" if machine is OPENBSD else f"invalid address ({va:#x})"
    good = tables(va, TTE)
    root, directory, table = good
    for at, name in ((root, "L1 PTE"), (directory, "L2 PTE"), (table, "L2 TTE")):
        t = translator(machine, padded(old_header()), good | {at: 0})
        assert f"invalid {name}, {shown}" in fails(t, va)
        assert t.walk(va)[-1].outcome == "invalid"
        assert list(t.mappings()) == []
        # Any other number is an address.
        if name != "L2 TTE":
            t = translator(machine, padded(old_header()), good | {at: 1 << 62 | 1})
            assert "could not read" in fails(t, va)
    # All bits but V.
    assert "invalid L2 TTE" in fails(translator(machine, padded(old_header()), good | {table: TTE - 1}), va)
    for at, to, name in ((root, 0x66000, "L2 PTE"), (directory, 0x68000, "TTE"), (0, 0x6A000, "L1 PTE")):
        header = old_header(segmapoffset=ROOT if at else to)
        t = translator(machine, padded(header), good | ({at: to} if at else {}))
        assert f"could not read {name}, {shown}" in fails(t, va)
        assert t.walk(va)[-1].outcome == "unreadable"


@pytest.mark.parametrize(
    ("machine", "cputype", "frame"),
    [
        (NETBSD, 3, 0x000007FFFFFFE000),
        (NETBSD, 4, 0x000007FFFFFFE000),
        (NETBSD, 5, 0x00FFFFFFFFFFE000),
        (OPENBSD, 3, 0x00007FFFFFFFE000),
        (OPENBSD, 5, 0x00007FFFFFFFE000),
    ],
)
def test_the_address_in_a_tte(machine: Machine, cputype: int, frame: int) -> None:
    for tte in (TTE | frame, (1 << 64) - 1):
        t = translator(machine, padded(old_header(cputype=cputype)), tables(0x2800000, tte))
        assert t.kvatop(0x2800010) == (frame + 16, 8176)


def test_ttes_in_words() -> None:
    sun4u = {60: "NFO", 59: "IE", 12: "TSB_LOCK", 11: "MODIFY", 10: "REAL_W", 9: "ACCESS", 8: "EXEC", 7: "EXEC_ONLY"}
    sun4u |= {6: "L", 5: "CP", 4: "CV", 3: "E", 2: "P", 1: "W", 0: "G"}
    for bit in range(63):
        sizes = {61: ("64K",), 62: ("512K",)}
        expected = sizes.get(bit) or ((sun4u[bit],) if bit in sun4u else ())
        assert sparc64.words_sun4u(TTE | 1 << bit) == ("V", *expected)
    assert sparc64.words_sun4u(TTE | 3 << 61) == ("V", "4M")
    sun4v = {62: "NFO", 61: "REAL_W", 60: "TSB_LOCK", 57: "EXEC_ONLY", 12: "IE", 11: "E", 10: "CP", 9: "CV", 8: "P"}
    sun4v |= {7: "X", 6: "W", 5: "MODIFY", 4: "ACCESS", 3: "size 8", 2: "32M", 1: "512K", 0: "64K"}
    for bit in range(63):
        assert sparc64.words_sun4v(TTE | 1 << bit) == (("V", sun4v[bit]) if bit in sun4v else ("V",))
    assert sparc64.words_sun4v(TTE | 3) == ("V", "4M")
    assert sparc64.words_sun4v(TTE | 5) == ("V", "256M")


def test_whose_tte_it_is() -> None:
    """OpenBSD says sun4u on sun4v too: the privileged bit, which all of the kernel's pages have, tells."""
    sun4u, sun4v = TTE | 0x136, TTE | 0x7C0
    assert sparc64.words(sun4u) == ("V", "EXEC", "CP", "CV", "P", "W")
    assert sparc64.words(sun4v) == ("V", "X", "CP", "CV", "P", "W")
    assert [sparc64.words(TTE | n)[1:] for n in (0x2, 0x100, 0x101)] == [("W",), ("P",), ("64K", "P")]

    def flags(machine: Machine, cputype: int, tte: int) -> tuple[str, ...]:
        t = translator(machine, padded(old_header(cputype=cputype)), tables(0x2800000, tte))
        return t.walk(0x2800000)[-1].flags

    for machine in (OPENBSD, NETBSD):
        assert flags(machine, 3, sun4u)[1] == "EXEC"
        assert flags(machine, 3, sun4v)[1] == "X"
        assert flags(machine, 5, TTE | 0x806) == ("V", "size 6", "E")


def test_a_range_is_one_whether_or_not_it_was_accessed() -> None:
    entries = tables(0x2800000, TTE | 0x36) | {TABLE + 8: TTE | 0x2A36, TABLE + 16: TTE | 0x4034}
    t = translator(NETBSD, padded(old_header()), entries)
    assert list(t.mappings()) == [
        Mapping(0x2800000, 0, 0x4000, ("CP", "CV", "P", "W")),
        Mapping(0x2804000, 0x4000, 0x2000, ("CP", "CV", "P")),
    ]
