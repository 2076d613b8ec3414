"""RISC-V's and Alpha's tables in every branch; the headers of these and of or1k, ia64, m88k."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

import kvmlib
from kvmlib.kcore import RamSeg, build_device, build_ram_segs
from kvmlib.ports.base import Mmu
from kvmlib.translate import Translator

ROOT = 0x4000
TABLES = (0x8000, 0xC000, 0x10000, 0x14000)
RISCV_MODES = {39: 8, 48: 9, 57: 10}
V, R, W, X, U, G, A, D = (1 << i for i in range(8))
RW, RX = V | R | W, V | R | X
SO, C, B, SH, T = (1 << i for i in (63, 62, 61, 60, 59))
N = 1 << 63


class Memory:
    """Physical memory from 0 on, of which a part may be missing."""

    def __init__(self, size: int = 0x20000) -> None:
        self.data = bytearray(size)
        self.missing = range(0)

    def read(self, pa: int, n: int) -> bytes:
        if pa + n > len(self.data) or (self.missing and pa < self.missing.stop and pa + n > self.missing.start):
            raise kvmlib.NotInDumpError(f"pa {pa:#x} is not in the dump", pa, size=1 << 20)
        return bytes(self.data[pa : pa + n])

    def put(self, pa: int, value: int) -> None:
        self.data[pa : pa + 8] = value.to_bytes(8, "little")


def translator(machine: str, hdr: Mapping[str, int], memory: Memory) -> Translator:
    return kvmlib.machine(machine).mmu(Mmu(hdr, memory.read, lambda name: None))


def failure(t: Translator, va: int) -> str:
    with pytest.raises(kvmlib.TranslationError) as caught:
        t.kvatop(va)
    assert t.walk(va)[-1].outcome in ("invalid", "unreadable", "outside")
    assert str(caught.value).endswith(t.walk(va)[-1].note)
    return str(caught.value)


def dump(machine: str, cpu_data: bytes, folder: Path, memory: bytes = bytes(8192)) -> kvmlib.Kvm:
    """A dump with that CPU data, padded to a block."""
    m = kvmlib.machine(machine)
    path = folder / "dump.img"
    path.write_bytes(build_device(m.abi, cpu_data.ljust(512 - m.abi.align(8), b"\0")) + memory)
    kd = kvmlib.Kvm(path, machine=machine)
    kd.dump_mkheader(0)
    return kd


# -- riscv64 -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sv:
    """RISC-V tables in the making: one table of each level."""

    bits: int
    memory: Memory = dataclasses.field(default_factory=Memory)

    @property
    def levels(self) -> int:
        return (self.bits - 12) // 9

    def va(self, *indexes: int, offset: int = 0) -> int:
        """The address with these indexes, the root's first; its upper bits repeat the highest."""
        shift, va = self.bits, offset
        for i in indexes:
            shift -= 9
            va |= i << shift
        return va + (1 << 64) - (1 << self.bits) if va >> self.bits - 1 else va

    def put(self, *indexes: int, entry: int) -> None:
        """Put an entry into the last of the tables that these indexes go through, and point to them."""
        table = ROOT
        for i, below in zip(indexes[:-1], TABLES, strict=False):
            self.memory.put(table + 8 * i, below >> 2 | V)
            table = below
        self.memory.put(table + 8 * indexes[-1], entry)

    def translator(self) -> Translator:
        satp = RISCV_MODES[self.bits] << 60 | 0x1234 << 44 | ROOT >> 12
        return translator("netbsd/riscv64", {"kh_satp": satp}, self.memory)


@pytest.fixture(params=[39, 48, 57])
def sv(request: pytest.FixtureRequest) -> Sv:
    return Sv(request.param)


def path_to(sv: Sv, level: int, last: int) -> tuple[int, ...]:
    """Indexes of an entry at `level` (0 is the last), in the kernel's half."""
    return (*[511, 3, 5, 7, 9][: sv.levels - level - 1], last)


def test_every_page_size(sv: Sv) -> None:
    for level in range(sv.levels):
        size = 4096 << 9 * level
        pa = 3 * size
        indexes = path_to(sv, level, 300 + level)
        sv.put(*indexes, entry=pa >> 2 | RW | A | D)
        t = sv.translator()
        va = sv.va(*indexes)
        assert t.kvatop(va) == (pa, size)
        assert t.kvatop(va + size - 1) == (pa + size - 1, 1)
        assert t.kvatop(va + size // 2 + 5) == (pa + size // 2 + 5, size // 2 - 5)
        assert [s.name for s in t.walk(va)] == [f"level {n} table" for n in range(sv.levels - 1, level - 1, -1)]
        assert "invalid translation (invalid pte)" in failure(t, va + size)
        assert "invalid translation (invalid pte)" in failure(t, va - 1)
        mapped = list(t.mappings(va - size, va + 2 * size) if va + 2 * size < 1 << 64 else t.mappings(va))
        assert (va, pa, size) in [m[:3] for m in mapped]


def test_the_upper_half_and_the_lower(sv: Sv) -> None:
    sv.put(1, entry=RW)
    sv.put(511, entry=RX)
    t = sv.translator()
    top = 1 << sv.bits - 9
    assert t.kvatop(top) == (0, top)
    assert t.kvatop((1 << 64) - 1) == (top - 1, 1)
    low, high = 1 << sv.bits - 1, (1 << 64) - (1 << sv.bits - 1)
    assert "not mapped" in failure(t, low - 1)
    for va in (low, high - 1, 1 << 63, 1 << sv.bits):
        assert f"is not canonical: bits {sv.bits - 1} to 63 must be equal" in failure(t, va)
    assert "not mapped" in failure(t, high)
    assert "does not fit in 64 bits" in failure(t, 1 << 64)


@pytest.mark.parametrize(
    ("entry", "valid"),
    [
        (V | R, True),
        (RW, True),
        (V | R | W | X, True),
        (V | X, True),
        (V | W, False),
        (V | W | X, False),
        (R | W | X, False),
        (0, False),
        (V | R | U | G | A | D | 3 << 8, True),
        *((V | R | 1 << bit, False) for bit in (54, 55, 56, 57, 58)),
        (V | X | 1 << 54, False),
        (V | R | 1 << 61, True),
        (V | R | 2 << 61, True),
        (V | R | C | B | SH, True),
        (V | R | SO | SH, True),
        (V | X | SO | T, True),
        (V | R | N, False),
        (V | X | N, False),
    ],
)
def test_what_maps_a_page(sv: Sv, entry: int, valid: bool) -> None:
    for level in range(sv.levels):
        indexes = path_to(sv, level, 40)
        sv.put(*indexes, entry=entry)
        t = sv.translator()
        va = sv.va(*indexes)
        if valid:
            assert t.kvatop(va) == (0, 4096 << 9 * level)
        else:
            assert "invalid translation (invalid pte)" in failure(t, va)


def test_a_pointer_in_the_last_table_maps_nothing(sv: Sv) -> None:
    sv.put(*path_to(sv, 0, 1), entry=0x8000 >> 2 | V)
    assert "invalid pte" in failure(sv.translator(), sv.va(*path_to(sv, 0, 1)))


@pytest.mark.parametrize("bits", [1 << 54, 1 << 58, N])
def test_a_pointer_with_reserved_bits_leads_nowhere(sv: Sv, bits: int) -> None:
    indexes = path_to(sv, 0, 1)
    sv.put(*indexes, entry=RW)
    assert sv.translator().kvatop(sv.va(*indexes))
    sv.memory.put(ROOT + 8 * indexes[0], TABLES[0] >> 2 | V | bits)
    assert "level" in failure(sv.translator(), sv.va(*indexes))


def test_a_superpage_has_to_be_aligned(sv: Sv) -> None:
    for level in range(1, sv.levels):
        indexes = path_to(sv, level, 40)
        for bit in (12, 12 + 9 * level - 1):
            sv.put(*indexes, entry=1 << bit - 2 | RW)
            assert "invalid translation (invalid pte)" in failure(sv.translator(), sv.va(*indexes))
        sv.put(*indexes, entry=1 << 12 + 9 * level - 2 | RW)
        assert sv.translator().kvatop(sv.va(*indexes))[0] == 1 << 12 + 9 * level


@pytest.mark.parametrize("kind", [V | R, V | X])
def test_64_kib_pages(sv: Sv, kind: int) -> None:
    first = path_to(sv, 0, 32)
    for i in range(16):
        sv.put(*first[:-1], 32 + i, entry=N | 0x5 << 14 | 8 << 10 | kind)
    t = sv.translator()
    va = sv.va(*first)
    for offset in (0, 0x3456, 0xFFFF):
        assert t.kvatop(va + offset) == (0x50000 + offset, 0x10000 - offset)
    assert "invalid pte" in failure(t, va + 0x10000)
    assert [m[:3] for m in t.mappings(va, va + 0x20000)] == [(va, 0x50000, 0x10000)]
    # The lowest bits of the page's number must be 1000, and only the last table has such pages.
    sv.put(*first, entry=N | 0x5 << 14 | 4 << 10 | kind)
    assert "invalid pte" in failure(sv.translator(), va)
    sv.put(*path_to(sv, 1, 6), entry=N | 8 << 10 | kind)
    assert "invalid pte" in failure(sv.translator(), sv.va(*path_to(sv, 1, 6)))


def test_riscv_flags(sv: Sv) -> None:
    def flags(bits: int) -> tuple[str, ...]:
        sv.put(*path_to(sv, 0, 2), entry=V | R | bits)
        return sv.translator().walk(sv.va(*path_to(sv, 0, 2)))[-1].flags

    assert flags(0) == ("V", "R")
    assert flags(W | X | U | G | A | D | 3 << 8) == ("V", "R", "W", "X", "U", "G", "A", "D", "RSW", "WIRED")
    assert flags(1 << 61) == ("V", "R", "PBMT=NC")
    assert flags(2 << 61) == ("V", "R", "PBMT=IO")
    assert flags(C | B | SH) == ("V", "R", "C", "B", "SH")
    assert flags(SO | T) == ("V", "R", "SO", "T")
    assert flags(N | 8 << 10) == ("V", "R", "N")
    sv.put(*path_to(sv, 0, 2), entry=RW | A | D | 1 << 9 | 2 << 61)
    va = sv.va(*path_to(sv, 0, 2))
    assert next(sv.translator().mappings(va)).flags == ("R", "W", "PBMT=IO")


def test_riscv_tables_that_are_missing(sv: Sv) -> None:
    indexes = path_to(sv, 0, 2)
    sv.put(*indexes, entry=RW)
    va = sv.va(*indexes)
    for depth, table in enumerate((ROOT, *TABLES[: sv.levels - 1])):
        sv.memory.missing = range(table, table + 4096)
        text = failure(sv.translator(), va)
        assert f"could not read pte, the level {sv.levels - 1 - depth} table is at pa {table:#x}" in text
        assert "which is not in the dump" in text


def test_physical_addresses_have_56_bits(sv: Sv) -> None:
    indexes = path_to(sv, 0, 2)
    sv.put(*indexes, entry=((1 << 44) - 1) << 10 | RW)
    assert sv.translator().kvatop(sv.va(*indexes)) == (0xFFFFFFFFFFF000, 4096)
    sv.memory.put(ROOT + 8 * indexes[0], ((1 << 44) - 1) << 10 | V)
    assert "table is at pa 0xfffffffffff000, which is not in the dump" in failure(sv.translator(), sv.va(*indexes))


@pytest.mark.parametrize("mode", [0, 1, 7, 11, 15])
def test_satp_modes_that_there_are_not(mode: int) -> None:
    satp = mode << 60 | ROOT >> 12
    t = translator("netbsd/riscv64", {"kh_satp": satp}, Memory())
    assert f"kh_satp is {satp:#x}, whose mode {mode} is none of Sv39" in failure(t, 0xFFFFFFC000000000)
    assert not list(t.mappings())
    register = kvmlib.machine("netbsd/riscv64").registers({"kh_satp": satp, "kh_misc": (0,) * 7})[0]
    assert register.decoded == ("no translation (Bare)" if mode == 0 else f"mode {mode}, which is none that is known")


def test_riscv_header(tmp_path: Path) -> None:
    words = [9 << 60 | 0xABCD << 44 | 0x80002, *range(0x101, 0x108)]
    segments = [RamSeg(0x80000000, 0x1000), RamSeg(0x90000000, 0x1000)]
    data = b"".join(w.to_bytes(8, "little") for w in words) + build_ram_segs(segments, "little")
    with dump("netbsd/riscv64", data, tmp_path) as kd:
        assert kd.cpu_hdr == {"kh_satp": words[0], "kh_misc": tuple(words[1:])}
        assert [(s.start, s.size) for s in kd.segments] == segments
        register, *rest = kd.registers
        assert [(r.name, r.value) for r in rest] == [(f"kh_misc[{i}]", words[1 + i]) for i in range(7)]
        assert (register.name, register.value, register.width) == ("kh_satp", words[0], 64)
        assert register.decoded == "Sv48, root table at pa 0x80002000, ASID 43981"
        assert kd.machine is not None
        assert kd.machine.root is not None
        assert kd.machine.root(kd.cpu_hdr) == 0x80002000


@pytest.mark.parametrize(("variant", "bits"), [("", 39), ("-sv48", 48), ("-sv57", 57)])
def test_samples_of_riscv_have_every_page_size(variant: str, bits: int, tmp_path: Path) -> None:
    sample = kvmlib.make_sample(f"netbsd/riscv64{variant}", tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert kd.registers[0].decoded == f"Sv{bits}, root table at pa {sample.root:#x}, ASID 0"
        ends = [kd.walk(w.va)[-1] for w in sample.mapped]
        assert {s.name for s in ends} == {f"level {n} table" for n in range((bits - 12) // 9)}
        assert {"maps a page of 64 KiB", "maps a page of 4 KiB"} <= {s.note.partition(":")[0] for s in ends}


@pytest.mark.parametrize("machine", ["openbsd/alpha", "netbsd/alpha"])
def test_samples_of_alpha_use_both_segments(machine: str, tmp_path: Path) -> None:
    sample = kvmlib.make_sample(machine, tmp_path)
    with kvmlib.open(sample.image) as kd:
        assert {kd.walk(w.va)[-1].name for w in sample.mapped} == {"K0SEG", "L3 page table"}
        assert kvmlib.panic_registers(kd)[0].value == sample.registers["ksp"]
        assert all(w.va >= K1SEG for w in sample.mapped if kd.walk(w.va)[-1].name != "K0SEG")


# -- alpha -------------------------------------------------------------------------------------------------------------

K0SEG, K1SEG = 0xFFFFFC0000000000, 0xFFFFFE0000000000
both_alphas = pytest.mark.parametrize("machine", ["openbsd/alpha", "netbsd/alpha"])
KWE_KRE = 1 << 12 | 1 << 8 | V


def alpha(machine: str, memory: Memory, page_size: int = 8192) -> Translator:
    return translator(machine, {"lev1map_pa": ROOT, "page_size": page_size, "nmemsegs": 0}, memory)


def alpha_tables(page_size: int = 8192) -> Memory:
    """Entry 1 of the last table maps page 5; tables lie on page boundaries."""
    memory = Memory(0x60000)
    memory.put(ROOT + 8 * 768, 0x20000 // page_size << 32 | V)
    memory.put(0x20000 + 8 * 2, 0x30000 // page_size << 32 | V)
    memory.put(0x30000 + 8 * 1, 5 << 32 | KWE_KRE)
    return memory


#: The va of entry 1 of the last table above.
PAGE_VA = K1SEG + (2 << 23) + (1 << 13)


@both_alphas
def test_k0seg(machine: str) -> None:
    t = alpha(machine, alpha_tables())
    assert t.kvatop(K0SEG) == (0, 8192)
    assert t.kvatop(K0SEG + 0x12345) == (0x12345, 8192 - 0x345)
    assert t.kvatop(K1SEG - 1) == ((1 << 41) - 1, 1)
    assert [(s.name, s.outcome) for s in t.walk(K0SEG)] == [("K0SEG", "window")]
    for va in (0, K0SEG - 1, 1 << 63, 0x120000000, (1 << 42) - 1):
        assert "invalid kernel virtual address" in failure(t, va)
    assert next(t.mappings()) == (K0SEG, 0, 1 << 41, ())


@both_alphas
def test_k1seg(machine: str) -> None:
    memory = alpha_tables()
    t = alpha(machine, memory)
    assert t.kvatop(PAGE_VA) == (5 * 8192, 8192)
    assert t.kvatop(PAGE_VA + 8191) == (5 * 8192 + 8191, 1)
    assert [s.flags for s in t.walk(PAGE_VA)] == [("V",), ("V",), ("V", "KRE", "KWE")]
    assert list(t.mappings(K1SEG)) == [(PAGE_VA, 5 * 8192, 8192, ("KRE", "KWE"))]
    assert "invalid translation (invalid L3 PTE)" in failure(t, PAGE_VA - 1)
    assert "invalid translation (invalid L3 PTE)" in failure(t, PAGE_VA + 8192)
    assert "invalid translation (invalid L2 PTE)" in failure(t, PAGE_VA + (1 << 23))
    assert "invalid translation (invalid L1 PTE)" in failure(t, PAGE_VA + (1 << 33))
    # The last entries of all tables stand for the last page.
    for table, entry in ((ROOT, 0x20000 // 8192 << 32), (0x20000, 0x30000 // 8192 << 32), (0x30000, 0xFFFFFFFF << 32)):
        memory.put(table + 8 * 1023, entry | V)
    t = alpha(machine, memory)
    assert t.kvatop((1 << 64) - 1) == (0x1FFFFFFFFFFF, 1)
    # K0SEG's entries in the level 1 table don't count.
    memory.put(ROOT + 8 * 512, 0x20000 // 8192 << 32 | V)
    assert alpha(machine, memory).kvatop(K0SEG + (2 << 23) + (1 << 13))[0] == (2 << 23) + (1 << 13)


@both_alphas
def test_invalid_entries_need_not_be_zero(machine: str) -> None:
    for level, at in ((1, ROOT + 8 * 768), (2, 0x20000 + 8 * 2), (3, 0x30000 + 8 * 1)):
        memory = alpha_tables()
        memory.data[at] &= ~1
        assert f"invalid translation (invalid L{level} PTE)" in failure(alpha(machine, memory), PAGE_VA)


@both_alphas
def test_alpha_tables_that_are_missing(machine: str) -> None:
    for level, at in ((1, ROOT), (2, 0x20000), (3, 0x30000)):
        memory = alpha_tables()
        memory.missing = range(at, at + 8192)
        text = failure(alpha(machine, memory), PAGE_VA)
        assert (
            f"could not read L{level} PTE, the L{level} page table is at pa {at:#x}, which is not in the dump" in text
        )


@both_alphas
@pytest.mark.parametrize("page", [16384, 32768, 65536])
def test_larger_pages_scale_page_numbers_only(machine: str, page: int) -> None:
    memory = alpha_tables(page)
    entries = page // 8192
    for i in range(entries):
        memory.put(0x30000 + 8 * (8 + i), 7 << 32 | KWE_KRE)
    t = alpha(machine, memory, page)
    va = K1SEG + (2 << 23) + (8 << 13)
    for offset in (0, 0x1234, page - 1):
        assert t.kvatop(va + offset) == (7 * page + offset, page - offset)
    assert t.kvatop(K0SEG + page - 3) == (page - 3, 3)
    assert [m[:3] for m in t.mappings(va, va + page)] == [(va, 7 * page, page)]
    assert "invalid L3 PTE" in failure(t, va + page)


def alpha_header(page_size: int, nmemsegs: int, segments: list[RamSeg]) -> bytes:
    words = (0x1234000, page_size, nmemsegs)
    return b"".join(w.to_bytes(8, "little") for w in words) + build_ram_segs(segments, "little")


@both_alphas
def test_alpha_header(machine: str, tmp_path: Path) -> None:
    segments = [RamSeg(0, 0x2000), RamSeg(0x100000, 0x4000)]
    with dump(machine, alpha_header(16384, 2, [*segments, RamSeg(0x777000, 0x1000)]), tmp_path) as kd:
        assert kd.cpu_hdr == {"lev1map_pa": 0x1234000, "page_size": 16384, "nmemsegs": 2}
        assert [(s.start, s.size) for s in kd.segments] == segments
        assert {r.name: (r.value, r.decoded) for r in kd.registers} == {
            "lev1map_pa": (0x1234000, "level 1 page table at pa 0x1234000"),
            "page_size": (16384, "pages of 16 KiB"),
        }
        assert kd.machine is not None
        assert (kd.machine.name, kd.machine.page_size) == (machine, 16384)


@both_alphas
@pytest.mark.parametrize("size", [0, 1, 0x3000, 4096, 8191, 1 << 17, 1 << 63])
def test_page_sizes_that_no_alpha_has(machine: str, size: int, tmp_path: Path) -> None:
    with pytest.raises(kvmlib.FormatError, match=f"page_size is {size}, an Alpha's pages have 8192, 16384"):
        dump(machine, alpha_header(size, 0, []), tmp_path)


@both_alphas
@pytest.mark.parametrize("count", [31, 1 << 32, (1 << 64) - 1])
def test_more_segments_than_there_is_room_for(machine: str, count: int, tmp_path: Path) -> None:
    assert dump(machine, alpha_header(8192, 30, []), tmp_path).cpu_hdr["nmemsegs"] == 30
    with pytest.raises(kvmlib.FormatError, match=f"nmemsegs is {count}, but the CPU data of 504 bytes has room for 30"):
        dump(machine, alpha_header(8192, count, []), tmp_path)


@pytest.mark.parametrize(("machine", "size"), [("openbsd/alpha", 416), ("netbsd/alpha", 408)])
def test_alpha_registers_in_dumppcb(machine: str, size: int) -> None:
    pcb = kvmlib.machine(machine).pcb
    assert pcb is not None
    assert (pcb.size, pcb.sp, pcb.fp) == (size, "ksp", "")
    at = {name: at for name, (at, _) in pcb.fields.items()}
    assert [at[name] for name in ("ksp", "s0", "s1", "s5", "s6", "ra", "ps")] == [0, 64, 72, 104, 112, 120, 128]
    assert all(n == 8 for _, n in pcb.fields.values())


# -- machines without translation --------------------------------------------------------------------------------------


def test_or1k(tmp_path: Path) -> None:
    misc = range(0x201, 0x209)
    segments = [RamSeg(0, 0x2000), RamSeg(0x100000, 0x2000)]
    data = b"".join(w.to_bytes(8, "big") for w in misc) + build_ram_segs([*segments, RamSeg(5, 0)], "big")
    with dump("netbsd/or1k", data, tmp_path, bytes(0x4000)) as kd:
        assert kd.cpu_hdr == {"kh_misc": tuple(misc)}
        assert [(s.start, s.size) for s in kd.segments] == segments
        assert kd.read_physical(0x100000, 16) == bytes(16)
        assert kd.pa2off(0x100000) == 512 + 0x2000
        assert "doesn't say where the page tables are" in failure(kd.translator, 0xC0000000)


def test_m88k(tmp_path: Path) -> None:
    def header(cputype: int) -> bytes:
        return (
            cputype.to_bytes(4, "big") + bytes(4) + build_ram_segs([RamSeg(0, 0x2000), RamSeg(0x9000, 0x1000)], "big")
        )

    def decoded(n: int) -> str:
        return kvmlib.machine("openbsd/m88k").registers({"cputype": n})[0].decoded

    with dump("openbsd/m88k", header(1), tmp_path) as kd:
        assert kd.cpu_hdr == {"cputype": 1}
        # There is room for one segment only: what follows is none.
        assert [(s.start, s.size) for s in kd.segments] == [(0, 0x2000)]
        assert "vatop not yet implemented!" in failure(kd.translator, 0x10000)
    assert [decoded(n) for n in (0, 1, 2)] == ["MC88100", "MC88110", "a CPU that is not known"]


@pytest.mark.parametrize(
    ("machine", "words"),
    [("netbsd/ia64", "vatop not yet implemented!"), ("openbsd/powerpc64", "_kvm_kvatop not yet implemented")],
)
def test_no_header_at_all(machine: str, words: str, tmp_path: Path) -> None:
    memory = bytes(range(256)) * 64
    with dump(machine, b"\x5a" * 64, tmp_path, memory) as kd:
        assert kd.cpu_hdr == {}
        assert kd.registers == []
        assert kd.segments == []
        assert kd.read_physical(0x123, 4) == memory[0x123:0x127]
        assert kd.pa2off(0x123) == 512 + 0x123
        with pytest.raises(kvmlib.NotInDumpError):
            kd.read_physical(len(memory), 1)
        assert words in failure(kd.translator, 0xE000000000000000)
