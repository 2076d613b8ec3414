"""Searches in physical memory, over every kind of image."""

import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.image import Image, open_image
from kvmlib.kcore import RamSeg
from kvmlib.memory import PhysicalMemory
from kvmlib.scan import Hit, hits, page_hits
from tests.samples import sample_in


class Plain(Image):
    """An image that knows only how to read, as a device's does."""

    def __init__(self, data: bytes) -> None:
        super().__init__("plain", -1, len(data), False)
        self.data = data

    def read(self, offset: int, n: int) -> bytes:
        return self.data[offset : offset + n]


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=3), st.integers(0, 300), st.integers(0, 320))
def test_find_is_bytes_find(data: bytes, needle: bytes, start: int, stop: int) -> None:
    assert Plain(data).find(needle, start, stop) == data.find(needle, start, stop)


def test_find_across_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kvmlib.image._PIECE", 16)
    data = b"." * 15 + b"needle" + b"." * 50 + b"needle"
    assert Plain(data).find(b"needle", 0, 200) == 15
    assert Plain(data).find(b"needle", 16, 200) == 71
    assert Plain(data).find(b"needle", 16, 76) == -1
    assert Plain(data).sample(1, 70, 5) == data[1:70:5]
    path = tmp_path / "file"
    path.write_bytes(data)
    image = open_image(path)
    assert [image.find(b"needle", at, 200) for at in (0, 16)] == [15, 71]
    assert image.sample(1, 70, 5) == data[1:70:5]
    image.close()


@pytest.mark.parametrize("needle", [b"\x7fELF\x02", b"a0\x06", b"\x06\x30\x61", b"\0\0\0\0\0\x06", b"\0\0", b"name\0"])
def test_find_where_the_rarest_byte_is_everywhere(needle: bytes) -> None:
    rarest = next((bytes([b]) for b in (0x7F, 6) if b in needle), needle[:1])
    data = bytearray(rarest * 3000 + needle[1:] + needle[:-1] + b"." + rarest * 300)
    assert Plain(bytes(data)).find(needle, 0, 1 << 20) == data.find(needle)
    data[3500:3500] = b"." + needle
    assert Plain(bytes(data)).find(needle, 0, 1 << 20) == data.find(needle)
    assert Plain(bytes(data)).find(needle, 3501, 1 << 20) == data.find(needle, 3501)


def test_a_file_finds_nothing_behind_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"needle")
    with closing(open_image(path)) as image:
        for start in (5, 6, 7, 1 << 63, 1 << 64):
            assert image.find(b"needle", start, start + 100) == -1


def test_segments_that_lie_behind_the_end_of_the_file(tmp_path: Path) -> None:
    """Their offsets may be more than a system call takes; what comes before them is searched all the same."""
    sample = sample_in(tmp_path, "netbsd/amd64")
    Path(sample.kernel).unlink()
    second = sample.segments[1]
    header = bytearray(Path(sample.image).read_bytes()[sample.dump_off : sample.data_off])
    at = header.index(struct.pack("<QQ", *second))
    # The third one's offset is behind the second's end.
    struct.pack_into("<Q", header, at + 8, 1 << 63)
    with open(sample.image, "r+b") as f:
        f.seek(sample.dump_off)
        f.write(header)
    with kvmlib.open(sample.image, dump_off=sample.dump_off) as kd:
        behind = kd.memory.ram[2]
        assert (behind.present, behind.offset > 1 << 63) == (0, True)
        assert list(hits(kd.image, kd.memory, b"NetBSD ")) != []
        assert list(page_hits(kd.image, kd.memory, b"NetBSD ", 4096)) != []
        assert kvmlib.buffers(kd)


def test_hits_are_physical() -> None:
    # 16 bytes of header, then pa 0x1000-0x1040, then pa 0x100-0x120, which is cut off.
    data = b"xx" * 8 + b"..xx".ljust(64, b".") + b"xx..xx" + b"." * 10
    image = Plain(data)
    memory = PhysicalMemory(image, 16, [RamSeg(0x1000, 64), RamSeg(0x100, 32)])
    assert list(hits(image, memory, b"xx")) == [Hit(0x1002, 18), Hit(0x100, 80), Hit(0x104, 84)]
    assert list(hits(image, memory, b"xx", align=4)) == [Hit(0x100, 80), Hit(0x104, 84)]


def test_pages_that_begin_so() -> None:
    pages = [b"", b"magic", b"...magic", b"mag", b"magic!"]
    data = b"h" * 7 + b"".join(p.ljust(16, b".") for p in pages)
    image = Plain(data)
    memory = PhysicalMemory(image, 7, [RamSeg(0x20, 16 * 5)])
    assert [h.pa for h in page_hits(image, memory, b"magic", 16)] == [0x30, 0x60]
    shifted = PhysicalMemory(image, 7, [RamSeg(0x18, 16 * 5)])
    assert list(page_hits(image, shifted, b"magic", 16)) == []


def test_pages_that_begin_with_zeros() -> None:
    """A big-endian number does, as most pages of memory: its other bytes are looked for."""
    needle = bytes([0, 0, 0, 6, 0x30, 0x61])

    class Counting(Plain):
        reads = 0

        def read(self, offset: int, n: int) -> bytes:
            self.reads += 1
            return super().read(offset, n)

    image = Counting(bytes(64 * 1000) + needle.ljust(64, b"\0") + bytes(64 * 1000))
    memory = PhysicalMemory(image, 0, [RamSeg(0x1000, image.size)])
    assert list(page_hits(image, memory, needle, 64)) == [Hit(0x1000 + 64000, 64000)]
    assert image.reads < 10


def test_too_many_hits_end_the_search() -> None:
    image = Plain(bytes(10000))
    memory = PhysicalMemory(image, 0, [RamSeg(0, 10000)])
    assert len(list(hits(image, memory, b"\0"))) == 4096
    assert len(list(hits(image, memory, b"\0", align=4))) == 1024
    assert len(list(hits(image, memory, b"\0", most=5))) == 5
