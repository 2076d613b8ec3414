"""What kvmtui sends to a terminal, and what it takes of memory."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kvmlib
from tests.benchmarks.start import ENVIRONMENT, HELLO, SIZE
from tests.large import make_large
from tests.terminal.harness import Terminal

TERMS = ("vt100", "vt220", "linux", "wsvt25", "cons25", "xterm-256color")
#: Seconds without a key, in which nothing should be sent.
IDLE = 5.0
#: How often each key is pressed; what counts is the most that was sent for it.
_TIMES = 4


class Sent(NamedTuple):
    """Bytes that a terminal gets: until the Summary is complete, for a cursor move, for a page, without a key."""

    term: str
    start: int
    move: int
    page: int
    idle: int
    not_ascii: int


def sent(folder: Path) -> Iterator[Sent]:
    """Measure on a sample, at 80x24."""
    image = kvmlib.make_sample("openbsd/amd64", folder).image
    for term in TERMS:
        with Terminal([sys.executable, "-m", "kvmtui", image], term=term, size=SIZE, env=ENVIRONMENT) as terminal:
            terminal.wait_for("g Go to", 60)
            terminal.settle(quiet=1.0)
            start = len(terminal.raw)
            terminal.press("5")
            terminal.settle()
            most = {}
            for key in ("right", "down", "pagedown"):
                counts = []
                for _ in range(_TIMES):
                    terminal.press(key)
                    counts.append(len(terminal.settle()))
                most[key] = max(counts)
            idle = len(terminal.settle(quiet=IDLE))
            raw = bytes(terminal.raw)
            terminal.press("q")
            terminal.exit_status(60)
        strange = sum(byte >= 0x80 for byte in raw)
        yield Sent(term, start, max(most["right"], most["down"]), most["pagedown"], idle, strange)


def memory(dump: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield who has how many MiB in use: kvmtui with a dump open, and hello world in Textual. Only Linux tells."""

    def resident(shows: str, *arguments: str) -> float:
        with Terminal([sys.executable, *arguments], size=SIZE, env=ENVIRONMENT) as terminal:
            terminal.wait_for(shows, 60)
            terminal.settle(quiet=1.0)
            status = Path(f"/proc/{terminal.pid}/status").read_text()
            terminal.press("ctrl+q")
            terminal.exit_status(60)
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    if not Path("/proc/self/status").exists():
        return
    yield "hello world in Textual", resident("hello, world", "-c", HELLO)
    yield "`kvmtui` with that dump open", resident("g Go to", "-m", "kvmtui", str(dump))
    large = folder / "large.img"
    if make_large(large):
        yield "`kvmtui` with a sparse dump of 64 GiB", resident("g Go to", "-m", "kvmtui", str(large))
