"""Taking an invalidation back: exactly the bytes that were there, and only if nothing came between."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib.undo import undo, write_record
from tests.samples import NAMES, sample_in


def cleared(sample: kvmlib.Sample, record: Path) -> kvmlib.Invalidation:
    with kvmlib.open(sample.image, write=True) as kd:
        write_record(kd, kd.dumpmag(), record)
        return kd.dump_inval()


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


@pytest.fixture
def amd64(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/amd64")


def test_puts_back_what_was_there(sample: kvmlib.Sample, tmp_path: Path) -> None:
    before = Path(sample.image).read_bytes()
    done = cleared(sample, tmp_path / "record")
    assert Path(sample.image).read_bytes() != before
    back = undo(tmp_path / "record", sample.image)
    assert Path(sample.image).read_bytes() == before
    assert (back.offset, back.before, back.after) == (done.offset, done.after, done.before)
    with kvmlib.open(sample.image) as kd:
        assert kd.dumpmag().state == "fresh"


def test_not_twice(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    cleared(amd64, tmp_path / "record")
    undo(tmp_path / "record", amd64.image)
    before = Path(amd64.image).read_bytes()
    with pytest.raises(kvmlib.KvmError, match="0000000000000000 was expected, 0101ca8f00000000 is there; nothing was"):
        undo(tmp_path / "record", amd64.image)
    assert Path(amd64.image).read_bytes() == before


def test_not_over_something_else(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    done = cleared(amd64, tmp_path / "record")
    with open(amd64.image, "r+b") as f:
        f.seek(done.offset + 7)
        f.write(b"\x01")
    before = Path(amd64.image).read_bytes()
    with pytest.raises(kvmlib.KvmError, match="0000000000000001 is there; nothing was written"):
        undo(tmp_path / "record", amd64.image)
    assert Path(amd64.image).read_bytes() == before


def test_not_into_another_dump(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    cleared(amd64, tmp_path / "record")
    other = tmp_path / "other.img"
    other.write_bytes(Path(amd64.image).read_bytes())
    with pytest.raises(kvmlib.FormatError, match=r"is the record of .*openbsd-amd64.img .*nothing was written"):
        undo(tmp_path / "record", other)
    assert other.read_bytes() == Path(amd64.image).read_bytes()


def test_not_into_a_dump_of_another_size(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    cleared(amd64, tmp_path / "record")
    with open(amd64.image, "ab") as f:
        f.write(b"x")
    with pytest.raises(kvmlib.FormatError, match="nothing was written"):
        undo(tmp_path / "record", amd64.image)


def test_record_is_never_written_over(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text("something precious")
    with kvmlib.open(amd64.image) as kd, pytest.raises(kvmlib.KvmError, match=r"cannot write the undo record .*exists"):
        write_record(kd, kd.dumpmag(), record)
    assert record.read_text() == "something precious"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff\xfe", b"null", b"[" * 100000, b'{"kind": "other"}'])
def test_no_record(amd64: kvmlib.Sample, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "record").write_bytes(raw)
    with pytest.raises(kvmlib.FormatError, match="is no undo record"):
        undo(tmp_path / "record", amd64.image)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -1},
        {"offset": "0"},
        {"offset": 1.5},
        {"offset": float("inf")},
        {"size": float("nan")},
        {"offset": None},
        {"before": "zz"},
        {"before": ""},
        {"before": "", "after": ""},
        {"before": "00" * 512, "after": "00" * 512},
        {"after": "01" + "00" * 7},
        {"after": "00" * 4},
        {"dump": 5},
    ],
    ids=str,
)
def test_forged_record(amd64: kvmlib.Sample, tmp_path: Path, change: dict[str, Any]) -> None:
    record = tmp_path / "record"
    cleared(amd64, record)
    before = Path(amd64.image).read_bytes()
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(kvmlib.FormatError):
        undo(record, amd64.image)
    assert Path(amd64.image).read_bytes() == before


@pytest.mark.parametrize("offset", [1 << 20 << 20, 1 << 80, 7451136 - 4])
def test_record_that_points_behind_the_end(amd64: kvmlib.Sample, tmp_path: Path, offset: int) -> None:
    record = tmp_path / "record"
    cleared(amd64, record)
    record.write_text(json.dumps(json.loads(record.read_text()) | {"offset": offset}))
    before = Path(amd64.image).read_bytes()
    with pytest.raises(kvmlib.KvmError):
        undo(record, amd64.image)
    assert Path(amd64.image).read_bytes() == before


def test_record_that_is_not_there(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match=r"cannot read the undo record .*: No such file"):
        undo(tmp_path / "none", amd64.image)
    with pytest.raises(kvmlib.KvmError, match=r"cannot read the undo record .*directory"):
        undo(tmp_path, amd64.image)


@pytest.mark.parametrize("before", ["deadbeef", "00000000", "0101ca8f01000000", "8fca0101", "efbeadde00000000"])
def test_nothing_but_a_dumpmag_is_put_back(amd64: kvmlib.Sample, tmp_path: Path, before: str) -> None:
    """Whoever forges a record must not be able to write with it what he likes."""
    record = tmp_path / "record"
    done = cleared(amd64, record)
    now = Path(amd64.image).read_bytes()
    change = {"before": before, "after": "00" * (len(before) // 2)}
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    if before == "8fca0101":
        # That of a machine of the other byte order: it is a dumpmag.
        assert undo(record, amd64.image).after == bytes.fromhex(before)
        assert Path(amd64.image).read_bytes()[done.offset :][:8] == bytes.fromhex(before) + bytes(4)
        return
    with pytest.raises(kvmlib.FormatError, match="is no undo record"):
        undo(record, amd64.image)
    assert Path(amd64.image).read_bytes() == now


def test_a_record_without_an_end(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as f:
        f.truncate(1 << 40)
    for path in (tmp_path / "pipe", tmp_path / "large", "/dev/zero"):
        with pytest.raises(kvmlib.FormatError, match="is no undo record"):
            undo(path, amd64.image)


def test_records_get_free_names_in_a_directory_that_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "kvmtui"
    name = kvmlib.record_in(folder, "/dev/sd0b")
    assert name == str(folder / "sd0b.undo")
    assert folder.stat().st_mode & 0o777 == 0o700
    Path(name).symlink_to("nowhere")
    assert kvmlib.record_in(folder, "/dev/sd0b") == f"{name}.1"
    assert kvmlib.record_in(".", "dump") == "dump.undo"
