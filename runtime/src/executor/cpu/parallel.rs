//! One generated function over its work items, on one thread or on several.

use std::ops::Range;

use loom_codegen_cpu::abi::KernelFn;
use rayon::ThreadPool;

use super::memory::Block;
use crate::fp_env::FpEnv;

/// Ranges for each thread, so that a thread which is late leaves work for others.
const RANGES: u64 = 4;

/// Where a function's last argument points.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// A kernel: to the thread's scratch memory.
    Scratch,
    /// A pack function: to the first panel it writes.
    Panels { start: *mut u8, bytes: u64 },
}

/// A function to run.
pub(super) struct Job<'a> {
    pub code: KernelFn,
    pub table: *const *mut u8,
    /// The items that run.
    pub items: Range<u64>,
    pub cost: u64,
    pub target: Target,
    /// One block a thread.
    pub scratch: &'a [Block],
    /// The cost from which threads are worth theirs.
    pub worth_threads: u64,
}

// SAFETY: the pointers lead to memory that `Job::run`'s caller answers for, for all threads: see there.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// Runs the items; on the pool's threads if there's a pool and enough to do. The bits don't depend on it.
    ///
    /// # Safety
    /// The code belongs to a program that is alive, and `table` and the target are what its ABI asks for
    /// (`loom_codegen_cpu::abi`): each address leads to the buffer's whole memory, nothing else writes to any of
    /// these during the call, and nothing else reads what it writes. The scratch blocks are large enough, one for each
    /// thread of the pool, and used by no other call.
    ///
    /// This thread is in LN1's floating-point environment; those of the pool enter it here.
    pub(super) unsafe fn run(&self, pool: Option<&ThreadPool>) {
        match pool {
            Some(pool) if self.count() > 1 && self.cost >= self.worth_threads => {
                let most = pool.current_num_threads() as u64 * RANGES;
                // Each range has at least a part of the work that made threads worth it.
                let worth = (self.cost / (self.worth_threads / RANGES).max(1)).clamp(2, most);
                let grain = self.count().div_ceil(worth);
                pool.install(|| self.split(self.items.start, self.items.end, grain));
            }
            // SAFETY: the caller's promise; this thread has the first block to itself.
            _ => unsafe { self.call(self.items.start, self.items.end, &self.scratch[0]) },
        }
    }

    fn count(&self) -> u64 {
        self.items.end - self.items.start
    }

    fn split(&self, begin: u64, end: u64, grain: u64) {
        if end - begin > grain {
            let middle = begin + (end - begin) / 2;
            rayon::join(|| self.split(begin, middle, grain), || self.split(middle, end, grain));
            return;
        }
        let thread = rayon::current_thread_index().unwrap_or(0);
        // SAFETY: the promise of `run`'s caller. The ranges don't overlap, and items are independent. A thread is at one
        // range at a time, since generated code doesn't come back to rayon, so that its block is its own.
        FpEnv::run(|| unsafe { self.call(begin, end, &self.scratch[thread]) });
    }

    /// # Safety
    /// As for `run`, with the scratch block not in use.
    unsafe fn call(&self, begin: u64, end: u64, scratch: &Block) {
        let last = match self.target {
            Target::Scratch => scratch.address(),
            Target::Panels { start, bytes } => start.wrapping_add((begin * bytes) as usize),
        };
        // SAFETY: the caller's promise is the ABI's.
        unsafe { (self.code)(self.table, begin, end, last) };
    }
}
