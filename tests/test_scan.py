"""Searches in physical memory, over every kind of image."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from kvmlib.image import Image, open_image
from kvmlib.kcore import RamSeg
from kvmlib.memory import PhysicalMemory
from kvmlib.scan import Hit, hits, page_hits


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


def test_too_many_hits_end_the_search() -> None:
    image = Plain(bytes(10000))
    memory = PhysicalMemory(image, 0, [RamSeg(0, 10000)])
    assert len(list(hits(image, memory, b"\0"))) == 4096
