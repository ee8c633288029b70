//! Random shapes: a fixed small number of cases, the same ones every time.

use loom_ir::kernel::{Arg, Body, Lambda, Reduce, ReduceOp, Stage};
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::DType;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::build::{Build, Data, check_on, guarded, target, targets, tiled};
use crate::contracts::matrices;

const CASES: u32 = 12;

fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![Just(Data::Plain), Just(Data::Small), Just(Data::Special)]
}

#[test]
fn contractions() {
    let shapes = (1u64..4, 1u64..30, 1u64..30, 0u64..700, any::<bool>(), data());
    let tiles = (1u32..5, 1u32..5, 1u32..4, 1u32..4, prop_oneof![Just(1u32), Just(2), Just(8), Just(32)]);
    let result = runner().run(&(shapes, tiles), |((batch, rows, columns, terms, transposed, data), tile)| {
        let build = matrices(batch, rows, columns, terms, transposed);
        let mut target = target();
        check_on(&build, data, "own", &target);
        target.shapes.contract = vec![tiled(tile.0, tile.1, tile.2, tile.3, tile.4)];
        check_on(&build, data, "tiled", &target);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn sums_over_windows() {
    let shapes = (1u64..5, 1u64..40, 1u64..9, 1i64..4, 0i64..4, 1u64..150, data());
    let result = runner().run(&shapes, |(rows, length, window, stride, padding, channels, data)| {
        // x[row, stride*i + j - padding, channel], summed over the window j and the channels.
        let places = (length + 2 * padding as u64).saturating_sub(window) / stride as u64 + 1;
        let mut build = Build::new();
        let x = build.input(DType::F32, &[rows, length, channels]);
        let y = build.output(DType::F32, &[rows, places]);
        let access = build.access(x, &[(0, &[1, 0, 0, 0]), (-padding, &[0, stride, 1, 0]), (0, &[0, 0, 0, 1])]);
        let output = build.access(y, &[(0, &[1, 0, 0, 0]), (0, &[0, 1, 0, 0])]);
        let sum = ReduceOp::Sum(SumSpec::default());
        let body = Body::Reduce(Reduce {
            reduced: 2,
            stages: vec![Stage { input: Lambda::identity(Arg::Load(0), DType::F32), op: sum }],
            result: Lambda::identity(Arg::Reduced(0), DType::F32),
            per_element: false,
        });
        build.kernel(&[rows, places, window, channels], vec![guarded(access, 0)], body, output);
        for (name, target) in targets() {
            check_on(&build, data, name, &target);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
