//! The error of a function over a range of arguments.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use loom_ir::kernel::scalar::{ScalarFn, UnaryOp};

use crate::batch::{Batch, LANES};
use crate::reference::{exact, rounded};

/// What a sweep found; `A` is the type of an argument.
#[derive(Debug, Clone, Default)]
pub struct Report<A> {
    /// Arguments tried.
    pub tried: u64,
    /// Results that aren't the correctly rounded ones.
    pub wrong: u64,
    /// The largest distance to the correctly rounded result, in representable numbers.
    pub steps: u32,
    /// Where.
    pub steps_at: A,
    /// The largest error in units of the last place of the exact value.
    pub error: f64,
    /// Where.
    pub error_at: A,
    /// Arguments whose result is NaN where it shouldn't be, or the other way round, or has the wrong sign.
    pub broken: u64,
    /// One of those.
    pub broken_at: A,
}

impl<A: Copy> Report<A> {
    fn add(&mut self, other: &Report<A>) {
        self.tried += other.tried;
        self.wrong += other.wrong;
        if other.steps > self.steps {
            (self.steps, self.steps_at) = (other.steps, other.steps_at);
        }
        if other.error > self.error {
            (self.error, self.error_at) = (other.error, other.error_at);
        }
        if other.broken > 0 {
            (self.broken, self.broken_at) = (self.broken + other.broken, other.broken_at);
        }
    }

    /// Compares a result with the correctly rounded one; `exact` gives more of it where that matters.
    pub fn record(&mut self, argument: A, got: f32, want: f32, exact: impl FnOnce() -> f64) {
        self.tried += 1;
        if got.to_bits() == want.to_bits() {
            // Within half a unit: no candidate for the largest error.
            return;
        }
        if got.is_nan() && want.is_nan() {
            return;
        }
        if got.is_nan() || want.is_nan() || got.is_sign_negative() != want.is_sign_negative() {
            self.broken += 1;
            self.broken_at = argument;
            return;
        }
        self.wrong += 1;
        let steps = got.to_bits().abs_diff(want.to_bits());
        if steps > self.steps {
            (self.steps, self.steps_at) = (steps, argument);
        }
        let truth = exact();
        // An infinity stands for the first number that is none.
        let limit = f64::powi(2.0, 128);
        let error = (f64::from(got).clamp(-limit, limit) - truth).abs() / unit(truth);
        if error > self.error {
            (self.error, self.error_at) = (error, argument);
        }
    }
}

/// The distance of the `f32` values around `value`.
fn unit(value: f64) -> f64 {
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    f64::powi(2.0, exponent.clamp(-126, 127) - 23)
}

/// Measures `function`, the program of `op`, on every `stride`-th argument. `progress` counts arguments.
pub fn measure(op: UnaryOp, function: &ScalarFn, stride: u64, threads: u64, progress: &AtomicU64) -> Report<f32> {
    let total = (1u64 << 32).div_ceil(stride);
    in_parallel(total, threads, progress, |range, report| {
        let mut batch = Batch::new(function);
        for start in range.clone().step_by(LANES) {
            let count = (range.end - start).min(LANES as u64) as usize;
            let arguments = batch.param(0);
            for (lane, argument) in arguments.iter_mut().enumerate() {
                *argument = ((start + lane as u64) * stride) as u32;
            }
            let arguments = arguments.map(f32::from_bits);
            let results = batch.run();
            for (&argument, &result) in arguments.iter().zip(results).take(count) {
                report.record(argument, f32::from_bits(result), rounded(op, argument), || exact(op, argument));
            }
        }
    })
}

/// Splits `total` cases among threads, some at a time, and joins what `sweep` reports of each range.
pub fn in_parallel<A: Copy + Default + Send>(
    total: u64,
    threads: u64,
    progress: &AtomicU64,
    sweep: impl Fn(Range<u64>, &mut Report<A>) + Sync,
) -> Report<A> {
    let chunk = 1u64 << 20;
    let next = AtomicU64::new(0);
    let mut report = Report::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut report = Report::default();
                    loop {
                        let start = next.fetch_add(chunk, Ordering::Relaxed);
                        if start >= total {
                            return report;
                        }
                        let end = total.min(start + chunk);
                        sweep(start..end, &mut report);
                        progress.fetch_add(end - start, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for worker in workers {
            report.add(&worker.join().expect("a worker does not panic"));
        }
    });
    report
}
