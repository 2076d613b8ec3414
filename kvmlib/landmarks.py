"""What an address points into: kernel text, data, a page table, a message buffer, the stack of the panic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmlib.backtrace import stack
from kvmlib.errors import Cancelled, KvmError
from kvmlib.kvm import Kvm
from kvmlib.msgbuf import buffers
from kvmlib.variables import machine_of

#: Addresses that are walked at most to find the page tables, and ranges that are looked at.
_WALKS = 50_000
#: Two frames of one stack are nearer to each other than this, in bytes.
_NEAR = 1 << 16
#: The smallest page there is: a table's address is kept as a number of these.
_SHIFT = 10


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What is known of some places in memory.

    Attributes:
        tables: (first, last) pa of each page table, as far as they were looked for, by the KiB they begin in.
        buffers: first pa and pa behind the end of each message buffer.
        stack: first va and va behind the end of the stack at the panic; empty where it isn't known.
    """

    tables: dict[int, tuple[int, int]]
    buffers: tuple[tuple[int, int], ...]
    stack: range

    def kind(self, va: int, pa: int) -> str:
        """Say what lies at `va`, which is mapped to `pa`: "page table", "message buffer", "stack", or nothing."""
        if any(low <= pa < high for low, high in self.buffers):
            return "message buffer"
        if va in self.stack:
            return "stack"
        table = self.tables.get(pa >> _SHIFT)
        return "page table" if table is not None and table[0] <= pa < table[1] else ""


def find_landmarks(kd: Kvm, should_stop: Callable[[], bool] | None = None) -> Landmarks:
    """Look for the landmarks of a dump. It takes a while.

    Raises:
        Cancelled: `should_stop` said so.
    """
    return Landmarks(_tables(kd, should_stop or (lambda: False)), _buffers(kd), _stack(kd))


def _tables(kd: Kvm, cancelled: Callable[[], bool]) -> dict[int, tuple[int, int]]:
    """Return the page tables on the way to what is mapped: each range is walked once for every last table it needs."""
    found: dict[int, tuple[int, int]] = {}
    left = _WALKS
    for mapping in kd.mappings():
        va, end = mapping.va, mapping.va + mapping.size
        while va < end and left > 0:
            if cancelled():
                raise Cancelled("looking for page tables was cancelled")
            left -= 1
            steps = kd.walk(va)
            for step in steps:
                if step.table_pa is None or step.entry_pa is None or step.index is None or not step.bits:
                    continue
                entry = (step.entry_pa - step.table_pa) // step.index if step.index else 8
                low, high = step.table_pa, step.table_pa + (entry << step.bits)
                # A few KiB each, unless the table isn't one of pages.
                for piece in range(low >> _SHIFT, min((high - 1 >> _SHIFT) + 1, (low >> _SHIFT) + 64)):
                    found.setdefault(piece, (low, high))
            last = steps[-1]
            span = 1 << last.shift + last.bits
            va = (va | span - 1) + 1 if last.bits and last.table_pa is not None else end
        if left <= 0:
            break
    return found


def _buffers(kd: Kvm) -> tuple[tuple[int, int], ...]:
    size = machine_of(kd).long_bytes
    try:
        return tuple((b.pa, b.pa + b.longs * size + b.size) for b in buffers(kd))
    except KvmError:
        return ()


def _stack(kd: Kvm) -> range:
    try:
        frames = stack(kd).frames
    except KvmError:
        return range(0)
    fps = [frame.fp for frame in frames if frame.fp]
    if not fps:
        return range(0)
    page = machine_of(kd).page_size
    end = fps[0]
    for fp in fps[1:]:
        if not end <= fp < end + _NEAR:
            break
        end = fp
    return range(fps[0] // page * page, end + 2 * machine_of(kd).long_bytes)
