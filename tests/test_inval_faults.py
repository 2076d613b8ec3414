"""Whatever fails in the middle of an invalidation or an undo: untouched, or cleared with a record that restores it.

Every call to the system is made to fail, to do half its work, or to be the last that the process makes.
"""

import errno
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import image as image_module
from kvmlib.image import Device, Image
from kvmlib.undo import undo, write_record
from tests.dumps import Dump, make_dump
from tests.test_image import Raw

CALLS = [
    *("open", "close", "read", "write", "pread", "preadv", "pwrite", "pwritev", "fsync", "fstat", "stat", "lstat"),
    *("lseek", "unlink", "link", "rename", "mkdir", "readlink", "posix_fadvise", "listdir"),
]
#: What can happen at a call: an error, half the work and then an error, or the end of the process before or after it.
MODES = ("EIO", "ENOSPC", "half", "dies before", "dies after")


class Faults:
    """Counts the calls; at number `at` something happens. `log` has each call's name and the path it is about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = -1, mode: str = "EIO") -> None:
        self.at, self.mode, self.count = at, mode, 0
        self.log: list[tuple[str, str, int]] = []
        self._paths: dict[int, str] = {}
        for name in CALLS:
            monkeypatch.setattr(os, name, functools.partial(self._call, name, getattr(os, name)))

    def _call(self, name: str, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number, self.count = self.count, self.count + 1
        about = self._paths.get(args[0], "") if isinstance(args[0], int) else os.fspath(args[0])
        self.log.append((name, str(about), args[1] if name == "open" else 0))
        if number == self.at:
            if self.mode == "dies before":
                os._exit(9)
            if self.mode == "half" and name in ("write", "pwrite") and len(args[1]) > 1:
                self.at += 1
                return real(args[0], args[1][: len(args[1]) // 2], *args[2:])
            if self.mode != "dies after":
                if name == "close":
                    real(*args)  # As on Linux: the descriptor is gone, whatever close says.
                code = getattr(errno, self.mode, errno.EIO)
                raise OSError(code, os.strerror(code))
        try:
            result = real(*args, **kwargs)
        finally:
            if number == self.at:
                os._exit(9)
        if name == "open":
            self._paths[result] = str(about)
        return result


@pytest.fixture(autouse=True)
def nothing_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find that out takes a hundred calls, none of which writes; tests.test_inuse has them."""
    monkeypatch.setattr("kvmlib.inval.in_use", lambda path: "")
    monkeypatch.setattr("kvmlib.undo.in_use", lambda path: "")


@pytest.fixture(params=["file", "512", "4096"])
def medium(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A regular file, or a raw device made of one."""
    medium: str = request.param
    if medium != "file":
        Raw(monkeypatch, int(medium))

        def device(name: str, fd: int, write: bool, promised: object) -> Image:
            return Device(name, fd, None, write)

        monkeypatch.setattr(image_module, "_image_of", device)
    return medium


class Case:
    """A dump in a folder of its own, and what may become of it."""

    def __init__(self, folder: Path, dump: Dump) -> None:
        folder.mkdir()
        self.path, self.record = folder / "dump.img", folder / "record"
        data = dump.device.ljust(-(-len(dump.device) // 4096) * 4096, b"\xee")
        self.path.write_bytes(data)
        self.fresh = data
        self.kd = kvmlib.Kvm(self.path, system=dump.table(), machine=dump.machine)
        self.kd.dump_mkheader(dump.dump_off)
        self.mag = self.kd.dumpmag()

    def clear(self) -> None:
        kvmlib.invalidate(self.kd, self.mag, self.record)

    def restore(self) -> None:
        undo(self.record, self.path)

    def check(self) -> None:
        """It holds whatever happened: nothing changed, or the record puts it back."""
        now = self.path.read_bytes()
        assert len(now) == len(self.fresh)
        start, end = self.mag.offset, self.mag.offset + len(self.mag.data)
        assert (now[:start], now[end:]) == (self.fresh[:start], self.fresh[end:]), "another byte has changed"
        if now != self.fresh:
            self.restore()
            assert self.path.read_bytes() == self.fresh


def attempt(action: Callable[[], None], at: int, mode: str) -> int:
    """Do it with a fault at call number `at`; return how many calls it came to, -1 where the process died."""
    pid = os.fork() if mode.startswith("dies") else None
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 9)
        return at if status == 0 else at + 1
    code = 1
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            faults = Faults(monkeypatch, at, mode)
            try:
                action()
            except kvmlib.KvmError as e:
                assert "\n" not in str(e)
        code = 0
    finally:
        if pid == 0:
            os._exit(code)
    return faults.count


def cases(tmp_path: Path, name: str) -> Iterator[tuple[int, Case]]:
    dump = make_dump(name)
    for at in range(1000):
        case = Case(tmp_path / str(at), dump)
        with case.kd:
            yield at, case
    pytest.fail("there is no end to it")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/i386"])
def test_invalidation(medium: str, mode: str, name: str, tmp_path: Path) -> None:
    cleared = 0
    for at, case in cases(tmp_path, name):
        count = attempt(case.clear, at, mode)
        cleared += case.path.read_bytes() != case.fresh
        case.check()
        if count <= at:
            break
    assert at > 20
    assert cleared > 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/i386"])
def test_undo(medium: str, mode: str, name: str, tmp_path: Path) -> None:
    restored = 0
    for at, case in cases(tmp_path, name):
        case.clear()
        count = attempt(case.restore, at, mode)
        restored += case.path.read_bytes() == case.fresh
        case.check()
        if count <= at:
            break
    assert at > 8
    assert restored > 1


def test_the_record_is_on_the_disk_before_the_dump_is_touched(
    medium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the power may go at any moment, the order of these is all that counts."""
    case = Case(tmp_path / "case", make_dump("openbsd/amd64"))
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        case.clear()
    image, record, folder = str(case.path), str(case.record), str(case.path.parent)
    write = "pwrite" if medium == "file" else "pwritev"
    steps = [(name, path) for name, path, _ in faults.log]
    wanted = [("write", record), ("fsync", record), ("fsync", folder), (write, image), ("fsync", image)]
    assert [s for s in steps if s in wanted] == wanted
    behind = faults.log[steps.index(("fsync", image)) :]
    assert any(name == "open" and path == image and flags & os.O_DIRECT for name, path, flags in behind)


@pytest.mark.parametrize("lost", [1, 4])
def test_what_is_read_back_is_compared(lost: int, medium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that says yes and does nothing, or not all."""
    case = Case(tmp_path / "case", make_dump("netbsd/amd64"))
    name = "pwrite" if medium == "file" else "pwritev"
    real = getattr(os, name)

    def lies(fd: int, data: Any, offset: int) -> int:
        n = int(real(fd, data, offset))
        with case.path.open("r+b") as f:
            f.seek(case.mag.offset)
            f.write(case.mag.data[:lost])
        return n

    with monkeypatch.context() as patch:
        patch.setattr(os, name, lies)
        now = (case.mag.data[:lost] + bytes(4 - lost)).hex()
        with pytest.raises(
            kvmlib.KvmError, match=rf"00000000 was written at .*, but {now} is there now; .*{case.record}"
        ):
            case.clear()
    case.check()


def test_it_is_the_disk_that_is_looked_at_before_writing(
    medium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read a while ago is no reason to write: another program may have been there since."""
    case = Case(tmp_path / "case", make_dump("netbsd/amd64"))
    with kvmlib.Kvm(case.path, system=case.kd.symbols, machine="netbsd/amd64", write=True) as kd:
        assert case.kd.reading is not None
        kd.dump_mkheader(case.kd.reading.headers.offset)
        assert kd.dumpmag().state == "fresh"
        other = case.fresh[: case.mag.offset] + b"swap" + case.fresh[case.mag.offset + 4 :]
        case.path.write_bytes(other)
        with pytest.raises(kvmlib.KvmError, match="nothing was written"):
            kd.dump_inval()
    assert case.path.read_bytes() == other


@pytest.mark.parametrize("cut", range(1, 4))
@pytest.mark.parametrize("back", [False, True])
def test_undo_mends_what_was_half_written(cut: int, back: bool, tmp_path: Path) -> None:
    case = Case(tmp_path / "case", make_dump("netbsd/amd64"))
    case.clear()
    new, old = (case.mag.data, bytes(4)) if back else (bytes(4), case.mag.data)
    torn = new[:cut] + old[cut:]
    case.path.write_bytes(case.fresh[: case.mag.offset] + torn + case.fresh[case.mag.offset + 4 :])
    case.restore()
    assert case.path.read_bytes() == case.fresh


@pytest.mark.parametrize("other", [b"\0\1\0\0", b"\1\0\0\x8f", b"\xff\0\0\0", b"\0\0\0\1"])
def test_undo_leaves_alone_what_is_neither(other: bytes, tmp_path: Path) -> None:
    case = Case(tmp_path / "case", make_dump("netbsd/amd64"))
    case.clear()
    now = case.fresh[: case.mag.offset] + other + case.fresh[case.mag.offset + 4 :]
    case.path.write_bytes(now)
    with pytest.raises(kvmlib.KvmError, match=f"00000000 was expected, {other.hex()} is there; nothing was written"):
        case.restore()
    assert case.path.read_bytes() == now


def test_a_record_that_cannot_be_written_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path / "case", make_dump("openbsd/amd64"))

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(
            kvmlib.KvmError, match=r"cannot write the undo record .*No space left .*nothing was cleared"
        ):
            write_record(case.kd, case.mag, case.record)
    assert not case.record.exists()
