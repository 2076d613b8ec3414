"""kvmtui [DUMP]: arguments first; Textual is imported only when the application really starts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvmtui.opening import Opening, Request, Samples


#: Seconds to wait for what should be opened at once.
_PATIENCE = 0.3


class _Completion(argparse.Action):
    """Prints the completion script of a shell."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        from kvmlib import KvmError, shell_completion

        try:
            print(shell_completion(parser, values))
        except KvmError as e:
            parser.exit(1, f"kvmtui: {e}\n")
        parser.exit()


def _offset(text: str) -> int:
    value = int(text, 0)
    if value < 0:
        raise ValueError
    return value


_offset.__name__ = "dump offset"


def _size(text: str) -> tuple[int, int]:
    from kvmtui.terminal import size_of

    return size_of(text)


_size.__name__ = "size"


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="kvmtui",
        description="Look into a BSD kernel crash dump: a saved core, a partition or disk image, a device.",
        epilog="Without DUMP, choose among the dumps in /var/crash and in the current folder, and the samples. "
        "Nothing is ever written unless you confirm it.",
    )
    p.add_argument("dump", metavar="DUMP", nargs="?", help="the dump; a core may be packed")
    p.add_argument("-N", dest="system", metavar="system", help="the kernel file that the dump is of, for its symbols")
    p.add_argument(
        "--force-kernel",
        action="store_true",
        help="use the kernel file although it is another kernel's than the dump's",
    )
    p.add_argument("-m", dest="machine", metavar="machine", help="os/arch, to overrule what the dump says")
    p.add_argument(
        "-o",
        dest="dump_off",
        metavar="dump_off",
        type=_offset,
        help="where the header is, in bytes (0x for hex); else it is looked for",
    )
    p.add_argument(
        "--sample",
        metavar="MACHINE",
        nargs="?",
        const="",
        help="make a sample dump, open it, and remove it in the end; MACHINE is openbsd/amd64 unless you name another",
    )
    p.add_argument(
        "--lesson",
        metavar="MACHINE",
        nargs="?",
        const="",
        help="make a sample as --sample does, and begin a guided tour of the format on it",
    )
    p.add_argument("--ascii", action="store_true", help="draw with nothing but ASCII")
    p.add_argument(
        "--display",
        metavar="TIER",
        choices=("full", "ansi", "rescue"),
        help="full: all colours; ansi: the terminal's own 16; rescue: ASCII and no colours, for consoles and serial "
        "lines. Chosen by TERM and NO_COLOR unless you name one",
    )
    p.add_argument(
        "--size",
        metavar="SIZE",
        type=_size,
        help="the terminal's columns and rows, as in 80x24, where it can't be asked: a serial line",
    )
    p.add_argument("--version", action="store_true", help="print the version")
    p.add_argument("-v", dest="verbose", action="store_true", help="with --version: also how it would draw, and why")
    p.add_argument(
        "--print-completion",
        action=_Completion,
        metavar="SHELL",
        choices=("bash", "zsh", "tcsh"),
        help="print the script that completes this command line in bash, zsh or tcsh",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run kvmtui; return its exit status."""
    arguments_parser = parser()
    args = arguments_parser.parse_args(argv)
    if args.version:
        return _version(args.verbose, args.ascii, args.display, args.size)
    if args.verbose:
        arguments_parser.error("-v belongs to --version")
    if args.sample is not None and args.lesson is not None:
        arguments_parser.error("--lesson makes its own sample: name one of the two")
    wanted = args.sample if args.lesson is None else args.lesson
    if wanted is not None and args.dump is not None:
        option = "--sample" if args.lesson is None else "--lesson"
        arguments_parser.error(f"{option} makes its own dump: name either a sample or a DUMP")
    given = (args.system, args.machine, args.dump_off, args.force_kernel or None)
    if args.dump is None and given != (None,) * 4:
        arguments_parser.error("-N, -m, -o and --force-kernel belong to a DUMP")
    from kvmtui.opening import DEFAULT_SAMPLE, Request, Samples

    sample = None if wanted is None else wanted or DEFAULT_SAMPLE
    request = None
    if args.dump is not None or sample is not None:
        request = Request(
            args.dump or "",
            args.system,
            args.machine,
            args.dump_off,
            sample,
            args.force_kernel,
            lesson=args.lesson is not None,
        )
    samples = Samples()
    try:
        return _run(request, samples, args.ascii, args.display, args.size)
    except KeyboardInterrupt:
        return _fail("interrupted")
    finally:
        samples.remove()


def _fail(sentence: str) -> int:
    print(f"kvmtui: {sentence}", file=sys.stderr)
    return 1


def _version(verbose: bool, ascii: bool, display: str | None, size: tuple[int, int] | None) -> int:
    """Print the version; verbose: also what decides on the drawing."""
    from kvmlib import __version__

    print(f"kvmtui {__version__}")
    if verbose:
        from kvmtui.terminal import Look, size_told, why_plain

        reason = why_plain()
        print("display", f"none, a report as text ({reason})" if reason else Look.of(os.environ, ascii, display).told())
        print("size   ", size_told(size))
    return 0


def _run(
    request: Request | None, samples: Samples, ascii: bool, display: str | None, size: tuple[int, int] | None
) -> int:
    from kvmlib import KvmError
    from kvmtui.opening import Opening
    from kvmtui.terminal import Look, why_plain

    reason = why_plain()
    if reason and request is None:
        return _fail(f"{reason}, so the application cannot run: name a DUMP to get a report as text")
    opening = Opening(request, samples) if request is not None else None
    try:
        if reason:
            assert opening is not None
            return _report(opening, reason)
        if opening is not None and opening.request.quick and opening.wait(_PATIENCE):
            # What can't be opened is told without ever starting the application.
            opening.result()
        look = Look.of(os.environ, ascii, display)
        look.prepare(os.environ)
        from kvmtui.app import KvmtuiApp
    except KvmError as e:
        return _fail(str(e))
    app = KvmtuiApp(opening, samples, look)
    app.run(size=size)
    return _fail(app.failure) if app.failure else app.return_code or 0


def _report(opening: Opening, reason: str) -> int:
    import kvmlib

    print(f"kvmtui: {reason}, so here is the report as text; kvmdump can tell more", file=sys.stderr)
    with opening.result() as kd:
        try:
            print(kvmlib.report_text(kd), flush=True)
        except BrokenPipeError:
            # Whoever reads it has read enough; Python must not try once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
