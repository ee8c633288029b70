//! Takes the kernel that differs out of its network, with what it read; of a loop all kernels, since they take turns.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use loom_ir::kernel::{BufferId, BufferKind, Kernel, Program, verify};

use super::{DeviceNote, Finding, Report, assemble};
use crate::artifact::Artifact;
use crate::compare::{CompareError, Difference, failed, state_before};
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
    let state = state_before(reference, &slices, difference.slice).map_err(failed(reference))?;
    let mut scratch = slices.scratch();
    let given = slices.inputs(difference.slice, &mut scratch);
    let given = reference.with_state(state.as_ref(), &given);
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
    let group = kernel.and_then(|number| program.steps().map(|step| step.kernels()).find(|all| all.contains(&number)));
    let (alone, origin) = match (&group, kernel) {
        (Some(group), Some(number)) => extracted(program, group.clone(), number),
        _ => (Program::clone(program), (0..program.buffers.len() as u32).map(BufferId).collect()),
    };
    if let Some(group) = &group {
        read.retain(|id, _| origin.contains(id));
        let mut observe = |at: usize, bits: &[u32]| {
            if at >= group.start {
                return ControlFlow::Break(());
            }
            if let Some(kernel) = program.kernels.get(at)
                && origin.contains(&kernel.output.buffer)
            {
                read.insert(kernel.output.buffer, bits.to_vec());
            }
            ControlFlow::Continue(())
        };
        reference.trace(&given, &mut observe).map_err(failed(reference))?;
    }
    // The element of the run at hand, not of all samples.
    let index = if kernel.is_some() { element.index } else { slices.place(element.of, element.index).1 };
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
        element: index as u64,
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

/// Some kernels as a program of their own, and the number that each of its buffers had.
///
/// What is only read becomes inputs; weights and constants become weights, since code generators prepare both ahead of a
/// run. What kernel number `shown` writes becomes an output, unless a loop writes it again for each of its indices.
fn extracted(program: &Program, group: Range<usize>, shown: usize) -> (Program, Vec<BufferId>) {
    let mut kernels: Vec<Kernel> = program.kernels.get(group).map(<[Kernel]>::to_vec).unwrap_or_default();
    let mut origin: Vec<BufferId> = Vec::new();
    for buffer in kernels.iter().flat_map(Kernel::buffers) {
        if !origin.contains(&buffer) {
            origin.push(buffer);
        }
    }
    let written: Vec<BufferId> = kernels.iter().map(|kernel| kernel.output.buffer).collect();
    let whole = |kernel: &&Kernel| kernel.in_loop.is_none() || kernel.output.depends_on(0);
    let output = program.kernels.get(shown).filter(whole).map(|kernel| kernel.output.buffer);
    let buffers = origin
        .iter()
        .filter_map(|&id| {
            let mut buffer = program.buffers.get(id.index())?.clone();
            buffer.kind = match buffer.kind {
                _ if Some(id) == output => BufferKind::Output,
                kind if written.contains(&id) => kind,
                BufferKind::Weight | BufferKind::Codes(_) | BufferKind::Constant(_) => BufferKind::Weight,
                BufferKind::Input | BufferKind::Output | BufferKind::Temp => BufferKind::Input,
            };
            Some(buffer)
        })
        .collect();
    let renamed: BTreeMap<BufferId, BufferId> =
        origin.iter().enumerate().map(|(new, &old)| (old, BufferId(new as u32))).collect();
    for kernel in &mut kernels {
        for access in kernel.loads.iter_mut().chain([&mut kernel.output]) {
            if let Some(&new) = renamed.get(&access.buffer) {
                access.buffer = new;
            }
        }
    }
    (Program { name: program.name.clone(), buffers, kernels, plan: None }, origin)
}
