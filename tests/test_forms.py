"""The two forms of a header side by side, and the warnings that stand in the fields."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from tests.dumps import MACHINES, make_dump
from tests.samples import sample_in


def leaves(fields: tuple[kvmlib.Field, ...]) -> Iterator[kvmlib.Field]:
    for field in fields:
        yield from leaves(field.children) if field.children else (field,)


def named(kd: kvmlib.Kvm, name: str, form: str = "device") -> list[kvmlib.Field]:
    fields = kvmlib.header_fields(kd, "device" if form == "device" else "savecore")
    return [f for f in leaves(fields) if f.name == name]


def change(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


@pytest.mark.parametrize("machine", MACHINES)
def test_pairs_hold_every_field_of_both_forms(machine: str, tmp_path: Path) -> None:
    with make_dump(machine).open(tmp_path) as kd:
        pairs = kvmlib.header_pairs(kd)
        device = [f for p in pairs if (f := p.device) is not None and not f.children]
        saved = [f for p in pairs if (f := p.saved) is not None and not f.children]
        assert device == list(leaves(kvmlib.header_fields(kd, "device")))
        assert saved == list(leaves(kvmlib.header_fields(kd, "savecore")))
        assert b"".join(f.raw for f in saved) == kvmlib.header_bytes(kd, "savecore")
        for p in pairs:
            assert p.differs == (p.device is None or p.saved is None or p.device.raw != p.saved.raw)
            assert bool(p.why) == p.differs


def test_what_savecore_changes(tmp_path: Path) -> None:
    with make_dump("openbsd/amd64").open(tmp_path) as kd:
        changed = [p for p in kvmlib.header_pairs(kd) if p.differs and p.device and not p.device.children]
        assert [p.field.name for p in changed] == ["c_midmag"]
        assert changed[0].device is not None
        assert changed[0].saved is not None
        assert changed[0].device.raw.hex() == "049d8fca"
        assert changed[0].saved.raw.hex() == "04008fac"
        added = [p for p in kvmlib.header_pairs(kd) if p.device is None and p.depth == 0]
        assert [p.field.name for p in added] == ["struct kcore_hdr", "struct kcore_seg"]
        assert "CORE_DATA" in added[1].why


def test_c_size_is_rounded(tmp_path: Path) -> None:
    dump = make_dump("openbsd/amd64")
    at = dump.dump_off
    header = dump.device[at : at + 4] + (501).to_bytes(4, "little") + dump.device[at + 8 : at + 509]
    image = tmp_path / "odd.img"
    image.write_bytes(dump.device[:at] + header + dump.device[at + 512 :])
    with kvmlib.Kvm(image, machine="openbsd/amd64") as kd:
        kd.dump_mkheader(at)
        [size] = [p for p in kvmlib.header_pairs(kd) if p.differs and p.device and p.field.name == "c_size"]
        assert "multiple of 8" in size.why
        assert "501 becomes 504" in size.why
        padding = kvmlib.header_pairs(kd)[-4]
        assert (padding.field.name, padding.differs) == ("padding", True)


def test_a_dump_without_a_header_has_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    with kvmlib.Kvm(tmp_path / "x") as kd, pytest.raises(kvmlib.FormatError):
        kvmlib.header_pairs(kd)


@pytest.mark.parametrize(("machine", "magic"), [("openbsd/amd64", "little"), ("openbsd/sparc64", "big")])
def test_byte_order_of_each_field(machine: str, magic: str, tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, machine).image) as kd:
        fields = list(leaves(kvmlib.header_fields(kd)))
        assert {f.order for f in fields if f.name == "c_midmag"} == {"big"}
        assert {f.order for f in fields if f.name in ("c_size", "start", "size")} == {magic}
        assert {f.order for f in fields if f.name == "padding"} <= {""}
        for f in fields:
            if f.value is not None and f.order in ("little", "big"):
                signed = f.value < 0
                assert f.value == int.from_bytes(f.raw, f.order, signed=signed)  # type: ignore[arg-type]


def test_c_size_that_wrapped_at_4_gib(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        [*_, data] = named(kd, "c_size", "savecore")
        assert data.warning == ""
        last = named(kd, "size")[-1]
        assert kd.reading is not None
        at = kd.reading.headers.offset + last.offset
    change(sample.image, at, (5 << 30).to_bytes(8, "little"))
    with kvmlib.open(sample.image) as kd:
        [*_, data] = named(kd, "c_size", "savecore")
        assert kd.reading is not None
        assert kd.reading.size is not None
        assert data.value == kd.reading.size - (1 << 32)
        assert "c_size is wrapped" in data.warning
        assert "1 times 4 GiB" in data.warning


def test_c_size_that_says_something_else_than_the_segments(tmp_path: Path) -> None:
    dump = make_dump("netbsd/amd64")
    core = tmp_path / "netbsd.0.core"
    core.write_bytes(dump.saved)
    with kvmlib.open(core) as kd:
        assert named(kd, "c_size", "savecore")[-1].warning == ""
        at = named(kd, "c_size", "savecore")[-1].offset
    change(str(core), at, (4096).to_bytes(4, "little"))
    with kvmlib.open(core) as kd:
        assert "c_size should be 0x16000" in named(kd, "c_size", "savecore")[-1].warning


@pytest.mark.parametrize("machine", ["openbsd/amd64", "netbsd/amd64"])
def test_bits_of_cr3_that_are_no_address(machine: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, machine)
    with kvmlib.open(sample.image) as kd:
        [root] = named(kd, "ptdpaddr")
        assert root.warning == ""
        assert kd.reading is not None
        at = kd.reading.headers.offset + root.offset
    change(sample.image, at, bytes([root.raw[0] | 5]))
    with kvmlib.open(sample.image) as kd:
        [root] = named(kd, "ptdpaddr")
        assert root.warning.startswith("0x5 is no part of the address")


def test_entries_that_are_no_segments(tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, "openbsd/sparc64").image) as kd:
        [count] = named(kd, "nmemseg")
        assert "2 segments are RAM" in count.warning
        cpu = kvmlib.header_fields(kd)[1]
        entries = [f for f in cpu.children if f.name.startswith("segs[")]
        assert len(entries) == count.value
        assert [f.name for f in entries if not f.warning] == ["segs[0]", "segs[1]"]
        assert all("no segment" in f.warning for f in entries[2:])
        assert b"".join(f.raw for f in leaves(kvmlib.header_fields(kd))) == kvmlib.header_bytes(kd)
