//! Rounding to integers, and conversions from and to them, of floats given as bits.

use super::word::Word;
use super::{INFINITY, MAGNITUDE, ONE, SIGN};

/// 2^31 and 2^32, where the integers end.
const TWO_31: u32 = 0x4f00_0000;
const TWO_32: u32 = 0x4f80_0000;
/// 1/2.
const HALF: u32 = 0x3f00_0000;

/// The number of bits of a magnitude that are a fraction, and a mask of them: none from 2^23 on, for infinity and NaN
/// neither. Below 1 both are anything.
fn fraction(size: Word<'_>) -> (Word<'_>, Word<'_>) {
    let places = size.constant(150) - (size >> 23).min(150);
    (places, (size.constant(1) << places) - 1)
}

/// The integer part.
pub(super) fn trunc(x: Word<'_>) -> Word<'_> {
    let size = x & MAGNITUDE;
    let (_, mask) = fraction(size);
    size.lt(ONE).select(0, size & !mask) | (x & SIGN)
}

/// The nearest integer, ties to even.
pub(super) fn round(x: Word<'_>) -> Word<'_> {
    let size = x & MAGNITUDE;
    let (places, mask) = fraction(size);
    // Half a unit less one, and one more where the integer part is odd: then a tie carries too, into the exponent if
    // need be. Without a fraction nothing is added.
    let odd = (size >> places) & 1;
    let more = ((mask >> 1) + odd) & mask;
    let small = size.gt(HALF).select(ONE, 0);
    size.lt(ONE).select(small, (size + more) & !mask) | (x & SIGN)
}

/// The integer part, and one more in size where a fraction was cut off and `outward` is all ones rather than 0.
fn directed<'a>(x: Word<'a>, outward: Word<'a>) -> Word<'a> {
    let size = x & MAGNITUDE;
    let (_, mask) = fraction(size);
    let small = size.eq(0).select(0, ONE) & outward;
    size.lt(ONE).select(small, (size + (mask & outward)) & !mask) | (x & SIGN)
}

/// The integer not above.
pub(super) fn floor(x: Word<'_>) -> Word<'_> {
    directed(x, x.sign_mask())
}

/// The integer not below.
pub(super) fn ceil(x: Word<'_>) -> Word<'_> {
    directed(x, !x.sign_mask())
}

/// A `u32` as a float, rounded to nearest even.
pub(super) fn from_u32(x: Word<'_>) -> Word<'_> {
    let zeros = x.leading_zeros();
    let bits = x << zeros;
    // The low 8 of 32 bits are rounded off; half of them and more carries.
    let kept = bits >> 8;
    let more = ((bits & 0xff) + 0x7f + (kept & 1)) >> 8;
    // The leading bit adds 1 to the exponent field.
    let field = (x.constant(157) - zeros) << 23;
    x.eq(0).select(0, field + kept + more)
}

/// An `i32` as a float, rounded to nearest even.
pub(super) fn from_i32(x: Word<'_>) -> Word<'_> {
    let negative = x.sign_mask();
    from_u32((x ^ negative) - negative) | (x & SIGN)
}

/// The integer part of a magnitude from 1 to below 2^32.
fn integer<'a>(x: Word<'a>, size: Word<'a>) -> Word<'a> {
    ((x << 8) | SIGN) >> (x.constant(158) - (size >> 23))
}

/// The `u32` nearest to the integer part; 0 for NaN.
pub(super) fn to_u32(x: Word<'_>) -> Word<'_> {
    let inside = x.lt(TWO_32).select(integer(x, x), u32::MAX);
    // As words, negative floats and NaN are above infinity.
    (x.lt(ONE) | x.gt(INFINITY)).select(0, inside)
}

/// The `i32` nearest to the integer part; 0 for NaN.
pub(super) fn to_i32(x: Word<'_>) -> Word<'_> {
    let size = x & MAGNITUDE;
    let negative = x.sign_mask();
    let inside = (integer(x, size) ^ negative) - negative;
    let limit = negative ^ 0x7fff_ffff;
    (size.lt(ONE) | size.gt(INFINITY)).select(0, size.lt(TWO_31).select(inside, limit))
}
