"""The Messages view on a dump without symbols, whose messages are found by searching memory."""

import shutil
from pathlib import Path

import kvmlib
from kvmtui.views.messages import MessageRows, MessagesView
from kvmtui.widgets.lines import Lines
from tests.samples import forget_symbols
from tests.tui.hosting import press
from tests.tui.running import running, view


def test_rows_at_which_boots_begin() -> None:
    first, second = "x" * 25 + "\n", "NetBSD 7.0 (GENERIC) #1: a\nb\n"
    rows = MessageRows(first + second + second.rstrip("\n"), 10, "")
    assert [rows.rows[i] for i in rows.boots] == ["x" * 10, "NetBSD 7.0", "NetBSD 7.0"]
    assert rows.boots == [0, 3, 7]
    assert MessageRows("", 10, "").boots == []


async def test_messages_without_symbols(image: Path) -> None:
    alone = image.with_name("alone.img")
    forget_symbols(Path(shutil.copy(image, alone)))
    with kvmlib.open(image) as kd:
        text = kvmlib.messages(kd).text
    async with running(alone) as pilot:
        await press(pilot, "7")
        messages = view(pilot, MessagesView)
        found = kvmlib.messages(messages.kd)
        assert (found.text, found.va) == (text, None)
        boots = len(kvmlib.boots(text))
        detail = messages.query_one("#messages-detail", Lines).text
        assert f", boot {boots} of {boots}; found by searching memory, at pa {found.pa:#x}" in detail
        item = messages.item(0)
        assert item is not None
        assert (item.va, item.physical) == (found.pa, True)
        assert f"boot 1 of {boots}" in item.detail
