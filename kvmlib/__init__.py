"""kvm_dump(3) for every machine, on any host: open, find, read, save and invalidate OpenBSD and NetBSD crash dumps.

The names are imported when they are first used, so that ``import kvmlib`` costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvmlib.errors import (
        Cancelled as Cancelled,
    )
    from kvmlib.errors import (
        FormatError as FormatError,
    )
    from kvmlib.errors import (
        KvmError as KvmError,
    )
    from kvmlib.errors import (
        NotInDumpError as NotInDumpError,
    )
    from kvmlib.errors import (
        ReadOnlyError as ReadOnlyError,
    )
    from kvmlib.errors import (
        SymbolError as SymbolError,
    )
    from kvmlib.errors import (
        TranslationError as TranslationError,
    )
    from kvmlib.errors import (
        TruncatedError as TruncatedError,
    )
    from kvmlib.fields import Field as Field
    from kvmlib.fields import header_bytes as header_bytes
    from kvmlib.fields import header_fields as header_fields
    from kvmlib.kcore import KcoreHdr as KcoreHdr
    from kvmlib.kcore import MidMag as MidMag
    from kvmlib.kcore import RamSeg as RamSeg
    from kvmlib.kvm import DumpMag as DumpMag
    from kvmlib.kvm import Invalidation as Invalidation
    from kvmlib.kvm import Kvm as Kvm
    from kvmlib.memory import Segment as Segment
    from kvmlib.memory import Span as Span
    from kvmlib.namelist import Symbol as Symbol
    from kvmlib.namelist import SymbolTable as SymbolTable
    from kvmlib.ports import machine as machine
    from kvmlib.ports import machines as machines
    from kvmlib.ports.base import Machine as Machine
    from kvmlib.ports.base import Register as Register
    from kvmlib.search import Candidate as Candidate
    from kvmlib.search import find as find
    from kvmlib.search import open as open
    from kvmlib.text import decode as decode
    from kvmlib.text import printable as printable
    from kvmlib.translate import Mapping as Mapping
    from kvmlib.translate import Step as Step

__version__ = "0.1.0"

_HOME = {
    "errors": (
        "Cancelled FormatError KvmError NotInDumpError ReadOnlyError SymbolError TranslationError TruncatedError"
    ),
    "backtrace": "Frame Stack panic_registers stack",
    "elfwriter": "ElfSection parse_symbols write_elf",
    "fields": "Field header_bytes header_fields",
    "kcore": "KcoreHdr MidMag RamSeg",
    "kvm": "DumpMag Invalidation Kvm",
    "ports": "machine machines",
    "ports.base": "Machine Register",
    "memory": "Segment Span",
    "msgbuf": "Messages messages",
    "namelist": "Symbol SymbolTable",
    "panic": "Fact State Summary summary",
    "report": "report_text",
    "sample": "Sample SampleFrame make_sample sample_names",
    "savecore": "SavePlan Saved plan_save save",
    "search": "Candidate find open",
    "text": "decode printable",
    "translate": "Mapping Step",
}
_MODULE_OF = {name: f"kvmlib.{module}" for module, names in _HOME.items() for name in names.split()}
__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kvmlib' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
