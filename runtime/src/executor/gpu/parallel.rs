//! Work that every processor can share: translating kernels, and having the driver compile them.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::executor::ExecuteError;
use crate::fp_env::FpEnv;

/// The results of work on each item, in their order; the first error, by that order, of those that occurred.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, ExecuteError> + Sync,
) -> Result<Vec<R>, ExecuteError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R, ExecuteError>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        // naga and drivers fold arithmetic on constants with the processor's own.
        FpEnv::run(|| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(number) else { return };
                let result = work(item);
                let failed = result.is_err();
                done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                if failed {
                    // Nobody begins anything else.
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        });
    };
    let panicked = thread::scope(|scope| {
        let handles: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        worker();
        // All are joined, whatever the first of them says.
        handles.into_iter().map(|handle| handle.join().is_err()).fold(false, |any, one| any | one)
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    let results: Vec<R> = done.into_iter().map(|(_, result)| result).collect::<Result<_, _>>()?;
    if panicked || results.len() != items.len() {
        return Err(ExecuteError::Internal("a thread that made pipelines panicked".to_string()));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(each(&items, |&item| Ok(item * 2)).unwrap(), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(each(&[], |item: &u32| Ok(*item)).unwrap().is_empty());
    }

    #[test]
    fn an_error_is_the_result() {
        let items: Vec<u32> = (0..100).collect();
        let fails = |&item: &u32| match item {
            7 => Err(ExecuteError::Device("seven".to_string())),
            _ => Ok(item),
        };
        assert!(matches!(each(&items, fails), Err(ExecuteError::Device(text)) if text == "seven"));
    }
}
