//! A device with a fault on purpose, to see that comparisons find one.

use std::ops::ControlFlow;

use loom_ir::kernel::Program;

use super::tier::Tier;
use super::{ExecuteError, Executor, Profile};

/// Which bit is wrong: the lowest one of an element of a kernel's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flip {
    /// The kernel's name, or its number in the program.
    pub kernel: String,
    /// The element's place in the kernel's output.
    pub element: usize,
}

/// An executor whose results have one flipped bit.
///
/// Only what is shown of the kernel is wrong: the kernels after it run on the right bits.
pub struct FlipExecutor {
    inner: Box<dyn Executor>,
    kernel: usize,
    /// The program's output that the kernel writes, if it writes one.
    output: Option<usize>,
    element: usize,
}

impl FlipExecutor {
    /// Wraps an executor. `None` if its program has no such kernel or element.
    pub fn new(inner: Box<dyn Executor>, flip: &Flip) -> Option<FlipExecutor> {
        let program = inner.program();
        let by_name = program.kernels.iter().position(|kernel| kernel.name == flip.kernel);
        let kernel = by_name.or_else(|| flip.kernel.parse().ok())?;
        let written = program.kernels.get(kernel)?.output.buffer;
        if flip.element as u64 >= program.buffer(written).shape.elements() {
            return None;
        }
        let output = program.outputs().position(|(id, _)| id == written);
        Some(FlipExecutor { inner, kernel, output, element: flip.element })
    }
}

impl Executor for FlipExecutor {
    fn program(&self) -> &Program {
        self.inner.program()
    }

    fn description(&self) -> String {
        format!("{}, with one bit wrong on purpose", self.inner.description())
    }

    fn tier(&self) -> Option<Tier> {
        self.inner.tier()
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        self.inner.run(inputs, outputs)?;
        if let Some(output) = self.output {
            outputs[output][self.element] ^= 1;
        }
        Ok(())
    }

    fn profile(&mut self, inputs: &[&[u32]]) -> Result<Option<Profile>, ExecuteError> {
        self.inner.profile(inputs)
    }

    fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError> {
        let (faulty, element) = (self.kernel, self.element);
        self.inner.trace(inputs, &mut |kernel, bits| {
            if kernel != faulty {
                return observe(kernel, bits);
            }
            let mut wrong = bits.to_vec();
            wrong[element] ^= 1;
            observe(kernel, &wrong)
        })
    }
}
