//! The threads that kernels run on, which sessions share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::parallel::Lobby;
use crate::executor::ExecuteError;

/// Threads that run kernels, shared by all sessions that are given the same ones. The thread that runs a session works too, and
/// counts as one of them; so however many sessions run at a time, there are no more threads than those that run them and
/// those that are here. Cloning it gives another handle to the same threads.
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
pub struct Pool {
    rayon: Arc<rayon::ThreadPool>,
    threads: usize,
    lobby: Arc<Lobby>,
}

/// By number of threads: those that some session has now.
static SHARED: Mutex<BTreeMap<usize, Threads>> = Mutex::new(BTreeMap::new());

type Threads = (Weak<rayon::ThreadPool>, Weak<Lobby>);

impl Pool {
    /// The process's threads for sessions on so many. They end with the last handle to them.
    pub fn shared(threads: usize) -> Result<Pool, ExecuteError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((rayon, lobby)) = shared.get(&threads)
            && let (Some(rayon), Some(lobby)) = (rayon.upgrade(), lobby.upgrade())
        {
            return Ok(Pool { rayon, threads, lobby });
        }
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.saturating_sub(1).max(1));
        let named = builder.thread_name(|index| format!("loom-{index}"));
        let rayon = Arc::new(named.build().map_err(|error| ExecuteError::Device(error.to_string()))?);
        let lobby = Arc::new(Lobby::new(true));
        shared.retain(|_, (rayon, _)| rayon.strong_count() > 0);
        shared.insert(threads, (Arc::downgrade(&rayon), Arc::downgrade(&lobby)));
        Ok(Pool { rayon, threads, lobby })
    }

    /// A host's own threads: a session runs on as many as there are, that which runs it among them.
    pub fn of(pool: Arc<rayon::ThreadPool>) -> Pool {
        Pool { threads: pool.current_num_threads(), rayon: pool, lobby: Arc::new(Lobby::new(false)) }
    }

    /// On how many threads a session runs.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Where its threads look for jobs.
    pub(super) fn lobby(&self) -> &Arc<Lobby> {
        &self.lobby
    }

    pub(super) fn rayon(&self) -> &rayon::ThreadPool {
        &self.rayon
    }
}

/// Handles to the same threads are equal.
impl PartialEq for Pool {
    fn eq(&self, other: &Pool) -> bool {
        Arc::ptr_eq(&self.rayon, &other.rayon)
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
        let weak = Arc::downgrade(&first.rayon);
        drop(first);
        assert!(weak.upgrade().is_none());
        assert_eq!(Pool::shared(3).unwrap().threads(), 3);
    }
}
