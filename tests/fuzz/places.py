"""Samples that are changed in a few places: in those that the code looks at, for nobody reads the rest.

An input is a number that says which sample, and changes of 12 bytes each.
"""

import contextlib
import functools
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import kvmlib
from kvmlib.image import MappedFile
from tests.samples import sample_in

#: place, operation, digit, value.
_CHANGE = struct.Struct("<HBBQ")
_MOST_CHANGES = 24
#: Longer reads look for something in passing; of the others so many words count.
_LONGEST, _WORDS = 64 << 10, 96
_WORD = 4
_CUT = 0xFF


@dataclass(frozen=True, slots=True)
class Places:
    """A sample and the file offsets of the words in it that matter."""

    sample: kvmlib.Sample
    original: bytes
    offsets: tuple[int, ...]

    def changed(self, changes: bytes) -> bytes:
        """Return the sample's image with these changes."""
        data = bytearray(self.original)
        for place, operation, digit, value in itertools.islice(_whole(changes), _MOST_CHANGES):
            at = self.offsets[place % len(self.offsets)]
            size = (4, 8, 1, 2)[operation >> 4 & 3]
            order = self.sample.machine.byteorder
            old = int.from_bytes(data[at : at + size], order)
            if operation & 7 == 0:
                new = value
            elif operation & 7 == 1:
                new = old + value - (1 << 63)
            elif operation & 7 == 2:
                new = old ^ 1 << digit % 64
            elif operation == _CUT:
                del data[value % len(data) :]
                break
            else:
                # What stands elsewhere: pointers that lead back, or to something of another kind.
                other = self.offsets[value % len(self.offsets)]
                new = int.from_bytes(data[other : other + size], order)
            data[at : at + size] = (new & (1 << 8 * size) - 1).to_bytes(size, order)
        return bytes(data[: len(self.original)]) or b"\0"


def _whole(changes: bytes) -> Iterator[tuple[int, int, int, int]]:
    return _CHANGE.iter_unpack(changes[: len(changes) // _CHANGE.size * _CHANGE.size])


def split(data: bytes, names: Sequence[str]) -> tuple[str, bytes]:
    """Return which of these samples an input is about, and its changes."""
    return names[data[0] % len(names) if data else 0], data[1:]


def starts(names: Sequence[str]) -> list[bytes]:
    """Return an input for each of these samples, with a few changes."""
    some = [(3, 0, 0, 0), (5, 3, 0, 2), (9, 0x12, 12, 0), (11, 1, 0, (1 << 63) + 1), (13, 0, 0, (1 << 64) - 1)]
    return [bytes([i]) + b"".join(_CHANGE.pack(*c) for c in some) for i in range(len(names))]


@functools.cache
def places(name: str, folder: Path, look: Callable[[str, kvmlib.Sample], object]) -> Places:
    """Make the sample `name` in `folder`, and note what `look` reads of its image."""
    sample = sample_in(folder, name)
    reads: set[tuple[int, int]] = set()
    with _noting(reads):
        look(sample.image, sample)
    original = Path(sample.image).read_bytes()
    offsets: dict[int, None] = {}
    for start, n in sorted(reads):
        words = [at for at in range(start, min(start + n, len(original) - 8), _WORD) if any(original[at : at + _WORD])]
        offsets |= dict.fromkeys(words[:: max(1, len(words) // _WORDS)])
        offsets[min(start, len(original) - 8)] = None
    return Places(sample, original, tuple(offsets))


@contextlib.contextmanager
def _noting(reads: set[tuple[int, int]]) -> Iterator[None]:
    """Note (offset, bytes) of what is read."""
    read, gather = MappedFile.read, MappedFile.gather

    def noting_read(image: MappedFile, offset: int, n: int) -> bytes:
        if n <= _LONGEST:
            reads.add((offset, n))
        return read(image, offset, n)

    def noting_gather(image: MappedFile, runs: list[tuple[int, int]]) -> bytes:
        runs = list(runs)
        reads.update(run for run in runs if run[1] <= _LONGEST)
        return gather(image, runs)

    with mock.patch.object(MappedFile, "read", noting_read), mock.patch.object(MappedFile, "gather", noting_gather):
        yield
