//! Kernels that differ in their buffers alone.
//!
//! Code reaches buffers through a table, so that the same code does for all of them: the layers of a deep network, whose
//! blocks repeat, are generated and compiled once.

use std::collections::BTreeMap;

use loom_ir::kernel::{BufferId, BufferKind, Forms, Kernel, Program};
use loom_ir::numerics::stored::Form as StoredForm;
use loom_ir::types::{DType, Shape};

/// What a kernel's code depends on.
#[derive(PartialEq, Eq)]
struct Form {
    /// With its buffers numbered by their places in its table, and without its names.
    kernel: Kernel,
    /// By place in the table.
    buffers: Vec<Place>,
}

/// What code depends on of a buffer.
#[derive(PartialEq, Eq)]
struct Place {
    dtype: DType,
    shape: Shape,
    /// The same in all runs: its panels are packed once.
    is_fixed: bool,
    /// Written with one NaN.
    is_shown: bool,
    /// What a weight is stored in.
    form: Option<StoredForm>,
}

impl Form {
    fn of(program: &Program, forms: &Forms, kernel: &Kernel) -> Form {
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
            Place {
                dtype: buffer.dtype,
                shape: buffer.shape.clone(),
                is_fixed: buffer.kind.is_weight() || matches!(buffer.kind, BufferKind::Constant(_)),
                is_shown: buffer.kind == BufferKind::Output,
                form: forms.get(&id).copied(),
            }
        };
        Form { buffers: table.iter().map(buffer).collect(), kernel }
    }
}

/// For each kernel the first one with the same code: itself, of most.
pub(crate) fn first_alike(program: &Program, forms: &Forms) -> Vec<usize> {
    let mut known: BTreeMap<Vec<u64>, Vec<(Form, usize)>> = BTreeMap::new();
    let first = |(number, kernel): (usize, &Kernel)| {
        let form = Form::of(program, forms, kernel);
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
