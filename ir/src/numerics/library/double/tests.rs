use super::*;
use crate::eval::batch::{Batch, LANES};
use crate::eval::scalar::evaluate;
use crate::kernel::scalar::Inst;

/// Representable numbers that a result may be away from the correctly rounded one.
const STEPS: u64 = 1;

const OPS: [UnaryOp; 8] = [
    UnaryOp::Rsqrt,
    UnaryOp::Exp,
    UnaryOp::Expm1,
    UnaryOp::Tanh,
    UnaryOp::Sigmoid,
    UnaryOp::Log,
    UnaryOp::Log1p,
    UnaryOp::Erf,
];

fn call(op: UnaryOp, x: f64) -> f64 {
    let definition = definition(op).expect("a library operation");
    f64::from_bits(evaluate(definition, &[x.to_bits()], &mut Vec::new()))
}

/// The correctly rounded result, but for sigmoid, of which there is no reference: about one unit off at most, from the
/// correctly rounded exponential by a division and a sum.
fn reference(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Rsqrt => core_math::rsqrt(x),
        UnaryOp::Exp => core_math::exp(x),
        UnaryOp::Expm1 => core_math::expm1(x),
        UnaryOp::Tanh => core_math::tanh(x),
        UnaryOp::Log => core_math::log(x),
        UnaryOp::Log1p => core_math::log1p(x),
        UnaryOp::Erf => core_math::erf(x),
        UnaryOp::Sigmoid => {
            let e = core_math::exp(-x.abs());
            if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
        }
        _ => unreachable!("not a function of f64"),
    }
}

/// Numbers of every size and sign, those of the sizes where the functions change thrice; then where programs change their
/// mind, with neighbours.
fn arguments() -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let mut list = Vec::new();
    for _ in 0..100_000 {
        let bits = next();
        list.push(f64::from_bits(bits));
        // 2^-8 to 2^10.
        for _ in 0..3 {
            let exponent = 1023 - 8 + (next() >> 33) % 18;
            list.push(f64::from_bits(bits & 0x800f_ffff_ffff_ffff | exponent << 52));
        }
    }
    let bounds = [
        1.0,
        6.0,
        20.0,
        39.0,
        708.4,
        709.78,
        710.0,
        744.44,
        745.13,
        746.0,
        0.292_893_218_813_452_4,
        0.414_213_562_373_095_03,
        2.0,
        0.5,
        std::f64::consts::SQRT_2,
        std::f64::consts::FRAC_1_SQRT_2,
    ];
    let halves = (1..=2200).map(|k| f64::from(k) * std::f64::consts::LN_2 / 2.0);
    let powers = (0..0x7ff_u64).map(|exponent| f64::from_bits(exponent << 52));
    for centre in bounds.into_iter().chain(halves).chain(powers) {
        for step in -3..=3_i64 {
            let x = f64::from_bits(centre.to_bits().saturating_add_signed(step));
            list.extend([x, -x]);
        }
    }
    list
}

#[test]
fn results_are_next_to_the_correctly_rounded_ones() {
    let arguments = arguments();
    for op in OPS {
        // Of sigmoid the reference may be a step off itself.
        let most = if op == UnaryOp::Sigmoid { STEPS + 1 } else { STEPS };
        let mut batch = Batch::<u64>::new(definition(op).expect("a function of f64"));
        for some in arguments.chunks(LANES) {
            for (lane, x) in batch.param(0).iter_mut().zip(some) {
                *lane = x.to_bits();
            }
            let results = *batch.run(some.len());
            for (&x, bits) in some.iter().zip(results) {
                let (got, want) = (f64::from_bits(bits), reference(op, x));
                let steps = got.to_bits().abs_diff(want.to_bits());
                assert!(steps <= most || got.is_nan() && want.is_nan(), "{op}({x:e}) = {got:e}, not {want:e}");
            }
        }
    }
}

/// Of sigmoid against its own formula in many digits, at some arguments (by mpmath 1.3 with 60 of them, rounded).
#[test]
fn sigmoid_is_that_of_many_digits() {
    for (x, want) in SIGMOIDS {
        let got = call(UnaryOp::Sigmoid, x);
        assert!(got.to_bits().abs_diff(want) <= STEPS, "sigmoid({x}) = {got:e}, not {:e}", f64::from_bits(want));
    }
}

#[test]
fn zeros_infinities_and_nans_are_as_ieee_754_has_them() {
    let infinity = f64::INFINITY;
    for (op, x, want) in [
        (UnaryOp::Rsqrt, 0.0, infinity),
        (UnaryOp::Rsqrt, -0.0, -infinity),
        (UnaryOp::Rsqrt, infinity, 0.0),
        (UnaryOp::Rsqrt, -1.0, f64::NAN),
        (UnaryOp::Exp, 0.0, 1.0),
        (UnaryOp::Exp, infinity, infinity),
        (UnaryOp::Exp, -infinity, 0.0),
        (UnaryOp::Expm1, -0.0, -0.0),
        (UnaryOp::Expm1, infinity, infinity),
        (UnaryOp::Expm1, -infinity, -1.0),
        (UnaryOp::Tanh, -0.0, -0.0),
        (UnaryOp::Tanh, infinity, 1.0),
        (UnaryOp::Tanh, -infinity, -1.0),
        (UnaryOp::Sigmoid, -0.0, 0.5),
        (UnaryOp::Sigmoid, infinity, 1.0),
        (UnaryOp::Sigmoid, -infinity, 0.0),
        (UnaryOp::Log, 1.0, 0.0),
        (UnaryOp::Log, -0.0, -infinity),
        (UnaryOp::Log, infinity, infinity),
        (UnaryOp::Log, -1.0, f64::NAN),
        (UnaryOp::Log1p, -0.0, -0.0),
        (UnaryOp::Log1p, -1.0, -infinity),
        (UnaryOp::Log1p, infinity, infinity),
        (UnaryOp::Log1p, -1.5, f64::NAN),
        (UnaryOp::Erf, -0.0, -0.0),
        (UnaryOp::Erf, infinity, 1.0),
        (UnaryOp::Erf, -infinity, -1.0),
    ] {
        let got = call(op, x);
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "{op}({x:?}) = {got:?}, not {want:?}"
        );
    }
    for op in OPS {
        for nan in [0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0001, 0x7ff0_0000_0000_0001] {
            assert!(call(op, f64::from_bits(nan)).is_nan(), "{op} of a NaN");
        }
    }
}

#[test]
fn odd_functions_are_odd_to_the_bit() {
    for x in arguments().into_iter().filter(|x| !x.is_nan()).step_by(7) {
        for op in [UnaryOp::Tanh, UnaryOp::Erf] {
            assert_eq!(call(op, -x).to_bits(), call(op, x).to_bits() ^ SIGN, "{op}({x:e})");
        }
    }
}

#[test]
fn every_function_says_that_it_is_there() {
    for &op in UnaryOp::ALL {
        assert_eq!(has(op), definition(op).is_some(), "{op}");
        if let Some(function) = definition(op) {
            assert_eq!(function.params, [DType::F64], "{op}");
            assert_eq!(function.result_type(), Ok(DType::F64), "{op}");
            let library = |inst: &Inst| matches!(inst, Inst::Unary(op, _) if op.is_library());
            assert!(!function.insts.iter().any(library), "{op} is a straight line");
        }
    }
}

#[rustfmt::skip]
const SIGMOIDS: [(f64, u64); 80] = [
    (-745.0, 0x0000_0000_0000_0001),
    (-700.5, 0x00c4_ff47_5c68_ca02),
    (-40.25, 0x3c4e_8443_0d66_e9fb),
    (-37.0, 0x3c98_9847_1fca_6054),
    (-10.1, 0x3f05_8960_ca03_4807),
    (-3.3, 0x3fa2_3663_0d36_2b36),
    (-1.0, 0x3fd1_3656_1454_ba86),
    (-0.5, 0x3fd8_29a0_5659_78df),
    (-0.1, 0x3fde_66bd_b1ac_a090),
    (-1e-09, 0x3fdf_ffff_ffbb_47d0),
    (1e-09, 0x3fe0_0000_0022_5c18),
    (0.1, 0x3fe0_cca1_2729_afb8),
    (0.34657, 0x3fe2_bec1_5f4f_d39a),
    (0.5, 0x3fe3_eb2f_d4d3_4391),
    (1.0, 0x3fe7_64d4_f5d5_a2bd),
    (1.7, 0x3feb_0e9e_dc43_24d8),
    (3.3, 0x3fee_dc99_cf2c_9d4d),
    (10.1, 0x3fef_ffa9_da7c_d7f3),
    (20.0, 0x3fef_ffff_fee4_b79b),
    (36.7, 0x3fef_ffff_ffff_ffff),
    (7.374102, 0x3fef_fadd_4d80_4631),
    (14.507219, 0x3fef_fffe_f32d_9e01),
    (17.711614, 0x3fef_ffff_f517_1c88),
    (26.547017, 0x3fef_ffff_ffff_97fa),
    (14.393914, 0x3fef_fffe_d2ed_3dd0),
    (25.3395, 0x3fef_ffff_fffe_a407),
    (-28.259686, 0x3d62_c391_cbcb_a789),
    (-2.062641, 0x3fbc_df3c_2d6d_2485),
    (26.601403, 0x3fef_ffff_ffff_9d7c),
    (8.938473, 0x3fef_feec_cd9d_0df2),
    (24.05403, 0x3fef_ffff_fffb_159b),
    (-23.207642, 0x3dd6_eb2c_741c_0da8),
    (-1.855857, 0x3fc1_4dcc_1866_ca21),
    (-15.20563, 0x3e90_b691_aadb_a9c0),
    (2.625652, 0x3fed_d6fe_6b10_fb5d),
    (4.436471, 0x3fef_a029_1ae1_c085),
    (-29.213149, 0x3d4c_ed42_bca3_ba63),
    (-16.996212, 0x3e66_4f7b_230b_cd5f),
    (-13.231058, 0x3ebe_1931_c748_0cce),
    (24.980722, 0x3fef_ffff_fffe_0dda),
    (15.943527, 0x3fef_ffff_c012_b305),
    (-20.423747, 0x3e17_2de2_ce1b_4226),
    (17.828819, 0x3fef_ffff_f64b_ff39),
    (-21.673955, 0x3dfa_8eee_cee9_a406),
    (7.047151, 0x3fef_f8e1_4e9f_fc79),
    (-22.398046, 0x3de9_bfc5_06e0_5c64),
    (-29.893508, 0x3d3d_4c91_9071_c44b),
    (22.284285, 0x3fef_ffff_ffe3_2607),
    (-17.432617, 0x3e5c_d74c_8a2b_2840),
    (-17.07113, 0x3e64_b339_4d1a_0d12),
    (1.929684, 0x3feb_f15f_686a_9873),
    (1.489631, 0x3fea_1cdc_0476_ee72),
    (-0.842779, 0x3fd3_42c3_05f5_0ed1),
    (1.845912, 0x3feb_a2fd_cbd6_a936),
    (0.156894, 0x3fe1_40a9_51df_f779),
    (0.711322, 0x3fe5_7651_9a10_4598),
    (-1.180882, 0x3fce_10fe_bab3_cc4c),
    (1.763904, 0x3feb_517e_54c6_e4a9),
    (0.762568, 0x3fe5_d237_0c47_b13f),
    (1.866257, 0x3feb_b679_31bd_356d),
    (1.574967, 0x3fea_82fe_9851_0019),
    (-0.804844, 0x3fd3_c67f_3aed_63e3),
    (-0.55524, 0x3fd7_566b_0c39_6286),
    (-1.336176, 0x3fca_a451_a8be_eeff),
    (-1.417192, 0x3fc8_f91b_9908_8431),
    (-1.739441, 0x3fc3_1f03_69d8_9e90),
    (-0.794564, 0x3fd3_ea87_7ed5_4c49),
    (0.41244, 0x3fe3_40e7_5122_f2c3),
    (-1.986468, 0x3fbe_e1ac_e30d_ffef),
    (0.711737, 0x3fe5_7711_cf5a_9511),
    (-0.648413, 0x3fd5_f966_c1ec_f25b),
    (-0.760168, 0x3fd4_641a_53f6_5704),
    (1.274072, 0x3fe9_018c_621a_30ce),
    (-0.077019, 0x3fde_c4af_9f96_6d71),
    (-0.736828, 0x3fd4_b778_7ec5_4e72),
    (-0.075126, 0x3fde_cc6d_b568_e8be),
    (0.818677, 0x3fe6_34e2_058c_8d29),
    (-1.771996, 0x3fc2_9900_c7ab_8fe3),
    (1.900398, 0x3feb_d685_34e6_23e0),
    (-1.908538, 0x3fc0_87d4_5e55_a1d8),
];
