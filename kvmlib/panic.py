"""What a dump tells of the panic: what it is, its state, what the kernel said; each fact with where it was found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kvmlib import kernelfacts
from kvmlib.backtrace import stack
from kvmlib.dumpstate import State, extent, state as judge
from kvmlib.facts import Fact, attempt, in_bytes, short
from kvmlib.kvm import DumpMag, Kvm
from kvmlib.match import cached, proof
from kvmlib.story import WHERE, Story
from kvmlib.text import printable
from kvmlib.variables import machine_of, no_symbols


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is to know in the first minute.

    Attributes:
        facts: one line each, most important first.
        state: the verdict.
        version: the kernel's version, both lines; None if it isn't known.
        panic: the panic's text or, without one, the fault's; None if there is neither.
        dumpmag: the kernel's dumpmag, or None where it can't be looked at.
        crashed: when, or None.
    """

    facts: tuple[Fact, ...]
    state: State
    version: str | None
    panic: str | None
    dumpmag: DumpMag | None
    crashed: datetime | None


def summary(kd: Kvm) -> Summary:
    """Sum up what a dump tells. What can't be known is a fact that says why; nothing about the kernel's memory raises.

    Raises:
        FormatError: no header was found yet.
    """
    machine_of(kd)
    story = Story(kd)
    mag, why_no_mag = attempt(kd.dumpmag)
    version = kernelfacts.version(kd, story.said)
    if mag is not None and mag.state == "cleared" and cached(kd).verdict != "same":
        # Another kernel's dumpmag is most likely some zeros: no reason to call a dump saved and give it away.
        mag = mag._replace(state="unknown")
    state = judge(kd, mag, why_no_mag)
    crashed, crash = kernelfacts.crash(kd)
    # The first screen of 80x24 must hold what people came for.
    facts = [
        _dump(kd),
        _state_fact(state, mag),
        _complete(kd, state),
        *story.panic,
        _where(kd, story),
        version,
        _match(kd),
        crash,
        kernelfacts.uptime(kd, story.said, crashed),
        *kernelfacts.host(kd, story.said),
        *story.later,
        _memory(kd),
        *kernelfacts.installed(kd, story.said),
        _symbols(kd),
        _machine(kd),
    ]
    known = version.source != ""
    return Summary(
        tuple(facts),
        state,
        version.text if known else None,
        next((f.text for f in story.panic if f.source and f.label in ("PANIC", "FAULT")), None),
        mag,
        crashed,
    )


# -- the file --------------------------------------------------------------------------------------------------------


def _dump(kd: Kvm) -> Fact:
    assert kd.reading is not None
    form = "saved core" if kd.form == "savecore" else "dump device"
    return Fact("DUMP", f"{printable(kd.path)}: {form}, header at {kd.reading.headers.offset:#x}", "file")


def _machine(kd: Kvm) -> Fact:
    assert kd.reading is not None
    found = kd.reading
    others = [r.machine.name for r in kd.runners_up if r.score >= found.score - 20]
    doubt = f"; it {kd.doubt}" if kd.doubt else f"; next best: {others[0]}" if others else ""
    reasons = "; ".join(printable(r) for r in found.reasons)
    return Fact("MACHINE", f"{found.machine.name}, score {found.score} of 100: {reasons}{doubt}", "header")


def _state_fact(state: State, mag: DumpMag | None) -> Fact:
    text = f"{state.verdict}: {'; '.join(state.reasons)}"
    return Fact("STATE", text, "symbol dumpmag" if mag else "header", mag.va if mag else None)


def _complete(kd: Kvm, state: State) -> Fact:
    found, damage = extent(kd), next((d for d in state.damage if d.certain), None)
    if found.missing:
        text = f"no: {in_bytes(found.missing)} of {in_bytes(found.promised or 0)} are missing at the end"
        return Fact("COMPLETE", text, f"{found.source} and file size")
    if damage is not None:
        text = "no: something else was written over a part of it, as STATE says"
        return Fact("COMPLETE", text, "memory", pa=damage.pa)
    if not state.complete:
        text = "not known: nothing says how much memory there should be (a kernel file would)"
        return Fact("COMPLETE", text, "file size")
    return Fact("COMPLETE", f"yes: all {in_bytes(found.present)} are in the file", f"{found.source} and file size")


def _memory(kd: Kvm) -> Fact:
    ram = kd.ram
    total = sum(s.size for s in ram)
    if not kd.segments:
        text = f"{in_bytes(total)} from pa 0 on, up to the end of the image; no segments are listed"
        return Fact("MEMORY", text, "file size")
    top = max((s.start + s.size for s in ram), default=0)
    return Fact("MEMORY", f"{in_bytes(total)} in {len(ram)} segments up to pa {top:#x}", extent(kd).source)


# -- the kernel ------------------------------------------------------------------------------------------------------


def _match(kd: Kvm) -> Fact:
    """Say whether the symbols are this kernel's, and why a kernel file beside the dump isn't used."""
    m, known = cached(kd), len(kd.symbols) > 0
    text = proof(kd) if known else "not known: there are no symbols that could be compared"
    # Without symbols the line SYMBOLS has that note.
    note = f"; {printable(kd.kernel_note)}" if known and kd.kernel_note else ""
    source = "symbol version and a search" if m.version_va is not None else "a search of memory"
    return Fact("MATCH", printable(text) + note, source if known else "", m.version_va, m.banner_pa)


def _symbols(kd: Kvm) -> Fact:
    if not len(kd.symbols):
        return Fact("SYMBOLS", f"none: {no_symbols(kd)}", "")
    text = f"{len(kd.symbols)} from {printable(kd.symbols.source)}"
    return Fact("SYMBOLS", text, "kernel file" if kd.symbols.path is not None else "found by searching memory")


def _where(kd: Kvm, story: Story) -> Fact:
    """Say where it was: who called panic(9) or where the trap was, by the stack; else what the messages have."""
    found, why = attempt(lambda: stack(kd))
    # A stack that begins at the trap into ddb begins where it happened.
    sure = found is not None and (found.panicked is not None or (found.source == "ddb_regs" and bool(found.frames)))
    if not sure and (heard := story.where()) is not None:
        return heard
    if found is None or not found.frames:
        why = found.end if found else short(kd, why)
        return Fact("WHERE", f"not known: {why}, and the messages have no stack trace", "")
    at = found.frames.index(found.panicked) if found.panicked is not None else 0
    text = " <- ".join(f.where or f"{f.pc:#x}" for f in found.frames[at : at + WHERE])
    return Fact("WHERE", text, f"stack from {found.source}", found.frames[at].pc)
