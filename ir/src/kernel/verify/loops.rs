//! The verifier's rules for loops.
//!
//! The kernels of a loop take turns for each index `t` of their first axis. So
//!
//! - the first axis of each has the loop's extent and indexes the output: it is no reduced axis, nor a row or column of a
//!   contraction;
//! - an output is either written slice by slice, `t` being its first coordinate, or whole again for each `t`;
//! - what the loop writes slice by slice may be read at `t + d` with `d < 0`, or with `d = 0` by later kernels; what it
//!   writes again, only by later kernels of the loop.
//!
//! Reads after the loop find every slice; buffers written again may not be read there.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::access::{Access, Affine};
use super::super::program::{Body, BufferId, BufferKind, Kernel, Program};
use super::VerifyErrorKind;

/// Which buffers a loop writes.
pub(super) struct Writers {
    /// By buffer: the kernel's number.
    kernels: BTreeMap<BufferId, usize>,
}

impl Writers {
    /// Checks the kernels of a loop, each of which has been checked alone. An error names its kernel.
    pub fn check(program: &Program, kernels: Range<usize>, count: u64) -> Result<Writers, (usize, VerifyErrorKind)> {
        let mut writers = Writers { kernels: BTreeMap::new() };
        for number in kernels.clone() {
            let kernel = &program.kernels[number];
            check_axis(kernel, count).map_err(|rule| (number, VerifyErrorKind::Loop(rule)))?;
            if !again(kernel) && slice(&kernel.output, count) != Some(0) {
                return Err((number, VerifyErrorKind::Loop("the output's first coordinate is not the loop's index")));
            }
            writers.kernels.insert(kernel.output.buffer, number);
        }
        for number in kernels.clone() {
            for load in &program.kernels[number].loads {
                writers
                    .check_load(program, number, load, count)
                    .map_err(|rule| (number, VerifyErrorKind::Loop(rule)))?;
            }
        }
        writers.check_readers(program, kernels)?;
        Ok(writers)
    }

    /// Whether the loop writes a buffer.
    pub fn writes(&self, buffer: BufferId) -> bool {
        self.kernels.contains_key(&buffer)
    }

    fn check_load(&self, program: &Program, reader: usize, load: &Access, count: u64) -> Result<(), &'static str> {
        let Some(&writer) = self.kernels.get(&load.buffer) else { return Ok(()) };
        let written = program.kernels[reader].output.shape.elements();
        if load.shape.elements() == 0 || written == 0 {
            // Nothing is ever read of an empty buffer, or for one, whatever the coordinates.
            return Ok(());
        }
        if again(&program.kernels[writer]) {
            let later = writer < reader;
            return if later { Ok(()) } else { Err("a buffer is read before it is written for this index") };
        }
        let distance = slice(load, count).ok_or("a load of what the loop writes is not of one slice")?;
        if !inside(load, &program.kernels[reader].axes) {
            return Err("a load of what the loop writes may leave its slice");
        }
        if distance < 0 || (distance == 0 && writer < reader) { Ok(()) } else { Err("a slice is read too early") }
    }

    /// What is written again for each index holds nothing that anybody else may want.
    fn check_readers(&self, program: &Program, kernels: Range<usize>) -> Result<(), (usize, VerifyErrorKind)> {
        let kept = |buffer: BufferId| self.kernels.get(&buffer).is_none_or(|&writer| !again(&program.kernels[writer]));
        for (number, kernel) in program.kernels.iter().enumerate() {
            if !kernels.contains(&number) && !kernel.loads.iter().all(|load| kept(load.buffer)) {
                return Err((number, VerifyErrorKind::Loop("what a loop writes again for each index is read outside")));
            }
        }
        for (&buffer, &writer) in &self.kernels {
            if !kept(buffer) && program.buffer(buffer).kind != BufferKind::Temp {
                return Err((writer, VerifyErrorKind::Loop("an output is written again for each index")));
            }
        }
        Ok(())
    }
}

/// Whether a kernel of a loop writes its whole output for each index.
fn again(kernel: &Kernel) -> bool {
    !kernel.output.depends_on(0)
}

fn check_axis(kernel: &Kernel, count: u64) -> Result<(), &'static str> {
    if kernel.axes.first() != Some(&count) {
        return Err("the first axes of the kernels differ");
    }
    let leading = match &kernel.body {
        Body::Map(_) => kernel.axes.len(),
        Body::Reduce(reduce) => kernel.axes.len() - reduce.reduced,
        Body::Contract(contract) => contract.batch,
        // Nothing makes one of a recurrence's kernels.
        Body::Attend(_) => 0,
        Body::Gather(_) => kernel.output_axes(),
    };
    if leading == 0 {
        Err("the first axis is reduced, or a row or column of a contraction, or an attention's")
    } else {
        Ok(())
    }
}

/// The `d` of an access whose first coordinate is `t + d`, and whose others do not depend on `t`.
fn slice(access: &Access, count: u64) -> Option<i64> {
    let (first, rest) = access.coords.split_first()?;
    let bare = *first == Affine::axis(0, first.coefficients.len()).shifted(first.offset);
    let fits = bare && access.shape.dims().first() == Some(&count) && !rest.iter().any(|coord| coord.depends_on(0));
    fits.then_some(first.offset)
}

/// Whether every coordinate after the first stays below its own extent, so that the element lies in the slice that the
/// first one names.
fn inside(access: &Access, axes: &[u64]) -> bool {
    if axes.contains(&0) {
        return true;
    }
    access.coords.iter().zip(access.shape.dims()).skip(1).all(|(coord, &dim)| {
        let bounded = |low: i64, high: i64| low >= 0 && u64::try_from(high).is_ok_and(|high| high < dim);
        coord.range(axes).is_some_and(|(low, high)| bounded(low, high))
            || access.guards.iter().any(|guard| guard.expr == *coord && guard.extent <= dim)
    })
}
