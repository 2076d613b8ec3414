"""Whose dump is it: machines that share an id are told apart by evidence, and where there is none, that is said."""

import itertools
from pathlib import Path

import pytest

import kvmlib

#: Groups of machines whose headers have the same machine id, with a sample of each.
SHARED = {
    134: ("netbsd/i386", "openbsd/i386"),
    139: ("netbsd/mips64el", "netbsd/mipsel"),
    141: ("netbsd/alpha", "openbsd/alpha"),
    142: ("netbsd/mips64", "netbsd/mipseb"),
    143: ("netbsd/arm", "openbsd/arm"),
    145: ("netbsd/sh3eb", "netbsd/sh3el", "openbsd/sh"),
    149: ("netbsd/powerpc", "netbsd/powerpc64", "openbsd/powerpc"),
    157: ("netbsd/amd64", "openbsd/amd64"),
    159: ("netbsd/ia64", "openbsd/arm64"),
}
ALL = sorted(itertools.chain.from_iterable(SHARED.values()))
BANNERS = ((b"NetBSD ", b"Net... "), (b"OpenBSD ", b"Open... "))


def alone(name: str, folder: Path, *, silent: bool = False) -> Path:
    """A sample's image without its kernel; `silent`: nothing in it says which system it is."""
    sample = kvmlib.make_sample(name, folder)
    Path(sample.kernel).unlink()
    path = Path(sample.image)
    if silent:
        data = path.read_bytes()
        for banner, blank in BANNERS:
            data = data.replace(banner, blank)
        path.write_bytes(data)
    return path


def test_the_groups_are_all_there_are() -> None:
    found: dict[int, set[str]] = {}
    for m in kvmlib.machines():
        found.setdefault(m.mid, set()).add(m.name)
    assert {mid: tuple(sorted(names)) for mid, names in found.items() if len(names) > 1} == SHARED


@pytest.mark.parametrize("name", ALL)
def test_the_image_alone_says_whose_it_is(name: str, tmp_path: Path) -> None:
    with kvmlib.open(alone(name, tmp_path)) as kd:
        assert kd.machine is not None
        assert kd.machine.name == name
        assert kd.doubt == ""
        assert kd.reading is not None
        assert all(r.score < kd.reading.score for r in kd.runners_up)


@pytest.mark.parametrize("name", ["netbsd/alpha", "openbsd/alpha", "netbsd/amd64"])
def test_where_nothing_tells_that_is_said(name: str, tmp_path: Path) -> None:
    path = alone(name, tmp_path, silent=True)
    arch = name.partition("/")[2]
    said = f"could be netbsd/{arch} or openbsd/{arch}: use -m to choose"
    with kvmlib.open(path) as kd:
        assert kd.doubt == said
        assert {r.machine.name for r in kd.runners_up} | {kd.machine.name if kd.machine else ""} >= {
            f"netbsd/{arch}",
            f"openbsd/{arch}",
        }
        assert said in next(f.text for f in kvmlib.summary(kd).facts if f.label == "MACHINE")
    assert said in kvmlib.find(path)[0].reasons
    # Who chooses gets what was chosen, and no more doubt.
    for system in ("netbsd", "openbsd"):
        with kvmlib.open(path, machine=f"{system}/{arch}") as kd:
            assert kd.machine is not None
            assert (kd.machine.name, kd.doubt) == (f"{system}/{arch}", "")


@pytest.mark.parametrize("name", ["netbsd/alpha", "openbsd/alpha", "netbsd/mipseb", "netbsd/mips64", "openbsd/powerpc"])
def test_the_kernel_file_decides(name: str, tmp_path: Path) -> None:
    elf = Path(kvmlib.make_sample(name, tmp_path).kernel).rename(tmp_path / "kernel")
    with kvmlib.open(alone(name, tmp_path, silent=True), system=elf) as kd:
        assert kd.machine is not None
        assert (kd.machine.name, kd.doubt) == (name, "")


def test_a_form_can_be_named(tmp_path: Path) -> None:
    path = alone("openbsd/arm-zero", tmp_path)
    with kvmlib.open(path) as kd:
        assert kd.machine is not None
        assert kd.machine.name == "openbsd/arm"
        with pytest.raises(kvmlib.TranslationError, match="-m openbsd/arm-guess"):
            kd.kvatop(0xC0300000)
    with kvmlib.open(path, machine="openbsd/arm-guess") as kd:
        assert kd.kvatop(0xC0300000)[1] == 4096
        assert [m.flags for m in kd.mappings()] == [("guess",)]
        assert "guess" in kd.translator.name
        assert any("guess" in r for r in (kd.reading.reasons if kd.reading else ()))


def test_names_of_forms() -> None:
    for m in kvmlib.machines():
        for form in m.forms:
            assert kvmlib.machine(f"{m.name}-{form.variant}") is form
    with pytest.raises(kvmlib.KvmError, match="there is no machine 'netbsd/arm-nothing'"):
        kvmlib.machine("netbsd/arm-nothing")


def test_no_two_machines_or_forms_have_one_name() -> None:
    names = [
        f"{f.name}-{f.variant}" if f is not m and f.variant else f.name
        for m in kvmlib.machines()
        for f in (m, *m.forms)
    ]
    assert len(names) == len(set(names))
