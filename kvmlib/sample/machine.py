"""A whole machine for a sample dump: its kernel is laid out, its address space mapped, its memory filled."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kvmlib.kcore import RamSeg
from kvmlib.ports.base import FrameLayout
from kvmlib.ports.plan import Oddities, SamplePlan, SpacePlan, Use, Wanted, WindowPlan, in_window
from kvmlib.sample import decoys
from kvmlib.sample.kernel import Kernel, StackPlan, Text, Words, stack_chain
from kvmlib.sample.ram import Frames, Ram, noise
from kvmlib.sample.story import LEFTOVERS, NETBSD_DDB, STORIES, version
from kvmlib.sample.symbols import header_bytes, load_symbols, table_bytes

if TYPE_CHECKING:
    from kvmlib.ports.base import Machine, Pcb, Trapframe

_4G = 1 << 32
#: An entry that isn't valid on any machine, though it isn't zero.
STALE = 0x7A000
_STACK_PAGES = 4
#: Longs in a struct trapframe that the plan doesn't describe: only its room on the stack matters.
_TRAPFRAME = 19
#: Variables that are static in C.
_STATIC = ("scratchstr", "dump_headerbuf", "kernel_symtab")


class SampleMachine:
    """A machine with a kernel that runs in an address space, up to its panic.

    Attributes:
        machine, plan, space: what it is made of.
        story: what happens to it.
        words: C integers on it.
        page: bytes of its kernel's page.
        kernel: the image.
        ram: memory. The kernel is loaded into it last of all, by `load`.
        tables: the page tables.
        mapped: all that is mapped, except what the page tables map of themselves, and what is in a window only.
        unmapped: (va, bytes) that aren't, such as guard pages.
        lost: a va whose page table is where there is no RAM, or None.
        msgbuf_va, msgbuf_pa: the message buffer.
        registers: dumppcb's.
        frames: (pc, frame's address) that a walk along the frames finds, the newest first; all that can be told.
        values: what variables hold, by name.
        decoys: pa of what looks like something of the kernel's, by kind.
    """

    def __init__(self, machine: Machine, plan: SamplePlan, space: SpacePlan) -> None:
        """Build it all."""
        self.machine, self.plan, self.space = machine, plan, space
        self.pcb = plan.pcb or machine.pcb
        self.openbsd = machine.os == "openbsd"
        self.story = STORIES[machine.os]
        if not self.openbsd and machine.trapframes and self.pcb is None:
            # Where the dump code saves no registers, ddb's are the only ones.
            self.story = NETBSD_DDB
        self.version = version(self.story, machine.system.title, plan.port or machine.arch)
        self.words = Words(machine.byteorder, machine.long_bytes)
        self.page = space.page
        self.kernel = Kernel(plan.text_va, plan.text_pa, space.image_shift, self.page)
        self.ram = Ram(plan.ram)
        self.mapped: list[Wanted] = []
        self.unmapped: list[tuple[int, int]] = []
        self.registers: dict[str, int] = {}
        self.frames: list[tuple[int, int]] = []
        #: The same, whether or not a reader can follow it: the messages show it.
        self.chain: list[tuple[int, int]] = []
        self.values: dict[str, int] = {}
        self.decoys: dict[str, int] = {}
        #: What lies at `run` of a NetBSD module that is loaded.
        self.module = b""
        #: sizeof of each variable.
        self._size: dict[str, int] = {}
        #: Variables' contents, which the kernel file doesn't have.
        self._set: dict[str, bytes] = {}
        #: va -> pa of pages that are filled by address.
        self._pages: dict[int, int] = {}
        self._lay_out_kernel()
        if isinstance(space, WindowPlan) and space.until:
            last = space.windows[-1]._replace(stop=self.kernel.va(space.until))
            self.space = replace(space, windows=(*space.windows[:-1], last))
        self._map_kernel()
        self._map_msgbuf()
        if self._fixed(plan.heap_va) is None:
            self._map_stacks()
            self._map_heap()
        else:
            # What a window reaches has no choice of frames, so it comes first.
            self._map_heap()
            self._map_stacks()
        self._fill_stack()
        self._fill_heap()
        self._write_tables()
        self.leave("program", decoys.program(self))
        self.leave("symbols", decoys.symbols(self))

    # -- the kernel --------------------------------------------------------------------------------------------------

    def _lay_out_kernel(self) -> None:
        story = self.story
        calls = self._calls()
        text = Text(self.kernel, self.plan.code)
        for function in story.functions:
            if function in self._interrupted:
                text.add_trap(function)
            else:
                text.add(function, calls[function], f"{function}.panic" if function in story.panics else None)
        self.returns, self.traps = text.returns, text.traps
        self._lay_out_rodata()
        self._lay_out_data()
        self._lay_out_bss()
        text.link()

    @property
    def _interrupted(self) -> set[str]:
        """Functions that were interrupted by a trap in the middle of the call chain."""
        chain = self.story.chain
        return {outer for trap, outer in pairwise(chain[1:]) if trap.startswith("!")}

    def _calls(self) -> dict[str, list[str]]:
        """Say who calls whom: some at random, then those in the chain that led to the dump, and panic last of all."""
        names = self.story.functions
        calls = {}
        for i, name in enumerate(names):
            dice = [names[b % len(names)] for b in noise(f"{name} calls", 3)][: i % 4]
            calls[name] = [c for c in dice if c not in ("start", "panic", name)]
        for callee, caller in pairwise(n.removeprefix("!") for n in self.story.chain):
            if caller not in self._interrupted and callee != "panic":
                calls[caller].append(callee)
        for name in self.story.panics:
            calls[name].append("panic")
        return calls

    def _lay_out_rodata(self) -> None:
        kernel, story = self.kernel, self.story
        kernel.begin("R")
        banner = self.version.encode()
        if self.openbsd:
            kernel.add("version", banner.ljust(512, b"\0"))
            kernel.add("osversion", story.osversion.encode() + b"\0")
            kernel.add("sccs", f"    @(#){self.version}".encode() + b"\0")
        else:
            kernel.add("version", banner + b"\0")
            kernel.add("netbsd", b"netbsd\0", local=True)
            kernel.add("kernel_ident", story.ident.encode() + b"\0")
            kernel.add("sccs", f"@(#){self.version}".encode() + b"\0")
        kernel.add("ostype", self.machine.system.title.encode() + b"\0")
        kernel.add("osrelease", story.release.encode() + b"\0")
        for function, text in story.panics.items():
            kernel.add(f"{function}.panic", text.encode() + b"\0", align=1, local=True)

    def _lay_out_data(self) -> None:
        kernel, w = self.kernel, self.words
        kernel.begin("D")
        kernel.add("dumpmag", self.machine.dumpmag[0].to_bytes(self.machine.dumpmag_bytes, self.machine.byteorder))
        kernel.add("dumplo", w.long(0))
        kernel.add("dumpsize", w.u32(0))
        kernel.add("dumpdev", b"\xff" * self._dev_bytes)
        kernel.add("averunnable", bytes(12 + (-12 % w.long_bytes)) + w.long(2048))
        if self.plan.device_symbol:
            kernel.add(self.plan.device_symbol, self.page, align=self.page)
        kernel.add("mountlist", w.long(0, 0))
        kernel.add("ifnet", w.long(0, 0))

    @property
    def _dev_bytes(self) -> int:
        """sizeof(dev_t)."""
        return 4 if self.openbsd else 8

    def _lay_out_bss(self) -> None:
        long = self.words.long_bytes
        sizes = {"hostname": 256, "hostnamelen": 4, "panicstr": long, "msgbufp": long}
        sizes |= {"time_second": 8, "time_uptime": 8, "physmem": 4, "boothowto": 4, "uvmexp": 64}
        if self.openbsd:
            sizes |= {"panicbuf": 512, "msgbufmapped": 4, "ncpus": 4, "ncpusfound": 4, "cpu_model": 48}
            sizes |= {"ssym": long, "esym": long}
        else:
            sizes |= {"scratchstr": 256, "panicstart": long, "panicend": long, "msgbufenabled": 4}
            sizes |= {"ncpu": 4, "ncpuonline": 4, "cpu_brand_string": 49, "boottime": 8 + long, "dump_headerbuf": long}
            sizes |= {"ksyms_symtabs": 2 * long, "kernel_symtab": table_bytes(long), "ksyms_symsz": 4, "ksyms_strsz": 4}
            sizes |= {"ksyms_hdr": header_bytes(long)}
        if self.pcb is not None:
            sizes["dumppcb"] = self.pcb.size
        if self._trapframe is not None:
            sizes["ddb_regs"] = self._trapframe.size
        sizes |= {name: len(data) for name, data in self.plan.variables(self.space, 0, self.plan.ram).items()}
        self.kernel.begin("B")
        for name, size in sizes.items():
            align = 64 if name == "dumppcb" else 8
            self.kernel.add(name, size, align=align, local=name in _STATIC)
        self.kernel.add("end", 0)
        self._size = {s.name: s.size for s in self.kernel.symbols}
        load_symbols(self)

    def set(self, name: str, data: bytes, value: int | None = None) -> None:
        """Give a variable its contents, and note its value where it is a number."""
        assert len(data) <= self._size[name], f"{name} has no room for {data!r}"
        self._set[name] = data
        if value is not None:
            self.values[name] = value

    def load(self) -> None:
        """Put the kernel into memory, and into it what its variables hold."""
        for s in self.kernel.sections:
            self.ram.write(self.kernel.pa(s.va), bytes(s.data))
        self.ram.write(self.kernel.pa(self.kernel.loaded_va), self.kernel.loaded)
        for name, data in self._set.items():
            self.ram.write(self.kernel.pa(self.kernel.va(name)), data)

    # -- the address space -------------------------------------------------------------------------------------------

    def _fixed(self, va: int) -> int | None:
        """Return the pa that a window gives to `va`."""
        return in_window(self.space.windows, va)

    def _want(self, va: int, pa: int, size: int, use: Use, shift: int | None = None) -> None:
        """Map a range, where there is a way to do it."""
        fixed = self._fixed(va)
        assert fixed in (None, pa), f"a window has va {va:#x} at pa {fixed:#x}, not {pa:#x}"
        if fixed is not None:
            size = min(size, next(w.stop for w in self.space.windows if w.start <= va < w.stop) - va)
        if size and self.space.translates and (self.space.levels or fixed is not None):
            self.mapped.append(Wanted(va, pa, size, use, shift))

    def _hole(self, va: int, size: int) -> None:
        """Note down a range that isn't mapped, unless a window has it anyway."""
        if self._fixed(va) is None or not self.space.translates:
            self.unmapped.append((va, size))

    def _map_kernel(self) -> None:
        kernel = self.kernel
        plan, page = self.plan, self.page
        device = kernel.va(plan.device_symbol) if plan.device_symbol else 0
        ranges = kernel.image_ranges()
        for use, va, size in ranges:
            if va <= device < va + size and plan.device_pa is not None:
                # A page of the kernel's own is where the device shows: its memory is never seen.
                self._want(va, kernel.pa(va), device - va, use)
                self._want(device, plan.device_pa, page, "device")
                after = device + page
                self._want(after, kernel.pa(after), va + size - after, use)
            else:
                self._want(va, kernel.pa(va), size, use, self.space.image_shift)
        if plan.device_pa is not None and not plan.device_symbol:
            self._want(plan.heap_va + 96 * page, plan.device_pa, page, "device")
        for extra in self.space.extra:
            self._want(*extra)
        image = plan.text_pa
        home = next(s for s in self.ram.segments if s.start <= image < s.start + s.size)
        self.msgbuf_pa = plan.msgbuf[1] if plan.msgbuf else home.start + home.size - plan.msgbuf_bytes
        used = [(image, kernel.end - plan.text_va), (self.msgbuf_pa, plan.msgbuf_bytes)]
        self._free = Frames([s for s in self.ram.segments if s.start < _4G], used, page)
        self._used = used
        if self.plan.direct_va is not None:
            self._map_direct(self.plan.direct_va)

    def _map_direct(self, base: int) -> None:
        below, above = self.space.direct_shifts
        pages: dict[int, int] = {}
        for s in self.ram.segments:
            shift = below if s.start < _4G else above
            for pa in range(s.start >> shift << shift, s.start + s.size, 1 << shift):
                pages[pa] = shift
        for pa, shift in sorted(pages.items()):
            self._want(base + pa, pa, 1 << shift, "data", shift)

    def _map_msgbuf(self) -> None:
        if self.plan.msgbuf is not None:
            self.msgbuf_va = self.plan.msgbuf[0]
            self._want(self.msgbuf_va, self.msgbuf_pa, self.plan.msgbuf_bytes, "data")
        elif self.plan.direct_va is not None and self.openbsd:
            self.msgbuf_va = self.plan.direct_va + self.msgbuf_pa
        elif self._fixed(self.plan.text_va) is not None:
            self.msgbuf_va = self.plan.text_va + self.msgbuf_pa - self.plan.text_pa
            if self._fixed(self.msgbuf_va) is not None:
                self._want(self.msgbuf_va, self.msgbuf_pa, self.plan.msgbuf_bytes, "data")
        else:
            self.msgbuf_va = self.kernel.end + 3 * self.page
            self._hole(self.kernel.end, 3 * self.page)
            self._want(self.msgbuf_va, self.msgbuf_pa, self.plan.msgbuf_bytes, "data")
        self.set("msgbufp", self.words.long(self.msgbuf_va), self.msgbuf_va)

    def _map_page(self, va: int) -> None:
        fixed = self._fixed(va)
        self._pages[va] = self._free.one() if fixed is None else self._free.take(fixed)
        self._want(va, self._pages[va], self.page, "data")

    def _map_stacks(self) -> None:
        """Map the stacks of three threads, each above a guard page; the first is that of the thread that panicked."""
        for i in range(3):
            guard = self.plan.stack_va + i * (_STACK_PAGES + 1) * self.page
            self._hole(guard, self.page)
            for va in range(guard + self.page, guard + (_STACK_PAGES + 1) * self.page, self.page):
                self._map_page(va)

    def _map_heap(self) -> None:
        heap, page = self.plan.heap_va, self.page
        for i in range(40):
            if i % 9 == 5:
                self._hole(heap + i * page, page)
            else:
                self._map_page(heap + i * page)
        # Frames in a row: a range that a reader should see as one.
        if self._fixed(self.run) is None:
            pa = self._free.run(4 * page)
            self._want(self.run, pa, 4 * page, "data")
            self._pages |= {self.run + i * page: pa + i * page for i in range(4)}
        else:
            for i in range(4):
                self._map_page(self.run + i * page)
        self._stale = heap + 80 * page
        self._hole(self._stale, page)
        self.lost = heap + self.plan.lost_pages * page if self.space.levels > 1 and self._fixed(heap) is None else None

    def _write_tables(self) -> None:
        first = self.ram.segments[0]
        lost = None if self.lost is None else (self.lost, first.start + first.size)
        wanted = [w for w in self.mapped if self._fixed(w.va) is None]
        self.tables = self.space.build(wanted, Oddities(lost, (self._stale, STALE)), self.words.order, self._free.alloc)
        for pa, data in self.tables.pages.items():
            self.ram.write(pa, data)
        for name, data in self.plan.variables(self.space, self.tables.root, self.plan.ram).items():
            self.set(name, data)

    @property
    def run(self) -> int:
        """Four pages on the heap whose frames lie in a row."""
        return self.plan.heap_va + 64 * self.page

    def leave(self, kind: str, data: bytes) -> None:
        """Put something into frames that the kernel doesn't count as its own: a sparse dump hasn't got them."""
        pages = -(-len(data) // self.page)
        size = self.page << (pages - 1).bit_length()
        pa = self._free.run(size)
        self._free.given.difference_update(range(pa, pa + size, self.page))
        self.ram.write(pa, data)
        self.decoys[kind] = pa

    def used_ram(self) -> tuple[RamSeg, ...]:
        """Return the frames that are in use, as a sparse dump lists them."""
        page = self.page
        used = {pa for start, size in self._used for pa in range(start, start + size, page)} | self._free.given
        runs: list[RamSeg] = []
        for s in self.ram.segments:
            for pa in (pa for pa in range(s.start, s.start + s.size, page) if pa in used):
                if runs and runs[-1].start + runs[-1].size == pa and pa != s.start:
                    runs[-1] = RamSeg(runs[-1].start, runs[-1].size + page)
                else:
                    runs.append(RamSeg(pa, page))
        return tuple(runs)

    # -- stack and heap ----------------------------------------------------------------------------------------------

    def poke(self, va: int, data: bytes) -> None:
        """Write to the stacks or the heap."""
        while data:
            room = self.page - va % self.page
            self.ram.write(self._pages[va - va % self.page] + va % self.page, data[:room])
            va, data = va + room, data[room:]

    @property
    def _trapframe(self) -> Trapframe | None:
        """The layout of ddb_regs."""
        return self.machine.trapframes[0] if self.machine.trapframes else None

    @property
    def _layout(self) -> FrameLayout:
        """How frames lead to each other; where only the code tells, they lie as on most machines, for nobody."""
        n = self.words.long_bytes
        return self.machine.frames[0] if self.machine.frames else FrameLayout(0, n, n)

    def _fill_stack(self) -> None:
        pcb, w, layout = self.pcb, self.words, self._layout
        top = self.plan.stack_va + (_STACK_PAGES + 1) * self.page - 0x100
        trapframe = self._trapframe.size if self._trapframe else _TRAPFRAME * w.long_bytes
        call = len(self.plan.code.call(0)) if layout.call else 0
        plan = StackPlan(layout, self.plan.user_fp or top + 0x40, trapframe, call)
        pieces, frames, at = stack_chain(self.story.chain, self.returns, top, w, plan)
        if not self.plan.user_fp:
            self.poke(plan.user_fp + layout.fp, w.long(plan.user_fp + 0x40))
            self.poke(plan.user_fp + layout.pc, w.long(self.plan.heap_va))
        on_stack = pcb.at_sp if pcb is not None else ()
        sp = min(pieces) - 0x40 - w.long_bytes * len(on_stack)
        # What lies between the frames: pointers to this and that, and small numbers.
        junk = [self.kernel.va("version"), *at.values(), self.plan.heap_va + 0x2340, self.kernel.va("hostname"), 0, 1]
        for i, va in enumerate(range(sp - 0x400, top, w.long_bytes)):
            self.poke(va, w.long(junk[i * 5 % len(junk)] if i % 3 else i % 7))
        for va, data in pieces.items():
            self.poke(va, data)
        self.chain = frames
        if pcb is not None:
            self._save_registers(pcb, frames[0][1] - layout.bias if layout.by_sp else sp, junk)
        if self._trapframe is not None and self.traps:
            self._fill_ddb_regs(self._trapframe, at)

    def _save_registers(self, pcb: Pcb, sp: int, junk: list[int]) -> None:
        """Do what savectx does: store a few registers in dumppcb, others on the stack."""
        w = self.words
        pc, fp = self.chain[0]
        self.registers = {pcb.sp: sp}
        if pcb.fp:
            self.registers[pcb.fp] = fp
        if pcb.pc in pcb.fields:
            self.registers[pcb.pc] = pc
        for i, name in enumerate(pcb.at_sp):
            if not name:
                continue
            value = self.registers.setdefault(name, pc if name == pcb.pc else junk[i % len(junk)])
            self.poke(sp + i * w.long_bytes, w.long(value))
        saved = bytearray(pcb.size)
        for name in (pcb.sp, pcb.fp, pcb.pc):
            if name in pcb.fields:
                offset, size = pcb.fields[name]
                saved[offset : offset + size] = self.registers[name].to_bytes(size, self.machine.byteorder)
        self.set("dumppcb", bytes(saved))
        known = self.chain if self.machine.frames else self.chain[:1]
        self.frames = known if pcb.pc in self.registers else known[1:]

    def _fill_ddb_regs(self, layout: Trapframe, frames: dict[str, int]) -> None:
        """Save the registers at the trap that entered ddb."""
        function, pc = next(iter(self.traps.items()))
        chain = self._layout
        frame = frames[function] - chain.bias
        back = self.story.chain[self.story.chain.index(function) + 1]
        at_trap = {layout.pc: pc, layout.sp: frame if chain.by_sp else frame - 0x20}
        at_trap |= {layout.fp: frame} if layout.fp else {}
        at_trap |= {layout.ra: self.returns[back, function]} if layout.ra else {}
        at_trap |= self.plan.trap_registers
        saved = bytearray(layout.size)
        for name, (offset, size) in layout.fields.items():
            value = self.values[f"ddb_regs.{name}"] = at_trap.get(name, 0)
            saved[offset : offset + size] = value.to_bytes(size, self.machine.byteorder)
        self.set("ddb_regs", bytes(saved))
        if len(self.frames) < 2:
            outer = self.chain.index((self.returns[back, function], frames[back]))
            self.frames = [(pc, frames[function]), *self.chain[outer : None if self.machine.frames else outer + 1]]

    def _fill_heap(self) -> None:
        """Write two lists to follow: file systems, and network interfaces with their output functions."""
        w, heap = self.words, self.plan.heap_va
        self.poke(self.run, self.module)
        mounts = [(heap + 0x2340, "/"), (heap + 0x8A80, "/home"), (heap + 0x3100, "/var")]
        self._link("mountlist", [va for va, _ in mounts])
        for i, (va, where) in enumerate(mounts):
            names = ("ffs", 16), (where, 32), (f"/dev/wd0{'ade'[i]}", 32)
            self.poke(va + 2 * w.long_bytes, b"".join(text.encode().ljust(n, b"\0") for text, n in names))
        nets = [(heap + 0xC800, self.plan.nic, "ether_output"), (heap + 0x6200, "lo0", "ip_output")]
        self._link("ifnet", [va for va, _, _ in nets])
        for va, name, output in nets:
            self.poke(va + 2 * w.long_bytes, w.long(self.kernel.va(output)) + name.encode())
        for i in range(15, 40):
            if i % 9 != 5:
                self.poke(heap + i * self.page + 0x40 * i % (self.page // 2), LEFTOVERS[i % len(LEFTOVERS)].encode())

    def _link(self, head: str, nodes: list[int]) -> None:
        """Make a tail queue of them: each begins with the next one's address, and where the last one's points to it."""
        for i, va in enumerate(nodes):
            following = nodes[i + 1] if i + 1 < len(nodes) else 0
            self.poke(va, self.words.long(following, nodes[i - 1] if i else self.kernel.va(head)))
        self.set(head, self.words.long(nodes[0], nodes[-1]), nodes[0])

    def where(self, pc: int) -> str:
        """Name an address in text, as function+offset."""
        symbol = max((s for s in self.kernel.symbols if s.value <= pc and s.kind in "Tt"), key=lambda s: s.value)
        return f"{symbol.name}+{pc - symbol.value:#x}"
