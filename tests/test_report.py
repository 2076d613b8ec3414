"""What kvmdump prints: the report's width, the JSON's keys, and bytes as hexdump -C shows them."""

import json
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.hexdump import Hexdump, hexdump
from kvmlib.report import info_data, report_text
from tests.samples import NAMES, sample_in, truncate, without_symbols

WIDTH = 79


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


def assert_fits(text: str) -> None:
    assert [line for line in text.split("\n") if len(line) > WIDTH] == []


def test_report(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        text = report_text(kd)
    assert_fits(text)
    flat = " ".join(text.split())
    assert f"PANIC {sample.panic} [" in flat
    assert " ".join(sample.version.split()) in flat
    for frame in sample.frames:
        assert f"{frame.pc:#x} {frame.where}" in flat
    for name, value in sample.registers.items():
        assert f"{name} {value:#0{2 * sample.machine.long_bytes + 2}x}" in flat
    trap = [name for name in sample.values if name.startswith("ddb_regs.")]
    for name in trap:
        assert f"{name.removeprefix('ddb_regs.')} {sample.values[name]:#0{2 * sample.machine.long_bytes + 2}x}" in flat
    assert (" TRAP " in flat) == bool(trap)
    # Its end is the end of the messages.
    assert flat.endswith(" ".join(sample.messages.split("\n")[-1].split()))
    assert f"the last of {len(sample.messages.splitlines())} lines" in flat


def test_report_says_what_is_missing(sample: kvmlib.Sample) -> None:
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        text = report_text(kd)
    assert_fits(text)
    assert "\nHOST      not known: the symbol hostname is needed\n" in text
    assert "\nWHERE     ffs_" in text
    assert f"\nPANIC     {sample.panic}" in text
    assert "\nMESSAGES  the last of " in text


def test_report_of_a_file_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    sample = sample_in(folder, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        text = report_text(kd)
    assert_fits(text)
    assert sample.image in text.replace("\n" + " " * 10, "")


KEYS = {
    "machine": str,
    "form": str,
    "dump_off": int,
    "kcore_hdr": dict,
    "registers": list,
    "panic_registers": list,
    "trap_registers": list,
    "segments": list,
    "state": dict,
    "symbols": dict,
    "version": str,
    "panic": str,
    "dumpmag": dict,
}


def info(sample: kvmlib.Sample, **options: Any) -> dict[str, Any]:
    with kvmlib.open(sample.image, **options) as kd:
        found: dict[str, Any] = json.loads(json.dumps(info_data(kd), allow_nan=False))
    return found


def test_info_keys(sample: kvmlib.Sample) -> None:
    found = info(sample)
    for key, kind in KEYS.items():
        assert type(found[key]) is kind, key
    assert (found["machine"], found["form"], found["dump_off"]) == (sample.machine.name, "device", sample.data_off)
    assert set(found["kcore_hdr"]) >= {"c_midmag", "c_hdrsize", "c_seghdrsize", "c_nseg"}
    assert all(type(v) is int for v in found["kcore_hdr"].values())
    for r in found["registers"]:
        assert set(r) >= {"name", "value", "width", "meaning"}
        assert (type(r["value"]), type(r["width"])) == (int, int)
    assert bool(found["registers"]) == bool(sample.machine.ram)
    assert [(s["start"], s["size"], s["present"]) for s in found["segments"]] == [
        (start, size, size) for start, size in sample.segments
    ]
    assert all(type(s["offset"]) is int for s in found["segments"])
    assert found["state"]["verdict"] == "fresh"
    assert found["state"]["reasons"]
    assert found["symbols"]["count"] == len(sample.symbols) + len(sample.modules)
    assert type(found["symbols"]["source"]) is str
    assert found["panic"] == sample.panic
    assert set(found["dumpmag"]) == {"va", "value", "state"}
    assert (found["dumpmag"]["value"], found["dumpmag"]["state"]) == (0x8FCA0101, "fresh")
    assert [f["where"] for f in found["stack"]["frames"]] == [f.where for f in sample.frames]
    assert found["stack"]["source"] == "dumppcb"
    trap = {f"ddb_regs.{r['name']}": r["value"] for r in found["trap_registers"]}
    assert trap == {name: value for name, value in sample.values.items() if name.startswith("ddb_regs.")}


def test_info_keys_are_there_when_nothing_is_known(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    without_symbols(sample)
    truncate(sample, sample.data_off)
    found = info(sample, machine=sample.machine)
    assert set(found) >= set(KEYS)
    for key in ("version", "panic", "dumpmag", "crashed"):
        assert found[key] is None
    assert found["symbols"]["count"] == 0
    assert found["state"]["verdict"] == "header only"
    assert all(s["present"] == 0 for s in found["segments"])


# -- hexdump ---------------------------------------------------------------------------------------------------------


def test_hexdump() -> None:
    data = b"OpenBSD \x00\x7f\x80\xff|~ \n" + bytes(48) + b"end"
    expected = """\
        ffffffff81000ff8  4f 70 65 6e 42 53 44 20  00 7f 80 ff 7c 7e 20 0a  |OpenBSD ....|~ .|
        ffffffff81001008  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        ffffffff81001038  65 6e 64                                          |end|
        ffffffff8100103b"""
    assert list(hexdump(data, 0xFFFFFFFF81000FF8, 16)) == textwrap.dedent(expected).split("\n")


def test_hexdump_of_nothing() -> None:
    assert list(hexdump(b"")) == []


def test_hexdump_of_nothing_but_repeats_ends_with_the_address() -> None:
    assert list(hexdump(bytes(64)))[1:] == ["*", "00000040"]


@pytest.mark.skipif(shutil.which("hexdump") is None, reason="there is no hexdump(1) here")
@pytest.mark.parametrize(
    "data", [b"x", b"12345678", b"123456789", bytes(15), bytes(16), bytes(17), bytes(80) + b"\1", bytes(range(256)) * 2]
)
def test_hexdump_prints_what_hexdump_prints(data: bytes) -> None:
    theirs = subprocess.run(["hexdump", "-C"], input=data, capture_output=True, check=True).stdout.decode()
    assert list(hexdump(data)) == theirs.splitlines()


@given(st.lists(st.sampled_from([bytes(16), bytes(5), b"a" * 16, b"abc", b""]), max_size=12))
def test_hexdump_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    dump, at = Hexdump(16), 0x1000
    lines: list[str] = []
    for piece in pieces:
        lines += dump.feed(piece, at)
        at += len(piece)
    lines += dump.close()
    assert lines == list(hexdump(b"".join(pieces), 0x1000, 16))
