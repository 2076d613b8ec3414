"""The pictures: every character in its cell, whatever the font would rather do."""

import re
import struct
from pathlib import Path

import pytest
import svg2png
from rich.text import Text
from svg2png import HEIGHT, MARGIN, WIDTH, FontMissingError, font_files, on_grid, svg_to_png
from textual.app import App, ComposeResult
from textual.widgets import Static

ROWS = ["┌─ ... != ─┐ é", "│ -> 00 ff │", "└──────────┘  &<"]


class Hexes(App[None]):
    CSS = "Screen { overflow: hidden; }"

    def compose(self) -> ComposeResult:
        text = Text("\n".join(ROWS))
        text.stylize("bold black on yellow", len(ROWS[0]) + 1 + 5, len(ROWS[0]) + 1 + 7)
        yield Static(text)


async def screenshot() -> str:
    app = Hexes()
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        return app.export_screenshot()


async def test_every_character_stands_in_its_cell() -> None:
    drawn = on_grid(await screenshot())
    found = {}
    for x, y, character in re.findall(r"translate\((\d+) ([\d.]+)\) [^>]*>([^<]+)</text>", drawn):
        column, off = divmod(int(x) - MARGIN, WIDTH)
        assert off == 0
        character = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}.get(character, character)
        found[int((float(y) - MARGIN) // HEIGHT), column] = character
    assert found == {(y, x): c for y, row in enumerate(ROWS) for x, c in enumerate(row) if c != " "}


async def test_a_highlighted_byte_is_drawn_behind_its_two_digits() -> None:
    drawn = on_grid(await screenshot())
    place = f'x="{MARGIN + 5 * WIDTH}" y="{MARGIN + HEIGHT}" width="{2 * WIDTH}" height="{HEIGHT}"'
    assert place in drawn
    assert "font-weight: bold" in drawn


async def test_nothing_is_fetched() -> None:
    drawn = on_grid(await screenshot())
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert "Fira" not in drawn


async def test_the_picture_has_whole_pixels() -> None:
    try:
        font_files()
    except FontMissingError as error:
        pytest.skip(str(error))
    png = svg_to_png(await screenshot())
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (40 * WIDTH + 2 * MARGIN, 10 * HEIGHT + 2 * MARGIN)


def test_a_missing_font_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(svg2png, "_font_folders", lambda: [tmp_path])
    with pytest.raises(FontMissingError, match=r"DejaVu Sans Mono is missing: install it .*KVMTUI_FONTS\.$"):
        font_files()


def test_another_svg_is_refused() -> None:
    with pytest.raises(ValueError, match="not the SVG"):
        on_grid('<svg xmlns="http://www.w3.org/2000/svg"/>')
