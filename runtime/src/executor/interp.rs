//! The reference interpreter as a device: slow, and right by definition.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom_ir::eval::program::{Memory, run_kernel};
use loom_ir::kernel::{BufferId, BufferKind, Program, Verified};

use super::{ExecuteError, Executor, WeightBits};
use crate::fp_env::FpEnv;

/// Runs a program in the interpreter. Unlike on the other devices, a run allocates as the interpreter likes.
#[derive(Debug)]
pub struct InterpExecutor {
    program: Arc<Verified>,
    memory: Memory,
    inputs: Vec<BufferId>,
    outputs: Vec<BufferId>,
}

impl InterpExecutor {
    /// Makes a program ready: memory for all its buffers, the weights copied in.
    pub fn new(program: Arc<Verified>, weights: &dyn WeightBits) -> Result<InterpExecutor, ExecuteError> {
        let mut buffers = Vec::with_capacity(program.buffers.len());
        let mut weight = 0;
        for buffer in &program.buffers {
            let no_memory =
                || ExecuteError::Memory { what: format!("buffer `{}`", buffer.name), bytes: buffer.bytes() };
            let count = usize::try_from(buffer.shape.elements()).map_err(|_| no_memory())?;
            let mut bits: Vec<u32> = Vec::new();
            bits.try_reserve_exact(count).map_err(|_| no_memory())?;
            match &buffer.kind {
                BufferKind::Constant(constant) => bits.extend_from_slice(constant),
                BufferKind::Weight => {
                    bits.extend_from_slice(weights.bits(weight));
                    weight += 1;
                }
                BufferKind::Input | BufferKind::Output | BufferKind::Temp => bits.resize(count, 0),
            }
            if bits.len() != count {
                let (name, found) = (&buffer.name, bits.len());
                return Err(ExecuteError::Internal(format!("`{name}` has {count} elements, {found} were given")));
            }
            buffers.push(bits);
        }
        let inputs = program.inputs().map(|(id, _)| id).collect();
        let outputs = program.outputs().map(|(id, _)| id).collect();
        Ok(InterpExecutor { program, memory: Memory { buffers }, inputs, outputs })
    }

    fn set_inputs(&mut self, inputs: &[&[u32]]) {
        for (id, input) in self.inputs.iter().zip(inputs) {
            self.memory.buffers[id.index()].copy_from_slice(input);
        }
    }
}

impl Executor for InterpExecutor {
    fn program(&self) -> &Program {
        &self.program
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        self.set_inputs(inputs);
        FpEnv::run(|| {
            for kernel in &self.program.kernels {
                run_kernel(&self.program, kernel, &mut self.memory);
            }
        });
        for (id, output) in self.outputs.iter().zip(outputs) {
            output.copy_from_slice(&self.memory.buffers[id.index()]);
        }
        Ok(())
    }

    fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError> {
        self.set_inputs(inputs);
        for (index, kernel) in self.program.kernels.iter().enumerate() {
            FpEnv::run(|| run_kernel(&self.program, kernel, &mut self.memory));
            if observe(index, &self.memory.buffers[kernel.output.buffer.index()]).is_break() {
                break;
            }
        }
        Ok(())
    }
}
