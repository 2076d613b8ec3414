"""One table of actions: the keys, the footer, the help and the palette agree with it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.command import CommandPalette
from textual.keys import key_to_character

from kvmtui.actions import ACTIONS, Action, actions_for, bindings_for, reachable
from kvmtui.app import KvmtuiApp
from kvmtui.dialogs.help import HelpDialog
from kvmtui.dialogs.palette import ActionProvider, command_name
from kvmtui.screen import VIEWS, DumpScreen
from kvmtui.views.chooser import ChooserScreen
from kvmtui.views.finding import FindScreen
from kvmtui.views.waiting import WaitingScreen
from kvmtui.widgets.walk import WalkPane
from tests.tui.hosting import press, screen
from tests.tui.running import dump_screen, running

VIEW_IDS = [v.view_id for v in VIEWS]
PLACES = {
    "app": KvmtuiApp,
    "dump": DumpScreen,
    "chooser": ChooserScreen,
    "find": FindScreen,
    "waiting": WaitingScreen,
    "walk": WalkPane,
    "lesson": DumpScreen,
}
OWNERS: Mapping[str, type] = PLACES | {v.view_id: v for v in VIEWS}


def test_there_are_seven_views_in_the_order_of_their_keys() -> None:
    ids = [a.id for a in ACTIONS if a.id.startswith("view(")]
    assert ids == [f"view('{view_id}')" for view_id in VIEW_IDS]
    assert [a.key for a in ACTIONS if a.id in ids] == list("1234567")


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: f"{a.where}-{a.id}")
def test_an_action_is_a_method_of_what_it_belongs_to(action: Action) -> None:
    name = action.id.partition("(")[0]
    assert callable(getattr(OWNERS[action.where], f"action_{name}", None))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: f"{a.where}-{a.id}")
def test_every_action_has_a_plain_key_and_words_for_it(action: Action) -> None:
    plain = {"question_mark", "slash", "colon", "left_square_bracket", "right_square_bracket"}
    # Opening is what Enter is for in a list to choose from; it is no shortcut that a terminal might swallow.
    assert any(len(key) == 1 or key in plain for key in action.keys) or action.id == "open"
    assert action.label
    assert action.help.endswith((".", "..."))


@pytest.mark.parametrize("where", OWNERS)
def test_keys_are_bound_from_the_table_and_nowhere_else(where: str) -> None:
    bound = {b for b in OWNERS[where].__dict__["BINDINGS"] if isinstance(b, Binding)}
    # The lesson is given on the dump's screen.
    here = [*bindings_for(where), *(bindings_for({"dump": "lesson", "lesson": "dump"}.get(where, "")))]
    extra = {b for b in bound if b not in here}
    assert bound >= set(bindings_for(where))
    # ctrl+q is Textual's own; it must ask as q does.
    moves = {"up,left,k,h", "down,right,j,l", "home,less_than_sign", "end,greater_than_sign"}
    assert {b.key for b in extra} <= ({"ctrl+q"} if where != "walk" else moves)


@pytest.mark.parametrize("view_id", VIEW_IDS)
def test_no_key_means_two_things_in_one_place(view_id: str) -> None:
    keys = Counter(key for place in (view_id, "dump", "app") for a in actions_for(place) for key in a.keys)
    assert [key for key, n in keys.items() if n > 1] == []


@pytest.mark.parametrize(("number", "view_id"), list(enumerate(VIEW_IDS, 1)))
async def test_footer_names_the_keys_of_the_view(image: Path, number: int, view_id: str) -> None:
    async with running(image, (120, 40)) as pilot:
        await press(pilot, str(number))
        footer = screen(pilot)[-1]
        for action in reachable(view_id, "dump", "app"):
            shown = f" {action.shown_key} {action.label} " in f"{footer} "
            assert shown == action.show_in_footer, action


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 8)])
async def test_footer_always_names_help_and_quit(image: Path, size: tuple[int, int]) -> None:
    async with running(image, size) as pilot:
        for number in "1234567":
            await press(pilot, number)
            assert screen(pilot)[-1].endswith("? Help  q Quit"), number


@pytest.mark.parametrize(("number", "view_id"), list(enumerate(VIEW_IDS, 1)))
async def test_help_explains_the_view_and_lists_every_key(image: Path, number: int, view_id: str) -> None:
    async with running(image) as pilot:
        await press(pilot, str(number), "question_mark")
        dialog = pilot.app.screen
        assert isinstance(dialog, HelpDialog)
        lines = ["".join(text for text, _ in line) for line in dialog.lines(200)]
        text = "\n".join(lines)
        view = dump_screen(pilot).view
        assert view.title in screen(pilot)[0]
        for paragraph in view.help_text.split("\n"):
            assert paragraph.strip()[:60] in text
        for action in (*actions_for(view_id), *actions_for("dump"), *actions_for("app")):
            assert any(line.startswith(action.shown_keys) and line.endswith(action.help) for line in lines), action
        await press(pilot, "escape")
        assert pilot.app.screen is dump_screen(pilot)


@pytest.mark.parametrize(("number", "view_id"), list(enumerate(VIEW_IDS, 1)))
async def test_palette_offers_what_can_be_done_here(image: Path, number: int, view_id: str) -> None:
    async with running(image) as pilot:
        await press(pilot, str(number))
        provider = ActionProvider(pilot.app.screen)
        names = [str(hit.prompt) async for hit in provider.discover()]
        assert names == [command_name(a) for a in reachable(view_id, "dump", "app") if a.id != "palette"]
        assert all(": " in name for name in names)
        found = [hit.text async for hit in provider.search("quit")]
        assert found[0] == "kvmtui: Quit"


async def test_palette_does_what_is_chosen_and_its_cursor_does_not_blink(image: Path) -> None:
    async with running(image) as pilot:
        await press(pilot, "ctrl+p")
        assert isinstance(pilot.app.screen, CommandPalette)
        assert not pilot.app.screen.query_one("Input").cursor_blink  # type: ignore[attr-defined]
        await press(pilot, *"segments", "enter")
        assert dump_screen(pilot).current == "segments"
        await press(pilot, "5", "colon", *"walk", "enter")
        assert dump_screen(pilot).view.has_class("-walk")


def test_every_action_has_a_plain_key_and_none_needs_what_a_line_may_eat() -> None:
    """A serial line may have no arrows, no function keys; ctrl-S and ctrl-Q hold and release it."""
    for action in ACTIONS:
        characters = [key_to_character(key) for key in action.keys]
        assert any(c and c.isprintable() for c in characters), action
        assert not {"ctrl+s", "ctrl+q"} & set(action.keys)
