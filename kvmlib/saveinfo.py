"""What lies beside a saved core to tell what it is: info.N, as FreeBSD's savecore(8) writes it, and info.N.json.

The BSDs of these dumps never had it. Nothing reads it again: the core needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.facts import Fact
    from kvmlib.identify import Reading
    from kvmlib.kvm import Kvm

_INDENT = "  "


def info_name(number: int) -> str:
    """Return the name of the text."""
    return f"info.{number}"


def header_facts(kd: Kvm, reading: Reading) -> dict[str, Any]:
    """Return what the header says, for info.N."""
    return {
        "source": printable(kd.path),
        "form": reading.headers.form,
        "header_offset": reading.headers.offset,
        "machine": reading.machine.name,
        "byteorder": reading.machine.byteorder,
        "midmag": reading.headers.kcore_hdr.c_midmag,
        "cpu_bytes": len(reading.headers.cpu_data),
    }


def info_files(
    number: int, names: Sequence[str], told: dict[str, Any], facts: Sequence[Fact]
) -> list[tuple[str, bytes]]:
    """Return (name, contents) of info.N and info.N.json.

    Args:
        number: N.
        names: of the kernel, if there is one, and of the core.
        told: what `header_facts` returns, and what was written.
        facts: what the kernel said, from `kvmlib.summary`; may be empty.
    """
    saved = datetime.now(UTC).isoformat(timespec="seconds")
    data = {
        "number": number,
        "saved": saved,
        **told,
        "kernel_source": printable(told["kernel_source"]),
        "warnings": [printable(w) for w in told["warnings"]],
        "core": names[-1],
        "kernel": names[0] if len(names) > 1 else None,
        "facts": [{"label": f.label, "text": printable(f.text), "source": printable(f.source)} for f in facts],
    }
    return [
        (info_name(number), _text(data, facts).encode()),
        (f"{info_name(number)}.json", (json.dumps(data, indent=1) + "\n").encode()),
    ]


def _text(data: dict[str, Any], facts: Sequence[Fact]) -> str:
    v = data
    sha256 = v["sha256"] or "not computed, as the copy was not verified"
    status = "not whole: " if v["missing"] or v["holes"] else "whole"
    if v["missing"]:
        status += f"{v['missing']} bytes are missing at the end"
    if v["holes"]:
        unread = sum(h["size"] for h in v["holes"])
        status += f"{'; ' if v['missing'] else ''}{unread} bytes could not be read, zeros stand for them"
    lines = [
        f"Dump header from: {v['source']}, {v['form']} form, at offset {v['header_offset']:#x}",
        f"{_INDENT}Header: {v['machine']}, {v['byteorder']}-endian, midmag {v['midmag']:#x}, "
        f"{v['cpu_bytes']} bytes of CORE_CPU",
        f"{_INDENT}Dump length: {v['memory_size']} bytes",
        f"{_INDENT}Dump status: {status}",
        *(
            f"{_INDENT}Hole: {h['size']} bytes at {h['core_offset']:#x} of the core, {h['offset']:#x} of the source"
            for h in v["holes"]
        ),
        f"{_INDENT}Core: {v['core']}, {v['core_size']} bytes"
        + (f", {v['file_size']} compressed" if v["file_size"] != v["core_size"] else ""),
        f"{_INDENT}SHA-256: {sha256}",
        f"{_INDENT}Read back and compared: {'yes' if v['sha256'] else 'no'}",
        f"{_INDENT}Kernel file: {v['kernel'] or 'none'}: {v['kernel_source'].removeprefix('none: ')}",
        f"{_INDENT}Saved: {v['saved']}",
        f"{_INDENT}Bounds: {v['number']}",
        *(f"{_INDENT}Warning: {w}" for w in v["warnings"]),
        *(f"{_INDENT}{f.label.capitalize()}: {f.text}" for f in facts),
    ]
    return "".join(f"{printable(line)}\n" for line in lines)
