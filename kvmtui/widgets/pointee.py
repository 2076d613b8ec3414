"""What a number points to, if it is a pointer, in a few words. Pure: no widget."""

from __future__ import annotations

import kvmlib

#: Smaller numbers are no pointers, even on machines that map everything.
_LEAST = 0x1000
#: Bytes of a string that are shown, and fewest that make one.
_SHOWN, _FEWEST = 40, 4


def pointee(kd: kvmlib.Kvm, value: int, marks: kvmlib.Landmarks | None = None) -> str:
    """Say what `value` points to: symbol and section, string, or what it lies in; empty where it points to nothing."""
    if not _LEAST <= value < 1 << kd.translator.bits:
        return ""
    try:
        pa, _ = kd.kvatop(value)
    except kvmlib.KvmError:
        return ""
    words = []
    if name := kd.describe(value):
        found = kd.symbols.at(value)
        assert found is not None
        words += [name, "text" if found[0].kind in "Tt" else "data"]
    if marks is not None and (kind := marks.kind(value, pa)):
        words.append(kind)
    if text := string_at(kd, value, _SHOWN, _FEWEST):
        words.append(text)
    return "  ".join(words) or "mapped"


def string_at(kd: kvmlib.Kvm, va: int, most: int, fewest: int) -> str:
    """Return the printable ASCII text that begins at `va`, in quotes; empty where there is none."""
    data = b""
    for span in kd.spans(va, most):
        if span.data is None:
            break
        data += span.data
    return quoted(data, fewest)


def quoted(data: bytes, fewest: int = 1) -> str:
    """Return the text that `data` begins with, in quotes; empty where fewer than `fewest` characters are one."""
    text = data.partition(b"\0")[0]
    cut = next((i for i, b in enumerate(text) if not (0x20 <= b < 0x7F or b in b"\t\n")), len(text))
    # Bytes that end in something else than NUL only look like text for a while.
    if cut < fewest or cut < len(text):
        return ""
    said = text.decode("ascii").replace("\n", r"\n").replace("\t", r"\t")
    return f'"{said}"' if len(text) < len(data) else f'"{said}'
