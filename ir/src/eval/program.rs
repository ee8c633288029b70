//! Runs programs: the definition of the bits.
//!
//! Written to be read, one function a kernel kind, in the order that LN1 gives. It is used for constant folding, as the
//! device `interp`, and as the answer that every code generator is compared with. It computes in the caller's
//! floating-point environment, which has to be LN1's: see `loom_fp_env`.

use crate::kernel::scalar::BinaryOp;
use crate::kernel::{
    Access, Arg, Body, BufferKind, Contract, Gather, Kernel, Lambda, Program, Reduce, ReduceOp, Stage, Step, Verified,
};
use crate::numerics::reduction;
use crate::types::DType;

use super::batch::{Batch, LANES};
use super::scalar;

/// The buffers of a run: the bits of every element, by buffer number.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// One list of bits a buffer.
    pub buffers: Vec<Vec<u32>>,
}

impl Memory {
    /// Memory for a program: constants filled in, everything else zero.
    pub fn new(program: &Program) -> Memory {
        let buffers = program
            .buffers
            .iter()
            .map(|buffer| match &buffer.kind {
                BufferKind::Constant(bits) => bits.clone(),
                _ => vec![0; buffer.shape.elements() as usize],
            })
            .collect();
        Memory { buffers }
    }
}

/// Runs all kernels in order. Inputs and weights must have been put into `memory`.
pub fn run(program: &Verified, memory: &mut Memory) {
    for step in program.steps() {
        run_step(program, &step, memory);
    }
}

/// Runs one step of a verified program: a kernel, or a loop's kernels in turns.
pub fn run_step(program: &Program, step: &Step, memory: &mut Memory) {
    match step {
        Step::Kernel(number) => run_kernel(program, &program.kernels[*number], memory),
        Step::Loop { kernels, count } => {
            for index in 0..*count {
                for kernel in &program.kernels[kernels.clone()] {
                    run_slice(program, kernel, index, memory);
                }
            }
        }
    }
}

/// Runs one kernel of a loop for one index of its first axis.
fn run_slice(program: &Program, kernel: &Kernel, index: u64, memory: &mut Memory) {
    let buffer = kernel.output.buffer.index();
    let elements = memory.buffers[buffer].len();
    // The kernel may read earlier slices of what it writes, so that its output is put together beside the buffer.
    let (first, size) = match kernel.output.depends_on(0) {
        true => (index as usize * (elements / kernel.axes[0] as usize), elements / kernel.axes[0] as usize),
        false => (0, elements),
    };
    let mut output = vec![0; size];
    KernelRun { program, kernel, memory, slice: Some(index), first }.body(&mut output);
    memory.buffers[buffer][first..first + size].copy_from_slice(&output);
}

/// Runs one kernel of a verified program, of no loop.
pub fn run_kernel(program: &Program, kernel: &Kernel, memory: &mut Memory) {
    let mut output = std::mem::take(&mut memory.buffers[kernel.output.buffer.index()]);
    KernelRun { program, kernel, memory, slice: None, first: 0 }.body(&mut output);
    memory.buffers[kernel.output.buffer.index()] = output;
}

/// Bytes that a kernel's terms take while it runs: a row of them, or the operands of one batch. Known before anything is
/// allocated; `None` where it overflows.
pub fn scratch_bytes(kernel: &Kernel) -> Option<u64> {
    let product = |axes: &[u64]| axes.iter().try_fold(4u64, |product, &extent| product.checked_mul(extent));
    match &kernel.body {
        Body::Map(_) => Some(0),
        Body::Gather(_) => product(&kernel.axes[..kernel.output_axes()]),
        Body::Reduce(reduce) => product(&kernel.axes[kernel.axes.len() - reduce.reduced..]),
        Body::Contract(contract) => {
            let (_, rows, columns, reduced) = contract.split(&kernel.axes);
            product(&[rows, reduced].concat())?.checked_add(product(&[columns, reduced].concat())?)
        }
        Body::Attend(attend) => super::attend::scratch_bytes(kernel, attend),
    }
}

/// One element of a kernel's output: its place in the buffer, and its bits. `index` is over the kernel's output axes; of
/// the memory only what the kernel reads is looked at.
pub fn element(program: &Program, kernel: &Kernel, memory: &Memory, index: &[u64]) -> (u64, u32) {
    let run = KernelRun { program, kernel, memory, slice: None, first: 0 };
    let inner = vec![0; kernel.axes.len() - index.len()];
    let whole = [index, &inner].concat();
    let bits = match &kernel.body {
        Body::Map(lambda) => run.apply(lambda, index, &[]),
        Body::Reduce(reduce) => {
            let rows = kernel.axes.len() - reduce.reduced;
            let (row, reduced_axes) = (&index[..rows], &kernel.axes[rows..]);
            let mut reduced = Vec::new();
            for stage in &reduce.stages {
                let mut terms = Vec::new();
                for_each_index(reduced_axes, |rest| {
                    terms.push(run.apply(&stage.input, &[row, rest].concat(), &reduced));
                });
                reduced.push(combine(stage, &terms));
            }
            run.apply(&reduce.result, &whole, &reduced)
        }
        Body::Contract(contract) => {
            let mut pairs = Vec::new();
            for_each_index(&kernel.axes[index.len()..], |k| {
                let index = [index, k].concat();
                let operand = |lambda| run.apply(lambda, &index, &[]);
                pairs.push((operand(&contract.lhs), operand(&contract.rhs)));
            });
            run.apply(&contract.epilogue, &whole, &[contract.products.total(pairs)])
        }
        Body::Gather(gather) => {
            let row = u64::from(run.apply(&gather.index, &whole, &[]));
            let inside = kernel.axes.last().is_some_and(|&rows| row < rows);
            if inside { run.apply(&gather.result, &[index, &[row]].concat(), &[]) } else { 0 }
        }
        Body::Attend(attend) => run.attend_element(attend, index),
    };
    (kernel.output.linear().at(&whole) as u64, bits)
}

pub(super) struct KernelRun<'a> {
    program: &'a Program,
    pub(super) kernel: &'a Kernel,
    memory: &'a Memory,
    /// The only index of the first axis that runs.
    slice: Option<u64>,
    /// The place in the buffer of the first element of the output in hand.
    pub(super) first: usize,
}

impl KernelRun<'_> {
    fn body(&self, output: &mut [u32]) {
        match &self.kernel.body {
            Body::Map(lambda) => self.map(lambda, output),
            Body::Reduce(reduce) => self.reduce(reduce, output),
            Body::Contract(contract) => self.contract(contract, output),
            Body::Gather(gather) => self.gather(gather, output),
            Body::Attend(attend) => self.attend(attend, output),
        }
    }

    /// Calls `body` for every index of the kernel's leading axes, in the slice that runs.
    pub(super) fn for_each_leading(&self, axes: &[u64], mut body: impl FnMut(&[u64])) {
        match self.slice {
            None => for_each_index(axes, body),
            Some(slice) => for_each_index(&axes[1..], |rest| body(&[&[slice], rest].concat())),
        }
    }

    fn map(&self, lambda: &Lambda, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let mut lanes = Lanes::new(lambda);
        self.for_each_leading(&self.kernel.axes, |index| {
            lanes.push(self, index, &[], place.at(index) as usize - self.first, output);
        });
        lanes.flush(output);
    }

    fn reduce(&self, reduce: &Reduce, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let rows = self.kernel.axes.len() - reduce.reduced;
        let (row_axes, reduced_axes) = self.kernel.axes.split_at(rows);
        let mut inputs: Vec<Lanes<'_>> = reduce.stages.iter().map(|stage| Lanes::new(&stage.input)).collect();
        let mut results = Lanes::new(&reduce.result);
        let mut terms = vec![0; reduced_axes.iter().product::<u64>() as usize];
        let first = vec![0; reduced_axes.len()];
        self.for_each_leading(row_axes, |row| {
            let mut reduced = Vec::new();
            for (stage, input) in reduce.stages.iter().zip(&mut inputs) {
                let mut term = 0;
                for_each_index(reduced_axes, |rest| {
                    input.push(self, &[row, rest].concat(), &reduced, term, &mut terms);
                    term += 1;
                });
                input.flush(&mut terms);
                reduced.push(combine(stage, &terms));
            }
            let mut result = |rest: &[u64]| {
                let index = [row, rest].concat();
                results.push(self, &index, &reduced, place.at(&index) as usize - self.first, output);
            };
            if reduce.per_element {
                for_each_index(reduced_axes, result);
            } else {
                result(&first);
            }
        });
        results.flush(output);
    }

    fn contract(&self, contract: &Contract, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let (batch_axes, row_axes, column_axes, reduced_axes) = contract.split(&self.kernel.axes);
        let (no_row, no_column) = (vec![0; row_axes.len()], vec![0; column_axes.len()]);
        let no_reduced = vec![0; reduced_axes.len()];
        let size = |axes: &[u64]| axes.iter().product::<u64>() as usize;
        let terms = size(reduced_axes);
        // The operands of one batch as plain matrices, one row of K terms for each row and column.
        let (mut lhs, mut rhs) = (vec![0; size(row_axes) * terms], vec![0; size(column_axes) * terms]);
        let (mut left, mut right) = (Lanes::new(&contract.lhs), Lanes::new(&contract.rhs));
        let mut epilogue = Lanes::new(&contract.epilogue);
        self.for_each_leading(batch_axes, |batch| {
            let mut term = 0;
            for_each_index(row_axes, |row| {
                for_each_index(reduced_axes, |k| {
                    left.push(self, &[batch, row, &no_column, k].concat(), &[], term, &mut lhs);
                    term += 1;
                });
            });
            left.flush(&mut lhs);
            let mut term = 0;
            for_each_index(column_axes, |column| {
                for_each_index(reduced_axes, |k| {
                    right.push(self, &[batch, &no_row, column, k].concat(), &[], term, &mut rhs);
                    term += 1;
                });
            });
            right.flush(&mut rhs);
            let mut row_number = 0;
            for_each_index(row_axes, |row| {
                let a = &lhs[row_number * terms..(row_number + 1) * terms];
                row_number += 1;
                let mut column_number = 0;
                for_each_index(column_axes, |column| {
                    let b = &rhs[column_number * terms..(column_number + 1) * terms];
                    column_number += 1;
                    let total = contract.products.total(a.iter().copied().zip(b.iter().copied()));
                    let index = [batch, row, column, &no_reduced].concat();
                    epilogue.push(self, &index, &[total], place.at(&index) as usize - self.first, output);
                });
            });
        });
        epilogue.flush(output);
    }

    fn gather(&self, gather: &Gather, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let (axes, last) = self.kernel.axes.split_at(self.kernel.output_axes());
        let extent = last.first().copied().unwrap_or(0);
        // The rows first: where the result goes is where its row is found, until the result takes its place.
        let mut rows = vec![0; output.len()];
        let mut row = Lanes::new(&gather.index);
        self.for_each_leading(axes, |outer| {
            row.push(self, &[outer, &[0]].concat(), &[], place.at(outer) as usize - self.first, &mut rows);
        });
        row.flush(&mut rows);
        let mut results = Lanes::new(&gather.result);
        self.for_each_leading(axes, |outer| {
            let to = place.at(outer) as usize - self.first;
            let row = u64::from(rows[to]);
            if row < extent {
                results.push(self, &[outer, &[row]].concat(), &[], to, output);
            } else {
                output[to] = 0;
            }
        });
        results.flush(output);
    }

    /// A lambda at one index.
    pub(super) fn apply(&self, lambda: &Lambda, index: &[u64], reduced: &[u32]) -> u32 {
        let args: Vec<u32> = lambda.args.iter().map(|&arg| self.argument(arg, index, reduced)).collect();
        scalar::evaluate(&lambda.function, &args, &mut Vec::new())
    }

    fn argument(&self, arg: Arg, index: &[u64], reduced: &[u32]) -> u32 {
        match arg {
            Arg::Load(load) => self.load(&self.kernel.loads[load as usize], index),
            Arg::Index(axis) => index[axis as usize] as u32,
            Arg::Reduced(stage) => reduced[stage as usize],
        }
    }

    fn load(&self, access: &Access, index: &[u64]) -> u32 {
        let Some(place) = access.element(index) else { return access.fill };
        debug_assert!(place < self.program.buffer(access.buffer).shape.elements());
        self.memory.buffers[access.buffer.index()][place as usize]
    }
}

/// A lambda over many indices: arguments are collected until a block of lanes is full, then evaluated together.
pub(super) struct Lanes<'a> {
    lambda: &'a Lambda,
    /// `None` where the lambda gives its only argument back.
    batch: Option<Batch>,
    /// Where the results of the collected lanes go.
    places: Vec<usize>,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(lambda: &'a Lambda) -> Lanes<'a> {
        let batch = (!lambda.function.is_identity()).then(|| Batch::new(&lambda.function));
        Lanes { lambda, batch, places: Vec::with_capacity(LANES) }
    }

    /// Adds an index; its result goes to `output[place]`, at the latest with [`Lanes::flush`].
    pub(super) fn push(
        &mut self,
        run: &KernelRun<'_>,
        index: &[u64],
        reduced: &[u32],
        place: usize,
        output: &mut [u32],
    ) {
        let value = |arg: Arg| run.argument(arg, index, reduced);
        let Some(batch) = &mut self.batch else {
            output[place] = value(self.lambda.args[0]);
            return;
        };
        for (param, &arg) in self.lambda.args.iter().enumerate() {
            batch.param(param)[self.places.len()] = value(arg);
        }
        self.places.push(place);
        if self.places.len() == LANES {
            self.flush(output);
        }
    }

    /// Evaluates what is collected.
    pub(super) fn flush(&mut self, output: &mut [u32]) {
        if let Some(batch) = &mut self.batch {
            for (&place, &bits) in self.places.iter().zip(batch.run(self.places.len())) {
                output[place] = bits;
            }
            self.places.clear();
        }
    }
}

/// One value from the terms of a row.
pub(super) fn combine(stage: &Stage, terms: &[u32]) -> u32 {
    let dtype = match stage.input.function.result_type() {
        Ok(dtype) => dtype,
        Err(error) => unreachable!("verified programs are well typed: {error}"),
    };
    match (stage.op, dtype) {
        (ReduceOp::Sum(spec), DType::F32) => {
            let terms: Vec<f32> = terms.iter().map(|&bits| f32::from_bits(bits)).collect();
            reduction::sum(&terms, spec).to_bits()
        }
        (ReduceOp::Sum(_), _) => terms.iter().fold(0, |sum, &term| sum.wrapping_add(term)),
        (ReduceOp::Max, _) => {
            let empty = if dtype == DType::I32 { i32::MIN as u32 } else { 0 };
            terms.iter().fold(empty, |most, &term| scalar::binary(BinaryOp::Max, dtype, most, term))
        }
        (ReduceOp::Min, _) => {
            let empty = if dtype == DType::I32 { i32::MAX as u32 } else { u32::MAX };
            terms.iter().fold(empty, |least, &term| scalar::binary(BinaryOp::Min, dtype, least, term))
        }
    }
}

/// Calls `body` for every index in row-major order; once, with the empty index, where there are no axes.
pub fn for_each_index(axes: &[u64], mut body: impl FnMut(&[u64])) {
    if axes.contains(&0) {
        return;
    }
    let mut index = vec![0u64; axes.len()];
    loop {
        body(&index);
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < axes[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}
