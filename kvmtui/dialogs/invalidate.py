"""Invalidate: what speaks against it, the very bytes, and only then dumpmag is cleared; Escape leaves it alone."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Button, Input, Static

import kvmlib
from kvmtui.dialogs.base import Box, Dialog, button, text
from kvmtui.widgets.progress import Meter

Stage = Literal["look", "ask", "write", "done"]
_TICK = 0.25


def record_directory() -> str:
    """Return where undo records go: the XDG base directory specification's place for what must survive a restart.

    Raises:
        KvmError: there is no home directory.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".local/state"
    except RuntimeError as e:
        raise kvmlib.KvmError("there is no home directory for the undo record: XDG_STATE_HOME can name a place") from e
    return str(base / "kvmtui")


class InvalidateDialog(Dialog[kvmlib.Invalidation | None]):
    """Ends with what was done, or with None; leaving the dump alone is focused."""

    DEFAULT_CSS = """
    InvalidateDialog {
        & #inval-saved { height: 1; width: 1fr; }
        & #inval-saved > Static { width: 12; }
        & #inval-saved > Input { width: 1fr; }
        & #inval-note, & #inval-bytes { margin-top: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "clear", "Clear"),
        ("n", "cancel", "Leave it"),
        ("f", "force", "Force"),
    ]

    class Looked(Message):
        """It is known what speaks against it."""

        def __init__(self, found: tuple[kvmlib.Obstacle, ...], saved: str | None, problem: str) -> None:
            super().__init__()
            self.found = found
            self.saved = saved
            self.problem = problem

    class Ended(Message):
        """Clearing came to an end."""

        def __init__(self, done: kvmlib.Invalidation | None, record: str, problem: str) -> None:
            super().__init__()
            self.done = done
            self.record = record
            self.problem = problem

    def __init__(
        self, kd: kvmlib.Kvm, mag: kvmlib.DumpMag, saved: str | None = None, records: str | None = None
    ) -> None:
        """Ask about `mag`.

        Args:
            kd: the dump.
            mag: its dumpmag.
            saved: the core that this dump was saved to, where it was.
            records: the directory for the undo record; None for the usual one.
        """
        super().__init__()
        self.kd = kd
        self.mag = mag
        self.stage: Stage = "look"
        self._records = records
        self._saved = saved
        self._found: Sequence[kvmlib.Obstacle] = ()
        self._forced = False
        self._done: kvmlib.Invalidation | None = None
        self._meter = Meter()
        self._stop = threading.Event()
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        with Box("Invalidate this dump?"):
            yield text(id="inval-refused", classes="dialog-bad")
            with Horizontal(id="inval-saved"):
                yield text("Saved core")
                where = Input(self._saved or "", placeholder="its path; Enter compares", select_on_focus=False)
                where.cursor_blink = False
                yield where
            yield text(id="inval-note")
            # Last, so that it is what is seen on the smallest screen too.
            yield text(self._bytes(), id="inval-bytes")
            with Horizontal(classes="dialog-buttons"):
                yield button("", "force")
            with Horizontal(classes="dialog-buttons"):
                yield button("Leave it (n)", "no")
                yield button("Clear dumpmag (y)", "yes")

    def _bytes(self) -> str:
        mag = self.mag
        lines = [
            f"file    {self.kd.path}",
            f"offset  {mag.offset:#x}  (dumpmag at va {mag.va:#x}, pa {mag.pa:#x})",
            f"now     {mag.data.hex(' ')}",
            f"after   {bytes(len(mag.data)).hex(' ')}",
        ]
        return "\n".join(kvmlib.printable(line) for line in lines)

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()
        self._look_now()

    # -- what speaks against it --------------------------------------------------------------------------------------

    def _look_now(self) -> None:
        self._meter = Meter()
        self._enter("look")
        self._timer = self.set_interval(_TICK, self._tick)
        self._tick()
        self._look(self._saved, self._meter)

    def _tick(self) -> None:
        note = "looking whether it is saved, proven and not in use ..."
        if self._meter.total:
            width = self.query_one("#dialog-box").scrollable_content_region.width
            note = (
                f"comparing with {kvmlib.printable(self._saved or '')}\n{self._meter.bar(width)}\n{self._meter.words()}"
            )
        self._say("#inval-note", note)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _look(self, saved: str | None, meter: Meter) -> None:
        found: tuple[kvmlib.Obstacle, ...] = ()
        problem = ""
        try:
            found = kvmlib.check_invalidation(self.kd, saved, progress=meter.tell, should_stop=self._stop.is_set)
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Looked(found, saved, problem))

    def on_invalidate_dialog_looked(self, event: Looked) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._found = event.found
        if event.problem:
            self._say("#inval-refused", f"{event.problem}.")
            self._say("#inval-note", "Nothing was written.")
            self._enter("done")
            return
        self._say("#inval-refused", "\n".join(f"refused: {o.text}." for o in event.found))
        said = ["savecore(8) will not save this dump again. Nothing else is written."]
        if event.saved and not any(o.kind == "unsaved" for o in event.found):
            said.insert(0, f"saved   {event.saved}, which has the very same bytes")
        self._say("#inval-note", "\n".join(said))
        self._enter("ask")

    def _say(self, where: str, what: str) -> None:
        box = self.query_one(where, Static)
        box.update(kvmlib.printable(what, keep="\n"))
        box.display = bool(what)

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        asking = stage == "ask"
        self.query_one("#inval-saved").display = asking and any(o.kind == "unsaved" for o in self._found)
        force = self.query_one("#force", Button)
        force.label = Content(f"[{'x' if self._forced else ' '}] Clear it all the same (f)")
        force.display = asking and bool(self._found) and all(o.forcible for o in self._found)
        self.query_one("#yes", Button).display = self._may_clear
        self.query_one("#no", Button).label = "OK" if stage == "done" else "Leave it (n)"
        focused = self.focused
        if focused is None or not focused.display or stage in ("look", "done"):
            self.query_one("#no", Button).focus()
        # What was said may have pushed the answers off a small screen.
        self.call_after_refresh(self.query_one(Box).scroll_end, animate=False)

    @property
    def _may_clear(self) -> bool:
        return self.stage == "ask" and all(o.forcible and self._forced for o in self._found)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self.stage == "ask" and event.value.strip():
            self._saved = str(Path(event.value.strip()).expanduser())
            self._forced = False
            self._look_now()

    # -- clearing ----------------------------------------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        {"no": self.action_cancel, "yes": self.action_clear, "force": self.action_force}[event.button.id or "no"]()

    def action_force(self) -> None:
        if self.query_one("#force").display:
            self._forced = not self._forced
            self._enter("ask")

    def action_clear(self) -> None:
        if self._may_clear:
            self._enter("write")
            self._clear()

    @work(thread=True, exclusive=True, group="invalidate", exit_on_error=False)
    def _clear(self) -> None:
        done, record, problem = None, "", ""
        try:
            record = kvmlib.record_in(self._records or record_directory(), self.kd.path)
            done = kvmlib.invalidate(self.kd, self.mag, record)
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Ended(done, record, problem))

    def on_invalidate_dialog_ended(self, event: Ended) -> None:
        self._done = event.done
        self._say("#inval-refused", "" if event.done else f"Not invalidated: {event.problem}.")
        note = ""
        if event.done:
            undo = shlex.join(["kvmdump", "inval", self.kd.path, "--undo", event.record])
            note = f"Invalidated: written, and read back from the disk.\nThis puts back what was there:\n{undo}"
        self._say("#inval-note", note)
        self._say("#inval-bytes", self._bytes().replace("\nnow   ", "\nbefore", 1) if event.done else "")
        self._enter("done")

    # -- leaving -----------------------------------------------------------------------------------------------------

    def action_cancel(self) -> None:
        # While it writes, which takes no time, there is nothing to cancel.
        if self.stage != "write":
            self._stop.set()
            self.dismiss(self._done)

    def on_unmount(self) -> None:
        self._stop.set()
