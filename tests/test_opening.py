"""Opening what is damaged, cut off, or ambiguous: which machine it is, and what is left of a handle that failed."""

import io
import os
from pathlib import Path

import pytest

import kvmlib


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A saved core of a NetBSD sample, with its kernel beside it."""
    return saved("netbsd/amd64", tmp_path)


def saved(name: str, folder: Path) -> Path:
    sample = kvmlib.make_sample(name, folder)
    with kvmlib.open(sample.image) as kd:
        return Path(kvmlib.save(kd, folder).core)


@pytest.mark.parametrize("part", [2, 4])
def test_the_kernel_file_decides_between_the_systems(core: Path, part: int) -> None:
    """Both amd64s have the same header, and what the kernel would say of itself is cut off."""
    kernel = core.with_suffix("")
    core.write_bytes(core.read_bytes()[: core.stat().st_size // part])
    with kvmlib.open(core) as kd, kvmlib.Kvm(core, system=kernel) as other:
        for opened in (kd, other):
            assert opened.machine is not None
            assert opened.machine.name == "netbsd/amd64"
    kernel.unlink()
    with kvmlib.open(core) as kd:
        assert [r.machine.name for r in kd.runners_up], "it can't be told then, and both are named"


def test_the_kernels_own_words_outweigh_the_kernel_file(core: Path, tmp_path: Path) -> None:
    wrong = kvmlib.make_sample("openbsd/amd64", tmp_path)
    with kvmlib.open(core, system=wrong.kernel, force=True) as kd:
        assert kd.machine is not None
        assert kd.machine.name == "netbsd/amd64"


@pytest.mark.parametrize("name", ["openbsd/i386", "openbsd/i386-pae"])
def test_a_cut_core_without_segments_is_truncated(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    path.with_suffix("").unlink()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with kvmlib.open(path) as kd:
        assert kd.memory.missing > 0
        at = path.stat().st_size
        with pytest.raises(kvmlib.TruncatedError) as caught:
            kd.read_physical(at, 4)
        assert caught.value.offset == kd.pa2off(at)


def test_a_damaged_header_is_not_the_other_systems(tmp_path: Path) -> None:
    """NSEG: openbsd/i386 has no CPU header, so anything could be its."""
    path = saved("netbsd/i386", tmp_path)
    data = bytearray(path.read_bytes())
    data[24:28] = b"\xff\xff\0\0"
    path.write_bytes(data)
    with pytest.raises(kvmlib.FormatError, match="nmemsegs is 65535"):
        kvmlib.open(path)


def test_a_damaged_kernel_beside_is_no_reason_not_to_open(core: Path) -> None:
    kernel = core.with_suffix("")
    kernel.unlink()
    packed = Path(f"{kernel}.gz")
    packed.write_bytes(b"\x1f\x8b\x08\0" + b"no gzip data at all")
    with kvmlib.open(core) as kd:
        assert kd.symbols.source.startswith("the dump itself")
    with pytest.raises(kvmlib.FormatError, match="damaged gzip file"):
        kvmlib.open(core, system=packed)


def test_a_kernel_that_is_refused_leaves_no_header_behind(tmp_path: Path) -> None:
    amd64 = kvmlib.make_sample("openbsd/amd64", tmp_path)
    i386 = kvmlib.make_sample("openbsd/i386", tmp_path)
    with kvmlib.Kvm(amd64.image, system=i386.kernel) as kd:
        for _ in range(2):
            with pytest.raises(kvmlib.FormatError, match="is a kernel for EM_386"):
                kd.dump_mkheader(amd64.dump_off)
        assert kd.kcore_hdr is None
        assert kd.machine is None


def test_after_close_it_says_so(core: Path) -> None:
    kd = kvmlib.open(core)
    kd.close()
    with pytest.raises(kvmlib.KvmError, match="was closed"):
        kd.read_physical(0, 4)


def test_paths_may_be_bytes(core: Path) -> None:
    with kvmlib.open(os.fsencode(core)) as kd:  # type: ignore[arg-type]
        assert kd.path == str(core)
    assert kvmlib.find(os.fsencode(core))  # type: ignore[arg-type]


def test_a_writer_that_takes_nothing(core: Path) -> None:
    class Full(io.RawIOBase):
        def write(self, data: object, /) -> int:
            return 0

    with kvmlib.open(core) as kd, pytest.raises(kvmlib.KvmError, match="nothing more is taken"):
        kd.dump_wrtheader(Full(), 4096)


def test_a_hole_ends_where_its_table_does(tmp_path: Path) -> None:
    """Of four page directories in a row only the last is in the dump: what it maps is there all the same."""
    from kvmlib.kcore import Abi, RamSeg, build_device, build_ram_segs

    # 0x4000 is the fourth directory: it maps 0xc0000000 by one page of 2 MiB at pa 0.
    directory = (0x83).to_bytes(8, "little").ljust(4096, b"\0")
    data = (0x1200).to_bytes(4, "little") + (1).to_bytes(4, "little")
    data += build_ram_segs([RamSeg(0x4000, 0x1000)], "little")
    path = tmp_path / "directories.img"
    path.write_bytes(build_device(Abi(134, "little", 3), data.ljust(504, b"\0")) + directory)
    with kvmlib.Kvm(path, machine="netbsd/i386") as kd:
        kd.dump_mkheader(0)
        assert kd.kvatop(0xC0000000) == (0, 2 << 20)
        with pytest.raises(kvmlib.TranslationError) as caught:
            kd.kvatop(0x10000)
        assert 0x10000 + caught.value.size == 0xC0000000
        spans = list(kd.spans(0, 1 << 32))
        assert [(s.va, s.kind) for s in spans if s.va == 0xC0004000] == [(0xC0004000, "present")]
