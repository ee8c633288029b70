//! How long the steps of a run take by the device's own clock.
//!
//! Each step is a compute pass of its own with a timestamp before and after it. A pass waits for the one before, so the
//! times are those of steps that have the device to themselves; their sum is a little more than a run takes, in which
//! the passes are one.

use std::time::{Duration, Instant};

use super::device::Context;
use super::executor::{Ready, compute_pass, encoder, fetch};
use super::memory::Place;
use crate::executor::{ExecuteError, Profile};

/// Steps of one query set, two timestamps each.
const STEPS: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Bytes of a timestamp.
const TICK: u64 = 8;

impl Ready {
    /// Runs once on inputs and gives the time of each step; `None` where the device has no timestamps.
    pub fn profile(&mut self, context: &Context, inputs: &[&[u32]]) -> Result<Option<Profile>, ExecuteError> {
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
        let begun = Instant::now();
        context.scoped(|| context.queue.submit([encoder(context).finish()]))?;
        context.wait()?;
        let empty = begun.elapsed();

        let steps: Vec<_> = self.program().steps().collect();
        let period = f64::from(context.queue.get_timestamp_period());
        let mut times = Vec::with_capacity(steps.len());
        let mut bits = Vec::new();
        for steps in steps.chunks(STEPS) {
            let count = 2 * steps.len() as u32;
            let bytes = u64::from(count) * TICK;
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let ticks = context.buffer("timestamps", bytes, usage, false)?;
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
                encoder.resolve_query_set(&queries, 0..count, &ticks, 0);
                context.queue.submit([encoder.finish()]);
            })?;
            fetch(context, &Place { buffer: ticks, offset: 0, bytes }, &mut bits)?;
            times.extend(bits.chunks_exact(4).map(|words| {
                let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
                let passed = tick(words[2], words[3]).saturating_sub(tick(words[0], words[1]));
                Duration::from_nanos((passed as f64 * period) as u64)
            }));
        }
        Ok(Some(Profile { empty, steps: steps.into_iter().zip(times).collect() }))
    }
}
