"""Small dumps made by hand, for tests: page tables that map one run of kernel pages, and a few variables in them.

All that a saved core must hold is put together here with struct, not with kvmlib, so that both can't be wrong alike.
"""

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import kvmlib

PAGE = 4096
#: Kernel pages are mapped here: pa KERNEL_PA + x is va of the same machine's BASE + KERNEL_PA + x.
KERNEL_PA, KERNEL_PAGES = 0x100000, 16
BASE = {
    "openbsd/amd64": 0xFFFFFFFF80000000,
    "netbsd/amd64": 0xFFFFFFFF80000000,
    "openbsd/i386": 0xD0000000,
    "netbsd/i386": 0xC0000000,
}
MACHINES = tuple(BASE)
#: RAM, in the header's order; the first has the page tables, the second the kernel.
SEGMENTS = ((0x1000, 0x6000), (KERNEL_PA, KERNEL_PAGES * PAGE))
DUMPMAG = 0x8FCA0101
#: Offsets of the kernel's variables from KERNEL_PA.
VARIABLES = {"version": 0, "dumpmag": 0x1100, "dumpsize": 0x1110, "time_second": 0x1118}
VARIABLES_I386 = {"PTDpaddr": 0x1200, "PTDsize": 0x1204, "cpu_pae": 0x1208}


@dataclass(frozen=True)
class Dump:
    """A dump and what is known of it.

    `device` holds `dump_off` bytes of something else, the header, `memory`, and something else again.
    """

    machine: str
    device: bytes
    dump_off: int
    memory: bytes
    saved: bytes
    saved_header: bytes
    symbols: tuple[kvmlib.Symbol, ...]
    kernel: bytes

    @property
    def base(self) -> int:
        return BASE[self.machine]

    def va(self, name: str) -> int:
        return next(s.value for s in self.symbols if s.name == name)

    def offset(self, name: str) -> int:
        """Offset of a variable in `memory`."""
        pa = self.va(name) - self.base
        if self.machine == "openbsd/i386":
            return pa
        return SEGMENTS[0][1] + pa - KERNEL_PA

    def table(self, path: Path | None = None) -> kvmlib.SymbolTable:
        return kvmlib.SymbolTable(self.symbols, "made for the test", None if path is None else str(path))

    def open(self, folder: Path, *, kernel: bool = True, write: bool = False, name: str = "dump.img") -> kvmlib.Kvm:
        """Write the device and a kernel file into `folder` and open them."""
        image, file = folder / name, folder / "kernel"
        image.write_bytes(self.device)
        file.write_bytes(self.kernel)
        kd = kvmlib.Kvm(image, system=self.table(file) if kernel else self.table(), machine=self.machine, write=write)
        kd.dump_mkheader(self.dump_off)
        return kd


def make_dump(machine: str, *, dump_off: int = 2048, time_second: int = 0, cut: int = 0) -> Dump:
    """Make a dump of `machine`; `cut` bytes are missing at its end."""
    system, arch = machine.split("/")
    wide = arch == "amd64"
    names = VARIABLES | (VARIABLES_I386 if machine == "openbsd/i386" else {})
    pages = {pa: bytearray(PAGE) for pa in range(0x1000, 0x7000, PAGE)}
    dice = random.Random(machine)
    for i in range(KERNEL_PAGES):
        pages[KERNEL_PA + i * PAGE] = bytearray(dice.randbytes(PAGE))
    _page_tables(pages, machine)
    size = (KERNEL_PA if machine == "openbsd/i386" else SEGMENTS[0][1]) + SEGMENTS[1][1]
    title = {"openbsd": "OpenBSD", "netbsd": "NetBSD"}[system]
    values = {
        "version": f"{title} 7.6 (GENERIC) #1: Mon Jan  1 00:00:00 UTC 2024\n\0".encode(),
        "dumpmag": struct.pack("<Q" if machine == "openbsd/amd64" else "<I", DUMPMAG),
        "dumpsize": struct.pack("<i", size // PAGE),
        "time_second": struct.pack("<q", time_second),
        "PTDpaddr": struct.pack("<I", 0x1000),
        "PTDsize": struct.pack("<I", PAGE),
        "cpu_pae": bytes(4),
    }
    for name, offset in names.items():
        page = pages[KERNEL_PA + offset // PAGE * PAGE]
        page[offset % PAGE : offset % PAGE + len(values[name])] = values[name]
    if machine == "openbsd/i386":
        memory = bytearray(dice.randbytes(size))
        for pa, page in pages.items():
            memory[pa : pa + PAGE] = page
        cpu = dice.randbytes(504)
    else:
        memory = bytearray().join(pages[pa] for pa in sorted(pages))
        count = "<QQ" if wide else "<II"
        cpu = struct.pack(count, 0x1000, 2) + b"".join(struct.pack("<QQ", *s) for s in SEGMENTS)
        cpu = cpu.ljust(504, b"\0")
    mid = 157 if wide else 134
    seg = bytes((4, mid, 0x8F, 0xCA)) + struct.pack("<I", 504)
    device = dice.randbytes(dump_off) + seg + cpu + memory + (b"" if cut else b"after" * 200)
    header = bytes((0, mid, 0x8F, 0xCA)) + struct.pack("<HHI", 16 if wide else 12, 8, 2)
    header = header.ljust(16 if wide else 12, b"\0")
    header += bytes.fromhex("04008fac") + struct.pack("<I", 504) + cpu + bytes.fromhex("08008fac")
    header += struct.pack("<I", size)
    kept = bytes(memory[: len(memory) - cut])
    return Dump(
        machine,
        device[: len(device) - cut],
        dump_off,
        kept,
        header + kept,
        header,
        tuple(kvmlib.Symbol(n, BASE[machine] + KERNEL_PA + o, 0, "D") for n, o in names.items()),
        dice.randbytes(9000),
    )


def _page_tables(pages: dict[int, bytearray], machine: str) -> None:
    base = BASE[machine] + KERNEL_PA
    wide = machine.endswith("amd64")
    shifts = [39, 30, 21] if wide else [22]
    entry, size, bits = ("<Q", 8, 511) if wide else ("<I", 4, 1023)
    table = 0x1000
    for shift in shifts:
        struct.pack_into(entry, pages[table], (base >> shift & bits) * size, table + PAGE | 0x3)
        table += PAGE
    for i in range(KERNEL_PAGES):
        struct.pack_into(entry, pages[table], ((base >> 12) + i & bits) * size, KERNEL_PA + i * PAGE | 0x3)
