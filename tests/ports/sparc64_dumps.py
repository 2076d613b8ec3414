"""Headers of sparc64, put together from kcore.h's offsets, and what a machine makes of them."""

import struct
from dataclasses import dataclass, field

import pytest

from kvmlib.errors import NotInDumpError, TranslationError
from kvmlib.kcore import Headers, RamSeg
from kvmlib.ports import netbsd_sparc64, openbsd_sparc64
from kvmlib.ports.base import Machine, Mmu
from kvmlib.translate import Translator

OPENBSD, NETBSD = openbsd_sparc64.MACHINE, netbsd_sparc64.MACHINE
NEWMAGIC = 0x3AFEC01E
NAMES = ("segmapoffset", "kernbase", "cpubase", "ktextbase", "ktextp", "ktextsz", "kdatabase", "kdatap", "kdatasz")
NEW_NAMES = ("newmagic", "num4mbsegs", "off4mbsegs", "numcpuinfos", "percpusz", "thiscpu", "cpusp")
ROOT, DIRECTORY, TABLE = 0x20000, 0x22000, 0x24000
TTE = 1 << 63


def old_header(*, cputype: int = 3, nmemseg: int = 1, memsegoffset: int = 96, **numbers: int) -> bytes:
    """The 96 bytes that all headers begin with, by their offsets in kcore.h."""
    values = {"segmapoffset": ROOT, "kernbase": 0x1000000, "cpubase": 0xE0018000} | numbers
    data = struct.pack(">IIQI4x", cputype, nmemseg & 0xFFFFFFFF, memsegoffset, 1024)
    return data + b"".join(struct.pack(">Q", values.get(n, 0)) for n in NAMES)


def new_header(blocks: tuple[tuple[int, int], ...] = (), **numbers: int) -> bytes:
    """The header with newmagic, and locked blocks behind it."""
    values: dict[str, int] = {"newmagic": NEWMAGIC, "num4mbsegs": len(blocks), "off4mbsegs": 160} | numbers
    old = {n: v for n, v in values.items() if n not in NEW_NAMES}
    data = old_header(**{"memsegoffset": 160 + 16 * len(blocks)} | old)
    data += b"".join(struct.pack(">Q", values.get(n, 0)) for n in NEW_NAMES)
    return data + bytes(8) + b"".join(struct.pack(">QQ", *b) for b in blocks)


def padded(header: bytes, *segments: tuple[int, int]) -> bytes:
    data = header + b"".join(struct.pack(">QQ", *s) for s in segments or [(0, 0x80000)])
    return data + b"\xa5" * (-(len(data) + 16) % 512)


@dataclass
class Memory:
    """Entries by their physical address; a page that has one is all there."""

    entries: dict[int, int] = field(default_factory=dict)

    def read(self, pa: int, n: int) -> bytes:
        pages = {at >> 13 for at in self.entries}
        if {at >> 13 for at in range(pa, pa + n, 8)} - pages:
            raise NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=8192 - pa % 8192)
        return b"".join(struct.pack(">Q", self.entries.get(at, 0)) for at in range(pa, pa + n, 8))


def settled(machine: Machine, cpu_data: bytes) -> Machine:
    if machine.settle is None:
        return machine
    headers = Headers("device", 0, machine.abi.kcore_hdr(), cpu_data, 16, 16 + len(cpu_data), None)
    found = machine.settle(machine, headers, lambda at, n: b"", 0)
    again = machine.settle(found.machine, found.headers, lambda at, n: b"", 0)
    assert again.machine == found.machine
    return found.machine


def translator(machine: Machine, cpu_data: bytes, entries: dict[int, int] | None = None) -> Translator:
    machine = settled(machine, cpu_data)
    memory = Memory(entries or {ROOT: 0})
    return machine.mmu(Mmu(machine.parse_cpu_hdr(cpu_data), memory.read, lambda name: None, cpu_data))


def segments(machine: Machine, cpu_data: bytes) -> list[RamSeg]:
    machine = settled(machine, cpu_data)
    assert machine.ram is not None
    return machine.ram(machine, cpu_data, machine.parse_cpu_hdr(cpu_data))


def registers(machine: Machine, cpu_data: bytes) -> dict[str, tuple[int, str]]:
    machine = settled(machine, cpu_data)
    assert machine.cpu_hdr is not None
    bits = {f.name: 8 * f.size for f in machine.cpu_hdr.fields}
    assert all(f.width == bits[f.name] for f in machine.register_facts)
    return {r.name: (r.value, r.decoded) for r in machine.registers(machine.parse_cpu_hdr(cpu_data))}


def fails(t: Translator, va: int) -> str:
    with pytest.raises(TranslationError) as e:
        t.kvatop(va)
    assert t.walk(va)[-1].outcome in ("invalid", "unreadable", "outside")
    assert t.walk(va)[-1].note
    return str(e.value)
