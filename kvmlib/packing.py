"""The ways in which a core or kernel may be packed: what each is called, how it is written, how it is read.

Written as a stream into anything that has ``write``, never with a seek; read as a stream of pieces, so that whoever
asks can stop. What is not to be had here says so in one sentence before anything is written.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from kvmlib import lzw
from kvmlib.errors import FormatError, KvmError
from kvmlib.text import printable

_PIECE = 1 << 20
#: A dump is large and waits for nobody: the fastest level of each.
_GZIP_LEVEL, _ZSTD_LEVEL = 1, 1
#: zlib's way to say: the largest window, in a gzip file.
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Writer(Protocol):
    """What data to pack is written to, and what packed data goes to."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Take `data`, or the first part of it; tell how many bytes, or None for all."""
        ...


class Method(NamedTuple):
    """One way to pack.

    Attributes:
        name: as ``packing=`` of `save` takes it.
        suffix: what the file's name ends in.
        magic: what the file begins with.
        unpacker: the program that unpacks it.
    """

    name: str
    suffix: str
    magic: bytes
    unpacker: str


GZIP = Method("gzip", ".gz", b"\x1f\x8b", "gunzip(1)")
ZSTD = Method("zstd", ".zst", b"\x28\xb5\x2f\xfd", "unzstd(1)")
COMPRESS = Method("compress", ".Z", b"\x1f\x9d", "uncompress(1)")
METHODS = (GZIP, ZSTD, COMPRESS)


def method_of(begin: bytes) -> Method | None:
    """Tell by the first bytes of a file how it is packed, None where it isn't."""
    return next((m for m in METHODS if begin.startswith(m.magic)), None)


def method(name: str) -> Method:
    """Return the method of that name, after making sure that it can be written here.

    Raises:
        KvmError: there is none of that name, or what it needs isn't installed; says what that is.
    """
    found = next((m for m in METHODS if m.name == name), None)
    if found is None:
        names = ", ".join(m.name for m in METHODS)
        raise KvmError(f'"{printable(name)}" is no way to pack a dump: {names} are')
    if found is ZSTD and _zstd() is None:
        raise KvmError(f"packing with zstd needs {_ZSTD_WANTED}")
    if found is COMPRESS and _ncompress() is None and _program() is None:
        raise KvmError(
            "packing with compress needs the package ncompress (pip install 'kvmtui[compress]') "
            "or a compress(1) program, and neither is here"
        )
    return found


# -- what may be installed -------------------------------------------------------------------------------------------

_ZSTD_WANTED = "Python 3.14 or the package backports.zstd (pip install 'kvmtui[zstd]')"


def _zstd() -> Any | None:
    """Return the module for zstd: Python's own, or the package that has the same names for older ones."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def _ncompress() -> Callable[[Any, Any], None] | None:
    """Return the function of the package ncompress that packs one stream into another."""
    with contextlib.suppress(ImportError, AttributeError):
        packs: Callable[[Any, Any], None] = importlib.import_module("ncompress").compress
        return packs
    return None


def _program() -> str | None:
    """Return the path of the system's compress(1)."""
    import shutil

    return shutil.which("compress")


# -- writing ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def packed(target: Writer, name: str) -> Iterator[Writer]:
    """Pack what is written into what this yields, and write the result to `target`; the end of the block ends it.

    If the block raises, the rest is left unwritten. No name and no time go into it: equal data gives equal files.

    Raises:
        KvmError: there is no such method, or it isn't to be had here, or compress(1) failed.
        OSError: what `target` raised.
    """
    found, target = method(name), _Whole(target)
    if found is COMPRESS:
        from kvmlib.pipes import through_function, through_program

        function, program = _ncompress(), _program()
        if function is not None:
            with through_function(function, target) as out:
                yield out
        else:
            assert program is not None
            # -f: packed is packed, even where it takes more room.
            with through_program([program, "-cf"], COMPRESS.magic, target) as out:
                yield out
        return
    compressor: Any
    if found is GZIP:
        compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    else:
        zstd = _zstd()
        assert zstd is not None
        # With a checksum, as the other formats have it or wish they had.
        options = {
            zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        compressor = zstd.ZstdCompressor(options=options)
    stream = _Stream(target, compressor)
    yield stream
    target.write(compressor.flush())


class _Whole:
    """Has all of it taken by what may take a part, such as a pipe."""

    def __init__(self, target: Writer) -> None:
        self._target = target

    def write(self, data: bytes | memoryview, /) -> int:
        left = memoryview(data)
        while left:
            n = self._target.write(left)
            left = left[len(left) if n is None else n :]
        return len(data)


class _Stream:
    """Packs with an object that has ``compress``."""

    def __init__(self, target: Writer, compressor: Any) -> None:
        self._target = target
        self._compressor = compressor

    def write(self, data: bytes | memoryview, /) -> int:
        self._target.write(self._compressor.compress(data))
        return len(data)


# -- reading ---------------------------------------------------------------------------------------------------------


def pieces(file: BinaryIO, shown: str, how: Method) -> Iterator[bytes]:
    """Yield what is in a packed file, about a MiB at a time; `shown` is its name, safe to show.

    Raises:
        FormatError: it is damaged, or can't be read without a package that isn't here.
        OSError: it can't be read.
    """
    errors: tuple[type[Exception], ...]
    if how is COMPRESS:
        source, errors = lzw.unpack(file), (ValueError,)
    elif how is GZIP:
        source, errors = _read(gzip.GzipFile(fileobj=file, mode="rb")), (EOFError, gzip.BadGzipFile, zlib.error)
    else:
        zstd = _zstd()
        if zstd is None:
            raise FormatError(
                f"{shown} is packed with zstd(1), which is read here with {_ZSTD_WANTED}: "
                f"install that, or unpack it first with {how.unpacker}"
            )
        source, errors = _read(zstd.ZstdFile(file, "rb")), (EOFError, zstd.ZstdError)
    try:
        yield from source
    except errors as e:
        raise FormatError(f"{shown} is a damaged {how.name} file: {printable(str(e))}") from e


def _read(stream: Any) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(_PIECE):
            yield piece
