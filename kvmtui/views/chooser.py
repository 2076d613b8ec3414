"""The chooser: dumps that can be found without looking into large files, the samples, and any path."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

import kvmlib
from kvmtui.actions import bindings_for
from kvmtui.dialogs.save import CRASH
from kvmtui.messages import FindHeaders, StartLesson
from kvmtui.opening import DEFAULT_SAMPLE, Request, Samples
from kvmtui.place import Place
from kvmtui.views.waiting import open_from
from kvmtui.widgets.field import Field
from kvmtui.widgets.format import size_of
from kvmtui.widgets.rowlist import ListRows, RowList
from kvmtui.widgets.wrap import shorten

#: Files that are looked at in one folder, at most: four bytes of each are read.
_MOST = 2000
_MAGIC = b"\x8f\xca"
_PACKED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".Z": b"\x1f\x9d"}


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be a dump.

    Attributes:
        path: where it is.
        size: bytes; 0 for a device.
        when: when it was written.
        what: what it seems to be.
    """

    path: Path
    size: int
    when: datetime.datetime
    what: str


def look_in(folder: Path) -> list[Found]:
    """Return the files of a folder that may be dumps, newest first. Reads four bytes of each, never more."""
    found = []
    try:
        entries = sorted(folder.iterdir())[:_MOST]
    except OSError:
        return []
    for path in entries:
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                continue
            with path.open("rb") as f:
                begin = f.read(4)
        except OSError:
            continue
        what = what_is(path.name, begin)
        if what:
            when = datetime.datetime.fromtimestamp(info.st_mtime, tz=datetime.UTC).astimezone()
            found.append(Found(path, info.st_size, when, what))
    return sorted(found, key=lambda f: f.when, reverse=True)


def what_is(name: str, begin: bytes) -> str:
    """Guess from a file's name and first four bytes what it is; empty when it is no dump."""
    if begin[2:4] == _MAGIC:
        flag = begin[0] >> 2
        return "saved core" if flag == 0 else "device image, header in place"
    if any(name.endswith(f".core{end}") and begin.startswith(magic) for end, magic in _PACKED.items()):
        return "packed core"
    if name.endswith(".img") and begin:
        return "image, to be searched"
    # Every program that crashes leaves a NAME.core: only a kernel's begins with a kcore_hdr.
    return ""


class ChooserScreen(Place):
    """Choose a dump."""

    DEFAULT_CSS = """
    ChooserScreen {
        & > #chooser-path { height: 1; margin-top: 1; }
        & > #chooser-path > Static { width: 6; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("chooser")]

    class Looked(Message):
        """The folders were looked through."""

        def __init__(self, found: list[tuple[Path, list[Found]]]) -> None:
            super().__init__()
            self.found = found

    def __init__(self, samples: Samples) -> None:
        super().__init__("choose a dump")
        self._samples = samples
        self._found: list[tuple[Path, list[Found]]] | None = None

    places = ("chooser",)
    help_title = "Choose a dump"
    help_text = (
        "Enter opens the dump under the cursor. Listed are saved cores, packed ones, and images in /var/crash and in "
        "the current folder; when an image is opened, the header is looked for in all of it.\n"
        "A sample is a dump that is made on the spot, of a machine that panicked in a made-up way. It lies in a "
        "temporary folder and is removed in the end, so everything can be tried on it, saving and invalidating too. L "
        "makes it and begins the guided tour.\n"
        "/ goes to the path, where any other file or device can be named. D lists every header in the file under the "
        "cursor: an image may hold more than one dump."
    )

    def compose(self) -> ComposeResult:
        yield self.title_bar
        yield RowList(id="chooser-rows")
        with Horizontal(id="chooser-path"):
            yield Static("Path", markup=False)
            yield Field("/ to write the path of another dump, a partition or a device", None, id="chooser-field")
        yield self.bottom

    @property
    def rows(self) -> RowList:
        return self.query_one(RowList)

    @property
    def field(self) -> Field:
        return self.query_one(Field)

    def on_mount(self) -> None:
        self.field.rows = self.rows
        self.rows.focus()
        self.action_again()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    # -- what there is -----------------------------------------------------------------------------------------------

    def action_again(self) -> None:
        """Look for dumps again."""
        self._fill()
        self._look()

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        folders = dict.fromkeys(path.resolve() for path in (Path.cwd(), Path(CRASH)))
        self.post_message(self.Looked([(folder, look_in(folder)) for folder in folders]))

    def on_chooser_screen_looked(self, event: Looked) -> None:
        self._found = event.found
        self._fill(0)

    def _fill(self, cursor: int | None = None) -> None:
        if self.is_mounted:
            width = self.rows.scrollable_content_region.width or self.app.size.width - 1
            self.rows.show(ListRows(list(self._rows(width))), max(0, self.rows.cursor if cursor is None else cursor))

    def _rows(self, width: int) -> Iterator[tuple[list[tuple[str, str]], Request | None]]:
        if self._found is None:
            yield [("looking for dumps ...", "faint")], None
        for folder, found in self._found or ():
            yield [(f"Dumps in {shorten(kvmlib.printable(str(folder)), width - 9)}", "strong")], None
            if not found:
                yield [("  none" if folder.is_dir() else "  there is no such folder", "label")], None
            column = min(max([12, *(len(kvmlib.printable(f.path.name)) for f in found)]), max(12, width - 40))
            for f in found:
                name = shorten(kvmlib.printable(f.path.name), column).ljust(column)
                facts = f"  {size_of(f.size):>10}  {f.when:%Y-%m-%d}  {f.what}"
                yield [(f"  {name}", ""), (facts, "label")], Request(str(f.path))
            yield [("", "")], None
        yield [("Samples, made on the spot and removed in the end", "strong")], None
        for name in kvmlib.sample_names():
            yield [(f"  {name}", "")], Request(sample=name)

    def action_lesson(self) -> None:
        """Begin the lesson on the sample under the cursor, or on the usual one."""
        chosen = self.chosen
        self.post_message(StartLesson((chosen.sample if chosen is not None else None) or DEFAULT_SAMPLE))

    # -- opening -----------------------------------------------------------------------------------------------------

    def action_path(self) -> None:
        self.field.focus()

    def on_field_left(self) -> None:
        self.rows.focus()

    @property
    def chosen(self) -> Request | None:
        """What is under the cursor."""
        rows = self.rows.rows
        request = rows.item(self.rows.cursor) if isinstance(rows, ListRows) else None
        return request if isinstance(request, Request) else None

    def action_open(self) -> None:
        if self.chosen is not None:
            open_from(self, self.chosen, self._samples)

    def action_headers(self) -> None:
        if self.chosen is None or not self.chosen.path:
            self.say("a sample has one header: choose a file, or write a path")
        else:
            self.post_message(FindHeaders(self.chosen.path))

    def on_row_list_chosen(self) -> None:
        self.action_open()

    def on_input_submitted(self) -> None:
        path = self.field.value.strip()
        if path:
            open_from(self, Request(str(Path(path).expanduser())), self._samples)
