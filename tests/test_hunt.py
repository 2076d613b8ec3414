"""Searches in a dump's memory: bytes with gaps, text, values, pointers; by va and by pa; and who maps a page."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import kvmlib
from kvmlib import Pattern, look_for, vas_of
from kvmlib.hunt import _needle
from tests.dumps import KERNEL_PA, KERNEL_PAGES, MACHINES, PAGE, make_dump

each_machine = pytest.mark.parametrize("machine", MACHINES)


def naive(values: list[int | None], data: bytes) -> list[int]:
    size = len(values)
    return [i for i in range(len(data) - size + 1) if all(v is None or v == data[i + k] for k, v in enumerate(values))]


@given(st.lists(st.none() | st.integers(0, 2), min_size=1, max_size=5), st.binary(max_size=40), st.integers(0, 40))
def test_a_needle_with_gaps_is_found_wherever_it_lies(values: list[int | None], data: bytes, held: int) -> None:
    data = bytes(b % 3 for b in data)
    held = min(held, len(data))
    if all(v is None for v in values):
        with pytest.raises(kvmlib.KvmError, match="at least one byte"):
            _needle(values)
        return
    expected = [i for i in naive(values, data) if i + len(values) > held]
    assert list(_needle(values).hits(bytearray(data), held, len(data))) == expected


@each_machine
def test_it_finds_the_version_by_va_and_by_pa(machine: str, tmp_path: Path) -> None:
    dump = make_dump(machine)
    with dump.open(tmp_path) as kd:
        pattern = Pattern.of_text("7.6 (GENERIC) #1", "little")
        va = dump.va("version") + kd.read(dump.va("version"), 20).index(b"7.6")
        assert [f.address for f in look_for(kd, pattern) if f.address >= dump.base] == [va]
        (found,) = look_for(kd, pattern, physical=True)
        assert found == (kd.kvatop(va)[0], kd.pa2off(kd.kvatop(va)[0]), 16, "")
        assert [f.address for f in look_for(kd, pattern, start=va, stop=va + 16)] == [va]
        assert list(look_for(kd, pattern, start=va + 1)) == []
        assert list(look_for(kd, pattern, start=va, stop=va + 15)) == []


@pytest.mark.parametrize("piece", [64, 4096, 1 << 20])
@each_machine
def test_it_finds_what_a_search_of_all_bytes_finds(
    machine: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmlib.hunt._PIECE", piece)
    dump = make_dump(machine)
    with dump.open(tmp_path) as kd:
        start = dump.base + KERNEL_PA
        data = kd.read(start, KERNEL_PAGES * PAGE)
        told: list[tuple[int, int]] = []
        for text in ("41 ??", "41 ?? 42", "?? 00 01", data[PAGE - 4 : PAGE + 9].hex(" "), data[60:70].hex()):
            pattern = Pattern.of_hex(text)
            values = [None if p == "??" else int(p, 16) for p in pattern.said.split()]
            expected = [start + i for i in naive(values, data)]
            told.clear()
            found = look_for(kd, pattern, start=start, progress=lambda done, total: told.append((done, total)))
            assert [f.address for f in found] == expected, text
            assert told[-1] == (len(data), len(data))
            for f in look_for(kd, pattern, start=start):
                assert kd.image.read(f.offset, 1) == kd.read(f.address, 1)


def test_text_is_found_as_utf_16_too(tmp_path: Path) -> None:
    dump = make_dump("netbsd/amd64")
    device = bytearray(dump.device)
    at = device.rfind(dump.memory) + dump.offset("dumpmag") + 0x100
    device[at : at + 8] = "kern".encode("utf-16-le")
    path = tmp_path / "dump.img"
    dump.open(tmp_path).close()
    path.write_bytes(device)
    with kvmlib.Kvm(path, system=dump.table(), machine=dump.machine) as kd:
        kd.dump_mkheader(dump.dump_off)
        found = [f for f in look_for(kd, Pattern.of_text("kern", "little")) if f.what == "UTF-16"]
        assert [(f.address, f.size) for f in found] == [(dump.va("dumpmag") + 0x100, 8)]


@each_machine
def test_values_lie_at_multiples_of_their_width(machine: str, tmp_path: Path) -> None:
    dump = make_dump(machine)
    with dump.open(tmp_path) as kd:
        magic = struct.unpack("<I", kd.read(dump.va("dumpmag"), 4))[0]
        found = [f.address for f in look_for(kd, Pattern.of_value(magic, 4, "little"))]
        assert dump.va("dumpmag") in found
        assert all(address % 4 == 0 for address in found)
        unaligned = int.from_bytes(kd.read(dump.va("dumpmag") + 1, 4), "little")
        assert dump.va("dumpmag") + 1 not in [f.address for f in look_for(kd, Pattern.of_value(unaligned, 4, "little"))]
        assert Pattern.of_value(-1, 2, "big").said == "-0x1 in 2 bytes"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Pattern.of_hex("de a"), "'a' is not a byte: two hex digits or"),
        (lambda: Pattern.of_hex("?d"), "'?d' is not a byte"),
        (lambda: Pattern.of_hex("\x1b["), r"'\\x1b\[' is not a byte"),
        (lambda: Pattern.of_hex(" "), "nothing was written to look for"),
        (lambda: Pattern.of_hex("?? ??"), "at least one byte that isn't"),
        (lambda: Pattern.of_hex("ab" * 5000), "at most 4096 bytes, not 5000"),
        (lambda: Pattern.of_text("", "little"), "nothing was written to look for"),
        (lambda: Pattern.of_text("\udc80", "little"), "cannot be written as UTF-8"),
        (lambda: Pattern.of_value(256, 1, "little"), "0x100 does not fit in 1 byte"),
        (lambda: Pattern.of_value(-129, 1, "little"), "-0x81 does not fit in 1 byte"),
        (lambda: Pattern.of_value(1, 3, "little"), "1, 2, 4 or 8 bytes, not 3"),
    ],
)
def test_what_is_no_pattern_is_said_in_a_sentence(make: Callable[[], Pattern], sentence: str) -> None:
    with pytest.raises(kvmlib.KvmError, match=sentence):
        make()


def test_it_ends_after_so_many_and_can_be_cancelled(tmp_path: Path) -> None:
    with make_dump("netbsd/i386").open(tmp_path) as kd:
        assert len(list(look_for(kd, Pattern.of_hex("00"), most=5))) == 5
        assert list(look_for(kd, Pattern.of_hex("00"), most=5)) == list(look_for(kd, Pattern.of_hex("00")))[:5]
        with pytest.raises(kvmlib.Cancelled):
            list(look_for(kd, Pattern.of_hex("00"), should_stop=lambda: True))
        with pytest.raises(kvmlib.Cancelled):
            list(vas_of(kd, KERNEL_PA, should_stop=lambda: True))


def test_too_many_ranges_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmlib.hunt._RANGES", 1)
    with (
        make_dump("netbsd/i386").open(tmp_path) as kd,
        pytest.raises(kvmlib.KvmError, match="more than 1 ranges there"),
    ):
        list(look_for(kd, Pattern.of_hex("00"), physical=True))


def test_a_file_that_shrank_is_a_sentence(tmp_path: Path) -> None:
    with make_dump("netbsd/i386").open(tmp_path) as kd:
        with open(tmp_path / "dump.img", "r+b") as f:
            f.truncate(kd.image.size // 2)
        with pytest.raises(kvmlib.KvmError, match="ends before file offset 0x"):
            list(look_for(kd, Pattern.of_hex("de ad be ef 01"), physical=True))


@each_machine
@settings(max_examples=20)
@given(page=st.integers(0, KERNEL_PAGES - 1), inside=st.integers(0, PAGE - 1))
def test_vas_of_is_mappings_the_other_way_round(
    machine: str, page: int, inside: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dump = make_dump(machine)
    with dump.open(tmp_path_factory.mktemp("vas")) as kd:
        pa = KERNEL_PA + page * PAGE + inside
        found = list(vas_of(kd, pa))
        assert dump.base + pa in [va for va, _ in found]
        assert all(kd.kvatop(va)[0] == pa for va, _ in found)
        whole = [va for va, _ in vas_of(kd, pa & -PAGE, PAGE)]
        assert whole == [va & -PAGE for va, _ in found]
        assert not [va for va, _ in vas_of(kd, 0x7000_0000) if va >= dump.base]
