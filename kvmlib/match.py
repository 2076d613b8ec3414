"""Does this kernel belong to this dump: what speaks for it and against it, and the one check that proves it.

The kernel's ``version`` (sys/conf/newvers.sh) lies at an address that its symbols know. Where the dump's page tables
turn that address into the place at which a search of memory finds the kernel's banner, header, page tables and symbols
are right, all at once. That the version is the same proves nothing: OpenBSD links the same objects in another order at
each boot (KARL), so two kernels of one build share all their words and none of their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from operator import eq
from typing import Literal
from weakref import WeakKeyDictionary

from kvmlib.carve import carve
from kvmlib.errors import FormatError, KvmError, TranslationError
from kvmlib.identify import find_banner
from kvmlib.kernelfile import KernelFile, spread
from kvmlib.kvm import Kvm
from kvmlib.namelist import SymbolTable
from kvmlib.ports.base import NETBSD, OPENBSD, Mmu
from kvmlib.text import c_string, decode, printable
from kvmlib.translate import Translator, Unavailable

Verdict = Literal["same", "same build", "other", "unknown"]

#: Symbols that are looked at.
_SAMPLES = 64
#: From this many samples on they say something.
_ENOUGH = 8
#: A sample is the same where this part of its bytes is: kernels patch their own code while they run.
_SAME_BYTES = 0.75
#: Of the samples at least half are the same in the right kernel, even where something was written over a part of the
#: dump, and few in another. Where nearly all names are common to two tables, they are of one build.
_HALF, _FEW, _NEARLY_ALL = 0.5, 0.3, 0.95
#: Banners that are looked at: the kernel's own lies low, copies of it in messages and files don't matter.
_BANNERS = 32
#: Room of ``version`` in bytes; savecore(8) reads no more.
_VERSION_MAX = 512
#: First long of struct msgbuf (sys/msgbuf.h).
_MSG_MAGIC = 0x063061


@dataclass(frozen=True, slots=True)
class Match:
    """How well a kernel's symbols fit a dump.

    Attributes:
        score: 0 to 100.
        verdict: ``same`` is proven; ``same build`` has the same version and other addresses, so that types fit and
            addresses don't; ``other`` is another kernel; ``unknown`` says that neither was proven.
        reasons: what speaks for it and against it.
        version_va: the address of ``version`` by these symbols, None without that symbol.
        version_pa: what it translates to, None where it doesn't.
        banner_pa: where a search of memory found the kernel's banner, None where it found none.
    """

    score: int
    verdict: Verdict
    reasons: tuple[str, ...]
    version_va: int | None = None
    version_pa: int | None = None
    banner_pa: int | None = None

    @property
    def fits(self) -> bool:
        """Whether nothing was found that speaks against using its addresses."""
        return self.verdict in ("same", "unknown")


def match(kd: Kvm, symbols: SymbolTable, carved: SymbolTable | None = None) -> Match:
    """Weigh whether `symbols` are those of the kernel that `kd` is a dump of, whichever `kd` itself uses.

    Args:
        kd: the dump; it isn't changed.
        symbols: of a kernel; where they have a `path`, the contents of that file are compared too.
        carved: the symbols that were found in the dump itself, if they were.

    Raises:
        FormatError: the dump has no header yet.
    """
    if kd.reading is None:
        raise FormatError(f"no valid dump header in {printable(kd.path)} yet")
    if not len(symbols):
        return Match(0, "unknown", ("there are no symbols",))
    with closing(KernelFile(symbols.path)) as contents:
        return _Trial(kd, symbols, contents).judge(carved)


def proof(kd: Kvm) -> str:
    """Say in one line whether the symbols that `kd` uses are the right ones, and how that is known.

    Raises:
        FormatError: the dump has no header yet.
    """
    if not len(kd.symbols):
        return f"not known: {printable(kd.symbols.source).removeprefix('none: ')}"
    m = cached(kd)
    if m.verdict == "same":
        return f"{m.reasons[0]}: header, page tables and symbols agree"
    if m.verdict == "unknown":
        return f"not proven: {'; '.join(m.reasons)}"
    return f"THIS KERNEL DOES NOT MATCH ({m.verdict}, score {m.score}): {'; '.join(m.reasons)}"


#: The last answer for a dump and the symbols that it used.
_cache: WeakKeyDictionary[Kvm, tuple[SymbolTable, Match]] = WeakKeyDictionary()


def cached(kd: Kvm) -> Match:
    """Return how well the symbols that `kd` uses fit it; the answer is kept for as long as it uses them.

    Where nothing else tells, a kernel file's symbols are compared with those in the dump.
    """
    if (known := _cache.get(kd)) is None or known[0] is not kd.symbols:
        m = match(kd, kd.symbols)
        if m.verdict == "unknown" and kd.symbols.path is not None and kd.reading is not None:
            found = carve(kd.image, kd.reading.memory(kd.image), kd.reading.machine)
            m = match(kd, kd.symbols, found[0].table) if found else m
        known = _cache[kd] = kd.symbols, m
    return known[1]


def check(kd: Kvm) -> None:
    """See to it that the symbols `kd` uses don't belong to another kernel.

    Raises:
        KvmError: they do; says why, and what to do about it.
    """
    if not len(kd.symbols) or (m := cached(kd)).fits:
        return
    hint = "the symbols in the dump itself are the right ones"
    if kd.machine is not None and kd.machine.os == "openbsd":
        hint = f"OpenBSD relinks its kernel at each boot (KARL), so the one on disk is seldom the one that died: {hint}"
    raise KvmError(
        f"{printable(kd.symbols.path or kd.symbols.source)} is not the kernel of this dump: {'; '.join(m.reasons)}; "
        f"{hint}; --force-kernel (force=True) uses this one all the same"
    )


# -- the evidence ----------------------------------------------------------------------------------------------------


class _Trial:
    """One kernel's evidence. Points make the score; what is `right` or `wrong` beyond chance makes the verdict."""

    def __init__(self, kd: Kvm, symbols: SymbolTable, contents: KernelFile) -> None:
        assert kd.reading is not None
        assert kd.dump_off is not None
        self.symbols, self.contents, self.image = symbols, contents, kd.image
        self.machine = kd.reading.machine
        self.memory = kd.reading.memory(kd.image)
        #: Translation itself asks for symbols, so that wrong ones may lead anywhere.
        self.needs_symbols = False
        self.translator = self._translator(kd)
        #: Banners in memory: physical address -> file offset.
        self.banners = self._search(kd.dump_off)
        self.banner = next(
            (pa for pa, at in self.banners.items() if self._is_variable(at)), min(self.banners, default=None)
        )
        self.reasons: list[str] = []
        self.points = 50
        self.right: set[str] = set()
        self.wrong: set[str] = set()
        #: Variables that hold what they should.
        self.variables = 0
        self.version = symbols.get("version")
        self.version_pa: int | None = None
        #: The kernel file's version is one that memory has; None where that isn't known.
        self.same_words: bool | None = None
        #: The dump's own table has the same names and other addresses.
        self.relinked = False

    def _translator(self, kd: Kvm) -> Translator:
        """Set translation up with these symbols, as `Kvm` does it with its own."""

        def value(name: str) -> int | None:
            self.needs_symbols = True
            found = self.symbols.get(name)
            return found.value if found else None

        assert kd.reading is not None
        size = self.memory.end - kd.reading.headers.data_off
        try:
            return self.machine.mmu(Mmu(kd.cpu_hdr, self.memory.read, value, kd.cpu_data, size))
        except KvmError as e:
            return Unavailable(str(e), 8 * self.machine.long_bytes)

    def _search(self, start: int) -> dict[int, int]:
        """Search memory for banners. Copies behind ``@(#)`` are left out: they are the variable ``sccs``."""
        found: dict[int, int] = {}
        for _ in range(_BANNERS):
            hit = find_banner(self.image, start, self.image.size)
            if hit is None:
                break
            at, start = hit[0], hit[0] + len(hit[1])
            pa = self.memory.pa_at(at)
            if pa is not None and self._raw(at - 4, 4) != b"@(#)":
                found[pa] = at
        return found

    def _raw(self, at: int, n: int) -> bytes:
        """Return up to `n` bytes of the image, none where the disk is bad."""
        with suppress(KvmError):
            return self.image.read(at, n)
        return b""

    def _is_variable(self, at: int) -> bool:
        """Tell whether a banner is a string of its own, of two lines. Among messages there are others around it."""
        text, end, _ = self._raw(at, _VERSION_MAX).partition(b"\0")
        return bool(end) and text.count(b"\n") <= 2 and self._raw(at - 1, 1) == b"\0"

    def judge(self, carved: SymbolTable | None) -> Match:
        """Weigh it all."""
        self._compare_words()
        self._check_version()
        self._compare_text()
        if carved is not None and carved is not self.symbols:
            self._compare_table(carved)
        self._check_variables()
        verdict = self._verdict()
        low, high = {"same": (80, 100), "unknown": (20, 79)}.get(verdict, (0, 19))
        score, va = max(low, min(high, self.points)), self.version.value if self.version else None
        banner = self.version_pa if "version" in self.right else self.banner
        return Match(score, verdict, tuple(self.reasons), va, self.version_pa, banner)

    def _verdict(self) -> Verdict:
        # The table in the dump may be an older boot's, so it doesn't count against the proof.
        if "version" in self.right and self.wrong <= {"table"}:
            return "same"
        if self.banner is None:
            # What has no banner in it may be no kernel's memory at all, so it doesn't count against its text.
            self.wrong.discard("text")
        # Something may have been written over `version`.
        spared = self.wrong == {"version"} and self.variables == 2
        if not self.wrong or self.right or spared:
            return "unknown"
        return "same build" if self.same_words or (self.same_words is None and self.relinked) else "other"

    def _note(self, reason: str, points: int = 0, what: str = "") -> None:
        """Take a reason down; `what` names the evidence where it decides."""
        # What speaks of `version` comes first: it is the one check that proves all.
        self.reasons.insert(0 if what == "version" else len(self.reasons), reason)
        self.points += points
        if what:
            (self.right if points > 0 else self.wrong).add(what)

    def _compare_words(self) -> None:
        """Compare the kernel file's own words with those in memory."""
        its = {s.name: s.title for s in (OPENBSD, NETBSD)}.get(self.symbols.system or "")
        if its not in (None, self.machine.system.title):
            self._note(f"it is a kernel of {its}, the dump is {self.machine.system.title}'s", -40, "system")
        if self.contents.problem:
            self._note(self.contents.problem)
        words = c_string(self.contents.some(self.version.value, _VERSION_MAX)).strip() if self.version else b""
        if not words.startswith((OPENBSD.banner, NETBSD.banner)) or not self.banners:
            return
        self.same_words = any(self._raw(at, len(words)) == words for at in self.banners.values())
        if self.same_words:
            self._note("its version is the dump's too, which alone proves nothing", 5)
        else:
            assert self.banner is not None
            theirs = self._raw(self.banners[self.banner], _VERSION_MAX)
            self._note(f'its version is "{_line(words)}", the dump\'s is "{_line(theirs)}"', -40, "words")

    def _check_version(self) -> None:
        """Make the one check: does ``version`` translate to where the banner is?"""
        if self.version is None:
            self._note("it has no symbol version, so the one check that proves all cannot be made")
            return
        banner, va = self.banner, self.version.value
        try:
            self.version_pa = pa = self.translator.kvatop(va)[0]
            self.memory.read(pa, 1)
        except TranslationError as e:
            if banner is not None and self._works():
                self._note(f"version at va {va:#x} is not mapped, but the banner is at pa {banner:#x}", -40, "version")
            else:
                self._note(f"version cannot be checked: {e}")
        except KvmError as e:
            self._note(f"version at va {va:#x} cannot be checked: {e}")
        else:
            at = self.memory.locate(pa, 1)[0]
            hit = find_banner(self.image, at, at + _VERSION_MAX)
            if hit is not None and hit[0] == at:
                if self.same_words is not False:
                    self._note(f"version at va {va:#x} is pa {pa:#x}, where the banner is", 40, "version")
            elif banner is not None:
                self._note(f"version at va {va:#x} is pa {pa:#x}, but the banner is at pa {banner:#x}", -40, "version")
            else:
                self._note(f"version at va {va:#x} is pa {pa:#x}: no banner is there, nor elsewhere in memory")

    def _works(self) -> bool:
        """Tell whether any symbol's address translates."""
        return any(self._read(s.value, 1) is not None for s in spread(list(self.symbols), _SAMPLES))

    def _read(self, va: int, n: int) -> bytes | None:
        """Return `n` bytes at `va` by these symbols' translation, None where they aren't all there."""
        data = b""
        with suppress(KvmError):
            while len(data) < n:
                pa, m = self.translator.kvatop(va + len(data))
                data += self.memory.read(pa, min(m, n - len(data)))
            return data
        return None

    def _read_near(self, banner: int, va: int, n: int) -> bytes | None:
        """Return `n` bytes at `va` as if memory lay around `banner` as the kernel file does around ``version``."""
        assert self.version is not None
        with suppress(KvmError):
            return self.memory.read(max(0, banner + va - self.version.value), n)
        return None

    def _compare_text(self) -> None:
        """Compare what the kernel file has at some of its symbols with what the dump has there."""
        samples = self.contents.samples(self.symbols, _SAMPLES)
        if len(samples) < _ENOUGH:
            if self.symbols.path is not None and not self.contents.problem:
                self._note("it has no contents, or too few, to compare with memory")
            return
        same, seen = _agreement(samples, self._read)
        if seen >= _ENOUGH:
            text = f"{same} of {seen} pieces of its text and constants are in memory where its symbols say"
            self._note(text, *_weigh(same, seen, 25, "text"))
        elif self.version is not None and self.same_words:
            # Kernels are loaded in one piece, so without translation there is still the distance from the banner.
            near = [_agreement(samples, partial(self._read_near, b)) for b in self.banners]
            same, seen = max(near)
            text = f"{same} of {seen} pieces of its text and constants lie as far from the banner as they should"
            points, what = _weigh(same, seen, 25, "distance")
            # Where wrong symbols can't be why nothing translates, the kernel may as well lie in several pieces.
            self._note(text, *((points, what) if points > 0 or self.needs_symbols else ()))

    def _compare_table(self, carved: SymbolTable) -> None:
        """Compare the symbols with those that were found in the dump."""
        theirs: dict[str, set[int]] = {}
        for s in carved:
            theirs.setdefault(s.name, set()).add(s.value)
        # Absolute symbols are the same wherever the rest is, and modules have tables of their own.
        mine = [s for s in self.symbols if s.kind not in "Aa" and not s.module]
        common = [s for s in mine if s.name in theirs]
        if len(common) < _ENOUGH:
            return
        same = sum(s.value in theirs[s.name] for s in common)
        points, what = _weigh(same, len(common), 25, "table")
        if points < 0 and len(common) >= _NEARLY_ALL * max(len(mine), len(theirs)):
            self.relinked = True
        self._note(f"{same} of {len(common)} names in the dump's own symbol table have its addresses", points, what)

    def _check_variables(self) -> None:
        """Look at two variables whose contents are known."""
        mag, msgbufp = self.symbols.get("dumpmag"), self.symbols.get("msgbufp")
        if mag is not None:
            value = self._integer(mag.value, self.machine.dumpmag_bytes)
            if value in self.machine.dumpmag:
                self._note(f"dumpmag holds {value:#x}, as a fresh dump's does", 5)
                self.variables += 1
            elif value:
                self._note(f"dumpmag holds {value:#x}, which is none of its values", -5)
        if msgbufp is not None:
            long = self.machine.long_bytes
            magic = None if (va := self._integer(msgbufp.value, long)) is None else self._integer(va, long)
            if magic == _MSG_MAGIC:
                self._note("msgbufp leads to a message buffer", 5)
                self.variables += 1
            elif magic is not None:
                self._note("msgbufp leads to no message buffer", -5)

    def _integer(self, va: int, n: int) -> int | None:
        data = self._read(va, n)
        return None if data is None else int.from_bytes(data, self.machine.byteorder)


def _line(text: bytes) -> str:
    return decode(c_string(text).partition(b"\n")[0][:100])


def _agreement(samples: Sequence[tuple[int, bytes]], read: Callable[[int, int], bytes | None]) -> tuple[int, int]:
    """Return how many samples are in memory, and how many could be looked at."""
    same = seen = 0
    for va, data in samples:
        there = read(va, len(data))
        if there is not None:
            seen += 1
            same += sum(map(eq, data, there)) >= _SAME_BYTES * len(data)
    return same, seen


def _weigh(same: int, of: int, points: int, what: str) -> tuple[int, str]:
    """Return what `same` of `of` things weigh: nothing where they are neither few nor many, or too few at all."""
    if of < _ENOUGH or _FEW * of < same < _HALF * of:
        return 0, ""
    return (points * same // of, what) if same >= _HALF * of else (-points, what)
