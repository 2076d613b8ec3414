"""What is recorded of alpha, riscv64, or1k, ia64 and m88k besides the answers that all machines have."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import in_dump

#: Sizes of pages that an Alpha can have.
ALPHA_PAGES = (8192, 16384, 32768, 65536)


def cases_of(*machines: str) -> list[Path]:
    found = []
    for folder in folders(refused=False):
        about = json.loads((folder / "expect.json").read_text())
        found += [folder] if f"{about['os']}/{about['arch']}" in machines else []
    return found


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param.name))
    yield made
    for kd in made.opened:
        kd.close()


def for_cases(*machines: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases_of(*machines), ids=lambda p: p.name, indirect=True)


riscv64 = for_cases("netbsd/riscv64")
alpha = for_cases("netbsd/alpha")
all_netbsd = for_cases("netbsd/riscv64", "netbsd/alpha", "netbsd/or1k", "netbsd/ia64")
all_openbsd = for_cases("openbsd/alpha", "openbsd/m88k", "openbsd/powerpc")


@riscv64
@pytest.mark.parametrize("form", ["device", "saved"])
def test_bytes_lie_where_the_hardware_has_them(case: Case, form: str) -> None:
    kd = case.device() if form == "device" else case.saved()
    image = case.image("device.img").read_bytes()[case.expect["dump_off_after"] :]
    pages = set()
    for entry in case.expect["hw_translations"]:
        va = number(entry["va"])
        if "pa" not in entry:
            with pytest.raises(kvmlib.TranslationError):
                kd.read(va, 1)
        elif entry["true_off_in_memory_data"] is None:
            with pytest.raises(kvmlib.NotInDumpError):
                kd.read(va, 1)
        else:
            at = entry["true_off_in_memory_data"]
            assert kd.read(va, 1) == image[at : at + 1]
            assert kd.pa2off(number(entry["pa"])) == (kd.dump_off or 0) + at
            last = kd.walk(va)[-1]
            assert last.name == f"level {entry['level']} table"
            pages.add(entry["level"])
    assert pages


@for_cases("netbsd/riscv64", "netbsd/alpha")
def test_kernel_variables(case: Case) -> None:
    kernel = case.expect["kernel"]
    kd = case.device()
    version = kd.read(number(kernel["symbols"]["version"]), len(kernel["version"]))
    assert version.decode() == kernel["version"]
    assert kvmlib.messages(kd).text.endswith(kernel["message_text"][-200:].rstrip("\n"))


@alpha
def test_registers_at_the_panic(case: Case) -> None:
    recorded = case.expect["kernel"]["panic_registers"]
    found = {r.name: r.value for r in kvmlib.panic_registers(case.device())}
    assert {"ksp", "s0", "s6", "ra"} < found.keys()
    # What savectx doesn't store is not shown, though the recorded pcb has it: usp, ptbr.
    assert {name: found[name] for name in recorded if name in found} == {
        name: number(value) for name, value in recorded.items() if name in found
    }


@all_netbsd
def test_no_header_there(case: Case) -> None:
    for wrong in ("mkheader_wrong_off", "mkheader_past_eof"):
        with (
            kvmlib.Kvm(case.image("device.img"), machine=case.machine) as kd,
            pytest.raises(kvmlib.FormatError, match="no dump header at"),
        ):
            kd.dump_mkheader(case.expect[wrong]["dump_off"])


# -- openbsd's: images with changed headers, and more about dumpmag ----------------------------------------------------


def expects_format_error(case: Case, patched: dict[str, Any], image: bytes) -> bool:
    """FLAG: ours wants CORE_CPU. An alpha's page size has to be one that there is."""
    if patched["mkheader_return"] < 0:
        return True
    at = patched["mkheader_at"]
    size = int.from_bytes(image[at + 16 : at + 24], "little")
    return image[at] >> 2 != 1 or (case.machine == "openbsd/alpha" and size not in ALPHA_PAGES)


@all_openbsd
def test_patched(case: Case, tmp_path: Path) -> None:
    whole = case.image("device.img").read_bytes()
    for patched in case.expect["patched"]:
        image = bytearray(whole)
        for at, text in patched["patch"]:
            image[at : at + len(text) // 2] = bytes.fromhex(text)
        path = tmp_path / "patched.img"
        path.write_bytes(image[: patched["truncate"]])
        with kvmlib.Kvm(path, machine=case.machine) as kd:
            if expects_format_error(case, patched, bytes(image)):
                with pytest.raises(kvmlib.FormatError, match="no dump"):
                    kd.dump_mkheader(patched["mkheader_at"])
                assert patched["mkheader_error"] in kd.geterr()
                continue
            assert kd.dump_mkheader(patched["mkheader_at"]) == patched["mkheader_return"], patched["name"]
            assert kd.dump_off == patched["dump_off_after"]
            for entry in patched.get("translations", ()):
                check_translation(kd, entry)
            for entry in patched.get("reads", ()):
                check_read(kd, entry)


def check_translation(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    va = number(entry["va"])
    if kd.walk(va)[-1].outcome == "unreadable":
        # ABSENT: libkvm takes what lies behind the dump for a table, unless the file ends there.
        with pytest.raises(kvmlib.TranslationError, match=r"could not read L[123] PTE"):
            kd.kvatop(va)
    elif "error" in entry:
        with pytest.raises(kvmlib.TranslationError) as caught:
            kd.kvatop(va)
        assert entry["error"] in str(caught.value)
    else:
        assert kd.kvatop(va) == (number(entry["pa"]), entry["len"])


def check_read(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    """PARTIAL, ABSENT: all or an error, and never what lies behind the dump."""
    va, n = number(entry["va"]), entry["len"]
    try:
        data = kd.read(va, n)
    except (kvmlib.TranslationError, kvmlib.TruncatedError):
        assert entry["ret"] < n
    except kvmlib.NotInDumpError as e:
        assert not in_dump(kd, e.pa)
    else:
        assert entry["ret"] == n
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]


@all_openbsd
def test_more_about_dumpmag(case: Case, tmp_path: Path) -> None:
    without, odd, underscore = case.expect["inval_more"]
    recorded = case.expect["inval"]
    path = tmp_path / "device.img"
    whole = case.image("device.img").read_bytes()
    path.write_bytes(whole)
    for names, entry in (({}, without), ({"dumpmag": odd["va"]}, odd), ({"_dumpmag": recorded["va"]}, underscore)):
        symbols = kvmlib.SymbolTable([kvmlib.Symbol(name, number(va), 8, "D") for name, va in names.items()], "a test")
        with kvmlib.Kvm(path, system=symbols, machine=case.machine, write=True) as kd:
            kd.dump_mkheader(case.expect["dump_off"])
            if entry["ret"] == 0:
                done = kd.dump_inval()
                assert done.offset == recorded["file_off"]
                assert path.read_bytes() == whole[: done.offset] + bytes(8) + whole[done.offset + 8 :]
            else:
                with pytest.raises(kvmlib.KvmError) as caught:
                    kd.dump_inval()
                assert (entry["error"] or "_dumpmag: not in name list") in str(caught.value)
                assert path.read_bytes() == whole


@all_openbsd
def test_more_sizes_of_memory(case: Case, tmp_path: Path) -> None:
    """CSIZE32: the low 32 bits, whatever the sign."""
    with case.device() as kd:
        for entry in case.expect["wrtheader_more"]:
            path = tmp_path / "header"
            with path.open("wb") as out:
                assert kd.dump_wrtheader(out, entry["dumpsize"]) == entry["ret"]
            written = path.read_bytes()
            assert written.hex().endswith(entry["tail_hex"])
            assert hashlib.sha256(written).hexdigest() == entry["sha256"]
