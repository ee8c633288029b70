//! pow.
//!
//! `|x|^y = e^(y ln |x|)` with a logarithm to about 2^-34 of its size, since the product is up to 104 where results are
//! finite and its error becomes the result's relative error. The logarithm is a sum of two floats; products that matter
//! are those of 12-bit heads, which are exact.

use super::exponential::{LN2_HEAD, LN2_TAIL, LOG2_E, long_series, scale_twice};
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{
    HEAD, MAGIC, SIGN, abs, add_exactly, add_three, and, at_least, at_most, binary_program, bits, float, horner,
    masked, scale, shl, shr, test,
};
use crate::types::DType;

/// A range of mantissas and the factor that brings it near 1.
struct Bin {
    /// The least mantissa.
    from: f32,
    /// Of so few bits that its product with a mantissa, less 1, is an `f32`.
    factor: f32,
    /// Minus the factor's logarithm to a multiple of 2^-17: its sum with a multiple of [`LN2_HEAD`] is exact.
    head: f32,
    /// The rest of the logarithm.
    tail: f32,
}

/// Mantissas times factors are within 1/16 of 1, and the nearer the smaller the logarithm is, where its terms count
/// most.
const BINS: [Bin; 8] = [
    Bin { from: 0.703_125, factor: 1.375, head: f32::from_bits(0xbea3_0c00), tail: f32::from_bits(0xb63c_21c6) },
    Bin { from: 0.76, factor: 1.25, head: f32::from_bits(0xbe64_8000), tail: f32::from_bits(0x3583_8656) },
    Bin { from: 0.84, factor: 1.125, head: f32::from_bits(0xbdf1_3800), tail: f32::from_bits(0xb4ed_c55e) },
    Bin { from: 0.9, factor: 1.0625, head: f32::from_bits(0xbd78_5000), tail: f32::from_bits(0xb5c3_0046) },
    Bin { from: 0.96, factor: 1.0, head: 0.0, tail: 0.0 },
    Bin { from: 1.04, factor: 0.9375, head: f32::from_bits(0x3d84_2c00), tail: f32::from_bits(0x35c5_acf2) },
    Bin { from: 1.13, factor: 0.84375, head: f32::from_bits(0x3e2d_fa00), tail: f32::from_bits(0x3356_a87b) },
    Bin { from: 1.25, factor: 0.75, head: f32::from_bits(0x3e93_4b00), tail: f32::from_bits(0x3504_4d37) },
];

/// C with `ln(1 + f) = f - f^2/2 + f^3 C(f)` on |f| <= 0.0626: minimax with weight `f^3 / ln(1 + f)`, by linear
/// programming, each coefficient rounded to `f32` and the rest fitted again. Relative error of the logarithm: 2^-35.9.
const CUBIC: [f32; 5] = [
    f32::from_bits(0x3eaa_aaab),
    f32::from_bits(0xbe7f_ffc3),
    f32::from_bits(0x3e4c_caee),
    f32::from_bits(0xbe2b_6440),
    f32::from_bits(0x3e13_eda6),
];

/// x^y.
pub(super) fn pow() -> ScalarFn {
    binary_program(DType::F32, |b, x, y| {
        let size = abs(b, x);
        let (head, tail) = logarithm(b, size);
        // No power of a number other than 1 is finite and not zero beyond 2^33, and no product overflows.
        let exponent = at_least(b, y, -8_589_934_592.0);
        let exponent = at_most(b, exponent, 8_589_934_592.0);
        let (product, product_rest) = multiply(b, exponent, head, tail);
        let magnitude = exponential(b, product, product_rest);

        // Where the exponential's reduction ends; zero and infinity have no logarithm.
        let infinity = b.f32(f32::INFINITY);
        let zero = b.f32(0.0);
        let one = b.f32(1.0);
        let x_infinite = b.compare(CompareOp::Eq, size, infinity);
        let x_zero = b.compare(CompareOp::Eq, size, zero);
        let extreme = b.binary(BinaryOp::Or, x_infinite, x_zero);
        let positive = b.compare(CompareOp::Gt, y, zero);
        let grows = b.compare(CompareOp::Eq, positive, x_infinite);
        let shrinks = b.compare(CompareOp::Ne, positive, x_infinite);
        let over = test(b, CompareOp::Gt, product, 89.0);
        let under = test(b, CompareOp::Lt, product, -104.0);
        let over = b.select(extreme, grows, over);
        let under = b.select(extreme, shrinks, under);
        let magnitude = b.select(over, infinity, magnitude);
        let magnitude = b.select(under, zero, magnitude);

        // 2^24 and above is even; below, adding it rounds to an even number.
        let y_size = abs(b, y);
        let even_limit = b.f32(16_777_216.0);
        let limited = at_most(b, y_size, 16_777_216.0);
        let sum = b.add(limited, even_limit);
        let nearest_even = b.sub(sum, even_limit);
        let from_even = b.sub(limited, nearest_even);
        let from_even = abs(b, from_even);
        let odd = b.compare(CompareOp::Eq, from_even, one);
        let even = b.compare(CompareOp::Eq, from_even, zero);
        let integer = b.binary(BinaryOp::Or, odd, even);
        let raw = bits(b, x);
        let sign = and(b, raw, SIGN);
        let none = b.u32(0);
        let sign = b.select(odd, sign, none);
        let raw = bits(b, magnitude);
        let raw = b.binary(BinaryOp::Or, raw, sign);
        let power = float(b, raw);

        // The domain: non-negative numbers and -0, infinities, and integer exponents.
        let not_negative = b.compare(CompareOp::Ge, x, zero);
        let inside = b.binary(BinaryOp::Or, not_negative, x_infinite);
        let inside = b.binary(BinaryOp::Or, inside, integer);
        let x_number = b.compare(CompareOp::Le, size, infinity);
        let y_number = b.compare(CompareOp::Le, y_size, infinity);
        let inside = b.binary(BinaryOp::And, inside, x_number);
        let inside = b.binary(BinaryOp::And, inside, y_number);
        let nan = b.f32(f32::NAN);
        let power = b.select(inside, power, nan);
        // Even of NaN.
        let x_one = b.compare(CompareOp::Eq, x, one);
        let y_zero = b.compare(CompareOp::Eq, y, zero);
        let constant = b.binary(BinaryOp::Or, x_one, y_zero);
        b.select(constant, one, power)
    })
}

/// ln of a positive finite number as a head and a tail of at most 2^-9 of it; some number for others.
fn logarithm(b: &mut ScalarFnBuilder, size: Value) -> (Value, Value) {
    let subnormal = test(b, CompareOp::Lt, size, f32::MIN_POSITIVE);
    let enlarged = scale(b, size, 8_388_608.0);
    let normal = b.select(subnormal, enlarged, size);
    let lowest = b.u32(BINS[0].from.to_bits());
    let raw = bits(b, normal);
    let above = b.binary(BinaryOp::Sub, raw, lowest);
    let signed = b.bitcast(DType::I32, above);
    let n = shr(b, signed, 23);
    let exponent = shl(b, n, 23);
    let exponent = b.bitcast(DType::U32, exponent);
    let mantissa = b.binary(BinaryOp::Sub, raw, exponent);
    let mantissa = float(b, mantissa);
    let lift = b.i32(23);
    let none = b.i32(0);
    let lift = b.select(subnormal, lift, none);
    let n = b.binary(BinaryOp::Sub, n, lift);
    let n = b.convert(DType::F32, n);
    let [factor, bin_head, bin_tail] = bin(b, mantissa);

    // f = mantissa * factor - 1, in exact steps.
    let one = b.f32(1.0);
    let short = masked(b, mantissa, HEAD);
    let rest = b.sub(mantissa, short);
    let product = b.mul(short, factor);
    let f = b.sub(product, one);
    let product = b.mul(rest, factor);
    let f = b.add(f, product);

    // f - f^2/2: the square of f's head is exact, the rest is f^2 - head^2 = (f - head)(f + head).
    let short = masked(b, f, HEAD);
    let square = b.mul(short, short);
    let square = scale(b, square, -0.5);
    let (quadratic, error) = add_exactly(b, f, square);
    let difference = b.sub(f, short);
    let sum = b.add(f, short);
    let square_rest = b.mul(difference, sum);
    let square_rest = scale(b, square_rest, -0.5);
    let tail = b.add(error, square_rest);
    let cubic = horner(b, f, &CUBIC);
    let square = b.mul(f, f);
    let cubic = b.mul(cubic, f);
    let cubic = b.mul(cubic, square);
    let tail = b.add(tail, cubic);

    // And n ln 2, and the factor's logarithm: both heads' sum is exact.
    let whole = scale(b, n, LN2_HEAD);
    let whole = b.add(whole, bin_head);
    let whole_rest = scale(b, n, LN2_TAIL);
    let whole_rest = b.add(whole_rest, bin_tail);
    let tail = b.add(tail, whole_rest);
    let (head, error) = add_exactly(b, whole, quadratic);
    let tail = b.add(tail, error);
    (head, tail)
}

/// Factor, head and tail of the bin that a mantissa belongs to.
fn bin(b: &mut ScalarFnBuilder, mantissa: Value) -> [Value; 3] {
    let [first, others @ ..] = &BINS;
    let parts: [fn(&Bin) -> f32; 3] = [|bin| bin.factor, |bin| bin.head, |bin| bin.tail];
    let mut found = parts.map(|part| b.f32(part(first)));
    for bin in others {
        let reached = test(b, CompareOp::Ge, mantissa, bin.from);
        for (found, part) in found.iter_mut().zip(parts) {
            let value = b.f32(part(bin));
            *found = b.select(reached, value, *found);
        }
    }
    found
}

/// `y (head + tail)` as a rounded sum and its error.
fn multiply(b: &mut ScalarFnBuilder, y: Value, head: Value, tail: Value) -> (Value, Value) {
    let y_short = masked(b, y, HEAD);
    let y_rest = b.sub(y, y_short);
    let short = masked(b, head, HEAD);
    let rest = b.sub(head, short);
    let rest = b.add(rest, tail);
    let product = b.mul(y_short, short);
    let left = b.mul(y, rest);
    let right = b.mul(y_rest, short);
    let small = b.add(left, right);
    add_exactly(b, product, small)
}

/// `e^(head + tail)` for a head in [-104, 89] and a tail of at most 2^-24 of it, as in [`super::exponential`], but the
/// rounding errors of its first sums are kept.
fn exponential(b: &mut ScalarFnBuilder, head: Value, tail: Value) -> Value {
    let magic = b.f32(MAGIC + 254.0);
    let scaled = scale(b, head, LOG2_E);
    let shifted = b.add(scaled, magic);
    let n = b.sub(shifted, magic);
    let product = scale(b, n, LN2_HEAD);
    let coarse = b.sub(head, product);
    let product = scale(b, n, LN2_TAIL);
    let fine = b.sub(tail, product);
    // Where the first is the smaller, both are so small that the error is nothing.
    let (r, error) = add_exactly(b, coarse, fine);
    let w = long_series(b, r);
    let w = b.add(w, error);
    let one = b.f32(1.0);
    let mantissa = add_three(b, one, r, w);
    let exponent = bits(b, shifted);
    scale_twice(b, mantissa, exponent)
}

#[cfg(test)]
mod tests;
