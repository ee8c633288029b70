//! `collapse`: fewer and longer loops.
//!
//! An axis of extent 1 goes; two neighbouring axes of one role become one where every access runs through them as
//! through one. Before: `map (i0: 8, i1: 16, i2: 7)` over plain buffers. After: `map (i0: 896)`. The order in which a
//! reduction visits its terms stays, since row-major order over two axes is row-major order over their product.

use loom_ir::kernel::{Access, Affine, Arg, Body, Kernel, Lambda, Program};
use loom_ir::types::Shape;

use crate::fuse::map_lambdas;

/// Collapses the axes of every kernel.
pub fn collapse(mut program: Program) -> Program {
    for kernel in &mut program.kernels {
        collapse_kernel(kernel);
    }
    program
}

fn collapse_kernel(kernel: &mut Kernel) {
    let mut axis = 0;
    while axis < kernel.axes.len() {
        // The axis that a gather takes its place on stays, whatever its extent.
        let gathered = matches!(kernel.body, Body::Gather(_)) && axis >= kernel.output_axes();
        if kernel.axes[axis] == 1 && !indexed(kernel, axis) && !gathered {
            remove_axis(kernel, axis);
        } else {
            axis += 1;
        }
    }
    let mut axis = 0;
    while axis + 1 < kernel.axes.len() {
        if same_role(kernel, axis) && !indexed(kernel, axis) && !indexed(kernel, axis + 1) && merge(kernel, axis) {
            continue;
        }
        axis += 1;
    }
}

fn indexed(kernel: &Kernel, axis: usize) -> bool {
    kernel.lambdas().iter().any(|lambda| lambda.args.contains(&Arg::Index(axis as u32)))
}

/// The numbers of axes in each group, in order.
fn groups(kernel: &Kernel) -> Vec<usize> {
    let count = kernel.axes.len();
    match &kernel.body {
        Body::Map(_) => vec![count],
        Body::Reduce(reduce) => vec![count - reduce.reduced, reduce.reduced],
        Body::Gather(_) => vec![kernel.output_axes(), 1],
        Body::Contract(contract) => {
            let rest = count - contract.batch - contract.rows - contract.columns;
            vec![contract.batch, contract.rows, contract.columns, rest]
        }
    }
}

fn group_of(kernel: &Kernel, axis: usize) -> usize {
    let mut end = 0;
    let groups = groups(kernel);
    groups
        .iter()
        .position(|&count| {
            end += count;
            axis < end
        })
        .unwrap_or(groups.len())
}

fn same_role(kernel: &Kernel, axis: usize) -> bool {
    group_of(kernel, axis) == group_of(kernel, axis + 1)
}

/// Counts one axis less in the axis's group, and renumbers indices above it.
fn forget_axis(kernel: &mut Kernel, axis: usize) {
    let group = group_of(kernel, axis);
    match &mut kernel.body {
        Body::Map(_) | Body::Gather(_) => {}
        Body::Reduce(reduce) => reduce.reduced -= usize::from(group == 1),
        Body::Contract(contract) => match group {
            0 => contract.batch -= 1,
            1 => contract.rows -= 1,
            2 => contract.columns -= 1,
            _ => {}
        },
    }
    kernel.axes.remove(axis);
    map_lambdas(&mut kernel.body, |lambda| Lambda {
        args: lambda
            .args
            .iter()
            .map(|&arg| match arg {
                Arg::Index(index) if index as usize > axis => Arg::Index(index - 1),
                other => other,
            })
            .collect(),
        function: lambda.function.clone(),
    });
}

fn remove_axis(kernel: &mut Kernel, axis: usize) {
    let drop = |affine: &Affine| {
        let mut affine = affine.clone();
        affine.coefficients.remove(axis);
        affine
    };
    for access in kernel.loads.iter_mut().chain([&mut kernel.output]) {
        access.coords = access.coords.iter().map(drop).collect();
        for guard in &mut access.guards {
            guard.expr = drop(&guard.expr);
        }
    }
    forget_axis(kernel, axis);
}

/// Makes `axis` and the next one, if every access allows it.
fn merge(kernel: &mut Kernel, axis: usize) -> bool {
    let extent = kernel.axes[axis + 1] as i64;
    let count = kernel.axes.len();
    let merged: Option<Vec<Access>> =
        kernel.loads.iter().chain([&kernel.output]).map(|access| merged_access(access, axis, extent, count)).collect();
    let Some(mut accesses) = merged else { return false };
    if let Some(output) = accesses.pop() {
        kernel.output = output;
    }
    kernel.loads = accesses;
    kernel.axes[axis] *= kernel.axes[axis + 1];
    forget_axis(kernel, axis + 1);
    true
}

fn merged_access(access: &Access, axis: usize, extent: i64, count: usize) -> Option<Access> {
    let merged = |affine: &Affine| {
        let inner = affine.coefficients[axis + 1];
        if inner.checked_mul(extent) != Some(affine.coefficients[axis]) {
            return None;
        }
        let mut coefficients = affine.coefficients.clone();
        coefficients.remove(axis);
        coefficients[axis] = inner;
        Some(Affine { offset: affine.offset, coefficients })
    };
    let mut access = access.clone();
    for guard in &mut access.guards {
        guard.expr = merged(&guard.expr)?;
    }
    let direct: Option<Vec<Affine>> = access.coords.iter().map(merged).collect();
    match direct {
        Some(coords) => access.coords = coords,
        // With guards, bounds are proved coordinate by coordinate.
        None if !access.guards.is_empty() => return None,
        None => {
            let linear = access.linear();
            debug_assert_eq!(linear.coefficients.len(), count);
            access.coords = vec![merged(&linear)?];
            access.shape = Shape::from([access.shape.elements()]);
        }
    }
    Some(access)
}
