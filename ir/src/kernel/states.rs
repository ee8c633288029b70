//! What a program carries from one run to the next.
//!
//! A state is an input together with the output that has its name and the suffix [`NEXT`]: what a run gives there is
//! what the next run of the same sequences is given. States begin as zeros. A program is still a function of its inputs
//! alone; who runs it does the carrying.

use super::program::{Buffer, BufferId, Program};
use crate::types::DType;

/// The end of the name of an output that is the next value of an input.
pub const NEXT: &str = ".next";
/// The state that counts, for each sequence, the positions that the others hold.
pub const POSITION: &str = "position";

/// The states of a [`Program`] that takes sequences a few positions at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct States {
    /// Each input that is one, with the output that is its next value, in the order of the inputs.
    pub pairs: Vec<(BufferId, BufferId)>,
    /// The input that counts positions: `u32`, one a sequence.
    pub position: BufferId,
    /// How many positions a run adds: axis 1 of the inputs that are no states.
    pub step: u64,
    /// How many positions there is room for: axis 1 of the other states.
    pub capacity: u64,
}

impl States {
    /// The states of a verified program; none where it carries nothing, or does not count positions.
    pub fn of(program: &Program) -> Option<States> {
        let next = |input: &Buffer| {
            let named = |output: &Buffer| output.name.strip_suffix(NEXT) == Some(&input.name);
            let alike = |output: &Buffer| output.dtype == input.dtype && output.shape == input.shape;
            program.outputs().find(|(_, output)| named(output) && alike(output)).map(|(id, _)| id)
        };
        let pairs: Vec<(BufferId, BufferId)> =
            program.inputs().filter_map(|(id, input)| Some((id, next(input)?))).collect();
        let counts =
            |buffer: &Buffer| buffer.name == POSITION && buffer.dtype == DType::U32 && buffer.shape.rank() == 1;
        let &(position, _) = pairs.iter().find(|(input, _)| counts(program.buffer(*input)))?;
        let is_state = |id: BufferId| pairs.iter().any(|&(input, _)| input == id);
        let positions = |id: BufferId| program.buffer(id).shape.dims().get(1).copied();
        let held: Option<Vec<u64>> =
            pairs.iter().filter(|(input, _)| *input != position).map(|&(input, _)| positions(input)).collect();
        let given: Option<Vec<u64>> =
            program.inputs().filter(|(id, _)| !is_state(*id)).map(|(id, _)| positions(id)).collect();
        let (capacity, given) = (held?.into_iter().min()?, given?);
        let &step = given.first()?;
        let fits = step > 0 && step <= capacity && given.iter().all(|&positions| positions == step);
        fits.then_some(States { pairs, position, step, capacity })
    }

    /// Whether an input is a state.
    pub fn has(&self, input: BufferId) -> bool {
        self.pairs.iter().any(|&(state, _)| state == input)
    }

    /// Whether an output is the next value of a state.
    pub fn has_next(&self, output: BufferId) -> bool {
        self.pairs.iter().any(|&(_, next)| next == output)
    }
}
