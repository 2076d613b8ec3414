"""The registers at the panic and the stack they lead to, machine by machine, whole and damaged."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

import kvmlib
from kvmlib.ports.base import FrameLayout
from tests.samples import NAMES as X86, file_offset, open_with, poke, poke_long, sample_in, va_of, without_symbols

UNMAPPED = 0x1000
#: What ddb_regs holds on each machine: offsets of pc, stack and frame pointer (0 for none), bytes of each.
TRAPS = {
    "openbsd/alpha": (28 * 8, 26 * 8, 0, 8),
    "openbsd/amd64": (17 * 8, 20 * 8, 16 * 8, 8),
    "openbsd/arm": (18 * 4, 16 * 4, 12 * 4, 4),
    "openbsd/arm64": (2 * 8, 0, 33 * 8, 8),
    "openbsd/i386": (13 * 4, 16 * 4, 12 * 4, 4),
    "openbsd/riscv64": (31 * 8, 8, 11 * 8, 8),
    "openbsd/sparc64": (8, 112 + 6 * 8, 0, 8),
    "netbsd/aarch64": (32 * 8, 31 * 8, 29 * 8, 8),
    "netbsd/m68k": (70, 60, 56, 4),
    "netbsd/powerpc": (128, 4, 0, 4),
    "netbsd/vax": (17 * 4, 8, 0, 4),
}
#: Where somebody entered ddb, and the stack was dumped.
FROM_DDB = ("netbsd/aarch64", "netbsd/aarch64-eb", "netbsd/m68k", "netbsd/m68k-040", "netbsd/powerpc")
#: Where the dump code saved registers, and the stack was dumped.
FROM_PCB = (
    *X86,
    "openbsd/sparc64",
    "netbsd/sparc64",
    "netbsd/arm",
    "netbsd/arm-eb",
    "netbsd/m68000",
    "netbsd/m68k-sun3",
)
FOLLOWED = (*FROM_DDB, *FROM_PCB)


@pytest.fixture(params=FOLLOWED)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


@pytest.fixture
def amd64(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/amd64")


def stack_of(sample: kvmlib.Sample) -> kvmlib.Stack:
    with kvmlib.open(sample.image, system=sample.kernel, machine=sample.machine) as kd:
        found = kvmlib.stack(kd)
        kvmlib.report_text(kd)
    return found


def layout_of(sample: kvmlib.Sample) -> FrameLayout:
    found: FrameLayout = sample.machine.frames[0]
    return found


def put(sample: kvmlib.Sample, va: int, value: int, size: int) -> None:
    poke(sample, va, value.to_bytes(size, sample.machine.byteorder))


def begin_at(sample: kvmlib.Sample, pointer: int, *, pc: int | None = None) -> None:
    """Let the stack begin with a frame at `pointer`, in dumppcb as in ddb_regs."""
    machine, layout = sample.machine, layout_of(sample)
    if machine.pcb is not None:
        at, size = machine.pcb.fields[machine.pcb.sp if layout.by_sp else machine.pcb.fp]
        put(sample, va_of(sample, "dumppcb") + at, pointer, size)
    if any(name.startswith("ddb_regs.") for name in sample.values):
        trap = machine.trapframes[0]
        at, size = trap.fields[trap.sp if layout.by_sp else trap.fp]
        put(sample, va_of(sample, "ddb_regs") + at, pointer, size)
        if pc is not None:
            at, size = trap.fields[trap.pc]
            put(sample, va_of(sample, "ddb_regs") + at, pc, size)


def forget_ddb(sample: kvmlib.Sample) -> None:
    poke(sample, "ddb_regs", bytes(sample.machine.trapframes[0].size))


# -- whole -----------------------------------------------------------------------------------------------------------


def test_stack(sample: kvmlib.Sample) -> None:
    found = stack_of(sample)
    assert [(f.pc, f.fp, f.where) for f in found.frames] == [(f.pc, f.fp, f.where) for f in sample.frames]
    called = [f.where.partition("+")[0] for f in sample.frames]
    assert found.panicked is not None
    assert found.panicked.where.partition("+")[0] == called[called.index("panic") + 1]
    assert found.source == ("dumppcb" if sample.name in FROM_PCB else "ddb_regs")
    assert called[0] == (called[0] if sample.name in FROM_PCB else "cpu_Debugger")
    assert found.end


def test_what_looks_like_a_frame_at_the_end(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/aarch64")
    end = stack_of(sample).end
    assert end.startswith(f"the return address in the frame at {sample.frames[-1].fp:#x}, ")
    assert "does not lie in the kernel's text" in end


def test_stack_begins_where_the_text_says(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        text = kvmlib.report_text(kd)
    assert ("from ddb_regs on, the registers" in text) == (sample.name in FROM_DDB)


@pytest.mark.parametrize("name", TRAPS)
def test_registers_at_the_trap(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    pc, sp, fp, size = TRAPS[name]
    order = sample.machine.byteorder
    with kvmlib.open(sample.image, system=sample.kernel, machine=sample.machine) as kd:
        at = va_of(sample, "ddb_regs")
        wanted = [int.from_bytes(kd.read(at + offset, size), order) for offset in (pc, sp, fp)]
        found = kvmlib.trap_registers(kd)
    trap = sample.machine.trapframes[0]
    by_name = {r.name: r for r in found}
    assert [by_name[r].value for r in (trap.pc, trap.sp)] == wanted[:2]
    assert not trap.fp or by_name[trap.fp].value == wanted[2]
    assert {r.name: r.value for r in found} == {
        n.removeprefix("ddb_regs."): v for n, v in sample.values.items() if n.startswith("ddb_regs.")
    }
    assert by_name[trap.pc].decoded.partition("+")[0] in ("db_enter", "cpu_Debugger")
    assert by_name[trap.pc].meaning == f"where the trap happened, ddb_regs+{pc:#x}"


X = "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29"
R = "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12"
#: The members of db_regs_t as the headers have them, and the bytes that each takes; - for one that is no register.
MEMBERS = {
    "openbsd/amd64": (8, "rdi rsi rdx rcx r8 r9 r10 r11 r12 r13 r14 r15 err rbx rax trapno rbp rip cs rflags rsp ss"),
    "netbsd/amd64": (
        8,
        "rdi rsi rdx r10 r8 r9 arg6 arg7 arg8 arg9 rcx r11 r12 r13 r14 r15 rbp rbx rax gs fs es ds trapno err rip cs "
        "rflags rsp ss",
    ),
    "openbsd/i386": (4, "fs gs es ds edi esi err ebx edx ecx eax trapno ebp eip cs eflags esp ss"),
    "netbsd/i386": (4, "gs fs es ds edi esi ebp ebx edx ecx eax trapno err eip cs eflags esp ss"),
    "openbsd/arm": (4, f"spsr {R} usr_sp usr_lr svc_sp svc_lr pc"),
    "netbsd/arm": (4, f"spsr - {R} usr_sp usr_lr svc_sp svc_lr pc"),
    "openbsd/arm64": (8, f"sp lr elr spsr {X}"),
    "netbsd/aarch64": (8, f"{X} x30 sp pc spsr"),
    "openbsd/riscv64": (
        8,
        "ra sp gp tp t0 t1 t2 t3 t4 t5 t6 s0 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 a0 a1 a2 a3 a4 a5 a6 a7 "
        "sepc sstatus stval scause",
    ),
    "openbsd/alpha": (
        8,
        "v0 t0 t1 t2 t3 t4 t5 t6 t7 s0 s1 s2 s3 s4 s5 s6 a3 a4 a5 t8 t9 t10 t11 ra t12 at sp ps pc gp a0 a1 a2",
    ),
    "netbsd/vax": (4, "fp ap sp r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 trap code pc psl"),
    "openbsd/powerpc": (
        4,
        f"{R} r13 r14 r15 r16 r17 r18 r19 r20 r21 r22 r23 r24 r25 r26 r27 r28 r29 r30 r31 "
        "lr cr xer ctr srr0 srr1 dar dsisr exc",
    ),
    "netbsd/powerpc": (
        4,
        f"{R} r13 r14 r15 r16 r17 r18 r19 r20 r21 r22 r23 r24 r25 r26 r27 r28 r29 r30 r31 iar msr lr ctr cr xer",
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_in_the_order_of_the_headers(name: str) -> None:
    size, names = MEMBERS[name]
    wanted = {n: (i * size, size) for i, n in enumerate(names.split()) if n != "-"}
    assert kvmlib.machine(name).trapframes[0].fields == wanted


@pytest.mark.parametrize("name", ["netbsd/amd64", "netbsd/i386", "netbsd/arm", "netbsd/sparc64", "netbsd/m68k-sun3"])
def test_ddb_was_not_entered(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image) as kd:
        with pytest.raises(kvmlib.FormatError, match="nothing but zeros: ddb was not entered"):
            kvmlib.trap_registers(kd)
        assert "TRAP" not in kvmlib.report_text(kd)


@pytest.mark.parametrize("name", ["netbsd/hppa", "netbsd/riscv64", "openbsd/mips64"])
def test_machine_that_keeps_none(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image) as kd:
        with pytest.raises(kvmlib.KvmError, match=f"it is not known how {name} keeps registers in ddb_regs"):
            kvmlib.trap_registers(kd)
        with pytest.raises(kvmlib.KvmError, match=f"{name} saves no registers in its dumps$"):
            kvmlib.stack(kd)


def test_without_symbols(sample: kvmlib.Sample) -> None:
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        with pytest.raises(kvmlib.SymbolError, match="ddb_regs is needed, and no kernel file was given"):
            kvmlib.trap_registers(kd)
        with pytest.raises(kvmlib.KvmError, match="is needed, and no kernel file was given"):
            kvmlib.stack(kd)


def test_no_registers_at_all(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/aarch64")
    forget_ddb(sample)
    with pytest.raises(kvmlib.KvmError) as e:
        stack_of(sample)
    assert str(e.value) == (
        "netbsd/aarch64 saves no registers in its dumps, and ddb_regs holds nothing but zeros: ddb was not entered"
    )


@pytest.mark.parametrize("name", ["openbsd/alpha", "netbsd/alpha"])
def test_machine_whose_frames_only_the_code_tells(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    found = stack_of(sample)
    assert [(f.pc, f.where) for f in found.frames] == [(f.pc, f.where) for f in sample.frames]
    assert found.end == f"{name} does not chain its frames by a frame pointer, so they can't be followed"
    if name == "openbsd/alpha":
        # Who called a function that calls none is in a register.
        assert [f.where.partition("+")[0] for f in found.frames] == ["db_enter", "panic"]


# -- frames laid out by hand -----------------------------------------------------------------------------------------

#: Bytes from the frame pointer to the caller's and to the return address, by hand.
BY_HAND = [
    ("openbsd/arm64", 0, 8),
    ("openbsd/riscv64", -16, -8),
    ("openbsd/arm", 0, 4),
    ("openbsd/arm", -4, 0),
    ("openbsd/arm", -12, -4),
    ("netbsd/vax", 12, 16),
]


@pytest.mark.parametrize(("name", "fp", "pc"), BY_HAND)
def test_frames_by_hand(name: str, fp: int, pc: int, tmp_path: Path) -> None:
    """These samples' stacks aren't mapped for a reader, so one is put over the kernel's banner."""
    sample = sample_in(tmp_path, name)
    base, size = va_of(sample, "version") + 64, sample.machine.long_bytes
    called = [va_of(sample, n) + 8 for n in ("panic", "ffs_alloc", "vn_open")]
    for i, back in enumerate(called):
        put(sample, base + 64 * i + fp, base + 64 * (i + 1) if i < 2 else 0, size)
        put(sample, base + 64 * i + pc, back, size)
    begin_at(sample, base)
    if sample.machine.pcb is not None:
        poke(sample, "dumppcb", bytes(sample.machine.pcb.size))
    found = stack_of(sample)
    assert [f.where for f in found.frames][1:] == ["panic+0x8", "ffs_alloc+0x8", "vn_open+0x8"]
    assert [f.fp for f in found.frames] == [base, base + 64, base + 128, 0]
    assert found.end == "the chain ends here: the next frame pointer is 0"
    assert found.panicked == found.frames[2]
    assert found.source == "ddb_regs"


def test_function_that_calls_none_on_powerpc(tmp_path: Path) -> None:
    """It has no frame: the stack pointer is its caller's already, and only lr tells of that."""
    sample = sample_in(tmp_path, "netbsd/powerpc")
    begin_at(sample, sample.frames[1].fp)
    assert [f.where for f in stack_of(sample).frames] == [f.where for f in sample.frames]


# -- which registers the stack begins with ---------------------------------------------------------------------------


def silent(sample: kvmlib.Sample, *names: str) -> kvmlib.SymbolTable:
    """The kernel's symbols, without some."""
    return kvmlib.SymbolTable([s for s in sample.symbols if s.name not in names], "made for the test")


def test_trap_that_is_on_the_way_tells_more(amd64: kvmlib.Sample) -> None:
    """Where nobody called panic, as after a fault: the frames from dumppcb on hide the function that trapped."""
    with open_with(amd64, silent(amd64, "panic")) as kd:
        found = kvmlib.stack(kd)
    assert (found.source, found.frames[0].where) == ("ddb_regs", "db_enter+0x9")


def test_trap_of_another_time_does_not_count(amd64: kvmlib.Sample) -> None:
    at, _ = amd64.machine.trapframes[0].fields["rbp"]
    poke_long(amd64, va_of(amd64, "ddb_regs") + at, amd64.frames[0].fp - 0x20)
    with open_with(amd64, silent(amd64, "panic")) as kd:
        found = kvmlib.stack(kd)
    assert (found.source, found.frames[0].where) == ("dumppcb", amd64.frames[0].where)


@pytest.mark.parametrize("name", ["openbsd/amd64", "openbsd/i386", "openbsd/sparc64"])
def test_dump_code_that_saved_nothing(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    assert sample.machine.pcb is not None
    poke(sample, "dumppcb", bytes(sample.machine.pcb.size))
    found = stack_of(sample)
    assert found.source == "ddb_regs"
    assert found.frames[0].where.startswith("db_enter+")
    assert found.panicked is not None
    assert found.panicked.where.startswith("ffs_blkfree+")
    with kvmlib.open(sample.image) as kd:
        where = {f.label: f for f in kvmlib.summary(kd).facts}["WHERE"]
    assert where.text.startswith("ffs_blkfree+")


def test_no_more_symbols_than_needed(amd64: kvmlib.Sample) -> None:
    """Where the text lies isn't known then: what is mapped may be code."""
    few = [s for s in amd64.symbols if s.name in ("dumppcb", "ddb_regs")]
    with open_with(amd64, kvmlib.SymbolTable(few, "made for the test")) as kd:
        found = kvmlib.stack(kd)
        assert [r.value for r in kvmlib.trap_registers(kd) if r.name == "rip"] == [amd64.values["ddb_regs.rip"]]
    first = next(i for i, f in enumerate(amd64.frames) if f.where.startswith("panic+"))
    assert [(f.pc, f.where) for f in found.frames[1:]] == [(f.pc, "") for f in amd64.frames[first:]]


# -- older layouts ---------------------------------------------------------------------------------------------------


def test_older_trapframe_on_i386(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    values = {n.removeprefix("ddb_regs."): v for n, v in sample.values.items() if n.startswith("ddb_regs.")}
    values["err"] = 2
    names = ["fs", "gs", "es", "ds", "edi", "esi", "ebp", "ebx", "edx", "ecx", "eax", "trapno", "err"]
    names += ["eip", "cs", "eflags", "esp", "ss"]
    poke(sample, "ddb_regs", b"".join(values[n].to_bytes(4, "little") for n in names))
    with kvmlib.open(sample.image) as kd:
        assert {r.name: r.value for r in kvmlib.trap_registers(kd)} == values


def test_older_trapframe_on_arm(tmp_path: Path) -> None:
    """Without the word that aligns r0."""
    sample = sample_in(tmp_path, "netbsd/arm")
    pc = va_of(sample, "panic") + 8
    poke(sample, "ddb_regs", b"".join(n.to_bytes(4, "little") for n in (0x60000013, *range(17), pc, 0)))
    with kvmlib.open(sample.image) as kd:
        found = {r.name: r.value for r in kvmlib.trap_registers(kd)}
    assert (found["r0"], found["r11"], found["svc_lr"], found["pc"]) == (0, 11, 16, pc)


def test_older_pcb_on_i386(tmp_path: Path) -> None:
    """It began with a struct i386tss."""
    sample = sample_in(tmp_path, "openbsd/i386")
    forget_ddb(sample)
    assert sample.machine.pcb is not None
    poke(sample, "dumppcb", bytes(sample.machine.pcb.size))
    poke_long(sample, va_of(sample, "dumppcb") + 0x38, sample.registers["esp"])
    poke_long(sample, va_of(sample, "dumppcb") + 0x3C, sample.registers["ebp"])
    found = stack_of(sample)
    assert [f.pc for f in found.frames] == [f.pc for f in sample.frames[1:]]


# -- damaged ---------------------------------------------------------------------------------------------------------


def test_garbage_where_ddb_was_not_entered(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    poke(sample, "ddb_regs", bytes(range(1, 241)))
    with kvmlib.open(sample.image) as kd:
        with pytest.raises(kvmlib.FormatError, match="holds no registers of the kernel's: a rip in the kernel's text"):
            kvmlib.trap_registers(kd)
        assert [f.pc for f in kvmlib.stack(kd).frames] == [f.pc for f in sample.frames]


def test_no_pointer(sample: kvmlib.Sample) -> None:
    begin_at(sample, 0)
    found = stack_of(sample)
    pointer = "stack pointer" if layout_of(sample).by_sp else "frame pointer"
    assert f"holds no {pointer}" in found.end
    assert len(found.frames) <= 2


def test_pointer_that_is_not_aligned(sample: kvmlib.Sample) -> None:
    begin_at(sample, 0x12346 - layout_of(sample).bias + 1)
    assert "is not aligned, so it is none" in stack_of(sample).end


def test_pointer_that_is_not_mapped(sample: kvmlib.Sample) -> None:
    begin_at(sample, hole_in(sample) - layout_of(sample).bias)
    found = stack_of(sample)
    assert f"the frame at {hole_in(sample):#x} can't be read: " in found.end
    assert len(found.frames) <= 2


def hole_in(sample: kvmlib.Sample) -> int:
    """The guard page below the stack."""
    below = [va for va, _ in sample.unmapped if va < sample.frames[0].fp]
    return max(below) + 0x40


def frame_of(sample: kvmlib.Sample) -> tuple[int, int]:
    """Where a frame in the middle has the caller's frame pointer, and the return address."""
    layout, middle = layout_of(sample), len(sample.frames) - 4
    at, outer = sample.frames[middle].fp, sample.frames[middle + 1].fp
    return at + layout.fp, (outer if layout.outer else at) + layout.pc


def only_way(sample: kvmlib.Sample) -> None:
    """Let no other registers lead past the damage."""
    if sample.machine.pcb is not None and any(n.startswith("ddb_regs.") for n in sample.values):
        forget_ddb(sample)


def test_stack_that_goes_round(sample: kvmlib.Sample) -> None:
    only_way(sample)
    poke_long(sample, frame_of(sample)[0], sample.frames[0].fp - layout_of(sample).bias)
    found = stack_of(sample)
    assert "does not lie above this one" in found.end
    assert len(found.frames) < len(sample.frames)


def test_return_address_outside_of_the_text(sample: kvmlib.Sample) -> None:
    only_way(sample)
    poke_long(sample, frame_of(sample)[1], va_of(sample, "hostname"))
    found = stack_of(sample)
    assert f"{va_of(sample, 'hostname'):#x}, does not lie in the kernel's text" in found.end
    assert [f.pc for f in found.frames] == [f.pc for f in sample.frames[: len(found.frames)]]
    assert 0 < len(found.frames) < len(sample.frames)


def test_return_address_that_is_none(sample: kvmlib.Sample) -> None:
    only_way(sample)
    poke_long(sample, frame_of(sample)[1], 0)
    what = "address of the call" if layout_of(sample).call else "return address"
    assert stack_of(sample).end == f"the chain ends here: the next {what} is 0"


def test_trap_outside_of_the_text(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/m68k")
    begin_at(sample, sample.frames[0].fp, pc=va_of(sample, "hostname"))
    with pytest.raises(kvmlib.KvmError, match=r"saves no registers in its dumps, and ddb_regs at va .* is there"):
        stack_of(sample)


def test_stack_that_is_endless(sample: kvmlib.Sample) -> None:
    """Frames all over a page, each above the other: there is an end to it."""
    layout, size, order = layout_of(sample), sample.machine.long_bytes, sample.machine.byteorder
    forget_ddb(sample)
    if sample.machine.pcb is None:
        return
    page = sample.frames[0].fp // sample.space.page * sample.space.page
    step = max(layout.align, 2 * size)
    pc = va_of(sample, "panic") + 4
    data = bytearray(pc.to_bytes(size, order) * (sample.space.page // size))
    for at in range(page + 0x200, page + sample.space.page - 0x200, step):
        where = at + layout.fp - page
        data[where : where + size] = (at + step - layout.bias).to_bytes(size, order)
    poke(sample, page, bytes(data))
    begin(sample, page + 0x200 - layout.bias)
    found = stack_of(sample)
    assert len(found.frames) == 64
    assert found.end == "only the first 64 frames are followed"
    assert found.panicked is None


def begin(sample: kvmlib.Sample, pointer: int) -> None:
    begin_at(dataclasses.replace(sample, values={}), pointer)


def test_damaged_registers_are_still_shown(sample: kvmlib.Sample) -> None:
    pcb = sample.machine.pcb
    if pcb is None:
        return
    at, size = pcb.fields[pcb.sp]
    put(sample, va_of(sample, "dumppcb") + at, UNMAPPED, size)
    with kvmlib.open(sample.image) as kd:
        found = {r.name: r.value for r in kvmlib.panic_registers(kd)}
    assert found[pcb.sp] == UNMAPPED
    # What lies on the stack can't be had with it.
    assert pcb.pc in pcb.fields or pcb.pc not in found or found[pcb.pc] != sample.registers[pcb.pc]


def test_offsets_of_what_is_poked(amd64: kvmlib.Sample) -> None:
    at = file_offset(amd64, va_of(amd64, "ddb_regs"))
    data = Path(amd64.image).read_bytes()[at : at + 176]
    assert [int.from_bytes(data[i : i + 8], "little") for i in (136, 128)] == numbers(amd64, "rip", "rbp")


def numbers(sample: kvmlib.Sample, *names: str) -> Sequence[int]:
    return [sample.values[f"ddb_regs.{name}"] for name in names]
