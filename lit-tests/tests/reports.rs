//! Every kernel of random networks, taken out with what it read: alone it gives the bits that it gave in the network.

use std::path::Path;

use loom_ir::kernel::Kernel;
use loom_lit_tests::network::random_network;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::compare::compare;
use loom_runtime::digest::canonical;
use loom_runtime::executor::flip::Flip;
use loom_runtime::report::{Report, capture};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::weights::{Weights, draw_inputs};

fn artifact(seed: u64) -> Artifact {
    let network = loom_ir::config::parse(&random_network(seed, 5, 2)).unwrap();
    let program = compile(&network, &PipelineOptions::default()).unwrap();
    let weights = Weights::initialise(&program, seed).unwrap();
    Artifact::new(std::sync::Arc::new(program), weights, Target::Cpu, Vec::new())
}

/// Compares the interpreter with one that is wrong in an element of a kernel, and gives the report.
fn report(artifact: &Artifact, kernel: usize, element: usize) -> Report {
    let wrong = Flip { kernel: kernel.to_string(), element };
    let options = SessionOptions { flip: Some(wrong), ..SessionOptions::on(Device::Interp) };
    let mut sessions = [SessionOptions::on(Device::Interp), options].map(|o| Session::new(artifact, o).unwrap());
    let inputs = draw_inputs(artifact.program(), 3).unwrap();
    let comparison = compare(&mut sessions, &inputs, &mut |_, _| {}).unwrap();
    let difference = comparison.difference.unwrap();
    assert_eq!(difference.kernel.as_ref().map(|kernel| kernel.index), Some(kernel));
    let [reference, other] = &mut sessions;
    capture(artifact, reference, other, &inputs, &difference).unwrap().unwrap()
}

fn reloaded(report: &Report) -> Report {
    let mut bytes = Vec::new();
    report.write(&mut bytes).unwrap();
    Report::from_bytes(Path::new("report"), bytes).unwrap()
}

#[test]
fn kernels_give_the_same_bits_alone() {
    let mut kernels = 0;
    for seed in 0..25 {
        let artifact = artifact(seed);
        for (number, kernel) in artifact.program().kernels.iter().enumerate() {
            let elements = artifact.program().buffer(kernel.output.buffer).shape.elements() as usize;
            let element = (seed as usize * 7 + number) % elements;
            let report = reloaded(&report(&artifact, number, element));
            assert!(report.is_kernel() && report.finding().element == element as u64);
            let mut sessions =
                [Device::Interp, Device::Cpu].map(|d| Session::new(report.artifact(), SessionOptions::on(d)).unwrap());
            for outcome in report.replay(&mut sessions).unwrap() {
                assert_eq!(outcome.difference, None, "seed {seed}, kernel {number}");
                assert_eq!(outcome.bits.map(canonical), Some(canonical(report.finding().expected)), "seed {seed}");
            }
            check_operands(&report, kernel);
            kernels += 1;
        }
    }
    assert!(kernels > 50, "{kernels}");
}

/// Everything that the element is made of is among what the kernel loads.
fn check_operands(report: &Report, kernel: &Kernel) {
    let operands = report.operands(3).unwrap();
    assert_eq!(operands.index.len(), kernel.output_axes());
    let read =
        |name: &str| report.inputs().iter().chain(report.artifact().weights().tensors()).find(|t| t.name() == name);
    for operand in operands.list {
        let buffer = report.artifact().program().buffer(operand.buffer);
        if let Some(element) = operand.element {
            assert_eq!(read(&buffer.name).unwrap().bits()[element as usize], operand.bits);
        }
    }
}

#[test]
fn damaged_reports_are_refused() {
    let report = report(&artifact(0), 0, 0);
    let mut bytes = Vec::new();
    report.write(&mut bytes).unwrap();
    let from = |bytes: Vec<u8>| Report::from_bytes(Path::new("report"), bytes).map(|_| ()).map_err(|e| e.to_string());
    for (old, new, message) in [
        ("loom.report\":\"1\"", "loom.report\":\"9\"", "format `9`"),
        ("\"LN1\"", "\"LN9\"", "numerics `LN9`"),
        ("loom.difference", "loom.sameness..", "`loom.difference`: is missing"),
        ("axes", "aXes", "`loom.program`"),
    ] {
        let text: Vec<u8> = String::from_utf8_lossy(&bytes[8..]).replacen(old, new, 1).into_bytes();
        // Only the header is text; what follows it is taken from the original.
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let damaged = [&bytes[..8], &text[..header], &bytes[8 + header..]].concat();
        let error = from(damaged).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert!(from(bytes[..bytes.len() - 1].to_vec()).is_err());
    assert!(from(bytes).is_ok());
}
