//! `fuse`: fewer kernels by growing their scalar functions.
//!
//! Fusion moves where a value is computed, never what is computed (LN1 section 5), so a fused and an unfused program
//! agree bit for bit. Three rules run until none applies:
//!
//! - **epilogue**: a map that is the only reader of a contraction or reduction becomes part of its epilogue.
//!   Before: `c = contract(x, w); y = max(c + b, 0)`. After: one kernel.
//! - **inline**: a map whose elements are each read once, or that is cheap, is computed where it is read.
//!   Before: `d = x - m; s = sum(d · d)`. After: `s = sum((x - m) · (x - m))`.
//! - **rows**: a reduction whose result is only used along the very rows that it reduced becomes a stage of its user.
//!   Before: `s = sum(e); y = e / s`. After: one kernel, row by row. So does a reduction that has a result for each element
//!   of its rows, if these are cheap enough to be computed wherever they are used.
//!   Before: `m = max(x), e = exp(x - m); s = sum(e), y = e / s`. After: one kernel.
//!
//! When none applies any more, a last one takes what they left of attention:
//!
//! - **attend**: a contraction, reductions of its rows and a contraction with what these leave.
//!   Before: `s = contract(q, k); e = exp(s - max(s)); y = contract(e, v) / sum(e)`. After: one kernel without the matrices.
//!
//! Axes of extent 1 are dropped first. Every decision follows from the program alone, never from a device.

mod attend;
mod compose;
pub(crate) use compose::map_lambdas;
mod epilogue;
mod inline;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use loom_ir::kernel::{Access, Affine, Body, BufferId, BufferKind, Kernel, Program};
use loom_ir::limits;

use crate::collapse::drop_units;

/// Applies the rules until none does. The program must be verified and not yet planned.
pub fn fuse(mut program: Program) -> Program {
    program.kernels.iter_mut().for_each(drop_units);
    let mut readers = Readers::of(&program);
    loop {
        let mut changed = run_rule(&mut program, &mut readers, epilogue::fuse);
        changed |= run_rule(&mut program, &mut readers, inline::fuse);
        changed |= run_rule(&mut program, &mut readers, rows::fuse);
        if !changed {
            break;
        }
    }
    run_rule(&mut program, &mut readers, attend::fuse);
    let mut numbers = 0..;
    program.kernels.retain(|_| numbers.next().is_some_and(|number| !readers.dead[number]));
    remove_unread(&mut program);
    unique_names(&mut program);
    program
}

/// A rule: the kernel that replaces consumer number `consumer`, having taken over a producer of one of its loads.
type Rule = fn(&Program, &Readers, consumer: usize) -> Option<Kernel>;

fn run_rule(program: &mut Program, readers: &mut Readers, rule: Rule) -> bool {
    let mut changed = false;
    let mut consumer = 0;
    while consumer < program.kernels.len() {
        let fused = if readers.dead[consumer] { None } else { rule(program, readers, consumer) };
        match fused {
            Some(fused) if fits(&fused) => {
                readers.replace(program, consumer, fused);
                changed = true;
            }
            _ => consumer += 1,
        }
    }
    changed
}

/// Instructions of a fused function, at most. Beyond that a load and a store more are lost in the noise, but code generators
/// expand library calls some fiftyfold, and each step of fusion walks through the whole function.
const LONGEST_FUNCTION: usize = 256;

/// Whether a fused kernel is within the limits that every device has.
fn fits(kernel: &Kernel) -> bool {
    let stages = match &kernel.body {
        Body::Reduce(reduce) => reduce.stages.len(),
        Body::Attend(attend) => attend.stages.len(),
        Body::Map(_) | Body::Contract(_) | Body::Gather(_) => 0,
    };
    kernel.buffers().len() <= limits::MAX_KERNEL_BUFFERS
        && kernel.loads.len() <= limits::MAX_KERNEL_LOADS
        && stages <= limits::MAX_STAGES
        && kernel.axes.len() <= limits::MAX_KERNEL_AXES
        && kernel.lambdas().iter().all(|lambda| {
            lambda.function.insts.len() <= LONGEST_FUNCTION && lambda.args.len() <= limits::MAX_KERNEL_LOADS
        })
}

/// Who reads and who writes each buffer. Kernels keep their numbers until all rules are done: those that nobody needs
/// any more are dead.
pub(crate) struct Readers {
    /// Kernel and number of the load, in order.
    readers: BTreeMap<BufferId, BTreeSet<(usize, usize)>>,
    writers: BTreeMap<BufferId, usize>,
    dead: Vec<bool>,
}

impl Readers {
    fn of(program: &Program) -> Readers {
        let mut readers =
            Readers { readers: BTreeMap::new(), writers: BTreeMap::new(), dead: vec![false; program.kernels.len()] };
        for (index, kernel) in program.kernels.iter().enumerate() {
            readers.add(index, kernel);
            readers.writers.insert(kernel.output.buffer, index);
        }
        readers
    }

    fn add(&mut self, index: usize, kernel: &Kernel) {
        for (load, access) in kernel.loads.iter().enumerate() {
            self.readers.entry(access.buffer).or_default().insert((index, load));
        }
    }

    fn remove(&mut self, index: usize, kernel: &Kernel) {
        for (load, access) in kernel.loads.iter().enumerate() {
            if let Some(loads) = self.readers.get_mut(&access.buffer) {
                loads.remove(&(index, load));
            }
        }
    }

    /// Puts a fused kernel in a kernel's place. Producers that the kernel read before and that nobody reads now are
    /// dead, and then those that only they read: they'd count as readers of their own operands.
    fn replace(&mut self, program: &mut Program, index: usize, fused: Kernel) {
        let before = std::mem::replace(&mut program.kernels[index], fused);
        self.remove(index, &before);
        self.add(index, &program.kernels[index]);
        self.writers.insert(program.kernels[index].output.buffer, index);
        let mut left: Vec<BufferId> = before.loads.iter().map(|load| load.buffer).collect();
        while let Some(buffer) = left.pop() {
            let Some(producer) = self.producer(program, buffer) else { continue };
            if self.loads(buffer).next().is_none() && !std::mem::replace(&mut self.dead[producer], true) {
                let kernel = &program.kernels[producer];
                self.remove(producer, kernel);
                left.extend(kernel.loads.iter().map(|load| load.buffer));
            }
        }
    }

    /// The kernel that writes a temporary buffer.
    fn producer(&self, program: &Program, buffer: BufferId) -> Option<usize> {
        let temporary = program.buffer(buffer).kind == BufferKind::Temp;
        self.writers.get(&buffer).copied().filter(|_| temporary)
    }

    /// The loads of a buffer: kernel and number.
    fn loads(&self, buffer: BufferId) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        self.readers.get(&buffer).into_iter().flatten().copied()
    }

    /// Whether only this kernel reads the buffer.
    fn only(&self, buffer: BufferId, kernel: usize) -> bool {
        self.loads(buffer).all(|(reader, _)| reader == kernel)
    }
}

/// Whether a kernel's output is its leading axes in row-major order.
fn plain_output(kernel: &Kernel) -> bool {
    let count = kernel.output_axes();
    kernel.output.shape.dims() == &kernel.axes[..count]
        && kernel.output.coords.iter().enumerate().all(|(axis, coord)| *coord == Affine::axis(axis, kernel.axes.len()))
}

/// The axis that each coordinate is, if each is one axis and no two are the same; extents must match the view's.
fn bare_axes(access: &Access, extents: &[u64]) -> Option<Vec<usize>> {
    let mut axes = Vec::new();
    for (coord, &dim) in access.coords.iter().zip(access.shape.dims()) {
        let axis = coord.as_axis()?;
        if axes.contains(&axis) || extents[axis] != dim {
            return None;
        }
        axes.push(axis);
    }
    Some(axes)
}

/// Removes temporary buffers that no kernel writes and renumbers the others.
fn remove_unread(program: &mut Program) {
    let mut kept = vec![false; program.buffers.len()];
    for (index, buffer) in program.buffers.iter().enumerate() {
        kept[index] = !matches!(buffer.kind, BufferKind::Temp | BufferKind::Constant(_));
    }
    for kernel in &program.kernels {
        for buffer in kernel.buffers() {
            kept[buffer.index()] = true;
        }
    }
    let mut numbers = Vec::new();
    let mut next = 0;
    for &kept in &kept {
        numbers.push(BufferId(next));
        next += u32::from(kept);
    }
    let mut keep = kept.iter();
    program.buffers.retain(|_| keep.next().copied().unwrap_or(true));
    for kernel in &mut program.kernels {
        kernel.output.buffer = numbers[kernel.output.buffer.index()];
        for load in &mut kernel.loads {
            load.buffer = numbers[load.buffer.index()];
        }
    }
}

/// Fused kernels' names may have become equal: the second gets `.2` and so on. Temporary buffers are called after the
/// kernel that writes them.
fn unique_names(program: &mut Program) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for index in 0..program.kernels.len() {
        let kernel = &mut program.kernels[index];
        let count = counts.entry(kernel.name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            kernel.name = format!("{}.{count}", kernel.name);
        }
        let (name, output) = (kernel.name.clone(), kernel.output.buffer);
        let buffer = &mut program.buffers[output.index()];
        if buffer.kind == BufferKind::Temp {
            buffer.name = name;
        }
    }
}

/// The name of two kernels in one: `layers.0:contract` and `layers.0:add` make `layers.0:contract+add`.
fn joined_name(first: &str, second: &str) -> String {
    // The number that made a name unique before means nothing in the joined one.
    let plain = |name: &str| match name.rsplit_once('.') {
        Some((rest, number)) if rest.contains(':') && number.bytes().all(|b| b.is_ascii_digit()) => rest.to_string(),
        _ => name.to_string(),
    };
    let (first, second) = (plain(first), plain(second));
    let (origin, _) = first.split_once(':').unwrap_or(("", &first));
    let own = second.split_once(':').filter(|(other, _)| *other == origin).map(|(_, operations)| operations);
    let name = format!("{first}+{}", own.unwrap_or(&second));
    // A long chain is told by its ends.
    let parts: Vec<&str> = name.split('+').collect();
    if parts.len() <= 6 {
        return name;
    }
    let head: Vec<&str> = parts.iter().copied().filter(|part| *part != "..").collect();
    format!("{}+..+{}", head[..3].join("+"), head[head.len() - 2..].join("+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_was_joined() {
        let name = joined_name("layers.0:contract", "layers.0:add");
        assert_eq!(name, "layers.0:contract+add");
        assert_eq!(joined_name(&name, "output:store"), "layers.0:contract+add+output:store");
        assert_eq!(joined_name("layers.7:sum", "layers.7:eq.2"), "layers.7:sum+eq");
        let long = ["b", "c", "d", "e", "f", "g", "h"]
            .iter()
            .fold("l:a".to_string(), |n, o| joined_name(&n, &format!("l:{o}")));
        assert_eq!(long, "l:a+b+c+..+g+h");
    }
}
