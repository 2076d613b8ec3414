"""A PNG of a Textual screenshot, in which every character stands exactly in its cell.

`App.export_screenshot` gives an SVG that leaves the columns to the font: it asks for Fira Code from the network, whose
ligatures join "..." and "!=", and spreads each run of text over its width. Here only what was said is taken from it:
colours, and which text stands in which cell. The picture is drawn anew on a grid of whole pixels, each character at its
own place, in DejaVu Sans Mono, stretched by a few per cent so that a glyph fills its cell and box-drawing lines meet.
"""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import resvg_py
from rich.cells import cell_len

FONT = "DejaVu Sans Mono"
FONT_FILES = [f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
FONT_MISSING = (
    f"The font {FONT} is missing: install it (Debian: apt-get install fonts-dejavu-core; "
    "anywhere: pip install --no-deps rinoh-typeface-dejavusansmono), or name its folder in KVMTUI_FONTS."
)

# From the font's own tables, in ems: how far a character advances, how far it goes above and below the baseline.
ADVANCE, ASCENT, DESCENT = 1233 / 2048, 1901 / 2048, 483 / 2048

# The grid of the SVG that Rich writes: a cell's size, and the y of the first baseline and of the first background.
RICH_WIDTH, RICH_HEIGHT = 12.2, 24.4
RICH_BASELINE, RICH_TOP = 20.0, 1.5

# Ours, in pixels. Even, so that halves are whole pixels too: box-drawing lines run through the middle of a cell.
WIDTH, HEIGHT, MARGIN = 10, 20, 10

SVG = "{http://www.w3.org/2000/svg}"


class FontMissingError(Exception):
    """The font is nowhere; the message says how to get it."""


def font_files() -> list[str]:
    """The four files of the font, from the first folder that has the regular one."""
    for folder in _font_folders():
        for regular in folder.rglob(FONT_FILES[0]):
            beside = (regular.with_name(name) for name in FONT_FILES)
            return [str(path) for path in beside if path.exists()]
    raise FontMissingError(FONT_MISSING)


def _font_folders() -> list[Path]:
    folders = []
    if named := os.environ.get("KVMTUI_FONTS"):
        folders.append(Path(named))
    package = find_spec("rinoh_typeface_dejavusansmono")  # found, never imported: only its files are wanted
    if package and package.submodule_search_locations:
        folders += map(Path, package.submodule_search_locations)
    data_folders = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share:/usr/pkg/share"
    folders += [Path(folder) / "fonts" for folder in data_folders.split(":")]
    folders += [Path.home() / ".local/share/fonts", Path.home() / "Library/Fonts", Path("/Library/Fonts")]
    folders += [Path("/usr/X11R6/lib/X11/fonts"), Path("/usr/pkg/lib/X11/fonts")]
    return [folder for folder in folders if folder.is_dir()]


def on_grid(svg: str) -> str:
    """Draw Rich's SVG anew on whole pixels, each character at its own x."""
    root = ElementTree.fromstring(svg)
    style = root.findtext(f"{SVG}style") or ""
    # ".terminal-123-r7 { fill: #e0e0e0;font-weight: bold }": the only rules that say something about the content.
    rules = {name: rule.strip() for name, rule in re.findall(r"\.([\w-]+-r\d+) \{ (.*?) \}", style)}
    chrome, content = root.find(f"{SVG}rect"), root.find(f"{SVG}g[@clip-path]")
    if chrome is None or content is None:
        raise ValueError("This is not the SVG that Rich's Console.export_svg writes.")

    columns = rows = 0
    shapes, texts = [], []
    for rect in content.findall(f"{SVG}rect"):
        column, row = _cell(rect, RICH_TOP)
        cells = round(float(rect.attrib["width"]) / RICH_WIDTH)
        columns, rows = max(columns, column + cells), max(rows, row + 1)
        place = f'x="{MARGIN + column * WIDTH}" y="{MARGIN + row * HEIGHT}" width="{cells * WIDTH}" height="{HEIGHT}"'
        shapes.append(f"<rect fill={quoteattr(rect.attrib['fill'])} {place}/>")
    size = WIDTH / ADVANCE
    stretch = HEIGHT / (size * (ASCENT + DESCENT))
    for text in content.iter(f"{SVG}text"):
        column, row = _cell(text, RICH_BASELINE)
        characters = (text.text or "").replace("\N{NO-BREAK SPACE}", " ")
        rule = quoteattr(rules[text.attrib["class"]])
        baseline = MARGIN + row * HEIGHT + size * ASCENT * stretch
        for character in characters.rstrip():
            place = f'transform="translate({MARGIN + column * WIDTH} {baseline:.4f}) scale(1 {stretch:.6f})"'
            # An underline runs under blanks too.
            if character != " " or "underline" in rule:
                blank = ' xml:space="preserve"' if character == " " else ""
                texts.append(f"<text style={rule} {place}{blank}>{escape(character)}</text>")
            column += cell_len(character)
        columns, rows = max(columns, column), max(rows, row + 1)
    width, height = columns * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill={quoteattr(chrome.attrib["fill"])}/>'
        f'<g shape-rendering="crispEdges">{"".join(shapes)}</g>'
        f'<g font-family="{FONT}" font-size="{size:.4f}">{"".join(texts)}</g></svg>'
    )


def _cell(element: ElementTree.Element, first_y: float) -> tuple[int, int]:
    """(column, row) of an element of Rich's SVG, whose numbers have six digits: rounding finds the cell."""
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    return round(x / RICH_WIDTH), round((y - first_y) / RICH_HEIGHT)


def svg_to_png(svg: str) -> bytes:
    """The PNG of a screenshot. The same everywhere: no font but the named one is ever used."""
    drawn, files = on_grid(svg), font_files()
    return resvg_py.svg_to_bytes(svg_string=drawn, font_files=files, font_family=FONT, skip_system_fonts=True)


def write_png(svg: str, path: Path) -> None:
    """Write the PNG of a screenshot."""
    path.write_bytes(svg_to_png(svg))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: svg2png.py SCREENSHOT.svg PICTURE.png")
    try:
        write_png(Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2]))
    except (FontMissingError, OSError, ValueError) as error:
        sys.exit(f"svg2png.py: {error}")
