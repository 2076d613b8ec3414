"""Running targets: under limits of time and memory, and with a check that nothing wrote to the input's file."""

import contextlib
import hashlib
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Changed, Target

#: What one input may take: seconds, and bytes of memory beyond what was ever used before.
SECONDS, BYTES = 10, 256 << 20
_UNIT = 1 if sys.platform == "darwin" else 1024


class Hang(BaseException):
    """An input took too long. Nothing that catches Exception may take it for an answer."""


class Memory(Exception):
    """An input took too much memory."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that shows something wrong."""

    target: str
    data: bytes
    error: BaseException

    def keep(self, folder: Path) -> Path:
        """Write the input down."""
        path = folder / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.write_bytes(self.data)
        return path


def once(target: Target, data: bytes, folder: Path) -> None:
    """Have a target look at one input.

    Raises:
        Hang: it took more than SECONDS.
        Memory: it took more than BYTES.
        Changed: its file is another than before.
        Exception: what nothing should raise.
    """
    before = _most_memory()
    with _alarm(SECONDS):
        target.look(data, folder)
    if (taken := _most_memory() - before) > BYTES:
        raise Memory(f"{taken >> 20} MiB")
    path = folder / "input"
    if path.exists() and path.read_bytes() != data:
        raise Changed(str(path))


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} seconds")

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def _most_memory() -> int:
    """Return the most bytes that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def plainly(
    name: str, folder: Path, *, runs: int | None = None, seconds: float | None = None, seed: int = 0
) -> tuple[int, list[Finding]]:
    """Run a target with the plain mutator; returns how often, and the findings, one of each kind."""
    target, dice, findings = TARGETS[name], random.Random(seed), dict[str, Finding]()
    inputs: Sequence[bytes] = target.starts(folder)
    # What a target makes only once counts for none of its inputs.
    done, end = 0, None if seconds is None else time.monotonic() + seconds
    while (runs is None or done < runs) and (end is None or time.monotonic() < end):
        data = inputs[done % len(inputs)]
        if done >= len(inputs) or runs is not None:
            data = mutate(data, inputs, dice)
        try:
            once(target, data, folder)
        except (Exception, Hang) as e:
            findings.setdefault(_kind(e), Finding(name, data, e))
        done += 1
    return done, list(findings.values())


def _kind(error: BaseException) -> str:
    """Tell findings apart: by the exception and where it was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = "" if at is None else f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
    return f"{type(error).__name__} {place}"
