"""The kernel's variables, read so that a damaged dump is an answer: bounded, and with a reason where there is none."""

from __future__ import annotations

from kvmlib.errors import FormatError, SymbolError
from kvmlib.kvm import Kvm
from kvmlib.namelist import Symbol
from kvmlib.ports.base import Machine
from kvmlib.text import decode, printable

#: Longest string that is read, in bytes; savecore(8) stops here too.
STRING_MAX = 1024


def machine_of(kd: Kvm) -> Machine:
    """Return the machine of a dump that has a header.

    Raises:
        FormatError: it has none yet.
    """
    if kd.reading is None:
        raise FormatError(f"no valid dump header in {printable(kd.path)} yet")
    return kd.reading.machine


def no_symbols(kd: Kvm) -> str:
    """Say why there are no symbols, in a few words."""
    return printable(kd.symbols.source).removeprefix("none: ")


def symbol(kd: Kvm, *names: str) -> Symbol:
    """Return the first of these symbols that there is.

    Raises:
        SymbolError: there is none of them; says why.
    """
    for name in names:
        found = kd.symbols.get(name)
        if found is not None:
            return found
    wanted = " or ".join(names)
    if not len(kd.symbols):
        raise SymbolError(f"the symbol {wanted} is needed, and {no_symbols(kd)}")
    raise SymbolError(f"{printable(kd.symbols.source)} has no symbol {wanted}")


def integer(kd: Kvm, va: int, size: int, *, signed: bool = False) -> int:
    """Return the integer of `size` bytes at `va`, in the machine's byte order.

    Raises:
        KvmError: it can't be read.
    """
    return int.from_bytes(kd.read(va, size), machine_of(kd).byteorder, signed=signed)


def pointer(kd: Kvm, *names: str) -> tuple[Symbol, int]:
    """Return the first of these variables that there is, and the pointer that it holds.

    Raises:
        KvmError: there is no such symbol; it can't be read.
    """
    found = symbol(kd, *names)
    return found, integer(kd, found.value, machine_of(kd).long_bytes)


def available(kd: Kvm, va: int, n: int) -> bytes:
    """Return up to `n` bytes at `va`: those before the first that isn't mapped or isn't there.

    Raises:
        KvmError: not even the first one is there.
    """
    data = bytearray()
    for span in kd.spans(va, n):
        if span.data is None:
            break
        data += span.data
    if not data and n:
        kd.read(va, 1)  # Raises with the reason.
    return bytes(data)


def string(kd: Kvm, va: int, *, limit: int = STRING_MAX, keep: str = "") -> str:
    """Return the C string at `va` as printable text; where it doesn't end, that is said at its end.

    Raises:
        KvmError: not even its first byte can be read.
    """
    data = available(kd, va, limit)
    text, end, _ = data.partition(b"\0")
    if end:
        return decode(text, keep)
    why = (
        f"no end within {limit} bytes" if len(data) == limit else f"cut off after {len(data)} bytes: no memory follows"
    )
    return f"{decode(text, keep)} [{why}]"
