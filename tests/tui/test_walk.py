"""The page walk as a lesson: step by step, the bits of the va, the named flags, and the way back."""

from pathlib import Path

import pytest

import kvmlib
from kvmtui.terminal import Look
from kvmtui.views.memory import MemoryView
from kvmtui.widgets.walk import WalkPane
from kvmtui.widgets.walklines import Stop, walk_lines, walk_stops
from tests.samples import sample_in, va_of
from tests.tui.hosting import hosted, press, screen
from tests.tui.running import running, view

#: A machine for each way to translate.
SAMPLES = (
    *("openbsd/amd64", "netbsd/i386-pae", "netbsd/arm", "netbsd/m68k", "netbsd/aarch64", "netbsd/riscv64-sv48"),
    *("netbsd/powerpc", "netbsd/sparc", "openbsd/sparc64", "openbsd/hppa", "openbsd/mips64", "netbsd/vax"),
)


def text_of(stop: Stop, lines: list[str]) -> str:
    return " ".join(" ".join(lines[stop.line : stop.line + stop.lines]).split())


@pytest.mark.parametrize("name", SAMPLES)
def test_each_step_at_length(name: str, tmp_path: Path) -> None:
    sample = sample_in(tmp_path, name)
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        for va in (va_of(sample, "version"), 0x1234, sample.symbols[-1].value, (1 << kd.translator.bits) - 1):
            steps = kd.walk(va)
            ended = steps[-1].outcome in ("page", "window")
            for width in (30, 79, 119):
                for at in range(len(steps) + ended):
                    lines, stops = walk_stops(kd, va, width, at)
                    texts = ["".join(text for text, _ in line) for line in lines]
                    assert max(map(len, texts)) <= width
                    assert len(stops) == len(steps) + ended
                    assert [i for i, t in enumerate(texts) if t.startswith("> ")] == [stops[at].line]
                    if at < len(steps) and width > 30:
                        told = text_of(stops[at], texts)
                        step = steps[at]
                        assert step.entry_pa is None or f"{step.entry_pa:#x}" in told
                        if step.bits:
                            bits = va >> step.shift & (1 << step.bits) - 1
                            assert f"[{bits:0{step.bits}b}]" in told or step.bits > 40
                        for bit, flag in zip(step.flag_bits, step.flags, strict=False):
                            assert f"bit {bit} {flag}" in told
                        if step.outcome not in ("page", "next", "window"):
                            assert "stops: " in told
            plain = ["".join(text for text, _ in line) for line in walk_lines(kd, va, 79)]
            assert not any(line.startswith("> ") for line in plain)


def test_flag_bits_are_the_bits_of_the_entry(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "openbsd/amd64")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        for step in kd.walk(va_of(sample, "version")):
            assert step.entry is not None
            assert len(step.flag_bits) == len(step.flags) > 0
            assert all(step.entry >> bit & 1 for bit in step.flag_bits)
            assert (0 in step.flag_bits) == ("P" in step.flags or "V" in step.flags)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 12)])
@pytest.mark.parametrize("colour", [True, False])
async def test_arrows_step_through_the_walk(image: Path, size: tuple[int, int], colour: bool) -> None:
    with kvmlib.open(image) as kd:
        view_ = MemoryView(kd)
        async with hosted(view_, size, colour=colour) as pilot:
            await press(pilot, "w", "tab")
            pane = view_.query_one(WalkPane)
            assert pane.has_focus
            assert view_.hex.size.height >= 3
            steps = kd.walk(view_.hex.cursor)
            for i, step in enumerate(steps):
                assert pane.at == i
                shown = "\n".join(screen(pilot))
                assert f"> {step.name}[{step.index}]" in shown
                bits = view_.hex.cursor >> step.shift & (1 << step.bits) - 1
                assert f"[{bits:0{step.bits}b}]" in (shown if size[0] >= 80 else pane.text)
                await press(pilot, "down" if i % 2 else "right")
            assert pane.stop is not None
            assert pane.stop.last
            assert f"> = pa {steps[-1].pa:#x}" in "\n".join(screen(pilot))
            await press(pilot, "down")
            assert pane.at == len(steps)
            await press(pilot, "left", "up")
            assert pane.at == len(steps) - 2
            await press(pilot, "tab")
            assert "> " not in pane.text.replace("-> ", "")


@pytest.mark.parametrize("height", [12, 16, 18, 20, 22, 24, 30])
async def test_the_end_is_seen_however_few_rows_there_are(tmp_path: Path, height: int) -> None:
    sample = sample_in(tmp_path, "netbsd/arm")
    with kvmlib.open(sample.image, system=sample.kernel) as kd:
        view_ = MemoryView(kd)
        async with hosted(view_, (80, height)) as pilot:
            await press(pilot, "w", "tab", "down", "down")
            pane = view_.query_one(WalkPane)
            assert pane.stop is not None
            assert pane.stop.last
            shown = "\n".join(screen(pilot))
            assert "> = pa " in shown
            assert pane.text.splitlines()[-1] in shown
            assert height < 20 or pane.max_scroll_y == 0, "it has all rows that the bytes don't need"
            assert view_.hex.size.height >= 3
            await press(pilot, "home")
            assert "> first-level table" in "\n".join(screen(pilot))


@pytest.mark.parametrize("look", [Look(), Look(colour=False)])
async def test_enter_opens_the_entry_and_back_returns(image: Path, look: Look) -> None:
    async with running(image, look=look) as pilot:
        await press(pilot, "5")
        memory = view(pilot, MemoryView)
        va = memory.hex.cursor
        step = memory.kd.walk(va)[1]
        await press(pilot, "w", "tab")
        assert "Enter Open table" in screen(pilot)[-1]
        await press(pilot, "down", "enter")
        assert memory.physical
        assert memory.hex.cursor == step.entry_pa
        assert memory.hex.has_focus
        assert "Enter Follow" in screen(pilot)[-1]
        await press(pilot, "backspace")
        assert (memory.here.physical, memory.here.address) == (False, va)


async def test_a_walk_that_fails_stops_there(image: Path) -> None:
    with kvmlib.open(image) as kd:
        view_ = MemoryView(kd)
        async with hosted(view_) as pilot:
            await press(pilot, "w", "tab")
            pane = view_.query_one(WalkPane)
            pane.show_va(0x1234)
            await press(pilot, "end")
            assert pane.stop is not None
            assert pane.stop.last
            assert "stops: va 0x1234 is not mapped" in " ".join(pane.text.split())
            assert "= pa" not in pane.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_from_a_physical_address_to_its_virtual_ones(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        await press(pilot, "5")
        memory = view(pilot, MemoryView)
        va, pa = memory.hex.cursor, memory.kd.kvatop(memory.hex.cursor)[0]
        await press(pilot, "w", "tab", "r")
        pane = memory.query_one(WalkPane)
        found = [va for va, _ in kvmlib.vas_of(memory.kd, pa)]
        assert va in found
        assert f"{len(found)} virtual addresses are mapped to pa {pa:#x}" in pane.text
        assert all(f"{m:#018x}  " in pane.text for m in found)
        assert pane.stop is not None
        assert pane.stop.target == found[0]
        await press(pilot, "end")
        assert pane.stop is not None
        target = pane.stop.target
        await press(pilot, "enter")
        assert memory.hex.cursor == target
        assert not memory.physical


async def test_a_physical_address_that_nothing_maps(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, "netbsd/i386")
    async with running(Path(sample.image)) as pilot:
        await press(pilot, "5", "w", "tab")
        pane = view(pilot, MemoryView).query_one(WalkPane)
        mapped = [(m.pa, m.pa + m.size) for m in pane.kd.mappings()]
        pa = next(
            a
            for s in pane.kd.segments
            for a in range(s.start, s.start + s.size, 4096)
            if not any(low <= a < high for low, high in mapped)
        )
        pane.show_va(None, pa)
        await press(pilot, "r")
        assert f"0 virtual addresses are mapped to pa {pa:#x}" in pane.text
