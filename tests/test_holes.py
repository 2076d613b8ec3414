"""Sparse files: their holes aren't read, and nothing is missed."""

import os
from pathlib import Path

import pytest

from kvmlib import holes
from kvmlib.image import open_image

MIB = 1 << 20


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    path = tmp_path / "sparse"
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
        for at in (8 * MIB, 40 * MIB + 12288):
            f.seek(at)
            f.write(b"needle".ljust(4096, b"\0"))
    return path


def test_written_covers_what_was_written(sparse: Path) -> None:
    with open(sparse, "rb") as f:
        found = list(holes.written(f.fileno(), 0, 64 * MIB))
        for at in (8 * MIB, 40 * MIB + 12288):
            assert any(low <= at and at + 4096 <= high for low, high in found)
        assert all(a < b for a, b in found)
        if sparse.stat().st_blocks * 512 < MIB:
            assert sum(b - a for a, b in found) < MIB
        assert list(holes.written(f.fileno(), 5, 5)) == []
        inside = list(holes.written(f.fileno(), 8 * MIB + 10, 10 * MIB + 10))
        assert inside[0][0] == 8 * MIB + 10
        assert all(8 * MIB + 10 <= low < high <= 10 * MIB + 10 for low, high in inside)


@pytest.mark.parametrize("known", [True, False])
def test_find_and_sample_miss_nothing(sparse: Path, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not known:
        monkeypatch.setattr(holes, "_SEEK_DATA", None)
    image = open_image(sparse)
    data = sparse.read_bytes()
    for needle in (b"needle", b"needle\0\0", b"\0needle", b"\0" * 9 + b"n", b"\0\0", b"absent", b"e" + b"\0" * 5000):
        for start in (0, 1, 8 * MIB - 3, 8 * MIB + 1, 41 * MIB):
            assert image.find(needle, start, len(data)) == data.find(needle, start), (needle, start)
        assert image.find(needle, 0, 8 * MIB + 5) == data.find(needle, 0, 8 * MIB + 5)
    for start, stop, step in (
        (0, len(data), 4096),
        (5, len(data), 4096),
        (8 * MIB, 8 * MIB + 10, 3),
        (9, 9, 4),
        (9, 5, 4),
    ):
        assert image.sample(start, stop, step) == data[start:stop:step]
    image.close()


def test_a_file_system_that_does_not_know(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, at: int, whence: int) -> int:
        raise OSError(22, "no such thing")

    monkeypatch.setattr(os, "lseek", refuse)
    assert list(holes.written(0, 3, 5 * MIB)) == [(3, 5 * MIB)]
