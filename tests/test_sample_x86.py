"""Sample dumps of amd64 and i386: stacks, lists, symbols in memory, page tables that show themselves."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from kvmlib.namelist import read_elf
from kvmlib.ports.plan import RadixPlan
from kvmlib.sample import Sample, make_sample, sample_names
from tests.test_sample import saved_core

BLOCK = 512
PAGE = 4096
NAMES = tuple(n for n in sample_names() if n.partition("-")[0].endswith(("/amd64", "/i386")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@functools.cache
def _made(name: str, folder: Path) -> Sample:
    return make_sample(name, folder)


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, folder: Path) -> Sample:
    return _made(request.param, folder)


@pytest.fixture(params=["device", "savecore"])
def kd(request: pytest.FixtureRequest, sample: Sample, tmp_path: Path) -> Iterator[kvmlib.Kvm]:
    if request.param == "device":
        dump = kvmlib.open(sample.image)
    else:
        dump = kvmlib.open(saved_core(sample, tmp_path / "bsd.0.core"), system=sample.kernel)
    with dump:
        assert dump.form == request.param
        yield dump


def long_at(kd: kvmlib.Kvm, va: int, sample: Sample) -> int:
    return int.from_bytes(kd.read(va, sample.machine.long_bytes), sample.machine.byteorder)


def va_of(kd: kvmlib.Kvm, name: str) -> int:
    return kd.nlist(name)[name].value


def c_string(kd: kvmlib.Kvm, va: int, n: int = 256) -> str:
    return kd.read(va, n).partition(b"\0")[0].decode()


def text_at(kd: kvmlib.Kvm, name: str) -> str:
    symbol = kd.nlist(name)[name]
    return c_string(kd, symbol.value, symbol.size)


def test_what_is_mapped_and_how(kd: kvmlib.Kvm, sample: Sample) -> None:
    plan = sample.space
    assert isinstance(plan, RadixPlan)
    assert plan.self_map is not None
    # Root entries through which the tables show themselves.
    top = plan.paging.levels[0]
    own = range(plan.self_map << top.shift, (plan.self_map + (4 if top.bits == 11 else 1)) << top.shift)
    found = [m for m in kd.mappings() if m.va not in own and m.flags != ("assumed",)]
    assert sum(m.size for m in found) == sum(w.size for w in sample.mapped)
    for m in found:
        inside = [w for w in sample.mapped if m.va <= w.va < m.va + m.size]
        assert sum(w.size for w in inside) == m.size
        assert all(w.pa - m.pa == w.va - m.va for w in inside)
        for w in inside:
            assert ("RW" in m.flags) == (w.use in ("data", "device"))
            assert ("PCD" in m.flags) == (w.use == "device")
            assert ("NX" in m.flags) == (w.use != "text" and plan.paging.entry_bytes == 8)


def test_page_tables_show_themselves(kd: kvmlib.Kvm, sample: Sample) -> None:
    base, size = {
        "openbsd/amd64": (0x7F8000000000, 8),
        "openbsd/i386": (0xCFC00000, 4),
        "openbsd/i386-pae": (0xCF800000, 8),
        "netbsd/i386": (0xBFC00000, 4),
        "netbsd/i386-pae": (0xBF800000, 8),
    }.get(sample.name.removesuffix("-sparse"), (0x7F8000000000, 8))
    for w in sample.mapped:
        if w.size == PAGE:
            entry = int.from_bytes(kd.read(base + ((w.va & (1 << 48) - 1) >> 12) * size, size), "little")
            assert entry & 0x000FFFFFFFFFF000 == w.pa


def test_holes(kd: kvmlib.Kvm, sample: Sample) -> None:
    device = next(w for w in sample.mapped if w.use == "device")
    assert [s.kind for s in kd.spans(device.va - 16, PAGE + 32)] == ["present", "not_in_dump", "present"]
    # The guard page below the stack of the process that panicked.
    stack = next(iter(va for va, size in sample.unmapped if any(w.va == va + PAGE for w in sample.mapped)))
    assert [s.kind for s in kd.spans(stack, 2 * PAGE)] == ["unmapped", "present"]


@pytest.mark.parametrize("name", ["openbsd/i386", "openbsd/i386-pae"])
def test_old_disk_contents_show_in_the_holes_of_a_linear_dump(name: str, folder: Path) -> None:
    sample = _made(name, folder)
    image = Path(sample.image).read_bytes()
    hole = image[sample.data_off + 0x9F000 : sample.data_off + 0x100000]
    assert any(hole)
    cpu_data = image[sample.dump_off + 8 : sample.data_off]
    assert len(cpu_data) == 504
    assert len(set(cpu_data)) > 50, "stack garbage, not zeros"
    with kvmlib.open(sample.image) as kd, pytest.raises(kvmlib.NotInDumpError):
        kd.read_physical(0xA0000, 4)


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/amd64"])
def test_a_large_page_of_each_size(name: str, folder: Path) -> None:
    sample = _made(name, folder)
    with kvmlib.open(sample.image) as kd:
        assert kd.kvatop(va_of(kd, "start") + 5)[1] == 0x200000 - 5
        huge = next(w for w in sample.mapped if w.shift == 30)
        assert kd.kvatop(huge.va + 7) == (huge.pa + 7, (1 << 30) - 7)
        assert huge.pa >= 1 << 32
        kinds = [s.kind for s in kd.spans(huge.va, huge.size)]
    assert kinds == ["present", "not_in_dump"]


def test_message_buffer(kd: kvmlib.Kvm, sample: Sample) -> None:
    longs = sample.machine.system.msgbuf_longs
    n = sample.machine.long_bytes
    va = long_at(kd, va_of(kd, "msgbufp"), sample)
    magic, bufx, bufr, bufs, *dropped = (long_at(kd, va + n * i, sample) for i in range(longs))
    assert magic == 0x063061
    assert bufx <= bufs
    assert bufr <= bufs
    assert dropped == [0] * (longs - 4)
    assert (longs * n + bufs) % PAGE == 0
    assert va % PAGE == 0
    ring = kd.read(va + longs * n, bufs)
    text = (ring[bufx:] + ring[:bufx]).replace(b"\0", b"").decode()
    assert "<3>" in text
    assert text.replace("<3>", "") == sample.messages
    went_round = b"\0" not in ring
    assert went_round == sample.name.endswith("-pae")
    assert sample.version in sample.messages
    if sample.machine.os == "openbsd":
        assert "ddb> boot crash" in sample.messages
        for frame in sample.frames[9:]:
            assert f") at {frame.where}\n" in sample.messages
    else:
        start, end = (long_at(kd, va_of(kd, name), sample) for name in ("panicstart", "panicend"))
        assert (ring[start:end] if start < end else ring[start:] + ring[:end]).decode() == sample.panic + "\n"
        for frame in sample.frames[1:]:
            assert f"netbsd:{frame.where}\n" in sample.messages


def test_stack(kd: kvmlib.Kvm, sample: Sample) -> None:
    pcb, n = sample.machine.pcb, sample.machine.long_bytes
    assert pcb is not None
    saved = va_of(kd, "dumppcb")
    registers = {r: int.from_bytes(kd.read(saved + at, size), "little") for r, (at, size) in pcb.fields.items()}
    for i, name in enumerate(pcb.at_sp):
        registers[name] = long_at(kd, registers[pcb.sp] + n * i, sample)
    assert {r: registers[r] for r in sample.registers} == sample.registers
    pc, fp = registers["pc"], registers[pcb.fp]
    for frame in sample.frames[:-1]:
        assert (pc, fp, kd.describe(pc)) == (frame.pc, frame.fp, frame.where)
        assert fp > registers[pcb.sp]
        fp, pc = long_at(kd, fp, sample), long_at(kd, fp + n, sample)
    assert (pc, fp, kd.describe(pc)) == (sample.frames[-1].pc, sample.frames[-1].fp, sample.frames[-1].where)
    with pytest.raises(kvmlib.TranslationError):
        kd.read(fp, n)
    assert "panic" in [f.where.partition("+")[0] for f in sample.frames]
    assert sample.frames[-2].where.startswith("syscall+")


def test_return_addresses_come_after_calls(kd: kvmlib.Kvm, sample: Sample) -> None:
    """The code says the same as the stack: where a frame returns to, the function above it was called."""
    for inner, outer in itertools.pairwise(sample.frames):
        call = kd.read(outer.pc - 5, 5)
        assert call[0] == 0xE8
        target = outer.pc + int.from_bytes(call[1:], "little", signed=True)
        name = inner.where.partition("+")[0]
        if name.startswith("alltraps"):
            assert outer.where.startswith("panic+"), "ddb was entered from panic"
            name = "db_enter"
        assert kd.describe(target) == name


@pytest.mark.parametrize(
    ("head", "at", "names"),
    [("mountlist", 16, ["/", "/home", "/var"]), ("ifnet", None, [None, "lo0"])],
    ids=["mountlist", "ifnet"],
)
def test_lists_can_be_followed(
    kd: kvmlib.Kvm, sample: Sample, head: str, at: int | None, names: list[str | None]
) -> None:
    n = sample.machine.long_bytes
    first = va_of(kd, head)
    va, back = long_at(kd, first, sample), first
    for name in names:
        assert long_at(kd, va + n, sample) == back
        if at is None:
            assert kd.describe(long_at(kd, va + 2 * n, sample)) in ("ether_output", "ip_output")
        text = c_string(kd, va + 2 * n + (n if at is None else at), 16)
        assert text == name if name else len(text) == 3
        back, va = va, long_at(kd, va, sample)
    assert va == 0
    assert long_at(kd, first + n, sample) == back


def test_symbols_lie_in_memory_too(kd: kvmlib.Kvm, sample: Sample, tmp_path: Path) -> None:
    n = sample.machine.long_bytes
    if sample.machine.os == "openbsd":
        start, end = (long_at(kd, va_of(kd, name), sample) for name in ("ssym", "esym"))
    else:
        count = -(-va_of(kd, "end") // PAGE) * PAGE
        start, end = count + n, count + n + long_at(kd, count, sample)
        table = va_of(kd, "kernel_symtab")
        assert long_at(kd, va_of(kd, "ksyms_symtabs"), sample) == table
        assert c_string(kd, long_at(kd, table + 2 * n, sample), 8) == "netbsd"
        names = long_at(kd, table + 6 * n, sample)
        first = int.from_bytes(kd.read(long_at(kd, table + 3 * n, sample), 4), "little")
        assert c_string(kd, names + first, 64) == min(s.name for s in sample.symbols if s.kind.isupper())
        assert 7 * n + 4 * 4 + 5 * n == kd.nlist("kernel_symtab")["kernel_symtab"].size
    carved = tmp_path / "ksyms"
    carved.write_bytes(kd.read(start, end - start))
    assert {(s.name, s.value, s.size) for s in read_elf(carved)} == {(s.name, s.value, s.size) for s in sample.symbols}


def test_ddb_saved_the_registers_at_the_trap(folder: Path) -> None:
    sample = _made("openbsd/amd64", folder)
    with kvmlib.open(sample.image) as kd:
        regs = [long_at(kd, va_of(kd, "ddb_regs") + 8 * i, sample) for i in range(22)]
        assert kd.describe(regs[17]) == "db_enter+0x9"
        assert kd.read(regs[17] - 1, 2) == b"\xcc\xc9", "int3, then what ddb stopped at: leave"
        frame = next(f for f in sample.frames if f.where.startswith("alltraps"))
        assert regs[16] == frame.fp
