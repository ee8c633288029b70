//! How long the steps of a run take, by this machine's clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::CpuExecutor;
use crate::executor::{ExecuteError, Profile};
use crate::fp_env::FpEnv;

impl CpuExecutor {
    /// Runs so many rounds, at least one, and gives the median time of each step.
    pub(super) fn profile_steps(&mut self, inputs: &[&[u32]], rounds: usize) -> Result<Profile, ExecuteError> {
        let mut outputs: Vec<Vec<u32>> =
            self.program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
        let mut outputs: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let mut times = vec![Vec::with_capacity(rounds); self.steps.len()];
        let mut empty = Vec::with_capacity(rounds);
        // What the first round finds in no cache yet isn't what the others take.
        for round in 0..=rounds.max(1) {
            let begun = Instant::now();
            self.bind(Some((inputs, &mut outputs)))?;
            FpEnv::run(|| black_box(()));
            let bound = begun.elapsed();
            FpEnv::run(|| {
                for (step, times) in self.steps.iter().zip(&mut times) {
                    let begun = Instant::now();
                    // SAFETY: as in `run`.
                    unsafe { self.run_step(step) };
                    let time = begun.elapsed();
                    if round > 0 {
                        times.push(time);
                    }
                }
            });
            empty.push(bound);
        }
        let steps = self.steps.iter().cloned().zip(times.into_iter().map(median)).collect();
        Ok(Profile { empty: median(empty), steps })
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
