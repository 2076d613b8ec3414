"""NetBSD's list of symbol tables: the kernel's own without the boot loader's header, and loaded modules'."""

import re
import struct
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings, strategies as st

import kvmlib
from kvmlib.__main__ import main
from kvmlib.carve import carve
from kvmlib.match import match
from tests.samples import sample_in, va_of

#: Both widths, both byte orders; the last ones' page tables aren't known.
NAMES = ("netbsd/amd64", "netbsd/i386", "netbsd/mipseb", "netbsd/sparc64", "netbsd/hppa", "netbsd/powerpc64")
MAPPED = NAMES[:4]
ALL = [n for n in kvmlib.sample_names() if n.startswith("netbsd/")]
#: Longs in struct ksyms_symtab before sd_usroffset.
LONGS = 7


class Dump:
    """A sample without its kernel file, to be damaged."""

    def __init__(self, name: str, folder: Path) -> None:
        self.sample = sample_in(folder, name)
        Path(self.sample.kernel).unlink()
        self.long = self.sample.machine.long_bytes
        self.order = self.sample.machine.byteorder
        with self.open() as kd:
            loaded = int(re.findall("at pa (0x[0-9a-f]+)", kd.symbols.source)[0], 16)
            self.at = {"loaded": kd.pa2off(loaded)}
            for name in ("kernel_symtab", "ksyms_symtabs", "ksyms_hdr"):
                self.at[name] = kd.pa2off(va_of(self.sample, name) + self.sample.kernel_offset)
            self.module = 0
            if any(s.module for s in kd.symbols):
                va = int.from_bytes(kd.read(va_of(self.sample, "kernel_symtab"), self.long), self.order)
                self.module = kd.pa2off(kd.kvatop(va)[0])

    def open(self) -> kvmlib.Kvm:
        return kvmlib.open(self.sample.image, machine=self.sample.machine, dump_off=self.sample.dump_off)

    def put(self, offset: int, data: bytes) -> None:
        with open(self.sample.image, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def get(self, offset: int, n: int) -> bytes:
        with open(self.sample.image, "rb") as f:
            f.seek(offset)
            return f.read(n)

    def put_long(self, offset: int, value: int) -> None:
        self.put(offset, value.to_bytes(self.long, self.order))

    def put_int(self, offset: int, value: int) -> None:
        self.put(offset, value.to_bytes(4, self.order))

    @property
    def usroffset(self) -> int:
        return self.module + LONGS * self.long


@pytest.fixture(params=MAPPED)
def dump(request: pytest.FixtureRequest, tmp_path: Path) -> Dump:
    return Dump(request.param, tmp_path)


def plain(symbols: kvmlib.SymbolTable) -> set[tuple[str, int, int]]:
    return {(s.name, s.value, s.size) for s in symbols if not s.module}


def names(symbols: kvmlib.SymbolTable) -> set[str]:
    return {s.name for s in symbols if s.module == "tmpfs"}


# -- the kernel's own table ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_without_the_loaders_header(name: str, tmp_path: Path) -> None:
    """As where the symbols came another way than by the boot loader's copy, or it was overwritten."""
    dump = Dump(name, tmp_path)
    with dump.open() as kd:
        modules = names(kd.symbols)
    dump.put(dump.at["loaded"], bytes(4))
    with dump.open() as kd:
        assert plain(kd.symbols) == {(s.name, s.value, s.size) for s in dump.sample.symbols}
        assert {s.name for s in kd.symbols if s.kind in "Tt"} >= {s.name for s in dump.sample.symbols if s.kind == "T"}
        assert names(kd.symbols) == modules
        best = carve(kd.image, kd.memory, dump.sample.machine)[0]
        assert best.score == 100
        assert "listed in ksyms_symtabs" in best.reasons[0]


def test_without_the_section_names_nothing_is_listed(dump: Dump) -> None:
    dump.put(dump.at["loaded"], bytes(4))
    at = dump.get(dump.at["ksyms_hdr"], 700).index(b"\0.symtab\0")
    dump.put(dump.at["ksyms_hdr"] + at + 1, b"-")
    with dump.open() as kd:
        assert all("listed" not in c.reasons[0] for c in carve(kd.image, kd.memory, dump.sample.machine))
        assert len(kd.symbols) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_entry_must_fit_the_list(name: str, tmp_path: Path) -> None:
    dump = Dump(name, tmp_path)
    dump.put(dump.at["loaded"], bytes(4))
    first = dump.get(dump.at["ksyms_symtabs"], dump.long)
    dump.put_long(dump.at["ksyms_symtabs"], int.from_bytes(first, dump.order) + dump.long)
    with dump.open() as kd:
        found = carve(kd.image, kd.memory, dump.sample.machine, kd.translator.kvatop)
        assert [c.pa for c in found] == [dump.sample.decoys["symbols"]]


# -- modules ---------------------------------------------------------------------------------------------------------


def test_names_and_addresses_of_a_module(dump: Dump, capsys: pytest.CaptureFixture[str]) -> None:
    mount = next(s for s in dump.sample.modules if s.name == "tmpfs_mount")
    with dump.open() as kd:
        symbol = kd.nlist("tmpfs_mount")["tmpfs_mount"]
        assert symbol == mount._replace(module="tmpfs")
        assert symbol.label == "tmpfs_mount [tmpfs]"
        assert kd.describe(mount.value) == "tmpfs_mount [tmpfs]"
        assert kd.describe(mount.value + 5) == "tmpfs_mount+0x5 [tmpfs]"
        for text in ("tmpfs_mount+0x5", "tmpfs_mount+0x5 [tmpfs]", "tmpfs_mount+5"):
            assert kd.address(text) == mount.value + 5
        with pytest.raises(kvmlib.SymbolError):
            kd.address("tmpfs_mount [ffs]")
        assert {s.kind for s in kd.symbols if s.module} == {"T", "t", "D", "d"}
        assert {s.name for s in kd.symbols.match("[tmpfs")} == set(), "a pattern"
        assert {s.name for s in kd.symbols.match("tmpfs]")} == {s.name for s in dump.sample.modules}
        assert {s.module for s in kd.symbols.match("tmpfs_modcmd")} == {"tmpfs"}
        assert kd.symbols.source.endswith(", with 1 loaded module")
    assert main(["symbols", dump.sample.image, "tmpfs_mount"]) == 0
    assert capsys.readouterr().out == f"{mount.value:0{2 * dump.long}x} T tmpfs_mount [tmpfs]\n"
    assert main(["symbols", "--json", dump.sample.image, "tmpfs_mount"]) == 0
    assert '"module": "tmpfs"' in capsys.readouterr().out
    assert main(["translate", dump.sample.image, "tmpfs_mount+0x5"]) == 0
    assert "tmpfs_mount+0x5 [tmpfs]" in capsys.readouterr().out


def test_the_kernels_symbols_come_first() -> None:
    own = kvmlib.Symbol("modcmd", 0x100, 4, "t")
    other = kvmlib.Symbol("modcmd", 0x200, 4, "T", "one")
    third = kvmlib.Symbol("modcmd", 0x300, 4, "t", "two")
    assert kvmlib.SymbolTable([other, own, third], "x").get("modcmd") is own
    assert kvmlib.SymbolTable([third, other], "x").get("modcmd") is other


def test_with_a_kernel_file(tmp_path: Path) -> None:
    """A kernel file knows no modules; the dump does."""
    sample = sample_in(tmp_path, "netbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        assert kd.symbols.path == sample.kernel
        assert names(kd.symbols) == {s.name for s in sample.modules}
        assert kd.symbols.source == "netbsd-amd64.elf, beside the dump, with 1 loaded module"
        assert match(kd, kd.symbols).verdict == "same"


def test_a_sparse_dump_has_modules_too(tmp_path: Path) -> None:
    dump = Dump("netbsd/amd64-sparse", tmp_path)
    with dump.open() as kd:
        assert names(kd.symbols) == {s.name for s in dump.sample.modules}


def test_one_that_is_gone(dump: Dump) -> None:
    """It is kept for those who have /dev/ksyms open only."""
    dump.put(dump.usroffset + 16, b"\1")
    with dump.open() as kd:
        assert not any(s.module for s in kd.symbols)
        assert "module" not in kd.symbols.source


@pytest.mark.parametrize("offset", [0, 1, 77])
def test_names_are_counted_from_usroffset(dump: Dump, offset: int) -> None:
    """Before /dev/ksyms was ever opened it may be anything."""
    was = int.from_bytes(dump.get(dump.usroffset, 4), dump.order)
    entry = 24 if dump.long == 8 else 16
    size = int.from_bytes(dump.get(dump.usroffset + 4, 4), dump.order)
    with dump.open() as kd:
        start = int.from_bytes(dump.get(dump.module + 3 * dump.long, dump.long), dump.order)
        at = kd.pa2off(kd.kvatop(start)[0])
    for row in range(at, at + size, entry):
        st_name = int.from_bytes(dump.get(row, 4), dump.order)
        dump.put_int(row, st_name - was + offset)
    dump.put_int(dump.usroffset, offset)
    with dump.open() as kd:
        assert names(kd.symbols) == {s.name for s in dump.sample.modules}
    dump.put_int(dump.usroffset, offset + 1000)
    with dump.open() as kd:
        assert names(kd.symbols) == set()
        assert kd.symbols.source.endswith(", with no loaded modules: tmpfs's can't be true")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        # tqe_prev, symstart, strstart; symsize, strsize, nglob.
        (("long", 1), 16, "their list can't be followed"),
        (("long", 3), 0, "tmpfs's can't be true"),
        (("long", 3), 4, "tmpfs's can't be read"),
        (("long", 6), 4, "tmpfs's can't be read"),
        (("int", 1), 0x7FFFFFF0, "tmpfs's can't be true"),
        (("int", 2), 0x80000000, "tmpfs's can't be true"),
        (("int", 2), 1, "tmpfs's can't be true"),
        (("int", 3), 0xFFFFFFFF, "tmpfs's can't be true"),
    ],
    ids=str,
)
def test_damaged_entries(dump: Dump, field: tuple[str, int], value: int, problem: str) -> None:
    kind, number = field
    if kind == "long":
        dump.put_long(dump.module + number * dump.long, value)
    else:
        dump.put_int(dump.usroffset + 4 * number, value)
    with dump.open() as kd:
        assert plain(kd.symbols) == {(s.name, s.value, s.size) for s in dump.sample.symbols}
        assert names(kd.symbols) == set()
        assert kd.symbols.source.endswith(f", with no loaded modules: {problem}")


def test_a_list_that_is_broken_off(dump: Dump) -> None:
    """What was found until then stays."""
    dump.put_long(dump.module, 0xDEADBEE8)
    with dump.open() as kd:
        assert names(kd.symbols) == {s.name for s in dump.sample.modules}
        assert kd.symbols.source.endswith("with 1 loaded module: their list can't be followed to its end")


def test_a_list_that_runs_in_a_circle(dump: Dump) -> None:
    first = dump.get(dump.at["kernel_symtab"], dump.long)
    dump.put(dump.module, first)
    dump.put(dump.module + dump.long, first)
    with dump.open() as kd:
        assert len(kd.symbols) < 2 * len(dump.sample.symbols)


def test_a_hostile_name(dump: Dump) -> None:
    name = int.from_bytes(dump.get(dump.module + 2 * dump.long, dump.long), dump.order)
    with dump.open() as kd:
        dump.put(kd.pa2off(kd.kvatop(name)[0]), b"\x1b[2J\0")
    with dump.open() as kd:
        assert {s.module for s in kd.symbols} == {"", "\\x1b[2J"}
        assert kd.describe(next(s.value for s in kd.symbols if s.module)).isprintable()


def test_two_modules_in_an_elf_file(tmp_path: Path) -> None:
    """Each has sections of its own, so that none covers what lies between them."""
    symbols = [
        kvmlib.Symbol("panic", 0x1000, 16, "T"),
        kvmlib.Symbol("attach", 0x9000, 16, "t", "one"),
        kvmlib.Symbol("attach", 0xF000, 16, "t", "two"),
        kvmlib.Symbol("state", 0xF100, 8, "d", "two"),
    ]
    elf = ELFFile(BytesIO(kvmlib.write_elf(symbols, elf_machine="EM_386", bits=32, byteorder="little")))
    found = {s.name: (s["sh_addr"], s["sh_size"]) for s in elf.iter_sections() if s["sh_addr"]}
    assert found == {
        ".text": (0x1000, 16),
        ".text.one": (0x9000, 16),
        ".text.two": (0xF000, 16),
        ".data.two": (0xF100, 8),
    }


@pytest.fixture(scope="module", params=["netbsd/amd64", "netbsd/mipseb"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    return Dump(request.param, tmp_path_factory.mktemp("kept"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["kernel_symtab", "ksyms_symtabs", "ksyms_hdr", "loaded", "module"]),
            st.integers(0, 400),
            st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))),
        ),
        min_size=1,
        max_size=4,
    ),
    header=st.booleans(),
)
def test_damage_is_no_error(kept: Dump, changes: list[tuple[str, int, bytes]], header: bool) -> None:
    undo = []
    for what, at, data in [*changes, *([] if header else [("loaded", 0, bytes(4))])]:
        offset = kept.module if what == "module" else kept.at[what]
        undo.append((offset + at, kept.get(offset + at, len(data))))
        kept.put(offset + at, data)
    with kept.open() as kd:
        assert len(kd.symbols) <= 3 * len(kept.sample.symbols)
    for offset, data in reversed(undo):
        kept.put(offset, data)


def test_layout_of_the_sample(tmp_path: Path) -> None:
    """The name table's 61 bytes lie where the system's own tools look for them: at 568 with 64-bit longs."""
    dump = Dump("netbsd/amd64", tmp_path)
    header = dump.get(dump.at["ksyms_hdr"], 656)
    assert header[568 : 568 + 61] == b"\0.note.netbsd.ident\0.symtab\0.strtab\0.shstrtab\0.bss\0.SUNW_ctf\0"
    assert struct.unpack("<3I8sI", header[632:]) == (7, 4, 1, b"NetBSD\0\0", 799005900)
