//! `loomc verify`.

use std::fmt::Write;

use loom_ir::types::DType;
use loom_runtime::compare::{Comparison, Difference, compare};
use loom_runtime::executor::flip::Flip;
use loom_runtime::executor::tier::Tier;
use loom_runtime::session::{Device, Session, SessionOptions};
use serde::Serialize;

use crate::cli::Verify;
use crate::failure::Failure;
use crate::model::{Model, device_name, slices, with_details};
use crate::progress::Progress;
use crate::{format, stdout};

/// The environment variable that makes a device wrong on purpose: `DEVICE:KERNEL:ELEMENT`. For tests.
const FLIP_VARIABLE: &str = "LOOM_DEBUG_FLIP_BIT";

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
}

pub fn verify(args: &Verify) -> Result<(), Failure> {
    if args.devices.len() == 1 {
        return Err(Failure::User("there is nothing to compare: --devices names only one".to_string()));
    }
    let mut model = Model::load(&args.model)?;
    let input = model.input(args.input.as_deref())?;
    let flip = flip()?;
    let chosen =
        if args.devices.is_empty() { vec![Device::Interp, Device::Cpu, Device::Gpu] } else { args.devices.clone() };
    let mut sessions = Vec::new();
    let mut skipped = Vec::new();
    // A device that is compared with itself is only wrong the last time.
    let faulty = flip.as_ref().and_then(|(device, _)| chosen.iter().rposition(|chosen| chosen == device));
    for (position, device) in chosen.into_iter().enumerate() {
        let mut options = with_details(SessionOptions::on(device), &args.details);
        options.flip = flip.as_ref().filter(|_| faulty == Some(position)).map(|(_, flip)| flip.clone());
        match Session::new(&model.artifact, options) {
            Ok(session) => sessions.push(session),
            // Without names, whatever there is is compared.
            Err(error) if args.devices.is_empty() && error.is_no_device() => skipped.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    if sessions.len() < 2 {
        let reasons: String = skipped.iter().map(|reason| format!("\n  {reason}")).collect();
        return Err(Failure::NoDevice(format!("there is nothing to compare: fewer than two devices{reasons}")));
    }
    slices(&sessions[0], &input, args.input.as_deref())?;
    let mut progress = Progress::new("verify");
    let comparison = compare(&mut sessions, &input, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    let tiers: Vec<Option<Tier>> = sessions.iter().map(Session::tier).collect();
    let network = model.artifact.program().name.as_str();
    if args.json {
        stdout::json("verify", &report(network, &comparison, &tiers, &skipped))?;
    } else {
        stdout::print(&describe(&comparison, &tiers, &skipped))?;
    }
    if comparison.difference.is_some() { Err(Failure::No) } else { Ok(()) }
}

fn flip() -> Result<Option<(Device, Flip)>, Failure> {
    let Ok(value) = std::env::var(FLIP_VARIABLE) else { return Ok(None) };
    let parsed = value.split_once(':').and_then(|(device, rest)| {
        let (kernel, element) = rest.rsplit_once(':')?;
        Some((device.parse().ok()?, Flip { kernel: kernel.to_string(), element: element.parse().ok()? }))
    });
    let wrong = || Failure::User(format!("{FLIP_VARIABLE} is DEVICE:KERNEL:ELEMENT, not `{value}`"));
    parsed.map(Some).ok_or_else(wrong)
}

fn report<'a>(
    network: &'a str,
    comparison: &'a Comparison,
    tiers: &[Option<Tier>],
    skipped: &'a [String],
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

fn describe(comparison: &Comparison, tiers: &[Option<Tier>], skipped: &[String]) -> String {
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
        Some(difference) => text.push_str(&describe_difference(difference)),
    }
    text
}

fn describe_difference(difference: &Difference) -> String {
    let Difference { device, reference, slice, kernel, element } = difference;
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
    let value = |bits: u32| match element.dtype {
        DType::F32 => format!("{bits:08x} ({:e})", f32::from_bits(bits)),
        DType::I32 => format!("{bits:08x} ({})", bits as i32),
        DType::U32 | DType::Bool => format!("{bits:08x} ({bits})"),
    };
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
