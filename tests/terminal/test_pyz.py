"""The one file for a rescue stick: the main journey with it, a bare Python, and nothing beside it to write to.

KVMTUI_PYZ names the file; .ci/run builds one (.ci/pyz), and so can you.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal.harness import Terminal

PATIENCE = 60.0

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.slow,
    pytest.mark.skipif("KVMTUI_PYZ" not in os.environ, reason="KVMTUI_PYZ names no kvmtui.pyz: build one with .ci/pyz"),
]


@pytest.fixture
def pyz(tmp_path: Path) -> Path:
    """The file on a stick of its own, where nobody may write."""
    stick = tmp_path / "stick"
    stick.mkdir()
    path = stick / "kvmtui.pyz"
    path.write_bytes(Path(os.environ["KVMTUI_PYZ"]).read_bytes())
    (stick / "kvmdump").symlink_to(path)
    path.chmod(0o444)
    stick.chmod(0o555)
    return path


def bare(program: Path, *arguments: str) -> list[str]:
    """The command line for a Python without any package (-S), and without PYTHONPATH and the current folder (-I)."""
    return [sys.executable, "-I", "-S", str(program), *arguments]


def run(program: Path, *arguments: str, cwd: Path) -> str:
    return subprocess.run(bare(program, *arguments), cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_a_sample_its_summary_its_memory_and_quit(pyz: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with Terminal(bare(pyz, "--sample"), cwd=work, env={"TMPDIR": str(work)}) as terminal:
        for text in ("openbsd/amd64", "[fresh]", re.compile(r"^PANIC +ffs_blkfree", re.MULTILINE), "q Quit"):
            terminal.wait_for(text, PATIENCE)
        terminal.settle(timeout=PATIENCE)
        terminal.press("5")
        for text in ("[5 Memory]", "OpenBSD 6.8"):
            terminal.wait_for(text, PATIENCE)
        terminal.press("s")
        terminal.wait_for("Save this dump", PATIENCE)
        terminal.press("escape")
        terminal.wait_until(lambda: "Save this dump" not in terminal.text, PATIENCE, "the dialog gone")
        terminal.press("q")
        assert terminal.exit_status(PATIENCE) == 0
    assert list(work.iterdir()) == []
    assert sorted(p.name for p in pyz.parent.iterdir()) == ["kvmdump", "kvmtui.pyz"]


def test_kvmdump_is_inside(pyz: Path, tmp_path: Path) -> None:
    run(pyz, "kvmdump", "sample", "netbsd/sparc64", "crash", cwd=tmp_path)
    image = "crash/netbsd-sparc64.img"
    info = json.loads(run(pyz, "kvmdump", "info", "--json", image, cwd=tmp_path))
    assert info["machine"] == "netbsd/sparc64"
    assert info["panic"]
    # By the name of a link, too.
    assert json.loads(run(pyz.with_name("kvmdump"), "info", "--json", image, cwd=tmp_path)) == info
    assert re.search(r"^PANIC ", run(pyz, "kvmtui", image, cwd=tmp_path), re.MULTILINE), "no terminal: the report"
    assert sorted(p.name for p in pyz.parent.iterdir()) == ["kvmdump", "kvmtui.pyz"]
