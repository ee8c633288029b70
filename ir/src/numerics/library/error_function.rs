//! erf.

use crate::kernel::scalar::{CompareOp, ScalarFn};
use crate::numerics::emit::{abs, at_most, scale, test, unary_program, with_sign_of};
use crate::types::DType;

/// Where the polynomials meet.
const SPLIT: f32 = 1.125;

/// x^2 is counted from here: the terms are smaller, and so are their rounding errors.
const SMALL_CENTRE: f32 = 0.75;

/// Near [`SPLIT`], where the fourth power weighs errors most.
const LARGE_CENTRE: f32 = 1.125;

/// erfc at [`SPLIT`]: the fourth root of the rest begins just below 1, where `f32` is finest.
const LARGE_SCALE: f32 = 0.111612886;

/// P with `erf(x) = x + x P(x^2 - SMALL_CENTRE)` on [0, SPLIT]: Remez on the relative error, each coefficient rounded to
/// `f32` and the rest fitted again (relative error of erf 2^-29.9), then a random search over neighbouring coefficients
/// for the least error of the program itself.
const SMALL: [f32; 8] = [
    f32::from_bits(0xbdcd_05d8),
    f32::from_bits(0xbe7a_7562),
    f32::from_bits(0x3d89_0cc7),
    f32::from_bits(0xbc77_e939),
    f32::from_bits(0x3b3a_952b),
    f32::from_bits(0xb9ee_8266),
    f32::from_bits(0x3886_1b08),
    f32::from_bits(0xb70c_6e9a),
];

/// R with `erfc(LARGE_CENTRE + t) = LARGE_SCALE R(t)^4` on [SPLIT, 4]: the fourth root of erfc is so smooth that as many
/// coefficients do as for [`SMALL`]. Remez with weight `4 LARGE_SCALE R^3`, then as above. Absolute error of erf: 2^-26.6.
const LARGE: [f32; 8] = [
    f32::from_bits(0x3f7f_ffd6),
    f32::from_bits(0xbf36_80e1),
    f32::from_bits(0x3d22_a360),
    f32::from_bits(0x3daa_0197),
    f32::from_bits(0xbc35_632d),
    f32::from_bits(0xbc11_7380),
    f32::from_bits(0x3b4d_5c2c),
    f32::from_bits(0xb9a1_6678),
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
