"""Invalidate: clear dumpmag, after a question that names the very bytes."""

from __future__ import annotations

import kvmlib
from kvmtui.dialogs.confirm import ConfirmDialog


class InvalidateDialog(ConfirmDialog):
    """Names the file, the offset, and the bytes now and after; leaving them alone is focused."""

    def __init__(self, kd: kvmlib.Kvm, mag: kvmlib.DumpMag) -> None:
        now, after = mag.data.hex(" "), bytes(len(mag.data)).hex(" ")
        super().__init__(
            "Invalidate this dump?",
            [
                f"file    {kd.path}",
                f"offset  {mag.offset:#x}  (dumpmag at va {mag.va:#x}, pa {mag.pa:#x})",
                f"now     {now}",
                f"after   {after}",
                "savecore(8) will not save this dump again. Nothing else is written.",
            ],
            yes="Clear dumpmag",
            no="Leave it",
        )


def invalidate(kd: kvmlib.Kvm, mag: kvmlib.DumpMag) -> kvmlib.Invalidation:
    """Clear the dumpmag that was shown; the dump is open for writing only meanwhile.

    Raises:
        KvmError: it can't be written, or it isn't any more what was shown.
    """
    try:
        with kvmlib.Kvm(kd.path, system=kd.symbols, machine=kd.machine, write=True) as writer:
            if writer.reading is None and kd.reading is not None:
                writer.dump_mkheader(kd.reading.headers.offset)
            if writer.dumpmag()[:4] != mag[:4]:
                raise kvmlib.KvmError(
                    f"dumpmag at file offset {mag.offset:#x} has changed meanwhile. Nothing was written"
                )
            return writer.dump_inval()
    except OSError as e:
        raise kvmlib.KvmError(f"{kvmlib.printable(kd.path)} cannot be written: {e.strerror or e}") from e
