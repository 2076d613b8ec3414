"""The dump that a sample's kernel writes after its panic, on the swap partition it writes it to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from kvmlib.elfwriter import write_elf
from kvmlib.kcore import RamSeg, build_device, build_ram_segs, read_device
from kvmlib.sample import decoys
from kvmlib.sample.machine import SampleMachine
from kvmlib.sample.ram import noise
from kvmlib.sample.story import BOOT, END, LEFTOVERS, Scene
from kvmlib.sample.symbols import module_symbols

if TYPE_CHECKING:
    from kvmlib.namelist import Symbol
    from kvmlib.ports.base import Machine
    from kvmlib.ports.plan import SamplePlan, SpacePlan, Wanted

_BLOCK = 512
#: Blocks of the partition before a dump of all memory.
_BEFORE = 608
#: Where before it a block begins like a dump's header, but can't be one.
_FALSE_HEADER = 64
#: log(9) puts the priority before a line; people don't get to see it.
_PRIORITY = "<3>"
#: FSCALE (sys/param.h): what a load of 1 is in averunnable.
_FSCALE = 2048


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which machine, by which plan, with which form of address space, and whether free pages are left out."""

    machine: Machine
    plan: SamplePlan
    space: SpacePlan
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class SampleFrame:
    """A frame of the stack at the panic: the program counter in it, its frame pointer, function+offset of the pc."""

    pc: int
    fp: int
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample dump, and what is true of it.

    Attributes:
        name: as in `sample_names`.
        machine: its machine.
        image: the file with the swap partition.
        kernel: the kernel file.
        dump_off: where in the image the dump's header begins, in bytes.
        data_off: where memory begins.
        segments: the RAM that was dumped.
        space: the form of its address space, windows included.
        root: pa of the root page table.
        mapped: ranges that are mapped, dumped or not; what the page tables map of themselves isn't listed, nor what a
            window maps and nobody uses.
        unmapped: (va, bytes) of ranges that aren't mapped, such as the guard page below a stack.
        lost: a va whose page table is not in the dump, or None.
        kernel_offset: pa - va of the kernel's image.
        contents: (pa, bytes) of each segment.
        version, panic, messages, hostname: texts that the dump holds; messages as a person should see them.
        frames: the stack at the panic, the newest first.
        registers: dumppcb's, and those on the stack that belong to it.
        symbols: the kernel's.
        values: what variables hold, by name.
        modules: the symbols of the module that is loaded (NetBSD).
        decoys: pa of what looks like something of the kernel's, but isn't: the ``program`` that somebody ran, the
            ``symbols`` and ``messages`` of an earlier boot, the ``header`` of an earlier dump. A sparse dump hasn't got
            them.
    """

    name: str
    machine: Machine
    image: str
    kernel: str
    dump_off: int
    data_off: int
    segments: tuple[RamSeg, ...]
    space: SpacePlan = field(repr=False)
    root: int
    mapped: tuple[Wanted, ...] = field(repr=False)
    unmapped: tuple[tuple[int, int], ...] = field(repr=False)
    lost: int | None
    kernel_offset: int
    contents: tuple[tuple[int, bytes], ...] = field(repr=False)
    version: str
    panic: str
    messages: str = field(repr=False)
    hostname: str
    frames: tuple[SampleFrame, ...] = field(repr=False)
    registers: Mapping[str, int]
    symbols: tuple[Symbol, ...] = field(repr=False)
    values: Mapping[str, int] = field(repr=False)
    modules: tuple[Symbol, ...] = field(repr=False)
    decoys: Mapping[str, int] = field(repr=False)

    def read_physical(self, pa: int, n: int) -> bytes:
        """Return what the dump holds of memory at `pa`, without looking at the image. KeyError if it doesn't."""
        for start, data in self.contents:
            if start <= pa and pa + n <= start + len(data):
                return data[pa - start : pa - start + n]
        raise KeyError(f"pa {pa:#x} isn't dumped")


def build(name: str, recipe: Recipe, image: str, kernel: str) -> tuple[Sample, bytes, bytes]:
    """Return the sample, the image's bytes and the kernel file's bytes; the file names are only noted down."""
    m = SampleMachine(recipe.machine, recipe.plan, recipe.space)
    segments = m.used_ram() if recipe.sparse else m.ram.segments
    header = _header(m, segments)
    _keep_header(m, header)
    linear = recipe.machine.ram is None
    dumped = max(s.start + s.size for s in segments) if linear else sum(s.size for s in segments)
    _set_variables(m, dumped // m.page)
    messages = _write_messages(m, dumped)
    m.leave("messages", decoys.messages(m, _scene(m, dumped)))
    m.leave("header", decoys.header(m, header))
    m.load()
    contents = tuple((s.start, m.ram.read(s.start, s.size)) for s in segments)
    sample = Sample(
        name=name,
        machine=_settled(recipe.machine, header),
        space=m.space,
        image=image,
        kernel=kernel,
        dump_off=_BEFORE * _BLOCK,
        data_off=_BEFORE * _BLOCK + len(header),
        segments=segments,
        root=m.tables.root,
        mapped=tuple(m.mapped),
        unmapped=tuple(m.unmapped),
        lost=m.lost,
        kernel_offset=recipe.plan.text_pa - recipe.plan.text_va,
        contents=contents,
        version=m.version,
        panic=m.story.panic,
        messages=messages,
        hostname=m.story.hostname,
        frames=tuple(SampleFrame(pc, fp, m.where(pc)) for pc, fp in m.frames),
        registers=m.registers,
        symbols=tuple(m.kernel.symbols),
        values=m.values,
        modules=() if m.openbsd else tuple(module_symbols(m)),
        decoys=m.decoys,
    )
    # Whatever the dump code leaves out, it puts the header where a dump of all memory would begin.
    full = dumped if linear else sum(s.size for s in m.ram.segments)
    size = sample.dump_off + len(_header(m, m.ram.segments)) + full
    return sample, _partition(sample, header, size, linear), _kernel_file(m)


def _settled(machine: Machine, header: bytes) -> Machine:
    """Return the machine as the header has it: with its page size and ABI."""
    if machine.settle is None:
        return machine

    def read(offset: int, n: int) -> bytes:
        return header[offset : offset + n]

    headers = read_device(read, len(header), 0, machine.abi, machine.least_cpu_data)
    return machine.settle(machine, headers, read, len(header)).machine


def _kernel_file(m: SampleMachine) -> bytes:
    return write_elf(
        m.kernel.symbols,
        elf_machine=m.machine.elf_machine,
        bits=8 * m.machine.long_bytes,
        byteorder=m.machine.byteorder,
        sections=m.kernel.elf_sections(),
        flags=m.plan.elf_flags,
        entry=m.kernel.va("start"),
    )


# -- memory ----------------------------------------------------------------------------------------------------------


def _set_variables(m: SampleMachine, pages_dumped: int) -> None:
    w, story = m.words, m.story
    pages = sum(s.size for s in m.ram.segments) // m.page
    m.set("dumplo", w.long(_BEFORE), _BEFORE)
    m.set("dumpdev", w.u32(1) if m.openbsd else w.u64(1), 1)
    for name, value in (("time_second", story.crashed), ("time_uptime", story.crashed - story.booted)):
        m.set(name, w.u64(value), value)
    ints = {"dumpsize": pages_dumped, "physmem": pages, "hostnamelen": len(story.hostname), "boothowto": 0x100}
    ints |= {"ncpus": 1, "ncpusfound": 1} if m.openbsd else {"ncpu": 1, "ncpuonline": 1, "msgbufenabled": 1}
    for name, value in ints.items():
        m.set(name, w.u32(value), value)
    if not m.openbsd:
        m.set("boottime", w.u64(story.booted) + w.long(250000000), story.booted)
    buffer = "panicbuf" if m.openbsd else "scratchstr"
    m.set("panicstr", w.long(m.kernel.va(buffer)), m.kernel.va(buffer))
    m.set(buffer, story.panic.encode())
    m.set("hostname", story.hostname.encode())
    m.set("cpu_model" if m.openbsd else "cpu_brand_string", m.plan.cpu_model.encode())
    m.set("uvmexp", w.u32(m.page, m.page - 1, m.page.bit_length() - 1, pages, pages // 3))
    load = w.u32(*(_FSCALE * hundredths // 100 for hundredths in (42, 31, 17)))
    m.set("averunnable", load + bytes(-12 % w.long_bytes) + w.long(_FSCALE))


def _write_messages(m: SampleMachine, dumped: int) -> str:
    """Fill the message buffer, a ring that outlives a warm boot, and return its text.

    In a machine's variant the ring went round, and the oldest lines are lost.
    """
    w, story = m.words, m.story
    boot, end = BOOT[m.machine.os](story, _scene(m, dumped)), END[m.machine.os](story, _scene(m, dumped))
    header = m.machine.system.msgbuf_longs * w.long_bytes
    room = m.plan.msgbuf_bytes - header
    boots = 1 + room // len(boot) if m.space.variant else 2
    text = (boot * boots + end).encode()
    bufx = len(text) % room
    if len(text) < room:
        ring = text.ljust(room, b"\0")
    else:
        ring = text[-bufx:] + text[-room:-bufx]
    # magic, bufx, bufr, bufs, and OpenBSD's bufd (sys/msgbuf.h).
    longs = (decoys.MSG_MAGIC, bufx, bufx, room, 0)[: m.machine.system.msgbuf_longs]
    m.ram.write(m.msgbuf_pa, w.long(*longs) + ring)
    if not m.openbsd:
        # Where in the ring savecore(8) finds what panic said.
        start = len(text) - len(end.encode()) + end.index(story.panic, end.index("panic: "))
        for name, at in (("panicstart", start), ("panicend", start + len(story.panic) + 1)):
            m.set(name, w.long(at % room), at % room)
    return text[-room:].decode().replace(_PRIORITY, "")


def _scene(m: SampleMachine, dumped: int) -> Scene:
    trace = [(name, int(offset, 16)) for name, _, offset in (m.where(pc).partition("+") for pc, _ in m.chain)]
    first = next((i for i, (name, _) in enumerate(trace) if name in ("panic", "vpanic")), 0)
    trapped = next(((name, pc - m.kernel.va(name)) for name, pc in m.traps.items()), None)
    dice = noise("arguments", 2 * len(trace))
    return Scene(
        version=m.version,
        ram_bytes=sum(s.size for s in m.ram.segments),
        attach=m.plan.attach.format(cpu_model=m.plan.cpu_model),
        panic_args=f"{m.kernel.va(f'{_panicked(m)}.panic'):x}",
        trace=trace[first:],
        trapped=trapped,
        arguments=[f"{m.plan.heap_va + 256 * dice[2 * i] + 16 * dice[2 * i + 1]:x}" for i in range(len(trace))],
        dump_block=_BEFORE,
        dump_bytes=dumped,
        user_fp=m.plan.user_fp,
    )


def _panicked(m: SampleMachine) -> str:
    """Return the function that called panic."""
    return m.story.chain[m.story.chain.index("panic") + 1]


# -- the header ------------------------------------------------------------------------------------------------------


def _header(m: SampleMachine, segments: tuple[RamSeg, ...]) -> bytes:
    """Return the header's blocks as the kernel writes them."""
    machine = m.machine
    if m.plan.cpu_data is not None:
        data = m.plan.cpu_data(m.space, m.tables, segments)
    elif machine.cpu_hdr is None or m.plan.cpu_hdr is None:
        return build_device(machine.abi, _stack_garbage(m))
    else:
        hdr = m.plan.cpu_hdr(m.space, m.tables.root, len(segments))
        data = machine.cpu_hdr.build(hdr, machine.byteorder).ljust(machine.segments_offset(hdr), b"\0")
        data += build_ram_segs(segments, machine.byteorder)
    header = build_device(machine.abi, data + bytes(-(machine.abi.align(8) + len(data)) % _BLOCK))
    return header if m.plan.c_size is None else header[:4] + m.words.u32(m.plan.c_size) + header[8:]


def _stack_garbage(m: SampleMachine) -> bytes:
    """Return what was on the stack where openbsd/i386 made its header block: addresses, small numbers, zeros."""
    values = [s.value for s in m.kernel.symbols if s.kind in "TD"]
    dice = pairwise(noise("garbage", 127))
    words = m.words.u32(*(values[a % len(values)] + b if a < 90 else a if a < 160 else 0 for a, b in dice))
    return words[: _BLOCK - m.machine.abi.align(8)]


def _keep_header(m: SampleMachine, header: bytes) -> None:
    """Leave the block that was written in memory, as the kernels do: NetBSD in a buffer, OpenBSD on the stack."""
    if m.openbsd:
        m.poke(m.plan.stack_va + m.page + 0x30, header[: 2 * m.page])
    else:
        at = m.run + m.page
        m.poke(at, header[: 3 * m.page])
        m.set("dump_headerbuf", m.words.long(at), at)


# -- the partition ---------------------------------------------------------------------------------------------------


def _partition(sample: Sample, header: bytes, size: int, linear: bool) -> bytes:
    """Return the swap partition: what swapping left, the header, memory."""
    image = bytearray(leftovers(size))
    false = sample.dump_off - _FALSE_HEADER * _BLOCK
    image[false : false + 8] = header[:4] + b"\xff\xff\xff\xff"
    image[sample.dump_off : sample.data_off] = header
    at = sample.data_off
    for start, data in sample.contents:
        where = sample.data_off + start if linear else at
        image[where : where + len(data)] = data
        at += len(data)
    return bytes(image)


def leftovers(n: int) -> bytes:
    """Return what was on the disk before: pages of other people's files and processes, and empty ones."""
    pages = bytearray()
    for i, text in enumerate(LEFTOVERS):
        pages += (text.encode() * (1 + 7 * i)).ljust(4096, b"\0")[:4096] + bytes(4096 * (i % 4))
    return bytes((pages * (n // len(pages) + 1))[:n])
