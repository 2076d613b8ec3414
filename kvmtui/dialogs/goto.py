"""Go to: an address as a person writes it."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Static

import kvmlib

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType


class Target(NamedTuple):
    """Where to go: a virtual address, or a physical one."""

    address: int
    physical: bool = False


def parse_target(kd: kvmlib.Kvm, text: str, here: Target | None = None) -> Target:
    """Understand what a person wrote: an address, symbol, register, ``pa:...``, ``off:...``, or +N and -N from `here`.

    Raises:
        KvmError: it is none of these, or there is no such place; one sentence says why.
    """
    text = text.strip()
    kind, colon, rest = text.partition(":")
    kind = kind.strip().lower()
    if colon and kind in ("pa", "off"):
        number = _number(rest, "a physical address" if kind == "pa" else "a file offset")
        return Target(_pa(number) if kind == "pa" else _pa_at(kd, number), True)
    if colon and kind == "va":
        text = rest.strip()
    if here is not None and text[:1] in ("+", "-") and len(text) > 1:
        distance = _number(text[1:], "a number of bytes")
        address = here.address + (distance if text[0] == "+" else -distance)
        return Target(_pa(address), True) if here.physical else Target(_va(kd, address))
    if not text:
        raise kvmlib.SymbolError("nothing was written: an address (0x...), a symbol or a register was expected")
    return Target(_va(kd, kd.address(text)))


def _number(text: str, what: str) -> int:
    try:
        value = int(text.strip(), 16)
    except ValueError:
        raise kvmlib.SymbolError(f"{kvmlib.printable(repr(text.strip()))} is not {what} in hex") from None
    return value


def _va(kd: kvmlib.Kvm, va: int) -> int:
    bits = kd.translator.bits
    if not 0 <= va < 1 << bits:
        raise kvmlib.TranslationError(f"va {va:#x} does not fit in {bits} bits", va)
    return va


def _pa(pa: int) -> int:
    if not 0 <= pa < 1 << 64:
        raise kvmlib.SymbolError(f"pa {pa:#x} does not fit in 64 bits")
    return pa


def _pa_at(kd: kvmlib.Kvm, offset: int) -> int:
    """Return the physical address whose byte lies at a file offset."""
    if (pa := kd.memory.pa_at(offset)) is not None:
        return pa
    if not 0 <= offset < kd.image.size:
        raise kvmlib.SymbolError(f"file offset {offset:#x} lies outside the file, which has {kd.image.size:#x} bytes")
    if kd.dump_off is not None and offset < kd.dump_off:
        raise kvmlib.SymbolError(f"file offset {offset:#x} lies before the memory, which begins at {kd.dump_off:#x}")
    if offset < kd.memory.end:
        raise kvmlib.SymbolError(f"no physical address leads to file offset {offset:#x}")
    raise kvmlib.SymbolError(f"file offset {offset:#x} lies behind the memory of the dump")


class SymbolSuggester(Suggester):
    """Completes the name of a symbol."""

    def __init__(self, symbols: kvmlib.SymbolTable) -> None:
        super().__init__(case_sensitive=True)
        self._symbols = symbols
        self._names: list[str] | None = None

    async def get_suggestion(self, value: str) -> str | None:
        if not value or value[0].isdigit():
            return None
        if self._names is None:
            self._names = sorted({s.name for s in self._symbols if s.name.isascii() and s.name.isprintable()})
        i = bisect.bisect_left(self._names, value)
        return self._names[i] if i < len(self._names) and self._names[i].startswith(value) else None


_HINT = (
    "0x1234, symbol+0x10, register, pa:0x1000, off:0x200, +10\n"
    "Enter: go there   Right: complete a symbol   Escape: cancel"
)


class GoToDialog(ModalScreen[Target | None]):
    """Asks for an address; ends with where to go, or with None."""

    DEFAULT_CSS = """
    GoToDialog {
        align: center top;
        & > Vertical {
            width: 72;
            max-width: 100%;
            height: auto;
            margin-top: 2;
            padding: 0 1;
            border: solid $accent;
            background: $surface;
        }
        & Input { border: none; height: 1; padding: 0; background: $surface; }
        & Input:focus { border: none; }
        & .goto--hint { color: $text-muted; }
        & #goto-error { color: $text-error; text-style: bold; height: auto; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "cancel", "Cancel")]

    def __init__(self, kd: kvmlib.Kvm, here: Target | None = None) -> None:
        super().__init__()
        self.kd = kd
        self.here = here

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Go to"
            field = Input(
                placeholder="where to",
                suggester=SymbolSuggester(self.kd.symbols),
                select_on_focus=False,
                id="goto-input",
            )
            field.cursor_blink = False
            yield field
            yield Static("", id="goto-error", markup=False)
            yield Static(_HINT, classes="goto--hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_changed(self) -> None:
        self.query_one("#goto-error", Static).update("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            target = parse_target(self.kd, event.value, self.here)
        except kvmlib.KvmError as e:
            self.query_one("#goto-error", Static).update(kvmlib.printable(f"{e}."))
        else:
            self.dismiss(target)

    def action_cancel(self) -> None:
        self.dismiss(None)
