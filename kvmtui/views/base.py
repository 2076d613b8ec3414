"""What the seven views have in common."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Vertical
from textual.widget import Widget

import kvmlib


class View(Vertical):
    """One of the views of a dump; it asks `kd` and draws what comes back."""

    view_id: ClassVar[str] = ""
    title: ClassVar[str] = ""
    help_text: ClassVar[str] = ""

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(id=self.view_id)
        self.kd = kd

    @property
    def inner(self) -> Widget | None:
        """A part of the view that has actions of its own and has the focus; None where there is none."""
        return None

    @property
    def word(self) -> str:
        """What is under the cursor, as text; help begins with it where the glossary has it."""
        return ""

    def on_show_view(self) -> None:
        """Become the visible view: fill in what was left for later."""

    def forget(self) -> None:
        """The dump was changed: read again what may have changed, when this becomes the visible view."""
