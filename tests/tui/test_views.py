"""Summary, Registers, Segments, Symbols and Messages."""

import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

import kvmlib
from kvmtui.dialogs.goto import Target
from kvmtui.messages import ShowLine
from kvmtui.views.memory import MemoryView
from kvmtui.views.messages import MessageRows, MessagesView
from kvmtui.views.registers import RegistersView
from kvmtui.views.segments import SegmentsView
from kvmtui.views.summary import SummaryView, summary_rows
from kvmtui.views.symbols import SymbolsView
from kvmtui.widgets.lines import Lines
from tests.samples import forget_symbols
from tests.tui.hosting import hosted, press, screen, settle
from tests.tui.running import running, view, write

SIZES = [(80, 24), (120, 40), (40, 12)]
each_size = pytest.mark.parametrize("size", SIZES)


def solid(text: str) -> str:
    """Leave out blanks: rows are broken where the screen ends."""
    return "".join(text.split())


def truncated(image: Path, keep: int) -> Path:
    """Cut an image off `keep` bytes behind its header's memory begin."""
    with kvmlib.open(image) as kd:
        assert kd.dump_off is not None
        size = kd.dump_off + keep
    image.write_bytes(image.read_bytes()[:size])
    return image


# -- Summary ---------------------------------------------------------------------------------------------------------


@each_size
async def test_summary_has_every_fact_the_stack_and_the_last_messages(image: Path, size: tuple[int, int]) -> None:
    with kvmlib.open(image) as kd:
        summary, stack, messages = kvmlib.summary(kd), kvmlib.stack(kd), kvmlib.messages(kd)
        async with hosted(SummaryView(kd), size) as pilot:
            rows = pilot.app.query_one(SummaryView).list
            text = solid(rows.text)
            assert all(len(line) <= size[0] for line in rows.text.split("\n"))
    if size[0] < 100:
        # Where the sources stand between the rows of a long fact, it isn't in one piece.
        assert all(solid(f.label + f.text) in text for f in summary.facts)
    assert all(solid(f.label) in text for f in summary.facts)
    assert stack.panicked is not None
    assert stack.panicked.where in text
    assert all(solid(line) in text for line in messages.text.rstrip("\n").split("\n")[-12:])


async def test_summary_says_where_each_line_was_found(image: Path) -> None:
    with kvmlib.open(image) as kd:
        # Why it is this machine comes last: it is long.
        facts = sorted(kvmlib.summary(kd).facts, key=lambda f: f.label == "MACHINE")
        shown = SummaryView(kd)
        async with hosted(shown) as pilot:
            for fact in facts:
                detail = shown.query_one("#summary-detail", Lines).text
                assert detail.startswith(f"from {fact.source}")
                place = f"Enter goes to {fact.va:#x}" if fact.va is not None else ""
                assert detail.endswith("Enter shows it there" if fact.line is not None else place)
                await pilot.press("down")
                await pilot.pause()


async def test_summary_in_a_wide_terminal_has_the_source_beside_each_line(image: Path) -> None:
    async with running(image, (120, 40)) as pilot:
        line = next(line for line in screen(pilot) if line.startswith("PANIC"))
        assert line.endswith("symbol panicstr")


async def test_enter_in_summary_shows_its_place_in_memory(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "enter")
        assert screen(pilot)[-1] == "this line has no address to show in Memory"
        rows = view(pilot, SummaryView).list
        where = next(i for i in range(len(rows.rows)) if rows.rows.line(i)[0][0].startswith("PANIC"))
        rows.move_to(where)
        await press(pilot, "enter")
        memory = view(pilot, MemoryView)
        panic = next(f for f in kvmlib.summary(memory.kd).facts if f.label == "PANIC")
        assert memory.hex.cursor == panic.va


async def enter(pilot: Pilot[None], label: str) -> kvmlib.Fact:
    """Press Enter on a line of the summary; return what it is about."""
    await press(pilot, "1")
    shown = view(pilot, SummaryView)
    rows = shown.list
    rows.move_to(next(i for i in range(len(rows.rows)) if rows.rows.line(i)[0][0].startswith(label)))
    await press(pilot, "enter")
    return next(f for f in kvmlib.summary(shown.kd).facts if f.label == label)


def cursor_row(pilot: Pilot[None]) -> str:
    rows = view(pilot, MessagesView).list
    return "".join(text for text, _ in rows.rows.line(rows.cursor))


async def test_enter_in_summary_without_symbols_shows_the_message_or_physical_memory(image: Path) -> None:
    alone = image.with_name("alone.img")
    forget_symbols(Path(shutil.copy(image, alone)))
    async with running(alone) as pilot:
        # Messages was not looked at yet, then it was.
        panic = await enter(pilot, "PANIC")
        assert cursor_row(pilot) == f"panic: {panic.text}"
        await enter(pilot, "PHYSMEM")
        assert cursor_row(pilot).startswith("real mem = ")
        await enter(pilot, "DDB")
        assert cursor_row(pilot) == "ddb> show panic"
        kernel = await enter(pilot, "KERNEL")
        memory = view(pilot, MemoryView)
        assert memory.here == Target(kernel.pa or 0, True)
        await press(pilot, "1")
        rows = view(pilot, SummaryView).list
        rows.move_to(len(rows.rows) - 4)
        line = rows.rows.line(rows.cursor)[0][0]
        await press(pilot, "enter")
        assert cursor_row(pilot) == line == "ddb> boot crash"


async def test_a_line_of_messages_that_are_not_there(image: Path) -> None:
    alone = image.with_name("alone.img")
    shutil.copy(truncated(image, 0x1000), alone)
    async with running(alone) as pilot:
        view(pilot, SummaryView).post_message(ShowLine(3))
        await settle(pilot)
        assert "No messages: " in screen(pilot)[2]


async def test_summary_of_a_cut_off_dump_says_so_in_words_and_in_the_title(image: Path) -> None:
    async with running(truncated(image, 0x100000)) as pilot:
        assert screen(pilot)[0].endswith("[truncated]")
        text = view(pilot, SummaryView).list.text
        assert "truncated" in text
        complete = next(line for line in text.split("\n") if line.startswith("COMPLETE"))
        assert complete.split()[1].startswith("no")


async def test_summary_without_symbols_is_still_a_summary(image: Path) -> None:
    alone = image.with_name("alone.img")
    forget_symbols(Path(shutil.copy(image, alone)))
    async with running(alone) as pilot:
        text = view(pilot, SummaryView).list.text
        assert "OpenBSD" in text
        assert "not in name list" in text or "no kernel file" in text


async def test_summary_rows_never_lose_a_word(image: Path) -> None:
    from kvmtui.views.summary import read_story

    with kvmlib.open(image) as kd:
        story = read_story(kd)
    whole = solid("".join(t for line, _ in summary_rows(story, 99) for t, _ in line))
    for width in (20, 30, 60, 80):
        narrow = solid("".join(t for line, _ in summary_rows(story, width) for t, _ in line))
        # Only labels may be shortened, and only when they must.
        assert len(narrow) >= len(whole) - 20, width


# -- Registers -------------------------------------------------------------------------------------------------------


@each_size
async def test_registers_are_all_there_decoded(image: Path, size: tuple[int, int]) -> None:
    with kvmlib.open(image) as kd:
        async with hosted(RegistersView(kd), size) as pilot:
            rows = pilot.app.query_one(RegistersView).list
            text = solid(rows.text)
            assert all(len(line) <= size[0] for line in rows.text.split("\n"))
        for r in kd.registers:
            assert solid(f"{r.name}{r.value:#018x}{r.decoded}") in text
        for r in kvmlib.panic_registers(kd):
            assert f"{r.name}{r.value:#018x}" in text
        at = text.index(solid("At the trap that entered ddb (ddb_regs)"))
        for r in kvmlib.trap_registers(kd):
            assert f"{r.name}{r.value:#018x}" in text[at:]
        stack = kvmlib.stack(kd)
        for number, frame in enumerate(stack.frames):
            assert solid(f"#{number}{frame.pc:#018x}{frame.where}") in text
        assert stack.panicked is not None
        assert f"{solid(stack.panicked.where)}<-calledpanic" in text
        assert text.count("<-calledpanic") == 1


async def test_enter_on_a_register_goes_where_it_points(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "3")
        registers = view(pilot, RegistersView)
        kd = registers.kd
        root = kd.registers[0]
        await press(pilot, "enter")
        # The page-table root is a physical address: no va is mapped at its number.
        memory = view(pilot, MemoryView)
        assert memory.here == Target(root.value, True)
        for register in kvmlib.panic_registers(kd):
            await press(pilot, "3")
            names = [registers.list.rows.line(i)[0][0].strip() for i in range(len(registers.list.rows))]
            registers.list.move_to(names.index(register.name))
            await press(pilot, "enter")
            if register.value:
                assert memory.here == Target(register.value), register
        assert {r.name for r in kvmlib.panic_registers(kd)} > {"pc"}


async def test_register_that_points_nowhere_says_so(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = [kvmlib.Register("rbx", 0x123456789ABC, 64, "for the test")]
    monkeypatch.setattr(kvmlib, "panic_registers", lambda kd: nowhere)
    async with running(image) as pilot:
        await press(pilot, "3")
        registers = view(pilot, RegistersView)
        names = [registers.list.rows.line(i)[0][0].strip() for i in range(len(registers.list.rows))]
        registers.list.move_to(names.index("rbx"))
        await press(pilot, "enter")
        assert registers.display
        # To its end: it takes two rows.
        assert screen(pilot)[-2].startswith("! ")
        assert "0x123456789abc" in screen(pilot)[-2]
        assert screen(pilot)[-1].endswith(" is 0x0")


async def test_registers_from_ddb_only(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("netbsd/aarch64", tmp_path)
    with kvmlib.open(sample.image) as kd:
        async with hosted(RegistersView(kd)) as pilot:
            text = solid(pilot.app.query_one(RegistersView).list.text)
    assert solid("netbsd/aarch64 saves no registers in its dumps") in text
    assert solid("from ddb_regs on, the registers at the trap that entered ddb") in text
    assert solid(sample.frames[0].where) in text


async def test_registers_where_ddb_was_not_entered(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("netbsd/i386", tmp_path)
    with kvmlib.open(sample.image) as kd:
        async with hosted(RegistersView(kd)) as pilot:
            text = solid(pilot.app.query_one(RegistersView).list.text)
    assert solid("ddb_regs holds nothing but zeros: ddb was not entered") in text
    assert solid("from ddb_regs on") not in text


async def test_registers_without_symbols_say_why(image: Path) -> None:
    alone = image.with_name("alone.img")
    forget_symbols(Path(shutil.copy(image, alone)))
    with kvmlib.open(alone) as kd:
        with pytest.raises(kvmlib.KvmError) as e:
            kvmlib.stack(kd)
        async with hosted(RegistersView(kd)) as pilot:
            assert solid(str(e.value)) in solid(pilot.app.query_one(RegistersView).list.text)


# -- Segments --------------------------------------------------------------------------------------------------------


@each_size
async def test_segments_as_a_table_and_to_scale(image: Path, size: tuple[int, int]) -> None:
    with kvmlib.open(image) as kd:
        async with hosted(SegmentsView(kd), size) as pilot:
            rows = pilot.app.query_one(SegmentsView).list
            text = rows.text
            assert all(f"{s.start:#x}"[2:] in line for s, line in zip(kd.segments, text.split("\n"), strict=True))
            assert all(line.endswith("all") for line in text.split("\n"))
            assert "4 segments, 6.8 MiB of RAM, all of it" in screen(pilot)[1]
            assert any("+...." in line for line in screen(pilot))


@each_size
async def test_missing_memory_is_seen_without_colour(image: Path, size: tuple[int, int]) -> None:
    with kvmlib.open(truncated(image, 0x200000)) as kd:
        assert [s.present == s.size for s in kd.segments] == [True, True, False, False]
        async with hosted(SegmentsView(kd), size) as pilot:
            lines = pilot.app.query_one(SegmentsView).list.text.split("\n")
            assert [line.split()[-1] for line in lines] == ["all", "all", "KiB", "NOTHING"]
            assert "only" in lines[2]
            missing = sum(s.size - s.present for s in kd.segments)
            total = pilot.app.query_one("#segments-total", Lines).text
            assert total.endswith(f"{missing / (1 << 20):.1f} MiB missing")
            assert "!" in pilot.app.query_one("#segments-picture", Lines).text


async def test_enter_on_a_segment_shows_its_first_byte_physically(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "4", "down", "down")
        segments = view(pilot, SegmentsView)
        wanted = segments.kd.segments[2]
        assert f"pa {wanted.start:#x} at file offset {wanted.offset:#x}" in screen(pilot)[-2]
        await press(pilot, "enter")
        memory = view(pilot, MemoryView)
        assert memory.physical
        assert memory.hex.cursor == wanted.start


async def test_a_hundred_thousand_segments(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [kvmlib.Segment(i << 13, 4096, 512 + (i << 12), 4096) for i in range(100_000)]
    monkeypatch.setattr(kvmlib.Kvm, "ram", many)
    made: list[int] = []
    from kvmtui.views.segments import SegmentRows

    real = SegmentRows.line

    def line(self: SegmentRows, number: int) -> object:
        made.append(number)
        return real(self, number)

    monkeypatch.setattr(SegmentRows, "line", line)
    with kvmlib.open(image) as kd:
        async with hosted(SegmentsView(kd)) as pilot:
            assert "100,000 segments" in screen(pilot)[1]
            await pilot.press("end")
            await settle(pilot)
            assert "99999  0x30d3e000" in "\n".join(screen(pilot))
            # Only what was on the screen was ever made.
            assert len(set(made)) < 100


async def test_segments_of_a_system_that_lists_none(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("openbsd/i386", tmp_path)
    with kvmlib.Kvm(sample.image) as kd:
        kd.dump_mkheader(sample.dump_off)
        async with hosted(SegmentsView(kd)) as pilot:
            assert screen(pilot)[1].startswith("no list of segments: one run from pa 0 on")


# -- Symbols ---------------------------------------------------------------------------------------------------------


@each_size
async def test_symbols_are_filtered_as_one_types(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        await press(pilot, "6")
        symbols = view(pilot, SymbolsView)
        kd = symbols.kd
        assert len(symbols.list.rows) == len(kd.symbols)
        await press(pilot, "slash")
        for typed in ("p", "pa", "pan", "panics"):
            await write(pilot, typed[-1] if typed != "panics" else "ics")
            wanted = kd.symbols.match(typed)
            assert [symbols.list.rows.line(i)[1][0] for i in range(len(symbols.list.rows))] == [s.name for s in wanted]
        # The digits that choose a view are text here, and again keys behind Escape.
        await write(pilot, "1")
        assert "No symbol has such a name" in "\n".join(screen(pilot))
        await press(pilot, "backspace", "escape", "7")
        view(pilot, MessagesView)


async def test_enter_in_the_filter_shows_the_chosen_symbol_in_memory(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "6", "slash")
        await write(pilot, "panic")
        symbols = view(pilot, SymbolsView)
        wanted = symbols.kd.symbols.match("panic")[1]
        await press(pilot, "down", "enter")
        assert view(pilot, MemoryView).hex.cursor == wanted.value


async def test_pattern_with_wildcards(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "6", "slash")
        await write(pilot, "ffs_*.panic")
        symbols = view(pilot, SymbolsView)
        names = [symbols.list.rows.line(i)[1][0] for i in range(len(symbols.list.rows))]
        assert names
        assert all(n.startswith("ffs_") and n.endswith(".panic") for n in names)


async def test_no_symbols_says_how_to_get_some(image: Path) -> None:
    alone = image.with_name("alone.img")
    forget_symbols(Path(shutil.copy(image, alone)))
    async with running(alone) as pilot:
        await press(pilot, "6")
        text = solid("\n".join(screen(pilot)))
        assert "Nosymbols:" in text
        assert "kvmtui-NsystemDUMP" in text


# -- Messages --------------------------------------------------------------------------------------------------------


@each_size
async def test_messages_begin_at_their_end_and_are_all_there(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        await press(pilot, "7")
        messages = view(pilot, MessagesView)
        text = kvmlib.messages(messages.kd).text
        assert solid(messages.list.text) == solid(text)
        assert all(len(line) < size[0] for line in messages.list.text.split("\n"))
        assert messages.list.cursor == len(messages.list.rows) - 1
        # What stands below the rows takes two of them in 40 columns.
        assert text.rstrip().split("\n")[-1] in screen(pilot)[-4 if size[0] == 40 else -3]


async def search_for(pilot: Pilot[None], text: str) -> MessagesView:
    await press(pilot, "7", "slash")
    await write(pilot, text)
    return view(pilot, MessagesView)


async def test_search_marks_matches_and_goes_round(image: Path) -> None:
    async with running(image) as pilot:
        messages = await search_for(pilot, "PANIC")
        rows = messages.list.rows
        assert isinstance(rows, MessageRows)
        assert len(rows.found) >= 3
        assert messages.list.cursor == rows.found[0]
        matched = [text for i in rows.found for text, role in rows.line(i) if role == "match"]
        assert {m.lower() for m in matched} == {"panic"}
        await press(pilot, "enter")
        seen = []
        for _ in rows.found:
            await press(pilot, "n")
            seen.append(messages.list.cursor)
        assert seen == [*rows.found[1:], rows.found[0]]
        assert "went round" in screen(pilot)[-1]
        await press(pilot, "N")
        assert messages.list.cursor == rows.found[-1]
        assert f"match{'' if len(rows.found) == 1 else 'es'}" in messages.query_one("#messages-detail", Lines).text


async def test_search_that_finds_nothing_says_so(image: Path) -> None:
    async with running(image) as pilot:
        await search_for(pilot, "xyzzy")
        await press(pilot, "enter")
        assert screen(pilot)[-1] == "! nothing matches xyzzy"
        await press(pilot, "N")
        assert screen(pilot)[-1] == "! nothing matches xyzzy"


def test_long_lines_go_on_in_the_next_row_and_matches_cross_it() -> None:
    rows = MessageRows("0123456789abcdef\nshort", 10, "89AB")
    assert rows.rows == ["0123456789", "abcdef", "short"]
    assert rows.line(0) == [("01234567", ""), ("89", "match"), ("", "")]
    assert rows.line(1) == [("", ""), ("ab", "match"), ("cdef", "")]
    assert rows.found == [0]


def test_text_of_messages_is_never_markup_nor_escapes() -> None:
    rows = MessageRows("[bold]x[/bold]\x1b[31m", 80, "")
    assert rows.rows == [r"[bold]x[/bold]\x1b[31m"]


async def test_no_messages_says_why(image: Path) -> None:
    alone = image.with_name("alone.img")
    shutil.copy(truncated(image, 0x1000), alone)
    async with running(alone) as pilot:
        await press(pilot, "7")
        assert "No messages: " in screen(pilot)[2]
