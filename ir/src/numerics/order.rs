//! The total order of floats that maxima and minima use (LN1 section 4), as integer keys, and the one NaN.
//!
//! `-inf < … < -0 < +0 < … < +inf`, and NaN wins: it is the greatest key of a maximum and the least key of a minimum.
//! Integer maxima and minima are exact in any order, so backends reduce keys in whatever tree suits them.

use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

/// The bits of the NaN that a program's outputs hold.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// The same of `f64`.
pub const CANONICAL_NAN_F64: u64 = 0x7ff8_0000_0000_0000;

/// The order of one type of floats, as functions to and from unsigned integers of its size.
#[derive(Debug)]
pub struct Order {
    /// Float to key, ascending in the total order, NaN above all.
    pub max_key: ScalarFn,
    /// The float of a [`max_key`](Order::max_key); of the maximum of nothing, 0, -inf.
    pub from_max_key: ScalarFn,
    /// Float to key, ascending in the total order, NaN below all.
    pub min_key: ScalarFn,
    /// The float of a [`min_key`](Order::min_key); of the minimum of nothing, the greatest key, +inf.
    pub from_min_key: ScalarFn,
    /// Float to float: any NaN becomes the canonical one.
    pub canonical_nan: ScalarFn,
}

/// The order of `f32`, with keys of `u32`.
pub fn single() -> &'static Order {
    static ORDER: LazyLock<Order> = LazyLock::new(|| Order::new(&SINGLE));
    &ORDER
}

/// The order of `f64`, with keys of `u64`.
pub fn double() -> &'static Order {
    static ORDER: LazyLock<Order> = LazyLock::new(|| Order::new(&DOUBLE));
    &ORDER
}

/// The order of a type, if it is one of floats.
pub fn of(dtype: DType) -> Option<&'static Order> {
    match dtype {
        DType::F32 => Some(single()),
        DType::F64 => Some(double()),
        _ => None,
    }
}

/// Whether an `f32` or `f64` is NaN, by its bits: a comparison with itself is a test that shader compilers remove.
pub fn is_nan(b: &mut ScalarFnBuilder, x: Value) -> Value {
    let format = if b.type_of(x) == DType::F64 { &DOUBLE } else { &SINGLE };
    let bits = b.bitcast(format.key, x);
    let mask = format.constant(b, format.magnitude());
    let magnitude = b.binary(BinaryOp::And, bits, mask);
    let infinity = format.constant(b, format.infinity);
    b.compare(CompareOp::Gt, magnitude, infinity)
}

/// A type of floats, by its bits.
struct Format {
    float: DType,
    /// The unsigned integer of the same size.
    key: DType,
    sign: u64,
    infinity: u64,
    nan: u64,
}

const SINGLE: Format = Format {
    float: DType::F32,
    key: DType::U32,
    sign: 1 << 31,
    infinity: f32::INFINITY.to_bits() as u64,
    nan: CANONICAL_NAN as u64,
};

const DOUBLE: Format = Format {
    float: DType::F64,
    key: DType::U64,
    sign: 1 << 63,
    infinity: f64::INFINITY.to_bits(),
    nan: CANONICAL_NAN_F64,
};

impl Format {
    /// All bits but the sign.
    const fn magnitude(&self) -> u64 {
        self.sign - 1
    }

    /// The key of NaN in a maximum; also the least key of an empty minimum, which no number has.
    const fn greatest(&self) -> u64 {
        self.sign | self.magnitude()
    }

    fn constant(&self, b: &mut ScalarFnBuilder, bits: u64) -> Value {
        b.inst(Inst::Const(self.key, bits))
    }
}

/// The key of NaN in a minimum; also the greatest key of an empty maximum, which no number has.
const LEAST: u64 = 0;

impl Order {
    fn new(format: &Format) -> Order {
        let (greatest, infinity) = (format.greatest(), format.infinity);
        Order {
            max_key: key(format, greatest),
            from_max_key: from_key(format, greatest, LEAST, format.sign | infinity),
            min_key: key(format, LEAST),
            from_min_key: from_key(format, LEAST, greatest, infinity),
            canonical_nan: canonical_nan(format),
        }
    }
}

fn canonical_nan(format: &Format) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(format.float);
    let is_nan = is_nan(&mut b, x);
    let nan = b.inst(Inst::Const(format.float, format.nan));
    let result = b.select(is_nan, nan, x);
    b.finish(result)
}

fn key(format: &Format, nan: u64) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(format.float);
    let is_nan = is_nan(&mut b, x);
    let bits = b.bitcast(format.key, x);
    let sign = format.constant(&mut b, format.sign);
    // Negative floats grow downwards with their bits: complement. The others go above them.
    let flipped = b.unary(UnaryOp::Not, bits);
    let raised = b.binary(BinaryOp::Or, bits, sign);
    let negative = b.compare(CompareOp::Ge, bits, sign);
    let number = b.select(negative, flipped, raised);
    let nan = format.constant(&mut b, nan);
    let result = b.select(is_nan, nan, number);
    b.finish(result)
}

fn from_key(format: &Format, nan: u64, empty: u64, of_empty: u64) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let key = b.param(format.key);
    let sign = format.constant(&mut b, format.sign);
    let mask = format.constant(&mut b, format.magnitude());
    let flipped = b.unary(UnaryOp::Not, key);
    let lowered = b.binary(BinaryOp::And, key, mask);
    let positive = b.compare(CompareOp::Ge, key, sign);
    let bits = b.select(positive, lowered, flipped);
    let nan = format.constant(&mut b, nan);
    let is_nan = b.compare(CompareOp::Eq, key, nan);
    let canonical = format.constant(&mut b, format.nan);
    let bits = b.select(is_nan, canonical, bits);
    let empty = format.constant(&mut b, empty);
    let is_empty = b.compare(CompareOp::Eq, key, empty);
    let of_empty = format.constant(&mut b, of_empty);
    let bits = b.select(is_empty, of_empty, bits);
    let result = b.bitcast(format.float, bits);
    b.finish(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scalar::evaluate;

    fn call(function: &ScalarFn, x: u64) -> u64 {
        evaluate(function, &[x], &mut Vec::new())
    }

    /// Both types with numbers in ascending order, some NaNs and the bits of the infinities.
    fn formats() -> [(&'static Order, &'static Format, Vec<u64>, [u64; 4]); 2] {
        let ascending = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.0,
            -f32::from_bits(1),
            -0.0,
            0.0,
            f32::from_bits(1),
            f32::MIN_POSITIVE,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        let wide = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.0,
            -f64::from_bits(1),
            -0.0,
            0.0,
            f64::from_bits(1),
            f64::MIN_POSITIVE,
            1.0,
            f64::MAX,
            f64::INFINITY,
        ];
        [
            (
                single(),
                &SINGLE,
                ascending.map(|x| x.to_bits().into()).to_vec(),
                [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff],
            ),
            (
                double(),
                &DOUBLE,
                wide.map(f64::to_bits).to_vec(),
                [CANONICAL_NAN_F64, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0001, u64::MAX],
            ),
        ]
    }

    #[test]
    fn keys_order_all_floats_and_come_back() {
        for (order, format, ascending, _) in formats() {
            for (to, from) in [(&order.max_key, &order.from_max_key), (&order.min_key, &order.from_min_key)] {
                let keys: Vec<u64> = ascending.iter().map(|&x| call(to, x)).collect();
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
                for (&x, &key) in ascending.iter().zip(&keys) {
                    assert_eq!(call(from, key), x, "{x:x}");
                }
                assert!(keys.iter().all(|&key| key != LEAST && key != format.greatest()));
            }
        }
    }

    #[test]
    fn nan_wins_whatever_its_payload() {
        for (order, format, ascending, nans) in formats() {
            for nan in nans {
                assert_eq!(call(&order.max_key, nan), format.greatest());
                assert_eq!(call(&order.min_key, nan), 0);
                assert_eq!(call(&order.canonical_nan, nan), format.nan);
            }
            assert_eq!(call(&order.from_max_key, format.greatest()), format.nan);
            assert_eq!(call(&order.from_min_key, 0), format.nan);
            assert_eq!(call(&order.from_max_key, 0), ascending[0], "-inf");
            assert_eq!(call(&order.from_min_key, format.greatest()), ascending[10], "inf");
            assert!(ascending.iter().all(|&x| call(&order.canonical_nan, x) == x));
        }
    }

    #[test]
    fn floats_alone_have_an_order() {
        for dtype in DType::SCALARS {
            let keys = of(dtype).map(|order| order.max_key.params[0]);
            assert_eq!(keys, dtype.is_float().then_some(dtype));
        }
    }
}
