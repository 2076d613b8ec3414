"""Samples in which every text that comes from a dump says something evil, and what must never come out of it."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kvmlib
from tests.samples import long_at, poke, sample_in, va_of

#: Escape sequences with 7 and 8 bits, markup, bidirectional controls, line ends of all kinds, marks that pile up, what
#: changes how wide the character before it is, private and unassigned characters, and bytes that aren't UTF-8.
EVIL = (
    "\x1b[31m[red]\u202e\u2066\x07\x9b5m\r\x08\u2028\x85\x7f\ufeff[/red]\x1b]0;x\x07\u200f\u200b\u2067\u061c"
    "e\u0301\u0301\u0301\u0301\u0489\ufe0f\U000e0041\ue000\U0010ffff{x}$(x)`x`%s"
)
EVIL_BYTES = EVIL.encode() + b"\x9b2J\xff\xfe\xc0\xaf\xed\xa0\x80\xe2\x80"
#: Longer than any line that somebody wants to see.
LONG = b"A" * 3000
PAGE = 4096
#: Symbols whose names the code looks for; the others are called something evil in the dump.
_NEEDED = (
    "version",
    "ostype",
    "osrelease",
    "panicstr",
    "msgbufp",
    "dumpmag",
    "ksyms",
    "kernel_symtab",
    "PTD",
    "cpu_pae",
)


def unsafe(text: str, keep: str = "\n\t") -> set[str]:
    """Return the characters in `text` that could move a cursor, change direction, or show nothing in a cell."""
    categories = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me")
    bad = {c for c in text if c not in keep and unicodedata.category(c) in categories}
    bad |= {c for c in text if 0xFE00 <= ord(c) <= 0xFE0F or 0xE0100 <= ord(c) <= 0xE01EF}
    return bad | ({"marks that pile up"} if "\u0301\u0301\u0301" in text else set())


def strings_in(data: Any) -> Iterable[str]:
    """Yield every string in what was JSON."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from strings_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings_in(value)
    elif isinstance(data, str):
        yield data


def hostile_sample(folder: Path, name: str) -> kvmlib.Sample:
    """Make a sample whose every text is evil; its kernel file is another folder's than it looks for."""
    sample = sample_in(folder, name)
    m = sample.machine
    put(sample, va_of(sample, "version"), m.system.title.encode() + b" 6.8 " + EVIL_BYTES + b"\0")
    put(sample, va_of(sample, "hostname"), EVIL_BYTES + b"\0")
    put(sample, va_of(sample, "cpu_model" if m.os == "openbsd" else "cpu_brand_string"), EVIL_BYTES[:40] + b"\0")
    put(sample, long_at(sample, "panicstr"), EVIL_BYTES + b"\0")
    ring = long_at(sample, "msgbufp")
    text = b"".join(
        line % EVIL_BYTES.replace(b"\n", b"")
        for line in (
            b"panic: %s\n",
            b"Stopped at %s+0x1\n",
            b"*1 2 3 0 0 0 %s\n",
            b"foo(%s) at foo+0x1\n",
            b"ddb> %s\n",
            b"cpu0: A %s\n",
            b"real mem = 9%s\n",
            b"<3>%s\n",
        )
    )
    longs = m.long_bytes * m.system.msgbuf_longs
    put(sample, ring + longs, text + LONG)
    if m.os == "netbsd":
        for variable, at in (("panicstart", 7), ("panicend", 7 + len(EVIL_BYTES))):
            poke(sample, variable, at.to_bytes(4, m.byteorder))
    for path in (sample.image, sample.kernel):
        _rename(Path(path), [s.name for s in (*sample.symbols, *sample.modules)])
    return sample


def put(sample: kvmlib.Sample, va: int, data: bytes) -> None:
    """Write over memory, page by page."""
    while data:
        n = PAGE - va % PAGE
        poke(sample, va, data[:n])
        va, data = va + n, data[n:]


def _rename(path: Path, names: Iterable[str]) -> None:
    """Call symbols, and NetBSD's module, something evil of the same length."""
    data = path.read_bytes()
    for i, name in enumerate(dict.fromkeys(names)):
        if len(name) > 5 and not name.startswith(_NEEDED):
            turned = EVIL_BYTES[i % len(EVIL_BYTES) :] + EVIL_BYTES * 2
            old = b"\0" + name.encode() + b"\0"
            data = data.replace(old, b"\0" + turned[: len(name)].replace(b"\0", b" ") + b"\0")
    path.write_bytes(data.replace(b"tmpfs\0", b"\x1b[2J\x07\0"))
