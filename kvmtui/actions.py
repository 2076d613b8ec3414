"""Every action once: keys, footer, help and palette are all made from this table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.binding import Binding

#: How a key is written for a person, where Textual's name for it is another.
_SPELLING = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "enter": "Enter",
    "backspace": "Bksp",
    "escape": "Esc",
    "tab": "Tab",
    "full_stop": ".",
}


@dataclass(frozen=True, slots=True)
class Action:
    """Something a person can do.

    Attributes:
        id: the action as Textual runs it: `follow` is the method ``action_follow`` of what `where` names.
        key: Textual's names of its keys, separated by commas; the first is the one to show.
        label: one or two words, for the footer and the palette.
        help: one sentence, for the help.
        where: ``app`` (everywhere), ``dump`` (with a dump open), ``waiting``, ``chooser``, ``find``, or a view.
        show_in_footer: whether the footer names it.
    """

    id: str
    key: str
    label: str
    help: str
    where: str
    show_in_footer: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """Textual's names of the keys."""
        return tuple(self.key.split(","))

    @property
    def shown_key(self) -> str:
        """The first key, as a person writes it."""
        return spelled(self.keys[0])

    @property
    def shown_keys(self) -> str:
        """All keys, as a person writes them."""
        return " ".join(spelled(key) for key in self.keys)


def spelled(key: str) -> str:
    """Write a key as a person does."""
    return _SPELLING.get(key, key.replace("ctrl+", "^").upper() if key.startswith("ctrl+") else key)


ACTIONS: tuple[Action, ...] = (
    # -- with a dump open: the views
    Action("view('summary')", "1", "Summary", "What the dump is, its state, and what the kernel said.", "dump", False),
    Action("view('header')", "2", "Header", "Every byte of the header, and what it means.", "dump", False),
    Action(
        "view('registers')",
        "3",
        "Registers",
        "The registers in the header and at the panic, and the stack.",
        "dump",
        False,
    ),
    Action("view('segments')", "4", "Segments", "The runs of RAM in the dump, to scale.", "dump", False),
    Action("view('memory')", "5", "Memory", "The kernel's memory, byte by byte.", "dump", False),
    Action("view('symbols')", "6", "Symbols", "The kernel's symbols.", "dump", False),
    Action("view('messages')", "7", "Messages", "The kernel's message buffer.", "dump", False),
    # -- Memory
    Action("follow", "enter,o", "Follow", "Follow the pointer under the cursor.", "memory"),
    Action("back", "backspace,u", "Back", "Go back to where the last jump started.", "memory"),
    Action("walk", "w", "Walk", "Show or hide the page walk of the address under the cursor.", "memory"),
    Action("physical", "p", "Physical", "Switch between virtual and physical memory.", "memory"),
    Action(
        "previous_range",
        "left_square_bracket",
        "Previous range",
        "Go to the range of memory before this one.",
        "memory",
        False,
    ),
    Action(
        "next_range",
        "right_square_bracket",
        "Next range",
        "Go to the range of memory behind this one.",
        "memory",
        False,
    ),
    Action("search", "slash,f", "Search", "Search memory for bytes, text, a number, or pointers to a place.", "memory"),
    Action("next", "n", "Next", "Go to the next place that was found.", "memory", False),
    Action("previous", "N", "Previous", "Go to the place that was found before this one.", "memory", False),
    Action("results", "r", "Results", "Show or hide the list of what was found.", "memory", False),
    Action("stop", "escape,C", "Stop", "Cancel the search; when none runs, hide its list.", "memory", False),
    Action("aliases", "a", "Addresses", "List every virtual address that is mapped to this byte.", "memory", False),
    Action("mark", "m", "Bookmark", "Keep this place, with a note; or change the note.", "memory", False),
    Action(
        "bookmarks", "M", "Bookmarks", "List the bookmarks of this dump, to go to one or remove it.", "memory", False
    ),
    Action("history", "H", "History", "List where Back would lead, to go to one of these places.", "memory", False),
    Action("export", "e", "Export", "Write a range of memory to a file: raw, hex dump or C array.", "memory", False),
    Action("units", "v", "Units", "Take 1, 2, 4 or 8 bytes as a number, or as a pointer and say where to.", "memory"),
    Action("form", "x", "Hex/dec/char", "Spell numbers in hex, in decimal or as characters.", "memory", False),
    Action("byteorder", "O", "Byte order", "Take numbers in the other byte order than the dump's.", "memory", False),
    Action("fold", "z", "Fold", "Fold rows that are all alike to one, or show each of them.", "memory", False),
    Action(
        "inspect",
        "d",
        "Inspect",
        "Show or hide what the bytes at the cursor could be: integers, a date, a pointer, a string.",
        "memory",
        False,
    ),
    # -- the page walk below Memory
    Action("open", "enter,o", "Open table", "Show in Memory what the step reads; in the end, the byte.", "walk"),
    Action(
        "reverse",
        "r",
        "All addresses",
        "List every virtual address that is mapped to this byte.",
        "walk",
    ),
    # -- Header
    Action("form", "f", "Form", "Show the other form of the header: the device's or the saved core's.", "header"),
    Action("both", "v", "Both forms", "Show both forms side by side, with what differs lit, or only one.", "header"),
    Action("about", "enter,a", "All", "Show all that is known about the field, every byte of it.", "header"),
    Action("pane", "tab,t", "Fields/bytes", "Go from the fields to the bytes, or back.", "header"),
    Action("next", "n", "Next", "Go to the next warning; with both forms, to the next difference.", "header", False),
    Action("previous", "N", "Previous", "Go to the warning or difference before this one.", "header", False),
    # -- Summary, Registers, Segments, Symbols
    Action("jump", "enter,m", "Show", "Show in Memory or in Messages what this line is about.", "summary"),
    Action(
        "jump",
        "enter,m",
        "Show in Memory",
        "Show in Memory the address that this register or frame holds.",
        "registers",
    ),
    Action("jump", "enter,m", "Show in Memory", "Show in Memory the segment's first byte.", "segments"),
    Action("jump", "enter,m", "Show in Memory", "Show the symbol in Memory.", "symbols"),
    Action(
        "filter",
        "slash,f",
        "Filter",
        "Write a part of a name, or a pattern with * and ?; Escape leaves the field.",
        "symbols",
    ),
    # -- Messages
    Action("search", "slash,f", "Search", "Search the messages; upper and lower case are alike.", "messages"),
    Action("next", "n", "Next", "Go to the next match.", "messages"),
    Action("previous", "N", "Previous", "Go to the match before this one.", "messages"),
    # -- while a dump is opened
    Action(
        "cancel",
        "escape,c",
        "Cancel",
        "Open it no more: go back, or leave where there is nothing to go back to.",
        "waiting",
    ),
    # -- the chooser
    Action("open", "enter,o", "Open", "Open the dump, or make the sample and open it.", "chooser"),
    Action("path", "slash,p", "Path", "Write the path of a dump.", "chooser"),
    Action("headers", "D", "Headers", "List every dump header in the file under the cursor.", "chooser"),
    Action("lesson", "L", "Lesson", "Start the guided tour on the sample under the cursor.", "chooser"),
    Action("again", "r", "Look again", "Look again for dumps.", "chooser"),
    # -- the headers in an image
    Action("open", "enter,o", "Open", "Open the dump that this header belongs to.", "find"),
    Action("leave", "escape,c", "Back", "Go back to where a dump is chosen.", "find"),
    # -- with a dump open: what can be done with it
    Action("goto", "g", "Go to", "Go to an address, a symbol, a register, pa:... or off:...", "dump"),
    Action("save", "s", "Save", "Save the dump as savecore(8) does; asks where.", "dump"),
    Action("invalidate", "i", "Invalidate", "Clear dumpmag, so that the dump is not saved again; asks first.", "dump"),
    Action("headers", "D", "Headers", "Close this dump and list every header in its image.", "dump", False),
    Action("choose", "c", "Choose", "Close this dump and choose another.", "dump", False),
    Action("lesson", "L", "Lesson", "Start the guided tour on a sample of this machine, or leave it.", "dump", False),
    # -- in the lesson, before all other meanings of these keys
    Action("lesson_step(1)", "n", "Next step", "Go on with the lesson.", "lesson"),
    Action("lesson_step(-1)", "b", "Step back", "Go back to the lesson's step before this one.", "lesson"),
    # -- everywhere
    Action("help", "question_mark", "Help", "Explain where you are, and list the keys.", "app"),
    Action("palette", "ctrl+p,colon", "Palette", "Find an action by its name.", "app", False),
    Action("redraw", "R,ctrl+l", "Redraw", "Draw the screen anew, when something else wrote on it.", "app", False),
    Action("quit", "q", "Quit", "Leave.", "app"),
)

#: Keys that move, for the help; they belong to the widgets, and there is nothing to choose about them.
MOVES: tuple[tuple[str, str], ...] = (
    ("Up Down, k j", "one row"),
    ("PgUp PgDn, b Space", "one page"),
    ("Home End, < >", "to the first, to the last"),
)


def actions_for(where: str) -> tuple[Action, ...]:
    """Return the actions of one place, in the table's order."""
    return tuple(a for a in ACTIONS if a.where == where)


def bindings_for(where: str) -> list[Binding]:
    """Return the key bindings of one place."""
    # The lesson's keys come first, though other widgets are nearer: it is off most of the time, and then they are too.
    return [
        Binding(a.key, a.id, a.label, show=a.show_in_footer, priority=where == "lesson") for a in actions_for(where)
    ]


def reachable(*places: str) -> Iterator[Action]:
    """Yield the actions of several places, nearest first; an action whose key is taken by a nearer one is left out."""
    taken: set[str] = set()
    for where in places:
        for action in actions_for(where):
            if not taken.intersection(action.keys):
                yield action
        taken.update(key for a in actions_for(where) for key in a.keys)
