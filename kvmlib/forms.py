"""The two forms of a header side by side: which field of the one is which of the other, and why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvmlib.errors import FormatError
from kvmlib.fields import Field, header_fields
from kvmlib.kcore import KCORE_HDR, KCORE_SEG
from kvmlib.kvm import Kvm
from kvmlib.ports.base import Machine


@dataclass(frozen=True, slots=True)
class FieldPair:
    """A field in both forms.

    Attributes:
        device: as the kernel writes it; None where the device form has no such field.
        saved: as savecore(8) writes it; None where the saved form has no such field.
        depth: how many structures lie around it.
        differs: whether one is missing, or the bytes aren't the same. A structure differs where one of its parts does.
        why: a sentence about the difference, without its full stop; empty where there is nothing to say.
    """

    device: Field | None
    saved: Field | None
    depth: int
    differs: bool
    why: str = ""

    @property
    def field(self) -> Field:
        """The field, in a form that has it."""
        found = self.device or self.saved
        assert found is not None
        return found


def header_pairs(kd: Kvm) -> tuple[FieldPair, ...]:
    """Return the fields of both forms, in the order of the saved form, structures before their parts.

    Raises:
        FormatError: no header was found yet.
    """
    machine = kd.machine
    if machine is None or kd.reading is None:
        raise FormatError("no valid dump header yet, so it has no fields")
    segment, cpu = header_fields(kd, "device")
    header, saved_segment, saved_cpu, data = header_fields(kd, "savecore")
    pairs = [*_pairs(machine, None, header, 0, ""), *_pairs(machine, segment, saved_segment, 0, "")]
    return (*pairs, *_pairs(machine, cpu, saved_cpu, 0, ""), *_pairs(machine, None, data, 0, ""))


def _pairs(machine: Machine, device: Field | None, saved: Field | None, depth: int, around: str) -> Iterator[FieldPair]:
    differs = device is None or saved is None or device.raw != saved.raw
    yield FieldPair(device, saved, depth, differs, _why(machine, device, saved, around) if differs else "")
    mine, other = (f.children if f else () for f in (device, saved))
    name = (device or saved or _NOTHING).name
    for left, right in _matched(mine, other):
        yield from _pairs(machine, left, right, depth + 1, name)


def _matched(mine: Sequence[Field], other: Sequence[Field]) -> Iterator[tuple[Field | None, Field | None]]:
    """Pair the parts of a structure: they are the same ones in the same order, but for padding at the end."""
    for i in range(max(len(mine), len(other))):
        yield mine[i] if i < len(mine) else None, other[i] if i < len(other) else None


def _why(machine: Machine, device: Field | None, saved: Field | None, around: str) -> str:
    if device is None and saved is not None:
        return _why_new(machine, saved, around)
    if device is None or saved is None:
        return "the two forms pad this to different sizes"
    if device.name == "c_midmag":
        return (
            "on the device this one word is all there is to tell what it is: CORE_CPU, the machine's id and "
            "KCORE_MAGIC. In the saved form kcore_hdr has id and magic, and a segment only its flag and KCORESEG_MAGIC"
        )
    if device.name == "c_size":
        return (
            f"savecore rounds the size up to a multiple of {machine.align_mask + 1}, ALIGN() of this machine: "
            f"{device.value} becomes {saved.value}"
        )
    if device.children:
        return "some of its parts differ"
    return "on the device is what the kernel left there, savecore writes zeros"


def _why_new(machine: Machine, saved: Field, around: str) -> str:
    if saved.name == KCORE_HDR.name:
        return (
            f"only the saved form begins with it: {saved.size} bytes, ALIGN({KCORE_HDR.size}) on this machine. It says "
            "how long the headers are, so that a reader need not know this machine's rules"
        )
    if saved.name == KCORE_SEG.name:
        return (
            "CORE_DATA, only in the saved form: it says how much memory follows. On the device memory follows the CPU "
            "data at once, and nothing says how much but the RAM segments"
        )
    if around == KCORE_HDR.name:
        return "only the saved form has a kcore_hdr"
    if around == KCORE_SEG.name:
        return "only the saved form has a header before the memory"
    return f"zeros: savecore rounds the CPU data up to a multiple of {machine.align_mask + 1}"


_NOTHING = Field("", "", 0, 0, b"", None, "", "", "")
