"""The main journey, as a person makes it: the real program on a real terminal of 80x24."""

import re
import sys
from pathlib import Path

import pytest

import kvmlib
from tests.conftest import ROOT
from tests.terminal.harness import Terminal, escape_sequences

pytestmark = pytest.mark.terminal

#: Seconds that any step may take; a slow machine is not a bug.
PATIENCE = 20.0
#: Runs a program, and says whether it left the terminal's settings as they were.
CAREFUL = 'was=$(stty -g); "$@"; status=$?; [ "$(stty -g)" = "$was" ] && echo "settings as before"; exit $status'

# What each view must show of the sample beside its own tab, in 80 columns and 24 rows.
VIEWS: dict[str, tuple[str | re.Pattern[str], ...]] = {
    "1": ("[1 Summary]", re.compile(r"^STATE +fresh", re.MULTILINE)),
    "2": ("[2 Header]", "struct cpu_kcore_hdr"),
    "3": ("[3 Registers]", "ptdpaddr  0x"),
    "4": ("[4 Segments]", "4 segments"),
    "5": ("[5 Memory]", "OpenBSD 6.8"),
    "6": ("[6 Symbols]", "alltraps_kern"),
    "7": ("[7 Messages]", "dumping to dev"),
}


def kvmtui(
    *arguments: str, cwd: Path, size: tuple[int, int] = (80, 24), term: str = "xterm-256color", **env: str
) -> Terminal:
    program = ["/bin/sh", "-c", CAREFUL, "sh", sys.executable, "-m", "kvmtui", *arguments]
    return Terminal(program, size=size, term=term, cwd=cwd, env={"PYTHONPATH": str(ROOT), **env})


def shows(terminal: Terminal, *texts: str | re.Pattern[str]) -> None:
    """Wait until the screen shows all of these, and nothing comes any more."""
    for text in texts:
        terminal.wait_for(text, PATIENCE)
    terminal.settle(timeout=PATIENCE)


def write(terminal: Terminal, text: str) -> None:
    """Write a text over what the field has, and press Enter."""
    terminal.press("ctrl+u")
    # Textual runs a key's action some time after the key: letters that follow too quickly would be deleted too.
    terminal.settle(timeout=PATIENCE)
    terminal.type(text)
    terminal.wait_for(f" {text} ", PATIENCE)
    terminal.press("enter")


def choose(terminal: Terminal, label: str) -> None:
    """Go to a button with Tab, see that it is marked, and press it."""

    def marked() -> bool:
        # The buttons stand in the last row that has all of their labels.
        row, text = [(y, text) for y, text in enumerate(terminal.screen) if label in text and "Cancel" in text][-1]
        return terminal.cell(text.index(label), row).reverse

    for _ in range(6):
        if marked():
            break
        terminal.press("tab")
        terminal.settle(timeout=PATIENCE)
    assert marked(), terminal.text
    terminal.press("enter")


def leaves(terminal: Terminal) -> None:
    """Quit: status 0, and the terminal is as it was before."""
    terminal.press("q")
    assert terminal.exit_status(PATIENCE) == 0
    raw = bytes(terminal.raw)
    before, _, after = raw.rpartition(b"\x1b[?1049l")
    assert b"\x1b[?1049h" in before, "the application draws on the alternate screen"
    # Behind it nothing is drawn, and what was switched on is off again.
    words = re.sub(rb"\x1b\[[<-?]?[0-9;]*[A-Za-z]", b"", after)
    assert words == b"settings as before\r\n"
    assert raw.rfind(b"\x1b[?25h") > raw.rfind(b"\x1b[?25l"), "the cursor is visible"
    for mode in (b"1000", b"1003", b"1006", b"2004"):
        assert raw.rfind(b"\x1b[?%bl" % mode) >= raw.rfind(b"\x1b[?%bh" % mode), f"mode {mode.decode()} is off"


@pytest.fixture
def sample(tmp_path: Path) -> kvmlib.Sample:
    return kvmlib.make_sample("openbsd/amd64", tmp_path)


def test_the_main_journey(tmp_path: Path, sample: kvmlib.Sample) -> None:
    image = Path(sample.image)
    begun = image.read_bytes()
    with kvmlib.open(image) as kd:
        panicstr, panicbuf = (kd.address(name) for name in ("panicstr", "panicbuf"))
        mag = kd.dumpmag()
        was = kvmlib.summary(kd)
    assert mag.state == "fresh"
    crash = tmp_path / "crash"
    crash.mkdir()

    with kvmtui(image.name, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "state")) as terminal:
        shows(terminal, "openbsd/amd64", "[fresh]", *VIEWS["1"])
        assert_complete_summary(terminal)
        for key, texts in VIEWS.items():
            terminal.press(key)
            shows(terminal, *texts)

        go_walk_follow_and_back(terminal, panicstr, panicbuf)
        assert image.read_bytes() == begun, "looking changes nothing"
        save(terminal)
        assert image.read_bytes() == begun, "saving does not change what is saved"
        assert sorted(p.name for p in crash.iterdir()) == ["bounds", "bsd.0", "bsd.0.core", "info.0", "info.0.json"]
        invalidate(terminal, image, mag)
        # Back at the Summary, which knows.
        terminal.press("1")
        shows(terminal, "[saved]", re.compile(r"^STATE +saved", re.MULTILINE))
        leaves(terminal)

    # Only dumpmag was cleared, and only in the image.
    end = mag.offset + len(mag.data)
    assert image.read_bytes() == begun[: mag.offset] + bytes(len(mag.data)) + begun[end:]
    assert [path.name for path in (tmp_path / "state/kvmtui").iterdir()] == [f"{image.name}.undo"]
    with kvmlib.open(crash / "bsd.0.core") as core:
        now = kvmlib.summary(core)
        assert core.form == "savecore"
        assert "bsd.0" in core.symbols.source
        assert (now.version, now.panic) == (was.version, was.panic)
        assert core.dumpmag().state == "fresh"


def assert_complete_summary(terminal: Terminal) -> None:
    """Turning pages shows all that an admin asks; nothing is cut off at 80 columns."""
    rows: list[str] = []
    while (page := [row[:79].rstrip() for row in terminal.screen[2:-2]]) != rows[-len(page) :]:
        # The column left out is the scrollbar's.
        rows += page
        terminal.press("space")
        terminal.settle(timeout=PATIENCE)
    terminal.press("<")
    terminal.settle(timeout=PATIENCE)
    text = "\n".join(rows)
    labels = ("DUMP", "STATE", "COMPLETE", "MEMORY", "KERNEL", "SYMBOLS", "HOST", "CRASH", "UPTIME", "PANIC", "WHERE")
    assert [label for label in labels if not re.search(rf"^{label} +\S", text, re.MULTILINE)] == []
    for wanted in (
        r"^KERNEL +OpenBSD 6\.8 \(GENERIC\) #97",
        r"^PANIC +ffs_blkfree: freeing free frag$",
        r"^WHERE +ffs_blkfree\+0x",
        r"^#\d+ +0xffffffff[0-9a-f]{8}  ffs_blkfree\+0x",
        r"^dumping to dev",
    ):
        assert re.search(wanted, text, re.MULTILINE), wanted
    assert "…" not in text
    assert "q Quit" in terminal.screen[-1]


def go_walk_follow_and_back(terminal: Terminal, panicstr: int, panicbuf: int) -> None:
    terminal.press("g")
    shows(terminal, "Go to ─", "Escape: cancel")
    write(terminal, "no_such_symbol")
    # The dialog stays, and says what is wrong.
    shows(terminal, "'no_such_symbol' is neither", "Escape: cancel")
    write(terminal, "panicstr")
    shows(terminal, "[5 Memory]", f"va {panicstr:#x}", f"panicstr  -> {panicbuf:#x}")
    terminal.press("w")
    shows(terminal, "PML4[511]", "PDPT[", "page directory[", "page table[", "4 KiB page pa", f"va {panicstr:#x}")
    terminal.press("enter")
    shows(terminal, f"va {panicbuf:#x}", "panicbuf", "ffs_blkf")
    terminal.press("u")
    shows(terminal, f"va {panicstr:#x}", f"panicstr  -> {panicbuf:#x}")
    terminal.press("w")
    terminal.wait_until(lambda: "PML4[" not in terminal.text, PATIENCE, "the page walk gone")


def save(terminal: Terminal) -> None:
    terminal.press("s")
    shows(terminal, "Save this dump", "nothing is written until you confirm")
    write(terminal, "crash")
    # The files by name, the room there is, and only then a button that writes.
    shows(terminal, "writes  crash/bsd.0.core", "writes  crash/bsd.0", "free", "Save (s)    Cancel (c)")
    choose(terminal, "Save")
    shows(terminal, "saved   crash/bsd.0.core", "OK")
    terminal.press("escape")
    terminal.wait_until(lambda: "Save this dump" not in terminal.text, PATIENCE, "the dialog gone")


def invalidate(terminal: Terminal, image: Path, mag: kvmlib.DumpMag) -> None:
    now, after = mag.data.hex(" "), bytes(len(mag.data)).hex(" ")
    begun = image.read_bytes()
    terminal.press("i")
    shows(terminal, "Invalidate this dump?", image.name, f"{mag.offset:#x}", f"now     {now}", f"after   {after}")
    # What was saved a moment ago was compared with the dump, so nothing speaks against it.
    shows(terminal, "saved   crash/bsd.0.core, which has the very same bytes", "Clear dumpmag (y)")
    # The safe answer is focused: Enter writes nothing.
    terminal.press("enter")
    terminal.wait_until(lambda: "Invalidate this dump?" not in terminal.text, PATIENCE, "the question gone")
    terminal.settle(timeout=PATIENCE)
    assert image.read_bytes() == begun
    terminal.press("i")
    shows(terminal, "Invalidate this dump?", "Clear dumpmag (y)")
    terminal.press("y")
    shows(terminal, "written, and read back from the disk", f"before  {now}", f"after   {after}", "--undo")
    terminal.press("enter")
    shows(terminal, f"invalidated at {mag.offset:#x}: {now} -> {bytes(len(mag.data)).hex(' ')}")


def test_a_sample_is_made_shown_and_removed(tmp_path: Path) -> None:
    with kvmtui("--sample", cwd=tmp_path, TMPDIR=str(tmp_path)) as terminal:
        shows(terminal, "openbsd/amd64", "[fresh]", *VIEWS["1"])
        assert list(tmp_path.iterdir()) != []
        leaves(terminal)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with kvmtui("nothing.img", cwd=tmp_path, size=(200, 24)) as terminal:
        assert terminal.exit_status(PATIENCE) == 1
        sentence, *rest = bytes(terminal.raw).decode().splitlines()
    assert rest == ["settings as before"]
    assert re.fullmatch(r"kvmtui: .*nothing\.img.*", sentence)


def test_a_terminal_that_can_nothing_gets_the_report(tmp_path: Path, sample: kvmlib.Sample) -> None:
    with kvmtui(Path(sample.image).name, cwd=tmp_path, term="dumb") as terminal:
        assert terminal.exit_status(PATIENCE) == 0
        raw = bytes(terminal.raw)
    assert not escape_sequences(raw)
    report = raw.decode()
    assert "TERM is dumb" in report
    for line in (r"DUMP +openbsd-amd64\.img", r"STATE +fresh", r"PANIC +ffs_blkfree: freeing free frag"):
        assert re.search(f"^{line}", report, re.MULTILINE), line
