"""Invalidating: exactly dumpmag's bytes change, and only where there is a dumpmag."""

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import kvmlib
from kvmlib.savecore import save
from tests import zfiles
from tests.conftest import ROOT
from tests.dumps import DUMPMAG, MACHINES, Dump, make_dump
from tests.samples import NAMES, sample_in, truncate
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


# -- what speaks against it ------------------------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/amd64")


def kinds(found: tuple[kvmlib.Obstacle, ...]) -> list[tuple[str, bool]]:
    return [(o.kind, o.forcible) for o in found]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compress", [False, True])
def test_nothing_speaks_against_a_saved_dump(name: str, compress: bool, tmp_path: Path) -> None:
    """Without a kernel file: the symbols in the dump itself lead to dumpmag, and prove that they do."""
    sample = sample_in(tmp_path, name)
    Path(sample.kernel).unlink()
    before = Path(sample.image).read_bytes()
    told: list[tuple[int, int]] = []
    with kvmlib.open(sample.image) as kd:
        assert kd.symbols.path is None
        core = save(kd, tmp_path, compress=compress).core
        assert kvmlib.check_invalidation(kd, core, progress=lambda *n: told.append(n)) == ()
        # A saved core is told apart from the dump by its headers, so it can be saved again, and compared again.
        with kvmlib.open(core) as again:
            (tmp_path / "again").mkdir()
            assert again.image.kind != "gzip" or kinds(kvmlib.check_invalidation(again)) == [("read-only", False)]
            copy = save(again, tmp_path / "again").core
        assert kvmlib.check_invalidation(kd, copy) == ()
        done = kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
    total = told[-1][1]
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert Path(sample.image).read_bytes() == zeroed(before, done.offset, len(done.before))


def test_not_saved(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        (found,) = kvmlib.check_invalidation(kd)
    assert found == kvmlib.Obstacle("unsaved", found.text, True)
    assert found.text.startswith("nothing shows that this dump was saved")


def test_the_header_of_a_saved_core_is_compared_too(sample: kvmlib.Sample, tmp_path: Path) -> None:
    with kvmlib.open(sample.image) as kd:
        core = Path(save(kd, tmp_path).core)
        good = core.read_bytes()
        # The version of the CORE_CPU segment, c_size, the first byte of memory, one in the middle, the last.
        for at in (0, 16, 20, len(good) - 5 * 4096, len(good) // 2, len(good) - 1):
            core.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
            (found,) = kvmlib.check_invalidation(kd, core)
            assert found.kind == "unsaved"
            assert "its headers are others" in found.text or f"it differs from offset {at:#x} on" in found.text
        for data, size in ((good[:-1], len(good) - 1), (good + b"\0", len(good) + 1)):
            core.write_bytes(data)
            (found,) = kvmlib.check_invalidation(kd, core)
            assert f"it has {size} bytes, {len(good)} were expected" in found.text
        core.write_bytes(good)
        assert kvmlib.check_invalidation(kd, core) == ()


def test_what_is_no_saved_core(sample: kvmlib.Sample, tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 100000)[:-9])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "link").symlink_to(sample.image)
    os.mkfifo(tmp_path / "pipe")
    wrong: dict[str | Path, str] = {
        sample.image: "is the dump itself, which proves nothing",
        tmp_path / "link": "is the dump itself, which proves nothing",
        sample.kernel: "its headers are others",
        tmp_path / "none": "cannot be compared with the dump: No such file or directory",
        tmp_path / "empty": "is empty",
        tmp_path / "cut.gz": "is a damaged gzip file",
        tmp_path: "is a directory",
        tmp_path / "pipe": "cannot be compared",
        "nul\0": "cannot be compared",
        "/dev/null": "cannot be compared",
    }
    with kvmlib.open(sample.image) as kd:
        for path, words in wrong.items():
            (found,) = kvmlib.check_invalidation(kd, path)
            assert (found.kind, found.forcible) == ("unsaved", True)
            assert words in found.text
            assert "\n" not in found.text


def test_comparing_can_be_cancelled(sample: kvmlib.Sample, tmp_path: Path) -> None:
    with kvmlib.open(sample.image) as kd:
        core = save(kd, tmp_path).core
        answers = iter([False, False, True])
        with pytest.raises(kvmlib.Cancelled, match="nothing was changed"):
            kvmlib.check_invalidation(kd, core, should_stop=lambda: next(answers))


def test_a_dump_that_is_cut_off_and_saved_as_it_is(sample: kvmlib.Sample, tmp_path: Path) -> None:
    truncate(sample, Path(sample.image).stat().st_size - (1 << 20))
    with kvmlib.open(sample.image) as kd:
        core = save(kd, tmp_path, force=True).core
        assert kvmlib.check_invalidation(kd, core) == ()


def test_an_address_that_is_not_proven(sample: kvmlib.Sample, tmp_path: Path) -> None:
    """As with the wrong kernel, used by force: where it says dumpmag lies, something may look like one."""
    with kvmlib.open(sample.image) as kd:
        core = save(kd, tmp_path).core
        version = kd.nlist("version")["version"]
        others = [s for s in kd.symbols if s.name != "version"]
        kd.set_symbols(kvmlib.SymbolTable([*others, version._replace(value=version.value + 64)], "another kernel"))
        (found,) = kvmlib.check_invalidation(kd, core)
        assert (found.kind, found.forcible) == ("unproven", True)
        assert found.text.startswith("dumpmag's address is not proven: version at va ")
        kd.set_symbols(kvmlib.SymbolTable(others, "another kernel"))
        (found,) = kvmlib.check_invalidation(kd, core)
        assert "dumpmag's address is not proven: it has no symbol version" in found.text


def test_nothing_to_clear(sample: kvmlib.Sample, tmp_path: Path) -> None:
    with kvmlib.open(sample.image) as kd:
        kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
        with pytest.raises(kvmlib.KvmError, match="it was cleared before; nothing was written"):
            kvmlib.check_invalidation(kd)
        with pytest.raises(kvmlib.KvmError, match="it was cleared before; nothing was written"):
            kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_disk_in_use_is_never_written_to(
    sample: kvmlib.Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(sample.image).read_bytes()
    monkeypatch.setattr("kvmlib.inval.in_use", lambda path: "it is mounted")
    with kvmlib.open(sample.image) as kd:
        assert kvmlib.check_invalidation(kd) == (kvmlib.Obstacle("in use", "it is mounted", False),)
        # It may have been mounted since that was looked at.
        with pytest.raises(kvmlib.KvmError, match="it is mounted; nothing was written"):
            kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
    assert Path(sample.image).read_bytes() == before
    assert not (tmp_path / "record").exists()


def test_where_nothing_tells_whether_it_is_in_use(
    sample: kvmlib.Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(path: str) -> str:
        raise kvmlib.KvmError("it is not known")

    monkeypatch.setattr("kvmlib.inval.in_use", unknown)
    with kvmlib.open(sample.image) as kd:
        found = kvmlib.check_invalidation(kd)
        assert kinds(found) == [("in use", True), ("unsaved", True)]
        # What can be forced can be done.
        kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
        assert kd.dumpmag().state == "cleared"


def test_not_writable(sample: kvmlib.Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, write: bool = False) -> None:
        raise kvmlib.ReadOnlyError("cannot open it for writing: Read-only file system")

    with kvmlib.open(sample.image) as kd:
        monkeypatch.setattr("kvmlib.inval.open_dump", refuse)
        found = kvmlib.check_invalidation(kd)
    assert found == (kvmlib.Obstacle("read-only", "cannot open it for writing: Read-only file system", False),)


@pytest.mark.parametrize("packed", [gzip.compress, zfiles.pack])
def test_a_packed_dump_is_read_only_however_it_is_packed(packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    dump = make_dump("openbsd/amd64")
    path = tmp_path / "packed.img"
    path.write_bytes(packed(dump.device))
    with dump.open(tmp_path) as plain, kvmlib.Kvm(path, system=plain.symbols, machine=dump.machine) as kd:
        kd.dump_mkheader(dump.dump_off)
        assert ("read-only", False) in kinds(kvmlib.check_invalidation(kd))
