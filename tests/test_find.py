"""Where is the dump: on a whole disk, with older dumps beside it, without its header, among thousands of others."""

import contextlib
import random
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

import kvmlib
from kvmlib.candidates import Candidate, _Cover, rank
from kvmlib.identify import Reading, find_banner
from kvmlib.image import Image, open_image
from kvmlib.kcore import Abi, Headers, RamSeg, build_device, build_ram_segs
from kvmlib.ports import MACHINES
from kvmlib.remains import survivors
from kvmlib.search import _midmags
from tests.diskimages import FFS, NETBSD_FFS, NETBSD_SWAP, SWAP, disklabel, mbr, put_gpt
from tests.samples import NAMES, sample_in

BLOCK, PAGE, MIB = 512, 4096, 1 << 20
#: First block of the swap partition on the disks made here.
SWAP_AT = 4096


@dataclass(frozen=True)
class Small:
    """A dump of one segment of memory, the page directory in its first page; openbsd/amd64 unless told."""

    pages: int
    built: str = "Mon Jan  1 00:00:00 UTC 2024"
    system: str = "OpenBSD"

    @property
    def device(self) -> bytes:
        cpu = struct.pack("<QQ", 0x10000, 1) + build_ram_segs([RamSeg(0x10000, self.pages * PAGE)], "little")
        banner = f"{self.system} 7.6 (GENERIC) #{self.pages}: {self.built}\n    a@b:/sys/arch/amd64/compile/GENERIC\n\0"
        memory = bytes(PAGE) + banner.encode().ljust(PAGE, b"\0")
        return build_device(Abi(157, "little", 7), cpu.ljust(504, b"\0")) + memory.ljust(self.pages * PAGE, b"\7")


def written(folder: Path, *parts: tuple[int, bytes], size: int = MIB) -> Path:
    """An image with each of these written to it in turn, at an offset that counts from the end if it is negative."""
    image = bytearray(size)
    for at, data in parts:
        at += size if at < 0 else 0
        image[at : at + len(data)] = data
    path = folder / "swap.img"
    path.write_bytes(image)
    return path


def at_end(dump: Small) -> tuple[int, bytes]:
    return -len(dump.device), dump.device


def reasons(c: Candidate) -> str:
    return "\n".join(c.reasons)


# -- whole disks -------------------------------------------------------------------------------------------------------


def with_label(swap: bytes, sector: int) -> bytes:
    """A disk with an MBR, OpenBSD's disklabel in its partition, and the swap partition; something behind it all."""
    start, blocks = SWAP_AT, len(swap) // sector
    disk = bytearray(start * sector) + swap + b"behind it".ljust(sector, b"\1") * 64
    disk[:512] = mbr([(0, 0, 0), (0, 0, 0), (0, 0, 0), (0xA6, 64, len(disk) // sector - 64)])
    label = disklabel([(64, start - 64, FFS), (start, blocks, SWAP)], sector=sector, disk=len(disk), wide=True)
    disk[65 * sector : 65 * sector + len(label)] = label
    return bytes(disk)


def with_gpt(swap: bytes, sector: int) -> bytes:
    disk = bytearray(SWAP_AT * sector) + swap + bytes(64 * sector)
    put_gpt(disk, [(NETBSD_FFS, 64, 1000), (NETBSD_SWAP, SWAP_AT, len(swap) // sector)], sector=sector)
    return bytes(disk)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("name", NAMES)
def test_a_dump_on_a_whole_disk(name: str, sector: int, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    alone = Path(sample.image).read_bytes()
    before = bytes(-len(alone) % sector)
    whole, partition = {
        "openbsd": (with_label, "disklabel b (swap)"),
        "netbsd": (with_gpt, "GPT 2 (netbsd-swap)"),
    }[sample.machine.os]
    path = tmp_path / "disk.img"
    path.write_bytes(whole(before + alone, sector))
    best = kvmlib.find(path)[0]
    assert (best.offset, best.partition) == (SWAP_AT * sector + len(before) + sample.dump_off, partition)
    assert best.machine == sample.machine
    assert best.length == len(alone) - sample.dump_off
    exactly = f"whole pages of memory follow it up to the end of {partition}"
    if sample.machine.ram is not None:
        exactly = f"headers and segments end exactly where {partition} does"
    assert exactly in best.reasons
    with kvmlib.open(path, system=sample.kernel) as kd:
        assert kvmlib.summary(kd).panic == sample.panic


def test_an_image_without_tables_has_no_partition(tmp_path: Path) -> None:
    assert {c.partition for c in kvmlib.find(sample_in(tmp_path, "openbsd/amd64").image)} == {""}


def test_a_dump_that_would_leave_its_partition(tmp_path: Path) -> None:
    """The kernel never writes behind the end."""
    disk = with_label(bytes(64 * BLOCK) + Small(20).device[: -2 * PAGE], BLOCK)
    path = tmp_path / "disk.img"
    path.write_bytes(disk)
    best = kvmlib.find(path)[0]
    assert f"it would end {2 * PAGE} bytes behind the end of disklabel b (swap)" in best.reasons
    whole = tmp_path / "whole.img"
    whole.write_bytes(with_label(bytes(64 * BLOCK) + Small(20).device, BLOCK))
    assert (best.score, kvmlib.find(whole)[0].score) == (80, 100)


def test_block_8_of_a_partition(tmp_path: Path) -> None:
    swap = bytes(8 * BLOCK) + Small(20, system="NetBSD").device + bytes(100 * BLOCK)
    path = tmp_path / "disk.img"
    path.write_bytes(with_gpt(swap, BLOCK))
    best = kvmlib.find(path)[0]
    assert best.machine.name == "netbsd/amd64"
    assert "at block 8 of GPT 2 (netbsd-swap), where NetBSD puts a dump that does not fit" in best.reasons


@pytest.mark.parametrize(("spare", "fits"), [(7 * PAGE, True), (7 * PAGE + BLOCK, False)])
def test_a_sparse_dump_begins_where_a_full_one_would(spare: int, fits: bool, tmp_path: Path) -> None:
    swap = bytes(64 * BLOCK) + Small(20, system="NetBSD").device + bytes(spare)
    path = tmp_path / "disk.img"
    path.write_bytes(with_gpt(swap, BLOCK))
    said = f"a dump of {20 * PAGE + spare} bytes of memory would end exactly where GPT 2 (netbsd-swap) does"
    assert any(said in r for r in kvmlib.find(path)[0].reasons) == fits


def test_the_command_prints_the_partition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kvmlib.__main__ import main

    path = tmp_path / "disk.img"
    path.write_bytes(with_gpt(bytes(64 * BLOCK) + Small(20, system="NetBSD").device, BLOCK))
    assert main(["find", str(path)]) == 0
    assert "\n    in GPT 2 (netbsd-swap)\n" in capsys.readouterr().out
    assert main(["find", str(path), "--json"]) == 0
    assert '"partition": "GPT 2 (netbsd-swap)"' in capsys.readouterr().out


# -- generations -------------------------------------------------------------------------------------------------------


def test_a_newer_dump_overwrote_the_end_of_an_older_one(tmp_path: Path) -> None:
    """Both end where the partition does; memory became smaller."""
    old, new = Small(40), Small(10)
    path = written(tmp_path, at_end(old), at_end(new))
    newer, older = [c for c in kvmlib.find(path) if c.machine.name == "openbsd/amd64"]
    assert newer.offset == MIB - len(new.device)
    assert older.offset == MIB - len(old.device)
    assert f"newer than the dump at {older.offset:#x}, whose end it overwrote" in newer.reasons
    assert f"its memory from {newer.offset:#x} on was overwritten by the dump there, which is the newer one" in (
        older.reasons
    )
    assert (newer.overwritten, older.overwritten) == (None, newer.offset)
    assert older.score >= 60
    with kvmlib.open(path) as kd:
        assert kd.reading is not None
        assert kd.reading.headers.offset == newer.offset


def test_a_newer_dump_that_is_larger_leaves_nothing_of_the_older_header(tmp_path: Path) -> None:
    path = written(tmp_path, at_end(Small(10)), at_end(Small(40)))
    assert {c.offset for c in kvmlib.find(path)} == {MIB - len(Small(40).device)}


@pytest.mark.parametrize("same", [True, False])
def test_a_header_in_memory_is_a_copy_or_a_leftover(same: bool, tmp_path: Path) -> None:
    """In a buffer memory is page-aligned, so what is in one can't end where the partition does."""
    dump, old = Small(40), Small(40 if same else 9)
    inside = MIB - len(dump.device) + BLOCK + 20 * PAGE
    path = written(tmp_path, at_end(dump), (inside, old.device[:BLOCK]))
    best, *others = kvmlib.find(path)
    assert (best.offset, best.overwritten) == (MIB - len(dump.device), None)
    stale = [c for c in others if c.offset == inside]
    assert stale
    for c in stale:
        assert c.score <= best.score - 40
        assert any("so it is a copy or a leftover" in r for r in c.reasons)


@pytest.mark.parametrize("swapped", [False, True])
def test_side_by_side_the_kernels_dates_tell(swapped: bool, tmp_path: Path) -> None:
    dumps = [Small(12, "Mon Jan  1 00:00:00 UTC 2024"), Small(10, "Sat Mar  1 09:30:00 MST 2025")]
    first, second = reversed(dumps) if swapped else dumps
    path = written(tmp_path, (64 * BLOCK, first.device), (640 * BLOCK, second.device))
    places = {first: 64 * BLOCK, second: 640 * BLOCK}
    new, old = (c for c in kvmlib.find(path) if c.machine.name == "openbsd/amd64")
    assert [old.offset, new.offset] == [places[d] for d in dumps]
    assert f"its kernel was built later than that of the dump at {old.offset:#x}" in reasons(new)
    assert f"its kernel was built before that of the dump at {new.offset:#x}" in reasons(old)


def test_side_by_side_where_nothing_tells(tmp_path: Path) -> None:
    path = written(tmp_path, (64 * BLOCK, Small(10).device), at_end(Small(12)))
    for c in [c for c in kvmlib.find(path) if c.machine.name == "openbsd/amd64"]:
        assert "nothing here says which is newer" in reasons(c)


# -- thousands of headers ----------------------------------------------------------------------------------------------


def _ranked(
    ranges: list[tuple[int, int, int]], *, segments: bool = True, cpu_data: bytes = bytes(504)
) -> list[Candidate]:
    """Rank headers with (offset, length, score)."""
    m = kvmlib.machine("openbsd/amd64")
    found = []
    for offset, length, score in ranges:
        headers = Headers("device", offset, m.abi.kcore_hdr(), cpu_data, offset + 8, offset + 512, None)
        reading = Reading(m, headers, [RamSeg(0, length)] if segments else None, score, ())
        found.append((Candidate(offset, m, score, (), length, "device"), reading))
    return rank(found)


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(60, 70)), max_size=14, unique_by=lambda r: r[0]
    )
)
def test_ranking_is_as_comparing_each_with_each(ranges: list[tuple[int, int, int]]) -> None:
    outer: list[tuple[int, int, int]] = []
    expected = {}
    for offset, length, score in sorted(ranges, key=lambda r: (-r[2], -r[1], r[0])):
        around = next((o for o in outer if o[0] < offset < o[0] + o[1]), None)
        expected[offset] = score if around is None else score - 50
        if around is None:
            outer.append((offset, length, score))
    assert {c.offset: c.score for c in _ranked(ranges)} == expected


def test_a_header_without_segments_that_fits_inside_a_proven_dump() -> None:
    m = kvmlib.machine("openbsd/arm64")
    found = []
    for offset, length, score, segments in ((0, 1 << 20, 90, [RamSeg(0, 1 << 20)]), (4096, 8192, 45, None)):
        headers = Headers("device", offset, m.abi.kcore_hdr(), bytes([score]) * 504, offset + 8, offset + 512, None)
        found.append((Candidate(offset, m, score, (), length, "device"), Reading(m, headers, segments, score, ())))
    older, newer = sorted(rank(found, {4096}), key=lambda c: c.offset)
    assert (older.offset, older.score) == (0, 90)
    assert (newer.offset, newer.score) == (4096, 45), "it may be a newer dump's"


@pytest.mark.parametrize("shape", ["apart", "nested", "stairs", "same"])
def test_ranking_10000_headers_takes_no_time(shape: str) -> None:
    n = 10000
    ranges = {
        "apart": [(i * 10, 5, 70) for i in range(n)],
        "nested": [(i, 3 * n - 2 * i, 70) for i in range(n)],
        "stairs": [(n - i, 2 * n - i, 70) for i in range(n)],
        "same": [(i, 10 * n, 70) for i in range(n)],
    }[shape]
    for segments in (True, False):
        begin = time.perf_counter()
        assert len(_ranked(ranges, segments=segments)) == n
        assert time.perf_counter() - begin < 2


def test_the_first_of_overlapping_ranges_owns_a_place() -> None:
    cover = _Cover()
    m = kvmlib.machine("openbsd/amd64")
    headers = Headers("device", 0, m.abi.kcore_hdr(), b"", 8, 512, None)
    owners = [(Candidate(i, m, 0, (), 0, "device"), Reading(m, headers, None, 0, ())) for i in range(3)]
    for owner, (low, high) in zip(owners, ((10, 20), (30, 40), (5, 50)), strict=True):
        cover.add(low, high, owner)
    at = [None if (found := cover.at(place)) is None else found[0].offset for place in (4, 5, 10, 20, 30, 40, 49, 50)]
    assert at == [None, 2, 0, 2, 1, 2, 2, None]


def test_10000_headers_in_an_image(tmp_path: Path) -> None:
    header = Small(3).device[:BLOCK]
    image = tmp_path / "many.img"
    with open(image, "wb") as f:
        f.writelines(
            header[:16] + struct.pack("<QQQ", 1, 0x10000, (i % 50 + 1) * PAGE) + header[40:] for i in range(10000)
        )
    begin = time.perf_counter()
    found = kvmlib.find(image)
    assert len({c.offset for c in found}) == 10000
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize("name", ["netbsd/mipsel", "netbsd/vax", "openbsd/i386"])
def test_memory_is_looked_at_for_few_headers_only(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each header could claim all of a large image: some machines are told apart by looking at it piece by piece."""
    sample = kvmlib.make_sample(name, tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert kd.dump_off is not None
        header = bytes(kd.image.read(sample.dump_off, kd.dump_off - sample.dump_off))
    looked: list[int] = []

    def evidence(read: object, ram: object) -> str:
        looked.append(1)
        return ""

    for m in (form for known in MACHINES for form in (known, *known.forms)):
        if m.evidence is not None:
            monkeypatch.setitem(m.__dict__, "evidence", evidence)
    path = tmp_path / "many.img"
    path.write_bytes(header.ljust(BLOCK, b"\0") * 200 + bytes(1 << 20))
    monkeypatch.setattr("kvmlib.search._MOST_PROVEN", 3)
    assert len({c.offset for c in kvmlib.find(path)}) == 200
    assert 3 <= len(looked) <= 3 * 2


def test_large_headers_are_not_read_without_end(tmp_path: Path) -> None:
    """Each claims that all the rest of the image is its own header."""
    image = bytearray(8 * MIB)
    for at in range(0, 4 * MIB, PAGE):
        image[at : at + 24] = bytes((4, 157, 0x8F, 0xCA)) + struct.pack("<IQQ", len(image) - at - 8, 0x10000, 1)
    path = tmp_path / "large.img"
    path.write_bytes(image)
    assert 0 < len({c.offset for c in kvmlib.find(path)}) < 10


class Plain(Image):
    """An image that only reads, as a device's does, and counts."""

    kind = "device"

    def __init__(self, data: bytes) -> None:
        super().__init__("plain", -1, len(data), False)
        self.data, self.asked = data, 0

    def read(self, offset: int, n: int) -> bytes:
        data = self.data[offset : offset + n]
        self.asked += len(data)
        return data


def test_a_device_is_read_once() -> None:
    data = bytearray(random.Random(2).randbytes(9 * MIB))
    places = (0, 4 * MIB - BLOCK, 4 * MIB, len(data) - BLOCK)
    for at in places:
        data[at : at + 4] = bytes((4, 157, 0x8F, 0xCA))
    data[MIB + 4 : MIB + 8] = bytes((4, 157, 0x8F, 0xCA))
    image = Plain(bytes(data))
    assert tuple(_midmags(image)) == places
    assert image.asked < len(data) + 4096


def test_both_ways_of_looking_agree(tmp_path: Path) -> None:
    data = bytearray(MIB + 100)
    places = (0, 5 * BLOCK, MIB)
    for at in (*places, 77, 3 * BLOCK + 4):
        data[at : at + 4] = bytes((4, 157, 0x8F, 0xCA))
    path = tmp_path / "swap.img"
    path.write_bytes(data)
    mapped = open_image(path)
    assert tuple(_midmags(mapped)) == tuple(_midmags(Plain(bytes(data)))) == places
    mapped.close()


# -- banners, and what survives ----------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 400), max_size=3),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=6),
)
@example([103], [(0, 104), (50, 200)])
@example([3, 300], [(0, 500), (2, 500), (3, 5), (4, 500)])
def test_banners_are_found_in_whatever_order_one_asks(places: list[int], ranges: list[tuple[int, int]]) -> None:
    banner, step = b"OpenBSD 7.6 (GENERIC) #1", 10
    data = bytearray(step * 500)
    for at in places:
        data[at * step : at * step + len(banner)] = banner
    image = Plain(bytes(data))
    for start, stop in ranges:
        at = data.find(banner, start * step, stop * step)
        assert find_banner(image, start * step, stop * step) == (None if at < 0 else (at, banner))


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/amd64", "openbsd/i386", "openbsd/sparc64", "netbsd/powerpc"])
def test_what_survives_without_the_first_block(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    data = bytearray(Path(sample.image).read_bytes())
    data = data.replace(data[sample.dump_off : sample.dump_off + 4], b"....")
    data[sample.dump_off : sample.data_off] = random.Random(1).randbytes(sample.data_off - sample.dump_off)
    path = tmp_path / "damaged.img"
    path.write_bytes(data)
    banner = data.index(sample.version.split(":")[0].encode())
    with pytest.raises(kvmlib.FormatError, match="what survives: a kernel's version") as caught:
        kvmlib.open(path)
    assert f'"{sample.version.split(":")[0]}" at {banner:#x}' in str(caught.value)
    msgbuf = next(s.value for s in sample.symbols if s.name == "msgbufp")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        pointer = int.from_bytes(kd.read(msgbuf, sample.machine.long_bytes), sample.machine.byteorder)
        at = kd.pa2off(kd.kvatop(pointer)[0])
    assert re.search(rf"a message buffer at [^;]*\b{at:#x}", str(caught.value))
    assert "memory's pages begin" in str(caught.value)
    assert "a boot-loaded symbol table at" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_survives_in_noise() -> None:
    assert survivors(Plain(random.Random(3).randbytes(MIB))) == []
    assert survivors(Plain(bytes(MIB))) == []


def test_hostile_remains_are_bounded() -> None:
    data = (b"\x61\x30\x06\0" * 4 + b"\x7fELF\1\1").ljust(32, b"\0") * (2 * MIB // 32)
    begin = time.perf_counter()
    for sentence in survivors(Plain(data)):
        assert len(sentence) < 300
    assert time.perf_counter() - begin < 5


def test_a_sparse_image_is_searched_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches that begin anywhere, near together and far apart."""
    path = tmp_path / "sparse.img"
    places = [0, 3 * MIB + 4096, 3 * MIB + 12288, 7 * MIB - 4096, 40 * MIB]
    with open(path, "wb") as f:
        for at in places:
            f.seek(at)
            f.write(Small(1).device[:512])
        f.truncate(64 * MIB)
    asked = []
    image = open_image(path)
    with contextlib.closing(image):
        readinto = image.readinto

        def noted(at: int, view: memoryview) -> int:
            asked.append(at)
            return readinto(at, view)

        monkeypatch.setattr(image, "readinto", noted)
        assert list(_midmags(image)) == places
        assert asked == sorted(set(asked))
        if path.stat().st_blocks * 512 < MIB:
            assert len(asked) < 8
