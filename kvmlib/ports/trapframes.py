"""What ``ddb_regs`` holds on each CPU, and how stack frames lead to each other there.

The registers are db_regs_t (sys/arch/*/include/db_machdep.h), on most machines a struct trapframe (frame.h, trap.h).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvmlib.ports.base import FrameLayout, Trapframe


def _in_order(names: Sequence[str], size: int, at: int = 0) -> dict[str, tuple[int, int]]:
    """The registers from byte `at` on, `size` bytes each; one with an empty name is left out."""
    return {name: (at + i * size, size) for i, name in enumerate(names) if name}


def _numbered(letter: str, first: int, last: int) -> list[str]:
    return [f"{letter}{i}" for i in range(first, last + 1)]


#: Where the compiler keeps a frame pointer, it points to the caller's, and the return address lies above.
LP64_CHAIN, ILP32_CHAIN = FrameLayout(0, 8, 8), FrameLayout(0, 4, 4)

# -- amd64, i386 -------------------------------------------------------------------------------------------------------

OPENBSD_AMD64 = Trapframe(
    _in_order(
        (
            *("rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
            *("err", "rbx", "rax", "trapno", "rbp", "rip", "cs", "rflags", "rsp", "ss"),
        ),
        8,
    ),
    *("rip", "rsp", "rbp"),
)
#: frame_regs.h; system calls with many arguments have four of them between the registers.
NETBSD_AMD64 = Trapframe(
    _in_order(
        (
            *("rdi", "rsi", "rdx", "r10", "r8", "r9", "arg6", "arg7", "arg8", "arg9", "rcx", "r11", "r12", "r13"),
            *("r14", "r15", "rbp", "rbx", "rax", "gs", "fs", "es", "ds", "trapno", "err"),
            *("rip", "cs", "rflags", "rsp", "ss"),
        ),
        8,
    ),
    *("rip", "rsp", "rbp"),
)


def _i386(first: Sequence[str], before: str, behind: str) -> Trapframe:
    names = (*first, "es", "ds", "edi", "esi", before, "ebx", "edx", "ecx", "eax", "trapno", behind)
    return Trapframe(_in_order((*names, "eip", "cs", "eflags", "esp", "ss"), 4), *("eip", "esp", "ebp"))


#: Since 2018 INTRENTRY moves err up, and puts ebp where the hardware pushed it.
OPENBSD_I386 = _i386(("fs", "gs"), "err", "ebp")
OPENBSD_I386_OLD = _i386(("fs", "gs"), "ebp", "err")
NETBSD_I386 = _i386(("gs", "fs"), "ebp", "err")

# -- arm, arm64, riscv64 -----------------------------------------------------------------------------------------------


def _arm(before: Sequence[str]) -> Trapframe:
    names = (*before, *_numbered("r", 0, 12), "usr_sp", "usr_lr", "svc_sp", "svc_lr", "pc")
    return Trapframe(_in_order(names, 4), "pc", "svc_sp", "r11", "svc_lr")


ARM = _arm(("spsr",))
#: Since the EABI r0 lies on a double word (arm/include/frame.h).
NETBSD_ARM = _arm(("spsr", ""))
#: What clang makes; what gcc makes; and the APCS frame: fp, sp, lr, pc (struct frame, arm32/frame.h), from the top.
ARM_FRAMES = (ILP32_CHAIN, FrameLayout(-4, 0, 4), FrameLayout(-12, -4, 4))
OPENBSD_ARM64 = Trapframe(
    _in_order(("sp", "lr", "elr", "spsr", *_numbered("x", 0, 29)), 8), *("elr", "sp", "x29", "lr")
)
#: struct reg (aarch64/include/reg.h) begins it.
NETBSD_AARCH64 = Trapframe(_in_order((*_numbered("x", 0, 30), "sp", "pc", "spsr"), 8), *("pc", "sp", "x29", "x30"))
OPENBSD_RISCV64 = Trapframe(
    _in_order(
        (
            *("ra", "sp", "gp", "tp", *_numbered("t", 0, 6), *_numbered("s", 0, 11)),
            *(*_numbered("a", 0, 7), "sepc", "sstatus", "stval", "scause"),
        ),
        8,
    ),
    *("sepc", "sp", "s0", "ra"),
)
#: s0 points behind what the function saved: the return address and, below it, the caller's s0.
RISCV64_FRAMES = (FrameLayout(-16, -8, 8),)

# -- alpha -------------------------------------------------------------------------------------------------------------

#: FRAME_* (alpha/include/frame.h): what the kernel saves, then what PALcode saved. Only the code tells frames' sizes.
ALPHA = Trapframe(
    _in_order(
        (
            *("v0", *_numbered("t", 0, 7), *_numbered("s", 0, 6), "a3", "a4", "a5", *_numbered("t", 8, 11)),
            *("ra", "t12", "at", "sp", "ps", "pc", "gp", "a0", "a1", "a2"),
        ),
        8,
    ),
    *("pc", "sp"),
    ra="ra",
)

# -- m68k, vax ---------------------------------------------------------------------------------------------------------

#: m68k/include/cpuframe.h: sixteen registers, two unused shorts, and what the CPU pushed.
M68K = Trapframe(
    {**_in_order((*_numbered("d", 0, 7), *_numbered("a", 0, 7)), 4), "sr": (68, 2), "pc": (70, 4)}, *("pc", "a7", "a6")
)
#: a6's chain; stacks are aligned to shorts.
M68K_FRAMES = (FrameLayout(0, 4, 2),)
VAX = Trapframe(
    _in_order(("fp", "ap", "sp", *_numbered("r", 0, 11), "trap", "code", "pc", "psl"), 4), *("pc", "sp", "fp")
)
#: What CALLS and CALLG push: a handler's address, a mask, then ap, fp and pc.
VAX_FRAMES = (FrameLayout(12, 16, 4),)

# -- powerpc -----------------------------------------------------------------------------------------------------------

_GPRS = _numbered("r", 0, 31)
#: struct powerpc_saved_state, which is nothing but a struct trapframe there.
OPENBSD_POWERPC = Trapframe(
    _in_order((*_GPRS, "lr", "cr", "xer", "ctr", "srr0", "srr1", "dar", "dsisr", "exc"), 4), "srr0", "r1", ra="lr"
)
NETBSD_POWERPC = Trapframe(_in_order((*_GPRS, "iar", "msr", "lr", "ctr", "cr", "xer"), 4), "iar", "r1", ra="lr")
#: The back chain at the stack pointer; each function saves lr in its caller's frame (the System V ABI).
POWERPC_FRAMES = (FrameLayout(0, 4, 16, by_sp=True, outer=True),)

# -- sparc64 -----------------------------------------------------------------------------------------------------------

#: struct trapframe64 (sparc64/include/reg.h), which db_regs_t begins with: the registers of the trap's own level.
SPARC64 = Trapframe(
    {
        **_in_order(("tstate", "pc", "npc", "fault", "kstack"), 8),
        "y": (40, 4),
        "tt": (44, 2),
        "pil": (46, 1),
        **_in_order((*_numbered("g", 0, 7), *_numbered("o", 0, 5), "sp", "o7"), 8, 48),
    },
    *("pc", "sp"),
)
#: The window at each stack pointer: eight locals, then eight ins, the last of them the caller's sp and the call.
SPARC64_FRAMES = (FrameLayout(112, 120, 16, by_sp=True, bias=2047, call=True),)
