//! Comparisons of floats given as bits.

use super::word::{Flag, Word};
use super::{INFINITY, MAGNITUDE};

/// Whether neither is NaN.
fn ordered<'a>(a_size: Word<'a>, b_size: Word<'a>) -> Flag<'a> {
    a_size.max(b_size).le(INFINITY)
}

/// A number that grows with the float, as two's complement; both zeros have 0.
fn key<'a>(x: Word<'a>, size: Word<'a>) -> Word<'a> {
    let negative = x.sign_mask();
    (size ^ negative) - negative
}

/// `==`.
pub(super) fn equal<'a>(a: Word<'a>, b: Word<'a>) -> Flag<'a> {
    let both_zero = ((a | b) & MAGNITUDE).eq(0);
    // The same bits, so if one is NaN the other is too.
    (a.eq(b) & (a & MAGNITUDE).le(INFINITY)) | both_zero
}

/// `<`.
pub(super) fn less<'a>(a: Word<'a>, b: Word<'a>) -> Flag<'a> {
    let (a_size, b_size) = (a & MAGNITUDE, b & MAGNITUDE);
    key(a, a_size).lt_signed(key(b, b_size)) & ordered(a_size, b_size)
}

/// `<=`.
pub(super) fn less_or_equal<'a>(a: Word<'a>, b: Word<'a>) -> Flag<'a> {
    let (a_size, b_size) = (a & MAGNITUDE, b & MAGNITUDE);
    key(a, a_size).le_signed(key(b, b_size)) & ordered(a_size, b_size)
}
