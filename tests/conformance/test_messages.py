"""The recorded message buffers, found without the kernel file: by searching memory alone."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders

#: Their pages lie apart and nothing in the dump translates, so only the first page is found.
APART = ("netbsd/ia64", "netbsd/or1k")


def with_messages() -> list[Path]:
    """The cases whose memory holds a message buffer, as far as that is recorded, and OpenBSD's, where all do."""
    return [p for p in folders() if "kernel" in (e := Case(p, p).expect) or e["os"] == "openbsd"]


@pytest.fixture(scope="module", params=with_messages(), ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param.name))


@pytest.fixture(scope="module", params=["device", "saved"])
def kd(request: pytest.FixtureRequest, case: Case) -> kvmlib.Kvm:
    saved = request.param == "saved"
    kd = kvmlib.Kvm(case.image("saved.core" if saved else "device.img"), machine=case.machine)
    case.opened.append(kd)
    if not saved:
        kd.dump_mkheader(case.expect["dump_off"])
    return kd


def recorded(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = case.expect.get("kernel") or case.expect.get("kernel_texts") or {}
    return found


def test_there_are_vectors() -> None:
    known = [recorded(Case(p, p)) for p in with_messages()]
    assert any("message_text" in k for k in known)
    assert any("msgbuf_text_sha256" in k for k in known)


def test_the_buffer(kd: kvmlib.Kvm, case: Case) -> None:
    (found,) = kvmlib.buffers(kd)
    known = recorded(case)
    assert found.kind == "kernel"
    assert found.longs == (5 if case.expect["os"] == "openbsd" else 4)
    for prefix in ("msg_", "msgbuf_"):
        if prefix + "bufs" in known:
            assert (found.size, found.next) == (known[prefix + "bufs"], known[prefix + "bufx"])


def test_the_text(kd: kvmlib.Kvm, case: Case) -> None:
    found, known = kvmlib.messages(kd), recorded(case)
    assert found.source == f"found by searching memory, at pa {found.pa:#x}"
    if "msgbuf_text_sha256" in known:
        assert hashlib.sha256(found.text.encode()).hexdigest() == known["msgbuf_text_sha256"]
    elif "message_text" in known and case.machine not in APART:
        assert found.text.rstrip("\n") == known["message_text"].rstrip("\n")
    elif "message_text" in known:
        assert "bytes of the message buffer are somewhere else" in found.text
        assert known["panic_mesg"].rstrip("\n") in found.text
    else:
        assert found.text.startswith("OpenBSD ")
        assert "panic: " in found.text


def test_it_is_the_one_that_the_symbol_leads_to(kd: kvmlib.Kvm, case: Case) -> None:
    with kvmlib.Kvm(kd.path, system=case.kernel, machine=case.machine) as named:
        if named.reading is None:
            named.dump_mkheader(case.expect["dump_off"])
        by_symbol, by_search = kvmlib.messages(named), kvmlib.messages(kd)
        assert (by_symbol.text, by_symbol.pa) == (by_search.text, by_search.pa)
        if not case.stub and "static" not in case.expect["translator"]:
            assert by_symbol.source == "symbol msgbufp"
