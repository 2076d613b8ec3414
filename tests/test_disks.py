"""The tables of a whole disk, and disks that only look as if they had one."""

import random
import struct
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from kvmlib.disks import Partition, partitions, smallest_around
from kvmlib.errors import KvmError
from tests.diskimages import FFS, NETBSD_FFS, NETBSD_SWAP, OPENBSD_GPT, SWAP, disklabel, mbr, put_gpt

MIB = 1 << 20


def read_in(disk: bytes | bytearray, size: int | None = None) -> list[Partition]:
    return partitions(lambda offset, n: bytes(disk[offset : offset + n]), len(disk) if size is None else size)


def places(found: list[Partition]) -> list[tuple[str, int, int]]:
    return [(p.name, p.start, p.size) for p in found]


# -- disklabels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "at", "sector"),
    [
        *product("<>", (0, 64, 128, 512, 512 + 64, 1024, 6 * 512), (512,)),
        *product("<>", (0, 64, 4096, 8192), (4096,)),
    ],
)
def test_a_label_where_a_port_has_it(order: str, at: int, sector: int) -> None:
    disk = bytearray(MIB)
    label = disklabel([(16, 64, FFS), (80, 100, SWAP), (0, 200, 0)], order=order, sector=sector, disk=MIB)
    disk[at : at + len(label)] = label
    assert places(read_in(disk)) == [
        ("disklabel a (4.2BSD)", 16 * sector, 64 * sector),
        ("disklabel b (swap)", 80 * sector, 100 * sector),
    ]


@pytest.mark.parametrize("order", "<>")
def test_sizes_of_more_than_32_bits(order: str) -> None:
    start, size = 5 << 32 | 8, 3 << 32 | 16
    label = disklabel([None, (start, size, SWAP)], order=order, disk=1 << 46, wide=True)
    assert places(read_in(bytes(512) + label, 1 << 46)) == [("disklabel b (swap)", start * 512, size * 512)]


def test_the_fragment_size_is_no_high_part() -> None:
    """In the older form the same four bytes are p_fsize."""
    disk = bytes(512) + disklabel([(2, 4, SWAP)], disk=MIB)
    assert places(read_in(disk.ljust(MIB, b"\0"))) == [("disklabel a (swap)", 1024, 2048)]


def test_types_in_words() -> None:
    kinds = (1, 7, 9, 10, 17, 19, 27, 255)
    disk = disklabel([(i + 1, 1, kind) for i, kind in enumerate(kinds)], disk=MIB).ljust(MIB, b"\0")
    words = ["swap", "4.2BSD", "4.4LFS", "unknown", "ext2fs", "RAID", "type 27", "type 255"]
    assert [p.fstype for p in read_in(disk)] == words


def test_more_partitions_than_letters() -> None:
    disk = disklabel([(i + 1, 1, SWAP) for i in range(54)], disk=MIB).ljust(MIB, b"\0")
    names = [p.name.split()[1] for p in read_in(disk)]
    assert names[25:27] == ["z", "A"]
    assert names[51:] == ["Z", "52", "53"]


@pytest.mark.parametrize("at", [0, 9, 40, 132, 136, 138, 150])
def test_a_damaged_label_is_none(at: int) -> None:
    label = bytearray(disklabel([(2, 4, SWAP)], disk=MIB))
    assert read_in(bytes(label).ljust(MIB, b"\0"))
    label[at] ^= 4
    assert read_in(bytes(label).ljust(MIB, b"\0")) == []


def test_a_label_of_a_larger_disk_says_nothing_about_this_image() -> None:
    """An image of one slice begins with a label too, but that counts from the start of the disk."""
    assert read_in(disklabel([(2, 4, SWAP)], disk=2 * MIB).ljust(MIB, b"\0")) == []


# -- MBR ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_label_inside_an_mbr_partition(sector: int) -> None:
    disk = bytearray(2 * MIB)
    disk[:512] = mbr([(0x0C, 16, 16), (0, 0, 0), (0, 0, 0), (0xA6, 64, 400)])
    label = disklabel([(64, 100, FFS), (164, 300, SWAP)], sector=sector, disk=len(disk), wide=True)
    at = 65 * sector
    disk[at : at + len(label)] = label
    assert places(read_in(disk)) == [
        ("MBR 1 (FAT32)", 16 * sector, 16 * sector),
        ("MBR 4 (OpenBSD)", 64 * sector, 400 * sector),
        ("disklabel a (4.2BSD)", 64 * sector, 100 * sector),
        ("disklabel b (swap)", 164 * sector, 300 * sector),
    ]


def test_logical_partitions() -> None:
    disk = bytearray(MIB)
    disk[:512] = mbr([(0x0F, 100, 1000)])
    disk[100 * 512 : 101 * 512] = mbr([(0x82, 10, 20), (0x05, 200, 100)])
    disk[300 * 512 : 301 * 512] = mbr([(0x83, 1, 50)])
    assert places(read_in(disk)) == [
        ("MBR 5 (Linux swap)", 110 * 512, 20 * 512),
        ("MBR 6 (Linux)", 301 * 512, 50 * 512),
    ]


def test_logical_partitions_that_go_round() -> None:
    disk = bytearray(MIB)
    disk[:512] = mbr([(0x05, 100, 1000)])
    disk[100 * 512 : 101 * 512] = mbr([(0x83, 1, 5), (0x05, 200, 100)])
    disk[300 * 512 : 301 * 512] = mbr([(0x83, 1, 5), (0x05, 0, 100)])
    assert [p.name for p in read_in(disk)] == ["MBR 5 (Linux)", "MBR 6 (Linux)"]


def test_a_boot_block_without_a_table() -> None:
    block = bytearray(random.Random(1).randbytes(510) + b"\x55\xaa")
    block[446] = 0x17
    assert read_in(bytes(block).ljust(MIB, b"\0")) == []


# -- GPT ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("damaged", [(), ("first",), ("first", "second")])
def test_gpt(sector: int, damaged: tuple[str, ...]) -> None:
    disk = bytearray(4 * MIB)
    put_gpt(disk, [(NETBSD_FFS, 64, 100), (NETBSD_SWAP, 200, 300), (str("1" * 32), 600, 1)], sector=sector)
    for copy in damaged:
        # A bit of the first entry.
        disk[{"first": 2 * sector, "second": len(disk) - 16384 - sector}[copy] + 40] ^= 1
    expected = [
        ("GPT 1 (netbsd-ffs)", 64 * sector, 100 * sector),
        ("GPT 2 (netbsd-swap)", 200 * sector, 300 * sector),
        ("GPT 3 (11111111-1111-1111-1111-111111111111)", 600 * sector, sector),
    ]
    # The MBR that guards a GPT is no partition.
    assert places(read_in(disk)) == ([] if len(damaged) == 2 else expected)


def test_a_label_inside_a_gpt_partition() -> None:
    disk = bytearray(2 * MIB)
    put_gpt(disk, [(OPENBSD_GPT, 64, 2000)])
    label = disklabel([(64, 1000, FFS), (1064, 1000, SWAP)], disk=len(disk), wide=True)
    disk[65 * 512 : 65 * 512 + len(label)] = label
    found = read_in(disk)
    assert [p.name for p in found] == ["GPT 1 (openbsd)", "disklabel a (4.2BSD)", "disklabel b (swap)"]
    around = smallest_around(found, 1500 * 512)
    assert around is not None
    assert around.name == "disklabel b (swap)"
    assert smallest_around(found, 10) is None
    assert smallest_around(found, found[-1].end) is None


# -- nothing, or worse -------------------------------------------------------------------------------------------------


def test_what_lies_behind_the_end_is_left_out() -> None:
    disk = bytearray(MIB)
    disk[:512] = mbr([(0xA6, 64, 1 << 30), (0xA9, 1 << 20, 5)])
    assert places(read_in(disk)) == [("MBR 1 (OpenBSD)", 64 * 512, 512 << 30)]


def test_a_disk_that_cannot_be_read() -> None:
    def read(offset: int, n: int) -> bytes:
        raise KvmError("bad sector")

    assert partitions(read, MIB) == []


def test_a_disk_full_of_labels_is_bounded() -> None:
    label = disklabel([(i, 1, SWAP) for i in range(1, 65)], disk=1 << 30)
    disk = (label * 300).ljust(MIB, b"\0") + struct.pack("<I", 0x82564557) * (1 << 18)
    asked = []

    def read(offset: int, n: int) -> bytes:
        asked.append(n)
        return disk[offset : offset + n]

    assert len(partitions(read, 1 << 30)) == 64
    assert sum(asked) < 1 << 18


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_disk_makes_it_fail(data: st.DataObject) -> None:
    disk = bytearray(1 << 17)
    if data.draw(st.booleans()):
        put_gpt(disk, [(OPENBSD_GPT, 64, 100)])
    else:
        entry = st.tuples(st.sampled_from([5, 0xA6]), st.integers(0, 300), st.integers(0, 300))
        disk[:512] = mbr(data.draw(st.lists(entry, max_size=4)))
    label = disklabel([(2, 4, SWAP), (1 << 31, 9, FFS)], disk=1 << 16)
    at = data.draw(st.sampled_from([0, 512, 65 * 512]))
    disk[at : at + len(label)] = label
    for _ in range(data.draw(st.integers(0, 4))):
        disk[data.draw(st.integers(0, len(disk) - 1))] = data.draw(st.integers(0, 255))
    for p in read_in(disk, data.draw(st.sampled_from([1, 513, len(disk), 1 << 50]))):
        assert p.size > 0
        assert p.name.isprintable()
