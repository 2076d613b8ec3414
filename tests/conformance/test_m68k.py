"""What is recorded of the m68k machines only, and SUN2-DUMPEXTRA: the header that sun2's kernels really write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import of_translation
from tests.conformance.deviations.m68k import uncounted

FOLDERS = [p for p in folders(refused=False) if p.name.startswith("netbsd-m68k")]
#: Bytes of a header page of sun2.
PAGE = 2048
#: Pages that the kernel counts, and those it writes.
SAID, WRITTEN = 3, 9


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param.name))
    yield made
    for kd in made.opened:
        kd.close()


def test_there_is_every_kind() -> None:
    kinds = {p.name.removeprefix("netbsd-m68k-").rpartition("-")[0] for p in FOLDERS}
    assert kinds >= {"030", "030-u64a4", "040", "040-u64a4", "060", "sun2", "sun3", "sun3x"}


def test_fields_are_where_the_compiler_put_them(case: Case) -> None:
    """The union's member that this machine uses, and its array of segments."""
    places = case.expect["cpu_field_offsets_sizes"]
    kd = case.device()
    assert kd.machine is not None
    assert kd.machine.cpu_hdr is not None
    member = kd.cpu_hdr["name"] if kd.cpu_hdr["name"].startswith("sun") else "m68k"
    prefix = f"un._{member}."
    own = {name.removeprefix(prefix): at for name, at in places.items() if name.startswith(prefix) or "." not in name}
    ours = {f.name: [f.offset, f.size] for f in kd.machine.cpu_hdr.fields}
    segments = own.pop("ram_segs", None)
    assert ours == own
    if segments is not None:
        assert kd.machine.segments_offset(kd.cpu_hdr) == segments[0]
        assert kd.machine.least_cpu_data <= segments[0]


def test_headers_that_are_none(case: Case) -> None:
    for bad in case.expect["misc"]["mkheader_bad"]:
        with kvmlib.Kvm(case.image("device.img"), machine=case.machine) as kd:
            assert bad["ret"] <= 0
            with pytest.raises(kvmlib.FormatError, match=f"no dump header at {bad['dump_off']:#x}"):
                kd.dump_mkheader(bad["dump_off"])
            with pytest.raises(kvmlib.FormatError, match="no valid dump header"):
                kd.read(0, 4)


def test_saved_core_translates_like_the_device(case: Case) -> None:
    device, core = case.device(), case.saved()
    assert case.expect["core_differs"] == [] or uncounted(device)
    assert core.dump_off == case.expect["core"]["dump_off"] + uncounted(core)
    for entry in case.expect["translations"]:
        va = number(entry["va"])
        try:
            expected = device.kvatop(va)
        except kvmlib.TranslationError:
            with pytest.raises(kvmlib.TranslationError):
                core.kvatop(va)
        else:
            assert core.kvatop(va) == expected
    assert list(core.mappings()) == list(device.mappings())


# -- SUN2-DUMPEXTRA --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[p for p in FOLDERS if "sun2" in p.name], ids=lambda p: p.name)
def sun2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(request.param, tmp_path_factory.mktemp(f"{request.param.name}-extra"))
    if case.expect["mkheader_return"] != WRITTEN * PAGE:
        pytest.skip("this one has the header that kernels really write already")
    return case


def as_written(case: Case) -> bytes:
    """The device as sun2's kernels write it: all pages are there, but c_size is for three."""
    data = bytearray(case.image("device.img").read_bytes())
    at = case.expect["dump_off"] + 4
    assert int.from_bytes(data[at : at + 4]) == WRITTEN * PAGE - 8
    data[at : at + 4] = (SAID * PAGE - 8).to_bytes(4)
    return bytes(data)


def as_saved(case: Case) -> bytes:
    """What savecore(8) makes of that: three pages, and the other six as the first of memory."""
    data, start = as_written(case), int(case.expect["dump_off"])
    cpu, rest = data[start + 8 : start + SAID * PAGE], data[start + SAID * PAGE :]
    size = sum(int(n) for _, n in case.expect["segments"])
    hdr = bytes.fromhex(case.expect["kcore_hdr_hex"])
    segments = [bytes.fromhex(f"{flag:02x}008fac")[:4] for flag in (4, 8)]
    return (
        hdr
        + segments[0]
        + len(cpu).to_bytes(4)
        + cpu
        + segments[1]
        + size.to_bytes(4)
        + rest[:size]
    )  # fmt: skip


@pytest.mark.parametrize("form", ["device", "saved"])
def test_nine_pages_before_memory(sun2: Case, form: str, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(as_written(sun2) if form == "device" else as_saved(sun2))
    kd = kvmlib.Kvm(path, machine=sun2.machine)
    if form == "device":
        assert kd.dump_mkheader(sun2.expect["dump_off"]) == WRITTEN * PAGE
        assert kd.dump_off == sun2.expect["dump_off_after"]
    assert kd.reading is not None
    said = "c_size is for 3 pages, but these kernels write 9 before memory, so it is taken to begin at"
    assert f"{said} {kd.dump_off:#x}" in kd.reading.reasons
    assert kd.cpu_data.hex() == sun2.expect["cpu_data_hex"]
    for entry in sun2.expect["translations"]:
        va = number(entry["va"])
        if "error" in entry:
            with pytest.raises(kvmlib.TranslationError):
                kd.kvatop(va)
        else:
            assert kd.kvatop(va) == (number(entry["pa"]), entry["len"])
    whole = sun2.device()
    size = sum(n for _, n in sun2.expect["segments"])
    # A saved core has lost the last six pages of memory.
    left = size if form == "device" else size - (WRITTEN - SAID) * PAGE
    assert kd.read_physical(0, left) == whole.read_physical(0, left)
    # As it lies on the device; as it should have been in a saved core, where it isn't in one piece.
    assert kd.dump_off is not None
    if form == "device":
        assert kvmlib.header_bytes(kd) == as_written(sun2)[sun2.expect["dump_off"] : kd.dump_off]
    else:
        assert kvmlib.header_bytes(kd).hex() == sun2.expect["wrtheader_hex"][: 2 * (kd.dump_off - 4)] + f"{left:08x}"
    fields = kvmlib.header_fields(kd)
    assert fields[-1 if form == "device" else -2].children[-1].raw == kd.cpu_data[36 + 512 :]
    kd.close()


def test_three_pages_where_nine_do_not_fit(sun2: Case, tmp_path: Path) -> None:
    path = tmp_path / "cut.img"
    end = sun2.expect["dump_off"] + WRITTEN * PAGE
    path.write_bytes(as_written(sun2)[: end - 1])
    with kvmlib.Kvm(path, machine=sun2.machine) as kd:
        assert kd.dump_mkheader(sun2.expect["dump_off"]) == SAID * PAGE
        assert kd.reading is not None
        assert "c_size" not in " ".join(kd.reading.reasons)
    path.write_bytes(as_written(sun2)[:end])
    with kvmlib.Kvm(path, machine=sun2.machine) as kd:
        assert kd.dump_mkheader(sun2.expect["dump_off"]) == WRITTEN * PAGE


def test_nine_pages_are_left_alone(sun2: Case) -> None:
    kd = sun2.device()
    assert kd.reading is not None
    assert kd.dump_off == sun2.expect["dump_off_after"]
    assert "c_size" not in " ".join(kd.reading.reasons)


def test_rules_need_no_excuse_for_an_answer(case: Case) -> None:
    """Only tables that are not in the dump are excused, where the header counts right."""
    kd = case.device()
    if uncounted(kd):
        return
    for entry in case.expect["translations"]:
        if of_translation(kd, entry, number(entry["va"])):
            assert "error" in entry or kd.walk(number(entry["va"]))[-1].outcome == "unreadable"
