"""The pictures in the documentation: python screenshots/make.py [NAME...].

Each is the application itself, run without a terminal on a sample dump, with the keys pressed that are named here. The
samples are made by rule, so a picture changes only when the application does. `svg2png.py` says which font it needs.
"""

import argparse
import asyncio
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from svg2png import FontMissingError, font_files, write_png
from textual.app import App
from textual.pilot import Pilot

FOLDER = Path(__file__).resolve().parent
SMALL, LARGE = (80, 24), (120, 40)


@dataclass(frozen=True)
class Shot:
    """One picture: what is pressed, on a sample of which machine, on a terminal of which size."""

    name: str
    keys: tuple[str, ...]
    size: tuple[int, int]
    machine: str = "openbsd/amd64"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}-{self.size[0]}x{self.size[1]}.png"


#: "g" asks where to go; then the name is typed.
MEMORY_AT_PANIC = ("g", *"panicstr", "enter")

SHOTS = [
    Shot("summary", ("1",), SMALL),
    Shot("summary", ("1",), LARGE),
    Shot("header", ("2",), SMALL),
    Shot("header-forms", ("2", "v"), LARGE),
    Shot("registers", ("3",), LARGE),
    Shot("segments", ("4",), SMALL),
    Shot("memory", (*MEMORY_AT_PANIC, "w"), SMALL),
    Shot("memory", (*MEMORY_AT_PANIC, "w"), LARGE),
    Shot("pointers", ("g", *"msgbufp", "enter", *"vvvv", "d"), LARGE),
    Shot("lesson", ("L", "n", "2", "n", "down"), SMALL),
    Shot("symbols", ("6",), SMALL),
    Shot("messages", ("7",), SMALL),
    Shot("invalidate", ("i",), SMALL, "netbsd/amd64"),
]


async def _quiet(pilot: Pilot[None]) -> None:
    """Wait until the application has nothing more to do."""
    app = pilot.app
    # A worker may start another when it ends.
    while any(not worker.is_finished for worker in app.workers):
        await app.workers.wait_for_complete()
        await pilot.pause()
    await pilot.pause()


async def shoot(app: App[None], keys: tuple[str, ...], size: tuple[int, int], path: Path) -> None:
    """Run an application, press keys, and write the picture of its screen."""
    async with app.run_test(size=size) as pilot:
        await _quiet(pilot)
        for key in keys:
            await pilot.press(key)
            await _quiet(pilot)
        write_png(app.export_screenshot(), path)


def take(shot: Shot) -> None:
    """Take one picture of kvmtui."""
    from kvmlib import make_sample
    from kvmtui.app import KvmtuiApp
    from kvmtui.opening import Opening, Request, Samples

    samples = Samples()
    # The Summary shows the path it was given. Relative to a folder of its own, that is the same for everyone.
    with TemporaryDirectory(prefix="kvmtui-screenshots-") as folder, chdir(folder):
        try:
            opening = Opening(Request(Path(make_sample(shot.machine, ".").image).name), samples)
            opening.wait(60)
            asyncio.run(asyncio.wait_for(shoot(KvmtuiApp(opening, samples), shot.keys, shot.size, shot.path), 120))
        finally:
            samples.remove()


def main() -> None:
    names = sorted({shot.name for shot in SHOTS})
    parser = argparse.ArgumentParser(description="Take the pictures in the documentation.")
    parser.add_argument("name", nargs="*", help=f"which: {', '.join(names)}; all when none is named")
    wanted = parser.parse_args().name or names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"no such picture: {', '.join(unknown)}")
    try:
        font_files()  # ask before the work, not after it
        for shot in SHOTS:
            if shot.name in wanted:
                take(shot)
                print(shot.path.name)
    except FontMissingError as error:
        sys.exit(f"make.py: {error}")
    except TimeoutError:
        sys.exit("make.py: The application was still busy after two minutes.")


if __name__ == "__main__":
    main()
