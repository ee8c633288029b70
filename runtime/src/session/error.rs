//! What can go wrong with sessions and runs.

use loom_ir::types::{DType, Shape};

use super::Device;
use crate::executor::ExecuteError;
use crate::executor::flip::Flip;

/// Why a network can't be made ready on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// This build of Loom does not have the device.
    #[error("this build of Loom does not have the device `{0}`")]
    NotCompiledIn(Device),
    /// The device can't take the program.
    #[error("{device}: {source}")]
    Device {
        /// The device.
        device: Device,
        /// Why.
        source: ExecuteError,
    },
    /// A fault that can't be put in.
    #[error("no kernel `{}` with an element {} to flip a bit of", .0.kernel, .0.element)]
    NoFlip(Flip),
}

impl SessionError {
    /// Whether it is the machine's fault: another one may have the device.
    pub fn is_no_device(&self) -> bool {
        match self {
            SessionError::NotCompiledIn(_) => true,
            SessionError::Device { source, .. } => {
                matches!(source, ExecuteError::NoDevice(_) | ExecuteError::Inexact { .. })
            }
            SessionError::NoFlip(_) => false,
        }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// An input is not among the tensors given.
    #[error("the network's input `{name}` {dtype} {shape} is not given{}", given(found))]
    MissingInput {
        /// The input.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// The tensors that are given.
        found: Vec<String>,
    },
    /// A tensor that isn't an input.
    #[error("the network has no input `{name}`")]
    UnknownInput {
        /// The tensor.
        name: String,
    },
    /// Another type than the network's.
    #[error("input `{name}` is {found}, the network takes {expected}")]
    WrongDType {
        /// The input.
        name: String,
        /// The network's.
        expected: DType,
        /// The tensor's.
        found: DType,
    },
    /// Another shape than the network's.
    #[error("input `{name}` has shape {found}, the network takes {}", any_number(expected, *free))]
    WrongShape {
        /// The input.
        name: String,
        /// The network's.
        expected: Shape,
        /// How many leading extents may differ.
        free: usize,
        /// The tensor's.
        found: Shape,
    },
    /// A bool that is neither 0 nor 1.
    #[error("input `{name}`: element {index} is a bool of the bits {found:#x}, only 0 and 1 are allowed")]
    NotABool {
        /// The input.
        name: String,
        /// The element's place, row-major.
        index: usize,
        /// Its bits.
        found: u32,
    },
    /// A row number of a table that has no such row.
    #[error("input `{name}`: element {index} is {found}, which is no row of a table of {rows}: ids are whole numbers from 0 to {}", rows.saturating_sub(1))]
    NotAnId {
        /// The input.
        name: String,
        /// The element's place, row-major; the first that is wrong.
        index: usize,
        /// What stands there.
        found: String,
        /// How many rows there are.
        rows: u64,
    },
    /// Inputs of different numbers of samples.
    #[error("input `{name}` has {found} samples, the input before it {expected}")]
    Samples {
        /// The later input.
        name: String,
        /// Samples of the first one.
        expected: u64,
        /// Samples of the later one.
        found: u64,
    },
    /// Sequences that are no whole number of runs, of different lengths, or longer than what is kept of them.
    #[error(
        "input `{name}` has {found} positions: the network takes any number of times {step}, the same of every input, \
         and up to {capacity}"
    )]
    Positions {
        /// The input.
        name: String,
        /// Its positions.
        found: u64,
        /// Positions of a run.
        step: u64,
        /// Positions that there is room for.
        capacity: u64,
    },
    /// More positions than a sequence has room for.
    #[error("sequence {sequence} has {before} positions, and room for {capacity}: {step} more don't fit")]
    Full {
        /// Which.
        sequence: usize,
        /// Positions so far.
        before: u64,
        /// Positions of a run.
        step: u64,
        /// Positions that there is room for.
        capacity: u64,
    },
    /// An output that isn't one of each position, so that those of several runs are not the parts of a longer one.
    #[error(
        "output `{name}` {shape} has no axis of positions: the {steps} runs that the input takes can't be put together"
    )]
    NotByPosition {
        /// The output.
        name: String,
        /// Its shape.
        shape: Shape,
        /// How many runs.
        steps: u64,
    },
    /// A network that carries nothing from run to run.
    #[error("the network keeps nothing from one run to the next: it has no layer with a `kv_cache`")]
    NoStates,
    /// A state of another network, or of another number of sequences.
    #[error("the state is not one of this network")]
    OtherState,
    /// No samples.
    #[error("there are no samples to run")]
    NoSamples,
    /// A number of elements that is no number of samples.
    #[error("{found} elements are not a whole number of samples of {sample} elements")]
    NotWhole {
        /// Elements given.
        found: u64,
        /// Elements of a sample.
        sample: u64,
    },
    /// More samples than a tensor can hold.
    #[error("too many samples for one tensor: run them in parts")]
    TooManyElements,
    /// Not enough memory for the outputs.
    #[error("no memory for output `{name}` {shape}")]
    Memory {
        /// The output.
        name: String,
        /// Its shape.
        shape: Shape,
    },
    /// A network that needs named tensors.
    #[error("the network has {inputs} inputs or several outputs, or they are not f32: run it on tensors")]
    NotSimple {
        /// How many inputs it has.
        inputs: usize,
    },
    /// Another number of tensors than the program's.
    #[error("{found} {what} given, the network has {expected}")]
    Count {
        /// Inputs or outputs.
        what: &'static str,
        /// The program's.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Another number of elements than the program's.
    #[error("`{tensor}` has {expected} elements, {found} are given")]
    Length {
        /// The input or output.
        tensor: String,
        /// The program's.
        expected: u64,
        /// Given.
        found: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

fn given(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(", only `{}`", names.join("`, `")),
    }
}

/// `[any number, 1, 28, 28]`.
fn any_number(shape: &Shape, free: usize) -> String {
    let dims = shape.dims().iter().enumerate();
    let dims: Vec<String> =
        dims.map(|(axis, dim)| if axis < free { "any number".to_string() } else { dim.to_string() }).collect();
    format!("[{}]", dims.join(", "))
}
