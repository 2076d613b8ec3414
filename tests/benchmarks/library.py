"""kvmlib's own work, measured in this process."""

import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kvmlib
from kvmlib.kcore import RamSeg
from kvmlib.memory import PhysicalMemory
from tests.benchmarks.make_dump import DUMP_OFF, LARGE_PA, LARGE_VA, LENGTH, PAGE, PAGES, VA, layout, page

RUNS = 5
LOOKUPS = 200_000


def check(dump: Path) -> None:
    """See that what is measured answers right: every 997th page is the one that was mapped."""
    tables, _, mapped = layout()
    with kvmlib.open(dump, dump_off=DUMP_OFF) as kd:
        for number in range(0, PAGES, 997):
            if kd.read(VA + number * PAGE, PAGE) != page(mapped[number]):
                raise SystemExit(f"{dump} is not what tests.benchmarks.make_dump makes")
            at = number * PAGE
            if kd.read(LARGE_VA + at, PAGE) != (tables.get(LARGE_PA + at) or page(LARGE_PA + at)):
                raise SystemExit(f"{dump} has other large pages than tests.benchmarks.make_dump makes")


def measure(dump: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the name and the seconds of each measurement. Every run opens the dump anew: none warms the next."""
    random_numbers = random.Random(1)
    addresses = [VA + random_numbers.randrange(LENGTH) for _ in range(LOOKUPS)]

    def opened(work: Callable[[kvmlib.Kvm], object]) -> float:
        took = []
        for _ in range(RUNS):
            with kvmlib.open(dump, dump_off=DUMP_OFF) as kd:
                begin = time.perf_counter()
                work(kd)
                took.append(time.perf_counter() - begin)
        return statistics.median(took)

    def read_by(step: int, first: int = VA) -> Callable[[kvmlib.Kvm], object]:
        def work(kd: kvmlib.Kvm) -> None:
            read = kd.read
            for va in range(first, first + LENGTH, step):
                read(va, step)

        return work

    def look_up(kd: kvmlib.Kvm) -> None:
        kvatop = kd.kvatop
        for va in addresses:
            kvatop(va)

    def list_mappings(kd: kvmlib.Kvm) -> None:
        for _ in kd.mappings():
            pass

    yield "read_4k", opened(read_by(4 << 10))
    yield "read_64k", opened(read_by(64 << 10))
    yield "read_once", opened(read_by(LENGTH))
    yield "read_large", opened(read_by(2 << 20, LARGE_VA))
    yield "kvatop", opened(look_up)
    yield "mappings", opened(list_mappings)

    def locate(segments: int) -> Callable[[kvmlib.Kvm], float]:
        # Every other page is there, as in a sparse dump.
        memory_of = [RamSeg(2 * PAGE * i, PAGE) for i in range(segments)]
        wanted = [2 * PAGE * random_numbers.randrange(segments) + 8 for _ in range(LOOKUPS)]

        def work(kd: kvmlib.Kvm) -> float:
            memory = PhysicalMemory(kd.image, DUMP_OFF, memory_of)
            begin = time.perf_counter()
            for pa in wanted:
                memory.locate(pa, 8)
            return time.perf_counter() - begin

        return work

    few, many = [], []
    with kvmlib.open(dump, dump_off=DUMP_OFF) as kd:
        for _ in range(RUNS):
            few.append(locate(4)(kd))
            many.append(locate(100_000)(kd))
    yield "few_segments", min(few)
    yield "many_segments", min(many)

    # force: this dump has no dumpmag that could say it is fresh.
    crash = folder / "crash"
    saves: dict[str, Callable[[kvmlib.Kvm], object]] = {
        "save": lambda kd: kvmlib.save(kd, crash, force=True),
        "save_no_holes": lambda kd: kvmlib.save(kd, crash, force=True, sparse=False),
        "save_verify": lambda kd: kvmlib.save(kd, crash, force=True, verify=True),
    }
    for name, work in saves.items():
        took = []
        for _ in range(RUNS):
            crash.mkdir()
            with kvmlib.open(dump, dump_off=DUMP_OFF) as kd:
                begin = time.perf_counter()
                work(kd)
                took.append(time.perf_counter() - begin)
            shutil.rmtree(crash)
        yield name, statistics.median(took)
