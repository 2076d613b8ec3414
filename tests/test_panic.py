"""What a dump tells of the panic, against what the samples' maker and the recorded answers say."""

import dataclasses
import gzip
import hashlib
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.samples import (
    NAMES,
    file_offset,
    long_at,
    open_with,
    poke,
    poke_long,
    sample_in,
    truncate,
    va_of,
    without_symbols,
)
from tests.test_savecore import VECTORS


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


@pytest.fixture
def amd64(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/amd64")


@pytest.fixture(params=["openbsd/amd64", "netbsd/i386"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, request.param)


def facts(kd: kvmlib.Kvm) -> dict[str, kvmlib.Fact]:
    return {f.label: f for f in reversed(kvmlib.summary(kd).facts)}


def joined(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


# -- samples ---------------------------------------------------------------------------------------------------------


def test_summary(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    assert found.version == joined(sample.version)
    assert found.panic == sample.panic
    assert found.crashed == datetime.fromtimestamp(sample.values["time_second"], UTC)
    assert found.dumpmag is not None
    assert (found.dumpmag.va, found.dumpmag.state) == (va_of(sample, "dumpmag"), "fresh")
    assert (found.state.verdict, found.state.complete) == ("fresh", True)
    assert by_label["KERNEL"] == kvmlib.Fact(
        "KERNEL", joined(sample.version), "symbol version", va_of(sample, "version")
    )
    assert by_label["HOST"] == kvmlib.Fact("HOST", sample.hostname, "symbol hostname", va_of(sample, "hostname"))
    assert by_label["CRASH"].text.startswith(f"{found.crashed:%Y-%m-%d %H:%M:%S} UTC")
    booted = found.crashed.timestamp() - sample.values["time_uptime"]
    assert f"booted {datetime.fromtimestamp(booted, UTC):%Y-%m-%d %H:%M:%S} UTC" in by_label["UPTIME"].text
    assert by_label["LOAD"].text == "0.42, 0.31, 0.17"
    assert by_label["SYMBOLS"].text.startswith(f"{len(sample.symbols) + len(sample.modules)} from ")
    assert "NOT MATCH" not in by_label["SYMBOLS"].text
    assert by_label["DUMP"].text.endswith(f"dump device, header at {sample.dump_off:#x}")
    assert by_label["MACHINE"].text.startswith(sample.machine.name)
    total = sum(s.size for s in sample.segments)
    assert f"({total} bytes) in {len(sample.segments)} segments" in by_label["MEMORY"].text
    assert by_label["PANIC"].text == sample.panic


def test_every_fact_says_where_it_was_found(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found = kvmlib.summary(kd).facts
        assert len(found) > 10
        for fact in found:
            assert fact.source, fact
            assert fact.text, fact
            if fact.va is not None and fact.label != "WHERE":
                assert kd.read(fact.va, 1), fact


def test_where_is_the_caller_of_panic(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        fact, found = facts(kd)["WHERE"], kvmlib.stack(kd)
    called = [f.where for f in sample.frames]
    after = max(i for i, where in enumerate(called) if where.partition("+")[0] in ("panic", "vpanic")) + 1
    assert fact.text == " <- ".join(called[after : after + 3])
    assert fact.va == sample.frames[after].pc
    assert found.panicked is not None
    assert found.panicked.pc == sample.frames[after].pc


def test_messages(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found = kvmlib.messages(kd)
    assert found.text == sample.messages
    assert found.va == long_at(sample, "msgbufp")
    assert "<3>" not in found.text
    assert found.lines == sample.messages.split("\n")


def test_registers(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found = {r.name: r for r in kvmlib.panic_registers(kd)}
    # All that the samples' maker put there, and what it left zero.
    assert {name: r.value for name, r in found.items() if r.value or name in sample.registers} == dict(sample.registers)
    assert all(r.width == 8 * sample.machine.long_bytes for r in found.values())
    assert found["pc"].decoded == sample.frames[0].where


def test_stack(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image) as kd:
        found = kvmlib.stack(kd)
    assert [(f.pc, f.where) for f in found.frames] == [(f.pc, f.where) for f in sample.frames]
    assert "a user process's" in found.end


def test_saved_core_answers_the_same(sample: kvmlib.Sample, tmp_path: Path) -> None:
    folder = tmp_path / "crash"
    folder.mkdir()
    with kvmlib.open(sample.image) as kd:
        on_device = kvmlib.summary(kd), kvmlib.messages(kd), kvmlib.panic_registers(kd), kvmlib.stack(kd)
        saved = kvmlib.save(kd, folder, force=True)
    with kvmlib.open(saved.core) as kd:
        in_core = kvmlib.summary(kd), kvmlib.messages(kd), kvmlib.panic_registers(kd), kvmlib.stack(kd)
    assert in_core[1:] == on_device[1:]
    for name in ("version", "panic", "crashed"):
        assert getattr(in_core[0], name) == getattr(on_device[0], name)
    # Only the words about the file differ.
    differ = {a.label for a, b in zip(in_core[0].facts, on_device[0].facts, strict=True) if a != b}
    assert differ <= {"DUMP", "MACHINE", "STATE", "COMPLETE", "SYMBOLS", "MEMORY"}
    assert "saved core" in {f.label: f for f in in_core[0].facts}["DUMP"].text


# -- states ----------------------------------------------------------------------------------------------------------


def test_cleared_dumpmag_is_a_saved_dump(sample: kvmlib.Sample) -> None:
    with kvmlib.open(sample.image, write=True) as kd:
        kd.dump_inval()
    with kvmlib.open(sample.image) as kd:
        state = kvmlib.summary(kd).state
    assert (state.verdict, state.complete) == ("saved", True)
    assert "dumpmag is 0x0, cleared" in state.reasons[-1]


def test_dumpmag_that_is_neither(either: kvmlib.Sample) -> None:
    poke(either, "dumpmag", b"\x78\x56\x34\x12")
    with kvmlib.open(either.image) as kd:
        state = kvmlib.summary(kd).state
    assert state.verdict == "unknown"
    assert "dumpmag is 0x12345678, which proves nothing" in state.reasons[-1]


def test_truncated(sample: kvmlib.Sample) -> None:
    truncate(sample, Path(sample.image).stat().st_size - 8192)
    with kvmlib.open(sample.image) as kd:
        state, fact = kvmlib.summary(kd).state, facts(kd)["COMPLETE"]
    assert (state.verdict, state.complete) == ("truncated", False)
    assert "8192 bytes before the memory does" in state.reasons[0]
    assert fact.text.startswith("no: 8.0 KiB (8192 bytes) of ")


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/amd64", "netbsd/i386-pae"])
def test_header_only(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    truncate(sample, sample.data_off)
    with kvmlib.open(sample.image, machine=sample.machine) as kd:
        found = kvmlib.summary(kd)
    assert (found.state.verdict, found.state.complete) == ("header only", False)
    assert (found.version, found.panic, found.dumpmag, found.crashed) == (None, None, None, None)


def test_header_only_where_the_header_lists_nothing(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    truncate(sample, sample.data_off)
    with kvmlib.open(sample.image, dump_off=sample.dump_off, machine=sample.machine) as kd:
        found = kvmlib.summary(kd)
    assert (found.state.verdict, found.state.complete) == ("header only", False)


# -- without the right kernel ----------------------------------------------------------------------------------------


def test_without_symbols(sample: kvmlib.Sample) -> None:
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
        for ask in (kvmlib.panic_registers, kvmlib.stack):
            with pytest.raises(kvmlib.SymbolError, match="is needed, and no kernel file was given"):
                ask(kd)
        # The messages are found by searching memory, and they hold the panic.
        assert kvmlib.messages(kd).text == sample.messages
    assert found.state.verdict == "unknown"
    assert (found.panic, found.dumpmag, found.crashed) == (sample.panic, None, None)
    assert by_label["CRASH"].text.startswith("time not known: ")
    # The version is found without, by looking for it.
    assert found.version is not None
    assert found.version.startswith(sample.version.split(":")[0])
    assert "found by searching memory" in by_label["KERNEL"].source


def moved(sample: kvmlib.Sample, by: int) -> kvmlib.SymbolTable:
    return kvmlib.SymbolTable([s._replace(value=s.value + by) for s in sample.symbols], "another kernel")


def test_wrong_kernel_is_said_loudly(sample: kvmlib.Sample) -> None:
    with open_with(sample, moved(sample, 0x40)) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    # Without its kernel's variables openbsd/i386's memory can't be translated, so that nothing can be compared.
    untranslated = sample.machine.name == "openbsd/i386"
    start = "not proven: " if untranslated else "THIS KERNEL DOES NOT MATCH (other, score "
    assert by_label["MATCH"].text.startswith(start)
    # The messages tell what the variables can't.
    assert found.panic == sample.panic
    assert by_label["PANIC"].source.startswith("messages (found by searching memory), line ")
    assert found.state.verdict == "unknown"
    # That the version is known all the same is because it was searched for.
    assert found.version is not None
    assert "found by searching" in by_label["KERNEL"].source


@pytest.mark.parametrize("by", [0x1, 0x40, 0x1000, 0x200000, 0x40000000, -0x100000])
def test_wrong_kernel_never_fails(either: kvmlib.Sample, by: int) -> None:
    with open_with(either, moved(either, by)) as kd:
        assert kvmlib.summary(kd).facts
        kvmlib.report_text(kd)


# -- damaged memory --------------------------------------------------------------------------------------------------

UNMAPPED = 0x1000


def test_panicstr_is_null(amd64: kvmlib.Sample) -> None:
    poke_long(amd64, "panicstr", 0)
    with kvmlib.open(amd64.image) as kd:
        fact = facts(kd)["PANIC"]
    # The messages have it as well.
    number = amd64.messages.split("\n").index(f"panic: {amd64.panic}")
    source = f"messages (symbol msgbufp), line {number + 1}"
    assert fact == kvmlib.Fact("PANIC", amd64.panic, source, line=number)


def test_panicstr_is_null_and_no_messages(amd64: kvmlib.Sample) -> None:
    poke_long(amd64, "panicstr", 0)
    poke_long(amd64, "msgbufp", 0)
    with kvmlib.open(amd64.image) as kd:
        found, fact = kvmlib.summary(kd), facts(kd)["PANIC"]
        assert kvmlib.messages(kd).source.startswith("found by searching memory")
    assert found.panic == amd64.panic
    assert fact.source.startswith("messages (found by searching memory), line ")


def test_panicstr_points_nowhere(amd64: kvmlib.Sample) -> None:
    poke_long(amd64, "panicstr", UNMAPPED)
    poke_long(amd64, "msgbufp", UNMAPPED)
    with kvmlib.open(amd64.image) as kd:
        fact = facts(kd)["PANIC"]
        assert kvmlib.messages(kd).source.startswith("found by searching memory")
    assert (fact.text, fact.source[:35]) == (amd64.panic, "messages (found by searching memory)"[:35])


@pytest.mark.parametrize(("value", "why"), [(0, "is a null pointer"), (UNMAPPED, "points to 0x1000, where no text is")])
def test_nothing_tells_of_a_panic(amd64: kvmlib.Sample, value: int, why: str) -> None:
    """Neither panicstr nor any message, as the buffer was lost."""
    poke_long(amd64, "panicstr", value)
    poke(amd64, long_at(amd64, "msgbufp"), bytes(8))
    with kvmlib.open(amd64.image) as kd:
        found, fact = kvmlib.summary(kd), facts(kd)["PANIC"]
        with pytest.raises(kvmlib.KvmError):
            kvmlib.messages(kd)
    assert found.panic is None
    assert f"panicstr {why}" in fact.text


@pytest.mark.parametrize(("start", "end"), [(0, 5), (5, 0), (7, 7), (0xFFFFFFFF, 5), (5, 0xFFFFFFFF)])
def test_netbsd_panic_range_that_is_none(tmp_path: Path, start: int, end: int) -> None:
    sample = sample_in(tmp_path, "netbsd/i386")
    poke_long(sample, "panicstart", start)
    poke_long(sample, "panicend", end)
    with kvmlib.open(sample.image) as kd:
        fact = facts(kd)["PANIC"]
    assert (fact.text, fact.source) == (sample.panic, "symbol panicstr")


def test_netbsd_panic_range_around_the_end_of_the_buffer(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/i386")
    longs = 4 * sample.machine.long_bytes
    at = long_at(sample, "msgbufp")
    with kvmlib.open(sample.image) as kd:
        room = struct.unpack("<I", kd.read(at + 12, 4))[0]
    poke(sample, at + longs + room - 6, b"panic:")
    poke(sample, at + longs, b" around\n")
    poke_long(sample, "panicstart", room - 6)
    poke_long(sample, "panicend", 8)
    poke(sample, "scratchstr", b"aro\0")
    with kvmlib.open(sample.image) as kd:
        assert (facts(kd)["PANIC"].text, facts(kd)["PANIC"].source) == ("around", "symbols panicstart, panicend")


def test_netbsd_without_the_range(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    table = kvmlib.SymbolTable([s for s in sample.symbols if s.name != "panicstart"], "an older kernel")
    with open_with(sample, table) as kd:
        assert (facts(kd)["PANIC"].text, facts(kd)["PANIC"].source) == (sample.panic, "symbol panicstr")


@pytest.mark.parametrize("bufs", [0, 0x4000001, 0xFFFFFFFF])
def test_message_buffer_with_a_size_that_cannot_be(either: kvmlib.Sample, bufs: int) -> None:
    at = long_at(either, "msgbufp")
    poke_long(either, at + 3 * either.machine.long_bytes, bufs)
    with kvmlib.open(either.image) as kd, pytest.raises(kvmlib.FormatError, match=f"claims to hold {bufs:#x} bytes"):
        kvmlib.messages(kd)


def test_message_buffer_with_another_magic(either: kvmlib.Sample) -> None:
    poke_long(either, long_at(either, "msgbufp"), 0x1234)
    with kvmlib.open(either.image) as kd, pytest.raises(kvmlib.FormatError, match="where 0x1234 is"):
        kvmlib.messages(kd)


def test_message_index_out_of_range_begins_at_zero(either: kvmlib.Sample) -> None:
    at, size = long_at(either, "msgbufp"), either.machine.long_bytes
    poke_long(either, at + size, 0x7FFFFFFF)
    poke(either, at + either.machine.system.msgbuf_longs * size, b"OLDEST")
    with kvmlib.open(either.image) as kd:
        text = kvmlib.messages(kd).text
    assert text.startswith("OLDEST")
    assert "bytes of the message buffer are" not in text


def test_message_buffer_with_a_hole_says_so(either: kvmlib.Sample) -> None:
    """A ring that claims to be larger than what is mapped there."""
    at, size = long_at(either, "msgbufp"), either.machine.long_bytes
    poke_long(either, at + 3 * size, 0x40000)
    with kvmlib.open(either.image) as kd:
        text = kvmlib.messages(kd).text
    assert either.panic in text
    assert "bytes of the message buffer are not" in text


def test_implausible_time(either: kvmlib.Sample) -> None:
    poke(either, "time_second", b"\x01\0\0\0\0\0\0\0")
    with kvmlib.open(either.image) as kd:
        found, by_label = kvmlib.summary(kd), facts(kd)
    assert found.crashed is None
    assert "time_second holds no plausible time" in by_label["CRASH"].text
    assert by_label["UPTIME"].text.startswith("not known: ")


def test_string_without_an_end(amd64: kvmlib.Sample) -> None:
    with kvmlib.open(amd64.image) as kd:
        start = kd.read(va_of(amd64, "version"), 8)
    page = va_of(amd64, "version") & ~0xFFF
    poke(amd64, page, b"A" * 4096)
    poke(amd64, "version", start)
    with kvmlib.open(amd64.image) as kd:
        version = kvmlib.summary(kd).version
    assert version is not None
    assert version.startswith("OpenBSD ")
    assert version.endswith(" [no end within 512 bytes]")


# -- against libkvm's recordings -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Vector:
    kd: kvmlib.Kvm
    facts: dict[str, Any]

    @property
    def texts(self) -> dict[str, Any]:
        found: dict[str, Any] = self.facts.get("kernel") or self.facts["kernel_texts"]
        return found


@pytest.fixture(params=VECTORS)
def vector(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> Iterator[Vector]:
    folder = shared / "vectors" / request.param
    image = tmp_path / "device"
    image.write_bytes(gzip.decompress((folder / "device.img.gz").read_bytes()))
    expected = json.loads((folder / "expect.json").read_text())
    machine = f"{expected['os']}/{expected['arch']}"
    system = folder / "kernel.elf"
    with kvmlib.open(image, system=system, dump_off=expected["dump_off"], machine=machine) as kd:
        yield Vector(kd, expected)


def test_vector_texts(vector: Vector) -> None:
    found = kvmlib.summary(vector.kd)
    assert found.version == joined(vector.texts["version"])
    panic = vector.texts.get("panicstr") or vector.texts["panic"]
    assert found.panic == panic.strip()
    if "time_second" in vector.texts:
        assert found.crashed == datetime.fromtimestamp(vector.texts["time_second"], UTC)


def test_vector_messages(vector: Vector) -> None:
    text = kvmlib.messages(vector.kd).text
    if "message_text" in vector.texts:
        assert text == vector.texts["message_text"]
    else:
        assert hashlib.sha256(text.encode()).hexdigest() == vector.texts["msgbuf_text_sha256"]


def test_vector_registers(vector: Vector) -> None:
    found = {r.name: r.value for r in kvmlib.panic_registers(vector.kd)}
    recorded = vector.facts.get("dumppcb") or vector.texts["panic_registers"]
    pairs = {**recorded, **recorded.get("at_esp", {}), **recorded.get("at_rsp", {})}
    wanted = {n.removeprefix("pcb_"): int(str(v), 0) for n, v in pairs.items() if isinstance(v, int | str)}
    wanted["pc"] = wanted.get("rip", wanted.get("eip", found.get("pc", 0)))
    common = set(found) & set(wanted)
    assert len(common) >= 3
    assert {name: found[name] for name in common} == {name: wanted[name] for name in common}


def test_offset_helper_agrees_with_the_maker(amd64: kvmlib.Sample) -> None:
    """What these tests poke is what they mean to poke."""
    at = file_offset(amd64, va_of(amd64, "dumpmag"))
    assert Path(amd64.image).read_bytes()[at : at + 4] == bytes.fromhex("0101ca8f")
