"""What is recorded of the PowerPCs besides the answers that all machines have, and how libkvm came to its answers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from tests.conformance.cases import Case, number
from tests.conformance.deviations import of_translation, powerpc
from tests.conformance.test_alpha_riscv import cases_of


@pytest.fixture(scope="module", params=cases_of("netbsd/powerpc"), ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param.name))
    yield made
    for kd in made.opened:
        kd.close()


def test_the_rules_know_how_libkvm_errs(case: Case) -> None:
    """The model of libkvm that excuses a difference gives libkvm's recorded answers, all of them."""
    kd = case.device()
    if case.expect["variant"] == "unsup":
        for entry in case.expect["translations"]:
            with pytest.raises(kvmlib.TranslationError, match="Unsupported CPU type"):
                kd.kvatop(number(entry["va"]))
            assert of_translation(kd, entry, number(entry["va"])) is None
        return
    excused: Counter[str] = Counter()
    for entry in case.expect["translations"]:
        va = number(entry["va"])
        try:
            answer = powerpc.translate(kd, va, libkvm=True)
        except kvmlib.NotInDumpError:
            continue
        assert answer == ((number(entry["pa"]), entry["len"]) if "pa" in entry else None), entry
        if (excuse := of_translation(kd, entry, va)) is not None:
            excused[excuse.id] += 1
    assert excused.keys() <= {"PPC-HASH", "ABSENT"}
    assert excused["PPC-HASH"] < len(case.expect["translations"]) // 2


def test_each_way_to_translate_was_seen(tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for folder in cases_of("netbsd/powerpc"):
        case = Case(folder, tmp_path / folder.name)
        case.work.mkdir()
        with case.device() as kd:
            ends.update(kd.walk(number(e["va"]))[-1].name for e in case.expect["translations"])
    assert ends.keys() >= {"BAT", "primary PTEG", "secondary PTEG", "segment register", "no translation"}


def test_registers_are_decoded(case: Case) -> None:
    kd = case.device()
    found = {r.name: r for r in kd.registers}
    recorded = case.expect["cpu_fields"]
    assert [found[f"sr[{i}]"].value for i in range(16)] == recorded["sr"]
    for kind in ("dbatl", "dbatu", "ibatl", "ibatu"):
        assert [found[f"{kind}[{i}]"].value for i in range(8)] == recorded[kind]
    assert f", revision {recorded['pvr'] & 0xFFFF:#x}" in found["pvr"].decoded
    if case.expect["variant"] == "unsup":
        assert found["pvr"].decoded.endswith("; its translation is not supported")
    else:
        assert f"at pa {recorded['sdr1'] & 0xFFFF0000:#x}" in found["sdr1"].decoded


@pytest.mark.parametrize("folder", cases_of("openbsd/powerpc"), ids=lambda p: p.name)
def test_macppc_has_its_own_dumpmag(folder: Path, tmp_path: Path) -> None:
    """DUMPMAG-MACPPC: what the recorded dumps hold is one of the values that are known."""
    case = Case(folder, tmp_path)
    kd = case.device()
    assert kd.machine is not None
    assert {0x04959FCA, 0x8FCA0101} == set(kd.machine.dumpmag)
    with kd:
        # The recorded kernel's variables lie where va is pa, though nothing in the header says so.
        data = kd.read_physical(number(case.expect["inval"]["va"]), 4)
    assert int.from_bytes(data, "big") in kd.machine.dumpmag
