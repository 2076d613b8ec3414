"""The harness itself, on programs small enough to be sure of."""

import os
import re
import sys
import time

import pytest

from tests.terminal.harness import Terminal, escape_sequences, key_bytes

pytestmark = pytest.mark.terminal

# Reads single keys without waiting for a line, and shows each; q ends it with status 3. It writes past Python's
# buffers: the signal may come in the middle of a print, which can't be entered twice.
ECHO = """
import os, signal, sys, termios, tty
def show(text):
    os.write(1, text.encode())
def size(*_):
    columns, rows = os.get_terminal_size()
    show(f"\\x1b[2;1H{columns}x{rows} ")
signal.signal(signal.SIGWINCH, size)
tty.setraw(0, termios.TCSANOW)
size()
show("\\x1b[1;1H\\x1b[1;31mready\\x1b[0m")
while (key := os.read(0, 64)) != b"q":
    show(f"\\x1b[4;1H\\x1b[K{key!r}")
sys.exit(3)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_person_at_the_screen() -> None:
    with Terminal(python(ECHO), size=(70, 10)) as terminal:
        terminal.wait_for("ready")
        assert terminal.screen[:2] == ["ready", "70x10"]
        assert len(terminal.screen) == 10
        assert terminal.cell(0, 0).fg == "red"
        assert terminal.cell(0, 0).bold
        terminal.press("x")
        terminal.wait_for("b'x'")
        terminal.press("pagedown")
        terminal.wait_for(re.compile(r"\[6~"))
        terminal.type("two words")
        assert terminal.wait_for("two words")[3] == "b'two words'"
        assert terminal.cursor == (len("b'two words'"), 3)
        terminal.resize(60, 8)
        terminal.wait_for("60x8")
        assert len(terminal.screen) == 8
        terminal.press("q")
        assert terminal.exit_status() == 3
        assert terminal.exit_status() == 3
    assert b"\x1b[1;31mready" in terminal.raw


def test_bytes_are_counted_from_quiet_to_quiet() -> None:
    with Terminal(python(ECHO)) as terminal:
        terminal.wait_for("ready")
        terminal.settle()
        terminal.press("x")
        assert terminal.settle(quiet=1.0) == b"\x1b[4;1H\x1b[Kb'x'"


def test_the_terminal_says_where_its_cursor_is_when_asked() -> None:
    program = "import os, tty; tty.setraw(0); os.write(1, b'abc\\x1b[6n'); print(repr(os.read(0, 20)))"
    with Terminal(python(program)) as terminal:
        terminal.wait_for(r"\x1b[1;4R")


def test_only_the_named_environment_reaches_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "33")
    program = "import os; print([os.environ.get(n) for n in ('NO_COLOR', 'COLUMNS', 'TERM', 'EXTRA')])"
    with Terminal(python(program), term="vt100", env={"EXTRA": "yes"}) as terminal:
        terminal.wait_for("[None, None, 'vt100', 'yes']")
        assert terminal.exit_status() == 0


def test_sequences_that_pyte_would_misread_leave_no_trace() -> None:
    # kitty keys, xterm's modifyOtherKeys, a mode query, a DCS query, a cursor shape, a window title
    odd = "\\x1b[>1u\\x1b[<u\\x1b[>4;1m\\x1b[?2026$p\\x1bP+q544e\\x1b\\\\\\x1b[2 q\\x1b]0;title\\x07"
    with Terminal(python(f"print('{odd}plain', end='')")) as terminal:
        assert terminal.exit_status() == 0
        assert terminal.screen[0] == "plain"
        assert not terminal.cell(0, 0).underscore


def test_a_sequence_may_come_in_pieces() -> None:
    sent = "\x1b]0;t\x1b\\\x1b[3;5H\x1b[>4;1m\u2502x".encode()
    program = f"import os, time\nfor b in {sent!r}: os.write(1, bytes([b])); time.sleep(0.005)"
    with Terminal(python(program)) as terminal:
        assert terminal.exit_status() == 0
        assert terminal.screen[2] == "    \u2502x"


def test_waiting_ends_and_shows_the_screen() -> None:
    with Terminal(python(ECHO)) as terminal:
        terminal.wait_for("ready")
        with pytest.raises(TimeoutError, match=r"(?s)0\.2 seconds passed.*'never'.*\|ready"):
            terminal.wait_for("never", timeout=0.2)
        with pytest.raises(TimeoutError, match="still runs"):
            terminal.exit_status(timeout=0.1)


def test_a_program_that_ended_is_not_waited_for() -> None:
    begin = time.monotonic()
    with (
        Terminal(python("print('bye'); raise SystemExit(4)")) as terminal,
        pytest.raises(TimeoutError, match=r"(?s)ended with 4.*\|bye"),
    ):
        terminal.wait_for("never", timeout=30)
    assert time.monotonic() - begin < 20


def test_a_program_that_is_never_quiet_is_reported() -> None:
    program = "import time\nwhile True: print('x', flush=True); time.sleep(0.02)"
    with Terminal(python(program)) as terminal, pytest.raises(TimeoutError, match="not quiet"):
        terminal.settle(quiet=2.0, timeout=0.6)


def test_nothing_outlives_the_block() -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
    with Terminal(python(stubborn)) as terminal:
        terminal.wait_for("here")
    assert terminal.exit_status() == -9
    with pytest.raises(ProcessLookupError):
        os.kill(terminal.pid, 0)
    terminal.close()


def test_a_program_that_cannot_start_says_so() -> None:
    with Terminal(["/nonexistent/program"]) as terminal:
        assert terminal.exit_status() == 127
        assert "/nonexistent/program" in terminal.text


@pytest.mark.parametrize(
    ("key", "sent"),
    [("a", b"a"), ("G", b"G"), ("enter", b"\r"), ("ctrl+p", b"\x10"), ("ctrl+c", b"\x03"), ("up", b"\x1b[A")],
)
def test_keys(key: str, sent: bytes) -> None:
    assert key_bytes(key) == sent


def test_a_key_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no such key"):
        key_bytes("page-down")


def test_escape_sequences_are_counted_by_kind() -> None:
    sent = b"\x1b[1;31mred\x1b[0m\x1b[?25l\x1b]0;title\x07\x1bP+q\x1b\\\x1b(B\x1b7\x1b[?2026$p"
    assert escape_sequences(sent) == {
        "CSI m": 2,
        "CSI ?l": 1,
        "CSI ?$p": 1,
        "OSC": 1,
        "DCS": 1,
        "ESC (": 1,
        "ESC 7": 1,
    }
