"""Textual's driver, but for what leaves it: changed cells only, never more than the line takes.

Drawing never waits for the terminal. A thread of its own sends the difference between what the screen shows and what it
should show, waits until the line has taken that, and looks again. So a slow line skips pictures instead of falling
behind, and leaving throws away what has not been sent yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import threading
import time

from textual.app import App
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver

from kvmtui.frame import Frame
from kvmtui.terminal import Look

#: Written at once, in bytes: between two pieces is looked whether the application is leaving.
_PIECE = 256
#: Seconds to wait for the last piece when leaving; thrown away output makes room for it.
_LAST = 1.0
#: Seconds that the steps to one picture take.
_STEPS = 0.04
#: Bits a second that somebody has set on purpose: more is what a pseudo-terminal says of itself.
_SLOW = {getattr(termios, f"B{n}"): n for n in (300, 600, 1200, 2400, 4800, 9600, 19200)}
_SYNC = re.compile(r"\x1b\[\?2026[hl]")
#: The cursor's visibility and whether a row's end wraps; the alternate screen comes to it where there is one.
_MODEST, _MODEST_ALTERNATE = re.compile(r"\x1b\[\?(?:7|25)[hl]"), re.compile(r"\x1b\[\?(?:7|25|1049)[hl]")


class FrameDriver(LinuxDriver):
    """Sends what changes."""

    look = Look()

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse and not self.look.modest, size=size)
        # Textual writes the size that it finds where the one it was given stands.
        self._given_size = size
        self._new_size: tuple[int, int] | None = None
        self._frame = Frame(plain=self.look.modest)
        self._modes: list[str] = []
        self._synchronised = self._gone = False
        self._lock, self._news, self._leaving = threading.Lock(), threading.Event(), threading.Event()
        self._bits = 0
        self._sender: threading.Thread | None = None

    # -- what Textual tells ------------------------------------------------------------------------------------------

    def write(self, data: str) -> None:
        with self._lock:
            self._take_size()
            for mode in self._frame.draw(data):
                if self.look.modest:
                    known = _MODEST_ALTERNATE if self.look.alternate else _MODEST
                    if not known.fullmatch(mode):
                        continue
                elif _SYNC.fullmatch(mode):
                    self._synchronised = True
                    continue
                self._modes.append(mode)
        self._news.set()

    def redraw(self) -> None:
        """Draw the whole screen anew."""
        with self._lock:
            self._frame.forget()
        self._news.set()

    def _take_size(self) -> None:
        if self._new_size is not None:
            self._frame.resize(*self._new_size)
            self._new_size = None

    def _get_terminal_size(self) -> tuple[int, int]:
        # Also called by a signal's handler, in the middle of anything: so it's only kept here.
        self._new_size = self._given_size or super()._get_terminal_size()
        return self._new_size

    def _query_in_band_window_resize(self) -> None:
        """Don't ask: SIGWINCH tells the same, and is understood everywhere."""

    @classmethod
    def _patch_iflag(cls, attrs: int) -> int:
        patched = super()._patch_iflag(attrs)
        # A real terminal holds the line with these when it can't follow; whoever has set them needs them.
        return patched | attrs & (termios.IXON | termios.IXOFF) if cls.look.modest else patched

    # -- beginning and end -------------------------------------------------------------------------------------------

    def start_application_mode(self) -> None:
        self._leaving.clear()
        self._frame.forget()
        self._bits = self._line_speed()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self._sender = threading.Thread(target=self._send_all, name="kvmtui-output", daemon=True)
        self._sender.start()

    def stop_application_mode(self) -> None:
        self._leaving.set()
        self._news.set()
        # Nobody will look at what is still on its way.
        with contextlib.suppress(termios.error):
            termios.tcflush(self._output, termios.TCOFLUSH)
        if self._sender is not None:
            self._sender.join(_LAST)
        super().stop_application_mode()
        with self._lock:
            modes, self._modes = self._modes, []
        # The picture may have ended anywhere. Not every terminal has an alternate screen: nothing stays on this one.
        self._send("\x1b[0m\x1b[H\x1b[J" + "".join(modes))

    # -- the line ----------------------------------------------------------------------------------------------------

    @property
    def _output(self) -> int:
        assert self._file is not None, "the application runs on a terminal only"
        return self._file.fileno()

    def _send_all(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self.look.modest:
                # Textual draws a new view in several steps: only the last is worth its bytes.
                self._leaving.wait(_STEPS)
            if self._leaving.is_set() or self._gone:
                return
            with self._lock:
                self._take_size()
                changes = self._frame.changes()
                if changes and self._synchronised:
                    changes = f"\x1b[?2026h{changes}\x1b[?2026l"
                data = "".join(self._modes) + changes
                self._modes = []
            if data:
                self._send(data, give_up=True)

    def _send(self, text: str, *, give_up: bool = False) -> None:
        """Send a text, unless the terminal is gone.

        Args:
            text: the text.
            give_up: end in the middle when the application leaves.
        """
        data = text.encode("ascii" if self.look.modest else "utf-8", "replace")
        try:
            while data and not self._gone and not (give_up and self._leaving.is_set()):
                try:
                    begin = time.monotonic()
                    n = os.write(self._output, data[:_PIECE])
                    data = data[n:]
                    if give_up:
                        self._let_through(n, begin)
                except BlockingIOError:
                    # Somebody else who has this terminal doesn't want to wait; this thread does.
                    select.select([], [self._output], [], _LAST)
        except OSError:
            self._gone = True

    def _let_through(self, n: int, begin: float) -> None:
        """Wait until the line has taken the last `n` bytes, which were written at `begin`."""
        with contextlib.suppress(termios.error):
            termios.tcdrain(self._output)
        if self._bits:
            self._leaving.wait(max(0.0, begin + n * 10 / self._bits - time.monotonic()))

    def _line_speed(self) -> int:
        """Return the bits a second to count with; 0: the system knows what is still on its way."""
        if sys.platform != "linux":
            # Elsewhere a pseudo-terminal knows, and says 9600 of itself whatever it is.
            return 0
        try:
            return _SLOW.get(termios.tcgetattr(self._output)[5], 0)
        except termios.error:
            return 0


def frame_driver(look: Look) -> type[Driver]:
    """Return the driver that draws so."""
    return type("LookDriver", (FrameDriver,), {"look": look})
