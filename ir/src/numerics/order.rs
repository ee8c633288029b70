//! The total order of floats that maxima and minima use (LN1 section 4), as integer keys, and the one NaN.
//!
//! `-inf < … < -0 < +0 < … < +inf`, and NaN wins: it is the greatest key of a maximum and the least key of a minimum.
//! Integer maxima and minima are exact in any order, so backends reduce keys in whatever tree suits them.

use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

/// The bits of the NaN that a program's outputs hold.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// The key of NaN in a maximum; also the least key of an empty minimum, which no number has.
const GREATEST: u32 = u32::MAX;
/// The key of NaN in a minimum; also the greatest key of an empty maximum, which no number has.
const LEAST: u32 = 0;

/// `f32` to `u32`, ascending in the total order, NaN above all.
pub fn max_key() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(|| key(GREATEST));
    &FUNCTION
}

/// `f32` to `u32`, ascending in the total order, NaN below all.
pub fn min_key() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(|| key(LEAST));
    &FUNCTION
}

/// The float of a [`max_key`]; of the maximum of nothing, 0, -inf.
pub fn from_max_key() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(|| from_key(GREATEST, LEAST, f32::NEG_INFINITY));
    &FUNCTION
}

/// The float of a [`min_key`]; of the minimum of nothing, `u32::MAX`, +inf.
pub fn from_min_key() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(|| from_key(LEAST, GREATEST, f32::INFINITY));
    &FUNCTION
}

/// `f32` to `f32`: any NaN becomes [`CANONICAL_NAN`].
pub fn canonical_nan() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(|| {
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let is_nan = is_nan(&mut b, x);
        let nan = b.f32(f32::from_bits(CANONICAL_NAN));
        let result = b.select(is_nan, nan, x);
        b.finish(result)
    });
    &FUNCTION
}

/// Whether a float is NaN, by its bits: a comparison with itself is a test that shader compilers remove.
pub fn is_nan(b: &mut ScalarFnBuilder, x: Value) -> Value {
    let bits = b.bitcast(DType::U32, x);
    let mask = b.u32(0x7fff_ffff);
    let magnitude = b.binary(BinaryOp::And, bits, mask);
    let infinity = b.u32(0x7f80_0000);
    b.compare(CompareOp::Gt, magnitude, infinity)
}

fn key(nan: u32) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let is_nan = is_nan(&mut b, x);
    let bits = b.bitcast(DType::U32, x);
    let sign = b.u32(0x8000_0000);
    // Negative floats grow downwards with their bits: complement. The others go above them.
    let flipped = b.unary(UnaryOp::Not, bits);
    let raised = b.binary(BinaryOp::Or, bits, sign);
    let negative = b.compare(CompareOp::Ge, bits, sign);
    let number = b.select(negative, flipped, raised);
    let nan = b.u32(nan);
    let result = b.select(is_nan, nan, number);
    b.finish(result)
}

fn from_key(nan: u32, empty: u32, of_empty: f32) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let key = b.param(DType::U32);
    let sign = b.u32(0x8000_0000);
    let mask = b.u32(0x7fff_ffff);
    let flipped = b.unary(UnaryOp::Not, key);
    let lowered = b.binary(BinaryOp::And, key, mask);
    let positive = b.compare(CompareOp::Ge, key, sign);
    let bits = b.select(positive, lowered, flipped);
    let nan = b.u32(nan);
    let is_nan = b.compare(CompareOp::Eq, key, nan);
    let canonical = b.u32(CANONICAL_NAN);
    let bits = b.select(is_nan, canonical, bits);
    let empty = b.u32(empty);
    let is_empty = b.compare(CompareOp::Eq, key, empty);
    let of_empty = b.u32(of_empty.to_bits());
    let bits = b.select(is_empty, of_empty, bits);
    let result = b.bitcast(DType::F32, bits);
    b.finish(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scalar::evaluate;

    fn call(function: &ScalarFn, x: u32) -> u32 {
        evaluate(function, &[x], &mut Vec::new())
    }

    #[test]
    fn keys_order_all_floats_and_come_back() {
        let tiny = f32::from_bits(1);
        let ascending = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.0,
            -tiny,
            -0.0,
            0.0,
            tiny,
            f32::MIN_POSITIVE,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for (to, from) in [(max_key(), from_max_key()), (min_key(), from_min_key())] {
            let keys: Vec<u32> = ascending.iter().map(|x| call(to, x.to_bits())).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
            for (x, &key) in ascending.iter().zip(&keys) {
                assert_eq!(call(from, key), x.to_bits(), "{x}");
            }
            assert!(keys.iter().all(|&key| key != LEAST && key != GREATEST));
        }
    }

    #[test]
    fn nan_wins_whatever_its_payload() {
        for nan in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff] {
            assert_eq!(call(max_key(), nan), u32::MAX);
            assert_eq!(call(min_key(), nan), 0);
            assert_eq!(call(canonical_nan(), nan), CANONICAL_NAN);
        }
        assert_eq!(call(from_max_key(), u32::MAX), CANONICAL_NAN);
        assert_eq!(call(from_min_key(), 0), CANONICAL_NAN);
        assert_eq!(call(from_max_key(), 0), f32::NEG_INFINITY.to_bits());
        assert_eq!(call(from_min_key(), u32::MAX), f32::INFINITY.to_bits());
        assert_eq!(call(canonical_nan(), (-0.0f32).to_bits()), (-0.0f32).to_bits());
    }
}
