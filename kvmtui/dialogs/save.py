"""Save: where to, what exactly will be written, then progress; Escape cancels at any time."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import ClassVar, Literal

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Button, Input, Static

import kvmlib
from kvmtui.dialogs.base import Box, Dialog, button, text
from kvmtui.dialogs.confirm import ConfirmDialog
from kvmtui.widgets.format import size_of
from kvmtui.widgets.progress import Meter

Stage = Literal["ask", "look", "confirm", "run", "done"]
CRASH = "/var/crash"
_TICK = 0.25


def default_directory() -> str:
    """Return where savecore(8) saves, if this user may, else the current folder."""
    return CRASH if Path(CRASH).is_dir() and os.access(CRASH, os.W_OK) else str(Path.cwd())


def plan_text(plan: kvmlib.SavePlan) -> str:
    """Say exactly what would be written."""
    lines = [f"writes  {plan.core}", f"        {size_of(plan.size)} ({plan.size:,} bytes) before any packing"]
    if plan.kernel is not None:
        lines += [f"writes  {plan.kernel}", f"        a copy of {plan.kernel_from}"]
    else:
        lines += ["        no kernel file: none is known for this dump"]
    free = f"free    {size_of(plan.free)} in {plan.directory}"
    lines += [free + (f", of which {size_of(plan.minfree * 1024)} must stay free (minfree)" if plan.minfree else "")]
    return "\n".join(kvmlib.printable(line) for line in lines)


class SaveDialog(Dialog[kvmlib.Saved | None]):
    """Ends with what was saved, or with None."""

    DEFAULT_CSS = """
    SaveDialog {
        & #save-where { height: 1; width: 1fr; }
        & #save-where > Static { width: 11; }
        & #save-where > Input { width: 1fr; }
        & #save-plan { margin-top: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q", "leave", "Quit")]

    class Looked(Message):
        """It is known what would be written, or why nothing can be."""

        def __init__(self, directory: str, compress: bool, plan: kvmlib.SavePlan | None, problem: str) -> None:
            super().__init__()
            self.asked = (directory, compress)
            self.plan = plan
            self.problem = problem

    class Ended(Message):
        """Saving came to an end."""

        def __init__(self, saved: kvmlib.Saved | None, problem: str, cancelled: bool) -> None:
            super().__init__()
            self.saved = saved
            self.problem = problem
            self.cancelled = cancelled

    def __init__(self, kd: kvmlib.Kvm, directory: str | None = None) -> None:
        super().__init__()
        self.kd = kd
        self.stage: Stage = "ask"
        self._directory = directory or default_directory()
        self._compress = False
        self._plan: kvmlib.SavePlan | None = None
        self._saved: kvmlib.Saved | None = None
        self._meter = Meter()
        self._stop = threading.Event()
        self._timer: Timer | None = None
        self._quit_after = False

    def compose(self) -> ComposeResult:
        with Box("Save this dump"):
            with Horizontal(id="save-where"):
                yield text("Directory")
                where = Input(self._directory, id="save-directory", select_on_focus=False)
                where.cursor_blink = False
                yield where
            yield text(id="save-plan")
            yield text(id="save-warnings", classes="dialog-bad")
            yield text(id="save-hint", classes="dialog-faint")
            with Horizontal(classes="dialog-buttons"):
                yield button("Save", "save")
                yield button("Compress: no", "compress")
                yield button("Cancel", "cancel")

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._say("")
        self._enter("ask")

    @property
    def busy(self) -> bool:
        """Whether files are being written."""
        return self.stage == "run"

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        hints = {
            "ask": "Enter shows what would be written; nothing is written until you confirm.",
            "look": "looking ...",
            "confirm": "",
            "run": "Escape cancels, and leaves nothing behind.",
            "done": "",
        }
        hint = self.query_one("#save-hint", Static)
        hint.update(hints[stage])
        hint.display = bool(hints[stage])
        self.query_one("#save-where").display = stage in ("ask", "look", "confirm")
        self.query_one("#save", Button).display = stage == "confirm"
        self.query_one("#compress", Button).display = stage in ("ask", "confirm")
        self.query_one("#cancel", Button).label = "OK" if stage == "done" else "Cancel"

    def _say(self, plan: str, warnings: str = "") -> None:
        self.query_one("#save-plan", Static).update(plan)
        self.query_one("#save-plan").display = bool(plan)
        box = self.query_one("#save-warnings", Static)
        box.update(warnings)
        box.display = bool(warnings)

    # -- what would be written ---------------------------------------------------------------------------------------

    def on_input_submitted(self) -> None:
        self._look_now()

    def on_input_changed(self) -> None:
        if self.stage == "confirm":
            # What was shown is about another directory.
            self._say("")
            self._enter("ask")

    def _look_now(self) -> None:
        directory = str(Path(self.query_one(Input).value.strip() or ".").expanduser())
        self._enter("look")
        self._look(directory, self._compress)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _look(self, directory: str, compress: bool) -> None:
        plan, problem = None, ""
        try:
            plan = kvmlib.plan_save(self.kd, directory, compress=compress)
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Looked(directory, compress, plan, problem))

    def on_save_dialog_looked(self, event: Looked) -> None:
        if self.stage != "look":
            return
        self._plan = event.plan
        if event.plan is None:
            self._say("", kvmlib.printable(f"{event.problem}."))
            self._enter("ask")
            return
        plan = event.plan
        said = [f"refused: {plan.refusal}"] if plan.refusal else []
        said += [f"warning: {w}" for w in plan.warnings]
        self._say(plan_text(plan), "\n".join(kvmlib.printable(s) for s in said))
        self._enter("confirm")
        self.query_one("#save", Button).label = "Save anyway" if plan.refusal else "Save"
        self.query_one("#cancel" if said else "#save", Button).focus()

    # -- writing -----------------------------------------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "cancel":
            self.action_cancel()
        elif event.button.id == "compress":
            self._compress = not self._compress
            event.button.label = f"Compress: {'yes' if self._compress else 'no'}"
            if self.stage == "confirm":
                self._look_now()
        elif self.stage == "confirm" and self._plan is not None:
            self._meter = Meter()
            self._enter("run")
            self.query_one("#cancel", Button).focus()
            self._timer = self.set_interval(_TICK, self._tick)
            self._tick()
            self._save(self._plan, self._compress)

    def _tick(self) -> None:
        assert self._plan is not None
        width = self.query_one("#dialog-box").scrollable_content_region.width
        self._say(f"{kvmlib.printable(self._plan.core)}\n{self._meter.bar(width)}\n{self._meter.words()}")

    @work(thread=True, exclusive=True, group="save", exit_on_error=False)
    def _save(self, plan: kvmlib.SavePlan, compress: bool) -> None:
        saved, problem, cancelled = None, "", False
        try:
            saved = kvmlib.save(
                self.kd,
                plan.directory,
                compress=compress,
                force=bool(plan.refusal),
                progress=self._meter.tell,
                should_stop=self._stop.is_set,
            )
        except kvmlib.Cancelled:
            cancelled = True
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Ended(saved, problem, cancelled))

    def on_save_dialog_ended(self, event: Ended) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._saved = event.saved
        if event.cancelled:
            self._say("Cancelled: nothing was left behind.")
        elif event.saved is None:
            self._say("Nothing was saved.", kvmlib.printable(f"{event.problem}."))
        else:
            self._say(
                self._saved_text(event.saved),
                "\n".join(kvmlib.printable(f"warning: {w}") for w in event.saved.warnings),
            )
        self._enter("done")
        self.query_one("#cancel", Button).focus()
        if self._quit_after:
            self.app.exit()

    @staticmethod
    def _saved_text(saved: kvmlib.Saved) -> str:
        lines = [f"saved   {saved.core}", f"        {size_of(saved.bytes)} ({saved.bytes:,} bytes)"]
        if saved.kernel is not None:
            lines.append(f"saved   {saved.kernel}")
        return "\n".join(kvmlib.printable(line) for line in lines)

    # -- leaving -----------------------------------------------------------------------------------------------------

    def action_cancel(self) -> None:
        if self.stage == "run":
            self._stop.set()
            self.query_one("#save-hint", Static).update("cancelling ...")
        else:
            self.dismiss(self._saved)

    async def action_leave(self) -> None:
        await self.run_action("app.quit")

    def ask_to_quit(self) -> None:
        """Ask whether to stop saving and leave."""

        def answer(yes: bool | None) -> None:
            if yes and self.busy:
                self._quit_after = True
                self._stop.set()
            elif yes:
                self.app.exit()

        paragraphs = ["The dump is being saved. Leaving now stops that, and leaves nothing behind."]
        self.app.push_screen(
            ConfirmDialog("Stop saving and leave?", paragraphs, yes="Stop and leave", no="Go on saving"), answer
        )

    def on_unmount(self) -> None:
        # Whatever ends this dialog: nobody waits for the files any more.
        self._stop.set()
