//! The threads that kernels run on, which sessions share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::executor::ExecuteError;

/// Threads that run kernels, shared by all sessions that are given the same ones: however many sessions run at a time, no more
/// threads do than there are here. Cloning it gives another handle to the same threads.
///
/// Sessions that are given a number of threads only share those of that number ([`Pool::shared`]). A host that has a pool
/// of its own hands that over:
///
/// ```
/// use std::sync::Arc;
///
/// use loom_runtime::executor::cpu::{Pool, rayon};
/// use loom_runtime::session::SessionOptions;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::of(Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build()?));
/// let options = SessionOptions { pool: Some(pool.clone()), ..SessionOptions::default() };
/// assert_eq!(options.pool.map(|pool| pool.threads()), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Pool(Arc<rayon::ThreadPool>);

/// By number of threads: those that some session has now.
static SHARED: Mutex<BTreeMap<usize, Weak<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());

impl Pool {
    /// The process's threads of this number. They end with the last handle to them.
    pub fn shared(threads: usize) -> Result<Pool, ExecuteError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = shared.get(&threads).and_then(Weak::upgrade) {
            return Ok(Pool(pool));
        }
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let named = builder.thread_name(|index| format!("loom-{index}"));
        let pool = Arc::new(named.build().map_err(|error| ExecuteError::Device(error.to_string()))?);
        shared.retain(|_, pool| pool.strong_count() > 0);
        shared.insert(threads, Arc::downgrade(&pool));
        Ok(Pool(pool))
    }

    /// A host's own threads.
    pub fn of(pool: Arc<rayon::ThreadPool>) -> Pool {
        Pool(pool)
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    pub(super) fn rayon(&self) -> &rayon::ThreadPool {
        &self.0
    }
}

/// Handles to the same threads are equal.
impl PartialEq for Pool {
    fn eq(&self, other: &Pool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Pool {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_shared_while_somebody_has_it() {
        let first = Pool::shared(3).unwrap();
        assert_eq!(first, Pool::shared(3).unwrap());
        assert_ne!(first, Pool::shared(4).unwrap());
        let weak = Arc::downgrade(&first.0);
        drop(first);
        assert!(weak.upgrade().is_none());
        assert_eq!(Pool::shared(3).unwrap().threads(), 3);
    }
}
