//! The error of a function over a range of arguments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use loom_ir::kernel::scalar::{ScalarFn, UnaryOp};

use crate::reference::{exact, rounded};
use loom_ir::eval::batch::{Batch, LANES};

/// What a sweep found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Arguments tried.
    pub tried: u64,
    /// Results that aren't the correctly rounded ones.
    pub wrong: u64,
    /// The largest distance to the correctly rounded result, in representable numbers.
    pub steps: u32,
    /// Where.
    pub steps_at: f32,
    /// The largest error in units of the last place of the exact value.
    pub error: f64,
    /// Where.
    pub error_at: f32,
    /// Arguments whose result is NaN where it shouldn't be, or the other way round, or has the wrong sign.
    pub broken: u64,
    /// One of those.
    pub broken_at: f32,
}

impl Report {
    fn add(&mut self, other: &Report) {
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

    fn record(&mut self, op: UnaryOp, argument: f32, got: f32) {
        self.tried += 1;
        let want = rounded(op, argument);
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
        let truth = exact(op, argument);
        let error = (f64::from(got) - truth).abs() / unit(truth);
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
pub fn measure(op: UnaryOp, function: &ScalarFn, stride: u64, threads: u64, progress: &AtomicU64) -> Report {
    let total = (1u64 << 32).div_ceil(stride);
    let chunk = 1u64 << 20;
    let next = AtomicU64::new(0);
    let mut report = Report::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = Batch::new(function);
                    let mut report = Report::default();
                    loop {
                        let start = next.fetch_add(chunk, Ordering::Relaxed);
                        if start >= total {
                            return report;
                        }
                        let end = total.min(start + chunk);
                        sweep(op, &mut batch, start..end, stride, &mut report);
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

fn sweep(op: UnaryOp, batch: &mut Batch, range: std::ops::Range<u64>, stride: u64, report: &mut Report) {
    let mut start = range.start;
    while start < range.end {
        let count = (range.end - start).min(LANES as u64) as usize;
        let arguments = batch.param(0);
        for (lane, argument) in arguments.iter_mut().enumerate() {
            *argument = ((start + lane as u64) * stride) as u32;
        }
        let arguments = *arguments;
        let results = batch.run(LANES);
        for (&argument, &result) in arguments.iter().zip(results).take(count) {
            report.record(op, f32::from_bits(argument), f32::from_bits(result));
        }
        start += count as u64;
    }
}
