//! The verifier of programs.
//!
//! It checks, in this order, that
//!
//! 1. the counts are within [`crate::limits`], names are unique, shapes are legal, constants have their elements, codes
//!    are `i32` and no element has 64 bits;
//! 2. every kernel's axes, loads and output fit each other, and **every element that a kernel can touch lies in its
//!    buffer**; the output is written once an element;
//! 3. every scalar function is well typed without a value of 64 bits, its arguments exist at that point and vary only with the axes allowed there;
//! 4. every written buffer is written by one kernel, before any kernel reads it, and no input, weight or constant is;
//!    in a loop, what is read at an index of the loop has been written at that index or an earlier one;
//! 5. the plan gives every temporary buffer an aligned place inside the arena, apart from all buffers alive with it, and the
//!    arena is no larger than all of them together.
//!
//! Nothing is left to trust after that: a backend generates code without bounds checks. Not checked: that two kernels
//! do not compute the same, or that a result is used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, Range};

use super::access::{Access, AccessError};
use super::memory::{ARENA_ALIGNMENT, live_ranges};
use super::program::{Arg, Attend, Body, BufferId, BufferKind, Kernel, Lambda, Program, ReduceOp, Stage, Step};
use super::scalar::ScalarFnError;
use crate::limits;
use crate::numerics::reduction::{ContractSpec, IntegerSpec, Products, SumSpec};
use crate::types::{DType, ShapeLimit};

mod loops;

/// A program that passed [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified(Program);

impl Verified {
    /// The program, no longer known to be verified.
    pub fn into_inner(self) -> Program {
        self.0
    }
}

impl Deref for Verified {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

/// Checks a program: see the module's documentation.
pub fn verify(program: Program) -> Result<Verified, VerifyError> {
    check(&program)?;
    Ok(Verified(program))
}

/// Checks a program without taking it.
pub fn check(program: &Program) -> Result<(), VerifyError> {
    check_buffers(program).map_err(|kind| VerifyError { kernel: None, kind })?;
    let mut names = BTreeSet::new();
    let mut state = BufferStates::new(program);
    for step in program.steps() {
        let at = |kernel: usize| {
            let kernel = program.kernels.get(kernel).map(|kernel| kernel.name.clone());
            move |kind| VerifyError { kernel, kind }
        };
        for number in step.kernels() {
            let kernel = &program.kernels[number];
            if !names.insert(kernel.name.as_str()) {
                return Err(at(number)(VerifyErrorKind::DuplicateName));
            }
            check_kernel(program, kernel).map_err(at(number))?;
        }
        match step {
            Step::Kernel(number) => state.run(program, &program.kernels[number]).map_err(at(number))?,
            Step::Loop { kernels, count } => {
                let of_loop = loops::Writers::check(program, kernels.clone(), count);
                let writers = of_loop.map_err(|(number, kind)| at(number)(kind))?;
                for number in kernels.clone() {
                    state.run_in_loop(program, number, &writers).map_err(at(number))?;
                }
            }
        }
    }
    state.finish(program).and_then(|()| check_plan(program)).map_err(|kind| VerifyError { kernel: None, kind })
}

/// Why a program is refused, and in which kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct VerifyError {
    /// The kernel's name; `None` for the program as a whole.
    pub kernel: Option<String>,
    /// What is wrong.
    pub kind: VerifyErrorKind,
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(kernel) = &self.kernel {
            write!(f, "kernel `{kernel}`: ")?;
        }
        self.kind.fmt(f)
    }
}

/// What the verifier found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyErrorKind {
    /// A count over its limit.
    #[error("{count} {what}, the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Found.
        count: usize,
        /// Allowed.
        limit: usize,
    },
    /// Two of a name.
    #[error("the name is used twice")]
    DuplicateName,
    /// Two buffers of a name.
    #[error("two buffers are called `{0}`")]
    DuplicateBuffer(String),
    /// A buffer's shape.
    #[error("buffer `{buffer}`: {source}")]
    BufferShape {
        /// The buffer.
        buffer: String,
        /// What's wrong.
        source: ShapeLimit,
    },
    /// A constant whose data isn't its shape's.
    #[error("constant `{0}` does not hold the elements of its shape")]
    ConstantData(String),
    /// Codes that aren't `i32`.
    #[error("the codes `{0}` are not i32")]
    Codes(String),
    /// A buffer of elements of 64 bits.
    #[error("buffer `{name}`: no device computes in {dtype} yet")]
    Wide {
        /// The buffer's name.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A function with values of 64 bits.
    #[error("a function has values of 64 bits, which no device computes yet")]
    WideFunction,
    /// A buffer that does not exist.
    #[error("there is no buffer {0}")]
    NoBuffer(BufferId),
    /// A loop nest too large.
    #[error("the loop nest {0:?} is too large")]
    Axes(Vec<u64>),
    /// A group of axes that the body doesn't have.
    #[error("the body needs {needed} axes, the kernel has {found}")]
    AxisGroups {
        /// By the body.
        needed: usize,
        /// In the kernel.
        found: usize,
    },
    /// A kernel whose first axis is not the loop's, or that could read what has not been written yet.
    #[error("in a loop: {0}")]
    Loop(&'static str),
    /// A load or the output.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// An output with guards or that does not write each element once.
    #[error("the output is not written once an element")]
    Output,
    /// A kernel that reads what it writes.
    #[error("the kernel reads the buffer that it writes")]
    ReadsOutput,
    /// A scalar function.
    #[error("{0}")]
    Function(#[from] ScalarFnError),
    /// Arguments and parameters differ.
    #[error("a function of {params} parameters is given {args} arguments")]
    ArgumentCount {
        /// Parameters.
        params: usize,
        /// Arguments.
        args: usize,
    },
    /// An argument that is not there at that point.
    #[error("the argument {0:?} does not exist here")]
    Argument(Arg),
    /// An argument of the wrong type.
    #[error("the argument {arg:?} is {found}, the parameter {expected}")]
    ArgumentType {
        /// The argument.
        arg: Arg,
        /// Its type.
        found: DType,
        /// The parameter's.
        expected: DType,
    },
    /// A function of the wrong result type.
    #[error("a function gives {found} where {expected} is needed")]
    ResultType {
        /// Given.
        found: DType,
        /// Needed.
        expected: DType,
    },
    /// A function that varies with an axis it may not depend on.
    #[error("the argument {arg:?} varies with axis {axis}, which its function must not depend on")]
    AxisDependence {
        /// The argument.
        arg: Arg,
        /// The axis.
        axis: usize,
    },
    /// A reduction that does not exist for the type.
    #[error("{op:?} does not reduce {dtype}")]
    ReduceType {
        /// The reduction.
        op: ReduceOp,
        /// The type.
        dtype: DType,
    },
    /// A reduction without a stage.
    #[error("a reduction has no stage")]
    NoStage,
    /// An order of sums that LN1 does not have.
    #[error("the order of the sum is not LN1's")]
    Spec,
    /// A buffer written by nobody, twice, or by a kernel though it is not the kernels' to write.
    #[error("buffer `{0}` is not written exactly once, by a kernel, before it is read")]
    Written(String),
    /// A plan that does not fit the program.
    #[error("the memory plan is wrong at buffer `{0}`")]
    Plan(String),
}

fn check_buffers(program: &Program) -> Result<(), VerifyErrorKind> {
    let too_many = |what, count, limit| VerifyErrorKind::TooMany { what, count, limit };
    if program.buffers.len() > limits::MAX_BUFFERS {
        return Err(too_many("buffers", program.buffers.len(), limits::MAX_BUFFERS));
    }
    if program.kernels.len() > limits::MAX_KERNELS {
        return Err(too_many("kernels", program.kernels.len(), limits::MAX_KERNELS));
    }
    let mut names = BTreeSet::new();
    for buffer in &program.buffers {
        if !names.insert(buffer.name.as_str()) {
            return Err(VerifyErrorKind::DuplicateBuffer(buffer.name.clone()));
        }
        let limit = |source| VerifyErrorKind::BufferShape { buffer: buffer.name.clone(), source };
        if buffer.shape.rank() > limits::MAX_RANK {
            return Err(limit(ShapeLimit::Rank(buffer.shape.rank())));
        }
        let Some(elements) = buffer.shape.checked_elements() else {
            return Err(limit(ShapeLimit::Elements(buffer.shape.clone())));
        };
        if buffer.dtype.is_wide() {
            return Err(VerifyErrorKind::Wide { name: buffer.name.clone(), dtype: buffer.dtype });
        }
        if matches!(buffer.kind, BufferKind::Codes(_)) && buffer.dtype != DType::I32 {
            return Err(VerifyErrorKind::Codes(buffer.name.clone()));
        }
        if let BufferKind::Constant(bits) = &buffer.kind
            && (bits.len() as u64 != elements || (buffer.dtype == DType::Bool && bits.iter().any(|&bits| bits > 1)))
        {
            return Err(VerifyErrorKind::ConstantData(buffer.name.clone()));
        }
    }
    Ok(())
}

fn check_kernel(program: &Program, kernel: &Kernel) -> Result<(), VerifyErrorKind> {
    if kernel.axes.len() > limits::MAX_KERNEL_AXES {
        let (count, limit) = (kernel.axes.len(), limits::MAX_KERNEL_AXES);
        return Err(VerifyErrorKind::TooMany { what: "axes", count, limit });
    }
    let (count, limit) = (kernel.loads.len(), limits::MAX_KERNEL_LOADS);
    if count > limit {
        return Err(VerifyErrorKind::TooMany { what: "loads in one kernel", count, limit });
    }
    let (count, limit) = (kernel.buffers().len(), limits::MAX_KERNEL_BUFFERS);
    if count > limit {
        return Err(VerifyErrorKind::TooMany { what: "buffers in one kernel", count, limit });
    }
    check_axes(kernel)?;
    for load in &kernel.loads {
        let buffer = program.buffers.get(load.buffer.index()).ok_or(VerifyErrorKind::NoBuffer(load.buffer))?;
        load.check(&kernel.axes, buffer.shape.elements())?;
        if load.buffer == kernel.output.buffer && kernel.in_loop.is_none() {
            return Err(VerifyErrorKind::ReadsOutput);
        }
    }
    check_output(program, kernel)?;
    let output = program.buffer(kernel.output.buffer).dtype;
    let axes = kernel.axes.len();
    match &kernel.body {
        Body::Map(lambda) => check_lambda(program, kernel, lambda, &[], &NONE, output),
        Body::Reduce(reduce) => {
            if reduce.stages.is_empty() {
                return Err(VerifyErrorKind::NoStage);
            }
            let mut reduced = Vec::new();
            check_stages(program, kernel, &reduce.stages, &mut reduced, &NONE)?;
            check_lambda(program, kernel, &reduce.result, &reduced, &only(kernel.output_axes()..axes), output)
        }
        Body::Contract(contract) => {
            let dtype = contract.products.dtype();
            if ![Products::default(), Products::Integer(IntegerSpec::default())].contains(&contract.products) {
                return Err(VerifyErrorKind::Spec);
            }
            let rows = contract.batch..contract.batch + contract.rows;
            let columns = rows.end..rows.end + contract.columns;
            check_lambda(program, kernel, &contract.lhs, &[], &only(columns.clone()), dtype)?;
            check_lambda(program, kernel, &contract.rhs, &[], &only(rows), dtype)?;
            check_lambda(program, kernel, &contract.epilogue, &[dtype], &only(columns.end..axes), output)
        }
        Body::Gather(gather) => {
            check_lambda(program, kernel, &gather.index, &[], &only(kernel.output_axes()..axes), DType::U32)?;
            check_lambda(program, kernel, &gather.result, &[], &NONE, output)
        }
        Body::Attend(attend) => check_attend(program, kernel, attend, output),
    }
}

/// Axes on which a function must not depend: two groups, which may be empty.
type Axes = [Range<usize>; 2];
const NONE: Axes = [0..0, 0..0];

fn only(axes: Range<usize>) -> Axes {
    [axes, 0..0]
}

/// The stages of a row, whose results join those before them.
fn check_stages(
    program: &Program,
    kernel: &Kernel,
    stages: &[Stage],
    reduced: &mut Vec<DType>,
    forbidden: &Axes,
) -> Result<(), VerifyErrorKind> {
    let (count, limit) = (stages.len(), limits::MAX_STAGES);
    if count > limit {
        return Err(VerifyErrorKind::TooMany { what: "stages of one reduction", count, limit });
    }
    for stage in stages {
        let dtype = stage.input.function.result_type()?;
        check_lambda(program, kernel, &stage.input, reduced, forbidden, dtype)?;
        check_reduce_op(stage.op, dtype)?;
        reduced.push(dtype);
    }
    Ok(())
}

fn check_attend(program: &Program, kernel: &Kernel, attend: &Attend, output: DType) -> Result<(), VerifyErrorKind> {
    if attend.spec != ContractSpec::default() {
        return Err(VerifyErrorKind::Spec);
    }
    let [_, rows, columns, keys, inner] = attend.groups(kernel.axes.len());
    let check = |lambda: &Lambda, reduced: &[DType], forbidden: &Axes, dtype: DType| {
        check_lambda(program, kernel, lambda, reduced, forbidden, dtype)
    };
    check(&attend.query, &[], &[columns.clone(), keys.clone()], DType::F32)?;
    check(&attend.key, &[], &[rows.clone(), columns.clone()], DType::F32)?;
    let of_row = [columns, inner.clone()];
    check(&attend.score, &[DType::F32], &of_row, DType::F32)?;
    let mut reduced = vec![DType::F32];
    check_stages(program, kernel, &attend.stages, &mut reduced, &of_row)?;
    check(&attend.weight, &reduced, &of_row, DType::F32)?;
    check(&attend.value, &[], &[rows, inner.clone()], DType::F32)?;
    check(&attend.result, &reduced, &[keys, inner], output)
}

/// Groups of axes, and products small enough for 32-bit indices.
fn check_axes(kernel: &Kernel) -> Result<(), VerifyErrorKind> {
    let sum =
        |counts: &[usize]| counts.iter().try_fold(0usize, |sum, &count| sum.checked_add(count)).unwrap_or(usize::MAX);
    let needed = match &kernel.body {
        Body::Map(_) => 0,
        Body::Reduce(reduce) => reduce.reduced,
        Body::Gather(_) => 1,
        Body::Contract(contract) => sum(&[contract.batch, contract.rows, contract.columns]),
        Body::Attend(attend) => sum(&[attend.batch, attend.rows, attend.columns, attend.keys]),
    };
    if needed > kernel.axes.len() {
        return Err(VerifyErrorKind::AxisGroups { needed, found: kernel.axes.len() });
    }
    let small = |axes: &[u64]| {
        axes.iter()
            .try_fold(1u64, |product, &extent| product.checked_mul(extent.max(1)))
            .is_some_and(|product| product < limits::MAX_ELEMENTS)
    };
    // Extents of 0 are left out of the products, so that those of any group of axes stay small.
    let parallel = match &kernel.body {
        Body::Reduce(reduce) => kernel.axes.len() - reduce.reduced,
        _ => kernel.output_axes(),
    };
    let (output, reduced) = kernel.axes.split_at(parallel);
    let each = kernel.axes.iter().all(|&extent| extent < limits::MAX_ELEMENTS);
    // A row of an attention's scores stands beside its columns.
    let reduced_groups = match &kernel.body {
        Body::Attend(attend) => vec![&reduced[..attend.keys], &reduced[attend.keys..]],
        _ => vec![reduced],
    };
    if each && small(output) && reduced_groups.into_iter().all(small) {
        Ok(())
    } else {
        Err(VerifyErrorKind::Axes(kernel.axes.clone()))
    }
}

/// The output writes each element of its buffer exactly once: sorted by stride, the axes must count through it.
fn check_output(program: &Program, kernel: &Kernel) -> Result<(), VerifyErrorKind> {
    let output = &kernel.output;
    let buffer = program.buffers.get(output.buffer.index()).ok_or(VerifyErrorKind::NoBuffer(output.buffer))?;
    let count = kernel.output_axes();
    // What a loop needs for one index alone is written again for the next one.
    let again = kernel.in_loop.is_some() && count > 0 && !output.depends_on(0);
    let mut extents = kernel.axes.clone();
    extents.iter_mut().skip(count).for_each(|extent| *extent = 1);
    if again {
        extents[0] = 1;
    }
    output.check(&extents, buffer.shape.elements())?;
    let written: Option<u64> = extents[..count].iter().try_fold(1u64, |product, &e| product.checked_mul(e));
    if !output.guards.is_empty() || written != Some(buffer.shape.elements()) {
        return Err(VerifyErrorKind::Output);
    }
    if written == Some(0) {
        return Ok(());
    }
    let linear = output.linear();
    let coefficient = |axis: usize| linear.coefficients.get(axis).copied().unwrap_or(0);
    let mut axes: Vec<(i64, u64)> =
        (0..count).filter(|&axis| extents[axis] > 1).map(|axis| (coefficient(axis), extents[axis])).collect();
    axes.sort_unstable();
    let mut expected = 1i64;
    for (stride, extent) in axes {
        if stride != expected {
            return Err(VerifyErrorKind::Output);
        }
        expected = stride.saturating_mul(extent as i64);
    }
    let reduced_free = (count..kernel.axes.len()).all(|axis| !output.depends_on(axis));
    if linear.offset == 0 && reduced_free { Ok(()) } else { Err(VerifyErrorKind::Output) }
}

fn check_reduce_op(op: ReduceOp, dtype: DType) -> Result<(), VerifyErrorKind> {
    let integer = matches!(dtype, DType::I32 | DType::U32);
    match op {
        ReduceOp::Sum(spec) if spec != SumSpec::default() => Err(VerifyErrorKind::Spec),
        ReduceOp::Sum(_) if integer || dtype == DType::F32 => Ok(()),
        ReduceOp::Max | ReduceOp::Min if integer => Ok(()),
        _ => Err(VerifyErrorKind::ReduceType { op, dtype }),
    }
}

fn check_lambda(
    program: &Program,
    kernel: &Kernel,
    lambda: &Lambda,
    reduced: &[DType],
    forbidden: &Axes,
    expected: DType,
) -> Result<(), VerifyErrorKind> {
    let function = &lambda.function;
    let (count, limit) = (function.insts.len(), limits::MAX_SCALAR_OPS);
    if count > limit {
        return Err(VerifyErrorKind::TooMany { what: "instructions in one function", count, limit });
    }
    let (count, limit) = (lambda.args.len(), limits::MAX_KERNEL_LOADS);
    if count > limit {
        return Err(VerifyErrorKind::TooMany { what: "arguments of one function", count, limit });
    }
    if function.params.len() != lambda.args.len() {
        let (params, args) = (function.params.len(), lambda.args.len());
        return Err(VerifyErrorKind::ArgumentCount { params, args });
    }
    for (&arg, &param) in lambda.args.iter().zip(&function.params) {
        let missing = || VerifyErrorKind::Argument(arg);
        let found = match arg {
            Arg::Load(load) => {
                let access = kernel.loads.get(load as usize).ok_or_else(missing)?;
                if let Some(axis) = forbidden.iter().cloned().flatten().find(|&axis| access.depends_on(axis)) {
                    return Err(VerifyErrorKind::AxisDependence { arg, axis });
                }
                // The function runs however often the axes that it must not depend on do, even never: an epilogue where
                // nothing is reduced, a left operand where there is no column.
                let mut axes = kernel.axes.clone();
                forbidden.iter().for_each(|range| axes[range.clone()].fill(1));
                access.check(&axes, program.buffer(access.buffer).shape.elements())?;
                if access.fill > 1 && program.buffer(access.buffer).dtype == DType::Bool {
                    return Err(missing());
                }
                program.buffer(access.buffer).dtype
            }
            Arg::Index(axis) => {
                if axis as usize >= kernel.axes.len() {
                    return Err(missing());
                }
                if forbidden.iter().any(|range| range.contains(&(axis as usize))) {
                    return Err(VerifyErrorKind::AxisDependence { arg, axis: axis as usize });
                }
                DType::U32
            }
            Arg::Reduced(stage) => *reduced.get(stage as usize).ok_or_else(missing)?,
        };
        if found != param {
            return Err(VerifyErrorKind::ArgumentType { arg, found, expected: param });
        }
    }
    let found = function.result_type()?;
    if function.is_wide() {
        return Err(VerifyErrorKind::WideFunction);
    }
    if found == expected { Ok(()) } else { Err(VerifyErrorKind::ResultType { found, expected }) }
}

/// Which buffers hold a value so far.
struct BufferStates {
    filled: Vec<bool>,
}

impl BufferStates {
    fn new(program: &Program) -> BufferStates {
        BufferStates { filled: program.buffers.iter().map(|buffer| !buffer.kind.is_written()).collect() }
    }

    fn run(&mut self, program: &Program, kernel: &Kernel) -> Result<(), VerifyErrorKind> {
        if let Some(load) = kernel.loads.iter().find(|load| !self.filled[load.buffer.index()]) {
            return Err(VerifyErrorKind::Written(program.buffer(load.buffer).name.clone()));
        }
        self.fill(program, kernel)
    }

    /// The same for a kernel of a loop, whose own buffers are the loop's matter.
    fn run_in_loop(
        &mut self,
        program: &Program,
        number: usize,
        writers: &loops::Writers,
    ) -> Result<(), VerifyErrorKind> {
        let kernel = &program.kernels[number];
        let outside = |load: &&Access| !writers.writes(load.buffer) && !self.filled[load.buffer.index()];
        if let Some(load) = kernel.loads.iter().find(outside) {
            return Err(VerifyErrorKind::Written(program.buffer(load.buffer).name.clone()));
        }
        self.fill(program, kernel)
    }

    fn fill(&mut self, program: &Program, kernel: &Kernel) -> Result<(), VerifyErrorKind> {
        let output = kernel.output.buffer;
        if std::mem::replace(&mut self.filled[output.index()], true) {
            return Err(VerifyErrorKind::Written(program.buffer(output).name.clone()));
        }
        Ok(())
    }

    fn finish(&self, program: &Program) -> Result<(), VerifyErrorKind> {
        match self.filled.iter().position(|&filled| !filled) {
            Some(index) => Err(VerifyErrorKind::Written(program.buffers[index].name.clone())),
            None => Ok(()),
        }
    }
}

fn check_plan(program: &Program) -> Result<(), VerifyErrorKind> {
    let Some(plan) = &program.plan else { return Ok(()) };
    let wrong = |index: usize| VerifyErrorKind::Plan(program.buffers[index].name.clone());
    if plan.offsets.len() != program.buffers.len() {
        return Err(VerifyErrorKind::Plan("(count)".to_string()));
    }
    // Devices allocate the arena before anything runs: it may be no larger than buffers side by side.
    let temporary = program.buffers.iter().filter(|buffer| buffer.kind == BufferKind::Temp);
    let most = temporary.fold(0u64, |sum, buffer| sum.saturating_add(buffer.bytes().next_multiple_of(ARENA_ALIGNMENT)));
    if plan.arena_bytes > most {
        return Err(VerifyErrorKind::Plan("(arena)".to_string()));
    }
    let mut begins: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, (buffer, range)) in program.buffers.iter().zip(live_ranges(program)).enumerate() {
        let temporary = buffer.kind == BufferKind::Temp;
        let Some(offset) = plan.offsets[index] else {
            if temporary {
                return Err(wrong(index));
            }
            continue;
        };
        let end = offset.checked_add(buffer.bytes());
        if !temporary || offset % ARENA_ALIGNMENT != 0 || end.is_none_or(|end| end > plan.arena_bytes) {
            return Err(wrong(index));
        }
        if let Some((first, last)) = range {
            begins.entry(first).or_default().push(index);
            ends.entry(last).or_default().push(index);
        }
    }
    // Alive buffers by place; two neighbours in that order must not touch.
    let mut alive: BTreeMap<(u64, usize), u64> = BTreeMap::new();
    for step in 0..program.kernels.len() {
        for &index in begins.get(&step).into_iter().flatten() {
            let (offset, bytes) = (plan.offsets[index].unwrap_or(0), program.buffers[index].bytes());
            if bytes == 0 {
                continue;
            }
            let before = alive.range(..(offset, index)).next_back();
            let after = alive.range((offset, index)..).next();
            if before.is_some_and(|(&(start, _), &size)| start + size > offset)
                || after.is_some_and(|(&(start, _), _)| start < offset + bytes)
            {
                return Err(wrong(index));
            }
            alive.insert((offset, index), bytes);
        }
        for &index in ends.get(&step).into_iter().flatten() {
            alive.remove(&(plan.offsets[index].unwrap_or(0), index));
        }
    }
    Ok(())
}
