"""Many pieces of a mapped file as one: what reading a large range of scattered pages comes down to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

#: From so many bytes on a second thread is worth starting, and how many it sees to at a time.
_LARGE, _STEP = 16 << 20, 8 << 20
#: What there is to be read without an end. The bytes don't matter: others take their place.
_ENDLESS = "/dev/zero"


def joined(data: memoryview, runs: Sequence[tuple[int, int]]) -> bytes:
    """Return the (offset, length) pieces of `data` as one."""
    size = sum([n for _, n in runs])
    if size < _LARGE:
        return _simply(data, runs)
    # The system hands memory out page by page, when it is first touched, which takes longer than the copying. Another
    # thread has that done a few steps ahead. The bytes that BytesIO begins with are those that it ends with: no copy.
    result = BytesIO(bytes(size))
    with result.getbuffer() as view:
        touched = threading.Semaphore(0)
        helper = threading.Thread(target=_touch, args=(view, touched), name="joining", daemon=True)
        try:
            helper.start()
        except RuntimeError:  # The system has no thread left to give.
            return _simply(data, runs)
        try:
            at = reached = 0
            for offset, n in runs:
                end = at + n
                while reached < end:
                    touched.acquire()
                    reached += _STEP
                view[at:end] = data[offset : offset + n]
                at = end
        finally:
            helper.join()
    return result.getvalue()


def _simply(data: memoryview, runs: Sequence[tuple[int, int]]) -> bytes:
    return b"".join([data[offset : offset + n] for offset, n in runs])


def _touch(view: memoryview, touched: threading.Semaphore) -> None:
    """Have the system hand out the memory of `view`; `touched` is released for each step."""
    steps = range(0, len(view), _STEP)
    try:
        # Where that can't be read, the memory is handed out when it is used.
        with suppress(OSError), open(_ENDLESS, "rb", buffering=0) as endless:
            for at in steps:
                with view[at : at + _STEP] as part:
                    endless.readinto(part)
                touched.release()
    finally:
        # Whatever happened, nobody waits for ever.
        touched.release(len(steps))
