"""Save: where to, what exactly will be written, then progress; Escape cancels at any time."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
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
#: Holes that are named on the screen; all are in info.N.
_HOLES = 8


def default_directory() -> str:
    """Return where savecore(8) saves, if this user may, else the current folder."""
    return CRASH if Path(CRASH).is_dir() and os.access(CRASH, os.W_OK) else str(Path.cwd())


@dataclass(frozen=True)
class Options:
    """How to save; each has a button and a letter."""

    compress: bool = False
    verify: bool = True
    salvage: bool = False
    resume: bool = False

    #: letter: (which, label).
    LETTERS: ClassVar[dict[str, tuple[str, str]]] = {
        "z": ("compress", "Compress"),
        "v": ("verify", "Verify"),
        "a": ("salvage", "Salvage"),
        "r": ("resume", "Resume"),
    }

    def label(self, letter: str) -> str:
        name, words = self.LETTERS[letter]
        return f"{words}: {'yes' if getattr(self, name) else 'no'} ({letter})"

    def toggled(self, letter: str) -> Options:
        name, _ = self.LETTERS[letter]
        changed = replace(self, **{name: not getattr(self, name)})
        # A compressed copy can't be gone on with.
        if changed.compress and changed.resume:
            return replace(changed, compress=name == "compress", resume=name == "resume")
        return changed


def plan_text(plan: kvmlib.SavePlan) -> str:
    """Say exactly what would be written."""
    lines = [f"writes  {plan.core}", f"        {size_of(plan.size)} ({plan.size:,} bytes) before any packing"]
    if plan.kernel is not None:
        lines += [f"writes  {plan.kernel}", f"        {plan.kernel_source}"]
    else:
        lines += [f"        no kernel file: {plan.kernel_source.removeprefix('none: ')}"]
    small = [file for file in plan.files if file not in (plan.core, plan.kernel)]
    lines += [f"writes  {', '.join(Path(file).name for file in small)}"]
    lines += [f"needs   {size_of(plan.needed)} at most"]
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
        & #save-options-ar { margin-top: 0; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "leave", "Quit"),
        ("s", "save", "Save"),
        ("c", "cancel", "Cancel"),
        *((letter, f"option('{letter}')", label) for letter, (_, label) in Options.LETTERS.items()),
    ]

    class Looked(Message):
        """It is known what would be written, or why nothing can be."""

        def __init__(self, asked: tuple[str, Options], plan: kvmlib.SavePlan | None, problem: str) -> None:
            super().__init__()
            self.asked = asked
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
        self._options = Options()
        #: What was looked for last.
        self._asked = (self._directory, self._options)
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
            for row in ("zv", "ar"):
                with Horizontal(classes="dialog-buttons save-options", id=f"save-options-{row}"):
                    for letter in row:
                        yield button(self._options.label(letter), Options.LETTERS[letter][0])
            with Horizontal(classes="dialog-buttons"):
                yield button("Save (s)", "save")
                yield button("Cancel (c)", "cancel")

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
            "run": "Escape cancels, and leaves all as it was."
            + (" What is read back is counted too." if self._options.verify else ""),
            "done": "",
        }
        hint = self.query_one("#save-hint", Static)
        hint.update(hints[stage])
        hint.display = bool(hints[stage])
        self.query_one("#save-where").display = stage in ("ask", "look", "confirm")
        self.query_one("#save", Button).display = stage == "confirm"
        self.query(".save-options").set(display=stage in ("ask", "look", "confirm"))
        self.query_one("#cancel", Button).label = "OK" if stage == "done" else "Cancel (c)"

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
        self._asked = (directory, self._options)
        self._look(*self._asked)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _look(self, directory: str, options: Options) -> None:
        plan, problem = None, ""
        try:
            plan = kvmlib.plan_save(self.kd, directory, compress=options.compress, resume=options.resume)
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Looked((directory, options), plan, problem))

    def on_save_dialog_looked(self, event: Looked) -> None:
        if self.stage != "look" or event.asked != self._asked:
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
        self.query_one("#save", Button).label = "Save anyway (s)" if plan.refusal else "Save (s)"
        self.query_one("#cancel" if said else "#save", Button).focus()

    # -- writing -----------------------------------------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        letters = {name: letter for letter, (name, _) in Options.LETTERS.items()}
        if event.button.id == "cancel":
            self.action_cancel()
        elif event.button.id in letters:
            self.action_option(letters[event.button.id])
        else:
            self.action_save()

    def action_option(self, letter: str) -> None:
        """Change an option, and look again what that would write."""
        if self.stage not in ("ask", "look", "confirm"):
            return
        self._options = self._options.toggled(letter)
        for each, (name, _) in Options.LETTERS.items():
            self.query_one(f"#{name}", Button).label = self._options.label(each)
        if self.stage != "ask":
            self._look_now()

    def action_save(self) -> None:
        """Write, if what was shown is still what would be written."""
        if self.stage != "confirm" or self._plan is None:
            return
        self._meter = Meter()
        self._enter("run")
        self.query_one("#cancel", Button).focus()
        self._timer = self.set_interval(_TICK, self._tick)
        self._tick()
        self._save(self._plan, self._options)

    def _tick(self) -> None:
        assert self._plan is not None
        width = self.query_one("#dialog-box").scrollable_content_region.width
        self._say(f"{kvmlib.printable(self._plan.core)}\n{self._meter.bar(width)}\n{self._meter.words()}")

    @work(thread=True, exclusive=True, group="save", exit_on_error=False)
    def _save(self, plan: kvmlib.SavePlan, options: Options) -> None:
        saved, problem, cancelled = None, "", False
        facts: tuple[kvmlib.Fact, ...] = ()
        with suppress(kvmlib.KvmError):  # A disk with bad blocks: info.N goes without them.
            facts = kvmlib.summary(self.kd).facts
        try:
            saved = kvmlib.save(
                self.kd,
                plan.directory,
                force=bool(plan.refusal),
                facts=facts,
                **asdict(options),
                progress=self._meter.tell,
                should_stop=self._stop.is_set,
            )
        except kvmlib.Cancelled as e:
            problem, cancelled = str(e), True
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Ended(saved, problem, cancelled))

    def on_save_dialog_ended(self, event: Ended) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._saved = event.saved
        if event.cancelled:
            self._say(kvmlib.printable(f"Cancelled: {event.problem}."))
        elif event.saved is None:
            self._say("Nothing was saved.", kvmlib.printable(f"{event.problem}."))
        else:
            self._say(self._saved_text(event.saved), self._problems_text(event.saved))
        self._enter("done")
        self.query_one("#cancel", Button).focus()
        if self._quit_after:
            self.app.exit()

    @staticmethod
    def _saved_text(saved: kvmlib.Saved) -> str:
        lines = [f"saved   {saved.core}", f"        {size_of(saved.bytes)} ({saved.bytes:,} bytes)"]
        if saved.kernel is not None:
            lines += [f"saved   {saved.kernel}", f"        {saved.kernel_source}"]
        lines.append(f"saved   {saved.info}")
        if saved.sha256 is not None:
            lines += ["read back and compared: the same", f"sha256  {saved.sha256}"]
        return "\n".join(kvmlib.printable(line) for line in lines)

    @staticmethod
    def _problems_text(saved: kvmlib.Saved) -> str:
        lines = [f"warning: {w}" for w in saved.warnings]
        lines += [f"{h.size} bytes at {h.offset:#x} can't be read: zeros stand for them" for h in saved.holes[:_HOLES]]
        if len(saved.holes) > _HOLES:
            lines.append(f"... {len(saved.holes) - _HOLES} more holes are listed in {saved.info}")
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
