//! `loomc verify`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use loom_runtime::compare::{Comparison, Difference, compare};
use loom_runtime::executor::tier::Tier;
use loom_runtime::report::{Report as Captured, capture};
use loom_runtime::session::{Device, Session};
use serde::Serialize;

use super::difference::{self, Opened, OperandReport, open};
use crate::cli::Verify;
use crate::failure::{Failure, printable};
use crate::model::{Model, device_name, keep_sources, slices};
use crate::progress::Progress;
use crate::{format, stdout};

/// The fields of `loomc verify --json`, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    network: &'a str,
    /// Whether every bit is the same.
    same: bool,
    /// The devices compared, the reference first, and the digest of each one's output.
    devices: Vec<DeviceReport<'a>>,
    /// Devices of this machine's build that could not be opened, where none were asked for by name.
    skipped: &'a [String],
    kernels: usize,
    samples: u64,
    /// Elements compared on each device but the first.
    elements: u64,
    /// The first difference.
    difference: Option<DifferenceReport<'a>>,
}

#[derive(Serialize)]
struct DeviceReport<'a> {
    device: &'static str,
    /// Of the device gpu: `strict`, `guarded` or `soft`.
    tier: Option<&'static str>,
    digest: &'a str,
}

#[derive(Serialize)]
struct DifferenceReport<'a> {
    device: &'static str,
    reference: &'static str,
    /// Which batch of samples.
    slice: usize,
    /// The first kernel that differs; null if only a run of the whole network does.
    kernel: Option<&'a str>,
    /// The buffer whose element differs.
    buffer: Option<&'a str>,
    /// The element's place, row-major.
    element: Option<usize>,
    /// The same, one number an axis.
    coordinates: Option<&'a [u64]>,
    /// The reference's bits in hexadecimal.
    expected: Option<String>,
    /// The device's bits in hexadecimal.
    found: Option<String>,
    /// How many elements of the kernel's output differ.
    count: Option<usize>,
    /// What the element is made of; of many terms the first.
    operands: Vec<OperandReport>,
    /// Where the kernel was written to.
    report: Option<String>,
}

pub fn verify(args: &Verify) -> Result<(), Failure> {
    let mut model = Model::load(&args.model)?;
    let input = model.input(args.input.as_deref())?;
    let Opened { mut sessions, skipped } = open(&model.artifact, &args.devices, &args.details)?;
    slices(&sessions[0], &input, args.input.as_deref())?;
    let mut progress = Progress::new("verify");
    let comparison = compare(&mut sessions, &input, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    let tiers: Vec<Option<Tier>> = sessions.iter().map(Session::tier).collect();
    let network = model.artifact.program().name.as_str();
    let captured = match &comparison.difference {
        Some(difference) => {
            let (reference, others) = sessions.split_at_mut(1);
            capture(&model.artifact, &mut reference[0], &others[difference.position - 1], &input, difference)?
        }
        None => None,
    };
    let written = match &captured {
        Some(report) => save(report, args)?,
        None => None,
    };
    if args.json {
        let report = report(network, &comparison, &tiers, &skipped, captured.as_ref(), written.as_deref());
        stdout::json("verify", &report)?;
    } else {
        stdout::print(&describe(&comparison, &tiers, &skipped, captured.as_ref()))?;
    }
    if let Some(path) = &written {
        eprintln!("written to {0}: `loomc replay {0}` runs it again", printable(&path.display().to_string()));
    }
    if comparison.difference.is_some() { Err(Failure::No) } else { Ok(()) }
}

/// Writes the report where it was asked for. Where it was not, a folder that can't be written to must not hide the answer.
fn save(report: &Captured, args: &Verify) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &args.report {
        keep_sources(path, &[Some(&args.model.network), args.model.weights.as_deref(), args.input.as_deref()])?;
        report.save(path)?;
        return Ok(Some(path.clone()));
    }
    let stem = args.model.network.file_stem().unwrap_or_default();
    let path = Path::new(stem).with_extension("difference.safetensors");
    match report.save(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            eprintln!("no report: {}", printable(&error.to_string()));
            Ok(None)
        }
    }
}

fn report<'a>(
    network: &'a str,
    comparison: &'a Comparison,
    tiers: &[Option<Tier>],
    skipped: &'a [String],
    captured: Option<&Captured>,
    written: Option<&Path>,
) -> Report<'a> {
    let difference = comparison.difference.as_ref().map(|difference| {
        let element = difference.element.as_ref();
        DifferenceReport {
            device: difference.device.name(),
            reference: difference.reference.name(),
            slice: difference.slice,
            kernel: difference.kernel.as_ref().map(|kernel| kernel.name.as_str()),
            buffer: element.map(|element| element.buffer.as_str()),
            element: element.map(|element| element.index),
            coordinates: element.map(|element| element.coordinates.as_slice()),
            expected: element.map(|element| format!("{:08x}", element.expected)),
            found: element.map(|element| format!("{:08x}", element.found)),
            count: element.map(|element| element.count),
            operands: captured.map_or_else(Vec::new, difference::operand_reports),
            report: written.map(|path| path.display().to_string()),
        }
    });
    let device = |((device, digest), tier): (&'a (Device, String), &Option<Tier>)| DeviceReport {
        device: device.name(),
        tier: tier.map(Tier::name),
        digest,
    };
    Report {
        network,
        same: comparison.difference.is_none(),
        devices: comparison.digests.iter().zip(tiers).map(device).collect(),
        skipped,
        kernels: comparison.kernels,
        samples: comparison.samples,
        elements: comparison.elements,
        difference,
    }
}

fn describe(
    comparison: &Comparison,
    tiers: &[Option<Tier>],
    skipped: &[String],
    captured: Option<&Captured>,
) -> String {
    let devices = comparison.digests.iter().zip(tiers);
    let names: Vec<String> = devices.map(|((device, _), tier)| device_name(*device, *tier)).collect();
    let mut text = String::new();
    for reason in skipped {
        let _ = writeln!(text, "left out: {reason}");
    }
    match &comparison.difference {
        None => {
            let _ = writeln!(
                text,
                "{}: the same bits, {} of {} for {}",
                names.join(" = "),
                format::counted(comparison.elements, "element"),
                format::counted(comparison.kernels as u64, "kernel"),
                format::counted(comparison.samples, "sample"),
            );
            if let Some((_, digest)) = comparison.digests.first() {
                let _ = writeln!(text, "output {digest}");
            }
        }
        Some(difference) => {
            text.push_str(&describe_difference(difference));
            text.push_str(&captured.map_or_else(String::new, difference::describe_operands));
        }
    }
    text
}

fn describe_difference(difference: &Difference) -> String {
    let Difference { device, reference, slice, kernel, element, .. } = difference;
    let place = match kernel {
        Some(kernel) => format!("in kernel {} `{}`", kernel.index, kernel.name),
        None => "in a run of the whole network, though no kernel does alone".to_string(),
    };
    let mut text = format!("{device} differs from {reference} {place}, batch {slice}\n");
    let Some(element) = element else {
        let _ =
            writeln!(text, "  but when {reference} ran again, it gave the other bits too: it does not repeat itself");
        return text;
    };
    let value = |bits: u32| difference::value(element.dtype, bits);
    let _ = writeln!(text, "  element {} = {:?} of `{}`", element.index, element.coordinates, element.buffer);
    let _ = writeln!(text, "  {reference:>8} {}", value(element.expected));
    let _ = writeln!(text, "  {device:>8} {}", value(element.found));
    let _ = writeln!(
        text,
        "  {} of {} elements differ",
        format::count(element.count as u64),
        format::count(element.of as u64)
    );
    text
}
