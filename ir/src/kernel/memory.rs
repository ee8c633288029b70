//! How long temporary buffers are alive, and what that asks of memory.

use super::program::{BufferKind, Program};

/// Every temporary buffer begins at a multiple of this many bytes: the least alignment that WebGPU lets a device ask
/// of a storage binding's offset.
pub const ARENA_ALIGNMENT: u64 = 256;

/// The kernels during which each buffer must keep its place: from the one that writes it to its last reader.
pub fn live_ranges(program: &Program) -> Vec<Option<(usize, usize)>> {
    let mut ranges: Vec<Option<(usize, usize)>> = vec![None; program.buffers.len()];
    for step in program.steps() {
        // A loop comes back to its first kernel: whatever it touches stays until its end.
        let (first, last) = (step.kernels().start, step.kernels().end - 1);
        for kernel in &program.kernels[step.kernels()] {
            for access in kernel.loads.iter().chain([&kernel.output]) {
                let range = ranges[access.buffer.index()].get_or_insert((first, last));
                range.1 = last;
            }
        }
    }
    ranges
}

/// The bytes of the largest set of temporary buffers that are alive in one kernel, each up to the next multiple of
/// [`ARENA_ALIGNMENT`]: an arena that is such a multiple is no smaller. The program must be verified.
pub fn largest_live_set(program: &Program) -> u64 {
    let mut begins = vec![0; program.kernels.len()];
    let mut ends = vec![0; program.kernels.len()];
    for (buffer, range) in program.buffers.iter().zip(live_ranges(program)) {
        if let (BufferKind::Temp, Some((first, last))) = (&buffer.kind, range) {
            let bytes = buffer.bytes().next_multiple_of(ARENA_ALIGNMENT);
            begins[first] += bytes;
            ends[last] += bytes;
        }
    }
    let mut alive = 0u64;
    let sets = begins.iter().zip(ends).map(|(begin, end)| {
        let set = alive + begin;
        alive = set - end;
        set
    });
    sets.max().unwrap_or(0)
}
