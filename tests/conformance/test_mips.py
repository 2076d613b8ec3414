"""What is recorded of the MIPS machines besides the answers that all have."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import of_translation

NETBSD = ("netbsd/mips64", "netbsd/mips64el", "netbsd/mipseb", "netbsd/mipsel")


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
openbsd = for_cases("openbsd/mips64")


@netbsd
def test_the_saved_core_says_the_same(case: Case) -> None:
    """ABSENT, MIPS64-XKSEG: libkvm's answers differ where it looks behind the memory data; ours are the same."""
    device, saved = case.device(), case.saved()
    for d in case.expect["core_differs"]:
        va = number(d["device"]["va"])
        if d["op"] == "T":
            excuse = of_translation(device, d["device"], va)
            assert excuse is not None
            assert excuse.id == "MIPS64-XKSEG"
            assert excuse.ours(device, va)
            assert excuse.ours(saved, va)
        elif of_translation(device, d["device"], va):
            assert device.read(va, d["device"]["len"]) == saved.read(va, d["device"]["len"])
        else:
            n = d["device"]["len"]
            for kd in (device, saved):
                assert any(s.kind in ("not_in_dump", "unmapped") for s in kd.spans(va, n))
                with pytest.raises((kvmlib.NotInDumpError, kvmlib.TranslationError)):
                    kd.read(va, n)


@netbsd
def test_no_header_there(case: Case) -> None:
    for wrong in case.expect["misc"]["mkheader_bad"]:
        with (
            kvmlib.Kvm(case.image("device.img"), machine=case.machine) as kd,
            pytest.raises(kvmlib.FormatError, match=r"no dump header at 0x[0-9a-f]+"),
        ):
            kd.dump_mkheader(wrong["dump_off"])


@netbsd
@pytest.mark.parametrize("name", ["device.img", "saved.core"])
def test_the_width_is_told_by_the_kernel_file_too(case: Case, name: str) -> None:
    """Whatever memory holds: the header is the same for both widths."""
    with kvmlib.open(case.image(name), system=case.kernel) as kd:
        assert kd.machine is not None
        assert kd.machine.name == case.machine
        assert kd.runners_up[0].machine.long_bytes != kd.machine.long_bytes


@netbsd
def test_the_width_is_told_by_pointers(case: Case) -> None:
    with kvmlib.open(case.image("device.img")) as kd:
        assert kd.reading is not None
        reasons = " ".join(kd.reading.reasons)
        assert f"pointers in memory have {8 * case.expect['long_bytes']} bits" in reasons
        assert kd.doubt == ""


# -- openbsd/mips64 ----------------------------------------------------------------------------------------------------


@openbsd
def test_what_libkvm_would_have_said(case: Case) -> None:
    """MIPS64-INIT: what its translator would answer if it were ever set up."""
    seen = set()
    with kvmlib.open(case.image("device.img"), system=case.kernel) as kd:
        for forced in case.expect["forced_vmstate"]["cases"]:
            if 1 << forced["pageshift"] != case.expect["page_size"]:
                continue
            for entry in forced["translations"]:
                va = number(entry["va"])
                if ("error" not in entry and va < 0xC000000000000000) or va >> 29 in (0x7FFFFFFFC, 0x7FFFFFFFD):
                    assert kd.kvatop(va) == (number(entry["pa"]), entry["len"])
                    seen.add("window")
                else:
                    # Where Sysmap itself is used as a file offset, libkvm's answer is no answer.
                    words = entry.get("error", f"invalid address ({va:x})")
                    with pytest.raises(kvmlib.TranslationError) as caught:
                        kd.kvatop(va)
                    assert words in str(caught.value)
                    seen.add("none")
    assert seen == {"window", "none"}


@openbsd
def test_the_headers_of_a_saved_core(case: Case) -> None:
    """MIPS64-INIT: libkvm can't write them either, so they were made by hand."""
    out = io.BytesIO()
    with kvmlib.open(case.image("device.img")) as kd:
        assert kd.dump_wrtheader(out, case.expect["wrtheader_dumpsize"]) == len(out.getvalue())
    assert out.getvalue().hex() == case.expect["saved"]["header_hex"]
    path = case.image("saved.core")
    assert path.read_bytes().startswith(out.getvalue())
    with kvmlib.open(path) as saved:
        assert saved.machine is not None
        assert (saved.machine.name, saved.machine.byteorder) == (case.machine, case.expect["byteorder"])


@openbsd
def test_patched(case: Case, tmp_path: Path) -> None:
    """FLAG and MIPS64-INIT: ours takes what libkvm only fails to set up, but no other flag than CORE_CPU."""
    whole = case.image("device.img").read_bytes()
    for patched in case.expect["patched"]:
        image = bytearray(whole)
        for at, text in patched["patch"]:
            image[at : at + len(text) // 2] = bytes.fromhex(text)
        path = tmp_path / "patched.img"
        path.write_bytes(image[: patched["truncate"]])
        with kvmlib.Kvm(path, machine=case.machine) as kd, pytest.raises(kvmlib.FormatError, match="header at 0x"):
            kd.dump_mkheader(patched["mkheader_at"])
