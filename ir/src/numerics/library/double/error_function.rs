//! erf of `f64`.

use super::{at_most, definition, horner, program, test, with_sign_of};
use crate::kernel::scalar::{CompareOp, ScalarFn, UnaryOp};

/// P with `erf(x) = x + x P(x^2)` on [0, 1]: Remez with weight x / erf(x), rounded. Relative error: 2^-56.1, nearly all of
/// it the coefficients' rounding.
const SMALL: [f64; 13] = [
    f64::from_bits(0x3fc0_6eba_8214_db69),
    f64::from_bits(0xbfd8_1274_6b03_79e6),
    f64::from_bits(0x3fbc_e2f2_1a04_2b21),
    f64::from_bits(0xbf9b_82ce_3128_49af),
    f64::from_bits(0x3f75_65bc_d0db_0530),
    f64::from_bits(0xbf4c_02db_3d8f_264e),
    f64::from_bits(0x3f1f_9a32_1a19_5b8a),
    f64::from_bits(0xbeef_4d1d_f402_7375),
    f64::from_bits(0x3ebb_9def_1de3_ea61),
    f64::from_bits(0xbe85_f1d3_8354_364c),
    f64::from_bits(0x3e4f_7a41_b672_20b2),
    f64::from_bits(0xbe13_86ac_c13e_e35a),
    f64::from_bits(0x3dd0_579a_0868_ef69),
];

/// G with `erfc(x) = e^(-x^2) G(t)`, `t = (x - 2)/(x + 2)`, on [1, 6]: Remez with weight e^(-x^2), rounded. Absolute error
/// of erf before that: 2^-59.1.
const LARGE: [f64; 16] = [
    f64::from_bits(0x3fd0_5867_1b52_c776),
    f64::from_bits(0xbfdb_5703_4efd_3f65),
    f64::from_bits(0x3fce_eea7_dc8a_7927),
    f64::from_bits(0xbfb4_37f0_b68c_3fcc),
    f64::from_bits(0x3f6e_9471_5965_efb5),
    f64::from_bits(0x3f7c_a95e_d61f_cb92),
    f64::from_bits(0xbf4b_c25a_36df_0ebe),
    f64::from_bits(0xbf50_16b6_4802_d441),
    f64::from_bits(0x3f06_d5d7_9870_e58b),
    f64::from_bits(0x3f26_dada_21fc_122d),
    f64::from_bits(0x3efc_deab_a0d8_70e2),
    f64::from_bits(0xbefd_000c_57cb_4c3d),
    f64::from_bits(0xbeed_56fa_c5c2_1963),
    f64::from_bits(0x3ebe_348b_849a_716a),
    f64::from_bits(0x3ecf_0fa7_f537_fb68),
    f64::from_bits(0x3e8c_08fa_4897_c9dd),
];

/// The error function.
pub(super) fn erf() -> ScalarFn {
    program(|b, x| {
        let size = b.unary(UnaryOp::Abs, x);
        // erf(6) is above 1 - 2^-54.
        let size = at_most(b, size, 6.0);
        let square = b.mul(size, size);
        let p = horner(b, square, &SMALL);
        let p = b.mul(size, p);
        let near = b.add(size, p);

        let two = b.f64(2.0);
        let n = b.sub(size, two);
        let d = b.add(size, two);
        let t = b.div(n, d);
        let g = horner(b, t, &LARGE);
        let exponent = b.unary(UnaryOp::Neg, square);
        let exp = definition(UnaryOp::Exp).expect("exp is defined on f64");
        let e = b.call(exp, &[exponent]);
        let rest = b.mul(e, g);
        let one = b.f64(1.0);
        let far = b.sub(one, rest);
        let small = test(b, CompareOp::Lt, size, 1.0);
        let result = b.select(small, near, far);
        with_sign_of(b, result, x)
    })
}
