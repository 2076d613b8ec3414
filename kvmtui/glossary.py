"""The words of the field, each explained once, with where to read more."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from kvmtui.widgets.wrap import wrap


@dataclass(frozen=True, slots=True)
class Term:
    """A word and what it means.

    Attributes:
        name: the word.
        text: what it means, a few sentences.
        source: the header file or the manual page that has it.
        also: other words that it is known by, as they stand on the screen.
    """

    name: str
    text: str
    source: str
    also: tuple[str, ...] = ()


TERMS: tuple[Term, ...] = (
    # -- the format
    Term(
        "kcore",
        "The format of a kernel crash dump: a header that says whose dump it is, what only this machine needs, and "
        "the contents of RAM.",
        "sys/kcore.h",
        ("sys/kcore.h", "kcore.h"),
    ),
    Term(
        "kcore_hdr",
        "The first structure of a saved core: midmag, how long the headers are, and the number of segments. On the "
        "dump device there is none: savecore adds it.",
        "sys/kcore.h",
        ("struct kcore_hdr",),
    ),
    Term(
        "kcore_seg",
        "The header of a segment: its midmag and c_size. On the device there is one, for the CPU data; a saved core "
        "has a second one for memory.",
        "sys/kcore.h",
        ("struct kcore_seg",),
    ),
    Term(
        "midmag",
        "32 bits that say what follows: 6 bits of flag, 10 bits of machine id, 16 bits of magic. They are "
        "big-endian on every machine, so that any machine can read them.",
        "sys/kcore.h",
        ("c_midmag",),
    ),
    Term(
        "machine id",
        "The number of a machine in midmag and in old executables: 134 is i386, 157 is amd64. Some numbers are used by "
        "both systems, for different machines.",
        "sys/exec_aout.h",
        ("MID",),
    ),
    Term("KCORE_MAGIC", "0x8fca: the magic of a kernel's dump, in its first midmag.", "sys/kcore.h", ("8fca",)),
    Term("KCORESEG_MAGIC", "0x8fac: the magic of a segment's header in a saved core.", "sys/kcore.h", ("8fac",)),
    Term(
        "CORE_CPU",
        "Flag 1 in a midmag: what follows is the CPU data, which only this machine needs: where its page tables begin, "
        "which RAM was dumped.",
        "sys/kcore.h",
        ("CPU segment", "CPU data"),
    ),
    Term(
        "CORE_DATA",
        "Flag 2 in a midmag: what follows is memory. Only a saved core has such a header.",
        "sys/kcore.h",
        ("memory segment",),
    ),
    Term(
        "c_size",
        "The bytes in a segment, without its header. It has 32 bits: where memory has 4 GiB or more it is wrapped, and "
        "no reader should trust it.",
        "sys/kcore.h",
    ),
    Term("c_nseg", "The number of segments in a saved core: 2, CORE_CPU and CORE_DATA.", "sys/kcore.h"),
    Term(
        "c_hdrsize",
        "The bytes of kcore_hdr; c_seghdrsize are those of a segment's header. Both are rounded up by ALIGN.",
        "sys/kcore.h",
        ("c_seghdrsize",),
    ),
    Term(
        "ALIGN",
        "Rounding up to what the machine's C compiler wants: to 4, 8 or 16 bytes. So the same structure has another "
        "size on another machine.",
        "machine/param.h",
        ("ALIGN()", "alignment"),
    ),
    Term(
        "cpu_kcore_hdr",
        "The structure at the start of the CPU data. Each machine has its own; some have none.",
        "machine/kcore.h",
        ("cpu_kcore_hdr_t", "struct cpu_kcore_hdr", "machine/kcore.h", "CPU header"),
    ),
    Term(
        "segment",
        "Of a dump: a run of RAM, by its physical address and its size. Their contents follow one another in the file, "
        "without the holes between them. Also a part of the file: CORE_CPU, CORE_DATA.",
        "sys/kcore.h: phys_ram_seg_t",
        ("segments", "phys_ram_seg_t", "RAM segments", "seg"),
    ),
    Term(
        "nmemsegs",
        "How many RAM segments the CPU header lists. OpenBSD/sparc64 has a length in bytes there by mistake.",
        "machine/kcore.h",
        ("nmemseg",),
    ),
    Term(
        "device form",
        "The dump as the kernel wrote it on the dump device: one segment header with KCORE_MAGIC, the CPU data, "
        "memory.",
        "kvm_dump(3)",
    ),
    Term(
        "saved form",
        "The dump as savecore(8) wrote it into a file: kcore_hdr, the CPU segment, the memory segment.",
        "kvm_dump(3), savecore(8)",
        ("saved core", "savecore form"),
    ),
    Term(
        "byte order",
        "Whether a number's lowest or its highest byte comes first in memory: little-endian or big-endian. It is the "
        "dumped machine's order that counts, not this computer's.",
        "machine/endian.h",
        ("little-endian", "big-endian"),
    ),
    # -- dumping and saving
    Term(
        "dump device",
        "The partition that a panicking kernel writes memory to, mostly the swap partition: it needs no file system "
        "for that.",
        "swapctl(8), savecore(8)",
        ("dumpdev",),
    ),
    Term(
        "dumplo",
        "Where on the dump device the dump begins, in blocks of 512 bytes. Mostly it lies at the end, so that swapping "
        "after the reboot destroys it last.",
        "sys/arch/*/machdep.c",
        ("dump_off",),
    ),
    Term(
        "dumpsize",
        "A variable of the kernel: how many pages of memory a dump has.",
        "sys/arch/*/machdep.c",
    ),
    Term(
        "dumpmag",
        "A variable of the kernel that holds a magic number, 0x8fca0101 almost everywhere. savecore(8) looks for it in "
        "the dumped memory to tell a fresh dump, and clears it there when it has saved the dump.",
        "sys/arch/*/machdep.c, savecore(8)",
        ("fresh", "cleared"),
    ),
    Term(
        "savecore",
        "The program that looks for a dump at boot, saves it as a file, and clears dumpmag so that it is saved once.",
        "savecore(8)",
        ("savecore(8)",),
    ),
    Term(
        "invalidate",
        "To clear dumpmag in the dump, so that savecore(8) doesn't save it again. All else stays readable.",
        "kvm_dump_inval(3), savecore -c",
        ("invalidated",),
    ),
    Term(
        "bounds",
        "A file in the crash directory: the number that the next saved dump gets.",
        "savecore(8)",
    ),
    Term(
        "minfree",
        "A file in the crash directory: how many KiB must stay free there. Where saving would take more, savecore(8) "
        "refuses.",
        "savecore(8)",
    ),
    Term(
        "sparse dump",
        "A NetBSD dump without the pages that nobody needs: free ones, and those of programs. It has a segment for "
        "each run of pages.",
        "sys/arch/x86: sparse_dump",
        ("sparse",),
    ),
    # -- memory
    Term(
        "va",
        "Virtual address: what the kernel's pointers hold. The MMU translates it to a pa.",
        "kvm(3)",
        ("virtual address", "virtual addresses"),
    ),
    Term(
        "pa",
        "Physical address: what the CPU puts on the bus. A dump holds memory by physical address.",
        "kvm(3)",
        ("physical address", "physical addresses"),
    ),
    Term(
        "page",
        "The unit of translation: 4 KiB on most machines, 8 KiB on some. Large pages stand for many of them.",
        "machine/param.h",
        ("pages", "page_size", "large page"),
    ),
    Term(
        "page table",
        "An array of PTEs in memory. Bits of the va choose an entry, which points to the next table or to the page.",
        "machine/pte.h",
        ("page tables", "page directory", "PDPT", "table"),
    ),
    Term(
        "PTE",
        "Page table entry: the physical address of a page, and bits that say whether it is valid and what may be done "
        "with it.",
        "machine/pte.h",
        ("PTEs", "PDE", "entry"),
    ),
    Term(
        "page walk",
        "The way from a va to its pa through the tables, level by level. It stops where an entry isn't valid.",
        "pmap(9)",
        ("walk",),
    ),
    Term("PML4", "The top page table of amd64, with four levels: bits 39 to 47 of the va choose its entry.", "pmap.h"),
    Term(
        "cr3",
        "The x86 register with the physical address of the top page table. Its low bits may hold a PCID, which is no "
        "part of the address.",
        "machine/pcb.h, pmap.c",
        ("PCID", "ptdpaddr", "pdppaddr", "CR3_REUSE_PCID"),
    ),
    Term(
        "satp",
        "The RISC-V register with the form of paging, the address space's id and the page number of the top table.",
        "machine/kcore.h",
        ("kh_satp", "sv39", "sv48", "sv57"),
    ),
    Term(
        "TTBR1",
        "The ARM register with the physical address of the kernel's top table; TCR says how large a va and a page are.",
        "machine/kcore.h",
        ("TCR", "kh_tcr1", "kh_ttbr1", "TTBR0"),
    ),
    Term(
        "TTE",
        "Translation table entry: what sparc64 calls a PTE. A TLB may also hold entries that are locked there.",
        "sys/arch/sparc64/include/pte.h",
        ("TTEs", "locked"),
    ),
    Term(
        "BAT",
        "Block address translation: pairs of PowerPC registers that map large blocks without a table.",
        "powerpc/include/oea/bat.h",
        ("BATs",),
    ),
    Term(
        "direct map",
        "A range of va where all of RAM is mapped at a fixed distance.",
        "pmap.h: PMAP_DIRECT_BASE",
        ("PMAP_DIRECT_BASE",),
    ),
    Term(
        "canonical",
        "Said of an amd64 va whose upper bits all repeat its highest bit that counts. Others fault.",
        "pmap.h",
    ),
    Term(
        "unmapped",
        "No page table has an entry for the va: there is nothing to read.",
        "kvm(3)",
        ("not mapped", "hole", "holes"),
    ),
    # -- what the kernel says
    Term(
        "namelist",
        "The kernel file that is asked for the addresses of symbols; also the list of names to look up.",
        "nlist(3), kvm_nlist(3)",
        ("kernel file", "symbols", "symbol"),
    ),
    Term(
        "ksyms",
        "The kernel's symbols as the boot loader left them in memory, /dev/ksyms in the running system. They are a "
        "part of the dump, so no kernel file is needed.",
        "ksyms(4)",
        ("/dev/ksyms",),
    ),
    Term(
        "KARL",
        "OpenBSD links the kernel anew, in random order, at each boot. So the addresses in /bsd are not those of the "
        "kernel that panicked, though both have the same version.",
        "/usr/libexec/reorder_kernel",
    ),
    Term("version", "The kernel's banner as text: system, release, configuration, who built it when.", "newvers.sh"),
    Term(
        "panic",
        "The kernel found that it cannot go on. It says why, dumps memory and reboots.",
        "panic(9)",
    ),
    Term(
        "panicstr",
        "A pointer to the text of the panic. It is NULL where the kernel never called panic(9): a page fault in it "
        "goes to the debugger by another way.",
        "sys/kern/subr_prf.c",
        ("panicbuf", "faultstr"),
    ),
    Term(
        "dumppcb",
        "The registers at the time of the dump: few of them, mostly the stack and the frame pointer.",
        "machine/pcb.h",
        ("pcb",),
    ),
    Term(
        "ddb_regs",
        "The registers of the moment when the kernel debugger was entered: all of them.",
        "ddb(4)",
        ("trapframe", "ddb"),
    ),
    Term(
        "msgbuf",
        "The ring in memory that keeps what the kernel wrote to the console; dmesg(8) shows it. It survives a warm "
        "boot, so it may hold several.",
        "sys/msgbuf.h",
        ("message buffer", "msgbufp", "messages"),
    ),
    Term(
        "backtrace",
        "The calls that led to the panic, read from the stack: each frame with its return address.",
        "ddb(4)",
        ("stack", "frame pointer", "frames"),
    ),
)


#: Words as short as these are told from others by their spelling: PA is not pa, and no word begins a sentence.
_SHORT = 3


@functools.cache
def _words() -> dict[str, Term]:
    return {_key(word): term for term in TERMS for word in (term.name, *term.also)}


def _key(word: str) -> str:
    return word if len(word) <= _SHORT else word.lower()


@functools.cache
def _pattern() -> re.Pattern[str]:
    # The longest first: "page table" before "page".
    words = sorted(_words(), key=len, reverse=True)
    either = "|".join(re.escape(w) if len(w) <= _SHORT else f"(?i:{re.escape(w)})" for w in words)
    return re.compile(rf"(?<![\w.])(?:{either})(?!\w)")


def terms_in(text: str) -> list[Term]:
    """Return the terms that stand in a text, in the order in which they come."""
    return list(dict.fromkeys(_words()[_key(match)] for match in _pattern().findall(text)))


def search(text: str) -> list[Term]:
    """Return the terms that a person may mean: first those whose name has the text, then those that mention it."""
    wanted = text.strip().lower()
    named = [t for t in TERMS if any(wanted in word.lower() for word in (t.name, *t.also))]
    return [*named, *(t for t in TERMS if t not in named and wanted in t.text.lower())]


def term_lines(term: Term, width: int) -> list[list[tuple[str, str]]]:
    """Return a term as lines: the word, what it means, where to read more."""
    column = min(16, width // 3)
    rows = wrap(f"{term.text} [{term.source}]", max(10, width - column))
    name = term.name[: column - 1] if len(term.name) < column else ""
    lines = [] if name else [[(term.name[:width], "strong")]]
    first = [[(f"{name:<{column}}", "strong"), (rows[0], "")]]
    return [*lines, *first, *([(" " * column + row, "")] for row in rows[1:])]
