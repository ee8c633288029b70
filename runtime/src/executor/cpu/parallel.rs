//! One generated function over its work items, on one thread or on several.
//!
//! The thread that calls takes part: it takes ranges of items, one after another, and so do the pool's threads as soon as they
//! wake. It waits at the end for those alone that have begun. So a pool whose threads are late, since others have the
//! processors, costs little more than none. To wake takes longer than many kernels do, so threads that have helped stay awake
//! for a moment, in the [`Lobby`]. A host's own threads don't, since they may have other work; while they have, no more calls
//! for them are queued than they are.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loom_codegen_cpu::abi::KernelFn;

use super::memory::Block;
use super::pool::Pool;
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
    /// Runs the items; with the pool's threads if there's a pool and enough to do. The bits don't depend on it.
    ///
    /// # Safety
    /// The code belongs to a program that is alive, and `table` and the target are what its ABI asks for
    /// (`loom_codegen_cpu::abi`): each address leads to the buffer's whole memory, nothing else writes to any of
    /// these during the call, and nothing else reads what it writes. The scratch blocks are large enough and used by no other
    /// call; with a pool there are at least two.
    ///
    /// This thread is in LN1's floating-point environment; those of the pool enter it here.
    pub(super) unsafe fn run(&self, pool: Option<&Pool>) {
        match pool {
            Some(pool) if self.count() > 1 && self.cost >= self.worth_threads => {
                let most = self.scratch.len() as u64 * RANGES;
                // Each range has at least a part of the work that made threads worth it.
                let worth = (self.cost / (self.worth_threads / RANGES).max(1)).clamp(2, most);
                // SAFETY: the caller's promise.
                unsafe { self.share(pool, self.count().div_ceil(worth)) };
            }
            // SAFETY: the caller's promise; this thread has the first block to itself.
            _ => unsafe { self.call(self.items.clone(), &self.scratch[0]) },
        }
    }

    fn count(&self) -> u64 {
        self.items.end - self.items.start
    }

    /// Runs the items in ranges of `grain`, on this thread and on those of the pool that come in time.
    ///
    /// # Safety
    /// As for `run`.
    unsafe fn share(&self, pool: &Pool, grain: u64) {
        let helpers = (self.scratch.len() - 1).min((self.count().div_ceil(grain) - 1) as usize);
        let shared = Arc::new(Shared {
            job: std::ptr::from_ref(self).cast(),
            next: AtomicU64::new(self.items.start),
            grain,
            block: AtomicUsize::new(1),
            helpers: AtomicUsize::new(0),
        });
        let Posted { number, awake } = pool.lobby().post(&shared);
        for _ in awake..helpers {
            if !pool.lobby().queue(pool.threads()) {
                break;
            }
            let (shared, lobby) = (Arc::clone(&shared), Arc::clone(pool.lobby()));
            pool.rayon().spawn(move || {
                lobby.queued.fetch_sub(1, Ordering::SeqCst);
                shared.help();
                lobby.linger(number);
            });
        }
        // SAFETY: the promise of the caller; nobody else has the first block.
        unsafe { self.work(&shared, &self.scratch[0]) };
        shared.close();
    }

    /// Runs ranges of items until there are none left.
    ///
    /// # Safety
    /// As for `run`, with the scratch block not in use.
    unsafe fn work(&self, shared: &Shared, scratch: &Block) {
        loop {
            let begin = shared.next.fetch_add(shared.grain, Ordering::Relaxed);
            if begin >= self.items.end {
                return;
            }
            let end = self.items.end.min(begin + shared.grain);
            // SAFETY: the caller's promise. Ranges don't overlap, and items are independent.
            unsafe { self.call(begin..end, scratch) };
        }
    }

    /// # Safety
    /// As for `run`, with the scratch block not in use.
    unsafe fn call(&self, items: Range<u64>, scratch: &Block) {
        let last = match self.target {
            Target::Scratch => scratch.address(),
            Target::Panels { start, bytes } => start.wrapping_add((items.start * bytes) as usize),
        };
        // SAFETY: the caller's promise is the ABI's.
        unsafe { (self.code)(self.table, items.start, items.end, last) };
    }
}

/// Where a pool's threads that have just helped look for the next job.
#[derive(Debug)]
pub(super) struct Lobby {
    /// Whether they stay awake here for a while.
    lingers: bool,
    /// How many calls for helpers are in the pool's queue.
    queued: AtomicUsize,
    /// How many are here.
    waiting: AtomicUsize,
    /// How many jobs have been posted.
    number: AtomicU64,
    /// The last one.
    posted: Mutex<Option<Arc<Shared>>>,
}

/// How long a thread stays awake without a job: some times what it takes to wake.
const LINGER: Duration = Duration::from_micros(100);
/// After so many jobs a thread looks at what else its pool has to do.
const JOBS: usize = 64;

/// What is known of a job that has been posted.
struct Posted {
    /// How many have been, with it.
    number: u64,
    /// How many threads are there to see it.
    awake: usize,
}

impl Lobby {
    pub(super) fn new(lingers: bool) -> Lobby {
        Lobby {
            lingers,
            queued: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            posted: Mutex::new(None),
        }
    }

    /// Shows a job to those who wait here.
    fn post(&self, job: &Arc<Shared>) -> Posted {
        *self.posted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(job));
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        Posted { number, awake: self.waiting.load(Ordering::SeqCst) }
    }

    /// Whether one more call for a helper may be queued, which counts it. Where there are `most` already, the pool's threads
    /// have other work: each of those calls, when its time comes, finds the job that was posted last.
    fn queue(&self, most: usize) -> bool {
        let more = |queued| (queued < most).then_some(queued + 1);
        self.queued.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Helps with the jobs that come after the one of this number, until none comes for a while.
    fn linger(&self, mut seen: u64) {
        for _ in 0..JOBS {
            if self.lingers {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.watch(seen);
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            // Looked at again, now that nobody counts on this thread: who posts a job either sees that, or is seen here.
            let number = self.number.load(Ordering::SeqCst);
            if number == seen {
                return;
            }
            seen = number;
            let job = self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(job) = job {
                job.help();
            }
        }
    }

    /// Waits for another number, but not for long.
    fn watch(&self, seen: u64) {
        let begin = Instant::now();
        while begin.elapsed() < LINGER {
            for _ in 0..SPINS {
                if self.number.load(Ordering::SeqCst) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }
}

/// A job that several threads run. It lives on until the last of them has looked at it, long after the job itself, perhaps.
struct Shared {
    /// Alive until it's closed and no helper is left.
    job: *const Job<'static>,
    /// The first item that nobody has taken.
    next: AtomicU64,
    /// Items of a range.
    grain: u64,
    /// The first scratch block that nobody has taken.
    block: AtomicUsize,
    /// How many helpers there are now, and [`CLOSED`].
    helpers: AtomicUsize,
}

/// Nobody may begin to help.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("next", &self.next).finish_non_exhaustive()
    }
}

// SAFETY: the job is `Sync`, and `help` and `close` see to it that nobody uses it when it's gone.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// On a thread of the pool: takes part, if the job is still open.
    fn help(&self) {
        if self.helpers.fetch_add(1, Ordering::Acquire) & CLOSED == 0 {
            // SAFETY: `close` waits for this helper, which it has counted.
            let job = unsafe { &*self.job };
            // More may come than were asked.
            if let Some(block) = job.scratch.get(self.block.fetch_add(1, Ordering::Relaxed)) {
                // SAFETY: the promise of `run`'s caller; the block is this helper's own.
                FpEnv::run(|| unsafe { job.work(self, block) });
            }
        }
        // What it wrote is seen by who reads the count.
        self.helpers.fetch_sub(1, Ordering::Release);
    }

    /// Lets nobody begin any more, and waits for those that have.
    fn close(&self) {
        let mut helpers = self.helpers.fetch_or(CLOSED, Ordering::Acquire);
        let mut turns = 0;
        // A helper that came too late counts itself for a moment, too.
        while helpers & !CLOSED != 0 {
            // They are at their last range: mostly it's sooner done than this thread could sleep and wake.
            if turns < SPINS {
                turns += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            helpers = self.helpers.load(Ordering::Acquire);
        }
    }
}

/// How often a thread looks before it lets others run: some microseconds.
const SPINS: u32 = 200;
