"""Text broken into rows."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, get_character_cell_size


def wrap(text: str, width: int) -> list[str]:
    """Break a text at blanks into rows of at most `width` columns; a longer word is cut. Its own line ends are kept."""
    rows: list[str] = []
    for line in text.split("\n"):
        row = ""
        for word in line.split(" "):
            longer = f"{row} {word}" if row else word
            if cell_len(longer) <= width:
                row = longer
                continue
            if row:
                rows.append(row)
            pieces = list(cut(word, width))
            rows += pieces[:-1]
            row = pieces[-1] if pieces else ""
        rows.append(row)
    return rows


def cut(text: str, width: int) -> Iterator[str]:
    """Cut a text into pieces of at most `width` columns, nothing left out; at least one piece."""
    width = max(2, width)
    if text.isascii():
        yield from (text[i : i + width] for i in range(0, len(text), width))
    else:
        start = used = 0
        for i, character in enumerate(text):
            size = get_character_cell_size(character)
            if used + size > width:
                yield text[start:i]
                start, used = i, 0
            used += size
        if start < len(text):
            yield text[start:]
    if not text:
        yield ""


def shorten(text: str, width: int) -> str:
    """Leave out the middle of a text that is longer than `width`."""
    if len(text) <= width:
        return text
    if width < 5:
        return text[:width]
    keep = width - 2
    return f"{text[: keep // 2]}..{text[len(text) - (keep - keep // 2) :]}"
