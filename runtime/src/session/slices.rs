//! Any number of samples, cut into the batches of a program.

use std::collections::BTreeMap;
use std::ops::Range;

use loom_ir::kernel::states::States;
use loom_ir::kernel::{Buffer, BufferId, Program};
use loom_ir::types::{DType, Shape};

use super::{RunError, with_samples};
use crate::tensors::Tensor;

/// Tensors checked against a program's inputs, as a list of runs.
///
/// A run takes one batch of samples; where the program carries [`States`] and they are not among the tensors, one step of
/// one batch of sequences, which begin with states of zeros.
#[derive(Debug, Clone)]
pub struct Slices {
    /// Those that are given, in the program's order.
    inputs: Vec<Tensor>,
    /// `None`: one slice of exactly the program's shapes.
    batch: Option<u64>,
    samples: u64,
    /// What is carried from run to run, if anything; a run takes so many positions of axis 1.
    carried: Option<States>,
    /// How many runs a sequence takes.
    steps: u64,
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
        states: Option<&States>,
        batch: Option<u64>,
        given: &[Tensor],
    ) -> Result<Slices, RunError> {
        let named = |buffer: &Buffer| given.iter().find(|tensor| tensor.name() == buffer.name);
        let is_given = |&(state, _): &(BufferId, BufferId)| named(program.buffer(state)).is_some();
        let carried = states.filter(|states| batch.is_some() && !states.pairs.iter().any(is_given));
        // The axes along which there may be more than the program says.
        let free = if carried.is_some() { 2 } else { usize::from(batch.is_some()) };
        let (mut samples, mut positions) = (None, None);
        let mut inputs = Vec::new();
        for (id, buffer) in program.inputs().filter(|(id, _)| carried.is_none_or(|states| !states.has(*id))) {
            let name = || buffer.name.clone();
            let Some(tensor) = named(buffer) else {
                let found = given.iter().map(|tensor| tensor.name().to_string()).collect();
                let (dtype, shape) = (buffer.dtype, buffer.shape.clone());
                return Err(RunError::MissingInput { name: name(), dtype, shape, found });
            };
            if tensor.dtype() != buffer.dtype {
                return Err(RunError::WrongDType { name: name(), expected: buffer.dtype, found: tensor.dtype() });
            }
            let dims = tensor.shape().dims();
            let same_rank = tensor.shape().rank() == buffer.shape.rank();
            if !same_rank || !dims.iter().skip(free).eq(buffer.shape.dims().iter().skip(free)) {
                let (expected, found) = (buffer.shape.clone(), tensor.shape().clone());
                return Err(RunError::WrongShape { name: name(), expected, free, found });
            }
            let found = dims.first().copied().unwrap_or(1);
            let expected = *samples.get_or_insert(found);
            if batch.is_some() && expected != found {
                return Err(RunError::Samples { name: name(), expected, found });
            }
            if let Some(states) = carried {
                let found = dims.get(1).copied().unwrap_or(0);
                let expected = *positions.get_or_insert(found);
                let fits = found > 0 && found.is_multiple_of(states.step) && found == expected;
                if !fits || found > states.capacity {
                    let (step, capacity) = (states.step, states.capacity);
                    return Err(RunError::Positions { name: name(), found, step, capacity });
                }
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
        let steps = carried.and_then(|states| positions?.checked_div(states.step)).unwrap_or(1);
        let slices = Slices { inputs, batch, samples, carried: carried.cloned(), steps };
        let whole = slices.wanted(program).find(|(_, buffer)| steps > 1 && slices.parts(buffer) == 1);
        if let Some((_, buffer)) = whole {
            return Err(RunError::NotByPosition { name: buffer.name.clone(), shape: buffer.shape.clone(), steps });
        }
        Ok(slices)
    }

    /// How many runs there are, at least one.
    pub fn count(&self) -> usize {
        self.batch.map_or(1, |batch| self.samples.div_ceil(batch).saturating_mul(self.steps) as usize)
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Whether states are carried from run to run.
    pub fn carries(&self) -> bool {
        self.carried.is_some()
    }

    /// The first run of the sequences that a run is part of.
    pub fn first(&self, index: usize) -> usize {
        index - index % self.steps as usize
    }

    /// The samples of a run.
    pub fn rows(&self, index: usize) -> Range<u64> {
        match self.batch {
            Some(batch) => {
                let begin = index as u64 / self.steps * batch;
                begin..self.samples.min(begin + batch)
            }
            None => 0..self.samples,
        }
    }

    /// Whether a run is of a whole batch.
    fn is_full(&self, index: usize) -> bool {
        let rows = self.rows(index);
        self.batch.is_none_or(|batch| rows.end - rows.start == batch)
    }

    /// Space for [`inputs`](Self::inputs) to put together what does not lie together in a tensor, empty until then.
    pub fn scratch(&self) -> Vec<Vec<u32>> {
        vec![Vec::new(); self.inputs.len()]
    }

    /// What a run is given of the tensors, filled up with zeros.
    pub fn inputs<'a>(&'a self, index: usize, scratch: &'a mut [Vec<u32>]) -> Vec<&'a [u32]> {
        let rows = self.rows(index);
        let whole = self.is_full(index) && self.steps == 1;
        let pairs = self.inputs.iter().zip(scratch);
        pairs
            .map(|(tensor, scratch)| {
                let Some(batch) = self.batch else { return tensor.bits() };
                let sample = tensor.bits().len() / self.samples as usize;
                let bits = &tensor.bits()[rows.start as usize * sample..rows.end as usize * sample];
                if whole {
                    return bits;
                }
                let part = sample / self.steps as usize;
                let begin = index % self.steps as usize * part;
                scratch.clear();
                for row in bits.chunks_exact(sample.max(1)) {
                    scratch.extend_from_slice(&row[begin..begin + part]);
                }
                scratch.resize(batch as usize * part, 0);
                scratch.as_slice()
            })
            .collect()
    }

    /// The outputs that a caller gets: all but what is carried.
    pub(super) fn wanted<'a>(&'a self, program: &'a Program) -> impl Iterator<Item = (BufferId, &'a Buffer)> {
        let carried = |id| self.carried.as_ref().is_some_and(|states| states.has_next(id));
        program.outputs().filter(move |&(id, _)| !carried(id))
    }

    /// How many runs make one sequence of an output: its axis 1 has their positions one after another. One where it has
    /// none.
    fn parts(&self, buffer: &Buffer) -> u64 {
        let of_run = |states: &States| buffer.shape.dims().get(1) == Some(&states.step);
        if self.carried.as_ref().is_some_and(of_run) { self.steps } else { 1 }
    }

    /// An output's shape for all samples.
    pub(super) fn shape(&self, buffer: &Buffer) -> Shape {
        let Some(_) = self.batch else { return buffer.shape.clone() };
        let mut dims = buffer.shape.dims().to_vec();
        dims[0] = self.samples;
        let parts = self.parts(buffer);
        if parts > 1 {
            dims[1] = dims[1].saturating_mul(parts);
        }
        Shape::new(dims)
    }

    /// Space for all samples of all outputs.
    pub(super) fn outputs(&self, program: &Program) -> Result<Vec<Vec<u32>>, RunError> {
        self.wanted(program).map(|(_, buffer)| space(&buffer.name, self.shape(buffer))).collect()
    }

    /// Where a run's outputs belong among all, where they lie there as they lie in the run.
    pub(super) fn output_ranges(&self, index: usize, program: &Program) -> Option<Vec<Range<usize>>> {
        if !self.is_full(index) || self.steps > 1 {
            return None;
        }
        let rows = self.rows(index);
        let range = |(_, buffer): (_, &Buffer)| match self.batch {
            Some(batch) => {
                let sample = buffer.shape.elements() / batch;
                (rows.start * sample) as usize..(rows.end * sample) as usize
            }
            None => 0..buffer.shape.elements() as usize,
        };
        Some(self.wanted(program).map(range).collect())
    }

    /// Puts an output of a run where it belongs among all.
    pub(super) fn put(&self, index: usize, computed: &[u32], all: &mut [u32]) {
        let rows = self.rows(index);
        let Some(batch) = self.batch else { return all.copy_from_slice(computed) };
        let part = computed.len() / batch as usize;
        let steps = if part == 0 { 1 } else { all.len() / (part * self.samples as usize) };
        let begin = index % steps * part;
        for (row, computed) in (rows.start as usize..rows.end as usize).zip(computed.chunks_exact(part.max(1))) {
            let begin = row * part * steps + begin;
            all[begin..begin + part].copy_from_slice(computed);
        }
    }

    /// The run that an element of an output of all samples comes from, and its place in the output of that run.
    pub(crate) fn place(&self, elements: usize, element: usize) -> (usize, usize) {
        let Some(batch) = self.batch else { return (0, element) };
        let sample = (elements / self.samples as usize).max(1);
        let part = (sample / self.steps as usize).max(1);
        let (row, within) = (element / sample, element % sample);
        let run = row / batch as usize * self.steps as usize + within / part;
        (run, row % batch as usize * part + within % part)
    }
}

/// Zeros for a tensor.
pub(super) fn space(name: &str, shape: Shape) -> Result<Vec<u32>, RunError> {
    let count = shape.checked_elements().ok_or(RunError::TooManyElements)? as usize;
    let mut bits = Vec::new();
    match bits.try_reserve_exact(count) {
        Ok(()) => bits.resize(count, 0),
        Err(_) => return Err(RunError::Memory { name: name.to_string(), shape }),
    }
    Ok(bits)
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
