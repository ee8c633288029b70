//! Reports of differences from strangers.

use std::path::Path;

use loom_runtime::report::Report;
use loom_runtime::session::{Device, Session, SessionOptions};

use super::{affordable, expect_no_defect};

/// Loads a report, writes it again, tells what its element is made of, and runs it if it costs little.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let path = Path::new("fuzz.difference.safetensors");
    let report = match Report::from_bytes(path, data.to_vec()) {
        Ok(report) => report,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut written = Vec::new();
    report.write(&mut written).unwrap_or_else(|error| panic!("can't be written again: {error}"));
    let again =
        Report::from_bytes(path, written).unwrap_or_else(|error| panic!("a written report is refused: {error}"));
    assert_eq!(again.finding(), report.finding());
    if !affordable(report.artifact().program()) {
        return;
    }
    if let (Some(operands), Some(kernel)) = (report.operands(8), report.kernel()) {
        assert_eq!(operands.index.len(), kernel.output_axes());
    }
    match Session::new(report.artifact(), SessionOptions::on(Device::Interp)) {
        Err(error) => expect_no_defect(&error, report.artifact().program()),
        // Inputs that are no inputs (a bool of 2) are refused.
        Ok(session) => drop(report.replay(&mut [session])),
    }
}
