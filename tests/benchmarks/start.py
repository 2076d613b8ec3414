"""Whole processes, from their start: how long somebody waits."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import kvmlib
from tests.conftest import ROOT
from tests.terminal.harness import Terminal

RUNS = 9
#: As it is installed: compiled once.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
SIZE = (80, 24)

#: The title of whatever is opened, then the keys where a dump is open.
_SHOWS = ("kvmtui", "g Go to")

#: As small as a Textual application can be.
HELLO = """
from textual.app import App, ComposeResult
from textual.widgets import Static

class Hello(App):
    def compose(self) -> ComposeResult:
        yield Static("hello, world")

Hello().run()
"""


def alternating(ours: Callable[[], float], yard: Callable[[], float]) -> tuple[float, float]:
    """Return the medians of both; run in turn, so that a busy moment hits them alike. The first pair doesn't count."""
    pairs = [(ours(), yard()) for _ in range(RUNS + 1)][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def process(*command: str) -> Callable[[], float]:
    """Return a function that runs a command and returns how many seconds that took."""
    environment = {**os.environ, **ENVIRONMENT}

    def run() -> float:
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.perf_counter() - begin

    return run


def saved_core(folder: Path) -> Path:
    """Make a small saved core with its kernel beside it."""
    crash = folder / "sample"
    crash.mkdir()
    sample = kvmlib.make_sample("openbsd/amd64", crash)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        return Path(kvmlib.save(kd, crash, force=True).core)


def info(dump: Path) -> tuple[float, float]:
    """Return the seconds of ``kvmdump info`` and of a Python that does nothing."""
    return alternating(
        process(sys.executable, "-m", "kvmlib", "info", str(dump)), process(sys.executable, "-c", "pass")
    )


def find(dump: Path) -> tuple[float, float, float]:
    """Return the seconds of ``kvmdump find``, of `kvmlib.find` alone, and of reading the image once, by ``cat``."""

    def search() -> float:
        begin = time.perf_counter()
        kvmlib.find(dump)
        return time.perf_counter() - begin

    cat = process("cat", str(dump))
    whole, _ = alternating(process(sys.executable, "-m", "kvmlib", "find", str(dump)), cat)
    return whole, *alternating(search, cat)


def paints(arguments: Sequence[str], *shows: str) -> list[float]:
    """Start an application; return after how many seconds each of these texts stands on its screen."""
    begin = time.perf_counter()
    took = []
    with Terminal([sys.executable, *arguments], size=SIZE, env=ENVIRONMENT) as terminal:
        for text in shows:
            terminal.wait_for(text, 60)
            took.append(time.perf_counter() - begin)
        terminal.press("ctrl+q")
        terminal.exit_status(60)
    return took


def first_paint(dump: Path) -> tuple[float, float, float]:
    """Return the seconds until ``kvmtui`` draws something, until the dump's screen is whole, and hello world's own."""
    ours = ("-m", "kvmtui", str(dump))
    runs = [(*paints(ours, *_SHOWS), *paints(("-c", HELLO), "hello, world")) for _ in range(RUNS + 1)]
    first, whole, hello = (statistics.median(column) for column in zip(*runs[1:], strict=True))
    return first, whole, hello


def one_file(pyz: Path, dump: Path) -> tuple[float, float]:
    """Return the seconds until kvmtui.pyz draws something, in a Python without packages; and when installed."""
    bare, ours = ("-I", "-S", str(pyz), str(dump)), ("-m", "kvmtui", str(dump))
    return alternating(lambda: paints(bare, *_SHOWS)[0], lambda: paints(ours, *_SHOWS)[0])
