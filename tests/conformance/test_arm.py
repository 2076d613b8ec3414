"""What is recorded of the ARMs beside what all machines have: patched headers, saved cores, and the guess."""

import hashlib
from pathlib import Path

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import in_dump, of_translation

ARMS = ("netbsd/aarch64", "netbsd/arm", "openbsd/arm", "openbsd/arm64", "openbsd/riscv64")


FOLDERS = [p for p in folders(refused=False) if Case(p, p).machine in ARMS]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param.name))


def test_there_are_vectors() -> None:
    assert {Case(p, p).machine for p in FOLDERS} == set(ARMS)


def test_reads_and_places_with_a_patched_header(case: Case, tmp_path: Path) -> None:
    data = bytearray(case.image("device.img").read_bytes())
    start = case.expect["dump_off_after"] - case.expect["cpu_dsize"]
    for patched in case.expect.get("patched_cpu_data_cases", ()):
        at, text = patched["cpu_data_patch"]
        data[start + at : start + at + len(text) // 2] = bytes.fromhex(text)
        path = tmp_path / "patched.img"
        path.write_bytes(data)
        with kvmlib.Kvm(path, machine=case.machine) as kd:
            kd.dump_mkheader(case.expect["dump_off"])
            for entry in patched["pa2off"]:
                assert kd.pa2off(number(entry["pa"])) == entry["off"]
            for entry in patched["reads"]:
                va, n = number(entry["va"]), entry["len"]
                if entry["ret"] == n and of_translation(kd, entry, va) is None:
                    assert hashlib.sha256(kd.read(va, n)).hexdigest() == entry["sha256"]
                else:
                    with pytest.raises(kvmlib.KvmError):
                        kd.read(va, n)


def test_where_dumpmag_is_in_a_saved_core(case: Case) -> None:
    recorded = case.expect.get("inval_on_core")
    if recorded is None:
        return  # Recorded for NetBSD only.
    with kvmlib.Kvm(case.image("saved.core"), system=case.kernel, machine=case.machine) as kd:
        mag = kd.dumpmag()
        assert (mag.pa, mag.offset, mag.state) == (number(recorded["pa"]), recorded["file_off"], "fresh")


def test_the_old_abi_is_told_from_the_new(case: Case) -> None:
    if case.machine != "netbsd/arm":
        return
    with kvmlib.open(case.image("device.img")) as kd:
        assert kd.machine is not None
        assert kd.machine.align_mask + 1 == case.expect["align_bytes"]


def test_page_size(case: Case) -> None:
    with kvmlib.open(case.image("device.img")) as kd:
        assert kd.machine is not None
        assert kd.machine.page_size == case.expect["page_size"]


def test_the_guess(case: Case) -> None:
    """ARMV7-ZERO: a kernel that left the header alone lies where it always does, but only who asks gets that."""
    if case.machine != "openbsd/arm":
        return
    left_out = not any(case.expect["cpu_fields"][name] for name in ("kernelbase", "kerneloffs", "staticsize"))
    with (
        kvmlib.open(case.image("device.img"), system=case.kernel, machine="openbsd/arm-guess") as guess,
        kvmlib.open(case.image("device.img"), system=case.kernel) as plain,
    ):
        assert ("guess" in plain.translator.name, "guess" in guess.translator.name) == (False, left_out)
        if not left_out:
            assert list(guess.mappings()) == list(plain.mappings())
            return
        texts = case.expect["kernel_texts"]
        version = guess.nlist("version")["version"].value
        assert guess.read(version, len(texts["version"])).decode() == texts["version"]
        assert guess.dumpmag().state == "fresh"
        assert guess.walk(version)[-1].flags == ("guess",)
        start, _ = case.expect["segments"][0]
        for entry in case.expect["translations"]:
            va = number(entry["va"])
            with pytest.raises(kvmlib.TranslationError, match="unreachable"):
                plain.kvatop(va)
            if in_dump(guess, start + va - 0xC0000000) and va >= 0xC0000000:
                assert guess.kvatop(va) == (start + va - 0xC0000000, 4096 - va % 4096)
