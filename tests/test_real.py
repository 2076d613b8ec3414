"""Dumps that real kernels wrote: one image, where the shared folder has it, and the header blocks of others."""

import lzma
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from tests.conftest import shared_dir

HEADER_OFF = 0x629BE00


@pytest.fixture(scope="module")
def folder() -> Path:
    shared = shared_dir()
    if shared is None or not (shared / "real" / "openbsd-5.1-i386.swap.img.xz").exists():
        pytest.skip("needs the real image in the shared folder")
    return shared / "real"


@pytest.fixture(scope="module")
def image(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "swap"
    with lzma.open(folder / "openbsd-5.1-i386.swap.img.xz") as packed, path.open("wb") as f:
        while piece := packed.read(1 << 22):
            # The image is mostly zeros: leave them out of the disk.
            if piece.strip(b"\0"):
                f.write(piece)
            else:
                f.seek(len(piece), 1)
        f.truncate()
    return path


@pytest.fixture(scope="module")
def kernel(folder: Path, image: Path) -> Path:
    symbols = kvmlib.parse_symbols((folder / "openbsd-5.1-i386.symbols").read_text())
    path = image.parent / "bsd"
    path.write_bytes(kvmlib.write_elf(symbols, elf_machine="EM_386", bits=32, byteorder="little"))
    return path


@pytest.fixture(scope="module", params=["device", "saved"])
def kd(request: pytest.FixtureRequest, image: Path, kernel: Path) -> Iterator[kvmlib.Kvm]:
    if request.param == "saved":
        with kvmlib.open(image, system=kernel) as device:
            image = Path(kvmlib.save(device, image.parent, force=True).core)
    with kvmlib.open(image, system=kernel) as kd:
        yield kd


def test_the_header_is_found(image: Path) -> None:
    best = kvmlib.find(image)[0]
    assert (best.offset, best.machine.name, best.form) == (HEADER_OFF, "openbsd/i386", "device")
    assert best.offset + best.length == 0x927C000


def test_what_it_is(kd: kvmlib.Kvm) -> None:
    assert kd.machine is not None
    assert kd.machine.name == "openbsd/i386"
    assert kd.registers == []
    assert [(s.start, s.size) for s in kd.segments] == [(0x10000, 0x8F000), (0x100000, 0x2EE0000)]
    assert kd.memory.missing == 0


def test_what_the_kernel_said(kd: kvmlib.Kvm) -> None:
    said = kvmlib.summary(kd)
    assert said.version is not None
    assert said.version.startswith("OpenBSD 5.1 (RAMDISK) #98: Sun Feb 12 10:04:33 MST 2012")
    assert said.panic == "ffs_blkfree: freeing free block"
    found = kvmlib.messages(kd)
    assert found.va == 0xD0607000
    assert found.text.startswith("OpenBSD 5.1 (RAMDISK)")
    assert any("ffs_blkfree: freeing free block" in line for line in found.lines)


def test_its_story_with_symbols(kd: kvmlib.Kvm) -> None:
    by_label = {f.label: f for f in reversed(kvmlib.summary(kd).facts)}
    assert by_label["PANIC"].source == "symbol panicstr"
    assert by_label["WHERE"].text == "0xd028a5bc <- 0xd028d70e <- 0xd028dede"
    text = "version at va 0xd0313524 is pa 0x313524, where the banner is: header, page tables and symbols agree"
    assert (by_label["MATCH"].text, by_label["MATCH"].va) == (text, 0xD0313524)
    assert by_label["CPU"].text.startswith('1 x QEMU Virtual CPU version 2.5+ ("GenuineIntel" 686-class)')
    assert by_label["PHYSMEM"] == kvmlib.Fact(
        "PHYSMEM", "47.4 MiB (49737728 bytes)", "messages (symbol msgbufp), line 5", line=4
    )


def test_its_story_without_symbols(image: Path, tmp_path: Path) -> None:
    # Nothing beside it is a kernel.
    alone = tmp_path / "swap"
    alone.symlink_to(image)
    with kvmlib.open(alone) as kd:
        found = kvmlib.summary(kd)
        lines = kvmlib.messages(kd).lines
        kvmlib.report_text(kd)
    by_label = {f.label: f for f in reversed(found.facts)}
    assert found.panic == "ffs_blkfree: freeing free block"
    assert by_label["PANIC"].source == "messages (found by searching memory), line 51"
    assert by_label["PANIC"].line is not None
    assert lines[by_label["PANIC"].line] == "panic: ffs_blkfree: freeing free block"
    assert found.version is not None
    assert found.version.startswith("OpenBSD 5.1 (RAMDISK) #98: ")
    assert by_label["PHYSMEM"].text == "47.4 MiB (49737728 bytes)"
    # That kernel has no ddb, so it printed no trace.
    for label in ("WHERE", "HOST", "LOAD", "UPTIME", "MATCH"):
        assert by_label[label].text.startswith("not known: ")


def test_memory(kd: kvmlib.Kvm) -> None:
    assert kd.kvatop(0xD0607000) == (0x2FDC000, 4096)
    assert kd.kvatop(0xD0348000)[0] == 0xFEE00000
    with pytest.raises(kvmlib.NotInDumpError) as caught:
        kd.read(0xD0348000, 4)
    assert (caught.value.va, caught.value.pa) == (0xD0348000, 0xFEE00000)
    assert [s.kind for s in kd.spans(0xD0348000, 4096)] == ["not_in_dump"]
    # proc0's name, through the pointers of allproc: p_comm at +0xf6.
    names: list[str] = []
    at = struct.unpack("<I", kd.read(kd.nlist("allproc")["allproc"].value, 4))[0]
    while at and len(names) < 20:
        names.append(kd.read(at + 0xF6, 16).partition(b"\0")[0].decode())
        at = struct.unpack("<I", kd.read(at + 8, 4))[0]
    assert names[0] == "rm"
    assert names[-2:] == ["init", "swapper"]
    with pytest.raises(kvmlib.NotInDumpError):
        kd.read_physical(0, 1)


def test_registers_at_the_panic(kd: kvmlib.Kvm) -> None:
    registers = {r.name: r.value for r in kvmlib.panic_registers(kd)}
    assert (registers["esp"], registers["ebp"]) == (0xD2451A10, 0xD2451A5C)


def test_stack_at_the_panic(kd: kvmlib.Kvm) -> None:
    """Few symbols are known of this kernel, and its layout of dumppcb is the older one."""
    found = kvmlib.stack(kd)
    assert [f.where for f in found.frames[:3]] == ["boot+0xc0", "panic+0x6f", ""]
    assert (found.panicked, found.source) == (found.frames[2], "dumppcb")
    assert found.end.startswith("the next frame pointer, 0xcfbcd198, does not lie above this one, 0xd2451f9c")
    assert len(found.frames) == 14
    with pytest.raises(kvmlib.SymbolError, match="no symbol ddb_regs"):
        kvmlib.trap_registers(kd)


def test_dumpmag_is_not_known(kd: kvmlib.Kvm) -> None:
    with pytest.raises(kvmlib.SymbolError, match="dumpmag: not in name list"):
        kd.dumpmag()
    assert kvmlib.summary(kd).state.verdict == ("unknown" if kd.form == "device" else "saved")


# -- header blocks of other dumps --------------------------------------------------------------------------------


def block(first: str, *, size: int = 512) -> bytes:
    return bytes.fromhex(first).ljust(size, b"\0")


def u64(*values: int) -> str:
    return struct.pack(f"<{len(values)}Q", *values).hex()


def u32(*values: int) -> str:
    return struct.pack(f"<{len(values)}I", *values).hex()


OPENBSD_68_SEGMENTS = (0x10000, 0x8F000, 0x100000, 0xF00000, 0x1000000, 0x4FE0000)
NETBSD_79_SEGMENTS = (0, 0x9F000, 0x100000, 0x3EE0000)
#: name -> the header block, the machine, the root of the page tables, the segments.
HEADERS = {
    "OpenBSD 6.8 amd64": (
        block("049d8fcaf8010000" + u64(0x57BB000, 3, *OPENBSD_68_SEGMENTS)),
        "openbsd/amd64",
        0x57BB000,
        OPENBSD_68_SEGMENTS,
    ),
    "NetBSD 7.99 amd64": (
        block("049d8fcaf8010000" + u64(0x4BC000, 2, *NETBSD_79_SEGMENTS)),
        "netbsd/amd64",
        0x4BC000,
        NETBSD_79_SEGMENTS,
    ),
    "NetBSD 7.99 i386": (
        block("04868fcaf8010000" + u32(0x361000, 2) + u64(*NETBSD_79_SEGMENTS)),
        "netbsd/i386",
        0x361000,
        NETBSD_79_SEGMENTS,
    ),
    "NetBSD 7.99 i386 PAE": (
        block("04868fcaf8010000" + u32(0x365200, 2) + u64(*NETBSD_79_SEGMENTS)),
        "netbsd/i386",
        0x365000,
        NETBSD_79_SEGMENTS,
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_real_headers(name: str, tmp_path: Path) -> None:
    """The dump ends exactly where the partition does; memory itself is a hole in the file."""
    header, machine, root, flat = HEADERS[name]
    size = sum(flat[1::2])
    path = tmp_path / "swap"
    with path.open("wb") as f:
        f.write(b"\xa5" * 8192)
        f.write(header)
        # Only the kernel's banner, to tell the systems apart.
        f.seek(8192 + 512 + 0x200000)
        f.write(name.rpartition(" ")[0].encode().replace(b" i386", b"") + b" (GENERIC) #3: ")
        f.truncate(8192 + 512 + size)
    best = kvmlib.find(path)[0]
    assert (best.offset, best.machine.name, best.length) == (8192, machine, 512 + size)
    with kvmlib.open(path) as kd:
        assert [n for s in kd.segments for n in (s.start, s.size)] == list(flat)
        assert kd.walk((1 << kd.translator.bits) - 4096)[0].table_pa == root
        assert kd.memory.missing == 0


def test_sparse_header(tmp_path: Path) -> None:
    """NetBSD's default: 134 segments, a CPU segment of 2552 bytes, memory that ends far before the partition."""
    runs = [(0, 0x10000), (0x100000, 0x445000), (0x1000000, 0x2B5000), (0x12BA000, 0x2000)]
    runs += [(0x1400000 + 0x2000 * i, 0x1000) for i in range(130)]
    header = block("049d8fcaf8090000" + u64(0x4BC000, len(runs), *(n for run in runs for n in run)), size=2560)
    path = tmp_path / "swap"
    with path.open("wb") as f:
        f.write(bytes(4096) + header)
        f.truncate(4096 + 2560 + sum(n for _, n in runs) + (1 << 20))
    with kvmlib.open(path, machine="netbsd/amd64") as kd:
        assert len(kd.segments) == 134
        assert kd.dump_off == 4096 + 2560
        assert kd.pa2off(0x1402000) == kd.dump_off + sum(n for _, n in runs[:5])


def test_decoys(tmp_path: Path) -> None:
    """A copy of the header inside dumped memory, aligned or not, doesn't hide the dump; one that is cut off is told."""
    sample = kvmlib.make_sample("netbsd/amd64", tmp_path)
    data = bytearray(Path(sample.image).read_bytes())
    header = bytes(data[sample.dump_off : sample.dump_off + 512])
    data[sample.dump_off + 512 * 40 : sample.dump_off + 512 * 41] = header
    data[0x200:0x400] = block(header[:8].hex() + u64(0x1000, 1, 0x1000, 1 << 40))
    path = tmp_path / "decoys.img"
    path.write_bytes(data)
    found = kvmlib.find(path)
    assert (found[0].offset, found[0].machine.name) == (sample.dump_off, "netbsd/amd64")
    cut = next(c for c in found if c.offset == 0x200)
    assert any("cut off" in reason for reason in cut.reasons)
    copy = next(c for c in found if c.offset == sample.dump_off + 512 * 40)
    assert any("copy or a leftover" in reason for reason in copy.reasons)
    assert found[0].score > max(cut.score, copy.score)
