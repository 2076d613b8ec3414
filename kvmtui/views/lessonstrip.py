"""The strip that shows the lesson's steps below the view, and watches whether they are done."""

from __future__ import annotations

from collections.abc import Callable

import kvmlib
from kvmtui.lesson import Lesson, LessonStep, Scene
from kvmtui.views.base import View
from kvmtui.views.header import HeaderView
from kvmtui.views.memory import MemoryView
from kvmtui.widgets.lines import Line, Lines
from kvmtui.widgets.walk import WalkPane
from kvmtui.widgets.wrap import wrap

#: Seconds between two looks at what a person has done.
_LOOK = 0.25
_KEYS = "n next  b back  L leave"


def scene_of(kd: kvmlib.Kvm, view: View, saved: bool) -> Scene:
    """Look at what a person sees."""
    field, both, va, pa, walking, walked = None, False, None, None, None, False
    if isinstance(view, HeaderView) and view.is_mounted:
        field, both = view.field, view.both
    if isinstance(view, MemoryView) and view.is_mounted:
        here = view.here
        va, pa = (None, here.address) if here.physical else (here.address, None)
        if isinstance(pane := view.inner, WalkPane):
            walking, walked = pane.va, pane.stop is not None and pane.stop.last
    return Scene(view.view_id, field, both, va, pa, walking, walked, saved, _cleared(kd))


def _cleared(kd: kvmlib.Kvm) -> bool:
    try:
        return kd.dumpmag().state == "cleared"
    except kvmlib.KvmError:
        return False


class LessonStrip(Lines):
    """One step of the lesson."""

    DEFAULT_CSS = """
    LessonStrip {
        max-height: 50%;
        overflow-y: hidden;
        border-top: solid $accent;
    }
    """

    def __init__(self, lesson: Lesson, look: Callable[[], Scene]) -> None:
        super().__init__(id="lesson")
        self._lesson = lesson
        self._see = look
        self.number = 0
        self._done: set[int] = set()

    @property
    def step(self) -> LessonStep:
        """The step that is shown."""
        return self._lesson.steps[self.number]

    @property
    def done(self) -> bool:
        """Whether what the step asks for was done."""
        return self.number in self._done

    def on_mount(self) -> None:
        self.set_interval(_LOOK, self.look)
        self.call_after_refresh(self._tell)

    def on_resize(self) -> None:
        super().on_resize()
        self._tell()

    def look(self) -> None:
        """See whether the step is done."""
        check = self.step.done
        if check is not None and not self.done and check(self._see()):
            self._done.add(self.number)
            self._tell()

    def go(self, by: int) -> None:
        """Go to the next step, or to the one before."""
        self.number = max(0, min(self.number + by, len(self._lesson.steps) - 1))
        self.look()
        self._tell()

    def _tell(self) -> None:
        width = self.size.width or self.app.size.width
        self.show(step_lines(self.step, self.number, len(self._lesson.steps), self.done, width))


def step_lines(step: LessonStep, number: int, count: int, done: bool, width: int) -> list[Line]:
    """Return a step as lines of at most `width` columns; where there is little room, the task comes first."""
    title = f"Lesson {number + 1}/{count}: {step.title}"
    room = width - len(title) - 2
    head: Line = [(title, "strong"), (f"{_KEYS:>{room}}" if room > len(_KEYS) else "", "label")]
    mark = "" if step.done is None else "[x] " if done else "[ ] "
    rows = wrap(f"{mark}{step.task}", width)
    task: list[Line] = [[(row, "good" if done else "strong")] for row in rows]
    if done:
        task[-1] = [*task[-1], (": done"[: max(0, width - len(rows[-1]))], "good")]
    text: list[Line] = [[(row, "")] for row in wrap(kvmlib.printable(step.text), width)]
    return [head, *text, *task] if width >= 72 else [head, *task, *text]
