//! Any safetensors file: its tensors, their ranges, and what layers they look like.

use std::collections::BTreeMap;
use std::fmt::Write;

use loom_ir::numerics::formats::Number;
use loom_ir::types::Shape;
use loom_runtime::storage::{Stored, StoredFile};
use loom_runtime::tensors::TensorFile;
use serde::Serialize;

use crate::cli::Inspect;
use crate::failure::{Failure, printable};
use crate::progress::Progress;
use crate::{format, stdout, structure};

/// The fields of `loomc inspect --json` for a safetensors file, schema 1.
#[derive(Serialize)]
struct FileReport<'a> {
    /// `safetensors`
    kind: &'static str,
    bytes: u64,
    tensors: Vec<TensorReport<'a>>,
    elements: u64,
    /// What the tensors look like.
    layers: Vec<LayerReport>,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TensorReport<'a> {
    name: &'a str,
    /// The number format, or the file's type where it has no numbers.
    dtype: String,
    shape: &'a [u64],
    /// Quantised: the shape of its scales.
    scales: Option<Vec<u64>>,
    /// The least number; none where there are none but NaN.
    least: Option<f64>,
    greatest: Option<f64>,
    /// How many elements are NaN or infinite.
    not_finite: u64,
}

#[derive(Serialize)]
struct LayerReport {
    prefix: String,
    layer: serde_json::Value,
    /// What the tensors don't tell.
    unknown: Option<&'static str>,
}

pub(super) fn tensors(args: &Inspect, file: &TensorFile) -> Result<(), Failure> {
    let stored = StoredFile::of(file)?;
    let mut progress = Progress::new("inspect");
    let count = stored.tensors().len();
    let mut tensors = Vec::new();
    for (done, (name, stored)) in stored.tensors().enumerate() {
        progress.step(done, count);
        tensors.push(tensor(name, stored));
    }
    drop(progress);
    let shapes: Vec<(&str, &[u64])> = tensors.iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let layers = structure::suggest(&shapes).into_iter();
    let report = FileReport {
        kind: "safetensors",
        bytes: file.size(),
        elements: stored.tensors().map(|(_, stored)| stored.shape.elements()).sum(),
        layers: layers
            .map(|found| LayerReport { prefix: found.prefix, layer: found.layer, unknown: found.unknown })
            .collect(),
        tensors,
        metadata: file.metadata(),
    };
    if args.json { stdout::json("inspect", &report) } else { stdout::print(&describe(&report)) }
}

fn tensor<'a>(name: &'a str, stored: &'a Stored<'_>) -> TensorReport<'a> {
    let (mut least, mut greatest, mut not_finite) = (f64::INFINITY, f64::NEG_INFINITY, 0);
    let count = if stored.storage.is_some() { stored.shape.elements() as usize } else { 0 };
    for index in 0..count {
        let value = match stored.number(index) {
            Number::Float(value) => value,
            Number::Integer(value) => value as f64,
        };
        not_finite += u64::from(!value.is_finite());
        least = least.min(value);
        greatest = greatest.max(value);
    }
    let some = least <= greatest;
    TensorReport {
        name,
        dtype: stored.storage.map_or_else(|| stored.dtype.to_string(), |storage| storage.to_string()),
        shape: stored.shape.dims(),
        scales: stored.scale_shape().map(|shape| shape.dims().to_vec()),
        least: some.then_some(least),
        greatest: some.then_some(greatest),
        not_finite,
    }
}

fn describe(report: &FileReport<'_>) -> String {
    let header = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_string()).collect::<Vec<String>>();
    let mut rows = vec![header(&["tensor", "type", "shape", "least", "greatest", ""])];
    for tensor in &report.tensors {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
        let mut notes = Vec::new();
        if let Some(scales) = &tensor.scales {
            notes.push(format!("scales {}", Shape::new(scales.clone())));
        }
        if tensor.not_finite > 0 {
            notes.push(format!("{} not finite", format::count(tensor.not_finite)));
        }
        rows.push(vec![
            printable(tensor.name),
            tensor.dtype.clone(),
            Shape::new(tensor.shape).to_string(),
            number(tensor.least),
            number(tensor.greatest),
            notes.join(", "),
        ]);
    }
    let mut text = format::table(&rows, &[3, 4]);
    let _ = writeln!(
        text,
        "{} in {}, {}",
        format::counted(report.elements, "element"),
        format::counted(report.tensors.len() as u64, "tensor"),
        format::bytes(report.bytes)
    );
    if !report.layers.is_empty() {
        text.push_str(
            "\nBy names and shapes, the layers may be these, and may need what stands at the end of the line:\n",
        );
        for found in &report.layers {
            let unknown = found.unknown.map_or_else(String::new, |unknown| format!("   {unknown}"));
            let mut layer = found.layer.clone();
            let kind = layer.as_object_mut().and_then(|keys| keys.remove("type"));
            let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
            let _ = writeln!(text, "  {}  {kind} {layer}{unknown}", printable(&found.prefix));
        }
    }
    text
}
