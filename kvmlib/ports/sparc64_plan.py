"""Sample dumps of sparc64: an Ultra 5 with OpenBSD, a Blade 2000 with NetBSD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvmlib.kcore import CStruct, RamSeg, build_ram_segs
from kvmlib.ports.code_cisc import SPARC64
from kvmlib.ports.plan import RadixPlan, SamplePlan, SpacePlan, Use
from kvmlib.translate.build import Tables
from kvmlib.translate.linear import Window
from kvmlib.translate.radix import Paging

_BLOCK = 512
_4M = 4 << 20
_TEXT_VA = 0x1000000
#: What a sun4u TTE holds for each use.
_CP, _CV, _E, _P, _W = 0x20, 0x10, 0x8, 0x4, 0x2
_MODIFY, _REAL_W, _ACCESS, _EXEC = 0x800, 0x400, 0x200, 0x100
_BITS: dict[Use, int] = {
    "text": _ACCESS | _EXEC | _CP | _CV | _P,
    "rodata": _ACCESS | _CP | _CV | _P,
    "data": _MODIFY | _REAL_W | _ACCESS | _CP | _CV | _P | _W,
    "device": _MODIFY | _REAL_W | _ACCESS | _E | _P | _W,
}
#: va of struct cpu_info (CPUINFO_VA), and of what each CPU has of its own.
_CPUINFO, _OWN = 0xE0018000, 0xE0010000
_STACK_JUNK = (0x101D3F8, 0x1C63B80, 0, 0x104B2C8, 0x3, 0x1C63D51, 0x1053A10, 0x2000)


def _locked(name: str, va: int, pa: int, size: int) -> Window:
    return Window(name, va, va + size, pa, flags=("locked",))


def _space(paging: Paging, windows: Sequence[Window], variant: str = "", image_shift: int = 13) -> RadixPlan:
    return RadixPlan(variant=variant, image_shift=image_shift, windows=tuple(windows), paging=paging, bits=_BITS)


def _header(tables: Tables, nmemseg: int, text: Window, data: Window) -> dict[str, int]:
    """The fields that all headers begin with."""
    fields = {"cputype": 3, "nmemseg": nmemseg, "memsegoffset": 96, "nsegmap": 1024, "segmapoffset": tables.root}
    fields |= {"kernbase": _TEXT_VA, "cpubase": _CPUINFO}
    for kind, w in (("ktext", text), ("kdata", data)):
        fields |= {f"{kind}base": w.start, f"{kind}p": w.pa, f"{kind}sz": w.stop - w.start}
    return fields


def _in_blocks(data: bytes) -> bytes:
    """Fill the last block up with what the kernel's buffer held: the block before, or what was on the stack."""
    written = bytes(16) + data
    held = b"".join(v.to_bytes(8, "big") for v in _STACK_JUNK) * 8 if len(written) < _BLOCK else written[-_BLOCK:]
    return data + held[: -len(written) % _BLOCK]


# -- OpenBSD -----------------------------------------------------------------------------------------------------------

_OPENBSD_RAM = (RamSeg(0x10000000, _4M), RamSeg(0x14000000, 0x80000))
_OPENBSD_TEXT = _locked("the locked text", _TEXT_VA, 0x10000000, _4M)
_OPENBSD_DATA = _locked("the locked data", _TEXT_VA + _4M, 0x14000000, _4M)
#: What the PROM has mapped lies behind its list of memory: va, bytes, TTE.
_PROM_MAP = (
    (0xF0000000, 0x20000, 0x800000001FE00076),
    (0xF0020000, 0x2000, 0x8000000017FDE076),
    (0xFFF00000, 0x80000, 0x8000000017F00076),
)


def openbsd(paging: Paging, layout: CStruct) -> tuple[SamplePlan, ...]:
    """The sample of a kernel that counts 16 * 2 + 32 RAM segments where there are 2."""

    def cpu_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
        nmemseg = 16 * len(segments) + 32
        data = layout.build(_header(tables, nmemseg, _OPENBSD_TEXT, _OPENBSD_DATA), "big")
        prom = b"".join(n.to_bytes(8, "big") for entry in _PROM_MAP for n in entry)
        # An empty entry ends the list; its length has two more than needed, zeros.
        listed = build_ram_segs([*segments, RamSeg(0, 0), RamSeg(0, 0)], "big") + prom * nmemseg
        return _in_blocks(data + listed[: 16 * nmemseg])

    return (
        SamplePlan(
            text_va=_TEXT_VA,
            text_pa=_OPENBSD_TEXT.pa,
            ram=_OPENBSD_RAM,
            direct_va=None,
            stack_va=0x40015C00000,
            heap_va=0x4000A000000,
            user_fp=0xFFFFFFFFFFFE5EF1,
            device_pa=0x1FF00000000,
            msgbuf_bytes=0x4000,
            spaces=(_space(paging, (_OPENBSD_TEXT, _OPENBSD_DATA)),),
            code=SPARC64,
            cpu_hdr=None,
            cpu_data=cpu_data,
            nic="hme0",
            cpu_model="SUNW,UltraSPARC-IIi (rev 1.3) @ 333 MHz",
            attach=_OPENBSD_ATTACH,
        ),
    )


_OPENBSD_ATTACH = """\
mainbus0 at root: Sun Ultra 5/10 UPA/PCI (UltraSPARC-IIi 333MHz)
cpu0 at mainbus0: {cpu_model}
cpu0: physical 16K instruction (32 b/l), 16K data (32 b/l), 2048K external (64 b/l)
psycho0 at mainbus0 addr 0xfffc4000: SUNW,sabre, impl 0, version 0, ign 7c0
psycho0: bus range 0-2, PCI bus 0
ppb0 at pci0 dev 1 function 1 "Sun Simba" rev 0x13
pci1 at ppb0 bus 1
ebus0 at pci1 dev 1 function 0 "Sun PCIO EBus2" rev 0x01
zs0 at ebus0 addr 400000-40007f ivec 0x2b
zstty0 at zs0 channel 0: console
hme0 at pci1 dev 1 function 1 "Sun HME" rev 0x01: ivec 0x7e1, address 02:00:5e:10:00:01
pciide0 at pci1 dev 3 function 0 "CMD Technology PCI0646" rev 0x03: DMA
wd0 at pciide0 channel 0 drive 0: <SAMPLE DISK>
wd0: 16-sector PIO, LBA, 4096MB, 8388608 sectors
"""

# -- NetBSD ------------------------------------------------------------------------------------------------------------

_NETBSD_RAM = (RamSeg(0x40000000, _4M), RamSeg(0x60000000, 0x80000), RamSeg(0x100000000, 0x40000))
#: Two CPUs' own memory, 64 KiB each.
_OWN_PA, _OWN_SIZE = 0x100020000, 0x10000
_BLOCKS = ((_TEXT_VA, 0x40000000), (_TEXT_VA + _4M, 0x60000000))
#: Old kernels: text and constants here, data behind them.
_OLD_TEXT = _locked("the locked text", _TEXT_VA, 0x40000000, 0x80000)
_OLD_DATA = _locked("the locked data", _TEXT_VA + 0x80000, 0x40080000, 0x380000)


def netbsd(paging: Paging, old: CStruct, new: CStruct) -> tuple[SamplePlan, ...]:
    """The samples with the new header, which has two locked blocks at its end, and with the old one."""
    windows = [_locked(f"locked 4 MB block {i}", va, pa, _4M) for i, (va, pa) in enumerate(_BLOCKS)]
    windows.append(_locked("CPU 1's own memory", _OWN, _OWN_PA + _OWN_SIZE, _OWN_SIZE))

    def cpu_data(space: SpacePlan, tables: Tables, segments: Sequence[RamSeg]) -> bytes:
        fields: dict[str, Any] = _header(tables, len(segments), _OLD_TEXT, _OLD_DATA)
        if space.variant:
            data = old.build(fields, "big")
        else:
            # The size of text that doesn't fit in one locked block is left out.
            fields |= _NEW | {"memsegoffset": new.size, "ktextsz": 0, "kdatasz": 0}
            data = new.build(fields, "big")
        return _in_blocks(data + build_ram_segs(segments, "big"))

    return (
        SamplePlan(
            text_va=_TEXT_VA,
            text_pa=0x40000000,
            ram=_NETBSD_RAM,
            direct_va=None,
            stack_va=0x108000000,
            heap_va=0x100000000,
            user_fp=0xFFFFFFFFFFFFC0B1,
            device_pa=0x7FFEC000000,
            msgbuf_bytes=0x4000,
            spaces=(
                _space(paging, windows),
                _space(paging, (_OLD_TEXT, _OLD_DATA), "oldhdr", image_shift=18),
            ),
            code=SPARC64,
            cpu_hdr=None,
            cpu_data=cpu_data,
            nic="gem0",
            cpu_model="SUNW,UltraSPARC-III+ @ 900 MHz, CPU id 0",
            attach=_NETBSD_ATTACH,
        ),
    )


#: What the new header has else.
_NEW: dict[str, int] = {
    "newmagic": 0x3AFEC01E,
    "num4mbsegs": len(_BLOCKS),
    "off4mbsegs": 160,
    "numcpuinfos": 2,
    "percpusz": _OWN_SIZE,
    "thiscpu": 1,
    "cpusp": _OWN_PA,
} | {f"4mbseg[{i}].{part}": n for i, block in enumerate(_BLOCKS) for part, n in zip(("va", "pa"), block, strict=True)}

_NETBSD_ATTACH = """\
mainbus0 (root): SUNW,Sun-Blade-1000: hostid 83a1b2c3
cpu0 at mainbus0: {cpu_model}
cpu0: 32K instruction (32 b/l), 64K data (32 b/l), 8192K external (64 b/l)
cpu1 at mainbus0: SUNW,UltraSPARC-III+ @ 900 MHz, CPU id 1
schizo0 at mainbus0: addr 8: schizo: version 5
schizo0: bus range 0 to 0; PCI bus 0
pci0 at schizo0
ebus0 at pci0 dev 5 function 0
com0 at ebus0 addr 3803f8-3803ff ipl 12: ns16550a, working fifo
com0: console
gem0 at pci0 dev 5 function 1: ERI Ethernet (rev. 0x01)
gem0: Ethernet address 02:00:5e:10:00:01
aceride0 at pci0 dev 7 function 0: Acer Labs M5229 UDMA IDE Controller (rev. 0xc3)
atabus0 at aceride0 channel 0
wd0 at atabus0 drive 0: <SAMPLE DISK>
wd0: 4096 MB, 8322 cyl, 16 head, 63 sec, 512 bytes/sect x 8388608 sectors
"""
