//! What `verify` and `replay` share: the devices compared, and how a difference is told.

use std::fmt::Write;

use loom_ir::eval::operands::{Operand, Role};
use loom_ir::types::DType;
use loom_runtime::artifact::Artifact;
use loom_runtime::executor::flip::Flip;
use loom_runtime::report::Report;
use loom_runtime::session::{Device, Session, SessionOptions};
use serde::Serialize;

use crate::cli::DeviceDetails;
use crate::failure::{Failure, printable};
use crate::format;
use crate::model::with_details;

/// The environment variable that makes a device wrong on purpose: `DEVICE:KERNEL:ELEMENT`. For tests.
const FLIP_VARIABLE: &str = "LOOM_DEBUG_FLIP_BIT";

/// Of the terms of a sum, so many are told.
const TERMS: usize = 16;

/// The devices to compare, the reference first: at least two.
pub struct Opened {
    pub sessions: Vec<Session>,
    /// Devices that could not be opened, where none were asked for by name.
    pub skipped: Vec<String>,
}

/// Opens the devices that were asked for by name, or else whatever there is.
pub fn open(artifact: &Artifact, devices: &[Device], details: &DeviceDetails) -> Result<Opened, Failure> {
    if devices.len() == 1 {
        return Err(Failure::User("there is nothing to compare: --devices names only one".to_string()));
    }
    let flip = flip()?;
    let chosen = if devices.is_empty() { vec![Device::Interp, Device::Cpu, Device::Gpu] } else { devices.to_vec() };
    let mut opened = Opened { sessions: Vec::new(), skipped: Vec::new() };
    // A device that is compared with itself is only wrong the last time.
    let faulty = flip.as_ref().and_then(|(device, _)| chosen.iter().rposition(|chosen| chosen == device));
    for (position, device) in chosen.into_iter().enumerate() {
        let mut options = with_details(SessionOptions::on(device), details);
        options.flip = flip.as_ref().filter(|_| faulty == Some(position)).map(|(_, flip)| flip.clone());
        match Session::new(artifact, options) {
            Ok(session) => opened.sessions.push(session),
            // Without names, whatever there is is compared.
            Err(error) if devices.is_empty() && error.is_no_device() => opened.skipped.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    if opened.sessions.len() < 2 {
        let reasons: String = opened.skipped.iter().map(|reason| format!("\n  {reason}")).collect();
        return Err(Failure::NoDevice(format!("there is nothing to compare: fewer than two devices{reasons}")));
    }
    Ok(opened)
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

/// Bits and what they mean.
pub fn value(dtype: DType, bits: u32) -> String {
    match dtype {
        DType::F32 => format!("{bits:08x} ({:e})", f32::from_bits(bits)),
        DType::I32 => format!("{bits:08x} ({})", bits as i32),
        _ => format!("{bits:08x} ({bits})"),
    }
}

/// A value that a differing element is made of.
#[derive(Serialize)]
pub struct OperandReport {
    /// `result`, `term`, `left`, `right` or `row`.
    role: &'static str,
    /// Of a reduction: the stage.
    stage: Option<usize>,
    /// Of a reduction or product: the term's number.
    term: Option<u64>,
    /// The buffer that it is loaded from.
    buffer: String,
    /// Its place there, row-major; null for what fills up around a tensor.
    element: Option<u64>,
    /// Its bits in hexadecimal.
    bits: String,
}

/// What the element of a report is made of, for programs.
pub fn operand_reports(report: &Report) -> Vec<OperandReport> {
    let of = |operand: &Operand| {
        let (role, stage, term) = match operand.role {
            Role::Result => ("result", None, None),
            Role::Row => ("row", None, None),
            Role::Term { stage, term } => ("term", Some(stage), Some(term)),
            Role::Left(term) => ("left", None, Some(term)),
            Role::Right(term) => ("right", None, Some(term)),
        };
        let buffer = buffer_name(report, operand);
        OperandReport { role, stage, term, buffer, element: operand.element, bits: format!("{:08x}", operand.bits) }
    };
    report.operands(TERMS).map_or_else(Vec::new, |operands| operands.list.iter().map(of).collect())
}

/// What the element of a report is made of, for people.
pub fn describe_operands(report: &Report) -> String {
    let Some(operands) = report.operands(TERMS) else { return String::new() };
    if operands.list.is_empty() {
        return String::new();
    }
    let mut text = format!("  made at {:?} from\n", operands.index);
    for operand in &operands.list {
        let role = match operand.role {
            Role::Result => String::new(),
            Role::Row => "row: ".to_string(),
            Role::Term { stage, term } => format!("stage {stage}, term {term}: "),
            Role::Left(term) => format!("left {term}: "),
            Role::Right(term) => format!("right {term}: "),
        };
        let program = report.artifact().program();
        let dtype = program.buffer(operand.buffer).dtype;
        let name = printable(&buffer_name(report, operand));
        let place = operand.element.map_or("outside".to_string(), |element| format!("element {element}"));
        let _ = writeln!(text, "    {role}`{name}`, {place}: {}", value(dtype, operand.bits));
    }
    if operands.left_out > 0 {
        let _ = writeln!(text, "    and {} more", format::counted(operands.left_out, "term"));
    }
    text
}

fn buffer_name(report: &Report, operand: &Operand) -> String {
    report.artifact().program().buffer(operand.buffer).name.clone()
}
