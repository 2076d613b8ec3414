"""What a saved core holds, as it is read: the headers, then memory from a medium that may be bad.

Everything is read by pread(2): a bad block is an error then, where touching a mapping is a SIGBUS.
"""

from __future__ import annotations

import bisect
import errno
import time
from collections.abc import Callable
from typing import NamedTuple

from kvmlib.errors import Cancelled, KvmError
from kvmlib.image import SECTORS, Device, Image
from kvmlib.text import printable

#: Called with (bytes done, bytes in total), all files together, before compression; what is read back counts again.
Progress = Callable[[int, int], None]
#: Polled while copying; True cancels.
ShouldStop = Callable[[], bool]

_PROGRESS_SECONDS = 0.1
#: Times that a read is tried again.
_RETRIES = 2
#: How systems call a block that cannot be read: Linux says ENODATA where the medium, EILSEQ where a checksum is bad.
_BAD_BLOCK = frozenset({errno.EIO, errno.ENODATA, errno.EILSEQ, errno.EBADMSG, errno.ETIMEDOUT})


class Hole(NamedTuple):
    """Bytes that could not be read.

    Attributes:
        offset: where they are in the source.
        size: how many.
        core_offset: where zeros stand for them in the saved core, before compression.
    """

    offset: int
    size: int
    core_offset: int


class Meter:
    """Counts bytes, tells the caller, and asks whether to go on."""

    def __init__(
        self, total: int, progress: Progress | None, should_stop: ShouldStop | None, doing: str = "saving"
    ) -> None:
        """Begin at 0 of `total` bytes; `doing` says what was cancelled, if it is."""
        self._doing = doing
        self._total = total
        self._progress = progress
        self._should_stop = should_stop
        self._done = 0
        self._next = 0.0
        #: What is there after a cancel.
        self.left = "nothing was left behind"

    def restart(self) -> None:
        """Count from 0 again."""
        self._done = 0

    def add(self, n: int) -> None:
        """Count `n` bytes more.

        Raises:
            Cancelled: the caller doesn't want to go on.
        """
        self._done += n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            self._report()
        self.poll()

    def finish(self) -> None:
        """Tell where it ended, and ask for the last time.

        Raises:
            Cancelled: the caller doesn't want to go on.
        """
        self._report()
        self.poll()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def poll(self) -> None:
        """Ask whether to go on.

        Raises:
            Cancelled: the caller doesn't want to.
        """
        if self._should_stop is not None and self._should_stop():
            raise Cancelled(f"{self._doing} was cancelled, and {self.left}")


class Content:
    """What a saved core holds, before compression: the headers, then memory as the source has it.

    Attributes:
        size: bytes in all.
        holes: what could not be read, ascending; zeros stand for it.
    """

    def __init__(self, header: bytes, image: Image, offset: int, size: int, salvage: bool, meter: Meter) -> None:
        """Put `header` before the `size` bytes at `offset` of `image`; `salvage` makes holes of what can't be read."""
        self.size = len(header) + size
        self.holes: list[Hole] = []
        self._header = header
        self._image = image
        self._offset = offset
        self._salvage = salvage
        self._meter = meter
        self._sector = image.sector if isinstance(image, Device) else SECTORS[0]

    def descriptor(self) -> int | None:
        """Return what `source_offset` counts in, where the kernel can copy from there."""
        return self._image.descriptor()

    def source_offset(self, at: int) -> int:
        """Return the offset in the source of the byte at `at`, less than 0 for the headers."""
        return self._offset + at - len(self._header) if at >= len(self._header) else -1

    def readinto(self, at: int, view: memoryview) -> int:
        """Fill `view` with what is at `at`, as far as it goes.

        Raises:
            KvmError: it can't be read, or the source has become shorter.
        """
        view = view[: max(0, self.size - at)]
        head = self._header[at : at + len(view)]
        view[: len(head)] = head
        rest = view[len(head) :]
        offset = self._offset + at + len(head) - len(self._header)
        while rest:
            n = self._read(offset, rest)
            if n == 0:
                raise KvmError(
                    f"{printable(self._image.path)} ended at {offset:#x} while it was copied, "
                    f"{self._offset + self.size - len(self._header):#x} was expected"
                )
            offset += n
            rest = rest[n:]
        return len(view)

    def _read(self, offset: int, view: memoryview) -> int:
        """Read some of it: once more what could be read before, and no more what could not."""
        if self.holes:
            i = bisect.bisect_right(self.holes, offset, key=lambda h: h.offset + h.size)
            if i < len(self.holes):
                hole = self.holes[i]
                if hole.offset <= offset:
                    view = view[: hole.offset + hole.size - offset]
                    view[:] = bytes(len(view))
                    return len(view)
                view = view[: hole.offset - offset]
        for _ in range(1 + _RETRIES):
            try:
                return self._image.readinto(offset, view)
            except KvmError as e:
                _check_bad_block(e)
                self._meter.poll()
        return self._by_sector(offset, view)

    def _by_sector(self, offset: int, view: memoryview) -> int:
        """Read what can be read of a piece that can't be read whole, by halves, down to single sectors."""
        one = self._sector - offset % self._sector
        if len(view) <= one:
            return self._last_try(offset, view)
        half = max(one, (offset + len(view) // 2) // self._sector * self._sector - offset)
        done = 0
        for part in (view[:half], view[half:]):
            self._meter.poll()
            try:
                n = self._image.readinto(offset + done, part)
            except KvmError as e:
                _check_bad_block(e)
                n = self._by_sector(offset + done, part)
            done += n
            if n < len(part):
                break
        return done

    def _last_try(self, offset: int, view: memoryview) -> int:
        for left in reversed(range(1 + _RETRIES)):
            try:
                return self._image.readinto(offset, view)
            except KvmError as e:
                _check_bad_block(e)
                if not left and not self._salvage:
                    raise KvmError(
                        f"{e}, tried again {_RETRIES} times: nothing was saved; to save the rest, with zeros in the "
                        "place of what can't be read, use --salvage (salvage=True)"
                    ) from e
        view[:] = bytes(len(view))
        core_offset = offset - self._offset + len(self._header)
        if self.holes and (last := self.holes[-1]).offset + last.size == offset:
            self.holes[-1] = last._replace(size=last.size + len(view))
        else:
            self.holes.append(Hole(offset, len(view), core_offset))
        return len(view)


def _check_bad_block(e: KvmError) -> None:
    """Let only errors pass that say of a block that it can't be read."""
    if not isinstance(e.__cause__, OSError) or e.__cause__.errno not in _BAD_BLOCK:
        raise e
