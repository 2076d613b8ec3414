"""NetBSD/arm: the header of both ABIs, each kind of page and of table, both byte orders."""

import struct

import pytest

import kvmlib
from kvmlib.errors import FormatError
from kvmlib.kcore import RamSeg
from kvmlib.ports import netbsd_arm
from kvmlib.ports.arm_paging import coarse_words, fine_words, first_level_words
from kvmlib.ports.base import Machine, Mmu, Settled
from kvmlib.translate import Mapping, Translator
from tests.ports.arm_memory import Memory, headers, why
from tests.samples import sample_in

MACHINE = netbsd_arm.MACHINE
BIG = MACHINE.forms[0]
L1, COARSE, FINE = 0x10000000, 0x10004C00, 0x10007000
PAGE = 0x2ABCD000


def header(**fields: int) -> dict[str, int]:
    return {
        "version": 1,
        "flags": 0,
        "PAKernelL1Table": L1,
        "PAUserL1Table": 0,
        "UserL1TableSize": 0,
        "nmemsegs": 1,
        "omemsegs": 32,
        **fields,
    }


def cpu_data(fields: dict[str, int], segments: tuple[RamSeg, ...] = (RamSeg(L1, 0x100000),), order: str = "<") -> bytes:
    values = list(fields.values())
    head = struct.pack(order + "IIIIHxxII", *values).ljust(fields["omemsegs"], b"\0")
    return (head + b"".join(struct.pack(order + "QQ", *s) for s in segments)).ljust(504, b"\0")


def settled(data: bytes, machine: Machine = MACHINE, form: str = "device") -> Settled:
    assert machine.settle is not None
    return machine.settle(machine, headers(data, machine.abi.kcore_hdr(), form), lambda at, n: b"", 0)


def ram(data: bytes, machine: Machine = MACHINE) -> list[RamSeg]:
    assert machine.ram is not None
    return machine.ram(machine, data, machine.parse_cpu_hdr(data))


# -- header ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "order"), [(MACHINE, "<"), (BIG, ">")], ids=["little", "big"])
def test_each_field_is_where_the_kernel_puts_it(machine: Machine, order: str) -> None:
    raw = struct.pack(order + "IIIIHHII", 11, 22, 33, 44, 55, 99, 66, 77)
    assert machine.parse_cpu_hdr(raw) == {
        "version": 11,
        "flags": 22,
        "PAKernelL1Table": 33,
        "PAUserL1Table": 44,
        "UserL1TableSize": 55,
        "nmemsegs": 66,
        "omemsegs": 77,
    }


@pytest.mark.parametrize("omemsegs", [28, 32, 40])
def test_segments_begin_where_omemsegs_says(omemsegs: int) -> None:
    data = cpu_data(header(nmemsegs=2, omemsegs=omemsegs), (RamSeg(0x1000, 0x2000), RamSeg(0x80000000, 0x3000)))
    assert ram(data) == [RamSeg(0x1000, 0x2000), RamSeg(0x80000000, 0x3000)]


@pytest.mark.parametrize(("omemsegs", "hdrsize", "mask"), [(28, 12, 3), (32, 16, 7), (48, 16, 7)])
def test_omemsegs_tells_the_abi(omemsegs: int, hdrsize: int, mask: int) -> None:
    found = settled(cpu_data(header(omemsegs=omemsegs)))
    assert found.machine.align_mask == mask
    assert found.headers.kcore_hdr.c_hdrsize == hdrsize
    assert found.headers.kcore_hdr.c_seghdrsize == 8
    again = settled(cpu_data(header(omemsegs=omemsegs)), found.machine)
    assert again.machine == found.machine


def test_a_settled_machine_settles_for_another_dump_too() -> None:
    old = settled(cpu_data(header(omemsegs=28))).machine
    assert settled(cpu_data(header(omemsegs=32)), old).machine.align_mask == 7


def test_a_saved_cores_own_sizes_are_kept() -> None:
    found = settled(cpu_data(header(omemsegs=28)), form="savecore")
    assert found.headers.kcore_hdr == MACHINE.abi.kcore_hdr()
    assert found.machine.align_mask == 3


def test_big_endian_says_so() -> None:
    assert any("big-endian" in r for r in settled(cpu_data(header(), order=">"), BIG).reasons)
    assert not any("big-endian" in r for r in settled(cpu_data(header())).reasons)


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"nmemsegs": 30}, "nmemsegs"), ({"nmemsegs": 2**32 - 1}, "nmemsegs"), ({"omemsegs": 500}, "nmemsegs")],
)
def test_hostile_counts(fields: dict[str, int], name: str) -> None:
    data = bytearray(cpu_data(header()))
    for field, at in (("nmemsegs", 20), ("omemsegs", 24)):
        if field in fields:
            struct.pack_into("<I", data, at, fields[field])
    with pytest.raises(FormatError, match=name):
        ram(bytes(data))


def test_as_many_segments_as_fit() -> None:
    segments = tuple(RamSeg(i << 20, 0x1000) for i in range(29))
    assert len(ram(cpu_data(header(nmemsegs=29), segments))) == 29


@pytest.mark.parametrize("omemsegs", [0, 27])
def test_segments_inside_the_header_are_another_systems(omemsegs: int) -> None:
    data = bytearray(cpu_data(header()))
    struct.pack_into("<I", data, 24, omemsegs)
    with pytest.raises(FormatError, match=f"omemsegs is {omemsegs}"):
        settled(bytes(data))


def decoded(name: str, **fields: int) -> str:
    return next(r.decoded for r in MACHINE.registers(header(**fields)) if r.name == name)


def test_registers() -> None:
    table = decoded("PAKernelL1Table")
    assert table == "first-level table of 4096 entries at pa 0x10000000, for va 0x0 and above"
    user = {"UserL1TableSize": 0x4000, "PAUserL1Table": 0x20000000}
    assert decoded("PAKernelL1Table", **user).endswith("for va 0x80000000 and above")
    assert decoded("PAUserL1Table", **user) == "first-level table at pa 0x20000000, for all below va 0x80000000"
    assert decoded("UserL1TableSize", **user) == "addresses below 0x80000000 are the user table's"
    assert decoded("UserL1TableSize") == "there is no user table"
    assert decoded("PAUserL1Table") == "none"
    assert "not aligned" in decoded("PAKernelL1Table", PAKernelL1Table=L1 + 0x400)
    assert "not aligned" not in table
    assert decoded("version") == ""
    assert decoded("version", version=2) == "not supported: version 1 is known"
    assert {r.name: r.value for r in MACHINE.registers(header(nmemsegs=3))}["nmemsegs"] == 3
    assert (decoded("flags"), decoded("flags", flags=1)) == ("", "KCORE_ARM_APX")


# -- translation -------------------------------------------------------------------------------------------------------


def translator(
    first: dict[int, int],
    second: dict[int, dict[int, int]] | None = None,
    machine: Machine = MACHINE,
    user: tuple[int, int] = (0, 0),
    **fields: int,
) -> Translator:
    """Tables by hand: `first` is the kernel's first-level table, `second` are others by pa."""
    memory = Memory(machine.byteorder)
    memory.table(L1, 4096, 4, first)
    for pa, entries in (second or {}).items():
        memory.table(pa, {COARSE: 256}.get(pa, 1024), 4, entries)
    if user[0]:
        memory.table(user[0], 4096, 4, {1: user[1]})
    return machine.mmu(Mmu(header(**fields), memory.read, lambda name: None))


def same(start: int, count: int, entry: int) -> dict[int, int]:
    return dict.fromkeys(range(start, start + count), entry)


def check_page(t: Translator, va: int, size: int, pa: int) -> None:
    """All of the page is there, to the byte, and nothing on either side."""
    assert t.kvatop(va) == (pa, size)
    assert t.kvatop(va + 1) == (pa + 1, size - 1)
    assert t.kvatop(va + size - 1) == (pa + size - 1, 1)
    assert why(t, va + size // 2) == ""
    assert why(t, va - 1)
    assert why(t, va + size)
    assert [(m.va, m.pa, m.size) for m in t.mappings()] == [(va, pa, size)]


@pytest.mark.parametrize("machine", [MACHINE, BIG], ids=["little", "big"])
def test_section(machine: Machine) -> None:
    check_page(translator({0xC10: 0x2AB00C1E}, machine=machine), 0xC1000000, 1 << 20, 0x2AB00000)


def test_the_other_byte_order_is_another_entry() -> None:
    little = translator({0xC10: 0x2AB00C1E})
    swapped = translator({0xC10: int.from_bytes(struct.pack(">I", 0x2AB00C1E), "little")}, machine=BIG)
    assert little.kvatop(0xC1000000)[0] == 0x2AB00000
    assert why(swapped, 0xC1000000) or swapped.kvatop(0xC1000000)[0] != 0x2AB00000


def test_supersection() -> None:
    check_page(translator(same(0xC10, 16, 0x2A04040E)), 0xC1000000, 16 << 20, 0x2A000000)


def test_bits_that_are_no_supersections_address_are_left_out() -> None:
    # 23-20 and 8-5 would be pa bits 39-32.
    t = translator(same(0xC10, 16, 0x2AF405EE))
    assert t.kvatop(0xC1000000) == (0x2A000000, 16 << 20)


def test_a_supersection_ends_where_its_entries_differ() -> None:
    t = translator({**same(0xC10, 3, 0x2A04040E), 0xC13: 0x3310040E, 0xC14: 0x2A04040E})
    assert t.kvatop(0xC1100000) == (0x2A100000, 2 << 20)
    assert t.kvatop(0xC1300000) == (0x33100000, 1 << 20)
    assert t.kvatop(0xC1400000) == (0x2A400000, 1 << 20)


@pytest.mark.parametrize("machine", [MACHINE, BIG], ids=["little", "big"])
def test_small_page(machine: Machine) -> None:
    t = translator({0xC10: COARSE | 1}, {COARSE: {7: PAGE | 0x55E}}, machine)
    check_page(t, 0xC1007000, 4096, PAGE)


def test_a_small_page_that_must_not_be_executed_has_bit_0_set() -> None:
    # libkvm takes it for a page of 1 KiB at pa bits 31-10.
    t = translator({0xC10: COARSE | 1}, {COARSE: {255: PAGE | 0xC13}})
    check_page(t, 0xC10FF000, 4096, PAGE)


def test_large_page() -> None:
    t = translator({0xC10: COARSE | 1}, {COARSE: same(0x20, 16, 0x2ABCF00D)})
    check_page(t, 0xC1020000, 1 << 16, 0x2ABC0000)


def test_a_large_page_ends_where_its_entries_differ() -> None:
    t = translator({0xC10: COARSE | 1}, {COARSE: {0x20: 0x2ABC000D, 0x21: 0x2ABC000D, 0x23: 0x2ABC000D}})
    assert t.kvatop(0xC1020800) == (0x2ABC0800, 0x1800)
    assert "L2 entry is invalid" in why(t, 0xC1022000)
    assert t.kvatop(0xC1023000) == (0x2ABC3000, 0x1000)


def test_the_coarse_table_of_which_only_the_first_kilobyte_counts() -> None:
    # Two coarse tables lie side by side in one page.
    t = translator({0xC10: COARSE | 1, 0xC11: COARSE + 0x400 | 1}, {COARSE: {0: PAGE | 2}})
    assert t.kvatop(0xC1000000)[0] == PAGE
    assert "could not read L2 entry" in why(t, 0xC1100000)


def fine(entries: dict[int, int], at: int = FINE) -> Translator:
    return translator({0xC10: at | 0x13}, {at: entries})


def test_fine_table_at_its_own_address() -> None:
    """ARM-FINE: libkvm would look for entry 5 at bits 31-20 of that address, where the first-level table is."""
    assert FINE & 0xFFF00000 == L1
    t = translator({0xC10: FINE | 0x13, 5: 0x11111013}, {FINE: {5: PAGE | 0xFF3}})
    assert t.kvatop(0xC1001400) == (PAGE + 0xC00, 1024)


def test_tiny_page() -> None:
    check_page(fine({1023: PAGE + 0x400 | 0x13}), 0xC10FFC00, 1024, PAGE + 0x400)


def test_small_page_in_a_fine_table() -> None:
    check_page(fine(same(8, 4, PAGE | 0xFFE)), 0xC1002000, 4096, PAGE)


def test_large_page_in_a_fine_table() -> None:
    check_page(fine(same(64, 64, 0x2ABCFF0D)), 0xC1010000, 1 << 16, 0x2ABC0000)


def test_a_page_in_a_fine_table_ends_where_its_entries_differ() -> None:
    t = fine({8: PAGE | 2, 9: PAGE | 2, 10: PAGE + 0x800 | 3})
    assert t.kvatop(0xC1002000) == (PAGE, 0x800)
    assert t.kvatop(0xC1002800) == (PAGE + 0x800, 0x400)


@pytest.mark.parametrize("entry", [0, 0xFFFFFFFC])
def test_invalid_first_level(entry: int) -> None:
    t = translator({0xC10: entry, 0xC11: 0x2AB00C02})
    text = why(t, 0xC1012345)
    assert "L1 entry is invalid, entry 3088 of the first-level table at pa 0x10000000 is" in text
    assert f"is {entry:#x}" in text
    assert why(t, 0xC1100000) == ""


@pytest.mark.parametrize("entry", [0, 0xFFFFFFFC])
def test_invalid_second_level(entry: int) -> None:
    t = translator({0xC10: COARSE | 1}, {COARSE: {7: entry, 8: PAGE | 2}})
    assert "L2 entry is invalid, entry 7 of the coarse table" in why(t, 0xC1007FFF)
    assert why(t, 0xC1008000) == ""
    t = fine({7: entry, 8: PAGE | 3})
    assert "L2 entry is invalid, entry 7 of the fine table" in why(t, 0xC1001FFF)
    assert why(t, 0xC1002000) == ""


def test_tables_that_are_not_in_the_dump() -> None:
    t = translator({0xC10: 0x7C000001, 0xC11: 0x7C000003})
    assert "could not read L2 entry, the coarse table is at pa 0x7c000000, which is not in the dump" in why(
        t, 0xC1000000
    )
    assert "could not read L2 entry, the fine table is at pa 0x7c000000" in why(t, 0xC1100000)
    t = translator({}, PAKernelL1Table=0x7C000000)
    assert "could not read L1 entry, the first-level table is at pa 0x7c000000" in why(t, 0)


@pytest.mark.parametrize("version", [0, 2])
def test_another_version(version: int) -> None:
    t = translator({0xC10: 0x2AB00C0E}, version=version)
    assert "unsupported kcore structure version" in why(t, 0xC1000000)
    assert f"{version}, not 1" in why(t, 0xC1000000)
    assert list(t.mappings()) == []


def test_unknown_flags() -> None:
    assert "kcore flags not supported: flags is 0x1" in why(translator({0xC10: 0x2AB00C0E}, flags=1), 0xC1000000)


def test_user_table() -> None:
    user, size = 0x30000000, 0x10
    t = translator({1: 0x2AB00C02, 2: 0x2AC00C02}, user=(user, 0x33300C02), PAUserL1Table=user, UserL1TableSize=size)
    limit = size << 17
    assert limit == 0x200000
    assert t.kvatop(limit - 0x100000) == (0x33300000, 0x100000)
    assert t.kvatop(limit) == (0x2AC00000, 0x100000)
    assert "L1 entry is invalid" in why(t, 0)
    assert "at pa 0x30000000" in why(t, 0)
    assert [m[:3] for m in t.mappings()] == [(0x100000, 0x33300000, 0x100000), (0x200000, 0x2AC00000, 0x100000)]


def test_a_user_table_ends_inside_a_section() -> None:
    user = 0x30000000
    t = translator({1: 0x2AB00C02}, user=(user, 0x33300C02), PAUserL1Table=user, UserL1TableSize=9)
    assert t.kvatop(0x11FFFF) == (0x3331FFFF, 1)
    assert t.kvatop(0x120000) == (0x2AB20000, 0xE0000)


@pytest.mark.parametrize("size", [0x8000, 0xFFFF])
def test_a_user_table_for_all_addresses(size: int) -> None:
    user = 0x30000000
    t = translator({1: 0x2AB00C02}, user=(user, 0x33300C02), PAUserL1Table=user, UserL1TableSize=size)
    assert t.kvatop(0x100000)[0] == 0x33300000
    assert "at pa 0x30000000" in why(t, 0xFFFFFFFF)


def test_addresses_of_more_than_32_bits() -> None:
    assert "does not fit in 32 bits" in why(translator({0: 0x2AB00C02}), 1 << 32)


# -- what the entries' bits are called ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (0x2AB00002, ("AP=000", "domain=0")),
        (0x2AB00402, ("AP=001", "domain=0")),
        (0x2AB08002, ("AP=100", "domain=0")),
        (0x2AB05002, ("AP=000", "TEX=101", "domain=0")),
        (0x2AB0000A, ("AP=000", "C", "domain=0")),
        (0x2AB00006, ("AP=000", "B", "domain=0")),
        (0x2AB00012, ("AP=000", "XN", "domain=0")),
        (0x2AB20002, ("AP=000", "nG", "domain=0")),
        (0x2AB10002, ("AP=000", "S", "domain=0")),
        (0x2AB001E2, ("AP=000", "domain=15")),
        # A supersection has no domain of its own: bits 8-5 are part of its address.
        (0x2A0401E2, ("AP=000", "domain=0")),
        (0x10004C61, ("domain=3",)),
        (0x10004C69, ("NS", "domain=3")),
        (0x10007063, ("domain=3",)),
        (0xFFFFFFFC, ()),
    ],
)
def test_first_level_words(entry: int, names: tuple[str, ...]) -> None:
    assert first_level_words(entry) == names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (PAGE | 2, ("AP=000",)),
        (PAGE | 0x12, ("AP=001",)),
        (PAGE | 0x232, ("AP=111",)),
        (PAGE | 0x42, ("AP=000", "TEX=001")),
        (PAGE | 0x00E, ("AP=000", "C", "B")),
        (PAGE | 3, ("AP=000", "XN")),
        (PAGE | 0x802, ("AP=000", "nG")),
        (PAGE | 0x402, ("AP=000", "S")),
        # Bits 15-12 are a small page's address, and a large page's TEX and XN.
        (0x2ABCF002, ("AP=000",)),
        (0x2ABCF001, ("AP=000", "TEX=111", "XN")),
        (0x2ABC01C1, ("AP=000",)),
        (0xFFFFFFFC, ()),
    ],
)
def test_coarse_words(entry: int, names: tuple[str, ...]) -> None:
    assert coarse_words(entry) == names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (PAGE | 0x392, ("AP0=01", "AP1=10", "AP2=11", "AP3=00")),
        (0x2ABC0C0D, ("AP0=00", "AP1=00", "AP2=00", "AP3=11", "C", "B")),
        (PAGE | 0x3B, ("AP=11", "C")),
        (PAGE | 0xFC3, ("AP=00",)),
        (0xFFFFFFFC, ()),
    ],
)
def test_fine_words(entry: int, names: tuple[str, ...]) -> None:
    assert fine_words(entry) == names


def test_mappings_name_the_protection() -> None:
    t = translator({0xC10: COARSE | 1, 0xC11: 0x2AB0041E}, {COARSE: {0: PAGE | 0x41F, 1: PAGE + 0x1000 | 0x41F}})
    assert list(t.mappings()) == [
        Mapping(0xC1000000, PAGE, 0x2000, ("AP=001", "C", "B", "XN", "S")),
        Mapping(0xC1100000, 0x2AB00000, 0x100000, ("AP=001", "C", "B", "XN", "domain=0")),
    ]


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shifts"),
    [("netbsd/arm", {12, 16, 20, 24}), ("netbsd/arm-eb", {12, 16, 20, 24}), ("netbsd/arm-oabi", {10, 12, 16, 20})],
)
def test_a_sample_has_every_page_size(name: str, shifts: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    sample = sample_in(tmp_path_factory.mktemp("sample"), name)
    with kvmlib.open(sample.image) as kd:
        seen = set()
        for w in sample.mapped:
            shift = 12 if w.shift is None else w.shift
            pa, n = kd.kvatop(w.va)
            assert (pa, n) == (w.pa, 1 << shift), w
            seen.add(shift)
        assert seen == shifts


def test_the_old_abis_sample_has_a_fine_table(tmp_path_factory: pytest.TempPathFactory) -> None:
    sample = sample_in(tmp_path_factory.mktemp("sample"), "netbsd/arm-oabi")
    with kvmlib.open(sample.image) as kd:
        steps = {step.name for w in sample.mapped for step in kd.walk(w.va)}
        assert steps == {"first-level table", "coarse table", "fine table"}
        assert kd.kcore_hdr is not None
        assert kd.kcore_hdr.c_hdrsize == 12


def test_forms_are_found_without_being_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, order in (("netbsd/arm", "little"), ("netbsd/arm-eb", "big")):
        sample = sample_in(tmp_path_factory.mktemp("sample"), name)
        with kvmlib.open(sample.image) as kd:
            assert kd.machine is not None
            assert (kd.machine.name, kd.machine.byteorder) == ("netbsd/arm", order)
