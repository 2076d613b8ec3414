"""How far a long job is: share, bytes, rate, time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from kvmtui.widgets.format import duration, size_of

#: The rate is that of the last so many seconds: a cache that fills up makes the first seconds meaningless.
_WINDOW = 5.0


class Meter:
    """Told how many bytes are done, from any thread; answers in words."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self.done = 0
        self.total = 0

    def tell(self, done: int, total: int) -> None:
        """Take the numbers."""
        now = self._clock()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW:
            self._samples.popleft()
        self.done, self.total = done, total

    @property
    def rate(self) -> float:
        """Bytes a second; 0 as long as it isn't known."""
        (start, before), now = self._samples[0], self._clock()
        # Up to now, not to the last piece: when nothing moves any more the rate must fall.
        return (self.done - before) / (now - start) if now > start else 0.0

    def bar(self, width: int) -> str:
        """Draw how far it is."""
        cells = max(1, width - 7)
        share = min(1.0, self.done / self.total) if self.total else 0.0
        full = int(share * cells)
        return f"[{'#' * full}{'.' * (cells - full)}] {int(share * 100):3}%"

    def words(self) -> str:
        """Say how far it is."""
        if not self.total:
            return "starting ..."
        said = f"{size_of(self.done)} of {size_of(self.total)}"
        rate = self.rate
        if rate > 0:
            said += f", {size_of(rate)}/s, {duration((self.total - self.done) / rate)} left"
        return said
