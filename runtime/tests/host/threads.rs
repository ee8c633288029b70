//! A host that runs sessions on threads of its own.

use std::sync::Arc;
use std::thread;

use loom_runtime::artifact::Artifact;
use loom_runtime::digest::digest;
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions, Pool};
use loom_runtime::executor::gpu::{GpuDevice, GpuOptions};
use loom_runtime::session::{Device, Session};
use loom_runtime::tensors::Tensor;
use rayon::prelude::*;

use crate::network::{Runner, artifact, input, on_gpu};
use crate::settings::HOSTILE;

/// What the threads share: the artifact, and one GPU.
struct Shared {
    artifact: Artifact,
    input: Tensor,
    gpu: Arc<GpuDevice>,
    expected: String,
}

impl Shared {
    fn new() -> Shared {
        let artifact = artifact();
        let input = input(&artifact);
        let outputs = Runner::Interp.session(&artifact).run_tensors(std::slice::from_ref(&input)).unwrap();
        let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
        Shared { artifact, input, gpu, expected: digest(&outputs) }
    }

    fn session(&self, runner: Runner) -> Session {
        match runner {
            Runner::Gpu => on_gpu(&self.artifact, Arc::clone(&self.gpu)),
            _ => runner.session(&self.artifact),
        }
    }

    fn check(&self, session: &mut Session) {
        let outputs = session.run_tensors(std::slice::from_ref(&self.input)).unwrap();
        assert_eq!(digest(&outputs), self.expected, "{session:?}");
    }
}

#[test]
fn sessions_side_by_side_on_plain_threads() {
    let shared = Shared::new();
    thread::scope(|scope| {
        // Two of each kind at once, each of which runs twice.
        for runner in Runner::ALL.into_iter().chain(Runner::ALL) {
            let shared = &shared;
            scope.spawn(move || {
                let mut session = shared.session(runner);
                shared.check(&mut session);
                shared.check(&mut session);
            });
        }
    });
}

#[test]
fn sessions_inside_a_pool_of_the_hosts() {
    let shared = Shared::new();
    for settings in [None, Some(HOSTILE[0])] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).start_handler(move |_| {
            if let Some(settings) = settings {
                settings.set_for_good();
            }
        });
        let pool = pool.build().unwrap();
        // The host's threads take on the next session while one waits for the threads of its own.
        pool.install(|| {
            let jobs: Vec<Runner> = Runner::ALL.into_iter().cycle().take(12).collect();
            jobs.into_par_iter().for_each(|runner| shared.check(&mut shared.session(runner)));
        });
    }
}

#[test]
fn a_session_moves_between_threads() {
    let shared = Shared::new();
    for runner in Runner::ALL {
        let mut session = shared.session(runner);
        for _ in 0..3 {
            let shared = &shared;
            session = thread::scope(|scope| {
                let moved = scope.spawn(move || {
                    shared.check(&mut session);
                    session
                });
                moved.join().unwrap()
            });
        }
    }
}

/// Sessions on a host's own threads, some from within these.
#[test]
fn sessions_on_a_pool_of_the_hosts() {
    let shared = Shared::new();
    let rayon = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
    let pool = Pool::of(Arc::clone(&rayon));
    let check = || {
        // Every kernel is worth threads here.
        let options = CpuOptions { pool: Some(pool.clone()), worth_threads: 0, ..CpuOptions::default() };
        let artifact = &shared.artifact;
        let executor =
            CpuExecutor::with_options(Arc::clone(artifact.program()), artifact.weights().clone(), &options).unwrap();
        assert!(executor.description().ends_with("3 threads"), "{}", executor.description());
        shared.check(&mut Session::with_executor(artifact, Device::Cpu, Box::new(executor)));
    };
    check();
    rayon.install(|| (0..6).into_par_iter().for_each(|_| check()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(check);
        }
    });
}
