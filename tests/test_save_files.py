"""What a save leaves: the kernel file of its choice, info.N, holes for zeros, and proof that it is what was read."""

import errno
import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import copying, outfiles, savesource
from kvmlib.copying import Follower
from kvmlib.outfiles import Directory, Partial
from kvmlib.savecore import plan_save, save
from tests.conftest import ROOT
from tests.dumps import SEGMENTS, Dump, make_dump
from tests.samples import sample_in, without_symbols
from tests.test_savecore import Os, names, snapshot

PAGE = 4096


# -- the kernel file -------------------------------------------------------------------------------------------------


def test_the_given_kernel_is_copied(tmp_path: Path, crash: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        plan, done = plan_save(kd, crash), save(kd, crash, force=True)
    assert plan.kernel_source == done.kernel_source
    assert done.kernel_source == f"a copy of {sample.kernel}, proven to be the kernel of this dump"
    assert Path(done.kernel or "").read_bytes() == Path(sample.kernel).read_bytes()
    assert plan.needed == plan.size + Path(sample.kernel).stat().st_size


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/i386"])
@pytest.mark.parametrize("compress", [False, True])
def test_no_kernel_file_but_symbols_in_the_dump(name: str, compress: bool, tmp_path: Path, crash: Path) -> None:
    sample = sample_in(tmp_path, name)
    Path(sample.kernel).unlink()
    with kvmlib.open(sample.image) as kd:
        plan, done = plan_save(kd, crash, compress=compress), save(kd, crash, force=True, compress=compress)
        wanted = {(s.name, s.value) for s in kd.symbols}
    assert plan.kernel_from is None
    assert done.kernel_source.startswith(f"an ELF file made of {len(kd.symbols)} symbols, found in the dump itself")
    assert done.kernel is not None
    if compress:
        unpacked = tmp_path / "kernel"
        unpacked.write_bytes(gzip.decompress(Path(done.kernel).read_bytes()))
    else:
        unpacked = Path(done.kernel)
        assert plan.needed == plan.size + unpacked.stat().st_size
    with kvmlib.open(sample.image, system=unpacked) as again:
        assert {(s.name, s.value) for s in again.symbols} == wanted
        assert kvmlib.summary(again).panic == sample.panic


def test_another_kernel_is_not_saved(tmp_path: Path, crash: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    # As KARL does it: the same symbols elsewhere.
    moved = [s._replace(value=s.value + 0x1000) for s in sample.symbols]
    other = tmp_path / "other.elf"
    m = sample.machine
    other.write_bytes(kvmlib.write_elf(moved, elf_machine=m.elf_machine, bits=64, byteorder=m.byteorder))
    with kvmlib.open(sample.image, system=other, force=True) as kd:
        plan, done = plan_save(kd, crash), save(kd, crash, force=True)
    for source in (plan.kernel_source, done.kernel_source):
        assert f"{other} is not the kernel of this dump: " in source
        assert source.startswith("an ELF file made of ")
    assert plan.kernel_from is None
    with kvmlib.open(sample.image, system=done.kernel) as kd:
        assert kvmlib.summary(kd).panic == sample.panic


def test_another_kernel_and_no_symbols_in_the_dump(tmp_path: Path, crash: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    moved = [s._replace(value=s.value + 0x1000) for s in sample.symbols]
    without_symbols(sample)
    other = tmp_path / "other.elf"
    m = sample.machine
    other.write_bytes(kvmlib.write_elf(moved, elf_machine=m.elf_machine, bits=64, byteorder=m.byteorder))
    with kvmlib.open(sample.image, system=other, force=True) as kd:
        done = save(kd, crash, force=True)
    assert done.kernel is None
    assert done.kernel_source.startswith(f"none: {other} is not the kernel of this dump: ")
    assert names(crash) == ["bounds", "bsd.0.core"]


# -- info.N ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_info(compress: bool, tmp_path: Path, crash: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        facts = kvmlib.summary(kd).facts
        plan = plan_save(kd, crash, compress=compress)
        done = save(kd, crash, force=True, verify=True, facts=facts, compress=compress)
    assert sorted(plan.files) == sorted(str(p) for p in crash.iterdir())
    assert done.info == str(crash / "info.0")
    core = Path(done.core).read_bytes()
    core = gzip.decompress(core) if compress else core
    data = json.loads(Path(f"{done.info}.json").read_text())
    assert data["sha256"] == done.sha256 == hashlib.sha256(core).hexdigest()
    assert (data["number"], data["machine"], data["form"]) == (0, "netbsd/amd64", "device")
    assert (data["core"], data["kernel"]) == (Path(done.core).name, Path(done.kernel or "").name)
    assert (data["core_size"], data["file_size"]) == (len(core), done.bytes)
    assert data["memory_size"] == sum(s.size for s in kd.segments)
    assert data["warnings"] == list(plan.warnings)
    assert [f["text"] for f in data["facts"] if f["label"] == "PANIC"] == [sample.panic]
    text = Path(done.info).read_text()
    for line in (
        f"  SHA-256: {done.sha256}",
        f"  Panic: {sample.panic}",
        "  Dump status: whole",
        f"  Kernel file: {data['kernel']}: {done.kernel_source}",
        "  Read back and compared: yes",
    ):
        assert line in text.splitlines()
    assert (f", {done.bytes} compressed\n" in text) == compress
    modes = {p.stat().st_mode & 0o777 for p in crash.iterdir()}
    assert modes == {0o600}


def test_info_of_a_copy_that_was_not_looked_at(kd: kvmlib.Kvm, crash: Path) -> None:
    done = save(kd, crash)
    assert done.sha256 is None
    assert "SHA-256: not computed, as the copy was not verified\n" in Path(done.info).read_text()
    assert json.loads(Path(f"{done.info}.json").read_text())["sha256"] is None


def test_info_tells_of_a_cut_off_dump(crash: Path, tmp_path: Path) -> None:
    with make_dump("netbsd/amd64", cut=70000).open(tmp_path) as kd:
        text = Path(save(kd, crash, force=True).info).read_text()
    assert "Dump status: not whole: 70000 bytes are missing at the end\n" in text
    assert "Warning: forced: the dump is truncated" in text


def test_info_is_harmless(kd: kvmlib.Kvm, crash: Path) -> None:
    evil = "\x1b[2J\u202e\nRoot: yes"
    done = save(kd, crash, facts=[kvmlib.Fact("PANIC", evil, evil)])
    text = Path(done.info).read_text()
    assert all(line.isprintable() for line in text.splitlines())
    assert "\nRoot" not in text
    assert evil not in json.loads(Path(f"{done.info}.json").read_text())["facts"][0]["text"]


@pytest.mark.parametrize("taken", ["info.3", "info.3.json"])
def test_a_number_with_an_info_is_taken(taken: str, kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / "bounds").write_text("3\n")
    (crash / taken).write_text("precious")
    assert plan_save(kd, crash).number == 4
    assert save(kd, crash).number == 4
    assert (crash / taken).read_text() == "precious"


@pytest.mark.parametrize("name", ["info.0", "info.0.json"])
def test_a_symlink_planted_as_info(name: str, kd: kvmlib.Kvm, crash: Path, tmp_path: Path) -> None:
    (crash / name).symlink_to(tmp_path / "victim")
    assert save(kd, crash).number == 1
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("name", ["info.0", "info.0.json"])
def test_an_info_that_appears_at_the_last_moment(
    name: str, kd: kvmlib.Kvm, dump: Dump, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, final: str, **kwargs: Any) -> None:
        if final == name:
            (crash / name).write_bytes(b"precious")
        os.link(source, final, **kwargs)

    monkeypatch.setattr(outfiles, "os", Os(link=link))
    done = save(kd, crash)
    assert done.number == 1
    assert (crash / name).read_bytes() == b"precious"
    assert sorted(p.name for p in crash.iterdir()) == sorted(
        [name, "bounds", "bsd.1", "bsd.1.core", "info.1", "info.1.json"]
    )
    assert json.loads((crash / "info.1.json").read_text())["number"] == 1


# -- holes for zeros -------------------------------------------------------------------------------------------------


def with_memory(dump: Dump, memory: bytes, folder: Path) -> tuple[kvmlib.Kvm, bytes]:
    """The dump with other contents from the fourth page of its kernel on; and the core that makes."""
    start = SEGMENTS[0][1] + 4 * PAGE
    whole = dump.memory[:start] + memory + dump.memory[start + len(memory) :]
    kd = dump.open(folder)
    with open(kd.path, "r+b") as f:
        f.seek(dump.dump_off + 512)
        f.write(whole)
    return kd, dump.saved_header + whole


@pytest.mark.parametrize("piece", [4096, 16384, 1 << 18])
@pytest.mark.parametrize(
    "memory",
    [
        bytes(12 * PAGE),
        bytes(3 * PAGE) + b"x",
        b"x" + bytes(12 * PAGE - 1),
        bytes(2 * PAGE) + b"x" + bytes(9 * PAGE),
        (bytes(PAGE) + b"x" * PAGE) * 6,
        bytes(12 * PAGE - 1) + b"x",
    ],
    ids=["all", "begin", "end", "middle", "every other", "last byte"],
)
def test_zeros_become_holes(
    piece: int, memory: bytes, dump: Dump, crash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", piece)
    kd, wanted = with_memory(dump, memory, tmp_path)
    with kd:
        sparse, full = save(kd, crash, verify=True), save(kd, crash, sparse=False)
        packed = save(kd, crash, compress=True)
    assert Path(sparse.core).read_bytes() == Path(full.core).read_bytes() == wanted
    assert gzip.decompress(Path(packed.core).read_bytes()) == wanted
    assert sparse.bytes == full.bytes == len(wanted)
    # Where the blocks of the file lie in the memory, there must be a whole one of zeros.
    zeros = sum(wanted[at : at + PAGE] == bytes(PAGE) for at in range(0, len(wanted), PAGE))
    saved = Path(full.core).stat().st_blocks - Path(sparse.core).stat().st_blocks
    assert saved == zeros * PAGE // 512


def test_a_file_that_ends_in_a_hole(crash: Path) -> None:
    with outfiles.Directory(crash) as where, outfiles.Partial(where, "x") as part:
        part.write(b"x")
        part.skip(PAGE)
        part.sync()
        assert Path(part.path).read_bytes() == b"x" + bytes(PAGE)
        part.write(b"y")
        part.sync()
        assert Path(part.path).read_bytes() == b"x" + bytes(PAGE) + b"y"
    assert not list(crash.iterdir())


@pytest.mark.parametrize("seek", [None, errno.EINVAL])
@pytest.mark.parametrize("holes", [[(3, 5)], [(10, 16)], [(0, 16)], [(0, 3), (5, 6), (9, 12)]], ids=str)
def test_holes_of_the_source_are_not_read(
    holes: list[tuple[int, int]],
    seek: int | None,
    dump: Dump,
    crash: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last 16 pages of memory, some of which are holes in the file, with nothing behind them."""
    first = dump.dump_off + 512 + SEGMENTS[0][1]
    memory = bytearray(dump.memory)
    with dump.open(tmp_path) as kd, open(kd.path, "r+b") as f:
        f.truncate(first)
        f.truncate(first + 16 * PAGE)
        for page in range(16):
            at = SEGMENTS[0][1] + page * PAGE
            if any(start <= page < end for start, end in holes):
                memory[at : at + PAGE] = bytes(PAGE)
            else:
                f.seek(first + page * PAGE)
                f.write(memory[at : at + PAGE])
        f.flush()
        monkeypatch.setattr(copying, "_PIECE", PAGE)

        def lseek(fd: int, offset: int, how: int) -> int:
            if seek is not None and how == os.SEEK_DATA:
                raise OSError(seek, os.strerror(seek))
            return os.lseek(fd, offset, how)

        monkeypatch.setattr("kvmlib.holes.os", Os(lseek=lseek))
        monkeypatch.setattr("kvmlib.holes._LEAST", PAGE)
        done = save(kd, crash, force=True)
        assert Path(done.core).read_bytes() == dump.saved_header + memory
        # It shrinks to where a piece begins: what lies behind the end is no hole.
        os.truncate(kd.path, dump.dump_off + 512 + 14 * PAGE - len(dump.saved_header))
        with pytest.raises(kvmlib.KvmError, match="ended at"):
            save(kd, crash, force=True)
        assert names(crash) == ["bounds", "bsd.0", "bsd.0.core"]


def test_more_than_4_gib(dump: Dump, crash: Path, tmp_path: Path) -> None:
    """c_size has 32 bits: the low ones are written, as the systems do, and the segments tell when it is read."""
    size = 4 << 30
    big, far = tmp_path / "big.img", (0x200000000, size)
    head = bytearray(dump.device[: dump.dump_off + 512])
    # struct cpu_kcore_hdr: the page tables, the number of segments, the segments.
    struct.pack_into("<Q", head, dump.dump_off + 16, 3)
    struct.pack_into("<QQ", head, dump.dump_off + 24 + 32, *far)
    with big.open("wb") as f:
        f.write(bytes(head) + dump.memory)
        f.seek(size - 8, os.SEEK_CUR)
        f.write(b"last 8 b")
    assert big.stat().st_blocks * 512 < 1 << 20
    total = len(dump.memory) + size
    with kvmlib.Kvm(big, system=dump.table(), machine="openbsd/amd64") as kd:
        kd.dump_mkheader(dump.dump_off)
        done = save(kd, crash)
    core = Path(done.core)
    header = len(dump.saved_header)
    assert core.stat().st_size == done.bytes == header + total
    assert core.stat().st_blocks * 512 < 1 << 20
    with core.open("rb") as f:
        assert f.read(header)[-4:] == struct.pack("<I", total & 0xFFFFFFFF)
    with kvmlib.Kvm(core, system=kvmlib.SymbolTable((), "none"), machine="openbsd/amd64") as kd:
        assert kd.segments[-1].size == size
        assert kd.read_physical(SEGMENTS[1][0], len(dump.memory) - SEGMENTS[0][1]) == dump.memory[SEGMENTS[0][1] :]
        assert kd.read_physical(far[0], 8) == bytes(8)
        assert kd.read_physical(far[0] + size - 8, 8) == b"last 8 b"
        assert kd.memory.missing == 0
        assert plan_save(kd, crash).size == header + total


# -- read back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("which", [".core", "."])
def test_what_the_disk_made_of_it(
    compress: bool, which: str, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that changes a byte: it is noticed, told where, and nothing is left."""

    def fsync(fd: int) -> None:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        if name.endswith(".partial") and (".core." in name) == (which == ".core"):
            with open(name, "r+b") as f:
                f.seek(5000)
                byte = f.read(1)[0]
                f.seek(5000)
                f.write(bytes([byte ^ 1]))
        os.fsync(fd)

    monkeypatch.setattr(outfiles, "os", Os(fsync=fsync))
    words = "cannot be unpacked at|differs at" if compress else "differs at 0x1388 of"
    with pytest.raises(kvmlib.KvmError, match=words):
        save(kd, crash, verify=True, compress=compress)
    assert not list(crash.iterdir())


def test_a_source_that_changes_is_noticed(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        if done > len(dump.saved) // 2 and not seen:
            seen.append(done)
            with open(kd.path, "r+b") as f:
                f.seek(dump.dump_off + 512 + 100)
                f.write(b"changed")

    monkeypatch.setattr(copying, "_PIECE", 4096)
    monkeypatch.setattr(savesource, "_PROGRESS_SECONDS", 0)
    with pytest.raises(kvmlib.KvmError, match=f"differs at {len(dump.saved_header) + 100:#x} of"):
        save(kd, crash, verify=True, progress=progress)
    assert not list(crash.iterdir())


# -- all or nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_an_error_at_every_call_of_a_verified_save(
    sparse: bool, dump: Dump, crash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE", 16384)
    kd, wanted = with_memory(dump, bytes(9 * PAGE), tmp_path)
    calls = ("open", "fstat", "write", "fsync", "link", "rename", "lseek", "ftruncate", "copy_file_range", "sendfile")
    outcomes: set[str] = set()
    fatal = 0
    while outcomes != {"refused", "warned", "saved"}:
        fatal += 1
        assert fatal < 200
        count = [0]

        def failing(name: str, count: list[int] = count, fatal: int = fatal) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                if count[0] == fatal:
                    raise OSError(errno.EIO, "Input/output error")
                return getattr(os, name)(*args, **kwargs)

            return call

        monkeypatch.setattr(outfiles, "os", Os(**{name: failing(name) for name in calls}))
        try:
            done = save(kd, crash, verify=True, sparse=sparse)
        except kvmlib.KvmError:
            outcomes.add("refused")
            assert not list(crash.iterdir()), f"call {fatal}"
            continue
        if count[0] < fatal:
            outcomes.add("saved")
        elif done.warnings:
            outcomes.add("warned")
        assert Path(done.core).read_bytes() == wanted
        assert len(list(crash.iterdir())) == 5 - bool(done.warnings and not (crash / "bounds").exists())
        for p in crash.iterdir():
            p.unlink()
    kd.close()


@pytest.mark.parametrize("options", [{}, {"compress": True}, {"sparse": False}], ids=str)
def test_a_power_cut_between_any_two_calls(
    options: dict[str, bool], kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was flushed is there for sure after a power cut, the rest may be or not: so the order counts."""
    unflushed: set[str] = set()
    new: set[str] = set()
    order: list[str] = []

    def file(fd: int) -> str:
        return Path(f"/proc/self/fd/{fd}").readlink().name

    def write(name: str) -> Any:
        def call(fd: int, *args: Any) -> Any:
            unflushed.add(file(args[0]) if name == "copy_file_range" else file(fd))
            return getattr(os, name)(fd, *args)

        return call

    def fsync(fd: int) -> None:
        os.fsync(fd)
        if file(fd) == crash.name:
            order.append("flush")
            new.clear()
        unflushed.discard(file(fd))

    def link(source: str, final: str, **kwargs: Any) -> None:
        assert source not in unflushed, "a name for what isn't on the disk"
        os.link(source, final, **kwargs)
        order.append(final)
        new.add(final)

    def rename(source: str, final: str, **kwargs: Any) -> None:
        assert source not in unflushed
        assert not new, "bounds ahead of the files"
        assert (crash / "bsd.0.core").exists() or (crash / "bsd.0.core.gz").exists()
        os.rename(source, final, **kwargs)  # noqa: PTH104
        order.append(final)

    writes = {name: write(name) for name in ("write", "ftruncate", "copy_file_range", "sendfile")}
    monkeypatch.setattr(outfiles, "os", Os(fsync=fsync, link=link, rename=rename, **writes))
    save(kd, crash, **options)  # type: ignore[arg-type]
    gz = ".gz" if "compress" in options else ""
    assert order == ["info.0", "info.0.json", f"bsd.0{gz}", f"bsd.0.core{gz}", "flush", "bounds", "flush"]


ONE = """
    import sys
    from pathlib import Path
    from kvmlib.savecore import save
    from tests.dumps import make_dump

    folder = Path(sys.argv[1])
    with make_dump("openbsd/amd64").open(folder) as kd:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(5):
            print(save(kd, sys.argv[2], verify=True).number)
"""


def test_processes_at_once(crash: Path, tmp_path: Path) -> None:
    processes = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        command = [sys.executable, "-c", textwrap.dedent(ONE), str(tmp_path / str(i)), str(crash)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
    for p in processes:
        assert p.stdout is not None
        assert p.stdout.readline() == "ready\n"
    numbers: list[int] = []
    for p in processes:
        assert p.stdin is not None
        p.stdin.write("\n")
        p.stdin.flush()
    for p in processes:
        numbers += map(int, p.communicate(timeout=60)[0].split())
        assert p.returncode == 0
    assert sorted(numbers) == list(range(15))
    assert (crash / "bounds").read_text() == "15\n"
    wanted = make_dump("openbsd/amd64").saved
    assert all((crash / f"bsd.{n}.core").read_bytes() == wanted for n in numbers)
    assert len(list(crash.iterdir())) == 15 * 4 + 1


def test_another_file_system(kd: kvmlib.Kvm, dump: Dump) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK) or memory.stat().st_dev == Path(kd.path).stat().st_dev:
        pytest.skip("needs a /dev/shm")
    folder = memory / f"kvmtui-test-{os.getpid()}"
    folder.mkdir()
    try:
        for options in ({}, {"sparse": False}):
            done = save(kd, folder, **options)  # type: ignore[arg-type]
            assert Path(done.core).read_bytes() == dump.saved
        before = snapshot(folder)
        assert len(before) == 9
    finally:
        for p in folder.iterdir():
            p.unlink()
        folder.rmdir()


def test_the_digest_is_that_of_the_file_however_slowly_it_is_written(tmp_path: Path) -> None:
    """With a hole in the middle and one at the end, and a reader that is always ahead."""
    data = hashlib.shake_128(b"core").digest(100_000)
    with Directory(tmp_path) as where, Partial(where, "bsd.0.core") as part, Follower(part) as follower:
        for i in range(0, len(data), 10_000):
            part.write(data[i : i + 10_000])
            part.skip(4096 * (i // 10_000 % 3))
            time.sleep(0.002)
        part.skip(8192)
        part.sync()
        whole = Path(part.path).read_bytes()
        assert len(whole) == part.size
        assert follower.hex() == hashlib.sha256(whole).hexdigest()


def test_a_digest_that_nobody_asks_for_any_more_ends(tmp_path: Path) -> None:
    with Directory(tmp_path) as where, Partial(where, "bsd.0.core") as part, Follower(part):
        part.write(bytes(100_000))
    assert threading.active_count() == 1
