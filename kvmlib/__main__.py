"""kvmdump: the library for scripts, pipes and terminals that can do nothing."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: decimal or 0x... was expected") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return value


class _Completion(argparse.Action):
    """Prints the completion script of a shell."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Print it and exit; 1 with a sentence where that can't be done."""
        from kvmlib.completion import shell_completion
        from kvmlib.errors import KvmError

        try:
            print(shell_completion(parser, values))
        except KvmError as e:
            parser.exit(1, f"kvmdump: {e}\n")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with 2; what was typed, or came from a file name, is shown as harmlessly as all else."""
        from kvmlib.text import printable

        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    from kvmlib import __version__

    p = _Parser(
        prog="kvmdump",
        description="Find, read, save and invalidate OpenBSD and NetBSD kernel crash dumps of any machine.",
    )
    p.add_argument("--version", action="version", version=f"kvmdump {__version__}")
    p.add_argument(
        "--print-completion",
        action=_Completion,
        metavar="SHELL",
        choices=("bash", "zsh", "tcsh"),
        help="print the script that completes this command line in bash, zsh or tcsh",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, dump: bool = True) -> argparse.ArgumentParser:
        c = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        c.add_argument("--json", action="store_true", help="print JSON")
        if dump:
            c.add_argument("dump", metavar="DUMP", help="a saved core, an image, or a device")
            c.add_argument("-N", dest="system", metavar="system", help="the kernel file")
            c.add_argument(
                "--force-kernel",
                action="store_true",
                help="use the kernel file although it is another kernel's than the dump's",
            )
            c.add_argument(
                "-o", dest="dump_off", metavar="dump_off", type=_number, help="where the header is, in bytes"
            )
        if dump or name == "find":
            c.add_argument("-m", dest="machine", metavar="machine", help="os/arch, where the evidence does not tell")
        return c

    command("find", "list every plausible dump header", dump=False).add_argument("image", metavar="IMAGE")
    command("info", "report what the dump is and what the kernel said")
    command("translate", "walk the page tables, step by step").add_argument(
        "va", metavar="VA", nargs="+", help="0x..., symbol or symbol+offset"
    )
    c = command("read", "print memory as hexdump -C does")
    c.add_argument("va", metavar="VA", help="0x..., symbol or symbol+offset")
    c.add_argument("length", metavar="LENGTH", type=_number, help="bytes")
    c.add_argument("-w", dest="write", metavar="FILE", help="write the raw bytes to a new FILE, or to stdout with -")
    command("map", "list the mapped ranges of the kernel's address space")
    command("dmesg", "print the kernel's message buffer").add_argument(
        "--all", action="store_true", help="print every buffer found in memory, with what speaks for and against it"
    )
    c = command("symbols", "list the kernel's symbols")
    c.add_argument("pattern", metavar="PATTERN", nargs="?", help="a part of the name, or a pattern with * and ?")
    c.add_argument("--elf", metavar="FILE", help="write the symbols to a new ELF file instead")
    c = command("save", "save the dump as savecore(8) does")
    c.add_argument("directory", metavar="DIRECTORY")
    how = c.add_mutually_exclusive_group()
    how.add_argument("-z", dest="packing", action="store_const", const="gzip", help="compress with gzip")
    how.add_argument("--zstd", dest="packing", action="store_const", const="zstd", help="compress with zstd")
    how.add_argument("--compress", dest="packing", action="store_const", const="compress", help="compress to .Z files")
    c.add_argument("-f", dest="force", action="store_true", help="save although something speaks against it")
    c.add_argument("--salvage", action="store_true", help="write zeros for blocks that cannot be read, and list them")
    c.add_argument(
        "--sparse", action=argparse.BooleanOptionalAction, default=True, help="leave holes for zeros (the default)"
    )
    c.add_argument("--verify", action="store_true", help="read all back, compare it, and print the core's SHA-256")
    c.add_argument("--resume", action="store_true", help="go on with the copy that a killed save left")
    c = command("inval", "clear dumpmag, so that savecore(8) does not save the dump again")
    c.add_argument("--yes", action="store_true", help="do not ask")
    c.add_argument(
        "--saved", metavar="CORE", help="the saved core, which is compared with the dump byte for byte first"
    )
    c.add_argument("-f", "--force", action="store_true", help="clear dumpmag although it is not proven to be saved")
    c.add_argument("--record", metavar="FILE", help="where the undo record goes; without it, beside you as NAME.undo")
    c.add_argument("--undo", metavar="FILE", help="put back what the undo record FILE says")
    c = command("sample", "make a sample dump and its kernel", dump=False)
    c.add_argument("machine_name", metavar="MACHINE", help="os/arch[-variant], or all")
    c.add_argument("directory", metavar="DIRECTORY")
    c = command("machines", "list the machines whose dumps can be read, with what libkvm does there", dump=False)
    c.add_argument("--markdown", action="store_true", help="as a Markdown table, as in the documentation")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run kvmdump; returns the exit status: 0 done, 1 it could not, 2 usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names and messages may hold letters that this terminal's encoding doesn't have.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(argv)
        finally:
            # Not at exit: there Python would report in its own words that it can't.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough.
        _give_up_stdout()
        return 1
    except OSError as e:
        _give_up_stdout()
        return _failed(f"cannot write the output: {e.strerror or e}")


def _run(argv: Sequence[str] | None) -> int:
    p = parser()
    try:
        a = p.parse_args(argv)
        if a.command == "read" and a.write == "-" and a.json:
            p.error("raw bytes and JSON can't both go to stdout: give -w a FILE")
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    from kvmlib import commands
    from kvmlib.errors import KvmError

    run = {"map": commands.map_, "machines": commands.list_machines}.get(a.command) or getattr(commands, a.command)
    try:
        status: int = run(a)
        return status
    except KvmError as e:
        return _failed(str(e))
    except OSError as e:
        if e.filename is None:
            raise
        return _failed(f"{os.fsdecode(e.filename)}: {e.strerror}")
    except KeyboardInterrupt:
        print("kvmdump: interrupted", file=sys.stderr)
        return 130


def _failed(message: str) -> int:
    from kvmlib.text import printable

    print(f"kvmdump: {printable(message)}", file=sys.stderr)
    return 1


def _give_up_stdout() -> None:
    """Let what could not be written go nowhere when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
