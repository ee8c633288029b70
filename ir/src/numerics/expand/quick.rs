//! The quotient of ordinary numbers, by floats alone.
//!
//! [`division`](super::division) is right for all operands; much of it is for zeros, subnormals and results that are no
//! normal numbers. Where numerator and denominator are far from all of that, which [`covers`] says, and which is nearly
//! always, the remainder of an approximate quotient is exact in floats, and fewer and cheaper instructions do.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::numerics::emit::{HEAD, SIGN, and, binary_program, bits, float, masked};
use crate::types::DType;

/// The bits of the least and of the first too large size of a numerator, 2^-64 and 2^64.
const NUMERATORS: [u32; 2] = [63 << 23, 191 << 23];
/// Those of a denominator, 2^-32 and 2^32. A quotient is then above 2^-97, and its remainder's last bit above 2^-112.
const DENOMINATORS: [u32; 2] = [95 << 23, 159 << 23];

/// Whether [`div`] gives the quotient of two floats.
pub(super) fn covers() -> ScalarFn {
    binary_program(DType::Bool, |b, numerator, denominator| {
        // A zero is as good as any numerator.
        let size = magnitude(b, numerator);
        let none = b.u32(0);
        let zero = b.compare(CompareOp::Eq, size, none);
        let numerator = within(b, size, NUMERATORS);
        let numerator = b.binary(BinaryOp::Or, numerator, zero);
        let size = magnitude(b, denominator);
        let denominator = within(b, size, DENOMINATORS);
        b.binary(BinaryOp::And, numerator, denominator)
    })
}

/// The correctly rounded quotient of two floats that [`covers`] accepts.
///
/// A quotient good to 2^-17 is mended by its remainder, after which it is off by little more than half a unit; then the
/// exact remainders of that and of its neighbour on the side of the truth are compared. No quotient lies in the middle
/// between two normal floats.
pub(super) fn div() -> ScalarFn {
    binary_program(DType::F32, |b, numerator, denominator| {
        let (n_bits, d_bits) = (bits(b, numerator), bits(b, denominator));
        let sign = b.binary(BinaryOp::Xor, n_bits, d_bits);
        let sign = and(b, sign, SIGN);
        let n = b.unary(UnaryOp::Abs, numerator);
        let d = b.unary(UnaryOp::Abs, denominator);

        // 1/d to 2^-18: a line through the bits, and two steps of Newton's. The seed is that of `division`.
        let seed = b.u32(0x7ef3_57d7);
        let raw = bits(b, d);
        let y = b.binary(BinaryOp::Sub, seed, raw);
        let mut y = float(b, y);
        for constant in [2.001_498_7, 2.0] {
            let product = b.mul(d, y);
            let constant = b.f32(constant);
            let factor = b.sub(constant, product);
            y = b.mul(y, factor);
        }

        let head = masked(b, d, HEAD);
        let tail = b.sub(d, head);
        let q = b.mul(n, y);
        let left = remainder(b, n, q, [d, head, tail]);
        let more = b.mul(left, y);
        let q = b.add(q, more);
        let left = remainder(b, n, q, [d, head, tail]);

        let none = b.f32(0.0);
        let above = b.compare(CompareOp::Gt, left, none);
        let (up, down) = (b.u32(1), b.u32(u32::MAX));
        let step = b.select(above, up, down);
        let raw = bits(b, q);
        let neighbour = b.binary(BinaryOp::Add, raw, step);
        // Of a zero this is a NaN, which is never nearer.
        let neighbour = float(b, neighbour);
        let between = b.sub(neighbour, q);
        let taken = b.mul(between, d);
        let rest = b.sub(left, taken);
        let (rest, left) = (b.unary(UnaryOp::Abs, rest), b.unary(UnaryOp::Abs, left));
        let nearer = b.compare(CompareOp::Lt, rest, left);
        let q = b.select(nearer, neighbour, q);
        let raw = bits(b, q);
        let signed = b.binary(BinaryOp::Or, raw, sign);
        float(b, signed)
    })
}

/// n - q d: exactly, if q is within a unit of the quotient, and else to a unit of its own. d comes with its halves, whose
/// products with those of q are exact; so is each sum but the last, of terms that nearly cancel (T. J. Dekker's product,
/// 1971, with halves that are cut off).
fn remainder(b: &mut ScalarFnBuilder, n: Value, q: Value, [d, head, tail]: [Value; 3]) -> Value {
    let q_head = masked(b, q, HEAD);
    let q_tail = b.sub(q, q_head);
    let product = b.mul(q, d);
    let part = b.mul(q_head, head);
    let mut error = b.sub(part, product);
    for (x, y) in [(q_head, tail), (q_tail, head), (q_tail, tail)] {
        let part = b.mul(x, y);
        error = b.add(error, part);
    }
    let difference = b.sub(n, product);
    b.sub(difference, error)
}

/// A float's bits without its sign.
fn magnitude(b: &mut ScalarFnBuilder, x: Value) -> Value {
    let raw = bits(b, x);
    and(b, raw, !SIGN)
}

/// Whether bits are at least the first and less than the second.
fn within(b: &mut ScalarFnBuilder, bits: Value, [from, to]: [u32; 2]) -> Value {
    let first = b.u32(from);
    let above = b.binary(BinaryOp::Sub, bits, first);
    let count = b.u32(to - from);
    b.compare(CompareOp::Lt, above, count)
}
