"""Saving: the bytes that savecore(8) writes, under names that never hold anything but whole files."""

import errno
import gzip
import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import copying, outfiles, savecore, savesource
from kvmlib.savecore import plan_save, save
from tests.conftest import ROOT
from tests.dumps import KERNEL_PAGES, MACHINES, PAGE, Dump, make_dump

VECTORS = tuple(
    f"{system}-{arch}-s{seed}"
    for system in ("openbsd", "netbsd")
    for arch in ("amd64", "i386", "i386-pae")
    for seed in (1, 2)
)
Snapshot = dict[str, tuple[int, str, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """All that is in a folder: mode, link target, contents."""
    found = {}
    for p in sorted(folder.iterdir()):
        link = str(p.readlink()) if p.is_symlink() else ""
        found[p.name] = (p.lstat().st_mode, link, p.read_bytes() if p.is_file() and not link else b"")
    return found


def names(folder: Path) -> list[str]:
    """What is there, but for info.N and info.N.json, which test_save_files.py looks at."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("info."))


# -- the bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS)
def test_saves_what_savecore_saves(name: str, shared: Path, crash: Path, tmp_path: Path) -> None:
    vector = shared / "vectors" / name
    facts = json.loads((vector / "expect.json").read_text())
    wanted = gzip.decompress((vector / "saved.core.gz").read_bytes())
    device = tmp_path / "device.img"
    device.write_bytes(gzip.decompress((vector / "device.img.gz").read_bytes()))
    machine = f"{facts['os']}/{facts['arch']}"
    with kvmlib.open(device, system=vector / "kernel.elf", dump_off=facts["dump_off"], machine=machine) as kd:
        cut = bool(facts.get("saved_short_by"))
        if cut:
            with pytest.raises(kvmlib.KvmError, match="truncated"):
                save(kd, crash)
            assert not list(crash.iterdir())
        plan = plan_save(kd, crash)
        done = save(kd, crash, force=cut)
    assert Path(done.core).read_bytes() == wanted
    assert done.bytes == plan.size == len(wanted)
    assert done.kernel is not None
    assert Path(done.kernel).read_bytes() == (vector / "kernel.elf").read_bytes()
    # A saved core, saved again, stays what it was; with or without a kernel file that tells its size.
    with kvmlib.open(done.core, machine=machine) as again:
        second = save(again, crash, force=cut)
        again.set_symbols(kvmlib.SymbolTable((), "none"))
        third = save(again, crash, force=cut, compress=True)
    assert Path(second.core).read_bytes() == wanted
    assert gzip.decompress(Path(third.core).read_bytes()) == wanted
    assert [second.number, third.number] == [1, 2]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("compress", [False, True])
def test_core_and_kernel(machine: str, compress: bool, crash: Path, tmp_path: Path) -> None:
    dump = make_dump(machine, time_second=int(time.time()))
    system = "bsd" if machine.startswith("openbsd") else "netbsd"
    gz = ".gz" if compress else ""
    with dump.open(tmp_path) as kd:
        plan = plan_save(kd, crash, compress=compress)
        assert not list(crash.iterdir()), "planning changes nothing"
        done = save(kd, crash, compress=compress)
        assert names(crash) == sorted(["bounds", f"{system}.0{gz}", f"{system}.0.core{gz}"])
        assert done.core == plan.core == str(crash / f"{system}.0.core{gz}")
        assert done.kernel == plan.kernel == str(crash / f"{system}.0{gz}")
        assert (plan.kernel_from, plan.warnings, plan.refusal) == (str(tmp_path / "kernel"), (), "")
        assert (done.number, done.warnings, done.bytes) == (0, (), Path(done.core).stat().st_size)
        assert plan.size == len(dump.saved)
        unpack: Callable[[bytes], bytes] = gzip.decompress if compress else bytes
        assert unpack(Path(done.core).read_bytes()) == dump.saved
        assert unpack(Path(done.kernel).read_bytes()) == dump.kernel
        if compress:
            subprocess.run(["gzip", "-t", done.core, done.kernel], check=True)
        with kvmlib.open(done.core, machine=machine) as saved:
            saved.set_symbols(kd.symbols)
            assert saved.form == "savecore"
            assert list(saved.mappings()) == list(kd.mappings())
            kernel = dump.va("version")
            for va in range(kernel, kernel + KERNEL_PAGES * PAGE, PAGE // 2):
                assert saved.kvatop(va) == kd.kvatop(va)
            assert saved.read(kernel, KERNEL_PAGES * PAGE) == kd.read(kernel, KERNEL_PAGES * PAGE)
            for va in (kernel - 1, kernel + KERNEL_PAGES * PAGE):
                with pytest.raises(kvmlib.TranslationError):
                    saved.kvatop(va)
            assert [(s.start, s.size, s.present) for s in saved.ram][: len(kd.segments)] == [
                (s.start, s.size, s.present) for s in kd.segments
            ]


def test_gzip_holds_neither_time_nor_name(kd: kvmlib.Kvm, crash: Path) -> None:
    first, second = save(kd, crash, compress=True), save(kd, crash, compress=True)
    assert Path(first.core).read_bytes() == Path(second.core).read_bytes()
    assert Path(first.core).read_bytes()[3:8] == bytes(5), "no flags, mtime 0"


class Threes:
    """Takes three bytes at a time, as a pipe may."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> int:
        self.data += data[:3]
        return min(3, len(data))


@pytest.mark.parametrize("machine", MACHINES)
def test_wrtheader_goes_anywhere(machine: str, tmp_path: Path) -> None:
    dump = make_dump(machine)
    with dump.open(tmp_path) as kd:
        threes = Threes()
        assert kd.dump_wrtheader(threes, len(dump.memory)) == len(dump.saved_header)
        assert threes.data == dump.saved_header
        reader, writer = os.pipe()
        with open(reader, "rb") as end, open(writer, "wb", buffering=0) as begin:
            kd.dump_wrtheader(begin, len(dump.memory))
            begin.close()
            assert end.read() == dump.saved_header
        with gzip.open(tmp_path / "header.gz", "wb") as packed:
            kd.dump_wrtheader(packed, len(dump.memory))
        assert gzip.decompress((tmp_path / "header.gz").read_bytes()) == dump.saved_header


def test_wrtheader_writes_the_low_32_bits(kd: kvmlib.Kvm) -> None:
    threes = Threes()
    kd.dump_wrtheader(threes, (5 << 32) + 0x12345678)
    assert threes.data[-4:] == bytes.fromhex("78563412")


def test_wrtheader_into_a_closed_pipe(kd: kvmlib.Kvm) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as begin, pytest.raises(kvmlib.KvmError, match="Broken pipe"):
        kd.dump_wrtheader(begin, 0)


# -- how much is saved -----------------------------------------------------------------------------------------------


def linear(tmp_path: Path, **variables: int) -> kvmlib.Kvm:
    dump = make_dump("openbsd/i386")
    device = bytearray(dump.device)
    for name, value in variables.items():
        at = dump.dump_off + 512 + dump.offset(name)
        device[at : at + 4] = value.to_bytes(4, "little", signed=True)
    path = tmp_path / "linear.img"
    path.write_bytes(device)
    kd = kvmlib.Kvm(path, system=dump.table(), machine="openbsd/i386")
    kd.dump_mkheader(dump.dump_off)
    return kd


def test_size_from_the_kernels_dumpsize(crash: Path, tmp_path: Path) -> None:
    dump = make_dump("openbsd/i386")
    with linear(tmp_path) as kd:
        plan = plan_save(kd, crash)
        assert plan.size == len(dump.saved)
        assert "dumpsize" in plan.size_from
        assert not any("where memory ends" in w for w in plan.warnings)


@pytest.mark.parametrize("pages", [0, -1, 0x101, 0x100001])
def test_an_impossible_dumpsize_is_not_used(pages: int, crash: Path, tmp_path: Path) -> None:
    # 0x101 pages end before the variable itself.
    with linear(tmp_path, dumpsize=pages) as kd:
        plan = plan_save(kd, crash)
        assert plan.size_from == "the end of the image"
        assert plan.size == 532 + kd.image.size - (kd.dump_off or 0)
        assert any("where memory ends" in w for w in plan.warnings)


def test_dumpsize_of_another_kernel_is_not_used(crash: Path, tmp_path: Path) -> None:
    with linear(tmp_path, version=0x12345678) as kd:
        assert plan_save(kd, crash).size_from == "the end of the image"


def test_no_kernel_file(crash: Path, tmp_path: Path) -> None:
    with make_dump("netbsd/i386").open(tmp_path, kernel=False) as kd:
        kd.set_symbols(kvmlib.SymbolTable((), "none"))
        plan = plan_save(kd, crash)
        assert (plan.kernel, plan.kernel_from) == (None, None)
        assert plan.kernel_source == "none: no kernel file is known, and the dump holds no symbols"
        assert save(kd, crash).kernel is None
    assert names(crash) == ["bounds", "netbsd.0.core"]


@pytest.mark.parametrize("cut", [1, 4096, 70000])
def test_truncated_dump(cut: int, crash: Path, tmp_path: Path) -> None:
    dump = make_dump("netbsd/amd64", cut=cut)
    with dump.open(tmp_path) as kd:
        plan = plan_save(kd, crash)
        assert plan.refusal.startswith(f"the dump is truncated: {cut} of its ")
        assert any(f"{cut} bytes of memory are missing" in w for w in plan.warnings)
        with pytest.raises(kvmlib.KvmError, match="truncated"):
            save(kd, crash)
        assert not list(crash.iterdir())
        done = save(kd, crash, force=True)
    assert Path(done.core).read_bytes() == dump.saved
    with kvmlib.open(done.core, machine="netbsd/amd64") as again:
        assert again.memory.missing == cut


def test_a_dump_that_shrinks_meanwhile(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", 4096)

    def shrink(done: int, total: int) -> None:
        os.truncate(kd.path, dump.dump_off + 9000)

    with pytest.raises(kvmlib.KvmError, match="ended at 0x2b28 while it was copied"):
        save(kd, crash, progress=shrink)
    assert not list(crash.iterdir())


def test_no_header_yet(dump: Dump, tmp_path: Path, crash: Path) -> None:
    (tmp_path / "x").write_bytes(dump.device)
    with kvmlib.Kvm(tmp_path / "x") as kd, pytest.raises(kvmlib.FormatError, match="no valid dump header"):
        save(kd, crash)


# -- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["device", "savecore"])
def test_a_cleared_dump_is_saved_with_a_warning(form: str, dump: Dump, crash: Path, tmp_path: Path) -> None:
    with dump.open(tmp_path, write=True) as kd:
        kd.dump_inval()
        plan = plan_save(kd, crash)
        assert any("saved or invalidated before" in w for w in plan.warnings)
        assert plan.refusal == ""
        save(kd, crash)


@pytest.mark.parametrize(
    ("machine", "days", "warns"),
    [
        ("openbsd/amd64", 6.9, False),
        ("openbsd/amd64", -6.9, False),
        ("openbsd/amd64", 7.1, True),
        ("openbsd/i386", -7.1, True),
        ("netbsd/amd64", 59.9, False),
        ("netbsd/i386", 60.1, True),
    ],
)
def test_time_of_the_crash(machine: str, days: float, warns: bool, crash: Path, tmp_path: Path) -> None:
    with make_dump(machine, time_second=int(time.time() - days * 86400)).open(tmp_path) as kd:
        plan = plan_save(kd, crash)
    assert any("is unreasonable: it is more than" in w for w in plan.warnings) == warns
    assert plan.refusal == "", "as savecore -f: a clock proves little"


@pytest.mark.parametrize("seconds", [0, -1, 1 << 62, 0x7FFFFFFF])
def test_impossible_times(seconds: int, crash: Path, tmp_path: Path) -> None:
    with make_dump("openbsd/amd64", time_second=seconds).open(tmp_path) as kd:
        assert any("time of the crash" in w and "unreasonable" in w for w in plan_save(kd, crash).warnings)


def test_leftovers_of_a_killed_save_are_named(kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / ".bsd.0.core.0123abcd.partial").write_bytes(b"x")
    (crash / ".netbsd.0.core.0123abcd.partial").write_bytes(b"another system's")
    plan = plan_save(kd, crash)
    assert [w for w in plan.warnings if ".bsd.0.core.0123abcd.partial" in w and w.startswith("1 files")]
    save(kd, crash)
    assert (crash / ".bsd.0.core.0123abcd.partial").exists(), "perhaps another save is writing it"


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "warns"),
    [
        (None, 0, False),
        (b"", 0, False),
        (b"\n", 0, False),
        (b"7\n", 7, False),
        (b"7", 7, False),
        (b" 12 \nmore\n", 12, False),
        (b"seven\n", 0, True),
        (b"-3\n", 0, True),
        (b"7x\n", 0, True),
        (b"\xff\xfe\x1b[2J\n", 0, True),
        (b"9" * 40, 0, True),
        (b"\xd9\xa3\n", 0, True),
    ],
)
def test_bounds(text: bytes | None, number: int, warns: bool, kd: kvmlib.Kvm, crash: Path) -> None:
    if text is not None:
        (crash / "bounds").write_bytes(text)
    plan = plan_save(kd, crash)
    assert plan.number == number
    complaints = [w for w in plan.warnings if w.startswith("bounds in")]
    assert bool(complaints) == warns
    assert all(w.isprintable() for w in complaints)
    assert save(kd, crash).number == number
    assert (crash / "bounds").read_text() == f"{number + 1}\n"
    assert stat.S_IMODE((crash / "bounds").stat().st_mode) == 0o600


@pytest.mark.parametrize("taken", ["bsd.3.core", "bsd.3", "bsd.3.core.gz", "bsd.3.gz", "bsd.3.core.Z", "bsd.03.core"])
def test_a_number_that_is_taken_is_skipped(taken: str, kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / "bounds").write_text("3\n")
    (crash / taken).write_bytes(b"precious")
    (crash / "bsd.5.core").write_bytes(b"precious too")
    (crash / "netbsd.4.core").write_bytes(b"another system's")
    before = snapshot(crash)
    assert save(kd, crash).number == 4
    assert save(kd, crash).number == 6
    after = snapshot(crash)
    assert all(after[name] == before[name] for name in before if name != "bounds")


@pytest.mark.parametrize("name", ["bsd.0.core", "bsd.0", "bounds", ".bsd.0.core.partial"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_planted_symlink_is_not_followed(
    name: str, dangling: bool, kd: kvmlib.Kvm, crash: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    if not dangling:
        victim.write_bytes(b"41\n")
    (crash / name).symlink_to(victim)
    done = save(kd, crash)
    assert victim.exists() != dangling
    if not dangling:
        assert victim.read_bytes() == b"41\n"
    assert done.number == (1 if name in ("bsd.0.core", "bsd.0") else 0)
    assert not Path(done.core).is_symlink()
    assert (crash / "bounds").read_text() == f"{done.number + 1}\n"


def test_bounds_that_cannot_be_replaced(kd: kvmlib.Kvm, dump: Dump, crash: Path) -> None:
    (crash / "bounds").mkdir()
    done = save(kd, crash)
    assert "bounds could not be rewritten" in done.warnings[0]
    assert Path(done.core).read_bytes() == dump.saved, "the dump is what counts"
    assert save(kd, crash).number == 1, "and the next one finds its number all the same"


@pytest.mark.parametrize("compress", [(False, False), (False, True)])
def test_two_at_once(compress: tuple[bool, bool], dump: Dump, crash: Path, tmp_path: Path) -> None:
    meet = threading.Barrier(2)
    done: list[savecore.Saved] = []

    def one(i: int) -> None:
        folder = tmp_path / str(i)
        folder.mkdir()

        def progress(now: int, total: int) -> None:
            if now == total:
                meet.wait(60)

        # The wide windows of this race: both have planned number 0, and both are about to give names.
        with dump.open(folder) as kd:
            done.append(save(kd, crash, compress=compress[i], progress=progress))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(s.number for s in done) == [0, 1]
    for s in done:
        data = Path(s.core).read_bytes()
        assert (gzip.decompress(data) if s.core.endswith(".gz") else data) == dump.saved
    assert (crash / "bounds").read_text() == "2\n"
    assert len(names(crash)) == 5
    assert len(list(crash.iterdir())) == 9


# -- what can go wrong -----------------------------------------------------------------------------------------------


class Os:
    """The os module, with some functions replaced."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def no_link(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("name", ["bsd.0", "bsd.0.core"])
def test_a_name_taken_at_the_last_moment(
    name: str, links: bool, kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone who doesn't lock makes the file between our look and our link."""

    def link(source: str, final: str, **kwargs: Any) -> None:
        if final == name:
            (crash / name).write_bytes(b"precious")
        (os.link if links else no_link)(source, final, **kwargs)

    monkeypatch.setattr(outfiles, "os", Os(link=link))
    done = save(kd, crash)
    assert (crash / name).read_bytes() == b"precious"
    assert done.number == 1
    assert Path(done.core).read_bytes() == dump.saved
    assert Path(done.kernel or "").read_bytes() == dump.kernel
    assert names(crash) == sorted([name, "bsd.1", "bsd.1.core", "bounds"])
    assert (crash / "bounds").read_text() == "2\n"


def test_a_name_that_is_taken_but_not_listed(
    kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where BSD.0.CORE is bsd.0.core too, looking through the names doesn't tell."""

    def link(source: str, final: str, **kwargs: Any) -> None:
        if final in ("bsd.0.core", "bsd.1.core"):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.link(source, final, **kwargs)

    monkeypatch.setattr(outfiles, "os", Os(link=link))
    assert save(kd, crash).number == 2
    assert names(crash) == ["bounds", "bsd.2", "bsd.2.core"]


def test_a_file_system_without_links(kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outfiles, "os", Os(link=no_link))
    done = save(kd, crash)
    assert Path(done.core).read_bytes() == dump.saved
    assert names(crash) == ["bounds", "bsd.0", "bsd.0.core"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_only_the_owner_may_read(umask: int, kd: kvmlib.Kvm, crash: Path) -> None:
    modes: list[int] = []

    def progress(done: int, total: int) -> None:
        modes.extend(stat.S_IMODE(p.stat().st_mode) for p in crash.iterdir())

    before = os.umask(umask)
    try:
        done = save(kd, crash, progress=progress)
    finally:
        os.umask(before)
    modes += [stat.S_IMODE(Path(p).stat().st_mode) for p in (done.core, done.kernel or "", crash / "bounds")]
    assert set(modes) == {0o600}


def test_progress_is_rare_and_complete(
    kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", 1000)
    clock = iter(i / 50 for i in range(100000))

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(clock)

        time = staticmethod(time.time)

    monkeypatch.setattr(savesource, "time", Clock)
    seen: list[tuple[int, int]] = []
    save(kd, crash, progress=lambda done, total: seen.append((done, total)))
    total = len(dump.saved) + len(dump.kernel)
    assert seen[-1] == (total, total)
    assert [t for _, t in seen] == [total] * len(seen)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    pieces = -(-len(dump.memory) // 1000) + -(-len(dump.kernel) // 1000) + 1
    # 50 pieces a second on this clock: every fifth may be told, and the last is.
    assert pieces / 7 < len(seen) <= pieces / 5 + 2


@pytest.mark.parametrize("compress", [False, True])
def test_cancel_anywhere(compress: bool, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PIECE", 4096)
    (crash / "bounds").write_text("5\n")
    (crash / "bsd.4.core").write_bytes(b"precious")
    before = snapshot(crash)
    polls = 0

    def count() -> bool:
        nonlocal polls
        polls += 1
        return False

    save(kd, crash, compress=compress, should_stop=count)
    assert polls > 20
    for p in (*crash.glob("bsd.5*"), *crash.glob("info.5*")):
        p.unlink()
    (crash / "bounds").write_text("5\n")
    for stop in range(polls):
        left = iter(range(stop, -1, -1))
        with pytest.raises(kvmlib.Cancelled, match="nothing was left"):
            save(kd, crash, compress=compress, should_stop=lambda left=left: not next(left))  # type: ignore[misc]
        assert {n: s[1:] for n, s in snapshot(crash).items()} == {n: s[1:] for n, s in before.items()}


class PersonError(BaseException):
    """Something that a callback throws: a signal handler's KeyboardInterrupt, say."""


def test_a_callback_that_throws(kd: kvmlib.Kvm, crash: Path) -> None:
    def progress(done: int, total: int) -> None:
        if done == total:
            raise PersonError

    with pytest.raises(PersonError):
        save(kd, crash, progress=progress)
    assert not list(crash.iterdir())


CALLS = ("open", "fstat", "write", "fsync", "link", "rename")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_an_error_at_every_system_call(
    number: int, dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", 16384)
    (crash / "other").write_bytes(b"precious")
    before = snapshot(crash)
    outcomes = set()
    for fatal in range(200):
        count = 0

        def failing(name: str, fatal: int = fatal) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == fatal + 1:
                    raise OSError(number, os.strerror(number))
                return getattr(os, name)(*args, **kwargs)

            return call

        monkeypatch.setattr(outfiles, "os", Os(**{name: failing(name) for name in CALLS}))
        try:
            done = save(kd, crash)
        except kvmlib.KvmError as e:
            outcomes.add("refused")
            said = str(e)
            assert "\n" not in said
            assert str(crash) in said or "dump headers" in said
            assert snapshot(crash) == before, f"call {fatal}"
            continue
        # Only bounds may fail without undoing all: the files have their names by then.
        outcomes.add("warned" if done.warnings else "saved")
        assert Path(done.core).read_bytes() == dump.saved
        assert Path(done.kernel or "").read_bytes() == dump.kernel
        for p in set(crash.iterdir()) - {crash / "other"}:
            p.unlink()
        if count <= fatal:
            break
    assert outcomes == {"refused", "warned", "saved"}
    assert fatal > 20


# Saves a dump and is killed at system call number `fatal` of those that change something. Forks a child for each number
# until one survives.
KILLER = """
    import os, signal, sys, time
    from pathlib import Path
    from kvmlib import copying, outfiles, savecore
    from tests.dumps import make_dump

    base = Path(sys.argv[1])
    dump = make_dump("openbsd/amd64")
    copying._PIECE = 8192

    class Os:
        def __init__(self, fatal):
            self.fatal, self.count = fatal, 0
        def __getattr__(self, name):
            real = getattr(os, name)
            if name not in ("open", "write", "fsync", "link", "rename", "unlink", "fchmod"):
                return real
            def call(*args, **kwargs):
                self.count += 1
                if self.count == self.fatal:
                    if name == "write":
                        real(args[0], bytes(args[1])[:1000])
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)
            return call

    for fatal in range(1, 500):
        folder = base / f"{fatal:03}"
        (folder / "crash").mkdir(parents=True)
        child = os.fork()
        if child == 0:
            outfiles.os = Os(fatal)
            with dump.open(folder) as kd:
                savecore.save(kd, folder / "crash", compress=len(sys.argv) > 2)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("compress", [False, True])
def test_killed_at_every_system_call(compress: bool, tmp_path: Path) -> None:
    """A SIGKILL leaves nothing but whole files under final names, wherever it comes, and the next save goes well."""
    dump = make_dump("openbsd/amd64")
    base = tmp_path / "runs"
    base.mkdir()
    run(KILLER, str(base), *(["z"] if compress else []))
    unpack: Callable[[bytes], bytes] = gzip.decompress if compress else bytes
    gz = ".gz" if compress else ""
    whole = {f"bsd.0.core{gz}": dump.saved, f"bsd.0{gz}": dump.kernel}
    runs = sorted(base.iterdir())
    assert len(runs) > 20
    seen = set()
    for folder in runs:
        crash = folder / "crash"
        every = {p.name for p in crash.iterdir() if not p.name.endswith(".partial")}
        found = every - {"info.0", "info.0.json"}
        seen.add(frozenset(found))
        assert found <= {*whole, "bounds"}
        for name in found - {"bounds"}:
            assert unpack((crash / name).read_bytes()) == whole[name]
        if "bounds" in found:
            assert (crash / "bounds").read_text() == "1\n"
            assert found >= set(whole), "bounds never runs ahead of the files"
        with dump.open(folder) as kd:
            number = save(kd, crash).number
        assert number == (1 if every else 0)
        assert (crash / f"bsd.{number}.core").read_bytes() == dump.saved
    assert frozenset() in seen
    assert frozenset({*whole, "bounds"}) in seen


FULL = """
    import os, resource, sys
    from pathlib import Path
    import kvmlib
    from kvmlib.savecore import save
    from tests.dumps import make_dump

    base, compress = Path(sys.argv[1]), len(sys.argv) > 2
    dump = make_dump("netbsd/amd64")
    size = len(dump.saved)
    with dump.open(base) as kd:
        for limit in [0, 1, 100, *range(4096, size, 4096), size - 1, size]:
            crash = base / f"{limit:07}"
            crash.mkdir()
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                save(kd, crash, compress=compress)
            except kvmlib.KvmError as e:
                print(limit, len(os.listdir(crash)), e, flush=True)
            else:
                print(limit, len(os.listdir(crash)), "saved", flush=True)
"""


def test_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a disk that is full at each 4 KiB."""
    lines = run(FULL, str(tmp_path)).stdout.splitlines()
    size = len(make_dump("netbsd/amd64").saved)
    assert len(lines) > 20
    for line in lines:
        limit, left, text = line.split(" ", 2)
        if int(limit) < size:
            assert left == "0", line
            assert "File too large" in text
        else:
            assert (left, text) == ("5", "saved")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small tmpfs")
@pytest.mark.parametrize("minfree", [None, 0, 8])
def test_full_tmpfs(minfree: int | None, dump: Dump, kd: kvmlib.Kvm, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        if minfree is not None:
            (small / "minfree").write_text(f"{minfree}\n")
        before = snapshot(small)
        plan = plan_save(kd, small)
        assert plan.free == 65536 - 4096 * (minfree is not None)
        # As savecore(8): without a minfree a lack of space is a warning only.
        assert bool(plan.refusal) == bool(minfree)
        assert any("bytes are needed, but only" in w for w in plan.warnings) == (not minfree)
        with pytest.raises(kvmlib.KvmError, match=r"not enough space|No space left on device"):
            save(kd, small)
        assert snapshot(small) == before
        with pytest.raises(kvmlib.KvmError, match="No space left on device"):
            save(kd, small, force=True, compress=True)
        assert snapshot(small) == before
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a read-only tmpfs")
def test_read_only_file_system(kd: kvmlib.Kvm, tmp_path: Path) -> None:
    folder = tmp_path / "ro"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        with pytest.raises(kvmlib.ReadOnlyError, match="read-only file system"):
            plan_save(kd, folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(outfiles.Directory, "free", lambda self: free)


@pytest.mark.parametrize(
    ("text", "spare", "refused"),
    [
        (b"", -1, False),
        (b"0\n", -1, False),
        (b"100\n", 100 * 1024, False),
        (b"100\n", 100 * 1024 - 1, True),
        (b"100", 100 * 1024 - 1, True),
        (b"much\n", -1, False),
    ],
)
def test_minfree(
    text: bytes, spare: int, refused: bool, kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (crash / "minfree").write_bytes(text)
    free_space(monkeypatch, len(dump.saved) + len(dump.kernel) + spare)
    plan = plan_save(kd, crash)
    assert plan.free == len(dump.saved) + len(dump.kernel) + spare
    assert plan.minfree == (100 if text.startswith(b"100") else 0)
    assert ("100 KiB must stay free" in plan.refusal) == refused
    assert any(w.startswith("minfree in") and "corrupt" in w for w in plan.warnings) == (text == b"much\n")
    assert any("bytes are needed, but only" in w for w in plan.warnings) == (spare < 0)
    if refused:
        with pytest.raises(kvmlib.KvmError, match="not saved: there is not enough space"):
            save(kd, crash)
        assert names(crash) == ["minfree"]
    assert Path(save(kd, crash, force=True).core).exists()


def test_places_that_cannot_be_saved_into(kd: kvmlib.Kvm, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for place, words in (
        (tmp_path / "absent", "there is no directory"),
        (file, "is not a directory"),
        ("a\0b", "null"),
    ):
        for action in (plan_save, save):
            with pytest.raises(kvmlib.KvmError, match=words):
                action(kd, place)


NO_PERMISSION = """
    import os, sys
    from pathlib import Path
    import kvmlib
    from kvmlib.savecore import save
    from tests.dumps import make_dump

    base = Path(sys.argv[1])
    with make_dump("netbsd/amd64").open(base) as kd:
        os.chmod(base / "crash", int(sys.argv[2], 8))
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            save(kd, base / "crash")
        except kvmlib.KvmError as e:
            print(e)
"""


@pytest.mark.parametrize("mode", ["0555", "0000", "0300"])
def test_no_permission(mode: str, crash: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if os.geteuid() == 0 and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)  # pytest's own folders, which nobody else may enter
    text = run(NO_PERMISSION, str(tmp_path), mode).stdout
    crash.chmod(0o755)
    assert text.startswith(f"cannot save into {crash}: ")
    assert "ermission" in text
    assert not list(crash.iterdir())


def test_kernel_file_that_went_away(kd: kvmlib.Kvm, crash: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").unlink()
    with pytest.raises(kvmlib.KvmError, match=r"cannot read the kernel file .*: No such file"):
        save(kd, crash)
    os.mkfifo(tmp_path / "kernel")
    with pytest.raises(kvmlib.KvmError, match="no regular file"):
        save(kd, crash)
    assert not list(crash.iterdir())


def test_the_dump_is_left_alone(kd: kvmlib.Kvm, dump: Dump, crash: Path) -> None:
    save(kd, crash)
    assert hashlib.sha256(Path(kd.path).read_bytes()).digest() == hashlib.sha256(dump.device).digest()
