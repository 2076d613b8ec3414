"""What is left of a dump whose header isn't: the kernel's words, its messages, its symbols, and where they lie.

Sources: conf/newvers.sh, sys/msgbuf.h and lib/libsa/loadfile_elf32.c of both systems.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from kvmlib.errors import KvmError
from kvmlib.identify import find_banner
from kvmlib.image import Image
from kvmlib.text import decode

#: Most of each kind that are named, most places that are looked at, and bytes looked at in one go.
_NAMED, _PLACES, _PIECE = 3, 256, 4 << 20
#: More than any of these structures' headers.
_OVERLAP = 64
_PAGE = 4096
#: MSG_MAGIC (sys/msgbuf.h), as the bytes of it that aren't zero, in both byte orders; the largest believable buffer.
_MSG_MAGICS: dict[Literal["little", "big"], bytes] = {"little": b"\x61\x30\x06", "big": b"\x06\x30\x61"}
_MSG_MOST = 4 << 20
_ELF = b"\x7fELF"
#: e_phoff, e_shoff, e_phnum and e_shnum of Elf32_Ehdr and Elf64_Ehdr, by EI_CLASS and EI_DATA.
_ELF_HEADERS = {
    b"\1\1": struct.Struct("<28xII8xH2xH2x"),
    b"\1\2": struct.Struct(">28xII8xH2xH2x"),
    b"\2\1": struct.Struct("<32xQQ8xH2xH2x"),
    b"\2\2": struct.Struct(">32xQQ8xH2xH2x"),
}


def survivors(image: Image) -> list[str]:
    """Say in sentences what of a kernel's memory is in an image, whose dump header is lost; empty if nothing is.

    Without the header nothing says which physical address lies where, so these are file offsets.
    """
    said, pages = [], set[int]()
    for name, look in (("message buffer", _message_buffer), ("boot-loaded symbol table", _symbol_table)):
        found = list(_search(image, look))
        if found:
            if look is _message_buffer:
                pages |= {at % _PAGE for at in found[:_NAMED]}
            said.append(_sentence(name, [f"at {at:#x}" for at in found]))
    banners = [f'"{text}" at {at:#x}' for at, text in _banners(image)]
    if banners:
        said.insert(0, _sentence("kernel's version", banners))
    if said and len(pages) == 1 and (odd := next(iter(pages))) % 512 == 0:
        said.append(f"memory's pages begin {f'{odd:#x} bytes behind' if odd else 'at'} multiples of {_PAGE:#x}")
    return [f"what survives: {said[0]}", *said[1:]] if said else []


def _sentence(name: str, places: list[str]) -> str:
    more = len(places) - _NAMED
    listed = ", ".join(places[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"a {name} {listed}"


def _banners(image: Image) -> Iterator[tuple[int, str]]:
    """Yield the first of each different banner."""
    seen, at = set[bytes](), 0
    for _ in range(_PLACES):
        found = find_banner(image, at, image.size)
        if found is None:
            # Only so much is searched at once.
            at += 128 << 20
            if at >= image.size:
                return
            continue
        at = found[0] + len(found[1])
        if found[1] not in seen:
            seen.add(found[1])
            yield found[0], decode(found[1])
            if len(seen) > _NAMED:
                return


#: Given the image and a piece of it with its offset, the offsets of what it looks for.
_Look = Callable[[Image, bytes, int], Iterator[int]]


def _search(image: Image, look: _Look) -> Iterator[int]:
    """Yield where `look` finds something, in order, each place once."""
    last, left = -1, _PLACES
    for at in range(0, image.size, _PIECE):
        with suppress(KvmError):
            for place in look(image, image.read(at, _PIECE + _OVERLAP), at):
                if place > last and left:
                    last, left = place, left - 1
                    yield place


def _message_buffer(image: Image, piece: bytes, offset: int) -> Iterator[int]:
    """Look for struct msgbuf: the magic, three numbers that can be true, and text."""
    for m in re.finditer(b"|".join(map(re.escape, _MSG_MAGICS.values())), piece):
        order = next(o for o, magic in _MSG_MAGICS.items() if magic == m.group())
        for size in (8, 4):
            at = m.start() if order == "little" else m.end() - size
            words = [piece[at + i * size : at + (i + 1) * size] for i in range(4)]
            if at < 0 or len(words[3]) < size:
                continue
            magic, bufx, bufr, bufs = (int.from_bytes(w, order) for w in words)
            if magic == 0x063061 and bufx <= bufs and bufr <= bufs and 0 < bufs <= _MSG_MOST:
                longs = next((n for n in (4, 5) if (bufs + n * size) % 512 == 0), None)
                if longs and _is_text(image.read(offset + at + longs * size, 512)):
                    yield offset + at
                    break


def _is_text(data: bytes) -> bool:
    said = data.strip(b"\0")
    return sum(32 <= c < 127 or c in b"\n\t\r" for c in said) * 8 > len(said) * 7 > 0


def _symbol_table(image: Image, piece: bytes, offset: int) -> Iterator[int]:
    """Look for the ELF header that a boot loader leaves: no program headers, sections right behind it."""
    at = piece.find(_ELF)
    while at >= 0:
        head = piece[at : at + 64]
        header = _ELF_HEADERS.get(head[4:6])
        if header is not None and len(head) == 64:
            phoff, shoff, phnum, shnum = header.unpack_from(head)
            if phoff == phnum == 0 and shoff == header.size and 2 < shnum <= 64:
                yield offset + at
        at = piece.find(_ELF, at + 1)
