"""The bytes of a dump, wherever they lie: what is there is given, what isn't there is never invented."""

import contextlib
import errno
import gzip
import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib import image as image_module
from kvmlib.image import Device, Image, open_image

DATA = bytes(range(256)) * 1025 + b"the end"


def put(folder: Path, data: bytes = DATA, name: str = "image") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def check_reads(image: Image, data: bytes) -> None:
    """Reads and bulk reads give what is there, shorter only at the end."""
    size = len(data)
    for offset in (0, 1, 511, 512, 4095, 65530, 65536, size - 3, size, size + 5, size + 100000):
        for n in (0, 1, 7, 512, 4096, 65536, 65537, 200000, size * 2):
            assert image.read(offset, n) == data[offset : offset + n]
            buffer = bytearray(b"\xa5" * n)
            wanted = data[offset : offset + n]
            assert image.readinto(offset, memoryview(buffer)) == len(wanted)
            assert buffer == wanted + b"\xa5" * (n - len(wanted)), "what isn't filled is left alone"
    assert image.read(-1, 10) == b""
    assert image.read(5, -3) == b""
    assert image.gather([(5, 3), (100, 0), (size - 2, 2), (0, 70000)]) == data[5:8] + data[-2:] + data[:70000]


# -- files -----------------------------------------------------------------------------------------------------------


def test_file(tmp_path: Path) -> None:
    image = open_image(put(tmp_path))
    assert (image.kind, image.size, image.writable) == ("file", len(DATA), False)
    check_reads(image, DATA)
    with pytest.raises(kvmlib.ReadOnlyError, match="opened for reading only"):
        image.write(0, b"x")
    image.close()
    image.close()
    assert Path(image.path).read_bytes() == DATA


def test_write_is_seen_at_once(tmp_path: Path) -> None:
    image = open_image(put(tmp_path), write=True)
    image.write(1000, b"changed")
    assert image.read(999, 9) == DATA[999:1000] + b"changed" + DATA[1007:1008]
    image.close()
    assert Path(image.path).read_bytes() == DATA[:1000] + b"changed" + DATA[1007:]


def test_write_that_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(put(tmp_path), write=True)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:2], offset))
    image.write(3, b"changed")
    image.close()
    assert Path(image.path).read_bytes() == DATA[:3] + b"changed" + DATA[10:]


def test_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(put(tmp_path), write=True)
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))
    with pytest.raises(kvmlib.KvmError, match=r"cannot write 1 bytes at 0x10 of .*: Input/output error"):
        image.write(16, b"x")
    # Raw devices have nothing to flush.
    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    image.write(16, b"y")
    assert image.read(16, 1) == b"y"
    image.close()


def fails(number: int) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def test_file_that_shrinks(tmp_path: Path) -> None:
    """Touching a mapping behind the end of its file would kill the process."""
    path = put(tmp_path)
    image = open_image(path)
    os.truncate(path, 100)
    with pytest.raises(kvmlib.KvmError, match=f"shrank from {len(DATA)} to 100 bytes"):
        image.read(len(DATA) - 10, 10)
    with pytest.raises(kvmlib.KvmError, match="shrank"):
        image.gather([(len(DATA) - 10, 10)])
    assert image.readinto(90, memoryview(bytearray(50))) == 10
    image.close()


def test_file_that_grows(tmp_path: Path) -> None:
    path = put(tmp_path)
    image = open_image(path)
    with path.open("ab") as f:
        f.write(b"more")
    check_reads(image, DATA)
    image.close()


def test_bulk_read_of_a_bad_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(put(tmp_path))
    monkeypatch.setattr(os, "preadv", fails(errno.EIO))
    with pytest.raises(kvmlib.KvmError, match=r"cannot read .* at 0x200: Input/output error"):
        image.readinto(512, memoryview(bytearray(10)))
    image.close()


def test_bulk_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(put(tmp_path))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:1000]], offset))
    check_reads(image, DATA)
    image.close()


# -- gzip ------------------------------------------------------------------------------------------------------------


def test_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(DATA)
    path = put(tmp_path, packed)
    image = open_image(path)
    assert (image.kind, image.size) == ("gzip", len(DATA))
    check_reads(image, DATA)
    image.close()
    writable = open_image(path, write=True)
    with pytest.raises(kvmlib.ReadOnlyError, match=r"is compressed: unpack it with gunzip\(1\)"):
        writable.write(0, b"x")
    writable.close()
    assert path.read_bytes() == packed
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_gzip_of_several_members_and_padding(tmp_path: Path) -> None:
    image = open_image(put(tmp_path, gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]) + bytes(512)))
    check_reads(image, DATA)
    image.close()


def damaged_gzip() -> dict[str, bytes]:
    packed = gzip.compress(DATA)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    return {
        "header only": packed[:4],
        "cut off": packed[: len(packed) // 2],
        "no checksum": packed[:-8],
        "wrong checksum": packed[:-8] + bytes(8),
        "flipped bits": bytes(flipped),
        "garbage behind it": packed + b"garbage",
        "unknown method": packed[:2] + b"\x07" + packed[3:],
    }


@pytest.mark.parametrize("what", damaged_gzip())
def test_damaged_gzip(what: str, tmp_path: Path) -> None:
    with pytest.raises(kvmlib.FormatError, match="is a damaged gzip file: ") as e:
        open_image(put(tmp_path, damaged_gzip()[what]))
    assert "\n" not in str(e.value)


def test_empty_gzip(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.FormatError, match="nothing but an empty gzip stream"):
        open_image(put(tmp_path, gzip.compress(b"")))


def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_copy", fails(errno.ENOSPC))
    with pytest.raises(kvmlib.KvmError, match=r"cannot unpack .*: No space left on device"):
        open_image(put(tmp_path, gzip.compress(DATA)))


@pytest.mark.parametrize(
    ("begin", "program"),
    [
        (b"\xfd7zXZ\x00", "xz(1)"),
        (b"BZh91AY", "bzip2(1)"),
    ],
)
def test_other_compressions_are_named(begin: bytes, program: str, tmp_path: Path) -> None:
    with pytest.raises(kvmlib.FormatError) as e:
        open_image(put(tmp_path, begin + bytes(100)))
    assert f"packed with {program}" in str(e.value)


# -- what isn't a dump at all ----------------------------------------------------------------------------------------


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.FormatError, match="is empty: a dump was expected"):
        open_image(put(tmp_path, b""))


@pytest.mark.parametrize("write", [False, True])
def test_directory(write: bool, tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match="directory"):
        open_image(tmp_path, write)


@pytest.mark.parametrize("write", [False, True])
def test_fifo_does_not_hang(write: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(kvmlib.KvmError, match="a dump needs random access"):
        open_image(tmp_path / "fifo", write)


def test_names_that_cannot_be_opened(tmp_path: Path) -> None:
    for name, words in (("absent", "No such file"), ("a\0b", "null byte"), ("x" * 5000, "too long")):
        with pytest.raises(kvmlib.KvmError, match=f"cannot open .*{words}"):
            open_image(tmp_path / name)
    with pytest.raises(kvmlib.KvmError) as e:
        open_image(tmp_path / "\x1b[31mred")
    assert str(e.value).isprintable()


def test_null_device_has_no_contents() -> None:
    with pytest.raises(kvmlib.KvmError, match="nothing can be read from it"):
        open_image(os.devnull)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
def test_device_without_an_end() -> None:
    with pytest.raises(kvmlib.KvmError, match="has no end"):
        open_image("/dev/zero")


PERMISSION = """
    import os, sys
    import kvmlib
    from kvmlib.image import open_image
    if os.geteuid() == 0:
        os.seteuid(65534)
    for write in (False, True):
        try:
            open_image(sys.argv[1], write)
        except kvmlib.KvmError as e:
            print(type(e).__name__, e)
"""


def test_permission(tmp_path: Path) -> None:
    path = put(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if os.geteuid() == 0 and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)  # pytest's own folders, which nobody else may enter
    path.chmod(0)
    root = str(Path(kvmlib.__file__).parent.parent)
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PERMISSION), str(path)],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert out == [
        f"KvmError cannot open {path}: Permission denied",
        f"ReadOnlyError cannot open {path} for writing: Permission denied",
    ]


def test_descriptors_are_closed(tmp_path: Path) -> None:
    files = [
        put(tmp_path, b"", "empty"),
        put(tmp_path, damaged_gzip()["cut off"], "cut"),
        put(tmp_path, b"BZh91AY", "bz2"),
        put(tmp_path, gzip.compress(DATA), "gz"),
        put(tmp_path, DATA, "plain"),
    ]
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        for path in files:
            with contextlib.suppress(kvmlib.KvmError):
                open_image(path).close()
    assert len(list(Path("/dev/fd").iterdir())) == before


# -- devices ---------------------------------------------------------------------------------------------------------

SECTORS = (512, 4096)
#: Whole sectors of 4096 bytes, more than one block of the cache, not a whole number of blocks.
DISK = hashlib.shake_128(b"disk").digest(4096 * 53)


class Raw:
    """A raw device made of a file: EINVAL for all but whole sectors and behind the end; some sectors can't be read."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, sector: int, bad: Sequence[int] = (), seeks: bool = True
    ) -> None:
        self.sector, self.bad, self.reads, self.writes = sector, bad, 0, list[tuple[int, int]]()
        self._preadv, self._pwritev, lseek = os.preadv, os.pwritev, os.lseek
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(os, "pwritev", self.pwritev)
        monkeypatch.setattr(os, "lseek", lambda fd, at, how: lseek(fd, at, how) if seeks else 0)

    def check(self, fd: int, view: Any, offset: int) -> None:
        # Only page-aligned memory will do: a mapping is, a bytes object isn't.
        base = view.obj if isinstance(view, memoryview) else view
        if not isinstance(base, mmap.mmap) or len(view) % self.sector or offset % self.sector:
            raise OSError(errno.EINVAL, "Invalid argument")

    def preadv(self, fd: int, views: Sequence[Any], offset: int) -> int:
        (view,) = views
        self.check(fd, view, offset)
        self.reads += 1
        size = os.fstat(fd).st_size
        if offset > size:
            raise OSError(errno.EINVAL, "Invalid argument")
        for sector in self.bad:
            if offset < (sector + 1) * self.sector and sector * self.sector < min(offset + len(view), size):
                raise OSError(errno.EIO, "Input/output error")
        return self._preadv(fd, views, offset)

    def pwritev(self, fd: int, views: Sequence[Any], offset: int) -> int:
        (view,) = views
        self.check(fd, view, offset)
        self.writes.append((offset, len(view)))
        return self._pwritev(fd, views, offset)


def device(path: Path, size: int | None = None, write: bool = False) -> Device:
    return Device(str(path), os.open(path, os.O_RDWR if write else os.O_RDONLY), size, write)


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("seeks", [True, False])
def test_raw_device(sector: int, seeks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(monkeypatch, sector, seeks=seeks)
    image = device(put(tmp_path, DISK))
    assert (image.kind, image.sector, image.size) == ("device", sector, len(DISK))
    check_reads(image, DISK)
    raw.reads = 0
    for _ in range(10):
        assert image.read(12345, 100) == DISK[12345:12445]
    assert raw.reads <= 1, "small reads come from the blocks that are kept"
    image.close()


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 1023, 1024, 1025])
def test_size_by_bisection(count: int, sector: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, b"")
    os.truncate(path, count * sector)
    Raw(monkeypatch, sector, seeks=False)
    image = device(path)
    assert image.size == count * sector
    image.close()


def test_bisection_steps_over_bad_sectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, b"")
    os.truncate(path, 1000 * 512)
    Raw(monkeypatch, 512, bad=(0, 64, 128, 512, 750), seeks=False)
    image = device(path)
    assert image.size == 1000 * 512
    image.close()


def test_device_of_no_size(tmp_path: Path) -> None:
    image = device(put(tmp_path, b""))
    assert image.size == 0
    assert image.read(0, 10) == b""
    image.close()


@pytest.mark.parametrize("sector", SECTORS)
def test_bad_sector_takes_only_itself_away(sector: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Raw(monkeypatch, sector, bad=(0, 5))
    image = device(put(tmp_path, DISK))
    assert image.sector == sector
    for offset in (sector * 5 - 1, sector * 6, len(DISK) - 5):
        assert image.read(offset, 1) == DISK[offset : offset + 1]
    assert image.read(sector, sector * 4) == DISK[sector : sector * 5]
    assert image.read(sector * 6, 100000) == DISK[sector * 6 : sector * 6 + 100000]
    for offset, n in ((sector * 5, 1), (sector * 6 - 1, 1), (sector * 5 - 1, 2), (sector, 200000)):
        with pytest.raises(kvmlib.KvmError, match=r"cannot read .* at 0x[0-9a-f]+: Input/output error"):
            image.read(offset, n)
        with pytest.raises(kvmlib.KvmError, match="Input/output error"):
            image.readinto(offset, memoryview(bytearray(n)))
    image.close()


def test_sector_size_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Raw(monkeypatch, 8192)
    with pytest.raises(kvmlib.KvmError, match="in sectors of 512 or 4096 bytes"):
        device(put(tmp_path, DISK))


def test_device_that_cannot_be_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", fails(errno.EPERM))
    with pytest.raises(kvmlib.KvmError, match=r"cannot read .*: Operation not permitted"):
        device(put(tmp_path, DISK))


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize("offset", [0, 3, 510, 4094, 65534, len(DISK) - 4])
def test_write_reads_modifies_writes(offset: int, sector: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(monkeypatch, sector)
    path = put(tmp_path, DISK)
    image = device(path, write=True)
    assert image.read(offset, 4) == DISK[offset : offset + 4]
    image.write(offset, b"new!")
    assert image.read(offset, 4) == b"new!", "what was kept is forgotten"
    image.close()
    assert path.read_bytes() == DISK[:offset] + b"new!" + DISK[offset + 4 :]
    first = offset // sector * sector
    assert raw.writes == [(first, -(-(offset + 4) // sector) * sector - first)]


def test_write_behind_the_end_of_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Raw(monkeypatch, 512)
    path = put(tmp_path, DISK)
    image = device(path, write=True)
    with pytest.raises(kvmlib.KvmError, match="cannot write"):
        image.write(len(DISK) - 2, b"new!")
    image.close()
    assert path.read_bytes() == DISK


def test_write_into_a_bad_sector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(monkeypatch, 512, bad=(3,))
    image = device(put(tmp_path, DISK), write=True)
    with pytest.raises(kvmlib.KvmError, match="Input/output error"):
        image.write(3 * 512 + 10, b"new!")
    assert not raw.writes, "a sector that can't be read isn't written either"
    image.close()


def test_write_to_a_device_opened_for_reading(tmp_path: Path) -> None:
    image = device(put(tmp_path, DISK))
    with pytest.raises(kvmlib.ReadOnlyError):
        image.write(0, b"new!")
    image.close()


def test_few_blocks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "BLOCK", 4096)
    monkeypatch.setattr(Device, "KEPT", 3)
    raw = Raw(monkeypatch, 512)
    image = device(put(tmp_path, DISK))

    def reads(block: int) -> int:
        before = raw.reads
        assert image.read(block * 4096 + 7, 9) == DISK[block * 4096 + 7 : block * 4096 + 16]
        return raw.reads - before

    assert [reads(b) for b in (0, 1, 2, 0, 1, 2)] == [1, 1, 1, 0, 0, 0]
    reads(0)
    assert reads(9) == 1
    assert [reads(b) for b in (0, 2, 9)] == [0, 0, 0], "the one used least recently went"
    assert reads(1) == 1
    image.close()


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no O_DIRECT here")
def test_o_direct_on_a_real_file_system(tmp_path: Path) -> None:
    path = put(tmp_path, DISK)
    try:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    image = Device(str(path), fd, None, True)
    assert image.size == len(DISK)
    check_reads(image, DISK)
    image.write(70001, b"new!")
    assert image.read(70000, 6) == DISK[70000:70001] + b"new!" + DISK[70005:70006]
    image.close()
    assert path.read_bytes() == DISK[:70001] + b"new!" + DISK[70005:]


@given(
    st.sampled_from(SECTORS),
    st.lists(st.tuples(st.integers(0, len(DISK) + 100), st.integers(0, 150000)), max_size=20),
)
def test_device_reads_what_is_there(sector: int, reads: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        Raw(monkeypatch, sector)
        image = device(put(Path(folder), DISK))
        for offset, n in reads:
            assert image.read(offset, n) == DISK[offset : offset + n]
        image.close()


@pytest.mark.parametrize("sector", SECTORS)
def test_bad_sectors_end_no_search(sector: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(monkeypatch, sector, bad=(2, 5))
    image = device(put(tmp_path, DISK))
    bad, known = Device.BLOCK, bytes(Device.BLOCK) + DISK[Device.BLOCK :]
    for at in (bad, 100_000, len(DISK) - 16):
        assert image.find(DISK[at : at + 16], 0, image.size) == at
    assert image.find(DISK[100:116], 0, image.size) == -1
    assert image.sample(0, image.size, 512) == known[::512]
    assert raw.reads < 60, "a disk may take seconds for each sector that is bad"
    image.close()
