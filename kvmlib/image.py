"""The bytes of a dump, wherever they lie: a mapped file, a device read in aligned blocks, a packed file, as a copy.

An `Image` answers with what is there and never invents: a read past the end is short.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from kvmlib.errors import FormatError, KvmError, ReadOnlyError
from kvmlib.holes import written
from kvmlib.joining import joined
from kvmlib.packing import Method, method_of, pieces
from kvmlib.text import printable

#: Sector sizes to try on a device, in bytes: DEV_BSIZE of both systems, then what "4Kn" disks want.
SECTORS = (512, 4096)
_COPY = 1 << 20
#: Bytes looked at in one go: what is searched stays in the CPU's cache between reading and looking.
_PIECE = 256 << 10
#: In a piece that has more than so many of a needle's rarest byte, looking at each of them is slow.
_RARE = 64
#: Bytes that a search gives up where the disk is bad.
_BAD = 64 << 10
#: More pieces than these are gathered through the mapping, which is twice as fast where they are many.
_FEW = 8
#: Never wait for a pipe's other end, never take a terminal over.
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
#: On Linux this makes the kernel refuse to open a disk that is mounted, swapped to, or held by what lies over it, and
#: keeps it from becoming so meanwhile (open(2)). POSIX leaves open what it means without O_CREAT.
_WRITE_FLAGS = os.O_RDWR | (os.O_EXCL if sys.platform == "linux" else 0)
#: What O_DIRECT wants to be asked in, in bytes: no sector is larger.
_DIRECT_BLOCK = 4096
_OTHER_COMPRESSIONS = {b"\xfd7zXZ": "xz(1)", b"BZh": "bzip2(1)"}
#: Bytes of a packed file that are unpacked before its header is asked for its size: CPU data has 16 MiB at most.
_HEAD = 32 << 20
#: Bytes that may be there beyond that size, and of the room for the copy that stay free (a tenth where it is small).
_SLACK, _RESERVE = 64 << 20, 256 << 20


class Image:
    """Random access to the bytes of a dump.

    Attributes:
        path: the name it was opened by.
        size: bytes it held when it was opened.
        kind: ``"file"``, ``"device"``, or how it is packed: ``"gzip"``, ``"zstd"``, ``"compress"``.
        writable: whether `write` can work.
        sector: bytes that are read and written in one piece.
    """

    kind = "file"
    sector = 1

    def __init__(self, path: str, fd: int, size: int, writable: bool) -> None:
        """Take over the open descriptor `fd`."""
        self.path = path
        self.size = size
        self.writable = writable
        self._fd = fd

    def read(self, offset: int, n: int) -> bytes:
        """Return up to `n` bytes at `offset`; fewer only where the image ends."""
        raise NotImplementedError

    def gather(self, runs: Sequence[tuple[int, int]]) -> bytes:
        """Return the bytes of many (offset, length) runs as one piece."""
        if len(runs) == 1:
            return self.read(*runs[0])
        return b"".join([self.read(offset, n) for offset, n in runs])

    def find(self, needle: bytes, start: int, stop: int) -> int:
        """Return the first offset in [start, stop) at which `needle` lies whole, -1 where there is none."""
        return next(self.places(needle, start, stop), -1)

    def places(self, needle: bytes, start: int, stop: int) -> Iterator[int]:
        """Yield each offset in [start, stop) at which `needle` lies whole, ascending, also where two overlap.

        Where the disk is bad there is none, up to 64 KiB around.
        """
        stop, more, done = min(stop, self.size), len(needle) - 1, start
        # A part of a needle that isn't all zeros meets something that was written.
        stretches = self.written(start, stop) if any(needle) else iter(((start, stop),))
        places = _finder(needle)
        buffer = bytearray(_PIECE + more)
        with memoryview(buffer) as view:
            for low, high in stretches:
                end = min(stop, high + more)
                for at in range(max(done, low - more), end - more, _PIECE):
                    n = self.look(at, view[: end - at])
                    for i in places(buffer, n):
                        yield at + i
                done = max(done, end - more)

    def look(self, offset: int, view: memoryview) -> int:
        """Do what `readinto` does, for a search: where the disk is bad there are zeros, up to 64 KiB around.

        By so much at once, and not by the sector, as a disk may take seconds for each that is bad.
        """
        try:
            return self.readinto(offset, view)
        except KvmError:
            end = min(len(view), max(0, self.size - offset))
        for at in range(0, end, _BAD):
            part = view[at : min(at + _BAD, end)]
            try:
                self.readinto(offset + at, part)
            except KvmError:
                part[:] = bytes(len(part))
        return end

    def written(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the stretches (first offset, offset behind the last) of [start, stop) that may be other than zeros."""
        yield start, min(stop, self.size)

    def sample(self, start: int, stop: int, step: int) -> bytearray:
        """Return every `step`-th byte of [start, stop), the one at `start` first."""
        stop, piece = min(stop, self.size), _PIECE // step * step
        firsts = bytearray(max(0, -(-(stop - start) // step)))
        with memoryview(bytearray(piece)) as view:
            for low, high in self.written(start, stop):
                for at in range(low + (start - low) % step, high, piece):
                    seen = bytes(view[: self.look(at, view[: high - at]) : step])
                    i = (at - start) // step
                    firsts[i : i + len(seen)] = seen
        return firsts

    def readinto(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset` on and return the bytes read, fewer only where the image ends. For bulk copies."""
        data = self.read(offset, len(view))
        view[: len(data)] = data
        return len(data)

    def descriptor(self) -> int | None:
        """Return a descriptor at whose offsets the bytes lie, to be read as one likes; None where there is none."""
        return None

    def write(self, offset: int, data: bytes, expected: Sequence[bytes] = ()) -> None:
        """Overwrite the bytes at `offset`, have them reach the disk, and read them back from there.

        Args:
            offset: where, in bytes.
            data: what shall be there.
            expected: where it is given, one of these, as long as `data`, must be there now: on the disk itself,
                whatever was read before. The first is what the sentence names.

        Raises:
            ReadOnlyError: it can't be written.
            KvmError: something else is there; the disk fails; what is read back isn't `data`.
        """
        self.check_writable()
        n, at = len(data), f"at {offset:#x} of {printable(self.path)}"
        doing = "read"
        try:
            if expected and (now := self._on_disk(offset, n)) not in expected:
                raise KvmError(f"{at} {expected[0].hex()} was expected, {now.hex()} is there; nothing was written")
            doing = "write"
            self._write(offset, data)
            with _ignoring(errno.EINVAL, errno.ENOTSUP):  # A raw device has nothing to flush, and some say so.
                os.fsync(self._fd)
            doing = "read back"
            now = self._on_disk(offset, n)
        except OSError as e:
            raise KvmError(f"cannot {doing} {n} bytes {at}: {e.strerror}") from e
        if now != data:
            raise KvmError(f"{data.hex()} was written {at}, but {now.hex()} is there now")

    def _on_disk(self, offset: int, n: int) -> bytes:
        """Return `n` bytes at `offset` as the disk has them, past the system's cache where it lets us; none if cut."""
        if offset + n > self.size:
            return b""
        first = offset - offset % _DIRECT_BLOCK
        view = _aligned(-(-(offset + n - first) // _DIRECT_BLOCK) * _DIRECT_BLOCK)
        if self._read_direct(first, view) < offset + n - first:
            if hasattr(os, "posix_fadvise"):
                with contextlib.suppress(OSError):
                    os.posix_fadvise(self._fd, first, len(view), os.POSIX_FADV_DONTNEED)
            first = offset - offset % self.sector
            view = view[: -(-(offset + n - first) // self.sector) * self.sector]
            if os.preadv(self._fd, [view], first) < offset + n - first:
                return b""
        return bytes(view[offset - first : offset - first + n])

    def _read_direct(self, first: int, view: memoryview) -> int:
        """Fill `view` from `first` on through a descriptor that knows no cache; returns the bytes, 0 where none can."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECT | _OPEN_FLAGS)
        except (OSError, AttributeError):
            return 0
        try:
            # The name may be another file's by now.
            return os.preadv(fd, [view], first) if os.path.samestat(os.fstat(fd), os.fstat(self._fd)) else 0
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.ENOTSUP):  # Other rules than ours, or none.
                return 0
            raise
        finally:
            os.close(fd)

    def _write(self, offset: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)

    def check_writable(self) -> None:
        """Raise ReadOnlyError, with the reason, unless `write` can work."""
        if not self.writable:
            raise ReadOnlyError(f"{printable(self.path)} was opened for reading only, so nothing was written")

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            # What was written was flushed and read back: there is nothing left to lose.
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


class MappedFile(Image):
    """A regular file, mapped into memory."""

    def __init__(self, path: str, fd: int, size: int, writable: bool) -> None:
        """Map `size` bytes of `fd`."""
        super().__init__(path, fd, size, writable)
        # A private read-only view would not show our own writes; a shared one does.
        self._map = mmap.mmap(fd, size, access=mmap.ACCESS_READ)

    def _guard(self) -> None:
        if self._fd < 0:
            raise KvmError(f"{printable(self.path)} was closed")
        # Touching a mapping behind the end of a file that has shrunk kills the process, so ask first.
        try:
            now = os.fstat(self._fd).st_size
        except OSError as e:  # The server that has it may be gone.
            raise KvmError(f"cannot read {printable(self.path)}: {e.strerror}") from e
        if now < self.size:
            raise KvmError(f"{printable(self.path)} shrank from {self.size} to {now} bytes while it was open")

    def read(self, offset: int, n: int) -> bytes:
        """Return up to `n` bytes at `offset`; fewer only where the image ends."""
        left = self.size - offset
        if n > left:
            n = left
        if n <= 0 or offset < 0:
            return b""
        # Without the mapping: a bad block is an error then, where touching its page is a SIGBUS.
        try:
            data = os.pread(self._fd, n, offset)
        except OSError as e:
            self._guard()
            raise KvmError(f"cannot read {printable(self.path)} at {offset:#x}: {e.strerror}") from e
        if len(data) < n:
            self._guard()
            # No system gives more than 2 GiB at a time.
            return data + self.read(offset + len(data), n - len(data)) if data else data
        return data

    def look(self, offset: int, view: memoryview) -> int:
        """Do what `readinto` does, for a search; a file that shrank is an error, not the end."""
        self._guard()
        return super().look(offset, view)

    def written(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the stretches of [start, stop) that aren't holes of a sparse file."""
        return written(self._fd, start, min(stop, self.size))

    def readinto(self, offset: int, view: memoryview) -> int:
        """Fill `view`, fewer bytes only where the file ends."""
        wanted = view[: max(0, self.size - offset)]
        done = 0
        try:
            while done < len(wanted) and (got := os.preadv(self._fd, [wanted[done:]], offset + done)):
                done += got
        except OSError as e:
            raise KvmError(f"cannot read {printable(self.path)} at {offset + done:#x}: {e.strerror}") from e
        return done

    def descriptor(self) -> int:
        """Return a descriptor at whose offsets the bytes lie."""
        return self._fd

    def gather(self, runs: Sequence[tuple[int, int]]) -> bytes:
        """Return the bytes of many (offset, length) runs as one piece."""
        if len(runs) <= _FEW:
            return super().gather(runs)
        self._guard()
        # Views, so that each byte is copied once: for a large piece that is half the time, and half the memory.
        with memoryview(self._map) as data:
            return joined(data, runs)

    def close(self) -> None:
        """Close and unmap the file."""
        super().close()
        # BufferError: another thread gathers a large piece just now. The mapping goes away when that is done.
        with contextlib.suppress(BufferError):
            self._map.close()


class UnpackedImage(MappedFile):
    """A packed file, unpacked into a temporary file that has no name and goes away with us."""

    def __init__(self, path: str, fd: int, size: int, how: Method) -> None:
        """Map `fd`, the copy of `size` bytes."""
        super().__init__(path, fd, size, False)
        self.kind = how.name
        self._unpacker = how.unpacker

    def check_writable(self) -> None:
        """Raise ReadOnlyError: what would be written is a copy."""
        raise ReadOnlyError(
            f"{printable(self.path)} is compressed: unpack it with {self._unpacker} first, nothing was written"
        )


class Device(Image):
    """A block or character device, or what else wants whole sectors: read in aligned blocks, some of which are kept."""

    kind = "device"
    BLOCK = 1 << 16
    KEPT = 128

    def __init__(self, path: str, fd: int, size: int | None, writable: bool) -> None:
        """Take over `fd`; with `size` None find out where the device ends."""
        super().__init__(path, fd, 0, writable)
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.sector = self._find_sector()
        self.size = self._find_size() if size is None else size

    def read(self, offset: int, n: int) -> bytes:
        """Return up to `n` bytes at `offset`; fewer only where the device ends."""
        n = max(0, min(n, self.size - offset)) if offset >= 0 else 0
        if n > self.BLOCK:
            return self._read_sectors(offset, n)
        try:
            return self._read_blocks(offset, n)
        except KvmError:
            # One bad sector must not take the rest of its block away.
            return self._read_sectors(offset, n)

    def _read_blocks(self, offset: int, n: int) -> bytes:
        out = bytearray()
        while len(out) < n:
            at = offset + len(out)
            block = self._block(at // self.BLOCK)
            piece = block[at % self.BLOCK : at % self.BLOCK + n - len(out)]
            if not piece:
                break
            out += piece
        return bytes(out)

    def _read_sectors(self, offset: int, n: int) -> bytes:
        first = offset - offset % self.sector
        last = -(-(offset + n) // self.sector) * self.sector
        return self._pread(first, last - first)[offset - first : offset - first + n]

    def _block(self, number: int) -> bytes:
        # An application reads from more than one thread.
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = self._pread(number * self.BLOCK, self.BLOCK)
                if len(self._blocks) > self.KEPT:
                    self._blocks.popitem(last=False)
            else:
                self._blocks.move_to_end(number)
            return block

    def _pread(self, offset: int, n: int) -> bytes:
        """Read whole sectors into page-aligned memory, which is what O_DIRECT and raw devices ask for."""
        out = bytearray()
        view = _aligned(min(n, _COPY))
        while len(out) < n:
            try:
                got = os.preadv(self._fd, [view[: n - len(out)]], offset + len(out))
            except OSError as e:
                raise KvmError(f"cannot read {printable(self.path)} at {offset + len(out):#x}: {e.strerror}") from e
            out += view[:got]
            if got == 0 or got % self.sector:
                break
        return bytes(out)

    def _find_sector(self) -> int:
        for self.sector in SECTORS:
            try:
                self._probe(0)
            except OSError as e:
                if e.errno == errno.EIO:  # The size was right, the medium is bad there: the dump may lie elsewhere.
                    return self.sector
                if e.errno != errno.EINVAL:
                    raise KvmError(f"cannot read {printable(self.path)}: {e.strerror}") from e
            else:
                return self.sector
        raise KvmError(f"cannot read {printable(self.path)} in sectors of {' or '.join(map(str, SECTORS))} bytes")

    def _probe(self, sector: int) -> bool:
        """Tell whether sector number `sector` can be read."""
        return os.preadv(self._fd, [_aligned(self.sector)], sector * self.sector) == self.sector

    def _find_size(self) -> int:
        end = 0
        with contextlib.suppress(OSError):
            end = os.lseek(self._fd, 0, os.SEEK_END)
        if end > 0:
            return end
        # BSD character devices tell no size in a portable way: the last readable sector is found by bisection.
        limit = 1 << 50
        low, high = 0, 1
        while self._readable(high):
            low, high = high, high * 2
            if high * self.sector > limit:
                raise KvmError(f"{printable(self.path)} has no end: a dump device was expected")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._readable(middle) else (low, middle)
        return (low + 1) * self.sector if self._readable(0) else 0

    def _readable(self, sector: int) -> bool:
        # A bad sector looks like the end of the device, unless the sectors behind it are looked at too.
        for s in (sector, sector + 1, sector + 64):
            with contextlib.suppress(OSError):
                return self._probe(s)
        return False

    def _write(self, offset: int, data: bytes) -> None:
        first = offset - offset % self.sector
        last = -(-(offset + len(data)) // self.sector) * self.sector
        whole = bytearray(self._pread(first, last - first))
        if len(whole) < last - first:
            raise OSError(errno.EIO, "the device ends inside the sector")
        whole[offset - first : offset - first + len(data)] = data
        view = _aligned(len(whole))
        view[:] = whole
        self._blocks.clear()
        if os.pwritev(self._fd, [view], first) != len(whole):
            raise OSError(errno.EIO, "the device took only a part")


def _finder(needle: bytes) -> Callable[[bytearray, int], Iterator[int]]:
    """Return a function that yields where `needle` lies in the first `n` bytes of a buffer.

    In a tenth of `bytes.find`'s time: one byte is found by memchr(3), several by a plain loop.
    """
    rarest = min(range(len(needle)), key=lambda i: _commonness(needle[i]))
    byte, pattern = needle[rarest : rarest + 1], re.compile(re.escape(needle))

    def places(buffer: bytearray, n: int) -> Iterator[int]:
        at, end = rarest, n - len(needle) + rarest + 1
        for _ in range(_RARE):
            at = buffer.find(byte, at, end)
            if at < 0:
                return
            if buffer.startswith(needle, at - rarest):
                yield at - rarest
            at += 1
        at -= rarest
        while found := pattern.search(buffer, at, n):
            yield found.start()
            at = found.start() + 1

    return places


def _commonness(byte: int) -> int:
    """Say how much of memory is made of this byte, roughly: zeros, then text and -1, then small numbers."""
    if byte == 0:
        return 3
    return 2 if 0x20 <= byte < 0x7F or byte == 0xFF else int(byte < 0x20)


def _aligned(n: int) -> memoryview:
    """Return `n` bytes of page-aligned memory; it goes away with the last view of it."""
    return memoryview(mmap.mmap(-1, n))


@contextlib.contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    """Pass over an OSError with one of these errno values."""
    try:
        yield
    except OSError as e:
        if e.errno not in numbers:
            raise


#: Tells by the first `_HEAD` bytes of a packed dump how many bytes it has in all; None where that isn't said.
Promised = Callable[[Image], int | None]


def open_image(path: str | os.PathLike[str], write: bool = False, promised: Promised | None = None) -> Image:
    """Open a file or device as an `Image`; `promised` sets a limit to what a packed file may unpack to.

    Raises:
        KvmError: it can't be opened or read, is a directory, a terminal or a pipe, or is empty; there is no room to
            unpack it.
        ReadOnlyError: `write` was asked for and it can't be written.
        FormatError: it is compressed in a way that is not read here, its packed data is damaged, or there is more of it
            than `promised`.
    """
    name = os.fsdecode(path)
    shown = printable(name)
    try:
        fd = os.open(name, (_WRITE_FLAGS if write else os.O_RDONLY) | _OPEN_FLAGS)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        if write and isinstance(e, OSError) and e.errno == errno.EBUSY:
            raise KvmError(
                f"cannot open {shown} for writing: it is in use ({reason}), so it is mounted, swapped to, or held by "
                "what lies over it"
            ) from e
        if write and isinstance(e, OSError) and e.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ReadOnlyError(f"cannot open {shown} for writing: {reason}") from e
        raise KvmError(f"cannot open {shown}: {reason}") from e
    try:
        return _image_of(name, fd, write, promised)
    except BaseException as e:
        with contextlib.suppress(OSError):
            os.close(fd)
        if isinstance(e, OSError):
            raise KvmError(f"cannot read {shown}: {e.strerror}") from e
        raise


def _image_of(name: str, fd: int, write: bool, promised: Promised | None) -> Image:
    shown = printable(name)
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise KvmError(f"{shown} is a directory: a dump, an image or a device was expected")
    if stat.S_ISBLK(info.st_mode) or (stat.S_ISCHR(info.st_mode) and not os.isatty(fd)):
        device = Device(name, fd, None, write)
        if device.size == 0:
            raise KvmError(f"{shown} is a device without contents: nothing can be read from it")
        return device
    if not stat.S_ISREG(info.st_mode):
        raise KvmError(f"{shown} is not a file or a disk: a dump needs random access")
    if info.st_size == 0:
        raise FormatError(f"{shown} is empty: a dump was expected")
    magic = os.pread(fd, 6, 0)
    if (how := method_of(magic)) is not None:
        return _unpack(name, fd, how, promised)
    for signature, program in _OTHER_COMPRESSIONS.items():
        if magic.startswith(signature):
            raise FormatError(f"{shown} is packed with {program}, which is not read here: unpack it first")
    return MappedFile(name, fd, info.st_size, write)


def _unpack(name: str, fd: int, how: Method, promised: Promised | None) -> Image:
    shown = printable(name)
    with tempfile.TemporaryFile(prefix="kvmlib-") as copy:
        try:
            with os.fdopen(os.dup(fd), "rb") as packed:
                size = _copy(pieces(packed, shown, how), copy, shown, promised)
        except OSError as e:
            raise KvmError(f"cannot unpack {shown} into {tempfile.gettempdir()}: {e.strerror}") from e
        if size == 0:
            raise FormatError(f"{shown} holds nothing but an empty {how.name} stream: a dump was expected")
        image = UnpackedImage(name, os.dup(copy.fileno()), size, how)
    os.close(fd)
    return image


def _copy(source: Iterable[bytes], target: BinaryIO, shown: str, promised: Promised | None) -> int:
    """Copy all of it, unless it is more than there is room for, or than the header in it promises."""
    disk = os.fstatvfs(target.fileno())
    free = disk.f_bavail * disk.f_frsize
    room, most = free - min(_RESERVE, free // 10), None
    size = 0
    for piece in source:
        size += len(piece)
        if size > room:
            raise KvmError(
                f"{shown} unpacks to more than the {room} bytes that {tempfile.gettempdir()} has room for: "
                "set TMPDIR to a directory that has more"
            )
        if most is not None and size > most + _SLACK:
            raise FormatError(
                f"{shown} unpacks to far more than the {most} bytes that its header promises: "
                "it is damaged, or was made to fill the disk"
            )
        target.write(piece)
        if promised is not None and size >= _HEAD:
            target.flush()
            with contextlib.closing(MappedFile(shown, os.dup(target.fileno()), size, False)) as head:
                most, promised = promised(head), None
    target.flush()
    return size
