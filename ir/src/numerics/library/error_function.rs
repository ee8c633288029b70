//! erf.

use crate::kernel::scalar::{CompareOp, ScalarFn};
use crate::numerics::emit::{HEAD, abs, at_most, masked, scale, test, unary_program, with_sign_of};
use crate::types::DType;

/// Where the polynomials meet.
const SPLIT: f32 = 1.125;

/// x^2 is counted from here: the terms are smaller, and so are their rounding errors.
const SMALL_CENTRE: f32 = 0.75;

/// Near [`SPLIT`], where the fourth power weighs errors most.
const LARGE_CENTRE: f32 = 1.125;

/// erfc at [`SPLIT`]: the fourth root of the rest begins just below 1, where `f32` is finest.
const LARGE_SCALE: f32 = f32::from_bits(0x3de4_94b6);

/// P with `erf(x) = x + x P(x^2 - SMALL_CENTRE)` on [0, SPLIT]: minimax in the relative error, by linear programming, each
/// coefficient rounded to `f32` and the rest fitted again. Relative error of erf: 2^-30.4.
const SMALL: [f32; 9] = [
    f32::from_bits(0xbdcd_05d8),
    f32::from_bits(0xbe7a_7563),
    f32::from_bits(0x3d89_0cc8),
    f32::from_bits(0xbc77_e806),
    f32::from_bits(0x3b3a_954b),
    f32::from_bits(0xb9ef_499b),
    f32::from_bits(0x3884_a85e),
    f32::from_bits(0xb6c7_a8c6),
    f32::from_bits(0x3604_0656),
];

/// R with `erfc(LARGE_CENTRE + t) = LARGE_SCALE R(t)^4` on [SPLIT, 4]: the fourth root of erfc is so smooth that as many
/// coefficients do as for [`SMALL`]. Made like those, with weight `4 LARGE_SCALE R^3`. Absolute error of erf: 2^-27.6.
const LARGE: [f32; 9] = [
    f32::from_bits(0x3f80_0000),
    f32::from_bits(0xbf36_80f2),
    f32::from_bits(0x3d22_923c),
    f32::from_bits(0x3daa_3ad1),
    f32::from_bits(0xbc3a_adf8),
    f32::from_bits(0xbc09_87bf),
    f32::from_bits(0x3b34_9eb5),
    f32::from_bits(0xb92a_042a),
    f32::from_bits(0xb7b6_eb05),
];

/// The error function: two polynomials of equal length, evaluated as one with selected coefficients.
pub(super) fn erf() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        // erf(4) is above 1 - 2^-26.
        let size = at_most(b, size, 4.0);
        let small = test(b, CompareOp::Lt, size, SPLIT);
        let square = b.mul(size, size);
        let variable = b.select(small, square, size);
        let near = b.f32(SMALL_CENTRE);
        let far = b.f32(LARGE_CENTRE);
        let centre = b.select(small, near, far);
        let argument = b.sub(variable, centre);
        // The square's rounding error would be a quarter of a unit of the result near 1.
        let short = masked(b, size, HEAD);
        let head = b.mul(short, short);
        let error = b.sub(head, square);
        let rest = b.sub(size, short);
        let sum = b.add(size, short);
        let rest = b.mul(rest, sum);
        let error = b.add(error, rest);
        let zero = b.f32(0.0);
        let error = b.select(small, error, zero);
        let argument = b.add(argument, error);
        let mut sum = None;
        for (&s, &l) in SMALL.iter().zip(&LARGE).rev() {
            let s = b.f32(s);
            let l = b.f32(l);
            let coefficient = b.select(small, s, l);
            sum = Some(match sum {
                None => coefficient,
                Some(sum) => {
                    let product = b.mul(sum, argument);
                    b.add(product, coefficient)
                }
            });
        }
        let sum = sum.expect("a polynomial has coefficients");
        let product = b.mul(size, sum);
        let near = b.add(size, product);
        let root = b.mul(sum, sum);
        let complement = b.mul(root, root);
        let complement = scale(b, complement, LARGE_SCALE);
        let one = b.f32(1.0);
        let far = b.sub(one, complement);
        let result = b.select(small, near, far);
        with_sign_of(b, result, x)
    })
}
