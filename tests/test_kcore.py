"""The on-disk structures: what is built is what is parsed, and what can't be true isn't believed."""

import struct
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from kvmlib.errors import FormatError
from kvmlib.kcore import (
    CORE_CPU,
    KCORE_MAGIC,
    MOST_CPU_DATA,
    PHYS_RAM_SEG,
    Abi,
    MidMag,
    RamSeg,
    build_device,
    build_ram_segs,
    build_saved,
    parse_ram_segs,
    read_device,
    read_saved,
)

ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
abis = st.builds(Abi, st.integers(1, 0x3FF), st.sampled_from(ORDERS), st.sampled_from((3, 7, 15)))
cpu_data = st.binary(min_size=1, max_size=600)
u64 = st.integers(0, (1 << 64) - 1)


@given(abis, cpu_data, st.integers(0, 3))
def test_a_device_header_is_read_as_it_was_built(abi: Abi, data: bytes, block: int) -> None:
    image = bytes(512 * block) + build_device(abi, data)
    found = read_device(lambda at, n: image[at : at + n], len(image), 512 * block, abi, 1)
    assert (found.form, found.offset, found.cpu_data, found.data_off) == ("device", 512 * block, data, len(image))
    assert found.kcore_hdr == abi.kcore_hdr()


@given(abis, cpu_data, st.integers(0, 1 << 40))
def test_a_saved_header_is_read_as_it_was_built(abi: Abi, data: bytes, dumpsize: int) -> None:
    image = build_saved(abi, abi.kcore_hdr(), data, dumpsize)
    found = read_saved(lambda at, n: image[at : at + n], len(image), abi.order)
    assert (found.form, found.data_off, found.data_size) == ("savecore", len(image), dumpsize & 0xFFFFFFFF)
    assert found.cpu_data == data.ljust(abi.align(len(data)), b"\0")


@given(st.lists(st.builds(RamSeg, u64, u64), max_size=20), st.sampled_from(ORDERS))
def test_segments_are_those_of_the_structure(segments: list[RamSeg], order: Literal["little", "big"]) -> None:
    raw = build_ram_segs(segments, order)
    assert parse_ram_segs(raw, order, 0, len(segments), "n") == segments
    assert raw == b"".join(PHYS_RAM_SEG.build(s._asdict(), order) for s in segments)


@pytest.mark.parametrize("order", ORDERS)
def test_more_cpu_data_than_any_machine_has_is_not_believed(order: Literal["little", "big"]) -> None:
    """Nor read: a number in a damaged header must not cost minutes, however large the image is."""
    abi, size, asked = Abi(157, order, 7), 1 << 40, []
    letter = "<" if order == "little" else ">"
    midmag = MidMag(CORE_CPU, abi.mid, KCORE_MAGIC).value
    device = struct.pack(">I", midmag) + struct.pack(letter + "I", MOST_CPU_DATA + 8)
    saved = bytearray(build_saved(abi, abi.kcore_hdr(), bytes(64), 0))
    saved[20:24] = device[4:]

    def read(image: bytes, at: int, n: int) -> bytes:
        asked.append(n)
        return image[at : at + n]

    with pytest.raises(FormatError, match=f"c_size is {MOST_CPU_DATA + 8}, 24 to {MOST_CPU_DATA} bytes"):
        read_device(lambda at, n: read(device, at, n), size, 0, abi, 24)
    with pytest.raises(FormatError, match=f"has {MOST_CPU_DATA + 8} bytes, at most {MOST_CPU_DATA}"):
        read_saved(lambda at, n: read(bytes(saved), at, n), size, order)
    assert max(asked) <= 1024
