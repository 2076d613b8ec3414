"""Completion of a command line in the shell, made from its parser by shtab, which is not installed with the rest."""

from __future__ import annotations

import argparse
from typing import Any

from kvmlib.errors import KvmError
from kvmlib.ports import machines
from kvmlib.sample import sample_names

#: The metavars that stand for a file.
_FILES = frozenset(("DUMP", "IMAGE", "FILE", "CORE", "system"))


def shell_completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that has a shell complete a command line: options, commands, files and machines.

    Args:
        parser: of that command line; it learns here what its arguments stand for, so it should be one made for this.
        shell: ``bash``, ``zsh`` or ``tcsh``.

    Raises:
        KvmError: shtab isn't installed.
    """
    try:
        import shtab
    except ImportError:
        raise KvmError("completion scripts are made by shtab: pip install 'kvmtui[completion]' brings it") from None
    _teach(parser, shtab.FILE, shtab.DIRECTORY)
    script: str = shtab.complete(parser, shell)
    return script


def _teach(parser: argparse.ArgumentParser, file: Any, directory: Any) -> None:
    """Say which arguments are files, directories and machines: the metavars tell, in every command alike."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _teach(command, file, directory)
        elif action.metavar in _FILES:
            action.complete = file  # type: ignore[attr-defined]  # what shtab looks for
        elif action.metavar == "DIRECTORY":
            action.complete = directory  # type: ignore[attr-defined]
        elif action.metavar == "machine":
            action.choices = [m.name for m in machines()]
        elif action.metavar == "MACHINE":
            action.choices = [*sample_names(), *(() if action.option_strings else ("all",))]
