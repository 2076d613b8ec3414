"""A dump of 64 GiB, nearly all of it holes in the file: memory stays flat, and a cursor move stays small."""

import os
import sys
from pathlib import Path

import pytest

import kvmlib
from tests.conftest import ROOT
from tests.large import SIZE, START, TEXT, VA, make_large
from tests.terminal.harness import Terminal

#: What a process may grow by, in KiB, whatever it looks at.
FLAT = 32 << 10


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "dump.img"
    if not make_large(path):
        pytest.skip("the file system makes no holes")
    return path


def memory(pid: int) -> tuple[int, int]:
    """KiB of memory that a process has in use: its own, and pages of files, which the system takes back at will."""
    status = Path(f"/proc/{pid}/status").read_text()
    own, files = (int(status.split(f"{name}:")[1].split()[0]) for name in ("RssAnon", "RssFile"))
    return own, files


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")


@needs_proc
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_it_opens_jumps_to_its_end_and_searches_there(large: Path, size: tuple[int, int]) -> None:
    command = [sys.executable, "-m", "kvmtui", "-o", "0", str(large)]
    with Terminal(command, size=size, env={"PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait_for("openbsd/amd64", 30)
        terminal.press("5")
        terminal.wait_for("file 0x", 30)
        terminal.settle()
        before = memory(terminal.pid)
        terminal.press("end", "[", "end", "[")
        last = VA + START + SIZE - 4096
        terminal.press("g")
        terminal.wait_for("Right: complete")
        terminal.type(f"{last:#x}")
        terminal.press("enter")
        terminal.wait_for("the last words o")
        terminal.press("up", "up", "pageup", "pageup", "home", "g")
        terminal.wait_for("Right: complete")
        terminal.type(f"{last - 0x10000:#x}")
        terminal.press("enter")
        terminal.wait_for(f"{last - 0x10000:#x}  pa")
        assert "the same as the row above" in terminal.text
        terminal.press("/")
        terminal.wait_for("Look for")
        terminal.press("down")
        terminal.type("last words")
        terminal.press("tab", "tab", "right", "right", "enter")
        # By the pages and by OpenBSD's direct map.
        terminal.wait_for("2 found: 'last words'")
        terminal.press("enter")
        terminal.wait_for(f"va {last + 4:#x}")
        terminal.press("p")
        terminal.wait_for(f"va {last + 4:#x}  pa {START + SIZE - 4096 + 4:#x}")
        terminal.settle()
        after = memory(terminal.pid)
        assert after[0] - before[0] < FLAT, (before, after)
        if os.environ.get("KVMTUI_SHOW_RSS"):
            print(f"{size}: {before} KiB of its own and of files at first, {after} KiB in the end")
        terminal.press("q")
        assert terminal.exit_status() == 0


@pytest.mark.parametrize("term", ["xterm-256color", "vt100"])
def test_a_cursor_move_inside_the_page_is_small(large: Path, term: str) -> None:
    command = [sys.executable, "-m", "kvmtui", "-o", "0", str(large)]
    with Terminal(command, term=term, env={"PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait_for("openbsd/amd64", 30)
        terminal.press("5")
        terminal.wait_for("file 0x", 30)
        terminal.press("g")
        terminal.wait_for("Right: complete")
        terminal.type(f"{VA + START + SIZE - 4096:#x}")
        terminal.press("enter")
        terminal.wait_for("the last words o")
        terminal.press("right")
        terminal.settle()
        for key in ("right", "right", "left", "down", "up", "down", "right", "up"):
            terminal.press(key)
            sent = terminal.settle()
            assert 0 < len(sent) < 400, (key, len(sent))


def test_the_library_searches_a_small_part_of_it(large: Path) -> None:
    with kvmlib.open(large, dump_off=0) as kd:
        pattern = kvmlib.Pattern.of_text(TEXT.decode(), "little")
        start = START + SIZE - (1 << 20)
        told: list[tuple[int, int]] = []
        (found,) = kvmlib.look_for(
            kd, pattern, physical=True, start=start, progress=lambda *numbers: told.append(numbers)
        )
        assert found.address == START + SIZE - 4096
        assert told[-1][0] == told[-1][1] <= 1 << 20, "less, where the file system tells its holes"
        found, _ = kvmlib.look_for(kd, pattern, start=VA + start)
        assert found.address == VA + START + SIZE - 4096
        assert [va for va, _ in kvmlib.vas_of(kd, start)] == [
            va for va in (VA + start, 0xFFFF_FD80_0000_0000 + start) if kd.kvatop(va)[0] == start
        ]
