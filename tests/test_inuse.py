"""A disk that is mounted or swapped to is never written to, by whatever name it goes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmlib
from kvmlib.image import open_image
from kvmlib.inuse import device_number, in_use
from kvmlib.undo import undo
from tests.samples import sample_in

#: Devices of a computer: name -> number. dm-0 lies over sda3.
DEVICES = {"sda": "8:0", "sda1": "8:1", "sda2": "8:2", "sda3": "8:3", "sdb": "8:16", "loop0": "7:0", "dm-0": "253:0"}
ROOT_MOUNT = "22 1 {} / / rw,relatime shared:1 - ext4 /dev/{} rw"


class Computer:
    """A Linux computer as its /proc and /sys tell of it."""

    def __init__(self, folder: Path, *, mounts: str = "", swaps: str = "", backing: str = "") -> None:
        self.proc, self.sys, self.dev = folder / "proc", folder / "sys", folder / "dev"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/mountinfo").write_text(f"21 22 0:20 / /proc rw - proc proc rw\n{mounts}\n")
        (self.proc / "swaps").write_text(f"Filename\tType\tSize\tUsed\tPriority\n{swaps}")
        (self.sys / "class/block").mkdir(parents=True)
        self.dev.mkdir()
        for name, number in DEVICES.items():
            part = name.startswith("sda") and name != "sda"
            real = self.sys / "devices" / ("sda/" * part + name)
            real.mkdir(parents=True)
            (real / "dev").write_text(f"{number}\n")
            if part:
                (real / "partition").write_text(f"{name[-1]}\n")
            (self.sys / "class/block" / name).symlink_to(real)
            (self.dev / name).write_text("")
        (self.sys / "devices/sda/sda3/holders").mkdir()
        (self.sys / "devices/sda/sda3/holders/dm-0").symlink_to(self.sys / "devices/dm-0")
        if backing:
            (self.sys / "devices/loop0/loop").mkdir()
            (self.sys / "devices/loop0/loop/backing_file").write_text(f"{backing}\n")

    def number(self, path: str) -> str | None:
        return DEVICES.get(Path(path).name)

    def says(self, path: str | Path) -> str:
        full = path if isinstance(path, Path) else self.dev / path
        said = in_use(full, proc=str(self.proc), sys=str(self.sys), number=self.number)
        assert not said or said.startswith(f"{full} ")
        return said.removeprefix(f"{full} ").removesuffix(", so it must not be written to")


def test_nothing_is_in_use(tmp_path: Path) -> None:
    computer = Computer(tmp_path)
    assert [computer.says(name) for name in DEVICES] == [""] * len(DEVICES)
    (tmp_path / "file").write_text("x")
    assert computer.says(tmp_path / "file") == ""


def test_mounted(tmp_path: Path) -> None:
    computer = Computer(tmp_path, mounts="22 1 8:1 / /home\\040of\\040all rw - ext4 /dev/sda1 rw")
    assert computer.says("sda1") == "is mounted on /home of all"
    assert computer.says("sda") == "is in use: its partition sda1 is mounted on /home of all"
    assert [computer.says(name) for name in ("sda2", "sda3", "sdb", "dm-0")] == [""] * 4


def test_a_partition_of_a_disk_that_is_mounted_whole(tmp_path: Path) -> None:
    computer = Computer(tmp_path, mounts="22 1 8:0 / /mnt rw - ext4 /dev/sda rw")
    assert computer.says("sda2") == "is in use: sda, the whole disk, is mounted on /mnt"


def test_what_lies_over_it(tmp_path: Path) -> None:
    computer = Computer(tmp_path, mounts="22 1 253:0 / / rw - xfs /dev/mapper/root rw")
    assert computer.says("sda3") == "is in use: dm-0, which lies over it, is mounted on /"
    assert computer.says("sda").startswith("is in use: ")
    assert computer.says("sda2") == ""


def test_a_file_system_with_a_number_of_its_own(tmp_path: Path) -> None:
    """As btrfs, which can lie on several devices."""
    computer = Computer(tmp_path, mounts="22 1 0:35 /@ / rw - btrfs /dev/sdb rw")
    assert computer.says("sdb") == "is mounted on /"
    assert computer.says("sda") == ""


def test_swap(tmp_path: Path) -> None:
    computer = Computer(tmp_path, swaps="/dev/sda2                partition\t20476\t0\t-2\n")
    assert computer.says("sda2") == "is in use as swap"
    assert computer.says("sda") == "is in use: its partition sda2 is in use as swap"
    assert computer.says("sda1") == ""


def test_a_swap_file(tmp_path: Path) -> None:
    file = tmp_path / "swap file"
    file.write_text("x")
    name = str(file).replace(" ", "\\040")
    computer = Computer(tmp_path, swaps=f"{name} file\t20476\t0\t-2\n")
    assert computer.says(file) == "is in use as swap"
    (tmp_path / "link").symlink_to(file)
    assert computer.says(tmp_path / "link") == "is in use as swap"
    (tmp_path / "other").write_text("x")
    assert computer.says(tmp_path / "other") == ""


def test_a_file_that_a_loop_device_is_made_of(tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    file.write_text("x")
    mounted = "22 1 7:0 / /mnt rw - ext4 /dev/loop0 rw"
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    computer = Computer(tmp_path / "1", mounts=mounted, backing=str(file))
    assert computer.says(file) == "is in use: loop0, a loop device on it, is mounted on /mnt"
    assert Computer(tmp_path / "2", backing=str(file)).says(file) == "", "attached, and no more"


def test_without_sysfs_the_device_itself_is_known(tmp_path: Path) -> None:
    computer = Computer(tmp_path, mounts=ROOT_MOUNT.format("8:1", "sda1"))
    shutil.rmtree(computer.sys)
    assert computer.says("sda1") == "is mounted on /"


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    computer = Computer(tmp_path)
    (computer.proc / "self/mountinfo").unlink()
    (computer.proc / "self/mountinfo").mkdir()
    with pytest.raises(kvmlib.KvmError, match=r"it is not known whether .*sda1 is in use: .*directory"):
        computer.says("sda1")


# -- the BSDs --------------------------------------------------------------------------------------------------------

MOUNT = """/dev/sd0a on / type ffs (local)
/dev/sd0d on /home of all type ffs (local, nodev, nosuid)
/dev/wd1a on /mnt (ffs, local)
mfs:123 on /tmp type mfs (asynchronous, local)
"""
SWAPCTL = """Device      512-blocks     Used    Avail Capacity  Priority
/dev/sd0b       2104480        0  2104480     0%    0
"""


def on_bsd(name: str, *, mount: str | None = MOUNT, swapctl: str | None = SWAPCTL, raw: str | None = "2\n") -> str:
    def run(*command: str) -> str | None:
        return {
            "/sbin/mount": mount,
            "/sbin/swapctl -l": swapctl,
            "/sbin/sysctl -n kern.rawpartition": raw,
        }[" ".join(command)]

    said = in_use(name, proc="/nowhere", run=run)
    return said.removeprefix(f"{name} ").removesuffix(", so it must not be written to")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/dev/sd0a", "is mounted on /"),
        ("/dev/rsd0a", "is mounted on /"),
        ("/dev/sd0d", "is mounted on /home of all"),
        ("/dev/wd1a", "is mounted on /mnt"),
        ("/dev/sd0b", "is in use as swap"),
        ("/dev/rsd0b", "is in use as swap"),
        ("/dev/sd0c", "is in use: its partition sd0a is mounted on /"),
        ("/dev/rsd0c", "is in use: its partition sd0a is mounted on /"),
        ("/dev/sd0", "is in use: its partition sd0a is mounted on /"),
        ("/dev/sd0e", ""),
        ("/dev/sd1b", ""),
        ("/dev/rsd10b", ""),
        ("dump.img", ""),
        ("sd0a", ""),
    ],
)
def test_bsd(name: str, said: str) -> None:
    assert on_bsd(name) == said


def test_bsd_whole_disk() -> None:
    mount = "/dev/sd0d on /mnt type ffs (local)\n"
    assert (
        on_bsd("/dev/sd0b", mount=mount, swapctl="", raw="3\n") == "is in use: sd0d, the whole disk, is mounted on /mnt"
    )
    assert on_bsd("/dev/sd0b", mount=mount, swapctl="", raw="2\n") == ""
    assert on_bsd("/dev/sd0b", mount="/dev/sd0c on /mnt type ffs\n", swapctl="", raw=None).startswith("is in use: sd0c")


def test_bsd_swap_file(tmp_path: Path) -> None:
    file = tmp_path / "swapfile"
    file.write_text("x")
    assert on_bsd(str(file), swapctl=f"Device ...\n{file} 2104480 0 2104480 0% 0\n") == "is in use as swap"


@pytest.mark.parametrize("nothing", [None, "", "no swap devices configured\n"])
def test_where_no_program_tells(nothing: str | None) -> None:
    assert on_bsd("/dev/sd0a", mount=nothing, swapctl=nothing, raw=nothing) == ""


def test_a_program_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: tuple[str, ...], timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(kvmlib.KvmError, match="/sbin/mount could not be asked what is in use"):
        in_use("/dev/sd0a", proc="/nowhere")


def test_names_are_shown_harmlessly() -> None:
    evil = "/dev/sd0\x1b[31ma"
    assert "\x1b" not in on_bsd(evil, mount=f"{evil} on /\x1b[m type ffs (local)\n")


# -- what it is for --------------------------------------------------------------------------------------------------


def test_undo_does_not_write_to_what_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image) as kd:
        kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
    before = Path(sample.image).read_bytes()
    monkeypatch.setattr("kvmlib.undo.in_use", lambda path: "it is mounted")
    with pytest.raises(kvmlib.KvmError, match="it is mounted; nothing was written"):
        undo(tmp_path / "record", sample.image)
    assert Path(sample.image).read_bytes() == before


@pytest.fixture(params=[512, 4096])
def loop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A real block device that holds a dump; it goes away again."""
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("needs root and losetup")
    sample = sample_in(tmp_path, "openbsd/amd64")
    os.truncate(sample.image, -(-Path(sample.image).stat().st_size // 4096) * 4096)
    command = ["losetup", "--find", "--show", "--sector-size", str(request.param), sample.image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_real_block_device(loop: str, tmp_path: Path) -> None:
    before = Path(loop).read_bytes()
    with kvmlib.open(loop) as kd:
        assert kd.image.kind == "device"
        assert [o.kind for o in kvmlib.check_invalidation(kd)] == ["unsaved"]
        core = kvmlib.save(kd, tmp_path).core
        assert kvmlib.check_invalidation(kd, core) == ()
        done = kvmlib.invalidate(kd, kd.dumpmag(), tmp_path / "record")
    at, end = done.offset, done.offset + 8
    assert done.before == before[at:end]
    assert Path(loop).read_bytes() == before[:at] + bytes(8) + before[end:]
    undo(tmp_path / "record", loop)
    assert Path(loop).read_bytes() == before


def test_a_real_block_device_that_something_holds(loop: str) -> None:
    """The kernel itself refuses, whatever the tables say."""
    assert device_number(loop) is not None
    holder = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        with kvmlib.open(loop) as kd:
            found = kvmlib.check_invalidation(kd)
        assert [(o.kind, o.forcible) for o in found] == [("read-only", False)]
        with pytest.raises(kvmlib.KvmError, match="for writing: it is in use"):
            open_image(loop, write=True)
    finally:
        os.close(holder)
