"""What happened to the machines whose dumps are made: their functions, their last words. All of it is made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Story:
    """One system's tale.

    Attributes:
        release: the version number.
        ident: the kernel's configuration and how often it was built.
        built: when, as newvers.sh writes it.
        osversion: OpenBSD's osversion; empty on NetBSD.
        hostname: the machine's name.
        crashed, booted: time_second at the panic and at boot, seconds since 1970.
        panic: panic's message.
        before_panic: what the kernel printed just before.
        chain: the call chain at the time of the dump, newest first; see `kernel.stack_chain`.
        functions: more functions, in the order in which they are linked.
        panics: function -> what it would say if it called panic.
        process: process id, thread id, user id and name of the process that was running.
    """

    release: str
    ident: str
    build: int
    built: str
    osversion: str
    hostname: str
    crashed: int
    booted: int
    panic: str
    before_panic: str
    chain: tuple[str, ...]
    functions: tuple[str, ...]
    panics: Mapping[str, str]
    process: tuple[int, int, int, str]


_OPENBSD_CHAIN = """
!savectx dumpsys boot db_boot_crash_cmd db_command db_command_loop db_trap db_ktrap kerntrap !alltraps_kern db_enter
panic ffs_blkfree ffs_indirtrunc ffs_truncate ufs_inactive VOP_INACTIVE vput dounlinkat sys_unlink syscall !Xsyscall
"""
_OPENBSD_FUNCTIONS = """
start main alltraps_kern Xsyscall cpu_switchto savectx copyin copyout kcopy memset memcpy strlcpy panic printf log
tsleep wakeup mi_switch schedclock hardclock softclock timeout_add malloc free pool_get pool_put fork1 sys_execve
exit1 sys_unlink sys_open syscall selwakeup soreceive sosend m_get m_freem namei vfs_lookup vn_open vget vput vrele
VOP_INACTIVE VOP_READ VOP_WRITE bread bwrite biodone dounlinkat ffs_alloc ffs_blkfree ffs_indirtrunc ffs_truncate
ffs_sync ffs_update ufs_inactive ufs_lookup ufs_remove uvm_init uvm_fault uvm_map uvm_unmap uvm_pagealloc
uvm_pageout uvm_swap_io pmap_enter pmap_remove pmap_kenter_pa db_enter db_trap db_ktrap db_command db_command_loop
db_boot_crash_cmd db_stack_trace_print ether_input ether_output ip_input ip_output tcp_input tcp_output udp_input
em_start em_intr wdstart wdintr comintr consinit cpu_startup cpu_reset boot dumpconf dumpsys cpu_dump kerntrap
usertrap
"""
_NETBSD_CHAIN = """
!dumpsys cpu_reboot vpanic panic ffs_valloc ufs_makeinode ufs_create VOP_CREATE vn_open do_open do_sys_openat
sys_open syscall !Xsyscall
"""
_NETBSD_FUNCTIONS = """
start main alltraps Xsyscall cpu_switchto dumpsys copyin copyout kcopy memset memcpy strlcpy panic vpanic printf log
tsleep wakeup mi_switch schedclock hardclock callout_schedule kmem_alloc kmem_free pool_get pool_put
pool_cache_get_paddr fork1 sys_execve exit1 sys_open do_open do_sys_openat syscall selnotify soreceive sosend m_get
m_freem namei lookup_once vn_open vget vput vrele VOP_CREATE VOP_READ VOP_WRITE bread bwrite biodone genfs_getpages
ffs_alloc ffs_blkfree ffs_valloc ffs_truncate ffs_sync ffs_update ufs_create ufs_makeinode ufs_lookup ufs_remove
wapbl_begin wapbl_flush uvm_init uvm_fault_internal uvm_map uvm_unmap1 uvm_pagealloc_strat uvm_pageout pmap_enter
pmap_remove pmap_kenter_pa db_trap db_command_loop db_stack_trace_print ether_input ether_output ip_input ip_output
tcp_input tcp_output udp_input wm_start wm_intr wdstart comintr consinit cpu_startup cpu_reset cpu_reboot dodumpsys
cpu_dump trap mutex_vector_enter rw_vector_enter kpreempt workqueue_worker
"""
OPENBSD = Story(
    release="6.8",
    ident="GENERIC",
    build=97,
    built="Mon Oct 12 09:14:05 UTC 2020",
    osversion="GENERIC#97",
    hostname="grinder.example.org",
    crashed=1604847391,
    booted=1604671112,
    panic="ffs_blkfree: freeing free frag",
    before_panic="dev = 0x7, block = 83112, fs = /home\n",
    chain=tuple(_OPENBSD_CHAIN.split()),
    functions=tuple(_OPENBSD_FUNCTIONS.split()),
    panics={
        "ffs_blkfree": "ffs_blkfree: freeing free frag",
        "malloc": "malloc: out of space in kmem_map",
        "vrele": "vrele: v_writecount != 0",
        "pool_get": "pool_get: %s: page empty",
        "exit1": "init died (signal %d, exit %d)",
        "biodone": "biodone already",
        "tsleep": "tsleep: not SONPROC",
        "ffs_alloc": "ffs_alloc: bad size",
    },
    process=(51634, 204817, 1000, "rm"),
)
NETBSD = Story(
    release="7.99.59",
    ident="GENERIC",
    build=3,
    built="Tue Jan 10 17:40:12 UTC 2017",
    osversion="",
    hostname="kiln.example.org",
    crashed=1484393407,
    booted=1484160203,
    panic="ffs_valloc: dup alloc",
    before_panic="mode = 0100644, inum = 27651, fs = /var\n",
    chain=tuple(_NETBSD_CHAIN.split()),
    functions=tuple(_NETBSD_FUNCTIONS.split()),
    panics={
        "ffs_valloc": "ffs_valloc: dup alloc",
        "kmem_alloc": "kmem_alloc: out of memory",
        "vrele": "vrele: bad ref count",
        "pool_get": "pool_get: %s: page empty",
        "exit1": "init died (signal %d, exit %d)",
        "biodone": "biodone already",
        "ffs_blkfree": "ffs_blkfree: freeing free block",
    },
    process=(1187, 1, 0, "syslogd"),
)
_NETBSD_DDB_CHAIN = """
!dumpsys cpu_reboot db_fncall db_command db_command_loop db_trap kdb_trap trap !alltraps cpu_Debugger
"""
#: The same, but panic entered ddb, in which cpu_reboot was called by hand.
NETBSD_DDB = replace(
    NETBSD,
    chain=(*_NETBSD_DDB_CHAIN.split(), *NETBSD.chain[NETBSD.chain.index("vpanic") :]),
    functions=(*NETBSD.functions, "cpu_Debugger", "kdb_trap", "db_command", "db_fncall"),
)
STORIES = {"openbsd": OPENBSD, "netbsd": NETBSD}


def version(story: Story, title: str, arch: str) -> str:
    """Return ``version`` as sys/conf/newvers.sh writes it."""
    where = f"builder@build.example.org:/usr/src/sys/arch/{arch}/compile/{story.ident}\n"
    indent = "    " if title == "OpenBSD" else "\t"
    return f"{title} {story.release} ({story.ident}) #{story.build}: {story.built}\n{indent}{where}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What the messages need to know about the machine and the panic.

    Attributes:
        version: the kernel's.
        ram_bytes: memory.
        attach: the lines about devices.
        panic_args: address of panic's string, as hex digits.
        trace: (function, offset) of the functions that led to the panic, the newest first.
        trapped: that of the function that entered ddb; None where nobody did.
        arguments: what these seem to have been called with, one hex number each.
        dump_block: dumplo.
        dump_bytes: how much is dumped.
        user_fp: where the trace ends.
    """

    version: str
    ram_bytes: int
    attach: str
    panic_args: str
    trace: Sequence[tuple[str, int]]
    trapped: tuple[str, int] | None
    arguments: Sequence[str]
    dump_block: int
    dump_bytes: int
    user_fp: int


def openbsd_boot(story: Story, scene: Scene) -> str:
    """The messages of one boot."""
    mb = scene.ram_bytes / 1048576
    return (
        f"{scene.version}"
        f"real mem = {scene.ram_bytes} ({mb:.0f}MB)\n"
        f"avail mem = {scene.ram_bytes // 5 * 2} ({mb / 5 * 2:.0f}MB)\n"
        f"{scene.attach}"
        "root on wd0a (68656c6c6f776f72.a) swap on wd0b dump on wd0b\n"
    )


def openbsd_end(story: Story, scene: Scene) -> str:
    """From the first sign of trouble to the dump, with what was typed into ddb."""
    pid, tid, uid, command = story.process
    arguments = ["", scene.panic_args, *(f"{a},{i}" for i, a in enumerate(scene.arguments))]
    trace = [*([scene.trapped] if scene.trapped else []), *scene.trace]
    rows = [f"{name}({a}) at {name}+{off:#x}" for (name, off), a in zip(trace, arguments, strict=False)]
    first, offset = trace[0]
    return (
        "<3>uid 1000 on /home: file system full\n"
        "\n/home: write failed, file system is full\n"
        f"{story.before_panic}"
        f"panic: {story.panic}\n"
        f"Stopped at      {first}+{offset:#x}:\tleave\n"
        "    TID    PID    UID     PRFLAGS     PFLAGS  CPU  COMMAND\n"
        f"*{tid:6d} {pid:6d} {uid:6d}           0          0    0  {command}\n" + "\n".join(rows) + "\n"
        f"end trace frame: {scene.user_fp:#x}, count: {max(0, 15 - len(rows))}\n"
        "ddb> show panic\n"
        f"{story.panic}\n"
        "ddb> boot crash\n"
        "\n"
        f"dumping to dev 0,1 offset {scene.dump_block}\n"
        "dump " + " ".join(str(n) for n in range(scene.dump_bytes >> 20, 2, -1)) + " "
    )


def netbsd_boot(story: Story, scene: Scene) -> str:
    """The messages of one boot."""
    return (
        f"{scene.version}"
        f"total memory = {scene.ram_bytes // 1024} KB\n"
        f"avail memory = {scene.ram_bytes // 2560} KB\n"
        "timecounter: Timecounters tick every 10.000 msec\n"
        f"{scene.attach}"
        "boot device: wd0\n"
        "root on wd0a dumps on wd0b\n"
        "root file system type: ffs\n"
    )


def _netbsd_ddb(story: Story, scene: Scene) -> str:
    """What was typed into ddb, where it was entered."""
    if scene.trapped is None:
        return ""
    pid, lwp, _, command = story.process
    name, offset = scene.trapped
    return (
        f"Stopped in pid {pid}.{lwp} ({command}) at  netbsd:{name}+{offset:#x}:  nop\ndb> call cpu_reboot(0x104, 0)\n"
    )


def netbsd_end(story: Story, scene: Scene) -> str:
    """From the first sign of trouble to the dump."""
    rows = [f"{name}() at netbsd:{name}+{offset:#x}" for name, offset in scene.trace]
    return (
        "<3>uid 0, pid 402, command cron, on /var: file system full\n"
        f"{story.before_panic}"
        f"panic: {story.panic}\n"
        "cpu0: Begin traceback...\n" + "\n".join(rows) + "\ncpu0: End traceback...\n"
        f"{_netbsd_ddb(story, scene)}"
        "\n"
        f"dumping to dev 0,1 (offset={scene.dump_block}, size={scene.dump_bytes // 4096}):\n"
        "dump " + " ".join(str(n) for n in range(scene.dump_bytes >> 20, 2, -1)) + " "
    )


BOOT: Mapping[str, Callable[[Story, Scene], str]] = {"openbsd": openbsd_boot, "netbsd": netbsd_boot}
END: Mapping[str, Callable[[Story, Scene], str]] = {"openbsd": openbsd_end, "netbsd": netbsd_end}
#: What the kernel before this one said last: nobody knew of a dump then.
SHUTDOWN = "syncing disks... done\nunmounting file systems... done\nrebooting...\n"
#: What a swap partition and the disk before it may hold: pieces of other people's files and pages.
LEFTOVERS = (
    "#!/bin/sh\n#\n# rotate the logs, every night\n#\nset -e\ncd /var/log\nfor f in messages daemon maillog; do\n"
    "\t[ -s $f ] || continue\n\tmv $f.1.gz $f.2.gz 2>/dev/null || true\ndone\n",
    "<html><head><title>Index of /pub</title></head>\n<body><h1>Index of /pub</h1><pre>\n",
    "root:*:0:0:Charlie &:/root:/bin/ksh\ndaemon:*:1:1:The devil himself:/root:/sbin/nologin\n",
    "From: postmaster@example.org\nTo: root@example.org\nSubject: Daily output\n\nChecking the password file:\n",
    'int\nmain(int argc, char *argv[])\n{\n\tint ch;\n\n\twhile ((ch = getopt(argc, argv, "fr")) != -1)\n',
    "TERM=vt220\0SHELL=/bin/ksh\0HOME=/home/guest\0PATH=/bin:/sbin:/usr/bin:/usr/sbin\0LOGNAME=guest\0",
)
