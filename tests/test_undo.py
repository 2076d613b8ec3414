"""Taking an invalidation back: exactly the bytes that were there, and only if nothing came between."""

import json
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
