//! The reference interpreter as a device: slow, and right by definition.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom_ir::eval::program::{Memory, run, run_step, scratch_bytes};
use loom_ir::kernel::{BufferId, BufferKind, Program, Verified};

use super::{ExecuteError, Executor, WeightBits, weight_bits};
use crate::fp_env::FpEnv;

/// Most bytes of terms that one kernel may ask for: programs are untrusted, and one of a few bytes can name rows of 2^31
/// terms. A network of real size needs a fraction of this.
const MAX_SCRATCH_BYTES: u64 = 1 << 36;

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
        for kernel in &program.kernels {
            let need = scratch_bytes(kernel).unwrap_or(u64::MAX);
            if need > MAX_SCRATCH_BYTES {
                let what = format!("kernel `{}`", kernel.name);
                return Err(ExecuteError::Limit { what, need, limit: MAX_SCRATCH_BYTES });
            }
        }
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
                BufferKind::Weight | BufferKind::Codes(_) => {
                    match weights.stored(weight) {
                        Some((view, _)) => FpEnv::run(|| bits.extend((0..count).map(|index| view.bits(index)))),
                        None => bits.extend_from_slice(weight_bits(weights, weight, buffer)?),
                    }
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

    fn description(&self) -> String {
        "reference interpreter".to_string()
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        self.set_inputs(inputs);
        FpEnv::run(|| {
            run(&self.program, &mut self.memory);
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
        for step in self.program.steps() {
            FpEnv::run(|| run_step(&self.program, &step, &mut self.memory));
            for number in step.kernels() {
                let output = self.program.kernels[number].output.buffer;
                if observe(number, &self.memory.buffers[output.index()]).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_beyond_the_limit_are_refused() {
        let graph = "graph \"bomb\" {
            %0 = input \"x\" : f32[1]
            %1 = broadcast %0 shape=[16, 8] axes=[1] : f32[16, 8]
            %2 = broadcast %0 shape=[2, 8] axes=[1] : f32[2, 8]
            %3 = contract %1 %2 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[1] : f32[16, 2]
            output \"y\" %3
        }";
        let graph = loom_ir::graph::parse::parse(graph).unwrap();
        let program = loom_passes::compile_graph(graph, &loom_passes::PipelineOptions::default()).unwrap();
        // The operands are one element, repeated: as many terms as one likes verify.
        let executor = |terms: u64| {
            let mut program = program.clone().into_inner();
            *program.kernels[0].axes.last_mut().unwrap() = terms;
            InterpExecutor::new(Arc::new(loom_ir::kernel::verify(program).unwrap()), &Vec::<Vec<u32>>::new())
        };
        assert!(executor(8).is_ok());
        assert!(matches!(executor(1 << 30), Err(ExecuteError::Limit { .. })));
    }
}
