"""Several dumps in one image: all are listed with their reasons, and any can be opened."""

from pathlib import Path

import pytest

import kvmlib
from kvmtui.views.chooser import ChooserScreen
from kvmtui.views.finding import FindScreen
from tests.samples import sample_in
from tests.tui.hosting import SIZES, press, screen
from tests.tui.running import dump_screen, running, top


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An image with two dumps, one behind the other."""
    parts = [Path(sample_in(tmp_path, name).image) for name in ("openbsd/amd64", "netbsd/i386")]
    image = tmp_path / "two.img"
    image.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return image


@pytest.mark.parametrize("size", SIZES)
async def test_headers_are_listed_and_any_can_be_opened(two: Path, size: tuple[int, int]) -> None:
    found = kvmlib.find(two)
    assert {c.machine.name for c in found if c.score >= 60} == {"openbsd/amd64", "netbsd/i386"}
    async with running(two, size) as pilot:
        assert dump_screen(pilot).kd.machine == found[0].machine
        other = next(i for i, c in enumerate(found) if c.machine != found[0].machine)
        await press(pilot, "D")
        assert isinstance(top(pilot), FindScreen)
        text = "\n".join(screen(pilot))
        assert f"{found[0].offset:#x}  {found[0].machine.name}  score {found[0].score}" in text
        assert found[0].reasons[0][:20] in text
        await press(pilot, *["down"] * other, "enter")
        kd = dump_screen(pilot).kd
        assert kd.machine is not None
        assert kd.machine.name == found[other].machine.name
        assert kd.reading is not None
        assert kd.reading.headers.offset == found[other].offset
        await press(pilot, "D", "escape")
        assert isinstance(top(pilot), ChooserScreen)


async def test_headers_of_the_file_under_the_cursor(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two.parent)
    async with running(None) as pilot:
        await press(pilot, "D")
        assert isinstance(top(pilot), FindScreen)
        assert "two.img" in screen(pilot)[0]
        await press(pilot, "c", "end", "D")
        assert isinstance(top(pilot), ChooserScreen)
        assert "a sample has one header" in "\n".join(screen(pilot))


async def test_an_image_without_a_header_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zeros.img").write_bytes(b"\1" + bytes(4095))
    async with running(None) as pilot:
        await press(pilot, "D")
        assert "there is no dump header in it" in "\n".join(screen(pilot))
        await press(pilot, "enter")
        assert isinstance(top(pilot), FindScreen)
