//! The functions of `f64`, by samples.

use std::sync::atomic::AtomicU64;

use loom_ir::eval::batch::{Batch, LANES};
use loom_ir::kernel::scalar::{ScalarFn, UnaryOp};

use crate::measure::{Report, in_parallel};

/// Representable numbers between a result and the reference that are still good: of sigmoid the reference itself may be one
/// off.
pub const fn limit(op: UnaryOp) -> u32 {
    if matches!(op, UnaryOp::Sigmoid) { 2 } else { 1 }
}

/// Measures `function`, the program of `op`, on `count` arguments.
pub fn measure(op: UnaryOp, function: &ScalarFn, count: u64, threads: u64, progress: &AtomicU64) -> Report<f64> {
    in_parallel(count, threads, progress, |range, report| {
        let mut batch = Batch::<u64>::new(function);
        for start in range.clone().step_by(LANES) {
            let lanes = (range.end - start).min(LANES as u64) as usize;
            let arguments = batch.param(0);
            for (lane, argument) in arguments.iter_mut().enumerate() {
                *argument = self::argument(start + lane as u64);
            }
            let arguments = arguments.map(f64::from_bits);
            let results = *batch.run(LANES);
            for (&x, bits) in arguments.iter().zip(results).take(lanes) {
                record(report, x, f64::from_bits(bits), reference(op, x));
            }
        }
    })
}

fn record(report: &mut Report<f64>, x: f64, got: f64, want: f64) {
    report.tried += 1;
    if got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() {
        return;
    }
    if got.is_nan() || want.is_nan() || got.is_sign_negative() != want.is_sign_negative() {
        (report.broken, report.broken_at) = (report.broken + 1, x);
        return;
    }
    report.wrong += 1;
    let steps = u32::try_from(got.to_bits().abs_diff(want.to_bits())).unwrap_or(u32::MAX);
    if steps > report.steps {
        (report.steps, report.steps_at) = (steps, x);
    }
}

/// Argument number `number`: every fourth is any number, the others are from 2^-10 to 2^11 in size, where functions change.
fn argument(number: u64) -> u64 {
    // The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    if number.is_multiple_of(4) {
        return bits;
    }
    let exponent = 1023 - 10 + (number / 4) % 21;
    bits & 0x800f_ffff_ffff_ffff | exponent << 52
}

/// The correctly rounded result; of sigmoid, which core-math does not have, the quotient of correctly rounded terms.
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
