"""Is a disk in use: mounted, swapped to, or a part of one that is? What is written under a file system destroys it.

Linux tells it in /proc/self/mountinfo, /proc/swaps and /sys/class/block (proc(5), sysfs(5)); the BSDs tell it to
mount(8) and swapctl(8), which every one of them has.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kvmlib.errors import KvmError
from kvmlib.text import printable

_SECONDS = 20
#: Names of disks on the BSDs: sd0, and the partition behind it.
_BSD_DISK = re.compile(r"([a-z]+\d+)(.*)")
#: kern.rawpartition where it isn't known: the one that is the whole disk, c.
_RAW_PARTITION = 2


class _Use(NamedTuple):
    """What uses something: the device's number (Linux) or the name that it goes by, and how, for a person."""

    number: str | None
    name: str
    how: str


def device_number(path: str) -> str | None:
    """Return a block device's number as Linux writes it, ``major:minor``; None for what is none."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if stat.S_ISBLK(info.st_mode) else None


def run(*command: str) -> str | None:
    """Return what a program of the system prints; None where there is no such program.

    Raises:
        KvmError: it doesn't come to an end.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False, env={"LC_ALL": "C"}
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as e:
        raise KvmError(f"{command[0]} could not be asked what is in use: {e}") from e
    return os.fsdecode(done.stdout)


def in_use(
    path: str | os.PathLike[str],
    *,
    proc: str = "/proc",
    sys: str = "/sys",
    run: Callable[..., str | None] = run,
    number: Callable[[str], str | None] = device_number,
) -> str:
    """Say how a device is in use, as a sentence; empty where it isn't, or where nothing tells.

    A partition is in use with the whole disk, a disk with each of its partitions and with what lies over them, and a
    regular file as a swap file or with the loop device that it backs.

    Args:
        path: a device or a regular file.
        proc: where the kernel tells of mounts and swap (proc(5)).
        sys: where it tells of devices (sysfs(5)).
        run: runs a program and returns its output, None where there is none.
        number: returns the number of a block device.

    Raises:
        KvmError: it cannot be found out.
    """
    name = os.fsdecode(path)
    try:
        if Path(proc, "self/mountinfo").exists():
            how = next(_on_linux(name, Path(proc), Path(sys), number), "")
        else:
            how = next(_on_bsd(name, run), "")
    except OSError as e:
        raise KvmError(f"it is not known whether {printable(name)} is in use: {e}") from e
    return printable(f"{name} {how}, so it must not be written to") if how else ""


def _same_file(name: str, other: str) -> bool:
    try:
        return os.path.samefile(name, other)
    except (OSError, ValueError):
        return False


# -- Linux -----------------------------------------------------------------------------------------------------------


def _on_linux(name: str, proc: Path, sys: Path, number: Callable[[str], str | None]) -> Iterator[str]:
    uses = [*_mounts(proc, number), *_swaps(proc, number)]
    blocks = _blocks(sys)
    mine = number(name)
    kin = _kin(mine, blocks) if mine is not None else {}
    if mine is None:
        yield from (u.how for u in uses if u.number is None and _same_file(u.name, name))
        for loop, where in blocks.items():
            if _same_file(_text(where / "loop/backing_file"), name):
                kin |= {n: f"{_of(how)}{where.name}, a loop device on it," for n, how in _kin(loop, blocks).items()}
    for use in uses:
        if use.number in kin:
            relation = kin[use.number]
            yield f"is in use: {relation} {use.how}" if relation else use.how


def _of(relation: str) -> str:
    return f"{relation} of " if relation else ""


def _blocks(sys: Path) -> dict[str, Path]:
    """Return the block devices: number -> its folder, which lies in that of the whole disk."""
    folder = sys / "class/block"
    if not folder.is_dir():
        return {}
    return {number: entry.resolve() for entry in folder.iterdir() if (number := _text(entry / "dev"))}


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes()).rstrip("\n")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    # Not splitlines: a name may have characters in it that end a line for Python, and for the kernel don't.
    return os.fsdecode(path.read_bytes()).split("\n")


def _kin(number: str, blocks: dict[str, Path]) -> dict[str, str]:
    """Return the devices that share blocks with one: their numbers, and what they are to it."""
    found = {number: ""}
    if (here := blocks.get(number)) is None:
        return found
    if (here / "partition").exists():
        found.setdefault(_text(here.parent / "dev"), f"{here.parent.name}, the whole disk,")
    numbers = {where: n for n, where in blocks.items()}
    todo = [here]
    while todo:
        at = todo.pop()
        above = [(w, f"its partition {w.name}") for w in numbers if w.parent == at]
        holders = at / "holders"
        if holders.is_dir():
            above += [(w, f"{w.name}, which lies over it,") for w in (h.resolve() for h in holders.iterdir())]
        for where, relation in above:
            if (n := numbers.get(where)) is not None and n not in found:
                found[n] = relation
                todo.append(where)
    return found


def _mounts(proc: Path, number: Callable[[str], str | None]) -> Iterator[_Use]:
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, behind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(behind) < 2:
            continue
        source = _unescaped(behind[1])
        # A file system over several devices has a number of its own, and says by name where it is.
        device = number(source) if fields[2].startswith("0:") and source.startswith("/") else fields[2]
        yield _Use(device or fields[2], source, f"is mounted on {_unescaped(fields[4])}")


def _swaps(proc: Path, number: Callable[[str], str | None]) -> Iterator[_Use]:
    if (proc / "swaps").exists():
        for line in filter(None, _lines(proc / "swaps")[1:]):
            name = _unescaped(re.split("[ \t]", line)[0])
            yield _Use(number(name), name, "is in use as swap")


def _unescaped(text: str) -> str:
    r"""Undo what the kernel does to blanks in these tables: ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


# -- the BSDs --------------------------------------------------------------------------------------------------------


def _on_bsd(name: str, run: Callable[..., str | None]) -> Iterator[str]:
    mounts = re.findall(r"^(/\S+) on (.+?) (?:type |\()", run("/sbin/mount") or "", re.MULTILINE)
    swaps = re.findall(r"^/\S+", run("/sbin/swapctl", "-l") or "", re.MULTILINE)
    uses = [_Use(None, device, f"is mounted on {where}") for device, where in mounts]
    uses += [_Use(None, device, "is in use as swap") for device in swaps]
    if not uses:
        return
    raw = (run("/sbin/sysctl", "-n", "kern.rawpartition") or "").strip()
    whole = ("", chr(ord("a") + (int(raw) if raw.isdigit() else _RAW_PARTITION)))
    for use in uses:
        if _same_file(use.name, name):
            yield use.how
        elif Path(name).parent == Path(use.name).parent and (relation := _relation(Path(name).name, use, whole)):
            yield use.how if relation == "same" else f"is in use: {relation} {use.how}"


def _relation(name: str, use: _Use, whole: Sequence[str]) -> str:
    """Say what the user's device is to `name`, whose raw device has an r before it; empty where it is nothing."""
    other = Path(use.name).name
    for mine in (name, name.removeprefix("r")):
        if mine == other:
            return "same"
        a, b = _BSD_DISK.fullmatch(mine), _BSD_DISK.fullmatch(other)
        if a and b and a[1] == b[1]:
            if a[2] in whole:
                return f"its partition {other}"
            if b[2] in whole:
                return f"{other}, the whole disk,"
    return ""
