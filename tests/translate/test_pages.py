"""The pages that a range of addresses lies in: many at once must be what one at a time are."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import kvmlib
from kvmlib.translate import Translator
from kvmlib.translate.radix import Level, Page, Paging, Radix
from tests.samples import sample_in


def _pages(found: Iterator[tuple[int, int]]) -> tuple[list[tuple[int, int]], str]:
    """Return the pages, and the words that they end with."""
    pages: list[tuple[int, int]] = []
    try:
        pages.extend(islice(found, 5000))
    except kvmlib.TranslationError as e:
        return pages, f"{e.va:#x} {e.size} {e}"
    return pages, ""


@pytest.mark.parametrize(
    "name",
    ["openbsd/amd64", "netbsd/amd64", "netbsd/i386-pae", "netbsd/aarch64", "netbsd/arm", "openbsd/sh", "netbsd/mipseb"],
)
def test_many_pages_are_what_one_at_a_time_are(name: str, tmp_path: Path) -> None:
    with kvmlib.open(sample_in(tmp_path, name).image) as kd:
        t = kd.translator
        top = 1 << t.bits
        for m in kd.mappings():
            # Up to a hole, over it, from the middle of a page, and not up to the end of one.
            for va, n in ((m.va, m.size), (m.va, m.size + 0x3000), (m.va + 0x123, m.size), (m.va, m.size - 5)):
                if va < top:
                    assert _pages(t.pages(va, n)) == _pages(Translator.pages(t, va, n))


def test_behind_the_last_address_comes_0() -> None:
    level = Level("table", 30, 2, (Page(mask=1, value=1, frame=0xFFFFF000),), "", "invalid")
    form = Paging(name="", entry_bytes=4, levels=(level,), flags={}, protection=0, va_bits=32, canonical_bits=32)
    table = b"".join(entry.to_bytes(4, "little") for entry in (0x1001, 0, 0x3001, 0x4001))
    t = Radix(form, 0, lambda pa, n: table[pa : pa + n], "little")
    size = 1 << 30
    assert _pages(t.pages(2 * size + 1, 3 * size)) == (
        [(0x3001, size - 1), (0x4000, size), (0x1000, size)],
        f"{size:#x} {size} va {size:#x} is not mapped: invalid, entry 1 of the table at pa 0x0 is 0x0",
    )
