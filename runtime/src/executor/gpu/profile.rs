//! How long the steps of a run take by the device's own clock.
//!
//! Each step is a compute pass of its own with a timestamp before and after it. A pass waits for the one before, so the
//! times are those of steps that have the device to themselves; their sum is a little more than a run takes, in which
//! the passes are one. Devices slow down when they have little to do: before the rounds that count, and from one to the
//! next, there is no gap.

use std::time::{Duration, Instant};

use loom_ir::kernel::Step;

use super::device::Context;
use super::executor::{Ready, compute_pass, encoder, fetch};
use super::memory::Place;
use crate::executor::{ExecuteError, Profile};

/// Steps of one query set, two timestamps each.
const STEPS: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Bytes of a timestamp.
const TICK: u64 = 8;
/// How long the device is kept busy before the first round.
const BUSY: Duration = Duration::from_millis(200);
/// Runs that it is given at a time, then.
const RUNS: usize = 8;

impl Ready {
    /// Runs on inputs, as often as there are rounds and more, and gives the median time of each step; `None` where the
    /// device has no timestamps.
    pub fn profile(
        &mut self,
        context: &Context,
        inputs: &[&[u32]],
        rounds: usize,
    ) -> Result<Option<Profile>, ExecuteError> {
        if !context.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        self.write_inputs(context, inputs)?;
        context.scoped(|| {
            let mut encoder = encoder(context);
            self.encode_uploads(&mut encoder);
            context.queue.submit([encoder.finish()]);
        })?;
        context.wait()?;
        let rounds = rounds.max(1);
        let empty = median((0..rounds).map(|_| {
            let begun = Instant::now();
            context.scoped(|| context.queue.submit([encoder(context).finish()]))?;
            context.wait()?;
            Ok(begun.elapsed())
        }))?;

        let begun = Instant::now();
        while begun.elapsed() < BUSY {
            context.scoped(|| {
                let mut encoder = encoder(context);
                let mut pass = compute_pass(&mut encoder, None);
                (0..RUNS).for_each(|_| self.encode(&mut pass, self.program().steps()));
                drop(pass);
                context.queue.submit([encoder.finish()]);
            })?;
            context.wait()?;
        }
        let steps: Vec<Step> = self.program().steps().collect();
        let mut stamps = Vec::new();
        for _ in 0..rounds {
            for steps in steps.chunks(STEPS) {
                stamps.push(self.stamped(context, steps)?);
            }
        }
        let period = f64::from(context.queue.get_timestamp_period());
        let mut bits = Vec::new();
        let mut times: Vec<Duration> = Vec::with_capacity(rounds * steps.len());
        for stamps in &stamps {
            fetch(context, stamps, &mut bits)?;
            times.extend(bits.chunks_exact(4).map(|words| {
                let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
                let passed = tick(words[2], words[3]).saturating_sub(tick(words[0], words[1]));
                Duration::from_nanos((passed as f64 * period) as u64)
            }));
        }
        let medians = (0..steps.len()).map(|step| median(times.iter().skip(step).step_by(steps.len()).map(|&t| Ok(t))));
        let steps = steps.iter().cloned().zip(medians).map(|(step, time)| Ok((step, time?)));
        Ok(Some(Profile { empty, steps: steps.collect::<Result<_, ExecuteError>>()? }))
    }

    /// Submits steps, and gives the place where the timestamps before and after each will be.
    fn stamped(&self, context: &Context, steps: &[Step]) -> Result<Place, ExecuteError> {
        let count = 2 * steps.len() as u32;
        let bytes = u64::from(count) * TICK;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let buffer = context.buffer("timestamps", bytes, usage, false)?;
        context.scoped(|| {
            let queries = context.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let mut encoder = encoder(context);
            for (step, first) in steps.iter().zip((0..count).step_by(2)) {
                let stamps = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                };
                self.encode(&mut compute_pass(&mut encoder, Some(stamps)), [step.clone()]);
            }
            encoder.resolve_query_set(&queries, 0..count, &buffer, 0);
            context.queue.submit([encoder.finish()]);
        })?;
        Ok(Place { buffer, offset: 0, bytes })
    }
}

/// The middle one of times; there is at least one.
fn median(times: impl Iterator<Item = Result<Duration, ExecuteError>>) -> Result<Duration, ExecuteError> {
    let mut times: Vec<Duration> = times.collect::<Result<_, _>>()?;
    times.sort();
    Ok(times[times.len() / 2])
}
