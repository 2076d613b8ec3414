"""A range of memory as a file: whole or not at all, and never over another."""

import re
from pathlib import Path

import pytest

import kvmlib
from kvmlib.hexdump import hexdump
from tests.dumps import KERNEL_PA, KERNEL_PAGES, PAGE, make_dump


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.parametrize("piece", [48, 1 << 16])
@pytest.mark.parametrize("physical", [False, True])
@pytest.mark.parametrize("size", [1, 100, 5000])
def test_each_form_holds_the_bytes(
    size: int, physical: bool, piece: int, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmlib.rangefile._PIECE", piece)
    dump = make_dump("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        va = dump.va("version") + 3
        address = kd.kvatop(va)[0] if physical else va
        data = kd.read(va, size)
        told: list[tuple[int, int]] = []
        n = kvmlib.write_range(kd, folder / "raw", address, size, physical=physical, progress=lambda *t: told.append(t))
        assert (folder / "raw").read_bytes() == data
        assert n == size
        assert told[-1] == (size, size)
        assert kvmlib.write_range(kd, folder / "c", address, size, "c", physical=physical) > size
        text = (folder / "c").read_text()
        assert bytes(int(b, 16) for b in re.findall(r"0x([0-9a-f]{2}),", text)) == data
        assert f"memory[{size}] = {{" in text
        assert f"{'pa' if physical else 'va'} {address:#x}" in text
        kvmlib.write_range(kd, folder / "hex", address, size, "hexdump", physical=physical)
        assert (folder / "hex").read_text().splitlines() == list(hexdump(data, address, 16))
        assert sorted(p.name for p in folder.iterdir()) == ["c", "hex", "raw"]


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path: Path, folder: Path) -> None:
    dump = make_dump("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        va = dump.va("version")
        there = folder / "there"
        there.write_text("mine")
        (folder / "dangling").symlink_to(folder / "nowhere")
        for name in ("there", "dangling"):
            with pytest.raises(kvmlib.KvmError, match="exists already, and nothing is overwritten"):
                kvmlib.write_range(kd, folder / name, va, 10)
        assert there.read_text() == "mine"
        end = dump.base + KERNEL_PA + KERNEL_PAGES * PAGE
        with pytest.raises(kvmlib.TranslationError):
            kvmlib.write_range(kd, folder / "hole", end - 10, 20, "c")
        with pytest.raises(kvmlib.Cancelled):
            kvmlib.write_range(kd, folder / "stopped", va, 20, should_stop=lambda: True)
        for size in (0, -1):
            with pytest.raises(kvmlib.KvmError, match="holds nothing to write"):
                kvmlib.write_range(kd, folder / "none", va, size)
        with pytest.raises(kvmlib.KvmError, match="beyond the last address"):
            kvmlib.write_range(kd, folder / "far", (1 << 64) - 5, 10)
        with pytest.raises(kvmlib.KvmError, match="there is no directory"):
            kvmlib.write_range(kd, folder / "no" / "such", va, 10)
        for name in (".", "a\0b"):
            with pytest.raises(kvmlib.KvmError, match="is not the name of a file"):
                kvmlib.write_range(kd, name, va, 10)
        assert sorted(p.name for p in folder.iterdir()) == ["dangling", "there"]
