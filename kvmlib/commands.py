"""kvmdump's commands: each asks the library, prints text or JSON, and returns the exit status."""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvmlib.errors import KvmError
from kvmlib.hexdump import Hexdump
from kvmlib.kvm import Invalidation, Kvm
from kvmlib.namelist import Symbol
from kvmlib.ports import machines
from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.facts import Fact
    from kvmlib.inval import Obstacle

#: Ranges that are listed: 64 GiB in single pages. Tables that lead in a circle map more than anyone could wait for.
_MOST_RANGES = 1 << 24
_KINDS = {
    "unmapped": "not mapped",
    "not_in_dump": "mapped, not in the dump",
    "truncated": "mapped, behind the end of the file",
}


def _open(a: argparse.Namespace) -> Kvm:
    from kvmlib.search import open as open_dump

    return open_dump(a.dump, system=a.system, machine=a.machine, dump_off=a.dump_off, force=a.force_kernel)


def _show(a: argparse.Namespace, data: Any, text: str) -> None:
    if a.json:
        json.dump(data, sys.stdout, indent=1)
        print()
    elif text:
        print(text)


def _digits(kd: Kvm) -> int:
    return kd.translator.bits // 4


def find(a: argparse.Namespace) -> int:
    """Print every candidate header."""
    from kvmlib.report import find_data, find_text
    from kvmlib.search import find as find_dumps, no_dump

    found = find_dumps(a.image, a.machine)
    _show(a, find_data(found), find_text(found))
    if not found:
        raise KvmError(no_dump(a.image, a.machine))
    return 0


def info(a: argparse.Namespace) -> int:
    """Print the report."""
    from kvmlib.report import info_data, report_text

    with _open(a) as kd:
        _show(a, info_data(kd) if a.json else None, "" if a.json else report_text(kd))
    return 0


def translate(a: argparse.Namespace) -> int:
    """Print the page walk of each address."""
    from kvmlib.report import step_data, walk_text

    rows, texts, failed = [], [], []
    with _open(a) as kd:
        for word in a.va:
            va = kd.address(word)
            steps = kd.walk(va)
            row: dict[str, Any] = {"va": va, "symbol": kd.describe(va) or None, "steps": [step_data(s) for s in steps]}
            text = walk_text(va, kd.describe(va), steps)
            row |= {"pa": None, "size": None, "offset": None, "error": None}
            try:
                row["pa"], row["size"] = kd.kvatop(va)
                row["offset"] = kd.pa2off(row["pa"])
                text += f"\n  pa {row['pa']:#x}, {row['size']} bytes left in the page, file offset {row['offset']:#x}"
            except KvmError as e:
                row["error"] = printable(str(e))
                failed.append(str(e))
            rows.append(row)
            texts.append(text)
    _show(a, rows, "\n".join(texts))
    if failed:
        raise KvmError(failed[0])
    return 0


def read(a: argparse.Namespace) -> int:
    """Print memory as a hexdump, or write it raw."""
    with _open(a) as kd:
        va = kd.address(a.va)
        top = 1 << kd.translator.bits
        if not 0 <= va < top or a.length > top - va:
            raise KvmError(f"{a.length} bytes at {va:#x} reach out of the machine's {kd.translator.bits}-bit addresses")
        if a.write is not None:
            return _write_raw(a, kd.read(va, a.length))
        if a.json:
            found = list(kd.spans(va, a.length))
            spans = [
                {
                    "va": s.va,
                    "size": s.size,
                    "kind": s.kind,
                    "pa": s.pa,
                    "offset": s.offset,
                    "hex": s.data and s.data.hex(),
                }
                for s in found
            ]
            _show(a, spans, "")
            missing = a.length - sum(s.size for s in found if s.kind == "present")
        else:
            missing = _print_memory(kd, va, a.length)
        if missing:
            raise KvmError(f"{missing} of {a.length} bytes at va {va:#x} are not there")
    return 0


def _print_memory(kd: Kvm, va: int, length: int) -> int:
    """Print what is there, and a line for each hole; return the bytes that aren't there."""
    dump, missing = Hexdump(_digits(kd)), 0
    for span in kd.spans(va, length):
        if span.data is not None:
            lines = dump.feed(span.data, span.va)
        else:
            hole = f"{span.va:0{dump.digits}x}  -- {span.size} bytes {_KINDS[span.kind]} --"
            lines = itertools.chain(dump.close(end=False), (hole,))
            missing += span.size
        for line in lines:
            print(line)
    for line in dump.close():
        print(line)
    return missing


def _write_raw(a: argparse.Namespace, data: bytes) -> int:
    if a.write == "-":
        if sys.stdout.isatty():
            raise KvmError("raw bytes could harm this terminal: name a file, or send them through a pipe")
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return 0
    _write_new(a.write, data)
    _show(a, {"file": printable(a.write), "bytes": len(data)}, f"{len(data)} bytes written to {printable(a.write)}")
    return 0


def _write_new(path: str, data: bytes) -> None:
    """Write a file that isn't there yet, whole or not at all; or to a device or pipe that is."""
    made = False
    special = Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()
    try:
        with open(path, "wb" if special else "xb") as f:
            made = not special
            f.write(data)
    except OSError as e:
        if made:
            Path(path).unlink(missing_ok=True)
        raise KvmError(f"cannot write {printable(path)}: {e.strerror}") from e


def map_(a: argparse.Namespace) -> int:
    """Print the mapped ranges."""
    from kvmlib.report import mapping_data, mapping_text

    with _open(a) as kd:
        ranges = kd.mappings()
        first = next(ranges, None)
        if first is None:
            _show(a, [], "")
            raise KvmError(_nothing_mapped(kd))
        found = itertools.islice(itertools.chain((first,), ranges), _MOST_RANGES)
        if a.json:
            _show_each(mapping_data(m) for m in found)
        else:
            digits = _digits(kd)
            for m in found:
                print(mapping_text(m, digits))
        if next(ranges, None) is not None:
            raise KvmError(
                f"there is more mapped than these {_MOST_RANGES} ranges, so the page tables are damaged or lead in a "
                "circle: the rest is left out"
            )
    return 0


def _show_each(items: Iterable[Any]) -> None:
    """Print a JSON list item by item: it may be longer than fits into memory."""
    before = "[\n"
    for item in items:
        sys.stdout.write(before + textwrap.indent(json.dumps(item, indent=1), " "))
        before = ",\n"
    print("\n]")


def _nothing_mapped(kd: Kvm) -> str:
    try:
        kd.kvatop(0)
    except KvmError as e:
        return f"nothing is mapped: {e}"
    return "nothing is mapped"


def dmesg(a: argparse.Namespace) -> int:
    """Print the kernel's messages, or every message buffer."""
    from kvmlib.msgbuf import buffers, messages
    from kvmlib.report import buffer_data, buffer_text

    with _open(a) as kd:
        if a.all and (every := buffers(kd)):
            _show(a, [buffer_data(b) for b in every], "\n".join(buffer_text(b) for b in every))
            return 0
        found = messages(kd)
        data = {"text": found.text, "source": printable(found.source), "va": found.va, "pa": found.pa}
        _show(a, data, found.text.rstrip("\n"))
        if found.va is None and not a.json:
            # Not among the messages, so that a pipe gets them alone.
            print(f"kvmdump: {printable(found.source)}", file=sys.stderr)
    return 0


def symbols(a: argparse.Namespace) -> int:
    """Print the symbols, all or those that match."""
    from kvmlib.report import symbol_data, symbol_text

    with _open(a) as kd:
        if not len(kd.symbols):
            raise KvmError(f"there are no symbols: {printable(kd.symbols.source).removeprefix('none: ')}")
        found = kd.symbols.match(a.pattern) if a.pattern else list(kd.symbols)
        if a.elf is not None and found:
            return _write_elf(a, kd, found)
        digits = _digits(kd)
        rows = [symbol_data(s) for s in found] if a.json else []
        _show(a, rows, "\n".join(symbol_text(s, digits) for s in found if not a.json))
        if not found:
            raise KvmError(f"no symbol of {printable(kd.symbols.source)} matches {printable(repr(a.pattern))}")
    return 0


def _write_elf(a: argparse.Namespace, kd: Kvm, found: Sequence[Symbol]) -> int:
    from kvmlib.elfwriter import write_elf

    assert kd.machine is not None
    m = kd.machine
    data = write_elf(found, elf_machine=m.elf_machine, bits=m.long_bytes * 8, byteorder=m.byteorder)
    _write_new(a.elf, data)
    _show(a, {"file": printable(a.elf), "symbols": len(found)}, f"{len(found)} symbols written to {printable(a.elf)}")
    return 0


def save(a: argparse.Namespace) -> int:
    """Save the dump as savecore(8) would."""
    from kvmlib.report import saved_data, saved_text
    from kvmlib.savecore import plan_save, save as save_dump

    with _open(a) as kd:
        plan = plan_save(kd, a.directory, packing=a.packing, resume=a.resume)
        _warn(plan.warnings)
        if plan.refusal and not a.force:
            raise KvmError(f"{plan.refusal}; -f saves all the same")
        with _progress() as progress:
            done = save_dump(
                kd,
                a.directory,
                packing=a.packing,
                force=a.force,
                salvage=a.salvage,
                sparse=a.sparse,
                verify=a.verify,
                resume=a.resume,
                facts=_facts(kd),
                progress=progress,
            )
        _warn(done.warnings)
        _warn(
            f"{h.size} bytes at {h.offset:#x} of {a.dump} cannot be read: zeros are at {h.core_offset:#x} of the core"
            for h in done.holes
        )
        _show(a, saved_data(done), saved_text(done))
    return 0


def _facts(kd: Kvm) -> tuple[Fact, ...]:
    """Return what the kernel said, nothing where its memory can't be read."""
    from kvmlib.panic import summary

    try:
        return summary(kd).facts
    except KvmError as e:
        _warn([f"nothing of what the kernel said will be in info.N: {e}"])
        return ()


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"kvmdump: warning: {printable(sentence)}", file=sys.stderr)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that draws a line on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from humanize import naturalsize, precisedelta

    begin = time.monotonic()

    def draw(done: int, total: int) -> None:
        spent = max(time.monotonic() - begin, 1e-6)
        rate = done / spent
        left = precisedelta(int((total - done) / rate)) if rate else "?"
        sizes = f"{naturalsize(done, binary=True)} of {naturalsize(total, binary=True)}"
        print(
            f"\r{sizes}, {naturalsize(rate, binary=True)}/s, {left} left".ljust(78), end="", file=sys.stderr, flush=True
        )

    try:
        yield draw
    finally:
        print("\r".ljust(79) + "\r", end="", file=sys.stderr, flush=True)


def inval(a: argparse.Namespace) -> int:
    """Clear dumpmag, after asking; or put it back."""
    from kvmlib.inval import check_invalidation, invalidate
    from kvmlib.undo import record_in, undo

    if a.undo is not None:
        _show_inval(a, undo(a.undo, a.dump), None, ())
        return 0
    with _open(a) as kd:
        mag = kd.dumpmag_to_clear()
        with _progress() as progress:
            found = check_invalidation(kd, a.saved, progress=progress)
        if not all(o.forcible and a.force for o in found):
            raise KvmError(_refusal(a, found))
        place = (
            f"{printable(kd.path)}: dumpmag, {len(mag.data)} bytes at file offset {mag.offset:#x}: "
            f"{mag.data.hex()} now, {bytes(len(mag.data)).hex()} after"
        )
        if not a.yes and not _confirmed("\n".join([*(printable(f"although {o.text}") for o in found), place])):
            raise KvmError("nothing was written")
        record = a.record or record_in(".", kd.path)
        done = invalidate(kd, mag, record)
    _show_inval(a, done, record, found)
    return 0


def _refusal(a: argparse.Namespace, found: Sequence[Obstacle]) -> str:
    hints = []
    if a.saved is None and any(o.kind == "unsaved" for o in found):
        hints.append("--saved CORE compares a saved core with it")
    if all(o.forcible for o in found):
        hints.append("-f clears dumpmag all the same")
    return "; ".join(["not invalidated: " + "; ".join(o.text for o in found), *hints])


def _confirmed(place: str) -> bool:
    if not sys.stdin.isatty():
        raise KvmError(f"{place}; say --yes to do it without being asked, nothing was written")
    # On stderr, as stdout may be JSON for a program.
    print(f"{place}\nClear it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show_inval(a: argparse.Namespace, done: Invalidation, record: str | None, forced: Sequence[Obstacle]) -> None:
    before, after, shown = done.before.hex(), done.after.hex(), None if record is None else printable(record)
    text = f"file    {printable(a.dump)}\noffset  {done.offset:#x}\nbefore  {before}\nafter   {after}"
    text += "".join(f"\nforced  {printable(o.text)}" for o in forced)
    if shown:
        text += f"\nundo    kvmdump inval {shlex.quote(printable(a.dump))} --undo {shlex.quote(shown)}"
    data = {"file": printable(a.dump), "offset": done.offset, "before": before, "after": after, "record": shown}
    _show(a, data | {"forced": [printable(o.text) for o in forced]}, text)


def sample(a: argparse.Namespace) -> int:
    """Make sample dumps."""
    from kvmlib.sample import make_sample, sample_names

    names: Iterable[str] = sample_names() if a.machine_name == "all" else (a.machine_name,)
    Path(a.directory).mkdir(parents=True, exist_ok=True)
    made = [make_sample(name, a.directory) for name in names]
    data = [{"name": s.name, "image": printable(s.image), "kernel": printable(s.kernel)} for s in made]
    _show(a, data, "\n".join(f"{printable(s.image)}  {s.name}" for s in made))
    return 0


def list_machines(a: argparse.Namespace) -> int:
    """Print the machines."""
    from kvmlib.report import machine_data, machines_markdown, machines_text

    text = machines_markdown(machines()) if a.markdown else machines_text(machines())
    _show(a, [machine_data(m) for m in machines()], text)
    return 0
