//! Kernels that differ in their buffers alone.
//!
//! Code reaches buffers through a table, so that the same code does for all of them: the layers of a deep network, whose
//! blocks repeat, are generated and compiled once.

use std::collections::BTreeMap;

use loom_ir::kernel::{BufferId, BufferKind, Kernel, Program};
use loom_ir::types::{DType, Shape};

/// What a kernel's code depends on.
#[derive(PartialEq, Eq)]
struct Form {
    /// With its buffers numbered by their places in its table, and without its names.
    kernel: Kernel,
    /// By place in the table: the type, the shape, and whether it's the same in all runs.
    buffers: Vec<(DType, Shape, bool)>,
}

impl Form {
    fn of(program: &Program, kernel: &Kernel) -> Form {
        let table = kernel.buffers();
        let mut kernel = kernel.clone();
        kernel.name.clear();
        kernel.in_loop = kernel.in_loop.map(|_| 0);
        for access in kernel.loads.iter_mut().chain([&mut kernel.output]) {
            let place = table.iter().position(|&buffer| buffer == access.buffer).unwrap_or(0);
            access.buffer = BufferId(place as u32);
        }
        let buffer = |&id: &BufferId| {
            let buffer = program.buffer(id);
            let is_fixed = matches!(buffer.kind, BufferKind::Weight | BufferKind::Constant(_));
            (buffer.dtype, buffer.shape.clone(), is_fixed)
        };
        Form { buffers: table.iter().map(buffer).collect(), kernel }
    }
}

/// For each kernel the first one with the same code: itself, of most.
pub(crate) fn first_alike(program: &Program) -> Vec<usize> {
    let mut known: BTreeMap<Vec<u64>, Vec<(Form, usize)>> = BTreeMap::new();
    let first = |(number, kernel): (usize, &Kernel)| {
        let form = Form::of(program, kernel);
        // Most kernels that differ have other extents.
        let candidates = known.entry(kernel.axes.clone()).or_default();
        match candidates.iter().find(|(other, _)| *other == form) {
            Some(&(_, first)) => first,
            None => {
                candidates.push((form, number));
                number
            }
        }
    };
    program.kernels.iter().enumerate().map(first).collect()
}
