"""Damaged headers, as recorded beside the vectors: libkvm's verdict, ours where it is wrong (FLAG, MAGIC0)."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import of_translation
from tests.conformance.deviations.m68k import uncounted


@dataclass
class Damage:
    """A damaged file and what libkvm says of it."""

    case: Case
    name: str
    data: bytes
    form: str
    has_header: bool
    returned: int | None


def damages(case: Case) -> Iterator[Damage]:
    path = case.folder / "malformed.json"
    if path.exists():
        for d in json.loads(path.read_text())["cases"]:
            result = d["result"]
            data = damaged(case, d["base"], d["patch"], d["insert"], d["truncate"])
            # openbsd/i386 fails as a whole where page tables can't be read; ours has a header, and says so when asked.
            yield Damage(
                case, d["name"], data, d["base"], result.get("has_header", True), result.get("mkheader_return")
            )
    for d in case.expect.get("damaged_headers", ()):
        base = "device" if d["file"] == "device" else "saved"
        insert = [[d["insert_zeros"][0], "00" * d["insert_zeros"][1]]] if "insert_zeros" in d else []
        if d["what"].startswith("c_seghdrsize"):
            continue  # Two insertions, of which one is recorded: the OpenBSD cases have the same thing whole.
        data = damaged(case, base, d["patch"], insert, d.get("truncate_to"))
        yield Damage(case, d["what"], data, base, d["open_had_header"], d.get("mkheader_return"))


def damaged(case: Case, base: str, patch: list[Any], insert: list[Any], truncate: int | None) -> bytes:
    data = bytearray(case.image("device.img" if base == "device" else "saved.core").read_bytes())
    for at, text in patch:
        raw = bytes.fromhex(text)
        data[at : at + len(raw)] = raw
    for at, text in insert:
        data[at:at] = bytes.fromhex(text)
    return bytes(data if truncate is None else data[:truncate])


@pytest.fixture(scope="module", params=folders(), ids=lambda p: p.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param.name))


#: openbsd/i386 keeps its page directory's address in memory: without that libkvm's mkheader fails as a whole.
NO_TABLES = ("file ends with cpu data (no memory)", "memory cut before the kernel symbols")


def believable(damage: Damage) -> bool:
    """FLAG: libkvm takes any flag and any c_size that can be read; ours must be CORE_CPU's and fit the machine."""
    offset = damage.case.expect["dump_off"]
    machine = kvmlib.machine(damage.case.machine)
    header = damage.data[offset : offset + 8]
    c_size = int.from_bytes(header[4:8], machine.byteorder)
    return header[0] >> 2 == 1 and c_size >= max(machine.least_cpu_data, 1)


def test_device_headers(case: Case, tmp_path: Path) -> None:
    tried = 0
    for damage in damages(case):
        if damage.form != "device" or not damage.data:
            continue
        path = tmp_path / "damaged.img"
        path.write_bytes(damage.data)
        with kvmlib.Kvm(path, system=case.kernel, machine=case.machine) as kd:
            assert (kd.reading is not None) == damage.has_header, damage.name
            # MAGIC0: NetBSD's returns 0 for a wrong magic.
            if damage.returned is not None and damage.returned > 0 and believable(damage):
                assert kd.dump_mkheader(case.expect["dump_off"]) == damage.returned, damage.name
            elif case.machine == "openbsd/i386" and damage.name in NO_TABLES:
                assert kd.dump_mkheader(case.expect["dump_off"]) == case.expect["mkheader_return"]
                with pytest.raises(kvmlib.TranslationError, match="PTDpaddr"):
                    kd.kvatop(0xD0000000)
            else:
                with pytest.raises(kvmlib.FormatError, match=r"0x[0-9a-f]+"):
                    kd.dump_mkheader(case.expect["dump_off"])
                assert kd.geterr()
            tried += 1
    assert tried or not list(damages(case))


def test_saved_headers(case: Case, tmp_path: Path) -> None:
    for damage in damages(case):
        if damage.form != "saved":
            continue
        path = tmp_path / "damaged.core"
        path.write_bytes(damage.data)
        if not damage.data:
            with pytest.raises(kvmlib.FormatError, match="is empty"):
                kvmlib.Kvm(path, machine=case.machine)
            continue
        with kvmlib.Kvm(path, machine=case.machine) as kd:
            assert (kd.reading is not None) == damage.has_header, damage.name
            if not damage.has_header:
                # libkvm takes what is left of a saved core's header for a device's.
                with pytest.raises(kvmlib.FormatError):
                    kd.dump_mkheader(0)
                with pytest.raises(kvmlib.FormatError, match="no valid dump header"):
                    kd.kvatop(0)


def test_wrtheader_sizes(case: Case) -> None:
    """CSIZE32: the low 32 bits are written, whatever the size."""
    path = case.folder / "malformed.json"
    if not path.exists():
        return  # Recorded with seed 1 of OpenBSD only.
    with case.device() as kd:
        for entry in json.loads(path.read_text())["wrtheader_sizes"]:
            out = io.BytesIO()
            assert kd.dump_wrtheader(out, entry["arg"]) == entry["return"]
            assert out.getvalue().hex().endswith(entry["data_seg_hex"])


def test_patched_cpu_data(case: Case, tmp_path: Path) -> None:
    """Roots that lie nowhere: the table that can't be read is named."""
    data = bytearray(case.image("device.img").read_bytes())
    for patched in case.expect.get("patched_cpu_data_cases", ()):
        start = case.expect["dump_off_after"] - case.expect["cpu_dsize"]
        at, text = patched["cpu_data_patch"]
        data[start + at : start + at + len(text) // 2] = bytes.fromhex(text)
        path = tmp_path / "patched.img"
        path.write_bytes(data)
        with kvmlib.Kvm(path, machine=case.machine) as kd:
            kd.dump_mkheader(case.expect["dump_off"])
            for entry in patched["translations"]:
                _same_translation(kd, entry)


def test_truncated(case: Case, tmp_path: Path) -> None:
    """EOFTEXT, PARTIAL: a device that was cut answers the same up to there, and says where it ends behind that."""
    recorded = case.expect.get("truncated")
    if not recorded or "device_bytes" in recorded:
        return  # Recorded for NetBSD only, and in another way for the machines of the next test.
    path = tmp_path / "cut.img"
    path.write_bytes(case.image("device.img").read_bytes()[: recorded["device_img_length"]])
    with kvmlib.Kvm(path, machine=case.machine) as kd:
        kd.dump_mkheader(case.expect["dump_off"])
        for entry in recorded["translations"]:
            if "error" not in entry:
                _same_translation(kd, entry)
        for entry in recorded["reads"]:
            if "stale" not in entry.get("note", ""):
                _same_read(kd, entry)


def test_truncated_by_difference(case: Case, tmp_path: Path) -> None:
    """The same, where what differs from the whole device's answers is recorded: translations, pa2off, then reads."""
    recorded = case.expect.get("truncated") or {}
    if "device_bytes" not in recorded or case.expect["mkheader_return"] < 0:
        return
    path = tmp_path / "cut.img"
    path.write_bytes(case.image("device.img").read_bytes()[: recorded["device_bytes"]])
    other = {d["index"]: d for d in recorded["same_as_full_except"]}
    first = len(case.expect["translations"]) + len(case.expect["pa2off"])
    with kvmlib.Kvm(path, system=case.kernel, machine=case.machine) as kd:
        returned = kd.dump_mkheader(case.expect["dump_off"])
        assert returned == recorded["mkheader_return"] + uncounted(kd)
        for i, entry in enumerate(case.expect["translations"]):
            _same_translation(kd, other.get(i, entry))
        for i, entry in enumerate(case.expect["reads"], first):
            _same_read(kd, other.get(i, entry))


def _same_translation(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
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


def _same_read(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    va, n = number(entry["va"]), entry["len"]
    try:
        data = kd.read(va, n)
    except kvmlib.KvmError:
        assert entry["ret"] < n or any(s.kind != "present" for s in kd.spans(va, n)), entry
    else:
        same = entry["ret"] == n and hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert same or any(of_translation(kd, entry, at) for at in (va, *(s.va for s in kd.spans(va, n)))), entry
