"""Saving, invalidating, and leaving: only what was confirmed is done."""

import gzip
import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

import kvmlib
from kvmlib.__main__ import main
from kvmtui.dialogs.confirm import ConfirmDialog, MessageDialog
from kvmtui.dialogs.invalidate import InvalidateDialog, record_directory
from kvmtui.dialogs.save import SaveDialog
from kvmtui.views.memory import MemoryView
from tests.samples import forget_symbols
from tests.tui.hosting import digest, press, screen, settle
from tests.tui.running import content, dump_screen, names, running, top, view, write

each_size = pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 12)])


def dialog(pilot: Pilot[None]) -> SaveDialog:
    assert isinstance(pilot.app.screen, SaveDialog)
    return pilot.app.screen


def focused(pilot: Pilot[None]) -> str:
    widget = pilot.app.screen.focused
    return str(widget.label) if isinstance(widget, Button) else type(widget).__name__


def said(pilot: Pilot[None]) -> str:
    """What the dialog says."""
    return "\n".join(str(widget.content) for widget in pilot.app.screen.query(Static) if widget.display)


def solid(pilot: Pilot[None]) -> str:
    """What the screen says, without blanks and frames: paths are broken into rows."""
    return "".join("".join(screen(pilot)).replace("│", "").split())


async def ask_to_save(pilot: Pilot[None], folder: Path) -> None:
    """Open the dialog, and write the folder's name into it."""
    await press(pilot, "s")
    dialog(pilot).query_one(Input).value = str(folder)
    await press(pilot, "enter")


# -- save ------------------------------------------------------------------------------------------------------------


@each_size
async def test_saving_says_what_it_will_write_and_writes_that(
    image: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    before = digest(image.parent)
    async with running(image, size) as pilot:
        kd = dump_screen(pilot).kd
        answers = (kvmlib.summary(kd).panic, kd.registers, kd.read(kd.address("version"), 64))
        await ask_to_save(pilot, target)
        plan = kvmlib.plan_save(kd, target)
        text = said(pilot)
        assert f"writes  {plan.core}\n" in text
        assert f"writes  {plan.kernel}\n        a copy of {image.with_suffix('.elf')}, proven to be" in text
        assert "writes  info.0, info.0.json, bounds\n" in text
        assert "Verify: yes (v)" in "\n".join(screen(pilot)) or size[1] < 24
        assert f"({plan.size:,} bytes)" in text
        assert names(target) == set()
        # The sample's panic was years ago, so there is a warning, and doing nothing is focused.
        assert plan.warnings
        assert focused(pilot) == "Cancel (c)"
        dialog(pilot).query_one("#save", Button).focus()
        await press(pilot, "enter")
        await settle(pilot)
        assert focused(pilot) == "OK"
        assert "saved" in "\n".join(screen(pilot))
        assert f"sha256  {hashlib.sha256((target / 'bsd.0.core').read_bytes()).hexdigest()}" in said(pilot)
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
    assert digest(image.parent) == before
    assert names(target) >= {"bsd.0", "bsd.0.core", "bounds"}
    async with running(target / "bsd.0.core", size) as pilot:
        kd = dump_screen(pilot).kd
        assert kd.form == "savecore"
        assert (kvmlib.summary(kd).panic, kd.registers, kd.read(kd.address("version"), 64)) == answers


async def test_saving_packed(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    monkeypatch.chdir(tmp_path)
    async with running(image) as pilot:
        # A short name: with a long one the dialog is to be scrolled.
        await ask_to_save(pilot, Path("crash"))
        dialog(pilot).query_one("#compress", Button).focus()
        await press(pilot, "enter")
        assert "bsd.0.core.gz" in solid(pilot)
        dialog(pilot).query_one("#save", Button).focus()
        await press(pilot, "enter")
        await settle(pilot)
    with gzip.open(target / "bsd.0.core.gz") as packed, kvmlib.open(target / "bsd.0.core.gz") as kd:
        assert len(packed.read()) == kd.image.size
        assert kd.form == "savecore"


def keywords(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What save is asked for; it is done all the same."""
    asked: list[dict[str, Any]] = []
    real: Callable[..., kvmlib.Saved] = kvmlib.save

    def save(*args: Any, **kwargs: Any) -> kvmlib.Saved:
        asked.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(kvmlib, "save", save)
    return asked


async def test_each_option_has_a_letter(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    asked = keywords(monkeypatch)
    async with running(image) as pilot:
        await ask_to_save(pilot, target)
        buttons = [str(b.label) for b in dialog(pilot).query(Button) if b.display]
        assert buttons == [
            "Compress: no (z)", "Verify: yes (v)", "Salvage: no (a)", "Resume: no (r)", "Save (s)", "Cancel (c)"
        ]  # fmt: skip
        await press(pilot, "v", "a", "r")
        buttons = [str(b.label) for b in dialog(pilot).query(Button)][:4]
        assert buttons == ["Compress: no (z)", "Verify: no (v)", "Salvage: yes (a)", "Resume: yes (r)"]
        await press(pilot, "z")
        await settle(pilot)
        assert "bsd.0.core.gz" in said(pilot)
        assert str(dialog(pilot).query_one("#resume", Button).label) == "Resume: no (r)", "the two don't go together"
        await press(pilot, "r")
        await settle(pilot)
        await press(pilot, "s")
        await settle(pilot)
        text = said(pilot)
        assert "warning: not resumed: no copy was begun" in text
        assert "sha256" not in text
        assert f"saved   {target / 'info.0'}" in text
    wanted = {"compress": False, "verify": False, "salvage": True, "resume": True}
    assert {k: asked[0][k] for k in wanted} == wanted
    assert names(target) == {"bsd.0", "bsd.0.core", "info.0", "info.0.json", "bounds"}
    assert "  Panic: " in (target / "info.0").read_text()


async def test_letters_can_be_typed_into_the_name_of_the_directory(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "s")
        where = dialog(pilot).query_one(Input)
        where.value = ""
        await write(pilot, "vzarsc")
        assert where.value == "vzarsc"
        assert dialog(pilot).stage == "ask"


async def test_bad_blocks_are_told(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*args: Any, **kwargs: Any) -> kvmlib.Saved:
        holes = tuple(kvmlib.Hole(i << 12, 512, i << 12) for i in range(20))
        return kvmlib.Saved("core", None, 1, 0, holes=holes, info="info.0")

    monkeypatch.setattr(kvmlib, "save", save)
    async with running(image) as pilot:
        await ask_to_save(pilot, tmp_path)
        await press(pilot, "s")
        await settle(pilot)
        assert "512 bytes at 0x7000 can't be read: zeros stand for them\n... 12 more holes are listed in" in said(pilot)


async def test_escape_leaves_the_dialog_and_nothing_is_written(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    async with running(image) as pilot:
        await ask_to_save(pilot, target)
        await press(pilot, "escape")
        assert top(pilot) is dump_screen(pilot)
        await ask_to_save(pilot, target)
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
    assert names(target) == set()


async def test_directory_that_is_none_is_told_and_can_be_corrected(image: Path, tmp_path: Path) -> None:
    async with running(image) as pilot:
        await ask_to_save(pilot, tmp_path / "nowhere")
        assert "nowhere" in solid(pilot)
        assert dialog(pilot).stage == "ask"
        assert not dialog(pilot).query_one("#save", Button).display
        dialog(pilot).query_one(Input).value = str(tmp_path)
        await press(pilot, "enter")
        assert dialog(pilot).stage == "confirm"


async def test_another_directory_needs_another_look(image: Path, tmp_path: Path) -> None:
    async with running(image) as pilot:
        await ask_to_save(pilot, tmp_path)
        dialog(pilot).query_one(Input).focus()
        await write(pilot, "x")
        assert dialog(pilot).stage == "ask"
        assert not dialog(pilot).query_one("#save", Button).display
    assert names(tmp_path) == {"dump"}


async def test_a_refusal_is_shown_and_only_overridden_on_purpose(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    (target / "minfree").write_text("999999999999\n")
    async with running(image) as pilot:
        await ask_to_save(pilot, target)
        assert "refused:" in "\n".join(screen(pilot))
        assert focused(pilot) == "Cancel (c)"
        save = dialog(pilot).query_one("#save", Button)
        assert str(save.label) == "Save anyway (s)"
        save.focus()
        await press(pilot, "enter")
        await settle(pilot)
    assert (target / "bsd.0.core").exists()


@pytest.fixture
def slow_save(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Make saving wait in the middle: (it has begun to write, it may go on)."""
    begun, go_on = threading.Event(), threading.Event()
    real: Callable[..., kvmlib.Saved] = kvmlib.save

    def save(*args: Any, should_stop: Callable[[], bool], **kwargs: Any) -> kvmlib.Saved:
        pieces = 0

        def polled() -> bool:
            nonlocal pieces
            pieces += 1
            if pieces == 3:
                begun.set()
                while not should_stop() and not go_on.wait(0.01):
                    pass
            return should_stop()

        return real(*args, should_stop=polled, **kwargs)

    monkeypatch.setattr(kvmlib, "save", save)
    return begun, go_on


async def start_saving(pilot: Pilot[None], target: Path, begun: threading.Event) -> None:
    await ask_to_save(pilot, target)
    dialog(pilot).query_one("#save", Button).focus()
    await pilot.press("enter")
    while not begun.is_set():
        await pilot.pause(0.01)
    await pilot.pause(0.3)


async def test_escape_cancels_and_leaves_nothing_behind(
    image: Path, tmp_path: Path, slow_save: tuple[threading.Event, threading.Event]
) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    async with running(image) as pilot:
        await start_saving(pilot, target, slow_save[0])
        assert dialog(pilot).busy
        text = said(pilot)
        assert re.search(r" of \d+\.\d MiB, .*/s, .* left", text), text
        assert "%" in text
        assert "Escape cancels" in text
        await pilot.press("escape")
        await settle(pilot)
        assert dialog(pilot).stage == "done"
        assert "nothing was left behind" in "\n".join(screen(pilot))
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
    assert names(target) == set()


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
async def test_leaving_while_saving_asks_and_going_on_saves(
    image: Path, tmp_path: Path, slow_save: tuple[threading.Event, threading.Event], key: str
) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    async with running(image) as pilot:
        await start_saving(pilot, target, slow_save[0])
        await pilot.press(key)
        await pilot.pause()
        assert isinstance(pilot.app.screen, ConfirmDialog)
        assert focused(pilot) == "Go on saving (n)"
        await pilot.press("enter")
        await pilot.pause()
        assert dialog(pilot).busy
        slow_save[1].set()
        await settle(pilot)
        assert dialog(pilot).stage == "done"
    assert (target / "bsd.0.core").exists()


async def test_leaving_while_saving_leaves_nothing_behind(
    image: Path, tmp_path: Path, slow_save: tuple[threading.Event, threading.Event]
) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    async with running(image) as pilot:
        await start_saving(pilot, target, slow_save[0])
        await pilot.press("q")
        await pilot.pause()
        await pilot.press("y")
        await settle(pilot)
    assert pilot.app.return_code == 0
    assert names(target) == set()


async def test_a_full_disk_is_told_and_nothing_is_left(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> kvmlib.Saved:
        raise kvmlib.KvmError("cannot write: no space left on device")

    monkeypatch.setattr(kvmlib, "save", full)
    async with running(image) as pilot:
        await ask_to_save(pilot, tmp_path)
        dialog(pilot).query_one("#save", Button).focus()
        await press(pilot, "enter")
        await settle(pilot)
        text = "\n".join(screen(pilot))
        assert "Nothing was saved." in text
        assert "cannot write: no space left on device." in text


# -- invalidate ------------------------------------------------------------------------------------------------------


def question(pilot: Pilot[None]) -> InvalidateDialog:
    assert isinstance(pilot.app.screen, InvalidateDialog)
    return pilot.app.screen


def spoil(core: Path) -> int:
    """Change the last byte, and return where it is."""
    data = core.read_bytes()
    core.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    return len(data) - 1


@pytest.fixture
def core(image: Path, tmp_path: Path) -> Path:
    """The dump, saved."""
    with kvmlib.open(image) as kd:
        return Path(kvmlib.save(kd, tmp_path).core)


async def ask_to_clear(pilot: Pilot[None], core: Path) -> None:
    """Open the dialog, and name the saved core."""
    await press(pilot, "i")
    await settle(pilot)
    question(pilot).query_one(Input).focus()
    question(pilot).query_one(Input).value = str(core)
    await press(pilot, "enter")
    await settle(pilot)


@each_size
async def test_invalidating_names_the_bytes_and_leaves_them_alone_unless_told(
    image: Path, core: Path, state: Path, size: tuple[int, int]
) -> None:
    before = digest(image.parent)
    async with running(image, size) as pilot:
        mag = dump_screen(pilot).kd.dumpmag()
        await press(pilot, "i")
        await settle(pilot)
        assert focused(pilot) == "Leave it (n)"
        text = said(pilot)
        assert f"file    {image}\noffset  {mag.offset:#x} " in text
        assert "now     01 01 ca 8f 00 00 00 00\nafter   00 00 00 00 00 00 00 00" in text
        # On the smallest screen the last lines are what is seen, with the answers below them.
        assert "now     01 01 ca 8f 00 00 00 00" in "\n".join(screen(pilot))
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
        for key in ("escape", "n"):
            await ask_to_clear(pilot, core)
            question(pilot).query_one("#no", Button).focus()
            await press(pilot, key)
            assert top(pilot) is dump_screen(pilot)
    assert digest(image.parent) == before
    assert names(state) == set()


async def test_invalidating_clears_exactly_dumpmag(image: Path, core: Path, state: Path) -> None:
    before = content(image)
    async with running(image) as pilot:
        mag = dump_screen(pilot).kd.dumpmag()
        await press(pilot, "5", "g")
        await write(pilot, "dumpmag")
        await press(pilot, "enter")
        assert "01 01 ca 8f" in "\n".join(screen(pilot))
        await ask_to_clear(pilot, core)
        assert f"saved   {core}, which has the very same bytes" in said(pilot)
        question(pilot).query_one("#yes", Button).focus()
        await press(pilot, "enter")
        await settle(pilot)
        record = state / "kvmtui" / "sample.img.undo"
        assert "read back from the disk" in said(pilot)
        assert f"kvmdump inval {image} --undo {record}" in said(pilot)
        assert "before  01 01 ca 8f 00 00 00 00\nafter   00 00 00 00 00 00 00 00" in said(pilot)
        assert focused(pilot) == "OK"
        await press(pilot, "enter")
        await settle(pilot)
        assert screen(pilot)[-1].startswith(
            f"invalidated at {mag.offset:#x}: 01 01 ca 8f 00 00 00 00 -> 00 00 00 00 00 00 00 00"
        )
        assert screen(pilot)[0].endswith("[saved]")
        # What is on the screen is what is in the file now.
        assert view(pilot, MemoryView).hex.has_focus
        assert "01 01 ca 8f" not in "\n".join(screen(pilot)[:-1])
        await press(pilot, "1")
        await settle(pilot)
        assert screen(pilot)[0].endswith("[saved]")
        await press(pilot, "i")
        assert isinstance(pilot.app.screen, MessageDialog)
        assert "it was cleared before" in " ".join(said(pilot).split())
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
    after = content(image)
    assert [i - mag.offset for i in range(len(before)) if before[i] != after[i]] == [0, 1, 2, 3]
    assert after[mag.offset : mag.offset + 8] == bytes(8)
    assert main(["inval", str(image), "--undo", str(record)]) == 0
    assert content(image) == before


async def test_what_is_not_saved_is_cleared_only_by_force(image: Path) -> None:
    before = content(image)
    async with running(image) as pilot:
        await press(pilot, "i")
        await settle(pilot)
        assert "refused: nothing shows that this dump was saved" in said(pilot)
        assert not question(pilot).query_one("#yes").display
        await press(pilot, "y")
        assert question(pilot).stage == "ask"
        await press(pilot, "f")
        assert "[x] Clear it all" in "\n".join(screen(pilot))
        await press(pilot, "f", "y")
        assert question(pilot).stage == "ask"
        assert content(image) == before
        await press(pilot, "f", "y")
        await settle(pilot)
        assert question(pilot).stage == "done"
    assert content(image) != before


@pytest.mark.parametrize("size", [(80, 24), (40, 12)])
async def test_force_and_the_answers_are_seen_together(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        await press(pilot, "i")
        await settle(pilot)
        await press(pilot, "f")
        await settle(pilot)
        text = "\n".join(screen(pilot))
        assert all(
            label in text for label in ("[x] Clear it all the same (f)", "Leave it (n)", "Clear dumpmag (y)", "now  ")
        )


async def test_another_dumps_core_is_refused(image: Path, core: Path) -> None:
    at = spoil(core)
    before = content(image)
    async with running(image) as pilot:
        await ask_to_clear(pilot, core)
        assert f"differs from offset {at:#x} on" in said(pilot)
        question(pilot).query_one("#no", Button).focus()
        await press(pilot, "y")
        assert question(pilot).stage == "ask"
        # To name another one takes the force back.
        await press(pilot, "f")
        question(pilot).query_one(Input).focus()
        await press(pilot, "enter")
        await settle(pilot)
        assert not question(pilot).query_one("#yes").display
    assert content(image) == before


async def test_no_force_helps_with_a_disk_in_use(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(image)
    monkeypatch.setattr("kvmlib.inval.in_use", lambda path: f"{path} is mounted on [/], so it must not be written to")
    async with running(image) as pilot:
        await press(pilot, "i")
        await settle(pilot)
        assert "is mounted on [/]" in said(pilot)
        await press(pilot, "f", "y")
        assert question(pilot).stage == "ask"
        assert not question(pilot).query_one("#force").display
    assert content(image) == before


async def test_what_was_saved_a_moment_ago_is_compared(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "crash"
    target.mkdir()
    async with running(image) as pilot:
        await ask_to_save(pilot, target)
        dialog(pilot).query_one("#save", Button).focus()
        await press(pilot, "enter")
        await settle(pilot)
        await press(pilot, "enter", "i")
        await settle(pilot)
        assert "bsd.0.core, which has the very same bytes" in said(pilot)
        await press(pilot, "y")
        await settle(pilot)
        assert question(pilot).stage == "done"
    with kvmlib.open(image) as kd:
        assert kd.dumpmag().state == "cleared"


async def test_comparing_shows_progress_and_escape_ends_it(
    image: Path, core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(
        kd: kvmlib.Kvm, saved: Any, *, progress: Callable[[int, int], None], should_stop: Callable[[], bool]
    ) -> tuple[kvmlib.Obstacle, ...]:
        if saved is None:
            return (kvmlib.Obstacle("unsaved", "it is not", True),)
        progress(1 << 20, 4 << 20)
        begun.set()
        while not should_stop():
            ended.wait(0.01)
        ended.set()
        raise kvmlib.Cancelled("cancelled")

    monkeypatch.setattr(kvmlib, "check_invalidation", slow)
    before = content(image)
    async with running(image) as pilot:
        await press(pilot, "i")
        await settle(pilot)
        question(pilot).query_one(Input).focus()
        question(pilot).query_one(Input).value = str(core)
        await pilot.press("enter")
        while not begun.is_set():
            await pilot.pause(0.01)
        await pilot.pause(0.4)
        assert "1.0 MiB of 4.0 MiB" in said(pilot)
        assert not question(pilot).query_one("#yes").display
        await pilot.press("escape")
        await settle(pilot)
        assert top(pilot) is dump_screen(pilot)
        assert ended.is_set()
    assert content(image) == before


async def test_a_saved_core_is_invalidated_too(core: Path) -> None:
    async with running(core) as pilot:
        offset = dump_screen(pilot).kd.dumpmag().offset
        await press(pilot, "i")
        await settle(pilot)
        await press(pilot, "f", "y")
        await settle(pilot)
        await press(pilot, "enter")
        assert screen(pilot)[-1].startswith("invalidated at ")
    assert content(core)[offset : offset + 8] == bytes(8)


async def test_what_cannot_be_written_says_why(image: Path, tmp_path: Path) -> None:
    with kvmlib.open(image) as kd:
        core = Path(kvmlib.save(kd, tmp_path, compress=True).core)
    before = content(core)
    async with running(core) as pilot:
        title = screen(pilot)[0]
        await press(pilot, "i")
        await settle(pilot)
        assert "is compressed: unpack it with gunzip(1) first" in said(pilot)
        await press(pilot, "f", "y")
        assert question(pilot).stage == "ask"
        await press(pilot, "enter")
        assert screen(pilot)[0] == title
    assert content(core) == before


async def test_where_no_record_can_be_written_nothing_is_cleared(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    before = content(image)
    async with running(image) as pilot:
        await press(pilot, "i")
        await settle(pilot)
        await press(pilot, "f", "y")
        await settle(pilot)
        text = " ".join(said(pilot).split())
        assert "Not invalidated: cannot make" in text
        assert "for the undo record: File exists." in text
        await press(pilot, "enter")
        assert top(pilot) is dump_screen(pilot)
    assert content(image) == before


async def test_without_dumpmag_there_is_nothing_to_invalidate(image: Path) -> None:
    (image.parent / "sample.elf").unlink()
    forget_symbols(image)
    async with running(image) as pilot:
        await press(pilot, "i")
        assert isinstance(pilot.app.screen, MessageDialog)
        assert "cannotbeinvalidated:_dumpmag:notinnamelist" in solid(pilot)


async def test_dumpmag_that_changed_meanwhile_is_left_alone(image: Path, state: Path) -> None:
    async with running(image) as pilot:
        mag = dump_screen(pilot).kd.dumpmag()
        await press(pilot, "i")
        await settle(pilot)
        with image.open("r+b") as f:
            f.seek(mag.offset)
            f.write(b"\x01\x01\xca\x8f\x01")
        before = content(image)
        await press(pilot, "f", "y")
        await settle(pilot)
        assert "Not invalidated: dumpmag at file offset" in said(pilot)
        assert "perhaps this is not the right kernel file; nothing was written." in said(pilot)
    assert content(image) == before
    assert names(state / "kvmtui") == set()


def test_records_go_where_state_belongs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for useless in ("", "relative/folder"):
        monkeypatch.setenv("XDG_STATE_HOME", useless)
        assert record_directory() == str(tmp_path / ".local/state/kvmtui")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert record_directory() == "/var/state/kvmtui"
