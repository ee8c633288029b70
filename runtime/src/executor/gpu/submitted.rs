//! Runs that a device has been given and nobody waits for on their own thread.
//!
//! wgpu tells that a buffer is mapped only while some thread polls the device. A device has one such thread, from the first
//! of these runs on: it waits for one run after another, in the order in which the device makes them, and ends with the
//! device.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use super::device::{Context, Waiter};
use super::executor::Ready;
use crate::executor::{ExecuteError, Submitted};
use crate::fp_env::FpEnv;

/// The end of a run: told by wgpu's callbacks and the watcher, heard by whoever polls.
#[derive(Default)]
pub(super) struct Signal(Mutex<State>);

#[derive(Default)]
struct State {
    /// Buffers that are not mapped yet.
    left: usize,
    failed: bool,
    waker: Option<Waker>,
}

impl Signal {
    /// Of a run that ends when so many buffers are mapped.
    fn new(left: usize) -> Signal {
        Signal(Mutex::new(State { left, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the buffers is mapped, or can't be.
    fn tell(&self, mapped: bool) {
        let mut state = self.state();
        state.left = state.left.saturating_sub(1);
        state.failed |= !mapped;
        let waker = if state.left == 0 || state.failed { state.waker.take() } else { None };
        // Whoever is woken may poll at once.
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the run has ended: well, or not.
    fn poll(&self, waker: &Waker) -> Poll<bool> {
        let mut state = self.state();
        if state.failed || state.left == 0 {
            return Poll::Ready(!state.failed);
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            unknown => *unknown = Some(waker.clone()),
        }
        Poll::Pending
    }
}

type Watched = (wgpu::SubmissionIndex, Arc<Signal>);

/// The thread that waits for runs.
#[derive(Default)]
pub(super) struct Watcher(OnceLock<Option<mpsc::Sender<Watched>>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watcher(started: {})", self.0.get().is_some())
    }
}

impl Watcher {
    /// Has a run waited for.
    fn watch(&self, waiter: impl FnOnce() -> Waiter, run: Watched) -> Result<(), ExecuteError> {
        let started = self.0.get_or_init(|| start(waiter()).ok());
        let sent = started.as_ref().is_some_and(|sender| sender.send(run).is_ok());
        if sent { Ok(()) } else { Err(ExecuteError::Device("no thread can wait for the device".to_string())) }
    }
}

fn start(waiter: Waiter) -> std::io::Result<mpsc::Sender<Watched>> {
    let (sender, runs) = mpsc::channel::<Watched>();
    let watch = move || {
        for (submission, signal) in runs {
            let until = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
            // A software device may compute on this thread. Where all is well, it is wgpu's callbacks that tell.
            if FpEnv::run(|| waiter.wait(until)).is_err() {
                signal.tell(false);
            }
        }
    };
    thread::Builder::new().name("loom device".to_string()).spawn(watch)?;
    Ok(sender)
}

/// A run on a GPU.
pub(super) struct Run<'a> {
    context: &'a Context,
    ready: &'a mut Ready,
    signal: Arc<Signal>,
    /// Whether all buffers are mapped, and whether the outputs were read.
    ended: bool,
    read: bool,
}

impl<'a> Run<'a> {
    /// Hands a run to the device.
    pub fn new(context: &'a Context, ready: &'a mut Ready, inputs: &[&[u32]]) -> Result<Run<'a>, ExecuteError> {
        let submission = ready.submit(context, inputs)?;
        let signal = Arc::new(Signal::new(ready.mappings().count()));
        let run = Run { context, ready, signal, ended: false, read: false };
        context.scoped(|| {
            for (buffer, mode) in run.ready.mappings() {
                let signal = Arc::clone(&run.signal);
                buffer.map_async(mode, .., move |result| signal.tell(result.is_ok()));
            }
        })?;
        context.watcher.watch(|| context.waiter(), (submission, Arc::clone(&run.signal)))?;
        Ok(run)
    }
}

impl Submitted for Run<'_> {
    fn poll(&mut self, waker: &Waker) -> Poll<Result<(), ExecuteError>> {
        self.signal.poll(waker).map(|well| {
            self.context.check()?;
            if !well {
                return Err(ExecuteError::Device("memory could not be mapped".to_string()));
            }
            self.ended = true;
            self.ready.take_back();
            Ok(())
        })
    }

    fn read(&mut self, outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        if !self.ended {
            return Err(ExecuteError::Internal("a run is read before its end".to_string()));
        }
        let result = FpEnv::run(|| self.ready.read(outputs));
        // What could not be read is still mapped.
        self.read = result.is_ok();
        result
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.read {
            // What is or will be mapped is taken back; some of it may not be, which wgpu calls an error.
            let _ = self.context.scoped(|| self.ready.unmap(self.ended));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_last_waker_is_woken_once_at_the_end() {
        let counts = [Arc::<Count>::default(), Arc::default()];
        let wakers = counts.clone().map(Waker::from);
        let signal = Signal::new(2);
        assert_eq!(signal.poll(&wakers[0]), Poll::Pending);
        assert_eq!(signal.poll(&wakers[1]), Poll::Pending);
        signal.tell(true);
        assert_eq!(signal.poll(&wakers[1]), Poll::Pending);
        signal.tell(true);
        let woken = counts.map(|count| count.0.load(Ordering::SeqCst));
        assert_eq!((woken, signal.poll(&wakers[0])), ([0, 1], Poll::Ready(true)));
    }

    #[test]
    fn a_failure_is_the_end() {
        let count = Arc::<Count>::default();
        let signal = Signal::new(3);
        let waker = Waker::from(Arc::clone(&count));
        assert_eq!(signal.poll(&waker), Poll::Pending);
        signal.tell(false);
        signal.tell(true);
        assert_eq!((count.0.load(Ordering::SeqCst), signal.poll(&waker)), (1, Poll::Ready(false)));
        assert_eq!(Signal::new(0).poll(&waker), Poll::Ready(true), "nothing to map");
    }
}
