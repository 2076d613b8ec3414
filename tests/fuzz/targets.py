"""What is fuzzed: each target takes bytes that anyone may have made; no exception but KvmError may come of them."""

import functools
import gzip
import io
import itertools
import json
import struct
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import kvmlib
from kvmlib.carve import tables
from kvmlib.disks import partitions
from kvmlib.identify import open_dump, readings
from kvmlib.image import Image
from kvmlib.kcore import Form, RamSeg
from kvmlib.ksyms import find_kernel, modules
from kvmlib.lzw import unpack
from kvmlib.memory import PhysicalMemory
from kvmlib.msgscan import clean, layout
from kvmlib.namelist import read_elf
from kvmlib.report import info_data
from kvmlib.said import parse
from kvmlib.search import no_dump
from kvmlib.undo import undo
from tests.diskimages import NETBSD_SWAP, OPENBSD_GPT, disklabel, mbr, put_gpt
from tests.fuzz.places import Places, places, split, starts
from tests.samples import NAMES, sample_in
from tests.zfiles import codes_of, write_codes

#: Addresses and mappings that are asked for: enough to reach all code, few enough to be quick.
_SOME = 2000
_ADDRESSES = 40
FORMS: tuple[Form, ...] = ("device", "savecore")
_TOP, SECTOR = (1 << 64) - 1, 512

#: A target gets the input and a directory of its own, in which it may write.
Look = Callable[[bytes, Path], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz.

    Attributes:
        look: takes an input.
        starts: makes inputs to begin with.
    """

    look: Look
    starts: Callable[[Path], Sequence[bytes]]


class Changed(Exception):
    """A file was changed by what should only look at it."""


def file_with(data: bytes, folder: Path, name: str = "input") -> Path:
    """Write an input into a file."""
    path = folder / name
    path.write_bytes(data)
    return path


# -- headers, detection, disks ---------------------------------------------------------------------------------------


def headers(data: bytes, folder: Path) -> None:
    """Read the input as a saved core's and as a device's header, and look at all of it."""
    path = file_with(data, folder)
    for offset in (None, 0, 512):
        with suppress(kvmlib.KvmError), kvmlib.Kvm(path) as kd:
            if offset is not None:
                kd.dump_mkheader(offset)
            look_at_header(kd)


def look_at_header(kd: kvmlib.Kvm) -> None:
    """Look at all that a header tells."""
    with suppress(kvmlib.KvmError):
        printable(f.text for f in kvmlib.header_fields(kd))
    for form in FORMS:
        with suppress(kvmlib.KvmError):
            kvmlib.header_fields(kd, form)
    with suppress(kvmlib.KvmError):
        assert len(kd.registers) >= 0
        assert len(kd.segments) >= 0
        assert kd.doubt is not None
        kd.dump_wrtheader(io.BytesIO(), 1 << 33)
    with suppress(kvmlib.KvmError):
        translate(kd)


def find(data: bytes, folder: Path) -> None:
    """Look for headers everywhere in the input."""
    path = file_with(data, folder)
    with suppress(kvmlib.KvmError):
        found = kvmlib.find(path)
        printable(r for c in found for r in (c.partition, *c.reasons))
        if not found:
            printable([no_dump(path)])
    with suppress(kvmlib.KvmError):
        image = open_dump(path)
        try:
            for machine in ("netbsd/m68k", "openbsd/i386"):
                with suppress(kvmlib.KvmError):
                    readings(image, 0, machine)
        finally:
            image.close()


def disks(data: bytes, folder: Path) -> None:
    """Take the input for the begin of a disk, and for all of it; once with every checksum counting as right."""
    right = mock.patch.multiple("kvmlib.disks", _xor=lambda _: 0, zlib=mock.Mock(crc32=lambda _: mock.ANY))
    for checks in (nullcontext(), right):
        for size in (len(data), 1 << 40):
            with checks:
                found = partitions(lambda offset, n: data[offset : offset + n], size)
            printable(p.name for p in found)
            assert all(p.size > 0 and 0 <= p.start < size for p in found)


def _headers_to_start(folder: Path) -> list[bytes]:
    return _headers()


@functools.cache
def _headers() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return _headers_of_samples(Path(folder))


def _headers_of_samples(folder: Path) -> list[bytes]:
    begun = []
    for name in kvmlib.sample_names():
        sample = sample_in(folder, name)
        with kvmlib.open(sample.image, system=sample.kernel) as kd:
            whole = Path(sample.image).read_bytes()
            assert kd.reading is not None
            start, end = kd.reading.headers.offset, kd.reading.headers.data_off
            saved = io.BytesIO()
            kd.dump_wrtheader(saved, len(whole) - end)
            begun += [whole[start : min(end + 1024, start + 16384)], saved.getvalue()[:16384] + whole[end : end + 512]]
        Path(sample.image).unlink()
        Path(sample.kernel).unlink()
    return begun


def _images_to_start(folder: Path) -> list[bytes]:
    some = _headers_to_start(folder)[::4]
    pairs = itertools.pairwise(some)
    return [bytes(512 * i) + one.ljust(8192, b"\0") + other for i, (one, other) in enumerate(pairs)]


def _disks_to_start(folder: Path) -> list[bytes]:
    parts = [(2, 8, 1), None, (40, 8, 7)]
    labels = [
        bytes(sector) + disklabel(parts, order=order, sector=sector, disk=1 << 20, wide=wide)
        for order, sector, wide in (("<", 512, False), (">", 512, False), ("<", 4096, True))
    ]
    table = bytearray(SECTOR * 100)
    put_gpt(table, [(NETBSD_SWAP, 40, 50), (OPENBSD_GPT, 60, 4)])
    return [
        *labels,
        mbr([(0xA6, 1, 64), (0x0F, 80, 40)]) + labels[0],
        mbr([(0x0F, 1, 8)]) + mbr([(0xA9, 1, 1), (0x05, 1, 1)]) * 4,
        bytes(table),
    ]


# -- symbols ---------------------------------------------------------------------------------------------------------


def elf(data: bytes, folder: Path) -> None:
    """Read the input as a kernel file."""
    with suppress(kvmlib.KvmError):
        table = read_elf(file_with(data, folder))
        assert len(table.match("a*")) <= len(table)
        printable(table.describe(va) for va in (0, 0xFFFFFFFF80000000, _TOP))


def names(data: bytes, folder: Path) -> None:
    """Read the input as a list of symbols."""
    with suppress(kvmlib.KvmError):
        symbols = kvmlib.parse_symbols(data.decode("utf-8", "surrogateescape"))
        kvmlib.write_elf(symbols, elf_machine="EM_386", bits=32, byteorder="little")


def carved(data: bytes, folder: Path) -> None:
    """Look for symbol tables in memory that is the input."""
    try:
        image = open_dump(file_with(data, folder))
    except kvmlib.KvmError:
        return
    try:
        memory = PhysicalMemory(image, 0, [RamSeg(0x1000, len(data) // 2), RamSeg(1 << 20, len(data))])
        for name in ("netbsd/amd64", "openbsd/i386", "netbsd/sparc64", "openbsd/powerpc"):
            for kvatop in (None, _one_to_one):
                for found in tables(image, memory, kvmlib.machine(name), kvatop):
                    assert 0 <= found.score <= 100
                    printable(found.reasons)
    finally:
        image.close()


def _one_to_one(va: int) -> tuple[int, int]:
    if va >= 1 << 40:
        raise kvmlib.TranslationError("not mapped", va)
    return va & 0xFFFFFF, 4096 - va % 4096


def _kernels_to_start(folder: Path) -> list[bytes]:
    begun = []
    for name in (*NAMES, "netbsd/sparc64", "openbsd/powerpc", "netbsd/m68k"):
        sample = sample_in(folder, name)
        begun.append(_small(sample))
        Path(sample.image).unlink()
        Path(sample.kernel).unlink()
    return [*begun, gzip.compress(begun[0])]


def _small(sample: kvmlib.Sample) -> bytes:
    m = sample.machine
    return kvmlib.write_elf(
        sample.symbols[:60], elf_machine=m.elf_machine, bits=8 * m.long_bytes, byteorder=m.byteorder
    )


_NETBSD = ("netbsd/amd64", "netbsd/i386", "netbsd/sparc64", "netbsd/mipseb", "netbsd/aarch64")


def _look_at_ksyms(path: str, sample: kvmlib.Sample) -> None:
    with kvmlib.Kvm(path, system=sample.kernel) as kd:
        kd.dump_mkheader(sample.dump_off)
        assert kd.machine is not None
        head = kd.nlist("ksyms_symtabs")["ksyms_symtabs"].value
        printable(modules(kd.read, head, kd.machine).problem)
        for found in tables(kd.image, kd.memory, kd.machine, kd.translator.kvatop):
            assert len(found.table) > 0
        around = [kd.kvatop(head)[0]]
        for kvatop in (None, kd.translator.kvatop):
            assert len(list(find_kernel(kd.image, kd.memory, kd.machine, around, kvatop))) >= 0


# -- what the kernel said --------------------------------------------------------------------------------------------


def said(data: bytes, folder: Path) -> None:
    """Take the input for messages."""
    text = clean(data)
    printable([text])
    assert "".join(kvmlib.boots(text)) == text
    found = parse(kvmlib.Messages(text, "the test", None))
    assert found.place is not None
    for machine in kvmlib.machines():
        layout(machine, len(data))


def _messages_to_start(folder: Path) -> list[bytes]:
    begun = []
    for name in NAMES:
        sample = sample_in(folder, name)
        with kvmlib.open(sample.image) as kd:
            begun.append(kvmlib.messages(kd).text.encode())
    return begun


def _look_at_messages(path: str, sample: kvmlib.Sample) -> None:
    with kvmlib.Kvm(path, system=sample.kernel) as kd:
        kd.dump_mkheader(sample.dump_off)
        with suppress(kvmlib.KvmError):
            printable([kvmlib.messages(kd).text])
        printable(b.text for b in kvmlib.buffers(kd))


def _look_at_report(path: str, sample: kvmlib.Sample) -> None:
    for kernel in (sample.kernel, None):
        with suppress(kvmlib.KvmError), kvmlib.open(path, system=kernel, dump_off=sample.dump_off) as kd:
            printable([kvmlib.report_text(kd)])
            printable(_strings(json.loads(json.dumps(info_data(kd)))))


# -- translation -----------------------------------------------------------------------------------------------------


def translate(kd: kvmlib.Kvm) -> None:
    """Walk the page tables, and ask for addresses in and around what they map."""
    bits = kd.translator.bits
    some = [m for start in (0, 1 << bits - 1) for m in itertools.islice(kd.mappings(start), _SOME)]
    assert all(m.size > 0 and 0 <= m.va < 1 << bits for m in some)
    edges = [0, (1 << bits) - 1, 1 << bits - 1, *(va for m in some for va in (m.va - 1, m.va, m.va + m.size))]
    for va in edges[:: max(1, len(edges) // _ADDRESSES)]:
        with suppress(kvmlib.KvmError):
            pa, n = kd.kvatop(va)
            assert n > 0
            kd.pa2off(pa)
        for step in kd.walk(va):
            printable([step.note, step.name])
        with suppress(kvmlib.KvmError):
            kd.read(va, 10000)
        assert sum(s.size for s in kd.spans(va, 10000)) == 10000


def _look_at_translation(path: str, sample: kvmlib.Sample) -> None:
    with kvmlib.Kvm(path, system=sample.kernel, machine=sample.machine) as kd:
        kd.dump_mkheader(sample.dump_off)
        translate(kd)


# -- packed files, undo records --------------------------------------------------------------------------------------


def packing(data: bytes, folder: Path) -> None:
    """Unpack the input, as a dump and as a kernel."""
    path = file_with(data, folder)
    for opened in (open_dump, read_elf):
        with suppress(kvmlib.KvmError):
            found: Any = opened(path)
            if isinstance(found, Image):
                found.close()
    with suppress(ValueError):
        for _ in unpack(io.BytesIO(data)):
            pass


def _packed_to_start(folder: Path) -> list[bytes]:
    begin = _headers_to_start(folder)[0][:2000]
    begun = [gzip.compress(begin), gzip.compress(bytes(1 << 20)), gzip.compress(b"a") + gzip.compress(begin)]
    for bits, block in ((9, True), (12, False), (16, True)):
        begun.append(write_codes(codes_of(begin, bits, block, False), bits, block))
    return [*begun, bytes.fromhex("28b52ffd240561000068656c6c6f00000000")]


def undoing(data: bytes, folder: Path) -> None:
    """Undo by a record that is the input: nothing but a dumpmag is ever put back, and only over zeros."""
    dump, record = folder / "dump", file_with(data, folder, "record")
    before = _dump_to_undo()
    if not dump.exists() or dump.read_bytes() != before:
        dump.write_bytes(before)
    with suppress(kvmlib.KvmError):
        undo(record, dump)
        return
    if dump.read_bytes() != before:
        raise Changed("the dump was changed although the record was refused")


def _dump_to_undo() -> bytes:
    return b"\xaa" * 64 + bytes(8) + b"\xbb" * 56


def _records_to_start(folder: Path) -> list[bytes]:
    dump = folder / "dump"
    dump.write_bytes(_dump_to_undo())
    record = {"kind": "kvmdump undo record", "dump": str(dump.resolve()), "size": 128, "offset": 64}
    record |= {"before": struct.pack("<Q", 0x8FCA0101).hex(), "after": "00" * 8}
    return [json.dumps(record, indent=1).encode()]


# -- together --------------------------------------------------------------------------------------------------------


def printable(texts: Any) -> None:
    """Check that nothing but text that is safe to show is in these."""
    for text in texts:
        assert kvmlib.printable(text, "\n\t") == text, repr(text[:200])


def _strings(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [s for k, v in data.items() for s in (k, *_strings(v))]
    if isinstance(data, list):
        return [s for v in data for s in _strings(v)]
    return [data] if isinstance(data, str) else []


def _of_samples(names: Sequence[str], look: Callable[[str, kvmlib.Sample], object]) -> Target:
    """Make a target of samples that are changed where `look` looks."""

    def look_at(data: bytes, folder: Path) -> None:
        name, changes = split(data, names)
        known: Places = places(name, folder, look)
        path = Path(known.sample.image)
        image = known.changed(changes)
        path.write_bytes(image)
        with suppress(kvmlib.KvmError):
            look(str(path), known.sample)
        if path.read_bytes() != image:
            raise Changed(str(path))

    return Target(look_at, lambda folder: starts(names))


TARGETS = {
    "headers": Target(headers, _headers_to_start),
    "find": Target(find, _images_to_start),
    "disks": Target(disks, _disks_to_start),
    "elf": Target(elf, _kernels_to_start),
    "names": Target(names, lambda folder: [b"panic 0xd024d3f9\n", b"d024d3f9 T panic\nd024d3f9 00000010 t x\n# a\n"]),
    "carved": Target(carved, _kernels_to_start),
    "ksyms": _of_samples(_NETBSD, _look_at_ksyms),
    "said": Target(said, _messages_to_start),
    "messages": _of_samples(NAMES, _look_at_messages),
    "report": _of_samples(kvmlib.sample_names(), _look_at_report),
    "translate": _of_samples(kvmlib.sample_names(), _look_at_translation),
    "packing": Target(packing, _packed_to_start),
    "undo": Target(undoing, _records_to_start),
}
