//! Every kernel of random networks and graphs, taken out with what it read: alone it gives the bits that it gave in the network.

use std::path::Path;
use std::sync::Arc;

use loom_ir::kernel::{Buffer, BufferKind, Kernel};
use loom_ir::types::DType;
use loom_lit_tests::network::random_network;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::compare::compare;
use loom_runtime::digest::canonical;
use loom_runtime::executor::flip::Flip;
use loom_runtime::report::{Report, capture};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::Tensor;
use loom_runtime::weights::{Weights, draw_inputs};
use loom_testing::case::Case;
use loom_testing::oracles::differential::program;

/// A random network and the input that its seed gives.
fn network(seed: u64) -> (Artifact, Vec<Tensor>) {
    let network = loom_ir::config::parse(&random_network(seed, 5, 2)).unwrap();
    let program = compile(&network, &PipelineOptions::default()).unwrap();
    let weights = Weights::initialise(&program, seed).unwrap();
    let inputs = draw_inputs(&program, 3).unwrap();
    (Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new()), inputs)
}

/// A random graph and its values.
fn graph(seed: u64) -> (Artifact, Vec<Tensor>) {
    let case = Case::from_seed(seed);
    let program = program(&case, &[]).unwrap();
    let [inputs, weights] = [BufferKind::is_input, BufferKind::is_weight].map(|keep| {
        let bits = case.tensors(&program, keep);
        let buffers = program.buffers_where(keep).zip(bits);
        let tensor = |((_, b), bits): ((_, &Buffer), _)| Tensor::new(&b.name, b.dtype, b.shape.clone(), bits).unwrap();
        buffers.map(tensor).collect::<Vec<_>>()
    });
    let weights = Weights::of_program(weights, &program).unwrap();
    (Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new()), inputs)
}

/// Compares the interpreter with one that is wrong in an element of a kernel, and gives the report. `None` where there are
/// no samples.
fn report(artifact: &Artifact, inputs: &[Tensor], kernel: usize, element: usize) -> Option<Report> {
    let wrong = Flip { kernel: kernel.to_string(), element };
    let options = SessionOptions { flip: Some(wrong), ..SessionOptions::on(Device::Interp) };
    let mut sessions = [SessionOptions::on(Device::Interp), options].map(|o| Session::new(artifact, o).unwrap());
    let difference = compare(&mut sessions, inputs, &mut |_, _| {}).ok()?.difference?;
    assert_eq!(difference.kernel.as_ref().map(|kernel| kernel.index), Some(kernel));
    let [reference, other] = &mut sessions;
    capture(artifact, reference, other, inputs, &difference).unwrap()
}

fn reloaded(report: &Report) -> Report {
    let mut bytes = Vec::new();
    report.write(&mut bytes).unwrap();
    Report::from_bytes(Path::new("report"), bytes).unwrap()
}

/// How many kernels were looked at: alone, in loops.
fn check(seeds: std::ops::Range<u64>, make: fn(u64) -> (Artifact, Vec<Tensor>)) -> (usize, usize) {
    let (mut alone, mut in_loops) = (0, 0);
    for seed in seeds {
        let (artifact, inputs) = make(seed);
        for (number, kernel) in artifact.program().kernels.iter().enumerate() {
            let buffer = artifact.program().buffer(kernel.output.buffer);
            let elements = buffer.shape.elements() as usize;
            let Some(element) = (seed as usize * 7 + number).checked_rem(elements) else { continue };
            let Some(report) = report(&artifact, &inputs, number, element) else { continue };
            let report = reloaded(&report);
            assert_eq!(report.kernel().map(|kernel| kernel.axes.clone()), Some(kernel.axes.clone()));
            assert_eq!(report.finding().element, element as u64);
            let mut sessions =
                [Device::Interp, Device::Cpu].map(|d| Session::new(report.artifact(), SessionOptions::on(d)).unwrap());
            for outcome in report.replay(&mut sessions).unwrap() {
                assert_eq!(outcome.difference, None, "seed {seed}, kernel {number}");
                let same = |bits: u32| if buffer.dtype == DType::F32 { canonical(bits) } else { bits };
                assert_eq!(outcome.bits.map(same), Some(same(report.finding().expected)), "seed {seed}");
            }
            check_operands(&report, kernel);
            *(if kernel.in_loop.is_some() { &mut in_loops } else { &mut alone }) += 1;
        }
    }
    (alone, in_loops)
}

#[test]
fn kernels_of_networks_give_the_same_bits_alone() {
    let (alone, _) = check(0..25, network);
    assert!(alone > 50, "{alone}");
}

#[test]
fn kernels_of_graphs_give_the_same_bits_alone() {
    let (alone, in_loops) = check(0..60, graph);
    assert!(alone > 60 && in_loops > 5, "{alone} alone, {in_loops} in loops");
}

/// Everything that the element is made of and that is given is what the kernel loads.
fn check_operands(report: &Report, kernel: &Kernel) {
    let operands = report.operands(3).unwrap();
    assert_eq!(operands.index.len(), kernel.output_axes());
    let given =
        |name: &str| report.inputs().iter().chain(report.artifact().weights().tensors()).find(|t| t.name() == name);
    for operand in operands.list {
        let buffer = report.artifact().program().buffer(operand.buffer);
        if let (Some(element), Some(tensor)) = (operand.element, given(&buffer.name)) {
            assert_eq!(tensor.bits()[element as usize], operand.bits);
        }
        assert!(kernel.in_loop.is_some() || given(&buffer.name).is_some(), "`{}` is not given", buffer.name);
    }
}

#[test]
fn damaged_reports_are_refused() {
    let (artifact, inputs) = network(0);
    let report = report(&artifact, &inputs, 0, 0).unwrap();
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
