"""Search memory: what to look for, as what, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.containers import Horizontal
from textual.widgets import Input, Static

import kvmlib
from kvmtui.dialogs.base import Box, Dialog, text
from kvmtui.dialogs.choice import Choice
from kvmtui.dialogs.goto import SymbolSuggester, Target, parse_target

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

#: What can be looked for, with what is expected then.
KINDS: dict[str, str] = {
    "bytes": "hex, ?? for any byte: de ad ?? ef",
    "text": "found as UTF-8 and as UTF-16",
    "16-bit": "a number, decimal or 0x...; may be negative",
    "32-bit": "a number, decimal or 0x...; may be negative",
    "64-bit": "a number, decimal or 0x...; may be negative",
    "pointer": "who points to it: 0x..., symbol, register; nothing: the cursor's va",
}
#: Where: all of one kind of memory, or of the kind that is shown what lies from the cursor on.
PLACES = ("virtual memory", "physical memory", "from here on")
HERE = 2


class Search(NamedTuple):
    """What was asked for.

    Attributes:
        kind, text: as they were written.
        place: which of PLACES is searched.
    """

    kind: str = "bytes"
    text: str = ""
    place: int = 0


def pattern_of(kd: kvmlib.Kvm, search: Search, here: Target | None = None) -> kvmlib.Pattern:
    """Make the pattern that a search asks for; `here` is the cursor.

    Raises:
        KvmError: it can't be understood; one sentence says why.
    """
    machine = kd.machine
    assert machine is not None
    order = machine.byteorder
    if search.kind == "bytes":
        return kvmlib.Pattern.of_hex(search.text)
    if search.kind == "text":
        return kvmlib.Pattern.of_text(search.text, order)
    if search.kind == "pointer":
        if not search.text.strip() and here is not None and not here.physical:
            return kvmlib.Pattern.of_value(here.address, machine.long_bytes, order)
        target = parse_target(kd, search.text, here)
        if target.physical:
            raise kvmlib.KvmError("a pointer holds a virtual address: search for a physical one as a number")
        return kvmlib.Pattern.of_value(target.address, machine.long_bytes, order)
    try:
        value = int(search.text.strip(), 0)
    except ValueError:
        said = kvmlib.printable(repr(search.text.strip()[:40]))
        raise kvmlib.KvmError(f"{said} is not a number: decimal digits or 0x... were expected") from None
    return kvmlib.Pattern.of_value(value, int(search.kind.partition("-")[0]) // 8, order)


class SearchDialog(Dialog["tuple[Search, kvmlib.Pattern] | None"]):
    """Ends with what to search for, or with None."""

    DEFAULT_CSS = """
    SearchDialog {
        & Horizontal { height: 1; width: 1fr; }
        & Horizontal > Static { width: 10; }
        & Input { width: 1fr; }
        & #search-error { color: $text-error; text-style: bold; }
    }
    """
    # Left and Right belong to the field and the choices here.
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "kind(-1)", "Kind"),
        ("down", "kind(1)", "Kind"),
        ("enter", "go", "Search"),
        ("left", "nothing", ""),
        ("right", "nothing", ""),
    ]

    def __init__(self, kd: kvmlib.Kvm, last: Search, here: Target | None) -> None:
        super().__init__()
        self.kd = kd
        self.last = last
        self.here = here

    def compose(self) -> ComposeResult:
        with Box("Search memory"):
            with Horizontal():
                yield text("Look for")
                suggester = SymbolSuggester(self.kd.symbols)
                field = Input(self.last.text, id="search-text", suggester=suggester, select_on_focus=True)
                field.cursor_blink = False
                yield field
            with Horizontal():
                yield text("as")
                yield Choice(list(KINDS), list(KINDS).index(self.last.kind), id="search-kind")
            with Horizontal():
                yield text("in")
                yield Choice(PLACES, self.last.place, id="search-place")
            yield text(id="search-hint", classes="dialog-faint")
            yield text(id="search-error")
            yield text("Enter: search   Up Down: as what   Tab: next line   Escape: cancel", classes="dialog-faint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._hint()

    def _hint(self) -> None:
        kind = self.query_one("#search-kind", Choice).word
        self.query_one("#search-hint", Static).update(KINDS[kind])
        self.query_one("#search-error", Static).update("")
        field = self.query_one(Input)
        # Only an address is a symbol's name.
        field.suggester = SymbolSuggester(self.kd.symbols) if kind == "pointer" else None

    def action_kind(self, by: int) -> None:
        self.query_one("#search-kind", Choice).action_step(by)

    def action_nothing(self) -> None:
        """Stay where one is."""

    def on_choice_changed(self) -> None:
        self._hint()

    def on_input_changed(self) -> None:
        self.query_one("#search-error", Static).update("")

    def on_input_submitted(self) -> None:
        self.action_go()

    def action_go(self) -> None:
        kind = self.query_one("#search-kind", Choice).word
        search = Search(kind, self.query_one(Input).value, self.query_one("#search-place", Choice).index)
        try:
            pattern = pattern_of(self.kd, search, self.here)
        except kvmlib.KvmError as e:
            self.query_one("#search-error", Static).update(kvmlib.printable(f"{e}."))
        else:
            self.dismiss((search, pattern))
