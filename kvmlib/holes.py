"""Holes of sparse files: stretches that were never written. They read as zeros, and needn't be read to know that."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

#: Not every system has them; then a file counts as written from end to end.
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE: int | None = getattr(os, "SEEK_HOLE", None)
#: Holes smaller than this aren't worth asking for.
_LEAST = 1 << 20


def written(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the (first, behind the last) offsets in [start, stop) that aren't holes, ascending.

    What a file system doesn't tell counts as written.
    """
    while start < stop:
        if _SEEK_DATA is None or _SEEK_HOLE is None or stop - start < _LEAST:
            yield start, stop
            return
        try:
            low = os.lseek(fd, start, _SEEK_DATA)
        except OSError as e:
            # ENXIO: nothing but a hole up to the end of the file. Anything else: it doesn't know.
            if e.errno != errno.ENXIO:
                yield start, stop
            return
        if low >= stop:
            return
        high = min(stop, os.lseek(fd, low, _SEEK_HOLE))
        yield low, max(high, low + 1)
        start = max(high, low + 1)
