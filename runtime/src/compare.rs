//! Bit comparison of devices, kernel by kernel.
//!
//! Every device runs every batch twice: whole, as a caller would run it, and kernel by kernel, where the first kernel
//! whose output differs from the first device's is the one at fault. A NaN is one value, whatever its payload. The
//! first device's results are remembered as digests, so that memory does not grow with the network; only when one
//! differs are the bits made again.

use std::ops::ControlFlow;

use loom_ir::types::DType;
use sha2::{Digest, Sha256};

use crate::artifact::Artifact;
use crate::digest::{canonical, digest};
use crate::session::{Device, RunError, Session, SessionError, SessionOptions, Slices, State};
use crate::tensors::Tensor;

/// What comparing devices found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Each device's output digest, in the order given; the first device is what the others are compared with.
    pub digests: Vec<(Device, String)>,
    /// Kernels of the program.
    pub kernels: usize,
    /// Batches run.
    pub slices: usize,
    /// Samples in them.
    pub samples: u64,
    /// Elements compared on each further device, those of every kernel's output.
    pub elements: u64,
    /// The first difference of the first device that has one.
    pub difference: Option<Difference>,
}

/// A place where a device gave other bits than the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The device that differs.
    pub device: Device,
    /// Its number among those compared: the reference is 0.
    pub position: usize,
    /// The device it was compared with.
    pub reference: Device,
    /// The batch.
    pub slice: usize,
    /// The first kernel that differs; `None` if only the whole run does.
    pub kernel: Option<KernelName>,
    /// The first element that differs; `None` if it did not differ when the first device ran again.
    pub element: Option<Element>,
}

/// A kernel of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelName {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
}

/// An element that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The buffer that holds it.
    pub buffer: String,
    /// Its type.
    pub dtype: DType,
    /// Its place in the buffer, row-major.
    pub index: usize,
    /// The same as one number an axis.
    pub coordinates: Vec<u64>,
    /// The first device's bits.
    pub expected: u32,
    /// The other's.
    pub found: u32,
    /// How many elements of the buffer differ.
    pub count: usize,
    /// Of how many.
    pub of: usize,
}

/// Why devices could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A device could not be made ready.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A run failed.
    #[error("{device}: {source}")]
    Run {
        /// On which device.
        device: Device,
        /// Why.
        source: RunError,
    },
}

/// Makes a network ready on each device and compares them: see [`compare`].
pub fn verify(artifact: &Artifact, devices: &[SessionOptions], inputs: &[Tensor]) -> Result<Comparison, CompareError> {
    let sessions = devices.iter().map(|options| Session::new(artifact, options.clone()));
    let mut sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    compare(&mut sessions, inputs, &mut |_, _| {})
}

/// Runs all sessions, which must be of one artifact, on the same inputs. `progress` is told how many steps of how many
/// are done; a step is one batch on one device.
pub fn compare(
    sessions: &mut [Session],
    inputs: &[Tensor],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Comparison, CompareError> {
    let mut comparison =
        Comparison { digests: Vec::new(), kernels: 0, slices: 0, samples: 0, elements: 0, difference: None };
    let Some((reference, others)) = sessions.split_first_mut() else { return Ok(comparison) };
    let slices = reference.slices(inputs).map_err(failed(reference))?;
    comparison.kernels = reference.program().kernels.len();
    comparison.slices = slices.count();
    comparison.samples = slices.samples();
    let batch: u64 = reference.program().kernels.iter().map(|kernel| output_elements(reference, kernel)).sum();
    comparison.elements = batch.saturating_mul(slices.count() as u64);

    // A traced and a whole run of each slice on each device.
    let total = 2 * slices.count() * (others.len() + 1);
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, total);
    };
    let mut scratch = slices.scratch();
    let mut state = None;
    for slice in 0..slices.count() {
        let given = slices.inputs(slice, &mut scratch);
        if slices.carries() && slices.first(slice) == slice {
            state = Some(reference.start().map_err(failed(reference))?);
        }
        let inputs = reference.with_state(state.as_ref(), &given);
        let expected = kernel_digests(reference, &inputs)?;
        step();
        for (number, other) in others.iter_mut().enumerate() {
            if comparison.difference.is_none() {
                let found = first_difference(reference, other, slice, &inputs, &expected)?;
                comparison.difference = found.map(|found| Difference { position: number + 1, ..found });
            }
            step();
        }
        if let Some(state) = &mut state {
            advance(reference, state, &given).map_err(failed(reference))?;
        }
    }
    let expected = reference.run_tensors_with(inputs, &mut |_, _| step()).map_err(failed(reference))?;
    comparison.digests.push((reference.device(), digest(&expected)));
    for (number, other) in others.iter_mut().enumerate() {
        let found = other.run_tensors_with(inputs, &mut |_, _| step()).map_err(failed(other))?;
        comparison.digests.push((other.device(), digest(&found)));
        if comparison.difference.is_none() {
            let found = output_difference(reference, other, &slices, &expected, &found);
            comparison.difference = found.map(|found| Difference { position: number + 1, ..found });
        }
    }
    Ok(comparison)
}

/// Runs a step for the sake of what it carries.
fn advance(session: &mut Session, state: &mut State, inputs: &[&[u32]]) -> Result<(), RunError> {
    let mut outputs: Vec<Vec<u32>> = session.output_lengths().map(|elements| vec![0; elements]).collect();
    let mut views: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    session.step(state, inputs, &mut views)
}

/// What the sequences carry before a run.
pub(crate) fn state_before(session: &mut Session, slices: &Slices, run: usize) -> Result<Option<State>, RunError> {
    if !slices.carries() {
        return Ok(None);
    }
    let mut state = session.start()?;
    let mut scratch = slices.scratch();
    for earlier in slices.first(run)..run {
        advance(session, &mut state, &slices.inputs(earlier, &mut scratch))?;
    }
    Ok(Some(state))
}

pub(crate) fn failed(session: &Session) -> impl Fn(RunError) -> CompareError + use<> {
    let device = session.device();
    move |source| CompareError::Run { device, source }
}

fn output_elements(session: &Session, kernel: &loom_ir::kernel::Kernel) -> u64 {
    session.program().buffer(kernel.output.buffer).shape.elements()
}

/// The type of what a kernel writes.
fn dtype_of(session: &Session, kernel: usize) -> DType {
    let program = session.program();
    program.buffer(program.kernels[kernel].output.buffer).dtype
}

fn same(dtype: DType, bits: u32) -> u32 {
    if dtype == DType::F32 { canonical(bits) } else { bits }
}

fn kernel_digest(dtype: DType, bits: &[u32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut block = [0u32; 1024];
    for chunk in bits.chunks(block.len()) {
        for (to, &from) in block.iter_mut().zip(chunk) {
            *to = same(dtype, from);
        }
        hash.update(bytemuck::cast_slice::<u32, u8>(&block[..chunk.len()]));
    }
    hash.finalize().into()
}

fn kernel_digests(session: &mut Session, inputs: &[&[u32]]) -> Result<Vec<[u8; 32]>, CompareError> {
    let dtypes: Vec<DType> = (0..session.program().kernels.len()).map(|kernel| dtype_of(session, kernel)).collect();
    let failed = failed(session);
    let mut digests = Vec::with_capacity(dtypes.len());
    let mut observe = |kernel: usize, bits: &[u32]| {
        digests.push(kernel_digest(dtypes[kernel], bits));
        ControlFlow::Continue(())
    };
    session.trace(inputs, &mut observe).map_err(failed)?;
    Ok(digests)
}

/// Traces a device until a kernel's digest is not the expected one; then looks at that kernel's bits on both.
fn first_difference(
    reference: &mut Session,
    other: &mut Session,
    slice: usize,
    inputs: &[&[u32]],
    expected: &[[u8; 32]],
) -> Result<Option<Difference>, CompareError> {
    let dtypes: Vec<DType> = (0..expected.len()).map(|kernel| dtype_of(reference, kernel)).collect();
    let mut found: Option<(usize, Vec<u32>)> = None;
    let mut observe = |kernel: usize, bits: &[u32]| {
        if kernel_digest(dtypes[kernel], bits) == expected[kernel] {
            return ControlFlow::Continue(());
        }
        found = Some((kernel, bits.to_vec()));
        ControlFlow::Break(())
    };
    let failed_other = failed(other);
    other.trace(inputs, &mut observe).map_err(failed_other)?;
    let Some((kernel, found)) = found else { return Ok(None) };

    let mut again = Vec::new();
    let mut observe = |at: usize, bits: &[u32]| {
        if at < kernel {
            return ControlFlow::Continue(());
        }
        again = bits.to_vec();
        ControlFlow::Break(())
    };
    let failed_reference = failed(reference);
    reference.trace(inputs, &mut observe).map_err(failed_reference)?;
    let program = reference.program();
    let written = &program.kernels[kernel];
    let buffer = program.buffer(written.output.buffer);
    Ok(Some(Difference {
        device: other.device(),
        position: 0,
        reference: reference.device(),
        slice,
        kernel: Some(KernelName { index: kernel, name: written.name.clone() }),
        element: first_element(&buffer.name, buffer.dtype, buffer.shape.dims(), &again, &found),
    }))
}

/// The first difference of whole runs whose kernels agreed one by one.
fn output_difference(
    reference: &Session,
    other: &Session,
    slices: &Slices,
    expected: &[Tensor],
    found: &[Tensor],
) -> Option<Difference> {
    expected.iter().zip(found).find_map(|(expected, found)| {
        let dims = expected.shape().dims();
        let element = first_element(expected.name(), expected.dtype(), dims, expected.bits(), found.bits())?;
        let (slice, _) = slices.place(element.of, element.index);
        let (device, reference) = (other.device(), reference.device());
        Some(Difference { device, position: 0, reference, slice, kernel: None, element: Some(element) })
    })
}

/// The first element in which two lists of bits differ.
pub(crate) fn first_element(
    buffer: &str,
    dtype: DType,
    dims: &[u64],
    expected: &[u32],
    found: &[u32],
) -> Option<Element> {
    let differs = |&(_, (&expected, &found)): &(usize, (&u32, &u32))| same(dtype, expected) != same(dtype, found);
    let mut different = expected.iter().zip(found).enumerate().filter(differs);
    let (index, (&expected_bits, &found_bits)) = different.next()?;
    let mut rest = index as u64;
    let mut coordinates: Vec<u64> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let coordinate = rest % dim;
            rest /= dim;
            coordinate
        })
        .collect();
    coordinates.reverse();
    Some(Element {
        buffer: buffer.to_string(),
        dtype,
        index,
        coordinates,
        expected: expected_bits,
        found: found_bits,
        count: 1 + different.count(),
        of: expected.len(),
    })
}
