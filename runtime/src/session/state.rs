//! What a network with caches carries from one run to the next.

use loom_ir::kernel::states::States;
use loom_ir::kernel::{BufferId, Program};

use super::slices::space;
use super::{RunError, Session, Waiting, complete};
use crate::tensors::Tensor;

/// The keys and values of a batch of sequences, and how many positions of each there are: what the next run of
/// [`Session::step`] goes on from.
///
/// It belongs to no device: sessions of the same network on different ones, or of the same layers compiled for another
/// number of positions a run, can take turns on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// By number of the pair among the program's.
    now: Vec<Vec<u32>>,
    /// Where a run writes; then the two change places.
    next: Vec<Vec<u32>>,
    /// The number of the pair that counts positions.
    position: usize,
}

impl State {
    fn new(program: &Program, states: &States) -> Result<State, RunError> {
        let zeros = || {
            let buffers = states.pairs.iter().map(|&(input, _)| program.buffer(input));
            buffers.map(|buffer| space(&buffer.name, buffer.shape.clone())).collect::<Result<Vec<_>, _>>()
        };
        let position = states.pairs.iter().position(|&(input, _)| input == states.position).unwrap_or(0);
        Ok(State { now: zeros()?, next: zeros()?, position })
    }

    /// How many positions of each sequence there are so far.
    pub fn positions(&self) -> &[u32] {
        &self.now[self.position]
    }

    /// Back to the beginning of all sequences.
    pub fn reset(&mut self) {
        self.now.iter_mut().for_each(|bits| bits.fill(0));
    }

    /// Back to the beginning of one sequence of the batch: another one can take its place while the rest go on.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn reset_sequence(&mut self, sequence: usize) {
        let sequences = self.positions().len();
        assert!(sequence < sequences, "no sequence {sequence} of {sequences}");
        for bits in &mut self.now {
            let own = bits.len() / sequences;
            bits[sequence * own..(sequence + 1) * own].fill(0);
        }
    }
}

impl Session {
    /// The state at the beginning of a batch of sequences.
    pub fn start(&self) -> Result<State, RunError> {
        State::new(&self.program, self.states.as_ref().ok_or(RunError::NoStates)?)
    }

    /// The state as tensors, named as the program's inputs: to be written to a file, say.
    pub fn state_tensors(&self, state: &State) -> Result<Vec<Tensor>, RunError> {
        let states = self.states_of(state)?;
        let named = states.pairs.iter().zip(&state.now).map(|(&(input, _), bits)| {
            let buffer = self.program.buffer(input);
            Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), bits.clone()).ok_or(RunError::OtherState)
        });
        named.collect()
    }

    /// The state that tensors hold, as [`state_tensors`](Self::state_tensors) gave them. Others are not looked at.
    pub fn resume(&self, tensors: &[Tensor]) -> Result<State, RunError> {
        let states = self.states.as_ref().ok_or(RunError::NoStates)?;
        let mut state = State::new(&self.program, states)?;
        for (&(input, _), bits) in states.pairs.iter().zip(&mut state.now) {
            let buffer = self.program.buffer(input);
            let (name, dtype, shape) = (buffer.name.clone(), buffer.dtype, buffer.shape.clone());
            let Some(tensor) = tensors.iter().find(|tensor| tensor.name() == buffer.name) else {
                let found = tensors.iter().map(|tensor| tensor.name().to_string()).collect();
                return Err(RunError::MissingInput { name, dtype, shape, found });
            };
            if tensor.dtype() != dtype {
                return Err(RunError::WrongDType { name, expected: dtype, found: tensor.dtype() });
            }
            if *tensor.shape() != shape {
                return Err(RunError::WrongShape { name, expected: shape, free: 0, found: tensor.shape().clone() });
            }
            bits.copy_from_slice(tensor.bits());
        }
        Ok(state)
    }

    /// Runs one step of a batch of sequences: like [`run_into`](Self::run_into), but without the inputs and outputs that
    /// are carried, which the state holds. It moves on only where the run succeeds.
    pub fn step(&mut self, state: &mut State, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), RunError> {
        complete(self.step_as(state, inputs, outputs, Waiting::Here))
    }

    pub(super) async fn step_as(
        &mut self,
        state: &mut State,
        inputs: &[&[u32]],
        outputs: &mut [&mut [u32]],
        waiting: Waiting,
    ) -> Result<(), RunError> {
        let states = self.states_of(state)?;
        let all_inputs = merged(
            self.program.inputs().map(|(id, _)| states.pairs.iter().position(|&(input, _)| input == id)),
            state.now.iter().map(Vec::as_slice),
            inputs.iter().copied(),
        );
        let all_inputs = all_inputs.ok_or(RunError::Count {
            what: "inputs",
            expected: self.program.inputs().count() - states.pairs.len(),
            found: inputs.len(),
        })?;
        let given = outputs.len();
        let all_outputs = merged(
            self.program.outputs().map(|(id, _)| states.pairs.iter().position(|&(_, next)| next == id)),
            state.next.iter_mut().map(Vec::as_mut_slice),
            outputs.iter_mut().map(|bits| &mut **bits),
        );
        let mut all_outputs = all_outputs.ok_or(RunError::Count {
            what: "outputs",
            expected: self.program.outputs().count() - states.pairs.len(),
            found: given,
        })?;
        self.run_as(&all_inputs, &mut all_outputs, waiting).await?;
        std::mem::swap(&mut state.now, &mut state.next);
        Ok(())
    }

    /// How many elements each output of a [`step`](Self::step) has; of a network without caches, of a run.
    pub fn output_lengths(&self) -> impl Iterator<Item = usize> + '_ {
        let uncarried = |id| self.states.as_ref().is_none_or(|states| !states.has_next(id));
        self.program.outputs().filter(move |&(id, _)| uncarried(id)).map(|(_, buffer)| buffer.shape.elements() as usize)
    }

    /// Every input of a run: those given and those that the state holds.
    pub(crate) fn with_state<'a>(&self, state: Option<&'a State>, inputs: &[&'a [u32]]) -> Vec<&'a [u32]> {
        let (Some(state), Some(states)) = (state, &self.states) else { return inputs.to_vec() };
        let places = self.program.inputs().map(|(id, _)| states.pairs.iter().position(|&(input, _)| input == id));
        merged(places, state.now.iter().map(Vec::as_slice), inputs.iter().copied()).unwrap_or_default()
    }

    fn states_of(&self, state: &State) -> Result<&States, RunError> {
        let states = self.states.as_ref().ok_or(RunError::NoStates)?;
        let lengths = states.pairs.iter().map(|&(input, _)| self.program.buffer(input).shape.elements());
        let same = lengths.eq(state.now.iter().map(|bits| bits.len() as u64));
        if same { Ok(states) } else { Err(RunError::OtherState) }
    }

    /// Sequences that a run's positions don't fit into any more.
    pub(super) fn check_room(&self, id: BufferId, bits: &[u32]) -> Result<(), RunError> {
        let Some(states) = self.states.as_ref().filter(|states| states.position == id) else { return Ok(()) };
        let (step, capacity) = (states.step, states.capacity);
        match bits.iter().position(|&before| u64::from(before) + step > capacity) {
            Some(sequence) => Err(RunError::Full { sequence, before: bits[sequence].into(), step, capacity }),
            None => Ok(()),
        }
    }
}

/// Carried and given tensors in the program's order, which says of each place which of the carried ones goes there, if any.
/// `None` where the given ones are too few or too many.
fn merged<T>(
    places: impl Iterator<Item = Option<usize>>,
    carried: impl Iterator<Item = T>,
    mut given: impl Iterator<Item = T>,
) -> Option<Vec<T>> {
    let mut carried: Vec<Option<T>> = carried.map(Some).collect();
    let merged: Option<Vec<T>> = places
        .map(|place| match place {
            Some(number) => carried.get_mut(number)?.take(),
            None => given.next(),
        })
        .collect();
    merged.filter(|_| given.next().is_none())
}
