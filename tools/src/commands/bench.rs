//! `loomc bench`.

mod kernels;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loom_runtime::artifact::Artifact;
use loom_runtime::compare::compare;
use loom_runtime::executor::tier::Tier;
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::Tensor;
use serde::Serialize;

use self::kernels::{KernelTime, Peaks, kernel_times};
use crate::cli::{Bench, DeviceArgs};
use crate::failure::Failure;
use crate::model::{self, Model, Seconds};
use crate::progress::Progress;
use crate::{flops, format, stdout, stored};

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
    /// Bytes of the weights by the format in which they are kept.
    weights: BTreeMap<&'static str, u64>,
    /// Of a device with a clock: what a submission of nothing takes, by this machine's clock.
    empty_seconds: Option<f64>,
    /// Of a device with a clock: the kernels of one batch, in their order.
    kernels: Option<Vec<KernelTime<'a>>>,
    /// With --check: the device whose bits the output has, and whether it has them.
    checked: Option<Check>,
    /// How long the parts before took; `run` is all runs together.
    seconds: Seconds,
}

#[derive(Serialize)]
struct Check {
    device: &'static str,
    same: bool,
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
    let peaks = Peaks { tflops: args.peak_tflops, gbs: args.peak_gbs };
    let profiled = kernel_times(&mut session, &model.artifact, &slices, peaks)?;
    times.sort();
    let median = times[times.len() / 2];
    let min = times[0];
    let flops = flops::of_program(session.program()).saturating_mul(batches) as f64;
    let (device, tier) = (session.device(), session.tier());
    let checked = if args.check { Some(check(&model.artifact, session, &input, &args.device)?) } else { None };
    let (empty, kernels) = profiled.unzip();
    let report = Report {
        network: &model.artifact.program().name,
        device: device.name(),
        tier: tier.map(Tier::name),
        samples,
        runs: times.len(),
        median_seconds: median.as_secs_f64(),
        min_seconds: min.as_secs_f64(),
        samples_per_second: samples as f64 / median.as_secs_f64(),
        flops_per_second: flops / median.as_secs_f64(),
        weights: stored::by_format(model.artifact.weights()),
        empty_seconds: empty.as_ref().map(Duration::as_secs_f64),
        kernels,
        checked,
        seconds: model.times.into(),
    };
    let same = report.checked.as_ref().is_none_or(|check| check.same);
    if args.json {
        stdout::json("bench", &report)?;
    } else {
        let mut text = format!(
            "{} on {}: median {}, fastest {} of {} of {}\n{}samples/s, {}flop/s; code made in {}\n",
            if report.network.is_empty() { "network" } else { report.network },
            model::device_name(device, tier),
            format::time(median),
            format::time(min),
            format::counted(report.runs as u64, "run"),
            format::counted(samples, "sample"),
            format::rate(report.samples_per_second),
            format::rate(report.flops_per_second),
            format::time(model.times.codegen),
        );
        text.push_str(&format!("weights: {}\n", stored::describe(&report.weights)));
        if let Some(kernels) = &report.kernels {
            text.push_str(&kernels::table(kernels));
        }
        if let Some(empty) = empty {
            text.push_str(&format!("an empty submission: {}\n", format::time(empty)));
        }
        if let Some(Check { device, same }) = &report.checked {
            let verdict = if *same { "the same bits as" } else { "OTHER BITS than" };
            text.push_str(&format!("{verdict} the device {device}\n"));
        }
        stdout::print(&text)?;
    }
    if same { Ok(()) } else { Err(Failure::No) }
}

/// Whether another device gives the same bits for all samples.
fn check(artifact: &Artifact, session: Session, input: &[Tensor], args: &DeviceArgs) -> Result<Check, Failure> {
    let device = match (session.device(), Device::default()) {
        (Device::Cpu, _) => Device::Interp,
        (_, device) => device,
    };
    let options = model::with_details(SessionOptions::on(device), &args.details);
    let reference = Session::new(artifact, options)?;
    let comparison = compare(&mut [reference, session], input, &mut |_, _| {})?;
    Ok(Check { device: device.name(), same: comparison.difference.is_none() })
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
