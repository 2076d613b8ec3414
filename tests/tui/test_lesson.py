"""The lesson: for every machine, each step fits, can be done, and sees that it was done; one key leaves it."""

from pathlib import Path

import pytest
from textual.pilot import Pilot

import kvmlib
from kvmtui.__main__ import parser
from kvmtui.app import KvmtuiApp
from kvmtui.lesson import Lesson, Scene
from kvmtui.opening import Opening, Request, Samples
from kvmtui.screen import DumpScreen
from kvmtui.terminal import Look
from kvmtui.views.chooser import ChooserScreen
from kvmtui.views.header import HeaderView
from kvmtui.views.lessonstrip import LessonStrip, step_lines
from tests.tui.hosting import digest, press, screen, settle
from tests.tui.running import dump_screen, names, running, view, write

#: One for each way to translate, and those that can't.
MACHINES = ("openbsd/amd64", "openbsd/i386", "netbsd/sparc64", "netbsd/arm", "openbsd/m88k", "netbsd/vax")


def strip(pilot: Pilot[None]) -> LessonStrip:
    found = dump_screen(pilot).lesson
    assert found is not None
    return found


def done(pilot: Pilot[None]) -> bool:
    """Look now, without waiting for the strip's own clock."""
    strip(pilot).look()
    return strip(pilot).done


async def save(pilot: Pilot[None]) -> None:
    """Save as the step says; there may be a warning, and then Save isn't focused."""
    await press(pilot, "s", "enter")
    while pilot.app.screen.query_one("#save") is not pilot.app.screen.focused:
        await press(pilot, "left")
    await press(pilot, "enter")
    await settle(pilot)
    await press(pilot, "enter")


async def teach(samples: Samples, machine: str, look: Look | None = None) -> KvmtuiApp:
    opening = Opening(Request(sample=machine, lesson=True), samples)
    assert opening.wait(60)
    return KvmtuiApp(opening, samples, look)


@pytest.mark.parametrize("name", kvmlib.sample_names())
def test_every_machine_has_its_lesson(name: str, tmp_path: Path) -> None:
    sample = kvmlib.make_sample(name, tmp_path)
    with kvmlib.open(sample.image) as kd:
        steps = Lesson(kd).steps
        assert kd.machine is not None
        titles = [s.title for s in steps]
        assert titles[0] == "a dump"
        assert titles[-1] == "the end"
        assert {"the first four bytes", "two forms", "memory", "save", "invalidate"} <= set(titles)
        text = " ".join(s.text for s in steps)
        assert kd.machine.name in text
        assert f"{kd.machine.byteorder}-endian" in text
        assert kd.machine.system.kernel_name + ".0.core" in text
        for i, step in enumerate(steps):
            for width in (39, 80, 120):
                lines = ["".join(part for part, _ in line) for line in step_lines(step, i, len(steps), True, width)]
                assert max(map(len, lines)) <= width
                if width == 80:
                    assert len(lines) <= 6, "the view beside it needs the rest of 24 rows"
            assert step.done is None or not step.done(Scene()), "nothing is done before it is done"


@pytest.mark.parametrize("look", [Look(), Look(ascii=True, colour=False)])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_whole_lesson(size: tuple[int, int], look: Look, made: kvmlib.Sample) -> None:
    samples = Samples()
    try:
        app = await teach(samples, "openbsd/amd64", look)
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await settle(pilot)
            lesson = strip(pilot)
            kd = dump_screen(pilot).kd
            folder = Path(kd.path).parent
            keys: dict[str, tuple[str, ...]] = {
                "a dump": (),
                "where it lies": ("2",),
                "the first four bytes": ("down",),
                "the machine's own order": ("down",),
                "what only this machine has": ("down", "down"),
                "which memory": ("4",),
                "two forms": ("2", "v"),
                "memory": ("g", *"version", "enter"),
                "a translation": ("w", "tab"),
                "by hand": ("end",),
                "and in the file": ("tab", "p"),
                "save": (),
                "invalidate": ("i", "y", "enter"),
                "the end": (),
            }
            assert [s.title for s in lesson._lesson.steps] == list(keys)
            for number, title in enumerate(keys, 1):
                shown = "\n".join(screen(pilot))
                assert f"Lesson {number}/{len(keys)}: {title}" in shown
                assert lesson.step.task in shown
                assert screen(pilot)[-1].startswith(" n Next step  b Step back")
                checked = lesson.step.done is not None
                assert not done(pilot) or title == "memory"
                await press(pilot, *keys[title])
                if title == "save":
                    await save(pilot)
                await settle(pilot)
                assert done(pilot) == checked, title
                if checked:
                    await settle(pilot)
                    assert "[x]" in "\n".join(screen(pilot))
                if title != "the end":
                    await press(pilot, "n")
            assert {"bsd.0.core", "bsd.0", "bounds", "info.0"} <= names(folder)
            assert any("undo" in name for name in names(folder))
            assert kd.dumpmag().state == "cleared"
            await press(pilot, "L")
            assert dump_screen(pilot).lesson is None
            assert "Lesson" not in "\n".join(screen(pilot))
    finally:
        samples.remove()
    assert not folder.exists(), "nothing stays behind"


@pytest.mark.parametrize("machine", MACHINES)
async def test_the_steps_can_be_done_on_other_machines(machine: str) -> None:
    samples = Samples()
    try:
        app = await teach(samples, machine)
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            await settle(pilot)
            lesson = strip(pilot)
            for step in lesson._lesson.steps:
                assert lesson.step is step
                if step.title in ("the first four bytes", "the machine's own order", "what only this machine has"):
                    await press(pilot, "2")
                    header = view(pilot, HeaderView)
                    for _ in range(header.fields.row_count):
                        if done(pilot):
                            break
                        await press(pilot, "down")
                elif step.title == "save":
                    await save(pilot)
                else:
                    for part in step.task.replace(";", ",").split(", "):
                        words = part.removeprefix("then ").removeprefix("press ").partition(":")[0]
                        for word in words.replace(" then ", " ").split():
                            if part.startswith("write"):
                                if word != "write":
                                    await write(pilot, word)
                            elif step.title == "by hand":
                                await press(pilot, "end")
                            elif step.done is not None and (len(word) == 1 or word in ("Tab", "Enter")):
                                await press(pilot, word.lower() if len(word) > 1 else word)
                await settle(pilot)
                assert done(pilot) == (step.done is not None), step.task
                await press(pilot, "n")
    finally:
        samples.remove()


async def test_back_and_keys_that_are_letters_where_one_writes(image: Path) -> None:
    samples = Samples()
    try:
        app = await teach(samples, "netbsd/i386")
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            await settle(pilot)
            lesson = strip(pilot)
            await press(pilot, "b")
            assert lesson.number == 0
            await press(pilot, "n", "n", "b")
            assert lesson.number == 1
            await press(pilot, "6", "slash")
            await write(pilot, "nb")
            assert lesson.number == 1
            assert "nb" in "\n".join(screen(pilot))
            await press(pilot, *["n"] * 3, "escape", *["n"] * 30)
            assert lesson.step.title == "the end"
    finally:
        samples.remove()


async def test_the_lesson_on_a_dump_of_ones_own_is_given_on_a_sample(image: Path) -> None:
    before = digest(image.parent)
    async with running(image) as pilot:
        own = dump_screen(pilot)
        await press(pilot, "2", "L")
        await settle(pilot)
        await settle(pilot)
        taught = pilot.app.screen
        assert isinstance(taught, DumpScreen)
        assert taught is not own
        assert taught.lesson is not None
        assert taught.kd.path != own.kd.path
        assert taught.kd.machine is own.kd.machine
        await press(pilot, "L")
        assert pilot.app.screen is own
        assert own.current == "header"
    assert digest(image.parent) == before


async def test_from_the_chooser_and_the_palette() -> None:
    async with running(None) as pilot:
        chooser = pilot.app.screen
        assert isinstance(chooser, ChooserScreen)
        await press(pilot, "end", "colon", *"lesson", "enter")
        await settle(pilot)
        await settle(pilot)
        taught = pilot.app.screen
        assert isinstance(taught, DumpScreen)
        assert taught.kd.machine is not None
        assert taught.kd.machine.name == "netbsd/vax"
        await press(pilot, "L")
        assert pilot.app.screen is chooser


def test_command_line() -> None:
    assert parser().parse_args(["--lesson"]).lesson == ""
    assert parser().parse_args(["--lesson", "netbsd/vax"]).lesson == "netbsd/vax"
    assert parser().parse_args([]).lesson is None
