use super::*;
use crate::eval::scalar::evaluate;
use crate::kernel::scalar::{BinaryOp, Inst};
use crate::numerics::formats::{Number, Storage};

fn ops() -> impl Iterator<Item = UnaryOp> {
    UnaryOp::ALL.iter().copied().filter(|op| op.is_library())
}

fn call(op: UnaryOp, x: f32) -> f32 {
    let definition = definition(op, DType::F32).expect("a library operation");
    f32::from_bits(evaluate(definition, &[x.to_bits()], &mut Vec::new()))
}

/// Narrowed and widened again.
fn stored(storage: Storage, x: f32) -> f32 {
    match storage.widen(storage.narrow(Number::Float(x.into()))) {
        Number::Float(value) => value as f32,
        Number::Integer(_) => unreachable!("a format of floats"),
    }
}

fn correctly_rounded(op: UnaryOp, x: f32) -> f32 {
    match op {
        UnaryOp::Rsqrt => core_math::rsqrtf(x),
        UnaryOp::Exp => core_math::expf(x),
        UnaryOp::Exp2 => core_math::exp2f(x),
        UnaryOp::Log => core_math::logf(x),
        UnaryOp::Log2 => core_math::log2f(x),
        UnaryOp::Log1p => core_math::log1pf(x),
        UnaryOp::Expm1 => core_math::expm1f(x),
        UnaryOp::Tanh => core_math::tanhf(x),
        UnaryOp::Erf => core_math::erff(x),
        UnaryOp::Sin => core_math::sinf(x),
        UnaryOp::Cos => core_math::cosf(x),
        UnaryOp::RoundF16 => stored(Storage::F16, x),
        UnaryOp::RoundBf16 => stored(Storage::Bf16, x),
        UnaryOp::RoundF8 => stored(Storage::F8, x),
        UnaryOp::RoundF4 => stored(Storage::F4, x),
        // In f64, which is as good but for one result in some 2^28.
        UnaryOp::Sigmoid => {
            let x = f64::from(x);
            let e = core_math::exp(-x.abs());
            (if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }) as f32
        }
        _ => unreachable!("not a library operation"),
    }
}

/// Arguments where a program changes its mind: every power of two, the bounds of its cases, multiples of ln 2 / 2 and
/// of 1/2.
fn neighbourhoods() -> impl Iterator<Item = f32> {
    let powers = (0..=0xff_u32).map(|exponent| exponent << 23);
    let bounds = [
        9.25_f32,
        18.0,
        17.328_68,
        89.0,
        88.722_84,
        104.0,
        103.972_08,
        87.336_55,
        103.278_93,
        4.0,
        0.75,
        1.5,
        0.5,
        0.25,
        2.441_406_3e-4,
        1.0,
        std::f32::consts::FRAC_1_SQRT_2,
        std::f32::consts::SQRT_2,
        126.0,
        149.0,
        150.0,
        151.0,
        129.0,
    ];
    let halves = (1..=302).map(|k| (f64::from(k) * std::f64::consts::LN_2 / 2.0) as f32);
    let steps = (1..=302).map(|k| k as f32 * 0.5);
    let centres = powers.chain(bounds.into_iter().chain(halves).chain(steps).map(f32::to_bits));
    centres
        .flat_map(|bits| (-20..=20).map(move |step| bits.wrapping_add_signed(step)))
        .flat_map(|bits| [f32::from_bits(bits), f32::from_bits(bits ^ 0x8000_0000)])
}

/// The whole range is measured by `loom-ulp`; this is its guard in everyday tests.
#[test]
fn at_most_one_step_from_correctly_rounded() {
    for op in ops() {
        let sample = (0..=u32::MAX).step_by(40_009).map(f32::from_bits);
        // Denser where results are neither saturated nor the argument itself.
        let middle = (-120_000..120_000).map(|k| k as f32 * 9.137_451e-4);
        for x in sample.chain(middle).chain(neighbourhoods()) {
            let got = call(op, x);
            let want = correctly_rounded(op, x);
            let close = got.is_nan() && want.is_nan()
                || got.is_sign_negative() == want.is_sign_negative() && got.to_bits().abs_diff(want.to_bits()) <= 1;
            assert!(close, "{op}({x:e}) = {got:e}, not {want:e}");
        }
    }
}

#[test]
fn exact_where_expected() {
    let infinity = f32::INFINITY;
    let tiny = f32::from_bits(1);
    for (op, x, want) in [
        (UnaryOp::Exp, 0.0, 1.0),
        (UnaryOp::Exp, -0.0, 1.0),
        (UnaryOp::Exp, -infinity, 0.0),
        (UnaryOp::Exp, infinity, infinity),
        (UnaryOp::Exp2, 0.0, 1.0),
        (UnaryOp::Exp2, -0.0, 1.0),
        (UnaryOp::Exp2, 1.0, 2.0),
        (UnaryOp::Exp2, 127.0, 1.701_411_8e38),
        (UnaryOp::Exp2, 128.0, infinity),
        (UnaryOp::Exp2, -149.0, tiny),
        (UnaryOp::Exp2, -150.0, 0.0),
        (UnaryOp::Exp2, -infinity, 0.0),
        (UnaryOp::Exp2, infinity, infinity),
        (UnaryOp::Log, 1.0, 0.0),
        (UnaryOp::Log, 0.0, -infinity),
        (UnaryOp::Log, -0.0, -infinity),
        (UnaryOp::Log, infinity, infinity),
        (UnaryOp::Log, -1.0, f32::NAN),
        (UnaryOp::Log, -tiny, f32::NAN),
        (UnaryOp::Log, -infinity, f32::NAN),
        (UnaryOp::Log2, 1.0, 0.0),
        (UnaryOp::Log2, 8.0, 3.0),
        (UnaryOp::Log2, f32::MIN_POSITIVE, -126.0),
        (UnaryOp::Log2, tiny, -149.0),
        (UnaryOp::Log2, 0.0, -infinity),
        (UnaryOp::Log2, -0.0, -infinity),
        (UnaryOp::Log2, infinity, infinity),
        (UnaryOp::Log2, -tiny, f32::NAN),
        (UnaryOp::Log2, -infinity, f32::NAN),
        (UnaryOp::Log1p, -1.0, -infinity),
        (UnaryOp::Log1p, -1.000_000_1, f32::NAN),
        (UnaryOp::Log1p, infinity, infinity),
        (UnaryOp::Log1p, -infinity, f32::NAN),
        (UnaryOp::Expm1, -infinity, -1.0),
        (UnaryOp::Expm1, infinity, infinity),
        (UnaryOp::Rsqrt, 0.0, infinity),
        (UnaryOp::Rsqrt, -0.0, -infinity),
        (UnaryOp::Rsqrt, infinity, 0.0),
        (UnaryOp::Rsqrt, -tiny, f32::NAN),
        (UnaryOp::Rsqrt, -infinity, f32::NAN),
        (UnaryOp::Rsqrt, 4.0, 0.5),
        (UnaryOp::Sin, infinity, f32::NAN),
        (UnaryOp::Sin, -infinity, f32::NAN),
        (UnaryOp::Sin, tiny, tiny),
        (UnaryOp::Cos, 0.0, 1.0),
        (UnaryOp::Cos, -0.0, 1.0),
        (UnaryOp::Cos, infinity, f32::NAN),
        (UnaryOp::Cos, -infinity, f32::NAN),
        (UnaryOp::Tanh, infinity, 1.0),
        (UnaryOp::Tanh, -infinity, -1.0),
        (UnaryOp::Erf, infinity, 1.0),
        (UnaryOp::Erf, -infinity, -1.0),
        (UnaryOp::Sigmoid, 0.0, 0.5),
        (UnaryOp::Sigmoid, -0.0, 0.5),
        (UnaryOp::Sigmoid, infinity, 1.0),
        (UnaryOp::Sigmoid, -infinity, 0.0),
    ] {
        let got = call(op, x);
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{op}({x:?}) = {got:?}, not {want:?}");
    }
    for op in [UnaryOp::Expm1, UnaryOp::Log1p, UnaryOp::Tanh, UnaryOp::Erf, UnaryOp::Sin] {
        assert_eq!(call(op, 0.0).to_bits(), 0, "{op}(+0)");
        assert_eq!(call(op, -0.0).to_bits(), 0x8000_0000, "{op}(-0)");
    }
}

#[test]
fn powers_of_two_are_exact() {
    for n in -149..=127 {
        let power = f32::from_bits(if n < -126 { 1 << (n + 149) } else { ((n + 127) as u32) << 23 });
        assert_eq!(call(UnaryOp::Exp2, n as f32), power, "exp2({n})");
        assert_eq!(call(UnaryOp::Log2, power), n as f32, "log2 of 2^{n}");
    }
}

#[test]
fn odd_functions_are_odd_to_the_bit() {
    for op in [UnaryOp::Tanh, UnaryOp::Erf, UnaryOp::Sin] {
        for bits in (0..0x7f80_0000_u32).step_by(40_009) {
            let x = f32::from_bits(bits);
            assert_eq!(call(op, -x).to_bits(), call(op, x).to_bits() ^ 0x8000_0000, "{op}({x:e})");
        }
    }
    for bits in (0..0x7f80_0000_u32).step_by(40_009) {
        let x = f32::from_bits(bits);
        assert_eq!(call(UnaryOp::Cos, -x).to_bits(), call(UnaryOp::Cos, x).to_bits(), "cos({x:e})");
    }
}

/// Arguments next to multiples of pi/2, where almost everything cancels, among them the worst `f32` of all.
#[test]
fn circles_are_reduced_exactly() {
    let worst = 16_367_173.0 * 2.0_f32.powi(72);
    let multiples = (1..2000).map(|k| (f64::from(k) * std::f64::consts::FRAC_PI_2) as f32);
    let powers = (0..127).map(|k| (std::f64::consts::FRAC_PI_2 * f64::powi(2.0, k)) as f32);
    for centre in multiples.chain(powers).chain([worst]) {
        for step in -3..=3 {
            let x = f32::from_bits(centre.to_bits().wrapping_add_signed(step));
            for op in [UnaryOp::Sin, UnaryOp::Cos] {
                let (got, want) = (call(op, x), correctly_rounded(op, x));
                let near = got.to_bits().abs_diff(want.to_bits()) <= 1;
                assert!(near || got.is_nan() && want.is_nan(), "{op}({x:e}) = {got:e}, not {want:e}");
            }
        }
    }
}

#[test]
fn nan_gives_nan_whatever_its_payload() {
    for op in ops().filter(|&op| op != UnaryOp::RoundF4) {
        for payload in (0..23).map(|bit| 1_u32 << bit).chain([0x7f_ffff, 0x40_0001, 0x2a_aaaa, 0x55_5555]) {
            for sign in [0, 0x8000_0000] {
                let x = f32::from_bits(0x7f80_0000 | payload | sign);
                assert!(call(op, x).is_nan(), "{op} of {:08x}", x.to_bits());
            }
        }
    }
}

#[test]
fn definitions_are_primitive_programs() {
    let unary = UnaryOp::ALL.iter().map(|&op| (op.name(), op.is_library(), 1, definition(op, DType::F32)));
    let binary = BinaryOp::ALL.iter().map(|&op| (op.name(), op.is_library(), 2, binary_definition(op, DType::F32)));
    for (name, is_library, arity, function) in unary.chain(binary) {
        let Some(function) = function else {
            assert!(!is_library, "{name} has no definition");
            continue;
        };
        assert!(is_library, "{name} has a definition");
        assert_eq!(function.params, vec![crate::types::DType::F32; arity]);
        assert_eq!(function.result_type(), Ok(crate::types::DType::F32));
        for inst in &function.insts {
            let primitive = match inst {
                Inst::Unary(op, _) => matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::LeadingZeros),
                Inst::Binary(op, ..) => {
                    let exact = matches!(op, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Min | BinaryOp::Max);
                    !exact && !op.is_library()
                }
                _ => true,
            };
            assert!(primitive, "{name} uses {inst:?}");
        }
    }
}
