//! Loops whose steps follow one another within a workgroup, so that a dispatch makes many of them.
//!
//! A step of a small loop takes less than a dispatch and the barrier behind it. Where what a loop writes falls apart into
//! blocks that never meet (samples, as a rule), or is one block, a workgroup can take a block through step after step,
//! with a barrier of its own behind each kernel. No two workgroups share anything that is written, which matters: nothing
//! makes a device run two of them at a time.
//!
//! The kernels are the same as step by step, and each output is computed by the same rules, so no bit changes.
//!
//! A dispatch takes no more steps than it has time for: drivers take a device away from a program that holds it for
//! seconds.

use std::collections::BTreeSet;
use std::ops::Range;

use loom_ir::kernel::{Access, Body, BufferId, Contract, Forms, Kernel, Program, Step, Verified};

use crate::contract::{self, Matrices, Tiled};
use crate::error::Error;
use crate::generate::{Grid, WgslKernel, finish, product};
use crate::index::unflatten;
use crate::lambda::{Function, Module};
use crate::target::{Arithmetic, Target, TurnCost};
use crate::tile::Tile;

/// Invocations of a workgroup, at most and at least.
const MOST: u64 = 512;
const LEAST: u64 = 64;
/// Rows of a contraction in a block, at most, for it to be done in tiles.
const ROWS: u64 = 8;
/// Terms that a tile brings at a time.
const STEP: u32 = 16;

/// A loop of which a dispatch makes many steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// What is dispatched. The uniform that a kernel of a loop reads has the first of the steps.
    pub kernel: WgslKernel,
    /// The kernels of the program that it stands for, by number.
    pub kernels: Range<usize>,
    /// Steps of a dispatch; fewer at the end of the loop.
    pub steps: u64,
}

/// Generates the loops of a program of which a dispatch makes many steps: those for which that should take less time. All
/// others are for [`generate_stored`](crate::generate_stored) alone. `forms` are the weights that are kept as they are stored.
pub fn generate_turns(program: &Verified, forms: &Forms, target: &Target) -> Result<Vec<Turns>, Error> {
    let mut list = Vec::new();
    let Some(cost) = target.shapes.turns else { return Ok(list) };
    // In that tier each kernel shows by itself that it is exact.
    if target.arithmetic == Arithmetic::Guarded {
        return Ok(list);
    }
    for step in program.steps() {
        let Step::Loop { kernels, count } = step else { continue };
        if let Some(plan) = Plan::of((program, forms), kernels, count, target, cost) {
            list.push(plan.generate(target)?);
        }
    }
    Ok(list)
}

/// How a loop is done.
struct Plan<'a> {
    program: &'a Program,
    forms: &'a Forms,
    kernels: &'a [Kernel],
    numbers: Range<usize>,
    /// Indices of the loop, and how many of them a dispatch takes.
    count: u64,
    steps: u64,
    /// Workgroups, and invocations of each.
    blocks: u64,
    size: u32,
    /// The tile of the contraction, if it is done in tiles.
    tile: Option<Tile>,
}

impl<'a> Plan<'a> {
    /// The plan of a loop; `None` where it is better done step by step, or can't be done otherwise.
    fn of(
        (program, forms): (&'a Program, &'a Forms),
        numbers: Range<usize>,
        count: u64,
        target: &Target,
        cost: TurnCost,
    ) -> Option<Plan<'a>> {
        let kernels = &program.kernels[numbers.clone()];
        let module = Module::of_loop(program, kernels, forms, target)?;
        let empty = |kernel: &Kernel| product(&kernel.axes[..kernel.output_axes()]) == 0;
        let mut contraction = None;
        for kernel in kernels {
            match &kernel.body {
                Body::Map(_) => {}
                // The functions of a second one would be called the same.
                Body::Contract(contract) if contraction.is_none() => contraction = Some((kernel, contract)),
                _ => return None,
            }
        }
        let few = module.buffers().len() as u64 <= target.limits.storage_buffers.into();
        if count < 2 || !few || kernels.iter().any(empty) {
            return None;
        }

        let parts = parts(kernels, count);
        // As many as the device takes at a time, if there are as many, and the others beside them.
        let units = u64::from(target.shapes.units);
        let most = if target.arithmetic == Arithmetic::Soft { 4 } else { ROWS };
        let mut side_by_side = (1..=parts.min(most)).filter(|side| parts.is_multiple_of(*side));
        let side = side_by_side.clone().find(|side| parts / side <= units).or(side_by_side.next_back())?;
        let blocks = parts / side;

        let widest = kernels.iter().map(|kernel| outputs(kernel) / blocks).max()?;
        let limit = MOST.min(target.limits.invocations_per_workgroup.into());
        let size = widest.clamp(LEAST.min(limit), limit).next_multiple_of(LEAST.min(limit)).min(limit) as u32;
        let tile = contraction.and_then(|(kernel, contract)| tile(kernel, contract, blocks, size, target));

        let mut step = 0;
        for kernel in kernels {
            let own = outputs(kernel) / blocks;
            let rounds = own.div_ceil(size.into());
            let alone = |terms: u64| rounds.saturating_mul(terms).saturating_mul(cost.element);
            let time = match (&kernel.body, tile) {
                (Body::Contract(contract), Some(tile)) => {
                    let (_, _, columns, terms) = contract.split(&kernel.axes);
                    let columns = product(columns).next_multiple_of(tile.width().into());
                    let operand = cost.operand + cost.product * u64::from(tile.rows);
                    columns.saturating_mul(product(terms)).saturating_mul(operand)
                }
                (Body::Contract(contract), None) => alone(product(contract.split(&kernel.axes).3)),
                _ => alone(1),
            };
            step = time.saturating_add(cost.phase).saturating_add(step);
        }
        let step = step.saturating_mul(blocks.div_ceil(units));
        let mut apart = cost.dispatch.saturating_mul(kernels.len() as u64);
        if let Some((kernel, contract)) = contraction {
            let module = Module::new(program, kernel, forms, target);
            apart = apart.saturating_add(contract::estimate(&module, contract, target).try_into().unwrap_or(u64::MAX));
        }
        if step >= apart {
            return None;
        }
        let iterations: u64 = kernels.iter().map(|kernel| iterations(kernel, blocks, size, tile)).sum::<u64>() + 1;
        // The model is of native arithmetic, which integers take some dozens of times as long for.
        let most = if target.arithmetic == Arithmetic::Soft { cost.most / 64 } else { cost.most };
        let steps = (most / step.max(1)).min(target.quirks.loop_iterations / iterations).min(count);
        (steps > 1).then_some(Plan { program, forms, kernels, numbers, count, steps, blocks, size, tile })
    }

    fn generate(self, target: &Target) -> Result<Turns, Error> {
        let Plan { program, forms, kernels, count, steps, blocks, size, tile, .. } = self;
        let Some(mut module) = Module::of_loop(program, kernels, forms, target) else {
            return Err(Error::Invalid("a loop without a kernel".to_string()));
        };
        let mut bodies = Vec::new();
        for (number, kernel) in kernels.iter().enumerate() {
            module.kernel = kernel;
            bodies.push(match &kernel.body {
                Body::Map(lambda) => Written::Map(module.function(&format!("element{number}"), lambda, &[])?),
                Body::Contract(contract) => Written::Contract(Box::new(Matrices::write(&mut module, contract, tile)?)),
                _ => return Err(Error::Invalid(format!("the kernel `{}` can't be a part of another", kernel.name))),
            });
        }
        let mut tiled = None;
        for (kernel, body) in kernels.iter().zip(&bodies) {
            if let (Written::Contract(matrices), Some(tile)) = (body, tile) {
                module.kernel = kernel;
                tiled = Some(Tiled::define(&mut module, matrices, tile, target)?);
            }
        }

        module.kernel = &kernels[0];
        let grid = Grid::new(module.kernel, blocks, size, target)?;
        module.open_entry(size);
        module.text.line(format!("let block = {};", grid.number()));
        grid.leave_surplus(&mut module, "block");
        module.text.line(format!("let end = min(first_turn.x + {steps}u, {count}u);"));
        module.text.open("for (var i0 = first_turn.x; i0 < end; i0 += 1u)");
        module.text.line("turn.x = i0;");
        for (kernel, body) in kernels.iter().zip(&bodies) {
            module.kernel = kernel;
            let own = outputs(kernel) / blocks;
            match (body, &tiled) {
                (Written::Contract(_), Some(tiled)) => {
                    module.text.open(format!("for (var across = 0u; across < {}u; across += 1u)", tiled.across));
                    module.text.line(format!("let number = block * {}u + across;", tiled.across));
                    tiled.compute(&mut module);
                }
                (body, _) => {
                    module.text.open(format!("for (var own = local; own < {own}u; own += {size}u)"));
                    module.text.line(format!("let flat = block * {own}u + own;"));
                    match body {
                        Written::Contract(matrices) => contract::output(&mut module, matrices, target)?,
                        Written::Map(function) => element(&mut module, function),
                    }
                }
            }
            module.text.close();
            // What is written is read by the next kernel, or in the next step; and what was read may be written then.
            module.text.line("storageBarrier();");
            module.text.line("workgroupBarrier();");
        }
        module.text.close();
        module.text.close();
        module.kernel = &kernels[0];
        Ok(Turns { kernel: finish(module, grid)?, kernels: self.numbers, steps })
    }
}

/// A kernel whose functions are written.
enum Written {
    Map(Function),
    Contract(Box<Matrices>),
}

/// The statements for the element of a map that the variable `flat` names.
fn element(module: &mut Module<'_>, function: &Function) {
    let extents = &module.kernel.axes;
    let used: BTreeSet<usize> = module.output_axes().into_iter().chain(function.axes.iter().copied()).collect();
    let covered = module.covered(0..extents.len());
    unflatten(&mut module.text, "flat", extents, covered, &used);
    module.store(&function.call(), function.result);
}

/// Outputs of a kernel in a step.
fn outputs(kernel: &Kernel) -> u64 {
    product(&kernel.axes[1..kernel.output_axes()])
}

/// The tile of a contraction whose rows are spread over blocks; `None` if it is for its outputs to be computed alone.
fn tile(kernel: &Kernel, contract: &Contract, blocks: u64, size: u32, target: &Target) -> Option<Tile> {
    let (batch, rows, _, terms) = contract.split(&kernel.axes);
    let rows = product(rows);
    // A tile as high as the block: lower ones would leave rows out, higher ones meet other blocks.
    let fits = product(&batch[1..]) == 1 && rows.is_multiple_of(blocks) && rows / blocks <= ROWS && product(terms) > 0;
    let tile = Tile {
        teams: 1,
        threads_rows: 1,
        threads_columns: size,
        rows: (rows / blocks) as u32,
        columns: 1,
        step: STEP,
        unrolled: 4,
        buffers: 1,
    };
    (fits && tile.storage() <= target.limits.workgroup_storage).then_some(tile)
}

/// A bound on the loop iterations of an invocation in a step of a kernel.
fn iterations(kernel: &Kernel, blocks: u64, size: u32, tile: Option<Tile>) -> u64 {
    let rounds = (outputs(kernel) / blocks).div_ceil(size.into());
    match (&kernel.body, tile) {
        (Body::Contract(contract), Some(tile)) => {
            let (_, _, columns, terms) = contract.split(&kernel.axes);
            let steps = product(terms).div_ceil(tile.step.into()) * (1 + u64::from(tile.step / tile.unrolled));
            product(columns).div_ceil(tile.width().into()).saturating_mul(steps.saturating_mul(2) + 1)
        }
        // Loops over each axis that is reduced, within each other: at most twice the terms.
        (Body::Contract(contract), None) => rounds.saturating_mul(2 * product(contract.split(&kernel.axes).3) + 1),
        _ => rounds,
    }
}

/// Into how many parts a loop falls that never meet: part `p` of every buffer that it writes is the `p`-th of as many
/// equal ranges of a slice, and only kernels that write that part read it.
fn parts(kernels: &[Kernel], count: u64) -> u64 {
    let mut parts = 0;
    for kernel in kernels {
        let Some(axis) = (1..kernel.output_axes()).find(|&axis| kernel.axes[axis] > 1) else { return 1 };
        let written = |buffer: BufferId| kernels.iter().find(|kernel| kernel.output.buffer == buffer);
        for access in kernel.loads.iter().chain([&kernel.output]) {
            let Some(writer) = written(access.buffer) else { continue };
            let all = writer.output.shape.elements();
            let slice = if writer.output.depends_on(0) { all / count } else { all };
            if !stays(access, &kernel.axes, axis, slice) {
                return 1;
            }
        }
        parts = gcd(parts, kernel.axes[axis]);
    }
    parts
}

/// Whether an access reaches, for each index of an axis, into a range of its own of every slice: ranges of the same length,
/// in their order, which fill the slice.
fn stays(access: &Access, axes: &[u64], axis: usize, slice: u64) -> bool {
    let Some((offset, coefficients)) = place(access, axes) else { return false };
    let (Ok(slice), Ok(extent)) = (i64::try_from(slice), i64::try_from(axes[axis])) else { return false };
    let own = coefficients[axis];
    if slice == 0 || own <= 0 || own.checked_mul(extent) != Some(slice) || coefficients[0] % slice != 0 {
        return false;
    }
    let (mut low, mut high) = (offset.rem_euclid(slice), offset.rem_euclid(slice));
    for (other, &coefficient) in coefficients.iter().enumerate().filter(|&(other, _)| other != 0 && other != axis) {
        let Some(reach) = i64::try_from(axes[other]).ok().and_then(|extent| coefficient.checked_mul(extent - 1)) else {
            return false;
        };
        let end = if reach < 0 { &mut low } else { &mut high };
        let Some(sum) = end.checked_add(reach) else { return false };
        *end = sum;
    }
    low >= 0 && high < own
}

/// The element that an access names, as an offset and a coefficient for each axis.
fn place(access: &Access, axes: &[u64]) -> Option<(i64, Vec<i64>)> {
    let (mut offset, mut coefficients) = (0i64, vec![0i64; axes.len()]);
    for (coord, stride) in access.coords.iter().zip(access.shape.strides()) {
        let stride = i64::try_from(stride).ok()?;
        offset = offset.checked_add(coord.offset.checked_mul(stride)?)?;
        for (sum, (&coefficient, &extent)) in coefficients.iter_mut().zip(coord.coefficients.iter().zip(axes)) {
            if extent > 1 {
                *sum = sum.checked_add(coefficient.checked_mul(stride)?)?;
            }
        }
    }
    Some((offset, coefficients))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
