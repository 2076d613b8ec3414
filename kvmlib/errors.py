"""Errors as answers: absent, unmapped, truncated and damaged are different facts, each with its numbers."""

from __future__ import annotations


class KvmError(Exception):
    """Something could not be done; ``str(error)`` is a whole sentence for a person."""


class FormatError(KvmError):
    """The bytes are not what kvm_dump(3) says they must be."""


class TranslationError(KvmError):
    """A virtual address has no physical address.

    Attributes:
        va: the virtual address asked for.
        size: bytes from `va` on that have none for the same reason.
    """

    def __init__(self, message: str, va: int, size: int = 1) -> None:
        """Say why `va`, and `size` bytes from it on, cannot be translated."""
        super().__init__(message)
        self.va = va
        self.size = size


class NotInDumpError(KvmError):
    """A physical address exists but its memory was not dumped.

    Attributes:
        pa: the physical address.
        va: the virtual address it was reached by, or None.
        size: bytes from `pa` on that are known to be missing too.
    """

    def __init__(self, message: str, pa: int, va: int | None = None, size: int = 1) -> None:
        """Say that no segment of the dump holds `pa`."""
        super().__init__(message)
        self.pa = pa
        self.va = va
        self.size = size


class TruncatedError(KvmError):
    """The dump should hold this memory, but the file ends before it.

    Attributes:
        pa: the first physical address that is missing.
        offset: the file offset at which it should be, in bytes.
        va: the virtual address it was reached by, or None.
    """

    def __init__(self, message: str, pa: int, offset: int, va: int | None = None) -> None:
        """Say that the file ends before `offset`, where `pa` should be."""
        super().__init__(message)
        self.pa = pa
        self.offset = offset
        self.va = va


class SymbolError(KvmError):
    """A symbol is needed and no namelist has it."""


class ReadOnlyError(KvmError):
    """Something would have to be written, and the dump was opened for reading or cannot be written."""


class Cancelled(KvmError):
    """The caller's ``should_stop`` said so; nothing was left behind."""
