//! `plan`: a place in one arena for every temporary buffer.
//!
//! Two buffers share bytes only if they are never alive in one kernel. Buffers are placed one by one, each at the lowest
//! place that no buffer alive with it has; their order decides what the arena takes. The first to be tried is the largest
//! first, "greedy by size" of Pisarchyk and Lee (arXiv:2001.03288), then those that live longest, then those that begin
//! to live. As long as the arena takes more than the buffers that are alive in some one kernel, which no plan can undercut, the
//! buffer that sticks out goes to the front of its order, and all are placed again. The smallest arena is taken.

mod place;

use std::cmp::Reverse;

use loom_ir::kernel::memory::{ARENA_ALIGNMENT, largest_live_set, live_ranges};
use loom_ir::kernel::{BufferKind, MemoryPlan, Program};

use place::{Item, Placement};

/// How often each order is tried. Of 8,000 random networks and graphs none needed an arena more than 1.16 times as large as
/// its largest live set after 16 tries, and more tries made none of the worst better.
const TRIES: usize = 16;

/// No further order is tried once so many buffers were placed and pairs of them kept apart: some milliseconds, but counted,
/// since a clock must not decide what is compiled.
const MOST_WORK: usize = 1 << 20;

/// Plans the arena of a program.
pub fn plan(mut program: Program) -> Program {
    let ranges = live_ranges(&program);
    let buffers = program.buffers.iter().zip(&ranges).enumerate();
    // A verified program touches every temporary buffer; one that it does not touch takes no place.
    let items: Vec<Item> = buffers
        .filter(|(_, (buffer, _))| buffer.kind == BufferKind::Temp)
        .filter_map(|(index, (buffer, range))| {
            let bytes = buffer.bytes().next_multiple_of(ARENA_ALIGNMENT);
            range.map(|range| Item { buffer: index, bytes, range })
        })
        .collect();
    let placement = best(&items, program.kernels.len(), largest_live_set(&program));
    let mut offsets: Vec<Option<u64>> =
        program.buffers.iter().map(|buffer| (buffer.kind == BufferKind::Temp).then_some(0)).collect();
    for (item, offset) in items.iter().zip(placement.offsets) {
        offsets[item.buffer] = Some(offset);
    }
    program.plan = Some(MemoryPlan { arena_bytes: placement.arena, offsets });
    program
}

/// The smallest arena of the orders that are tried; none is smaller than `least`.
fn best(items: &[Item], kernels: usize, least: u64) -> Placement {
    type Key = fn(&Item) -> (usize, Reverse<u64>);
    let keys: [Key; 3] = [
        |item| (0, Reverse(item.bytes)),
        |item| (usize::MAX - (item.range.1 - item.range.0), Reverse(item.bytes)),
        |item| (item.range.0, Reverse(item.bytes)),
    ];
    let (mut best, mut work): (Option<Placement>, usize) = (None, 0);
    for key in keys {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&item| key(&items[item]));
        for _ in 0..TRIES {
            let found = place::place(items, &order, kernels);
            work += found.pairs + items.len();
            if let Some(position) = order.iter().position(|&item| Some(item) == found.highest) {
                order[..=position].rotate_right(1);
            }
            let done = found.arena <= least || work >= MOST_WORK;
            match &mut best {
                Some(best) if best.arena <= found.arena => {}
                best => *best = Some(found),
            }
            if let Some(best) = best.take_if(|_| done) {
                return best;
            }
        }
    }
    best.unwrap_or_default()
}
