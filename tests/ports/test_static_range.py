"""OpenBSD's arm, arm64 and riscv64: one range of addresses, its edges, and the guess where the header has none."""

import struct
from pathlib import Path

import pytest

import kvmlib
from kvmlib.errors import FormatError
from kvmlib.kcore import RamSeg
from kvmlib.ports.base import Machine, Mmu
from kvmlib.translate import Mapping, Translator
from tests.ports.arm_memory import Memory, headers, why
from tests.samples import sample_in

BITS = {"openbsd/arm": 32, "openbsd/arm64": 64, "openbsd/riscv64": 64}
NAMES = tuple(BITS)
BASE = {"openbsd/arm": 0xC0000000, "openbsd/arm64": 0xFFFFFF8000000000, "openbsd/riscv64": 0xFFFFFFC000000000}
RAM = RamSeg(0x40000000, 0x400000)
GUESS = kvmlib.machine("openbsd/arm-guess")


def cpu_data(bits: int, base: int, offset: int, size: int, segments: tuple[RamSeg, ...] = (RAM,)) -> bytes:
    words = struct.pack("<16I" if bits == 32 else "<16Q", base, offset, size, *[0] * 13)
    return (words + b"".join(struct.pack("<QQ", *s) for s in segments)).ljust(504, b"\0")


def translator(name: str | Machine, data: bytes) -> Translator:
    m = kvmlib.machine(name)
    return m.mmu(Mmu(m.parse_cpu_hdr(data), Memory().read, lambda symbol: None, data))


def usual(name: str, offset: int = 0x300000, size: int = 0x18000, **other: tuple[RamSeg, ...]) -> Translator:
    return translator(name, cpu_data(BITS[name], BASE[name], offset, size, **other))


@pytest.mark.parametrize("name", NAMES)
def test_each_field_is_where_the_kernel_puts_it(name: str) -> None:
    raw = struct.pack("<16I" if BITS[name] == 32 else "<16Q", *range(11, 27))
    assert kvmlib.machine(name).parse_cpu_hdr(raw) == {
        "kernelbase": 11,
        "kerneloffs": 12,
        "staticsize": 13,
        "pmap_kernel_l1": 14,
        "pmap_kernel_l2": 15,
        "reserved": tuple(range(16, 27)),
    }


@pytest.mark.parametrize("name", NAMES)
def test_all_eight_segments_are_there(name: str) -> None:
    segments = tuple(RamSeg(i << 28, 0x1000 if i % 2 else 0) for i in range(9))
    m, data = kvmlib.machine(name), cpu_data(BITS[name], BASE[name], 0, 0, segments)
    assert m.ram is not None
    hdr = m.parse_cpu_hdr(data)
    assert m.ram(m, data, hdr) == list(segments[:8])
    assert m.segments_offset(hdr) == m.least_cpu_data == 2 * BITS[name]
    # A CPU segment that ends in the middle of them has no more than that.
    assert m.ram(m, data[: m.least_cpu_data + 40], hdr) == list(segments[:2])


@pytest.mark.parametrize("name", NAMES)
def test_edges(name: str) -> None:
    t, start = usual(name), BASE[name] + 0x300000
    assert t.kvatop(start) == (0x40300000, 4096)
    assert t.kvatop(start + 0x1001) == (0x40301001, 4095)
    assert t.kvatop(start + 0x17FFF) == (0x40317FFF, 1)
    for va in (0, BASE[name], start - 1, start + 0x18000, (1 << BITS[name]) - 1):
        text = why(t, va)
        assert f"kvm_vatop: va {va:x} unreachable" in text
        assert f"the header describes only va {start:#x} to {start + 0x18000:#x}" in text
    assert list(t.mappings()) == [Mapping(start, 0x40300000, 0x18000, ())]


@pytest.mark.parametrize("name", NAMES)
def test_the_range_ends_inside_a_page(name: str) -> None:
    """STATIC-END: libkvm goes on to the end of the page."""
    t, start = usual(name, size=0x1234), BASE[name] + 0x300000
    assert t.kvatop(start + 0x1000) == (0x40301000, 0x234)
    assert t.kvatop(start + 0xFFF) == (0x40300FFF, 1)
    assert "unreachable" in why(t, start + 0x1234)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_segment_counts(name: str) -> None:
    t = usual(name, segments=(RamSeg(0x80000000, 0x1000), RAM))
    assert t.kvatop(BASE[name] + 0x300000)[0] == 0x80300000


@pytest.mark.parametrize("name", NAMES)
def test_a_range_that_wraps_around_is_none(name: str) -> None:
    bits = BITS[name]
    for base, offset, size in (((1 << bits) - 0x1000, 0, 0x1000), ((1 << bits) - 0x1000, 0, 0x2000)):
        t = translator(name, cpu_data(bits, base, offset, size))
        assert "the header describes no range of kernel addresses" in why(t, base)
        assert list(t.mappings()) == []
    # One byte less, and it is one.
    t = translator(name, cpu_data(bits, (1 << bits) - 0x1000, 0, 0xFFF))
    assert t.kvatop((1 << bits) - 0x1000) == (0x40000000, 0xFFF)


@pytest.mark.parametrize("name", NAMES)
def test_a_start_that_wraps_around(name: str) -> None:
    bits = BITS[name]
    t = translator(name, cpu_data(bits, (1 << bits) - 0x1000, 0x3000, 0x1000))
    assert t.kvatop(0x2000) == (0x40003000, 0x1000)


def test_physical_addresses_of_arm_have_32_bits() -> None:
    t = usual("openbsd/arm", 0, 0x4000, segments=(RamSeg(0xFFFFE000, 0x2000),))
    assert t.kvatop(0xC0001000) == (0xFFFFF000, 0x1000)
    assert t.kvatop(0xC0002000) == (0, 0x1000)
    wide = usual("openbsd/arm64", 0, 0x4000, segments=(RamSeg(0xFFFFE000, 0x2000),))
    assert wide.kvatop(BASE["openbsd/arm64"] + 0x2000) == (0x100000000, 0x1000)


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_segment_that_ends_before_the_segments(name: str) -> None:
    data = cpu_data(BITS[name], BASE[name], 0, 0x4000)[: 2 * BITS[name] + 15]
    assert "unreachable" in why(translator(name, data), BASE[name])


@pytest.mark.parametrize("name", NAMES)
def test_kernelbase_is_the_address_of_a_page(name: str) -> None:
    m = kvmlib.machine(name)
    assert m.settle is not None
    for base, good in ((0xC0000000, True), (0xC0000800, False), (1, False), (0, True)):
        found = headers(cpu_data(BITS[name], base, 0, 0), m.abi.kcore_hdr())
        if good:
            assert m.settle(m, found, lambda at, n: b"", 0) == (m, found, ())
        else:
            with pytest.raises(FormatError, match=f"kernelbase is {base:#x}"):
                m.settle(m, found, lambda at, n: b"", 0)


@pytest.mark.parametrize("name", NAMES)
def test_registers(name: str) -> None:
    m = kvmlib.machine(name)
    data = cpu_data(BITS[name], BASE[name], 0x300000, 0x18000)
    words = {r.name: r.decoded for r in m.registers(m.parse_cpu_hdr(data))}
    start = BASE[name] + 0x300000
    assert words["staticsize"] == f"96 KiB: va {start:#x} to {start + 0x18000:#x}"
    words = {r.name: r.decoded for r in m.registers(m.parse_cpu_hdr(bytes(504)))}
    assert words["staticsize"] == "no range"


# -- the guess ---------------------------------------------------------------------------------------------------------


def test_a_header_that_was_not_filled_in() -> None:
    """ARMV7-ZERO: nothing translates, and what could be done about it is said."""
    t = translator("openbsd/arm", cpu_data(32, 0, 0, 0))
    text = why(t, 0xC0300000)
    assert "kvm_vatop: va c0300000 unreachable" in text
    assert "leave kernelbase and staticsize 0" in text
    assert "-m openbsd/arm-guess takes the first RAM segment for va 0xc0000000 (ARM_KERNEL_BASE)" in text
    assert list(t.mappings()) == []


def test_only_arm_has_a_guess() -> None:
    assert GUESS.on_request
    for name in ("openbsd/arm64", "openbsd/riscv64"):
        assert "guess" not in why(translator(name, cpu_data(64, 0, 0, 0)), BASE[name])


def test_the_guess() -> None:
    t = translator(GUESS, cpu_data(32, 0, 0, 0))
    assert t.kvatop(0xC0000000) == (0x40000000, 4096)
    assert t.kvatop(0xC0300123) == (0x40300123, 4096 - 0x123)
    assert t.kvatop(0xC03FFFFF) == (0x403FFFFF, 1)
    for va in (0, 0xBFFFFFFF, 0xC0400000, 0xFFFFFFFF):
        assert f"va {va:x} unreachable, the guess is only va 0xc0000000 to 0xc0400000" in why(t, va)
    step = t.walk(0xC0300123)[-1]
    assert step.flags == ("guess",)
    assert "guess" in step.note
    assert "guess" in t.name
    assert list(t.mappings()) == [Mapping(0xC0000000, 0x40000000, 0x400000, ("guess",))]


def test_the_guess_ends_with_the_address_space() -> None:
    t = translator(GUESS, cpu_data(32, 0, 0, 0, (RamSeg(0x40000000, 0x80000000),)))
    assert t.kvatop(0xFFFFFFFF) == (0x7FFFFFFF, 1)
    assert "the guess is only va 0xc0000000 to 0x100000000" in why(t, 0)
    assert "does not fit in 32 bits" in why(t, 1 << 32)


def test_no_guess_without_a_segment() -> None:
    assert "guess is only" not in why(translator(GUESS, cpu_data(32, 0, 0, 0, ())), 0xC0000000)
    assert "unreachable" in why(translator(GUESS, cpu_data(32, 0, 0, 0)[:64]), 0xC0000000)


@pytest.mark.parametrize(("base", "offset", "size"), [(0xC0000000, 0x300000, 0x18000), (0xC0000000, 0, 0)])
def test_no_guess_where_the_header_was_filled_in(base: int, offset: int, size: int) -> None:
    data = cpu_data(32, base, offset, size)
    guess, plain = (translator(m, data) for m in (GUESS, "openbsd/arm"))
    assert guess.name == plain.name
    assert list(guess.mappings()) == list(plain.mappings())
    assert why(guess, 0xC0000000) == why(plain, 0xC0000000)


@pytest.fixture
def zero(tmp_path: Path) -> kvmlib.Sample:
    return sample_in(tmp_path, "openbsd/arm-zero")


def test_nobody_guesses_unasked(zero: kvmlib.Sample) -> None:
    with kvmlib.open(zero.image) as kd:
        assert kd.machine is not None
        assert (kd.machine.name, kd.machine.variant) == ("openbsd/arm", "")
        assert "guess" not in " ".join(kd.reading.reasons if kd.reading else ())
        with pytest.raises(kvmlib.TranslationError, match="unreachable"):
            kd.read(0xC0300000, 4)


def test_a_guess_on_request(zero: kvmlib.Sample) -> None:
    with kvmlib.open(zero.image, system=zero.kernel, machine="openbsd/arm-guess") as kd:
        assert kd.reading is not None
        assert "all its addresses are a guess" in " ".join(kd.reading.reasons)
        version = next(s.value for s in zero.symbols if s.name == "version")
        assert kd.read(version, 8) == b"OpenBSD "
        assert kd.dumpmag().state == "fresh"


def test_a_guess_that_is_not_needed_is_none(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/arm")
    with kvmlib.open(sample.image, machine="openbsd/arm-guess") as kd:
        assert kd.reading is not None
        assert "guess" not in " ".join(kd.reading.reasons)
        assert {f for m in kd.mappings() for f in m.flags} == set()
