"""What is recorded of SuperH, VAX and PA-RISC machines besides the answers that all have."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import in_dump, of_pa2off, of_translation

NETBSD = ("netbsd/hppa", "netbsd/sh3eb", "netbsd/sh3el", "netbsd/vax")


def cases_of(*machines: str) -> list[Path]:
    about = {folder: json.loads((folder / "expect.json").read_text()) for folder in folders()}
    return [folder for folder, d in about.items() if f"{d['os']}/{d['arch']}" in machines]


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param.name))
    yield made
    for kd in made.opened:
        kd.close()


def for_cases(*machines: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases_of(*machines), ids=lambda p: p.name, indirect=True)


netbsd = for_cases(*NETBSD)
openbsd = for_cases("openbsd/hppa", "openbsd/sh")
vax = for_cases("netbsd/vax")
hppa = for_cases("openbsd/hppa")
sh = for_cases("openbsd/sh")


@netbsd
def test_no_header_there(case: Case) -> None:
    for wrong in case.expect["misc"]["mkheader_bad"]:
        with (
            kvmlib.Kvm(case.image("device.img"), machine=case.machine) as kd,
            pytest.raises(kvmlib.FormatError, match=r"no dump header at 0x[0-9a-f]+"),
        ):
            kd.dump_mkheader(wrong["dump_off"])


@for_cases("netbsd/hppa", "netbsd/sh3eb", "netbsd/sh3el")
def test_where_nothing_translates_memory_can_be_read(case: Case) -> None:
    """Libkvm gives nothing at all; ours has memory by physical address, and finds the kernel's words in it."""
    memory = case.image("device.img").read_bytes()[case.expect["dump_off_after"] :]
    with kvmlib.open(case.image("device.img")) as kd:
        assert kd.read_physical(0x4000, 0x800) == memory[0x4000:0x4800]
        assert list(kd.mappings()) == []
        assert {kd.walk(va)[-1].outcome for va in (0, 0x80000000, 0x8C000000, 0xFFFFFFFF)} == {"outside"}


@vax
def test_without_symbols(case: Case) -> None:
    """Libkvm's mkheader fails without the symbol _end. Ours opens, and says so when it matters."""
    recorded = kvmlib.Kvm(case.image("device.img"), machine=case.machine)
    with recorded as kd:
        assert kd.dump_mkheader(case.expect["dump_off"]) == case.expect["mkheader_return"]
        with pytest.raises(kvmlib.TranslationError, match="pmap_stod: no such symbol"):
            kd.kvatop(0x80000000)
        assert kd.read_physical(0, 16) == kd.image.read(case.expect["dump_off_after"], 16)


@vax
def test_the_window_ends_where_the_kernel_does(case: Case) -> None:
    kd = case.device()
    end = kd.nlist("end")["end"].value
    mapped = list(kd.mappings())
    assert [(m.va, m.pa, m.size) for m in mapped] == [(0x80000000, 0, end - 0x80000000)]
    assert kd.kvatop(end - 1) == (end - 1 - 0x80000000, 1)


# -- openbsd -----------------------------------------------------------------------------------------------------------


def refused(case: Case, patched: dict[str, Any]) -> bool:
    """FLAG: ours wants CORE_CPU; libkvm takes any flag."""
    return bool(patched["mkheader_return"] < 0 or patched["name"] == "other_flag_is_accepted")


@openbsd
def test_patched(case: Case, tmp_path: Path) -> None:
    whole = case.image("device.img").read_bytes()
    assert {refused(case, patched) for patched in case.expect["patched"]} == {True, False}
    for patched in case.expect["patched"]:
        image = bytearray(whole)
        for at, text in patched["patch"]:
            image[at : at + len(text) // 2] = bytes.fromhex(text)
        path = tmp_path / "patched.img"
        path.write_bytes(image[: patched["truncate"]])
        # The header may lie at 0, and a part of it is changed there: whatever is left is a device's.
        with kvmlib.Kvm(path, machine=case.machine) as kd:
            if refused(case, patched):
                with pytest.raises(kvmlib.FormatError, match=r"no dump header at 0x|header at 0x.* is cut off"):
                    kd.dump_mkheader(patched["mkheader_at"])
                continue
            if patched["name"] == "kptp_outside_file_offset_0_valid_bit" and case.expect["dump_off"] == 0:
                continue  # It changes the header's own magic, which libkvm read before.
            assert kd.dump_mkheader(patched["mkheader_at"]) == patched["mkheader_return"], patched["name"]
            for entry in patched.get("translations", ()):
                check_translation(kd, entry)
            for entry in patched.get("reads", ()):
                check_read(kd, entry)
            for entry in patched.get("pa2off", ()):
                assert not in_dump(kd, number(entry["pa"]))


def check_translation(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    va = number(entry["va"])
    excuse = of_translation(kd, entry, va)
    if excuse is not None:
        assert excuse.ours(kd, va), (excuse.id, entry)
    elif "error" in entry:
        with pytest.raises(kvmlib.TranslationError) as caught:
            kd.kvatop(va)
        assert entry["error"].partition(": Undefined")[0] in str(caught.value)
    else:
        assert kd.kvatop(va) == (number(entry["pa"]), entry["len"])


def check_read(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    """PARTIAL, SH-SEG, HPPA-IDENT: all or an error, and never what lies elsewhere in the file."""
    va, n = number(entry["va"]), entry["len"]
    try:
        data = kd.read(va, n)
    except kvmlib.KvmError:
        assert entry["ret"] < n or "out of the image" in entry.get("error", "")
    else:
        assert entry["ret"] == n
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]


@openbsd
def test_the_saved_core_says_the_same(case: Case) -> None:
    """SH-SEG, HPPA-IDENT: libkvm's answers differ where it reads what is not memory; ours are the same."""
    device, saved = case.device(), case.saved()
    differs = case.expect["saved"]["differs_from_device_beyond_the_offset_shift"]
    for entry in differs.get("reads", ()):
        va, n = number(entry["va"]), entry["len"]
        kinds = [[(s.va, s.size, s.kind, s.data) for s in kd.spans(va, n)] for kd in (device, saved)]
        assert kinds[0] == kinds[1]
    for entry in differs.get("translations", ()):
        va = number(entry["va"])
        assert [s.outcome for s in device.walk(va)] == [s.outcome for s in saved.walk(va)]


@openbsd
def test_more_about_dumpmag(case: Case, tmp_path: Path) -> None:
    """INVAL512: only dumpmag is cleared, and only where it is in the dump; libkvm clears something else."""
    recorded = case.expect["inval"]
    path = tmp_path / "device.img"
    whole = case.image("device.img").read_bytes()
    tried = set()
    for entry in case.expect["inval_more"]:
        path.write_bytes(whole)
        spelled = "_dumpmag" if "spelled" in entry["what"] else "dumpmag"
        va = None if "no dumpmag" in entry["what"] else number(entry.get("va") or recorded["va"])
        symbols = kvmlib.SymbolTable([] if va is None else [kvmlib.Symbol(spelled, va, 4, "D")], "a test")
        with kvmlib.Kvm(path, system=symbols, machine=case.machine, write=True) as kd:
            kd.dump_mkheader(case.expect["dump_off"])
            if spelled == "_dumpmag":
                assert kd.dump_inval().before == whole[kd.pa2off(number(recorded["pa"])) :][:4]
                assert sum(a != b for a, b in zip(whole, path.read_bytes(), strict=True)) in (3, 4)
            else:
                # HPPA-IDENT, SH-SEG: libkvm clears bytes of something else, or lets the file grow.
                words = "not in name list" if va is None else "not in the dump|mapped one to one|not a kernel virtual"
                with pytest.raises(kvmlib.KvmError, match=words):
                    kd.dump_inval()
                assert path.read_bytes() == whole
            tried.add(spelled)
    assert tried == {"dumpmag", "_dumpmag"}


@openbsd
def test_more_sizes_of_memory(case: Case, tmp_path: Path) -> None:
    """CSIZE32: the low 32 bits, whatever the sign."""
    kd = case.device()
    for entry in case.expect["wrtheader_more"]:
        path = tmp_path / "header"
        with path.open("wb") as out:
            assert kd.dump_wrtheader(out, entry["dumpsize"]) == entry["ret"]
        assert path.read_bytes().hex().endswith(entry["tail_hex"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]


@hppa
def test_memory_ends_where_the_kernel_says(case: Case) -> None:
    """HPPA-IDENT: the header has no segments; with its kernel the dump's end is known, else it is the image's."""
    [(start, size)] = case.expect["segments"]
    kd = case.device()
    truncated = case.expect["device_truncated_inside_memory"]
    if not truncated:
        assert [(s.start, s.size) for s in kd.segments] == [(start, size)]
        assert kd.kvatop(size - 1) == (size - 1, 1)
        with pytest.raises(kvmlib.TranslationError, match=f"ends at {size:#x}, is mapped one to one"):
            kd.kvatop(size)
    with kvmlib.open(case.image("device.img")) as bare:
        assert bare.dump_off is not None
        left = bare.image.size - bare.dump_off
        assert bare.segments == []
        end = left + 4095 & ~4095
        assert bare.kvatop(end - 1) == (end - 1, 1)
        with pytest.raises(kvmlib.TranslationError):
            bare.kvatop(end)
    with kvmlib.open(case.image("saved.core")) as saved:
        assert saved.ram[0].size == size


@sh
def test_all_segments_count(case: Case) -> None:
    """SH-SEG: by the header's own list; libkvm looks at the first only."""
    kd = case.device()
    at = case.expect["dump_off_after"]
    for start, size in case.expect["segments"]:
        assert (kd.pa2off(start), kd.pa2off(start + size - 1)) == (at, at + size - 1)
        at += size
    misplaced = [e for e in case.expect["pa2off"] if "off_error" in e]
    assert misplaced
    assert {excuse.id for e in misplaced if (excuse := of_pa2off(kd, e, number(e["pa"])))} == {"SH-SEG"}


@sh
def test_p3(case: Case) -> None:
    """SH-P3: the first table of these cases is as a kernel makes it, and its pages can be read."""
    kd = case.device()
    found = [m for m in kd.mappings() if m.va >= 0xC0000000]
    assert found
    for m in found:
        assert kd.walk(m.va)[0].entry in range(0x80000000, 0xA0000000, 4096)
        if in_dump(kd, m.pa, m.size):
            assert kd.read(m.va, m.size) == kd.read_physical(m.pa, m.size)
