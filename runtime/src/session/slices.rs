//! Any number of samples, cut into the batches of a program.

use std::collections::BTreeMap;
use std::ops::Range;

use loom_ir::kernel::{Buffer, BufferId, Program};
use loom_ir::types::{DType, Shape};

use super::{RunError, with_samples};
use crate::tensors::Tensor;

/// Tensors checked against a program's inputs, as a list of batches.
#[derive(Debug, Clone)]
pub struct Slices {
    /// In the program's order.
    inputs: Vec<Tensor>,
    /// `None`: one slice of exactly the program's shapes.
    batch: Option<u64>,
    samples: u64,
}

/// The leading extent that all inputs and outputs share.
pub(super) fn batch(program: &Program) -> Option<u64> {
    let mut leading = program.inputs().chain(program.outputs()).map(|(_, buffer)| buffer.shape.dims().first().copied());
    let first = leading.next()??;
    (first > 0 && leading.all(|extent| extent == Some(first))).then_some(first)
}

/// The shape of so many elements of an input.
pub(super) fn shape_of(shape: &Shape, batch: Option<u64>, elements: u64) -> Result<Shape, RunError> {
    let Some(batch) = batch else { return Ok(shape.clone()) };
    let sample = shape.elements() / batch;
    match elements.checked_div(sample) {
        Some(samples) if samples * sample == elements => Ok(with_samples(shape, samples)),
        _ => Err(RunError::NotWhole { found: elements, sample }),
    }
}

/// Code may take any bits but 0 for true, or only the lowest: devices would differ.
pub(super) fn check_bools(buffer: &Buffer, bits: &[u32]) -> Result<(), RunError> {
    if buffer.dtype != DType::Bool {
        return Ok(());
    }
    match bits.iter().position(|&bits| bits > 1) {
        Some(index) => Err(RunError::NotABool { name: buffer.name.clone(), index, found: bits[index] }),
        None => Ok(()),
    }
}

/// Row numbers are whole and below `rows`: of another one a device would make zeros.
pub(super) fn check_ids(buffer: &Buffer, rows: u64, bits: &[u32]) -> Result<(), RunError> {
    let is_id = |bits: u32| match buffer.dtype {
        DType::F32 => {
            let id = f32::from_bits(bits);
            id >= 0.0 && id.fract() == 0.0 && f64::from(id) < rows as f64
        }
        // A negative number is a large one.
        _ => u64::from(bits) < rows,
    };
    let Some(index) = bits.iter().position(|&bits| !is_id(bits)) else { return Ok(()) };
    let found = match (buffer.dtype, bits[index]) {
        (DType::F32, bits) => f32::from_bits(bits).to_string(),
        (DType::I32, bits) => (bits as i32).to_string(),
        (_, bits) => bits.to_string(),
    };
    Err(RunError::NotAnId { name: buffer.name.clone(), index, found, rows })
}

impl Slices {
    pub(super) fn new(
        program: &Program,
        ids: &BTreeMap<BufferId, u64>,
        batch: Option<u64>,
        given: &[Tensor],
    ) -> Result<Slices, RunError> {
        let mut samples = None;
        let mut inputs = Vec::new();
        for (id, buffer) in program.inputs() {
            let name = || buffer.name.clone();
            let Some(tensor) = given.iter().find(|tensor| tensor.name() == buffer.name) else {
                let found = given.iter().map(|tensor| tensor.name().to_string()).collect();
                let (dtype, shape) = (buffer.dtype, buffer.shape.clone());
                return Err(RunError::MissingInput { name: name(), dtype, shape, found });
            };
            if tensor.dtype() != buffer.dtype {
                return Err(RunError::WrongDType { name: name(), expected: buffer.dtype, found: tensor.dtype() });
            }
            let dims = tensor.shape().dims();
            let fits = match batch {
                Some(_) => {
                    tensor.shape().rank() == buffer.shape.rank()
                        && dims.iter().skip(1).eq(buffer.shape.dims().iter().skip(1))
                }
                None => *tensor.shape() == buffer.shape,
            };
            if !fits {
                let (expected, found) = (buffer.shape.clone(), tensor.shape().clone());
                return Err(RunError::WrongShape { name: name(), expected, any_batch: batch.is_some(), found });
            }
            let found = dims.first().copied().unwrap_or(1);
            let expected = *samples.get_or_insert(found);
            if batch.is_some() && expected != found {
                return Err(RunError::Samples { name: name(), expected, found });
            }
            check_bools(buffer, tensor.bits())?;
            if let Some(&rows) = ids.get(&id) {
                check_ids(buffer, rows, tensor.bits())?;
            }
            inputs.push(tensor.clone());
        }
        if let Some(extra) =
            given.iter().find(|tensor| program.inputs().all(|(_, buffer)| buffer.name != tensor.name()))
        {
            return Err(RunError::UnknownInput { name: extra.name().to_string() });
        }
        // A network without inputs has no leading extent to ask for.
        let samples = samples.or(batch).unwrap_or(1);
        if batch.is_some() && samples == 0 {
            return Err(RunError::NoSamples);
        }
        Ok(Slices { inputs, batch, samples })
    }

    /// How many batches there are, at least one.
    pub fn count(&self) -> usize {
        self.batch.map_or(1, |batch| self.samples.div_ceil(batch) as usize)
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The samples of a slice.
    pub fn rows(&self, index: usize) -> Range<u64> {
        match self.batch {
            Some(batch) => {
                let begin = index as u64 * batch;
                begin..self.samples.min(begin + batch)
            }
            None => 0..self.samples,
        }
    }

    /// Whether a slice is a whole batch.
    pub fn is_full(&self, index: usize) -> bool {
        let rows = self.rows(index);
        self.batch.is_none_or(|batch| rows.end - rows.start == batch)
    }

    /// Space for [`inputs`](Self::inputs) to fill up the last slice in, empty until then.
    pub fn scratch(&self) -> Vec<Vec<u32>> {
        vec![Vec::new(); self.inputs.len()]
    }

    /// The inputs of a slice, one batch each, filled up with zeros.
    pub fn inputs<'a>(&'a self, index: usize, scratch: &'a mut [Vec<u32>]) -> Vec<&'a [u32]> {
        let rows = self.rows(index);
        let full = self.is_full(index);
        let pairs = self.inputs.iter().zip(scratch);
        pairs
            .map(|(tensor, scratch)| {
                let Some(batch) = self.batch else { return tensor.bits() };
                let sample = tensor.bits().len() / self.samples as usize;
                let bits = &tensor.bits()[rows.start as usize * sample..rows.end as usize * sample];
                if full {
                    return bits;
                }
                scratch.clear();
                scratch.extend_from_slice(bits);
                scratch.resize(batch as usize * sample, 0);
                scratch.as_slice()
            })
            .collect()
    }

    /// A shape of the program for all samples.
    pub(super) fn shape(&self, shape: &Shape) -> Shape {
        if self.batch.is_some() { with_samples(shape, self.samples) } else { shape.clone() }
    }

    /// Space for all samples of all outputs.
    pub(super) fn outputs(&self, program: &Program) -> Result<Vec<Vec<u32>>, RunError> {
        let space = |(_, buffer): (_, &loom_ir::kernel::Buffer)| {
            let shape = self.shape(&buffer.shape);
            let count = shape.checked_elements().ok_or(RunError::TooManyElements)? as usize;
            let mut bits = Vec::new();
            match bits.try_reserve_exact(count) {
                Ok(()) => bits.resize(count, 0),
                Err(_) => return Err(RunError::Memory { name: buffer.name.clone(), shape }),
            }
            Ok(bits)
        };
        program.outputs().map(space).collect()
    }

    /// Where a slice's outputs belong among all, by output.
    pub(super) fn output_ranges(&self, index: usize, program: &Program) -> Vec<Range<usize>> {
        let rows = self.rows(index);
        let range = |(_, buffer): (_, &loom_ir::kernel::Buffer)| match self.batch {
            Some(batch) => {
                let sample = buffer.shape.elements() / batch;
                (rows.start * sample) as usize..(rows.end * sample) as usize
            }
            None => 0..buffer.shape.elements() as usize,
        };
        program.outputs().map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loom_ir::kernel::{Access, Affine, Arg, Body, BufferId, BufferKind, Kernel, Lambda, verify};

    use super::*;
    use crate::artifact::{Artifact, Target};
    use crate::session::{Device, Session, SessionOptions};
    use crate::weights::Weights;

    /// Copies two bools.
    fn session() -> Session {
        let buffer = |name: &str, kind| Buffer { name: name.to_string(), dtype: DType::Bool, shape: [2].into(), kind };
        let access = |index| Access {
            buffer: BufferId(index),
            shape: [2].into(),
            coords: vec![Affine::axis(0, 1)],
            guards: Vec::new(),
            fill: 0,
        };
        let program = Program {
            name: "bools".to_string(),
            buffers: vec![buffer("input", BufferKind::Input), buffer("output", BufferKind::Output)],
            kernels: vec![Kernel {
                name: "copy".to_string(),
                axes: vec![2],
                loads: vec![access(0)],
                body: Body::Map(Lambda::identity(Arg::Load(0), DType::Bool)),
                output: access(1),
                in_loop: None,
            }],
            plan: None,
        };
        let program = Arc::new(verify(program).expect("the program is well formed"));
        let weights = Weights::initialise(&program, 0).expect("there are none");
        let artifact = Artifact::new(program, weights, Target::Cpu, Vec::new());
        Session::new(&artifact, SessionOptions::on(Device::Interp)).expect("the interpreter takes every program")
    }

    #[test]
    fn bools_are_0_or_1() {
        let mut session = session();
        let mut output = [7; 2];
        session.run_into(&[&[1, 0]], &mut [&mut output]).expect("bools");
        assert_eq!(output, [1, 0]);
        let error = session.run_into(&[&[1, 2]], &mut [&mut output]).expect_err("no bool");
        assert!(matches!(error, RunError::NotABool { index: 1, found: 2, .. }), "{error}");
        assert_eq!(output, [1, 0], "nothing is written");
        let tensor = Tensor::new("input", DType::Bool, [3].into(), vec![0, 1, u32::MAX]).expect("three elements");
        let error = session.run_tensors(&[tensor]).expect_err("no bool");
        assert!(matches!(error, RunError::NotABool { index: 2, found: u32::MAX, .. }), "{error}");
        assert!(session.trace(&[&[3, 0]], &mut |_, _| std::ops::ControlFlow::Continue(())).is_err());
    }
}
