"""Sample dumps of every machine: what their makers know of them, the readers must find."""

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import kvmlib
from kvmlib.namelist import read_elf
from kvmlib.ports.plan import RadixPlan, Wanted, in_window
from kvmlib.sample import Sample, make_sample, sample_names
from kvmlib.sample.ram import Frames
from kvmlib.translate import Mapping
from kvmlib.translate.linear import Window

BLOCK = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@functools.cache
def _made(name: str, folder: Path) -> Sample:
    return make_sample(name, folder)


@pytest.fixture(scope="module", params=sample_names())
def sample(request: pytest.FixtureRequest, folder: Path) -> Iterator[Sample]:
    made = _made(request.param, folder)
    yield made
    # Dozens of images are too much to keep.
    _made.cache_clear()
    for path in folder.glob("*"):
        path.unlink()


def saved_core(sample: Sample, path: Path) -> Path:
    """What savecore(8) makes of the dump: our headers, then memory as it lies on the device."""
    with kvmlib.open(sample.image) as kd, path.open("wb") as core:
        memory = Path(sample.image).read_bytes()[sample.data_off :]
        if kd.reading is not None and kd.reading.size is not None:
            memory = memory[: sum(s.size for s in sample.segments)]
        kd.dump_wrtheader(core, len(memory))
        core.write(memory)
    return path


@pytest.fixture(scope="module", params=["device", "savecore"])
def kd(request: pytest.FixtureRequest, sample: Sample, folder: Path) -> Iterator[kvmlib.Kvm]:
    if request.param == "device":
        dump = kvmlib.open(sample.image)
    else:
        dump = kvmlib.open(saved_core(sample, folder / "bsd.0.core"), system=sample.kernel)
    with dump:
        assert dump.form == request.param
        yield dump


# -- what is in the kernel's variables, whether or not it can be reached by translation ------------------------------


def reached(sample: Sample, va: int) -> bool:
    return any(w.va <= va < w.va + w.size for w in sample.mapped)


def at(kd: kvmlib.Kvm, sample: Sample, va: int, n: int) -> bytes:
    """What is at a va of the kernel's image: by translation where there is one."""
    if reached(sample, va) and reached(sample, va + n - 1):
        return kd.read(va, n)
    return kd.read_physical(va + sample.kernel_offset, n)


def va_of(sample: Sample, name: str) -> int:
    return next(s.value for s in sample.symbols if s.name == name)


def variable(kd: kvmlib.Kvm, sample: Sample, name: str, n: int) -> int:
    return int.from_bytes(at(kd, sample, va_of(sample, name), n), sample.machine.byteorder)


def text_at(kd: kvmlib.Kvm, sample: Sample, name: str) -> str:
    symbol = next(s for s in sample.symbols if s.name == name)
    return at(kd, sample, symbol.value, symbol.size).partition(b"\0")[0].decode()


# -- making them -----------------------------------------------------------------------------------------------------


def test_every_machine_has_one() -> None:
    made = {name.partition("-")[0] for name in sample_names()}
    assert made == {m.name for m in kvmlib.machines()}


def test_same_bytes_each_time(sample: Sample, tmp_path: Path) -> None:
    again = make_sample(sample.name.upper(), tmp_path)
    for name in ("image", "kernel"):
        assert Path(getattr(again, name)).read_bytes() == Path(getattr(sample, name)).read_bytes()
    assert dataclasses.replace(again, image=sample.image, kernel=sample.kernel) == sample


def test_small_enough_to_play_with(sample: Sample) -> None:
    assert Path(sample.image).stat().st_size <= 8 << 20
    assert Path(sample.image).name == sample.name.replace("/", "-") + ".img"


def test_unknown_name_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match="no sample 'pdp11': the samples are openbsd/") as e:
        make_sample("pdp11", tmp_path)
    assert "netbsd/i386-pae" in str(e.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(kvmlib.KvmError, match=r"cannot write the sample .*: No such file"):
        make_sample("openbsd/amd64", tmp_path / "missing")


def test_frames_are_given_out_once_and_aligned() -> None:
    frames = Frames([kvmlib.RamSeg(0, 0x3000), kvmlib.RamSeg(0x5000, 0x9000)], [(0x6800, 0x800)], 4096)
    run = frames.alloc(0x4000)
    assert run == 0x8000
    # Neither page 0, nor what was used before, nor anything twice.
    assert frames.take(0x7000) == 0x7000
    small = [frames.alloc(n) for n in (512, 1024, 512)]
    page = small[0]
    assert page % 4096 == 0
    assert small == [page, page + 1024, page + 2048]
    others = [frames.alloc(4096) for _ in range(4)]
    assert sorted([page, *others]) == [0x1000, 0x2000, 0x5000, 0xC000, 0xD000]


# -- opening them ----------------------------------------------------------------------------------------------------


def test_the_machine_is_found_out(sample: Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        assert kd.machine == sample.machine
        assert kd.doubt == ""
        assert kd.reading is not None
        assert kd.reading.headers.offset == sample.dump_off
        assert kd.dump_off == sample.data_off
        assert kd.symbols.path == sample.kernel
        found = [(s.start, s.size, s.present) for s in kd.segments if s.size]
        if kd.reading.segments is None and not found:
            assert kd.ram[0].start == 0
            return
    assert found == [(start, size, size) for start, size in sample.segments]


def test_what_only_looks_like_a_header_is_not_taken_for_one(sample: Sample) -> None:
    best, *others = kvmlib.find(sample.image)
    image = Path(sample.image).read_bytes()
    magic = image[sample.dump_off : sample.dump_off + 4]
    hits = [i for i in range(0, len(image), BLOCK) if image[i : i + 4] == magic]
    assert best.offset == sample.dump_off
    assert any(i < sample.dump_off for i in hits), "nothing before the dump looks like a header"
    block = image[sample.dump_off : sample.dump_off + BLOCK]
    assert image.count(block) >= 2, "no copy of the header lies in memory"
    assert all(c.score < best.score for c in others if c.offset != best.offset)


def test_the_dump_lies_where_the_kernel_puts_it(sample: Sample) -> None:
    size = Path(sample.image).stat().st_size
    page = sample.machine.page_size
    with kvmlib.open(sample.image) as kd:
        dumplo = variable(kd, sample, "dumplo", sample.machine.long_bytes)
        dumpsize, physmem = (variable(kd, sample, name, 4) for name in ("dumpsize", "physmem"))
    dumped = size - sample.data_off if sample.machine.ram is None else sum(n for _, n in sample.segments)
    assert dumplo * BLOCK == sample.dump_off
    assert dumpsize * page == dumped
    if sample.name.endswith("-sparse"):
        # It begins where a dump of all memory would, and ends early.
        assert sample.dump_off + BLOCK + physmem * page == size
        assert sample.data_off + dumped < size
        assert len(sample.segments) > 20
    else:
        assert sample.data_off + dumped == size


def test_kernel_file_has_all_symbols(sample: Sample) -> None:
    table = read_elf(sample.kernel)
    assert sorted(table) == sorted(sample.symbols)
    assert table.elf_machine == sample.machine.elf_machine
    functions = [s for s in sample.symbols if s.kind == "T"]
    assert len(functions) > 60
    assert all(s.size for s in sample.symbols if s.name != "end")
    assert all(a.value + a.size <= b.value for a, b in itertools.pairwise(functions))


def test_header_is_explained_to_the_last_byte(kd: kvmlib.Kvm) -> None:
    for form in ("device", "savecore"):
        raw = kvmlib.header_bytes(kd, form)
        leaves: list[kvmlib.Field] = []
        todo = list(kvmlib.header_fields(kd, form))
        while todo:
            f = todo.pop(0)
            todo[:0] = f.children
            leaves += [] if f.children else [f]
        assert b"".join(f.raw for f in leaves) == raw
        assert [f.offset for f in leaves] == [0, *itertools.accumulate(f.size for f in leaves)][:-1]
        assert all(f.text and f.meaning for f in leaves)


def test_registers_say_what_they_are(kd: kvmlib.Kvm) -> None:
    assert kd.machine is not None
    for r in kd.registers:
        assert 0 <= r.value < 1 << r.width
        assert r.meaning
    names = [r.name for r in kd.registers]
    assert len(set(names)) == len(names)
    if kd.machine.cpu_hdr is not None and "dummy" not in kd.cpu_hdr:
        assert names


def test_saved_core_is_the_same_dump(sample: Sample, folder: Path) -> None:
    with kvmlib.open(sample.image) as device, kvmlib.open(saved_core(sample, folder / "bsd.1.core")) as core:
        core.set_symbols(device.symbols)
        assert core.machine == device.machine
        assert core.kcore_hdr == device.kcore_hdr
        # Rounded up to the machine's alignment.
        assert core.cpu_data[: len(device.cpu_data)] == device.cpu_data
        assert dict(core.cpu_hdr) == dict(device.cpu_hdr)
        assert core.registers == device.registers
        assert [(s.start, s.size, s.present) for s in core.segments] == [
            (s.start, s.size, s.present) for s in device.segments
        ]
        assert list(core.mappings()) == list(device.mappings())
        for w in sample.mapped:
            assert core.kvatop(w.va) == device.kvatop(w.va)


# -- the address space -----------------------------------------------------------------------------------------------


def points(w: Wanted, page: int) -> list[int]:
    """Offsets to look at: each page of what is small, the ends and some of what is large."""
    step = page if w.size <= 1 << 22 else w.size // 1024
    return [*range(0, w.size, step), w.size - 1, w.size // 2 + 123]


def test_mapped_memory_is_what_it_should_be(kd: kvmlib.Kvm, sample: Sample) -> None:
    absent = present = 0
    for w in sample.mapped:
        for offset in points(w, sample.machine.page_size):
            n = min(64, w.size - offset)
            assert kd.kvatop(w.va + offset)[0] == w.pa + offset
            try:
                expected = sample.read_physical(w.pa + offset, n)
            except KeyError:
                absent += 1
                with pytest.raises(kvmlib.NotInDumpError):
                    kd.read(w.va + offset, n)
            else:
                present += 1
                assert kd.read(w.va + offset, n) == expected
    if sample.space.levels:
        assert absent
    assert present > 10 or not sample.space.translates


def without_windows(kd: kvmlib.Kvm, windows: tuple[Window, ...]) -> Iterator[Mapping]:
    return (Mapping(*m) for m in kd.translator.ranges(0, 1 << kd.translator.bits) if in_window(windows, m[0]) is None)


def test_nothing_else_is_mapped(kd: kvmlib.Kvm, sample: Sample) -> None:
    plan = sample.space
    own = range(0)
    if isinstance(plan, RadixPlan) and plan.self_map is not None:
        # Root entries through which the tables show themselves.
        top = plan.paging.levels[0]
        own = range(plan.self_map << top.shift, (plan.self_map + (4 if top.bits == 11 else 1)) << top.shift)
    found = [m for m in without_windows(kd, plan.windows) if m.va not in own and m.flags != ("assumed",)]
    wanted = [w for w in sample.mapped if in_window(plan.windows, w.va) is None]
    assert sum(m.size for m in found) == sum(w.size for w in wanted)
    pa_of = {m.va: m for m in found}
    for w in wanted:
        assert pa_of[w.va].pa == w.pa


def test_mappings_walk_and_kvatop_agree(kd: kvmlib.Kvm, sample: Sample) -> None:
    dice = random.Random(sample.name)
    last = 0
    top = 1 << kd.translator.bits
    edges: set[int] = set()
    for m in kd.mappings():
        assert m.va >= last
        last = m.va + m.size
        edges |= {m.va - 1, m.va, m.va + m.size - 1, m.va + m.size, dice.randrange(m.va, m.va + m.size)}
        for va in (m.va, m.va + m.size // 2, m.va + m.size - 1):
            pa, n = kd.kvatop(va)
            assert pa == m.pa + va - m.va
            assert n > 0
    edges |= {dice.randrange(top) for _ in range(50)}
    for va in edges - {-1, top}:
        end = kd.walk(va)[-1]
        try:
            pa = kd.kvatop(va)[0]
        except kvmlib.TranslationError as e:
            assert end.outcome in ("invalid", "unreadable", "outside"), hex(va)
            assert end.note
            assert e.size >= 1
        else:
            assert (end.outcome in ("page", "window"), end.pa) == (True, pa), hex(va)


def test_holes(kd: kvmlib.Kvm, sample: Sample) -> None:
    for va, size in sample.unmapped:
        for offset in range(0, size, sample.machine.page_size):
            with pytest.raises(kvmlib.TranslationError):
                kd.kvatop(va + offset)
        assert [s.kind for s in kd.spans(va, size)] == ["unmapped"]
    if sample.space.levels:
        assert len(sample.unmapped) > 3
    if sample.lost is not None:
        with pytest.raises(kvmlib.TranslationError, match="which is not in the dump"):
            kd.kvatop(sample.lost)
        assert kd.walk(sample.lost)[-1].outcome == "unreadable"


# -- what the kernel has to say --------------------------------------------------------------------------------------


def test_texts(kd: kvmlib.Kvm, sample: Sample) -> None:
    title = sample.machine.system.title
    assert text_at(kd, sample, "version") == sample.version
    assert sample.version.startswith(f"{title} ")
    assert sample.version.count("\n") == 2
    assert text_at(kd, sample, "ostype") == title
    assert text_at(kd, sample, "osrelease") in sample.version
    assert text_at(kd, sample, "hostname") == sample.hostname
    assert sample.hostname.endswith(".example.org")
    buffer = "panicbuf" if title == "OpenBSD" else "scratchstr"
    assert variable(kd, sample, "panicstr", sample.machine.long_bytes) == va_of(sample, buffer)
    assert text_at(kd, sample, buffer) == sample.panic
    assert text_at(kd, sample, "cpu_model" if title == "OpenBSD" else "cpu_brand_string")
    assert sample.panic in sample.messages


def test_numbers(kd: kvmlib.Kvm, sample: Sample) -> None:
    sizes = {"dumplo": sample.machine.long_bytes, "msgbufp": sample.machine.long_bytes, "time_second": 8}
    sizes |= {"dumpsize": 4, "time_uptime": 8, "physmem": 4, "hostnamelen": 4}
    for name, size in sizes.items():
        assert variable(kd, sample, name, size) == sample.values[name]
    mag = next(s for s in sample.symbols if s.name == "dumpmag")
    assert mag.size == sample.machine.dumpmag_bytes
    assert variable(kd, sample, "dumpmag", mag.size) in sample.machine.dumpmag
    if reached(sample, mag.value):
        assert kd.dumpmag().state == "fresh"


def test_message_buffer(kd: kvmlib.Kvm, sample: Sample) -> None:
    longs, n, order = sample.machine.system.msgbuf_longs, sample.machine.long_bytes, sample.machine.byteorder
    va = variable(kd, sample, "msgbufp", n)
    if not reached(sample, va):
        found = kvmlib.messages(kd)
        assert (found.text, found.va) == (sample.messages, None)
        assert found.source.startswith("found by searching memory")
        return
    header = kd.read(va, longs * n)
    magic, bufx, bufr, bufs, *dropped = (int.from_bytes(header[n * i : n * i + n], order) for i in range(longs))
    assert magic == 0x063061
    assert bufx <= bufs
    assert bufr <= bufs
    assert dropped == [0] * (longs - 4)
    assert (longs * n + bufs) % sample.machine.page_size == 0
    assert kvmlib.messages(kd).text == sample.messages
    assert sample.version in sample.messages


def test_summary_and_report_of_every_machine(kd: kvmlib.Kvm, sample: Sample) -> None:
    """Whatever can be known is told, and nothing raises."""
    found = {f.label: f.text for f in kvmlib.summary(kd).facts}
    assert found["MACHINE"].startswith(sample.machine.name)
    if reached(sample, va_of(sample, "version")):
        assert sample.hostname in found["HOST"]
        assert sample.panic in found["PANIC"]


def test_text_in_memory_is_the_kernel_files(kd: kvmlib.Kvm, sample: Sample) -> None:
    with Path(sample.kernel).open("rb") as f:
        elf = ELFFile(f)
        for name in (".text", ".rodata"):
            section = elf.get_section_by_name(name)
            assert section is not None
            assert at(kd, sample, section["sh_addr"], section["sh_size"]) == section.data()


def test_registers_that_the_dump_code_saved(kd: kvmlib.Kvm, sample: Sample) -> None:
    pcb = sample.machine.pcb
    if pcb is None:
        with pytest.raises(kvmlib.KvmError, match="saves no registers"):
            kvmlib.panic_registers(kd)
        return
    if not reached(sample, va_of(sample, "dumppcb")):
        with pytest.raises(kvmlib.TranslationError):
            kvmlib.panic_registers(kd)
        return
    found = {r.name: r.value for r in kvmlib.panic_registers(kd)}
    bias = sample.machine.frames[0].bias if sample.machine.frames else 0
    # What lies on a stack that can't be reached isn't told.
    at_sp = set(pcb.at_sp) if reached(sample, found[pcb.sp] + bias) else set()
    wanted = {name: value for name, value in sample.registers.items() if name in pcb.fields or name in at_sp}
    assert pcb.sp in wanted
    assert {name: found[name] for name in wanted} == wanted
    assert "" not in found
    if reached(sample, found[pcb.sp] + bias):
        assert (found[pcb.sp] + bias) % sample.machine.long_bytes == 0
    assert kvmlib.stack(kd).frames or not pcb.fp
