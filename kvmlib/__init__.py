"""kvm_dump(3) for every machine, on any host: open, find, read, save and invalidate OpenBSD and NetBSD crash dumps.

The names are imported when they are first used, so that ``import kvmlib`` costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvmlib.backtrace import (
        Frame as Frame,
        Stack as Stack,
        stack as stack,
    )
    from kvmlib.candidates import (
        Candidate as Candidate,
    )
    from kvmlib.completion import (
        shell_completion as shell_completion,
    )
    from kvmlib.disks import (
        Partition as Partition,
        partitions as partitions,
    )
    from kvmlib.dumpstate import (
        Damage as Damage,
        State as State,
        damage_map as damage_map,
    )
    from kvmlib.elfwriter import (
        ElfSection as ElfSection,
        parse_symbols as parse_symbols,
        write_elf as write_elf,
    )
    from kvmlib.errors import (
        Cancelled as Cancelled,
        FormatError as FormatError,
        KvmError as KvmError,
        NotInDumpError as NotInDumpError,
        ReadOnlyError as ReadOnlyError,
        SymbolError as SymbolError,
        TranslationError as TranslationError,
        TruncatedError as TruncatedError,
    )
    from kvmlib.facts import (
        Fact as Fact,
    )
    from kvmlib.fields import (
        Field as Field,
        header_bytes as header_bytes,
        header_fields as header_fields,
    )
    from kvmlib.forms import (
        FieldPair as FieldPair,
        header_pairs as header_pairs,
    )
    from kvmlib.hunt import (
        Found as Found,
        Pattern as Pattern,
        look_for as look_for,
        vas_of as vas_of,
    )
    from kvmlib.inval import (
        Obstacle as Obstacle,
        check_invalidation as check_invalidation,
        invalidate as invalidate,
    )
    from kvmlib.kcore import (
        KcoreHdr as KcoreHdr,
        MidMag as MidMag,
        RamSeg as RamSeg,
    )
    from kvmlib.kvm import (
        DumpMag as DumpMag,
        Invalidation as Invalidation,
        Kvm as Kvm,
    )
    from kvmlib.landmarks import (
        Landmarks as Landmarks,
        find_landmarks as find_landmarks,
    )
    from kvmlib.match import (
        Match as Match,
        proof as proof,
    )
    from kvmlib.memory import (
        Segment as Segment,
        Span as Span,
    )
    from kvmlib.msgbuf import (
        Messages as Messages,
        buffers as buffers,
        messages as messages,
    )
    from kvmlib.msgscan import (
        Buffer as Buffer,
        boots as boots,
    )
    from kvmlib.namelist import (
        Symbol as Symbol,
        SymbolTable as SymbolTable,
    )
    from kvmlib.panic import (
        Summary as Summary,
        summary as summary,
    )
    from kvmlib.ports import (
        machine as machine,
        machines as machines,
    )
    from kvmlib.ports.base import (
        Machine as Machine,
        Register as Register,
    )
    from kvmlib.rangefile import (
        RangeForm as RangeForm,
        write_range as write_range,
    )
    from kvmlib.registers import (
        panic_registers as panic_registers,
        trap_registers as trap_registers,
    )
    from kvmlib.report import (
        report_text as report_text,
    )
    from kvmlib.sample import (
        Sample as Sample,
        SampleFrame as SampleFrame,
        make_sample as make_sample,
        sample_names as sample_names,
    )
    from kvmlib.savecore import (
        Saved as Saved,
        SavePlan as SavePlan,
        plan_save as plan_save,
        save as save,
    )
    from kvmlib.savesource import (
        Hole as Hole,
    )
    from kvmlib.search import (
        find as find,
        open as open,
    )
    from kvmlib.text import (
        decode as decode,
        printable as printable,
    )
    from kvmlib.translate import (
        Mapping as Mapping,
        Step as Step,
    )
    from kvmlib.undo import (
        record_in as record_in,
    )

__version__ = "0.1.0"

_HOME = {
    "errors": (
        "Cancelled FormatError KvmError NotInDumpError ReadOnlyError SymbolError TranslationError TruncatedError"
    ),
    "backtrace": "Frame Stack stack",
    "candidates": "Candidate",
    "completion": "shell_completion",
    "disks": "Partition partitions",
    "dumpstate": "Damage State damage_map",
    "elfwriter": "ElfSection parse_symbols write_elf",
    "facts": "Fact",
    "fields": "Field header_bytes header_fields",
    "forms": "FieldPair header_pairs",
    "hunt": "Found Pattern look_for vas_of",
    "inval": "Obstacle check_invalidation invalidate",
    "kcore": "KcoreHdr MidMag RamSeg",
    "kvm": "DumpMag Invalidation Kvm",
    "ports": "machine machines",
    "ports.base": "Machine Register",
    "landmarks": "Landmarks find_landmarks",
    "match": "Match proof",
    "memory": "Segment Span",
    "msgbuf": "Messages buffers messages",
    "msgscan": "Buffer boots",
    "namelist": "Symbol SymbolTable",
    "panic": "Summary summary",
    "rangefile": "RangeForm write_range",
    "registers": "panic_registers trap_registers",
    "report": "report_text",
    "sample": "Sample SampleFrame make_sample sample_names",
    "savecore": "SavePlan Saved plan_save save",
    "savesource": "Hole",
    "search": "find open",
    "text": "decode printable",
    "translate": "Mapping Step",
    "undo": "record_in",
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
