"""How long it takes, beside a yardstick that runs in the same minute: python -m tests.benchmarks [DUMP] [--pyz FILE]

Without DUMP the benchmark dump is made in memory (/dev/shm), else in TMPDIR, and removed in the end: 1.1 GB for it and
the saved core. Ratios travel from machine to machine, seconds don't. The C numbers need a compiler called cc. In the
end what a terminal is sent, and what `.ci/pyz` made, where FILE names it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import display, library, start
from tests.benchmarks.make_dump import DUMP_OFF, VA, make_dump

HERE = Path(__file__).parent
#: What it is, and what it is measured against.
LIBRARY = {
    "read_4k": "Kvm.read, 256 MiB by 4 KiB",
    "read_64k": "Kvm.read, 256 MiB by 64 KiB",
    "read_once": "Kvm.read, 256 MiB in one call",
    "read_large": "Kvm.read, 256 MiB of 2 MiB pages",
    "kvatop": "Kvm.kvatop, 200,000 random addresses",
    "save": "kvmlib.save, 512 MiB",
    "save_no_holes": "kvmlib.save, sparse=False",
    "save_verify": "kvmlib.save, verify=True",
    "mappings": "Kvm.mappings, 65,536 pages",
    "many_segments": "200,000 look-ups in 100,000 segments",
}
#: What a yardstick is, where it isn't the same work done libkvm's way.
_YARD = {"read_large": "memcpy", "mappings": "C, page by page"}


@contextmanager
def working_directory() -> Iterator[Path]:
    """Make a folder, in memory if possible, so that no disk is measured."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kvmtui-benchmark-", dir=place) as folder:
        yield Path(folder)


def yardstick(dump: Path, folder: Path) -> dict[str, float]:
    """Measure the same work in C; nothing where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return {}
    program = folder / "yardstick"
    # glibc hides pread(2) from a plain -std=c99; the BSDs don't mind being asked for it.
    subprocess.run(
        [compiler, "-O2", "-D_DEFAULT_SOURCE", "-o", str(program), str(HERE / "yardstick.c")], check=True, text=True
    )
    command = [str(program), str(dump), str(DUMP_OFF), str(VA), str(folder / "copy")]
    said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return {name: float(seconds) for name, seconds in map(str.split, said.splitlines())}


def row(what: str, ours: float, yard: float | None, yard_is: str) -> None:
    """Print a row of the table, which Markdown understands."""
    ratio = f"{ours / yard:.2f}" if yard else "-"
    theirs = f"{yard * 1000:.1f} ms" if yard else "-"
    print(f"| {what} | {ours * 1000:.1f} ms | {theirs} | {yard_is} | {ratio} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("dump", metavar="DUMP", nargs="?", type=Path, help="as tests.benchmarks.make_dump makes it")
    parser.add_argument("--pyz", metavar="FILE", type=Path, help="kvmtui.pyz: how fast it starts")
    args = parser.parse_args()
    dump: Path | None = args.dump
    with working_directory() as folder:
        if dump is None:
            dump = folder / "benchmark.img"
            make_dump(dump)
        dump = dump.resolve()
        library.check(dump)
        print("| what | time | yardstick | which is | ratio |\n|---|---|---|---|---|")
        info, nothing = start.info(start.saved_core(folder))
        row("`kvmdump info` of a saved core, whole process", info, nothing, "`python -c pass`")
        info, nothing = start.info(dump)
        row("`kvmdump info`, whole process", info, nothing, "`python -c pass`")
        whole, search, cat = start.find(dump)
        row("`kvmdump find`, whole process", whole, cat, "`cat` of the image")
        row("`kvmlib.find`, in a Python that runs", search, cat, "`cat` of the image")
        first, whole, hello = start.first_paint(dump)
        row("`kvmtui` to its first paint", first, hello, "hello world in Textual")
        row("`kvmtui` to the dump's whole screen", whole, hello, "hello world in Textual")
        yards = {name: (seconds, _YARD.get(name, "C")) for name, seconds in yardstick(dump, folder).items()}
        for name, seconds in library.measure(dump, folder):
            if name == "few_segments":
                yards["many_segments"] = seconds, "in 4 segments"
                continue
            yard, yard_is = yards.get("save" if name.startswith("save_") else name, (None, "-"))
            row(LIBRARY[name], seconds, yard, yard_is)
        if args.pyz is not None:
            ours, installed = start.one_file(args.pyz.resolve(), dump)
            row(f"`{args.pyz.name}` to its first paint", ours, installed, "`kvmtui`, installed")
            print(f"\n`{args.pyz.name}` has {args.pyz.stat().st_size / 1e6:.1f} MB.")
        print("\n| has in use | VmRSS |\n|---|---|")
        for who, mib in display.memory(dump, folder):
            print(f"| {who} | {mib:.1f} MiB |", flush=True)
        print(
            "\n| bytes, at 80x24 | to the Summary | cursor move | page | idle | not ASCII |\n|---|---|---|---|---|---|"
        )
        for term, *counts in display.sent(folder):
            print(f"| TERM={term} | {' | '.join(map(str, counts))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
