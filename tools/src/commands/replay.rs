//! `loomc replay`.

use std::fmt::Write;

use loom_ir::kernel::Program;
use loom_runtime::compare::Element;
use loom_runtime::report::{Finding, Outcome, Report};
use serde::Serialize;

use super::difference::{self, Opened, OperandReport, open};
use crate::cli::Replay;
use crate::failure::{Failure, printable};
use crate::{format, stdout};

/// A golden file of more elements than this is nothing to read.
const MAX_LIT_ELEMENTS: usize = 1 << 14;

/// The fields of `loomc replay --json`, schema 1.
#[derive(Serialize)]
struct ReplayReport<'a> {
    /// Whether every bit is the same here.
    same: bool,
    /// What was found when the file was written.
    finding: &'a Finding,
    /// The version of the compiler that wrote it.
    version: &'a str,
    /// What the devices give here, the reference first.
    devices: Vec<DeviceReport>,
    /// Devices of this machine's build that could not be opened, where none were asked for by name.
    skipped: &'a [String],
    /// What the element is made of; of many terms the first.
    operands: Vec<OperandReport>,
}

#[derive(Serialize)]
struct DeviceReport {
    device: &'static str,
    description: String,
    /// The bits of the finding's element in hexadecimal.
    bits: Option<String>,
    /// The first element that differs from the reference's, row-major.
    element: Option<usize>,
    /// The reference's bits there.
    expected: Option<String>,
    /// The device's bits there.
    found: Option<String>,
    /// How many elements differ.
    count: usize,
}

pub fn replay(args: &Replay) -> Result<(), Failure> {
    let report = Report::load(&args.file)?;
    if args.lit {
        return stdout::print(&lit(&report)?);
    }
    let Opened { mut sessions, skipped } = open(report.artifact(), &args.devices, &args.details)?;
    let outcomes = report.replay(&mut sessions)?;
    let same = outcomes.iter().all(|outcome| outcome.difference.is_none());
    let devices: Vec<(&'static str, String, &Outcome)> = sessions
        .iter()
        .zip(&outcomes)
        .map(|(session, outcome)| (session.device().name(), session.description(), outcome))
        .collect();
    if args.json {
        let devices = devices.into_iter().map(device_report).collect();
        let operands = difference::operand_reports(&report);
        let (finding, version) = (report.finding(), report.version());
        stdout::json("replay", &ReplayReport { same, finding, version, devices, skipped: &skipped, operands })?;
    } else {
        stdout::print(&describe(&report, &devices, &skipped))?;
    }
    if same { Ok(()) } else { Err(Failure::No) }
}

fn device_report((device, description, outcome): (&'static str, String, &Outcome)) -> DeviceReport {
    let hex = |bits: u32| format!("{bits:08x}");
    let element = outcome.difference.as_ref();
    DeviceReport {
        device,
        description,
        bits: outcome.bits.map(hex),
        element: element.map(|element| element.index),
        expected: element.map(|element| hex(element.expected)),
        found: element.map(|element| hex(element.found)),
        count: element.map_or(0, |element| element.count),
    }
}

fn describe(report: &Report, devices: &[(&'static str, String, &Outcome)], skipped: &[String]) -> String {
    let finding = report.finding();
    let value = |bits: u32| difference::value(finding.dtype, bits);
    let mut text = String::new();
    let what = match report.kernel() {
        Some(kernel) => format!("kernel {} `{}`", finding.kernel.unwrap_or(0), kernel.name),
        None => "the network".to_string(),
    };
    let _ = writeln!(text, "{what} of `{}`, element {} of `{}`", finding.network, finding.element, finding.buffer);
    let _ = writeln!(text, "found by Loom {} in batch {}", report.version(), finding.slice);
    for (note, bits) in [(&finding.reference, finding.expected), (&finding.device, finding.found)] {
        let _ = writeln!(text, "  {:>8} {} on {}", note.device, value(bits), note.description);
    }
    let _ = writeln!(text, "here");
    for (device, description, outcome) in devices {
        let bits = outcome.bits.map_or("no such element".to_string(), value);
        let verdict = match &outcome.difference {
            None => String::new(),
            Some(Element { index, buffer, count, of, .. }) => format!(
                ": {} of {} differ, first {index} of `{buffer}`",
                format::count(*count as u64),
                format::counted(*of as u64, "element"),
            ),
        };
        let _ = writeln!(text, "  {device:>8} {bits} on {description}{verdict}");
    }
    text.push_str(&difference::describe_operands(report));
    for reason in skipped {
        let _ = writeln!(text, "left out: {reason}");
    }
    let same = devices.iter().all(|(_, _, outcome)| outcome.difference.is_none());
    text.push_str(if same { "the same bits here\n" } else { "they differ here too\n" });
    printable(&text)
}

/// The report as a golden file: the program, its values, and an empty section for the output.
fn lit(report: &Report) -> Result<String, Failure> {
    let tensors = || report.inputs().iter().chain(report.artifact().weights().tensors());
    let elements: usize = tensors().map(|tensor| tensor.bits().len()).sum();
    if elements > MAX_LIT_ELEMENTS {
        return Err(Failure::User(format!(
            "{} are too many for a golden file, the limit is {}",
            format::counted(elements as u64, "element"),
            format::count(MAX_LIT_ELEMENTS as u64)
        )));
    }
    let json = |error: serde_json::Error| Failure::Internal(error.to_string());
    let program: &Program = report.artifact().program();
    let finding = report.finding();
    let mut text = format!(
        "A difference of {} from {} in element {} ({:08x}, not {:08x}).\n\n==== program\n{}\n==== values\n",
        finding.device.device,
        finding.reference.device,
        finding.element,
        finding.found,
        finding.expected,
        serde_json::to_string(program).map_err(json)?,
    );
    for tensor in tensors() {
        let bits: Vec<String> = tensor.bits().iter().map(|bits| format!("{bits:08x}")).collect();
        let _ = writeln!(text, "{} {}", serde_json::to_string(tensor.name()).map_err(json)?, bits.join(" "));
    }
    text.push_str("==== output\n");
    Ok(text)
}
