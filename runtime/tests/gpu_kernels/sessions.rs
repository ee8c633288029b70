//! Sessions on one device: runs under way at the same time, waited for or dropped.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use loom_runtime::executor::gpu::GpuExecutor;
use loom_runtime::session::{Device, Session, SessionOptions};

use crate::common::{artifact, input};
use crate::device;

fn session() -> Session {
    let artifact = artifact();
    let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
    let executor = GpuExecutor::new(device(), program, weights).unwrap_or_else(|error| panic!("{error}"));
    Session::with_executor(&artifact, Device::Gpu, Box::new(executor))
}

/// The interpreter's bits for so many samples.
fn expected(samples: u64) -> Vec<u32> {
    let mut session = Session::new(&artifact(), SessionOptions::on(Device::Interp)).unwrap();
    session.run_tensors(&[input(samples)]).unwrap()[0].bits().to_vec()
}

/// Polls a future once, with nobody to be woken; it may have come to its end by then.
fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[test]
fn runs_of_several_sessions_are_under_way_at_once() {
    let mut sessions: Vec<Session> = (0..4).map(|_| session()).collect();
    let samples = [4, 9, 1, 6];
    let inputs = samples.map(|samples| [input(samples)]);
    let mut futures: Vec<_> =
        sessions.iter_mut().zip(&inputs).map(|(session, input)| Box::pin(session.run_async(input))).collect();
    let begun: Vec<_> = futures.iter_mut().map(|future| poll_once(future.as_mut())).collect();
    for ((future, begun), samples) in futures.into_iter().zip(begun).zip(samples).rev() {
        let found = begun.unwrap_or_else(|| pollster::block_on(future));
        assert_eq!(found.unwrap()[0].bits(), expected(samples));
    }
}

#[test]
fn a_run_that_is_dropped_is_forgotten() {
    let mut session = session();
    for _ in 0..3 {
        let inputs = [input(8)];
        // Never polled, and polled.
        drop(session.run_async(&inputs));
        drop(poll_once(pin!(session.run_async(&inputs))));
        assert_eq!(session.run_tensors(&[input(5)]).unwrap()[0].bits(), expected(5));
        drop(poll_once(pin!(session.run_async(&inputs))));
        assert_eq!(pollster::block_on(session.run_async(&[input(7)])).unwrap()[0].bits(), expected(7));
    }
}

#[test]
fn threads_share_a_device() {
    let run = |samples: u64| {
        let (mut session, expected) = (session(), expected(samples));
        session.warm_up().unwrap();
        for turn in 0..10 {
            let found = if turn % 2 == 0 {
                session.run_tensors(&[input(samples)])
            } else {
                pollster::block_on(session.run_async(&[input(samples)]))
            };
            assert_eq!(found.unwrap()[0].bits(), expected);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = [3, 4, 10].map(|samples| scope.spawn(move || run(samples))).into();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_future_may_go_to_another_thread() {
    let mut session = session();
    let inputs = [input(6)];
    let future = session.run_async(&inputs);
    let found = thread::scope(|scope| scope.spawn(move || pollster::block_on(future)).join().unwrap());
    assert_eq!(found.unwrap()[0].bits(), expected(6));
}

#[test]
fn a_mistake_is_the_result_of_the_future() {
    let mut session = session();
    assert!(pollster::block_on(session.run_async(&[])).is_err());
    assert_eq!(session.run_tensors(&[input(2)]).unwrap()[0].bits(), expected(2));
}
