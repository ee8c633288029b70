//! pow on pairs of arguments: 2^64 of them are too many, so the cases here are those where it is hard.

use std::sync::atomic::AtomicU64;

use loom_ir::kernel::scalar::ScalarFn;

use crate::batch::{Batch, LANES};
use crate::expansions::scramble;
use crate::measure::{Report, in_parallel};

/// Floats at every edge of pow's definition.
const SPECIAL: [f32; 24] = [
    0.0,
    1.0e-45,
    5.877_472e-39,
    1.175_494_2e-38,
    f32::MIN_POSITIVE,
    5.960_464_5e-8,
    0.333_333_34,
    0.5,
    0.999_999_94,
    1.0,
    1.000_000_1,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    8_388_607.5,
    8_388_609.0,
    16_777_215.0,
    16_777_216.0,
    33_554_432.0,
    f32::MAX,
    f32::INFINITY,
    f32::NAN,
];

/// Measures `function`, the program of pow, on `count` pairs. `progress` counts them.
pub fn measure(function: &ScalarFn, count: u64, threads: u64, progress: &AtomicU64) -> Report<[f32; 2]> {
    in_parallel(count, threads, progress, |range, report| {
        let mut batch = Batch::new(function);
        for start in range.clone().step_by(LANES) {
            let used = (range.end - start).min(LANES as u64) as usize;
            let mut arguments = [[0.0; 2]; LANES];
            for (lane, argument) in arguments.iter_mut().enumerate() {
                *argument = pair(start + lane as u64);
                batch.param(0)[lane] = argument[0].to_bits();
                batch.param(1)[lane] = argument[1].to_bits();
            }
            let results = batch.run();
            for (&[x, y], &result) in arguments.iter().zip(results).take(used) {
                // A signalling NaN is a NaN as any other to Loom, but not to C.
                let [a, b] = [x, y].map(|value| if value.is_nan() { f32::NAN } else { value });
                let exact = || core_math::pow(f64::from(a), f64::from(b));
                report.record([x, y], f32::from_bits(result), core_math::powf(a, b), exact);
            }
        }
    })
}

/// Pair number `number`: eight families take turns.
fn pair(number: u64) -> [f32; 2] {
    let random = scramble(number);
    let (low, high) = (random as u32, (random >> 32) as u32);
    // In [0, 1), from the bits that the base does not use.
    let fraction = f64::from(low) / f64::powi(2.0, 32);
    let any_base = f32::from_bits(high % 0x7f80_0000);
    match number % 8 {
        // Anything, NaN and infinities included.
        0 => [f32::from_bits(high), f32::from_bits(low)],
        // Any base, any finite result.
        1 => [any_base, exponent_for(any_base, fraction * 282.0 - 153.0)],
        // A base near 1, at a distance of 2^-24 to 1/2.
        2 => {
            let distance = f32::from_bits((103 + high % 23) << 23 | high >> 9);
            let base = if high & 0x100 == 0 { 1.0 + distance } else { 1.0 - distance };
            [base, exponent_for(base, fraction * 282.0 - 153.0)]
        }
        // Results where numbers end, subnormal ones begin, and the smallest is.
        3 => {
            let edge = [128.0, -126.0, -149.0, -150.0][(high & 3) as usize];
            let base = if high & 4 == 0 { any_base } else { 0.5 + (high >> 8) as f32 * f32::EPSILON };
            [base, exponent_for(base, edge + (fraction - 0.5) * f64::powi(2.0, -(low as i32 & 31)))]
        }
        // Bases and exponents of few bits: exact results, midpoints between two floats, and their neighbours.
        4 => {
            let bits = 1 + high % 24;
            let base = ((high >> 8) >> (24 - bits)) as f32;
            let base = if low & 1 == 0 { base } else { base * f32::powi(2.0, (low >> 8) as i32 % 97 - 48) };
            let base = f32::from_bits(base.to_bits().wrapping_add((low >> 1) % 3).wrapping_sub(1) & 0x7fff_ffff);
            let exponents =
                [0.5, 0.25, 1.0 / 3.0, 2.0 / 3.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 13.0, 24.0];
            let exponent = exponents[(low >> 3 & 15) as usize];
            [base, if low & 128 == 0 { exponent } else { -exponent }]
        }
        // A power of a negative number.
        5 => {
            let exponent = exponent_for(any_base, fraction * 282.0 - 153.0);
            [-any_base, if high & 7 == 0 { exponent } else { exponent.round() }]
        }
        // Every special value with every other, signs and neighbours.
        6 => {
            let turn = (number / 8) as usize;
            let (x, y) = (SPECIAL[turn % 24], SPECIAL[turn / 24 % 24]);
            let x = f32::from_bits(x.to_bits().wrapping_add(low % 3).wrapping_sub(1));
            let y = f32::from_bits(y.to_bits().wrapping_add((low >> 8) % 3).wrapping_sub(1));
            [if high & 1 == 0 { x } else { -x }, if high & 2 == 0 { y } else { -y }]
        }
        // Exponents so small that the result is next to 1.
        _ => [any_base, exponent_for(any_base, (fraction - 0.5) * f64::powi(2.0, -(high as i32 & 31)))],
    }
}

/// The exponent that makes about `2^result` of `base`.
fn exponent_for(base: f32, result: f64) -> f32 {
    (result / f64::from(base).log2()) as f32
}
