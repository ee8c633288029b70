//! What a device does with a program: one implementation a device.

use std::ops::ControlFlow;
use std::task::{Poll, Waker};
use std::time::Duration;

use loom_ir::kernel::{Buffer, Forms, Program, Step};
use loom_ir::numerics::stored::{Form, View};

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

    /// Hands a run to the device and does not wait for its end; `None` where it is this thread that computes, and
    /// [`run`](Self::run) is the way.
    fn submit(&mut self, inputs: &[&[u32]]) -> Result<Option<Box<dyn Submitted + '_>>, ExecuteError> {
        let _ = inputs;
        Ok(None)
    }

    /// Whether NaNs of outputs are all [`CANONICAL_NAN`](loom_ir::numerics::order::CANONICAL_NAN) when a run has ended; else
    /// they may have any payload, and the caller makes them that.
    fn shows_one_nan(&self) -> bool {
        false
    }

    /// Runs so many rounds and gives how long each step took by the device's own clock, or by this machine's if it is its
    /// processor; `None` where there is none.
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

/// A run that a device has been given. If it is dropped before its end the device still makes it, and nobody reads what it
/// gave.
pub trait Submitted: Send {
    /// Whether the run has ended. If it has not, the waker is woken when it has, or has failed: the last one given.
    fn poll(&mut self, waker: &Waker) -> Poll<Result<(), ExecuteError>>;

    /// Reads the outputs of a run that has ended. They have the program's lengths.
    fn read(&mut self, outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError>;
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
    /// The bits of weight number `index`; none if it is stored in fewer bits and there's no memory for these.
    fn bits(&self, index: usize) -> &[u32];

    /// Weight number `index` won't be read soon: memory that only keeps its file's bytes at hand may be had back.
    fn release(&self, index: usize) {
        let _ = index;
    }

    /// What is stored of a weight that is kept in fewer bits than these, and its form. A device that can do with that does not
    /// ask for its bits.
    fn stored(&self, index: usize) -> Option<(View<'_>, Form)> {
        let _ = index;
        None
    }
}

/// The forms of the weights that are kept as they are stored.
pub(crate) fn stored_forms(program: &Program, weights: &dyn WeightBits) -> Forms {
    let form = |(number, (id, _))| weights.stored(number).map(|(_, form)| (id, form));
    program.weights().enumerate().filter_map(form).collect()
}

/// The bits of the weight number `index`, which is `buffer` to the program: as many as that has elements.
fn weight_bits<'a>(weights: &'a dyn WeightBits, index: usize, buffer: &Buffer) -> Result<&'a [u32], ExecuteError> {
    let bits = weights.bits(index);
    let (name, found) = (&buffer.name, bits.len());
    if found as u64 == buffer.shape.elements() {
        return Ok(bits);
    }
    if found == 0 && weights.stored(index).is_some() {
        return Err(ExecuteError::Memory { what: format!("weight `{name}`"), bytes: buffer.bytes() });
    }
    Err(ExecuteError::Internal(format!("the weight `{name}` came with {found} elements")))
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
    /// This machine, or its device, has less memory left than the program needs.
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
