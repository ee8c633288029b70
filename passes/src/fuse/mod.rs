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
//!   Before: `s = sum(e); y = e / s`. After: one kernel, row by row.
//!
//! Every decision follows from the program alone, never from a device.

mod compose;
pub(crate) use compose::map_lambdas;
mod epilogue;
mod inline;
mod rows;

use std::collections::BTreeMap;

use loom_ir::kernel::{Access, Affine, BufferId, BufferKind, Kernel, Program};
use loom_ir::limits;

/// Applies the rules until none does. The program must be verified and not yet planned.
pub fn fuse(mut program: Program) -> Program {
    loop {
        let mut changed = run_rule(&mut program, epilogue::fuse);
        changed |= run_rule(&mut program, inline::fuse);
        changed |= run_rule(&mut program, rows::fuse);
        if !changed {
            break;
        }
    }
    remove_unread(&mut program);
    unique_names(&mut program);
    program
}

/// A rule: the kernel that replaces consumer number `consumer`, having taken over a producer of one of its loads.
type Rule = fn(&Program, &Readers, consumer: usize) -> Option<Kernel>;

fn run_rule(program: &mut Program, rule: Rule) -> bool {
    let mut changed = false;
    let mut consumer = 0;
    while consumer < program.kernels.len() {
        let readers = Readers::of(program);
        match rule(program, &readers, consumer) {
            Some(fused) if fits(&fused) => {
                let before = std::mem::replace(&mut program.kernels[consumer], fused);
                consumer -= remove_dead_producers(program, &before);
                changed = true;
            }
            _ => consumer += 1,
        }
    }
    changed
}

/// Whether a fused kernel is within the limits that every device has.
fn fits(kernel: &Kernel) -> bool {
    kernel.buffers().len() <= limits::MAX_KERNEL_BUFFERS
        && kernel.axes.len() <= limits::MAX_KERNEL_AXES
        && kernel.lambdas().iter().all(|lambda| lambda.function.insts.len() <= limits::MAX_SCALAR_OPS / 4)
}

/// Who reads and who writes each buffer.
pub(crate) struct Readers {
    readers: BTreeMap<BufferId, Vec<(usize, usize)>>,
    writers: BTreeMap<BufferId, usize>,
}

impl Readers {
    fn of(program: &Program) -> Readers {
        let mut readers: BTreeMap<BufferId, Vec<(usize, usize)>> = BTreeMap::new();
        let mut writers = BTreeMap::new();
        for (index, kernel) in program.kernels.iter().enumerate() {
            for (load, access) in kernel.loads.iter().enumerate() {
                readers.entry(access.buffer).or_default().push((index, load));
            }
            writers.insert(kernel.output.buffer, index);
        }
        Readers { readers, writers }
    }

    /// The kernel that writes a temporary buffer.
    fn producer(&self, program: &Program, buffer: BufferId) -> Option<usize> {
        let temporary = program.buffer(buffer).kind == BufferKind::Temp;
        self.writers.get(&buffer).copied().filter(|_| temporary)
    }

    /// The loads of a buffer: kernel and number.
    fn loads(&self, buffer: BufferId) -> &[(usize, usize)] {
        self.readers.get(&buffer).map_or(&[], Vec::as_slice)
    }

    /// Whether only this kernel reads the buffer.
    fn only(&self, buffer: BufferId, kernel: usize) -> bool {
        self.loads(buffer).iter().all(|&(reader, _)| reader == kernel)
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

/// Removes the producers that a kernel read before it was fused and that nobody reads now: they'd count as readers of
/// their own operands. Gives how many, all of them before the kernel.
fn remove_dead_producers(program: &mut Program, before: &Kernel) -> usize {
    let dead: Vec<BufferId> = before
        .buffers()
        .into_iter()
        .filter(|&buffer| program.buffer(buffer).kind == BufferKind::Temp && buffer != before.output.buffer)
        .filter(|&buffer| !program.kernels.iter().flat_map(|kernel| &kernel.loads).any(|load| load.buffer == buffer))
        .collect();
    let count = program.kernels.len();
    program.kernels.retain(|kernel| !dead.contains(&kernel.output.buffer));
    count - program.kernels.len()
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
