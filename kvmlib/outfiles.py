"""Files that appear whole or not at all: written under a temporary name, given their final one when all is on the disk.

Final names are given by link(2), which never overwrites and follows no symbolic link. Whatever happens in between, be
it SIGKILL or a power cut, a file under a final name is a whole one; what a killed program leaves is called *.partial.
"""

# Everything here is relative to the descriptor of a directory, which pathlib can't do.
# ruff: noqa: PTH118, PTH208

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator

from kvmlib.errors import KvmError, ReadOnlyError
from kvmlib.text import c_string, decode, printable

_MODE = 0o600
_LOCK_SECONDS = 5.0
#: Errors by which a file system says that it has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Directory:
    """A directory to save into, held open, so that nobody can put another in its place meanwhile.

    Attributes:
        path: the name it was opened by.
        shown: the same, safe to show.
        fd: its descriptor.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it.

        Raises:
            KvmError: there is none, or it may not be looked into.
        """
        self.path = os.fspath(path)
        self.shown = printable(self.path)
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as e:
            raise KvmError(f"there is no directory {self.shown}: it must be made first") from e
        except NotADirectoryError as e:
            raise KvmError(f"{self.shown} is not a directory: one to save into was expected") from e
        except (OSError, ValueError) as e:
            raise KvmError(f"cannot save into {self.shown}: {e.strerror if isinstance(e, OSError) else e}") from e

    def __enter__(self) -> Directory:
        """Hold it open until the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        os.close(self.fd)

    def join(self, name: str) -> str:
        """Return the path of a file in it."""
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names of all that is in it."""
        return os.listdir(self.fd)

    def check_writable(self) -> None:
        """Find out, without trying, whether files can be made here.

        Raises:
            ReadOnlyError: the file system is read-only.
            KvmError: no permission.
        """
        if os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
            raise ReadOnlyError(f"cannot save into {self.shown}: it is on a read-only file system")
        if not os.access(self.path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise KvmError(f"cannot save into {self.shown}: no permission to write there")

    def free(self) -> int:
        """Return the bytes that this user may still write (f_bavail)."""
        info = os.fstatvfs(self.fd)
        return info.f_bavail * info.f_frsize

    def number_in(self, name: str) -> tuple[int, list[str]]:
        """Return the decimal number in the first line of a file, 0 when there is none, and what is wrong with it."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return 0, []
        except OSError as e:
            reason = "it is a symbolic link, which isn't followed" if e.errno == errno.ELOOP else str(e.strerror)
            return 0, [f"{name} in {self.shown} could not be read, 0 is taken: {reason}"]
        try:
            line = c_string(os.read(fd, 64)).partition(b"\n")[0].strip()
        except OSError as e:
            return 0, [f"{name} in {self.shown} could not be read, 0 is taken: {e.strerror}"]
        finally:
            os.close(fd)
        if not line:
            return 0, []
        if not re.fullmatch(rb"\d{1,15}", line):
            return 0, [f'{name} in {self.shown} is corrupt, 0 is taken: "{decode(line)}" is there, no number']
        return int(line), []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other saves from giving names at the same time; where that can't be, link(2) still never overwrites."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
            except OSError:
                pass
            break
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)

    def sync(self) -> None:
        """Have the names in it reach the disk."""
        try:
            os.fsync(self.fd)
        except OSError as e:
            # Some file systems have nothing to flush for a directory.
            if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise


class Partial:
    """A file on its way: under a temporary name first, under its final one at the end, else removed without a trace.

    Attributes:
        final: its final name, empty until it has one.
        size: bytes written so far.
        adopted: it was here before, so that it is left here unless it gets its final name.
    """

    def __init__(self, where: Directory, stem: str) -> None:
        """Make an empty file of mode 0600 in `where`, called after `stem`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            temp = f".{stem}.{secrets.token_hex(4)}.partial"
            with contextlib.suppress(FileExistsError):
                fd = os.open(temp, flags, _MODE, dir_fd=where.fd)
                # Whoever wants to go on with a file that was left behind takes this lock too. An empty file it leaves
                # alone, so that it can't come between these two calls.
                if _lock(fd):
                    break
                os.close(fd)
        try:
            info = os.fstat(fd)
        except BaseException:
            os.unlink(temp, dir_fd=where.fd)
            os.close(fd)
            raise
        self._take(where, temp, fd, info)
        self._hide()

    def _hide(self) -> None:
        with contextlib.suppress(OSError):  # FAT has no modes to set.
            os.fchmod(self._fd, _MODE)  # Whatever the umask is.

    def _take(self, where: Directory, temp: str, fd: int, info: os.stat_result) -> None:
        self._where = where
        self._temp = temp
        self._fd = fd
        self._identity = info.st_dev, info.st_ino
        self.final = ""
        self.size = info.st_size
        self.adopted = False
        self._kept = self._moved = False
        #: Bytes of zeros that are still to be skipped.
        self._gap = 0
        self._calls = [name for name in ("copy_file_range", "sendfile") if hasattr(os, name)]

    @classmethod
    def adopt(cls, where: Directory, temp: str) -> Partial:
        """Take over the file that a killed program left under a temporary name, to write on at its end.

        Raises:
            KvmError: it isn't one, or its owner is alive.
        """
        shown = printable(temp)
        try:
            fd = os.open(temp, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=where.fd)
        except OSError as e:
            raise KvmError(f"{shown} cannot be opened: {e.strerror}") from e
        try:
            if not _lock(fd):
                raise KvmError(f"{shown} is being written by another save")
            info, named = os.fstat(fd), os.lstat(temp, dir_fd=where.fd)
            if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
                raise KvmError(f"{shown} is no file of this user's")
            # A second name is that of a finished file, which nobody may write to.
            if info.st_nlink != 1 or (info.st_dev, info.st_ino) != (named.st_dev, named.st_ino):
                raise KvmError(f"{shown} is a finished copy, which has its name")
            if info.st_size == 0:
                raise KvmError(f"{shown} is empty")
            part = cls.__new__(cls)
            part._take(where, temp, fd, info)
            part.adopted = True
            os.lseek(fd, 0, os.SEEK_END)
        except OSError as e:
            os.close(fd)
            raise KvmError(f"{shown} cannot be looked at: {e.strerror}") from e
        except BaseException:
            os.close(fd)
            raise
        return part

    @property
    def path(self) -> str:
        """The path of its temporary name."""
        return self._where.join(self._temp)

    @staticmethod
    def is_one(name: str, stem: str) -> bool:
        """Tell whether `name` is the temporary name of a file called after `stem` and something more."""
        return re.fullmatch(rf"\.{re.escape(stem)}\..*\.[0-9a-f]{{8}}\.partial", name) is not None

    @staticmethod
    def stem(name: str) -> str:
        """Return what a file with the temporary name `name` is called after."""
        return name[1:].rpartition(".")[0].rpartition(".")[0]

    def __enter__(self) -> Partial:
        """Use it until the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it, and remove it unless it is to be kept."""
        self.close()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`."""
        self._jump()
        left = memoryview(data)
        while left:
            n = os.write(self._fd, left)
            self.size += n
            left = left[n:]
        return len(data)

    def skip(self, n: int) -> None:
        """Leave a hole of `n` bytes, which are zeros to whoever reads them."""
        self._gap += n
        self.size += n

    def _jump(self) -> None:
        if self._gap:
            os.lseek(self._fd, self.size, os.SEEK_SET)
            self._gap = 0

    def receive(self, source: int, offset: int, n: int) -> int:
        """Have the kernel copy up to `n` bytes from a descriptor; returns how many, 0 where it won't."""
        while self._calls:
            try:
                if self._calls[0] == "copy_file_range":
                    done = os.copy_file_range(source, self._fd, n, offset)
                else:
                    done = os.sendfile(self._fd, source, offset, n)
            except OSError:
                done = 0
            if done:
                self.size += done
                return done
            # Another file system, an old kernel, a bad block, a full disk: reading and writing will tell.
            self._calls.pop(0)
        return 0

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def sync(self) -> None:
        """Have the bytes reach the disk."""
        if self._gap:  # A file that ends in a hole.
            os.ftruncate(self._fd, self.size)
            self._jump()
        if self.adopted:
            self._hide()
        os.fsync(self._fd)

    def forget(self) -> None:
        """Ask the system to drop its copy of the bytes, so that reading them again reads the disk."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def publish(self, final: str) -> None:
        """Give the file its name.

        Raises:
            FileExistsError: the name is taken, be it by a symbolic link that leads nowhere.
        """
        self.final = final
        at = self._where.fd
        try:
            os.link(self._temp, final, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            # No hard links here (FAT). Other saves are locked out, so looking first is as good as it gets.
            with contextlib.suppress(FileNotFoundError):
                os.lstat(final, dir_fd=at)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final) from e
            os.rename(self._temp, final, src_dir_fd=at, dst_dir_fd=at)
            self._moved = True

    def replace(self, final: str) -> None:
        """Give the file its name and take it from whatever had it."""
        os.rename(self._temp, final, src_dir_fd=self._where.fd, dst_dir_fd=self._where.fd)

    def withdraw(self) -> None:
        """Take the final name away again, if it is ours; the temporary one is there still."""
        at = self._where.fd
        if self._moved:
            os.rename(self.final, self._temp, src_dir_fd=at, dst_dir_fd=at)
            self._moved = False
        elif self.final:
            self._remove(self.final)
        self.final = ""

    def keep(self) -> None:
        """From now on the final name stays."""
        self._kept = True

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            info = os.lstat(name, dir_fd=self._where.fd)
            if (info.st_dev, info.st_ino) == self._identity:
                os.unlink(name, dir_fd=self._where.fd)

    def close(self) -> None:
        """Remove the temporary name, and the final one too unless it is to be kept."""
        with contextlib.suppress(OSError):
            if not self._kept:
                self.withdraw()
        if self._kept or not self.adopted:
            self._remove(self._temp)
        os.close(self._fd)


def _lock(fd: int) -> bool:
    """Keep others from taking a temporary file over; False where one of them has. It is let go of with the file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # No locks here.
        return True
    return True


def sentence(e: OSError, shown: str) -> KvmError:
    """Say what went wrong while writing into the directory `shown`."""
    if e.errno in _FULL:
        return KvmError(f"there is not enough room in {shown} ({e.strerror}): nothing was saved")
    if e.errno == errno.EROFS:
        return ReadOnlyError(f"cannot save into {shown}: it is on a read-only file system")
    return KvmError(f"cannot save into {shown}: {e.strerror}; nothing was saved")
