"""Going on with a copy that a killed save left: only if it is the beginning of this one; others' are left alone."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kvmlib
from kvmlib import copying
from kvmlib.savecore import plan_save, save
from tests.dumps import Dump
from tests.test_savecore import names, run, snapshot

TEMP = ".bsd.0.core.0123abcd.partial"


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("size", [1, 535, 536, 537, 4096, 70001, -1, None])
def test_goes_on_where_it_ended(
    size: int | None, sparse: bool, verify: bool, dump: Dump, kd: kvmlib.Kvm, crash: Path
) -> None:
    (crash / TEMP).write_bytes(dump.saved[:size])
    inode = (crash / TEMP).stat().st_ino
    done = save(kd, crash, resume=True, sparse=sparse, verify=verify)
    assert done.resumed == len(dump.saved[:size])
    assert done.warnings == ()
    assert Path(done.core).read_bytes() == dump.saved
    assert Path(done.core).stat().st_ino == inode, "not copied once more"
    assert names(crash) == ["bounds", "bsd.0", "bsd.0.core"]
    assert done.sha256 == (hashlib.sha256(dump.saved).hexdigest() if verify else None)


def test_the_number_may_have_been_taken_since(dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / TEMP).write_bytes(dump.saved[:50000])
    save(kd, crash)
    done = save(kd, crash, resume=True)
    assert (done.number, done.resumed) == (1, 50000)
    assert Path(done.core).read_bytes() == dump.saved


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda b: b"\1" + b[1:], "0x0"),
        (lambda b: b[:60000] + bytes([b[60000] ^ 1]) + b[60001:], "0xea60"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "0x1116f"),
        (lambda b: b[:60000] + bytes(10000), "0xea60"),
    ],
)
@pytest.mark.parametrize("piece", [4096, 1 << 18])
def test_another_dumps_copy_is_left_alone(
    change: Callable[[bytes], bytes],
    where: str,
    piece: int,
    dump: Dump,
    kd: kvmlib.Kvm,
    crash: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "_PIECE", piece)
    (crash / TEMP).write_bytes(change(dump.saved[:70000]))
    before = snapshot(crash)[TEMP]
    seen: list[tuple[int, int]] = []
    done = save(kd, crash, resume=True, verify=True, progress=lambda *numbers: seen.append(numbers))
    assert done.resumed == 0
    assert done.warnings == (f"not resumed: {TEMP} differs from the dump at {where}, it is left alone",)
    assert Path(done.core).read_bytes() == dump.saved
    assert done.sha256 == hashlib.sha256(dump.saved).hexdigest()
    assert snapshot(crash)[TEMP] == before
    total = 2 * (len(dump.saved) + len(dump.kernel))
    assert seen[-1] == (total, total)


def test_one_that_is_longer_than_the_dump(dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / TEMP).write_bytes(dump.saved + b"x")
    done = save(kd, crash, resume=True)
    assert "differs from the dump at" in done.warnings[0]
    assert Path(done.core).read_bytes() == dump.saved
    assert (crash / TEMP).read_bytes() == dump.saved + b"x"


def test_the_best_of_several(dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    for i, size in enumerate((100, 50000, 70000, 300)):
        (crash / f".bsd.{i}.core.0123abc{i}.partial").write_bytes(dump.saved[:size])
    (crash / ".bsd.2.core.0123abc2.partial").write_bytes(b"x" * 70000)
    done = save(kd, crash, resume=True)
    assert (done.resumed, done.number) == (50000, 0)
    assert Path(done.core).read_bytes() == dump.saved
    assert (crash / ".bsd.0.core.0123abc0.partial").exists()


def test_a_finished_copy_is_not_written_to(dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    """Killed between giving the core its name and taking the temporary one away: both are the same file."""
    first = save(kd, crash)
    os.link(first.core, crash / TEMP)
    before = snapshot(crash)
    done = save(kd, crash, resume=True)
    assert done.warnings == (f"not resumed: {TEMP} is a finished copy, which has its name",)
    assert done.number == 1
    after = snapshot(crash)
    assert all(after[name] == before[name] for name in before if name != "bounds")


def test_one_that_is_being_written(dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / TEMP).write_bytes(dump.saved[:70000])
    with (crash / TEMP).open("rb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        done = save(kd, crash, resume=True)
    assert "is being written by another save" in done.warnings[0]
    assert (crash / TEMP).read_bytes() == dump.saved[:70000]


def test_a_running_save_cannot_be_robbed(dump: Dump, crash: Path, tmp_path: Path) -> None:
    """Another save with resume=True starts when this one has copied all but not given names yet."""
    (tmp_path / "other").mkdir()
    stolen: list[kvmlib.Saved] = []

    def progress(done: int, total: int) -> None:
        if done == total and not stolen:
            with dump.open(tmp_path / "other") as kd:
                stolen.append(save(kd, crash, resume=True))

    with dump.open(tmp_path) as kd:
        mine = save(kd, crash, progress=progress)
    assert stolen[0].resumed == 0
    assert "is being written by another save" in stolen[0].warnings[0]
    assert {mine.number, stolen[0].number} == {0, 1}
    for done in (mine, stolen[0]):
        assert Path(done.core).read_bytes() == dump.saved


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "empty"])
def test_what_is_no_copy(kind: str, dump: Dump, kd: kvmlib.Kvm, crash: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(dump.saved[:5000])
    if kind == "symlink":
        (crash / TEMP).symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(crash / TEMP)
    elif kind == "directory":
        (crash / TEMP).mkdir()
    else:
        (crash / TEMP).touch()
    done = save(kd, crash, resume=True)
    assert done.resumed == 0
    assert done.warnings[0].startswith(f"not resumed: {TEMP} ")
    assert victim.read_bytes() == dump.saved[:5000]
    assert Path(done.core).read_bytes() == dump.saved


def test_nothing_to_go_on_with(kd: kvmlib.Kvm, crash: Path) -> None:
    (crash / ".bsd.0.core.gz.0123abcd.partial").write_bytes(b"packed ones can't be gone on with")
    assert save(kd, crash, resume=True).warnings == (f"not resumed: no copy was begun in {crash}",)


def test_compressed(kd: kvmlib.Kvm, crash: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match="a compressed copy cannot be resumed: save without compression"):
        save(kd, crash, resume=True, compress=True)
    assert not list(crash.iterdir())


def test_cancel_leaves_what_was_there(dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PIECE", 4096)
    for stop in range(0, 24, 3):
        (crash / TEMP).write_bytes(dump.saved[:30000])
        left = iter(range(stop, -1, -1))
        with pytest.raises(kvmlib.Cancelled, match="cancelled, and"):
            save(kd, crash, resume=True, should_stop=lambda left=left: not next(left))  # type: ignore[misc]
        assert names(crash) == [TEMP]
        found = (crash / TEMP).read_bytes()
        assert dump.saved.startswith(found), "and can be gone on with still"
        assert len(found) >= 30000
    with pytest.raises(kvmlib.Cancelled, match=f"{TEMP} is still there"):
        save(kd, crash, resume=True, should_stop=lambda: len((crash / TEMP).read_bytes()) > 40000)


def test_space_is_needed_for_the_rest_only(
    dump: Dump, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (crash / "minfree").write_text("1\n")
    (crash / TEMP).write_bytes(dump.saved[:70000])
    free = len(dump.saved) + len(dump.kernel) - 70000 + 1024
    monkeypatch.setattr("kvmlib.outfiles.Directory.free", lambda self: free)
    assert plan_save(kd, crash).refusal
    assert not plan_save(kd, crash, resume=True).refusal
    assert save(kd, crash, resume=True).resumed == 70000


# Fifty children save and are killed at random moments, spread over the time that a save takes.
KILLER = """
    import os, random, signal, sys, time
    from pathlib import Path
    from kvmlib import copying, savecore
    from tests.dumps import make_dump

    base = Path(sys.argv[1])
    dump = make_dump("openbsd/amd64", time_second=int(sys.argv[2]))
    copying._PIECE = 4096
    dice = random.Random(1)

    def child(folder):
        (folder / "crash").mkdir(parents=True)
        with dump.open(folder) as kd:
            ready, begin = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(begin, b"x")
                savecore.save(kd, folder / "crash", verify=True)
                os._exit(0)
            os.read(ready, 1)
            os.close(ready)
            os.close(begin)
        return pid

    begin = time.monotonic()
    os.waitpid(child(base / "whole"), 0)
    took = time.monotonic() - begin
    for i in range(50):
        pid = child(base / f"{i:02}")
        time.sleep(took * dice.random())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""


def test_killed_at_random_moments(dump: Dump, tmp_path: Path) -> None:
    """Whatever has a final name is whole; the next save goes on with what is left, and all is well then."""
    run(KILLER, str(tmp_path / "runs"), str(int(time.time())))
    whole = {"bsd.0.core": dump.saved, "bsd.0": dump.kernel}
    resumed = 0
    for folder in sorted((tmp_path / "runs").iterdir()):
        crash = folder / "crash"
        found = {p.name for p in crash.iterdir() if not p.name.endswith(".partial")}
        assert found <= {*whole, "bounds", "info.0", "info.0.json"}
        for name in found & set(whole):
            assert len((crash / name).read_bytes()) == len(whole[name])
        if "bsd.0.core" in found:
            assert found >= {"bsd.0", "info.0", "info.0.json"}
        if "bounds" in found:
            assert "bsd.0.core" in found
            assert (crash / "bounds").read_text() == "1\n"
        before = snapshot(crash)
        with dump.open(folder) as kd:
            done = save(kd, crash, resume=True, verify=True)
        resumed += done.resumed > 0
        assert done.number == (1 if found else 0)
        assert Path(done.core).read_bytes() == dump.saved
        after = snapshot(crash)
        assert all(after[name] == before[name] for name in found - {"bounds"})
        assert (crash / "bounds").read_text() == f"{done.number + 1}\n"
    assert resumed, "some were killed in the middle of the copy"
