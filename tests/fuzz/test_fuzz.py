"""Each target for a few inputs, always the same ones; and that the harness sees what it is to see."""

import random
import time
from pathlib import Path

import pytest

import kvmlib
from tests.fuzz import run
from tests.fuzz.mutate import mutate
from tests.fuzz.places import places
from tests.fuzz.run import once, plainly
from tests.fuzz.targets import TARGETS, Changed, Look, Target

#: How many inputs each target gets here; those that look at whole samples are slower.
RUNS = {"disks": 150, "elf": 100, "names": 150, "said": 100, "carved": 60, "undo": 60, "report": 25}


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs(name: str, tmp_path: Path) -> None:
    runs = RUNS.get(name, 40)
    done, findings = plainly(name, tmp_path, runs=runs, seed=1)
    if findings:
        raise findings[0].error
    assert done == runs


def target(look: Look) -> Target:
    return Target(look, lambda folder: [b"x"])


def test_what_counts_as_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(data: bytes, folder: Path) -> None:
        (folder / "input").write_bytes(data)

    once(target(refuses), b"abc", tmp_path)

    def changes(data: bytes, folder: Path) -> None:
        (folder / "input").write_bytes(data + b"!")

    with pytest.raises(Changed):
        once(target(changes), b"abc", tmp_path)

    def hangs(data: bytes, folder: Path) -> None:
        try:
            time.sleep(60)
        except Exception:
            return

    monkeypatch.setattr(run, "SECONDS", 0.01)
    with pytest.raises(run.Hang):
        once(target(hangs), b"abc", tmp_path)


def test_memory_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_most_memory", iter((0, run.BYTES + 1)).__next__)
    with pytest.raises(run.Memory):
        once(target(lambda data, folder: None), b"", tmp_path)


def test_findings_are_kept_one_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes, folder: Path) -> None:
        if len(data) % 2:
            raise ValueError("odd")
        raise KeyError("even")

    monkeypatch.setitem(TARGETS, "it", target(fails))
    done, findings = plainly("it", tmp_path, runs=50)
    assert done == 50
    assert {type(f.error) for f in findings} == {ValueError, KeyError}
    assert {f.keep(tmp_path).read_bytes() for f in findings} == {f.data for f in findings}


def test_the_same_seed_gives_the_same_inputs() -> None:
    some = [b"abc" * 50, bytes(300), bytes(range(200))]

    def inputs(seed: int) -> list[bytes]:
        dice = random.Random(seed)
        return [mutate(some[i % 3], some, dice) for i in range(100)]

    assert inputs(1) == inputs(1) != inputs(2)
    assert len(set(inputs(1))) > 90


def test_samples_change_where_they_are_looked_at(tmp_path: Path) -> None:
    def look(path: str, sample: kvmlib.Sample) -> None:
        with kvmlib.Kvm(path) as kd:
            kd.dump_mkheader(sample.dump_off)
            kd.read_physical(kd.ram[0].start, 8)

    known = places("openbsd/amd64", tmp_path, look)
    assert known.sample.dump_off in known.offsets
    changed = known.changed(bytes(12))
    first = known.offsets[0]
    assert changed[first : first + 4] == bytes(4)
    assert [i for i, (a, b) in enumerate(zip(changed, known.original, strict=True)) if a != b]
    assert all(first <= i < first + 4 for i, (a, b) in enumerate(zip(changed, known.original, strict=True)) if a != b)
