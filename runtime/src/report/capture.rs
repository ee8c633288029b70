//! Takes the kernel that differs out of its network, with what it read.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use loom_ir::kernel::{BufferId, BufferKind, Kernel, Program, verify};

use super::{DeviceNote, Finding, Report, assemble};
use crate::artifact::Artifact;
use crate::compare::{CompareError, Difference, failed};
use crate::executor::ExecuteError;
use crate::session::{RunError, Session};
use crate::tensors::Tensor;

/// The report of a difference. `reference` and `device` are the sessions of the artifact that were compared on `inputs`.
///
/// `None` where there's nothing to show: the reference did not repeat itself.
pub fn capture(
    artifact: &Artifact,
    reference: &mut Session,
    device: &Session,
    inputs: &[Tensor],
    difference: &Difference,
) -> Result<Option<Report>, CompareError> {
    let Some(element) = &difference.element else { return Ok(None) };
    let program = artifact.program();
    let kernel = difference.kernel.as_ref().map(|kernel| kernel.index);
    let slices = reference.slices(inputs).map_err(failed(reference))?;
    let mut padded = slices.scratch();
    let given = slices.inputs(difference.slice, &mut padded);
    let mut read: BTreeMap<BufferId, Vec<u32>> = BTreeMap::new();
    for ((id, _), bits) in program.inputs().zip(&given) {
        read.insert(id, bits.to_vec());
    }
    for ((id, _), tensor) in program.weights().zip(artifact.weights().tensors()) {
        read.insert(id, tensor.bits().to_vec());
    }
    for (id, buffer) in program.buffers_where(|kind| matches!(kind, BufferKind::Constant(_))) {
        if let BufferKind::Constant(bits) = &buffer.kind {
            read.insert(id, bits.clone());
        }
    }
    // A kernel of a loop reads what the loop has written before: only the whole network shows that again.
    let alone = kernel.and_then(|number| program.kernels.get(number)).filter(|kernel| kernel.in_loop.is_none());
    if let (Some(kernel), Some(number)) = (alone, kernel) {
        let wanted = kernel.buffers();
        read.retain(|id, _| wanted.contains(id));
        let mut observe = |at: usize, bits: &[u32]| {
            if at >= number {
                return ControlFlow::Break(());
            }
            if let Some(kernel) = program.kernels.get(at)
                && wanted.contains(&kernel.output.buffer)
            {
                read.insert(kernel.output.buffer, bits.to_vec());
            }
            ControlFlow::Continue(())
        };
        reference.trace(&given, &mut observe).map_err(failed(reference))?;
    }
    let (alone, origin) = match alone {
        Some(kernel) => extracted(program, kernel),
        None => (Program::clone(program), (0..program.buffers.len() as u32).map(BufferId).collect()),
    };
    // The element of the batch at hand, not of all samples.
    let rows = slices.rows(difference.slice);
    let sample = (element.of as u64).checked_div(slices.samples()).unwrap_or(0);
    let skipped = if kernel.is_some() { 0 } else { rows.start.saturating_mul(sample) };
    let note = |session: &Session| DeviceNote {
        device: session.device().name().to_string(),
        description: session.description(),
    };
    let finding = Finding {
        network: program.name.clone(),
        kernel,
        slice: difference.slice,
        reference: note(reference),
        device: note(device),
        buffer: element.buffer.clone(),
        dtype: element.dtype,
        element: (element.index as u64).saturating_sub(skipped),
        expected: element.expected,
        found: element.found,
        count: element.count as u64,
        of: element.of as u64,
    };
    let internal = |reason: String| CompareError::Run {
        device: reference.device(),
        source: RunError::Execute(ExecuteError::Internal(reason)),
    };
    let alone = verify(alone).map_err(|error| internal(format!("a kernel alone: {error}")))?;
    let tensors = |keep: &dyn Fn(&BufferKind) -> bool| -> Option<Vec<Tensor>> {
        let buffers = alone.buffers.iter().zip(&origin).filter(|(buffer, _)| keep(&buffer.kind));
        buffers
            .map(|(buffer, id)| {
                Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), read.get(id).cloned().unwrap_or_default())
            })
            .collect()
    };
    let weights = tensors(&|kind| *kind == BufferKind::Weight);
    let inputs = tensors(&|kind| *kind == BufferKind::Input);
    let version = env!("CARGO_PKG_VERSION").to_string();
    let report = match (weights, inputs) {
        (Some(weights), Some(inputs)) => assemble(version, finding, alone, weights, inputs),
        _ => None,
    };
    report.map(Some).ok_or_else(|| internal("a kernel's buffers do not fit it".to_string()))
}

/// A kernel as a program of its own, and the number that each of its buffers had.
///
/// What it reads becomes inputs; weights and constants become weights, since code generators prepare both ahead of a run.
fn extracted(program: &Program, kernel: &Kernel) -> (Program, Vec<BufferId>) {
    let origin = kernel.buffers();
    let renamed: BTreeMap<BufferId, BufferId> =
        origin.iter().enumerate().map(|(new, &old)| (old, BufferId(new as u32))).collect();
    let mut kernel = kernel.clone();
    let output = kernel.output.buffer;
    for access in kernel.loads.iter_mut().chain([&mut kernel.output]) {
        if let Some(&new) = renamed.get(&access.buffer) {
            access.buffer = new;
        }
    }
    let buffers = origin
        .iter()
        .filter_map(|&id| {
            let mut buffer = program.buffers.get(id.index())?.clone();
            buffer.kind = match buffer.kind {
                _ if id == output => BufferKind::Output,
                BufferKind::Weight | BufferKind::Constant(_) => BufferKind::Weight,
                BufferKind::Input | BufferKind::Output | BufferKind::Temp => BufferKind::Input,
            };
            Some(buffer)
        })
        .collect();
    (Program { name: program.name.clone(), buffers, kernels: vec![kernel], plan: None }, origin)
}
