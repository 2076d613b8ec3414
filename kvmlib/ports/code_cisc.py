"""Enough instructions for the text of sample kernels: the CPUs that code_risc leaves.

These have registers in windows, scattered immediates, 16-bit words, bundles, or instructions of any length. Each
instruction's assembler text stands beside it; "." in a branch is the address of the branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmlib.ports.code_risc import code_plan, imm16, signed
from kvmlib.ports.plan import CodePlan

if TYPE_CHECKING:
    from kvmlib.kcore import ByteOrder


def _sparc(*, wide: bool) -> CodePlan:
    """The assembler text is that of the 32-bit CPU; the 64-bit one has ldx, stx, and locals above %fp (at 2031)."""

    def imm(op: int, rd: int, rs1: int, n: int) -> int:  # op: bits 31-30 and 24-19
        return op >> 6 << 30 | rd << 25 | (op & 0x3F) << 19 | rs1 << 14 | 1 << 13 | n & 0x1FFF

    def reg(op: int, rd: int, rs1: int, rs2: int) -> int:
        return imm(op, rd, rs1, rs2) & ~(1 << 13)

    def skip(condition: int) -> int:  # a branch to behind its delay slot; on SPARC64 that looks at %xcc
        return condition << 25 | (1 << 22 | 2 << 20 | 1 << 19 if wide else 2 << 22) | 2

    add, and_, or_, subcc, srl, save = 0x80, 0x81, 0x82, 0x94, 0xA6, 0xBC
    lduw, ldub, stw = 0xC0, 0xC1, 0xC4
    # ldx and stx where registers are 64 bits wide.
    load, store, frame = (0xCB, 0xCE, -192) if wide else (lduw, stw, -112)
    g0, g1, g2, o0, o1, o2, sp, l0, l1, i0, fp, i7 = 0, 1, 2, 8, 9, 10, 14, 16, 17, 24, 30, 31
    local = fp, 2047 - 16 if wide else -16  # SPARC64's frame pointer is less by 2047 than where the frame is
    nop = 0x01000000
    return code_plan(
        "big",
        prologue=(imm(save, sp, sp, frame),),  # save %sp, -112, %sp
        epilogue=(imm(0xB8, g0, i7, 8), reg(0xBD, g0, g0, g0)),  # ret; restore
        body=(
            (reg(subcc, g0, i0, g0), skip(1), nop),  # cmp %i0, %g0; be .+8; nop
            (imm(load, l0, i0, 16),),  # ld [%i0+16], %l0
            (imm(lduw, g1, i0, 24), imm(add, g1, g1, 1), imm(stw, g1, i0, 24)),
            # ld [%i0+24], %g1; add %g1, 1, %g1; st %g1, [%i0+24]
            (reg(or_, o0, g0, g0),),  # mov %g0, %o0
            (imm(add, g1, *local), imm(store, g1, *local)),  # add %fp, -16, %g1; st %g1, [%fp-16]
            (reg(or_, l1, g0, l0), imm(add, l1, l1, 8)),  # mov %l0, %l1; add %l1, 8, %l1
            (imm(srl, g1, o0, 3), reg(and_, g1, g1, i0)),  # srl %o0, 3, %g1; and %g1, %i0, %g1
            (reg(subcc, g0, g1, g2), skip(2), nop),  # cmp %g1, %g2; ble .+8; nop
            (imm(load, o2, *local), reg(or_, o1, g0, o2)),  # ld [%fp-16], %o2; mov %o2, %o1
            (imm(ldub, g1, i0, 0), imm(subcc, g0, g1, 47), skip(9), nop),  # ldub [%i0], %g1; cmp %g1, 47; bne .+8; nop
        ),
        pad=nop,  # nop
        # It leaves its own address in %o7; the function returns to 8 bytes behind that.
        call=lambda distance: (1 << 30 | signed(distance + 8, 30, 4), nop),  # call; nop
        # As in code for the lower 4 GB (-mcmodel=medlow), where SPARC64's kernels are.
        message=lambda va: (o0 << 25 | 4 << 22 | va >> 10 & 0x3FFFFF, imm(or_, o0, o0, va & 0x3FF)),
        # sethi %hi(va), %o0; or %o0, %lo(va), %o0
        trap=0x91D02001,  # ta 1
    )


def _hppa() -> CodePlan:
    """Its assembler text has hexadecimal numbers, but for positions of bits."""

    def imm(op: int, t: int, n: int, b: int) -> int:  # a signed number's sign is its last bit here
        return op << 26 | b << 21 | t << 16 | (n & 0x1FFF) << 1 | (n < 0)

    def alu(op: int, a: int, b: int, t: int) -> int:
        return 2 << 26 | b << 21 | a << 16 | op << 6 | t

    def skip(op: int, condition: int, a: int, b: int) -> int:  # a branch to behind its delay slot
        return op << 26 | b << 21 | a << 16 | condition << 13

    def call(distance: int) -> tuple[int, int]:
        n = signed(distance, 17, 4)  # in memory: bits 15-11 .. 9-0, 10, .. 16
        return 0x3A << 26 | rp << 21 | (n >> 11 & 31) << 16 | (n & 0x3FF) << 3 | (n >> 10 & 1) << 2 | n >> 16, nop

    def message(va: int) -> tuple[int, int]:
        n = va >> 11 & 0x1FFFFF  # in memory: bits 1-0, 6-2, 8-7, 19-9, 20
        high = (n & 3) << 12 | (n >> 2 & 31) << 16 | (n >> 7 & 3) << 14 | (n >> 9 & 0x7FF) << 1 | n >> 20
        return 8 << 26 | arg0 << 21 | high, imm(ldo, arg0, va & 0x7FF, arg0)  # ldil L%va,r26; ldo R%va(r26),r26

    ldo, ldb, ldw, ldwm, stw, stwm = 0x0D, 0x10, 0x12, 0x13, 0x1A, 0x1B
    and_, or_, add = 0x08, 0x09, 0x18
    r1, rp, r3, r4, r5, r19, r20, r21, r22, arg2, arg1, arg0, r28, sp = (
        1,
        2,
        3,
        4,
        5,
        19,
        20,
        21,
        22,
        24,
        25,
        26,
        28,
        30,
    )
    nop = alu(or_, 0, 0, 0)
    return code_plan(
        "big",
        prologue=(
            *(imm(stw, rp, -20, sp), alu(or_, r3, 0, r1)),  # stw rp,-14(sp); copy r3,r1
            *(alu(or_, sp, 0, r3), imm(stwm, r1, 128, sp)),  # copy sp,r3; stw,ma r1,80(sp)
            imm(stw, r4, 8, r3),  # stw r4,8(r3)
        ),
        epilogue=(
            *(imm(ldw, rp, -20, r3), imm(ldw, r4, 8, r3)),  # ldw -14(r3),rp; ldw 8(r3),r4
            imm(ldo, sp, 64, r3),  # ldo 40(r3),sp
            *(0x3A << 26 | rp << 21 | 6 << 13, imm(ldwm, r3, -64, sp)),  # bv r0(rp); ldw,mb -40(sp),r3
        ),
        body=(
            (alu(or_, arg0, 0, r4), skip(0x20, 1, 0, r4), nop),  # copy r26,r4; cmpb,= r0,r4,.+8; nop
            (imm(ldw, r5, 16, r4),),  # ldw 10(r4),r5
            (imm(ldw, r19, 24, r4), imm(ldo, r19, 1, r19), imm(stw, r19, 24, r4)),
            # ldw 18(r4),r19; ldo 1(r19),r19; stw r19,18(r4)
            (imm(ldo, r28, 0, 0),),  # ldi 0,ret0
            (imm(ldo, r19, 16, r3), imm(stw, r19, 24, r3)),  # ldo 10(r3),r19; stw r19,18(r3)
            (imm(ldo, r5, 8, r5),),  # ldo 8(r5),r5
            (0x34 << 26 | r28 << 21 | r19 << 16 | 6 << 10 | 28 << 5 | 3, alu(and_, r19, r4, r19)),
            # extrw,u ret0,28,29,r19; and r19,r4,r19
            (alu(add, r20, r21, r22), skip(0x20, 3, r20, r21), nop),  # add r20,r21,r22; cmpb,<= r20,r21,.+8; nop
            (imm(ldw, arg2, 24, r3), alu(or_, arg2, 0, arg1)),  # ldw 18(r3),r24; copy r24,r25
            (imm(ldb, r19, 0, r4), imm(ldo, r20, 47, 0), skip(0x22, 1, r20, r19), nop),
            # ldb 0(r4),r19; ldi 2f,r20; cmpb,<> r20,r19,.+8; nop
        ),
        pad=nop,  # nop
        call=call,  # b,l rp; nop
        message=message,
        trap=5 << 13,  # break 0,5
    )


def _or1k() -> CodePlan:
    def store(rb: int, offset: int, ra: int) -> int:  # the immediate's upper five bits are where loads have a register
        return 0x35 << 26 | (offset >> 11 & 31) << 21 | ra << 16 | rb << 11 | offset & 0x7FF

    def alu(op: int, rd: int, ra: int, rb: int) -> int:
        return imm16(0x38, rd, ra, rb << 11 | op)

    movhi, lwz, lbz, addi, ori, bnf, bf = 0x06, 0x21, 0x23, 0x27, 0x2A, 3 << 26 | 2, 4 << 26 | 2
    and_, or_ = 3, 4
    sfeqi, sfnei, sfles = 0x5E0, 0x5E1, 0x72D
    sp, fp, lr = 1, 2, 9
    nop = 0x15000000
    return code_plan(
        "big",
        prologue=(
            *(imm16(addi, sp, sp, -64), store(fp, 56, sp)),  # l.addi r1,r1,-64; l.sw 56(r1),r2
            *(imm16(addi, fp, sp, 64), store(lr, 60, sp)),  # l.addi r2,r1,64; l.sw 60(r1),r9
            store(14, 52, sp),  # l.sw 52(r1),r14
        ),
        epilogue=(
            *(imm16(lwz, lr, sp, 60), imm16(lwz, fp, sp, 56)),  # l.lwz r9,60(r1); l.lwz r2,56(r1)
            imm16(lwz, 14, sp, 52),  # l.lwz r14,52(r1)
            *(0x11 << 26 | lr << 11, imm16(addi, sp, sp, 64)),  # l.jr r9; l.addi r1,r1,64
        ),
        body=(
            (alu(or_, 14, 3, 3), sfeqi << 21 | 14 << 16, bf, nop),  # l.or r14,r3,r3; l.sfeqi r14,0; l.bf .+8; l.nop
            (imm16(lwz, 16, 14, 16),),  # l.lwz r16,16(r14)
            (imm16(lwz, 17, 14, 24), imm16(addi, 17, 17, 1), store(17, 24, 14)),
            # l.lwz r17,24(r14); l.addi r17,r17,1; l.sw 24(r14),r17
            (imm16(ori, 11, 0, 0),),  # l.ori r11,r0,0
            (imm16(addi, 17, fp, -48), store(17, -52, fp)),  # l.addi r17,r2,-48; l.sw -52(r2),r17
            (imm16(addi, 16, 16, 8),),  # l.addi r16,r16,8
            (imm16(0x2E, 17, 11, 1 << 6 | 3), alu(and_, 17, 17, 14)),  # l.srli r17,r11,3; l.and r17,r17,r14
            (sfles << 21 | 17 << 16 | 19 << 11, bf, nop),  # l.sfles r17,r19; l.bf .+8; l.nop
            (imm16(lwz, 5, fp, -52), alu(or_, 4, 5, 5)),  # l.lwz r5,-52(r2); l.or r4,r5,r5
            (imm16(lbz, 17, 14, 0), sfnei << 21 | 17 << 16 | 47, bnf, nop),
            # l.lbz r17,0(r14); l.sfnei r17,47; l.bnf .+8; l.nop
        ),
        pad=nop,  # l.nop
        call=lambda distance: (1 << 26 | signed(distance + 8, 26, 4), nop),  # l.jal; l.nop
        message=lambda va: (imm16(movhi, 3, 0, va >> 16), imm16(ori, 3, 3, va)),  # l.movhi r3,va; l.ori r3,r3,va
        trap=0x21000001,  # l.trap 1
    )


def _m88k() -> CodePlan:
    def alu(op: int, rd: int, rs1: int, rs2: int) -> int:
        return imm16(0x3D, rd, rs1, op << 8 | rs2)

    def skip(op: int, what: int, rs1: int) -> int:  # a branch to the next instruction
        return imm16(op, what, rs1, 1)

    ld_bu, ld, st, or_, or_u, addu, subu, cmp_ = 0x03, 0x05, 0x09, 0x16, 0x17, 0x18, 0x19, 0x1F
    bb1, bcnd, eq0 = 0x36, 0x3A, 2
    eq, le = 2, 5  # bits in a comparison's result
    fp, sp = 30, 31
    nop = alu(0x58, 0, 0, 0)
    return code_plan(
        "big",
        prologue=(
            *(imm16(subu, sp, sp, 64), imm16(st, 1, sp, 52)),  # subu r31,r31,64; st r1,r31,52
            *(imm16(st, fp, sp, 48), imm16(st, 25, sp, 44)),  # st r30,r31,48; st r25,r31,44
            imm16(addu, fp, sp, 48),  # addu r30,r31,48
        ),
        epilogue=(
            *(imm16(subu, sp, fp, 48), imm16(ld, 1, sp, 52)),  # subu r31,r30,48; ld r1,r31,52
            *(imm16(ld, 25, sp, 44), imm16(ld, fp, sp, 48)),  # ld r25,r31,44; ld r30,r31,48
            *(alu(0xC4, 0, 0, 1), imm16(addu, sp, sp, 64)),  # jmp.n r1; addu r31,r31,64
        ),
        body=(
            (alu(0x58, 25, 0, 2), skip(bcnd, eq0, 25)),  # or r25,r0,r2; bcnd eq0,r25,.+4
            (imm16(ld, 24, 25, 16),),  # ld r24,r25,16
            (imm16(ld, 9, 25, 24), imm16(addu, 9, 9, 1), imm16(st, 9, 25, 24)),
            # ld r9,r25,24; addu r9,r9,1; st r9,r25,24
            (imm16(or_, 2, 0, 0),),  # or r2,r0,0
            (imm16(subu, 9, fp, 24), imm16(st, 9, sp, 32)),  # subu r9,r30,24; st r9,r31,32
            (imm16(addu, 24, 24, 8),),  # addu r24,r24,8
            (imm16(0x3C, 9, 2, 0x98 << 8 | 29 << 5 | 3), alu(0x40, 9, 9, 25)),  # extu r9,r2,29<3>; and r9,r9,r25
            (alu(0x7C, 13, 9, 8), skip(bb1, le, 13)),  # cmp r13,r9,r8; bb1 le,r13,.+4
            (imm16(ld, 4, sp, 32), alu(0x58, 3, 0, 4)),  # ld r4,r31,32; or r3,r0,r4
            (imm16(ld_bu, 9, 25, 0), imm16(cmp_, 13, 9, 47), skip(bb1, eq, 13)),
            # ld.bu r9,r25,0; cmp r13,r9,47; bb1 eq,r13,.+4
        ),
        pad=nop,  # or r0,r0,r0
        call=lambda distance: (0x32 << 26 | signed(distance + 4, 26, 4),),  # bsr
        message=lambda va: (imm16(or_u, 2, 0, va >> 16), imm16(or_, 2, 2, va)),  # or.u r2,r0,va; or r2,r2,va
        trap=imm16(0x3C, 0, 0, 0xD0 << 8 | 132),  # tb0 0,r0,132
    )


def _sh(order: ByteOrder) -> CodePlan:
    """Every piece but pad and trap is a multiple of 4 bytes, so that the literals in calls and messages are aligned."""

    def two(op: int, n: int, m: int = 0) -> int:  # op: all but the registers
        return op | n << 8 | m << 4

    def imm(op: int, n: int, i: int) -> int:
        return op << 12 | n << 8 | i & 0xFF

    def literal(n: int, value: int) -> tuple[int, ...]:
        halves = (value >> 16 & 0xFFFF, value & 0xFFFF)
        # mov.l .+8,rn; bra .+10; nop; nop; .long value
        return imm(0xD, n, 1), 0xA003, nop, nop, *(halves if order == "big" else halves[::-1])

    def call(distance: int) -> tuple[int, ...]:
        return *literal(1, signed(distance, 32)), two(0x0003, 1), nop  # bsrf r1; nop

    add, cmp_eq, bt, bf, mov = 0x7, 0x88, 0x89FF, 0x8BFF, 0xE  # bt, bf: to the next instruction
    copy, tst, and_, cmp_gt, shlr, shlr2, load_byte, extu_b = (
        *(0x6003, 0x2008, 0x2009, 0x3007, 0x4001, 0x4009, 0x6000, 0x600C),
    )
    load, store, push, pop = 0x5000, 0x1000, 0x2006, 0x6006
    fp, sp = 14, 15
    nop = 0x0009
    return code_plan(
        order,
        size=2,
        prologue=(
            *(two(push, sp, 8), two(push, sp, fp), two(0x4022, sp)),  # mov.l r8,@-r15; mov.l r14,@-r15; sts.l pr,@-r15
            *(imm(add, sp, -64), two(copy, fp, sp), two(copy, 8, 4)),  # add #-64,r15; mov r15,r14; mov r4,r8
        ),
        epilogue=(
            *(imm(add, fp, 64), two(copy, sp, fp)),  # add #64,r14; mov r14,r15
            *(two(0x4026, sp), two(pop, fp, sp), 0x000B, two(pop, 8, sp)),
            # lds.l @r15+,pr; mov.l @r15+,r14; rts; mov.l @r15+,r8
        ),
        body=(
            (two(tst, 8, 8), bt),  # tst r8,r8; bt .+2
            (two(load, 9, 8) | 4, two(copy, 10, 9)),  # mov.l @(16,r8),r9; mov r9,r10
            (two(load, 1, 8) | 6, imm(add, 1, 1), two(store, 8, 1) | 6, nop),
            # mov.l @(24,r8),r1; add #1,r1; mov.l r1,@(24,r8); nop
            (imm(mov, 0, 0), nop),  # mov #0,r0; nop
            (two(copy, 1, fp), imm(add, 1, 16), two(store, fp, 1) | 5, nop),
            # mov r14,r1; add #16,r1; mov.l r1,@(20,r14); nop
            (imm(add, 10, 8), two(copy, 2, 0)),  # add #8,r10; mov r0,r2
            (two(shlr2, 2), two(shlr, 2), two(and_, 2, 8), nop),  # shlr2 r2; shlr r2; and r8,r2; nop
            (two(cmp_gt, 2, 1), bf),  # cmp/gt r1,r2; bf .+2
            (two(load, 6, fp) | 5, two(copy, 5, 6)),  # mov.l @(20,r14),r6; mov r6,r5
            (two(load_byte, 0, 8), two(extu_b, 0, 0), cmp_eq << 8 | 47, bf),
            # mov.b @r8,r0; extu.b r0,r0; cmp/eq #47,r0; bf .+2
        ),
        pad=nop,  # nop
        call=call,
        message=lambda va: literal(4, va),
        trap=0xC3C3,  # trapa #195
    )


def _ia64() -> CodePlan:
    def bundle(template: int, slot0: int, slot1: int, slot2: int) -> int:
        return template | slot0 << 5 | slot1 << 46 | slot2 << 87

    def alu(op: int, r1: int, r2: int, r3: int) -> int:
        return op << 29 | r3 << 20 | r2 << 13 | r1 << 6

    def adds(r1: int, n: int, r3: int) -> int:
        return 8 << 37 | (n < 0) << 36 | 2 << 34 | (n >> 7 & 63) << 27 | r3 << 20 | (n & 127) << 13 | r1 << 6

    def mem(op: int, r1: int, r2: int, r3: int) -> int:  # op: the size, and 0x30 for a store
        return 4 << 37 | op << 30 | r3 << 20 | r2 << 13 | r1 << 6

    def compare(op: int, r2: int, r3: int) -> int:  # into p6, p7
        return op << 34 | 7 << 27 | r3 << 20 | r2 << 13 | 6 << 6

    def branch(op: int, distance: int, predicate: int = 0) -> int:  # counted from the bundle
        n = signed(distance + 16, 21, 16)
        return op << 37 | n >> 20 << 36 | (n & 0xFFFFF) << 13 | 1 << 12 | predicate

    def movl(r1: int, va: int) -> int:
        low = [(va & 0x7F) << 13, (va >> 7 & 0x1FF) << 27, (va >> 16 & 31) << 22, (va >> 21 & 1) << 21]
        slot2 = 6 << 37 | (va >> 63 & 1) << 36 | sum(low) | r1 << 6
        return bundle(MLX, nop, va >> 22 & (1 << 41) - 1, slot2)

    # Templates; all end with a stop, MI_I and M_MI have one inside too.
    MII, MI_I, MLX, MMI, M_MI, MIB = 0x01, 0x03, 0x05, 0x09, 0x0B, 0x11
    nop, ld1, ld4, ld8, st4, st8 = 1 << 27, 0, 2, 3, 0x32, 0x33
    add, and_, lt, eq_imm, eq4_imm = 0x800, 0x803, 0x60, 0x72, 0x73
    call, cond = 5, 4
    # Two arguments in r32 and r33, four registers to keep something in, three for the arguments of what is called.
    pfs, b0, sp, out0 = 34, 35, 12, 38
    alloc = 1 << 37 | 6 << 33 | 6 << 20 | 9 << 13 | pfs << 6
    return code_plan(
        "little",
        size=16,
        prologue=(bundle(MII, alloc, 0x31 << 27 | b0 << 6, adds(sp, -64, sp)),),
        # alloc r34=ar.pfs,9,6,0; mov r35=b0; adds r12=-64,r12
        epilogue=(
            bundle(MII, adds(sp, 64, sp), 0x2A << 27 | 64 << 20 | pfs << 13, 7 << 33 | 1 << 20 | b0 << 13),
            # adds r12=64,r12; mov.i ar.pfs=r34; mov b0=r35
            bundle(MIB, nop, nop, 0x21 << 27 | 1 << 12 | 4 << 6),  # nop.m 0x0; nop.i 0x0; br.ret.sptk.many b0
        ),
        body=(
            (bundle(MIB, nop, compare(eq_imm, 0, 32), branch(cond, 0, 6)),),
            # nop.m 0x0; cmp.eq p6,p7=0,r32; (p6) br.cond.sptk.many .+16
            (bundle(MMI, mem(ld8, 14, 0, 32), adds(15, 24, 32), nop),),  # ld8 r14=[r32]; adds r15=24,r32; nop.i 0x0
            (
                bundle(M_MI, mem(ld4, 16, 0, 15), adds(16, 1, 16), nop),  # ld4 r16=[r15]; adds r16=1,r16; nop.i 0x0
                bundle(MII, mem(st4, 0, 16, 15), nop, nop),  # st4 [r15]=r16; nop.i 0x0; nop.i 0x0
            ),
            (bundle(MII, nop, adds(8, 0, 0), nop),),  # nop.m 0x0; mov r8=r0; nop.i 0x0
            (bundle(M_MI, adds(17, 16, sp), mem(st8, 0, 14, 17), nop),),  # adds r17=16,r12; st8 [r17]=r14; nop.i 0x0
            (bundle(MII, nop, adds(18, 0, 14), adds(19, 8, 14)),),  # nop.m 0x0; mov r18=r14; adds r19=8,r14
            (bundle(MI_I, nop, 5 << 37 | 1 << 34 | 60 << 27 | 8 << 20 | 3 << 14 | 20 << 6, alu(and_, 20, 20, 32)),),
            # nop.m 0x0; shr.u r20=r8,3; and r20=r20,r32
            (bundle(MIB, nop, compare(lt, 21, 20), branch(cond, 0, 6)),),
            # nop.m 0x0; cmp.lt p6,p7=r21,r20; (p6) br.cond.sptk.many .+16
            (bundle(M_MI, adds(17, 16, sp), mem(ld8, 22, 0, 17), alu(add, 18, 18, 19)),),
            # adds r17=16,r12; ld8 r22=[r17]; add r18=r18,r19
            (
                bundle(MMI, mem(ld1, 23, 0, 32), nop, nop),  # ld1 r23=[r32]; nop.m 0x0; nop.i 0x0
                bundle(MIB, nop, compare(eq4_imm, 47, 23), branch(cond, 0, 7)),
                # nop.m 0x0; cmp4.eq p6,p7=47,r23; (p7) br.cond.sptk.many .+16
            ),
        ),
        pad=bundle(MII, nop, nop, nop),  # nop.m 0x0; nop.i 0x0; nop.i 0x0
        call=lambda distance: (bundle(MIB, nop, nop, branch(call, distance)),),
        # nop.m 0x0; nop.i 0x0; br.call.sptk.many b0
        message=lambda va: (movl(out0, va),),  # nop.m 0x0; movl r38=va
        trap=bundle(MII, 0x84B5D << 6, nop, nop),  # break.m 0x84b5d; nop.i 0x0; nop.i 0x0
    )


def _m68k() -> CodePlan:
    def two(op: int, n: int, ea: int) -> int:
        return op << 12 | n << 9 | ea

    def skip(condition: int) -> tuple[int, int]:  # to the next instruction, in the form with a word of distance
        return 6 << 12 | condition << 8, 2

    def call(distance: int) -> tuple[int, int, int]:  # counted from behind the first word; not on a 68000 or 68010
        n = signed(distance + 4, 32)
        return 0x61FF, n >> 16, n & 0xFFFF

    def minus(n: int) -> int:
        return -n & 0xFFFF

    # Operands: the register's number is in the last three bits. A move's target has the halves the other way round.
    a, at, disp, to_disp = 1 << 3, 2 << 3, 5 << 3, 5 << 6
    fp = 6
    eq, ne, le = 7, 6, 15
    return code_plan(
        "big",
        size=2,
        prologue=(
            *(0x4E50 | fp, minus(64)),  # linkw %fp,#-64
            *(0x48E7, 0x3030),  # moveml %d2-%d3/%a2-%a3,%sp@-
        ),
        epilogue=(
            *(0x4CC0 | disp | fp, 0x0C0C, minus(80)),  # moveml %fp@(-80),%d2-%d3/%a2-%a3
            *(0x4E58 | fp, 0x4E75),  # unlk %fp; rts
        ),
        body=(
            (two(2, 2, 1 << 6 | disp | fp), 8, two(2, 0, a | 2), *skip(eq)),
            # moveal %fp@(8),%a2; movel %a2,%d0; beqw .+4
            (two(2, 3, 1 << 6 | disp | 2), 16),  # moveal %a2@(16),%a3
            (two(5, 1, 2 << 6 | disp | 2), 24),  # addql #1,%a2@(24)
            (two(7, 0, 0),),  # moveq #0,%d0
            (two(4, 0, 7 << 6 | disp | fp), minus(48), two(2, fp, to_disp | a), minus(52)),
            # lea %fp@(-48),%a0; movel %a0,%fp@(-52)
            (two(4, 1, 7 << 6 | disp | 3), 8),  # lea %a3@(8),%a1
            (0xE688, two(0xC, 0, 2 << 6 | 2)),  # lsrl #3,%d0; andl %d2,%d0
            (two(0xB, 2, 2 << 6), *skip(le)),  # cmpl %d0,%d2; blew .+4
            (two(2, 2, disp | fp), minus(52), two(2, 3, 2)),  # movel %fp@(-52),%d2; movel %d2,%d3
            (0x0C00 | at | 2, 47, *skip(ne)),  # cmpib #47,%a2@; bnew .+4
        ),
        pad=0x4E71,  # nop
        call=call,  # bsrl
        message=lambda va: (0x4879, va >> 16 & 0xFFFF, va & 0xFFFF),  # pea va
        trap=0x4E4F,  # trap #15
    )


def _vax() -> CodePlan:
    def r(n: int) -> int:
        return 0x50 | n

    def disp(offset: int, n: int) -> tuple[int, int]:
        return 0xA0 | n, offset & 0xFF

    def long(value: int) -> bytes:
        return (value & 0xFFFFFFFF).to_bytes(4, "little")

    movl, moval, addl3, subl2, cmpl, cmpb, tstl, clrl, incl = 0xD0, 0xDE, 0xC1, 0xC2, 0xD1, 0x91, 0xD5, 0xD4, 0xD6
    ashl, bicl2, pushl, calls = 0x78, 0xCA, 0xDD, 0xFB
    beql, bneq, bleq = (0x13, 0), (0x12, 0), (0x15, 0)  # to the next instruction
    ap, fp, sp = 12, 13, 14
    number, relative = 0x8F, 0xEF  # operands that are followed by four bytes; a number up to 63 is an operand itself
    return code_plan(
        "little",
        size=1,
        # The mask says what calls shall save, next to the return address, ap and fp.
        prologue=(*(0xC0, 0x0F), subl2, 60, r(sp)),  # .word 0x0fc0; subl2 $0x3c,sp
        epilogue=(0x04,),  # ret
        body=(
            (movl, *disp(4, ap), r(6), tstl, r(6), *beql),  # movl 0x4(ap),r6; tstl r6; beql .+2
            (movl, *disp(16, 6), r(7)),  # movl 0x10(r6),r7
            (incl, *disp(24, 6)),  # incl 0x18(r6)
            (clrl, r(0)),  # clrl r0
            (moval, *disp(-48, fp), *disp(-52, fp)),  # moval -48(fp),-52(fp)
            (addl3, 8, r(7), r(8)),  # addl3 $0x8,r7,r8
            (ashl, number, 0xFD, r(0), r(1), bicl2, r(6), r(1)),  # ashl $-3,r0,r1; bicl2 r6,r1
            (cmpl, r(1), r(0), *bleq),  # cmpl r1,r0; bleq .+2
            (movl, *disp(-52, fp), r(2)),  # movl -52(fp),r2
            (cmpb, 0x60 | 6, 47, *bneq),  # cmpb (r6),$0x2f; bneq .+2
        ),
        pad=0x01,  # nop
        # The number of arguments is left at 0, as a call doesn't know whether a message stands before it.
        call=lambda distance: (calls, 0, relative, *long(signed(distance, 32))),  # calls $0x0,target
        message=lambda va: (pushl, number, *long(va)),  # pushl $va
        trap=0x03,  # bpt
    )


SPARC, SPARC64 = _sparc(wide=False), _sparc(wide=True)
HPPA = _hppa()
OR1K = _or1k()
M88K = _m88k()
SH_LE, SH_BE = _sh("little"), _sh("big")
IA64 = _ia64()
M68K = _m68k()
VAX = _vax()
