"""Enough instructions for the text of sample kernels: CPUs whose instructions are 32-bit words made of plain fields.

Each instruction's assembler text stands beside it; "." in a branch is the address of the branch. The numbers that the
small functions take are opcode fields, registers and immediates, in the order of the text where that is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvmlib.ports.plan import CodePlan

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder


def words(order: ByteOrder, *insns: int, size: int = 4) -> bytes:
    """Return instructions of `size` bytes each as they lie in memory."""
    return b"".join(i.to_bytes(size, order) for i in insns)


def imm16(op: int, a: int, b: int, n: int) -> int:
    """Return an instruction of the form that many CPUs have: opcode, two registers, a 16-bit immediate."""
    return op << 26 | a << 21 | b << 16 | n & 0xFFFF


def signed(value: int, bits: int, unit: int = 1) -> int:
    """Return a field of `bits` bits that holds `value` / `unit` in two's complement; raise ValueError if it can't."""
    n, rest = divmod(value, unit)
    if rest or not -(1 << bits - 1) <= n < 1 << bits - 1:
        raise ValueError(f"{value:#x} doesn't fit in {bits} bits in units of {unit}")
    return n & (1 << bits) - 1


def high_low(va: int, low_bits: int) -> tuple[int, int]:
    """Split an address for instructions that add the low part as a signed number: what is above it, and the low part.

    The second is the field; the first has made good for its sign.
    """
    low = va & (1 << low_bits) - 1
    return (va + (1 << low_bits - 1)) >> low_bits, low


def code_plan(
    order: ByteOrder,
    *,
    prologue: Sequence[int],
    epilogue: Sequence[int],
    body: Sequence[Sequence[int]],
    pad: int,
    call: Callable[[int], Sequence[int]],
    message: Callable[[int], Sequence[int]],
    trap: int,
    size: int = 4,
) -> CodePlan:
    """Return a plan from instructions that are numbers of `size` bytes."""
    return CodePlan(
        prologue=words(order, *prologue, size=size),
        epilogue=words(order, *epilogue, size=size),
        body=tuple(words(order, *group, size=size) for group in body),
        pad=words(order, pad, size=size),
        call=lambda distance: words(order, *call(distance), size=size),
        message=lambda va: words(order, *message(va), size=size),
        trap=words(order, trap, size=size),
    )


def _arm(order: ByteOrder) -> CodePlan:
    def alu(op: int, rd: int, rn: int, operand: int) -> int:  # op: bits 27-20, so it tells a register from a number
        return 0xE << 28 | op << 20 | rn << 16 | rd << 12 | operand

    def mem(op: int, rd: int, rn: int, offset: int) -> int:
        return 0xE << 28 | (op | (offset >= 0) << 3) << 20 | rn << 16 | rd << 12 | abs(offset)

    def branch(condition: int, op: int, distance: int) -> int:  # pc is 8 bytes ahead of the instruction
        return condition << 28 | op << 24 | signed(distance - 4, 24, 4)

    ldr, str_, ldrb = 0x51, 0x50, 0x55
    fp, sp, pc = 11, 13, 15
    return code_plan(
        order,
        prologue=(
            alu(0x92, 0, sp, 0x4830),  # push {r4, r5, fp, lr}
            alu(0x28, fp, sp, 8),  # add fp, sp, #8
            alu(0x24, sp, sp, 64),  # sub sp, sp, #64
        ),
        epilogue=(
            alu(0x24, sp, fp, 8),  # sub sp, fp, #8
            alu(0x8B, 0, sp, 0x8830),  # pop {r4, r5, fp, pc}
        ),
        body=(
            (alu(0x1A, 4, 0, 0), alu(0x35, 0, 4, 0), branch(0, 10, 0)),  # mov r4, r0; cmp r4, #0; beq .+4
            (mem(ldr, 5, 4, 16),),  # ldr r5, [r4, #16]
            (mem(ldr, 3, 4, 24), alu(0x28, 3, 3, 1), mem(str_, 3, 4, 24)),
            # ldr r3, [r4, #24]; add r3, r3, #1; str r3, [r4, #24]
            (alu(0x3A, 0, 0, 0),),  # mov r0, #0
            (alu(0x24, 3, fp, 48), mem(str_, 3, fp, -52)),  # sub r3, fp, #48; str r3, [fp, #-52]
            (alu(0x28, 5, 5, 8),),  # add r5, r5, #8
            (alu(0x1A, 3, 0, 3 << 7 | 1 << 5), alu(0, 3, 3, 4)),  # lsr r3, r0, #3; and r3, r3, r4
            (alu(0x15, 0, 3, 2), branch(13, 10, 0)),  # cmp r3, r2; ble .+4
            (mem(ldr, 2, fp, -52), alu(0x1A, 1, 0, 2)),  # ldr r2, [fp, #-52]; mov r1, r2
            (mem(ldrb, 3, 4, 0), alu(0x35, 0, 3, 47), branch(1, 10, 0)),  # ldrb r3, [r4]; cmp r3, #47; bne .+4
        ),
        pad=alu(0x1A, 0, 0, 0),  # nop (mov r0, r0)
        call=lambda distance: (branch(14, 11, distance),),  # bl
        # The address is a literal, because movw is not in ARMs before version 7.
        message=lambda va: (mem(ldr, 0, pc, 0), branch(14, 10, 4), va & 0xFFFFFFFF),  # ldr r0, [pc]; b .+8; .word va
        trap=0xE7FFFFFF,  # udf #65535
    )


def _aarch64() -> CodePlan:
    def pair(op: int, rt: int, rt2: int, rn: int, offset: int) -> int:
        return op << 22 | signed(offset, 7, 8) << 15 | rt2 << 10 | rn << 5 | rt

    def imm(op: int, rd: int, rn: int, n: int) -> int:  # n counts in units of what is loaded
        return op << 22 | n << 10 | rn << 5 | rd

    def reg(op: int, rd: int, rn: int, rm: int) -> int:
        return op << 24 | rm << 16 | rn << 5 | rd

    def skip(op: int, low: int) -> int:  # a branch to the next instruction
        return op << 24 | 1 << 5 | low

    def wide(op: int, rd: int, va: int, half: int) -> int:
        return op << 23 | half << 21 | (va >> 16 * half & 0xFFFF) << 5 | rd

    ldr_x, str_x, ldr_w, str_w, ldrb, add_x, add_w, subs_w = 0x3E5, 0x3E4, 0x2E5, 0x2E4, 0xE5, 0x244, 0x44, 0x1C4
    fp, lr, sp, zr = 29, 30, 31, 31
    return code_plan(
        "little",
        prologue=(
            pair(0x2A6, fp, lr, sp, -64),  # stp x29, x30, [sp, #-64]!
            pair(0x2A4, 19, 20, sp, 16),  # stp x19, x20, [sp, #16]
            imm(add_x, fp, sp, 0),  # mov x29, sp
        ),
        epilogue=(
            pair(0x2A5, 19, 20, sp, 16),  # ldp x19, x20, [sp, #16]
            pair(0x2A3, fp, lr, sp, 64),  # ldp x29, x30, [sp], #64
            0xD65F0000 | lr << 5,  # ret
        ),
        body=(
            (reg(0xAA, 19, zr, 0), skip(0xB4, 19)),  # mov x19, x0; cbz x19, .+4
            (imm(ldr_x, 20, 19, 2),),  # ldr x20, [x19, #16]
            (imm(ldr_w, 8, 19, 6), imm(add_w, 8, 8, 1), imm(str_w, 8, 19, 6)),
            # ldr w8, [x19, #24]; add w8, w8, #0x1; str w8, [x19, #24]
            (reg(0x2A, 0, zr, zr),),  # mov w0, wzr
            (imm(add_x, 8, sp, 32), imm(str_x, 8, fp, 5)),  # add x8, sp, #0x20; str x8, [x29, #40]
            (imm(add_x, 20, 20, 8),),  # add x20, x20, #0x8
            (imm(0x34D, 9, 0, 3 << 6 | 63), reg(0x8A, 9, 9, 19)),  # lsr x9, x0, #3; and x9, x9, x19
            (reg(0x6B, zr, 8, 9), skip(0x54, 13)),  # cmp w8, w9; b.le .+4
            (imm(ldr_x, 2, fp, 5), reg(0xAA, 1, zr, 2)),  # ldr x2, [x29, #40]; mov x1, x2
            (imm(ldrb, 8, 19, 0), imm(subs_w, zr, 8, 47), skip(0x54, 1)),  # ldrb w8, [x19]; cmp w8, #0x2f; b.ne .+4
        ),
        pad=0xD503201F,  # nop
        call=lambda distance: (0x94000000 | signed(distance + 4, 26, 4),),  # bl
        message=lambda va: (wide(0x1A5, 0, va, 0), *(wide(0x1E5, 0, va, i) for i in (1, 2, 3))),
        # mov x0, #va; movk x0, #va, lsl #16; movk x0, #va, lsl #32; movk x0, #va, lsl #48
        trap=0xD4200000 | 0xF000 << 5,  # brk #0xf000
    )


def _alpha() -> CodePlan:
    def mem(op: int, ra: int, offset: int, rb: int) -> int:
        return imm16(op, ra, rb, offset)

    def alu(op: int, function: int, ra: int, rb: int, rc: int) -> int:
        return op << 26 | ra << 21 | rb << 16 | function << 5 | rc

    def lit(op: int, function: int, ra: int, n: int, rc: int) -> int:
        return op << 26 | ra << 21 | n << 13 | 1 << 12 | function << 5 | rc

    def branch(op: int, ra: int, distance: int) -> int:
        return op << 26 | ra << 21 | signed(distance, 21, 4)

    def message(va: int) -> tuple[int, ...]:
        rest, lowest = high_low(va, 16)
        rest, low = high_low(rest, 16)
        rest, high = high_low(rest, 16)
        return (
            mem(ldah, a0, rest, zero),  # ldah a0,va(zero)
            mem(lda, a0, high, a0),  # lda a0,va(a0)
            lit(0x12, 0x39, a0, 32, a0),  # sll a0,0x20,a0
            mem(ldah, a0, low, a0),  # ldah a0,va(a0)
            mem(lda, a0, lowest, a0),  # lda a0,va(a0)
        )

    lda, ldah, ldbu, ldq_u, ldl, ldq, stl, stq = 0x08, 0x09, 0x0A, 0x0B, 0x28, 0x29, 0x2C, 0x2D
    v0, t0, t1, s0, s1, fp, a0, a1, a2, ra, sp, zero = 0, 1, 2, 9, 10, 15, 16, 17, 18, 26, 30, 31
    return code_plan(
        "little",
        prologue=(
            mem(lda, sp, -64, sp),  # lda sp,-64(sp)
            mem(stq, ra, 0, sp),  # stq ra,0(sp)
            mem(stq, s0, 8, sp),  # stq s0,8(sp)
            mem(stq, fp, 16, sp),  # stq fp,16(sp)
            alu(0x11, 0x20, zero, sp, fp),  # mov sp,fp
        ),
        epilogue=(
            alu(0x11, 0x20, zero, fp, sp),  # mov fp,sp
            mem(ldq, ra, 0, sp),  # ldq ra,0(sp)
            mem(ldq, s0, 8, sp),  # ldq s0,8(sp)
            mem(ldq, fp, 16, sp),  # ldq fp,16(sp)
            mem(lda, sp, 64, sp),  # lda sp,64(sp)
            mem(0x1A, zero, 2 << 14 | 1, ra),  # ret
        ),
        body=(
            (alu(0x11, 0x20, zero, a0, s0), branch(0x39, s0, 0)),  # mov a0,s0; beq s0,.+4
            (mem(ldq, s1, 16, s0),),  # ldq s1,16(s0)
            (mem(ldl, t0, 24, s0), lit(0x10, 0, t0, 1, t0), mem(stl, t0, 24, s0)),
            # ldl t0,24(s0); addl t0,0x1,t0; stl t0,24(s0)
            (alu(0x11, 0x20, zero, zero, v0),),  # clr v0
            (mem(lda, t0, 32, fp), mem(stq, t0, 40, fp)),  # lda t0,32(fp); stq t0,40(fp)
            (lit(0x10, 0x20, s1, 8, s1),),  # addq s1,0x8,s1
            (lit(0x12, 0x34, v0, 3, t0), alu(0x11, 0, t0, s0, t0)),  # srl v0,0x3,t0; and t0,s0,t0
            (alu(0x10, 0x6D, t0, t1, v0), branch(0x3D, v0, 0)),  # cmple t0,t1,v0; bne v0,.+4
            (mem(ldq, a2, 40, fp), alu(0x11, 0x20, zero, a2, a1)),  # ldq a2,40(fp); mov a2,a1
            (mem(ldbu, t0, 0, s0), lit(0x10, 0x2D, t0, 47, t1), branch(0x39, t1, 0)),
            # ldbu t0,0(s0); cmpeq t0,0x2f,t1; beq t1,.+4
        ),
        pad=mem(ldq_u, zero, 0, sp),  # unop
        call=lambda distance: (branch(0x34, ra, distance),),  # bsr ra
        message=message,
        trap=0x00000081,  # call_pal 0x81 (bugchk)
    )


def _mips(order: ByteOrder, *, wide: bool) -> CodePlan:
    """The assembler text is that of the 32-bit CPU; the 64-bit one has ld, sd, daddiu, dsrl for pointers."""

    def imm(op: int, rt: int, rs: int, n: int) -> int:
        return imm16(op, rs, rt, n)

    def alu(function: int, rd: int, rs: int, rt: int, shift: int = 0) -> int:
        return rs << 21 | rt << 16 | rd << 11 | shift << 6 | function

    def message(va: int) -> tuple[int, ...]:
        rest, lowest = high_low(va, 16)
        if not wide:
            return imm(lui, a0, 0, rest), imm(addiu, a0, a0, lowest)  # lui a0,va; addiu a0,a0,va
        rest, low = high_low(rest, 16)
        rest, high = high_low(rest, 16)
        return (
            imm(lui, a0, 0, rest),  # lui a0,va
            imm(addp, a0, a0, high),  # daddiu a0,a0,va
            alu(0x38, a0, 0, a0, 16),  # dsll a0,a0,0x10
            imm(addp, a0, a0, low),  # daddiu a0,a0,va
            alu(0x38, a0, 0, a0, 16),  # dsll a0,a0,0x10
            imm(addp, a0, a0, lowest),  # daddiu a0,a0,va
        )

    beq, bne, addiu, lui, lw, lbu, sw, move = 0x04, 0x05, 0x09, 0x0F, 0x23, 0x24, 0x2B, 0x25
    load, store, addp, srl = (0x37, 0x3F, 0x19, 0x3A) if wide else (lw, sw, addiu, 0x02)
    v0, v1, a0, a1, a2, s0, s1, sp, fp, ra = 2, 3, 4, 5, 6, 16, 17, 29, 30, 31
    nop = 0
    return code_plan(
        order,
        prologue=(
            imm(addp, sp, sp, -64),  # addiu sp,sp,-64
            imm(store, ra, sp, 56),  # sw ra,56(sp)
            imm(store, fp, sp, 48),  # sw s8,48(sp)
            imm(store, s0, sp, 40),  # sw s0,40(sp)
            alu(move, fp, sp, 0),  # move s8,sp
        ),
        epilogue=(
            alu(move, sp, fp, 0),  # move sp,s8
            imm(load, ra, sp, 56),  # lw ra,56(sp)
            imm(load, fp, sp, 48),  # lw s8,48(sp)
            imm(load, s0, sp, 40),  # lw s0,40(sp)
            alu(0x08, 0, ra, 0),  # jr ra
            imm(addp, sp, sp, 64),  # addiu sp,sp,64
        ),
        body=(
            (alu(move, s0, a0, 0), imm(beq, 0, s0, 1), nop),  # move s0,a0; beqz s0,.+8; nop
            (imm(load, s1, s0, 16),),  # lw s1,16(s0)
            (imm(lw, v0, s0, 24), nop, imm(addiu, v0, v0, 1), imm(sw, v0, s0, 24)),
            # lw v0,24(s0); nop; addiu v0,v0,1; sw v0,24(s0)
            (alu(move, v0, 0, 0),),  # move v0,zero
            (imm(addp, v1, fp, 24), imm(store, v1, fp, 32)),  # addiu v1,s8,24; sw v1,32(s8)
            (imm(addp, s1, s1, 8),),  # addiu s1,s1,8
            (alu(srl, v0, 0, v0, 3), alu(0x24, v0, v0, s0)),  # srl v0,v0,0x3; and v0,v0,s0
            (alu(0x2A, v1, a2, v0), imm(beq, 0, v1, 1), nop),  # slt v1,a2,v0; beqz v1,.+8; nop
            (imm(load, a2, fp, 32), nop, alu(move, a1, a2, 0)),  # lw a2,32(s8); nop; move a1,a2
            (imm(lbu, v0, s0, 0), imm(addiu, v1, 0, 47), imm(bne, v1, v0, 1), nop),
            # lbu v0,0(s0); li v1,47; bne v0,v1,.+8; nop
        ),
        pad=nop,  # nop
        # Compilers make this a jal, whose target is no distance. It is counted from the delay slot.
        call=lambda distance: (imm(0x01, 0x11, 0, signed(distance + 4, 16, 4)), nop),  # bal; nop
        message=message,
        trap=0x0000000D | 515 << 16,  # break 0x203
    )


def _powerpc(*, wide: bool) -> CodePlan:
    """The assembler text is that of the 32-bit CPU; the 64-bit one has ld, std, srdi, and 16(r1) for 4(r1)."""

    def reg(function: int, ra: int, rs: int, rb: int) -> int:
        return 31 << 26 | rs << 21 | ra << 16 | rb << 11 | function << 1

    def skip(condition: int) -> int:  # a branch to the next instruction
        return 16 << 26 | condition << 16 | 4

    def message(va: int) -> tuple[int, ...]:
        if not wide:
            high, low = high_low(va, 16)
            return imm16(addis, 3, 0, high), imm16(addi, 3, 3, low)  # lis r3,va; addi r3,r3,va
        return (
            imm16(addis, 3, 0, va >> 48),  # lis r3,va
            imm16(ori, 3, 3, va >> 32),  # ori r3,r3,va
            imm16(30, 3, 3, 31 << 6 | 1 << 2 | 1 << 1),  # sldi r3,r3,32
            imm16(oris, 3, 3, va >> 16),  # oris r3,r3,va
            imm16(ori, 3, 3, va),  # ori r3,r3,va
        )

    cmpwi, addi, addis, ori, oris, lwz, lbz, stw = 11, 14, 15, 24, 25, 32, 34, 36
    # stdu is std with a bit set in the offset.
    load, store, store_update, lr_at = (58, 62, 62, 16) if wide else (lwz, stw, 37, 4)
    # srdi or srwi: rldicl r9,r3,61,3 or rlwinm r9,r3,29,3,31.
    srl3 = imm16(30, 3, 9, (61 & 31) << 11 | 3 << 6 | 1 << 1) if wide else imm16(21, 3, 9, 29 << 11 | 3 << 6 | 31 << 1)
    mflr, mtlr = 0x7C0802A6, 0x7C0803A6
    sp, fp = 1, 31
    le, eq, ne = 4 << 5 | 1, 12 << 5 | 2, 4 << 5 | 2
    return code_plan(
        "big",
        prologue=(
            mflr,  # mflr r0
            imm16(store, 0, sp, lr_at),  # stw r0,4(r1)
            imm16(store_update, sp, sp, -64 | wide),  # stwu r1,-64(r1)
            imm16(store, fp, sp, 56),  # stw r31,56(r1)
            reg(444, fp, sp, sp),  # mr r31,r1
        ),
        epilogue=(
            imm16(load, fp, sp, 56),  # lwz r31,56(r1)
            imm16(addi, sp, sp, 64),  # addi r1,r1,64
            imm16(load, 0, sp, lr_at),  # lwz r0,4(r1)
            mtlr,  # mtlr r0
            0x4E800020,  # blr
        ),
        body=(
            (reg(444, 30, 3, 3), imm16(cmpwi, 0, 30, 0), skip(eq)),  # mr r30,r3; cmpwi r30,0; beq .+4
            (imm16(load, 29, 30, 16),),  # lwz r29,16(r30)
            (imm16(lwz, 9, 30, 24), imm16(addi, 9, 9, 1), imm16(stw, 9, 30, 24)),
            # lwz r9,24(r30); addi r9,r9,1; stw r9,24(r30)
            (imm16(addi, 3, 0, 0),),  # li r3,0
            (imm16(addi, 9, fp, 24), imm16(store, 9, fp, 32)),  # addi r9,r31,24; stw r9,32(r31)
            (imm16(addi, 29, 29, 8),),  # addi r29,r29,8
            (srl3, reg(28, 9, 9, 30)),  # srwi r9,r3,3; and r9,r9,r30
            (reg(0, 9, 0, 10), skip(le)),  # cmpw r9,r10; ble .+4
            (imm16(load, 5, fp, 32), reg(444, 4, 5, 5)),  # lwz r5,32(r31); mr r4,r5
            (imm16(lbz, 9, 30, 0), imm16(cmpwi, 0, 9, 47), skip(ne)),  # lbz r9,0(r30); cmpwi r9,47; bne .+4
        ),
        pad=imm16(ori, 0, 0, 0),  # nop
        call=lambda distance: (18 << 26 | signed(distance + 4, 24, 4) << 2 | 1,),  # bl
        message=message,
        trap=0x7FE00008,  # trap
    )


def _riscv64() -> CodePlan:
    def imm(op: int, rd: int, rs: int, n: int) -> int:  # op: funct3 and opcode
        return (n & 0xFFF) << 20 | rs << 15 | op >> 8 << 12 | rd << 7 | op & 0x7F

    def reg(op: int, rd: int, rs1: int, rs2: int) -> int:
        return imm(op, rd, rs1, rs2)

    def store(op: int, rs2: int, rs1: int, n: int) -> int:
        return imm(op, n & 31, rs1, n & ~31 | rs2)

    def skip(op: int, rs1: int, rs2: int) -> int:  # a branch to the next instruction: 4 is bit 2 of the offset
        return imm(op, 4, rs1, rs2)

    def call(distance: int) -> tuple[int]:
        n = signed(distance + 4, 20, 2)  # in memory: bits 20, 10-1, 11, 19-12 of the offset
        return ((n >> 19 << 19 | (n & 0x3FF) << 9 | (n >> 10 & 1) << 8 | n >> 11 & 0xFF) << 12 | ra << 7 | 0x6F,)

    def message(va: int) -> tuple[int, ...]:
        rest, low0 = high_low(va, 12)
        rest, low1 = high_low(rest, 12)
        rest, low2 = high_low(rest, 12)
        rest, low3 = high_low(rest, 12)
        return (
            (rest & 0xFFFFF) << 12 | a0 << 7 | 0x37,  # lui a0,va
            imm(addiw, a0, a0, low3),  # addiw a0,a0,va
            imm(slli, a0, a0, 12),  # slli a0,a0,0xc
            imm(addi, a0, a0, low2),  # addi a0,a0,va
            imm(slli, a0, a0, 12),  # slli a0,a0,0xc
            imm(addi, a0, a0, low1),  # addi a0,a0,va
            imm(slli, a0, a0, 12),  # slli a0,a0,0xc
            imm(addi, a0, a0, low0),  # addi a0,a0,va
        )

    lw, ld, lbu, sw, sd, addi, slli, srli, addiw = 0x203, 0x303, 0x403, 0x223, 0x323, 0x013, 0x113, 0x513, 0x01B
    and_, beq, bne, bge = 0x733, 0x063, 0x163, 0x563
    zero, ra, sp, s0, s1, a0, a1, a2, a4, a5, s2 = 0, 1, 2, 8, 9, 10, 11, 12, 14, 15, 18
    return code_plan(
        "little",
        prologue=(
            imm(addi, sp, sp, -64),  # addi sp,sp,-64
            store(sd, ra, sp, 56),  # sd ra,56(sp)
            store(sd, s0, sp, 48),  # sd s0,48(sp)
            store(sd, s1, sp, 40),  # sd s1,40(sp)
            imm(addi, s0, sp, 64),  # addi s0,sp,64
        ),
        epilogue=(
            imm(ld, ra, sp, 56),  # ld ra,56(sp)
            imm(ld, s0, sp, 48),  # ld s0,48(sp)
            imm(ld, s1, sp, 40),  # ld s1,40(sp)
            imm(addi, sp, sp, 64),  # addi sp,sp,64
            imm(0x067, zero, ra, 0),  # ret
        ),
        body=(
            (imm(addi, s1, a0, 0), skip(beq, s1, zero)),  # mv s1,a0; beqz s1,.+4
            (imm(ld, s2, s1, 16),),  # ld s2,16(s1)
            (imm(lw, a5, s1, 24), imm(addiw, a5, a5, 1), store(sw, a5, s1, 24)),
            # lw a5,24(s1); addiw a5,a5,1; sw a5,24(s1)
            (imm(addi, a0, zero, 0),),  # li a0,0
            (imm(addi, a5, s0, -48), store(sd, a5, s0, -56)),  # addi a5,s0,-48; sd a5,-56(s0)
            (imm(addi, s2, s2, 8),),  # addi s2,s2,8
            (imm(srli, a5, a0, 3), reg(and_, a5, a5, s1)),  # srli a5,a0,0x3; and a5,a5,s1
            (skip(bge, a4, a5),),  # bge a4,a5,.+4
            (imm(ld, a2, s0, -56), imm(addi, a1, a2, 0)),  # ld a2,-56(s0); mv a1,a2
            (imm(lbu, a5, s1, 0), imm(addi, a4, zero, 47), skip(bne, a5, a4)),  # lbu a5,0(s1); li a4,47; bne a5,a4,.+4
        ),
        pad=imm(addi, zero, zero, 0),  # nop
        call=call,  # jal ra
        message=message,
        trap=0x00100073,  # ebreak
    )


ARM, ARM_BE = _arm("little"), _arm("big")
AARCH64 = _aarch64()
ALPHA = _alpha()
MIPS_BE, MIPS_LE = _mips("big", wide=False), _mips("little", wide=False)
MIPS64_BE, MIPS64_LE = _mips("big", wide=True), _mips("little", wide=True)
POWERPC, POWERPC64 = _powerpc(wide=False), _powerpc(wide=True)
RISCV64 = _riscv64()
