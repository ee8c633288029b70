//! Runs programs of strangers on interpreter and CPU.

use std::sync::Arc;

use loom_ir::kernel::scalar::Inst;
use loom_ir::kernel::{BufferKind, Program, Verified};
use loom_runtime::digest::canonicalise;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::interp::InterpExecutor;
use loom_runtime::executor::{ExecuteError, Executor, WeightBits};

use crate::choices::Choices;
use crate::values;

/// What a program is given: the bits of its inputs and weights, in its order.
#[derive(Debug, Clone)]
pub struct Given {
    /// Of the inputs.
    pub inputs: Vec<Vec<u32>>,
    /// Of the weights.
    pub weights: Vec<Vec<u32>>,
}

impl Given {
    /// Values that follow from a seed.
    pub fn random(program: &Program, seed: u64) -> Given {
        let mut choices = Choices::from_seed(seed);
        let mut draw = |keep: fn(&BufferKind) -> bool| {
            let buffers = program.buffers_where(keep);
            buffers.map(|(_, b)| values::tensor(b.dtype, b.shape.elements() as usize, &mut choices)).collect()
        };
        Given { inputs: draw(BufferKind::is_input), weights: draw(BufferKind::is_weight) }
    }
}

/// The outputs of one run, every NaN the same.
pub fn outputs(executor: &mut dyn Executor, given: &Given) -> Result<Vec<Vec<u32>>, ExecuteError> {
    let program = executor.program();
    let dtypes: Vec<_> = program.outputs().map(|(_, buffer)| buffer.dtype).collect();
    let mut outputs: Vec<Vec<u32>> =
        program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let inputs: Vec<&[u32]> = given.inputs.iter().map(Vec::as_slice).collect();
    let mut views: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    executor.run(&inputs, &mut views)?;
    for (bits, dtype) in outputs.iter_mut().zip(dtypes) {
        canonicalise(dtype, bits);
    }
    Ok(outputs)
}

/// The outputs in the interpreter.
pub fn interpreted(program: &Arc<Verified>, given: &Given) -> Result<Vec<Vec<u32>>, ExecuteError> {
    outputs(&mut InterpExecutor::new(Arc::clone(program), &given.weights)?, given)
}

/// The outputs on the CPU. With more than one thread, every kernel is cut into parts, however small it is.
pub fn compiled(program: &Arc<Verified>, given: &Given, threads: usize) -> Result<Vec<Vec<u32>>, ExecuteError> {
    let weights: Arc<dyn WeightBits> = Arc::new(given.weights.clone());
    let options = CpuOptions { threads: Some(threads), worth_threads: 0, ..CpuOptions::default() };
    outputs(&mut CpuExecutor::with_options(Arc::clone(program), weights, &options)?, given)
}

/// Runs a program of a stranger on values from a seed.
///
/// # Panics
/// Where interpreter and CPU disagree, or either finds a defect of Loom.
pub fn agree(program: &Arc<Verified>, seed: u64) {
    let given = Given::random(program, seed);
    let [expected, found] = [interpreted(program, &given), compiled(program, &given, 1)].map(|outputs| match outputs {
        Ok(outputs) => Some(outputs),
        Err(ExecuteError::Internal(message)) => panic!("{message}\n{}", ***program),
        Err(_) => None,
    });
    if let (Some(expected), Some(found)) = (expected, found)
        && !reads_floats_as_bits(program)
    {
        assert_eq!(expected, found, "cpu differs from interp\n{}", ***program);
    }
}

/// Whether a function reads floats as bits. The payload of a NaN is no part of LN1, so a stranger's program that shows it
/// may give other bits elsewhere.
fn reads_floats_as_bits(program: &Program) -> bool {
    let mut insts =
        program.kernels.iter().flat_map(|kernel| kernel.lambdas()).flat_map(|lambda| &lambda.function.insts);
    insts.any(|inst| matches!(inst, Inst::Bitcast(..)))
}
