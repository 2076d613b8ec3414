"""The glossary: every word explained once, reached by ? from where it stands, and searchable."""

from pathlib import Path

import pytest

from kvmtui.dialogs.help import HelpDialog
from kvmtui.glossary import TERMS, Term, search, term_lines, terms_in
from kvmtui.screen import DumpScreen
from kvmtui.terminal import Look
from kvmtui.views.header import HeaderView
from tests.tui.hosting import press, screen
from tests.tui.running import dump_screen, running, top, view, write

#: What the issue asks for at least.
WANTED = (
    *("kcore", "midmag", "CORE_CPU", "CORE_DATA", "dumpmag", "dumplo", "dumpsize", "savecore", "minfree", "bounds"),
    *("PTE", "va", "pa", "segment", "KARL", "ksyms", "panicstr", "dumppcb", "msgbuf"),
)


def help_of(pilot: object) -> HelpDialog:
    dialog = top(pilot)  # type: ignore[arg-type]
    assert isinstance(dialog, HelpDialog)
    return dialog


def first(text: str) -> str:
    return terms_in(text)[0].name


def test_the_words_that_must_be_there() -> None:
    names = [t.name for t in TERMS]
    assert set(WANTED) <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("term", TERMS, ids=lambda t: t.name)
def test_each_term_is_a_sentence_with_a_source(term: Term) -> None:
    assert term.text.endswith(".")
    assert term.source
    assert first(term.name) == term.name
    assert all(first(word) == term.name for word in term.also)
    for width in (20, 36, 79):
        lines = ["".join(text for text, _ in line) for line in term_lines(term, width)]
        assert max(map(len, lines)) <= width
        assert "".join(term.text.split())[:12] in "".join("".join(lines).split())


def test_no_word_means_two_things() -> None:
    words = [w.lower() for t in TERMS for w in (t.name, *t.also)]
    assert len(set(words)) == len(words)


def test_terms_in_a_text() -> None:
    assert [t.name for t in terms_in("c_midmag at pa 0x10, DUMPMAG; pa again")] == ["midmag", "pa", "dumpmag"]
    assert terms_in("PA Pa spare parcel dumpmagic") == []
    assert first("the page tables") == "page table"


def test_search() -> None:
    assert search("minf")[0].name == "minfree"
    assert "savecore" in [t.name for t in search("DUMPMAG")]
    assert search("no such word") == []


@pytest.mark.parametrize("look", [Look(), Look(colour=False)])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_help_begins_with_the_word_under_the_cursor(image: Path, size: tuple[int, int], look: Look) -> None:
    async with running(image, size, look) as pilot:
        await press(pilot, "2", "down")
        header = view(pilot, HeaderView)
        assert header.fields.field is not None
        assert header.fields.field.name == "c_midmag"
        await press(pilot, "question_mark")
        lines = screen(pilot)
        assert "Help: Header" in lines[0]
        assert "midmag" in lines[1]
        assert "6 bits of flag" in " ".join(" ".join(lines[1:4]).replace("│", "").split())
        await press(pilot, "escape", "down", "question_mark")
        assert "c_size" in screen(pilot)[1]


@pytest.mark.parametrize("number", "1234567")
async def test_the_words_on_the_screen_are_explained(image: Path, number: str) -> None:
    async with running(image) as pilot:
        await press(pilot, number)
        place = dump_screen(pilot)
        assert isinstance(place, DumpScreen)
        shown = place.terms()
        await press(pilot, "question_mark")
        text = "\n".join("".join(part for part, _ in line) for line in help_of(pilot).lines(200))
        assert all(f"[{t.source}]" in text for t in shown)
        if number in "1245":
            assert "Words on this screen" in text
            assert shown


@pytest.mark.parametrize("look", [Look(ascii=True), Look(colour=False)])
@pytest.mark.parametrize("size", [(80, 24), (40, 12)])
async def test_finding_a_word(image: Path, size: tuple[int, int], look: Look) -> None:
    async with running(image, size, look) as pilot:
        await press(pilot, "question_mark", "slash")
        await write(pilot, "minfree")
        dialog = help_of(pilot)
        assert "minfree" in dialog.rows.text.splitlines()[0]
        assert "Keys in" not in dialog.rows.text
        assert "minfree" in "\n".join(screen(pilot)[1:4])
        await write(pilot, "q?")
        assert "no word here has 'minfreeq?' in it" in " ".join(dialog.rows.text.split())
        await press(pilot, "escape")
        assert dialog.rows.has_focus
        assert "Keys in" in dialog.rows.text
        await press(pilot, "slash")
        await write(pilot, "karl")
        await press(pilot, "enter", "down", "q")
        assert top(pilot) is dump_screen(pilot)
