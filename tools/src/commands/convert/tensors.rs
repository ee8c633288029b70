//! Tensors from any number format to any other.

use std::fmt::Write;

use loom_ir::numerics::quantise::Scheme;
use loom_runtime::storage::{self, Conversion, Granularity, StoredFile};
use loom_runtime::tensors::TensorFile;
use serde::Serialize;

use crate::cli::Convert;
use crate::failure::{Failure, printable};
use crate::model::keep_sources;
use crate::progress::Progress;
use crate::{format, stdout};

/// The fields of `loomc convert --json`, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    /// What became another format.
    changed: Vec<Changed<'a>>,
    /// How many tensors stayed as they were.
    kept: usize,
    /// Bytes of all data before, scales included.
    bytes_before: u64,
    /// Bytes of all data after, scales included.
    bytes_after: u64,
}

#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    from: &'static str,
    to: &'static str,
}

pub(super) fn convert(args: &Convert) -> Result<(), Failure> {
    let Some(output) = args.output() else {
        return Err(Failure::User("where to? Name a file for the converted tensors".to_string()));
    };
    keep_sources(output, &[Some(&args.input)])?;
    let file = TensorFile::open(&args.input)?;
    let stored = StoredFile::of(&file)?;
    if args.dtype.is_none() && args.layers.is_empty() {
        return Err(Failure::User("nothing to convert: name a type with --dtype, or --layer PATTERN=TYPE".to_string()));
    }
    let granularity = match args.group_size {
        Some(size) => Granularity::Group(size),
        None if args.per_tensor => Granularity::Tensor,
        None => Granularity::Channel,
    };
    let conversion = Conversion {
        default: args.dtype,
        rules: args.layers.clone(),
        scaled: !args.no_scale,
        scheme: if args.affine { Scheme::Affine } else { Scheme::Symmetric },
        granularity,
    };
    let mut progress = Progress::new("convert");
    let converted = storage::convert(&stored, output, &conversion, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    let changed = converted.changed.iter();
    let report = Report {
        changed: changed.map(|(name, from, to)| Changed { name, from: from.name(), to: to.name() }).collect(),
        kept: converted.kept,
        bytes_before: converted.bytes_before,
        bytes_after: converted.bytes_after,
    };
    if args.json {
        return stdout::json("convert", &report);
    }
    let rows: Vec<Vec<String>> = report
        .changed
        .iter()
        .map(|changed| {
            vec![printable(changed.name), changed.from.to_string(), "->".to_string(), changed.to.to_string()]
        })
        .collect();
    let mut text = format::table(&rows, &[]);
    let _ = writeln!(
        text,
        "{} converted, {} kept; {} before, {} after",
        format::counted(report.changed.len() as u64, "tensor"),
        report.kept,
        format::bytes(report.bytes_before),
        format::bytes(report.bytes_after),
    );
    stdout::print(&text)
}
