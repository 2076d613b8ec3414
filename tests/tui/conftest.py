"""Sample dumps for the tests of the application."""

import shutil
from pathlib import Path

import pytest

import kvmlib


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> kvmlib.Sample:
    """A sample that nobody may change."""
    return kvmlib.make_sample("openbsd/amd64", tmp_path_factory.mktemp("sample"))


@pytest.fixture
def image(made: kvmlib.Sample, tmp_path: Path) -> Path:
    """A sample's image in a folder of its own, its kernel beside it."""
    folder = tmp_path / "dump"
    folder.mkdir()
    shutil.copy(made.kernel, folder / "sample.elf")
    return Path(shutil.copy(made.image, folder / "sample.img"))


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where undo records go: never into the home of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder
