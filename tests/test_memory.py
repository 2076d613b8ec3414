"""Physical memory: by bisection it answers what a byte-by-byte model answers."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

import kvmlib
from kvmlib.image import Image
from kvmlib.kcore import RamSeg
from kvmlib.memory import PhysicalMemory, Span

TOP = 1 << 64


class Bytes(Image):
    """An image in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__("bytes", -1, len(data), False)
        self.data = data

    def read(self, offset: int, n: int) -> bytes:
        return self.data[offset : offset + n]


def image(size: int) -> Bytes:
    return Bytes(random.Random(size).randbytes(size))


class Model:
    """What a dump holds, a dictionary from each pa to its file offset; the first segment that has a pa keeps it."""

    def __init__(self, data_off: int, segments: Sequence[tuple[int, int]]) -> None:
        self.offsets: dict[int, int] = {}
        for start, size in segments:
            for i in range(size):
                if start + i < TOP:
                    self.offsets.setdefault(start + i, data_off + i)
            data_off += size
        self.end = data_off

    def kind(self, pa: int, size: int) -> str:
        offset = self.offsets.get(pa)
        return "not_in_dump" if offset is None else "present" if offset < size else "truncated"


# Few addresses, so that segments touch, overlap, repeat and hold one another; some at the very top.
segment = st.builds(RamSeg, st.one_of(st.integers(0, 60), st.integers(TOP - 20, TOP - 1)), st.integers(0, 25))
segments = st.lists(segment, max_size=8)


@settings(max_examples=50)
@given(segments, st.integers(0, 9), st.integers(0, 120))
def test_equals_the_model(segments: list[RamSeg], data_off: int, size: int) -> None:
    source = image(size)
    memory = PhysicalMemory(source, data_off, segments)
    model = Model(data_off, segments)
    assert memory.end == model.end
    assert [(s.start, s.size) for s in memory.segments] == segments, "as in the header"
    assert memory.missing == max(0, model.end - max(size, data_off))
    for pa in (*range(90), *range(TOP - 25, TOP + 5)):
        check_locate(memory, model, pa)
        for n in (0, 1, 40):
            check_read(memory, model, source, pa, n)
            check_spans(list(memory.spans(pa, n)), model, source, pa, n)
    at = {offset: pa for pa, offset in model.offsets.items() if offset < size}
    assert [memory.pa_at(offset) for offset in range(model.end + 2)] == [at.get(i) for i in range(model.end + 2)]


def check_locate(memory: PhysicalMemory, model: Model, pa: int) -> None:
    offset = model.offsets.get(pa)
    if offset is None:
        with pytest.raises(kvmlib.NotInDumpError) as e:
            memory.locate(pa, 7)
        assert e.value.pa == pa
        assert f"pa {pa:#x} is not in the dump" in str(e.value)
        assert e.value.size >= 1
        assert not any(pa <= known < pa + e.value.size for known in model.offsets), "the hole is one"
        return
    for n in (1, 2, 30):
        at, m = memory.locate(pa, n)
        assert at == offset
        assert 1 <= m <= n
        assert [model.offsets.get(pa + i) for i in range(m)] == list(range(offset, offset + m)), "m bytes lie together"


def check_read(memory: PhysicalMemory, model: Model, source: Bytes, pa: int, n: int) -> None:
    kinds = [model.kind(pa + i, source.size) for i in range(n)]
    first = next((i for i, kind in enumerate(kinds) if kind != "present"), None)
    if first is None:
        assert memory.read(pa, n) == b"".join(source.read(model.offsets[pa + i], 1) for i in range(n))
    elif kinds[first] == "truncated":
        with pytest.raises(kvmlib.TruncatedError) as t:
            memory.read(pa, n)
        assert (t.value.pa, t.value.offset) == (pa + first, model.offsets[pa + first])
        assert f"ends at {source.size:#x}" in str(t.value)
    else:
        with pytest.raises(kvmlib.NotInDumpError) as e:
            memory.read(pa, n)
        assert e.value.pa == pa + first


def check_spans(spans: list[Span], model: Model, source: Bytes, pa: int, n: int) -> None:
    assert sum(s.size for s in spans) == n
    at = pa
    for span in spans:
        assert span.va == span.pa == at
        assert span.size > 0
        assert {model.kind(at + i, source.size) for i in range(span.size)} == {span.kind}
        assert span.offset == model.offsets.get(at)
        if span.kind == "present":
            assert span.data == b"".join(source.read(model.offsets[at + i], 1) for i in range(span.size))
        else:
            assert span.data is None
        at += span.size
    for a, b in pairwise(spans):
        assert not a.kind == b.kind == "not_in_dump", "a hole is one span"


def test_overlap_first_in_the_header_wins() -> None:
    source = image(100)
    memory = PhysicalMemory(source, 10, [RamSeg(0x20, 16), RamSeg(0x18, 32), RamSeg(0x1C, 8)])
    assert memory.locate(0x20, 99) == (10, 16)
    assert memory.locate(0x18, 99) == (26, 8)
    assert memory.locate(0x30, 99) == (26 + 24, 8)
    assert memory.read(0x18, 32) == source.data[26:34] + source.data[10:26] + source.data[50:58]


def test_a_hole_over_the_top_is_one_span() -> None:
    memory = PhysicalMemory(image(10), 0, [RamSeg(0, 10)])
    assert [(s.kind, s.size) for s in memory.spans(TOP - 5, 1 << 40)] == [("not_in_dump", 1 << 40)]


def test_no_segments() -> None:
    memory = PhysicalMemory(image(10), 4, [])
    assert (memory.segments, memory.end, memory.missing) == ([], 4, 0)
    assert memory.read(5, 0) == b""
    with pytest.raises(kvmlib.NotInDumpError) as e:
        memory.read(5, 1)
    assert e.value.size == TOP - 5


def test_linear() -> None:
    source = image(50)
    memory = PhysicalMemory.linear(source, 10, 40)
    assert memory.read(5, 20) == source.data[15:35]
    assert memory.end == 50
    assert [(s.start, s.size, s.offset, s.present) for s in memory.segments] == [(0, 40, 10, 40)]
    with pytest.raises(kvmlib.NotInDumpError):
        memory.read(40, 1)


def test_linear_with_known_ranges() -> None:
    """Between the ranges that the kernel wrote the disk holds something else, which isn't memory."""
    source = image(50)
    memory = PhysicalMemory.linear(source, 10, 45, [RamSeg(2, 5), RamSeg(20, 25)])
    assert memory.read(2, 5) == source.data[12:17]
    assert memory.read(20, 20) == source.data[30:50]
    assert [(s.kind, s.va, s.size) for s in memory.spans(0, 50)] == [
        ("not_in_dump", 0, 2),
        ("present", 2, 5),
        ("not_in_dump", 7, 13),
        ("present", 20, 20),
        ("truncated", 40, 5),
        ("not_in_dump", 45, 5),
    ]
    assert (memory.end, memory.missing) == (55, 5)


def test_100_000_segments() -> None:
    """A sparse dump: each look-up compares few of them. The image is never read but for what is asked."""
    count = 100_000
    order = list(range(count))
    random.Random(5).shuffle(order)
    source = image(count * 16)
    memory = PhysicalMemory(source, 0, [RamSeg(i * 64 + 32, 16) for i in order])
    place = {i: n * 16 for n, i in enumerate(order)}
    for i in random.Random(6).sample(range(count), 500):
        assert memory.locate(i * 64 + 35, 100) == (place[i] + 3, 13)
        with pytest.raises(kvmlib.NotInDumpError) as e:
            memory.locate(i * 64 + 31, 1)
        assert e.value.size == 1
    looked: list[int] = []

    class Starts(list[int]):
        def __getitem__(self, i):  # type: ignore[no-untyped-def]
            looked.append(1)
            return super().__getitem__(i)

    memory._starts = Starts(memory._starts)  # type: ignore[assignment]
    for i in range(0, count, 1000):
        looked.clear()
        memory.locate(i * 64 + 35, 1)
        assert len(looked) <= 3, "bisection, where it must lie"


def test_offsets_of_a_damaged_header_may_be_larger_than_any_file() -> None:
    huge = (1 << 64) - 0x2000
    memory = PhysicalMemory(image(10), 512, [RamSeg(0x1000, huge), RamSeg(0, 0x1000)])
    assert memory.locate(0x10, 8) == (512 + huge + 0x10, 8)
    assert memory.locate(0x1000 + huge - 1, 8) == (512 + huge - 1, 1)
    with pytest.raises(kvmlib.TruncatedError) as e:
        memory.read(0x10, 8)
    assert e.value.offset == 512 + huge + 0x10


def test_100_000_overlapping_segments() -> None:
    """A hostile header: each segment overlaps the next hundred; cutting them must not take time squared."""
    count = 100_000
    memory = PhysicalMemory(image(16), 0, [RamSeg(i, 100) for i in range(count)])
    assert memory.locate(0, 1000) == (0, 100)
    # pa 150 is in segments 51 to 150; 51 comes first. Its byte 99.
    assert memory.locate(150, 1) == (51 * 100 + 99, 1)
    everywhere = PhysicalMemory(image(16), 0, [RamSeg(0, count - i) for i in range(count)])
    assert everywhere.locate(5, 1 << 30) == (5, count - 5)
