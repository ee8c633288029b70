//! `loomc run`.

use std::fmt::Write;
use std::time::Instant;

use loom_runtime::digest::digest;
use loom_runtime::executor::tier::Tier;
use loom_runtime::session::RunError;
use loom_runtime::tensors::{Tensor, TensorFile, write_tensors};
use serde::Serialize;

use crate::cli::Run;
use crate::failure::Failure;
use crate::model::{Model, Seconds, device_name, keep_sources, slices};
use crate::progress::Progress;
use crate::{format, stdout};

/// The fields of `loomc run --json`, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    /// The network's name.
    network: &'a str,
    /// `cpu`, `gpu` or `interp`.
    device: &'static str,
    /// Of the device gpu: `strict`, `guarded` or `soft`.
    tier: Option<&'static str>,
    /// How many samples ran.
    samples: u64,
    /// `sha256:` and the digest of all outputs' bytes.
    digest: String,
    /// The outputs.
    outputs: Vec<TensorReport<'a>>,
    /// How long each part took. `codegen` is making the code for the device.
    seconds: Seconds,
}

#[derive(Serialize)]
struct TensorReport<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [u64],
}

pub fn run(args: &Run) -> Result<(), Failure> {
    let sources = [
        Some(args.model.network.as_path()),
        args.model.weights.as_deref(),
        args.input.as_deref(),
        // A state may be replaced by the one that follows it.
        args.state.as_deref().filter(|_| args.save_state.is_none()),
    ];
    for written in [&args.output, &args.save_state].into_iter().flatten() {
        keep_sources(written, &sources)?;
    }
    let mut model = Model::load(&args.model)?;
    let input = model.input(args.input.as_deref())?;
    let mut session = model.session(&args.device)?;
    let samples = slices(&session, &input, args.input.as_deref())?.samples();
    let mut progress = Progress::new("run");
    let begun = Instant::now();
    let mut step = |done, total| progress.step(done, total);
    let outputs = if args.state.is_some() || args.save_state.is_some() {
        let mut state = match &args.state {
            Some(path) => {
                let told = |error: RunError| Failure::User(format!("{}: {error}", path.display()));
                let file = TensorFile::open(path)?;
                let names: Vec<String> = file.tensors().map(|(name, _)| name.to_string()).collect();
                let tensors = names.iter().map(|name| file.tensor(name)).collect::<Result<Vec<_>, _>>()?;
                session.resume(&tensors).map_err(told)?
            }
            None => session.start()?,
        };
        let outputs = session.continue_tensors_with(&mut state, &input, &mut step)?;
        if let Some(path) = &args.save_state {
            write_tensors(path, &session.state_tensors(&state)?)?;
        }
        outputs
    } else {
        session.run_tensors_with(&input, &mut step)?
    };
    model.times.run = begun.elapsed();
    drop(progress);

    if let Some(path) = &args.output {
        write_tensors(path, &outputs)?;
    }
    if args.json {
        let report = Report {
            network: &model.artifact.program().name,
            device: session.device().name(),
            tier: session.tier().map(Tier::name),
            samples,
            digest: digest(&outputs),
            outputs: outputs.iter().map(report).collect(),
            seconds: model.times.into(),
        };
        return stdout::json("run", &report);
    }
    if args.digest {
        return stdout::print(&(digest(&outputs) + "\n"));
    }
    let (samples, time) = (format::counted(samples, "sample"), format::time(model.times.run));
    let mut text = format!("{samples} on {} in {time}\n", device_name(session.device(), session.tier()));
    for output in &outputs {
        let _ = writeln!(text, "{} {} {}", output.name(), output.dtype(), output.shape());
        if args.output.is_none() {
            text.push_str(&rows(output));
        }
    }
    stdout::print(&text)
}

fn report(tensor: &Tensor) -> TensorReport<'_> {
    TensorReport { name: tensor.name(), dtype: tensor.dtype().name(), shape: tensor.shape().dims() }
}

/// The first numbers of the first samples.
fn rows(tensor: &Tensor) -> String {
    const ROWS: usize = 10;
    const COLUMNS: usize = 10;
    let samples = tensor.shape().dims().first().copied().unwrap_or(1) as usize;
    let width = tensor.bits().len().checked_div(samples).unwrap_or(0);
    let mut text = String::new();
    if width == 0 {
        return text;
    }
    for row in tensor.bits().chunks(width).take(ROWS) {
        let cells = row.iter().take(COLUMNS).map(|&bits| match tensor.as_f32() {
            Some(_) => format::float(f32::from_bits(bits)),
            None => format!("{:>10}", bits as i32),
        });
        text.push_str(&cells.collect::<String>());
        text.push_str(if width > COLUMNS { " …\n" } else { "\n" });
    }
    if samples > ROWS {
        let _ = writeln!(text, "  … {} more; -o FILE writes them all", samples - ROWS);
    }
    text
}
