"""What every test may ask for."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
