"""`kvmtui` as a command: its arguments, what it says when it can't start, and what it imports for that."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmtui import __main__ as command
from kvmtui.terminal import Look

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments: str, term: str = "xterm") -> subprocess.CompletedProcess[str]:
    """Run kvmtui as a person does whose output is a pipe."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term}
    return subprocess.run(
        [sys.executable, "-m", "kvmtui", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--version", "-v"], ["/nowhere"]])
def test_neither_textual_nor_rich_is_imported_before_the_application_starts(arguments: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from kvmtui.__main__ import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, stdin=subprocess.DEVNULL
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"textual", "rich", "humanize"}
    if arguments == ["--help"]:
        assert "kvmlib" not in loaded


def test_help_and_version() -> None:
    assert "DUMP" in run("--help").stdout
    assert run("--version").stdout == f"kvmtui {kvmlib.__version__}\n"


def test_the_version_with_how_it_would_draw() -> None:
    version, display, size = run("--version", "-v", "--size", "132x50").stdout.splitlines()
    assert version == f"kvmtui {kvmlib.__version__}"
    assert display == "display none, a report as text (this is not a terminal)"
    assert size == "size    132x50 (as asked for)"


@pytest.mark.parametrize(
    ("environment", "wishes", "told"),
    [
        ({"TERM": "xterm-256color"}, {}, "full (TERM is xterm-256color)"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, {}, "full (COLORTERM is truecolor)"),
        ({"TERM": "xterm"}, {}, "ansi (TERM is xterm)"),
        ({"TERM": "xterm"}, {"ascii": True}, "ansi, ASCII only (TERM is xterm)"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, {}, "ansi, no colours (NO_COLOR is set)"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, {}, "full (TERM is xterm-256color)"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, {"display": "full"}, "full, no colours (as asked for)"),
        *(
            ({"TERM": term, "COLORTERM": "truecolor"}, {}, f"rescue, ASCII only, no colours (TERM is {term})")
            for term in ("vt100", "vt220", "linux", "wsvt25", "cons25")
        ),
        ({"TERM": "xterm"}, {"display": "rescue"}, "rescue, ASCII only, no colours (as asked for)"),
        ({"TERM": "linux"}, {"display": "ansi"}, "ansi (as asked for)"),
    ],
)
def test_the_display_is_chosen(environment: dict[str, str], wishes: dict[str, Any], told: str) -> None:
    assert Look.of(environment, **wishes).told() == told


@pytest.mark.parametrize("size", ["80", "80x", "x24", "0x0", "80x24x1", "-80x24", "9999999x24", "axb"])
def test_a_size_that_is_none(size: str) -> None:
    done = run(f"--size={size}", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"invalid size value: '{size}'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--sample", "openbsd/amd64", "x"], ["-o", "x", "y"], ["-o", "-1", "y"], ["-N", "bsd"], ["--nonsense"], ["-v"]],
)
def test_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("kvmtui: error: ")


def test_without_a_terminal_the_report_is_printed(image: Path) -> None:
    done = run(str(image))
    assert done.returncode == 0
    assert "this is not a terminal" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with kvmlib.open(image) as kd:
        assert done.stdout.rstrip("\n") == kvmlib.report_text(kd).rstrip("\n")


def test_without_a_terminal_a_dump_must_be_named() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kvmtui: this is not a terminal, so ")
    assert len(done.stderr.splitlines()) == 1


def test_sample_without_a_terminal_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = run("--sample", "netbsd/i386")
    assert done.returncode == 0
    assert "netbsd/i386" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a terminal, and that the application must not start."""
    from kvmtui.app import KvmtuiApp

    def start(self: object) -> None:
        raise AssertionError("the application was started")

    monkeypatch.setattr("kvmtui.terminal.why_plain", lambda: "")
    monkeypatch.setattr(KvmtuiApp, "run", start)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "No such file or directory"),
        ("folder", "directory"),
        ("empty", "empty"),
        ("text", "no dump in"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_sentence_before_anything_is_drawn(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello\n" * 100)
    assert command.main([str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kvmtui: ")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-m", "vax/bsd"], "there is no machine"),
        (["-N", "/nowhere"], "cannot read the kernel file"),
        (["-o", "0x200"], "0x200"),
        (["-m", "netbsd/i386"], "netbsd/i386"),
    ],
)
def test_options_that_do_not_fit_are_told(
    options: list[str], says: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*options, str(image)]) == 1
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("terminal")
def test_sample_of_an_unknown_machine_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--sample", "vax"]) == 1
    assert "openbsd/amd64" in capsys.readouterr().err
