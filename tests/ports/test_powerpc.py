"""The PowerPCs' headers, registers in words, and which way each CPU translates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from kvmlib.kcore import RamSeg, build_ram_segs
from kvmlib.ports.base import Mmu
from kvmlib.translate import Translator
from kvmlib.translate.hashed import OEA
from tests.ports.test_alpha_riscv import Memory, dump

HTAB = 0x20000
MPC750, MPC601 = 0x00080301, 0x00010001
DIRECT = 1 << 31


def header(pvr: int = MPC750, **fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"pad": 0, "pvr": pvr, "sdr1": HTAB, "sr": [0x100 + i for i in range(16)]}
    return plain | {name: [0] * 8 for name in ("dbatl", "dbatu", "ibatl", "ibatu")} | fields


def translator(hdr: Mapping[str, Any], memory: Memory | None = None) -> Translator:
    memory = memory or Memory(0x40000)
    return kvmlib.machine("netbsd/powerpc").mmu(Mmu(hdr, memory.read, lambda name: None))


def decoded(hdr: Mapping[str, Any]) -> dict[str, str]:
    return {r.name: r.decoded for r in kvmlib.machine("netbsd/powerpc").registers(hdr)}


def put_page(memory: Memory, vsid: int, va: int, pa: int, *, secondary: bool = False) -> None:
    index = va >> 12 & 0xFFFF
    group = HTAB + (OEA.hash(vsid, index, secondary) & 0x3FF) * 64
    word = OEA.first_word(vsid, index, secondary) << 32 | pa
    memory.data[group + 8 : group + 16] = word.to_bytes(8, "big")


def test_the_header_of_32_bits(tmp_path: Path) -> None:
    # pad, pvr, sdr1, then 16 segment registers and 4 times 8 BATs, pad_reg.
    words = [0xAA, MPC750, 0x120003, *range(0x300, 0x310), *range(0x400, 0x420), 0xEE]
    segments = [RamSeg(0, 0x1000), RamSeg(0x10000, 0x1000)]
    data = b"".join(w.to_bytes(4, "big") for w in words)
    assert len(data) == 208
    data += build_ram_segs([*segments, RamSeg(7, 0), RamSeg(0x20000, 0x1000)], "big")
    with dump("netbsd/powerpc", data, tmp_path) as kd:
        assert (kd.cpu_hdr["pad"], kd.cpu_hdr["pvr"], kd.cpu_hdr["sdr1"]) == (0xAA, MPC750, 0x120003)
        assert kd.cpu_hdr["sr"] == tuple(range(0x300, 0x310))
        assert kd.cpu_hdr["dbatl"] == tuple(range(0x400, 0x408))
        assert kd.cpu_hdr["dbatu"] == tuple(range(0x408, 0x410))
        assert kd.cpu_hdr["ibatl"] == tuple(range(0x410, 0x418))
        assert kd.cpu_hdr["ibatu"] == tuple(range(0x418, 0x420))
        assert [(s.start, s.size) for s in kd.segments] == segments
        assert kd.pa2off(0x10000) == 512 + 0x1000
        registers = {r.name: r for r in kd.registers}
        assert len(registers) == 2 + 16 + 32
        assert registers["dbatu[7]"].value == 0x40F
        assert all(r.width == 32 for r in registers.values())
        assert kd.machine is not None
        assert kd.machine.root is not None
        assert kd.machine.root(kd.cpu_hdr) == 0x120000


def test_the_header_of_64_bits(tmp_path: Path) -> None:
    words = [0xAA << 32 | 0x00390202, 0x12340004, *range(0x300, 0x310), *range(0x400, 0x420), 0xEE]
    data = b"".join(w.to_bytes(8, "big") for w in words)
    assert len(data) == 408
    data += build_ram_segs([RamSeg(0, 0x2000)], "big")
    with dump("netbsd/powerpc64", data, tmp_path) as kd:
        assert (kd.cpu_hdr["pad"], kd.cpu_hdr["pvr"], kd.cpu_hdr["sdr1"]) == (0xAA, 0x00390202, 0x12340004)
        assert kd.cpu_hdr["sr"] == tuple(range(0x300, 0x310))
        assert (kd.cpu_hdr["dbatl"][0], kd.cpu_hdr["dbatu"][0]) == (0x400, 0x408)
        assert (kd.cpu_hdr["ibatl"][0], kd.cpu_hdr["ibatu"][7]) == (0x410, 0x41F)
        assert [(s.start, s.size) for s in kd.segments] == [(0, 0x2000)]
        registers = {r.name: r for r in kd.registers}
        assert registers["pvr"].decoded == "PowerPC 970, revision 0x202"
        assert registers["sdr1"].decoded == "page table of 4096 KiB at pa 0x12340000"
        assert registers["ibatu[7]"].value == 0x41F
        with pytest.raises(kvmlib.TranslationError, match="by its SLB, which the header of NetBSD/powerpc64"):
            kd.kvatop(0x100000)


def test_openbsds_header(tmp_path: Path) -> None:
    segments = [RamSeg(0x1000 * i, 0x1000) for i in range(4)]
    data = b"".join(w.to_bytes(4, "big") for w in (0x111000, 0x222000)) + build_ram_segs(
        [*segments, RamSeg(0x9000, 0x1000)], "big"
    )
    with dump("openbsd/powerpc", data, tmp_path, bytes(0x4000)) as kd:
        assert kd.cpu_hdr == {"ptable": 0x111000, "potable": 0x222000}
        # There is room for four: what follows is none.
        assert [(s.start, s.size) for s in kd.segments] == segments
        assert [r.decoded for r in kd.registers] == ["pa 0x111000", "pa 0x222000"]
        with pytest.raises(kvmlib.TranslationError, match=r"neither segment registers nor BATs.*vatop not yet implem"):
            kd.kvatop(0x100000)


@pytest.mark.parametrize("value", [0x04959FCA, 0x8FCA0101])
def test_both_values_of_dumpmag(value: int) -> None:
    assert value in kvmlib.machine("openbsd/powerpc").dumpmag
    assert (value in kvmlib.machine("netbsd/powerpc").dumpmag) == (value == 0x8FCA0101)


# -- which CPU ---------------------------------------------------------------------------------------------------------

SUPPORTED = (1, 3, 4, 6, 7, 8, 0xA, 0xC, 0x81, 0x7000, *range(0x8000, 0x8008), 0x800C, 0x8081)
#: A BAT of 256 MiB for any CPU but the 601, of 8 MiB for the 601.
BAT: dict[str, Any] = {"dbatu": [0x90000000 | 0x1FFC | 2, *[0] * 7], "dbatl": [0x20000000 | 0x40 | 0x3F, *[0] * 7]}


@pytest.mark.parametrize("version", SUPPORTED)
def test_cpus_that_can_be_translated(version: int) -> None:
    t = translator(header(version << 16 | 0x1234, **BAT))
    size = 8 << 20 if version == 1 else 256 << 20
    assert t.kvatop(0x90000000) == (0x20000000, size)


@pytest.mark.parametrize("version", [0, 2, 5, 9, 0xB, 0x39, 0x7002, 0x8008, 0x8011, 0x8020, 0xFFFF])
def test_cpus_that_can_not(version: int) -> None:
    hdr = header(version << 16 | 0xABC, **BAT)
    t = translator(hdr)
    with pytest.raises(kvmlib.TranslationError, match=r"va 0x90000000 cannot be translated: Unsupported CPU type") as e:
        t.kvatop(0x90000000)
    assert str(e.value).endswith(f"Unsupported CPU type (pvr {version << 16 | 0xABC:#010x})!")
    words = decoded(hdr)
    assert words.pop("pvr").endswith(", revision 0xabc; its translation is not supported")
    assert set(words.values()) == {""}


@pytest.mark.parametrize(
    ("pvr", "name"),
    [
        (0x00010002, "PowerPC 601, revision 0x2"),
        (0x00080301, "PowerPC 750, revision 0x301"),
        (0x80030102, "PowerPC 7447A, revision 0x102"),
        (0x0039_0202, "PowerPC 970, revision 0x202; its translation is not supported"),
        (0x7777_0001, "a CPU that is not known, revision 0x1; its translation is not supported"),
    ],
)
def test_names_of_cpus(pvr: int, name: str) -> None:
    assert decoded(header(pvr))["pvr"] == name


# -- registers in words ------------------------------------------------------------------------------------------------


def test_sdr1_in_words() -> None:
    assert decoded(header(sdr1=0x00A30000))["sdr1"] == "page table of 64 KiB at pa 0xa30000"
    assert decoded(header(sdr1=0x10000007))["sdr1"] == "page table of 512 KiB at pa 0x10000000"


def test_segment_registers_in_words() -> None:
    values = [0x123456, 0x40000007, 0x20000007, 0x10000007, DIRECT | 0x7F000000, *[0xFFFFFF] * 11]
    words = decoded(header(sr=values))
    assert words["sr[0]"] == "va 0x0: VSID 0x123456"
    assert words["sr[1]"] == "va 0x10000000: VSID 0x7, Ks"
    assert words["sr[2]"] == "va 0x20000000: VSID 0x7, Kp"
    assert words["sr[3]"] == "va 0x30000000: VSID 0x7, N, not for execution"
    assert words["sr[4]"] == "va 0x40000000: a direct-store segment (T=1), which holds no memory"
    assert words["sr[15]"] == "va 0xf0000000: VSID 0xffffff"


@pytest.mark.parametrize("kind", ["dbat", "ibat"])
@pytest.mark.parametrize(
    ("upper", "lower", "text"),
    [
        (0x00001FFE, 0x12, "va 0x0 to 0xfffffff is pa 0x0, 256 MiB, read and write, coherent"),
        (0x90000002, 0x00020001, "va 0x90000000 to 0x9001ffff is pa 0x20000, 128 KiB, read only"),
        (0xA000007E, 0x02000029, "va 0xa0000000 to 0xa03fffff is pa 0x2000000, 4 MiB, read only, not cached, guarded"),
        (0x80001FFF | 0x6000, 0x40, "va 0x80000000 to 0xbfffffff is pa 0x0, 1 GiB, no access, write-through"),
        (0x90000001, 0x2, "not valid for the kernel (Vs=0)"),
        (0x90020006, 0x2, "valid, but matches no address: va 0x90020000 is no multiple of its length, 0x40000"),
    ],
)
def test_bats_in_words(kind: str, upper: int, lower: int, text: str) -> None:
    hdr = header()
    hdr[f"{kind}u"][3], hdr[f"{kind}l"][3] = upper, lower
    words = decoded(hdr)
    assert words[f"{kind}u[3]"] == text
    assert words[f"{kind}l[3]"] == ""
    assert words[f"{kind}u[2]"] == "not valid for the kernel (Vs=0)"


@pytest.mark.parametrize(
    ("upper", "lower", "text"),
    [
        (0x00000002, 0x7F, "va 0x0 to 0x7fffff is pa 0x0, 8 MiB, read and write"),
        (0x00000000, 0x40, "va 0x0 to 0x1ffff is pa 0x0, 128 KiB, read and write"),
        (0x00000008, 0x40, "va 0x0 to 0x1ffff is pa 0x0, 128 KiB, no access"),
        (0x00000009, 0x40, "va 0x0 to 0x1ffff is pa 0x0, 128 KiB, read only"),
        (0x00000001, 0x40, "va 0x0 to 0x1ffff is pa 0x0, 128 KiB, read and write"),
        (0x0000007B, 0x40, "va 0x0 to 0x1ffff is pa 0x0, 128 KiB, read only, write-through, not cached, coherent"),
        (0x90000042, 0x20043, "va 0x90000000 to 0x9007ffff is pa 0x20000, 512 KiB, read and write, write-through"),
        (0x00000042, 0x3F, "not valid (V=0)"),
    ],
)
def test_bats_of_a_601_in_words(upper: int, lower: int, text: str) -> None:
    hdr = header(MPC601)
    hdr["dbatu"][3], hdr["dbatl"][3] = upper, lower
    hdr["dbatu"][4] = hdr["ibatu"][0] = 0xFFFFFFFF
    words = decoded(hdr)
    assert words["dbatu[3]"] == text
    assert words["dbatu[2]"] == "not valid (V=0)"
    assert words["dbatu[4]"] == words["ibatu[0]"] == "a 601 doesn't have it"


# -- translation -------------------------------------------------------------------------------------------------------


def test_bats_come_first_and_then_the_table() -> None:
    memory = Memory(0x40000)
    hdr = header(**BAT)
    put_page(memory, 0x109, 0x9FFFF000, 0x7000)
    put_page(memory, 0x10A, 0xA0000000, 0x8000)
    put_page(memory, 0x10B, 0xB0000000, 0x9000, secondary=True)
    t = translator(hdr, memory)
    assert t.kvatop(0x9FFFF123) == (0x2FFFF123, 0xEDD)
    assert t.kvatop(0xA0000123) == (0x8123, 0x1000 - 0x123)
    assert t.kvatop(0xB0000FFF) == (0x9FFF, 1)
    assert [s.name for s in t.walk(0xB0000000)] == ["segment register", "primary PTEG", "secondary PTEG"]
    for va in (0x8FFFFFFF, 0xA0001000, 0xC0000000):
        with pytest.raises(kvmlib.TranslationError, match="is not mapped"):
            t.kvatop(va)
    hdr["sr"][0xA] |= DIRECT
    with pytest.raises(kvmlib.TranslationError, match="direct-store segment"):
        translator(hdr, memory).kvatop(0xA0000000)


def test_a_601_reads_its_own_registers() -> None:
    hdr = header(MPC601)
    # V is in the lower word; what libkvm takes for it is W in the upper one.
    hdr["dbatu"][0], hdr["dbatl"][0] = 0x90000002, 0x00100040
    hdr["dbatu"][1], hdr["dbatl"][1] = 0xA0000042, 0x00200000
    hdr["dbatu"][4], hdr["dbatl"][4] = 0xC0000002, 0x00300040
    t = translator(hdr)
    assert t.kvatop(0x90000000) == (0x100000, 0x20000)
    for va in (0x90020000, 0xA0000000, 0xC0000000):
        with pytest.raises(kvmlib.TranslationError, match="is not mapped"):
            t.kvatop(va)


def test_tables_that_are_missing() -> None:
    memory = Memory(HTAB)
    with pytest.raises(kvmlib.TranslationError, match=r"could not read primary PTEG, it is at pa 0x2\w{4}, which"):
        translator(header(), memory).kvatop(0xD0000000)


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cpu", "blocks"),
    [
        ("netbsd/powerpc", "PowerPC 7455,", {128 << 10, 4 << 20, 256 << 20, 1 << 30}),
        ("netbsd/powerpc-601", "PowerPC 601,", {128 << 10, 512 << 10, 8 << 20}),
    ],
)
def test_samples_use_blocks_of_several_sizes_and_both_ptegs(
    name: str, cpu: str, blocks: set[int], tmp_path: Path
) -> None:
    sample = kvmlib.make_sample(name, tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert kd.registers[0].decoded.startswith(cpu)
        ends = [kd.walk(w.va)[-1].name for w in sample.mapped]
        assert min(ends.count(end) for end in ("BAT", "primary PTEG", "secondary PTEG")) > 3
        windows = [m for m in kd.mappings() if kd.walk(m.va)[-1].outcome == "window"]
        assert {m.size for m in windows} == blocks
        for m in windows:
            assert kd.kvatop(m.va) == (m.pa, m.size)
            assert kd.kvatop(m.va + m.size - 1) == (m.pa + m.size - 1, 1)
        register = next(r for r in kd.registers if r.name == "sdr1")
        assert register.decoded == f"page table of 128 KiB at pa {sample.root:#x}"


def test_the_601_has_direct_store_segments(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("netbsd/powerpc-601", tmp_path)
    with kvmlib.open(sample.image) as kd:
        for va in (0x80000000, 0x8FFFFFFF, 0xF0000000):
            with pytest.raises(kvmlib.TranslationError, match=r"a direct-store segment \(T=1\)"):
                kd.kvatop(va)
