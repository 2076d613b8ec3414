"""kvmdump as people and scripts call it: what it prints, what it returns, and one sentence where it can't."""

import errno
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib import commands
from kvmlib.__main__ import main
from kvmlib.hexdump import hexdump
from tests.conftest import ROOT
from tests.samples import NAMES, long_at, poke, sample_in, truncate, va_of

Capture = pytest.CaptureFixture[str]
COMMANDS = ("find", "info", "translate", "read", "map", "dmesg", "symbols", "save", "inval", "sample", "machines")


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


@pytest.fixture
def amd64(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/amd64")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo records go where one is."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def run(capsys: Capture, *argv: str | Path) -> str:
    """What it prints; it must go well, and quietly."""
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def run_json(capsys: Capture, *argv: str | Path) -> Any:
    return json.loads(run(capsys, *argv, "--json"))


def fails(capsys: Capture, *argv: str | Path) -> str:
    """The sentence it fails with."""
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    assert status == 1
    assert captured.err.startswith("kvmdump: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("kvmdump: ").removesuffix("\n")


def kvmdump(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    # What is in the buffer at exit is what can go wrong.
    env.pop("PYTHONUNBUFFERED", None)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    argv_ = [sys.executable, "-m", "kvmlib", *argv]
    done: Any = subprocess.run(argv_, env=env, check=False, **options)
    assert isinstance(done, subprocess.CompletedProcess)
    return done


# -- commands --------------------------------------------------------------------------------------------------------


def test_find(sample: kvmlib.Sample, capsys: Capture) -> None:
    best = run_json(capsys, "find", sample.image)[0]
    assert (best["offset"], best["machine"], best["form"]) == (sample.dump_off, sample.machine.name, "device")
    assert best["score"] > 50
    assert best["reasons"]
    text = run(capsys, "find", sample.image)
    assert text.startswith(f"{sample.dump_off:#x}  {sample.machine.name}  score {best['score']}  device, ")
    assert " ".join(best["reasons"][0].split()) in " ".join(text.split())


def test_info(sample: kvmlib.Sample, capsys: Capture) -> None:
    found = run_json(capsys, "info", sample.image)
    assert (found["machine"], found["panic"], found["state"]["verdict"]) == (sample.machine.name, sample.panic, "fresh")
    text = run(capsys, "info", sample.image)
    assert sample.panic in text
    assert all(len(line) <= 79 for line in text.split("\n"))


def test_options(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    kernel = tmp_path / "elsewhere"
    Path(amd64.kernel).rename(kernel)
    carved = run_json(capsys, "info", amd64.image)["symbols"]
    assert (carved["count"], carved["source"][:21]) == (len(amd64.symbols), "the dump itself, at p")
    options = ("-N", kernel, "-m", "openbsd/amd64", "-o", hex(amd64.dump_off))
    found = run_json(capsys, "info", *options, amd64.image)
    assert (found["symbols"]["count"], found["header_off"]) == (len(amd64.symbols), amd64.dump_off)
    assert run_json(capsys, "info", "-o", str(amd64.dump_off), amd64.image)["header_off"] == amd64.dump_off


def test_translate(sample: kvmlib.Sample, capsys: Capture) -> None:
    va = va_of(sample, "version") + 4
    symbol, number = run_json(capsys, "translate", sample.image, "version+4", hex(va))
    assert symbol == number
    with kvmlib.open(sample.image) as kd:
        pa, size = kd.kvatop(va)
        assert (symbol["va"], symbol["pa"], symbol["size"], symbol["offset"]) == (va, pa, size, kd.pa2off(pa))
        assert len(symbol["steps"]) == len(kd.walk(va))
    assert (symbol["symbol"], symbol["error"]) == ("version+0x4", None)
    text = run(capsys, "translate", sample.image, "version+4")
    assert text.startswith(f"va {va:#x}  version+0x4\n")
    assert f"pa {pa:#x}, {size} bytes left in the page, file offset {symbol['offset']:#x}" in text
    for step in symbol["steps"]:
        if step["entry_pa"] is not None:
            assert f"at pa {step['entry_pa']:#x}, file offset {step['entry_offset']:#x}: {step['entry']:#x}" in text


def test_read(sample: kvmlib.Sample, capsys: Capture) -> None:
    va, digits = va_of(sample, "version"), 2 * sample.machine.long_bytes
    with kvmlib.open(sample.image) as kd:
        data = kd.read(va, 100)
    assert run(capsys, "read", sample.image, "version", "100").splitlines() == list(hexdump(data, va, digits))
    spans = run_json(capsys, "read", sample.image, hex(va), "0x64")
    assert b"".join(bytes.fromhex(s["hex"]) for s in spans) == data
    assert {s["kind"] for s in spans} == {"present"}


def test_read_into_a_file(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    with kvmlib.open(amd64.image) as kd:
        data = kd.read(va_of(amd64, "version"), 5000)
    text = run(capsys, "read", amd64.image, "version", "5000", "-w", tmp_path / "raw")
    assert text == f"5000 bytes written to {tmp_path / 'raw'}\n"
    assert (tmp_path / "raw").read_bytes() == data
    assert kvmdump("read", amd64.image, "version", "5000", "-w", "-").stdout == data


def test_read_never_writes_over_a_file(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"precious")
    assert "File exists" in fails(capsys, "read", amd64.image, "version", "16", "-w", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == b"precious"


def test_map(sample: kvmlib.Sample, capsys: Capture) -> None:
    ranges = run_json(capsys, "map", sample.image)
    with kvmlib.open(sample.image) as kd:
        assert [(m["va"], m["pa"], m["size"]) for m in ranges] == [(m.va, m.pa, m.size) for m in kd.mappings()]
    va = va_of(sample, "version")
    assert any(m["va"] <= va < m["va"] + m["size"] for m in ranges)
    lines = run(capsys, "map", sample.image).splitlines()
    assert len(lines) == len(ranges)
    assert lines[0].startswith(f"{ranges[0]['va']:0{2 * sample.machine.long_bytes}x}-")


def test_dmesg(sample: kvmlib.Sample, capsys: Capture) -> None:
    assert run(capsys, "dmesg", sample.image) == sample.messages.rstrip("\n") + "\n"
    found = run_json(capsys, "dmesg", sample.image)
    assert (found["text"], found["va"]) == (sample.messages, long_at(sample, "msgbufp"))


def test_symbols(sample: kvmlib.Sample, capsys: Capture) -> None:
    everything = run_json(capsys, "symbols", sample.image)
    assert {(s["name"], s["value"]) for s in everything} == {
        (s.name, s.value) for s in (*sample.symbols, *sample.modules)
    }
    assert [s["value"] for s in everything] == sorted(s.value for s in (*sample.symbols, *sample.modules))
    text = run(capsys, "symbols", sample.image, "d*mag")
    assert text == f"{va_of(sample, 'dumpmag'):0{2 * sample.machine.long_bytes}x} {kind(sample, 'dumpmag')} dumpmag\n"
    assert "no symbol of " in fails(capsys, "symbols", sample.image, "zebra")


def kind(sample: kvmlib.Sample, name: str) -> str:
    return next(str(s.kind) for s in sample.symbols if s.name == name)


def test_symbols_as_elf(sample: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    elf = tmp_path / "kernel"
    run(capsys, "symbols", sample.image, "--elf", elf)
    Path(sample.kernel).unlink()
    assert run_json(capsys, "info", sample.image, "-N", elf)["panic"] == sample.panic
    Path(sample.image).with_suffix(".elf").write_bytes(elf.read_bytes())
    before = elf.read_bytes()
    assert "File exists" in fails(capsys, "symbols", sample.image, "--elf", elf)
    assert elf.read_bytes() == before


def test_save(sample: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    prefix = "bsd" if sample.machine.os == "openbsd" else "netbsd"

    def save(number: int, *options: str) -> Path:
        # -f: the samples' panics are years ago.
        assert main(["save", sample.image, str(crash), "-f", "--json", *options]) == 0
        captured = capsys.readouterr()
        assert all(line.startswith("kvmdump: warning: ") for line in captured.err.splitlines())
        found = json.loads(captured.out)
        assert found["number"] == number
        assert Path(found["kernel"]).is_file()
        assert run_json(capsys, "info", found["core"])["panic"] == sample.panic
        return Path(found["core"])

    plain, packed = save(0), save(1, "-z")
    assert (plain.name, packed.name) == (f"{prefix}.0.core", f"{prefix}.1.core.gz")
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()


def test_save_says_what_it_did(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    assert main(["save", amd64.image, str(crash), "--verify"]) == 0
    core = (crash / "bsd.0.core").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"core    {crash}/bsd.0.core  ({len(core)} bytes)",
        f"kernel  {crash}/bsd.0",
        f"        a copy of {amd64.kernel}, proven to be the kernel of this dump",
        f"info    {crash}/info.0",
        f"sha256  {hashlib.sha256(core).hexdigest()}  (read back and compared)",
    ]
    assert f"  Panic: {amd64.panic}\n" in (crash / "info.0").read_text()
    (crash / ".bsd.0.core.0123abcd.partial").write_bytes(core[:5000])
    assert main(["save", amd64.image, str(crash), "--resume", "--no-sparse"]) == 0
    out, err = capsys.readouterr()
    assert "        5000 of them were there already\n" in out
    assert "not resumed" not in err
    assert (crash / "bsd.1.core").read_bytes() == core
    assert (crash / "bsd.1.core").stat().st_blocks > (crash / "bsd.0.core").stat().st_blocks
    assert main(["save", amd64.image, str(crash), "--resume"]) == 0
    assert "warning: not resumed: no copy was begun in" in capsys.readouterr().err
    assert "a compressed copy cannot be resumed" in fails(capsys, "save", amd64.image, crash, "--resume", "-z")


def test_save_refuses_what_is_cut_off(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    truncate(amd64, Path(amd64.image).stat().st_size - 4096)
    crash = tmp_path / "crash"
    crash.mkdir()
    assert main(["save", amd64.image, str(crash)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("kvmdump: the dump is truncated: 4096 of ")
    assert last.endswith("; -f saves all the same")
    assert list(crash.iterdir()) == []


def test_sample(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    text = run(capsys, "sample", "netbsd/i386", folder)
    assert text == f"{folder}/netbsd-i386.img  netbsd/i386\n"
    made = run_json(capsys, "sample", "all", folder)
    assert [m["name"] for m in made] == list(kvmlib.sample_names())
    assert all(Path(m["image"]).is_file() and Path(m["kernel"]).is_file() for m in made)
    assert "there is no sample 'vax'" in fails(capsys, "sample", "vax", folder)


def test_machines(capsys: Capture) -> None:
    found = run_json(capsys, "machines")
    assert [m["name"] for m in found] == [m.name for m in kvmlib.machines()]
    keys = "name os arch mid byteorder long_bytes page_size translator libkvm here forms"
    assert found[0].keys() == set(keys.split())
    lines = run(capsys, "machines").splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == ["machine", *(m.name for m in kvmlib.machines())]
    assert all(len(line) < 80 for line in lines)
    assert sum(line.startswith("  libkvm ") for line in lines) == len(found)
    assert all(m["libkvm"] and m["here"] for m in found)


def test_readme_has_the_table_of_machines(capsys: Capture) -> None:
    table = run(capsys, "machines", "--markdown").strip()
    assert table.count("\n") == len(kvmlib.machines()) + 1
    assert table in (ROOT / "README.md").read_text()


# -- invalidating ----------------------------------------------------------------------------------------------------


def test_inval_and_back(sample: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    before = Path(sample.image).read_bytes()
    found = run_json(capsys, "inval", sample.image, "--yes", "-f")
    n = len(found["before"]) // 2
    after = Path(sample.image).read_bytes()
    assert after == before[: found["offset"]] + bytes(n) + before[found["offset"] + n :]
    assert before[found["offset"] :][:n].hex() == found["before"]
    assert bytes.fromhex(found["after"]) == bytes(n)
    record = tmp_path / "cwd" / found["record"]
    assert record.is_file()
    assert "it was cleared before; nothing was written" in fails(capsys, "inval", sample.image, "--yes", "-f")
    back = run_json(capsys, "inval", sample.image, "--undo", record)
    assert (back["before"], back["after"], back["record"]) == (found["after"], found["before"], None)
    assert Path(sample.image).read_bytes() == before
    assert "nothing was written" in fails(capsys, "inval", sample.image, "--undo", record)
    assert Path(sample.image).read_bytes() == before


def test_inval_tells_how_to_take_it_back(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    text = run(capsys, "inval", amd64.image, "--yes", "-f", "--record", tmp_path / "record")
    assert "\nforced  nothing shows that this dump was saved" in text
    assert text.splitlines()[-1].endswith(f"--undo {tmp_path / 'record'}")
    assert "0101ca8f00000000" in text


def test_inval_asks_and_nobody_answers(amd64: kvmlib.Sample, tmp_path: Path) -> None:
    before = Path(amd64.image).read_bytes()
    for answer in (b"", b"y\n"):
        done = kvmdump("inval", amd64.image, "-f", input=answer, stdin=None)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.endswith(b"say --yes to do it without being asked, nothing was written\n")
        assert b"0101ca8f00000000 now, 0000000000000000 after" in done.stderr
    assert Path(amd64.image).read_bytes() == before
    assert list((tmp_path / "cwd").iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "what?\n", "yes please\n"])
def test_inval_asks_and_the_answer_is_no(
    amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    before = Path(amd64.image).read_bytes()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["inval", amd64.image, "-f"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("kvmdump: nothing was written\n")
    assert Path(amd64.image).read_bytes() == before


def test_inval_asks_and_the_answer_is_yes(
    amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(["inval", amd64.image, "-f", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    question = captured.err
    assert f"8 bytes at file offset {found['offset']:#x}: 0101ca8f00000000 now, 0000000000000000 after" in question
    with kvmlib.open(amd64.image) as kd:
        assert kd.dumpmag().state == "cleared"


def test_inval_without_a_record_does_nothing(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    before = Path(amd64.image).read_bytes()
    (tmp_path / "record").write_text("precious")
    assert "File exists" in fails(capsys, "inval", amd64.image, "--yes", "-f", "--record", tmp_path / "record")
    assert (tmp_path / "record").read_text() == "precious"
    assert Path(amd64.image).read_bytes() == before


def test_records_get_names_of_their_own(amd64: kvmlib.Sample, capsys: Capture) -> None:
    first = run_json(capsys, "inval", amd64.image, "--yes", "-f")["record"]
    run(capsys, "inval", amd64.image, "--undo", first)
    second = run_json(capsys, "inval", amd64.image, "--yes", "-f")["record"]
    assert first != second
    assert sorted(p.name for p in Path.cwd().iterdir()) == sorted([first, second])


def test_inval_of_a_saved_core(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    with kvmlib.open(amd64.image) as kd:
        core = Path(kvmlib.save(kd, tmp_path, force=True).core)
    core.chmod(0o600)
    before = core.read_bytes()
    found = run_json(capsys, "inval", core, "--yes", "-f")
    assert before[found["offset"] :][:8].hex() == found["before"] == "0101ca8f00000000"
    assert core.read_bytes()[found["offset"] :][:8] == bytes(8)


def saved_in(folder: Path, sample: kvmlib.Sample, *, compress: bool = False) -> Path:
    with kvmlib.open(sample.image) as kd:
        return Path(kvmlib.save(kd, folder, compress=compress, force=True).core)


@pytest.mark.parametrize("compress", [False, True])
def test_inval_compares_the_saved_core(sample: kvmlib.Sample, capsys: Capture, tmp_path: Path, compress: bool) -> None:
    core = saved_in(tmp_path, sample, compress=compress)
    found = run_json(capsys, "inval", sample.image, "--yes", "--saved", core)
    assert found["forced"] == []
    with kvmlib.open(sample.image) as kd:
        assert kd.dumpmag().state == "cleared"


def test_inval_refuses_what_is_not_saved(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    before = Path(amd64.image).read_bytes()
    said = fails(capsys, "inval", amd64.image, "--yes")
    assert "not invalidated: nothing shows that this dump was saved" in said
    assert "--saved CORE compares a saved core with it; -f clears dumpmag all the same" in said
    core = saved_in(tmp_path, amd64)
    data = core.read_bytes()
    core.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    said = fails(capsys, "inval", amd64.image, "--yes", "--saved", core)
    assert f"bsd.0.core is not this dump, saved: it differs from offset {len(data) - 1:#x} on; -f clears" in said
    assert Path(amd64.image).read_bytes() == before
    assert list((tmp_path / "cwd").iterdir()) == []
    forced = run_json(capsys, "inval", amd64.image, "--yes", "--force", "--saved", core)["forced"]
    assert [text.partition(": ")[2] for text in forced] == [f"it differs from offset {len(data) - 1:#x} on"]


def test_no_force_helps_with_a_disk_in_use(
    amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(amd64.image).read_bytes()
    monkeypatch.setattr("kvmlib.inval.in_use", lambda path: f"{path} is mounted on /, so it must not be written to")
    said = fails(capsys, "inval", amd64.image, "--yes", "-f")
    assert said.endswith("openbsd-amd64.img is mounted on /, so it must not be written to")
    assert Path(amd64.image).read_bytes() == before


def test_inval_shows_what_was_forced_before_it_asks(
    amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert main(["inval", amd64.image, "-f"]) == 1
    assert capsys.readouterr().err.startswith("although nothing shows that this dump was saved")


# -- bad input -------------------------------------------------------------------------------------------------------


def each_command(path: str | Path) -> list[list[str]]:
    dump = str(path)
    return [
        ["find", dump],
        ["info", dump],
        ["translate", dump, "0x1000"],
        ["read", dump, "0x1000", "16"],
        ["map", dump],
        ["dmesg", dump],
        ["symbols", dump],
        ["save", dump, "."],
        ["inval", dump, "--yes", "-f"],
    ]


@pytest.mark.parametrize("flag", [[], ["--json"]])
@pytest.mark.parametrize(
    ("content", "wanted"),
    [(b"", "is empty"), (b"x" * 5000, "no dump"), (b"\x7fELF" + bytes(600), "no dump"), (bytes(3), "no dump")],
)
def test_not_a_dump(capsys: Capture, tmp_path: Path, content: bytes, wanted: str, flag: list[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for argv in each_command(path):
        said = fails(capsys, *argv, *flag)
        assert str(path) in said
        assert wanted in said
    assert path.read_bytes() == content


def test_directory(capsys: Capture, tmp_path: Path) -> None:
    for argv in each_command(tmp_path):
        assert fails(capsys, *argv).startswith(f"{tmp_path} is a directory: ")


def test_missing_file(capsys: Capture, tmp_path: Path) -> None:
    for argv in each_command(tmp_path / "none"):
        assert fails(capsys, *argv) == f"cannot open {tmp_path / 'none'}: No such file or directory"


def test_no_permission(amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(amd64.image).chmod(0)
    if os.access(amd64.image, os.R_OK):  # root
        really = os.open

        def refuse(path: Any, *args: Any, **options: Any) -> int:
            if path == amd64.image:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return really(path, *args, **options)

        monkeypatch.setattr(os, "open", refuse)
    for argv in each_command(amd64.image):
        assert fails(capsys, *argv) == f"cannot open {amd64.image}: Permission denied"


def test_header_cut_off(sample: kvmlib.Sample, capsys: Capture) -> None:
    truncate(sample, sample.dump_off + 100)
    assert "no dump in " in fails(capsys, "info", sample.image)
    said = fails(capsys, "info", sample.image, "-o", str(sample.dump_off), "-m", sample.machine.name)
    assert "CPU" in said or "header" in said


def test_wrong_offset(amd64: kvmlib.Sample, capsys: Capture) -> None:
    assert "no dump header at 0x200 of " in fails(capsys, "info", amd64.image, "-o", "0x200")
    assert fails(capsys, "info", amd64.image, "-o", "0xffffffffffffffffff")


def test_wrong_machine(amd64: kvmlib.Sample, capsys: Capture) -> None:
    assert "a dump header of netbsd/i386 was looked for" in fails(capsys, "info", amd64.image, "-m", "netbsd/i386")


@pytest.mark.parametrize("command", ["info", "find"])
def test_unknown_machine(amd64: kvmlib.Sample, capsys: Capture, command: str) -> None:
    said = fails(capsys, command, amd64.image, "-m", "plan9/pdp11")
    assert said.startswith("there is no machine 'plan9/pdp11'")
    assert "openbsd/amd64" in said


def test_wrong_kernel_file(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    assert "cannot read the kernel file" in fails(capsys, "info", amd64.image, "-N", tmp_path / "none")
    assert "is not a kernel file" in fails(capsys, "info", amd64.image, "-N", amd64.image)
    other = sample_in(tmp_path, "netbsd/i386")
    assert "is a kernel for EM_386" in fails(capsys, "info", amd64.image, "-N", other.kernel)


@pytest.mark.parametrize("name", ["zebra", "zebra+4", "version+zz", "", "+", "0x", "0xzz"])
def test_no_such_symbol(amd64: kvmlib.Sample, capsys: Capture, name: str) -> None:
    for argv in (["translate", amd64.image, name], ["read", amd64.image, name, "8"]):
        assert "is neither an address (0x...), nor a symbol" in fails(capsys, *argv)


def test_unmapped_address(sample: kvmlib.Sample, capsys: Capture) -> None:
    assert main(["translate", sample.image, "0x1000", "--json"]) == 1
    captured = capsys.readouterr()
    row = json.loads(captured.out)[0]
    assert (row["va"], row["pa"]) == (0x1000, None)
    assert captured.err == f"kvmdump: {row['error']}\n"
    said = fails(capsys, "read", sample.image, "0x1000", "16")
    assert said == "16 of 16 bytes at va 0x1000 are not there"


@pytest.mark.parametrize("va", ["0x1ffffffffffffffffff", "0xffffffffffffffff", "version-0xffffffffffffffffff"])
def test_addresses_out_of_range(sample: kvmlib.Sample, capsys: Capture, va: str) -> None:
    assert fails(capsys, "read", sample.image, va, "4096")
    assert fails(capsys, "read", sample.image, va, "4096", "-w", "raw")
    assert not Path("raw").exists()


def guard(sample: kvmlib.Sample) -> tuple[int, int]:
    """A hole with something mapped before it: (va, bytes)."""
    with kvmlib.open(sample.image) as kd:
        for va, size in sample.unmapped:
            if next(iter(kd.spans(va - 16, 16))).kind == "present":
                return int(va), int(size)
    pytest.fail("the sample has no hole behind memory")


def test_hole_in_the_middle_of_a_read(sample: kvmlib.Sample, capsys: Capture) -> None:
    hole, _ = guard(sample)
    assert main(["read", sample.image, hex(hole - 16), "32"]) == 1
    captured = capsys.readouterr()
    digits = 2 * sample.machine.long_bytes
    lines = captured.out.splitlines()
    assert lines[0].startswith(f"{hole - 16:0{digits}x}  ")
    assert lines[-1] == f"{hole:0{digits}x}  -- 16 bytes not mapped --"
    assert captured.err == f"kvmdump: 16 of 32 bytes at va {hole - 16:#x} are not there\n"
    assert main(["read", sample.image, hex(hole - 16), "32", "--json"]) == 1
    spans = json.loads(capsys.readouterr().out)
    assert [(s["va"], s["size"], s["kind"], s["hex"] is None) for s in spans] == [
        (hole - 16, 16, "present", False),
        (hole, 16, "unmapped", True),
    ]


def test_hole_writes_nothing(sample: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    hole, _ = guard(sample)
    fails(capsys, "read", sample.image, hex(hole - 16), "32", "-w", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    done = kvmdump("read", sample.image, hex(hole - 16), "32", "-w", "-")
    assert (done.returncode, done.stdout) == (1, b"")


def test_output_file_that_cannot_be(amd64: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    there = tmp_path / "no" / "raw"
    assert fails(capsys, "read", amd64.image, "version", "16", "-w", there) == (
        f"cannot write {there}: No such file or directory"
    )
    assert "No such file" in fails(capsys, "symbols", amd64.image, "--elf", there)
    assert fails(capsys, "save", amd64.image, tmp_path / "no", "-f")
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in fails(capsys, "sample", "netbsd/i386", tmp_path / "file")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["zebra"],
        ["info"],
        ["info", "a", "b"],
        ["read", "a", "0x0"],
        ["read", "a", "0x0", "many"],
        ["read", "a", "0x0", "-5"],
        ["info", "a", "-o", "here"],
        ["translate", "a"],
        ["--zebra"],
    ],
    ids=" ".join,
)
def test_usage(capsys: Capture, argv: list[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: kvmdump")


def test_help_and_version(capsys: Capture) -> None:
    text = run(capsys, "--help")
    for command in COMMANDS:
        assert f"\n    {command}" in text
        assert run(capsys, command, "--help").startswith(f"usage: kvmdump {command} ")
    assert run(capsys, "--version") == f"kvmdump {kvmlib.__version__}\n"


def test_interrupted(amd64: kvmlib.Sample, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "info", interrupt)
    assert main(["info", amd64.image]) == 130
    assert capsys.readouterr().err == "kvmdump: interrupted\n"


# -- as a process ----------------------------------------------------------------------------------------------------


def test_process(amd64: kvmlib.Sample) -> None:
    done = kvmdump("info", amd64.image)
    assert (done.returncode, done.stderr) == (0, b"")
    assert amd64.panic.encode() in done.stdout
    done = kvmdump("info", "none")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"kvmdump: cannot open none: No such file or directory\n"
    assert kvmdump().returncode == 2


@pytest.mark.parametrize("argv", [["read", "0x0", "0x1000"], ["symbols"], ["info"], ["map"], ["dmesg", "--json"]])
def test_broken_pipe_is_quiet(amd64: kvmlib.Sample, argv: list[str]) -> None:
    """Nobody reads: neither a traceback, nor "Exception ignored" at exit."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = kvmdump(argv[0], amd64.image, *argv[1:], stdout=write_end)
    finally:
        os.close(write_end)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr
    assert all(line.startswith(b"kvmdump: ") for line in done.stderr.splitlines())


def test_broken_pipe_of_the_help_is_quiet() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = kvmdump("--help", stdout=write_end)
    finally:
        os.close(write_end)
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("argv", [["info"], ["symbols", "--json"], ["read", "version", "4096"]])
def test_full_disk_behind_stdout(amd64: kvmlib.Sample, argv: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = kvmdump(argv[0], amd64.image, *argv[1:], stdout=full)
    assert (done.returncode, done.stderr) == (1, b"kvmdump: cannot write the output: No space left on device\n")


def test_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "größe"
    folder.mkdir()
    sample = sample_in(folder, "openbsd/amd64")
    done = kvmdump("info", sample.image, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\\xf6\\xdfe" in done.stdout.replace(b"\n" + b" " * 10, b"")
    done = kvmdump("info", folder / "none", env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 1
    assert b"gr\\xf6\\xdfe/none: No such file" in done.stderr


LOADED = """
import sys
before = set(sys.modules)
{code}
print(sorted(m for m in ("textual", "rich", "construct", "humanize", "elftools", "kvmtui") if m in sys.modules))
"""


def loads(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_importing_is_cheap() -> None:
    assert loads("import kvmlib") == "[]"
    assert loads("from kvmlib.__main__ import main; main(['--help'])") == "[]"


def test_no_command_loads_a_user_interface(amd64: kvmlib.Sample) -> None:
    for argv in (["machines"], ["info", amd64.image], ["find", amd64.image], ["map", amd64.image, "--json"]):
        loaded = loads(f"from kvmlib.__main__ import main; assert main({argv!r}) == 0")
        assert not any(name in loaded for name in ("textual", "rich", "kvmtui")), (argv, loaded)


# -- hostile text ----------------------------------------------------------------------------------------------------

EVIL = "\x1b[31m[red]\u202e\u2066\x07\x9b5m\r\x08\u2028\x7f\ufeff[/red]\n\x1b]0;x\x07"
#: What must never come out as it is. A newline may, between lines.
RAW = set("\x1b\u202e\u2066\x07\x9b\r\x08\u2028\x7f\ufeff")


def assert_harmless(text: str) -> None:
    assert not RAW & set(text)
    assert not [c for c in text if ord(c) < 32 and c not in "\n\t"]


def strings_in(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [s for k, v in data.items() for s in [k, *strings_in(v)]]
    if isinstance(data, list):
        return [s for v in data for s in strings_in(v)]
    return [data] if isinstance(data, str) else []


@pytest.fixture(params=["openbsd/amd64", "netbsd/i386"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    """A sample where every text says something evil, its file names and its symbols' names too."""
    folder = tmp_path / EVIL.replace("/", "_")
    folder.mkdir()
    sample = sample_in(folder, request.param)
    evil = EVIL.encode()
    poke(sample, "version", sample.machine.system.title.encode() + b" " + evil + b"\0")
    poke(sample, "hostname", evil + b"\0")
    poke(sample, "cpu_model" if sample.machine.os == "openbsd" else "cpu_brand_string", evil + b"\0")
    poke(sample, long_at(sample, "panicstr"), evil + b"\0")
    ring = long_at(sample, "msgbufp") + sample.machine.long_bytes * sample.machine.system.msgbuf_longs
    poke(sample, ring, b"panic: " + evil)
    if sample.machine.os == "netbsd":
        for name, at in (("panicstart", 7), ("panicend", 7 + len(evil))):
            poke(sample, name, at.to_bytes(4, "little"))
    symbols = [s._replace(name=EVIL + s.name) if s.kind in "Tt" else s for s in sample.symbols]
    symbols += [kvmlib.Symbol(EVIL, va_of(sample, "version"), 0, "D")]
    m = sample.machine
    elf = kvmlib.write_elf(symbols, elf_machine=m.elf_machine, bits=8 * m.long_bytes, byteorder=m.byteorder)
    Path(sample.kernel).write_bytes(elf)
    return sample


def test_hostile_text(hostile: kvmlib.Sample, capsys: Capture, tmp_path: Path) -> None:
    image, crash = hostile.image, tmp_path / f"crash{EVIL.replace('/', '_')}"
    crash.mkdir()
    commands_ = [
        *each_command(image)[:-2],
        ["translate", image, "version+1"],
        ["read", image, "version", "64"],
        ["symbols", image, EVIL],
        ["symbols", image, EVIL + "*"],
        ["info", image, "-m", EVIL],
        ["info", image, "-N", EVIL],
        ["info", EVIL],
        ["read", image, EVIL, "16"],
        ["read", image, EVIL + "x", "16"],
        ["read", image, "version", "16", "-w", EVIL.replace("/", "_")],
        ["read", image, "version", "16", "-w", EVIL.replace("/", "_")],
        ["symbols", image, "--elf", str(crash / "elf")],
        ["save", image, str(crash), "-f"],
        ["save", image, EVIL],
        ["sample", EVIL, str(crash)],
        ["sample", "netbsd/i386", str(crash)],
        ["sample", "netbsd/i386", image],
        ["inval", image],
        ["inval", image, "--yes", "--saved", EVIL],
        ["inval", image, "--yes", "-f", "--record", "r" + EVIL.replace("/", "_")],
        ["inval", image, "--undo", "r" + EVIL.replace("/", "_")],
        ["inval", image, "--undo", "no" + EVIL],
        ["inval", image, "--undo", image],
        ["zebra" + EVIL],
        ["info", image, EVIL],
        ["read", image, "0x0", EVIL],
        ["info", image, "--" + EVIL],
    ]
    for argv in commands_:
        for flags in ([], ["--json"]):
            status = main([*argv, *flags])
            captured = capsys.readouterr()
            assert_harmless(captured.out)
            assert_harmless(captured.err)
            if captured.out and flags and status != 2:
                for text in strings_in(json.loads(captured.out)):
                    assert_harmless(text)
                assert captured.out.isascii()


def test_hostile_text_is_shown_escaped(hostile: kvmlib.Sample, capsys: Capture) -> None:
    found = run_json(capsys, "info", hostile.image)
    for text in (found["version"], found["panic"], found["path"]):
        assert "\\x1b[31m[red]\\u202e" in text
    assert "\\x1b[31m[red]\\u202e" in run_json(capsys, "dmesg", hostile.image)["text"]
    assert any(s["name"].startswith("\\x1b[31m[red]") for s in run_json(capsys, "symbols", hostile.image))
    assert any(f["where"].startswith("\\x1b[31m[red]") for f in found["stack"]["frames"])
