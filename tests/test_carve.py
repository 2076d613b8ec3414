"""Symbols from the dump itself: the table that the boot loader left in memory."""

import shutil
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings, strategies as st

import kvmlib
from kvmlib.carve import Carved, carve
from kvmlib.elfwriter import ElfSection, write_elf
from tests.samples import poke, sample_in, without_symbols

BLOCK = 4096


def alone(name: str, folder: Path) -> kvmlib.Sample:
    sample = kvmlib.make_sample(name, folder)
    Path(sample.kernel).unlink()
    return sample


def plain(symbols: kvmlib.SymbolTable | tuple[kvmlib.Symbol, ...]) -> set[tuple[str, int, int]]:
    return {(s.name, s.value, s.size) for s in symbols}


@pytest.mark.parametrize("name", kvmlib.sample_names())
def test_every_machine_without_a_kernel_file(name: str, tmp_path: Path) -> None:
    sample = alone(name, tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert plain(kd.symbols) == plain(sample.symbols)
        assert kd.symbols.path is None
        assert kd.symbols.source.startswith("the dump itself, at pa 0x")
        fact = next(f for f in kvmlib.summary(kd).facts if f.label == "SYMBOLS")
        assert fact.text.startswith(f"{len(sample.symbols)} from the dump itself")
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


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/mipseb"])
def test_exported_as_elf(name: str, tmp_path: Path) -> None:
    from kvmlib.__main__ import main

    sample = alone(name, tmp_path)
    assert main(["symbols", sample.image, "--elf", str(tmp_path / "kernel")]) == 0
    elf = ELFFile(BytesIO((tmp_path / "kernel").read_bytes()))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    assert {s.name for s in table.iter_symbols() if s.name} == {s.name for s in sample.symbols}


# -- what looks like it but isn't ------------------------------------------------------------------------------------


def found(sample: kvmlib.Sample) -> list[Carved]:
    with kvmlib.Kvm(sample.image, machine=sample.machine) as kd:
        kd.dump_mkheader(sample.dump_off)
        return carve(kd.image, kd.memory, sample.machine)


def test_a_program_in_the_page_cache_is_no_kernel(tmp_path: Path) -> None:
    sample = alone("openbsd/amd64", tmp_path)
    text = kvmlib.Symbol("main", 0x401000, 16, "T")
    section = ElfSection(".text", "T", 0x401000, 16, bytes(16))
    symbols = [text, *sample.symbols[:40]]
    program = write_elf(symbols, elf_machine="EM_X86_64", bits=64, byteorder="little", sections=[section])
    # Four pages in a row that nobody needs.
    run = [w for w in sample.mapped if w.use == "data" and w.size == 4 * BLOCK][-1]
    with kvmlib.open(sample.image) as kd:
        at = kd.pa2off(run.pa)
    with Path(sample.image).open("r+b") as f:
        f.seek(at)
        f.write(program[: 4 * BLOCK])
    assert len(found(sample)) == 1


def test_a_table_of_another_kernel_is_not_taken(tmp_path: Path) -> None:
    """A kernel before this one left it: what lies where its version was is something else now."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    poke(sample, "version", b"no version here")
    Path(sample.kernel).unlink()
    assert len(found(sample)) == 1
    with kvmlib.open(sample.image) as kd:
        assert len(kd.symbols) == 0


@pytest.fixture(scope="module", params=["openbsd/amd64", "netbsd/i386", "netbsd/sparc64"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[kvmlib.Sample, int]:
    sample = alone(request.param, tmp_path_factory.mktemp("kept"))
    with kvmlib.open(sample.image) as kd:
        pa = int(kd.symbols.source.rpartition(" ")[2], 16)
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
