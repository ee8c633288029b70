//! `loomc calibrate`: scales for the inputs of layers of integers, from samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loom_ir::config::{GivenCoding, Layer, Network, Precision};
use loom_ir::diagnostics::Span;
use loom_ir::kernel::states::States;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::{Coding, Parameters, Range, Scheme};
use loom_passes::calibration::{Watched, WatchedValue};
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

/// How many sizes are told apart.
const SIZES: usize = 1 << (31 - UNCOUNTED_BITS);

/// A value's elements so far, and 0.
struct Seen {
    least: f32,
    greatest: f32,
    /// Where a percentile is asked for, how many there are of each size: first those below 0, from the greatest size down, then
    /// the others, from the least size up.
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
    let seen = measured(args, &mut session, &model, &input, &values)?;

    let affine = affine_values(&before);
    let scheme = |watched: &Watched| match args.affine || affine.contains(&(watched.path.to_string(), watched.value)) {
        true => Scheme::Affine,
        false => Scheme::Symmetric,
    };
    let codings: Vec<Coding> =
        values.iter().zip(&seen).map(|(watched, seen)| coding(seen, scheme(watched), args)).collect();
    let found: Found = values
        .iter()
        .zip(&codings)
        .map(|(watched, &coding)| ((watched.path.to_string(), watched.value), coding))
        .collect();
    let written = edited(&text, &before, whole.then_some(source.network.precision), &found);
    write_atomically(&args.output, |file| std::io::Write::write_all(file, written.as_bytes()))?;
    let samples = slices(&session, &input, Some(&args.input))?.samples();
    let mut report = format!("{} samples\n", format::count(samples));
    for ((watched, coding), seen) in values.iter().zip(&codings).zip(&seen) {
        let (name, Coding { scale, zero_point }) = (watched.name(), coding);
        report += &match zero_point {
            Some(zero_point) => {
                format!("{name} {scale}, zero point {zero_point} ({} to {})\n", seen.least, seen.greatest)
            }
            None => format!("{name} {scale} (greatest {})\n", seen.size()),
        };
    }
    stdout::print(&report)
}

/// What was found of a layer's values.
type Found = BTreeMap<(String, WatchedValue), Coding>;

/// The values of which the network says a zero point: they get another one.
fn affine_values(network: &Network) -> BTreeSet<(String, WatchedValue)> {
    let mut affine = BTreeSet::new();
    network.visit(&mut |layer: &Layer| {
        for (value, given) in given(layer) {
            if given.is_some_and(|given| given.zero_point.is_some()) {
                affine.insert((layer.path.to_string(), value));
            }
        }
    });
    affine
}

/// What a layer says of the values that can be measured.
fn given(layer: &Layer) -> [(WatchedValue, Option<GivenCoding>); 2] {
    [(WatchedValue::Input, layer.quantisation.input), (WatchedValue::Inner, layer.quantisation.inner)]
}

/// Runs the network on the samples, a batch at a time.
fn measured(
    args: &Calibrate,
    session: &mut Session,
    model: &Model,
    input: &[Tensor],
    values: &[Watched],
) -> Result<Vec<Seen>, Failure> {
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
    let counts = || (args.method == Method::Percentile).then(|| vec![0u64; 2 * SIZES]);
    let mut seen: Vec<Seen> = values.iter().map(|_| Seen { least: 0.0, greatest: 0.0, counts: counts() }).collect();
    let mut progress = Progress::new("calibrate");
    let mut first = 0;
    while first < samples {
        let end = samples.min(first.saturating_add(batch.max(1)));
        let part: Option<Vec<Tensor>> = input.iter().map(|tensor| rows(tensor, first, end)).collect();
        let part = part.ok_or_else(|| Failure::Internal("samples do not fit their tensor".to_string()))?;
        let outputs = session.run_tensors(&part)?;
        for (watched, seen) in values.iter().zip(&mut seen) {
            for name in watched.outputs() {
                let value = outputs.iter().find(|tensor| tensor.name() == name).and_then(Tensor::as_f32);
                for &element in value.ok_or_else(|| Failure::Internal(format!("there is no output `{name}`")))? {
                    seen.add(element).ok_or_else(|| {
                        let (path, name) = (args.input.display(), watched.name());
                        Failure::User(format!(
                            "{path}: with samples {first} to {}, {name} would be of a value that is {element}",
                            end - 1
                        ))
                    })?;
                }
            }
        }
        progress.step(end as usize, samples as usize);
        first = end;
    }
    Ok(seen)
}

/// Some samples of a tensor.
fn rows(tensor: &Tensor, first: u64, end: u64) -> Option<Tensor> {
    let dims = tensor.shape().dims();
    let row = dims.get(1..)?.iter().product::<u64>() as usize;
    let bits = tensor.bits().get(first as usize * row..end as usize * row)?;
    let dims = [&[end - first], dims.get(1..)?].concat();
    Tensor::new(tensor.name(), tensor.dtype(), dims.into(), bits.to_vec())
}

impl Seen {
    /// `None` where the element isn't finite.
    fn add(&mut self, element: f32) -> Option<()> {
        if !element.is_finite() {
            return None;
        }
        self.least = self.least.min(element);
        self.greatest = self.greatest.max(element);
        if let Some(counts) = &mut self.counts {
            let size = (element.abs().to_bits() >> UNCOUNTED_BITS) as usize;
            counts[if element < 0.0 { SIZES - 1 - size } else { SIZES + size }] += 1;
        }
        Some(())
    }

    /// The greatest size.
    fn size(&self) -> f32 {
        self.greatest.max(-self.least)
    }

    /// The least size, as sizes are counted, that so many of a hundred elements do not exceed.
    fn percentile(&self, percentile: f64) -> f32 {
        let Some(counts) = &self.counts else { return self.size() };
        let (below, above) = counts.split_at(SIZES);
        let sizes = below.iter().rev().zip(above).map(|(below, above)| below + above);
        reached(sizes, percentile).map_or(self.size(), |size| greatest_of(size).min(self.size()))
    }

    /// The same of the elements themselves, from 0: the least and the greatest, each with so many of a hundred elements on its
    /// side of 0 or less far from it.
    fn ends(&self, percentile: f64) -> (f32, f32) {
        let Some(counts) = &self.counts else { return (self.least, self.greatest) };
        let end = |place: Option<usize>, most: f32| match place.and_then(|place| place.checked_sub(SIZES)) {
            Some(size) => greatest_of(size).min(most),
            None => 0.0,
        };
        let upper = end(reached(counts.iter().copied(), percentile), self.greatest);
        (-end(reached(counts.iter().rev().copied(), percentile), -self.least), upper)
    }
}

/// The greatest number of a size.
fn greatest_of(size: usize) -> f32 {
    f32::from_bits((((size + 1) as u32) << UNCOUNTED_BITS) - 1)
}

/// The first place by which so many of a hundred are counted.
fn reached(counts: impl Iterator<Item = u64> + Clone, percentile: f64) -> Option<usize> {
    let wanted = (percentile / 100.0 * counts.clone().sum::<u64>() as f64).ceil() as u64;
    let mut seen = 0;
    counts.into_iter().position(|count| {
        seen += count;
        seen >= wanted
    })
}

/// The codes of which the value's greatest size, or its percentile, has the greatest; affine, of which its ends have the ends.
fn coding(seen: &Seen, scheme: Scheme, args: &Calibrate) -> Coding {
    FpEnv::run(|| {
        let (least, greatest) = match (scheme, args.method) {
            (Scheme::Symmetric, Method::MinMax) => (0.0, seen.size()),
            (Scheme::Symmetric, Method::Percentile) => (0.0, seen.percentile(args.percentile)),
            (Scheme::Affine, Method::MinMax) => (seen.least, seen.greatest),
            (Scheme::Affine, Method::Percentile) => seen.ends(args.percentile),
        };
        let range = Range::ZERO.with(least).and_then(|range| range.with(greatest)).unwrap_or(Range::ZERO);
        let Parameters { scale, zero_point } = Parameters::of(Storage::I8, scheme, range);
        let zero_point = (scheme == Scheme::Affine).then(|| i8::try_from(zero_point).unwrap_or_default());
        Coding { scale, zero_point }
    })
}

/// The config's text with what was found in it, and with the number format of layers that had none.
fn edited(text: &str, network: &Network, whole: Option<Precision>, found: &Found) -> String {
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    network.visit(&mut |layer: &Layer| {
        let path = layer.path.to_string();
        let mut added = String::new();
        for (value, old) in given(layer) {
            let Some(coding) = found.get(&(path.clone(), value)) else { continue };
            if let (Some(precision), "") = (whole, &*added) {
                added += &format!(", \"dtype\": \"{}\"", precision.name());
            }
            let mut put = |key: &str, old: Option<Span>, new: String| match old {
                Some(span) => edits.push((span.range(), new)),
                None => added += &format!(", \"{key}\": {new}"),
            };
            let [scale, zero_point] = value.keys();
            put(scale, old.map(|old| old.scale.span), coding.scale.to_string());
            if let Some(code) = coding.zero_point {
                put(zero_point, old.and_then(|old| old.zero_point).map(|old| old.span), code.to_string());
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
