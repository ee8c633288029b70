//! `collapse`: fewer and longer loops.
//!
//! An axis of extent 1 goes; two neighbouring axes of one role become one where every access runs through them as
//! through one. Before: `map (i0: 8, i1: 16, i2: 7)` over plain buffers. After: `map (i0: 896)`. The order in which a
//! reduction visits its terms stays, since row-major order over two axes is row-major order over their product.
//!
//! In a loop the first axis stays as it is, and what is written and read at one index of it alone needs no more memory
//! than that: before `temp f32[100, 64]`, after `temp f32[64]`.

use std::ops::Range;

use loom_ir::kernel::{Access, Affine, Arg, Body, BufferId, BufferKind, Kernel, Lambda, Program, Step};
use loom_ir::types::Shape;

use crate::fuse::map_lambdas;

/// Collapses the axes of every kernel.
pub fn collapse(mut program: Program) -> Program {
    for loop_ in program.steps().filter(|step| matches!(step, Step::Loop { .. })).collect::<Vec<_>>() {
        keep_one_slice(&mut program, loop_.kernels());
    }
    for kernel in &mut program.kernels {
        collapse_kernel(kernel);
    }
    program
}

/// Buffers of a loop that only its kernels read, at the index at which they are written, become one slice.
fn keep_one_slice(program: &mut Program, kernels: Range<usize>) {
    let at_index = |access: &Access| access.coords[0].as_axis() == Some(0) && access.guards.is_empty();
    let fits = |access: &Access| at_index(access) && !access.coords[1..].iter().any(|coord| coord.depends_on(0));
    let buffers: Vec<BufferId> = program.kernels[kernels.clone()]
        .iter()
        .map(|kernel| kernel.output.buffer)
        .filter(|&buffer| {
            let own = |(number, kernel): (usize, &Kernel)| {
                let mut uses = kernel.loads.iter().chain([&kernel.output]).filter(|access| access.buffer == buffer);
                uses.all(|access| kernels.contains(&number) && fits(access))
            };
            program.buffer(buffer).kind == BufferKind::Temp && program.kernels.iter().enumerate().all(own)
        })
        .collect();
    for kernel in &mut program.kernels[kernels] {
        for access in kernel.loads.iter_mut().chain([&mut kernel.output]).filter(|a| buffers.contains(&a.buffer)) {
            access.coords.remove(0);
            access.shape = Shape::from(access.shape.dims()[1..].to_vec());
        }
    }
    for buffer in buffers {
        let buffer = &mut program.buffers[buffer.index()];
        buffer.shape = Shape::from(buffer.shape.dims()[1..].to_vec());
    }
}

/// Takes axes of extent 1 out of a kernel, and dimensions of extent 1 out of how it sees buffers: they come and go with
/// views, and two kernels that differ in them alone would not look alike.
pub(crate) fn drop_units(kernel: &mut Kernel) {
    remove_units(kernel);
    let first = usize::from(kernel.in_loop.is_some());
    for access in kernel.loads.iter_mut().chain([&mut kernel.output]) {
        let still =
            |coord: &Affine| coord.offset == 0 && coord.coefficients.iter().all(|&coefficient| coefficient == 0);
        let dims = access.shape.dims().iter().zip(&access.coords).enumerate();
        let kept = dims.filter(|&(dim, (&extent, coord))| dim < first || extent != 1 || !still(coord));
        let (dims, coords): (Vec<u64>, Vec<Affine>) = kept.map(|(_, (&extent, coord))| (extent, coord.clone())).unzip();
        (access.shape, access.coords) = (Shape::from(dims), coords);
    }
}

fn remove_units(kernel: &mut Kernel) {
    // The first axis of a loop is not like the others.
    let mut axis = usize::from(kernel.in_loop.is_some());
    while axis < kernel.axes.len() {
        // The axis that a gather takes its place on stays, whatever its extent.
        let gathered = matches!(kernel.body, Body::Gather(_)) && axis >= kernel.output_axes();
        if kernel.axes[axis] == 1 && !indexed(kernel, axis) && !gathered {
            remove_axis(kernel, axis);
        } else {
            axis += 1;
        }
    }
}

fn collapse_kernel(kernel: &mut Kernel) {
    remove_units(kernel);
    let mut axis = usize::from(kernel.in_loop.is_some());
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
        Body::Attend(attend) => attend.groups(count).into_iter().map(|group| group.len()).collect(),
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
        Body::Attend(attend) => match group {
            0 => attend.batch -= 1,
            1 => attend.rows -= 1,
            2 => attend.columns -= 1,
            3 => attend.keys -= 1,
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
    let merged: Option<Vec<Access>> =
        kernel.loads.iter().chain([&kernel.output]).map(|access| merged_access(kernel, access, axis, extent)).collect();
    let Some(mut accesses) = merged else { return false };
    if let Some(output) = accesses.pop() {
        kernel.output = output;
    }
    kernel.loads = accesses;
    kernel.axes[axis] *= kernel.axes[axis + 1];
    forget_axis(kernel, axis + 1);
    true
}

fn merged_access(kernel: &Kernel, access: &Access, axis: usize, extent: i64) -> Option<Access> {
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
        // The coordinate that names a slice of a loop stays apart.
        None if kernel.in_loop.is_some() && access.coords.first().is_some_and(|coord| coord.depends_on(0)) => {
            let rest = Access {
                coords: access.coords.split_off(1),
                shape: Shape::from(access.shape.dims()[1..].to_vec()),
                ..access.clone()
            };
            access.coords = vec![merged(&access.coords[0])?, merged(&rest.linear())?];
            access.shape = Shape::from([access.shape.dims()[0], rest.shape.elements()]);
        }
        None => {
            access.coords = vec![merged(&access.linear())?];
            access.shape = Shape::from([access.shape.elements()]);
        }
    }
    Some(access)
}
