"""What every test may ask for."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import kvmlib
from tests.dumps import Dump, make_dump

ROOT = Path(__file__).resolve().parent.parent

# The same examples each time: a red run must be red again when someone looks into it. No deadline: a busy machine is
# not a bug.
settings.register_profile("kvmtui", derandomize=True, deadline=None)
settings.load_profile("kvmtui")


def shared_dir() -> Path | None:
    """Find the folder with recorded answers (vectors/ and so on): KVMTUI_SHARED, else beside the repository."""
    named = os.environ.get("KVMTUI_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_dir()
    if folder is None:
        pytest.skip("needs the shared folder: beside the repository, or where KVMTUI_SHARED points")
    return folder


# -- what a save is about ----------------------------------------------------------------------------------------------


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    """A directory to save into."""
    folder = tmp_path / "crash"
    folder.mkdir()
    return folder


@pytest.fixture
def dump() -> Dump:
    """A small dump whose kernel crashed just now."""
    return make_dump("openbsd/amd64", time_second=int(time.time()))


@pytest.fixture
def kd(dump: Dump, tmp_path: Path) -> Iterator[kvmlib.Kvm]:
    with dump.open(tmp_path) as kd:
        yield kd
