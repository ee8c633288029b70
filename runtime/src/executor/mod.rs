//! What a device does with a program: one implementation a device.

use std::ops::ControlFlow;
use std::time::Duration;

use loom_ir::kernel::{Program, Step};

use self::tier::Tier;

#[cfg(feature = "cpu")]
pub mod cpu;
pub mod flip;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod interp;
pub mod tier;

/// A program made ready on one device.
///
/// All tensors go in and out as the bits of their elements, in the order in which the program lists its inputs, outputs
/// and weights. A run allocates nothing that grows with the network.
pub trait Executor: Send {
    /// The program that runs.
    fn program(&self) -> &Program;

    /// What it runs on, for people: the processor, or the adapter with its driver and tier.
    fn description(&self) -> String;

    /// The tier of exactness that it runs in, where devices of its kind have tiers.
    fn tier(&self) -> Option<Tier> {
        None
    }

    /// Runs every kernel. `inputs` and `outputs` have the program's lengths.
    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError>;

    /// Runs so many rounds and gives how long each step took by the device's own clock; `None` where it has none.
    fn profile(&mut self, inputs: &[&[u32]], rounds: usize) -> Result<Option<Profile>, ExecuteError> {
        let _ = (inputs, rounds);
        Ok(None)
    }

    /// Runs step by step and shows the output of each kernel, by its number, until `observe` breaks. Kernels of a loop are
    /// shown when it has ended.
    fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError>;
}

/// How long the steps of a run took on a device: of several rounds the medians.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// From handing the device nothing to do to hearing that it is done: what every run takes at least, by this
    /// machine's clock.
    pub empty: Duration,
    /// The program's steps, and the time of each by the device's clock.
    pub steps: Vec<(Step, Duration)>,
}

/// The elements of a program's weights, in the program's order. Behind it lies a mapped file or memory.
pub trait WeightBits: Send + Sync {
    /// The bits of weight number `index`.
    fn bits(&self, index: usize) -> &[u32];

    /// Weight number `index` won't be read soon: memory that only keeps its file's bytes at hand may be had back.
    fn release(&self, index: usize) {
        let _ = index;
    }
}

impl WeightBits for Vec<Vec<u32>> {
    fn bits(&self, index: usize) -> &[u32] {
        &self[index]
    }
}

/// Why a device could not make a program ready or run it.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// There's no such device on this machine, or it can't do what LN1 needs. The words say what was looked for.
    #[error("no such device: {0}")]
    NoDevice(String),
    /// The program needs more than the device has.
    #[error("{what} needs {need} bytes, the device allows {limit}")]
    Limit {
        /// What needs it.
        what: String,
        /// Bytes needed.
        need: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// This machine has less memory than the program needs.
    #[error("no memory for {what}: {bytes} bytes")]
    Memory {
        /// What needs it.
        what: String,
        /// Bytes needed.
        bytes: u64,
    },
    /// A kernel's code gave other bits than the interpreter when it was tried on pinned inputs.
    #[error(
        "kernel `{kernel}` is not exact in the tier {tier}: on pinned inputs, element {element} is {found:08x}, not \
         {expected:08x}"
    )]
    Inexact {
        /// The kernel.
        kernel: String,
        /// The tier that doesn't hold for it.
        tier: Tier,
        /// The element's place in the kernel's output.
        element: u64,
        /// The interpreter's bits.
        expected: u32,
        /// The device's.
        found: u32,
    },
    /// The device failed while it ran: lost, or out of memory.
    #[error("the device failed: {0}")]
    Device(String),
    /// A defect of Loom.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}
