"""NetBSD/sparc: its header, its CPU types, headers that can't be true. What is special in samples, sparc64's too."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from kvmlib.errors import FormatError, NotInDumpError, TranslationError
from kvmlib.kcore import Headers
from kvmlib.ports import netbsd_sparc
from kvmlib.ports.base import Machine, Mmu
from kvmlib.translate import Mapping, Translator
from tests.samples import sample_in

SPARC = netbsd_sparc.MACHINE
SUN4, SUN4C, SUN4M, SUN4U, SUN4D = range(5)
BASE = 0xF0000000
#: Where `cpu_data` puts things.
SEGMAP = 48
RECORDS = 8


def cpu_data(cputype: int, *, ptes: int = 64, pmegs: int = 4, **numbers: int) -> bytearray:
    """A header, one RAM segment, the map of eight segments, PMEGs; all in a block's multiple, with junk behind."""
    pmeg = SEGMAP + 16 * RECORDS
    fields = {"cputype": cputype, "kernbase": BASE, "nmemseg": 1, "memsegoffset": 32}
    fields |= {"nsegmap": RECORDS, "segmapoffset": SEGMAP, "npmeg": pmegs, "pmegoffset": pmeg}
    data = struct.pack(">8I", *(n & 0xFFFFFFFF for n in (fields | numbers).values()))
    data += struct.pack(">QQ", 0x4000, 0x80000) + bytes(16 * RECORDS) + bytes(4 * ptes * pmegs)
    return bytearray(data + b"\xff" * (-(len(data) + 8) % 512))


def record(data: bytearray, number: int, *, pte: int = 0, pmeg: int = 0, npte: int = 1) -> None:
    """Write a segment's record: the wire map and the wire count, which nobody reads, are all ones."""
    struct.pack_into(">QIHBb", data, SEGMAP + 16 * number, (1 << 64) - 1, pte, pmeg, npte, -1)


def settled(data: bytes | bytearray, machine: Machine = SPARC) -> Machine:
    headers = Headers("device", 0, machine.abi.kcore_hdr(), bytes(data), 8, 8 + len(data), None)
    assert machine.settle is not None
    found = machine.settle(machine, headers, lambda at, n: b"", 0)
    assert found.machine.settle is not None
    assert found.machine.settle(found.machine, headers, lambda at, n: b"", 0).machine == found.machine
    return found.machine


def translator(data: bytes | bytearray, memory: dict[int, bytes] | None = None) -> Translator:
    def read(pa: int, n: int) -> bytes:
        for start, content in (memory or {}).items():
            if start <= pa and pa + n <= start + len(content):
                return content[pa - start : pa - start + n]
        raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=4096 - pa % 4096)

    machine = settled(data)
    return machine.mmu(Mmu(machine.parse_cpu_hdr(bytes(data)), read, lambda name: None, bytes(data)))


def fails(t: Translator, va: int) -> str:
    with pytest.raises(TranslationError) as e:
        t.kvatop(va)
    assert t.walk(va)[-1].outcome in ("invalid", "unreadable", "outside")
    return str(e.value)


# -- the header --------------------------------------------------------------------------------------------------------


def test_each_field_is_where_kcore_h_has_it() -> None:
    names = ["cputype", "kernbase", "nmemseg", "memsegoffset", "nsegmap", "segmapoffset", "npmeg", "pmegoffset"]
    data = struct.pack(">8I", *range(11, 19)) + bytes(100)
    assert SPARC.parse_cpu_hdr(data) == dict(zip(names, range(11, 19), strict=True))
    data = bytes(cpu_data(SUN4C))
    assert SPARC.ram is not None
    assert SPARC.ram(SPARC, data, SPARC.parse_cpu_hdr(data)) == [(0x4000, 0x80000)]
    assert SPARC.segments_offset(SPARC.parse_cpu_hdr(data)) == 32
    assert SPARC.least_cpu_data == 32
    assert (SPARC.mid, SPARC.abi.align(1), SPARC.long_bytes, SPARC.dumpmag_bytes) == (138, 8, 4, 4)


@pytest.mark.parametrize(
    ("cputype", "page"), [(SUN4, 8192), (SUN4C, 4096), (SUN4M, 4096), (SUN4U, 8192), (SUN4D, 4096)]
)
def test_the_page_size_is_a_matter_of_the_cpus_type(cputype: int, page: int) -> None:
    assert settled(cpu_data(cputype)).page_size == page


def test_no_such_cpu() -> None:
    for cputype in (5, 0x80000000, 0xFFFFFFFF):
        with pytest.raises(FormatError, match=f"Unsupported CPU type: cputype is {cputype:#x}, 4 is the last"):
            settled(cpu_data(cputype))


@pytest.mark.parametrize(
    ("cputype", "numbers", "words"),
    [
        (SUN4, {"nsegmap": 99}, "nsegmap is 99"),
        (SUN4C, {"nsegmap": -1}, "nsegmap is 4294967295"),
        (SUN4M, {"nsegmap": 99}, "nsegmap is 99"),
        (SUN4M, {"segmapoffset": 0x80000000}, "segmapoffset 0x80000000"),
        (SUN4, {"npmeg": 7}, "npmeg is 7"),
        (SUN4C, {"npmeg": -2}, "npmeg is 4294967294"),
        (SUN4C, {"pmegoffset": 0x1000}, "pmegoffset 0x1000"),
    ],
)
def test_the_map_lies_in_the_cpu_data(cputype: int, numbers: dict[str, int], words: str) -> None:
    ptes = 32 if cputype == SUN4 else 64
    with pytest.raises(FormatError, match=words):
        settled(cpu_data(cputype, ptes=ptes, **numbers))


def test_numbers_that_nobody_needs_are_not_checked() -> None:
    settled(cpu_data(SUN4M, npmeg=1 << 20, pmegoffset=1 << 31))
    settled(cpu_data(SUN4D, nsegmap=1 << 20, npmeg=1 << 20))


def test_registers_in_words() -> None:
    def words(cputype: int, **numbers: int) -> dict[str, str]:
        machine = settled(data := bytes(cpu_data(cputype, **numbers)))
        found = machine.registers(machine.parse_cpu_hdr(data))
        assert all(r.width == 32 for r in found)
        return {r.name: r.decoded for r in found}

    assert words(SUN4C)["cputype"] == "sun4c"
    assert words(SUN4C)["nmemseg"] == "1 RAM segments at byte 32 of the CPU data"
    assert words(SUN4C, nmemseg=-1)["nmemseg"] == "no RAM segments"
    assert words(SUN4C)["nsegmap"] == "8 segments of 256 KiB from va 0xf0000000"
    assert words(SUN4C)["npmeg"] == "4 PMEGs of 64 PTEs; the last stands for what isn't mapped"
    assert words(SUN4)["npmeg"].startswith("4 PMEGs of 32 PTEs")
    assert words(SUN4M)["npmeg"] == "none: the PTEs are in memory"
    assert words(SUN4M)["nsegmap"].startswith("8 segments")
    assert words(SUN4D) == words(SUN4D) | {"cputype": "sun4d", "nsegmap": "", "npmeg": ""}
    assert words(SUN4U)["cputype"] == "sun4u"


# -- translation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cputype", "shift"), [(SUN4, 13), (SUN4C, 12)], ids=["sun4", "sun4c"])
def test_pmegs(cputype: int, shift: int) -> None:
    """SUN4-8196: a sun4 has 32 pages of 8192 bytes in a segment."""
    page, ptes = 1 << shift, 1 << 18 - shift
    data = cpu_data(cputype, ptes=ptes)
    at = SEGMAP + 16 * RECORDS
    record(data, 0, pmeg=2)
    record(data, 7, pmeg=1)
    struct.pack_into(">I", data, at + 4 * (2 * ptes), 0xE0000000 | 0x123)
    struct.pack_into(">I", data, at + 4 * (2 * ptes + ptes - 1), 0x80000000 | 0x456)
    struct.pack_into(">I", data, at + 4 * ptes, 0x7F000789)
    t = translator(data)
    assert t.kvatop(BASE) == (0x123 << shift, page)
    assert t.kvatop(BASE + page - 1) == ((0x123 << shift) + page - 1, 1)
    assert t.kvatop(BASE + (1 << 18) - page + 5) == ((0x456 << shift) + 5, page - 5)
    assert list(t.mappings()) == [
        Mapping(BASE, 0x123 << shift, page, ("W", "S", "OBMEM")),
        Mapping(BASE + (1 << 18) - page, 0x456 << shift, page, ("OBMEM",)),
    ]
    # No PTE, invalid, no segment, outside the map, below it, nowhere.
    for va in (BASE + page, BASE + (7 << 18), BASE + (1 << 18), BASE + (8 << 18), BASE - 1, 1):
        assert f"invalid address ({va:#x})" in fails(t, va)
    assert "invalid address (0)" in fails(t, 0)
    # A segment without PTEs, and the PMEG for what isn't mapped, whatever is in it.
    struct.pack_into(">I", data, at + 4 * 3 * ptes, 0x80000000)
    for number, given in ((0, {"pmeg": 2, "npte": 0}), (1, {"pmeg": 3}), (2, {"pmeg": 4})):
        record(data, number, **given)
        assert f"invalid address ({BASE + (number << 18):#x})" in fails(translator(data), BASE + (number << 18))


def test_page_tables_of_a_sun4m() -> None:
    data = cpu_data(SUN4M, pmegs=0)
    record(data, 1, pte=BASE + 0x20100)
    record(data, 2, pte=BASE + 0x700000)
    record(data, 3, pte=BASE + 0x20000, npte=0)
    table = struct.pack(">3I", 0x01234500 | 0x9E, 0x01234500 | 0x9D, 0xFF100000 | 0x1E)
    t = translator(data, {0x20000: (bytes(256) + table).ljust(4096, b"\0")})
    va = BASE + (1 << 18)
    assert t.kvatop(va + 7) == (0x12345007, 4089)
    assert t.kvatop(va + 0x2FFF) == (0xF1000FFF, 1)
    assert "the PTE says 0xff1000000" in t.walk(va + 0x2000)[-1].note
    assert [s.table_pa for s in t.walk(va)] == [None, 0x20100]
    for bad in (va + 0x1000, va + 0x3000, va - 1, BASE + (3 << 18), BASE + (8 << 18), BASE - 1):
        assert f"invalid address ({bad:#x})" in fails(t, bad)
    lost = BASE + (2 << 18)
    assert f"cannot read pte for {lost:#x}" in fails(t, lost)
    assert t.walk(lost)[-1].outcome == "unreadable"


@pytest.mark.parametrize(("cputype", "name"), [(SUN4U, "sun4u"), (SUN4D, "sun4d")])
def test_cpus_whose_tables_nobody_finds(cputype: int, name: str) -> None:
    t = translator(cpu_data(cputype))
    for va in (0, BASE, BASE + 0x4000):
        assert f"Unsupported CPU type: how a {name} describes" in fails(t, va)
    with pytest.raises(TranslationError) as e:
        t.kvatop(1 << 33)
    assert e.value.size == 1
    assert list(t.mappings()) == []
    assert t.bits == 32


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[kvmlib.Kvm]:
    sample = sample_in(tmp_path, request.param)
    with kvmlib.open(sample.image) as found:
        yield found


def spans(kd: kvmlib.Kvm, va: int, n: int) -> list[tuple[int, int, str]]:
    return [(s.va, s.size, s.kind) for s in kd.spans(va, n)]


@pytest.mark.parametrize("kd", ["netbsd/sparc64", "openbsd/sparc64"], indirect=True)
def test_a_locked_block_goes_on_behind_the_memory_that_was_dumped(kd: kvmlib.Kvm) -> None:
    """STRADDLE: what follows in the file is another segment's."""
    assert kd.kvatop(0x1000000)[1] == 0x400000
    assert kd.kvatop(0x1400000)[1] == 0x400000
    assert spans(kd, 0x13FFFF0, 0x80020) == [
        (0x13FFFF0, 0x10, "present"),
        (0x1400000, 0x80000, "present"),
        (0x1480000, 0x10, "not_in_dump"),
    ]
    with pytest.raises(kvmlib.NotInDumpError):
        kd.read(0x147FFFF, 2)
    assert spans(kd, 0x17FFFFF, 2) == [(0x17FFFFF, 1, "not_in_dump"), (0x1800000, 1, "unmapped")]


@pytest.mark.parametrize("kd", ["netbsd/sparc64"], indirect=True)
def test_the_new_header_is_explained(kd: kvmlib.Kvm) -> None:
    cpu = kvmlib.header_fields(kd)[1]
    found = {f.name: f.text for f in cpu.children}
    assert found["4mbseg[1].va"] == "0x1400000: va 0x1400000-0x1800000 -> pa 0x60000000-0x60400000, 4 MiB"
    assert found["4mbseg[1].pa"] == "0x60000000 (1610612736)"
    assert found["segs[2]"] == "pa 0x100000000 to 0x100040000"
    assert cpu.children[-1].text.endswith("not zeros")
    assert spans(kd, 0xE000FFFF, 0x10002) == [
        (0xE000FFFF, 1, "unmapped"),
        (0xE0010000, 0x10000, "present"),
        (0xE0020000, 1, "unmapped"),
    ]
    assert kd.pa2off(kd.kvatop(0xE0010000)[0]) == kd.image.size - 0x10000


@pytest.mark.parametrize("kd", ["netbsd/sparc64-oldhdr"], indirect=True)
def test_the_old_header_has_text_and_data(kd: kvmlib.Kvm) -> None:
    assert [f.name for f in kvmlib.header_fields(kd)[1].children][-5:-1] == ["kdatasz", "segs[0]", "segs[1]", "segs[2]"]
    assert [s.name for va in (0x107FFFF, 0x1080000) for s in kd.walk(va)] == ["the locked text", "the locked data"]
    assert kd.kvatop(0x1000000) == (0x40000000, 0x80000)
    assert kd.kvatop(0x1080000) == (0x40080000, 0x380000)


@pytest.mark.parametrize("kd", ["openbsd/sparc64"], indirect=True)
def test_junk_behind_openbsds_segments_is_no_ram(kd: kvmlib.Kvm) -> None:
    assert kd.cpu_hdr["nmemseg"] == 64
    assert len(kd.segments) == 2
    assert len(kd.cpu_data) == 3 * 512 - 16
    # The third and fourth entries are empty, then come the PROM's addresses and lengths.
    entries = list(struct.iter_unpack(">QQ", kd.cpu_data[96 : 96 + 64 * 16]))
    assert entries[2:4] == [(0, 0), (0, 0)]
    assert all(any(e) for e in entries[4:])
    with pytest.raises(kvmlib.NotInDumpError):
        kd.pa2off(entries[4][0])


def test_segments_that_are_all_empty(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/sparc64")
    with open(sample.image, "r+b") as f:
        f.seek(sample.dump_off + 16 + 192)
        f.write(struct.pack(">QQ", 0x40000000, 0) * 3)
    with kvmlib.Kvm(sample.image, machine="netbsd/sparc64") as kd:
        kd.dump_mkheader(sample.dump_off)
        assert len(kd.segments) == 3
        facts = {f.label: f.text for f in kvmlib.summary(kd).facts}
        assert facts["MEMORY"] == "0 bytes in 0 segments up to pa 0x0"


def test_dumppcb(tmp_path: Path) -> None:
    """Each register of struct pcb holds its own number."""
    for name in ("openbsd/sparc64", "netbsd/sparc64"):
        sample = sample_in(tmp_path, name)
        with kvmlib.open(sample.image) as kd:
            symbol = kd.symbols.get("dumppcb")
            assert symbol is not None
            offset = kd.pa2off(kd.kvatop(symbol.value)[0])
            assert symbol.size == (1136 if name.startswith("openbsd") else 1064)
        # sp, pc, onfault, pstate, nsaved, cwp, pil.
        saved = struct.pack(">QQQHBBB", 0x111, 0x222, 0x333, 0x444, 0x55, 0x66, 0x77)
        with open(sample.image, "r+b") as f:
            f.seek(offset)
            f.write(saved)
        with kvmlib.open(sample.image) as kd:
            found = {r.name: r.value for r in kvmlib.panic_registers(kd)}
        pc = {"pc": 0x222} if name.startswith("netbsd") else {}
        assert found == {"sp": 0x111, "pstate": 0x444, "cwp": 0x66, "pil": 0x77} | pc


@pytest.mark.parametrize("kd", ["netbsd/sparc", "netbsd/sparc-sun4", "netbsd/sparc-sun4c"], indirect=True)
def test_devices_of_sparc(kd: kvmlib.Kvm) -> None:
    page = kd.machine.page_size if kd.machine else 0
    assert page == (8192 if kd.cpu_hdr["cputype"] == SUN4 else 4096)
    device = 0xF1000000 + 96 * page
    assert spans(kd, device, page) == [(device, page, "not_in_dump")]
    assert kd.walk(device)[-1].flags[-1] == ("ET=PTE" if kd.cpu_hdr["cputype"] == SUN4M else "OBIO")


@pytest.mark.parametrize("kd", ["netbsd/sparc-sun4d"], indirect=True)
def test_a_sun4d_opens(kd: kvmlib.Kvm) -> None:
    with pytest.raises(kvmlib.TranslationError, match="Unsupported CPU type"):
        kd.read(0xF0004000, 4)
    assert kd.read_physical(0x4000, 4) != bytes(4)
