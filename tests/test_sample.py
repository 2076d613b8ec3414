"""Sample dumps: what their makers know of them, the readers must find."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import kvmlib
from kvmlib.namelist import read_elf
from kvmlib.ports.plan import RadixPlan, Wanted
from kvmlib.sample import Sample, make_sample, sample_names
from kvmlib.sample.ram import Frames

BLOCK = 512
PAGE = 4096
EXPECTED = (
    "openbsd/amd64",
    "openbsd/i386",
    "openbsd/i386-pae",
    "netbsd/amd64",
    "netbsd/amd64-sparse",
    "netbsd/i386",
    "netbsd/i386-pae",
    "netbsd/i386-sparse",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@functools.cache
def _made(name: str, folder: Path) -> Sample:
    return make_sample(name, folder)


@pytest.fixture(params=sample_names())
def sample(request: pytest.FixtureRequest, folder: Path) -> Sample:
    return _made(request.param, folder)


def saved_core(sample: Sample, path: Path) -> Path:
    """What savecore(8) makes of the dump: our headers, then memory as it lies on the device."""
    with kvmlib.open(sample.image) as kd, path.open("wb") as core:
        memory = Path(sample.image).read_bytes()[sample.data_off :]
        if sample.machine.ram is not None:
            memory = memory[: sum(s.size for s in sample.segments)]
        kd.dump_wrtheader(core, len(memory))
        core.write(memory)
    return path


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


# -- making them -----------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert set(EXPECTED) <= set(sample_names())


def test_same_bytes_each_time(sample: Sample, tmp_path: Path) -> None:
    again = make_sample(sample.name.upper(), tmp_path)
    for name in ("image", "kernel"):
        assert Path(getattr(again, name)).read_bytes() == Path(getattr(sample, name)).read_bytes()
    moved = dataclasses.replace(again, image=sample.image, kernel=sample.kernel)
    assert moved == sample


def test_small_enough_to_play_with(sample: Sample) -> None:
    assert Path(sample.image).stat().st_size <= 8 << 20
    assert Path(sample.image).name == sample.name.replace("/", "-") + ".img"


def test_unknown_name_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match="no sample 'vax': the samples are openbsd/amd64, ") as e:
        make_sample("vax", tmp_path)
    assert "netbsd/i386-pae" in str(e.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match=r"cannot write the sample .*: No such file"):
        make_sample("openbsd/amd64", tmp_path / "missing")


def test_frames_are_given_out_once_and_aligned() -> None:
    frames = Frames([kvmlib.RamSeg(0, 0x3000), kvmlib.RamSeg(0x5000, 0x9000)], [(0x6800, 0x800)])
    run = frames.alloc(0x4000)
    assert run == 0x8000
    # Neither page 0, nor what was used before, nor anything twice.
    assert sorted(frames.alloc(PAGE) for _ in range(6)) == [0x1000, 0x2000, 0x5000, 0x7000, 0xC000, 0xD000]


# -- opening them ----------------------------------------------------------------------------------------------------


def test_the_machine_is_found_out(sample: Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        assert kd.machine is sample.machine
        assert kd.reading is not None
        assert kd.reading.headers.offset == sample.dump_off
        assert kd.dump_off == sample.data_off
        assert kd.symbols.path == sample.kernel
        # On openbsd/i386 the header lists nothing; its kernel's dumpmem[] does.
        found = [(s.start, s.size, s.present) for s in kd.ram]
    assert found == [(start, size, size) for start, size in sample.segments]


def test_what_only_looks_like_a_header_is_not_taken_for_one(sample: Sample) -> None:
    best, *others = kvmlib.find(sample.image)
    image = Path(sample.image).read_bytes()
    magic = image[sample.dump_off : sample.dump_off + 4]
    hits = [i for i in range(0, len(image), BLOCK) if image[i : i + 4] == magic]
    assert best.offset == sample.dump_off
    assert any(i < sample.dump_off for i in hits), "nothing before the dump looks like a header"
    assert image.count(image[sample.dump_off : sample.data_off]) >= 2, "no copy of the header lies in memory"
    assert all(c.score < best.score for c in others if c.offset != best.offset)


def test_the_dump_lies_where_the_kernel_puts_it(sample: Sample) -> None:
    size = Path(sample.image).stat().st_size
    with kvmlib.open(sample.image) as kd:
        dumplo = long_at(kd, va_of(kd, "dumplo"), sample)
        dumpsize = int.from_bytes(kd.read(va_of(kd, "dumpsize"), 4), "little")
        physmem = int.from_bytes(kd.read(va_of(kd, "physmem"), 4), "little")
    dumped = size - sample.data_off if sample.machine.ram is None else sum(n for _, n in sample.segments)
    assert dumplo * BLOCK == sample.dump_off
    assert dumpsize * PAGE == dumped
    if sample.name.endswith("-sparse"):
        # It begins where a dump of all memory would, and ends early.
        assert sample.dump_off + BLOCK + physmem * PAGE == size
        assert sample.data_off + dumped < size
        assert len(sample.segments) > 20
    else:
        assert sample.data_off + dumped == size


def test_dumpmag_is_fresh(kd: kvmlib.Kvm) -> None:
    assert kd.dumpmag().state == "fresh"


def test_kernel_file_has_all_symbols(sample: Sample) -> None:
    table = read_elf(sample.kernel)
    assert sorted(table) == sorted(sample.symbols)
    functions = [s for s in sample.symbols if s.kind == "T"]
    assert len(functions) > 60
    assert all(s.size for s in sample.symbols if s.name != "end")
    assert all(a.value + a.size <= b.value for a, b in itertools.pairwise(functions))


# -- the address space -----------------------------------------------------------------------------------------------


def points(w: Wanted) -> list[int]:
    """Offsets to look at: each page of what is small, the ends and some of what is large."""
    step = PAGE if w.size <= 1 << 22 else w.size // 1024
    return [*range(0, w.size, step), w.size - 1, w.size // 2 + 123]


def test_mapped_memory_is_what_it_should_be(kd: kvmlib.Kvm, sample: Sample) -> None:
    absent = present = 0
    for w in sample.mapped:
        for at in points(w):
            n = min(64, w.size - at)
            assert kd.kvatop(w.va + at)[0] == w.pa + at
            try:
                expected = sample.read_physical(w.pa + at, n)
            except KeyError:
                absent += 1
                with pytest.raises(kvmlib.NotInDumpError):
                    kd.read(w.va + at, n)
            else:
                present += 1
                assert kd.read(w.va + at, n) == expected
    assert absent
    assert present > 100


def test_nothing_else_is_mapped(kd: kvmlib.Kvm, sample: Sample) -> None:
    assert sample.machine.sample is not None
    variant = sample.name.partition("-")[2].replace("sparse", "")
    plan = next(s for s in sample.machine.sample.spaces if s.variant == variant)
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
    assert len(sample.unmapped) > 3
    for va, size in sample.unmapped:
        for at in range(0, size, PAGE):
            with pytest.raises(kvmlib.TranslationError):
                kd.kvatop(va + at)
        assert [s.kind for s in kd.spans(va, size)] == ["unmapped"]
    with pytest.raises(kvmlib.TranslationError, match="which is not in the dump"):
        kd.kvatop(sample.lost)
    assert kd.walk(sample.lost)[-1].outcome == "unreadable"
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


# -- what the kernel has to say --------------------------------------------------------------------------------------


def test_texts(kd: kvmlib.Kvm, sample: Sample) -> None:
    title = sample.machine.system.title
    assert text_at(kd, "version") == sample.version
    assert sample.version.startswith(f"{title} ")
    assert sample.version.count("\n") == 2
    assert text_at(kd, "ostype") == title
    assert text_at(kd, "osrelease") in sample.version
    assert text_at(kd, "hostname") == sample.hostname
    assert sample.hostname.endswith(".example.org")
    assert c_string(kd, long_at(kd, va_of(kd, "panicstr"), sample)) == sample.panic
    assert text_at(kd, "cpu_model" if title == "OpenBSD" else "cpu_brand_string")
    assert sample.panic in sample.messages


def test_numbers(kd: kvmlib.Kvm, sample: Sample) -> None:
    sizes = {"dumplo": sample.machine.long_bytes, "msgbufp": sample.machine.long_bytes, "time_second": 8}
    sizes |= {"dumpsize": 4, "time_uptime": 8, "physmem": 4, "hostnamelen": 4}
    for name, size in sizes.items():
        assert int.from_bytes(kd.read(va_of(kd, name), size), "little") == sample.values[name]
    assert kd.nlist("dumpmag")["dumpmag"].size == sample.machine.dumpmag_bytes
    up = sample.values["time_uptime"]
    assert 0 < up < 30 * 86400


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


def test_text_in_memory_is_the_kernel_files(kd: kvmlib.Kvm, sample: Sample) -> None:
    with Path(sample.kernel).open("rb") as f:
        elf = ELFFile(f)
        for name in (".text", ".rodata"):
            section = elf.get_section_by_name(name)
            assert section is not None
            assert kd.read(section["sh_addr"], section["sh_size"]) == section.data()


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
