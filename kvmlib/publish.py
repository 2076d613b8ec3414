"""The moment in which a save comes to be: its files get their names, all with the same number, and bounds counts on.

In whatever order a power cut lets the names reach the disk, each is that of a whole file, and bounds is never ahead of
the files: it is replaced only when their names are there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kvmlib.outfiles import Directory, Partial
from kvmlib.saveplan import next_number


def publish(
    where: Directory,
    name: str,
    files: list[tuple[Partial, str]],
    info: Callable[[int, list[str]], list[tuple[str, bytes]]],
) -> tuple[int, list[str]]:
    """Give the files their names, the core last, and count `bounds` up.

    Args:
        where: the directory.
        name: ``bsd`` or ``netbsd``.
        files: each with what follows NAME.N in its name, the core last.
        info: called with N and these names; makes the files that tell what this is.

    Returns:
        N and what went less well.
    """
    number = -1
    with where.locked():
        while True:
            number = next_number(where, name, number + 1)[0]
            names = [f"{name}.{number}{rest}" for _, rest in files]
            with contextlib.ExitStack() as cleanup:
                # Written before anything has its name, so that a full disk can still stop it all.
                bounds = cleanup.enter_context(_small(where, "bounds", f"{number + 1}\n".encode()))
                told = [(cleanup.enter_context(_small(where, n, data)), n) for n, data in info(number, names)]
                parts = [*told, *zip((part for part, _ in files), names, strict=True)]
                try:
                    for part, final in parts:
                        part.publish(final)
                except FileExistsError:
                    # Someone who doesn't lock took the number just now: the next one will do.
                    for part, _ in parts:
                        part.withdraw()
                    continue
                where.sync()
                for part, _ in parts:
                    part.keep()
                try:
                    bounds.replace("bounds")
                    where.sync()
                except OSError as e:
                    # The files are safe, and a bounds that lags behind does no harm.
                    return number, [f"{where.shown}/bounds could not be rewritten: {e.strerror}"]
                return number, []


def _small(where: Directory, stem: str, data: bytes) -> Partial:
    """Make a small file whole."""
    part = Partial(where, stem)
    try:
        part.write(data)
        part.sync()
    except BaseException:
        part.close()
        raise
    return part
