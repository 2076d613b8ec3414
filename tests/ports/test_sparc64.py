"""sparc64 of both systems: each field of the header, and headers that can't be true."""

import pytest

import kvmlib
from kvmlib.errors import FormatError
from kvmlib.ports import sparc
from kvmlib.ports.base import Machine
from tests.ports.sparc64_dumps import (
    NAMES,
    NETBSD,
    NEWMAGIC,
    OPENBSD,
    ROOT,
    new_header,
    old_header,
    padded,
    registers,
    segments,
    settled,
)


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_each_field_is_where_kcore_h_has_it(machine: Machine) -> None:
    numbers = {name: 0x1111 * (i + 1) for i, name in enumerate(NAMES)}
    data = padded(old_header(cputype=4, nmemseg=1, memsegoffset=96, **numbers), (0x40000, 0x2000))
    hdr = settled(machine, data).parse_cpu_hdr(data)
    assert hdr == {"cputype": 4, "nmemseg": 1, "memsegoffset": 96, "nsegmap": 1024} | numbers
    assert segments(machine, data) == [(0x40000, 0x2000)]
    assert machine.root is not None
    assert machine.root(hdr) == numbers["segmapoffset"]


def test_each_new_field_is_where_kcore_h_has_it() -> None:
    numbers = {name: 0x1111 * (i + 1) for i, name in enumerate(NAMES)}
    new = {"numcpuinfos": 0xA1, "percpusz": 0xA2, "thiscpu": 0xA3, "cpusp": 0xA4}
    data = padded(new_header(((0xB1, 0xB2), (0xB3, 0xB4)), **numbers, **new), (0x40000, 0x2000))
    machine = settled(NETBSD, data)
    hdr = machine.parse_cpu_hdr(data)
    assert {k: v for k, v in hdr.items() if k in numbers or k in new} == numbers | new
    assert (hdr["newmagic"], hdr["num4mbsegs"], hdr["off4mbsegs"]) == (NEWMAGIC, 2, 160)
    assert [hdr[f"4mbseg[{i}].{part}"] for i in (0, 1) for part in ("va", "pa")] == [0xB1, 0xB2, 0xB3, 0xB4]
    assert segments(NETBSD, data) == [(0x40000, 0x2000)]
    assert machine.segments_offset(hdr) == machine.least_cpu_data == 192


def test_registers_in_words() -> None:
    text = {"ktextbase": 0x1000000, "ktextp": 0x40000000, "ktextsz": 0x400000}
    found = registers(OPENBSD, padded(old_header(nmemseg=80, kdatasz=0x3000, **text), (0, 0x2000), (0, 0)))
    assert found["cputype"] == (3, "sun4u")
    assert found["nmemseg"] == (80, "16 * 3 + 32, by mistake: 3 RAM segments at byte 96 of the CPU data")
    assert found["segmapoffset"] == (ROOT, "top page table at pa 0x20000")
    assert found["nsegmap"] == (1024, "")
    data = padded(old_header())
    odd = registers(OPENBSD, data[:16] + (7).to_bytes(4, "big") + data[20:])
    assert odd["nsegmap"] == (7, "expected 1024, what a page of them has")
    assert found["ktextbase"][1] == "locked text: va 0x1000000-0x1400000 -> pa 0x40000000-0x40400000, 4 MiB"
    assert found["kdatabase"][1] == "locked data: va 0x0-0x3000 -> pa 0x0-0x3000, 12 KiB"
    assert found["ktextsz"][1] == "4 MiB"
    found = registers(NETBSD, padded(old_header(cputype=5, nmemseg=-2, ktextsz=7)))
    assert found["cputype"][1] == "sun4v"
    assert found["nmemseg"] == (0xFFFFFFFE, "no RAM segments")
    assert found["ktextsz"][1] == "7 bytes"
    assert found["kdatabase"][1] == "locked data: nothing, its size is 0"
    assert "newmagic" not in found
    assert registers(NETBSD, padded(old_header(nmemseg=1)))["nmemseg"][1].startswith("1 RAM segments at byte 96")
    assert registers(NETBSD, padded(old_header(nmemseg=0)))["nmemseg"][1] == "no RAM segments"
    assert [sparc.size_text(n) for n in (1 << 30, 3 << 29, 1 << 10)] == ["1 GiB", "1536 MiB", "1 KiB"]
    assert [sparc.signed(n) for n in (1 << 31, (1 << 32) - 1, (1 << 31) - 1)] == [-(1 << 31), -1, (1 << 31) - 1]
    assert registers(OPENBSD, padded(old_header(cputype=6, nmemseg=2)))["cputype"][1] == "no type that is known"
    for count, start in ((48, "16 * 1 + 32"), (49, "49 RAM"), (32, "32 RAM"), (2, "2 RAM"), (-32, "no RAM")):
        assert registers(OPENBSD, padded(old_header(nmemseg=count)))["nmemseg"][1].startswith(start)


def test_new_registers_in_words() -> None:
    cpus = {"numcpuinfos": 2, "percpusz": 0x10000, "thiscpu": 1, "cpusp": 0x60000}
    found = registers(NETBSD, padded(new_header(((0x1000000, 0x800000),), **cpus)))
    assert found["newmagic"] == (NEWMAGIC, "SPARC64_KCORE_NEWMAGIC")
    assert found["num4mbsegs"] == (1, "1 locked 4 MB blocks at byte 160 of the CPU data")
    assert found["4mbseg[0].va"] == (0x1000000, "va 0x1000000-0x1400000 -> pa 0x800000-0xc00000, 4 MiB")
    assert found["numcpuinfos"] == (2, "2 CPUs")
    assert found["percpusz"] == (0x10000, "64 KiB at va 0xe0010000")
    assert found["cpusp"] == (0x60000, "that of CPU 1 is at pa 0x70000")
    assert registers(NETBSD, padded(new_header()))["numcpuinfos"][1] == "the CPUs' own memory is not described"


def test_the_old_header_and_the_new_one() -> None:
    old = [
        old_header(),
        # Fields that could be new ones, but RAM segments lie over them; newmagic without room for it.
        new_header(newmagic=NEWMAGIC, memsegoffset=152),
        new_header(newmagic=NEWMAGIC + 1),
        old_header()[:96],
    ]
    for data in old:
        machine = settled(NETBSD, data)
        assert machine.least_cpu_data == 96, data
    assert settled(NETBSD, new_header(memsegoffset=160)).least_cpu_data == 152


@pytest.mark.parametrize("machine", [OPENBSD, NETBSD], ids=lambda m: m.name)
def test_ram_segments_lie_in_the_cpu_data(machine: Machine) -> None:
    assert segments(machine, padded(old_header(nmemseg=25), *[(i << 20, 0x2000) for i in range(25)]))[24] == (
        24 << 20,
        0x2000,
    )
    assert segments(machine, padded(old_header(nmemseg=0))) == []
    assert segments(machine, padded(old_header(nmemseg=-3, memsegoffset=1 << 60))) == []
    for at in (95, 497, 1 << 63):
        with pytest.raises(FormatError, match=f"memsegoffset is {at:#x}, .* begin at 0x60, .* to 0x1f0"):
            segments(machine, padded(old_header(memsegoffset=at)))
    with pytest.raises(FormatError, match="nmemseg is 26, but the CPU data of 496 bytes has room for 25"):
        segments(machine, padded(old_header(nmemseg=26)))
    with pytest.raises(FormatError, match="nmemseg is 2147483647"):
        segments(machine, padded(old_header(nmemseg=0x7FFFFFFF)))


def test_openbsd_counts_its_segments_in_bytes() -> None:
    """SPARC64-JUNK: what lies behind the first empty entry is no RAM. NetBSD's list has no end but its count."""
    listed = ((0, 0x2000), (0x100000, 0x4000), (0x8000, 0), (0x200000, 0x2000), *((0, 0),) * 20)
    data = padded(old_header(nmemseg=24), *listed)
    assert segments(OPENBSD, data) == [(0, 0x2000), (0x100000, 0x4000)]
    assert segments(NETBSD, data) == [*listed]


def test_what_the_two_systems_are() -> None:
    found = [kvmlib.machine(f"{system}/sparc64") for system in ("openbsd", "netbsd")]
    assert [m.mid for m in found] == [151, 156]
    assert [m.dumpmag_bytes for m in found] == [8, 4]
    assert {(m.long_bytes, m.page_size, m.abi.align(1), m.byteorder) for m in found} == {(8, 8192, 16, "big")}
