"""A program on a pseudo-terminal, and a person in front of it: press keys, look at the screen, count the bytes.

    with Terminal([sys.executable, "-m", "kvmtui", path], size=(80, 24)) as terminal:
        terminal.wait_for("Summary")
        terminal.press("5", "g")
        terminal.type("0xffff800000000000")
        terminal.press("enter")
        terminal.settle()
        assert terminal.screen[2].startswith("ffff8000")
        terminal.press("q")
        assert terminal.exit_status() == 0

Every wait has an end, and the program never outlives the `with` block.
"""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte
from pyte.screens import Char

# What the keys send, under the names that Textual's Pilot.press gives them, so that both kinds of test read alike.
KEYS = {
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "insert": "\x1b[2~",
    "delete": "\x1b[3~",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "backspace": "\x7f",
    "space": " ",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
}

# One whole control sequence: CSI; OSC; DCS, SOS, PM or APC; a character set; any other escape.
SEQUENCE = re.compile(
    rb"\x1b(?:"
    rb"\[(?P<prefix>[<=>?]?)[0-9:;]*(?P<middle>[ -/]*)(?P<final>[@-~])"
    rb"|\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|(?P<string>[PX^_])[^\x1b]*\x1b\\"
    rb"|(?P<charset>[(-/])[0-~]"
    rb"|(?P<plain>[0-Z\\`-~])"
    rb")"
)
# The beginning of a sequence whose rest has not come yet. It's short, or a string that may be long.
UNFINISHED = re.compile(rb"\x1b(?:\[[<-?]?[0-9:;]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[(-/])?\Z")


def key_bytes(key: str) -> bytes:
    """What a terminal sends for a key: "a", "G", "enter", "pagedown", "ctrl+p"."""
    if key in KEYS:
        return KEYS[key].encode()
    if match := re.fullmatch(r"ctrl\+([a-z@\[\\\]^_])", key):
        return bytes([ord(match[1].upper()) & 0x1F])
    if len(key) == 1:
        return key.encode()
    raise ValueError(f"no such key: {key!r}")


def escape_sequences(data: bytes) -> Counter[str]:
    """Count the control sequences in what a program sent, their parameters left out: {"CSI m": 12, "CSI ?h": 2}."""
    return Counter(_name(match) for match in SEQUENCE.finditer(data))


def _name(match: re.Match[bytes]) -> str:
    if final := match["final"]:
        return "CSI " + (match["prefix"] + match["middle"] + final).decode("ascii")
    if match["osc"] is not None:
        return "OSC"
    if string := match["string"]:
        return {b"P": "DCS", b"X": "SOS", b"^": "PM", b"_": "APC"}[string]
    return "ESC " + (match["charset"] or match["plain"]).decode("ascii")


def _known_to_pyte(match: re.Match[bytes]) -> bytes:
    """Drop what pyte would misread: it takes "CSI > 4 m" for an underline and prints a DCS as text."""
    if match["string"] or match["prefix"] in (b"<", b"=", b">") or match["middle"]:
        return b""
    if match["prefix"] == b"?" and match["final"] not in (b"h", b"l"):
        return b""
    return match[0]


class Terminal:
    """A program running on a terminal of the given size and type."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        size: tuple[int, int] = (80, 24),
        term: str = "xterm-256color",
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        baud: int | None = None,
        tell_baud: bool = True,
    ) -> None:
        """Start `argv`.

        Args:
            argv: the program and its arguments.
            size: (columns, rows).
            term: TERM.
            env: adds to an environment of little more than PATH and TERM.
            cwd: where to start it.
            baud: take no more than this serial line would: a tenth of it in bytes a second.
            tell_baud: whether the program can ask for that speed.
        """
        self.columns, self.rows = size
        self.raw = bytearray()
        self._screen = pyte.Screen(self.columns, self.rows)
        # A terminal answers when asked where its cursor is, and programs wait for that.
        self._screen.write_process_input = lambda data: self._send(data.encode())  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)
        self._held = b""
        self._pace = baud // 10 if baud else 0
        self._next = 0.0
        self._ended = False
        self._status: int | None = None

        # Little is inherited, so that a test means the same in anyone's shell: no COLUMNS or NO_COLOR of theirs.
        inherited = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
        environment = {name: os.environ[name] for name in inherited if name in os.environ}
        environment |= {"TERM": term, "LANG": "C.UTF-8", **(env or {})}
        arguments = [os.fspath(argument) for argument in argv]

        with warnings.catch_warnings():
            # Python 3.12 warns when other threads run. Between the fork and the exec the child does nothing that could
            # wait for them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                # Here and not in the parent: the size must be there before the program looks.
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
                if baud and tell_baud:
                    settings = termios.tcgetattr(0)
                    settings[4] = settings[5] = getattr(termios, f"B{baud}")
                    termios.tcsetattr(0, termios.TCSANOW, settings)
                if cwd is not None:
                    os.chdir(cwd)
                os.execvpe(arguments[0], arguments, environment)
            except BaseException as error:
                os.write(2, f"{arguments[0]}: {error}\n".encode())
            finally:
                os._exit(127)
        os.set_blocking(self._fd, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what a person does --------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by name ("enter", "ctrl+p") or as the character they are."""
        for key in keys:
            self._send(key_bytes(key))

    def type(self, text: str) -> None:
        """Type a text, as it is."""
        self._send(text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal another size; the program gets a SIGWINCH."""
        self.columns, self.rows = columns, rows
        self._screen.resize(rows, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    # -- what a person sees --------------------------------------------------------------------------------------------

    @property
    def screen(self) -> list[str]:
        """The rows of the screen as they are now, without the blanks at their ends."""
        self._drain(0)
        return [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """The whole screen as one string."""
        return "\n".join(self.screen)

    @property
    def cursor(self) -> tuple[int, int]:
        """(column, row) of the terminal's cursor."""
        self._drain(0)
        return self._screen.cursor.x, self._screen.cursor.y

    def cell(self, column: int, row: int) -> Char:
        """One cell of the screen: its character in `.data`, and `.fg`, `.bg`, `.bold`, `.reverse` ..."""
        self._drain(0)
        return self._screen.buffer[row][column]

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait_for(self, wanted: str | re.Pattern[str], timeout: float = 10.0) -> list[str]:
        """Wait until the screen shows a text, or what a pattern matches; return the screen."""
        if isinstance(wanted, str):
            text = wanted
            return self.wait_until(lambda: text in self.text, timeout, f"the text {text!r}")
        pattern = wanted
        return self.wait_until(
            lambda: pattern.search(self.text) is not None, timeout, f"the pattern {pattern.pattern!r}"
        )

    def wait_until(
        self, condition: Callable[[], bool], timeout: float = 10.0, what: str = "what was waited for"
    ) -> list[str]:
        """Wait until a condition holds; return the screen."""
        end = time.monotonic() + timeout
        while not condition():
            left = end - time.monotonic()
            if left <= 0 or self._ended:
                why = f"The program ended with {self.exit_status()}" if self._ended else f"{timeout:g} seconds passed"
                raise TimeoutError(f"{why} and the screen never had {what}:\n{self._framed()}")
            self._drain(min(left, 0.05))
        return self.screen

    def settle(self, quiet: float = 0.3, timeout: float = 10.0) -> bytes:
        """Wait until the program has sent nothing for `quiet` seconds; return what came meanwhile."""
        begin = len(self.raw)
        end = time.monotonic() + timeout
        while not self._ended:
            before = len(self.raw)
            self._drain(quiet)
            if len(self.raw) == before:
                break
            if time.monotonic() > end:
                raise TimeoutError(f"The program was not quiet for {quiet:g} seconds in {timeout:g}:\n{self._framed()}")
        return bytes(self.raw[begin:])

    def exit_status(self, timeout: float = 10.0) -> int:
        """Wait for the program's end; return its exit status, or minus the signal that ended it."""
        if not self._wait(timeout):
            raise TimeoutError(f"The program still runs after {timeout:g} seconds:\n{self._framed()}")
        assert self._status is not None
        return self._status

    def close(self) -> None:
        """End the program if it still runs: ask first, then don't."""
        if self._fd < 0:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._wait(0):
                break
            # The child leads a session of its own, so this reaches what it started too.
            os.killpg(self.pid, number)
            if self._wait(2.0):
                break
        os.close(self._fd)
        self._fd = -1

    # -- the plumbing --------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        end = time.monotonic() + 10.0
        while data and not self._ended and self._fd >= 0:
            if time.monotonic() > end:
                raise TimeoutError(f"The program reads nothing; unread: {data[:40]!r}")
            _, writable, _ = select.select([], [self._fd], [], 0.05)
            if writable:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    return  # nobody is left who could read it

    def _drain(self, timeout: float) -> None:
        """Take in what the program has sent, 1 MiB of it at most; wait `timeout` seconds for the first."""
        for _ in range(16):
            if self._pace and (pause := self._next - time.monotonic()) > 0:
                time.sleep(min(pause, timeout))
                if pause > timeout:
                    return
            if self._ended or self._fd < 0 or not select.select([self._fd], [], [], timeout)[0]:
                return
            timeout = 0
            try:
                data = os.read(self._fd, max(1, self._pace // 50) if self._pace else 65536)
                self._next = time.monotonic() + len(data) / self._pace if self._pace else 0
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                data = b""  # Linux says EIO where others say end of file
            if not data:
                self._ended = True
                return
            self.raw += data
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        data = self._held + data
        tail = UNFINISHED.search(data)
        cut = tail.start() if tail else len(data)
        self._held = data[cut:]
        self._stream.feed(SEQUENCE.sub(_known_to_pyte, data[:cut]))

    def _wait(self, timeout: float) -> bool:
        """Reap the program if it ends in time. Its output is taken in meanwhile: a full buffer would hold it up."""
        end = time.monotonic() + timeout
        while self._status is None:
            self._drain(0 if self._ended else min(0.05, max(0.0, end - time.monotonic())))
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                # Its last words, however slow the line.
                while self._pace and not self._ended and time.monotonic() < end:
                    self._drain(0.05)
                self._drain(0)
            elif time.monotonic() >= end:
                return False
            elif self._ended:
                time.sleep(0.01)
        return True

    def _framed(self) -> str:
        return "\n".join(f"    |{row}" for row in self.screen)
