//! How many bytes a kernel must move.

use loom_ir::kernel::{Access, Body, BufferKind, Forms, Kernel, Program};

/// Bytes of one element in memory.
const ELEMENT: u64 = 4;

/// Bytes that a kernel moves at least: every element that it reads once, and every element that it writes. Of weights that are
/// kept as they are stored these are the stored ones, without their scales, and a code of a layer of integers is one.
pub fn of_kernel(program: &Program, kernel: &Kernel, forms: &Forms) -> u64 {
    let mut bytes = extents(&kernel.axes[..kernel.output_axes()]).saturating_mul(ELEMENT);
    for buffer in kernel.buffers() {
        let reads = kernel.loads.iter().filter(|load| load.buffer == buffer);
        let read = reads.map(|load| reach(kernel, load)).fold(0, u64::saturating_add);
        let read = read.min(program.buffer(buffer).shape.elements());
        bytes = bytes.saturating_add(match forms.get(&buffer) {
            Some(form) => read.saturating_mul(form.storage.bits().into()).div_ceil(8),
            None if matches!(program.buffer(buffer).kind, BufferKind::Codes(_)) => read,
            None => read.saturating_mul(ELEMENT),
        });
    }
    bytes
}

/// How many elements an access names, where no two indices that differ in what it depends on name the same.
fn reach(kernel: &Kernel, load: &Access) -> u64 {
    let moves = |axis: usize| load.coords.iter().any(|coord| coord.coefficients[axis] != 0);
    let last = kernel.output_axes();
    if matches!(kernel.body, Body::Gather(_)) && moves(last) {
        // An output takes one index of the gathered axis.
        return extents(&kernel.axes[..last]);
    }
    let axes: Vec<u64> = (0..kernel.axes.len()).filter(|&axis| moves(axis)).map(|axis| kernel.axes[axis]).collect();
    extents(&axes)
}

fn extents(axes: &[u64]) -> u64 {
    axes.iter().fold(1, |product, &extent| product.saturating_mul(extent))
}
