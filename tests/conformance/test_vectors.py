"""libkvm's recorded answers, held against ours. Every difference has an id from the list of deviations."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import IDS, in_dump, of_pa2off, of_translation
from tests.conformance.deviations.m68k import uncounted
from tests.conftest import ROOT

FORMS = ("device", "saved")


@pytest.fixture(scope="module", params=folders(refused=False), ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param.name))
    yield made
    for kd in made.opened:
        kd.close()


@pytest.fixture(scope="module", params=FORMS)
def kd(request: pytest.FixtureRequest, case: Case) -> kvmlib.Kvm:
    return case.device() if request.param == "device" else case.saved()


def moved(kd: kvmlib.Kvm, case: Case) -> int:
    """How much further right memory lies than on the device, in bytes."""
    assert kd.dump_off is not None
    return kd.dump_off - int(case.expect["dump_off_after"])


def test_there_are_vectors() -> None:
    assert folders(refused=False)


@pytest.mark.parametrize("folder", folders(refused=True), ids=lambda p: p.name)
def test_what_libkvm_refuses(folder: Path, tmp_path: Path) -> None:
    """Libkvm can't set up its translation, so it refuses the header. Ours opens it, and translates or says why not."""
    case = Case(folder, tmp_path)
    expect = case.expect
    assert expect["mkheader_return"] == -1
    with kvmlib.open(case.image("device.img"), system=case.kernel) as kd:
        assert kd.machine is not None
        assert (kd.machine.name, kd.machine.byteorder) == (case.machine, expect["byteorder"])
        assert kd.dump_off is not None
        assert kd.ram
        assert kd.ram[0].present > 0
        for entry in expect.get("translations") or [{"va": va} for va in (0, 0x80000000, 0xF0004000)]:
            va = number(entry["va"])
            if kd.walk(va)[-1].outcome in ("page", "window"):
                if in_dump(kd, pa := kd.kvatop(va)[0]):
                    assert kd.read(va, 1) == kd.read_physical(pa, 1)
                else:
                    with pytest.raises(kvmlib.NotInDumpError):
                        kd.read(va, 1)
            else:
                with pytest.raises(kvmlib.TranslationError, match=r"cannot be translated|is not mapped"):
                    kd.kvatop(va)


def test_every_id_is_explained() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [i for i in sorted(IDS) if f"| {i} |" not in readme] == []


def test_mkheader(case: Case) -> None:
    expect = case.expect
    with kvmlib.Kvm(case.image("device.img"), machine=case.machine) as kd:
        assert kd.reading is None
        returned = kd.dump_mkheader(expect["dump_off"])
        assert returned == expect["mkheader_return"] + uncounted(kd)
        assert kd.dump_off == expect["dump_off_after"] + uncounted(kd)
        with pytest.raises(kvmlib.KvmError, match="already has a dump header"):
            kd.dump_mkheader(expect["dump_off"])


def test_headers(kd: kvmlib.Kvm, case: Case) -> None:
    expect, hdr = case.expect, kd.kcore_hdr
    assert hdr is not None
    assert (hdr.c_hdrsize, hdr.c_seghdrsize, hdr.c_nseg) == tuple(
        expect[k] for k in ("c_hdrsize", "c_seghdrsize", "c_nseg")
    )
    assert hdr.c_midmag == int(expect["kcore_hdr_hex"][:8], 16)
    assert kd.cpu_data[: expect["cpu_dsize"]].hex() == expect["cpu_data_hex"]
    # What a structure keeps in reserve isn't recorded, nor are the entries of tables behind it.
    fields = {k: v for k, v in flat(kd.cpu_hdr).items() if not k.startswith("reserved") and "." not in k}
    recorded = flat(expect["cpu_fields"])
    if "kh_satp" in fields and "kh_satp" not in recorded:
        # Before 2023 these eight numbers of netbsd/riscv64 were one array.
        recorded = dict(zip(("kh_satp", *(f"kh_misc[{i}]" for i in range(7))), recorded.values(), strict=True))
    assert fields == {k: v for k, v in recorded.items() if k in fields}
    assert kd.reading is not None
    if kd.reading.segments is None:
        # No segments in the header: what libkvm's test laid out, only its kernel knew.
        known = kd.segments == [] or [[s.start, s.size] for s in kd.segments] == expect["segments"]
        assert known or kd.symbols.get("dumpmem") is not None
    else:
        assert [[s.start, s.size] for s in kd.segments] == expect["segments"]


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with each element of an array by its own name, as some cases have them."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, (list, tuple)):
            found |= {f"{name}[{i}]": v for i, v in enumerate(value)}
        else:
            found[name] = value
    return found


def test_wrtheader(kd: kvmlib.Kvm, case: Case) -> None:
    expect, out = case.expect, io.BytesIO()
    more = uncounted(kd)
    assert kd.dump_wrtheader(out, expect["wrtheader_dumpsize"]) == expect["wrtheader_return"] + more
    if not more:
        assert out.getvalue().hex() == expect["wrtheader_hex"]


def test_pa2off(kd: kvmlib.Kvm, case: Case) -> None:
    agreed = 0
    for entry in case.expect["pa2off"]:
        pa = number(entry["pa"])
        excuse = of_pa2off(kd, entry, pa)
        if excuse is None:
            assert kd.pa2off(pa) == entry["off"] + moved(kd, case), hex(pa)
            agreed += 1
        else:
            assert excuse.ours(kd, pa), (excuse.id, hex(pa))
            if not in_dump(kd, pa) and kd.segments:
                with pytest.raises(kvmlib.NotInDumpError):
                    kd.pa2off(pa)
    assert agreed or case.stub


def right_translations(case: Case) -> list[dict[str, Any]]:
    """The answers to compare with: where libkvm's own are known to be wrong, the right ones recorded beside them."""
    better = case.expect.get("translations_fixed") or case.expect.get("hw_translations")
    found: list[dict[str, Any]] = better or case.expect["translations"]
    return found


def test_translations(kd: kvmlib.Kvm, case: Case) -> None:
    agreed = 0
    for entry in right_translations(case):
        va = number(entry["va"])
        excuse = of_translation(kd, entry, va)
        if excuse is not None:
            assert excuse.ours(kd, va), (excuse.id, hex(va), entry)
        elif "error" in entry:
            with pytest.raises(kvmlib.TranslationError) as caught:
                kd.kvatop(va)
            assert entry["error"].partition(": Undefined")[0] in str(caught.value)
            agreed += 1
        else:
            assert kd.kvatop(va) == (number(entry["pa"]), entry["len"]), hex(va)
            agreed += 1
    assert agreed or case.stub


def test_walk_agrees(kd: kvmlib.Kvm, case: Case) -> None:
    for entry in right_translations(case):
        va = number(entry["va"])
        last = kd.walk(va)[-1]
        try:
            pa = kd.kvatop(va)[0]
        except kvmlib.TranslationError:
            assert last.outcome in ("invalid", "unreadable", "outside")
        else:
            assert last.outcome in ("page", "window")
            assert last.pa == pa


def test_reads(kd: kvmlib.Kvm, case: Case) -> None:
    agreed = comparable = 0
    for entry in case.expect.get("reads_fixed") or case.expect["reads"]:
        va, n = number(entry["va"]), entry["len"]
        # PARTIAL: ours is all or an error. Else libkvm did the same, or got elsewhere by what excuses a translation.
        excused = any(of_translation(kd, entry, at) for at in (va, *(s.va for s in kd.spans(va, n))))
        comparable += not excused and entry["ret"] == n
        try:
            data = kd.read(va, n)
        except kvmlib.TranslationError:
            assert entry["ret"] < n or excused, hex(va)
        except kvmlib.NotInDumpError as e:
            assert not in_dump(kd, e.pa), hex(va)
        except kvmlib.TruncatedError as e:
            assert e.offset >= kd.image.size
        else:
            if not excused:
                assert entry["ret"] == n, hex(va)
                assert hashlib.sha256(data).hexdigest() == entry["sha256"], hex(va)
                agreed += 1
    # SUN4-8196 leaves nothing to compare.
    assert agreed or case.stub or not comparable


def test_spans_are_whole(kd: kvmlib.Kvm, case: Case) -> None:
    for entry in case.expect["reads"]:
        va, n = number(entry["va"]), entry["len"]
        spans = list(kd.spans(va, n))
        assert sum(s.size for s in spans) == n
        if all(s.kind == "present" for s in spans):
            assert b"".join(s.data or b"" for s in spans) == kd.read(va, n)


def test_symbols(case: Case) -> None:
    with kvmlib.Kvm(case.image("device.img"), system=case.kernel, machine=case.machine) as kd:
        inval = case.expect["inval"]
        symbols = case.expect.get("symbols") or case.expect.get("kernel", {}).get("symbols")
        symbols = symbols or {inval["symbol"]: inval["va"]}
        for name, value in symbols.items():
            assert kd.nlist(name)[name].value == number(value)
            if not name.startswith("_"):
                assert kd.nlist("_" + name)["_" + name].value == number(value)
        assert kd.nlist("no_such_symbol") == {}


def can_translate(kd: kvmlib.Kvm, name: str) -> bool:
    try:
        return bool(kd.kvatop(kd.nlist(name)[name].value))
    except kvmlib.TranslationError:
        return False


def made_for_a_mistake(kd: kvmlib.Kvm) -> bool:
    """SUN4-8196: some devices are laid out so that only libkvm finds dumpmag."""
    excuse = of_translation(kd, {}, kd.nlist("dumpmag")["dumpmag"].value)
    try:
        return excuse is not None and excuse.id == "SUN4-8196" and kd.dumpmag().state != "fresh"
    except kvmlib.KvmError:
        return True


def test_inval(case: Case, tmp_path: Path) -> None:
    """INVAL512: exactly dumpmag's bytes are cleared, where libkvm clears a block or something behind the dump."""
    before = case.image("device.img").read_bytes()
    copy = tmp_path / "device.img"
    copy.write_bytes(before)
    recorded = case.expect["inval"]
    with kvmlib.Kvm(copy, system=case.kernel, machine=case.machine, write=True) as kd:
        kd.dump_mkheader(case.expect["dump_off"])
        assert kd.machine is not None
        size, order = kd.machine.dumpmag_bytes, kd.machine.byteorder
        if recorded.get("ret", recorded.get("return", 0)) and not can_translate(kd, "dumpmag"):
            with pytest.raises(kvmlib.TranslationError):
                kd.dump_inval()
            assert copy.read_bytes() == before
            return
        if case.machine == "netbsd/sparc" and made_for_a_mistake(kd):
            with pytest.raises(kvmlib.KvmError):
                kd.dump_inval()
            assert copy.read_bytes() == before
            return
        done = kd.dump_inval()
        assert kd.dumpmag().state == "cleared"
        mag = before[done.offset : done.offset + size]
        assert int.from_bytes(mag, order) in kd.machine.dumpmag
        right = not case.expect.get("translations_fixed")
        if right and (pa := recorded.get("pa")) is not None and in_dump(kd, number(pa)):
            assert done.offset == kd.pa2off(number(pa))
    assert done == (done.offset, mag, bytes(len(mag)))
    after = copy.read_bytes()
    assert after == before[: done.offset] + done.after + before[done.offset + len(mag) :]


def test_open_names_the_machine(case: Case) -> None:
    """Without -m and -o: the header is found and the machine told by the evidence."""
    for name in ("device.img", "saved.core"):
        if not (case.folder / f"{name}.gz").exists():
            continue
        with kvmlib.open(case.image(name)) as kd:
            assert kd.machine is not None
            assert kd.machine.name == case.machine
            if name == "device.img":
                assert kd.dump_off == case.expect["dump_off_after"] + uncounted(kd)


@pytest.mark.parametrize("form", FORMS)
def test_mappings_agree(case: Case, form: str) -> None:
    kd = case.device() if form == "device" else case.saved()
    last = -1
    for m in kd.mappings():
        assert m.va > last
        assert m.size > 0
        for va in {m.va, m.va + m.size // 2, m.va + m.size - 1}:
            assert kd.kvatop(va)[0] == m.pa + va - m.va
        last = m.va + m.size - 1
