"""The application as a whole: views by number, going to places, the chooser, and that looking changes nothing."""

import gzip
import shutil
import threading
from pathlib import Path

import pytest
from textual.screen import ModalScreen
from textual.widgets import Input

import kvmlib
from kvmtui.app import KvmtuiApp
from kvmtui.dialogs.confirm import MessageDialog
from kvmtui.opening import Opening, Request, Samples
from kvmtui.screen import VIEWS
from kvmtui.terminal import Look
from kvmtui.views.chooser import ChooserScreen, look_in, what_is
from kvmtui.views.memory import MemoryView
from kvmtui.views.waiting import WaitingScreen
from tests.tui.hosting import digest, press, screen, settle
from tests.tui.running import dump_screen, names, running, top, view, write


@pytest.mark.parametrize(
    ("size", "look"),
    [((80, 24), Look(ascii=True)), ((120, 40), Look()), ((40, 12), Look(colour=False))],
    ids=["80x24 ascii", "120x40", "40x12 no colour"],
)
async def test_a_tour_of_everything_changes_nothing(image: Path, size: tuple[int, int], look: Look) -> None:
    before = digest(image.parent)
    async with running(image, size, look) as pilot:
        for number, kind in enumerate(VIEWS, 1):
            await press(pilot, str(number))
            assert dump_screen(pilot).current == kind.view_id
            assert f"[{number} {kind.title}]" in screen(pilot)[1]
            await pilot.press("down", "pagedown", "end", "up", "home")
            await press(pilot, "enter", str(number))
            for key in ("question_mark", "g", "s", "i"):
                await press(pilot, key)
                assert isinstance(pilot.app.screen, ModalScreen)
                await pilot.press("escape")
            assert top(pilot) is dump_screen(pilot)
            if look.ascii:
                assert "".join(screen(pilot)).isascii()
        await press(pilot, "5", "w", "p", "2", "f", "tab", "q")
    assert pilot.app.return_code == 0
    assert digest(image.parent) == before


async def test_title_says_file_machine_form_and_state(image: Path) -> None:
    async with running(image) as pilot:
        assert screen(pilot)[0] == "kvmtui  sample.img  device form  openbsd/amd64  [fresh]"


async def test_long_file_name_gives_way_in_the_title(image: Path) -> None:
    long = image.with_name("a" * 60 + ".img")
    shutil.copy(image, long)
    async with running(long, (60, 20)) as pilot:
        title = screen(pilot)[0]
        assert title.startswith("kvmtui  aaaa")
        assert "  openbsd/amd64  [" in title
        assert ".." in title


async def test_names_from_outside_are_neither_markup_nor_escapes(image: Path) -> None:
    hostile = image.with_name("[red]x[bold]\x1b[31m.img")
    shutil.copy(image, hostile)
    async with running(hostile) as pilot:
        lines = screen(pilot)
        assert lines[0].startswith(r"kvmtui  [red]x[bold]\x1b[31m.img  ")
        # The path is long and broken into rows.
        assert r"[red]x[bold]\x1b[31m.img" in "".join(line.strip() for line in lines[1:])
        await press(pilot, "s", "enter")
        assert "\x1b" not in "\n".join(screen(pilot))


async def test_goto_from_any_view_shows_memory(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "g")
        await write(pilot, "panicstr+8")
        await press(pilot, "enter")
        memory = view(pilot, MemoryView)
        assert memory.hex.cursor == memory.kd.address("panicstr") + 8
        await press(pilot, "4", "g")
        await write(pilot, "pa:0x100000")
        await press(pilot, "enter")
        assert memory.physical
        assert memory.hex.cursor == 0x100000
        # What was said for the last time stays remembered through other views.
        await press(pilot, "1", "5", "backspace")
        assert memory.hex.cursor == memory.kd.address("panicstr") + 8


async def test_sentence_stays_until_the_next_key(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "7", "n")
        assert screen(pilot)[-1] == "nothing was searched for yet: / searches"
        await press(pilot, "down")
        assert screen(pilot)[-1].endswith("q Quit")


@pytest.mark.parametrize("size", [(80, 24), (40, 12)])
async def test_a_sentence_is_said_to_its_end(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        place = dump_screen(pilot)
        sentence = "invalidated at 0x5db200: " + "01 01 ca 8f " * 4 + "-> 00 00 00"
        place.say(sentence, bad=True)
        await settle(pilot)
        rows = -(-(len(sentence) + 2) // size[0])
        assert " ".join(screen(pilot)[-rows:]) == f"! {sentence}"
        await press(pilot, "down")
        assert screen(pilot)[-1].endswith("q Quit")
        assert "q Quit" not in "".join(screen(pilot)[:-1])


async def test_what_stands_below_a_list_is_said_to_its_end(image: Path) -> None:
    async with running(image, (40, 12)) as pilot:
        for key, end in (("3", "address translation starts"), ("6", "beside the dump"), ("7", "from symbol msgbufp")):
            await press(pilot, key)
            assert " ".join(screen(pilot)[-4:-1]).rstrip().endswith(end)


async def test_ctrl_c_says_how_to_leave(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "ctrl+c")
        assert screen(pilot)[-1] == "press q to leave"


async def test_tabs_can_be_clicked(image: Path) -> None:
    async with running(image) as pilot:
        at = screen(pilot)[1].index("Segments")
        await pilot.click("TabBar", offset=(at, 0))
        await settle(pilot)
        assert dump_screen(pilot).current == "segments"


# -- the chooser -----------------------------------------------------------------------------------------------------


async def test_chooser_lists_dumps_here_and_samples_and_opens_one(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image.parent / "notes.txt").write_text("no dump")
    (image.parent / "vi.core").write_bytes(b"\x7fELF" + bytes(100))
    monkeypatch.chdir(image.parent)
    async with running(None) as pilot:
        text = "\n".join(screen(pilot))
        assert "sample.img" in text
        assert "notes.txt" not in text
        assert "vi.core" not in text
        seen = {line.strip() for line in screen(pilot)}
        await press(pilot, "end")
        seen |= {line.strip() for line in screen(pilot)}
        first, *_, last = kvmlib.sample_names()
        assert any(first in line for line in seen)
        assert any(last in line for line in seen)
        await press(pilot, "home")
        await press(pilot, "enter")
        assert dump_screen(pilot).kd.path == str(image)
        await press(pilot, "c")
        assert isinstance(pilot.app.screen, ChooserScreen)


async def test_chooser_makes_a_sample_that_is_gone_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(None) as pilot:
        await press(pilot, "end", "enter")
        path = Path(dump_screen(pilot).kd.path)
        assert dump_screen(pilot).kd.machine is not None
        assert path.name in names(path.parent)
    assert path.parent.parent.name not in names(path.parent.parent.parent)
    assert names(tmp_path) == set()


async def test_chooser_takes_a_path_and_says_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zeros").write_bytes(bytes(4096))
    async with running(None) as pilot:
        await press(pilot, "slash")
        await write(pilot, "zeros")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, MessageDialog)
        assert "no dump in zeros" in "\n".join(screen(pilot))
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ChooserScreen)
        assert pilot.app.screen.query_one(Input).value == "zeros"
        await press(pilot, "escape", "q")
    assert pilot.app.return_code == 0


async def test_chooser_says_where_it_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(None, (120, 40)) as pilot:
        lines = screen(pilot)
        assert lines[lines.index(f"Dumps in {tmp_path}") + 1] == "  none"


def test_files_are_known_by_name_and_first_bytes(image: Path, tmp_path: Path) -> None:
    with kvmlib.open(image) as kd:
        core = tmp_path / "saved"
        kvmlib.save(kd, tmp_path, force=True)
    saved = tmp_path / "bsd.0.core"
    (tmp_path / "bsd.1.core.gz").write_bytes(gzip.compress(saved.read_bytes()[:4096]))
    saved.rename(core)
    found = {f.path.name: f.what for f in look_in(tmp_path)}
    assert found == {"saved": "saved core", "bsd.1.core.gz": "packed core"}
    assert look_in(tmp_path / "nowhere") == []
    assert what_is("x", bytes.fromhex("049d8fca")) == "device image, header in place"
    assert what_is("x.img", bytes(4)) == "image, to be searched"
    assert what_is("x.img", b"") == ""
    assert what_is("sh.core", b"\x7fELF") == ""


# -- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["c", "D"])
async def test_the_dump_is_closed_when_another_is_chosen(image: Path, key: str) -> None:
    async with running(image) as pilot:
        kd = dump_screen(pilot).kd
        await press(pilot, key)
        await settle(pilot)
        with pytest.raises(kvmlib.KvmError, match="was closed"):
            kd.image.read(0, 512)


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until this is set, no dump is opened."""
    event = threading.Event()
    real = kvmlib.open

    def slow(*args: object, **kwargs: object) -> kvmlib.Kvm:
        event.wait(60)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(kvmlib, "open", slow)
    return event


async def test_waiting_can_be_given_up(image: Path, go_on: threading.Event) -> None:
    app = KvmtuiApp(Opening(Request(str(image)), Samples()))
    async with app.run_test() as pilot:
        await pilot.pause()
        assert isinstance(app.screen, WaitingScreen)
        assert "looking for a dump header" in "\n".join(screen(pilot))
        await pilot.press("escape")
    go_on.set()
    assert app.failure == ""
    assert app.return_code == 0


async def test_help_may_be_read_while_a_dump_is_opened(image: Path, go_on: threading.Event) -> None:
    opening = Opening(Request(str(image)), Samples())
    app = KvmtuiApp(opening)
    async with app.run_test() as pilot:
        await press(pilot, "question_mark")
        assert "Opening a dump" in "\n".join(screen(pilot))
        go_on.set()
        assert opening.wait(60)
        await settle(pilot)
        assert "Opening a dump" in "\n".join(screen(pilot))
        await press(pilot, "escape")
        await settle(pilot)
        assert top(pilot) is dump_screen(pilot)


async def test_dump_that_fails_late_ends_the_application_with_its_sentence(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4096))
    app = KvmtuiApp(Opening(Request(str(path)), Samples()))
    async with app.run_test() as pilot:
        await settle(pilot)
    assert "no dump in" in app.failure


def test_an_opening_never_raises_in_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> kvmlib.Kvm:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(kvmlib, "open", broken)
    opening = Opening(Request("x"), Samples())
    with pytest.raises(kvmlib.KvmError, match="x could not be opened: ZeroDivisionError: by design"):
        opening.result()
