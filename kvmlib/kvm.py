"""One dump and kvm(3)'s verbs on it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping as MappingType
from types import MappingProxyType, TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from kvmlib.errors import (
    FormatError,
    KvmError,
    NotInDumpError,
    SymbolError,
    TranslationError,
    TruncatedError,
)
from kvmlib.identify import Reading, doubt, open_dump, readings
from kvmlib.image import Image
from kvmlib.kcore import Headers, KcoreHdr, build_saved
from kvmlib.memory import PhysicalMemory, Segment, Span
from kvmlib.namelist import NO_SYMBOLS, Symbol, SymbolTable, read_elf, resolve
from kvmlib.ports import machine as machine_by_name
from kvmlib.ports.base import Machine, Mmu, Register
from kvmlib.text import printable
from kvmlib.translate import Mapping, Step, Translator

#: What a kernel file of the other system, word size or byte order takes from a reading's score: less than the kernel's
#: own words in memory do.
_OTHER_KERNEL = 25

P = ParamSpec("P")
R = TypeVar("R")


class Writer(Protocol):
    """What `Kvm.dump_wrtheader` writes to: a file, a pipe, a gzip stream."""

    def write(self, data: bytes, /) -> int | None:
        """Take `data`, or the first part of it."""
        ...


class DumpMag(NamedTuple):
    """The kernel's ``dumpmag`` as the dump holds it: where it lies, its bytes, and what they mean.

    `state` is ``fresh`` (a dump that was not saved yet), ``cleared`` (saved or invalidated) or ``unknown``.
    """

    va: int
    pa: int
    offset: int
    data: bytes
    value: int
    state: str


class Invalidation(NamedTuple):
    """What `Kvm.dump_inval` did: file offset, the bytes before, the bytes now."""

    offset: int
    before: bytes
    after: bytes


def _remembers(method: Callable[Concatenate[Kvm, P], R]) -> Callable[Concatenate[Kvm, P], R]:
    """Keep an error's text for `Kvm.geterr`, as libkvm does."""

    @functools.wraps(method)
    def wrapper(self: Kvm, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except KvmError as e:
            self._error = str(e)
            raise

    return wrapper


def _strange(symbols: SymbolTable, m: Machine) -> bool:
    """Tell whether a kernel file can't be the machine's, as far as it says what it is."""
    return (
        symbols.system not in (None, m.os)
        or symbols.elf_bits not in (None, 8 * m.long_bytes)
        or symbols.byteorder not in (None, m.byteorder)
        or symbols.elf_machine not in (None, m.elf_machine)
    )


class Kvm:
    """A dump, opened (kvm_openfiles(3)). Use it as a context manager.

    Attributes:
        path: the file or device.
        image: its bytes.
        symbols: the kernel's symbols, empty without a kernel file.
        reading: how the headers were read and why that machine was chosen; None until there is a header.
        runners_up: the other machines it could be, best first.
        kernel_note: why a kernel file that lies beside the dump isn't used; empty where there is nothing to say.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        system: str | os.PathLike[str] | SymbolTable | None = None,
        machine: str | Machine | None = None,
        write: bool = False,
    ) -> None:
        """Open a dump; take a saved core's headers if there are any, else none yet.

        Args:
            path: a saved core (plain or packed), an image or a device.
            system: the kernel file that the dump is of, or its symbols.
            machine: ``os/arch``, to overrule what the evidence says.
            write: allow `dump_inval`.

        Raises:
            KvmError: a file can't be opened; `machine` is unknown.
            FormatError: `system` is no kernel file.
        """
        self._wanted = machine_by_name(machine) if machine is not None else None
        self._error = ""
        self.path = os.fsdecode(path)
        self.symbols = NO_SYMBOLS
        self.kernel_note = ""
        self.reading: Reading | None = None
        self.runners_up: tuple[Reading, ...] = ()
        self._memory: PhysicalMemory | None = None
        self._translator: Translator | None = None
        self._has_known_ram = False
        self.image: Image = open_dump(path, write)
        try:
            if system is not None:
                self.symbols = system if isinstance(system, SymbolTable) else read_elf(system)
            if self.image.read(2, 2) == b"\x8f\xca":
                self._take(self._saved_readings())
        except BaseException:
            self.close()
            raise

    def _saved_readings(self) -> list[Reading]:
        try:
            return readings(self.image, None, self._wanted)
        except FormatError as e:
            # Not a saved core, or a damaged one. As in libkvm that is no error yet: there may be a device's header.
            self._error = str(e)
            return []

    def _take(self, found: list[Reading]) -> None:
        if not found:
            return
        self._decide(found, self.symbols)

    def set_symbols(self, symbols: SymbolTable) -> None:
        """Use these symbols from now on. Where all else leaves two systems alike, they decide which one it is.

        Raises:
            FormatError: they are another CPU's.
        """
        self._decide([self.reading, *self.runners_up] if self.reading else [], symbols)

    def _decide(self, found: list[Reading], symbols: SymbolTable) -> None:
        found = sorted(found, key=lambda r: -r.score + _OTHER_KERNEL * _strange(symbols, r.machine))
        if found and symbols.elf_machine not in (None, found[0].machine.elf_machine):
            raise FormatError(
                f"{printable(symbols.path or symbols.source)} is a kernel for {symbols.elf_machine}, "
                f"but the dump is {found[0].machine.name}'s ({found[0].machine.elf_machine} was expected)"
            )
        if found:
            self.reading, self.runners_up = found[0], tuple(found[1:])
        self.__dict__.pop("cpu_hdr", None)
        self.symbols = symbols
        self._translator = None
        self._memory = None

    # -- kvm_dump(3) -------------------------------------------------------------------------------------------------

    @_remembers
    def dump_mkheader(self, dump_off: int) -> int:
        """Find a dump device's header at file offset `dump_off` (bytes) and enable translation: kvm_dump_mkheader(3).

        Returns:
            The bytes of header before the memory data; `dump_off` is then the offset of that data.

        Raises:
            FormatError: there is no believable header; the sentence names the bytes that are there.
            KvmError: this dump already has a header.
        """
        if self.reading is not None:
            raise KvmError(f"{printable(self.path)} already has a dump header, at {self.reading.headers.offset:#x}")
        if dump_off < 0:
            raise FormatError(f"invalid dump offset: {dump_off} lies before the start of {printable(self.path)}")
        self._take(readings(self.image, dump_off, self._wanted))
        return self._headers.data_off - dump_off

    @_remembers
    def dump_wrtheader(self, fp: Writer, dumpsize: int) -> int:
        """Write a saved core's headers to `fp`, which needs no seeking: kvm_dump_wrtheader(3).

        Args:
            fp: anything with ``write``; it may take less than it is given.
            dumpsize: size of the memory data in bytes; its low 32 bits go into CORE_DATA, as the systems do.

        Returns:
            The bytes written; the memory data comes next.

        Raises:
            FormatError: no header was found yet.
            KvmError: `fp` can't take it (disk full, pipe closed).
        """
        headers = self._headers
        data = build_saved(self._machine.abi, headers.kcore_hdr, headers.cpu_data, dumpsize)
        left = memoryview(data)
        try:
            while left:
                taken = fp.write(bytes(left))
                if taken == 0:
                    raise KvmError("cannot write the dump headers: nothing more is taken")
                left = left[len(left) if taken is None else taken :]
        except OSError as e:
            raise KvmError(f"cannot write the dump headers: {e.strerror}") from e
        return len(data)

    @_remembers
    def dump_inval(self) -> Invalidation:
        """Clear the kernel's ``dumpmag``, and only it, so that the dump isn't saved again: kvm_dump_inval(3).

        Raises:
            ReadOnlyError: the dump wasn't opened with ``write=True``, or can't be written.
            SymbolError: the address of dumpmag isn't known.
            TranslationError, NotInDumpError, TruncatedError: dumpmag isn't in the dump.
            KvmError: it holds no dumpmag value now (it was cleared before, or this isn't the right kernel file); the
                disk fails, or has something else there afterwards.
        """
        self.image.check_writable()
        mag = self.dumpmag_to_clear()
        after = bytes(len(mag.data))
        self.image.write(mag.offset, after, (mag.data,))
        self._translator = None
        return Invalidation(mag.offset, mag.data, after)

    @_remembers
    def dumpmag_to_clear(self) -> DumpMag:
        """Look at the kernel's ``dumpmag``, and see to it that `dump_inval` would clear it; nothing is changed.

        Raises:
            SymbolError, TranslationError, NotInDumpError, TruncatedError, KvmError: as in `dump_inval`.
        """
        mag = self.dumpmag()
        if mag.state != "fresh":
            expected = " or ".join(f"{v:#x}" for v in self._machine.dumpmag)
            was = "it was cleared before" if mag.state == "cleared" else "perhaps this is not the right kernel file"
            raise KvmError(
                f"dumpmag at file offset {mag.offset:#x} holds {mag.value:#x}, {expected} was expected: {was}; "
                "nothing was written"
            )
        return mag

    @_remembers
    def dumpmag(self) -> DumpMag:
        """Look at the kernel's ``dumpmag`` without changing it.

        Raises:
            SymbolError, TranslationError, NotInDumpError, TruncatedError: as in `dump_inval`.
        """
        symbol = self.symbols.get("dumpmag")
        if symbol is None:
            why = (
                self.symbols.source if not len(self.symbols) else f"{printable(self.symbols.source)} has no such symbol"
            )
            raise SymbolError(f"_dumpmag: not in name list ({why}), so it is not known where dumpmag lies")
        size = self._machine.dumpmag_bytes
        pa, n = self.kvatop(symbol.value)
        if n < size:
            raise TranslationError(
                f"dumpmag at va {symbol.value:#x} crosses a page: is this the right kernel file?", symbol.value
            )
        data = self.read(symbol.value, size)
        value = int.from_bytes(data, self._machine.byteorder)
        state = "fresh" if value in self._machine.dumpmag else "cleared" if value == 0 else "unknown"
        return DumpMag(symbol.value, pa, self.pa2off(pa), data, value, state)

    # -- what the dump is --------------------------------------------------------------------------------------------

    @property
    def doubt(self) -> str:
        """Which other machines the dump could be of just as well, with what to do about it; empty without a doubt."""
        if self.reading is None or self._wanted is not None or self.symbols.path is not None:
            return ""
        return doubt(self.reading, self.runners_up)

    @property
    def _found(self) -> Reading:
        if self.reading is None:
            raise FormatError(
                f"no valid dump header in {printable(self.path)} yet" + (f": {self._error}" if self._error else "")
            )
        return self.reading

    @property
    def _headers(self) -> Headers:
        return self._found.headers

    @property
    def _machine(self) -> Machine:
        return self._found.machine

    @property
    def machine(self) -> Machine | None:
        """The machine the dump is of; None until a header was found, unless one was asked for."""
        return self.reading.machine if self.reading else self._wanted

    @property
    def form(self) -> str | None:
        """``device`` or ``savecore``; None until a header was found."""
        return self.reading.headers.form if self.reading else None

    @property
    def kcore_hdr(self) -> KcoreHdr | None:
        """The kcore_hdr, as in the file or as made for a device; None until a header was found."""
        return self.reading.headers.kcore_hdr if self.reading else None

    @property
    def cpu_data(self) -> bytes:
        """The CORE_CPU segment's bytes; empty until a header was found."""
        return self.reading.headers.cpu_data if self.reading else b""

    @property
    def dump_off(self) -> int | None:
        """File offset of the first byte of memory; None until a header was found."""
        return self.reading.headers.data_off if self.reading else None

    @functools.cached_property
    def cpu_hdr(self) -> MappingType[str, Any]:
        """The machine's cpu_kcore_hdr: C field names and their numbers; empty where the system has none."""
        return MappingProxyType(self._machine.parse_cpu_hdr(self.cpu_data))

    @property
    def registers(self) -> list[Register]:
        """The registers in the CORE_CPU segment, decoded."""
        return self._machine.registers(self.cpu_hdr)

    @property
    def segments(self) -> list[Segment]:
        """The RAM segments: as the header lists them, or, where it lists none, as the kernel's variables do."""
        memory = self.memory
        return memory.segments if self._found.segments is not None or self._has_known_ram else []

    @property
    def ram(self) -> list[Segment]:
        """All that the dump can hold: `segments` that aren't empty; where nothing lists any, one run from pa 0 on."""
        return self.memory.ram

    @property
    def memory(self) -> PhysicalMemory:
        """Physical memory."""
        if self._memory is None:
            self._memory = self._lay_out()
        return self._memory

    def _lay_out(self) -> PhysicalMemory:
        found = self._found
        memory = found.memory(self.image)
        self._has_known_ram = False
        if found.machine.known_ram is not None:
            known = found.machine.known_ram(self._mmu(memory))
            self._has_known_ram = bool(known)
            if known:
                size = max(s.start + s.size for s in known)
                memory = PhysicalMemory.linear(self.image, found.headers.data_off, size, known)
        return memory

    @property
    def translator(self) -> Translator:
        """What turns a va into a pa."""
        if self._translator is None:
            self._translator = self._machine.mmu(self._mmu(self.memory))
        return self._translator

    def _mmu(self, memory: PhysicalMemory) -> Mmu:
        size = memory.end - self._headers.data_off
        return Mmu(self.cpu_hdr, memory.read, self._symbol_value, self.cpu_data, size)

    # -- addresses ---------------------------------------------------------------------------------------------------

    @_remembers
    def kvatop(self, va: int) -> tuple[int, int]:
        """Return (pa, n): where `va` lies and the bytes that stay contiguous from there within its page.

        Raises:
            TranslationError: it lies nowhere; its `size` is how far that goes.
        """
        return self.translator.kvatop(va)

    @_remembers
    def pa2off(self, pa: int) -> int:
        """Return the file offset of a physical address.

        Where memory is one run and nothing lists its parts (openbsd/i386 without symbols), this is only arithmetic.

        Raises:
            NotInDumpError: no segment holds it.
        """
        memory = self.memory
        if self._found.segments is None and not self._has_known_ram and 0 <= pa < 1 << self.translator.bits:
            return self._headers.data_off + pa
        return memory.locate(pa, 1)[0]

    def walk(self, va: int) -> list[Step]:
        """Return each step of the translation of `va`; the last says how it ended. It never raises."""
        return [dataclasses.replace(s, entry_offset=self._offset_or_none(s.entry_pa)) for s in self.translator.walk(va)]

    def _offset_or_none(self, pa: int | None) -> int | None:
        if pa is None:
            return None
        try:
            offset = self.memory.locate(pa, 1)[0]
        except NotInDumpError:
            return None
        return offset if offset < self.image.size else None

    def mappings(self, start: int = 0, stop: int | None = None) -> Iterator[Mapping]:
        """Yield the mapped ranges of [start, stop), ascending; adjacent pages with the same protection are merged."""
        return self.translator.mappings(start, stop)

    # -- memory ------------------------------------------------------------------------------------------------------

    @_remembers
    def read(self, va: int, n: int) -> bytes:
        """Return all `n` bytes at virtual address `va`.

        Raises:
            TranslationError: a part isn't mapped.
            NotInDumpError: a part is mapped but wasn't dumped.
            TruncatedError: a part lies behind the end of the file.
        """
        translator = self.translator
        try:
            if n > 0:
                # Most reads end in the page where they begin, and need no list of pages: an eighth less time.
                pa, left = translator.kvatop(va)
                if n <= left:
                    return self.memory.read(pa, n)
            return self.memory.gather(translator.pages(va, n))
        except NotInDumpError as e:
            at, left = self._first_at(e.pa, va, n)
            raise NotInDumpError(f"va {at:#x} is mapped, but {e}", e.pa, at, min(e.size, left)) from e
        except TruncatedError as e:
            at, _ = self._first_at(e.pa, va, n)
            raise TruncatedError(
                f"va {at:#x} is pa {e.pa:#x}, which should be at file offset {e.offset:#x}, "
                f"but the file ends at {self.image.size:#x}",
                e.pa,
                e.offset,
                at,
            ) from e

    def _first_at(self, pa: int, va: int, n: int) -> tuple[int, int]:
        """Return the first va of the `n` bytes at `va` that lies at `pa`, and the bytes left in its page."""
        for start, m in self.translator.pages(va, n):
            if start <= pa < start + m:
                return va + pa - start, start + m - pa
            va = va + m & (1 << self.translator.bits) - 1
        # The file has changed meanwhile.
        return va, n

    @_remembers
    def read_physical(self, pa: int, n: int) -> bytes:
        """Return all `n` bytes at physical address `pa`.

        Raises:
            NotInDumpError, TruncatedError: as in `read`.
        """
        return self.memory.read(pa, n)

    def spans(self, va: int, n: int) -> Iterator[Span]:
        """Yield what is known of the `n` bytes at `va`, part by part, each with its kind. It never raises."""
        hole, hole_size = va, 0
        top = 1 << self.translator.bits
        while n > 0:
            if va == top:
                # As in `read`: behind the last address comes 0.
                if hole_size:
                    yield Span(hole, hole_size, "unmapped", None, None, None)
                va = hole = hole_size = 0
            try:
                pa, m = self.translator.kvatop(va)
            except TranslationError as e:
                m = max(1, min(n, e.size, top - va if va < top else n))
                hole_size += m
            else:
                if hole_size:
                    yield Span(hole, hole_size, "unmapped", None, None, None)
                m = min(n, m)
                for span in self.memory.spans(pa, m):
                    yield span._replace(va=va + span.va - pa)
                hole, hole_size = va + m, 0
            va += m
            n -= m
        if hole_size:
            yield Span(hole, hole_size, "unmapped", None, None, None)

    # -- symbols -----------------------------------------------------------------------------------------------------

    def nlist(self, *names: str) -> dict[str, Symbol]:
        """Look symbols up: missing names are absent, a leading underscore is optional (nlist(3))."""
        return {name: symbol for name in names if (symbol := self.symbols.get(name)) is not None}

    def _symbol_value(self, name: str) -> int | None:
        symbol = self.symbols.get(name)
        return symbol.value if symbol else None

    def describe(self, va: int) -> str:
        """Name an address as symbol+offset, where a symbol lies at most 1 MiB before it; empty otherwise."""
        return self.symbols.describe(va)

    @_remembers
    def address(self, text: str) -> int:
        """Return the address that a person wrote: 0x1234, symbol, symbol+0x10, register name, or plain hex digits.

        Raises:
            SymbolError: it is none of these.
        """
        registers = {r.name: r.value for r in self.registers} if self.reading else {}
        return resolve(text, self.symbols, registers)

    # -- housekeeping ------------------------------------------------------------------------------------------------

    def geterr(self) -> str:
        """Return the text of the last error, empty if there was none: kvm_geterr(3)."""
        return self._error

    def close(self) -> None:
        """Close the dump: kvm_close(3)."""
        self.image.close()

    def __enter__(self) -> Kvm:
        """Use the dump until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the dump."""
        self.close()
