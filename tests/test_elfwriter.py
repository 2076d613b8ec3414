"""Kernel files: what was written is what elf(5)'s other readers see."""

import io
import lzma
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, strategies as st

import kvmlib
from kvmlib.elfwriter import ElfSection, loaded_elf, parse_symbols, write_elf
from kvmlib.kcore import ByteOrder
from kvmlib.namelist import read_elf

MACHINES: list[tuple[str, int, ByteOrder]] = [
    ("EM_386", 32, "little"),
    ("EM_X86_64", 64, "little"),
    ("EM_SPARC", 32, "big"),
    ("EM_SPARCV9", 64, "big"),
    ("EM_ALPHA", 64, "little"),
]
#: Numbers of e_machine; alpha's is not the one that was assigned to it in the end.
E_MACHINE = {"EM_386": 3, "EM_X86_64": 62, "EM_SPARC": 2, "EM_SPARCV9": 43, "EM_ALPHA": 0x9026}
machines = pytest.mark.parametrize(("elf_machine", "bits", "order"), MACHINES, ids=[m[0] for m in MACHINES])
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@st.composite
def symbol_lists(draw: st.DrawFn) -> tuple[int, list[kvmlib.Symbol]]:
    index = draw(st.integers(0, len(MACHINES) - 1))
    values = st.integers(0, (1 << MACHINES[index][1]) - 0x10000)
    rows = st.tuples(NAMES, values, st.integers(0, 0xFFFF), st.sampled_from("TtBb"))
    return index, [kvmlib.Symbol(*row) for row in draw(st.lists(rows, max_size=30))]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf") / "kernel"


@given(symbol_lists())
def test_symbols_come_back(scratch: Path, case: tuple[int, list[kvmlib.Symbol]]) -> None:
    elf_machine, bits, order = MACHINES[case[0]]
    scratch.write_bytes(write_elf(case[1], elf_machine=elf_machine, bits=bits, byteorder=order))
    table = read_elf(scratch)
    assert sorted(table) == sorted(case[1])
    assert table.elf_machine == elf_machine


def section_of(elf: ELFFile, name: str) -> Any:
    section = elf.get_section_by_name(name)
    assert section is not None
    return section


SECTIONS = (
    ElfSection(".text", "T", 0x1000, 0x40, b"\x90" * 0x40, pa=0x201000),
    ElfSection(".rodata", "R", 0x2000, 0x10, b"constants-of-16b"),
    ElfSection(".data", "D", 0x3000, 8, b"\1\2\3\4\5\6\7\b"),
    ElfSection(".bss", "B", 0x3008, 0x100),
)
SYMBOLS = (
    kvmlib.Symbol("start", 0x1000, 0x20, "T"),
    kvmlib.Symbol("helper", 0x1020, 0x20, "t"),
    kvmlib.Symbol("version", 0x2000, 0x10, "R"),
    kvmlib.Symbol("dumpmag", 0x3000, 8, "D"),
    kvmlib.Symbol("panicstr", 0x3008, 8, "B"),
    kvmlib.Symbol("end", 0x3108, 0, "B"),
    kvmlib.Symbol("kernbase", 0x8000, 0, "A"),
)


def kernel(elf_machine: str, bits: int, order: ByteOrder) -> bytes:
    return write_elf(
        SYMBOLS, elf_machine=elf_machine, bits=bits, byteorder=order, sections=SECTIONS, flags=5, entry=0x1000
    )


@machines
def test_sections_and_kinds(elf_machine: str, bits: int, order: ByteOrder, scratch: Path) -> None:
    data = kernel(elf_machine, bits, order)
    scratch.write_bytes(data)
    assert sorted(read_elf(scratch)) == sorted(SYMBOLS)
    elf = ELFFile(io.BytesIO(data))
    assert (elf.elfclass, elf.little_endian) == (bits, order == "little")
    assert read_elf(scratch).elf_machine == elf_machine
    assert int.from_bytes(data[18:20], order) == E_MACHINE[elf_machine]
    assert (elf["e_flags"], elf["e_entry"], elf["e_type"]) == (5, 0x1000, "ET_EXEC")
    for s in SECTIONS:
        section = section_of(elf, s.name)
        assert (section["sh_addr"], section["sh_size"]) == (s.va, s.size)
        if s.data:
            assert section.data() == s.data
    loads = [(p["p_vaddr"], p["p_paddr"], p.data()) for p in elf.iter_segments()]
    assert loads == [(s.va, s.pa or s.va, s.data) for s in SECTIONS if s.data]
    symtab = section_of(elf, ".symtab")
    binds = [symtab.get_symbol(i)["st_info"]["bind"] for i in range(symtab.num_symbols())]
    assert binds == ["STB_LOCAL"] * symtab["sh_info"] + ["STB_GLOBAL"] * (len(binds) - symtab["sh_info"])
    types = {s.name: s["st_info"]["type"] for s in symtab.iter_symbols()}
    assert types["start"] == types["helper"] == "STT_FUNC"
    assert types["version"] == "STT_OBJECT"
    assert types["end"] == "STT_NOTYPE"


@machines
def test_binutils_has_nothing_to_complain_about(elf_machine: str, bits: int, order: ByteOrder, scratch: Path) -> None:
    if not shutil.which("readelf"):
        pytest.skip("needs readelf(1)")
    scratch.write_bytes(kernel(elf_machine, bits, order))
    run = subprocess.run(["readelf", "-aW", scratch], capture_output=True, text=True, check=True)
    assert "arning" not in run.stdout + run.stderr
    assert run.stderr == ""
    assert "dumpmag" in run.stdout


def test_nm_agrees(scratch: Path) -> None:
    if not shutil.which("nm"):
        pytest.skip("needs nm(1)")
    scratch.write_bytes(kernel("EM_X86_64", 64, "little"))
    run = subprocess.run(["nm", "-S", scratch], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("this nm(1) does not know amd64")
    assert sorted(parse_symbols(run.stdout)) == sorted(SYMBOLS)


@machines
def test_what_a_boot_loader_leaves_in_memory(elf_machine: str, bits: int, order: ByteOrder) -> None:
    data = loaded_elf(SYMBOLS, elf_machine=elf_machine, bits=bits, byteorder=order, sections=SECTIONS)
    elf = ELFFile(io.BytesIO(data))
    assert (elf["e_phoff"], elf["e_phnum"], elf["e_phentsize"]) == (0, 0, 0)
    assert elf["e_shoff"] == elf["e_ehsize"] == (64 if bits == 64 else 52)
    symtab = section_of(elf, ".symtab")
    assert [s.name for s in symtab.iter_symbols()][1:] == [s.name for s in SYMBOLS]
    assert [s["st_value"] for s in symtab.iter_symbols()][1:] == [s.value for s in SYMBOLS]
    for name in (".symtab", ".strtab", ".shstrtab"):
        section = section_of(elf, name)
        assert section["sh_flags"] == 2
        assert section["sh_offset"] + section["sh_size"] <= len(data)
    sorted_by_ksyms = loaded_elf(
        SYMBOLS, elf_machine=elf_machine, bits=bits, byteorder=order, sections=SECTIONS, st_shndx=5
    )
    symtab = section_of(ELFFile(io.BytesIO(sorted_by_ksyms)), ".symtab")
    assert {s["st_shndx"] for s in symtab.iter_symbols()} == {"SHN_UNDEF", 5}


def test_symbol_lists_as_people_write_them() -> None:
    text = "# found by hand\n\npanic 0xd024d3f9\nffffffff81000000 T start\n0000000000001020 0000000000000020 t helper\n"
    assert parse_symbols(text) == [
        kvmlib.Symbol("panic", 0xD024D3F9, 0, "T"),
        kvmlib.Symbol("start", 0xFFFFFFFF81000000, 0, "T"),
        kvmlib.Symbol("helper", 0x1020, 0x20, "t"),
    ]


@pytest.mark.parametrize("line", ["panic", "panic d024d3f9", "panic 0xzz", "0x1000 T start", "\x1b[2J 1 2 3 4"])
def test_other_lines_are_named(line: str) -> None:
    with pytest.raises(kvmlib.FormatError, match="line 2 is no symbol") as e:
        parse_symbols(f"panic 0xd024d3f9\n{line}\n")
    assert str(e.value).isprintable()


@pytest.mark.parametrize("bits", [32, 64])
def test_sizes_that_cannot_be(bits: int, tmp_path: Path) -> None:
    """A hostile dump's symbols can claim any size: together they need more than there are addresses."""
    top = (1 << bits) - 1
    symbols = [kvmlib.Symbol("a", 0, top, "T"), kvmlib.Symbol("b", top, top, "T"), kvmlib.Symbol("c", top, 1, "d")]
    path = tmp_path / "kernel"
    path.write_bytes(write_elf(symbols, elf_machine="EM_386", bits=bits, byteorder="little"))
    assert [(s.name, s.value, s.size) for s in read_elf(path)] == [("a", 0, top), ("b", top, top), ("c", top, 1)]


@pytest.mark.parametrize("line", ["x 0x1ffffffff", "1ffffffff T x", "1000 100000000 T x"])
def test_what_does_not_fit_is_refused(line: str) -> None:
    with pytest.raises(kvmlib.FormatError, match=r"x at 0x1.* can't be in an ELF file of 32 bits"):
        write_elf(parse_symbols(line), elf_machine="EM_386", bits=32, byteorder="little")


@pytest.mark.slow
def test_a_real_kernels_symbols(shared: Path, tmp_path: Path) -> None:
    packed = shared / "real" / "openbsd-5.1-i386.swap.img.xz"
    if not packed.exists():
        pytest.skip("needs the real dump")
    system = tmp_path / "bsd"
    symbols = parse_symbols((shared / "real" / "openbsd-5.1-i386.symbols").read_text())
    system.write_bytes(write_elf(symbols, elf_machine="EM_386", bits=32, byteorder="little"))
    image = tmp_path / "swap.img"
    with lzma.open(packed) as source, image.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    with kvmlib.open(image, system=system) as kd:
        assert kd.machine is not None
        assert kd.machine.name == "openbsd/i386"
        assert kd.dump_off == 0x629C000
        found = kd.nlist("version", "panicstr", "msgbufp", "panic")
        assert kd.read(found["version"].value, 52) == b"OpenBSD 5.1 (RAMDISK) #98: Sun Feb 12 10:04:33 MST 2"
        panicstr = int.from_bytes(kd.read(found["panicstr"].value, 4), "little")
        assert kd.read(panicstr, 32) == b"ffs_blkfree: freeing free block\0"
        msgbuf = int.from_bytes(kd.read(found["msgbufp"].value, 4), "little")
        assert kd.kvatop(msgbuf)[0] == 0x2FDC000
        longs = [int.from_bytes(kd.read(msgbuf + 4 * i, 4), "little") for i in range(5)]
        assert longs == [0x063061, 0x9B1, 0, 0x3FEC, 0x9B1]
        assert kd.kvatop(0xD0348000)[0] == 0xFEE00000
        with pytest.raises(kvmlib.NotInDumpError):
            kd.read(0xD0348000, 4)
        with pytest.raises(kvmlib.SymbolError, match="dumpmag"):
            kd.dumpmag()
