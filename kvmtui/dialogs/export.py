"""Export: which range of memory, in which form, to which file; Escape cancels at any time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual import work
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button, Input, Static

import kvmlib
from kvmtui.dialogs.base import Box, Dialog, button, text
from kvmtui.dialogs.choice import Choice
from kvmtui.dialogs.goto import Target, parse_target
from kvmtui.widgets.progress import Meter

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.timer import Timer

FORMS: dict[str, kvmlib.RangeForm] = {"raw": "raw", "hex dump": "hexdump", "C array": "c"}
_SUFFIX = {"raw": "bin", "hexdump": "txt", "c": "c"}
_TICK = 0.25


class Range(NamedTuple):
    """A range of memory."""

    address: int
    size: int
    physical: bool


def parse_range(kd: kvmlib.Kvm, start: str, end: str, here: Target) -> Range:
    """Understand a range: where it begins, as `parse_target` does, and where it ends or, as +N, how long it is.

    Raises:
        KvmError: it can't be understood, or ends before it begins.
    """
    first = parse_target(kd, start, here)
    if end.strip()[:1] == "+":
        try:
            size = int(end.strip()[1:], 16)
        except ValueError:
            said = kvmlib.printable(repr(end.strip()))
            raise kvmlib.KvmError(f"{said} is not a length: + and a number in hex were expected") from None
    else:
        last = parse_target(kd, end, first)
        if last.physical != first.physical:
            raise kvmlib.KvmError("one end of the range is a va and the other one a pa")
        size = last.address - first.address
    if size <= 0:
        raise kvmlib.KvmError("the range ends before it begins")
    return Range(first.address, size, first.physical)


class ExportDialog(Dialog[None]):
    """Asks, writes, and says what came of it."""

    DEFAULT_CSS = """
    ExportDialog {
        & #dialog-box > Horizontal { height: 1; width: 1fr; }
        & #dialog-box > Horizontal > Static { width: 10; }
        & Input { width: 1fr; }
        & #export-said { margin-top: 1; }
    }
    """
    # Left and Right belong to the fields here.
    BINDINGS: ClassVar[list[BindingType]] = [("left", "nothing", ""), ("right", "nothing", "")]

    class Ended(Message):
        """Writing came to an end."""

        def __init__(self, size: int, problem: str) -> None:
            super().__init__()
            self.size = size
            self.problem = problem

    def __init__(self, kd: kvmlib.Kvm, here: Target) -> None:
        super().__init__()
        self.kd = kd
        self.here = here
        self.stop = threading.Event()
        self._meter = Meter()
        self._timer: Timer | None = None
        self._named = ""

    def compose(self) -> ComposeResult:
        start = f"{'pa:' if self.here.physical else ''}{self.here.address:#x}"
        with Box("Export memory"):
            for label, id, value in (("From", "from", start), ("To", "to", "+1000"), ("File", "file", "")):
                with Horizontal():
                    yield text(label)
                    field = Input(value, id=f"export-{id}", select_on_focus=False)
                    field.cursor_blink = False
                    yield field
            with Horizontal():
                yield text("as")
                yield Choice(list(FORMS), id="export-form")
            yield text(
                "To: an address, a symbol, or +N bytes in hex. A file that exists is never overwritten.",
                classes="dialog-faint",
            )
            yield text(id="export-said")
            yield text(id="export-problem", classes="dialog-bad")
            with Horizontal(classes="dialog-buttons"):
                yield button("Write", "write")
                yield button("Cancel", "cancel")

    def on_mount(self) -> None:
        self._name_file()
        self.query_one("#export-to", Input).focus()

    @property
    def form(self) -> kvmlib.RangeForm:
        """The form that is chosen."""
        return FORMS[self.query_one(Choice).word]

    @property
    def busy(self) -> bool:
        """Whether a file is being written."""
        return self._timer is not None

    def _name_file(self) -> None:
        """Propose a name, unless a person wrote another."""
        field = self.query_one("#export-file", Input)
        if field.value == self._named:
            self._named = str(Path.cwd() / f"memory-{self.here.address:x}.{_SUFFIX[self.form]}")
            field.value = self._named

    def on_choice_changed(self) -> None:
        self._name_file()

    def action_nothing(self) -> None:
        """Stay where one is."""

    def _say(self, said: str = "", problem: str = "") -> None:
        self.query_one("#export-said", Static).update(kvmlib.printable(said, keep="\n"))
        self.query_one("#export-problem", Static).update(kvmlib.printable(problem))

    def on_input_submitted(self) -> None:
        self._begin()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "write":
            self._begin()
        else:
            self.action_cancel()

    def _begin(self) -> None:
        if self.busy:
            return
        start, end, file = (self.query_one(f"#export-{id}", Input).value for id in ("from", "to", "file"))
        try:
            wanted = parse_range(self.kd, start, end, self.here)
            path = str(Path(file.strip()).expanduser())
        except (kvmlib.KvmError, RuntimeError) as e:
            self._say(problem=f"{e}.")
            return
        self._meter = Meter()
        self._timer = self.set_interval(_TICK, self._tick)
        self._tick()
        self.query_one("#cancel", Button).focus()
        self._write(wanted, path, self.form)

    def _tick(self) -> None:
        width = self.query_one("#dialog-box").scrollable_content_region.width
        self._say(f"{self._meter.bar(width)}\n{self._meter.words()}")

    @work(thread=True, exclusive=True, group="export", exit_on_error=False)
    def _write(self, wanted: Range, path: str, form: kvmlib.RangeForm) -> None:
        size, problem = 0, ""
        try:
            size = kvmlib.write_range(
                self.kd,
                path,
                wanted.address,
                wanted.size,
                form,
                physical=wanted.physical,
                progress=self._meter.tell,
                should_stop=self.stop.is_set,
            )
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Ended(size, problem))

    def on_export_dialog_ended(self, event: Ended) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self.stop.clear()
        if event.problem:
            self._say(problem=f"{event.problem}.")
        else:
            self._say(f"written: {self.query_one('#export-file', Input).value.strip()}, {event.size:,} bytes")
            self.query_one("#cancel", Button).label = "OK"

    def action_cancel(self) -> None:
        if self.busy:
            self.stop.set()
        else:
            self.dismiss(None)

    def on_unmount(self) -> None:
        # Whatever ends this dialog: nobody waits for the file any more.
        self.stop.set()
