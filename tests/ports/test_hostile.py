"""Page tables that no kernel writes, but that damage may: they must not make a reader run for ever."""

import struct
from pathlib import Path

import pytest

from kvmlib.image import open_image
from kvmlib.kcore import RamSeg
from kvmlib.memory import PhysicalMemory
from kvmlib.ports import machine
from kvmlib.ports.riscv_paging import SV39, SV57
from kvmlib.translate import Mapping
from kvmlib.translate.radix import Level, Page, Paging, Radix

_PAGE = 4096
#: A RISC-V entry that points to the table at pa 0, and one that maps the page there.
_TABLE, _LEAF = 1, 0xF


def _sv(paging: Paging, *tables: dict[int, int]) -> Radix:
    """RISC-V tables, one after the other from pa 0 on: index -> entry."""
    data = b"".join(struct.pack("<512Q", *(table.get(i, 0) for i in range(512))) for table in tables)
    return Radix(paging, 0, lambda pa, n: data[pa : pa + n], "little")


def test_tables_that_point_to_themselves_and_map_nothing() -> None:
    # An entry of the last level that points to a table is none: 512**5 ways lead to nowhere.
    assert list(_sv(SV57, dict.fromkeys(range(512), _TABLE)).mappings()) == []


def test_a_table_that_maps_nothing_in_one_range_may_do_so_in_another() -> None:
    pointer = (_PAGE >> 2) | _TABLE
    tables = _sv(SV39, {0: pointer, 1: pointer}, {0: pointer << 1 & ~3 | _TABLE}, {5: _LEAF})
    assert list(tables.ranges(0, _PAGE)) == []
    assert [va for va, _, _, _ in tables.ranges(0, 1 << 39)] == [5 * _PAGE, (1 << 30) + 5 * _PAGE]


ONE_LEVEL = Paging(
    name="one table",
    entry_bytes=4,
    levels=(Level("table", 12, 20, (Page(mask=1, value=1, frame=0xFFFFF000),), "", ""),),
    flags={},
    protection=0,
    va_bits=32,
    canonical_bits=32,
)


def test_a_large_table_in_pieces_is_read_in_runs(tmp_path: Path) -> None:
    # 4 MiB of table, in the dump but for a page, for two bytes of an entry, and for what is behind 3 MiB.
    present = [RamSeg(0, 0x100000), RamSeg(0x101000, 0x100002), RamSeg(0x201004, 0x100100)]
    entries = struct.pack("<1048576I", *(i << 12 | 1 for i in range(1 << 20)))
    path = tmp_path / "memory"
    path.write_bytes(b"".join(entries[s.start : s.start + s.size] for s in present)[:-0x100])
    calls: list[int] = []
    image = open_image(path)
    memory = PhysicalMemory(image, 0, present)

    def read(pa: int, n: int) -> bytes:
        calls.append(pa)
        return memory.read(pa, n)

    found = [va // _PAGE for va, _, _, _ in Radix(ONE_LEVEL, 0, read, "little").ranges(0, 1 << 32)]
    image.close()
    assert found == [*range(0x40000), *range(0x40400, 0x80400), *range(0x80401, 0xC0401)]
    assert len(calls) < 20


def test_the_last_entry_of_a_large_table() -> None:
    def read(pa: int, n: int) -> bytes:
        return struct.pack("<I", 0x7001).rjust(n, b"\0")

    assert list(Radix(ONE_LEVEL, 0, read, "little").mappings()) == [Mapping(0xFFFFF000, 0x7000, _PAGE, ())]


@pytest.mark.parametrize("name", ["netbsd/mipseb", "netbsd/mips64"])
def test_pointers_are_counted_wherever_ram_is(name: str) -> None:
    # In the order of the header, which need not be that of addresses.
    ram = [RamSeg(0x300000, 0x1000), RamSeg(0x100000, 0x1000), RamSeg(0x200000, 0x1000)]
    pointer = ">II" if name == "netbsd/mipseb" else ">iI"
    high = 0 if name == "netbsd/mipseb" else -1
    inside, outside = (struct.pack(pointer, high, 0x80000000 + pa) for pa in (0x200FF8, 0x2FFFF8))
    evidence = machine(name).evidence
    assert evidence is not None
    assert " 1 against 0" in evidence(lambda pa, n: (inside if pa == 0x100000 else outside).ljust(n, b"\0"), ram)
    assert evidence(lambda pa, n: outside.ljust(n, b"\0"), ram) == ""
