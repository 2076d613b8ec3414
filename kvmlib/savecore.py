"""Save a dump as savecore(8) does: DIRECTORY/<bsd|netbsd>.N.core and the kernel beside it, all or nothing.

How the files come into being without ever being seen half written is `kvmlib.outfiles`'s business, how memory is moved
`kvmlib.copying`'s, and what there is to save `kvmlib.saveplan`'s; here they meet.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvmlib.copying import Digest, Follower, Packed, Readable, Stream, Written, copy, difference
from kvmlib.errors import KvmError
from kvmlib.outfiles import Directory, Partial, sentence
from kvmlib.packing import method, packed, pieces
from kvmlib.publish import publish
from kvmlib.saveinfo import header_facts, info_files, info_name
from kvmlib.saveplan import (
    Kernel,
    Size,
    choose_kernel,
    core_name,
    kernel_copy_name,
    kernel_name,
    leftovers,
    memory_size,
    next_number,
    open_kernel_file,
    reading_of,
    saved_before,
    space_refusal,
    unfinished,
    unreasonable_time,
)
from kvmlib.savesource import Content, Hole, Meter, Progress, ShouldStop
from kvmlib.text import printable

if TYPE_CHECKING:
    from kvmlib.facts import Fact
    from kvmlib.kvm import Kvm


@dataclass(frozen=True, slots=True)
class SavePlan:
    """What `save` would do, found out without changing anything.

    Attributes:
        directory: where to.
        number: N of the file names; another save may take it first, then `save` uses the next.
        core: path of the core file.
        kernel: path of the kernel file, None when there is none to save.
        kernel_from: the file that `kernel` will be a copy of, None where it is made of symbols.
        size: bytes of the core file before compression: headers and the memory that the dump really has.
        size_from: where the memory's size is known from, for a person.
        free: bytes that are free in the directory for this user.
        minfree: KiB that must stay free, from DIRECTORY/minfree; 0 when there is none.
        warnings: sentences that don't stand in the way.
        refusal: the sentence why `save` refuses unless it is forced; empty if it may go ahead.
        needed: bytes that will be taken at most: core and kernel, before compression.
        kernel_source: which kernel file it is and why, or why there is none.
        files: paths of all that will be written: core, kernel, info.N, info.N.json, bounds.
    """

    directory: str
    number: int
    core: str
    kernel: str | None
    kernel_from: str | None
    size: int
    size_from: str
    free: int
    minfree: int
    warnings: tuple[str, ...]
    refusal: str
    needed: int
    kernel_source: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """What `save` wrote.

    Attributes:
        core: path of the core file.
        kernel: path of the kernel file, or None.
        bytes: size of the core file as it lies on the disk, holes included.
        number: N of the file names.
        warnings: sentences on what went less well; the files are complete all the same.
        kernel_source: which kernel file it is and why, or why there is none.
        info: path of info.N, beside which is info.N.json.
        sha256: of the core before compression, in hex; None where it was not verified.
        holes: what could not be read, ascending; zeros stand for it.
        resumed: bytes that an interrupted save had copied already.
    """

    core: str
    kernel: str | None
    bytes: int
    number: int
    warnings: tuple[str, ...] = ()
    kernel_source: str = ""
    info: str = ""
    sha256: str | None = None
    holes: tuple[Hole, ...] = ()
    resumed: int = 0


def plan_save(
    kd: Kvm,
    directory: str | os.PathLike[str],
    *,
    compress: bool = False,
    packing: str | None = None,
    resume: bool = False,
) -> SavePlan:
    """Look what saving `kd` into `directory` would do; nothing is changed.

    Args:
        kd: a dump with a header.
        directory: where to, as savecore(8)'s argument.
        compress: the files will be packed by gzip; space is counted as if they weren't, as savecore(8) does.
        packing: how they will be packed: ``"gzip"``, ``"zstd"`` or ``"compress"``.
        resume: what an interrupted save has copied need not be written again.

    Raises:
        FormatError: `kd` has no header yet.
        KvmError: it is no directory that can be written to, or what `packing` needs isn't here; no force would help.
    """
    return _plan(kd, directory, packing or ("gzip" if compress else None), resume)[0]


def _plan(
    kd: Kvm, directory: str | os.PathLike[str], packing: str | None, resume: bool
) -> tuple[SavePlan, Size, Kernel]:
    if resume and packing:
        raise KvmError("a compressed copy cannot be resumed: save without compression, and compress afterwards")
    size, name, suffix = memory_size(kd), kernel_name(kd), _suffix(packing)
    with Directory(directory) as where:
        where.check_writable()
        number, bounds_warnings = next_number(where, name)
        minfree, minfree_warnings = where.number_in("minfree")
        free = where.free()
        header = kd.dump_wrtheader(io.BytesIO(), size.promised)
        kernel = choose_kernel(kd)
        needed = header + size.present + kernel.size
        if resume and (begun := _begun(where, name)):
            needed -= min(begun[0][1], header + size.present)
        crowded = space_refusal(free, needed, minfree, where.shown)
        warnings = [*size.warnings, *saved_before(kd), *unreasonable_time(kd), *bounds_warnings, *minfree_warnings]
        if needed > free and not crowded:
            warnings.append(f"{needed} bytes are needed, but only {free} are free in {where.shown}")
        if not resume:
            warnings += leftovers(where, name)
        core = core_name(name, number, suffix)
        copied = kernel_copy_name(name, number, suffix) if kernel.size else None
        files = [core, copied, info_name(number), f"{info_name(number)}.json", "bounds"]
        plan = SavePlan(
            where.path,
            number,
            where.join(core),
            None if copied is None else where.join(copied),
            kernel.path,
            header + size.present,
            size.source,
            free,
            minfree,
            tuple(warnings),
            "; ".join(filter(None, (crowded, size.refusal))),
            needed,
            kernel.source,
            tuple(where.join(f) for f in files if f is not None),
        )
        return plan, size, kernel


def save(
    kd: Kvm,
    directory: str | os.PathLike[str],
    *,
    compress: bool = False,
    packing: str | None = None,
    force: bool = False,
    salvage: bool = False,
    sparse: bool = True,
    verify: bool = False,
    resume: bool = False,
    facts: Sequence[Fact] = (),
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Saved:
    """Save the dump and its kernel into `directory`, as savecore(8) does; never overwrites, and leaves all or nothing.

    Args:
        kd: a dump with a header; a device, an image, or a saved core again.
        directory: where to.
        compress: pack both files with gzip.
        packing: pack both files with ``"gzip"``, ``"zstd"`` or ``"compress"``.
        force: go ahead although `plan_save` finds a reason to refuse.
        salvage: write zeros for what can't be read, instead of giving up.
        sparse: leave holes in the core file for blocks of zeros; what is read from it is the same.
        verify: read all back and compare it with the source; compute the core's SHA-256.
        resume: go on with the copy that a killed save left, if it is the beginning of this one.
        facts: what the kernel said (`kvmlib.summary`), for info.N.
        progress: called about ten times a second, and at the end.
        should_stop: polled for every piece that is copied; True makes it stop.

    Raises:
        Cancelled: `should_stop` said so.
        KvmError: refused, or it could not be done (disk full, no permission, dump unreadable). Nothing is left behind,
            but for a copy that was there before and was to be gone on with.
    """
    packing = packing or ("gzip" if compress else None)
    plan, size, kernel = _plan(kd, directory, packing, resume)
    if plan.refusal and not force:
        raise KvmError(f"not saved: {plan.refusal}")
    reading, name, suffix = reading_of(kd), kernel_name(kd), _suffix(packing)
    meter = Meter((plan.size + kernel.size) * (2 if verify else 1), progress, should_stop)
    header = io.BytesIO()
    kd.dump_wrtheader(header, size.promised)
    content = Content(header.getvalue(), kd.image, reading.headers.data_off, size.present, salvage, meter)
    with Directory(directory) as where, contextlib.ExitStack() as cleanup:
        try:
            core, warnings = _begin(where, name, plan.number, suffix, resume, content, meter)
            cleanup.enter_context(core)
            resumed = core.size
            # A packed file has other bytes: there the content itself is what is hashed.
            digest = cleanup.enter_context(Digest()) if verify and packing else None
            follower = cleanup.enter_context(Follower(core)) if verify and not packing else None
            _write(content, core, packing, sparse, verify, digest, meter)
            files = [(core, f".core{suffix}")]
            if kernel.size:
                with open_kernel_file(kernel) as file:
                    image = kd.image if file is None else file
                    kernel_content = Content(kernel.data or b"", image, 0, file.size if file else 0, salvage, meter)
                    part = cleanup.enter_context(Partial(where, kernel_copy_name(name, plan.number, suffix)))
                    _write(kernel_content, part, packing, False, verify, None, meter)
                    if kernel_content.holes:
                        lost = sum(hole.size for hole in kernel_content.holes)
                        warnings.append(f"{lost} bytes of the kernel file can't be read: zeros stand for them")
                files.insert(0, (part, suffix))
            meter.finish()
            told: dict[str, Any] = {
                **header_facts(kd, reading),
                "core_size": content.size,
                "file_size": core.size,
                "memory_size": size.present,
                "missing": size.promised - size.present,
                "sha256": digest.hex() if digest else follower.hex() if follower else None,
                "holes": [hole._asdict() for hole in content.holes],
                "kernel_source": kernel.source,
                "warnings": [*plan.warnings, *([f"forced: {plan.refusal}"] if plan.refusal else []), *warnings],
            }
            number, problems = publish(where, name, files, lambda n, names: info_files(n, names, told, facts))
        except OSError as e:
            raise sentence(e, where.shown) from e
    return Saved(
        where.join(core.final),
        where.join(files[0][0].final) if kernel.size else None,
        core.size,
        number,
        (*warnings, *problems),
        kernel.source,
        where.join(info_name(number)),
        told["sha256"],
        tuple(content.holes),
        resumed,
    )


# -- making the files ------------------------------------------------------------------------------------------------


def _begun(where: Directory, name: str) -> list[tuple[str, int]]:
    """Return (temporary name, bytes) of the cores that a save has begun to write uncompressed, largest first."""
    found = []
    for temp in unfinished(where, name):
        if Partial.stem(temp).endswith(".core"):
            with contextlib.suppress(OSError):
                found.append((temp, os.lstat(temp, dir_fd=where.fd).st_size))
    return sorted(found, key=lambda f: -f[1])


def _begin(
    where: Directory,
    name: str,
    number: int,
    suffix: str,
    resume: bool,
    content: Content,
    meter: Meter,
) -> tuple[Partial, list[str]]:
    """Return the core's file, empty or with the beginning of `content`, and why nothing could be gone on with."""
    problems = []
    for temp, _ in _begun(where, name) if resume else []:
        try:
            part = Partial.adopt(where, temp)
        except KvmError as e:
            problems.append(f"not resumed: {e}")
            continue
        before, meter.left = meter.left, f"{printable(temp)} is still there"
        try:
            different: int | None = content.size
            if part.size <= content.size:
                different = _compare(content, part.path, part.size, meter)
            if different is None:
                return part, []
            problems.append(f"not resumed: {printable(temp)} differs from the dump at {different:#x}, it is left alone")
        except BaseException:
            part.close()
            raise
        part.close()
        meter.left = before
        meter.restart()
    if resume and not problems:
        problems.append(f"not resumed: no copy was begun in {where.shown}")
    return Partial(where, core_name(name, number, suffix)), problems


def _write(
    content: Content,
    part: Partial,
    packing: str | None,
    sparse: bool,
    verify: bool,
    digest: Digest | None,
    meter: Meter,
) -> None:
    """Write `content` from where `part` ends on, see it reach the disk, and look at it again."""
    begin = part.size
    with _stream(part, packing) as out:
        copy(content, out, meter, at=begin, sparse=sparse, digest=digest)
    part.sync()
    if verify:
        part.forget()
        different = _compare(content, part.path, content.size, meter, packing=packing)
        if different is not None:
            raise KvmError(
                f"what was written is not what was read: it differs at {different:#x} of {printable(part.path)}; "
                "nothing was saved"
            )


def _compare(content: Content, path: str, size: int, meter: Meter, *, packing: str | None = None) -> int | None:
    """Return where the file at `path` differs from the first `size` bytes of `content`, None if nowhere."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        written: Readable = Written(fd)
        if packing is not None:
            written = Packed(pieces(file, printable(path), method(packing)))
        different = difference(content, written, size, meter)
        if different is None and written.readinto(size, memoryview(bytearray(1))):
            return size  # There is more of it.
        return different


def _suffix(packing: str | None) -> str:
    return "" if packing is None else method(packing).suffix


@contextlib.contextmanager
def _stream(part: Partial, packing: str | None) -> Iterator[Stream]:
    if packing is None:
        yield part
        return
    with packed(part, packing) as out:
        yield out
