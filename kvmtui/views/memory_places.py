"""Places in the Memory view: where one was, bookmarks, and a range that is written to a file."""

from __future__ import annotations

import kvmlib
from kvmtui.bookmarks import Bookmark, Bookmarks
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.dialogs.export import ExportDialog
from kvmtui.dialogs.goto import Target
from kvmtui.dialogs.note import NoteDialog
from kvmtui.dialogs.pick import PickDialog
from kvmtui.messages import Status
from kvmtui.views.memory_search import MemorySearch


class MemoryPlaces(MemorySearch):
    """Memory with places to come back to."""

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._bookmarks: Bookmarks | None = None

    # -- where one was -----------------------------------------------------------------------------------------------

    def action_history(self) -> None:
        if not self.history:
            self.say("there is no earlier place to go back to")
            return
        places = self.history[::-1]

        def done(number: int | None) -> None:
            if number is not None:
                self.go(places[number])

        self.app.push_screen(PickDialog("History, newest first", [self._named(p) for p in places]), done)

    def _named(self, place: Target) -> str:
        if place.physical:
            return f"pa {place.address:#x}"
        return f"va {place.address:#x}  {self.kd.describe(place.address)}".rstrip()

    # -- bookmarks ---------------------------------------------------------------------------------------------------

    def _kept(self) -> Bookmarks | None:
        """Return the bookmarks; None, and say why, where they can't be read."""
        if self._bookmarks is None:
            try:
                self._bookmarks = Bookmarks.of(self.kd)
            except kvmlib.KvmError as e:
                self._explain(e)
        return self._bookmarks

    def _explain(self, error: kvmlib.KvmError) -> None:
        self.app.push_screen(MessageDialog("Bookmarks", [f"{error}."]))

    def action_mark(self) -> None:
        where, kept = self.where, self._kept()
        if where is None or kept is None:
            return
        va, pa = where.va, where.pa
        old = kept.at(va, pa)

        def done(note: str | None) -> None:
            if note is not None:
                try:
                    kept.add(Bookmark(va, pa, note))
                except kvmlib.KvmError as e:
                    self._explain(e)
                else:
                    self.post_message(Status("kept: M lists the bookmarks of this dump"))

        self.app.push_screen(NoteDialog(self._described(Bookmark(va, pa)), old.note if old else ""), done)

    def _described(self, mark: Bookmark) -> str:
        parts = [f"va {mark.va:#x}" if mark.va is not None else "", f"pa {mark.pa:#x}" if mark.pa is not None else ""]
        name = self.kd.describe(mark.va) if mark.va is not None else ""
        return kvmlib.printable("  ".join(part for part in (*parts, name, mark.note) if part))

    def action_bookmarks(self) -> None:
        kept = self._kept()
        if kept is None:
            return
        if not kept.items:
            self.say("there are no bookmarks of this dump: m makes one")
            return

        def lines() -> list[str]:
            return [self._described(mark) for mark in kept.items]

        def remove(number: int) -> list[str]:
            try:
                kept.remove(kept.items[number])
            except kvmlib.KvmError as e:
                self._explain(e)
            return lines()

        def done(number: int | None) -> None:
            if number is not None:
                self._visit(kept.items[number])

        self.app.push_screen(PickDialog("Bookmarks", lines(), remove), done)

    def _visit(self, mark: Bookmark) -> None:
        """Go to a bookmark in the kind of memory that is shown, if it has such an address."""
        if mark.va is None or (self.physical and mark.pa is not None):
            assert mark.pa is not None
            self.go(Target(mark.pa, True))
        else:
            self.go(Target(mark.va))

    # -- a file ------------------------------------------------------------------------------------------------------

    def action_export(self) -> None:
        self.app.push_screen(ExportDialog(self.kd, self.here))
