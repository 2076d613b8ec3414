"""The manual pages say what the parsers, the keys and the library are; their examples run."""

import argparse
import inspect
import io
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import kvmlib
import kvmlib.__main__
import kvmtui.__main__
from kvmtui.actions import ACTIONS
from tests.conftest import ROOT

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "kvmlib/man").iterdir())}
#: In the order in which mdoc(7) wants them.
SECTIONS = {
    "kvmtui.1": "NAME, SYNOPSIS, DESCRIPTION, KEYS, ENVIRONMENT, FILES, EXIT STATUS, EXAMPLES, SEE ALSO, CAVEATS",
    "kvmdump.1": "NAME, SYNOPSIS, DESCRIPTION, ENVIRONMENT, FILES, EXIT STATUS, EXAMPLES, SEE ALSO, CAVEATS",
    "kvmlib.3": (
        "NAME, LIBRARY, SYNOPSIS, DESCRIPTION, RETURN VALUES, ENVIRONMENT, EXAMPLES, ERRORS, SEE ALSO, STANDARDS"
    ),
}
#: Where each place's keys stand in kvmtui(1).
PLACES = {
    "app": "Everywhere",
    "dump": "With a dump open",
    "summary": "Summary",
    "header": "Header",
    "registers": "Registers",
    "segments": "Segments",
    "memory": "Memory",
    "walk": "The page walk",
    "symbols": "Symbols",
    "messages": "Messages",
    "waiting": "While a dump is opened",
    "chooser": "Where a dump is chosen",
    "find": "The list of headers",
    "lesson": "The lesson",
}


def test_the_pages_and_their_sections() -> None:
    assert set(PAGES) == set(SECTIONS)
    for name, text in PAGES.items():
        assert ", ".join(re.findall(r"^\.Sh (.*)$", text, re.MULTILINE)) == SECTIONS[name], name
        assert re.match(r"\.Dd [A-Z][a-z]+ \d+, \d{4}\n\.Dt [A-Z]+ [13]\n\.Os\n", text), name


def test_the_wheel_installs_them() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {f"kvmlib/man/{name}": f"share/man/man{name[-1]}/{name}" for name in PAGES}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc here")
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_nothing_to_say(name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", ROOT / "kvmlib/man" / name], check=False, stdout=subprocess.PIPE, text=True
    )
    # Which manuals there are is this host's business: few have BSD's.
    found = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert found == []


# -- what an mdoc page says -------------------------------------------------------------------------------------------


def section(name: str, title: str) -> str:
    """The text of a section of a page."""
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", PAGES[name], re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def plain(word: str) -> str:
    return word.removeprefix("\\&").replace('"', "")


def arguments(lines: str) -> tuple[set[str], list[str]]:
    """The options of a synopsis, each with the name of its value, and the names of what else there is."""
    options, others = set(), []
    for line in lines.splitlines():
        words = [w for w in line.lstrip(".").split() if w != "Op"]
        option, kind = "", ""
        for word in words:
            if word in ("Fl", "Ar", "Cm", "Nm"):
                kind = word
            elif kind == "Fl" and word not in ("|", ","):
                option = f"-{word}"
                options.add(option)
            elif kind == "Ar" and option:
                options.remove(option)
                options.add(f"{option} {word}")
                option = ""
            elif kind == "Ar" and word != "...":
                others.append(word)
    return options, others


def synopses(name: str) -> dict[str, tuple[set[str], list[str]]]:
    """The synopses of a page, by command; what needs none is under ''. More than one of a kind are as good as one."""
    found: dict[str, tuple[set[str], list[str]]] = {}
    for part in re.split(r"^\.Nm .*\n", section(name, "SYNOPSIS"), flags=re.MULTILINE)[1:]:
        command = re.match(r"\.Cm (\w+)\n", part)
        options, others = arguments(part)
        known = found.setdefault(command[1] if command else "", (set(), []))
        known[0].update(options)
        known[1].extend(others)
    return found


def lists(name: str) -> dict[str, set[str]]:
    """The options that the lists of a page explain, by command; '' has those that stand outside of all commands."""
    found: dict[str, set[str]] = {"": set()}
    depth, inside, command = 0, 0, ""
    for line in section(name, "DESCRIPTION").splitlines():
        if line.startswith(".Bl"):
            depth += 1
        elif line == ".El":
            depth -= 1
            command = command if depth >= inside else ""
        elif at := re.match(r"\.It Cm (\w+)", line):
            command, inside = at[1], depth
            found[command] = set()
        elif line.startswith(".It Fl"):
            found[command] |= arguments(line.removeprefix(".It "))[0]
    assert depth == 0
    return found


def parsed(parser: argparse.ArgumentParser) -> tuple[set[str], list[str]]:
    """The same of a parser, but for --help."""
    options, others = set(), []
    for action in parser._actions:
        value = "" if action.metavar is None else str(action.metavar).lower()
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        if action.option_strings:
            options |= {f"{o} {value}" if action.nargs != 0 else o for o in action.option_strings}
        else:
            others.append(value)
    return options, others


def commands() -> dict[str, argparse.ArgumentParser]:
    subparsers = next(a for a in kvmlib.__main__.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(subparsers.choices)


HELP = {"-h", "--help"}


def test_kvmdump_has_the_commands_and_options_of_its_page() -> None:
    page = synopses("kvmdump.1")
    assert page.pop("") == (parsed(kvmlib.__main__.parser())[0] | HELP, [])
    assert page == {name: parsed(parser) for name, parser in commands().items()}


def test_kvmdump_explains_every_option() -> None:
    page = lists("kvmdump.1")
    common = page.pop("")
    every = {name: parsed(parser)[0] for name, parser in commands().items()}
    assert page == {name: options - common for name, options in every.items()}
    assert common == {o for o in common for known in every.values() if o in known} | synopses("kvmdump.1")[""][0]


def test_kvmtui_has_the_options_of_its_page() -> None:
    options, others = parsed(kvmtui.__main__.parser())
    assert synopses("kvmtui.1") == {"": (options | HELP, others)}
    assert lists("kvmtui.1") == {"": options | HELP}


def test_kvmtui_has_the_keys_of_its_page() -> None:
    page = dict(re.findall(r"^\.Ss (.*)\n((?:.*\n)*?)(?=\.Ss |\Z)", section("kvmtui.1", "KEYS"), re.MULTILINE))
    assert list(page) == list(PLACES.values())
    #: Those that move, and Escape, are no actions.
    moves = {"k", "j", "b", "Space", "<", ">", "Esc"}
    for where, title in PLACES.items():
        found = {plain(k) for line in re.findall(r"^\.It Ic (.*)$", page[title], re.MULTILINE) for k in line.split()}
        wanted = {key for a in ACTIONS if a.where == where for key in a.shown_keys.split()}
        assert found - {","} - (moves if where == "app" else set()) == wanted, title
    assert {a.where for a in ACTIONS} == set(PLACES)


def test_kvmlib_names_all_that_is_public() -> None:
    text = PAGES["kvmlib.3"]
    words = set(re.findall(r"(?:kvmlib|kd)\.\w+|\w+", text))
    missing = [
        name
        for name in kvmlib.__all__
        if name != "__version__" and (name if inspect.isclass(getattr(kvmlib, name)) else f"kvmlib.{name}") not in words
    ]
    assert missing == []
    members = [name for name in vars(kvmlib.Kvm) if not name.startswith("_")]
    assert [name for name in members if not {name, f"kd.{name}"} & words] == []
    named = set(re.findall(r"\bkvmlib\.(\w+)", text)) | set(re.findall(r"^\.Vt (\w+Error)", text, re.MULTILINE))
    assert named <= set(kvmlib.__all__)
    with_methods = {*members, *inspect.signature(kvmlib.Kvm).parameters}
    assert set(re.findall(r"\bkd\.(\w+)", text)) <= with_methods


def test_kvmlib_has_the_arguments_of_its_page() -> None:
    text = re.sub(r"\n\.Fa ", " ", section("kvmlib.3", "SYNOPSIS"))
    found = re.findall(r"^\.F[no] (\w+)\.(\w+)(.*)$", text, re.MULTILINE)
    assert len(found) > 15
    for owner, name, words in found:
        method = owner == "kd"
        function = getattr(kvmlib.Kvm if method else kvmlib, name)
        wanted = []
        for p in list(inspect.signature(function).parameters.values())[method:]:
            if p.kind is p.KEYWORD_ONLY and "*" not in wanted:
                wanted.append("*")
            star = "*" * (p.kind is p.VAR_POSITIONAL)
            wanted.append(star + p.name + (f"={p.default}" if p.default is not p.empty else ""))
        assert words.split() == wanted, name


# -- the examples -----------------------------------------------------------------------------------------------------


def shell_examples(name: str) -> Iterator[list[str]]:
    for line in re.findall(r"^\.Dl [$#] (.*)$", section(name, "EXAMPLES"), re.MULTILINE):
        words = list(itertools.takewhile(lambda w: w not in ("|", ">"), shlex.split(line)))
        assert words[0] == name[:-2]
        yield words[1:]


def test_the_examples_of_kvmdump_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    count = 0
    for words in shell_examples("kvmdump.1"):
        if words[0].startswith("--") or words[1].startswith("/dev/"):
            # It needs what isn't here: a disk, or shtab.
            continue
        with redirect_stdout(io.StringIO()) as out:
            assert kvmlib.__main__.main(words) == 0, words
        assert out.getvalue() != "", words
        count += 1
    assert count >= 8


def test_the_examples_that_need_a_disk_are_called_rightly() -> None:
    for words in shell_examples("kvmdump.1"):
        if words[1:2] and words[1].startswith("/dev/"):
            kvmlib.__main__.parser().parse_args(words)
    for words in shell_examples("kvmtui.1"):
        kvmtui.__main__.parser().parse_args(words)


def test_the_examples_of_kvmlib_run(tmp_path: Path) -> None:
    sample = kvmlib.make_sample("openbsd/amd64", tmp_path)
    with kvmlib.open(sample.image) as kd:
        core = Path(kvmlib.save(kd, tmp_path).core)
    Path(sample.image).rename(tmp_path / "swap.img")
    environment = {"PYTHONPATH": str(ROOT)}
    programs = re.findall(r"^\.Bd .*\n((?:.*\n)*?)\.Ed$", section("kvmlib.3", "EXAMPLES"), re.MULTILINE)
    shown = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
        ).stdout
        for program in programs
    ]
    assert "OpenBSD 6.8" in shown[0]
    assert (tmp_path / "core").read_bytes() == core.read_bytes()
    assert re.match(r"\d+ bytes from 0x0 on: ", shown[2])
