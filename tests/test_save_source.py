"""Saving from a medium that is bad: what is tried again, what becomes a hole, and what is never invented."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import commands, copying, image, savecore
from kvmlib.__main__ import main
from kvmlib.image import Device
from kvmlib.savecore import save
from tests.dumps import Dump
from tests.test_savecore import Os

SECTOR = 512

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells by /proc which file is read")


@pytest.fixture(params=["file", "device"])
def kd(request: pytest.FixtureRequest, dump: Dump, tmp_path: Path) -> Iterator[kvmlib.Kvm]:
    with dump.open(tmp_path) as kd:
        if request.param == "device":
            kd.image.close()
            fd = os.open(kd.path, os.O_RDONLY)
            # A disk consists of whole sectors.
            kd.image = Device(kd.path, fd, os.fstat(fd).st_size // SECTOR * SECTOR, False)
        yield kd


class Disk:
    """Stands for preadv(2) on a disk with bad sectors; each gets well after so many tries."""

    def __init__(self, bad: Sequence[int], tries: int = 1 << 30, number: int = errno.EIO) -> None:
        self.left = dict.fromkeys(bad, tries)
        self.number = number
        self.reads: list[tuple[int, int]] = []

    def preadv(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        n = len(views[0])
        if Path(f"/proc/self/fd/{fd}").readlink().name != "dump.img":
            return os.preadv(fd, views, offset)
        self.reads.append((offset, n))
        bad = [s for s in range(offset // SECTOR, -(-(offset + n) // SECTOR)) if self.left.get(s, 0) > 0]
        for sector in bad:
            self.left[sector] -= 1
        if bad:
            raise OSError(self.number, os.strerror(self.number))
        return os.preadv(fd, views, offset)


def plug_in(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    monkeypatch.setattr(image, "os", Os(preadv=disk.preadv))


def expected(dump: Dump, bad: Sequence[int]) -> bytes:
    """The core with zeros where the sectors are bad."""
    memory = bytearray(dump.memory)
    first = dump.dump_off + SECTOR
    for sector in bad:
        start, end = (min(max(at - first, 0), len(memory)) for at in (sector * SECTOR, (sector + 1) * SECTOR))
        memory[start:end] = bytes(end - start)
    return dump.saved_header + bytes(memory)


def runs(bad: Sequence[int]) -> list[tuple[int, int]]:
    """(offset, bytes) of neighbours taken together."""
    found: list[tuple[int, int]] = []
    for sector in sorted(bad):
        if found and sum(found[-1]) == sector * SECTOR:
            found[-1] = found[-1][0], found[-1][1] + SECTOR
        else:
            found.append((sector * SECTOR, SECTOR))
    return found


#: The dump's memory is in the sectors 5 to 180; its pieces of 8192 bytes begin inside of sectors.
BAD = [[5], [40], [5, 6, 7], [20, 22, 24, 25, 90], [180], list(range(30, 60)), list(range(5, 181))]


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("compress", [False, True])
def test_what_cannot_be_read_becomes_holes_if_asked(
    bad: list[int], compress: bool, dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", 8192)
    plug_in(monkeypatch, Disk(bad))
    done = save(kd, crash, force=True, salvage=True, verify=True, compress=compress)
    with kvmlib.open(done.core, machine="openbsd/amd64") as saved:
        assert saved.image.read(0, 1 << 20) == expected(dump, bad)
    header = len(dump.saved_header)
    assert [(h.offset, h.size) for h in done.holes] == runs(bad)
    assert all(h.core_offset == header + h.offset - dump.dump_off - SECTOR for h in done.holes)
    told = json.loads(Path(f"{done.info}.json").read_text())
    assert told["holes"] == [h._asdict() for h in done.holes]
    text = Path(done.info).read_text()
    assert text.count("  Hole: ") == len(done.holes)
    assert f"Dump status: not whole: {SECTOR * len(bad)} bytes could not be read, zeros stand for them\n" in text


def test_refused_unless_salvage_is_said(kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, disk := Disk([40]))
    with pytest.raises(kvmlib.KvmError, match=r"cannot read .* at 0x5000: .*tried again 2 times.*--salvage"):
        save(kd, crash, force=True)
    assert not list(crash.iterdir())
    # The sector by itself, or on a device in its block of 64 KiB too, and not much else.
    assert 3 <= sum(offset == 40 * SECTOR for offset, _ in disk.reads) <= 12
    assert len(disk.reads) < 80


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_block_that_is_read_after_all(
    tries: int, dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, Disk([40, 41], tries))
    done = save(kd, crash, verify=True)
    assert Path(done.core).read_bytes() == dump.saved
    assert done.holes == ()


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENXIO, errno.EPERM])
def test_an_error_that_is_no_bad_block_is_no_hole(
    number: int, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, Disk([40], number=number))
    with pytest.raises(kvmlib.KvmError, match=os.strerror(number)):
        save(kd, crash, salvage=True, force=True)
    assert not list(crash.iterdir())


def test_a_hole_stays_one_although_the_block_can_be_read_later(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, disk := Disk([40, 50, 51, 90]))

    def compared(*args: Any) -> int | None:
        disk.left.clear()
        return copying.difference(*args)

    monkeypatch.setattr(savecore, "difference", compared)
    monkeypatch.setattr(copying, "_PIECE", 8192)
    done = save(kd, crash, force=True, salvage=True, verify=True)
    assert not disk.left
    assert Path(done.core).read_bytes() == expected(dump, [40, 50, 51, 90])
    assert len(done.holes) == 3


def test_a_kernel_file_with_a_bad_block(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preadv(fd: int, views: Sequence[memoryview], offset: int) -> int:
        first, last = offset // SECTOR, (offset + len(views[0]) - 1) // SECTOR
        if Path(f"/proc/self/fd/{fd}").readlink().name == "kernel" and first <= 3 <= last:
            raise OSError(errno.EIO, "Input/output error")
        return os.preadv(fd, views, offset)

    def no_copy(*args: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kvmlib.outfiles.os", Os(copy_file_range=no_copy, sendfile=no_copy))
    monkeypatch.setattr(image, "os", Os(preadv=preadv))
    with pytest.raises(kvmlib.KvmError, match=r"kernel at 0x600: .*--salvage"):
        save(kd, crash)
    assert not list(crash.iterdir())
    done = save(kd, crash, salvage=True)
    assert done.warnings == ("512 bytes of the kernel file can't be read: zeros stand for them",)
    assert done.holes == ()
    assert Path(done.kernel or "").read_bytes() == dump.kernel[:0x600] + bytes(512) + dump.kernel[0x800:]


def test_cancel_among_bad_blocks(kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, disk := Disk(range(5, 181)))
    with pytest.raises(kvmlib.Cancelled, match="nothing was left"):
        save(kd, crash, force=True, salvage=True, should_stop=lambda: len(disk.reads) > 20)
    assert not list(crash.iterdir())
    assert len(disk.reads) < 40, "a disk that takes seconds for each of them must not be waited for"


def test_a_bad_block_meets_copying_in_the_kernel(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kvmlib.outfiles.os", Os(copy_file_range=fails, sendfile=fails))
    plug_in(monkeypatch, Disk([40]))
    done = save(kd, crash, sparse=False, salvage=True, force=True)
    assert Path(done.core).read_bytes() == expected(dump, [40])


def half_way(name: str, number: int) -> Callable[..., int]:
    """A call that takes 20000 bytes, then fails."""
    left = [3]

    def call(*args: Any) -> int:
        left[0] -= 1
        if not left[0]:
            raise OSError(number, os.strerror(number))
        n = min(10000, args[2] if name == "copy_file_range" else args[3])
        numbers = (*args[:2], n, *args[3:]) if name == "copy_file_range" else (*args[:3], n)
        done: int = getattr(os, name)(*numbers)
        return done

    return call


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOSPC])
@pytest.mark.parametrize("calls", [("copy_file_range",), ("copy_file_range", "sendfile")])
def test_the_kernel_stops_copying_half_way(
    number: int, calls: tuple[str, ...], dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmlib.outfiles.os", Os(**{name: half_way(name, number) for name in calls}))
    assert Path(save(kd, crash, sparse=False).core).read_bytes() == dump.saved


def test_without_such_calls(dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("copy_file_range", "sendfile"):
        monkeypatch.delattr(os, name, raising=False)
    assert Path(save(kd, crash, sparse=False).core).read_bytes() == dump.saved


def test_on_the_command_line(
    dump: Dump, crash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump.open(tmp_path).close()
    monkeypatch.setattr(commands, "_open", lambda a: dump.open(tmp_path))
    plug_in(monkeypatch, Disk([40, 44]))
    assert main(["save", str(tmp_path / "dump.img"), str(crash)]) == 1
    assert "--salvage" in capsys.readouterr().err
    assert not list(crash.iterdir())
    assert main(["save", str(tmp_path / "dump.img"), str(crash), "--salvage", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [h["offset"] for h in json.loads(out)["holes"]] == [40 * SECTOR, 44 * SECTOR]
    assert "warning: 512 bytes at 0x5000 of" in err
    assert "warning: 512 bytes at 0x5800 of" in err
