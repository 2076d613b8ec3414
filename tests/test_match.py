"""Does a kernel belong to a dump: the right one, a relinked one, another one, and what is left when parts are gone."""

import re
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import kvmlib
from kvmlib.__main__ import main
from kvmlib.kernelfile import KernelFile
from kvmlib.match import Match, check, match, proof
from kvmlib.namelist import SymbolTable, read_elf
from kvmtui.opening import Request, Samples, open_dump
from tests.samples import NAMES, file_offset, forget_symbols, open_with, poke, sample_in, va_of

#: How far a kernel that is linked again moves, in bytes.
SHIFT = 0x1A48
#: Machines whose dumps don't say where the page tables are.
BLIND = [
    "netbsd/hppa",
    "netbsd/ia64",
    "netbsd/or1k",
    "netbsd/powerpc64",
    "netbsd/sh3eb",
    "netbsd/sh3el",
    "netbsd/sparc-sun4d",
    "openbsd/arm-zero",
    "openbsd/m88k",
    "openbsd/powerpc",
    "openbsd/powerpc64",
]
SEEING = [n for n in kvmlib.sample_names() if n not in BLIND]


def sections(path: str) -> list[kvmlib.ElfSection]:
    found = []
    with open(path, "rb") as f:
        for s in ELFFile(f).iter_sections():
            kind = {".text": "T", ".rodata": "R", ".data": "D", ".bss": "B"}.get(s.name)
            if kind:
                data = b"" if kind == "B" else s.data()
                found.append(kvmlib.ElfSection(s.name, kind, s["sh_addr"], s["sh_size"], data))
    return found


def kernel(
    sample: kvmlib.Sample,
    folder: Path,
    *,
    relink: bool = False,
    contents: bool = True,
    edit: Callable[[bytes], bytes] = lambda data: data,
    without: tuple[str, ...] = (),
) -> SymbolTable:
    """The sample's kernel, without its contents, with other ones, or linked again: functions in another order."""
    m = sample.machine
    path = folder / "other-kernel"
    parts = [s._replace(data=edit(s.data)) for s in sections(sample.kernel)]
    symbols = [s for s in sample.symbols if s.name not in without]
    if relink:
        text = next(s for s in parts if s.kind == "T")
        functions = sorted(s.value for s in symbols if s.kind in "Tt")
        first = functions[len(functions) // 2] - text.va
        order = text._replace(data=text.data[first:] + text.data[:first])
        parts = [(order if s is text else s)._replace(va=s.va + SHIFT) for s in parts]
        symbols = [
            s._replace(value=text.va + (s.value - text.va - first) % text.size if s.kind in "Tt" else s.value)
            for s in symbols
        ]
        symbols = [s._replace(value=s.value + SHIFT) for s in symbols]
    if not contents:
        parts = []
    path.write_bytes(
        kvmlib.write_elf(
            symbols, elf_machine=m.elf_machine, bits=8 * m.long_bytes, byteorder=m.byteorder, sections=parts
        )
    )
    return read_elf(path)


def judge(sample: kvmlib.Sample, symbols: SymbolTable, carved: SymbolTable | None = None) -> Match:
    with open_with(sample, kvmlib.SymbolTable((), "none")) as kd:
        return match(kd, symbols, carved)


def silence(sample: kvmlib.Sample) -> None:
    """Take all banners out of memory."""
    path = Path(sample.image)
    path.write_bytes(re.sub(rb"(Open|Net)BSD (?=\d)", lambda m: b"-" * len(m[0]), path.read_bytes()))


# -- the right kernel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEING)
def test_the_right_kernel(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    m = judge(sample, read_elf(sample.kernel))
    assert (m.verdict, m.fits) == ("same", True), m.reasons
    assert m.score == 100
    assert m.version_va == va_of(sample, "version")
    assert m.version_pa == m.banner_pa == m.version_va + sample.kernel_offset
    assert any("pieces of its text" in r for r in m.reasons)


@pytest.mark.parametrize("name", NAMES)
def test_the_proof_in_words(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    va = va_of(sample, "version")
    with kvmlib.open(sample.image) as kd:
        assert proof(kd) == (
            f"version at va {va:#x} is pa {va + sample.kernel_offset:#x}, where the banner is: "
            "header, page tables and symbols agree"
        )
        kd.set_symbols(kernel(sample, tmp_path, relink=True))
        assert "DOES NOT MATCH (same build" in proof(kd), "the answer for other symbols isn't kept"
        kd.set_symbols(kvmlib.SymbolTable((), "none: it is gone"))
        assert proof(kd) == "not known: it is gone"


def test_without_a_header_there_is_nothing_to_judge(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.Kvm(sample.image, system=sample.kernel) as kd, pytest.raises(kvmlib.FormatError, match="no valid dump"):
        match(kd, kd.symbols)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_without_contents(name: str, tmp_path: Path) -> None:
    """NetBSD's savecore(8) writes the symbols only."""
    sample = sample_in(tmp_path, name)
    m = judge(sample, kernel(sample, tmp_path, contents=False))
    assert m.verdict == "same", m.reasons
    assert "it has no contents, or too few, to compare with memory" in m.reasons


def test_symbols_that_are_no_files(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    m = judge(sample, kvmlib.SymbolTable(sample.symbols, "found in the dump"))
    assert m.verdict == "same"
    assert not any("contents" in r for r in m.reasons)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_that_patched_itself(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    text = next(s for s in sections(sample.kernel) if s.kind == "T")
    at = file_offset(sample, text.va)
    with open(sample.image, "r+b") as f:
        for i in range(0, len(text.data), 50):
            f.seek(at + i)
            f.write(bytes([text.data[i] ^ 0x5A]))
    m = judge(sample, read_elf(sample.kernel))
    assert (m.verdict, m.score) == ("same", 100), m.reasons


# -- another kernel --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEING)
def test_a_relinked_kernel(name: str, tmp_path: Path) -> None:
    """The decoy that the version can't tell: the same words at other addresses (KARL)."""
    sample = sample_in(tmp_path, name)
    m = judge(sample, kernel(sample, tmp_path, relink=True))
    assert (m.verdict, m.fits) == ("same build", False), m.reasons
    assert m.score < 20
    assert m.banner_pa == va_of(sample, "version") + sample.kernel_offset
    assert m.version_va == va_of(sample, "version") + SHIFT
    assert "its version is the dump's too, which alone proves nothing" in m.reasons


@pytest.mark.parametrize("name", NAMES)
def test_another_release(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)

    def newer(data: bytes) -> bytes:
        return re.sub(rb"(BSD )(\d+)\.(\d)", rb"\g<1>\2.9", data).replace(b"#", b"$")

    other = kernel(sample, tmp_path, relink=True, edit=newer)
    m = judge(sample, other)
    assert (m.verdict, m.fits) == ("other", False), m.reasons
    assert any(re.fullmatch(r'its version is "\w+ \d+\.9.*", the dump\'s is "\w+ \d+\.\d.*"', r) for r in m.reasons)


def test_another_version_at_the_same_address(tmp_path: Path) -> None:
    """All else is the same, so its addresses may well be right: that isn't proven, and isn't denied."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    m = judge(sample, kernel(sample, tmp_path, edit=lambda data: data.replace(b"OpenBSD 6.8", b"OpenBSD 6.9")))
    assert (m.verdict, m.fits) == ("unknown", True), m.reasons

    def newer(data: bytes) -> bytes:
        return data.replace(b"OpenBSD 6.8", b"OpenBSD 6.9") if b"OpenBSD" in data else data[::-1]

    m = judge(sample, kernel(sample, tmp_path, edit=newer))
    assert (m.verdict, m.fits) == ("other", False), m.reasons


def test_close_to_the_banner_is_not_there(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    near = [s._replace(value=s.value - 8) if s.name == "version" else s for s in sample.symbols if s.name != "msgbufp"]
    m = judge(sample, kvmlib.SymbolTable(near, "found somewhere"))
    assert (m.verdict, m.version_pa) == ("other", (m.banner_pa or 0) - 8), m.reasons


@pytest.mark.parametrize(("name", "wrong"), [("openbsd/amd64", "netbsd/amd64"), ("netbsd/i386", "openbsd/i386")])
def test_another_system(name: str, wrong: str, tmp_path: Path) -> None:
    sample, other = sample_in(tmp_path, name), sample_in(tmp_path, wrong)
    m = judge(sample, read_elf(other.kernel))
    assert (m.verdict, m.fits) == ("other", False), m.reasons
    assert any(r.startswith("it is a kernel of ") for r in m.reasons)


@pytest.mark.parametrize("name", NAMES)
def test_the_dumps_own_table(name: str, tmp_path: Path) -> None:
    """It tells a relinked kernel that has no words to compare, and one of another build."""
    sample = sample_in(tmp_path, name)
    carved = kvmlib.SymbolTable(sample.symbols, "found in the dump")
    relinked = kernel(sample, tmp_path, relink=True, contents=False)
    m = judge(sample, relinked, carved)
    assert m.verdict == "same build", m.reasons
    assert any(re.fullmatch(r"0 of \d+ names in the dump's own symbol table have its addresses", r) for r in m.reasons)
    half = kvmlib.SymbolTable([s for i, s in enumerate(relinked) if i % 2], "half")
    assert judge(sample, half, carved).verdict == "other"
    modules = [s._replace(module="one") for s in sample.symbols if s.kind in "Tt"]
    assert judge(sample, relinked.with_modules(modules, ""), carved).verdict == "same build", (
        "modules count for nothing"
    )
    m = judge(sample, kernel(sample, tmp_path), carved)
    assert m.verdict == "same"
    assert any("names in the dump's own symbol table" in r for r in m.reasons)
    stale = kvmlib.SymbolTable([s._replace(value=s.value + SHIFT) for s in sample.symbols], "an older boot's")
    assert judge(sample, kernel(sample, tmp_path), stale).verdict == "same", "a leftover doesn't count against proof"


# -- what can't be told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [True, False])
def test_without_a_banner_nothing_is_proven(contents: bool, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    silence(sample)
    m = judge(sample, kernel(sample, tmp_path, contents=contents))
    assert (m.verdict, m.fits, m.banner_pa) == ("unknown", True, None)
    assert "no banner is there, nor elsewhere in memory" in m.reasons[0] or not contents
    assert any("no banner" in r for r in m.reasons)


def test_without_a_banner_it_may_be_no_memory_at_all(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    silence(sample)
    relinked = kernel(sample, tmp_path, relink=True)
    m = judge(sample, relinked)
    assert (m.verdict, m.fits) == ("unknown", True), m.reasons
    assert any(r.startswith("0 of ") for r in m.reasons)
    # The table in it is the kernel's own, though.
    m = judge(sample, relinked, kvmlib.SymbolTable(sample.symbols, "found in the dump"))
    assert (m.verdict, m.fits) == ("same build", False), m.reasons


@pytest.mark.parametrize("name", BLIND)
def test_without_translation_nothing_is_proven(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    m = judge(sample, read_elf(sample.kernel))
    assert (m.verdict, m.version_pa) == ("unknown", None), m.reasons
    assert m.banner_pa is not None
    assert any("cannot be translated" in r for r in m.reasons)
    # The distance between text and banner is there all the same.
    assert any(re.search(r"^(\d+) of \1 pieces .* as far from the banner", r) for r in m.reasons)


@pytest.mark.parametrize("name", ["openbsd/amd64", "netbsd/i386"])
def test_a_lost_page_table(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with open_with(sample, kvmlib.SymbolTable((), "none")) as kd:
        root = kd.pa2off(sample.root)
    with open(sample.image, "r+b") as f:
        f.seek(root)
        f.write(bytes(4096))
    for relink in (False, True):
        m = judge(sample, kernel(sample, tmp_path, relink=relink))
        assert (m.verdict, m.fits) == ("unknown", True), m.reasons
        assert any(r.startswith("version cannot be checked: ") for r in m.reasons)


@pytest.mark.parametrize("name", ["openbsd/i386", "openbsd/i386-pae"])
def test_symbols_that_translation_itself_needs(name: str, tmp_path: Path) -> None:
    """Without PTDpaddr nothing translates; a wrong one leads anywhere, and then the distance from the banner tells."""
    sample = sample_in(tmp_path, name)
    m = judge(sample, kernel(sample, tmp_path, without=("PTDpaddr",)))
    assert m.verdict == "unknown"
    assert any("PTDpaddr" in r for r in m.reasons)
    poke(sample, "PTDpaddr", bytes(4))
    m = judge(sample, kernel(sample, tmp_path))
    assert m.verdict == "unknown"
    assert any("PTDpaddr holds 0x0" in r for r in m.reasons)
    m = judge(sample, kernel(sample, tmp_path, relink=True))
    assert (m.verdict, m.fits) == ("same build", False), m.reasons


@pytest.mark.parametrize("contents", [True, False])
def test_something_written_over_version(contents: bool, tmp_path: Path) -> None:
    """The banner that is left is the one in the messages: what else is right speaks louder."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    poke(sample, "version", bytes(512))
    m = judge(sample, kernel(sample, tmp_path, contents=contents))
    assert (m.verdict, m.fits) == ("unknown", True), m.reasons
    assert m.reasons[0].startswith("version at va")


def test_a_table_without_version(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    m = judge(sample, kernel(sample, tmp_path, without=("version",)))
    assert (m.verdict, m.version_va) == ("unknown", None)
    assert judge(sample, kvmlib.SymbolTable((), "none")).verdict == "unknown"


# -- hostile files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [(24, (1 << 64) - 1), (32, (1 << 64) - 1), (32, 1 << 40), (24, 1 << 40), (16, (1 << 64) - 8), (8, 0x806)],
)
def test_section_headers_that_lie(field: int, value: int, tmp_path: Path) -> None:
    """sh_offset, sh_size, sh_addr, sh_flags of .text: nothing is read that isn't there, nothing large is made."""
    sample = sample_in(tmp_path, "openbsd/amd64")
    path, symbols = Path(sample.kernel), read_elf(sample.kernel)
    data = bytearray(path.read_bytes())
    sh_off = struct.unpack_from("<Q", data, 0x28)[0]
    assert struct.unpack_from("<I", data, sh_off + 64 + 4)[0] == 1
    struct.pack_into("<Q", data, sh_off + 64 + field, value)
    path.write_bytes(data)
    m = judge(sample, symbols)
    assert m.verdict == "same"
    # Those of .rodata are what is left, where not only the size is wrong.
    pieces = next(int(r.split()[0]) for r in m.reasons if re.match(r"(\d+) of \1 pieces", r))
    assert (pieces > 20) == (field == 32)


def test_contents_end_with_their_section(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    text = next(s for s in sections(sample.kernel) if s.kind == "T")
    with closing(KernelFile(sample.kernel)) as contents:
        assert contents.some(text.va, 1 << 40) == text.data
        assert contents.some(text.va + text.size - 3, 64) == text.data[-3:]
        assert contents.some(text.va + text.size, 64) == contents.some(text.va - 1, 64) == b""
        data = va_of(sample, "dumpmag")
        assert (len(contents.some(data, 8)), contents.some(data, 8, constant=True)) == (8, b"")


def test_what_is_the_same_everywhere_says_nothing(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    m = judge(sample, kernel(sample, tmp_path, edit=lambda data: bytes(len(data))))
    assert m.verdict == "same"
    assert "it has no contents, or too few, to compare with memory" in m.reasons


def test_a_file_that_is_gone_or_damaged_by_now(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/i386")
    symbols = read_elf(sample.kernel)
    Path(sample.kernel).write_bytes(b"\x7fELF\x01\x01" + bytes(40))
    m = judge(sample, symbols)
    assert m.verdict == "same"
    assert any(r.startswith("its contents cannot be read: ") for r in m.reasons)
    Path(sample.kernel).unlink()
    assert any("FileNotFoundError" in r for r in judge(sample, symbols).reasons)


def test_addresses_that_are_none(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/i386")
    for value in (0, 1 << 32, (1 << 64) - 1, 1 << 80):
        names = ("version", "PTDpaddr", "dumpmag", "msgbufp", "panic")
        table = kvmlib.SymbolTable([kvmlib.Symbol(n, value, 8, "D") for n in names], "made up")
        assert judge(sample, table).verdict in ("unknown", "other")


def test_hostile_words_are_shown_harmlessly(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    other = kernel(sample, tmp_path, relink=True, edit=lambda d: d.replace(b"OpenBSD 6.8", b"OpenBSD \x1b[2"))
    m = judge(sample, other)
    assert m.verdict == "other"
    assert all(r.isprintable() for r in m.reasons)
    assert any("\\x1b[2" in r for r in m.reasons)


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_relinked_kernel_is_refused_unless_forced(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    wrong = kernel(sample, tmp_path, relink=True).path
    assert wrong is not None
    with pytest.raises(kvmlib.KvmError, match=r"is not the kernel of this dump: version at va .* banner .*KARL") as e:
        kvmlib.open(sample.image, system=wrong)
    assert "symbols in the dump itself are the right ones" in str(e.value)
    with kvmlib.open(sample.image, system=wrong, force=True) as kd:
        assert kd.symbols.path == wrong
        with pytest.raises(kvmlib.KvmError, match="--force-kernel"):
            check(kd)


def test_the_table_in_the_dump_is_asked_where_nothing_else_tells(tmp_path: Path) -> None:
    """Without PTDpaddr nothing translates, and this file has no contents."""
    sample = sample_in(tmp_path, "openbsd/i386")
    wrong = kernel(sample, tmp_path, relink=True, contents=False, without=("PTDpaddr",))
    assert judge(sample, wrong).verdict == "unknown"
    with pytest.raises(kvmlib.KvmError, match="names in the dump's own symbol table"):
        kvmlib.open(sample.image, system=wrong.path)
    forget_symbols(Path(sample.image))
    with kvmlib.open(sample.image, system=wrong.path) as kd:
        assert proof(kd).startswith("not proven: ")


def test_the_hint_is_for_the_system_that_relinks(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/amd64")
    with pytest.raises(kvmlib.KvmError, match="is not the kernel of this dump") as e:
        kvmlib.open(sample.image, system=kernel(sample, tmp_path, relink=True).path)
    assert "KARL" not in str(e.value)


def test_a_kernel_beside_that_does_not_match_is_left_out(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        assert (kd.kernel_note, kd.symbols.path) == ("", sample.kernel)
    wrong = kernel(sample, tmp_path, relink=True)
    assert wrong.path is not None
    Path(wrong.path).rename(sample.kernel)
    with kvmlib.open(sample.image) as kd:
        assert kd.symbols.source.startswith("the dump itself")
        assert kd.kernel_note.startswith(f"the kernel beside the dump was left out: {sample.kernel} is not the kernel")
        assert proof(kd).endswith("header, page tables and symbols agree")
    with kvmlib.open(sample.image, force=True) as kd:
        assert (kd.kernel_note, kd.symbols.path) == ("", sample.kernel)
    Path(sample.kernel).write_bytes(b"no kernel")
    forget_symbols(Path(sample.image))
    with kvmlib.open(sample.image) as kd:
        assert "is not a kernel file" in kd.kernel_note
        assert kd.symbols.source == f"none: {kd.kernel_note}"
        assert proof(kd) == f"not known: {kd.kernel_note}"


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    wrong = kernel(sample, tmp_path, relink=True).path
    assert wrong is not None
    arguments = ["symbols", sample.image, "version", "-N", wrong]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "is not the kernel of this dump" in said.err
    assert main([*arguments, "--force-kernel"]) == 0
    assert f"{va_of(sample, 'version') + SHIFT:x}" in capsys.readouterr().out


def test_in_the_application(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    wrong = kernel(sample, tmp_path, relink=True).path
    with pytest.raises(kvmlib.KvmError, match="is not the kernel of this dump"):
        open_dump(Request(sample.image, wrong), Samples())
    with open_dump(Request(sample.image, wrong, force=True), Samples()) as kd:
        assert kd.symbols.path == wrong
