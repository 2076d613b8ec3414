"""The Memory view: history, bookmarks, export."""

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

import kvmlib
from kvmtui import bookmarks
from kvmtui.bookmarks import Bookmark, Bookmarks, identity
from kvmtui.dialogs.choice import Choice
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.dialogs.export import ExportDialog, Range, parse_range
from kvmtui.dialogs.goto import Target
from kvmtui.dialogs.note import NoteDialog
from kvmtui.dialogs.pick import PickDialog
from kvmtui.views.memory import MemoryView
from tests.dumps import KERNEL_PA
from tests.tui.hosting import SIZES, digest, holed, hosted, press, screen, settle


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


def picking(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, PickDialog)


@pytest.mark.parametrize("size", SIZES)
async def test_history_lists_where_back_would_lead(size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "H")
            assert "no earlier place" in "\n".join(screen(pilot))
            view.show_va(dump.va("dumpmag"))
            view.show_pa(KERNEL_PA)
            await settle(pilot)
            view.show_va(dump.va("dumpsize"))
            await settle(pilot)
            await press(pilot, "H")
            assert picking(pilot)
            text = "\n".join(screen(pilot))
            places = [f"pa {KERNEL_PA:#x}", f"va {dump.va('dumpmag'):#x}  dump", f"va {dump.va('version'):#x}  ver"]
            assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)
            await press(pilot, "down", "enter")
            assert view.here == Target(dump.va("dumpmag"))
            await press(pilot, "backspace")
            assert view.here == Target(dump.va("dumpsize")), "it was a jump like others"


@pytest.mark.parametrize("size", SIZES)
async def test_bookmarks_come_back(size: tuple[int, int], tmp_path: Path, state: Path) -> None:
    dump = holed("openbsd/amd64")
    with dump.open(tmp_path) as kd:
        before = digest(tmp_path)
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "M")
            assert "there are no bookmarks of this dump" in "\n".join(screen(pilot))
            await press(pilot, "m")
            dialog = pilot.app.screen
            assert isinstance(dialog, NoteDialog)
            dialog.query_one(Input).value = "the banner [red]\x1b[2J"
            await press(pilot, "enter")
            view.show_pa(0x9000_0000)
            await settle(pilot)
            await press(pilot, "m", "enter")
            await press(pilot, "m", "escape")
        async with hosted(MemoryView(kd), size) as pilot:
            view = pilot.app.query_one(MemoryView)
            view.show_va(dump.va("dumpmag"))
            await press(pilot, "M")
            assert picking(pilot)
            text = "\n".join(screen(pilot))
            assert f"va {dump.va('version'):#x}  pa {KERNEL_PA:#x}"[: size[0] - 6] in text
            assert "\x1b" not in text
            await press(pilot, "enter")
            assert view.here == Target(dump.va("version"))
            await press(pilot, "p", "M", "enter")
            assert view.here == Target(KERNEL_PA, True), "in physical memory by its pa"
            # The note is there to change; removing one leaves the other.
            await press(pilot, "p", "m")
            assert pilot.app.screen.query_one(Input).value == "the banner [red]\x1b[2J"
            await press(pilot, "escape", "M", "x")
            assert picking(pilot)
            assert "pa 0x9000000" in "\n".join(screen(pilot))
            await press(pilot, "x")
            assert not picking(pilot), "there is none left"
        assert digest(tmp_path) == before
        (file,) = (state / "kvmtui" / "bookmarks").iterdir()
        assert json.loads(file.read_text()) == {"bookmarks": []}


def test_a_dump_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    dump = holed("openbsd/amd64")
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    with dump.open(tmp_path / "one", write=True) as kd:
        device = identity(kd)
        (tmp_path / "saved.core").write_bytes(dump.saved)
        kd.dump_inval()
        assert identity(kd) == device, "invalidating changes a dump, but it stays that dump"
    with dump.open(tmp_path / "two") as kd:
        assert identity(kd) == device
        saved = kvmlib.save(kd, tmp_path / "three")
    with kvmlib.Kvm(saved.core, system=dump.table()) as kd:
        assert identity(kd) == device
    with holed("netbsd/amd64").open(tmp_path / "one") as kd:
        assert identity(kd) != device


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"bookmarks": 5}',
        b'{"bookmarks": [{"va": -1, "pa": null, "note": ""}]}',
        b'{"bookmarks": [{"va": true, "pa": null, "note": ""}]}',
        b'{"bookmarks": [{"va": null, "pa": null, "note": ""}]}',
        b'{"bookmarks": [{"va": 1, "pa": 1, "note": 3}]}',
        b'{"bookmarks": [{"va": 1}]}',
        b"[" * 100_000,
        b" " * (1 << 21),
    ],
)
async def test_a_file_that_holds_no_bookmarks_is_left_alone(data: bytes, tmp_path: Path) -> None:
    dump = holed("netbsd/i386")
    with dump.open(tmp_path) as kd:
        path = bookmarks.state_folder() / f"{identity(kd)}.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        with pytest.raises(kvmlib.KvmError, match="does not hold bookmarks: move it away"):
            Bookmarks(path)
        async with hosted(MemoryView(kd)) as pilot:
            await press(pilot, "m")
            assert isinstance(pilot.app.screen, MessageDialog)
        assert path.read_bytes() == data


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(kvmlib.KvmError, match="cannot read the bookmarks"):
        Bookmarks(tmp_path / "file" / "b.json")
    kept = Bookmarks(tmp_path / "new" / "b.json")
    kept.add(Bookmark(1, None, "x"))
    kept.add(Bookmark(1, None, "y"))
    assert kept.items == [Bookmark(1, None, "y")]
    assert Bookmarks(kept.path).items == kept.items
    monkeypatch.setattr(bookmarks, "MOST", 1)
    with pytest.raises(kvmlib.KvmError, match="there are 1 bookmarks already"):
        kept.add(Bookmark(2, None))
    other = Bookmarks(tmp_path / "other")
    (tmp_path / "other").mkdir()
    with pytest.raises(kvmlib.KvmError, match="cannot write the bookmarks"):
        other.add(Bookmark(2, None))
    assert other.items == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new", "other"]
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert bookmarks.state_folder() == Path("/home/someone/.local/state/kvmtui/bookmarks")


@pytest.mark.parametrize("size", SIZES)
async def test_export(size: tuple[int, int], tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    out = tmp_path / "out"
    out.mkdir()
    with dump.open(tmp_path) as kd:
        view = MemoryView(kd)
        async with hosted(view, size) as pilot:
            await press(pilot, "e")
            dialog = pilot.app.screen
            assert isinstance(dialog, ExportDialog)
            file = dialog.query_one("#export-file", Input)
            assert file.value.endswith(f"memory-{view.here.address:x}.bin")
            dialog.query_one("#export-form", Choice).action_step(2)
            await settle(pilot)
            assert file.value.endswith(".c")
            file.value = str(out / "mine")
            dialog.query_one("#export-to", Input).value = "+20"
            await press(pilot, "enter")
            await settle(pilot)
            assert "memory[32]" in (out / "mine").read_text()
            await press(pilot, "enter")
            assert pilot.app.screen is not dialog, "the button says OK"
            await press(pilot, "e")
            dialog = pilot.app.screen
            dialog.query_one("#export-file", Input).value = str(out / "mine")
            await press(pilot, "enter")
            await settle(pilot)
            assert "exists already" in str(dialog.query_one("#export-problem", Static).render())
            dialog.query_one("#export-to", Input).value = "0"
            dialog.query_one("#export-to", Input).focus()
            await press(pilot, "enter")
            assert "ends before it begins" in str(dialog.query_one("#export-problem", Static).render())
            await press(pilot, "escape")
            assert pilot.app.screen is not dialog
        assert [p.name for p in out.iterdir()] == ["mine"]


def test_ranges(tmp_path: Path) -> None:
    dump = holed("netbsd/amd64")
    with dump.open(tmp_path) as kd:
        here = Target(dump.va("version"))
        assert parse_range(kd, "version", "dumpmag", here) == Range(here.address, 0x1100, False)
        assert parse_range(kd, "pa:1000", "+10", here) == Range(0x1000, 16, True)
        assert parse_range(kd, "pa:1000", "pa:1001", here) == Range(0x1000, 1, True)
        for start, end in (("pa:1000", "version"), ("version", "+x"), ("version", "version"), ("version", "+-5")):
            with pytest.raises(kvmlib.KvmError):
                parse_range(kd, start, end, here)
