"""Text from a dump and from paths in each view, dialog and state line: only printable cells reach the screen."""

from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from kvmtui.screen import VIEWS
from tests.hostile import EVIL, hostile_sample, unsafe
from tests.tui.hosting import press, screen
from tests.tui.running import running


def check(pilot: Pilot[None]) -> str:
    """Check what is on the screen now, and return it."""
    lines = screen(pilot)
    for line in lines:
        assert not unsafe(line, ""), line
        assert cell_len(line) <= pilot.app.size.width
    for strip in pilot.app.screen._compositor.render_strips():
        assert not any(segment.control for segment in strip)
    return "\n".join(lines)


@pytest.fixture(params=["openbsd/amd64", "netbsd/i386"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One has its kernel beside it, the other the symbols in its memory."""
    folder = tmp_path / EVIL.replace("/", "_")
    folder.mkdir()
    sample = hostile_sample(folder, request.param)
    if request.param.startswith("openbsd/"):
        return Path(sample.image)
    return Path(sample.image).rename(folder / f"{EVIL[:20]}.img")


async def test_every_view_and_dialog(image: Path) -> None:
    size = (80, 24) if "openbsd" in image.name else (40, 12)
    seen = ""
    async with running(image, size) as pilot:
        for number in range(1, len(VIEWS) + 1):
            await press(pilot, str(number))
            seen += check(pilot)
            for keys in (("down", "pagedown"), ("end",), ("enter",)):
                await press(pilot, *keys)
                seen += check(pilot)
        for key in ("question_mark", "g", "s", "i"):
            await press(pilot, "1", key)
            seen += check(pilot)
            if key != "question_mark":
                await press(pilot, "enter")
                seen += check(pilot)
            while len(pilot.app.screen_stack) > 2:
                await press(pilot, "escape")
        await press(pilot, "5", "w", "p", "2", "f", "tab")
        check(pilot)
        for key in ("h", "c"):
            await press(pilot, key)
            seen += check(pilot)
    assert "\\x1b" in seen
