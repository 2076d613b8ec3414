"""The verdict on a dump, and the map of what was written over it."""

import random
import time
from pathlib import Path

import pytest

import kvmlib
from kvmlib.dumpstate import Damage, State, damage_map, dumpsize, extent
from tests.samples import NAMES, file_offset, long_at, poke, poke_long, sample_in, truncate, va_of
from tests.test_find import MIB, Small, at_end, written


def state_of(sample: kvmlib.Sample, *, kernel: bool = True) -> State:
    with kvmlib.open(sample.image, system=sample.kernel if kernel else None) as kd:
        return kvmlib.summary(kd).state


def overwrite(sample: kvmlib.Sample, pa: int, data: bytes) -> None:
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        offset = kd.pa2off(pa)
    with open(sample.image, "r+b") as f:
        f.seek(offset)
        f.write(data)


def damage_of(sample: kvmlib.Sample) -> list[Damage]:
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        return damage_map(kd)


def noise(n: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(n)


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_fresh(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("fresh", True)
    assert damage_of(sample) == []


def test_saved(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    poke_long(sample, "dumpmag", 0)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("saved", True)
    assert any("cleared" in r for r in state.reasons)


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/amd64-sparse"])
def test_truncated_at_x_of_y(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    total = sum(s.size for s in sample.segments)
    truncate(sample, sample.data_off + total - 5000)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("truncated", False)
    assert any(f"{total - 5000} of {total} bytes are there" in r for r in state.reasons)


def test_header_only(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    truncate(sample, sample.data_off)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("header only", False)


def test_not_believable(tmp_path: Path) -> None:
    """Its segments overlap, and none holds the page tables."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    data = bytearray(Path(sample.image).read_bytes())
    at = sample.dump_off + 8
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    data[at + 32 : at + 40] = data[at + 16 : at + 24]
    Path(sample.image).write_bytes(data)
    with kvmlib.Kvm(sample.image, machine="openbsd/amd64") as kd:
        kd.dump_mkheader(sample.dump_off)
        state = kvmlib.summary(kd).state
    assert state.verdict == "not believable"
    assert any("overlaps another" in r for r in state.reasons)
    assert any("lies in no segment" in r for r in state.reasons)


# -- written over ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (noise(4096), "random bytes (encrypted swap)"),
        (b"Dear Sir, your order is on its way.\n" * 113, "text"),
        (bytes(1372) + (0x011954).to_bytes(4, "little") + bytes(2720), "a file system's superblock"),
        (bytes(512) + b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(3564), "a program file"),
    ],
)
def test_foreign_data_where_page_tables_were(name: str, data: bytes, what: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        table = kd.walk(va_of(sample, "panic"))[-1].table_pa
    assert table is not None
    overwrite(sample, table, data[:4096])
    assert Damage(table, 4096, f"{what} where page tables should be", True) in damage_of(sample)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("overwritten", False)
    assert any(f"overwritten at pa {table:#x}+0x1000: {what}" in r for r in state.reasons)


def test_foreign_data_where_the_kernel_was(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        pa = kd.kvatop(va_of(sample, "panic"))[0] & ~0xFFF
        assert pa + 8192 <= next(s.start + s.size for s in kd.segments if s.start <= pa < s.start + s.size)
    overwrite(sample, pa, noise(4096))
    (found,) = damage_of(sample)
    assert (found.pa, found.what) == (pa, "random bytes (encrypted swap) where kernel text should be")
    assert state_of(sample).verdict == "overwritten"


def test_the_kernel_need_not_be_known(tmp_path: Path) -> None:
    """The top page table is in the header."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    overwrite(sample, sample.root, noise(4096))
    Path(sample.kernel).unlink()
    assert state_of(sample, kernel=False).verdict == "overwritten"


def test_random_bytes_elsewhere_are_no_proof(tmp_path: Path) -> None:
    """A picture in the buffer cache looks just like encrypted swap."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        last = max(kd.segments, key=lambda s: s.size)
        empty = bytes(16 * 4096)
        start = next(
            pa for pa in range(last.start, last.start + last.size, 4096) if kd.read_physical(pa, 16 * 4096) == empty
        )
    overwrite(sample, start, noise(16 * 4096))
    (found,) = damage_of(sample)
    assert (found.pa, found.size, found.certain) == (start, 16 * 4096, False)
    state = state_of(sample)
    assert (state.verdict, state.complete) == ("fresh", True)
    assert f"may be overwritten at pa {start:#x}+0x10000: {found.what}" in state.reasons


def test_a_dump_of_nothing_but_noise_is_looked_at_quickly(tmp_path: Path) -> None:
    path = tmp_path / "noise.img"
    head = Small(20).device[:512]
    pages = 64 * MIB // 4096
    path.write_bytes(head[:32] + (pages * 4096).to_bytes(8, "little") + head[40:] + noise(64 * MIB))
    with kvmlib.Kvm(path, machine="openbsd/amd64") as kd:
        kd.dump_mkheader(0)
        begin = time.perf_counter()
        found = damage_map(kd)
        assert time.perf_counter() - begin < 2
        assert sum(d.size for d in found if not d.certain) > 60 * MIB
        assert kvmlib.summary(kd).state.verdict == "overwritten"


def test_the_end_lies_under_a_newer_dump(tmp_path: Path) -> None:
    old, new = Small(40), Small(10)
    path = written(tmp_path, at_end(old), at_end(new))
    with kvmlib.Kvm(path, machine="openbsd/amd64") as kd:
        kd.dump_mkheader(MIB - len(old.device))
        assert damage_map(kd) == []
        from kvmlib.search import find_in

        find_in(kd.image)
        at = MIB - len(new.device)
        (found,) = damage_map(kd)
        assert found == Damage(kd.segments[0].start + at - kd.segments[0].offset, MIB - at, found.what, True)
        assert found.what == f"the newer dump at {at:#x}"
        assert kvmlib.summary(kd).state.verdict == "overwritten"


def test_reasons_are_few(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    data = bytearray(Path(sample.image).read_bytes())
    for at in range(sample.data_off, len(data) - 4096, 8192):
        data[at : at + 4096] = noise(4096, at)
    Path(sample.image).write_bytes(data)
    with kvmlib.open(sample.image, machine="openbsd/amd64", dump_off=sample.dump_off) as kd:
        state = kvmlib.summary(kd).state
    assert any("more places" in r for r in state.reasons)
    assert all(len(r) < 300 for r in state.reasons)


# -- dumpsize ----------------------------------------------------------------------------------------------------------


def test_dumpsize(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert dumpsize(kd) == max(s.start + s.size for s in sample.segments)
        assert extent(kd).missing == 0


@pytest.mark.parametrize("pages", [0, -1, 1, 0x7FFFFFFF])
def test_a_dumpsize_that_cannot_be_true(pages: int, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    poke(sample, "dumpsize", (pages & 0xFFFFFFFF).to_bytes(4, "little"))
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert dumpsize(kd) is None


def test_another_kernels_dumpsize_is_none(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    poke(sample, "version", b"Another system 1.0")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert dumpsize(kd) is None
    assert long_at(sample, "dumpsize") > 0
    assert file_offset(sample, va_of(sample, "dumpsize")) > sample.data_off
