"""Files that someone made to do harm, or that change under our hands: each command ends, with a sentence."""

import errno
import gzip
import json
import os
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import commands, namelist
from kvmlib.__main__ import main
from kvmlib.image import open_image
from tests.samples import file_offset, forget_symbols, sample_in, va_of

Capture = pytest.CaptureFixture[str]
PAGE = 4096
NAMES = ("openbsd/amd64", "netbsd/i386")


def commands_for(image: str, folder: Path) -> list[list[str]]:
    """Every command that reads a dump."""
    crash = folder / "crash"
    crash.mkdir(exist_ok=True)
    return [
        ["find", image],
        ["info", image],
        ["translate", image, "version"],
        ["read", image, "version", "64"],
        ["read", image, "0x0", "0x10000"],
        ["map", image],
        ["dmesg", image],
        ["dmesg", image, "--all"],
        ["symbols", image, "panic"],
        ["save", image, str(crash), "-f"],
        ["inval", image],
    ]


def ends_well(capsys: Capture, argv: Sequence[str]) -> tuple[int, str]:
    """Run a command, as text and as JSON: it does what it can, or says one sentence."""
    status, out, err = 0, "", ""
    for flags in (["--json"], []):
        status = main([*argv, *flags])
        out, err = capsys.readouterr()
        assert status in (0, 1), argv
        assert "Traceback" not in err
        assert "Traceback" not in out
        # All that may come before it are other sentences.
        assert all(line.startswith("kvmdump: ") for line in err.splitlines()), err
        assert status == 0 or err
        if flags and out:
            json.loads(out)
    return status, out + err


def patched(sample: kvmlib.Sample, offset: int, data: bytes) -> None:
    with open(sample.image, "r+b") as f:
        f.seek(offset)
        f.write(data)


# -- page tables -----------------------------------------------------------------------------------------------------


def table_of(sample: kvmlib.Sample) -> tuple[int, int]:
    """(pa, file offset) of the page of the top table that leads to the kernel."""
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        entry_pa = kd.walk(va_of(sample, "version"))[0].entry_pa
        assert entry_pa is not None
        pa = entry_pa // PAGE * PAGE
        return pa, kd.pa2off(pa)


#: What an entry that points to the table at a pa is, and how many bytes it has.
ENTRIES: dict[str, tuple[Callable[[int], int], str]] = {
    "openbsd/amd64": (lambda pa: pa | 3, "<Q"),
    "netbsd/amd64": (lambda pa: pa | 3, "<Q"),
    "openbsd/i386": (lambda pa: pa | 3, "<I"),
    "netbsd/i386-pae": (lambda pa: pa | 3, "<Q"),
    "netbsd/riscv64-sv57": (lambda pa: pa >> 2 | 1, "<Q"),
    "netbsd/aarch64": (lambda pa: pa | 3 | 1 << 10, "<Q"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_tables_that_lead_in_a_circle(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 entries that all point to their own table: as many ways as there are addresses."""
    sample = sample_in(tmp_path, name)
    entry, letter = ENTRIES[name]
    pa, offset = table_of(sample)
    patched(sample, offset, struct.pack(letter, entry(pa)) * (PAGE // struct.calcsize(letter)))
    monkeypatch.setattr(commands, "_MOST_RANGES", 1000)
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)
    status, said = ends_well(capsys, ["map", sample.image])
    # A pointer in riscv's last table is no entry at all, and i386 is not told apart without its tables.
    if name in ("openbsd/amd64", "netbsd/amd64", "netbsd/aarch64"):
        assert status == 1
        assert said.count("\n") == 1001
        assert said.endswith("lead in a circle: the rest is left out\n")


def test_a_list_that_just_fits_is_whole(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    assert main(["map", sample.image, "--json"]) == 0
    found = capsys.readouterr().out
    monkeypatch.setattr(commands, "_MOST_RANGES", len(json.loads(found)))
    assert main(["map", sample.image, "--json"]) == 0
    assert capsys.readouterr().out == found
    monkeypatch.setattr(commands, "_MOST_RANGES", len(json.loads(found)) - 1)
    assert main(["map", sample.image, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(found)[:-1]


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/amd64", "netbsd/i386-pae", "netbsd/riscv64"])
@pytest.mark.parametrize("pa", [0x7FFFFFFFF000, 0xFFFFFFFFF000])
def test_tables_outside_the_dump(name: str, pa: int, tmp_path: Path, capsys: Capture) -> None:
    sample = sample_in(tmp_path, name)
    _, offset = table_of(sample)
    entry = pa >> 2 | 1 if "riscv" in name else pa | 3
    patched(sample, offset, struct.pack("<Q", entry) * 512)
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)
    status, said = ends_well(capsys, ["read", sample.image, f"{va_of(sample, 'version'):#x}", "64"])
    assert status == 1
    assert "not mapped" in said or "not in the dump" in said


# -- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["netbsd/amd64", "netbsd/i386", "openbsd/alpha", "netbsd/alpha"])
@pytest.mark.parametrize("count", [1 << 31, (1 << 60) + 77, (1 << 64) - 1])
def test_more_segments_than_there_can_be(name: str, count: int, tmp_path: Path, capsys: Capture) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        fields = [f for f in kvmlib.header_fields(kd) for f in (f, *f.children)]
        assert kd.reading is not None
        field = next(f for f in fields if f.name == "nmemsegs")
        at = kd.reading.headers.offset + field.offset
    patched(sample, at, (count & (1 << 8 * field.size) - 1).to_bytes(field.size, "little"))
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)
    status, said = ends_well(capsys, ["info", sample.image, "-m", name, "-o", str(sample.dump_off)])
    assert status == 1
    assert "segments" in said


def ram_of(sample: kvmlib.Sample) -> tuple[int, list[kvmlib.Segment]]:
    """File offset of the header's list of segments, and what is in it (machines with two u64 for each)."""
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        assert kd.reading is not None
        segments = kd.segments
        raw = b"".join(struct.pack("<QQ", s.start, s.size) for s in segments)
        at = kd.cpu_data.index(raw)
        return kd.reading.headers.cpu_off + at, segments


@pytest.mark.parametrize(
    "change",
    [
        lambda ram: [(s.start, s.size) for s in reversed(ram)],
        lambda ram: [(ram[0].start, s.size) for s in ram],
        lambda ram: [((1 << 64) - PAGE, s.size) for s in ram],
        lambda ram: [(s.start, (1 << 64) - PAGE) for s in ram],
        lambda ram: [(s.start + PAGE, (1 << 64) - s.start - PAGE) for s in ram],
        lambda ram: [(1 << 63, 1 << 63) for _ in ram],
        lambda ram: [(s.start + 1, s.size - 1) for s in ram],
        lambda ram: [(0, 0) for _ in ram],
    ],
    ids=["unsorted", "overlapping", "at the top", "huge", "up to the top", "halves", "odd", "empty"],
)
def test_segments_that_cannot_be(change: Callable[[Any], Any], tmp_path: Path, capsys: Capture) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    at, ram = ram_of(sample)
    patched(sample, at, b"".join(struct.pack("<QQ", *s) for s in change(ram)))
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, [*argv, "-m", "netbsd/amd64"])
    with kvmlib.Kvm(sample.image, machine="netbsd/amd64") as kd:
        kd.dump_mkheader(sample.dump_off)
        for s in kd.ram:
            for pa in (s.start, s.start + s.size - 1, s.start + s.size):
                assert sum(p.size for p in kd.memory.spans(pa, 3 * PAGE)) == 3 * PAGE
        with pytest.raises(kvmlib.KvmError):
            kd.read_physical((1 << 64) - 16, 64)


# -- symbols ---------------------------------------------------------------------------------------------------------


def kernel_with(sample: kvmlib.Sample, changes: dict[str, int]) -> bytes:
    """The sample's kernel (ELF64) with other numbers in the section header of its symbols or, with "st_", in them."""
    data = bytearray(Path(sample.kernel).read_bytes())
    (shoff,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    at = next(a for a in range(shoff, shoff + 64 * count, 64) if struct.unpack_from("<I", data, a + 4) == (2,))
    fields = {"sh_offset": (24, "<Q"), "sh_size": (32, "<Q"), "sh_link": (40, "<I"), "sh_entsize": (56, "<Q")}
    offset, size = struct.unpack_from("<QQ", data, at + 24)
    for name, value in changes.items():
        if name == "st_name":
            for symbol in range(offset, offset + size, 24):
                struct.pack_into("<I", data, symbol, value)
        elif name == "e_shoff":
            struct.pack_into("<Q", data, 40, value)
        else:
            place, letter = fields[name]
            struct.pack_into(letter, data, at + place, value)
    return bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"sh_offset": 1 << 40},
        {"sh_offset": (1 << 64) - 1},
        {"sh_size": 1 << 40},
        {"sh_size": (1 << 64) - 8},
        {"sh_offset": (1 << 64) - 8, "sh_size": 64},
        {"sh_link": 0xFFFFFFFF},
        {"sh_link": 0},
        {"sh_entsize": 0},
        {"sh_entsize": 1 << 60},
        {"st_name": 0x7FFFFFFF},
        {"st_name": 0xFFFFFFFF},
        {"e_shoff": 1 << 50},
        {"e_shoff": (1 << 64) - 8},
    ],
    ids=str,
)
def test_symbols_that_lie_past_the_end(changes: dict[str, int], tmp_path: Path, capsys: Capture) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    original = Path(sample.kernel).read_bytes()
    damaged = kernel_with(sample, changes)
    Path(sample.kernel).write_bytes(damaged)
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)
        ends_well(capsys, [*argv, "-N", sample.kernel] if argv[0] not in ("find", "inval") else argv)
    # The same in memory, where the boot loader left it.
    Path(sample.kernel).unlink()
    image = bytearray(Path(sample.image).read_bytes())
    at = image.find(b"\x7fELF")
    assert at > 0
    symtab = struct.unpack_from("<Q", original, 40)[0]
    assert symtab
    for place in range(at + 64, at + 64 + 64 * 8, 64):
        if struct.unpack_from("<I", image, place + 4) == (2,):
            for name, value in changes.items():
                where = {
                    "sh_offset": (24, "<Q"),
                    "sh_size": (32, "<Q"),
                    "sh_link": (40, "<I"),
                    "sh_entsize": (56, "<Q"),
                }
                if name in where:
                    struct.pack_into(where[name][1], image, place + where[name][0], value)
    Path(sample.image).write_bytes(image)
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)


def test_a_packed_kernel_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namelist, "_KERNEL_MAX", 4 << 20)
    path = tmp_path / "bsd.gz"
    path.write_bytes(gzip.compress(b"\x7fELF" + bytes(16 << 20)))
    with pytest.raises(kvmlib.FormatError, match="unpacks to more than 4 MiB, too much for a kernel"):
        kvmlib.open(sample_in(tmp_path, "openbsd/amd64").image, system=path)


# -- what changes meanwhile, what can't be read ----------------------------------------------------------------------


def look_at_all(kd: kvmlib.Kvm) -> None:
    """Ask for everything; what isn't there is a KvmError."""
    asked: list[Callable[[], object]] = [
        lambda: kvmlib.report_text(kd),
        lambda: kvmlib.summary(kd),
        lambda: kvmlib.messages(kd),
        lambda: kvmlib.buffers(kd),
        lambda: kvmlib.stack(kd),
        lambda: kvmlib.damage_map(kd),
        lambda: list(kd.mappings()),
        lambda: kd.read(kd.address("version"), 64),
        lambda: kd.read_physical(kd.ram[-1].start, 64),
        lambda: kvmlib.header_fields(kd),
        lambda: kvmlib.panic_registers(kd),
        lambda: kd.walk(0xFFFFFFFF80001000),
    ]
    for ask in asked:
        try:
            ask()
        except kvmlib.KvmError as e:
            assert str(e)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [0, 1, PAGE, 1 << 20])
def test_a_file_that_shrinks_while_open(name: str, keep: int, tmp_path: Path) -> None:
    """Touching what is mapped of it would kill the process."""
    sample = sample_in(tmp_path, name)
    for ask_before in (False, True):
        sample = sample_in(tmp_path, name)
        with kvmlib.open(sample.image) as kd:
            if ask_before:
                look_at_all(kd)
            os.truncate(sample.image, keep)
            look_at_all(kd)
            last = kd.ram[-1]
            with pytest.raises(kvmlib.KvmError, match=f"shrank from .* to {keep} bytes"):
                kd.read_physical(last.start + last.size - 16, 16)
            assert list((tmp_path / "crash").glob("*")) == []
            with pytest.raises(kvmlib.KvmError):
                kvmlib.save(kd, tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"\x03", b"\x41"])
def test_a_file_that_changes_while_open(name: str, byte: bytes, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    size = Path(sample.image).stat().st_size
    with kvmlib.open(sample.image) as kd:
        Path(sample.image).write_bytes(byte * size)
        look_at_all(kd)


class BadDisk:
    """Files count as disks, on which some bytes can't be read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bad = range(0)
        read = os.preadv

        def preadv(fd: int, buffers: Any, offset: int, *flags: int) -> int:
            size = sum(len(b) for b in buffers)
            if (
                self.bad
                and offset < self.bad.stop
                and offset + size > self.bad.start
                and stat.S_ISREG(os.fstat(fd).st_mode)
            ):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(fd, buffers, offset, *flags)

        monkeypatch.setattr(os, "preadv", preadv)
        monkeypatch.setattr("kvmlib.image.stat.S_ISBLK", stat.S_ISREG)


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_cannot_be_read(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one place after the other, from one place on, and not at all."""
    sample = sample_in(tmp_path, name)
    size = Path(sample.image).stat().st_size
    version = file_offset(sample, va_of(sample, "version"))
    _, table = table_of(sample)
    disk = BadDisk(monkeypatch)
    assert open_image(sample.image).kind == "device"
    for bad in (
        range(sample.dump_off, sample.dump_off + 512),
        range(version, version + 512),
        range(table, table + 512),
        range(size - 512, size),
        range(size // 3, size),
        range(512),
        range(size),
    ):
        disk.bad = bad
        for argv in commands_for(sample.image, tmp_path):
            ends_well(capsys, argv)
    assert "Input/output error" in ends_well(capsys, ["read", sample.image, "0x0", "16"])[1]


def test_no_symbols_and_no_kernel(tmp_path: Path, capsys: Capture) -> None:
    sample = sample_in(tmp_path, "netbsd/i386")
    Path(sample.kernel).unlink()
    forget_symbols(Path(sample.image))
    for argv in commands_for(sample.image, tmp_path):
        ends_well(capsys, argv)
