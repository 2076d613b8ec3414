"""Message buffers found without symbols, in samples and in buffers put together here with struct."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.__main__ import main
from tests.samples import long_at, poke_long, sample_in, truncate, without_symbols

MAGIC = 0x063061
#: Both systems, both widths, both byte orders.
NAMES = (
    "openbsd/amd64",
    "openbsd/i386",
    "openbsd/powerpc",
    "openbsd/sparc64",
    "netbsd/amd64",
    "netbsd/i386",
    "netbsd/mipseb",
    "netbsd/sparc64",
)


def ring(
    sample: kvmlib.Sample, text: bytes, room: int = 8192, *, longs: int = 0, bufx: int = -1, **fields: int
) -> bytes:
    """A whole struct msgbuf of `room` bytes that holds `text`, which ends before bufx."""
    m = sample.machine
    longs = longs or (5 if m.os == "openbsd" else 4)
    bufs = room - longs * m.long_bytes
    bufx = len(text) % bufs if bufx < 0 else bufx
    assert len(text) <= bufs
    ring = bytearray(bufs)
    for i, c in enumerate(text):
        ring[(bufx - len(text) + i) % bufs] = c
    header = {"magic": MAGIC, "bufx": bufx, "bufr": 0, "bufs": bufs} | fields
    order = {"little": "<", "big": ">"}[m.byteorder] + {4: "I", 8: "Q"}[m.long_bytes] * longs
    return struct.pack(order, *[*header.values(), 0][:longs]) + bytes(ring)


class Memory:
    """A sample whose own message buffers and kernel file are gone, to put other buffers into."""

    def __init__(self, sample: kvmlib.Sample) -> None:
        self.sample = sample
        self.page = sample.machine.page_size
        without_symbols(sample)
        with kvmlib.open(sample.image) as kd:
            buffers = kvmlib.buffers(kd)
            self.ram = kd.ram
            for b in buffers:
                self.put(b.pa, bytes(b.size + b.longs * sample.machine.long_bytes))
            self.free = buffers[0].pa
            self.first = sample.version.split("\n")[0].encode()

    def put(self, pa: int, data: bytes) -> int:
        offset = next(s.offset + pa - s.start for s in self.ram if s.start <= pa < s.start + s.size)
        with open(self.sample.image, "r+b") as f:
            f.seek(offset)
            f.write(data)
        return pa

    def ring(self, text: bytes, at: int = 0, room: int = 8192, **fields: int) -> int:
        """Put a buffer into the room of the old one, `at` bytes into it; return its pa."""
        return self.put(self.free + at, ring(self.sample, text, room, **fields))

    def boot(self, end: bytes = b"", first: bytes = b"") -> bytes:
        return (first or self.first) + b"\n\twhere it was built\nreal mem = 4 MB\n" + end

    def found(self) -> tuple[kvmlib.Buffer, ...]:
        with kvmlib.open(self.sample.image, machine=self.sample.machine) as kd:
            return kvmlib.buffers(kd)

    def messages(self) -> kvmlib.Messages:
        with kvmlib.open(self.sample.image, machine=self.sample.machine) as kd:
            return kvmlib.messages(kd)


@pytest.fixture(params=NAMES)
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Memory:
    return Memory(sample_in(tmp_path, request.param))


@pytest.fixture(params=["openbsd/amd64", "netbsd/mipseb"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Memory:
    return Memory(sample_in(tmp_path, request.param))


@pytest.fixture
def amd64(tmp_path: Path) -> Memory:
    return Memory(sample_in(tmp_path, "openbsd/amd64"))


CRASH = b"panic: out of luck\nStopped at panic+0x5\nddb> boot crash\n\ndumping to dev 0,1 offset 8\ndump 4 3 "


# -- one buffer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_samples_without_a_kernel_file(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image) as kd:
        try:
            pa = kd.kvatop(long_at(sample, "msgbufp"))[0]
            assert kvmlib.messages(kd).pa == pa
            assert kvmlib.buffers(kd)[0].reasons[0] == "msgbufp points to it"
        except kvmlib.TranslationError:
            pa = None
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        found, every = kvmlib.messages(kd), kvmlib.buffers(kd)
    assert found.text == sample.messages
    assert (found.source, found.va) == (f"found by searching memory, at pa {found.pa:#x}", None)
    assert pa in (None, found.pa)
    own, old = every
    assert (own.kind, own.pa, own.text) == ("kernel", found.pa, found.text)
    assert own.longs == sample.machine.system.msgbuf_longs
    # The boot before left its buffer, with the same kernel's words in it.
    assert (old.kind, old.pa) == ("leftover", sample.decoys["messages"])
    assert old.text.startswith(sample.version)
    assert old.text.endswith("rebooting...\n")


def test_text_of_a_new_buffer(memory: Memory) -> None:
    said = memory.boot(b"<3>priority\n<12>and <4> not\n\x1b[31mred\n")
    pa = memory.ring(said)
    (found,) = memory.found()
    assert (found.pa, found.kind, found.next) == (pa, "kernel", len(said))
    assert found.text == memory.boot(b"priority\nand <4> not\n").decode() + "\\x1b[31mred\n"


def test_text_of_a_ring_that_went_round(memory: Memory) -> None:
    text = b"".join(b"line %d of many\n" % i for i in range(400))
    memory.ring(text, bufx=100)
    assert memory.messages().text == text.decode()


def test_the_other_layout(memory: Memory) -> None:
    """OpenBSD's early kernels had NetBSD's; the size tells."""
    longs = 9 - memory.sample.machine.system.msgbuf_longs
    memory.ring(memory.boot(), longs=longs)
    (found,) = memory.found()
    assert (found.longs, found.text) == (longs, memory.boot().decode())
    assert any("longs there now" in reason for reason in found.reasons)


def test_by_symbol_the_size_tells_the_layout_too(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        was = kvmlib.buffers(kd)[0]
    memory = Memory(sample_in(tmp_path, "openbsd/amd64"))
    memory.put(was.pa, ring(sample, memory.boot(), longs=4))
    with kvmlib.Kvm(
        sample.image, system=kvmlib.SymbolTable(sample.symbols, "the sample"), machine=sample.machine
    ) as kd:
        kd.dump_mkheader(sample.dump_off)
        found = kvmlib.messages(kd)
    assert (found.source, found.text) == ("symbol msgbufp", memory.boot().decode())


@pytest.mark.parametrize("at", [48, 0x1008])
def test_away_from_a_page(memory: Memory, at: int) -> None:
    pa = memory.ring(memory.boot(CRASH), at)
    (found,) = memory.found()
    assert (found.pa, found.text) == (pa, memory.boot(CRASH).decode())


def test_no_multiple_of_a_page(memory: Memory) -> None:
    memory.ring(memory.boot(CRASH), room=2560)
    (found,) = memory.found()
    assert found.text == memory.boot(CRASH).decode()
    assert "blocks of 512 bytes" in found.reasons[0]


def test_the_rest_is_not_in_the_file(amd64: Memory) -> None:
    sample = amd64.sample
    pa = amd64.ring(amd64.boot(b"." * 8000 + b"\n"), room=16384)
    with kvmlib.open(sample.image) as kd:
        end = kd.pa2off(pa + 8192)
    truncate(sample, end)
    assert "[8192 bytes of the message buffer are behind the end of the file]" in amd64.messages().text


def test_a_page_that_is_no_text(memory: Memory) -> None:
    pa = memory.ring(memory.boot(), room=2 * memory.page)
    memory.put(pa + memory.page, bytes(range(128, 256)) * (memory.page // 128))
    found = memory.messages()
    assert found.text.endswith("\n" + memory.boot().decode())
    assert f"\n[{memory.page} bytes of the message buffer are somewhere else: " in found.text


# -- none ------------------------------------------------------------------------------------------------------------


def test_nothing_found_is_a_sentence(memory: Memory) -> None:
    assert memory.found() == ()
    with pytest.raises(kvmlib.SymbolError) as caught:
        memory.messages()
    assert "msgbufp is needed" in str(caught.value)
    assert str(caught.value).endswith("no message buffer was found by searching memory either")


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(
    "damage",
    [{"magic": MAGIC ^ 1}, {"bufx": 0x10000}, {"bufr": 0x10000}, {"bufs": 0}, {"bufs": 8000}, {"bufs": (1 << 30) - 40}],
    ids=str,
)
def test_damaged_headers(either: Memory, damage: dict[str, int], aligned: bool) -> None:
    at = 0 if aligned else 24
    either.put(either.free + at, ring(either.sample, either.boot(), **damage))
    assert either.found() == ()
    either.ring(either.boot(), at)
    assert len(either.found()) == 1


def test_no_text_behind_the_header(memory: Memory) -> None:
    head = 5 * memory.sample.machine.long_bytes
    whole = ring(memory.sample, b"")
    memory.put(memory.free, whole[:head] + bytes(range(256)) * (len(whole) // 256))
    assert memory.found() == ()


def test_symbols_that_lead_to_none(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    poke_long(sample, "msgbufp", 0)
    with kvmlib.open(sample.image) as kd:
        assert kvmlib.messages(kd).source.startswith("found by searching memory")
        assert kvmlib.messages(kd).text == sample.messages


# -- several ---------------------------------------------------------------------------------------------------------


OLD = b"OpenBSD 5.9 (GENERIC) #1: Fri Feb 26 01:13:00 MST 2016"


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        (lambda m: m.boot(), lambda m: m.boot(first=OLD), "another kernel's"),
        (lambda m: m.boot(CRASH), lambda m: m.boot(CRASH, first=OLD), "another kernel's"),
        (lambda m: m.boot(CRASH), lambda m: m.boot(CRASH + b"succeeded\n\n\nrebooting...\n"), "an older one"),
        (lambda m: m.boot(CRASH), lambda m: m.boot(), "running kernel's"),
        (lambda m: m.boot(CRASH), lambda m: b"", "it is empty"),
        (lambda m: m.boot(CRASH), lambda m: b"nothing that tells\n", "whole pages"),
        (lambda m: m.boot(first=OLD) + m.boot(CRASH), lambda m: m.boot(CRASH) + m.boot(first=OLD), "another kernel's"),
    ],
)
def test_decoys(
    either: Memory,
    right: Callable[[Memory], bytes],
    wrong: Callable[[Memory], bytes],
    why: str,
    swapped: bool,
) -> None:
    """The right one is the kernel's, wherever it lies."""
    room = either.page
    here = either.ring(right(either), room * swapped, room)
    there = either.ring(wrong(either), room * (not swapped), room)
    best, other = either.found()
    assert [(best.pa, best.kind), (other.pa, other.kind)] == [(here, "kernel"), (there, "leftover")]
    assert best.score > other.score
    assert any(why in reason for reason in other.reasons)
    assert either.messages().text == right(either).decode()


def test_the_banner_in_a_decoy_is_not_the_running_kernels(amd64: Memory) -> None:
    """A leftover below the kernel is the first banner in memory."""
    low = next(s.start for s in amd64.ram if s.size >= 16 * amd64.page)
    amd64.put(low, ring(amd64.sample, amd64.boot(CRASH, first=OLD)))
    here = amd64.ring(amd64.boot(CRASH))
    assert [(b.pa, b.kind) for b in amd64.found()] == [(here, "kernel"), (low, "leftover")]


def test_the_console_buffer(amd64: Memory) -> None:
    text = b"setting tty flags\nstarting network daemons: sshd.\n"
    console = amd64.ring(text, 16384, 16384)
    (alone,) = amd64.found()
    assert (alone.kind, alone.text) == ("console", text.decode())
    kernel = amd64.ring(b"not much\n", 0, 16384 - 4096)
    assert [(b.pa, b.kind) for b in amd64.found()] == [(kernel, "kernel"), (console, "console")]
    # A kernel's buffer of the same size says so.
    amd64.ring(amd64.boot(), 0, 16384)
    assert [(b.pa, b.kind) for b in amd64.found()] == [(kernel, "kernel"), (console, "console")]


def test_what_the_symbol_says_counts_more(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        own = kvmlib.buffers(kd)[0]
        put_at = kd.pa2off(own.pa)
    with open(sample.image, "r+b") as f:
        f.seek(put_at)
        f.write(ring(sample, b"hardly anything\n"))
        f.seek(put_at + 0x4000)
        f.write(ring(sample, sample.version.encode() + CRASH))
    with kvmlib.open(sample.image) as kd:
        assert kvmlib.messages(kd).text.startswith("hardly anything\n")
        first, second, _ = kvmlib.buffers(kd)
    assert (first.pa, first.kind, first.reasons[0]) == (own.pa, "kernel", "msgbufp points to it")
    assert (second.pa, second.kind) == (own.pa + 0x4000, "leftover")


def test_many_hits_are_not_endless(amd64: Memory) -> None:
    for i in range(40):
        amd64.put(amd64.free - 4096 * (i + 1), ring(amd64.sample, b"decoy\n", 4096)[:64])
    assert len(amd64.found()) == 32


@pytest.mark.parametrize("end", [b"syncing disks... done\nrebooting...\n", CRASH + b"succeeded\n\n\nrebooting...\n"])
def test_older_boots_alone_are_not_the_dumps(memory: Memory, end: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel's own buffer is lost; what another boot said would mislead, so it is shown only on request."""
    memory.ring(memory.boot(end))
    (old,) = memory.found()
    assert (old.kind, old.text) == ("leftover", memory.boot(end).decode())
    assert old.reasons[-1].endswith("older one")
    with pytest.raises(kvmlib.KvmError, match=r"only older boots' message buffers were found by searching memory$"):
        memory.messages()
    assert main(["dmesg", "--all", "-m", memory.sample.machine.name, memory.sample.image]) == 0
    assert "rebooting..." in capsys.readouterr().out


# -- boots -----------------------------------------------------------------------------------------------------------


def test_boots() -> None:
    end = "the end of an older one\ndump 3 2 1 "
    first = "OpenBSD 6.8 (GENERIC) #97: Mon Oct 12 09:14:05 UTC 2020\n    builder@build\npanic: one\n"
    second = (
        "Copyright (c) 1982, 1986\n\tThe Regents. All rights reserved.\n\nOpenBSD 6.8 (GENERIC) #98: x\n\nOpenBSD\n"
    )
    third = (
        "[ using 2549 bytes of bsd ELF symbol table ]\nCopyright (c) 1995 OpenBSD.\nOpenBSD 6.8 (GENERIC.MP) #1: y\nz"
    )
    assert kvmlib.boots(end + first + second + third) == (end, first, second, third)
    assert kvmlib.boots("") == ()
    assert kvmlib.boots("nothing of the kind\n") == ("nothing of the kind\n",)


def test_boots_of_a_kernel_that_stamps_its_lines() -> None:
    first = "[ 812.1200045] rebooting...\n"
    second = (
        "[     1.0000000] Copyright (c) 1996, 1997,\n[     1.0000000]     2018 The NetBSD Foundation, Inc.\n"
        "[     1.0000000] \n[     1.0000000] NetBSD 9.0 (GENERIC) #0: Fri Feb 14 00:06:28 UTC 2020\n[  2.5] panic: x\n"
    )
    assert kvmlib.boots(first + second) == (first, second)


@given(
    st.lists(
        st.sampled_from(["NetBSD 7.0 (GENERIC) #1: x", "Copyright (c) 1", "\tindented", "", "said", "dump 2 1 ", "\n"]),
        max_size=30,
    ),
    st.sampled_from(["", "\n"]),
)
def test_boots_lose_nothing(lines: list[str], between: str) -> None:
    text = between.join(lines)
    parts = kvmlib.boots(text)
    assert "".join(parts) == text
    assert all(parts)


# -- kvmdump ---------------------------------------------------------------------------------------------------------


def test_dmesg_without_symbols(amd64: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    pa = amd64.ring(amd64.boot(CRASH))
    assert main(["dmesg", amd64.sample.image]) == 0
    out, err = capsys.readouterr()
    assert out == amd64.boot(CRASH).decode() + "\n"
    assert err == f"kvmdump: found by searching memory, at pa {pa:#x}\n"
    assert main(["dmesg", "--json", amd64.sample.image]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "text": amd64.boot(CRASH).decode(),
        "source": f"found by searching memory, at pa {pa:#x}",
        "va": None,
        "pa": pa,
    }
    assert err == ""


def test_dmesg_all(amd64: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = amd64.ring(amd64.boot(CRASH)), amd64.ring(amd64.boot(CRASH, first=OLD), 8192)
    assert main(["dmesg", "--all", amd64.sample.image]) == 0
    out = capsys.readouterr().out
    heads = [line for line in out.splitlines() if line.startswith("== ")]
    assert [line.split(",")[0] for line in heads] == ["== kernel", "== leftover"]
    assert f"pa {here:#x}" in heads[0]
    assert f"pa {there:#x}" in heads[1]
    assert out.count("panic: out of luck\n") == 2
    assert "=  its last boot is another kernel's\n" in out
    assert main(["dmesg", "--all", "--json", amd64.sample.image]) == 0
    assert [(b["pa"], b["kind"]) for b in json.loads(capsys.readouterr().out)] == [
        (here, "kernel"),
        (there, "leftover"),
    ]


def test_dmesg_all_of_nothing(amd64: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dmesg", "--all", amd64.sample.image]) == 1
    assert "by searching memory either" in capsys.readouterr().err
