"""What all dialogs have in common."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """A box in the middle of the screen; Escape leaves it with the answer that changes nothing."""

    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        & > #dialog-box {
            width: 76;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 0 1;
            border: solid $accent;
            border-title-style: bold;
            background: $surface;
            scrollbar-size-vertical: 1;
        }
        & Static { width: 1fr; height: auto; }
        & .dialog-faint { color: $text-muted; }
        & .dialog-bad { color: $text-error; text-style: bold; }
        & .dialog-buttons { height: 1; width: 1fr; margin-top: 1; }
        & Button { margin-right: 2; min-width: 10; }
        & Button:focus { text-style: reverse bold; }
        & Input, & Input:focus { border: none; height: 1; padding: 0; background: $boost; }
    }
    Dialog:ansi .dialog-faint { color: ansi_default; text-style: dim; }
    Dialog:ansi Input { text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "cancel", "Cancel"),
        ("left", "app.focus_previous", "Previous"),
        ("right", "app.focus_next", "Next"),
    ]

    def action_cancel(self) -> None:
        """Leave without doing anything."""
        self.dismiss(None)


class Box(VerticalScroll, can_focus=False):
    """The dialog's frame; what doesn't fit scrolls."""

    def __init__(self, title: str) -> None:
        super().__init__(id="dialog-box")
        # A title is parsed as markup unless it is content already.
        self.border_title = title.replace("[", r"\[")


def text(content: str = "", *, classes: str = "", id: str | None = None) -> Static:
    """Return a paragraph that is never parsed as markup."""
    return Static(content, classes=classes, id=id, markup=False)


def button(label: str, id: str) -> Button:
    """Return a button that takes one line."""
    return Button(label, id=id, compact=True)
