//! A quotient of two numbers known to more than 24 bits, without a division.

use crate::kernel::scalar::{BinaryOp, ScalarFnBuilder, Value};
use crate::numerics::emit::{HEAD, bits, float, masked};

/// The exact sum of a number of at most 12 significant bits and a tail about 2^-12 of its size.
pub(super) struct Split {
    pub head: Value,
    pub tail: Value,
}

/// Minus the bits of `y` give about a constant minus its logarithm: the seed of a reciprocal. Seed and [`STEP`] were
/// searched together: after one step and truncation to 12 bits, `|1 - d y| <= 0.0015` on [1, 2].
const SEED: u32 = 0x7ef3_57d7;

/// Newton's 2, moved so that the errors at both ends agree.
const STEP: f32 = 2.001_498_7;

/// `numerator / denominator` for a denominator in [1, 2], about 0.51 ulp off at most; `rounded` is the denominator to
/// `f32` precision or thereabouts.
///
/// With `y` of 12 bits near `1/d`, the products of heads with `y` are exact, so that `e = 1 - d y` is known to 2^-34 and
/// `n/d = n y (1 + e + e^2 + ...)` loses almost nothing but the last rounding.
pub(super) fn quotient(b: &mut ScalarFnBuilder, numerator: &Split, rounded: Value, denominator: &Split) -> Value {
    let seed = b.u32(SEED);
    let raw = bits(b, rounded);
    let y = b.binary(BinaryOp::Sub, seed, raw);
    let y = float(b, y);
    let product = b.mul(rounded, y);
    let step = b.f32(STEP);
    let factor = b.sub(step, product);
    let y = b.mul(y, factor);
    let y = masked(b, y, HEAD);

    let one = b.f32(1.0);
    let product = b.mul(denominator.head, y);
    let e = b.sub(one, product);
    let product = b.mul(denominator.tail, y);
    let e = b.sub(e, product);
    let square = b.mul(e, e);
    let series = b.add(e, square);

    let head = b.mul(numerator.head, y);
    let tail = b.mul(numerator.tail, y);
    let whole = b.add(head, tail);
    let correction = b.mul(whole, series);
    let tail = b.add(tail, correction);
    b.add(head, tail)
}
