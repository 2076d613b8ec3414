"""Invalidating: exactly dumpmag's bytes change, and only where there is a dumpmag."""

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kvmlib
from kvmlib.savecore import save
from tests.conftest import ROOT
from tests.dumps import DUMPMAG, MACHINES, Dump, make_dump
from tests.test_savecore import VECTORS

BYTES = {"openbsd/amd64": 8, "openbsd/i386": 4, "netbsd/amd64": 4, "netbsd/i386": 4}


def zeroed(data: bytes, offset: int, n: int) -> bytes:
    return data[:offset] + bytes(n) + data[offset + n :]


@pytest.mark.parametrize("form", ["device", "saved"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str, form: str, shared: Path, tmp_path: Path) -> None:
    vector = shared / "vectors" / name
    facts = json.loads((vector / "expect.json").read_text())
    machine = f"{facts['os']}/{facts['arch']}"
    path = tmp_path / "dump"
    before = gzip.decompress((vector / ("device.img.gz" if form == "device" else "saved.core.gz")).read_bytes())
    path.write_bytes(before)
    dump_off = facts["dump_off"] if form == "device" else None
    with kvmlib.open(path, system=vector / "kernel.elf", dump_off=dump_off, machine=machine, write=True) as kd:
        mag = kd.dumpmag()
        done = kd.dump_inval()
        assert kd.dumpmag().state == "cleared"
        with pytest.raises(kvmlib.KvmError, match="it was cleared before"):
            kd.dump_inval()
    n = BYTES[machine]
    value = DUMPMAG.to_bytes(n, "little")
    assert (mag.state, mag.value, mag.offset) == ("fresh", DUMPMAG, done.offset)
    assert (done.before, done.after) == (value, bytes(n))
    assert before[done.offset : done.offset + n] == value
    assert path.read_bytes() == zeroed(before, done.offset, n)
    if form == "device":
        # How many bytes libkvm clears there is another matter (INVAL512).
        assert done.offset == facts.get("inval_fixed", facts["inval"])["file_off"]


@pytest.fixture(params=MACHINES)
def dump(request: pytest.FixtureRequest) -> Dump:
    return make_dump(request.param)


def test_device(dump: Dump, tmp_path: Path) -> None:
    n = BYTES[dump.machine]
    at = dump.dump_off + 512 + dump.offset("dumpmag")
    with dump.open(tmp_path, write=True) as kd:
        assert kd.dump_inval() == kvmlib.Invalidation(at, DUMPMAG.to_bytes(n, "little"), bytes(n))
        assert kd.dumpmag().state == "cleared"
    assert Path(kd.path).read_bytes() == zeroed(dump.device, at, n)


def test_saved_core(dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "bsd.0.core"
    path.write_bytes(dump.saved)
    with kvmlib.Kvm(path, system=dump.table(), machine=dump.machine, write=True) as kd:
        kd.dump_inval()
    at = len(dump.saved_header) + dump.offset("dumpmag")
    assert path.read_bytes() == zeroed(dump.saved, at, BYTES[dump.machine])


def refused(kd: kvmlib.Kvm, kind: type[kvmlib.KvmError], words: str | None) -> None:
    """It refuses with one sentence, and not a byte changes."""
    before = Path(kd.path).read_bytes()
    with pytest.raises(kind, match=words) as e:
        kd.dump_inval()
    assert "\n" not in str(e.value)
    assert kd.geterr() == str(e.value)
    assert Path(kd.path).read_bytes() == before


def test_opened_for_reading(dump: Dump, tmp_path: Path) -> None:
    with dump.open(tmp_path) as kd:
        refused(kd, kvmlib.ReadOnlyError, "opened for reading only")


@pytest.mark.parametrize("write", [False, True])
def test_compressed(write: bool, dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "bsd.0.core.gz"
    path.write_bytes(gzip.compress(dump.saved))
    with kvmlib.Kvm(path, system=dump.table(), machine=dump.machine, write=write) as kd:
        refused(kd, kvmlib.ReadOnlyError, None)


def changed(dump: Dump, value: int, tmp_path: Path) -> kvmlib.Kvm:
    """The dump with something else in dumpmag."""
    path = tmp_path / "changed.img"
    at, n = dump.dump_off + 512 + dump.offset("dumpmag"), BYTES[dump.machine]
    path.write_bytes(dump.device[:at] + value.to_bytes(n, "little") + dump.device[at + n :])
    kd = kvmlib.Kvm(path, system=dump.table(), machine=dump.machine, write=True)
    kd.dump_mkheader(dump.dump_off)
    return kd


def test_cleared_before(dump: Dump, tmp_path: Path) -> None:
    with changed(dump, 0, tmp_path) as kd:
        refused(kd, kvmlib.KvmError, r"holds 0x0, 0x8fca0101.* was expected: it was cleared before")


@pytest.mark.parametrize("value", [1, DUMPMAG + 1, DUMPMAG - 1, 0x0101CA8F, 0xFFFFFFFF])
def test_something_else_there(value: int, dump: Dump, tmp_path: Path) -> None:
    with changed(dump, value, tmp_path) as kd:
        refused(
            kd,
            kvmlib.KvmError,
            f"holds {value:#x}, 0x8fca0101.* was expected: perhaps this is not the right kernel file",
        )


def test_high_word_of_a_u_long(tmp_path: Path) -> None:
    """On openbsd/amd64 dumpmag is a u_long: all eight bytes must be right."""
    with changed(make_dump("openbsd/amd64"), DUMPMAG | 1 << 32, tmp_path) as kd:
        refused(kd, kvmlib.KvmError, "holds 0x18fca0101")


def test_no_symbols(dump: Dump, tmp_path: Path) -> None:
    with dump.open(tmp_path, write=True) as kd:
        kd.set_symbols(kvmlib.SymbolTable((), "none: no kernel file was given"))
        refused(kd, kvmlib.SymbolError, r"_dumpmag: not in name list \(none: no kernel file was given\)")


def test_no_dumpmag_among_the_symbols(dump: Dump, tmp_path: Path) -> None:
    with dump.open(tmp_path, write=True) as kd:
        kd.set_symbols(kvmlib.SymbolTable([s for s in dump.symbols if s.name != "dumpmag"], "bsd\x1b[m"))
        refused(kd, kvmlib.SymbolError, "has no such symbol")
        assert "\x1b" not in kd.geterr()


def moved(dump: Dump, va: int, tmp_path: Path) -> kvmlib.Kvm:
    """The dump, with symbols that say dumpmag is elsewhere."""
    kd = dump.open(tmp_path, write=True)
    others = [s for s in dump.symbols if s.name != "dumpmag"]
    kd.set_symbols(kvmlib.SymbolTable([*others, kvmlib.Symbol("dumpmag", va, 4, "D")], "another kernel"))
    return kd


def test_dumpmag_unmapped(dump: Dump, tmp_path: Path) -> None:
    with moved(dump, dump.va("version") - 4096, tmp_path) as kd:
        refused(kd, kvmlib.TranslationError, None)


def test_dumpmag_across_two_pages(dump: Dump, tmp_path: Path) -> None:
    with moved(dump, dump.va("version") + 4094, tmp_path) as kd:
        refused(kd, kvmlib.TranslationError, "crosses a page")


def test_dumpmag_behind_the_end_of_the_file(tmp_path: Path) -> None:
    dump = make_dump("netbsd/amd64", cut=15 * 4096)
    with moved(dump, dump.va("version") + 5 * 4096, tmp_path) as kd:
        refused(kd, kvmlib.TruncatedError, "the file ends at")


def test_no_header_yet(dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(dump.device)
    with kvmlib.Kvm(path, system=dump.table(), machine=dump.machine, write=True) as kd:
        refused(kd, kvmlib.KvmError, "no valid dump header")


NO_WRITE = """
    import os, sys
    import kvmlib
    kvmlib.open  # Imports it, while that is still allowed.
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        kvmlib.open(sys.argv[1], machine=sys.argv[2], write=True)
    except kvmlib.ReadOnlyError as e:
        print(e)
"""


def test_file_without_write_permission(dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "bsd.0.core"
    path.write_bytes(dump.saved)
    path.chmod(0o444)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if os.geteuid() == 0 and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | 0o011)  # pytest's own folders, which nobody else may enter
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NO_WRITE), str(path), dump.machine],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"cannot open {path} for writing: Permission denied\n"
    assert path.read_bytes() == dump.saved


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a tmpfs")
def test_read_only_medium(tmp_path: Path) -> None:
    dump = make_dump("openbsd/amd64")
    folder = tmp_path / "medium"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        path = folder / "bsd.0.core"
        path.write_bytes(dump.saved)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(kvmlib.ReadOnlyError, match="for writing: Read-only file system"):
            kvmlib.open(path, machine=dump.machine, write=True)
        assert path.read_bytes() == dump.saved
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_medium_that_refuses_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "pwrite", refuse)
    with make_dump("openbsd/amd64").open(tmp_path, write=True) as kd:
        refused(kd, kvmlib.KvmError, r"cannot write 8 bytes at 0x[0-9a-f]+ of .*: Read-only file system")


@pytest.mark.parametrize("sector", [512, 4096])
def test_raw_device(sector: int, dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a raw device whole sectors are written, but only dumpmag's bytes of them change."""
    from tests.test_image import Raw, device

    path = tmp_path / "disk"
    whole = dump.device.ljust(-(-len(dump.device) // 4096) * 4096, b"\xee")
    path.write_bytes(whole)
    raw = Raw(monkeypatch, sector)
    with kvmlib.Kvm(path, system=dump.table(), machine=dump.machine, write=True) as kd:
        kd.image.close()
        kd.image = device(path, write=True)
        kd.dump_mkheader(dump.dump_off)
        done = kd.dump_inval()
        assert kd.dumpmag().state == "cleared"
    assert path.read_bytes() == zeroed(whole, done.offset, BYTES[dump.machine])
    assert raw.writes == [(done.offset // sector * sector, sector)]


def test_sequence_of_a_rescue(dump: Dump, tmp_path: Path) -> None:
    """Save, invalidate, look again: the saved core still has its dumpmag, the device has none."""
    crash = tmp_path / "crash"
    crash.mkdir()
    with dump.open(tmp_path, write=True) as kd:
        saved = save(kd, crash)
        kd.dump_inval()
    with kvmlib.Kvm(saved.core, system=dump.table(), machine=dump.machine) as core:
        assert core.dumpmag().state == "fresh"
    assert Path(saved.core).read_bytes() == dump.saved
