"""What views tell the application."""

from __future__ import annotations

from textual.message import Message

import kvmlib


class GoTo(Message):
    """Show this address in Memory: a virtual one, or a physical one."""

    def __init__(self, va: int, physical: bool = False) -> None:
        super().__init__()
        self.va = va
        self.physical = physical


class ShowLine(Message):
    """Show this line in Messages; 0 is the first one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Status(Message):
    """Say a sentence on the bottom line; it stays until the next key."""

    def __init__(self, text: str, bad: bool = False) -> None:
        super().__init__()
        self.text = text
        self.bad = bad


class Opened(Message):
    """A dump is open: show it."""

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__()
        self.kd = kd


class StartLesson(Message):
    """Make a sample and show the lesson on it, above what is shown now."""

    def __init__(self, sample: str) -> None:
        super().__init__()
        self.sample = sample


class Choose(Message):
    """Go back to the chooser."""


class FindHeaders(Message):
    """List every dump header in a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


class Summarised(Message):
    """What the dump is and its state are known."""

    def __init__(self, summary: kvmlib.Summary) -> None:
        super().__init__()
        self.summary = summary
