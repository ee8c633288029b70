//! Encodings against those of an assembler (LLVM's, with displacements too long for a short form).

use super::*;
use Gpr::{R8, R9, R11, Rax, Rcx, Rdi, Rdx, Rsi, Rsp};
use Length::{L128, L256, L512};
use Map::{M0F, M0F3A, M0F38};
use Masking::{Merge, Zero};
use Operand::Reg;
use Prefix::{P66, PF2};

const FAR: i32 = 0x12345;

fn bytes(isa: Isa, write: impl FnOnce(&mut Assembler)) -> Vec<u8> {
    let mut asm = Assembler::new(isa);
    write(&mut asm);
    asm.bytes
}

type Form = (Prefix, Map, u8);

fn vector(isa: Isa, form: Form, length: Length, registers: (u8, u8, Operand), how: (Masking, Option<u8>)) -> Vec<u8> {
    let (target, first, second) = registers;
    let opcode = opcode(form.0, form.1, form.2);
    let inst = Vector { opcode, length, target, first, second, masking: how.0, immediate: how.1 };
    bytes(isa, |asm| asm.vector(&inst))
}

#[test]
fn avx2() {
    let check = |form, length, registers, immediate, expected: &[u8]| {
        let found = vector(Isa::Avx2, form, length, registers, (Masking::None, immediate));
        assert_eq!(found, expected, "{form:?} {registers:?}: {found:02x?}");
    };
    let add = (Prefix::None, M0F, 0x58);
    // vaddps ymm3, ymm12, ymm9
    check(add, L256, (3, 12, Reg(9)), None, &[0xc4, 0xc1, 0x1c, 0x58, 0xd9]);
    // vaddps ymm11, ymm2, [rsp + 0x12345]
    let stack = Operand::Mem(Mem::Base(Rsp, FAR));
    check(add, L256, (11, 2, stack), None, &[0xc5, 0x6c, 0x58, 0x9c, 0x24, 0x45, 0x23, 0x01, 0x00]);
    // vmovups ymm5, [r9 + 4*rcx + 0x12345]
    let (load, store) = ((Prefix::None, M0F, 0x10), (Prefix::None, M0F, 0x11));
    let stream = |base| Operand::Mem(Mem::Element(base, Rcx, FAR));
    check(load, L256, (5, 0, stream(R9)), None, &[0xc4, 0xc1, 0x7c, 0x10, 0xac, 0x89, 0x45, 0x23, 0x01, 0x00]);
    // vmovups [rsi + 4*rcx + 0x12345], ymm13
    check(store, L256, (13, 0, stream(Rsi)), None, &[0xc5, 0x7c, 0x11, 0xac, 0x8e, 0x45, 0x23, 0x01, 0x00]);
    // vpslld ymm9, ymm10, 7
    check((P66, M0F, 0x72), L256, (6, 9, Reg(10)), Some(7), &[0xc4, 0xc1, 0x35, 0x72, 0xf2, 0x07]);
    // vblendvps ymm1, ymm8, ymm9, ymm14
    check((P66, M0F3A, 0x4a), L256, (1, 8, Reg(9)), Some(14 << 4), &[0xc4, 0xc3, 0x3d, 0x4a, 0xc9, 0xe0]);
    // vcmpltps ymm1, ymm2, ymm3
    check((Prefix::None, M0F, 0xc2), L256, (1, 2, Reg(3)), Some(1), &[0xc5, 0xec, 0xc2, 0xcb, 0x01]);
    // vmaskmovps ymm4, ymm15, [r8 + 4*rcx + 0x12345], and back to rsi
    let expected = [0xc4, 0xc2, 0x05, 0x2c, 0xa4, 0x88, 0x45, 0x23, 0x01, 0x00];
    check((P66, M0F38, 0x2c), L256, (4, 15, stream(R8)), None, &expected);
    let expected = [0xc4, 0xe2, 0x05, 0x2e, 0xa4, 0x8e, 0x45, 0x23, 0x01, 0x00];
    check((P66, M0F38, 0x2e), L256, (4, 15, stream(Rsi)), None, &expected);
    // vextractf128 xmm0, ymm12, 1
    check((P66, M0F3A, 0x19), L256, (12, 0, Reg(0)), Some(1), &[0xc4, 0x63, 0x7d, 0x19, 0xe0, 0x01]);
    // vmovd xmm7, eax
    check((P66, M0F, 0x6e), L128, (7, 0, Reg(Rax as u8)), None, &[0xc5, 0xf9, 0x6e, 0xf8]);
}

#[test]
fn avx512() {
    let check = |form, length, registers, how, expected: &[u8]| {
        let found = vector(Isa::Avx512, form, length, registers, how);
        assert_eq!(found, expected, "{form:?} {registers:?}: {found:02x?}");
    };
    let plain = (Masking::None, None);
    let immediate = |bits| (Masking::None, Some(bits));
    let add = (Prefix::None, M0F, 0x58);
    // vaddps zmm3, zmm12, zmm9; zmm20, zmm31, zmm17; zmm20, zmm31, [rsp + 0x12345]{1to16}; zmm30 {k7}, zmm30, zmm4
    check(add, L512, (3, 12, Reg(9)), plain, &[0x62, 0xd1, 0x1c, 0x48, 0x58, 0xd9]);
    check(add, L512, (20, 31, Reg(17)), plain, &[0x62, 0xa1, 0x04, 0x40, 0x58, 0xe1]);
    let splat = Operand::Splat(Mem::Base(Rsp, FAR));
    let expected = [0x62, 0xe1, 0x04, 0x50, 0x58, 0xa4, 0x24, 0x45, 0x23, 0x01, 0x00];
    check(add, L512, (20, 31, splat), plain, &expected);
    check(add, L512, (30, 30, Reg(4)), (Merge(7), None), &[0x62, 0x61, 0x0c, 0x47, 0x58, 0xf4]);
    // vscalefps zmm20, zmm31, zmm17
    check((P66, M0F38, 0x2c), L512, (20, 31, Reg(17)), plain, &[0x62, 0xa2, 0x05, 0x40, 0x2c, 0xe1]);
    // vmovups zmm29 {k7}{z}, [r11 + 4*rcx + 0x12345], and back to rsi
    let stream = |base| Operand::Mem(Mem::Element(base, Rcx, FAR));
    let expected = [0x62, 0x41, 0x7c, 0xcf, 0x10, 0xac, 0x8b, 0x45, 0x23, 0x01, 0x00];
    check((Prefix::None, M0F, 0x10), L512, (29, 0, stream(R11)), (Zero(7), None), &expected);
    let expected = [0x62, 0xe1, 0x7c, 0x4f, 0x11, 0x94, 0x8e, 0x45, 0x23, 0x01, 0x00];
    check((Prefix::None, M0F, 0x11), L512, (18, 0, stream(Rsi)), (Merge(7), None), &expected);
    // vpsrld zmm19, zmm28, 9
    let expected = [0x62, 0x91, 0x65, 0x40, 0x72, 0xd4, 0x09];
    check((P66, M0F, 0x72), L512, (2, 19, Reg(28)), immediate(9), &expected);
    // vblendmps zmm1 {k3}, zmm22, zmm9
    let expected = [0x62, 0xd2, 0x4d, 0x43, 0x65, 0xc9];
    check((P66, M0F38, 0x65), L512, (1, 22, Reg(9)), (Merge(3), None), &expected);
    // vcmpltps k5, zmm22, zmm23
    let expected = [0x62, 0xb1, 0x4c, 0x40, 0xc2, 0xef, 0x01];
    check((Prefix::None, M0F, 0xc2), L512, (5, 22, Reg(23)), immediate(1), &expected);
    // vcvttps2udq zmm2, zmm25; vcvtudq2ps zmm25, zmm2; vrndscaleps zmm2, zmm25, 9
    let expected = [0x62, 0x91, 0x7c, 0x48, 0x78, 0xd1];
    check((Prefix::None, M0F, 0x78), L512, (2, 0, Reg(25)), plain, &expected);
    check((PF2, M0F, 0x7a), L512, (25, 0, Reg(2)), plain, &[0x62, 0x61, 0x7f, 0x48, 0x7a, 0xca]);
    let expected = [0x62, 0x93, 0x7d, 0x48, 0x08, 0xd1, 0x09];
    check((P66, M0F3A, 0x08), L512, (2, 0, Reg(25)), immediate(9), &expected);
    // vpbroadcastd zmm16, eax; vbroadcastss zmm8 {k2}{z}, [rsp + 0x12345]
    let expected = [0x62, 0xe2, 0x7d, 0x48, 0x7c, 0xc0];
    check((P66, M0F38, 0x7c), L512, (16, 0, Reg(Rax as u8)), plain, &expected);
    let expected = [0x62, 0x72, 0x7d, 0xca, 0x18, 0x84, 0x24, 0x45, 0x23, 0x01, 0x00];
    let stack = Operand::Mem(Mem::Base(Rsp, FAR));
    check((P66, M0F38, 0x18), L512, (8, 0, stack), (Zero(2), None), &expected);
    // vextractf32x8 ymm0, zmm30, 1; vextractf32x4 xmm0, ymm30, 1; vpshufd xmm0, xmm30, 14
    let expected = [0x62, 0x63, 0x7d, 0x48, 0x1b, 0xf0, 0x01];
    check((P66, M0F3A, 0x1b), L512, (30, 0, Reg(0)), immediate(1), &expected);
    let expected = [0x62, 0x63, 0x7d, 0x28, 0x19, 0xf0, 0x01];
    check((P66, M0F3A, 0x19), L256, (30, 0, Reg(0)), immediate(1), &expected);
    let expected = [0x62, 0x91, 0x7d, 0x08, 0x70, 0xc6, 0x0e];
    check((P66, M0F, 0x70), L128, (0, 0, Reg(30)), immediate(14), &expected);
    // vmovd [rsi + 0x12345], xmm30
    let target = Operand::Mem(Mem::Base(Rsi, FAR));
    let expected = [0x62, 0x61, 0x7d, 0x08, 0x7e, 0xb6, 0x45, 0x23, 0x01, 0x00];
    check((P66, M0F, 0x7e), L128, (30, 0, target), plain, &expected);
}

#[test]
fn masks_and_general_registers() {
    let check = |write: &dyn Fn(&mut Assembler), expected: &[u8]| {
        let found = bytes(Isa::Avx512, |asm| write(asm));
        assert_eq!(found, expected, "{found:02x?}");
    };
    let form = |number| opcode(Prefix::None, M0F, number);
    let stack = Mem::Base(Rsp, FAR);
    // knotw k2, k5; kandw k1, k2, k6; kmovw k3, [rsp + 0x12345], and back
    check(&|asm| asm.mask(form(0x44), false, 2, 0, Reg(5)), &[0xc5, 0xf8, 0x44, 0xd5]);
    check(&|asm| asm.mask(form(0x41), true, 1, 2, Reg(6)), &[0xc5, 0xec, 0x41, 0xce]);
    let expected = [0xc5, 0xf8, 0x90, 0x9c, 0x24, 0x45, 0x23, 0x01, 0x00];
    check(&|asm| asm.mask(form(0x90), false, 3, 0, Operand::Mem(stack)), &expected);
    let expected = [0xc5, 0xf8, 0x91, 0x9c, 0x24, 0x45, 0x23, 0x01, 0x00];
    check(&|asm| asm.mask(form(0x91), false, 3, 0, Operand::Mem(stack)), &expected);
    // mov r8, [rdi + 0x12345]; mov [rsp + 0x12345], eax; mov rax, rsp
    check(&|asm| asm.load(R8, Mem::Base(Rdi, FAR)), &[0x4c, 0x8b, 0x87, 0x45, 0x23, 0x01, 0x00]);
    check(&|asm| asm.store_word(stack, Rax), &[0x89, 0x84, 0x24, 0x45, 0x23, 0x01, 0x00]);
    check(&|asm| asm.move_register(Rax, Rsp), &[0x48, 0x89, 0xe0]);
    // sub rdx, 0x12345; add rax, rcx; xor rcx, rcx; vzeroupper
    let subtract = |asm: &mut Assembler| {
        asm.arithmetic(Arithmetic::Sub, Rdx, FAR);
    };
    check(&subtract, &[0x48, 0x81, 0xea, 0x45, 0x23, 0x01, 0x00]);
    check(&|asm| asm.arithmetic_register(Arithmetic::Add, Rax, Rcx), &[0x48, 0x01, 0xc8]);
    check(&|asm| asm.arithmetic_register(Arithmetic::Xor, Rcx, Rcx), &[0x48, 0x31, 0xc9]);
    check(&|asm| asm.zero_upper(), &[0xc5, 0xf8, 0x77]);
}

#[test]
fn jumps_and_constants_lead_where_they_should() {
    let mut asm = Assembler::new(Isa::Avx2);
    let (back, forward) = (asm.label(), asm.label());
    asm.bind(back);
    asm.jump_if(Condition::Less, forward);
    let ones = asm.constant(&[1; 8]);
    let twos = asm.constant(&[2; 8]);
    assert_eq!((ones, twos, asm.constant(&[1; 8])), (0, 32, 0));
    let immediate = Some(1);
    let (opcode, second) = (opcode(Prefix::None, M0F, 0xc2), Operand::Mem(Mem::Pool(twos)));
    let masking = Masking::None;
    asm.vector(&Vector { opcode, length: L256, target: 1, first: 2, second, masking, immediate });
    asm.jump_if(Condition::Equal, back);
    asm.bind(forward);
    asm.return_();
    let code = asm.finish();
    // jl +15; vcmpltps ymm1, ymm2, [rip + 81]: byte 15 + 81 is 64 + 32; je -21; ret
    assert_eq!(&code[..6], &[0x0f, 0x8c, 15, 0, 0, 0]);
    assert_eq!(&code[6..15], &[0xc5, 0xec, 0xc2, 0x0d, 81, 0, 0, 0, 1]);
    assert_eq!(&code[15..22], &[0x0f, 0x84, 0xeb, 0xff, 0xff, 0xff, 0xc3]);
    assert_eq!((code.len(), code[64], code[96]), (128, 1, 2));
}
