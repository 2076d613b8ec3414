"""The plain mutator, for where there is no atheris: a few random changes to one of the inputs to begin with."""

import random
import struct
from collections.abc import Sequence

#: Numbers at which sizes, counts and offsets go wrong.
_EDGES = (0, 1, 2, 7, 8, 63, 64, 127, 128, 255, 511, 512, 4095, 4096, 0x7FFF, 0xFFFF, 1 << 16, 1 << 24)
_TOPS = ((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)
_NUMBERS = tuple((order, size) for order in "<>" for size in (1, 2, 4, 8))
_MOST_CHANGES, _LONGEST = 8, 1 << 20


def mutate(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """Return `data` with a few changes; some take a part of one of the `others`."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, _MOST_CHANGES)):
        at = dice.randrange(len(changed) + 1)
        kind = dice.randrange(9)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << dice.randrange(8)
        elif kind == 1 and changed:
            changed[at % len(changed)] = dice.randrange(256)
        elif kind in (2, 3, 4):
            _number(changed, at, dice)
        elif kind == 5:
            del changed[at : at + dice.choice((1, 4, 8, 64, 4096))]
        elif kind == 6:
            changed[at:at] = dice.randbytes(dice.choice((1, 4, 8, 64)))
        elif kind == 7 and others:
            other = dice.choice(others)
            start = dice.randrange(len(other) + 1)
            part = other[start : start + dice.choice((1, 4, 16, 256))]
            changed[at : at + len(part) * dice.randrange(2)] = part
        elif kind == 8:
            part = bytes(changed[at : at + dice.choice((4, 16, 256))])
            to = dice.randrange(len(changed) + 1)
            changed[to : to + len(part)] = part
    return bytes(changed[:_LONGEST])


def _number(changed: bytearray, at: int, dice: random.Random) -> None:
    """Put a number at which something may go wrong in place of the one at `at`, or change that by a little."""
    order, size = dice.choice(_NUMBERS)
    at = at // size * size
    if at + size > len(changed):
        return
    letter = order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    (old,) = struct.unpack_from(letter, changed, at)
    new = dice.choice((*_EDGES, *_TOPS, old + dice.randint(-16, 16), old << 1, old ^ 1 << dice.randrange(64)))
    struct.pack_into(letter, changed, at, new & (1 << 8 * size) - 1)
