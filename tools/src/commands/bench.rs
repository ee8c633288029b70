//! `loomc bench`.

use std::time::{Duration, Instant};

use loom_runtime::executor::tier::Tier;
use loom_runtime::session::Session;
use loom_runtime::tensors::Tensor;
use serde::Serialize;

use crate::cli::Bench;
use crate::failure::Failure;
use crate::model::{self, Model, Seconds};
use crate::progress::Progress;
use crate::{flops, format, stdout};

/// Without --runs, at least this many runs …
const LEAST_RUNS: usize = 10;
/// … and at least this much time.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// The fields of `loomc bench --json`, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    network: &'a str,
    device: &'static str,
    /// Of the device gpu: `strict`, `guarded` or `soft`.
    tier: Option<&'static str>,
    /// Samples of one run.
    samples: u64,
    /// Runs measured, after one that was not.
    runs: usize,
    median_seconds: f64,
    min_seconds: f64,
    /// Samples over the median.
    samples_per_second: f64,
    /// Float operations over the median.
    flops_per_second: f64,
    /// How long the parts before took; `run` is all runs together.
    seconds: Seconds,
}

pub fn bench(args: &Bench) -> Result<(), Failure> {
    let mut model = Model::load(&args.model)?;
    let input = model.input(args.input.as_deref())?;
    let mut session = model.session(&args.device)?;
    let slices = model::slices(&session, &input, args.input.as_deref())?;
    let (samples, batches) = (slices.samples(), slices.count() as u64);

    let begun = Instant::now();
    let mut times = measure(&mut session, &input, args.runs)?;
    model.times.run = begun.elapsed();
    times.sort();
    let median = times[times.len() / 2];
    let min = times[0];
    let flops = flops::of_program(session.program()).saturating_mul(batches) as f64;
    let report = Report {
        network: &model.artifact.program().name,
        device: session.device().name(),
        tier: session.tier().map(Tier::name),
        samples,
        runs: times.len(),
        median_seconds: median.as_secs_f64(),
        min_seconds: min.as_secs_f64(),
        samples_per_second: samples as f64 / median.as_secs_f64(),
        flops_per_second: flops / median.as_secs_f64(),
        seconds: model.times.into(),
    };
    if args.json {
        return stdout::json("bench", &report);
    }
    stdout::print(&format!(
        "{} on {}: median {}, fastest {} of {} of {}\n{}samples/s, {}flop/s; code made in {}\n",
        if report.network.is_empty() { "network" } else { report.network },
        model::device_name(session.device(), session.tier()),
        format::time(median),
        format::time(min),
        format::counted(report.runs as u64, "run"),
        format::counted(samples, "sample"),
        format::rate(report.samples_per_second),
        format::rate(report.flops_per_second),
        format::time(model.times.codegen),
    ))
}

/// The times of repeated runs, the first left out; at least one.
fn measure(session: &mut Session, input: &[Tensor], runs: Option<u32>) -> Result<Vec<Duration>, Failure> {
    let mut progress = Progress::new("bench");
    let slices = session.slices(input)?;
    let mut padded = slices.scratch();
    let batches: Vec<Vec<Vec<u32>>> = (0..slices.count())
        .map(|index| slices.inputs(index, &mut padded).into_iter().map(<[u32]>::to_vec).collect())
        .collect();
    let inputs: Vec<Vec<&[u32]>> = batches.iter().map(|batch| batch.iter().map(Vec::as_slice).collect()).collect();
    let mut state = if slices.carries() { Some(session.start()?) } else { None };
    let mut outputs: Vec<Vec<u32>> = session.output_lengths().map(|elements| vec![0; elements]).collect();
    let mut outputs: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut run = || {
        let begun = Instant::now();
        for (index, inputs) in inputs.iter().enumerate() {
            match &mut state {
                Some(state) => {
                    if slices.first(index) == index {
                        state.reset();
                    }
                    session.step(state, inputs, &mut outputs)?;
                }
                None => session.run_into(inputs, &mut outputs)?,
            }
        }
        Ok::<Duration, Failure>(begun.elapsed())
    };
    // The first run also pays for what is done once.
    let first = run()?;
    let wanted = match runs {
        Some(runs) => runs as usize,
        None => {
            let filling = LEAST_TIME.as_secs_f64() / first.as_secs_f64().max(1e-9);
            LEAST_RUNS.max(filling.min(100_000.0) as usize)
        }
    };
    let mut times = Vec::with_capacity(wanted);
    while times.len() < wanted {
        times.push(run()?);
        progress.step(times.len(), wanted);
    }
    Ok(times)
}
