"""Packed cores and kernels: written as a stream by each method, read again by us and by the programs that are there."""

import errno
import gzip
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

import kvmlib
from kvmlib import image as image_module, packing, pipes
from kvmlib.__main__ import main
from kvmlib.identify import _promised
from kvmlib.image import open_image
from kvmlib.namelist import kernel_beside, open_kernel
from kvmlib.outfiles import Partial
from kvmlib.packing import METHODS, Writer, method, method_of, packed, pieces
from kvmlib.savecore import plan_save, save
from tests.dumps import Dump, make_dump
from tests.zfiles import pack_stream, zeros

SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "compress": ".Z"}
#: Programs that know best whether a file of that suffix is whole.
CHECKS = {
    ".gz": (("gzip", "-t"), ("zcat",)),
    ".zst": (("zstd", "-q", "-t"), ("zstd", "-q", "-dc")),
    ".Z": (("uncompress", "-c"), ("zcat",), ("compress", "-dc")),
}
#: What a packer is stood in for with: reads stdin, writes stdout.
FAKE = f"#!{sys.executable}\nimport os, sys, time\n"
#: How a file comes to be packed here: each method, and `compress` by either of its ways.
WAYS = ("gzip", "zstd", "function", "program")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the name of a method, set up to go one way; without the package zstd is not to be had, which is a test."""
    if request.param == "function":
        # The package itself where it is installed, else a function that reads and writes as it does.
        if packing._ncompress() is None:
            monkeypatch.setattr(packing, "_ncompress", lambda: pack_stream)
        return "compress"
    if request.param == "program":
        monkeypatch.setattr(packing, "_ncompress", lambda: None)
        if packing._program() is None:
            program = fake_program(tmp_path, PACKS)
            monkeypatch.setattr(packing, "_program", lambda: program)
        return "compress"
    return str(request.param)


#: compress(1), in Python.
PACKS = f"""
    sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
    from tests.zfiles import pack
    sys.stdout.buffer.write(pack(sys.stdin.buffer.read()))
"""


def fake_program(folder: Path, body: str) -> str:
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / "compress"
    path.write_text(FAKE + textwrap.dedent(body))
    path.chmod(0o755)
    return str(path)


class Few:
    """Takes a few bytes at a time, and can do nothing else."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | memoryview, /) -> int:
        self.data += data[:1000]
        return min(1000, len(data))


def unpacked(data: bytes) -> bytes:
    how = method_of(data)
    assert how is not None
    return b"".join(pieces(io.BytesIO(data), "it", how))


def missing(name: str) -> bool:
    """Tell whether the method isn't to be had here, after checking that this is said."""
    try:
        method(name)
    except kvmlib.KvmError as e:
        assert (name, "needs Python 3.14 or the package backports.zstd" in str(e)) == ("zstd", True)
        return True
    return False


def check_with_programs(path: Path, contents: bytes) -> None:
    for command in CHECKS[path.suffix]:
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(path)], capture_output=True, check=True)
            assert done.stdout == (b"" if "-t" in command else contents), command


# -- written ---------------------------------------------------------------------------------------------------------


def test_header_streams(way: str, dump: Dump, kd: kvmlib.Kvm, tmp_path: Path) -> None:
    if missing(way):
        return
    few = Few()
    with packed(few, way) as out:
        assert kd.dump_wrtheader(out, len(dump.memory)) == len(dump.saved_header)
    assert unpacked(few.data) == dump.saved_header
    path = tmp_path / f"header{SUFFIXES[way]}"
    path.write_bytes(few.data)
    check_with_programs(path, dump.saved_header)


def test_any_amount_streams(way: str) -> None:
    if missing(way):
        return
    data = os.urandom(30_000) + bytes(100_000)
    for contents in (b"", b"a", data):
        few = Few()
        with packed(few, way) as out:
            buffer = bytearray(777)
            for at in range(0, len(contents), 777):
                piece = contents[at : at + 777]
                buffer[: len(piece)] = piece
                # Whoever writes uses the buffer again.
                with memoryview(buffer) as view:
                    assert out.write(view[: len(piece)]) == len(piece)
        assert unpacked(few.data) == contents


def test_whole_save(way: str, dump: Dump, kd: kvmlib.Kvm, crash: Path) -> None:
    if missing(way):
        with pytest.raises(kvmlib.KvmError, match="packing with zstd needs"):
            save(kd, crash, packing=way)
        assert not list(crash.iterdir())
        return
    end = SUFFIXES[way]
    plan = plan_save(kd, crash, packing=way)
    done = save(kd, crash, packing=way, verify=True)
    assert done.sha256 == hashlib.sha256(dump.saved).hexdigest()
    core, kernel = crash / f"bsd.0.core{end}", crash / f"bsd.0{end}"
    assert (done.core, done.kernel) == (plan.core, plan.kernel) == (str(core), str(kernel))
    assert {p.name for p in crash.iterdir()} == {"bounds", core.name, "info.0", "info.0.json", kernel.name}
    assert unpacked(core.read_bytes()) == dump.saved
    check_with_programs(core, dump.saved)
    check_with_programs(kernel, dump.kernel)
    assert done.bytes == core.stat().st_size
    assert kernel_beside(str(core)) == str(kernel)
    with open_kernel(kernel) as f:
        assert f.read() == dump.kernel
    with kvmlib.open(core, machine=dump.machine) as again:
        assert (again.form, again.image.kind, again.image.size) == ("savecore", way, len(dump.saved))
        with pytest.raises(kvmlib.ReadOnlyError, match=r"is compressed: unpack it with \w+\(1\) first"):
            again.image.check_writable()
    # The same dump gives the same bytes.
    second = save(kd, crash, packing=way)
    assert Path(second.core).read_bytes() == core.read_bytes()


def test_compress_still_means_gzip(kd: kvmlib.Kvm, crash: Path) -> None:
    assert plan_save(kd, crash, compress=True).core.endswith(".core.gz")
    assert save(kd, crash, compress=True).core.endswith(".core.gz")


def test_unknown_method(kd: kvmlib.Kvm, crash: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match='"lha" is no way to pack a dump: gzip, zstd, compress are'):
        save(kd, crash, packing="lha")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_cannot_be_written(
    number: int, way: str, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing(way):
        return
    write = Partial.write

    def fails(part: Partial, data: bytes | memoryview) -> int:
        if part.size + len(data) > 20_000:
            raise OSError(number, os.strerror(number))
        return write(part, data)

    monkeypatch.setattr(Partial, "write", fails)
    with pytest.raises(kvmlib.KvmError, match=os.strerror(number)):
        save(kd, crash, packing=way)
    assert not list(crash.iterdir())
    assert threading.active_count() == 1


def test_cancelled(way: str, kd: kvmlib.Kvm, crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing(way):
        return
    monkeypatch.setattr("kvmlib.copying._PIECE", 4096)
    for stop in range(0, 20, 3):
        left = iter(range(stop, -1, -1))
        with pytest.raises(kvmlib.Cancelled):
            save(kd, crash, packing=way, should_stop=lambda left=left: not next(left))  # type: ignore[misc]
        assert not list(crash.iterdir())
        assert threading.active_count() == 1


# -- what isn't there ------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is installed."""

    def nothing(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(packing, "importlib", SimpleNamespace(import_module=nothing))
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            "--zstd",
            "packing with zstd needs Python 3.14 or the package backports.zstd (pip install 'kvmtui[zstd]')",
        ),
        (
            "--compress",
            "packing with compress needs the package ncompress (pip install 'kvmtui[compress]') "
            "or a compress(1) program, and neither is here",
        ),
    ],
)
@pytest.mark.usefixtures("bare")
def test_missing(
    option: str, sentence: str, dump: Dump, crash: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "core").write_bytes(dump.saved)
    assert main(["save", str(tmp_path / "core"), str(crash), option]) == 1
    assert capsys.readouterr().err == f"kvmdump: {sentence}\n"
    assert not list(crash.iterdir())


@pytest.mark.usefixtures("bare")
def test_zst_cannot_be_read_without_its_package(tmp_path: Path) -> None:
    path = tmp_path / "bsd.0.core.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x24" + bytes(100))
    with pytest.raises(kvmlib.FormatError) as e:
        open_image(path)
    assert str(e.value) == (
        f"{path} is packed with zstd(1), which is read here with Python 3.14 or the package backports.zstd "
        "(pip install 'kvmtui[zstd]'): install that, or unpack it first with unzstd(1)"
    )


def test_options_of_the_command(
    dump: Dump, crash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packing, "_ncompress", lambda: pack_stream)
    core = tmp_path / "core"
    core.write_bytes(dump.saved)
    assert main(["save", str(core), str(crash), "-z", "-f"]) == 0
    assert main(["save", str(core), str(crash), "--compress", "-f"]) == 0
    assert {"bsd.0.core.gz", "bsd.1.core.Z"} <= {p.name for p in crash.iterdir()}
    capsys.readouterr()
    assert main(["save", str(core), str(crash), "-z", "--zstd"]) == 2
    assert "not allowed with" in capsys.readouterr().err


# -- a program at the other end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.stdin.buffer.read(); sys.exit(3)", "compress(1) failed with status 3"),
        ("sys.exit(0)", "compress(1) ended early, with status 0"),
        ("sys.stdin.close(); os.write(1, b'no')", "compress(1) ended early, with status 0"),
        (
            "sys.stdin.buffer.read(); os.write(1, b'hello')",
            "compress(1) wrote what was not expected: it begins with 6865",
        ),
        ("sys.stdin.buffer.read()", "compress(1) wrote what was not expected: it begins with "),
        ("time.sleep(60)", "compress(1) did nothing for 1 seconds and was given up"),
        ("sys.stdin.buffer.read(); os.close(1); time.sleep(60)", "compress(1) does not end and was given up"),
    ],
)
def test_program_that_fails(
    body: str, sentence: str, dump: Dump, crash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake_program(tmp_path, body)
    monkeypatch.setattr(packing, "_ncompress", lambda: None)
    monkeypatch.setattr(packing, "_program", lambda: program)
    monkeypatch.setattr(pipes, "_PATIENCE", 1.0)
    with dump.open(tmp_path) as kd, pytest.raises(kvmlib.KvmError) as e:
        save(kd, crash, packing="compress")
    assert str(e.value) == sentence
    assert not list(crash.iterdir())


def test_program_that_cannot_be_run(crash: Path, kd: kvmlib.Kvm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_ncompress", lambda: None)
    monkeypatch.setattr(packing, "_program", lambda: "/nonexistent/compress")
    with pytest.raises(kvmlib.KvmError, match=r"^cannot run compress\(1\): No such file or directory$"):
        save(kd, crash, packing="compress")
    assert not list(crash.iterdir())


def test_program_that_takes_nothing_more_until_it_is_read(tmp_path: Path) -> None:
    # More than two pipes hold, both ways: who only writes, or only reads, waits for ever here.
    program = fake_program(tmp_path, "while d := os.read(0, 4096): os.write(1, d * 3)")
    data = b"\x1f\x9d" + os.urandom(500_000)
    got: list[bytes] = []
    target: Any = SimpleNamespace(write=lambda data: got.append(bytes(data)))
    with pipes.through_program([program], b"\x1f\x9d", target) as out:
        out.write(data)
    assert sum(map(len, got)) == 3 * len(data)


def test_function_that_stops_reading() -> None:
    def packs(source: Any, target: Writer) -> None:
        target.write(source.read(10))

    few = Few()
    with pipes.through_function(packs, few) as out:
        for _ in range(100):
            out.write(b"0123456789")
    assert few.data == b"0123456789"


# -- read ------------------------------------------------------------------------------------------------------------


def put(folder: Path, how: str, data: bytes) -> Path:
    """Write a packed core into a folder; only what is to be had here."""
    path = folder / f"bsd.7.core{SUFFIXES[how]}"
    few = Few()
    with packed(few, how) as out:
        out.write(data)
    path.write_bytes(few.data)
    return path


def test_kernel_beside_in_every_spelling(tmp_path: Path) -> None:
    for core in ("bsd.3.core", "bsd.3.core.gz", "bsd.3.core.zst", "bsd.3.core.Z"):
        for kernel in ("bsd.3", "bsd.3.gz", "bsd.3.zst", "bsd.3.Z"):
            (tmp_path / kernel).touch()
            assert kernel_beside(str(tmp_path / core)) == str(tmp_path / kernel)
            (tmp_path / kernel).unlink()
        assert kernel_beside(str(tmp_path / core)) is None


def test_damaged(way: str, dump: Dump, tmp_path: Path) -> None:
    if missing(way):
        return
    path = put(tmp_path, way, dump.saved)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    for i in range(len(whole) // 2, len(whole) // 2 + 64):
        flipped[i] ^= 0xFF
    for data in (whole[:2], whole[:3], whole[:5], whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(data)
        for opens in (open_image, open_kernel):
            # A .Z file has no checksum, and its end looks like any other place.
            try:
                opens(path).close()
            except kvmlib.FormatError as e:
                assert str(e).startswith((f"{path} is a damaged {way} file: ", f"{path} holds nothing"))
                assert "\n" not in str(e)
            else:
                assert way == "compress" or len(data) < 4


def test_kernels_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmlib.namelist._KERNEL_MAX", 5 << 20)
    data, size = zeros(4000)
    assert size > 5 << 20
    (tmp_path / "bsd.0.Z").write_bytes(data)
    with pytest.raises(kvmlib.FormatError, match="unpacks to more than 5 MiB, too much for a kernel"):
        open_kernel(tmp_path / "bsd.0.Z")


# -- more comes out than there is room for ---------------------------------------------------------------------------


class Disk:
    """Counts what the copies took, and says how much is free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int = 1 << 40) -> None:
        self.taken = 0
        monkeypatch.setattr(image_module, "_HEAD", 1 << 16)
        monkeypatch.setattr(image_module, "_SLACK", 1 << 20)
        monkeypatch.setattr(os, "fstatvfs", lambda fd: SimpleNamespace(f_bavail=free // 512, f_frsize=512))
        make: Any = tempfile.TemporaryFile
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: Counted(self, make(**options)))


class Counted:
    """A temporary file that tells its disk."""

    def __init__(self, disk: Disk, file: Any) -> None:
        self._disk, self._file = disk, file

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> None:
        self._disk.taken += len(data)
        self._file.write(data)


def test_a_bomb_is_stopped(dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    path = tmp_path / "bsd.0.core.gz"
    path.write_bytes(gzip.compress(dump.saved + bytes(50 << 20)))
    sentence = (
        f"{path} unpacks to far more than the {len(dump.saved)} bytes that its header promises: "
        "it is damaged, or was made to fill the disk"
    )
    for opens in (kvmlib.open, kvmlib.Kvm, kvmlib.find):
        disk.taken = 0
        with pytest.raises(kvmlib.FormatError) as e:
            opens(path)
        assert str(e.value) == sentence
        assert 0 < disk.taken < 4 << 20


def test_a_little_more_is_no_bomb(dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch)
    path = tmp_path / "bsd.0.core.gz"
    path.write_bytes(gzip.compress(dump.saved + bytes(1 << 20)))
    with kvmlib.open(path) as kd:
        assert kd.image.size == len(dump.saved) + (1 << 20)


@pytest.mark.parametrize("suffix", [".gz", ".Z"])
def test_without_a_header_there_is_the_disk(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, free=20 << 20)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(gzip.compress(bytes(50 << 20)) if suffix == ".gz" else zeros(10_000)[0])
    with pytest.raises(kvmlib.KvmError) as e:
        kvmlib.find(path)
    assert str(e.value).startswith(f"{path} unpacks to more than the {18 << 20} bytes that ")
    assert str(e.value).endswith(" has room for: set TMPDIR to a directory that has more")
    assert 0 < disk.taken <= 18 << 20


def test_what_a_header_promises(dump: Dump, tmp_path: Path) -> None:
    def promised(data: bytes) -> int | None:
        path = tmp_path / "head"
        path.write_bytes(data)
        with closing(open_image(path)) as head:
            return _promised(head)

    assert promised(dump.saved[: len(dump.saved_header) + 5000]) == len(dump.saved)
    # More than 4 GiB: c_size has the low 32 bits, the segments have all.
    large = bytearray(dump.saved)
    at = dump.saved_header.index(struct.pack("<QQ", 0x100000, 16 * 4096))
    large[at : at + 16] = struct.pack("<QQ", 0x100000, 5 << 30)
    size = 0x6000 + (5 << 30)
    large[len(dump.saved_header) - 4 : len(dump.saved_header)] = struct.pack("<I", size & 0xFFFFFFFF)
    assert promised(bytes(large)) == len(dump.saved_header) + size
    # c_size alone isn't enough where there may be more memory than it can say.
    assert promised(make_dump("openbsd/i386").saved) is None
    assert promised(b"no header at all" * 100) is None
    assert promised(dump.saved[:14]) is None


def test_methods_are_told_apart() -> None:
    assert [m.suffix for m in METHODS] == list(SUFFIXES.values())
    assert [method_of(m.magic + b"abc") for m in METHODS] == list(METHODS)
    assert method_of(b"") is None
    assert method_of(b"\x1f\x9e") is None
