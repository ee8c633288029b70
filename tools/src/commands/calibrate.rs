//! `loomc calibrate`: scales for the inputs of layers of integers, from samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_ir::config::{Layer, Network, Precision};
use loom_ir::kernel::states::States;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::{Parameters, Range, Scheme};
use loom_passes::calibration::Watched;
use loom_passes::{PipelineOptions, compile_graph};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::fp_env::FpEnv;
use loom_runtime::session::Session;
use loom_runtime::tensors::{Tensor, write_atomically};

use crate::cli::{Calibrate, DialectArgs, Integers, Method};
use crate::failure::Failure;
use crate::model::{Model, Times, keep_sources, slices};
use crate::progress::Progress;
use crate::source::Source;
use crate::{format, stdout};

/// Of a number's bits without its sign, those that are not told apart where sizes are counted: 9 bits of the fraction stay.
const UNCOUNTED_BITS: u32 = 14;

/// The sizes of a value's elements so far.
struct Sizes {
    greatest: f32,
    /// How many there are of each size, where a percentile is asked for.
    counts: Option<Vec<u64>>,
}

pub fn calibrate(args: &Calibrate) -> Result<(), Failure> {
    keep_sources(&args.output, &[Some(&args.network), args.weights.as_deref(), Some(&args.input)])?;
    let mut source = Source::open(&args.network, args.weights.as_deref(), &DialectArgs::default())?;
    let Some(text) = source.plain_text().map(str::to_string) else {
        let path = args.network.display();
        return Err(Failure::User(format!(
            "{path}: a config of Loom 0.0.8 has no integers: `loomc convert` makes one of ours"
        )));
    };
    let before = source.network.clone();
    let (mut graph, mut values) = source.watched()?;
    // A network that says nothing of integers becomes one of them as a whole.
    let whole = values.is_empty();
    if whole {
        source.network.precision = match args.dtype {
            Integers::Int8 => Precision::Int8,
            Integers::Int4 => Precision::Int4,
        };
        (graph, values) = source.watched()?;
    }
    if values.is_empty() {
        let path = args.network.display();
        return Err(Failure::User(format!(
            "{path}: no layer multiplies its input with weights, or may do so in integers"
        )));
    }

    let program =
        compile_graph(graph, &PipelineOptions::default()).map_err(|error| Failure::User(error.to_string()))?;
    let weights = source.weights(&program)?;
    let artifact = Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new());
    let mut model = Model { artifact, shaped: None, times: Times::default() };
    let input = model.input(Some(&args.input))?;
    let mut session = model.session(&args.device)?;
    let sizes = measured(args, &mut session, &model, &input, &values)?;

    let scales: Vec<f32> = sizes.iter().map(|sizes| scale(sizes, args)).collect();
    let found: BTreeMap<(String, &str), f32> =
        values.iter().zip(&scales).map(|(watched, &scale)| ((watched.path.to_string(), watched.key), scale)).collect();
    let written = edited(&text, &before, whole.then_some(source.network.precision), &found);
    write_atomically(&args.output, |file| std::io::Write::write_all(file, written.as_bytes()))?;
    let samples = slices(&session, &input, Some(&args.input))?.samples();
    let mut report = format!("{} samples\n", format::count(samples));
    for ((watched, scale), sizes) in values.iter().zip(&scales).zip(&sizes) {
        report += &format!("{} {scale} (greatest {})\n", watched.output(), sizes.greatest);
    }
    stdout::print(&report)
}

/// Runs the network on the samples, a batch at a time.
fn measured(
    args: &Calibrate,
    session: &mut Session,
    model: &Model,
    input: &[Tensor],
    values: &[Watched],
) -> Result<Vec<Sizes>, Failure> {
    let samples = slices(session, input, Some(&args.input))?.samples();
    let batch = match States::of(model.artifact.program()) {
        Some(_) => samples,
        None => model
            .artifact
            .program()
            .inputs()
            .filter_map(|(_, buffer)| buffer.shape.dims().first().copied())
            .max()
            .unwrap_or(1),
    };
    let counts = || (args.method == Method::Percentile).then(|| vec![0u64; 1 << (31 - UNCOUNTED_BITS)]);
    let mut sizes: Vec<Sizes> = values.iter().map(|_| Sizes { greatest: 0.0, counts: counts() }).collect();
    let mut progress = Progress::new("calibrate");
    let mut first = 0;
    while first < samples {
        let end = samples.min(first.saturating_add(batch.max(1)));
        let part: Option<Vec<Tensor>> = input.iter().map(|tensor| rows(tensor, first, end)).collect();
        let part = part.ok_or_else(|| Failure::Internal("samples do not fit their tensor".to_string()))?;
        let outputs = session.run_tensors(&part)?;
        for (watched, sizes) in values.iter().zip(&mut sizes) {
            let name = watched.output();
            let value = outputs.iter().find(|tensor| tensor.name() == name).and_then(Tensor::as_f32);
            for &element in value.ok_or_else(|| Failure::Internal(format!("there is no output `{name}`")))? {
                sizes.add(element).ok_or_else(|| {
                    let path = args.input.display();
                    Failure::User(format!(
                        "{path}: with samples {first} to {}, {name} would be of a value that is {element}",
                        end - 1
                    ))
                })?;
            }
        }
        progress.step(end as usize, samples as usize);
        first = end;
    }
    Ok(sizes)
}

/// Some samples of a tensor.
fn rows(tensor: &Tensor, first: u64, end: u64) -> Option<Tensor> {
    let dims = tensor.shape().dims();
    let row = dims.get(1..)?.iter().product::<u64>() as usize;
    let bits = tensor.bits().get(first as usize * row..end as usize * row)?;
    let dims = [&[end - first], dims.get(1..)?].concat();
    Tensor::new(tensor.name(), tensor.dtype(), dims.into(), bits.to_vec())
}

impl Sizes {
    /// `None` where the element isn't finite.
    fn add(&mut self, element: f32) -> Option<()> {
        let size = element.abs();
        if !size.is_finite() {
            return None;
        }
        self.greatest = self.greatest.max(size);
        if let Some(counts) = &mut self.counts {
            counts[(size.to_bits() >> UNCOUNTED_BITS) as usize] += 1;
        }
        Some(())
    }

    /// The least size, as sizes are counted, that so many of a hundred elements do not exceed.
    fn percentile(&self, percentile: f64) -> f32 {
        let Some(counts) = &self.counts else { return self.greatest };
        let wanted = (percentile / 100.0 * counts.iter().sum::<u64>() as f64).ceil() as u64;
        let mut seen = 0;
        let bin = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let last = |bin: usize| f32::from_bits((((bin + 1) as u32) << UNCOUNTED_BITS) - 1);
        bin.map_or(self.greatest, |bin| last(bin).min(self.greatest))
    }
}

/// The scale by which the value's greatest size, or its percentile, has the greatest code.
fn scale(sizes: &Sizes, args: &Calibrate) -> f32 {
    FpEnv::run(|| {
        let greatest = match args.method {
            Method::MinMax => sizes.greatest,
            Method::Percentile => sizes.percentile(args.percentile),
        };
        let range = Range::ZERO.with(greatest).unwrap_or(Range::ZERO);
        Parameters::of(Storage::I8, Scheme::Symmetric, range).scale
    })
}

/// The config's text with the scales in it, and with the number format of layers that had none.
fn edited(text: &str, network: &Network, whole: Option<Precision>, scales: &BTreeMap<(String, &str), f32>) -> String {
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    network.visit(&mut |layer: &Layer| {
        let path = layer.path.to_string();
        let keys = [("input_scale", layer.quantisation.input_scale), ("inner_scale", layer.quantisation.inner_scale)];
        let mut added = String::new();
        let found = keys.into_iter().filter_map(|(key, old)| Some((key, old, scales.get(&(path.clone(), key))?)));
        for (number, (key, old, scale)) in found.enumerate() {
            if let (0, Some(precision)) = (number, whole) {
                added += &format!(", \"dtype\": \"{}\"", precision.name());
            }
            match old {
                Some(old) => edits.push((old.span.range(), scale.to_string())),
                None => added += &format!(", \"{key}\": {scale}"),
            }
        }
        let end = layer.type_span.range().end;
        edits.push((end..end, added));
    });
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut written, mut at) = (String::new(), 0);
    for (range, new) in edits {
        written += text.get(at..range.start).unwrap_or_default();
        written += &new;
        at = range.end;
    }
    written + text.get(at..).unwrap_or_default()
}
