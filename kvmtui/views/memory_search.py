"""Searching in the Memory view: it runs beside the user interface, and its list fills while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.message import Message

import kvmlib
from kvmtui.dialogs.goto import Target
from kvmtui.dialogs.search import HERE, PLACES, Search, SearchDialog
from kvmtui.views.memory_core import MemoryCore
from kvmtui.widgets.progress import Meter
from kvmtui.widgets.results import ResultsPane
from kvmtui.widgets.rowlist import RowList
from kvmtui.widgets.rows import size_text

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

#: Places that are listed at most.
MOST = 10_000
_TICK = 0.25
#: Bytes of what was found that its row shows.
_PREVIEW = 24


class Job:
    """A search that runs, or ran.

    Attributes:
        said: what is looked for, in words.
        physical: whether the addresses are physical ones.
        found: the address of each place, with what is said of it; grows while it runs.
        meter: how far it is; None where nobody knows.
        running: until it came to its end.
    """

    def __init__(self, said: str, physical: bool, meter: Meter | None) -> None:
        self.said = said
        self.physical = physical
        self.found: list[tuple[int, str]] = []
        self.meter = meter
        self.running = True
        self.stop = threading.Event()


class MemorySearch(MemoryCore):
    """Memory with a list of what was found in it."""

    DEFAULT_CSS = """
    MemorySearch.-results > ResultsPane { display: block; }
    """

    #: Rows that two panes and some bytes need.
    ROOMY: ClassVar[int] = 30

    class Ended(Message):
        """A search came to its end."""

        def __init__(self, job: Job, problem: str) -> None:
            super().__init__()
            self.job = job
            self.problem = problem

    def __init__(self, kd: kvmlib.Kvm) -> None:
        super().__init__(kd)
        self._job: Job | None = None
        self._last = Search()
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield ResultsPane(id="memory-results")

    @property
    def results(self) -> ResultsPane:
        return self.query_one(ResultsPane)

    @property
    def searching(self) -> bool:
        """Whether a search runs."""
        return self._job is not None and self._job.running

    def make_room(self, *others: str) -> None:
        """Where there are few rows, hide other panes, so that bytes stay on the screen."""
        if self.size.height < self.ROOMY:
            self.remove_class(*others)

    # -- starting ----------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        def done(answer: tuple[Search, kvmlib.Pattern] | None) -> None:
            if answer is not None:
                self._last, pattern = answer
                place = self._last.place
                if place == HERE:
                    self.search(pattern, self.physical, self.here.address)
                else:
                    self.search(pattern, place == 1)

        last = self._last if self._last.text else self._last._replace(place=int(self.physical))
        self.app.push_screen(SearchDialog(self.kd, last, self.here), done)

    def search(self, pattern: kvmlib.Pattern, physical: bool, start: int = 0) -> None:
        """Look for a pattern in virtual or physical memory, from `start` on."""
        meter = Meter()
        beginning = f" from {start:#x} on" if start else ""
        job = Job(f"{pattern.said} in {PLACES[physical]}{beginning}", physical, meter)
        found = kvmlib.look_for(
            self.kd,
            pattern,
            physical=physical,
            start=start,
            most=MOST,
            progress=meter.tell,
            should_stop=job.stop.is_set,
        )
        self._start(job, ((f.address, f.what) for f in found), self._preview)

    def action_aliases(self) -> None:
        """List the virtual addresses of the byte under the cursor."""
        where = self.where
        if where is None or where.pa is None:
            self.say("there is no physical address here, so nothing else can be mapped to it")
            return
        job = Job(f"virtual addresses of pa {where.pa:#x}", False, None)
        found = kvmlib.vas_of(self.kd, where.pa, should_stop=job.stop.is_set)
        said = ((va, f"{size_text(m.size)} from {m.va:#x} on, {' '.join(m.flags) or 'no flags'}") for va, m in found)
        self._start(job, said, lambda address, text: f"{self.kd.describe(address)}  {text}".strip())

    def _start(self, job: Job, found: Iterator[tuple[int, str]], words: Callable[[int, str], str]) -> None:
        if self._job is not None:
            self._job.stop.set()
        self._job = job
        space = self._physical if job.physical else self._virtual
        digits = space.digits if space is not None else self.kd.translator.bits // 4
        self.results.begin(job.physical, digits, lambda number: words(*job.found[number]))
        self.make_room("-walk", "-inspect")
        self.add_class("-results")
        self.results.rows.focus()
        if self._timer is None:
            self._timer = self.set_interval(_TICK, self._tick)
        self._tick()
        self._run(job, found)

    @work(thread=True, group="search", exit_on_error=False)
    def _run(self, job: Job, found: Iterator[tuple[int, str]]) -> None:
        problem = ""
        try:
            for item in found:
                job.found.append(item)
                if len(job.found) >= MOST:
                    break
        except kvmlib.Cancelled:
            problem = "cancelled"
        except (kvmlib.KvmError, OSError) as e:
            problem = str(e)
        self.post_message(self.Ended(job, problem))

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.stop.set()

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _take(self, job: Job) -> str:
        """Show what was found up to now; return how much that is, in words."""
        pane = self.results
        pane.addresses += [address for address, _ in job.found[len(pane.addresses) :]]
        pane.fill()
        count = len(pane.addresses)
        return f"{count:,}{' or more' if count >= MOST else ''} found"

    def _tick(self) -> None:
        job = self._job
        if job is not None and job.running:
            count = self._take(job)
            how = job.meter.words() if job.meter is not None else "reading the page tables"
            self.results.say(f"{count}, {how}; Escape cancels: {job.said}")

    def on_memory_search_ended(self, event: Ended) -> None:
        event.job.running = False
        if event.job is not self._job:
            return
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        why = f"; {event.problem}" if event.problem else ""
        self.results.say(f"{self._take(event.job)}{why}: {event.job.said}", bad=bool(event.problem))
        if not event.job.found and self.screen.focused is self.results.rows:
            self._focus_hex()

    # -- what was found ----------------------------------------------------------------------------------------------

    def _preview(self, address: int, what: str) -> str:
        assert self._job is not None
        physical = self._job.physical
        spans = self.kd.memory.spans(address, _PREVIEW) if physical else self.kd.spans(address, _PREVIEW)
        data = next((s.data for s in spans if s.data is not None), b"")
        text = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in data)
        name = "" if physical else self.kd.describe(address)
        return "  ".join(part for part in (text, what, name) if part)

    def action_results(self) -> None:
        if self._job is None:
            self.say("nothing was searched for yet: / searches")
            return
        self.make_room("-walk", "-inspect")
        self.toggle_class("-results")
        if self.has_class("-results"):
            self.results.rows.focus()
        else:
            self._focus_hex()

    def action_stop(self) -> None:
        """Cancel a search that runs; otherwise hide its list."""
        if self._job is not None and self._job.running:
            self._job.stop.set()
        elif self.has_class("-results"):
            self.remove_class("-results")
            self._focus_hex()

    def action_follow(self) -> None:
        if self.screen.focused is self.results.rows:
            self._go_to_chosen()
        else:
            super().action_follow()

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        event.stop()

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self._go_to_chosen()

    def _go_to_chosen(self) -> None:
        address = self.results.chosen()
        if address is not None:
            self.go(Target(address, self.results.physical))

    def action_next(self) -> None:
        self._again(1)

    def action_previous(self) -> None:
        self._again(-1)

    def _again(self, by: int) -> None:
        if self._job is None:
            self.say("nothing was searched for yet: / searches")
            return
        self._take(self._job)
        pane, here = self.results, self.here
        same = here.physical == pane.physical
        found = pane.step(here.address if same else None, by)
        if found is None:
            self.say("nothing was found" + (" up to now" if self._job.running else ""))
            return
        address, went_round = found
        # Going from one result to the next is one jump for Back.
        self.go(Target(address, pane.physical), remember=not (same and here.address in pane))
        if went_round:
            self.say("went round: that is the " + ("first" if by > 0 else "last") + " place")
