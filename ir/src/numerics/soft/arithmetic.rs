//! Sums, products, quotients and square roots of floats given as bits, correctly rounded.
//!
//! A magnitude below the normal numbers has the exponent field 0 but the scale of field 1, and no leading bit. So
//! `max(field, 1)` is the scale of any magnitude, and `magnitude - ((scale - 1) << 23)` its integer: fraction, leading
//! bit and all.

use super::word::Word;
use super::{INFINITY, MAGNITUDE, NAN, SIGN};

/// Rounds the bits above the low 7 to nearest even. Where there is a `lost`, it isn't 0 if something lies below the last
/// bit. The top bit of `bits` is 0, so that nothing overflows.
fn round<'a>(bits: Word<'a>, lost: Option<Word<'a>>) -> Word<'a> {
    // 63 and one more carry into the kept bits from above the half, or from the half where the last kept bit is 1.
    let odd = bits & 0x80;
    let more = lost.map_or(odd, |lost| lost | odd).any();
    (bits + 0x3f + more) >> 7
}

/// The magnitude whose leading bit is the top one of `bits` and whose exponent field is `exponent + 1`, both signed.
/// `level` is the exponent at which `bits`, 31 of them, have 7 below a float's last place.
fn pack<'a>(bits: Word<'a>, lost: Word<'a>, exponent: Word<'a>, level: Word<'a>) -> Word<'a> {
    let field = exponent.max_signed(0);
    // More where the result is below the normal numbers; past 31, all bits are below the last place.
    let places = (field - level).min(31);
    let kept = bits >> places;
    let lost = ((kept << places) ^ bits) | lost;
    // The leading bit adds the 1 that the field is short of; rounding up may add another. Then infinity is the limit.
    ((field << 23) + round(kept, Some(lost))).min(INFINITY)
}

/// The sum: the smaller magnitude is aligned to the larger one with a sticky bit, and added or taken away.
pub(super) fn add<'a>(a: Word<'a>, b: Word<'a>) -> Word<'a> {
    let (a_size, b_size) = (a & MAGNITUDE, b & MAGNITUDE);
    let (large, small) = (a_size.max(b_size), a_size.min(b_size));
    let first = a_size.lt(b_size).select(b, a);
    let scale = (large >> 23).max(1);
    let small_scale = (small >> 23).max(1);
    // Leading bits at 29 at the most: a sum has room above, and six places below keep what a difference brings up.
    let large_bits = (large - ((scale - 1) << 23)) << 6;
    let small_bits = (small - ((small_scale - 1) << 23)) << 6;
    let distance = (scale - small_scale).min(31);
    let kept = small_bits >> distance;
    let sticky = ((kept << distance) ^ small_bits).any();
    let aligned = kept | sticky;
    let unlike = a ^ b;
    let flip = unlike.sign_mask();
    let sum = large_bits + ((aligned ^ flip) - flip);
    // The leading bit goes to 30, but not further than the scale allows.
    let up = (sum.leading_zeros() - 1).min(scale);
    let bits = sum << up;
    let size = (((scale - up) << 23) + round(bits, None)).min(INFINITY);
    let finite = size | (first & SIGN);
    let special = large.ge(INFINITY);
    // x - x is +0, and NaN for infinity.
    let vanished = special.select(NAN, 0);
    unlike.eq(SIGN).select(vanished, special.select(first, finite))
}

/// The product. Only the smaller operand is scaled up from below the normal numbers: where both are there, the result
/// is far below them all.
pub(super) fn mul<'a>(a: Word<'a>, b: Word<'a>) -> Word<'a> {
    let (a_size, b_size) = (a & MAGNITUDE, b & MAGNITUDE);
    let (large, small) = (a_size.max(b_size), a_size.min(b_size));
    // 24 bits of mantissa each: the small one's at the top of a word, the large one's at the bottom.
    let up = small.leading_zeros().max(8);
    let small_bits = (small << up) | SIGN;
    let large_bits = (large & 0x7f_ffff) | 0x80_0000;
    // The product's 48 bits as `product << 16` and 16 bits below, from parts of 16 and 8 bits.
    let (small_high, small_low) = (small_bits >> 16, (small_bits >> 8) & 0xff);
    let (large_high, large_low) = (large_bits >> 8, large_bits & 0xff);
    let low = small_low * large_bits;
    let middle = small_high * large_low + (low >> 8);
    let product = small_high * large_high + (middle >> 8);
    let lost = (low | middle) & 0xff;
    let level = (small >> 23).max(1) - up + (large >> 23) - 120;
    // The leading bit is at 30, or at 31 and counts twice as much.
    let size = pack(product, lost, level + (product >> 31), level);
    let special = large.ge(INFINITY);
    // Infinity and NaN are their own product, except with zero.
    let with_zero = special.select(NAN, 0);
    let size = small.eq(0).select(with_zero, special.select(large, size));
    size | ((a ^ b) & SIGN)
}

/// A magnitude other than zero, infinity and NaN as `mantissa * 2^(scale - 142)`, the mantissa 24 bits.
fn parts<'a>(size: Word<'a>) -> (Word<'a>, Word<'a>) {
    let up = size.leading_zeros().max(8);
    (((size << up) | SIGN) >> 8, (size >> 23).max(1) - up)
}

/// The quotient: 25 bits by long division, eight at a time, and a remainder that only counts as something or nothing.
pub(super) fn div<'a>(a: Word<'a>, b: Word<'a>) -> Word<'a> {
    let (a_size, b_size) = (a & MAGNITUDE, b & MAGNITUDE);
    let (numerator, a_scale) = parts(a_size);
    let (divisor, b_scale) = parts(b_size);
    // The quotient of the mantissas is brought into [1, 2), so its first digit is 1.
    let below = numerator.lt(divisor).as_word();
    let mut quotient = numerator.constant(1);
    let mut rest = (numerator << below) - divisor;
    for _ in 0..3 {
        let shifted = rest << 8;
        let digit = shifted / divisor;
        rest = shifted - digit * divisor;
        quotient = (quotient << 8) | digit;
    }
    let exponent = a_scale - b_scale + 126 - below;
    let size = pack(quotient << 6, rest, exponent, exponent);
    let nothing = a_size.eq(0) | b_size.eq(INFINITY);
    let boundless = b_size.eq(0) | a_size.eq(INFINITY);
    let undefined = (nothing & boundless) | a_size.max(b_size).gt(INFINITY);
    let size = boundless.select(INFINITY, nothing.select(0, size));
    undefined.select(NAN, size) | ((a ^ b) & SIGN)
}

/// The square root. A root is never halfway between two floats, and never below the normal numbers.
pub(super) fn sqrt(x: Word<'_>) -> Word<'_> {
    // x as n 2^(2k), n in [2^30, 2^32); 25 bits of the root are the integer part of 2^9 sqrt(n).
    let up = x.leading_zeros().max(8);
    let scale = (x >> 23).max(1) - up;
    let odd = scale & 1;
    let n = ((x << up) | SIGN) >> odd;
    // A line within 3 % of the root, and two steps of Newton's that leave an error below 0.01, always upwards: the root
    // is 16 bits, its integer part or, rarely, one more.
    let line = (((n >> 16) * 44_978) >> 16) + 22_489;
    let closer = (line + n / line) >> 1;
    let high = (closer + n / closer) >> 1;
    // Nine more bits from the remainder n - high^2, which is below 2^18 in size, and one less where that was too much:
    // the square of the low bits was left out.
    let remainder = (n - high * high) << 8;
    let low = remainder.div_signed(high);
    let left = ((remainder - low * high) << 10) - low * low;
    let root = (high << 9) + low + left.sign_mask();
    let size = ((scale + odd + 132) << 22) + ((root + 1) >> 1);
    // Zeros, +infinity and NaN are their own root; other numbers below zero have none.
    let positive = (x - 1).lt(INFINITY - 1);
    positive.select(size, x.gt(SIGN).select(NAN, x))
}
