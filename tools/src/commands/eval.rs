//! `loomc eval`.

use std::fmt::Write;
use std::time::Instant;

use loom_runtime::digest::digest;
use loom_runtime::executor::tier::Tier;
use loom_runtime::tensors::{Tensor, TensorFile};
use serde::Serialize;

use crate::cli::Eval;
use crate::failure::Failure;
use crate::model::{Model, Seconds, device_name, slices};
use crate::progress::Progress;
use crate::{format, stdout};

/// Tables of more classes than this do not fit a terminal.
const MOST_CLASSES_SHOWN: usize = 16;
/// Images larger than this do not either.
const MOST_PIXELS_SHOWN: usize = 64;

/// The fields of `loomc eval --json`, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    network: &'a str,
    device: &'static str,
    /// Of the device gpu: `strict`, `guarded` or `soft`.
    tier: Option<&'static str>,
    samples: usize,
    correct: usize,
    accuracy: f64,
    classes: usize,
    /// How many samples of each class (outer) were taken for each class (inner).
    confusion: &'a [Vec<usize>],
    /// The class of each sample.
    predictions: &'a [usize],
    digest: String,
    seconds: Seconds,
}

pub fn eval(args: &Eval) -> Result<(), Failure> {
    let mut model = Model::load(&args.model)?;
    let input = model.input(Some(&args.input))?;
    let labels = TensorFile::open(&args.labels)?.integers("labels")?;
    let mut session = model.session(&args.device)?;
    let samples = slices(&session, &input, Some(&args.input))?.samples() as usize;
    if labels.len() != samples {
        return Err(Failure::User(format!("{}: {} labels for {samples} samples", args.labels.display(), labels.len())));
    }
    let mut progress = Progress::new("eval");
    let begun = Instant::now();
    let outputs = session.run_tensors_with(&input, &mut |done, total| progress.step(done, total))?;
    model.times.run = begun.elapsed();
    drop(progress);

    let [output] = outputs.as_slice() else {
        return Err(Failure::User(format!("a classifier has one output, this network has {}", outputs.len())));
    };
    let scores = output.as_f32().ok_or_else(|| Failure::User("the scores of classes must be f32".to_string()))?;
    let classes = scores.len() / samples;
    if classes == 0 {
        return Err(Failure::User(format!("the output {} holds no classes", output.shape())));
    }
    let labels = check_labels(args, &labels, classes)?;
    let predictions: Vec<usize> = scores.chunks(classes).map(largest).collect();
    let mut confusion = vec![vec![0; classes]; classes];
    for (&label, &prediction) in labels.iter().zip(&predictions) {
        confusion[label][prediction] += 1;
    }
    let correct = (0..classes).map(|class| confusion[class][class]).sum();
    let report = Report {
        network: &model.artifact.program().name,
        device: session.device().name(),
        tier: session.tier().map(Tier::name),
        samples,
        correct,
        accuracy: correct as f64 / samples as f64,
        classes,
        confusion: &confusion,
        predictions: &predictions,
        digest: digest(&outputs),
        seconds: model.times.into(),
    };
    if args.json {
        return stdout::json("eval", &report);
    }
    let mut text = String::new();
    if let [images] = input.as_slice() {
        text.push_str(&gallery(images, scores, &labels, &predictions, args.show));
    }
    if classes <= MOST_CLASSES_SHOWN {
        text.push_str(&confusion_table(&confusion));
    }
    let _ = writeln!(
        text,
        "{} of {} right ({:.2} %) on {} in {}\noutput {}",
        format::count(correct as u64),
        format::count(samples as u64),
        report.accuracy * 100.0,
        device_name(session.device(), session.tier()),
        format::time(model.times.run),
        report.digest,
    );
    stdout::print(&text)
}

fn check_labels(args: &Eval, labels: &[i64], classes: usize) -> Result<Vec<usize>, Failure> {
    let class = |(sample, &label): (usize, &i64)| {
        usize::try_from(label).ok().filter(|&label| label < classes).ok_or_else(|| {
            let path = args.labels.display();
            Failure::User(format!(
                "{path}: label {sample} is {label}, the network has the classes 0 to {}",
                classes - 1
            ))
        })
    };
    labels.iter().enumerate().map(class).collect()
}

/// The index of the largest score; of equal ones the first. A NaN is larger than all, as in LN1.
fn largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if score.total_cmp(&scores[best]).is_gt() {
            best = index;
        }
    }
    best
}

fn confusion_table(confusion: &[Vec<usize>]) -> String {
    let header =
        std::iter::once("is \\ taken for".to_string()).chain((0..confusion.len()).map(|class| class.to_string()));
    let mut rows = vec![header.collect::<Vec<_>>()];
    for (class, row) in confusion.iter().enumerate() {
        let cell = |&count: &usize| if count == 0 { "·".to_string() } else { count.to_string() };
        rows.push(std::iter::once(class.to_string()).chain(row.iter().map(cell)).collect());
    }
    let columns: Vec<usize> = (0..=confusion.len()).collect();
    format::table(&rows, &columns) + "\n"
}

/// A few samples drawn as text, the last ones mistakes; nothing if they are not images of one channel.
fn gallery(images: &Tensor, scores: &[f32], labels: &[usize], predictions: &[usize], count: usize) -> String {
    let &[_, 1, height, width] = images.shape().dims() else { return String::new() };
    let (height, width) = (height as usize, width as usize);
    let small = (1..=MOST_PIXELS_SHOWN).contains(&height) && (1..=MOST_PIXELS_SHOWN).contains(&width);
    let Some(pixels) = images.as_f32().filter(|_| small) else { return String::new() };
    let classes = scores.len() / labels.len();
    let wrong = (0..labels.len()).filter(|&sample| labels[sample] != predictions[sample]);
    let right = (0..labels.len()).filter(|&sample| labels[sample] == predictions[sample]);
    // At least half of them right, where there are.
    let wrong: Vec<usize> = wrong.take(count / 2).collect();
    let chosen: Vec<usize> = right.take(count - wrong.len()).chain(wrong).collect();
    let columns = (100 / (width + 2)).max(1);
    let mut text = String::new();
    for row in chosen.chunks(columns) {
        let drawings: Vec<Vec<String>> = row
            .iter()
            .map(|&sample| {
                let image = &pixels[sample * height * width..(sample + 1) * height * width];
                let (label, prediction) = (labels[sample], predictions[sample]);
                let score = scores[sample * classes + prediction];
                let verdict = if label == prediction { String::new() } else { format!(", is {label}") };
                let mut lines = draw(image, width);
                lines.push(format!("#{sample}: {prediction} ({score:.3}){verdict}"));
                lines
            })
            .collect();
        for line in 0..drawings[0].len() {
            let cells = drawings.iter().map(|drawing| format!("{:<width$}", drawing[line]));
            text.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// Two rows of pixels a line, because characters are twice as high as wide.
fn draw(image: &[f32], width: usize) -> Vec<String> {
    const SHADES: &[u8] = b" .:-=+*#%@";
    let finite = image.iter().copied().filter(|value| value.is_finite());
    let low = finite.clone().fold(f32::INFINITY, f32::min);
    let high = finite.fold(f32::NEG_INFINITY, f32::max);
    let range = if high > low { high - low } else { 1.0 };
    let shade = |value: f32| {
        let level = ((value - low) / range * (SHADES.len() - 1) as f32).round();
        char::from(SHADES[(level.max(0.0) as usize).min(SHADES.len() - 1)])
    };
    let rows: Vec<&[f32]> = image.chunks(width).collect();
    rows.chunks(2)
        .map(|pair| {
            let lower = pair.get(1).unwrap_or(&pair[0]);
            pair[0].iter().zip(*lower).map(|(&above, &below)| shade((above + below) / 2.0)).collect()
        })
        .collect()
}
