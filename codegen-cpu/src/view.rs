//! A kernel's loop nest as one part of the code generator sees it.
//!
//! A [`View`] holds the accesses and functions of some of a kernel's lambdas, over axes that are simplified for just
//! these: guards that always hold are gone, as are axes of extent 1, and neighbours are merged where all accesses step
//! through them as through one. Axes stay in groups, and merging stays inside a group, so that the row-major number of
//! an index within its group means the same in every view of a kernel.

use loom_ir::kernel::scalar::{Inst, ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{Access, Affine, Arg, BufferKind, Guard, Kernel, Lambda, Program};
use loom_ir::numerics::library;
use loom_ir::numerics::order;
use loom_ir::types::DType;

use crate::error::Error;

/// An access in a view: a place in a buffer, if the guards hold.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Position in the kernel's buffer table.
    pub slot: usize,
    pub dtype: DType,
    /// The element's number.
    pub linear: Affine,
    pub guards: Vec<Guard>,
    /// Whether no index meets the guards. Then the buffer may be empty, and must not be touched.
    pub never: bool,
    pub fill: u32,
}

impl Place {
    fn affines_mut(&mut self) -> impl Iterator<Item = &mut Affine> {
        std::iter::once(&mut self.linear).chain(self.guards.iter_mut().map(|guard| &mut guard.expr))
    }

    fn affines(&self) -> impl Iterator<Item = &Affine> {
        std::iter::once(&self.linear).chain(self.guards.iter().map(|guard| &guard.expr))
    }
}

/// Where an argument comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A place of the view.
    Place(usize),
    /// The index of an axis of the view.
    Index(usize),
    /// The index of an axis of extent 1.
    Zero,
    /// The result of an earlier stage.
    Reduced(usize),
}

/// A lambda of the view, without library operations.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub operands: Vec<Operand>,
    pub body: ScalarFn,
    pub result: DType,
}

impl Function {
    /// A rough count of scalar operations for one element.
    pub fn cost(&self) -> u64 {
        (self.body.insts.len() + 2 * self.operands.len()) as u64
    }

    /// The places it loads.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.operands.iter().filter_map(|operand| match *operand {
            Operand::Place(place) => Some(place),
            _ => None,
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The extents, group by group.
    pub groups: Vec<Vec<u64>>,
    pub places: Vec<Place>,
    /// The output's place comes last in `places`, if the view has it.
    pub output: Option<usize>,
    pub functions: Vec<Function>,
}

impl View {
    /// The view of some lambdas. `groups` lists kernel axes in the order wanted, outermost first; axes that are not listed must
    /// not matter to the lambdas. With the output, the last of them is what is written there.
    pub fn new(
        program: &Program,
        kernel: &Kernel,
        groups: &[Vec<usize>],
        lambdas: &[&Lambda],
        with_output: bool,
    ) -> Result<View, Error> {
        let buffers = kernel.buffers();
        let order: Vec<usize> = groups.iter().flatten().copied().collect();
        let place = |access: &Access| {
            let reorder = |affine: &Affine| Affine {
                offset: affine.offset,
                coefficients: order.iter().map(|&axis| affine.coefficients.get(axis).copied().unwrap_or(0)).collect(),
            };
            let buffer = program.buffer(access.buffer);
            let (guards, never) = simplify_guards(&access.guards, &kernel.axes);
            // In a verified program no guarded access reaches an empty buffer.
            let never = never || buffer.shape.elements() == 0;
            let guards =
                guards.iter().map(|guard| Guard { expr: reorder(&guard.expr), extent: guard.extent }).collect();
            Place {
                slot: buffers.iter().position(|&buffer| buffer == access.buffer).unwrap_or(0),
                dtype: buffer.dtype,
                linear: reorder(&access.linear()),
                guards,
                never,
                fill: access.fill,
            }
        };
        let mut loads: Vec<u32> = lambdas.iter().flat_map(|lambda| lambda.loads()).collect();
        loads.sort_unstable();
        loads.dedup();
        let mut places: Vec<Place> = loads.iter().map(|&load| place(&kernel.loads[load as usize])).collect();
        if with_output {
            places.push(place(&kernel.output));
        }
        let indexed: Vec<usize> = lambdas
            .iter()
            .flat_map(|lambda| &lambda.args)
            .filter_map(|arg| match *arg {
                Arg::Index(axis) => order.iter().position(|&kept| kept == axis as usize),
                _ => None,
            })
            .collect();
        let extents: Vec<Vec<u64>> =
            groups.iter().map(|group| group.iter().map(|&axis| kernel.axes[axis]).collect()).collect();
        let (groups, kept) = merge_axes(&extents, &mut places, &indexed);
        let mut functions = Vec::new();
        for lambda in lambdas {
            let operand = |arg: &Arg| match *arg {
                Arg::Load(load) => Operand::Place(loads.partition_point(|&other| other < load)),
                Arg::Index(axis) => {
                    let position = order.iter().position(|&kept| kept == axis as usize);
                    match position.and_then(|position| kept.iter().position(|&axis| axis == position)) {
                        Some(axis) => Operand::Index(axis),
                        None => Operand::Zero,
                    }
                }
                Arg::Reduced(stage) => Operand::Reduced(stage as usize),
            };
            let body = expand_library(&lambda.function)?;
            let result = match body.result_type() {
                Ok(result) => result,
                Err(error) => unreachable!("verified functions are well typed: {error}"),
            };
            functions.push(Function { operands: lambda.args.iter().map(operand).collect(), body, result });
        }
        // What leaves the program is written as it's shown, so that nobody has to go through it again.
        let shown = program.buffer(kernel.output.buffer).kind == BufferKind::Output;
        if let Some(last) = functions.last_mut().filter(|last| with_output && shown && last.result == DType::F32) {
            last.body = with_one_nan(&last.body);
        }
        let output = with_output.then(|| places.len() - 1);
        Ok(View { groups, places, output, functions })
    }

    /// How many indices a group has.
    pub fn count(&self, group: usize) -> u64 {
        self.groups[group].iter().product()
    }
}

/// Guards without those that hold for every index, and whether one holds for none.
fn simplify_guards(guards: &[Guard], extents: &[u64]) -> (Vec<Guard>, bool) {
    let (mut kept, mut never) = (Vec::new(), false);
    // An empty reduced axis doesn't empty the rows: what doesn't depend on it still runs.
    let extents: Vec<u64> = extents.iter().map(|&extent| extent.max(1)).collect();
    for guard in guards {
        match guard.expr.range(&extents) {
            Some((low, high)) if low >= 0 && (high as u64) < guard.extent => {}
            Some((low, high)) => {
                never |= guard.extent == 0 || high < 0 || low >= i64::try_from(guard.extent).unwrap_or(i64::MAX);
                if !kept.contains(guard) {
                    kept.push(guard.clone());
                }
            }
            // Verified accesses do not overflow, but over an empty axis, where nothing runs, all is verified.
            None => never = true,
        }
    }
    if never { (Vec::new(), true) } else { (kept, false) }
}

/// Drops axes of extent 1 and merges neighbours, in groups. Gives the new extents and which old axis each new one was,
/// the innermost of those merged.
fn merge_axes(extents: &[Vec<u64>], places: &mut [Place], indexed: &[usize]) -> (Vec<Vec<u64>>, Vec<usize>) {
    let (mut groups, mut kept): (Vec<Vec<u64>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut axis = 0;
    for group in extents {
        let (mut merged, first): (Vec<u64>, usize) = (Vec::new(), kept.len());
        for &extent in group {
            if extent != 1 {
                let previous = kept[first..].last().copied();
                let mergeable = |outer: usize| {
                    let step = |affine: &Affine| {
                        affine.coefficients[axis].checked_mul(extent as i64) == Some(affine.coefficients[outer])
                    };
                    extent != 0
                        && !indexed.contains(&outer)
                        && !indexed.contains(&axis)
                        && places.iter().flat_map(Place::affines).all(step)
                };
                match (previous, merged.last_mut()) {
                    (Some(outer), Some(last)) if *last != 0 && mergeable(outer) => {
                        *last *= extent;
                        if let Some(kept) = kept.last_mut() {
                            *kept = axis;
                        }
                    }
                    _ => {
                        merged.push(extent);
                        kept.push(axis);
                    }
                }
            }
            axis += 1;
        }
        groups.push(merged);
    }
    for place in places {
        for affine in place.affines_mut() {
            affine.coefficients = kept.iter().map(|&axis| affine.coefficients[axis]).collect();
        }
    }
    (groups, kept)
}

/// The function with library operations replaced by their definitions.
pub(crate) fn expand_library(function: &ScalarFn) -> Result<ScalarFn, Error> {
    let is_library = |inst: &Inst| match inst {
        Inst::Unary(op, _) => op.is_library(),
        Inst::Binary(op, ..) => op.is_library(),
        _ => false,
    };
    if !function.insts.iter().any(is_library) {
        return Ok(function.clone());
    }
    let mut builder = ScalarFnBuilder::new();
    let params: Vec<Value> = function.params.iter().map(|&dtype| builder.param(dtype)).collect();
    let result = inline(&mut builder, function, &params)?;
    Ok(builder.finish(result))
}

/// The function with every NaN of its result made the same.
fn with_one_nan(function: &ScalarFn) -> ScalarFn {
    let mut builder = ScalarFnBuilder::new();
    let params: Vec<Value> = function.params.iter().map(|&dtype| builder.param(dtype)).collect();
    let result = builder.call(function, &params);
    let result = builder.call(&order::single().canonical_nan, &[result]);
    builder.finish(result)
}

fn inline(builder: &mut ScalarFnBuilder, function: &ScalarFn, args: &[Value]) -> Result<Value, Error> {
    let mut values = args.to_vec();
    for inst in &function.insts {
        let inst = inst.map_operands(|operand| values[operand.index()]);
        let value = match inst {
            Inst::Unary(op, a) if op.is_library() => {
                let definition = library::definition(op, builder.type_of(a)).ok_or(Error::NoDefinition(op.name()))?;
                inline(builder, definition, &[a])?
            }
            Inst::Binary(op, a, b) if op.is_library() => {
                let definition =
                    library::binary_definition(op, builder.type_of(a)).ok_or(Error::NoDefinition(op.name()))?;
                inline(builder, definition, &[a, b])?
            }
            _ => builder.inst(inst),
        };
        values.push(value);
    }
    Ok(values[function.result.index()])
}

/// The axes of a range by falling stride in the output, so that the last one walks through memory; a loop's comes first.
pub(crate) fn by_output_stride(kernel: &Kernel, axes: std::ops::Range<usize>) -> Vec<usize> {
    let linear = kernel.output.linear();
    let stride = |axis: usize| linear.coefficients.get(axis).copied().unwrap_or(0);
    let mut order: Vec<usize> = axes.collect();
    // The items of one index of a loop lie together.
    let of_loop = usize::from(kernel.in_loop.is_some() && order.first() == Some(&0));
    order[of_loop..].sort_by_key(|&axis| std::cmp::Reverse(stride(axis)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom_ir::kernel::{Body, Buffer, BufferId, BufferKind};
    use loom_ir::types::Shape;

    fn copy(shape: &[u64], coords: Vec<Affine>, guards: Vec<Guard>, axes: &[u64]) -> (Program, Kernel) {
        let buffer = |name: &str, shape: &[u64], kind| Buffer {
            name: name.to_string(),
            dtype: DType::F32,
            shape: Shape::new(shape),
            kind,
        };
        let load = Access { buffer: BufferId(0), shape: Shape::new(shape), coords, guards, fill: 0 };
        let kernel = Kernel {
            name: "copy".to_string(),
            axes: axes.to_vec(),
            loads: vec![load],
            body: Body::Map(Lambda::identity(Arg::Load(0), DType::F32)),
            output: Access::identity(BufferId(1), Shape::new(axes), axes.len()),
            in_loop: None,
        };
        let buffers = vec![buffer("in", shape, BufferKind::Input), buffer("out", axes, BufferKind::Output)];
        (Program { name: "test".to_string(), buffers, kernels: vec![kernel.clone()], plan: None }, kernel)
    }

    fn groups(program: &Program, kernel: &Kernel) -> Vec<u64> {
        let all = (0..kernel.axes.len()).collect();
        View::new(program, kernel, &[all], &kernel.lambdas(), true).unwrap().groups[0].clone()
    }

    #[test]
    fn plain_copies_have_one_axis_and_transposes_keep_two() {
        let identity: Vec<Affine> = (0..3).map(|axis| Affine::axis(axis, 3)).collect();
        let (program, kernel) = copy(&[2, 1, 5], identity.clone(), vec![], &[2, 1, 5]);
        assert_eq!(groups(&program, &kernel), [10]);
        let swapped = vec![identity[2].clone(), identity[1].clone(), identity[0].clone()];
        let (program, kernel) = copy(&[5, 3, 2], swapped, vec![], &[2, 3, 5]);
        assert_eq!(groups(&program, &kernel), [2, 3, 5]);
    }

    #[test]
    fn guards_that_always_hold_do_not_keep_axes_apart() {
        let identity: Vec<Affine> = (0..2).map(|axis| Affine::axis(axis, 2)).collect();
        let always = Guard { expr: identity[1].clone(), extent: 5 };
        let (program, kernel) = copy(&[4, 5], identity.clone(), vec![always], &[4, 5]);
        assert_eq!(groups(&program, &kernel), [20]);
        let sometimes = Guard { expr: identity[1].clone(), extent: 4 };
        let (program, kernel) = copy(&[4, 5], identity, vec![sometimes], &[4, 5]);
        assert_eq!(groups(&program, &kernel), [4, 5]);
    }
}
