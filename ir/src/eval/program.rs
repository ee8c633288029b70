//! Runs programs: the definition of the bits.
//!
//! Written to be read, one function a kernel kind, in the order that LN1 gives. It is used for constant folding, as the
//! device `interp`, and as the answer that every code generator is compared with.

use crate::kernel::scalar::BinaryOp;
use crate::kernel::{
    Access, Arg, Body, BufferKind, Contract, Kernel, Lambda, Program, Reduce, ReduceOp, Stage, Verified,
};
use crate::numerics::reduction;
use crate::types::DType;

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
    for kernel in &program.kernels {
        run_kernel(program, kernel, memory);
    }
}

/// Runs one kernel of a verified program.
pub fn run_kernel(program: &Program, kernel: &Kernel, memory: &mut Memory) {
    let mut output = std::mem::take(&mut memory.buffers[kernel.output.buffer.index()]);
    let mut run = KernelRun { program, kernel, memory, values: Vec::new(), args: Vec::new() };
    match &kernel.body {
        Body::Map(lambda) => run.map(lambda, &mut output),
        Body::Reduce(reduce) => run.reduce(reduce, &mut output),
        Body::Contract(contract) => run.contract(contract, &mut output),
    }
    memory.buffers[kernel.output.buffer.index()] = output;
}

/// Bytes that a kernel's terms take while it runs: a row of them, or the operands of one batch. Known before anything is
/// allocated; `None` where it overflows.
pub fn scratch_bytes(kernel: &Kernel) -> Option<u64> {
    let product = |axes: &[u64]| axes.iter().try_fold(4u64, |product, &extent| product.checked_mul(extent));
    match &kernel.body {
        Body::Map(_) => Some(0),
        Body::Reduce(reduce) => product(&kernel.axes[kernel.axes.len() - reduce.reduced..]),
        Body::Contract(contract) => {
            let (_, rows, columns, reduced) = contract.split(&kernel.axes);
            product(&[rows, reduced].concat())?.checked_add(product(&[columns, reduced].concat())?)
        }
    }
}

/// One element of a kernel's output: its place in the buffer, and its bits. `index` is over the kernel's output axes; of
/// the memory only what the kernel reads is looked at.
pub fn element(program: &Program, kernel: &Kernel, memory: &Memory, index: &[u64]) -> (u64, u32) {
    let mut run = KernelRun { program, kernel, memory, values: Vec::new(), args: Vec::new() };
    let inner = vec![0; kernel.axes.len() - index.len()];
    let whole = [index, &inner].concat();
    let bits = match &kernel.body {
        Body::Map(lambda) => run.apply(lambda, index, &[]),
        Body::Reduce(reduce) => {
            let reduced = run.stages(reduce, &index[..kernel.axes.len() - reduce.reduced]);
            run.apply(&reduce.result, &whole, &reduced)
        }
        Body::Contract(contract) => {
            let mut pairs = Vec::new();
            for_each_index(&kernel.axes[index.len()..], |k| {
                let index = [index, k].concat();
                let mut operand = |lambda| f32::from_bits(run.apply(lambda, &index, &[]));
                pairs.push((operand(&contract.lhs), operand(&contract.rhs)));
            });
            let total = reduction::contract(pairs, contract.spec);
            run.apply(&contract.epilogue, &whole, &[total.to_bits()])
        }
    };
    (kernel.output.linear().at(&whole) as u64, bits)
}

struct KernelRun<'a> {
    program: &'a Program,
    kernel: &'a Kernel,
    memory: &'a Memory,
    /// Scratch of the scalar evaluator.
    values: Vec<u32>,
    args: Vec<u32>,
}

impl KernelRun<'_> {
    fn map(&mut self, lambda: &Lambda, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        for_each_index(&self.kernel.axes, |index| {
            output[place.at(index) as usize] = self.apply(lambda, index, &[]);
        });
    }

    fn reduce(&mut self, reduce: &Reduce, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let rows = self.kernel.axes.len() - reduce.reduced;
        let (row_axes, reduced_axes) = self.kernel.axes.split_at(rows);
        for_each_index(row_axes, |row| {
            let reduced = self.stages(reduce, row);
            if reduce.per_element {
                for_each_index(reduced_axes, |rest| {
                    let index = [row, rest].concat();
                    output[place.at(&index) as usize] = self.apply(&reduce.result, &index, &reduced);
                });
            } else {
                let index = [row, &vec![0; reduced_axes.len()]].concat();
                output[place.at(&index) as usize] = self.apply(&reduce.result, &index, &reduced);
            }
        });
    }

    /// The results of a row's stages.
    fn stages(&mut self, reduce: &Reduce, row: &[u64]) -> Vec<u32> {
        let mut reduced = Vec::new();
        for stage in &reduce.stages {
            let mut terms = Vec::new();
            for_each_index(&self.kernel.axes[row.len()..], |rest| {
                terms.push(self.apply(&stage.input, &[row, rest].concat(), &reduced));
            });
            reduced.push(combine(stage, &terms));
        }
        reduced
    }

    fn contract(&mut self, contract: &Contract, output: &mut [u32]) {
        let place = self.kernel.output.linear();
        let (batch_axes, row_axes, column_axes, reduced_axes) = contract.split(&self.kernel.axes);
        let (no_row, no_column) = (vec![0; row_axes.len()], vec![0; column_axes.len()]);
        let no_reduced = vec![0; reduced_axes.len()];
        for_each_index(batch_axes, |batch| {
            // The operands of this batch as plain matrices, one row of K terms for each row and column.
            let mut lhs = Vec::new();
            for_each_index(row_axes, |row| {
                for_each_index(reduced_axes, |k| {
                    lhs.push(self.apply(&contract.lhs, &[batch, row, &no_column, k].concat(), &[]));
                });
            });
            let mut rhs = Vec::new();
            for_each_index(column_axes, |column| {
                for_each_index(reduced_axes, |k| {
                    rhs.push(self.apply(&contract.rhs, &[batch, &no_row, column, k].concat(), &[]));
                });
            });
            let terms = reduced_axes.iter().product::<u64>() as usize;
            let mut row_number = 0;
            for_each_index(row_axes, |row| {
                let a = &lhs[row_number * terms..(row_number + 1) * terms];
                row_number += 1;
                let mut column_number = 0;
                for_each_index(column_axes, |column| {
                    let b = &rhs[column_number * terms..(column_number + 1) * terms];
                    column_number += 1;
                    let pairs = a.iter().zip(b).map(|(&a, &b)| (f32::from_bits(a), f32::from_bits(b)));
                    let total = reduction::contract(pairs, contract.spec);
                    let index = [batch, row, column, &no_reduced].concat();
                    output[place.at(&index) as usize] = self.apply(&contract.epilogue, &index, &[total.to_bits()]);
                });
            });
        });
    }

    fn apply(&mut self, lambda: &Lambda, index: &[u64], reduced: &[u32]) -> u32 {
        let mut args = std::mem::take(&mut self.args);
        args.clear();
        args.extend(lambda.args.iter().map(|&arg| match arg {
            Arg::Load(load) => self.load(&self.kernel.loads[load as usize], index),
            Arg::Index(axis) => index[axis as usize] as u32,
            Arg::Reduced(stage) => reduced[stage as usize],
        }));
        let result = scalar::evaluate(&lambda.function, &args, &mut self.values);
        self.args = args;
        result
    }

    fn load(&self, access: &Access, index: &[u64]) -> u32 {
        let inside = |value: i64, extent: u64| value >= 0 && (value as u64) < extent;
        if !access.guards.iter().all(|guard| inside(guard.expr.at(index), guard.extent)) {
            return access.fill;
        }
        let mut place = 0;
        for (coord, &extent) in access.coords.iter().zip(access.shape.dims()) {
            place = place * extent + coord.at(index) as u64;
        }
        debug_assert!((place as usize) < self.program.buffer(access.buffer).shape.elements() as usize);
        self.memory.buffers[access.buffer.index()][place as usize]
    }
}

/// One value from the terms of a row.
fn combine(stage: &Stage, terms: &[u32]) -> u32 {
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
