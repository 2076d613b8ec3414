"""The instructions of sample kernels: what the sample maker relies on, and words that are known to be right."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from kvmlib.kcore import ByteOrder
from kvmlib.ports import code_cisc as cisc, code_risc as risc
from kvmlib.ports.plan import CodePlan
from kvmlib.sample.kernel import Kernel, Text


class Known(NamedTuple):
    """Instructions as a disassembler has confirmed them, in hexadecimal."""

    prologue: str
    epilogue: str
    pad: str
    trap: str


def sign(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value


def s16(word: int) -> int:
    return sign(word & 0xFFFF, 16)


# Where a call goes, from the end of its bytes; these read an instruction's fields in their own way.


def pc_relative(opcode: int, bits: int, ahead: int) -> Callable[[list[int]], int]:
    """The distance counts instructions in the last `bits` bits of the first, from `ahead` bytes behind the end."""

    def decode(w: list[int]) -> int:
        assert w[0] >> bits == opcode
        return sign(w[0] & (1 << bits) - 1, bits) * 4 + ahead

    return decode


def powerpc_call(w: list[int]) -> int:
    assert w[0] & 0xFC000003 == 0x48000001
    return sign(w[0] & 0x03FFFFFC, 26) - 4


def riscv_call(w: list[int]) -> int:
    assert w[0] & 0xFFF == 0x0EF
    b = f"{w[0]:032b}"
    return sign(int(b[0] + b[12:20] + b[11] + b[1:11] + "0", 2), 21) - 4


def hppa_call(w: list[int]) -> int:
    b = f"{w[0]:032b}"
    assert b[:11] + b[16:19] + b[30] == "111010" + "00010" + "000" + "0"
    return sign(int(b[31] + b[11:16] + b[29] + b[19:29] + "00", 2), 19)


def sh_literal(register: int, order: ByteOrder) -> Callable[[list[int]], int]:
    def decode(w: list[int]) -> int:
        # A load from 8 bytes further on (4 and one long), and a branch over the literal.
        assert w[:4] == [0xD001 | register << 8, 0xA003, 9, 9]
        high, low = w[4:6] if order == "big" else (w[5], w[4])
        return high << 16 | low

    return decode


def sh_call(order: ByteOrder) -> Callable[[list[int]], int]:
    def decode(w: list[int]) -> int:
        assert w[6:] == [0x0103, 9]
        return sign(sh_literal(1, order)(w), 32)

    return decode


def slots(bundle: int) -> tuple[int, int, int, int]:
    return bundle & 31, bundle >> 5 & (1 << 41) - 1, bundle >> 46 & (1 << 41) - 1, bundle >> 87


def ia64_call(w: list[int]) -> int:
    template, _, _, branch = slots(w[0])
    b = f"{branch:041b}"
    assert (template, b[:4], b[32:35]) == (0x11, "0101", "000")
    return sign(int(b[4] + b[8:28], 2), 21) * 16 - 16


def m68k_call(w: list[int]) -> int:
    assert w[0] == 0x61FF
    return sign(w[1] << 16 | w[2], 32) - 4


def vax_call(w: list[int]) -> int:
    assert w[:3] == [0xFB, 0, 0xEF]
    return int.from_bytes(bytes(w[3:]), "little", signed=True)


# What a message leaves in the register (or pushes); these do what the CPU would.


def arm_message(w: list[int]) -> int:
    assert w[:2] == [0xE59F0000, 0xEA000000]
    return w[2]


def aarch64_message(w: list[int]) -> int:
    assert [i & ~(0xFFFF << 5) for i in w] == [0xD2800000, 0xF2A00000, 0xF2C00000, 0xF2E00000]
    return sum((i >> 5 & 0xFFFF) << 16 * n for n, i in enumerate(w))


def alpha_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x261F, 0x2210, 0x4A04, 0x2610, 0x2210]
    assert w[2] == 0x4A041730
    return (((s16(w[0]) << 16) + s16(w[1])) << 32) + (s16(w[3]) << 16) + s16(w[4])


def mips_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x3C04, 0x2484]
    return (s16(w[0]) << 16) + s16(w[1])


def mips64_message(w: list[int]) -> int:
    assert [w[0] >> 16, *(i >> 16 for i in w[1::2])] == [0x3C04, *[0x6484] * 3]
    assert w[2::2] == [0x00042438] * 2
    value = s16(w[0]) << 16
    return (((value + s16(w[1])) << 16) + s16(w[3]) << 16) + s16(w[5])


def powerpc_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x3C60, 0x3863]
    return (s16(w[0]) << 16) + s16(w[1])


def powerpc64_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x3C60, 0x6063, 0x7863, 0x6463, 0x6063]
    assert w[2] == 0x786307C6
    return (w[0] & 0xFFFF) << 48 | (w[1] & 0xFFFF) << 32 | (w[3] & 0xFFFF) << 16 | w[4] & 0xFFFF


def riscv_message(w: list[int]) -> int:
    assert w[0] & 0xFFF == 0x537
    assert [i & 0xFFFFF for i in w[1::2]] == [0x5051B, *[0x50513] * 3]
    assert w[2::2] == [0x00C51513] * 3
    value = sign((w[0] & 0xFFFFF000) + sign(w[1] >> 20, 12) & 0xFFFFFFFF, 32)
    for i in w[3::2]:
        value = (value << 12) + sign(i >> 20, 12)
    return value


def sparc_message(w: list[int]) -> int:
    assert (w[0] >> 22, w[1] >> 13) == (0x11000000 >> 22, 0x90122000 >> 13)
    return w[0] << 10 & 0xFFFFFC00 | w[1] & 0x1FFF


def hppa_message(w: list[int]) -> int:
    b = f"{w[0]:032b}"
    assert (b[:11], w[1] >> 14) == ("001000" + "11010", 0x375A0000 >> 14)
    left = b[31] + b[20:31] + b[16:18] + b[11:16] + b[18:20]
    return (int(left, 2) << 11) + (w[1] >> 1 & 0x1FFF)


def or1k_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x1860, 0xA863]
    return (w[0] & 0xFFFF) << 16 | w[1] & 0xFFFF


def m88k_message(w: list[int]) -> int:
    assert [i >> 16 for i in w] == [0x5C40, 0x5842]
    return (w[0] & 0xFFFF) << 16 | w[1] & 0xFFFF


def ia64_message(w: list[int]) -> int:
    template, _, middle, last = slots(w[0])
    b = f"{last:041b}"
    assert (template, b[:4], b[20], int(b[28:35], 2)) == (5, "0110", "0", 38)
    return int(b[4] + f"{middle:041b}" + b[19] + b[14:19] + b[5:14] + b[21:28], 2)


def m68k_message(w: list[int]) -> int:
    assert w[0] == 0x4879
    return w[1] << 16 | w[2]


def vax_message(w: list[int]) -> int:
    assert w[:2] == [0xDD, 0x8F]
    return int.from_bytes(bytes(w[2:]), "little")


@dataclass(frozen=True)
class Cpu:
    """A plan, and how to read it.

    Attributes:
        size: bytes of an instruction, or of the unit of which they are made.
        call: the call's distance.
        delay: whether a nop (the pad) must stand behind the call.
        va_bits: how much of an address a message has.
        align: what all pieces but pad and trap are a multiple of.
    """

    plan: CodePlan
    order: ByteOrder
    call: Callable[[list[int]], int]
    message: Callable[[list[int]], int]
    known: Known
    size: int = 4
    delay: bool = False
    va_bits: int = 32
    align: int = 0

    def words(self, code: bytes) -> list[int]:
        assert type(code) is bytes
        assert len(code) % self.size == 0
        return [int.from_bytes(code[i : i + self.size], self.order) for i in range(0, len(code), self.size)]


_ARM = Known("e92d4830 e28db008 e24dd040", "e24bd008 e8bd8830", "e1a00000", "e7ffffff")
_MIPS = Known(
    "27bdffc0 afbf0038 afbe0030 afb00028 03a0f025",
    "03c0e825 8fbf0038 8fbe0030 8fb00028 03e00008 27bd0040",
    "00000000",
    "0203000d",
)
_MIPS64 = Known(
    "67bdffc0 ffbf0038 ffbe0030 ffb00028 03a0f025",
    "03c0e825 dfbf0038 dfbe0030 dfb00028 03e00008 67bd0040",
    "00000000",
    "0203000d",
)
_SH = Known("2f86 2fe6 4f22 7fc0 6ef3 6843", "7e40 6fe3 4f26 6ef6 000b 68f6", "0009", "c3c3")
_arm_call, _mips_call = pc_relative(0xEB, 24, 4), pc_relative(0x0411, 16, -4)
CPUS = {
    "ARM": Cpu(risc.ARM, "little", _arm_call, arm_message, _ARM),
    "ARM_BE": Cpu(risc.ARM_BE, "big", _arm_call, arm_message, _ARM),
    "AARCH64": Cpu(
        risc.AARCH64,
        "little",
        pc_relative(0x94000000 >> 26, 26, -4),
        aarch64_message,
        Known("a9bc7bfd a90153f3 910003fd", "a94153f3 a8c47bfd d65f03c0", "d503201f", "d43e0000"),
        va_bits=64,
    ),
    "ALPHA": Cpu(
        risc.ALPHA,
        "little",
        pc_relative(0xD3400000 >> 21, 21, 0),
        alpha_message,
        Known(
            "23deffc0 b75e0000 b53e0008 b5fe0010 47fe040f",
            "47ef041e a75e0000 a53e0008 a5fe0010 23de0040 6bfa8001",
            "2ffe0000",
            "00000081",
        ),
        va_bits=64,
    ),
    "MIPS_BE": Cpu(risc.MIPS_BE, "big", _mips_call, mips_message, _MIPS, delay=True),
    "MIPS_LE": Cpu(risc.MIPS_LE, "little", _mips_call, mips_message, _MIPS, delay=True),
    "MIPS64_BE": Cpu(risc.MIPS64_BE, "big", _mips_call, mips64_message, _MIPS64, delay=True, va_bits=64),
    "MIPS64_LE": Cpu(risc.MIPS64_LE, "little", _mips_call, mips64_message, _MIPS64, delay=True, va_bits=64),
    "POWERPC": Cpu(
        risc.POWERPC,
        "big",
        powerpc_call,
        powerpc_message,
        Known(
            "7c0802a6 90010004 9421ffc0 93e10038 7c3f0b78",
            "83e10038 38210040 80010004 7c0803a6 4e800020",
            "60000000",
            "7fe00008",
        ),
    ),
    "POWERPC64": Cpu(
        risc.POWERPC64,
        "big",
        powerpc_call,
        powerpc64_message,
        Known(
            "7c0802a6 f8010010 f821ffc1 fbe10038 7c3f0b78",
            "ebe10038 38210040 e8010010 7c0803a6 4e800020",
            "60000000",
            "7fe00008",
        ),
        va_bits=64,
    ),
    "RISCV64": Cpu(
        risc.RISCV64,
        "little",
        riscv_call,
        riscv_message,
        Known(
            "fc010113 02113c23 02813823 02913423 04010413",
            "03813083 03013403 02813483 04010113 00008067",
            "00000013",
            "00100073",
        ),
        va_bits=64,
    ),
    "SPARC": Cpu(
        cisc.SPARC,
        "big",
        pc_relative(1, 30, -8),
        sparc_message,
        Known("9de3bf90", "81c7e008 81e80000", "01000000", "91d02001"),
        delay=True,
    ),
    "SPARC64": Cpu(
        cisc.SPARC64,
        "big",
        pc_relative(1, 30, -8),
        sparc_message,
        Known("9de3bf40", "81c7e008 81e80000", "01000000", "91d02001"),
        delay=True,
    ),
    "HPPA": Cpu(
        cisc.HPPA,
        "big",
        hppa_call,
        hppa_message,
        Known(
            "6bc23fd9 08030241 081e0243 6fc10100 68640010",
            "48623fd9 48640010 347e0080 e840c000 4fc33f81",
            "08000240",
            "0000a000",
        ),
        delay=True,
    ),
    "OR1K": Cpu(
        cisc.OR1K,
        "big",
        pc_relative(1, 26, -8),
        or1k_message,
        Known(
            "9c21ffc0 d4011038 9c410040 d401483c d4017034",
            "8521003c 84410038 85c10034 44004800 9c210040",
            "15000000",
            "21000001",
        ),
        delay=True,
    ),
    "M88K": Cpu(
        cisc.M88K,
        "big",
        pc_relative(0xC8000000 >> 26, 26, -4),
        m88k_message,
        Known(
            "67ff0040 243f0034 27df0030 273f002c 63df0030",
            "67fe0030 143f0034 173f002c 17df0030 f400c401 63ff0040",
            "f4005800",
            "f000d084",
        ),
    ),
    "SH_LE": Cpu(cisc.SH_LE, "little", sh_call("little"), sh_literal(4, "little"), _SH, size=2, delay=True, align=4),
    "SH_BE": Cpu(cisc.SH_BE, "big", sh_call("big"), sh_literal(4, "big"), _SH, size=2, delay=True, align=4),
    "IA64": Cpu(
        cisc.IA64,
        "little",
        ia64_call,
        ia64_message,
        Known(
            "8cfc640180006200023005800c251001",
            "07000a30000055011000210019006001 00840008800002000000000100000011",
            "00040000000002000000000100000001",
            "000400000000020000000000425ae801",
        ),
        size=16,
        va_bits=64,
    ),
    "M68K": Cpu(
        cisc.M68K,
        "big",
        m68k_call,
        m68k_message,
        Known("4e56 ffc0 48e7 3030", "4cee 0c0c ffb0 4e5e 4e75", "4e71", "4e4f"),
        size=2,
    ),
    "VAX": Cpu(cisc.VAX, "little", vax_call, vax_message, Known("c0 0f c2 3c 5e", "04", "01", "03"), size=1),
}


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest) -> Cpu:
    return CPUS[request.param]


def test_every_plan_is_tested() -> None:
    found = {n: v for m in (risc, cisc) for n, v in vars(m).items() if isinstance(v, CodePlan)}
    assert found == {n: c.plan for n, c in CPUS.items()}


def test_known_words(cpu: Cpu) -> None:
    plan = cpu.plan
    pieces = Known(
        *(
            " ".join(f"{w:0{2 * cpu.size}x}" for w in cpu.words(p))
            for p in (plan.prologue, plan.epilogue, plan.pad, plan.trap)
        )
    )
    assert pieces == cpu.known


def test_lengths(cpu: Cpu) -> None:
    plan = cpu.plan
    assert 8 <= len(plan.body) <= 12
    assert len(set(plan.body)) == len(plan.body)
    for piece in (plan.prologue, plan.epilogue, *plan.body, plan.call(0), plan.message(0)):
        assert piece
        assert cpu.words(piece)
        assert len(piece) % (cpu.align or cpu.size) == 0
    assert len(plan.pad) == cpu.size
    assert len(plan.trap) == cpu.size


def test_calls(cpu: Cpu) -> None:
    length = len(cpu.plan.call(0))
    step = max(cpu.size, 4) * 27
    for distance in (0, -length + length % max(cpu.size, 4), *range(-step * 600, step * 600, step)):
        code = cpu.plan.call(distance)
        assert len(code) == length
        assert not cpu.delay or code.endswith(cpu.plan.pad)
        assert cpu.call(cpu.words(code)) == distance


def test_impossible_calls(cpu: Cpu) -> None:
    with pytest.raises(ValueError, match="doesn't fit"):
        cpu.plan.call(1 << 40)
    if cpu.size > 2:
        with pytest.raises(ValueError, match="doesn't fit"):
            cpu.plan.call(1)


@pytest.mark.parametrize(
    "va",
    [
        *(0, 1, 0x7FF, 0x800, 0xFFF, 0x7FFF, 0x8000, 0xFFFF, 0x12345678, 0x7FFFFFFF, 0x7FFF8000, 0x80008000),
        *(0xC0ABCDEF, 0xFFFFFFFF, 0xFFFFFFFF_FFFFFFFF, 0xFFFFFFFF_80123456, 0xFFFFFFFF_7FFF8000),
        *(0xFFFFFC00_00237FFF, 0x980000001F808000, 0xE0000000_80000000, 0xFFFFFFC0_00208800, 0x00007FFF_80008800),
    ],
)
def test_messages(cpu: Cpu, va: int) -> None:
    code = cpu.plan.message(va)
    assert len(code) == len(cpu.plan.message(0))
    assert cpu.message(cpu.words(code)) % (1 << cpu.va_bits) == va % (1 << cpu.va_bits)


def test_in_a_text(cpu: Cpu) -> None:
    """Calls go to the functions they name, and whatever has to be aligned is."""
    kernel = Kernel(0x100000, 0, 12, 4096)
    text = Text(kernel, cpu.plan)
    names = [f"f{i}" for i in range(30)]
    for i, name in enumerate(names):
        if i % 7 == 3:
            text.add_trap(name)
        else:
            text.add(name, [names[i * 11 % 30], names[29 - i]], "message" if i % 2 else None)
    kernel.begin("R")
    kernel.add("message", b"panic\0")
    text.link()
    data = kernel.sections[0].data
    assert all(kernel.va(name) % 16 == 0 for name in names)
    length = len(cpu.plan.call(0))
    for (_, callee), back in text.returns.items():
        at = back - 0x100000
        assert back % (cpu.align or cpu.size) == 0
        assert back + cpu.call(cpu.words(bytes(data[at - length : at]))) == kernel.va(callee)
    for at in text.traps.values():
        assert data[at - 0x100000 - len(cpu.plan.trap) : at - 0x100000] == cpu.plan.trap
