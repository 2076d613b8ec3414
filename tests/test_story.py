"""The panic's story: what variables and messages tell, with and without a kernel file."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.__main__ import main
from kvmlib.report import info_data, report_text
from kvmlib.said import Said, parse
from tests.samples import long_at, open_with, poke, poke_long, sample_in, va_of, without_symbols
from tests.test_msgbuf import NAMES, Memory, ring

AMD64 = "openbsd/amd64"


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


@pytest.fixture
def amd64(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, AMD64)


@pytest.fixture
def netbsd(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "netbsd/amd64")


def facts(kd: kvmlib.Kvm) -> dict[str, kvmlib.Fact]:
    return {f.label: f for f in reversed(kvmlib.summary(kd).facts)}


def labels(kd: kvmlib.Kvm) -> list[str]:
    return [f.label for f in kvmlib.summary(kd).facts]


def heard(text: str) -> Said:
    return parse(kvmlib.Messages(text, "symbol msgbufp", None))


def line_of(text: str, start: str) -> int:
    """The number of the last line that begins so."""
    return max(i for i, line in enumerate(text.split("\n")) if line.startswith(start))


def say(sample: kvmlib.Sample, text: str) -> None:
    """Put `text` in the place of the messages of a sample, which keeps its symbols."""
    at = long_at(sample, "msgbufp")
    header = sample.machine.long_bytes * sample.machine.system.msgbuf_longs
    for start in range(0, 4096, 1024):
        poke(sample, at + start, ring(sample, text.encode(), 4096)[start : start + 1024])
    assert len(text) < 4096 - header


# -- every line, with and without a kernel file ----------------------------------------------------------------------


def test_with_the_kernel_file(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        by_label = facts(kd)
        translated = kd.symbols.get("version") is not None and _reads(kd, va_of(sample, "panicstr"))
    assert by_label["PANIC"].text == sample.panic
    # Behind where ddb stopped and the process, or behind "Begin traceback".
    assert by_label["TRACE"].line == line_of(sample.messages, "panic: ") + (4 if sample.machine.os == "openbsd" else 2)
    if translated:
        assert by_label["PANIC"].source in ("symbol panicstr", "symbols panicstart, panicend")
        assert by_label["PHYSMEM"].source == "symbol physmem"
        assert by_label["LOAD"].text == "0.42, 0.31, 0.17"
        assert by_label["MATCH"].va == va_of(sample, "version")
        assert by_label["MATCH"].text.endswith("where the banner is: header, page tables and symbols agree")


def _reads(kd: kvmlib.Kvm, va: int) -> bool:
    try:
        return bool(kd.read(va, 1))
    except kvmlib.KvmError:
        return False


def test_without_a_kernel_file(sample: kvmlib.Sample) -> None:
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    source = "messages (found by searching memory), line "
    said = {label: f for label, f in by_label.items() if f.line is not None}
    wanted = {"PANIC": "panic: ", "PHYSMEM": "real mem" if sample.machine.os == "openbsd" else "total memory"}
    for label, start in wanted.items():
        number = line_of(sample.messages, start)
        assert (said[label].line, said[label].source) == (number, f"{source}{number + 1}")
    assert found.panic == by_label["PANIC"].text == sample.panic
    # The messages have the functions' names.
    assert by_label["WHERE"].text.startswith("ffs_blkfree+0x" if sample.machine.os == "openbsd" else "ffs_valloc+0x")
    assert re.match("1[12] calls: ", by_label["TRACE"].text)
    assert f"({sum(size for _, size in sample.segments)} bytes)" in by_label["PHYSMEM"].text
    for label in ("CRASH", "UPTIME", "HOST", "LOAD", "MATCH"):
        assert "not known: " in by_label[label].text
        assert (by_label[label].source, by_label[label].line) == ("", None)
    # Where the banner is, a place in memory leads to it.
    with kvmlib.open(sample.image) as kd:
        pa = by_label["KERNEL"].pa
        assert pa is not None
        assert sample.machine.system.banner in kd.read_physical(pa - 8, 32)
    if sample.machine.os == "openbsd":
        assert by_label["PROCESS"].text == "rm, pid 51634, tid 204817, uid 1000, on CPU 0"
        assert by_label["DDB"].text == "2 commands typed: show panic; boot crash"


def test_a_line_leads_to_its_message(sample: kvmlib.Sample) -> None:
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        lines = kvmlib.messages(kd).lines
        for fact in kvmlib.summary(kd).facts:
            if fact.line is not None:
                word = {"PHYSMEM": "mem", "CPU": "cpu0", "DDB": "ddb>", "PROCESS": "rm"}.get(
                    fact.label, fact.text.split(": ")[-1].split(" <- ")[0]
                )
                assert word in lines[fact.line], fact


def test_nothing_at_all_is_said_in_sentences(amd64: kvmlib.Sample) -> None:
    memory = Memory(amd64)
    with kvmlib.open(amd64.image) as kd:
        with pytest.raises(kvmlib.KvmError):
            kvmlib.messages(kd)
        by_label = facts(kd)
        report_text(kd)
    assert memory.sample is amd64
    for label in ("PANIC", "WHERE", "CRASH", "UPTIME", "HOST", "CPU", "LOAD"):
        assert "not known: " in by_label[label].text
    assert by_label["MATCH"].text == "not known: there are no symbols that could be compared"


# -- the panic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openbsd/amd64", "openbsd/i386", "openbsd/sparc64", "netbsd/i386"])
def test_panicstr_into_a_struct_cpu_info(name: str, tmp_path: Path) -> None:
    """Newer OpenBSDs have a ci_panicbuf in each struct cpu_info instead of one panicbuf."""
    sample = sample_in(tmp_path, name)
    inside = va_of(sample, "hostname") + 0x40
    poke(sample, inside, b"another way\nto say it\0")
    poke_long(sample, "panicstr", inside)
    with kvmlib.open(sample.image) as kd:
        assert facts(kd)["PANIC"] == kvmlib.Fact("PANIC", "another way to say it", "symbol panicstr", inside)


def faulted(sample: kvmlib.Sample, text: bytes) -> kvmlib.Kvm:
    """The sample as if a page fault had entered ddb: a faultstr, no panicstr."""
    at = va_of(sample, "panicbuf")
    poke(sample, at, text + b"\0")
    poke_long(sample, "panicstr", 0)
    poke_long(sample, "esym", at)
    variable = kvmlib.Symbol("faultstr", va_of(sample, "esym"), sample.machine.long_bytes, "B")
    return open_with(sample, kvmlib.SymbolTable([*sample.symbols, variable], "with faultstr"))


@pytest.mark.parametrize("name", ["openbsd/amd64", "openbsd/i386", "openbsd/sparc64"])
def test_fault_without_a_panic(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    say(sample, sample.version + "uvm_fault(0xd1, 0x0, 0, 1) -> e\nStopped at      ffs_sync+0x1c:\tmovl 0(%eax),%ebx\n")
    with faulted(sample, b"attempt to access user address 0x0 in supervisor mode") as kd:
        found, by_label, order = kvmlib.summary(kd), facts(kd), labels(kd)
    assert by_label["FAULT"].source == "symbol faultstr"
    assert by_label["FAULT"].va == va_of(sample, "panicbuf")
    assert found.panic == by_label["FAULT"].text == "attempt to access user address 0x0 in supervisor mode"
    assert by_label["PANIC"].text == "none: panicstr is a null pointer, as a fault enters ddb without a panic"
    assert order.index("FAULT") + 1 == order.index("PANIC")


def test_fault_is_in_the_messages_too(amd64: kvmlib.Sample) -> None:
    memory = Memory(amd64)
    text = b"kernel: page fault trap, code=0\nStopped at      ffs_sync+0x1c:\tmovl 0(%eax),%ebx\nddb{2}> boot dump\n"
    memory.ring(memory.boot(b"uvm_fault(0xd1, 0x0, 0, 1) -> e\n" + text))
    with kvmlib.open(amd64.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    assert found.panic == by_label["FAULT"].text
    assert by_label["FAULT"].text == "uvm_fault(0xd1, 0x0, 0, 1) -> e; kernel: page fault trap, code=0"
    assert by_label["FAULT"].line == 3
    assert (by_label["WHERE"].text, by_label["WHERE"].line) == ("ffs_sync+0x1c", 5)
    assert by_label["DDB"].text == "1 command typed: boot dump"


def test_fault_that_became_the_panic_is_said_once(amd64: kvmlib.Sample) -> None:
    with faulted(amd64, b"fault all over") as kd:
        poke_long(amd64, "panicstr", va_of(amd64, "panicbuf"))
        assert labels(kd).count("FAULT") == 0
        assert facts(kd)["PANIC"].text == "fault all over"


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("name", ["netbsd/amd64", "netbsd/i386", "netbsd/mipseb"])
def test_ddb_wrote_over_panicstr(name: str, ranged: bool, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    poke(sample, "scratchstr", b"dump forced via kernel debugger\0")
    if not ranged:
        poke_long(sample, "panicstart", 0)
    with kvmlib.open(sample.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    number = line_of(sample.messages, "panic: ")
    source = f"messages (symbol msgbufp), line {number + 1}"
    assert by_label["PANIC"] == kvmlib.Fact("PANIC", sample.panic, source, line=number)
    assert found.panic == sample.panic
    assert by_label["DDB"].text == "put its own words over panicstr: dump forced via kernel debugger"
    assert (by_label["DDB"].source, by_label["DDB"].va) == ("symbol panicstr", va_of(sample, "scratchstr"))


def test_ddb_wrote_over_panicstr_and_the_line_was_lost(netbsd: kvmlib.Sample) -> None:
    """Then there is what panicstart and panicend lead to, without the words before it."""
    poke(netbsd, "scratchstr", b"reboot forced via kernel debugger\0")
    say(netbsd, netbsd.version + "something: its text\n")
    start = len(netbsd.version) + 11
    poke_long(netbsd, "panicstart", start)
    poke_long(netbsd, "panicend", start + 9)
    with kvmlib.open(netbsd.image) as kd:
        assert (facts(kd)["PANIC"].text, facts(kd)["PANIC"].source) == ("its text", "symbols panicstart, panicend")


def test_ddb_forced_a_dump_without_any_panic(netbsd: kvmlib.Sample) -> None:
    poke(netbsd, "scratchstr", b"dump forced via kernel debugger\0")
    poke_long(netbsd, "panicstart", 0)
    say(netbsd, netbsd.version + "fine so far\n[ 7.5] Stopped in pid 0.5 (system) at netbsd:breakpoint+0x5: leave\n")
    with kvmlib.open(netbsd.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    assert found.panic is None
    assert by_label["PANIC"].text == "none: ddb was told to dump, and no message tells of a panic before that"
    assert (by_label["PROCESS"].text, by_label["PROCESS"].line) == ("system, pid 0.5", 3)


def test_a_panic_during_the_panic(netbsd: kvmlib.Sample) -> None:
    say(netbsd, f"{netbsd.version}panic: {netbsd.panic}\npanic: cannot sync\npanic: still not\n")
    with kvmlib.open(netbsd.image) as kd:
        found = [f for f in kvmlib.summary(kd).facts if f.label == "AGAIN"]
    assert [(f.text, f.line) for f in found] == [("panic: cannot sync", 3), ("panic: still not", 4)]


def test_another_kernels_variables_are_not_asked(amd64: kvmlib.Sample) -> None:
    """Where they lead, somebody's text may be."""
    moved = kvmlib.SymbolTable([s._replace(value=s.value + 0x40) for s in amd64.symbols], "another")
    poke_long(amd64, va_of(amd64, "panicstr") + 0x40, va_of(amd64, "ostype"))
    with open_with(amd64, moved) as kd:
        assert facts(kd)["PANIC"].text == amd64.panic
    say(amd64, amd64.version)
    with open_with(amd64, moved) as kd:
        fact = facts(kd)["PANIC"]
    assert fact.text == "not known: no message tells, and the symbols are another kernel's"


def test_the_panic_of_an_older_boot_is_not_this_ones(amd64: kvmlib.Sample) -> None:
    memory = Memory(amd64)
    memory.ring(memory.boot(b"panic: then\n") + memory.boot())
    with kvmlib.open(amd64.image) as kd:
        assert kvmlib.summary(kd).panic is None
    memory.ring(memory.boot(b"panic: then\n") + memory.boot(b"[ 12.5] panic: now\nend\n"))
    with kvmlib.open(amd64.image) as kd:
        assert kvmlib.summary(kd).panic == "now"
        assert facts(kd)["UPTIME"].text == "12 seconds, as the message is stamped"


# -- what messages look like -----------------------------------------------------------------------------------------

BOOT = "NetBSD 9.3 (GENERIC) #0: Thu Aug  4 15:30:37 UTC 2022\n\tmkrepro@mkrepro.NetBSD.org:/usr/src/sys/arch\n"
TRACES = {
    "OpenBSD amd64": "panic() at panic+0x12c\nfoo(1,2) at foo+0x1b\nbar(3) at bar+0x2\nend trace frame: 0x0\n",
    "NetBSD": "vpanic() at netbsd:vpanic+0xa2\npanic() at netbsd:panic+0x3c\nfoo() at netbsd:foo+0x1b\n"
    "bar() at netbsd:bar+0x2\ncpu0: End traceback...\n",
    "NetBSD arm64": "fp ffffc00a vpanic() at ffffc000004a8e0c netbsd:vpanic+0x15c\n"
    "fp ffffc00b foo() at ffffc00000480000 netbsd:foo+0x1b\nfp ffffc00c bar() at ffffc0000001e6d4 netbsd:bar+0x2\n",
    "NetBSD arm": "0x9b6f7d6c: netbsd:vpanic+0x10\n0x9b6f7d84: netbsd:foo+0x1b\n0x9b6f7de4: netbsd:bar+0x2\n",
    "NetBSD powerpc": "0x1ff3dd50: at panic+0x8c\n0x1ff3dd80: at foo+0x1b\n0x1ff3dda0: at bar+0x2\n",
    "NetBSD assertion": "vpanic() at netbsd:vpanic+0xa2\nkern_assert() at netbsd:kern_assert+0x48\n"
    "foo() at netbsd:foo+0x1b\nbar() at netbsd:bar+0x2\n",
    "a trap": "trap() at netbsd:trap+0xd9\n--- trap (number 6) ---\nfoo() at netbsd:foo+0x1b\n"
    "bar() at netbsd:bar+0x2\n",
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
def test_where_by_the_trace(trace: str) -> None:
    found = heard(f"{BOOT}panic: trouble\n{trace}more() at more+0x1\n")
    assert [c.where for c in found.place] in (
        ["foo+0x1b", "bar+0x2"],
        ["foo+0x1b", "bar+0x2", "more+0x1"],
    )
    assert "foo" in found.messages.lines[found.place[0].number]


def test_calls_before_any_trouble_are_no_trace() -> None:
    found = heard(f"{BOOT}probe() at pci0: nothing\nfoo(1) at foo+0x1\n[ 88.000001] all is well\n")
    assert (found.trace, found.commands, found.panics) == ((), (), ())
    assert found.seconds is not None
    assert (found.seconds.text, found.seconds.number) == ("88", 4)


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("real mem = 17163091968 (16367MB)", 17163091968),
        ("real mem  = 49737728 (47MB)", 49737728),
        ("total memory = 4095 MB", 4095 << 20),
        ("total memory = 292 KB", 292 << 10),
    ],
)
def test_memory_by_the_messages(line: str, n: int) -> None:
    assert heard(f"{BOOT}{line}\n").memory == (n, 2)


@pytest.mark.parametrize(
    ("lines", "cpu"),
    [
        ("cpu0 at mainbus0: apid 0 (boot processor)\ncpu0: Some CPU @ 2GHz, 2394.49 MHz\ncpu0: FPU,VME,DE", "Some CPU"),
        ("cpu0: FPU,VME,DE,PSE\ncpu0: Use of nothing", None),
        ("cpu0 at mainbus0: SUNW,UltraSPARC-III+ @ 900 MHz\ncpu0: 32K instruction (32 b/l)", "SUNW,UltraSPARC-III+"),
        ("cpu0: 500.00MHz\npanic: x\ncpu0: Begin traceback...", None),
    ],
)
def test_cpu_by_the_messages(lines: str, cpu: str | None) -> None:
    found = heard(f"{BOOT}{lines}\n").cpu
    assert found is None if cpu is None else found is not None and found.text.startswith(cpu)


def test_version_by_the_messages() -> None:
    found = heard("[ 1.0] " + BOOT)
    assert found.version is not None
    assert found.version.text == " ".join(BOOT.split("\n")).replace("\t", "").strip()


# -- hostile text ----------------------------------------------------------------------------------------------------

EVIL = "\x1b]0;x\x07[red]\u202e\x9b5m"
HOSTILE = (
    f"panic: {EVIL}\nStopped in pid {EVIL} ({EVIL}) at {EVIL}+0x1\n  TID PID UID FLAGS CPU COMMAND\n"
    f"*1 2 3 0 0 0 {EVIL}\nfoo({EVIL}) at foo+0x1\nddb> {EVIL}\nreal mem = {'9' * 4000}\n"
    f"[ {'9' * 30}.1] panic: {EVIL}2\nuvm_fault({EVIL}) -> e\ncpu0: A {EVIL}\n"
)


def test_hostile_messages_never_come_out_raw(sample: kvmlib.Sample, capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory(sample)
    memory.ring(memory.boot(HOSTILE.encode() + b"panic: " + b"A" * 3000))
    for flags in ([], ["--json"]):
        assert main(["info", sample.image, *flags]) == 0
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(out)
        if flags:
            assert json.loads(out)["panic"].startswith("\\x1b]0;x\\x07[red]")
        else:
            assert all(len(line) <= 79 for line in out.split("\n"))


PIECES = (
    "OpenBSD 6.8 ",
    "NetBSD 9.",
    "panic: ",
    "uvm_fault(",
    "fatal trap",
    "a(a) at ",
    "TID PID UID ",
    "cpu0: A ",
    "_",
)


@pytest.mark.parametrize("start", ["", BOOT + "panic: x\n"])
@pytest.mark.parametrize("piece", PIECES)
def test_overlong_lines_are_looked_at_quickly(start: str, piece: str) -> None:
    """What a line costs must not grow with its square: this one would take hours."""
    found = heard(start + piece * ((4 << 20) // len(piece)))
    assert all(len(line.text) <= 1024 for line in (*found.panics, *found.faults, *found.commands))


@given(st.text(alphabet="\n\t [].:;+()->*01a", max_size=400), st.sampled_from(["", BOOT, BOOT + "panic: x\n"]))
def test_any_text_is_parsed(text: str, start: str) -> None:
    found = heard(start + text)
    lines = found.messages.lines
    numbers = [line.number for line in (*found.panics, *found.faults, *found.commands)]
    assert all(0 <= n < len(lines) for n in [*numbers, *(call.number for call in found.trace)])


# -- the kernel file, and what was written over the dump -------------------------------------------------------------


def test_info_has_the_match(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found = json.loads(json.dumps(info_data(kd)))
    assert set(found["match"]) == {"score", "verdict", "reasons", "version_va", "version_pa", "banner_pa"}
    assert found["match"]["version_va"] == va_of(sample, "version")
    assert found["damage"] == []
    assert found["kernel_note"] == ""


def test_a_kernel_beside_the_dump_that_is_anothers(amd64: kvmlib.Sample) -> None:
    m = amd64.machine
    moved = [s._replace(value=s.value + 0x40000) for s in amd64.symbols]
    elf = kvmlib.write_elf(moved, elf_machine=m.elf_machine, bits=64, byteorder=m.byteorder)
    Path(amd64.kernel).write_bytes(elf)
    with kvmlib.open(amd64.image) as kd:
        fact, note = facts(kd)["MATCH"], kd.kernel_note
        assert kd.symbols.path is None
    assert "header, page tables and symbols agree; the kernel beside the dump was left out: " in fact.text
    assert fact.text.endswith(note)


def test_overwritten_is_not_complete(amd64: kvmlib.Sample) -> None:
    with kvmlib.open(amd64.image) as kd:
        pages = [kd.kvatop(s.value & ~0xFFF)[0] for s in amd64.symbols if s.name in ("panic", "uvm_map")]
        offset = kd.pa2off(pages[0])
    with open(amd64.image, "r+b") as f:
        f.seek(offset)
        f.write(b"somebody's letter to somebody else.\n" * 113)
    with kvmlib.open(amd64.image) as kd:
        found, by_label, text, data = kvmlib.summary(kd), facts(kd), report_text(kd), info_data(kd)
    assert (found.state.verdict, found.state.complete) == ("overwritten", False)
    assert by_label["COMPLETE"].text == "no: something else was written over a part of it, as STATE says"
    first = found.state.damage[0]
    assert by_label["COMPLETE"].pa == first.pa == pages[0]
    assert f"pa {first.pa:#x}+{first.size:#x}" in by_label["STATE"].text
    assert f"\nDAMAGE    pa {first.pa:#x} to {first.pa + first.size - 1:#x}: {first.what}\n" in text
    assert data["damage"][0] == {"pa": first.pa, "size": first.size, "what": first.what, "certain": True}


def test_the_map_of_the_damage_has_an_end(amd64: kvmlib.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [kvmlib.Damage(0x1000 * i, 0x800, "noise", i % 2 == 1) for i in range(50)]
    monkeypatch.setattr("kvmlib.dumpstate.damage_map", lambda kd: parts)
    with kvmlib.open(amd64.image) as kd:
        text, data = report_text(kd), info_data(kd)
    assert "DAMAGE    pa 0x1000 to 0x17ff: noise\n          pa 0x3000 to 0x37ff: noise\n" in text
    assert "          and 30 more parts (--json lists all)\n" in text
    assert len(data["damage"]) == 50
