//! sin and cos: one exact reduction for all arguments, two polynomials of equal length.
//!
//! An argument of 1 or more is an integer `m` of 24 bits times a power of two. Its product with 2/pi is needed modulo
//! 4, in quarter turns, so of the bits of 2/pi only a window of 96 matters: bits before it contribute multiples of 4,
//! bits after it less than 2^-70 (Payne and Hanek's reduction). [`window`] cuts the window out of constants,
//! [`product`] multiplies in limbs of 16 bits, since no instruction gives the upper half of a product. The integer
//! nearest to the product chooses polynomial and sign; the rest is at least 2^-30 for every `f32`, and known to 2^-60.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{
    HEAD, INFINITY, SIGN, abs, add_exactly, add_three, and, bits, float, masked, or, scale, shl, shr, test,
    unary_program,
};
use crate::types::DType;

/// The bits of 2/pi behind 25 zeros: bit 0 has the weight 2^24, which with `m < 2^24` is where the window begins for an
/// argument in [1, 2).
const TWO_OVER_PI: [u32; 7] =
    [0x0000_0051, 0x7cc1_b727, 0x220a_94fe, 0x13ab_e8fa, 0x9a6e_e06d, 0xb14a_cc9e, 0x21c8_20ff];

/// pi/2 to 12 bits: its product with another 12-bit number is exact.
const HALF_PI_HEAD: f32 = f32::from_bits(0x3fc9_1000);

/// pi/2 - [`HALF_PI_HEAD`].
const HALF_PI_TAIL: f32 = f32::from_bits(0xb695_777a);

/// S with `sin r = r + r z S(z)`, `z = r^2`, on [0, 1]: minimax in the relative error, by linear programming, each
/// coefficient rounded to `f32` and the rest fitted again. Relative error: 2^-31.4.
const SIN: [f32; 4] = [
    f32::from_bits(0xbe2a_aaab),
    f32::from_bits(0x3c08_889f),
    f32::from_bits(0xb950_1000),
    f32::from_bits(0x3636_f565),
];

/// C with `cos r = 1 - z/2 + z^2 C(z)`, made like [`SIN`]. Relative error: 2^-35.2.
const COS: [f32; 4] = [
    f32::from_bits(0x3d2a_aaab),
    f32::from_bits(0xbab6_0b89),
    f32::from_bits(0x37d0_160f),
    f32::from_bits(0xb493_4075),
];

/// sin x.
pub(super) fn sin() -> ScalarFn {
    circular(0)
}

/// cos x: a quarter turn ahead.
pub(super) fn cos() -> ScalarFn {
    circular(1)
}

/// sin(x + quarters pi/2).
fn circular(quarters: u32) -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        let reduced = reduce(b, size);
        // Below 1 the argument is its own remainder.
        let small = test(b, CompareOp::Lt, size, 1.0);
        let zero = b.f32(0.0);
        let none = b.u32(0);
        let head = b.select(small, size, reduced.head);
        let tail = b.select(small, zero, reduced.tail);
        let turns = b.select(small, none, reduced.turns);
        let ahead = b.u32(quarters);
        let turns = b.binary(BinaryOp::Add, turns, ahead);

        let odd = and(b, turns, 1);
        let is_cos = b.compare(CompareOp::Ne, odd, none);
        let value = kernel(b, head, tail, is_cos);

        // The second half of a turn is minus the first; sin is odd besides.
        let half = shr(b, turns, 1);
        let flip = shl(b, half, 31);
        let flip = if quarters == 0 {
            let raw = bits(b, x);
            let sign = and(b, raw, SIGN);
            b.binary(BinaryOp::Xor, flip, sign)
        } else {
            flip
        };
        let raw = bits(b, value);
        let raw = b.binary(BinaryOp::Xor, raw, flip);
        let value = float(b, raw);
        let finite = test(b, CompareOp::Lt, size, f32::from_bits(INFINITY));
        let nan = b.f32(f32::NAN);
        b.select(finite, value, nan)
    })
}

/// `size = turns pi/2 + head + tail` modulo 2 pi, with `|head| <= pi/4` up to rounding and a tail 2^-11 of it or less.
struct Remainder {
    /// Quarter turns modulo 4 in the low two bits.
    turns: Value,
    head: Value,
    tail: Value,
}

/// The remainder of a finite number of at least 1; garbage for others.
fn reduce(b: &mut ScalarFnBuilder, size: Value) -> Remainder {
    let raw = bits(b, size);
    let exponent = shr(b, raw, 23);
    let bias = b.u32(127);
    let exponent = b.binary(BinaryOp::Sub, exponent, bias);
    let mantissa = and(b, raw, 0x007f_ffff);
    let mantissa = or(b, mantissa, 0x0080_0000);
    let window = window(b, exponent);
    // Bits 31 and 30 of the upper word are whole quarter turns.
    let (upper, lower) = product(b, mantissa, window);
    let half = b.u32(1 << 29);
    let nearest = b.binary(BinaryOp::Add, upper, half);
    let turns = shr(b, nearest, 30);

    // The fraction as a number of 64 bits in two's complement, then its size (less 2^-64 where it is negative).
    let high = shl(b, upper, 2);
    let between = shr(b, lower, 30);
    let high = b.binary(BinaryOp::Or, high, between);
    let low = shl(b, lower, 2);
    let signed = b.bitcast(DType::I32, high);
    let sign = shr(b, signed, 31);
    let sign = b.bitcast(DType::U32, sign);
    let high = b.binary(BinaryOp::Xor, high, sign);
    let low = b.binary(BinaryOp::Xor, low, sign);

    // Three parts of 24 bits or fewer, which are exact as floats. The conversions are of signed integers, which more
    // processors have an instruction for.
    let part = |b: &mut ScalarFnBuilder, value: Value, unit: f32| {
        let value = b.bitcast(DType::I32, value);
        let value = b.convert(DType::F32, value);
        scale(b, value, unit)
    };
    let first = and(b, high, 0xffff_ff00);
    let first = part(b, first, 2.0_f32.powi(-32));
    let second = and(b, high, 0xff);
    let second = shl(b, second, 16);
    let rest = shr(b, low, 16);
    let second = b.binary(BinaryOp::Or, second, rest);
    let second = part(b, second, 2.0_f32.powi(-48));
    let third = and(b, low, 0xffff);
    let third = part(b, third, 2.0_f32.powi(-64));
    let (fraction, error) = add_exactly(b, first, second);
    let fraction_rest = b.add(error, third);

    // Times pi/2; the product of the heads is exact.
    let fraction_head = masked(b, fraction, HEAD);
    let fraction_tail = b.sub(fraction, fraction_head);
    let fraction_tail = b.add(fraction_tail, fraction_rest);
    let head = scale(b, fraction_head, HALF_PI_HEAD);
    let tail = scale(b, fraction_tail, HALF_PI_HEAD);
    let rest = scale(b, fraction, HALF_PI_TAIL);
    let tail = b.add(tail, rest);
    let negate = and(b, sign, SIGN);
    let [head, tail] = [head, tail].map(|value| {
        let raw = bits(b, value);
        let raw = b.binary(BinaryOp::Xor, raw, negate);
        float(b, raw)
    });
    Remainder { turns, head, tail }
}

/// 96 bits of [`TWO_OVER_PI`] from bit `position` (below 128) on, upper word first.
fn window(b: &mut ScalarFnBuilder, position: Value) -> [Value; 3] {
    let mut words = TWO_OVER_PI.map(|word| b.u32(word)).to_vec();
    let zero = b.u32(0);
    // By two words, then by one.
    for (bit, distance) in [(64, 2), (32, 1)] {
        let set = and(b, position, bit);
        let far = b.compare(CompareOp::Ne, set, zero);
        let count = words.len() - distance;
        words = (0..count).map(|index| b.select(far, words[index + distance], words[index])).collect();
    }
    // Counts are taken modulo 32; a right shift by 32 less the count is one by 1 and one by 31 less the count.
    let most = b.u32(31);
    let rest = b.binary(BinaryOp::Xor, position, most);
    [0, 1, 2].map(|index| {
        let upper = b.binary(BinaryOp::Shl, words[index], position);
        let lower = shr(b, words[index + 1], 1);
        let lower = b.binary(BinaryOp::Shr, lower, rest);
        b.binary(BinaryOp::Or, upper, lower)
    })
}

/// Bits 32 to 95 of the product of a number of 24 bits and one of three words, in two words; at most 2 too small.
fn product(b: &mut ScalarFnBuilder, m: Value, words: [Value; 3]) -> (Value, Value) {
    let m_high = shr(b, m, 16);
    let m_low = and(b, m, 0xffff);
    let [first, second, third] = words;

    // The upper word of m times the third word, without the carries out of its lower word.
    let high = shr(b, third, 16);
    let low = and(b, third, 0xffff);
    let carried = b.mul(m_high, high);
    let left = b.mul(m_low, high);
    let left = shr(b, left, 16);
    let right = b.mul(m_high, low);
    let right = shr(b, right, 16);
    let carried = b.binary(BinaryOp::Add, carried, left);
    let carried = b.binary(BinaryOp::Add, carried, right);

    // The upper word of m times the second word.
    let high = shr(b, second, 16);
    let low = and(b, second, 0xffff);
    let lowest = b.mul(m_low, low);
    let lowest = shr(b, lowest, 16);
    let middle = b.mul(m_high, low);
    let middle = b.binary(BinaryOp::Add, middle, lowest);
    let upper = shr(b, middle, 16);
    let middle = and(b, middle, 0xffff);
    let other = b.mul(m_low, high);
    let middle = b.binary(BinaryOp::Add, middle, other);
    let middle = shr(b, middle, 16);
    let highest = b.mul(m_high, high);
    let upper = b.binary(BinaryOp::Add, upper, middle);
    let upper = b.binary(BinaryOp::Add, upper, highest);

    let lower = b.mul(m, second);
    let lower_sum = b.binary(BinaryOp::Add, lower, carried);
    let over = b.compare(CompareOp::Lt, lower_sum, lower);
    let carry = b.convert(DType::U32, over);
    let whole = b.mul(m, first);
    let upper = b.binary(BinaryOp::Add, upper, whole);
    let upper = b.binary(BinaryOp::Add, upper, carry);
    (upper, lower_sum)
}

/// sin or cos of `head + tail`, at most 1 in size.
fn kernel(b: &mut ScalarFnBuilder, head: Value, tail: Value, is_cos: Value) -> Value {
    let r = b.add(head, tail);
    let z = b.mul(r, r);
    let mut sum = None;
    for (&s, &c) in SIN.iter().zip(&COS).rev() {
        let s = b.f32(s);
        let c = b.f32(c);
        let coefficient = b.select(is_cos, c, s);
        sum = Some(match sum {
            None => coefficient,
            Some(sum) => {
                let product = b.mul(sum, z);
                b.add(product, coefficient)
            }
        });
    }
    let polynomial = sum.expect("a polynomial has coefficients");
    // r z S or z z C.
    let factor = b.select(is_cos, z, r);
    let product = b.mul(z, factor);
    let rest = b.mul(product, polynomial);

    // cos: 1 - short^2/2, of which the square is exact, then -(r - short)(r + short)/2.
    let short = masked(b, r, HEAD);
    let square = b.mul(short, short);
    let square = scale(b, square, -0.5);
    let long = b.sub(head, short);
    let long = b.add(long, tail);
    let sum = b.add(r, short);
    let square_rest = b.mul(long, sum);
    let square_rest = scale(b, square_rest, -0.5);

    let one = b.f32(1.0);
    let large = b.select(is_cos, one, head);
    let zero = b.f32(0.0);
    let middle = b.select(is_cos, square, zero);
    let small = b.select(is_cos, square_rest, tail);
    let small = b.add(small, rest);
    add_three(b, large, middle, small)
}
