"""Fuzz the library: python -m tests.fuzz [TARGET ...] [-runs N | -seconds S] [-seed N] [-keep DIRECTORY] [-plain].

Without -runs and -seconds each target gets a minute. Where atheris is installed (the extra `fuzz`), it chooses the
inputs by the code that they reach; else, and with -plain, they are changed at random. `-again FILE` runs a target on an
input that was kept.
"""

import argparse
import importlib
import importlib.util
import pkgutil
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

#: More address space than any input needs: what asks for more is a finding (MemoryError).
_SPACE = 6 << 30


def main() -> int:
    a = _arguments()
    if a.guided:
        return _guided(a.target[0], a)
    has_atheris = importlib.util.find_spec("atheris") is not None
    from tests.fuzz.targets import TARGETS

    failed = 0
    for name in a.target or TARGETS:
        if name not in TARGETS:
            sys.exit(f"there is no target {name!r}: the targets are {', '.join(TARGETS)}")
        if a.again:
            from tests.fuzz.run import once

            with tempfile.TemporaryDirectory() as folder:
                once(TARGETS[name], Path(a.again).read_bytes(), Path(folder))
        elif has_atheris and not a.plain:
            # libFuzzer ends the process, so each target has its own.
            failed += (
                subprocess.run([sys.executable, "-m", "tests.fuzz", "-guided", name, *sys.argv[1:]]).returncode != 0
            )
        else:
            failed += _plainly(name, a)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*")
    parser.add_argument("-runs", type=int)
    parser.add_argument("-seconds", type=float)
    parser.add_argument("-seed", type=int, default=0)
    parser.add_argument("-keep", type=Path, default=Path(), metavar="DIRECTORY", help="where findings are written")
    parser.add_argument("-plain", action="store_true", help="don't use atheris")
    parser.add_argument("-again", metavar="FILE")
    parser.add_argument("-guided", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.runs is None and a.seconds is None:
        a.seconds = 60.0
    return a


def _plainly(name: str, a: argparse.Namespace) -> bool:
    from tests.fuzz.run import plainly

    resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs, findings = plainly(name, Path(folder), runs=a.runs, seconds=a.seconds, seed=a.seed)
    print(f"{name}: {runs} runs in {time.monotonic() - begun:.0f} s, {len(findings)} findings", flush=True)
    for finding in findings:
        traceback.print_exception(finding.error)
        print(f"{name}: input kept in {finding.keep(a.keep)}", flush=True)
    return bool(findings)


def _guided(name: str, a: argparse.Namespace) -> int:
    """Let atheris run one target. It stops at the first finding, keeps its input, and ends the process."""
    atheris = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["kvmlib"]):
        import kvmlib

        for module in pkgutil.walk_packages(kvmlib.__path__, "kvmlib."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    from tests.fuzz.run import once
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as corpus:
        folder = Path(made)
        for i, data in enumerate(target.starts(folder)):
            Path(corpus, str(i)).write_bytes(data)
        options = [f"-artifact_prefix={a.keep}/{name}-", f"-seed={a.seed + 1}", "-timeout=0", "-rss_limit_mb=4096"]
        options += ["-max_len=65536", "-print_final_stats=1", "-verbosity=0"]
        if a.runs is not None:
            options.append(f"-runs={a.runs}")
        if a.seconds is not None:
            options.append(f"-max_total_time={max(1, round(a.seconds))}")
        print(f"{name}: with atheris", flush=True)
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: once(target, data, folder))
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
