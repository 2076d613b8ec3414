"""Symbols from the dump itself: the table that the boot loader left in memory, and what looks like one."""

import re
import shutil
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings, strategies as st

import kvmlib
from kvmlib.__main__ import main
from kvmlib.carve import Carved, carve
from tests.samples import poke, sample_in, truncate, va_of, without_symbols


def alone(name: str, folder: Path) -> kvmlib.Sample:
    sample = kvmlib.make_sample(name, folder)
    Path(sample.kernel).unlink()
    return sample


def plain(symbols: Iterable[kvmlib.Symbol], module: str = "") -> set[tuple[str, int, int]]:
    return {(s.name, s.value, s.size) for s in symbols if s.module == module}


#: NetBSD's machines whose modules lie where nothing leads to: no header says where the page tables are, or of vax only
#: what the kernel's image maps.
BLIND = ("hppa", "ia64", "or1k", "powerpc64", "sh3eb", "sh3el", "sparc-sun4d", "vax")


@pytest.mark.parametrize("name", kvmlib.sample_names())
def test_every_machine_without_a_kernel_file(name: str, tmp_path: Path) -> None:
    sample = alone(name, tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert plain(kd.symbols) == plain(sample.symbols)
        assert kd.symbols.path is None
        assert kd.symbols.source.startswith("the dump itself, at pa 0x")
        modules = () if name.removeprefix("netbsd/") in BLIND else sample.modules
        assert plain(kd.symbols, "tmpfs") == {(s.name, s.value, s.size) for s in modules}
        assert (len(modules) > 0) == (sample.machine.os == "netbsd" and name.removeprefix("netbsd/") not in BLIND)
        assert ("with no loaded modules: their list can't be followed" in kd.symbols.source) == (
            sample.machine.os == "netbsd" and not modules
        )
        fact = next(f for f in kvmlib.summary(kd).facts if f.label == "SYMBOLS")
        assert fact.text.startswith(f"{len(sample.symbols) + len(modules)} from the dump itself")
        assert fact.source == "found by searching memory"
        # Where anything can be translated, openbsd/i386 too: its page directory's address is a variable.
        for w in sample.mapped[:3]:
            assert kd.kvatop(w.va)[0] == w.pa


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/i386", "netbsd/sparc64"])
def test_a_kernel_file_beside_or_named_comes_first(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image) as kd:
        assert kd.symbols.path == sample.kernel
    kernel = Path(sample.kernel).rename(tmp_path / "kernel")
    with kvmlib.open(sample.image, system=kernel) as kd:
        assert kd.symbols.path == str(kernel)


@pytest.mark.parametrize("name", ["openbsd/amd64", "openbsd/i386", "netbsd/i386-pae"])
def test_dumpmag_is_cleared_without_a_kernel_file(name: str, tmp_path: Path) -> None:
    sample = alone(name, tmp_path)
    at = None
    with kvmlib.open(sample.image, write=True) as kd:
        at = kd.dump_inval().offset
    with kvmlib.open(sample.image) as kd:
        assert kd.dumpmag().state == "cleared"
        assert kd.dumpmag().offset == at


def test_nothing_found_is_a_sentence(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    without_symbols(sample)
    with kvmlib.open(sample.image) as kd:
        assert len(kd.symbols) == 0
        with pytest.raises(kvmlib.SymbolError, match="no symbols are in it"):
            kd.dumpmag()


@pytest.mark.parametrize("name", kvmlib.sample_names())
def test_exported_as_elf(name: str, tmp_path: Path) -> None:
    sample = alone(name, tmp_path)
    assert main(["symbols", sample.image, "--elf", str(tmp_path / "kernel")]) == 0
    elf = ELFFile(BytesIO((tmp_path / "kernel").read_bytes()))
    assert (elf.elfclass, elf.little_endian) == (8 * sample.machine.long_bytes, sample.machine.byteorder == "little")
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    modules = () if name.removeprefix("netbsd/") in BLIND else sample.modules
    wanted = {(s.name, s.value) for s in (*sample.symbols, *modules)}
    assert {(s.name, s["st_value"]) for s in table.iter_symbols() if s.name} == wanted
    for s in table.iter_symbols():
        if s.name in {m.name for m in modules}:
            section = elf.get_section(s["st_shndx"])
            assert section.name in (".text.tmpfs", ".data.tmpfs")
            assert section["sh_addr"] <= s["st_value"] < section["sh_addr"] + section["sh_size"]


# -- what looks like it but isn't ------------------------------------------------------------------------------------


def found(sample: kvmlib.Sample) -> list[Carved]:
    with kvmlib.Kvm(sample.image, machine=sample.machine) as kd:
        kd.dump_mkheader(sample.dump_off)
        return carve(kd.image, kd.memory, sample.machine)


#: Both systems, both widths, both byte orders.
KINDS = (
    "openbsd/amd64",
    "openbsd/i386",
    "openbsd/powerpc",
    "openbsd/sparc64",
    "netbsd/amd64",
    "netbsd/i386",
    "netbsd/mipseb",
    "netbsd/sparc64",
)


def put(sample: kvmlib.Sample, pa: int, data: bytes) -> None:
    with kvmlib.Kvm(sample.image, machine=sample.machine) as kd:
        kd.dump_mkheader(sample.dump_off)
        at = kd.pa2off(pa)
    with open(sample.image, "r+b") as f:
        f.seek(at)
        f.write(data)


@pytest.mark.parametrize("name", kvmlib.sample_names())
def test_what_lies_around_fools_nobody(name: str, tmp_path: Path) -> None:
    """A program, an older kernel's symbols, messages and dump header: the first things of their kinds in memory."""
    sample = alone(name, tmp_path)
    m = sample.machine
    for pa in sample.decoys.values() if not name.endswith("-sparse") else ():
        assert any(s.start <= pa < s.start + s.size for s in sample.segments)
    best, *others = kvmlib.find(sample.image)
    assert (best.offset, best.machine.name) == (sample.dump_off, m.name)
    carved = found(sample)
    assert carved[0].score > max([c.score for c in carved[1:]], default=0)
    with kvmlib.open(sample.image) as kd:
        assert plain(kd.symbols) == plain(sample.symbols)
        assert kvmlib.messages(kd).text == sample.messages
        if not name.endswith("-sparse"):
            decoys = {kind: kd.pa2off(pa) for kind, pa in sample.decoys.items()}
            assert decoys["header"] in {c.offset for c in others}
            assert sample.decoys["symbols"] in {c.pa for c in carved}
            assert sample.decoys["program"] not in {c.pa for c in carved}
            assert kd.image.read(decoys["program"], 4) == b"\x7fELF"


@pytest.mark.parametrize("name", KINDS)
def test_a_header_in_the_memory_of_a_dump_that_was_cut_off(name: str, tmp_path: Path) -> None:
    """The old header's segments are all there, the right one's aren't."""
    sample = alone(name, tmp_path)
    truncate(sample, Path(sample.image).stat().st_size - 4096)
    assert kvmlib.find(sample.image)[0].offset == sample.dump_off
    with kvmlib.open(sample.image) as kd:
        assert kd.segments[0].start == sample.segments[0].start


@pytest.mark.parametrize("name", KINDS)
def test_an_older_kernels_table_alone_is_not_taken(name: str, tmp_path: Path) -> None:
    """The kernel's own is lost. What the old one calls version is something else now."""
    sample = alone(name, tmp_path)
    own = found(sample)[0]
    put(sample, own.pa, bytes(4))
    left = found(sample)
    if sample.machine.os == "netbsd":
        assert "listed in ksyms_symtabs" in left[0].reasons[0]
        put(sample, va_of(sample, "kernel_symtab") + sample.kernel_offset, bytes(64))
        left = found(sample)
    assert [c.pa for c in left] == [sample.decoys["symbols"]]
    assert left[0].score < 80
    with kvmlib.open(sample.image) as kd:
        # Where nothing translates, nothing speaks against it.
        assert len(kd.symbols) == (len(left[0].table) if next(kd.mappings(), None) is None else 0)


def test_no_table_leads_to_the_kernels_words(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    poke(sample, "version", b"no version here")
    Path(sample.kernel).unlink()
    assert [c.score >= 80 for c in found(sample)] == [False, False]
    with kvmlib.open(sample.image) as kd:
        assert len(kd.symbols) == 0


@pytest.fixture(scope="module", params=["openbsd/amd64", "netbsd/i386", "netbsd/sparc64"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[kvmlib.Sample, int]:
    sample = alone(request.param, tmp_path_factory.mktemp("kept"))
    with kvmlib.open(sample.image) as kd:
        pa = int(re.findall("at pa (0x[0-9a-f]+)", kd.symbols.source)[0], 16)
        return sample, kd.pa2off(pa)


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_damaged_tables_are_none_or_fewer(
    kept: tuple[kvmlib.Sample, int], changes: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sample, offset = kept
    copy = tmp_path_factory.mktemp("damaged") / "dump.img"
    shutil.copy(sample.image, copy)
    with copy.open("r+b") as f:
        for at, data in changes:
            f.seek(offset + at)
            f.write(data)
    with kvmlib.open(copy, machine=sample.machine, dump_off=sample.dump_off) as kd:
        assert len(kd.symbols) <= 2 * len(sample.symbols)
    copy.unlink()
