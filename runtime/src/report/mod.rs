//! A difference between devices as a file that shows it again.
//!
//! A [`Report`] holds the kernel that differed, alone, as a program with one kernel (or with those of its loop); the bits of
//! the buffers that it reads, from the batch in which it differed; which element came out how on which device. Where no
//! kernel differs alone, it holds the whole network. It needs no other file, so it can be attached to a bug report and run anywhere
//! (`loomc replay`).
//!
//! The file is a safetensors container. Its tensors are the program's inputs and weights; its `__metadata__` holds
//!
//! | key | value |
//! |---|---|
//! | `loom.report` | the version of this layout, `1` |
//! | `loom.version` | the version of the compiler that found the difference |
//! | `loom.numerics` | the numerics contract, `LN1` |
//! | `loom.program` | the [`Program`](loom_ir::kernel::Program) as JSON |
//! | `loom.difference` | the [`Finding`] as JSON |
//!
//! A file is untrusted: its program passes the verifier and its tensors are checked against it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::ControlFlow;
use std::sync::Arc;

use loom_ir::eval::operands::{Operands, index_of, operands};
use loom_ir::eval::program::{Memory, run_step};
use loom_ir::kernel::{Buffer, BufferId, BufferKind, Kernel, Step, Verified};
use loom_ir::types::DType;
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Target};
use crate::compare::{CompareError, Element, failed, first_element};
use crate::fp_env::FpEnv;
use crate::session::{RunError, Session};
use crate::tensors::Tensor;
use crate::weights::Weights;

mod capture;
mod error;
mod file;

pub use capture::capture;
pub use error::ReportError;

/// What was found, where and on which devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The network's name.
    pub network: String,
    /// The kernel's number in the network; `None` where only a run of the whole network differed.
    pub kernel: Option<usize>,
    /// The batch.
    pub slice: usize,
    /// What the other was compared with.
    pub reference: DeviceNote,
    /// What differed.
    pub device: DeviceNote,
    /// The buffer that holds the first element that differed.
    pub buffer: String,
    /// Its element type.
    pub dtype: DType,
    /// The element's place, row-major.
    pub element: u64,
    /// The reference's bits; eight hexadecimal digits in JSON.
    #[serde(with = "hex_bits")]
    pub expected: u32,
    /// The device's bits.
    #[serde(with = "hex_bits")]
    pub found: u32,
    /// How many elements differed.
    pub count: u64,
    /// Of how many.
    pub of: u64,
}

/// Bits as people compare them.
mod hex_bits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{bits:08x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        u32::from_str_radix(&text, 16).map_err(|_| D::Error::custom("bits are eight hexadecimal digits"))
    }
}

/// A device and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNote {
    /// `cpu`, `gpu` or `interp`.
    pub device: String,
    /// The processor or the adapter, its driver and its tier.
    pub description: String,
}

/// A difference that can be run again.
#[derive(Debug, Clone)]
pub struct Report {
    version: String,
    finding: Finding,
    artifact: Artifact,
    inputs: Vec<Tensor>,
}

impl Report {
    /// What was found.
    pub fn finding(&self) -> &Finding {
        &self.finding
    }

    /// The version of the compiler that found it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The program with its weights, to be made ready on devices.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// The program's inputs, in its order.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// The kernel that differed; `None` where only a run of the whole network did.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.finding.kernel?;
        let program = self.program();
        let named = |kernel: &&Kernel| {
            program.buffers.get(kernel.output.buffer.index()).is_some_and(|buffer| buffer.name == self.finding.buffer)
        };
        program.kernels.iter().find(named)
    }

    /// What the element that differed is made of, the first `most` terms; `None` for a whole network.
    pub fn operands(&self, most: usize) -> Option<Operands> {
        let kernel = self.kernel()?;
        let elements = self.program().buffers.get(kernel.output.buffer.index())?.shape.elements();
        if self.finding.element >= elements {
            return None;
        }
        let mut memory = self.memory(kernel.in_loop.is_some());
        if kernel.in_loop.is_some() {
            // The loop as far as the element's index, so that everything in it is as the kernel found it.
            let last = index_of(kernel, self.finding.element).first().copied().unwrap_or(0);
            let steps: Vec<Step> = self.program().steps().collect();
            FpEnv::run(|| {
                for step in steps {
                    match step {
                        Step::Loop { kernels, count } => {
                            let count = if kernel.output.depends_on(0) { last + 1 } else { count };
                            run_step(self.program(), &Step::Loop { kernels, count }, &mut memory);
                        }
                        step @ Step::Kernel(_) => run_step(self.program(), &step, &mut memory),
                    }
                }
            });
        }
        Some(operands(kernel, &memory, self.finding.element, most))
    }

    /// Runs the program once on each device, which must have been made ready from [`artifact`](Self::artifact). Gives for
    /// each the bits of the finding's element, and the first element that differs from the first device's.
    pub fn replay(&self, sessions: &mut [Session]) -> Result<Vec<Outcome>, CompareError> {
        let mut first: Option<Vec<Written>> = None;
        let mut outcomes = Vec::with_capacity(sessions.len());
        for session in sessions {
            let found = self.written(session).map_err(failed(session))?;
            let expected = first.get_or_insert_with(|| found.clone());
            let buffer = |written: &Written| self.program().buffers.get(written.buffer.index());
            let of_finding = |written: &&Written| buffer(written).is_some_and(|b| b.name == self.finding.buffer);
            let place = self.finding.element as usize;
            let bits = found.iter().find(of_finding).and_then(|written| written.bits.get(place)).copied();
            let difference = expected.iter().zip(&found).find_map(|(expected, found)| {
                let Buffer { name, dtype, shape, .. } = buffer(found)?;
                first_element(name, *dtype, shape.dims(), &expected.bits, &found.bits)
            });
            outcomes.push(Outcome { bits, difference });
        }
        Ok(outcomes)
    }

    /// What a device writes: of kernels that differ alone each one's output, else the network's outputs.
    fn written(&self, session: &mut Session) -> Result<Vec<Written>, RunError> {
        let program = self.program();
        let inputs: Vec<&[u32]> = self.inputs.iter().map(Tensor::bits).collect();
        if self.finding.kernel.is_some() {
            let mut written = Vec::with_capacity(program.kernels.len());
            let mut observe = |number: usize, bits: &[u32]| {
                let buffer = program.kernels.get(number).map(|kernel| kernel.output.buffer);
                written.extend(buffer.map(|buffer| Written { buffer, bits: bits.to_vec() }));
                ControlFlow::Continue(())
            };
            session.take_any_rows();
            session.trace(&inputs, &mut observe)?;
            return Ok(written);
        }
        let zeros = |(buffer, b): (BufferId, &Buffer)| Written { buffer, bits: vec![0; b.shape.elements() as usize] };
        let mut written: Vec<Written> = program.outputs().map(zeros).collect();
        let mut views: Vec<&mut [u32]> = written.iter_mut().map(|written| written.bits.as_mut_slice()).collect();
        session.run_into(&inputs, &mut views)?;
        Ok(written)
    }

    fn program(&self) -> &Arc<Verified> {
        self.artifact.program()
    }

    /// The program's buffers, inputs and weights filled in, and, if asked for, those that kernels write.
    fn memory(&self, written: bool) -> Memory {
        let mut memory = Memory::default();
        let (mut inputs, mut weights) = (self.inputs.iter(), self.artifact.weights().tensors().iter());
        for buffer in &self.program().buffers {
            let given = match &buffer.kind {
                BufferKind::Input => inputs.next().map(Tensor::bits),
                BufferKind::Weight | BufferKind::Codes(_) => weights.next().map(Tensor::bits),
                BufferKind::Constant(bits) => Some(bits.as_slice()),
                BufferKind::Output | BufferKind::Temp => None,
            };
            let zeros = || vec![0; if written { buffer.shape.elements() as usize } else { 0 }];
            memory.buffers.push(given.map_or_else(zeros, <[u32]>::to_vec));
        }
        memory
    }
}

/// The bits of a buffer that a kernel wrote.
#[derive(Clone)]
struct Written {
    buffer: BufferId,
    bits: Vec<u32>,
}

/// What a device gave when a report's program ran again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The bits of the finding's element.
    pub bits: Option<u32>,
    /// The first element that differs from the first device's.
    pub difference: Option<Element>,
}

/// A report of parts that fit each other.
fn assemble(
    version: String,
    finding: Finding,
    program: Verified,
    weights: Vec<Tensor>,
    inputs: Vec<Tensor>,
) -> Option<Report> {
    let weights = Weights::of_program(weights, &program)?;
    let named = |(tensor, (_, buffer)): (&Tensor, (_, &loom_ir::kernel::Buffer))| {
        (tensor.name(), tensor.dtype(), tensor.shape()) == (&*buffer.name, buffer.dtype, &buffer.shape)
    };
    let fits = inputs.len() == program.inputs().count() && inputs.iter().zip(program.inputs()).all(named);
    let artifact = Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new());
    fits.then_some(Report { version, finding, artifact, inputs })
}
