use super::*;
use crate::eval::scalar::{binary, convert, evaluate, unary};

fn same(got: u32, want: u32) -> bool {
    got == want || (f32::from_bits(got).is_nan() && f32::from_bits(want).is_nan())
}

/// xorshift: the tests' own fixed sequence.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
}

fn specials() -> Vec<u32> {
    let positive = [
        0,
        1,
        2,
        3,
        0x7f_ffff,
        0x80_0000,
        0x80_0001,
        0xff_ffff,
        0x100_0000,
        0x3eff_ffff,
        0x3f00_0000,
        0x3f00_0001,
        0x3f7f_ffff,
        0x3f80_0000,
        0x3f80_0001,
        0x3fbf_ffff,
        0x3fc0_0000,
        0x4000_0000,
        0x4020_0000,
        0x4afe_ffff,
        0x4aff_ffff,
        0x4b00_0000,
        0x4b00_0001,
        0x4b7f_ffff,
        0x4b80_0000,
        0x4eff_ffff,
        0x4f00_0000,
        0x4f00_0001,
        0x4f7f_ffff,
        0x4f80_0000,
        0x7e80_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_0000,
        0x7fff_ffff,
    ];
    positive.into_iter().flat_map(|bits: u32| [bits, bits | 0x8000_0000]).collect()
}

#[track_caller]
fn check_div(a: u32, b: u32, values: &mut Vec<u32>) {
    let got = evaluate(div(), &[a, b], values);
    let want = binary(BinaryOp::Div, DType::F32, a, b);
    assert!(same(got, want), "{a:08x} / {b:08x}: {got:08x}, not {want:08x}");
    let quick = quick_div();
    if evaluate(&quick.covers, &[a, b], values) != 0 {
        let got = evaluate(&quick.div, &[a, b], values);
        assert_eq!(got, want, "{a:08x} / {b:08x} quickly: {got:08x}, not {want:08x}");
    }
}

#[test]
fn division_is_correctly_rounded() {
    let mut values = Vec::new();
    let specials = specials();
    for &a in &specials {
        for &b in &specials {
            check_div(a, b, &mut values);
        }
    }
    let mut random = Sequence(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60_000 {
        check_div(random.next(), random.next(), &mut values);
    }
    // Every pair of exponents, with mantissas that differ little (quotients next to powers of two) or much.
    for n in (0..255u32).step_by(2) {
        for d in 0..255u32 {
            let mantissa = random.next() & 0x7f_ffff;
            let near = mantissa.wrapping_add(random.next() % 5).wrapping_sub(2) & 0x7f_ffff;
            check_div(n << 23 | mantissa, d << 23 | near, &mut values);
        }
    }
}

#[test]
fn division_rounds_where_it_is_hardest() {
    // Around the midpoints of normal and subnormal quotients: a = round((q + half a unit) * d).
    let mut values = Vec::new();
    let mut random = Sequence(0x2545_f491_4f6c_dd1d);
    for round in 0..40_000u32 {
        let d = (random.next() & 0x7f_ffff) | 0x80_0000;
        let bits = 1 + random.next() % 24;
        let q = u64::from((random.next() | 0x8000_0000) >> (32 - bits)) * 2 + 1;
        let product = q * u64::from(d);
        let shift = (64 - product.leading_zeros()).saturating_sub(24);
        let a = ((product >> shift) as u32).wrapping_add(random.next() % 3).wrapping_sub(1);
        let a_float = a as f32;
        // Down to quotients whose last bit is 2^-149, and elsewhere.
        let d_float = d as f32;
        let exponents = if round % 2 == 0 { (-126 + 10, 126 - 24) } else { (0, 0) };
        let a_bits = (a_float * f32::powi(2.0, exponents.0)).to_bits();
        let d_bits = (d_float * f32::powi(2.0, exponents.1 - (random.next() % 40) as i32)).to_bits();
        check_div(a_bits, d_bits, &mut values);
    }
    // Ordinary operands next to midpoints, and numbers next to the ends of what is divided quickly.
    for _ in 0..40_000 {
        let d = random.next() & 0x7f_ffff | 0x80_0000;
        let q = u64::from(random.next() & 0xff_ffff | 0x80_0000) * 2 + 1;
        let product = q * u64::from(d);
        let a = (product >> (40 - product.leading_zeros())) as u32 + random.next() % 2;
        let exponents = [random.next() % 100, random.next() % 60].map(|exponent| exponent as i32);
        let a_bits = (a as f32 * f32::powi(2.0, exponents[0] - 80)).to_bits() | (random.next() & 0x8000_0000);
        let d_bits = (d as f32 * f32::powi(2.0, exponents[1] - 55)).to_bits() | (random.next() & 0x8000_0000);
        check_div(a_bits, d_bits, &mut values);
    }
    let ends = [-64, -32, 0, 32, 64].map(|exponent| f32::powi(2.0, exponent).to_bits());
    for n in ends.into_iter().flat_map(|end| [end - 1, end, end + 1]).chain([0]) {
        for d in ends.into_iter().flat_map(|end| [end - 1, end, end + 1]) {
            check_div(n, d, &mut values);
            check_div(n | 0x8000_0000, d, &mut values);
        }
    }
    // Exact ties below the normal numbers.
    for odd in (1..4096u32).step_by(2) {
        check_div(odd, 0x4000_0000, &mut values);
        check_div(0x80_0000 | odd, 0x4000_0000, &mut values);
        check_div(0x80_0000 | odd << 3, 0x4180_0000, &mut values);
    }
}

#[test]
fn square_root_is_correctly_rounded() {
    let mut values = Vec::new();
    let mut check = |x: u32| {
        let got = evaluate(sqrt(), &[x], &mut values);
        let want = unary(UnaryOp::Sqrt, DType::F32, x);
        assert!(same(got, want), "sqrt {x:08x}: {got:08x}, not {want:08x}");
    };
    for x in specials() {
        check(x);
    }
    // Squares and their neighbours, and the squares of midpoints.
    let mut random = Sequence(0x0123_4567_89ab_cdef);
    for _ in 0..40_000 {
        let root = f64::from((random.next() & 0x7f_ffff) | 0x80_0000);
        for root in [root, root + 0.5] {
            let exponent = (random.next() % 200) as i32 - 130;
            let x = (root * root * f64::powi(2.0, exponent)) as f32;
            for x in [x.to_bits().wrapping_sub(1), x.to_bits(), x.to_bits() + 1] {
                check(x);
            }
        }
        check(random.next());
    }
}

#[test]
fn rounding_and_conversion_agree_with_the_interpreter() {
    let mut values = Vec::new();
    let mut arguments = specials();
    let mut random = Sequence(0x1234_5678_9abc_def1);
    for _ in 0..20_000 {
        arguments.push(random.next());
        // Numbers of moderate size with few fraction bits: ties among them.
        let halves = (random.next() as i32 >> (random.next() % 31)) as f32 * 0.5;
        arguments.push(halves.to_bits());
    }
    for x in arguments {
        for (op, function) in
            [(UnaryOp::Floor, floor()), (UnaryOp::Ceil, ceil()), (UnaryOp::Round, round()), (UnaryOp::Trunc, trunc())]
        {
            let got = evaluate(function, &[x], &mut values);
            let want = unary(op, DType::F32, x);
            assert!(same(got, want), "{op} {x:08x}: {got:08x}, not {want:08x}");
        }
        for (ty, function) in [(DType::I32, to_i32()), (DType::U32, to_u32())] {
            let got = evaluate(function, &[x], &mut values);
            assert_eq!(got, convert(DType::F32, ty, x), "{ty} of {x:08x}");
        }
    }
}

#[test]
fn expansion_leaves_only_what_is_kept() {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let e = b.unary(UnaryOp::Tanh, x);
    let s = b.unary(UnaryOp::Sqrt, e);
    let q = b.div(s, x);
    let m = b.binary(BinaryOp::Max, q, e);
    let f = b.unary(UnaryOp::Floor, m);
    let i = b.convert(DType::I32, f);
    let limit = b.i32(7);
    let i = b.binary(BinaryOp::Min, i, limit);
    let function = b.finish(i);

    let expanded = expand(&function, &|_, _| false);
    expanded.types().expect("well typed");
    for inst in &expanded.insts {
        let primitive = match inst {
            Inst::Unary(op, _) => matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::LeadingZeros),
            Inst::Binary(op, ..) => !matches!(op, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Min | BinaryOp::Max),
            _ => true,
        };
        assert!(primitive, "{inst:?} is left");
    }
    let kept = expand(&function, &|inst, ty| ty == DType::F32 && matches!(inst, Inst::Binary(BinaryOp::Div, ..)));
    assert_eq!(kept.insts.iter().filter(|inst| matches!(inst, Inst::Binary(BinaryOp::Div, ..))).count(), 1);

    let mut random = Sequence(77);
    let mut values = Vec::new();
    for _ in 0..5_000 {
        let x = random.next();
        let want = evaluate(&function, &[x], &mut values);
        assert_eq!(evaluate(&expanded, &[x], &mut values), want);
        assert_eq!(evaluate(&kept, &[x], &mut values), want);
    }
    assert_eq!(expand(&function, &|_, _| true), function);
}
