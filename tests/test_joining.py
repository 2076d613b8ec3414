"""Large pieces made of many: whatever the helper does, the bytes are those of the pieces."""

import random
import threading
from pathlib import Path

import pytest

from kvmlib import joining
from kvmlib.image import open_image

PAGE = 4096


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_LARGE", 64 * PAGE)
    monkeypatch.setattr(joining, "_STEP", 5 * PAGE + 1)


@pytest.mark.parametrize("endless", ["/dev/zero", "/dev/urandom", "/nowhere", __file__])
@pytest.mark.usefixtures("small_steps")
def test_the_pieces_are_whole_and_in_order(endless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_ENDLESS", endless)
    numbers = random.Random(1)
    data = numbers.randbytes(300 * PAGE)
    runs = [(numbers.randrange(len(data) - 3 * PAGE), numbers.randrange(3 * PAGE)) for _ in range(200)]
    wanted = b"".join(data[offset : offset + n] for offset, n in runs)
    assert len(wanted) > 64 * PAGE
    assert joining.joined(memoryview(data), runs) == wanted


@pytest.mark.usefixtures("small_steps")
def test_it_does_without_the_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    data = random.Random(4).randbytes(100 * PAGE)
    assert (
        joining.joined(memoryview(data), [(50 * PAGE, 50 * PAGE), (0, 50 * PAGE)])
        == data[50 * PAGE :] + data[: 50 * PAGE]
    )


def test_a_file_is_read_so(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(joining._LARGE + 3 * joining._STEP + 100)
    path = tmp_path / "image"
    path.write_bytes(data)
    image = open_image(path)
    runs = [(at, min(PAGE, len(data) - at)) for at in range(0, len(data), PAGE)]
    random.Random(3).shuffle(runs)
    assert image.gather(runs) == b"".join(data[at : at + n] for at, n in runs)
    image.close()
