//! erf.

use crate::kernel::scalar::{CompareOp, ScalarFn};
use crate::numerics::emit::{abs, at_most, scale, test, unary_program, with_sign_of};
use crate::types::DType;

/// Where the polynomials meet: up to here the square of x is at most 2^-25 off.
const SPLIT: f32 = 1.0;

/// x^2 is counted from here: the difference is exact from 1/4 on, and at most 1/2 in size, so that it rounds by 2^-26.
const SMALL_CENTRE: f32 = 0.5;

/// P(0) of [`SMALL`].
const SMALL_VALUE: f32 = f32::from_bits(0xbd0d_70a7);

/// P with `erf(x) = x + x P(x^2 - SMALL_CENTRE)` on [0, SPLIT], less [`SMALL_VALUE`] and divided by its argument:
/// minimax in the relative error, by linear programming, each coefficient rounded to `f32` and the rest fitted again.
/// Relative error of erf: 2^-30.2.
const SMALL: [f32; 8] = [
    f32::from_bits(0xbe8f_e8b1),
    f32::from_bits(0x3da2_a1ba),
    f32::from_bits(0xbc95_c8af),
    f32::from_bits(0x3b64_0929),
    f32::from_bits(0xba12_7e9b),
    f32::from_bits(0x38ac_4eb9),
    f32::from_bits(0xb77e_1384),
    f32::from_bits(0xb6b9_a7c3),
];

/// A number near 9/8 whose erf is within 2^-34 of an `f32`: so close that nothing need be added to it.
const LARGE_CENTRE: f32 = f32::from_bits(0x3f8f_fea6);

/// erf at [`LARGE_CENTRE`].
const LARGE_VALUE: f32 = f32::from_bits(0x3f63_6c8d);

/// D with `erfc(LARGE_CENTRE + t) = (1 - LARGE_VALUE) (1 + t D(t))^4` on [SPLIT, 4]: the fourth root of erfc is so
/// smooth that as many coefficients do as for [`SMALL`]. Made like those, for the least absolute error of erf:
/// 2^-26.6.
const LARGE: [f32; 8] = [
    f32::from_bits(0xbf36_7fb7),
    f32::from_bits(0x3d22_6ce2),
    f32::from_bits(0x3daa_89dd),
    f32::from_bits(0xbc41_5d96),
    f32::from_bits(0xbc00_661c),
    f32::from_bits(0x3b1a_ae16),
    f32::from_bits(0xb7c1_337f),
    f32::from_bits(0xb82b_2b8c),
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
        let product = b.mul(sum, argument);

        let value = b.f32(SMALL_VALUE);
        let p = b.add(product, value);
        let p = b.mul(size, p);
        let near = b.add(size, p);

        // 1 - (1 - v)(1 + d)^4 = v - (1 - v)((1 + d)^4 - 1): the rounding errors are those of numbers that are small
        // where erfc is large, not of numbers near 1. Twice (1 + d)^2 - 1 = d (d + 2).
        let two = b.f32(2.0);
        let factor = b.add(product, two);
        let squared = b.mul(product, factor);
        let factor = b.add(squared, two);
        let fourth = b.mul(squared, factor);
        let change = scale(b, fourth, 1.0 - LARGE_VALUE);
        let value = b.f32(LARGE_VALUE);
        let far = b.sub(value, change);
        let result = b.select(small, near, far);
        with_sign_of(b, result, x)
    })
}
