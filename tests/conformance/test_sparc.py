"""What was recorded for sparc64 and sparc only: patched devices, machines that libkvm has no translation for."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import kvmlib
from tests.conformance.cases import Case, folders, number
from tests.conformance.deviations import in_dump, of_translation


def cases(key: str) -> list[Path]:
    """Cases of these machines that have something recorded under that key."""
    found = [p for p in folders() if p.name.split("-")[1].startswith("sparc")]
    return [p for p in found if Case(p, p).expect.get(key)]


PATCHED = [
    pytest.param(folder, patched, id=f"{folder.name}-{patched['name']}")
    for folder in cases("patched")
    for patched in Case(folder, folder).expect["patched"]
]


@pytest.mark.parametrize(("folder", "recorded"), PATCHED)
def test_patched_devices(folder: Path, recorded: dict[str, Any], tmp_path: Path) -> None:
    case = Case(folder, tmp_path)
    data = bytearray(case.image("device.img").read_bytes())
    for at, text in recorded["patch"]:
        data[at : at + len(text) // 2] = bytes.fromhex(text)
    path = tmp_path / "patched.img"
    path.write_bytes(data if recorded["truncate"] is None else data[: recorded["truncate"]])
    with kvmlib.Kvm(path, system=case.kernel, machine=case.machine) as kd:
        # FLAG: libkvm takes any flag.
        if recorded["mkheader_return"] < 0 or recorded["name"] == "other_flag_is_accepted":
            with pytest.raises(kvmlib.FormatError, match=r"0x[0-9a-f]+"):
                kd.dump_mkheader(recorded["mkheader_at"])
            return
        assert kd.dump_mkheader(recorded["mkheader_at"]) == recorded["mkheader_return"]
        assert kd.dump_off == recorded["dump_off_after"]
        for entry in recorded.get("translations", ()):
            same_translation(kd, entry)
        for entry in recorded.get("reads", ()):
            same_read(kd, entry)
        for entry in recorded.get("pa2off", ()):
            assert entry["off"] == -1
            with pytest.raises(kvmlib.NotInDumpError):
                kd.pa2off(number(entry["pa"]))


def same_translation(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    va = number(entry["va"])
    excuse = of_translation(kd, entry, va)
    if excuse is not None:
        assert excuse.ours(kd, va), (excuse.id, entry)
    elif "error" in entry:
        assert entry["error"]
        with pytest.raises(kvmlib.TranslationError) as caught:
            kd.kvatop(va)
        assert entry["error"] in str(caught.value)
    else:
        assert kd.kvatop(va) == (number(entry["pa"]), entry["len"])


def same_read(kd: kvmlib.Kvm, entry: dict[str, Any]) -> None:
    va, n = number(entry["va"]), entry["len"]
    try:
        data = kd.read(va, n)
    except kvmlib.TruncatedError as e:
        assert entry["ret"] < n
        assert e.offset >= kd.image.size
        # PARTIAL: what libkvm got before the end is the part that is there.
        there = b"".join(s.data or b"" for s in kd.spans(va, n))
        assert len(there) == entry["ret"]
        assert hashlib.sha256(there).hexdigest() == entry["sha256"]
    except kvmlib.NotInDumpError as e:
        assert entry["ret"] < n
        assert not in_dump(kd, e.pa)
    except kvmlib.TranslationError:
        assert entry["ret"] < n
    else:
        assert hashlib.sha256(data).hexdigest() == entry["sha256"] or of_translation(kd, entry, va)


@pytest.mark.parametrize("folder", cases("mkheader_error"), ids=lambda p: p.name)
def test_a_cpu_that_libkvm_refuses(folder: Path, tmp_path: Path) -> None:
    """The dump opens, and what libkvm says of it is why nothing is translated."""
    case = Case(folder, tmp_path)
    with kvmlib.open(case.image("device.img"), system=case.kernel) as kd:
        assert kd.machine is not None
        assert kd.machine.name == case.machine
        assert kd.read_physical(kd.ram[0].start, 16)
        for va in (0, 0xF0004000, 0xFFFFFFFF):
            with pytest.raises(kvmlib.TranslationError, match=case.expect["mkheader_error"]):
                kd.kvatop(va)
            assert case.expect["mkheader_error"] in kd.walk(va)[-1].note
