//! exp, expm1, tanh and sigmoid of `f64`: one reduction, one polynomial.
//!
//! As of `f32`, `x = n ln 2 + r` with `|r| <= ln 2 / 2` and `e^x = 2^n (1 + r + w)`; n comes out of the low bits of
//! `x/ln 2 + MAGIC + bias`, where a shift by 52 makes a power of two of it.

use super::{Pair, at_least, at_most, bits, float, horner, integer, program, quotient, scale, test, with_sign_of};
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};

/// `1.5 * 2^52`: adding it to a value below `2^51` in size rounds that to an integer, which then stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// 1/ln 2.
const LOG2_E: f64 = f64::from_bits(0x3ff7_1547_652b_82fe);

/// The first 40 bits of ln 2: its product with an integer below 2^12 is exact.
pub(super) const LN2_HEAD: f64 = f64::from_bits(0x3fe6_2e42_fefa_2000);

/// ln 2 - [`LN2_HEAD`].
pub(super) const LN2_TAIL: f64 = f64::from_bits(0x3d69_ef35_793c_7673);

/// C with `e^r = 1 + r + r^2/2 + r^3 C(r)` on `|r| <= 1.0001 ln 2 / 2`: Remez with weight `r^2 / e^r` for the series from
/// r^2 on, whose first coefficient came out as 1/2; each rounded. Relative error of `e^r`: 2^-60.3.
const CUBIC: [f64; 10] = [
    f64::from_bits(0x3fc5_5555_5555_555b),
    f64::from_bits(0x3fa5_5555_5555_5503),
    f64::from_bits(0x3f81_1111_1110_ec5f),
    f64::from_bits(0x3f56_c16c_16c3_0536),
    f64::from_bits(0x3f2a_01a0_1b37_db36),
    f64::from_bits(0x3efa_01a0_1366_26da),
    f64::from_bits(0x3ec7_1ddf_021c_3987),
    f64::from_bits(0x3e92_7e5b_499f_e774),
    f64::from_bits(0x3e5a_f6be_6a55_527d),
    f64::from_bits(0x3e21_e3cb_b1c8_b413),
];

/// 2^-54, and what brings a power back that was made 2^54 times too large.
const SMALL: f64 = f64::from_bits(0x3c90_0000_0000_0000);

/// `e^x = 2^n (1 + r + w)`.
struct Reduced {
    /// Integer whose low 12 bits are those of `n + bias`; garbage for a NaN.
    exponent: Value,
    r: Value,
    /// What `r` lacks of the exact remainder.
    r_rest: Value,
    w: Value,
}

impl Reduced {
    /// `2^(n + bias - 1023)`, which must be a normal number.
    fn power(&self, b: &mut ScalarFnBuilder) -> Value {
        let power = integer(b, BinaryOp::Shl, self.exponent, 52);
        float(b, power)
    }

    /// `1 + r + w`, rounded, and what that lacks.
    fn mantissa(&self, b: &mut ScalarFnBuilder) -> Pair {
        let one = b.f64(1.0);
        let w = b.add(self.w, self.r_rest);
        let rest = b.add(self.r, w);
        let head = b.add(one, rest);
        let tail = b.sub(one, head);
        let tail = b.add(tail, self.r);
        let tail = b.add(tail, w);
        Pair { head, tail }
    }
}

/// Reduces `x`, which is below 2^11 in size. A NaN gives NaN for `r` and `w`.
fn reduce(b: &mut ScalarFnBuilder, x: Value, bias: u32) -> Reduced {
    let magic = b.f64(MAGIC + f64::from(bias));
    let scaled = scale(b, x, LOG2_E);
    let shifted = b.add(scaled, magic);
    let n = b.sub(shifted, magic);
    let head = scale(b, n, LN2_HEAD);
    let tail = scale(b, n, LN2_TAIL);
    let coarse = b.sub(x, head);
    let r = b.sub(coarse, tail);
    let back = b.sub(coarse, r);
    let r_rest = b.sub(back, tail);
    let cubic = horner(b, r, &CUBIC);
    let square = b.mul(r, r);
    let half = scale(b, square, 0.5);
    let cube = b.mul(r, square);
    let rest = b.mul(cube, cubic);
    let w = b.add(half, rest);
    Reduced { exponent: bits(b, shifted), r, r_rest, w }
}

/// e^x. `2^n` is applied as two factors, each a normal number: the last product rounds once, also to a subnormal result.
pub(super) fn exp() -> ScalarFn {
    program(|b, x| {
        // e^-746 < 2^-1075 rounds to zero, e^710 is beyond the largest number.
        let x = at_least(b, x, -746.0);
        let x = at_most(b, x, 710.0);
        // The bias 2046 is shared by two exponents.
        let reduced = reduce(b, x, 2046);
        let mantissa = reduced.mantissa(b).head;
        let half = integer(b, BinaryOp::Shr, reduced.exponent, 1);
        let other = b.binary(BinaryOp::Sub, reduced.exponent, half);
        let half = integer(b, BinaryOp::Shl, half, 52);
        let half = float(b, half);
        let other = integer(b, BinaryOp::Shl, other, 52);
        let other = float(b, other);
        let scaled = b.mul(mantissa, half);
        b.mul(scaled, other)
    })
}

/// e^x - 1 as `2^n r + (2^n - 1)`, its rounding error, and `2^n w`; at half its size, since `2^(n-1)` is a number for every
/// `n` up to 1024.
pub(super) fn expm1() -> ScalarFn {
    program(|b, x| {
        let clamped = at_least(b, x, -39.0);
        let clamped = at_most(b, clamped, 710.0);
        let reduced = reduce(b, clamped, 1022);
        let power = reduced.power(b);
        let half = b.f64(0.5);
        let whole = b.sub(power, half);
        let linear = b.mul(power, reduced.r);
        // |whole| >= |linear|, or whole = 0.
        let head = b.add(whole, linear);
        let back = b.sub(head, whole);
        let error = b.sub(linear, back);
        // What is left of the 1 where the power is beyond 2^53.
        let back = b.sub(power, whole);
        let missing = b.sub(half, back);
        let error = b.sub(error, missing);
        let linear_rest = b.mul(power, reduced.r_rest);
        let error = b.add(error, linear_rest);
        let rest = b.mul(power, reduced.w);
        let tail = b.add(error, rest);
        let sum = b.add(head, tail);
        let result = scale(b, sum, 2.0);
        // Halving would lose bits of a subnormal x, and the sign of zero.
        let size = b.unary(UnaryOp::Abs, x);
        let tiny = test(b, CompareOp::Lt, size, SMALL);
        b.select(tiny, x, result)
    })
}

/// `1/(1 + E)` for x >= 0 and `E/(1 + E)` for x < 0, with `E = e^-|x|`: nothing overflows or cancels, and the power of two
/// of a small E is applied last.
pub(super) fn sigmoid() -> ScalarFn {
    program(|b, x| {
        let size = b.unary(UnaryOp::Abs, x);
        let size = at_most(b, size, 746.0);
        let exponent = b.unary(UnaryOp::Neg, size);
        // 2^n = 2^(n + 54) 2^-54: both are normal for n >= -1076.
        let reduced = reduce(b, exponent, 1023 + 54);
        let power = reduced.power(b);
        let mantissa = reduced.mantissa(b);
        let small = b.f64(SMALL);
        let [e, e_rest] = [mantissa.head, mantissa.tail].map(|part| {
            let scaled = b.mul(part, power);
            b.mul(scaled, small)
        });
        let one = b.f64(1.0);
        let denominator = b.add(one, e);
        let d_tail = b.sub(one, denominator);
        let d_tail = b.add(d_tail, e);
        let d_tail = b.add(d_tail, e_rest);
        let negative = test(b, CompareOp::Lt, x, 0.0);
        let zero = b.f64(0.0);
        let head = b.select(negative, mantissa.head, one);
        let tail = b.select(negative, mantissa.tail, zero);
        let q = quotient(b, &Pair { head, tail }, &Pair { head: denominator, tail: d_tail });
        let scaled = b.mul(q, power);
        let scaled = b.mul(scaled, small);
        b.select(negative, scaled, q)
    })
}

/// `(1 - E)/(1 + E)` with `E = e^(-2|x|)`.
pub(super) fn tanh() -> ScalarFn {
    program(|b, x| {
        let size = b.unary(UnaryOp::Abs, x);
        // tanh is above 1 - 2^-55 here.
        let clamped = at_most(b, size, 20.0);
        let exponent = scale(b, clamped, -2.0);
        let reduced = reduce(b, exponent, 1023);
        let power = reduced.power(b);
        let linear = b.mul(power, reduced.r);
        let w = b.add(reduced.w, reduced.r_rest);
        let rest = b.mul(power, w);
        let one = b.f64(1.0);
        let whole = b.sub(one, power);
        let n = b.sub(whole, linear);
        let n = b.sub(n, rest);
        let n_tail = b.sub(whole, n);
        let n_tail = b.sub(n_tail, linear);
        let n_tail = b.sub(n_tail, rest);
        let two = b.f64(2.0);
        let d = b.sub(two, n);
        let d_tail = b.sub(two, d);
        let d_tail = b.sub(d_tail, n);
        let d_tail = b.sub(d_tail, n_tail);
        let q = quotient(b, &Pair { head: n, tail: n_tail }, &Pair { head: d, tail: d_tail });
        let signed = with_sign_of(b, q, x);
        // x - x^3/3 rounds to x; the long way would round a subnormal more than once.
        let tiny = test(b, CompareOp::Lt, size, f64::from_bits(0x3e30_0000_0000_0000));
        b.select(tiny, x, signed)
    })
}
