//! `plan`: a place in one arena for every temporary buffer.
//!
//! Two buffers share bytes only if they are never alive in one kernel. The largest buffer is placed first, each at the
//! lowest aligned place that no buffer alive with it overlaps: the "greedy by size" rule of Pisarchyk and Lee
//! (arXiv:2001.03288), within a few per cent of the best possible on their networks.

use loom_ir::kernel::verify::{ARENA_ALIGNMENT, live_ranges};
use loom_ir::kernel::{BufferKind, MemoryPlan, Program};

/// Plans the arena of a program.
pub fn plan(mut program: Program) -> Program {
    let ranges = live_ranges(&program);
    let mut order: Vec<usize> =
        (0..program.buffers.len()).filter(|&index| program.buffers[index].kind == BufferKind::Temp).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(program.buffers[index].bytes()), index));
    let mut offsets: Vec<Option<u64>> = vec![None; program.buffers.len()];
    let mut arena_bytes = 0;
    // Placed buffers in ascending place: (offset, end, buffer).
    let mut placed: Vec<(u64, u64, usize)> = Vec::new();
    for index in order {
        let bytes = program.buffers[index].bytes();
        let mut offset = 0u64;
        for &(start, end, other) in &placed {
            let together = matches!((ranges[index], ranges[other]), (Some(a), Some(b)) if a.0 <= b.1 && b.0 <= a.1);
            if !together || end <= offset {
                continue;
            }
            if offset + bytes <= start {
                break;
            }
            offset = end.next_multiple_of(ARENA_ALIGNMENT);
        }
        offsets[index] = Some(offset);
        arena_bytes = arena_bytes.max(offset + bytes);
        let position = placed.partition_point(|&(start, ..)| start <= offset);
        placed.insert(position, (offset, offset + bytes, index));
    }
    program.plan = Some(MemoryPlan { arena_bytes, offsets });
    program
}
