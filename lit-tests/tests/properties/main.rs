//! What LN1 guarantees of every kernel, held against every kind of kernel on every device:
//!
//! - **batch invariance**: a sample alone gives the bits that it gives in any batch;
//! - **zero-extension**: terms that are +0.0, appended to a sum, change nothing, whatever chunk or block they begin;
//! - **tile, thread and level independence**: every runner below gives the interpreter's bits in all of this.
//!
//! Random networks (`devices.rs`) and random kernels (`loom-runtime`'s tests) hold devices to the interpreter; here the
//! programs differ and the interpreter is held to the contract too. Sizes lie around 256 and 4096, where chunks and
//! blocks end.
//!
//! A machine without a GPU adapter fails the tests of the GPU; software Vulkan is enough.

mod kinds;
mod runners;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

use kinds::{Kind, Tensors, crop};
use runners::{Runner, cpu_runners, gpu_runners};

/// How many terms a sum has: few, or about as many as a chunk or a block.
fn terms() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..40, 250u64..262, 505u64..520, 4090u64..4102, 8185u64..8200]
}

/// Terms more: within a chunk, beyond one, beyond a block.
fn more() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..9, 200u64..300, 4000u64..4200]
}

/// Of every so many numbers one is special, or none.
fn special() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), Just(61)]
}

/// The same cases every time; `LOOM_CASES` asks for more.
fn for_all<S: Strategy>(strategy: &S, default: u32, test: impl Fn(S::Value) -> TestCaseResult) {
    let cases = std::env::var("LOOM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner.run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

/// Every sample of a batch, alone on the interpreter and together on a runner.
fn check_batch(kind: Kind, runner: &Runner, samples: u64, terms: u64, special: u64) {
    let (alone, together) = (kind.program(1, terms), kind.program(samples, terms));
    let tensors = Tensors::random(&together, terms, special);
    let found = runner.run(&together, &tensors);
    let expected: Vec<u32> =
        (0..samples).flat_map(|sample| Runner::Interp.run(&alone, &tensors.sample(sample, &together))).collect();
    assert!(found == expected, "{kind:?} of {terms} terms: a batch of {samples} on {runner}");
    let first = runner.run(&alone, &tensors.sample(samples - 1, &together));
    assert!(expected.ends_with(&first), "{kind:?} of {terms} terms: a sample alone on {runner}");
}

/// A sum on the interpreter, and with more terms that are 0 on a runner.
fn check_extension(kind: Kind, runner: &Runner, terms: u64, more: u64, special: u64) {
    // Windows that grow meet elements with weights of zero: 0 only if the elements are finite.
    let special = if kind == Kind::Convolution { 0 } else { special };
    let (short, long) = (kind.program(2, terms), kind.program(2, terms + more));
    let tensors = Tensors::random(&short, terms, special);
    let expected = Runner::Interp.run(&short, &tensors);
    for extended in kind.extensions(&tensors, &short, &long) {
        let found = runner.run(&long, &extended);
        let (found, rest) = crop(&found, &long, &short);
        assert!(found == expected, "{kind:?} of {terms} terms and {more} zeros on {runner}");
        // Only a softmax has results for the terms appended: e to the power of minus infinity, over a sum that is a number
        // if there's no special one.
        let zero = rest.iter().all(|&bits| bits == 0);
        assert!(zero || special > 0, "{kind:?} of {terms} terms and {more} zeros on {runner}: {rest:?}");
    }
}

#[test]
fn batches_on_the_processor() {
    let runners = cpu_runners();
    for kind in Kind::ALL {
        let strategy = (0..runners.len(), 1u64..8, terms(), special());
        for_all(&strategy, 12, |(runner, samples, terms, special)| {
            check_batch(kind, &runners[runner], samples, terms, special);
            Ok(())
        });
    }
}

#[test]
fn zeros_appended_on_the_processor() {
    let runners = cpu_runners();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.sums()) {
        let strategy = (0..runners.len(), terms(), more(), special());
        for_all(&strategy, 12, |(runner, terms, more, special)| {
            check_extension(kind, &runners[runner], terms, more, special);
            Ok(())
        });
    }
}

/// Every runner on the same programs, large enough to be split.
#[test]
fn threads_and_levels_on_the_processor() {
    for kind in Kind::ALL {
        for runner in cpu_runners() {
            check_batch(kind, &runner, 9, 300, 61);
        }
    }
}

#[test]
fn batches_on_the_gpu() {
    for kind in Kind::ALL {
        for runner in gpu_runners(kind.contracts()) {
            check_batch(kind, &runner, 3, 270, 61);
        }
        check_batch(kind, &Runner::gpu(), 2, 4100, 0);
    }
}

#[test]
fn zeros_appended_on_the_gpu() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.sums()) {
        for (terms, more) in [(250, 10), (255, 4000)] {
            check_extension(kind, &Runner::gpu(), terms, more, 61);
        }
        for runner in gpu_runners(kind.contracts()) {
            check_extension(kind, &runner, 256, 17, 0);
        }
    }
}
