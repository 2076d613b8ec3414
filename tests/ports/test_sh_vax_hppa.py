"""SuperH, VAX and PA-RISC: headers, windows, P3's tables, and machines where nothing can be known."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import kvmlib
from kvmlib.candidates import Candidate, rank
from kvmlib.errors import NotInDumpError
from kvmlib.identify import Reading
from kvmlib.kcore import ByteOrder, Headers, RamSeg
from kvmlib.ports.base import Mmu
from kvmlib.translate import ReadPhysical, Translator

PAGE = 4096
V = 0x100


def memory(parts: dict[int, bytes]) -> ReadPhysical:
    """Physical memory that has these parts only."""

    def read(pa: int, n: int) -> bytes:
        for start, data in parts.items():
            if start <= pa and pa + n <= start + len(data):
                return data[pa - start : pa - start + n]
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa)

    return read


def symbols(**values: int) -> Callable[[str], int | None]:
    return values.get


def fails(t: Translator, va: int, words: str) -> int:
    """Expect a failure with these words, and return how far it is said to go."""
    with pytest.raises(kvmlib.TranslationError, match=words) as caught:
        t.kvatop(va)
    last = t.walk(va)[-1]
    assert last.outcome in ("outside", "invalid", "unreadable")
    assert last.note in str(caught.value)
    return caught.value.size


def works(t: Translator, va: int) -> tuple[int, int]:
    found = t.kvatop(va)
    assert t.walk(va)[-1].pa == found[0]
    return found


def table(entries: dict[int, int], size: int = 1024) -> bytes:
    return b"".join(struct.pack("<I", entries.get(i, 0)) for i in range(size))


# -- openbsd/sh --------------------------------------------------------------------------------------------------------


def sh(level1: dict[int, int], level2: dict[int, int], at: int = 0x0C005000) -> Translator:
    m = kvmlib.machine("openbsd/sh")
    read = memory({0x0C001000: table(level1), at: table(level2)})
    return m.mmu(Mmu({"kcore_kptp": 0x0C001000, "kcore_nsegs": 1}, read, symbols()))


def test_sh_windows() -> None:
    """P1 and P2 reach all of memory; what is contiguous goes on to their ends, as libkvm says."""
    t = sh({}, {})
    assert fails(t, 0, "not a kernel virtual address") == 0x80000000
    assert fails(t, 0x7FFFFFFF, "not a kernel virtual address") == 1
    assert works(t, 0x80000000) == (0, 0x20000000)
    assert works(t, 0x8C001234) == (0x0C001234, 0x13FFEDCC)
    assert works(t, 0x9FFFFFFF) == (0x1FFFFFFF, 1)
    assert works(t, 0xA0000000) == (0, 0x20000000)
    assert works(t, 0xBFFFFFFF) == (0x1FFFFFFF, 1)
    assert fails(t, 0xE0000000, "not a kernel virtual address") == 0x20000000
    assert fails(t, 0xFFFFFFFF, "not a kernel virtual address") == 1
    assert [t.walk(va)[0].flags for va in (0x80000000, 0xA0000000)] == [("cached",), ("uncached",)]


def test_sh_p3() -> None:
    """SH-P3: level 1 has pointers as the kernel sees the tables, through P1; level 2 has the hardware's entries."""
    t = sh({0: 0x8C005000, 127: 0x8C005000}, {0: 0x0C234000 | V | 0x7E, 5: 0x0C235000 | V, 1023: 0x1FFFF000 | V})
    assert works(t, 0xC0000000) == (0x0C234000, PAGE)
    assert works(t, 0xC0005ABC) == (0x0C235ABC, 0x544)
    assert works(t, 0xC03FFFFF) == (0x1FFFFFFF, 1)
    assert works(t, 0xDFC00000) == (0x0C234000, PAGE)
    # The last byte of P3 is as good as the others.
    assert works(t, 0xDFFFFFFF) == (0x1FFFFFFF, 1)
    assert fails(t, 0xC0006800, "invalid level 2 pte: no valid bit") == 0x800
    assert [(m.va, m.pa) for m in t.mappings(0xC0000000, 0xC0400000)] == [
        (0xC0000000, 0x0C234000),
        (0xC0005000, 0x0C235000),
        (0xC03FF000, 0x1FFFF000),
    ]


@pytest.mark.parametrize(
    "entry", [0, V, 0x8C005100, 0x8C005001, 0x0C005000, 0xAC005000, 0xCC005000, 0x1FFFF1FF, 0xFFFFFFFF]
)
def test_sh_level_1_entries_that_are_no_pointers_into_p1(entry: int) -> None:
    t = sh({3: entry}, {0: 0x0C234000 | V})
    assert fails(t, 0xC0C00000, "invalid level 1 pte: out of P1.*invalid level 1 pte: no valid bit") == 0x400000
    assert list(t.mappings(0xC0000000)) == []


def test_sh_level_2_valid_bit() -> None:
    t = sh({0: 0x8C005000}, {0: 0xFFFFFFFF & ~V, 1: V})
    fails(t, 0xC0000000, "invalid level 2 pte: no valid bit")
    assert works(t, 0xC0001000) == (0, PAGE)


def test_sh_tables_that_are_missing() -> None:
    t = sh({0: 0x8C006000}, {})
    fails(t, 0xC0000000, "could not read level 2 pte.*pa 0xc006000")
    m = kvmlib.machine("openbsd/sh")
    t = m.mmu(Mmu({"kcore_kptp": 0x1E000000}, memory({}), symbols()))
    fails(t, 0xC0000000, "could not read level 1 pte.*pa 0x1e000000")


@pytest.mark.parametrize(
    ("entry", "flags"),
    [
        (V | 2, ("V", "SH", "kernel r")),
        (V | 0x7E, ("V", "C", "D", "SH", "4K", "user rw")),
        (V | 1 << 31 | 0x20, ("wired", "V", "kernel rw")),
        (V | 0x41 | 0x80, ("V", "WT", "64K", "user r")),
        (V | 0x92, ("V", "SH", "1M", "kernel r")),
    ],
)
def test_sh_flags(entry: int, flags: tuple[str, ...]) -> None:
    t = sh({0: 0x8C005000}, {0: 0x0C234000 | entry})
    assert t.walk(0xC0000000)[1].flags == flags
    assert t.walk(0xC0000000)[0].flags == t.walk(0xC0001000)[1].flags == ()
    [m] = t.mappings(0xC0000000)
    # The others are no protection.
    assert m.flags == tuple(f for f in flags if f in ("C", "D", "SH", "WT") or f.startswith(("kernel", "user")))


def test_sh_header() -> None:
    m = kvmlib.machine("openbsd/sh")
    segments = [(0x0C000000 + i * 0x100000, 0x1000 * (i + 1)) for i in range(8)]
    assert m.ram is not None
    for count in (0, 1, 8, 9, 0xFFFFFFFF):
        data = struct.pack("<II", 0x0C002000, count) + b"".join(struct.pack("<QQ", *s) for s in segments)
        hdr = m.parse_cpu_hdr(data.ljust(504, b"\0"))
        assert hdr == {"kcore_kptp": 0x0C002000, "kcore_nsegs": count}
        if count <= 8:
            assert m.ram(m, data.ljust(504, b"\0"), hdr) == segments[:count]
        else:
            with pytest.raises(kvmlib.FormatError, match=f"kcore_nsegs is {count}, but kcore_segs has 8"):
                m.ram(m, data.ljust(504, b"\0"), hdr)
    assert m.root is not None
    hdr = {"kcore_kptp": 0x0C002000, "kcore_nsegs": 1}
    assert m.root(hdr) == 0x0C002000
    assert [r.decoded for r in m.registers(hdr)] == ["level 1 table at pa 0xc002000", "1 of 8 places are used"]


# -- netbsd/vax --------------------------------------------------------------------------------------------------------


def vax(**values: int) -> Translator:
    return kvmlib.machine("netbsd/vax").mmu(Mmu({}, memory({}), symbols(**values)))


def test_vax() -> None:
    t = vax(end=0x80123456)
    assert works(t, 0x80000000) == (0, 0x123456)
    assert works(t, 0x80123455) == (0x123455, 1)
    assert fails(t, 0x80123456, r"invalid address \(0x80123456<80123456\)") == 0x7FEDCBAA
    assert fails(t, 0xFFFFFFFF, r"invalid address \(0xffffffff<80123456\)") == 1
    assert fails(t, 0x7FFFFFFF, r"invalid address \(0x7fffffff<80000000\)") == 1
    assert fails(t, 1, r"invalid address \(0x1<80000000\)") == 0x7FFFFFFF
    assert fails(t, 0, r"invalid address \(0<80000000\)") == 1
    assert [(m.va, m.pa, m.size) for m in t.mappings()] == [(0x80000000, 0, 0x123456)]


def test_vax_without_end() -> None:
    t = vax(etext=0x80123456)
    fails(t, 0x80000000, "pmap_stod: no such symbol")
    assert list(t.mappings()) == []


def test_vax_with_the_wrong_kernel() -> None:
    """Where `end` lies below the kernel, nothing is mapped."""
    t = vax(end=0x1000)
    fails(t, 0x80000000, r"invalid address \(0x80000000<1000\)")
    fails(t, 0x800, r"invalid address \(0x800<80000000\)")
    assert list(t.mappings()) == []


# -- hppa --------------------------------------------------------------------------------------------------------------


def hppa(size: int) -> Translator:
    return kvmlib.machine("openbsd/hppa").mmu(Mmu({}, memory({}), symbols(), b"", size))


def test_hppa_is_bounded_by_memory() -> None:
    """HPPA-IDENT."""
    t = hppa(0x30000)
    assert works(t, 0) == (0, PAGE)
    assert works(t, 0x2FFF8) == (0x2FFF8, 8)
    assert fails(t, 0x30000, "ends at 0x30000, is mapped one to one") == 0xFFFD0000
    assert fails(t, 0xFFFFFFFF, "mapped one to one") == 1
    assert [(m.va, m.pa, m.size) for m in t.mappings()] == [(0, 0, 0x30000)]
    fails(t, 1 << 32, "does not fit in 32 bits")


@pytest.mark.parametrize(
    ("size", "end"), [(0, 0), (1, 0x1000), (0x1001, 0x2000), (1 << 32, 1 << 32), (1 << 40, 1 << 32)]
)
def test_hppa_memory_is_made_of_pages(size: int, end: int) -> None:
    assert sum(m.size for m in hppa(size).mappings()) == end


VERSION, DUMPSIZE = 0x20100, 0x20010


@pytest.mark.parametrize(
    ("pages", "version", "known"),
    [
        (0x100, b"OpenBSD ", 0x100000),
        (0x21, b"OpenBSD ", 0x21000),
        (0x20, b"OpenBSD ", 0),  # dumpsize itself would lie behind it
        (0x100000, b"OpenBSD ", 1 << 32),
        (0x100001, b"OpenBSD ", 0),
        (0x100, b"NetBSD 7", 0),  # another kernel's symbols
        (0x100, None, 0x100000),
        (0, None, 0),
    ],
)
def test_hppa_memory_by_the_kernel(pages: int, version: bytes | None, known: int) -> None:
    m = kvmlib.machine("openbsd/hppa")
    data = bytearray(0x30000)
    data[DUMPSIZE : DUMPSIZE + 4] = pages.to_bytes(4, "big")
    values = {"dumpsize": DUMPSIZE}
    if version is not None:
        data[VERSION : VERSION + 8] = version
        values["version"] = VERSION
    assert m.known_ram is not None
    found = m.known_ram(Mmu({}, memory({0: bytes(data)}), symbols(**values), b"", len(data)))
    assert found == ([(0, known)] if known else [])
    assert m.known_ram(Mmu({}, memory({0: bytes(data)}), symbols(), b"", len(data))) == []
    assert m.known_ram(Mmu({}, memory({}), symbols(**values), b"", len(data))) == []


@pytest.mark.parametrize("name", ["openbsd/hppa", "netbsd/hppa"])
def test_hppa_header(name: str) -> None:
    m = kvmlib.machine(name)
    assert m.parse_cpu_hdr(bytes.fromhex("0102030405060708")) == {"dummy": 0x01020304}
    assert m.registers({"dummy": 1}) == []
    assert m.ram is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("netbsd/hppa", "could not read PTE"), ("netbsd/sh3el", "vatop not yet"), ("netbsd/sh3eb", "vatop not yet")],
)
def test_where_nothing_is_known(name: str, words: str) -> None:
    m = kvmlib.machine(name)
    t = m.mmu(Mmu({}, memory({}), symbols(end=0x80123456)))
    for va in (0, 0x80000000, 0x8C000000, 0xFFFFFFFF):
        assert fails(t, va, words) == (1 << 32) - va
    assert list(t.mappings()) == []


def test_byte_orders() -> None:
    orders = {name: kvmlib.machine(name).byteorder for name in ("netbsd/sh3el", "netbsd/sh3eb", "openbsd/sh")}
    assert orders == {"netbsd/sh3el": "little", "netbsd/sh3eb": "big", "openbsd/sh": "little"}
    assert {kvmlib.machine(name).mid for name in orders} == {145}


# -- where memory begins -----------------------------------------------------------------------------------------------


def msgbuf(order: ByteOrder, magic: int = 0x063061, bufx: int = 5, bufr: int = 0, bufs: int = 0x3FE0) -> bytes:
    return b"".join(n.to_bytes(4, order) for n in (magic, bufx, bufr, bufs))


@pytest.mark.parametrize(
    ("name", "base"), [("openbsd/hppa", 0), ("netbsd/hppa", 0), ("netbsd/vax", 0x80000000)], ids=lambda v: str(v)
)
@pytest.mark.parametrize(
    ("buffer_at", "pointer_at", "change", "proves"),
    [
        (0x7000, 0x3004, {}, True),
        (0x400000, 0x3FFFFC, {}, True),  # further than what is read at a time
        (0x7000, 0x3002, {}, False),  # no pointer lies there
        (0x7010, 0x3004, {}, False),  # a buffer begins with a page
        (0x7000, 0x3004, {"magic": 0x063062}, False),
        (0x7000, 0x3004, {"bufx": 0x3FE1}, False),
        (0x7000, 0x3004, {"bufr": 0x3FE1}, False),
        (0x7000, 0x3004, {"bufx": 0, "bufs": 0}, False),
        (0x7000, 0x3004, {"bufs": 1 << 24}, False),
        (0, 0x3004, {}, False),
    ],
)
def test_a_message_buffer_shows_where_memory_begins(
    name: str, base: int, buffer_at: int, pointer_at: int, change: dict[str, int], proves: bool
) -> None:
    m = kvmlib.machine(name)
    data = bytearray(0x408000)
    data[buffer_at : buffer_at + 16] = msgbuf(m.byteorder, **change)
    # What is not aligned is no pointer; it must not hide one.
    data[0x2001:0x2005] = data[pointer_at : pointer_at + 4] = (base + buffer_at).to_bytes(4, m.byteorder)
    assert m.evidence is not None
    found = m.evidence(memory({0: bytes(data)}), [RamSeg(0, len(data))])
    assert found == (
        f"the message buffer is at pa {buffer_at:#x}, as memory at pa {pointer_at:#x} says" if proves else ""
    )
    # One page further on, memory begins elsewhere.
    assert m.evidence(memory({0: bytes(PAGE) + bytes(data)}), [RamSeg(0, PAGE + len(data))]) == ""


def test_memory_full_of_message_buffers() -> None:
    """The first few are enough to look at."""
    m = kvmlib.machine("openbsd/hppa")
    data = (msgbuf("big").ljust(PAGE, b"\0")) * 64
    reads = []

    def read(pa: int, n: int) -> bytes:
        reads.append(n)
        return data[pa : pa + n]

    assert m.evidence is not None
    assert m.evidence(read, [RamSeg(0, len(data))]) == ""
    assert len(reads) < 10


def test_a_header_inside_an_unproven_dump() -> None:
    """Without segments a header claims all that follows; the same header there again is a copy, another need not be."""

    def candidate(offset: int, cpu_data: bytes, score: int = 40) -> tuple[Candidate, Reading]:
        m = kvmlib.machine("netbsd/sh3el")
        headers = Headers("device", offset, m.abi.kcore_hdr(), cpu_data, offset + 8, offset + 512, None)
        return Candidate(offset, m, score, (), 0x10000 - offset, "device"), Reading(m, headers, None, score, ())

    def scores(*found: tuple[Candidate, Reading]) -> list[tuple[int, int]]:
        return [(c.offset, c.score) for c in rank(found)]

    same, other = bytes(504), b"\1" + bytes(503)
    assert scores(candidate(0x1000, same), candidate(0x4000, same)) == [(0x1000, 40), (0x4000, 0)]
    assert scores(candidate(0x1000, same), candidate(0x4000, other)) == [(0x1000, 40), (0x4000, 40)]
    assert scores(candidate(0x1000, same, 85), candidate(0x4000, other)) == [(0x1000, 85), (0x4000, 0)]
    assert scores(candidate(0x1000, other), candidate(0x4000, same, 85)) == [(0x4000, 85), (0x1000, 40)]


# -- samples -----------------------------------------------------------------------------------------------------------


def made(tmp_path: Path, name: str) -> tuple[kvmlib.Sample, kvmlib.Kvm]:
    sample = kvmlib.make_sample(name, tmp_path)
    return sample, kvmlib.open(sample.image, system=sample.kernel)


def test_sample_of_landisk(tmp_path: Path) -> None:
    sample, kd = made(tmp_path, "openbsd/sh")
    with kd:
        heap = next(w for w in sample.mapped if w.va == 0xC1000000)
        assert [s.outcome for s in kd.walk(heap.va)] == ["next", "page"]
        assert kd.walk(heap.va)[1].flags == ("V", "C", "D", "SH", "4K", "kernel rw")
        assert sample.lost is not None
        with pytest.raises(kvmlib.TranslationError, match=r"could not read level 2 pte.* which is not in the dump"):
            kd.kvatop(sample.lost)
        device = next(w for w in sample.mapped if w.use == "device")
        assert kd.kvatop(device.va)[0] == 0x14000000
        with pytest.raises(kvmlib.NotInDumpError):
            kd.read(device.va, 4)
        # Text is seen cached and uncached.
        assert kd.read(0x8C002000, 64) == kd.read(0xAC002000, 64) == sample.read_physical(0x0C002000, 64)


def test_sample_of_landisk_with_dumpsize_counted_down(tmp_path: Path) -> None:
    """SH-DUMPSIZE: the dump code counts it down, so how much there is comes from the segments."""
    sample, kd = made(tmp_path, "openbsd/sh")
    with kd:
        offset = kd.pa2off(kd.kvatop(next(s.value for s in sample.symbols if s.name == "dumpsize"))[0])
    image = bytearray(Path(sample.image).read_bytes())
    image[offset : offset + 4] = (7).to_bytes(4, "little")
    Path(sample.image).write_bytes(image)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert kvmlib.summary(kd).state.complete
        plan = kvmlib.plan_save(kd, tmp_path)
        assert (plan.size, plan.size_from) == (532 + 0x300000, "the segments in the header")


def test_sample_of_vax_ends_with_the_kernel(tmp_path: Path) -> None:
    sample, kd = made(tmp_path, "netbsd/vax")
    with kd:
        end = next(s.value for s in sample.symbols if s.name == "end")
        assert [(m.va, m.size) for m in kd.mappings()] == [(0x80000000, end - 0x80000000)]
        assert max(w.va + w.size for w in sample.mapped) == end
        assert sample.space.windows[0].stop == end
        assert kd.read_physical(end - 0x80000000, 16) == sample.read_physical(end - 0x80000000, 16)


def test_sample_of_hppa(tmp_path: Path) -> None:
    sample, kd = made(tmp_path, "openbsd/hppa")
    with kd:
        [memory_of_it] = sample.segments
        assert [(m.va, m.pa, m.size) for m in kd.mappings()] == [(0, 0, memory_of_it.size)]
        with pytest.raises(kvmlib.TranslationError, match="mapped one to one"):
            kd.read(0xC0003000, 4)
        assert kd.reading is not None
        assert "the message buffer is at pa 0x2fc000" in kd.reading.reasons[-1]
        assert "1 segments up to pa 0x300000 [symbol dumpsize]" in " ".join(kvmlib.report_text(kd).split())
