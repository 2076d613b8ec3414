"""The worst terminal: what it is sent, how little of it, and how it is left."""

import os
import re
import signal
import sys
import termios
import time
from pathlib import Path

import pytest

import kvmlib
from kvmtui.driver import frame_driver
from kvmtui.terminal import DISPLAYS, Look
from tests.conftest import ROOT
from tests.terminal.harness import Terminal
from tests.terminal.test_journey import CAREFUL, PATIENCE, VIEWS, kvmtui, shows

pytestmark = pytest.mark.terminal

TERMS = ["vt100", "vt220", "linux", "wsvt25", "cons25"]
#: All that a rescue terminal is asked for: place, clear, four attributes, cursor, wrapping.
ALPHABET = re.compile(rb"\x1b\[(?:(?:\d+(?:;\d+)?)?H|[0-2]?[JK]|(?:[0147](?:;[0147])*)m|\?(?:7|25)[hl])")
ALTERNATE = re.compile(rb"\x1b\[\?1049[hl]")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return Path(kvmlib.make_sample("openbsd/amd64", tmp_path).image)


def only_what_it_knows(raw: bytes, alternate: bool) -> None:
    """Fail unless every byte is ASCII and every sequence is in the alphabet."""
    left = ALPHABET.sub(b"", raw)
    if alternate:
        left = ALTERNATE.sub(b"", left)
    assert re.findall(rb"[^ -~\r\n].{,12}", left) == []


def pressed(terminal: Terminal, key: str) -> bytes:
    """Press a key; return what is sent for it."""
    terminal.press(key)
    # An escape is one only when nothing comes behind it for a while.
    return terminal.settle(quiet=1.0 if key == "escape" else 0.3, timeout=PATIENCE)


def leaves(terminal: Terminal, term: str) -> None:
    terminal.press("q")
    assert terminal.exit_status(PATIENCE) == 0
    assert left_clean(bytes(terminal.raw), not term.startswith("vt")) == "settings as before\r\n"


@pytest.mark.parametrize("term", TERMS)
def test_what_it_is_sent_and_how_little(image: Path, term: str) -> None:
    with kvmtui(image.name, cwd=image.parent, term=term) as terminal:
        shows(terminal, *VIEWS["1"])
        assert len(terminal.raw) < 9000
        page, *moves, down, again, up = [
            len(pressed(terminal, key))
            for key in ("5", "down", "right", "left", "up", "pagedown", "pagedown", "pageup")
        ]
        # A new view comes in two steps when the machine is slow: cleared, and filled.
        assert page < 3000
        assert max(moves) < 250
        assert max(down, again, up) < 2300
        # It would come within a second if anything blinked.
        assert terminal.settle(quiet=1.5) == b""
        leaves(terminal, term)


def test_every_view_and_dialog_is_sent_so(image: Path) -> None:
    with kvmtui(image.name, cwd=image.parent, term="vt100") as terminal:
        shows(terminal, *VIEWS["1"])
        for key in "234675":
            assert pressed(terminal, key)
        for key in ("g", ":", "?", "s", "i", "e"):
            assert pressed(terminal, key)
            assert terminal.settle(quiet=1.2) == b"", "nothing blinks"
            assert pressed(terminal, "escape")
        for key in ("w", "d", "x", "H"):
            assert pressed(terminal, key)
        leaves(terminal, "vt100")


@pytest.mark.parametrize("term", ["xterm-256color", "xterm", "vt100"])
def test_the_screen_is_the_one_that_was_drawn(image: Path, term: str) -> None:
    """What was sent bit by bit is what is sent when all is drawn anew."""
    with kvmtui(image.name, cwd=image.parent, term=term) as terminal:
        shows(terminal, *VIEWS["1"])
        for key in ("2", "down", "5", "right", "pagedown", "w", "u", "?", "escape", ":", "escape", "4", "g", "escape"):
            pressed(terminal, key)
            cells = [[terminal.cell(x, y) for x in range(80)] for y in range(24)]
            if key not in ("?", ":", "g"):
                assert b"\x1b[2J" in pressed(terminal, "R")
                assert [[terminal.cell(x, y) for x in range(80)] for y in range(24)] == cells, key


def left_clean(raw: bytes, alternate: bool) -> str:
    """Fail unless the screen is cleared and all is as it was; return what was said behind that."""
    only_what_it_knows(raw, alternate)
    _, cleared, after = raw.rpartition(b"\x1b[0m\x1b[H\x1b[J")
    assert cleared
    for mode in (b"\x1b[?25", b"\x1b[?7"):
        assert mode + b"h" in after
        assert mode + b"l" not in after
    assert (b"\x1b[?1049l" in after) == alternate
    return ALTERNATE.sub(b"", ALPHABET.sub(b"", after)).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("term", ["vt100", "linux"])
def test_signals_leave_it_clean(image: Path, term: str, number: int) -> None:
    with Terminal([sys.executable, "-m", "kvmtui", str(image)], term=term, env={"PYTHONPATH": str(ROOT)}) as terminal:
        shows(terminal, *VIEWS["1"])
        os.kill(terminal.pid, number)
        assert terminal.exit_status(PATIENCE) == 0
        assert left_clean(bytes(terminal.raw), term == "linux") == ""


CRASH = """
import sys
from kvmtui.__main__ import main
from kvmtui.app import KvmtuiApp

def boom(self):
    raise RuntimeError("boom \\x1b[31m \\u2500")

KvmtuiApp.action_help = boom
sys.exit(main())
"""


def test_a_bug_leaves_it_clean_and_says_so(image: Path) -> None:
    program = ["/bin/sh", "-c", CAREFUL, "sh", sys.executable, "-c", CRASH, str(image)]
    with Terminal(program, term="vt100", env={"PYTHONPATH": str(ROOT)}) as terminal:
        shows(terminal, *VIEWS["1"])
        terminal.press("?")
        assert terminal.exit_status(PATIENCE) == 1
        said = left_clean(bytes(terminal.raw), False)
    first, *_, error, bug, end = said.split("\r\n")[:-1]
    assert first == "Traceback (most recent call last):"
    assert error == r"RuntimeError: boom \x1b[31m \u2500"
    assert bug == "kvmtui: this is a bug in kvmtui"
    assert end == "settings as before"


def typed(terminal: Terminal, data: bytes, apart: float) -> None:
    """Send bytes one by one, as a slow line does."""
    for byte in data:
        terminal.type(chr(byte))
        time.sleep(apart)


def test_an_arrow_that_comes_bit_by_bit_is_no_escape(image: Path) -> None:
    with kvmtui(image.name, cwd=image.parent, term="vt100") as terminal:
        shows(terminal, *VIEWS["1"])
        terminal.press("5")
        shows(terminal, *VIEWS["5"])
        (before,) = re.findall(r"va (0x[0-9a-f]+)", terminal.text)
        # 9600 baud: a byte in about a millisecond.
        for sequence in (b"\x1b[B", b"\x1bOB", b"\x1b[6~"):
            typed(terminal, sequence, 0.001)
            terminal.settle(timeout=PATIENCE)
        (after,) = re.findall(r"va (0x[0-9a-f]+)", terminal.text)
        assert int(after, 16) - int(before, 16) > 0x20
        terminal.press("g")
        shows(terminal, "Escape: cancel")
        typed(terminal, b"\x1b", 0.001)
        terminal.wait_until(lambda: "Escape: cancel" not in terminal.text, PATIENCE, "the dialog gone")
        terminal.press("q")
        assert terminal.exit_status(PATIENCE) == 0


def test_keys_typed_ahead_on_a_slow_line_are_one_picture(image: Path) -> None:
    with Terminal(
        [sys.executable, "-m", "kvmtui", str(image)], term="vt100", baud=9600, env={"PYTHONPATH": str(ROOT)}
    ) as terminal:
        shows(terminal, *VIEWS["1"])
        terminal.press("5")
        shows(terminal, *VIEWS["5"])
        (before,) = re.findall(r"va (0x[0-9a-f]+)", terminal.text)
        for key in ["pagedown", "down"] * 10:
            # Each could be drawn before the next one comes.
            terminal.press(key)
            time.sleep(0.1)
        sent = terminal.settle(quiet=2.0, timeout=60)
        (after,) = re.findall(r"va (0x[0-9a-f]+)", terminal.text)
        # Every key counted, and few pictures were sent.
        assert int(after, 16) - int(before, 16) > 10 * 16
        assert len(sent) < 4 * 2300


@pytest.mark.parametrize("tell_baud", [True, False])
def test_leaving_does_not_wait_for_a_slow_line(image: Path, tell_baud: bool) -> None:
    with Terminal(
        [sys.executable, "-m", "kvmtui", str(image)],
        term="vt100",
        baud=9600,
        tell_baud=tell_baud,
        env={"PYTHONPATH": str(ROOT)},
    ) as terminal:
        shows(terminal, *VIEWS["1"])
        # Much more than the line takes, and q before it's through.
        terminal.press("5", *["pagedown"] * 30)
        terminal.wait_for("[5 Memory]", PATIENCE)
        before = len(terminal.raw)
        terminal.press("q")
        assert terminal.exit_status(PATIENCE) == 0
        # What the line takes in a second; where nobody knows how slow it is, what the reader's end holds already.
        assert len(terminal.raw) - before < (960 if tell_baud else 4096 + 500)
        raw = bytes(terminal.raw)
    assert raw.endswith(b"\x1b[0m\x1b[H\x1b[J\x1b[?7h\x1b[?25h")


def test_a_line_that_is_held_for_ever_can_be_left(image: Path) -> None:
    """Nobody reads what is sent any more: a terminal server, a terminal that was stopped."""
    with Terminal(
        [sys.executable, "-m", "kvmtui", str(image)], term="vt100", env={"PYTHONPATH": str(ROOT)}
    ) as terminal:
        shows(terminal, *VIEWS["1"])
        terminal.press("5", *["pagedown", "pageup"] * 30, "q")
        end = time.monotonic() + PATIENCE
        while not (ended := os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert ended.si_status == 0


def test_a_size_that_is_asked_for(image: Path) -> None:
    program = [sys.executable, "-m", "kvmtui", "--size", "60x20", str(image)]
    with Terminal(program, term="vt100", size=(80, 24), env={"PYTHONPATH": str(ROOT)}) as terminal:
        shows(terminal, re.compile(r"^STATE +fresh", re.MULTILINE))
        assert "q Quit" in terminal.screen[19]
        assert max(map(len, terminal.screen)) <= 60
        assert terminal.screen[20:] == [""] * 4
        # A line that knows its size does not change the one that was asked for.
        terminal.resize(100, 30)
        terminal.settle(timeout=PATIENCE)
        assert "q Quit" in terminal.screen[19]


@pytest.mark.parametrize("term", ["vt100", "xterm-256color"])
def test_another_size(image: Path, term: str) -> None:
    with kvmtui(image.name, cwd=image.parent, term=term) as terminal:
        shows(terminal, *VIEWS["1"])
        for columns, rows in ((40, 12), (120, 40), (80, 24)):
            terminal.resize(columns, rows)
            terminal.wait_until(lambda: "q Quit" in terminal.screen[-1], PATIENCE, "the last row")
            terminal.settle(timeout=PATIENCE)
            assert sum("q Quit" in row for row in terminal.screen) == 1
        terminal.press("q")
        assert terminal.exit_status(PATIENCE) == 0


def test_a_terminal_may_hold_the_line() -> None:
    flags = termios.IXON | termios.IXOFF | termios.ICRNL
    patched = {d: frame_driver(Look(display=d))._patch_iflag(flags) for d in DISPLAYS}  # type: ignore[attr-defined]
    assert patched == {"full": 0, "ansi": 0, "rescue": termios.IXON | termios.IXOFF}


@pytest.mark.parametrize("no_color", ["", "1"])
def test_ansi_has_the_terminals_own_colours(image: Path, no_color: str) -> None:
    with kvmtui(image.name, cwd=image.parent, term="xterm", NO_COLOR=no_color) as terminal:
        shows(terminal, *VIEWS["1"])
        for key in ("2", "5", "w", "?", "escape", ":", "escape"):
            pressed(terminal, key)
        terminal.press("q")
        assert terminal.exit_status(PATIENCE) == 0
        codes = {code for look in re.findall(rb"\x1b\[([0-9;]*)m", bytes(terminal.raw)) for code in look.split(b";")}
    assert b"38" not in codes
    assert b"48" not in codes
    colours = {code for code in codes if len(code) > 1} - {b"39", b"49"}
    assert bool(colours) != bool(no_color), codes
