"""The guided tour: short steps about one dump, each with something to do, in the words of the machine's own facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import kvmlib

#: Mapped ranges that are looked at for an address that goes through page tables.
_LOOKED_AT = 200
#: Columns of a value's text that still fits into a step.
_LONG = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """What a person sees, as far as a step wants to know it.

    Attributes:
        view: the id of the view.
        field: the field under the cursor in Header.
        both: whether Header shows both forms.
        va, pa: the address under the cursor in Memory; one of them, or none.
        walking: the address whose page walk the cursor is in.
        walked: whether it stands at the walk's end.
        saved: whether the dump was saved.
        cleared: whether dumpmag is cleared.
    """

    view: str = ""
    field: kvmlib.Field | None = None
    both: bool = False
    va: int | None = None
    pa: int | None = None
    walking: int | None = None
    walked: bool = False
    saved: bool = False
    cleared: bool = False


@dataclass(frozen=True, slots=True)
class LessonStep:
    """A step.

    Attributes:
        title: a few words.
        text: what there is to learn.
        task: what to do.
        done: whether it was done; None where there is nothing to check.
    """

    title: str
    text: str
    task: str
    done: Callable[[Scene], bool] | None = None


class Lesson:
    """The steps for one dump."""

    def __init__(self, kd: kvmlib.Kvm) -> None:
        """Write the steps; the dump must have a header.

        Raises:
            FormatError: it has none.
        """
        if kd.machine is None or kd.reading is None:
            raise kvmlib.FormatError("no valid dump header yet, so there is nothing to teach on it")
        self.kd = kd
        self.machine = kd.machine
        self._start = kd.reading.headers.offset
        self._listed = kd.reading.segments is not None
        #: The address of the kernel's banner, and one that goes through page tables where there is one.
        symbol = kd.symbols.get("version")
        self.banner = symbol.value if symbol is not None and self._translated(symbol.value) else None
        self.va = self._through_tables()
        self.steps = tuple(self._steps())

    def _translated(self, va: int) -> bool:
        try:
            self.kd.pa2off(self.kd.kvatop(va)[0])
        except kvmlib.KvmError:
            return False
        return True

    def _through_tables(self) -> int | None:
        choices = [self.banner] if self.banner is not None else []
        # Where it can't be told what is mapped, the banner may still be.
        with suppress(kvmlib.KvmError):
            choices += [m.va for m in islice(self.kd.mappings(), _LOOKED_AT)]
        good = (va for va in choices if self.kd.walk(va)[-1].outcome == "page" and self._translated(va))
        return next(good, self.banner)

    def _steps(self) -> Iterator[LessonStep]:
        yield from self._find()
        yield from self._header()
        yield from self._memory()
        yield from self._end()

    # -- the dump and its header -------------------------------------------------------------------------------------

    def _find(self) -> Iterator[LessonStep]:
        name = f"{self.machine.system.title}/{self.machine.arch}"
        yield LessonStep(
            "a dump",
            f"{name} panicked. Its kernel wrote memory to the dump device, mostly the swap partition: for that "
            "it needs no file system. This is a sample of such a partition. The Summary says what was found in it.",
            "read why it panicked, then press n",
        )
        yield LessonStep(
            "where it lies",
            f"The dump begins at byte {self._start:#x}, block {self._start // 512} of 512 bytes: the kernel calls that "
            "dumplo. Around it lies what was swapped there before. A reader knows the dump by its first four bytes.",
            "press 2 to see its header",
            lambda scene: scene.view == "header",
        )

    def _header(self) -> Iterator[LessonStep]:
        machine, kd = self.machine, self.kd
        segment, cpu = kvmlib.header_fields(kd, "device")
        midmag, size = segment.children[:2]
        also = "" if machine.byteorder == "big" else ", also on this little-endian one"
        yield LessonStep(
            "the first four bytes",
            f"c_midmag is {midmag.raw.hex(' ')}: {midmag.text.partition(': ')[2]}. These 32 bits are big-endian on "
            f"every machine{also}, so that anyone can tell whose dump it is.",
            "move down to c_midmag",
            _on(midmag),
        )
        yield LessonStep(
            "the machine's own order",
            f"All else is in the order of {machine.name}, {machine.byteorder}-endian: the bytes {size.raw.hex(' ')} of "
            f"c_size are {size.value}. So many bytes of CPU data follow. The bytes of the field under the cursor "
            "are lit.",
            "move down to c_size",
            _on(size),
        )
        yield self._cpu(cpu)
        yield self._segments()
        hdr = kd.kcore_hdr
        assert hdr is not None
        yield LessonStep(
            "two forms",
            f"savecore(8) makes another form of it: a kcore_hdr of {hdr.c_hdrsize} bytes in front, KCORESEG_MAGIC in "
            f"the segment's midmag, its size rounded up to {machine.align_mask + 1} bytes, and one more header, "
            "CORE_DATA, before memory.",
            "press 2, then v: what differs is lit",
            lambda scene: scene.view == "header" and scene.both,
        )

    def _cpu(self, cpu: kvmlib.Field) -> LessonStep:
        machine = self.machine
        if machine.cpu_hdr is None:
            rest = cpu.children[-1]
            return LessonStep(
                "what only this machine has",
                f"Other machines have a structure in the CPU data that says where page tables and RAM are. "
                f"{machine.name} has none. Its bytes are {machine.cpu_rest}.",
                "press 2, and move down to the padding at the end",
                _on(rest),
            )
        registers = {fact.label for fact in machine.register_facts}
        field = next((f for f in cpu.children if f.name in registers), cpu.children[0])
        says = field.text
        if len(says) > _LONG and field.value is not None:
            says = f"{field.value:#x}; what its bits mean stands below the fields"
        return LessonStep(
            "what only this machine has",
            f"The CPU data begins with {machine.cpu_hdr.name}, of {machine.cpu_hdr.header}. There is {field.name}, "
            f"{field.meaning}. It is {says}.",
            f"press 2, and move down to {field.name}",
            _on(field),
        )

    def _segments(self) -> LessonStep:
        start = self.kd.dump_off or 0
        if self._listed and self.kd.segments:
            segments = self.kd.segments
            first = segments[0]
            count = "1 RAM segment" if len(segments) == 1 else f"{len(segments)} RAM segments"
            text = (
                f"The CPU data lists {count}. The first is pa {first.start:#x} to {first.start + first.size:#x}. "
                f"Their contents follow in this order, without the holes between them, from byte {start:#x} of the "
                "file on."
            )
        else:
            text = (
                f"This header lists no RAM segments: physical address p lies p bytes into the memory data, which "
                f"begins at byte {start:#x} of the file."
            )
        return LessonStep("which memory", text, "press 4 to see it to scale", lambda scene: scene.view == "segments")

    # -- memory ------------------------------------------------------------------------------------------------------

    def _memory(self) -> Iterator[LessonStep]:
        kd, va = self.kd, self.banner
        if va is None:
            yield LessonStep(
                "memory",
                "A pointer of the kernel is a virtual address, and on this machine none can be translated: "
                f"{_short(kd.walk(0)[-1].note)}. So Memory shows physical addresses.",
                "press 5",
                lambda scene: scene.view == "memory",
            )
        else:
            yield LessonStep(
                "memory",
                f"A pointer of the kernel is a virtual address. The variable version, the kernel's banner, is at va "
                f"{va:#x}. Any symbol can be gone to by its name.",
                "press g, write version, press Enter",
                lambda scene: scene.va == va,
            )
        if self.va is not None:
            yield from self._walk(self.va)

    def _walk(self, va: int) -> Iterator[LessonStep]:
        kd = self.kd
        there = "" if va == self.banner else f"press g, write {va:x}, press Enter; then "
        yield LessonStep(
            "a translation",
            f"Where is va {va:#x}? This machine translates by {kd.translator.name}. The walk shows each step that its "
            "MMU does, or the one rule where no table is needed.",
            f"{there}press w, then Tab",
            lambda scene: scene.walking == va,
        )
        first, last = kd.walk(va)[0], kd.walk(va)[-1]
        pa = kd.kvatop(va)[0]
        if first.bits and first.index is not None:
            bits = f"{va >> first.shift & (1 << first.bits) - 1:0{first.bits}b}"
            where = f" of the {first.name} at pa {first.table_pa:#x}" if first.table_pa is not None else ""
            text = (
                f"Bits {first.shift + first.bits - 1}..{first.shift} of the va are {bits}: entry {first.index}{where}."
            )
            text += f" It is {first.entry:#x}: {first.note}." if first.entry is not None else f" {first.note}."
            text += " So it goes on to the page." if first is not last and last.outcome == "page" else ""
        else:
            text = f"{last.note}."
        yield LessonStep(
            "by hand",
            text,
            "press the down arrow until the last line, = pa",
            lambda scene: scene.walking == va and scene.walked,
        )
        offset = kd.pa2off(pa)
        number, segment = next((i, s) for i, s in enumerate(kd.ram) if s.start <= pa < s.start + s.size)
        yield LessonStep(
            "and in the file",
            f"pa {pa:#x} lies {pa - segment.start:#x} bytes into segment {number}, whose first byte is byte "
            f"{segment.offset:#x} of the file. Together that is byte {offset:#x}.",
            "press Tab, then p: the same byte by its physical address",
            lambda scene: scene.pa == pa,
        )

    # -- save and invalidate -----------------------------------------------------------------------------------------

    def _end(self) -> Iterator[LessonStep]:
        kernel = self.machine.system.kernel_name
        yield LessonStep(
            "save",
            f"savecore(8) copies header and memory into {kernel}.0.core, and the kernel beside it. The next number "
            "stands in the file bounds, what must stay free in minfree. Here it goes to the sample's own folder, which "
            "is removed in the end.",
            "press s, Enter; read it, go to Save with the arrows, Enter; then Enter",
            lambda scene: scene.saved,
        )
        yield self._invalidate()
        yield LessonStep(
            "the end",
            "The form is the same on every machine. What differs is the CPU data, and how addresses are translated: "
            "kvmtui --lesson MACHINE shows it on another one. ? explains the words on the screen.",
            "press L to leave the lesson",
        )

    def _invalidate(self) -> LessonStep:
        try:
            mag = self.kd.dumpmag()
        except kvmlib.KvmError as e:
            return LessonStep(
                "invalidate",
                "savecore(8) clears dumpmag in a dump that it has saved. In this one it cannot be found: "
                f"{_short(str(e))}.",
                "press n",
            )
        return LessonStep(
            "invalidate",
            f"The kernel's variable dumpmag holds {mag.data.hex(' ')} at byte {mag.offset:#x} of the file: a fresh "
            "dump. savecore(8) clears it when it has saved the dump. Here what was saved is compared with the dump "
            f"first; then these {len(mag.data)} bytes are cleared, and nothing else, in the sample.",
            "press i, then y, Enter",
            lambda scene: scene.cleared,
        )


def _short(reason: str) -> str:
    """Return the first part of a long sentence: the rest is advice."""
    return reason.partition(";")[0]


def _on(field: kvmlib.Field) -> Callable[[Scene], bool]:
    """The cursor is on a field of the device form, or on the same one of the other form."""

    def done(scene: Scene) -> bool:
        found = scene.field
        return found is not None and (found == field or (found.name, found.raw) == (field.name, field.raw))

    return done
