//! Reductions: the order of sums, stages, and integers.

use loom_ir::kernel::scalar::CompareOp;
use loom_ir::kernel::{Arg, Body, Lambda, Reduce, ReduceOp, Stage};
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::DType;

use crate::build::{Build, Data, check, check_on, lambda, target, targets};

const SUM: ReduceOp = ReduceOp::Sum(SumSpec { block: 4096, lanes: 32 });

fn plain(op: ReduceOp, dtype: DType, reduced: usize) -> Body {
    Body::Reduce(Reduce {
        reduced,
        stages: vec![Stage { input: Lambda::identity(Arg::Load(0), dtype), op }],
        result: Lambda::identity(Arg::Reduced(0), dtype),
        per_element: false,
    })
}

fn rows(rows: u64, terms: u64, op: ReduceOp, dtype: DType) -> Build {
    let mut build = Build::new();
    let x = build.input(dtype, &[rows, terms]);
    let y = build.output(dtype, &[rows]);
    let load = build.identity(x, 2);
    let output = build.access(y, &[(0, &[1, 0])]);
    build.kernel(&[rows, terms], vec![load], plain(op, dtype, 1), output);
    build
}

#[test]
fn sums_of_every_length() {
    for terms in [0, 1, 2, 5, 31, 32, 33, 64, 100, 1025, 4095, 4096, 4097] {
        check(&rows(5, terms, SUM, DType::F32));
    }
}

#[test]
fn sums_of_many_blocks() {
    for terms in [10_000, 4096 * 5, 4096 * 40 + 17] {
        check(&rows(2, terms, SUM, DType::F32));
    }
}

#[test]
fn sums_of_blocks_of_blocks() {
    // More than 4096 blocks: the sums of blocks have blocks of their own. The terms repeat a short row.
    let terms = 4096 + 3;
    let mut build = Build::new();
    let x = build.input(DType::F32, &[terms]);
    let y = build.output(DType::F32, &[]);
    let load = build.access(x, &[(0, &[0, 1])]);
    let output = build.access(y, &[]);
    build.kernel(&[4096 + 7, terms], vec![load], plain(SUM, DType::F32, 2), output);
    check_on(&build, Data::Small, "own", &target());
}

#[test]
fn many_rows() {
    check(&rows(2500, 3, SUM, DType::F32));
    check(&rows(700, 40, SUM, DType::F32));
}

#[test]
fn integers_in_any_order() {
    for dtype in [DType::U32, DType::I32] {
        for op in [SUM, ReduceOp::Max, ReduceOp::Min] {
            for terms in [0, 1, 33, 5000] {
                check_on(&rows(3, terms, op, dtype), Data::Plain, "own", &target());
                for (name, target) in targets() {
                    check_on(&rows(3, terms, op, dtype), Data::Plain, name, &target);
                }
            }
        }
    }
}

#[test]
fn reduced_axes_count_in_logical_order() {
    // Reduced over the axes 2 and 0 of a tensor, in that order, whatever lies next to what in memory.
    let mut build = Build::new();
    let x = build.input(DType::F32, &[11, 3, 13]);
    let y = build.output(DType::F32, &[3]);
    let load = build.access(x, &[(0, &[0, 0, 1]), (0, &[1, 0, 0]), (0, &[0, 1, 0])]);
    let output = build.access(y, &[(0, &[1, 0, 0])]);
    build.kernel(&[3, 13, 11], vec![load], plain(SUM, DType::F32, 2), output);
    check(&build);
}

/// Two sums and a maximum over integer keys, then a result for every element: the shape of a softmax.
fn staged(rows: u64, terms: u64) -> Build {
    let mut build = Build::new();
    let x = build.input(DType::F32, &[rows, terms]);
    let y = build.output(DType::F32, &[rows, terms]);
    let (load, output) = (build.identity(x, 2), build.identity(y, 2));
    let element = (Arg::Load(0), DType::F32);
    // A key that orders floats as integers: the sign bit turned for positives, all bits for negatives.
    let key = lambda(&[element], |f, v| {
        let bits = f.bitcast(DType::I32, v[0]);
        let (zero, sign, all) = (f.i32(0), f.i32(i32::MIN), f.i32(-1));
        let negative = f.compare(CompareOp::Lt, bits, zero);
        let mask = f.select(negative, all, sign);
        let turned = f.binary(loom_ir::kernel::scalar::BinaryOp::Xor, bits, mask);
        f.bitcast(DType::U32, turned)
    });
    let most = |f: &mut loom_ir::kernel::scalar::ScalarFnBuilder, key| {
        let key = f.bitcast(DType::I32, key);
        let (zero, sign, all) = (f.i32(0), f.i32(i32::MIN), f.i32(-1));
        let positive = f.compare(CompareOp::Lt, key, zero);
        let mask = f.select(positive, sign, all);
        let bits = f.binary(loom_ir::kernel::scalar::BinaryOp::Xor, key, mask);
        f.bitcast(DType::F32, bits)
    };
    let shifted = lambda(&[element, (Arg::Reduced(0), DType::U32)], |f, v| {
        let most = most(f, v[1]);
        f.sub(v[0], most)
    });
    let weighted = lambda(&[element, (Arg::Reduced(1), DType::F32), (Arg::Index(1), DType::U32)], |f, v| {
        let number = f.convert(DType::F32, v[2]);
        let sum = f.add(v[0], v[1]);
        f.mul(sum, number)
    });
    let args = [element, (Arg::Reduced(0), DType::U32), (Arg::Reduced(1), DType::F32), (Arg::Reduced(2), DType::F32)];
    let result = lambda(&args, |f, v| {
        let most = most(f, v[1]);
        let shifted = f.sub(v[0], most);
        let product = f.mul(shifted, v[2]);
        f.add(product, v[3])
    });
    let stages = vec![
        Stage { input: key, op: ReduceOp::Max },
        Stage { input: shifted, op: SUM },
        Stage { input: weighted, op: SUM },
    ];
    let body = Body::Reduce(Reduce { reduced: 1, stages, result, per_element: true });
    build.kernel(&[rows, terms], vec![load], body, output);
    build
}

#[test]
fn stages_see_what_came_before() {
    for (rows, terms) in [(4, 1), (3, 37), (2, 1500), (1, 9000)] {
        check(&staged(rows, terms));
    }
}

#[test]
fn no_reduced_axis_is_a_row_of_one() {
    let mut build = Build::new();
    let x = build.input(DType::F32, &[40]);
    let y = build.output(DType::F32, &[40]);
    let (load, output) = (build.identity(x, 1), build.identity(y, 1));
    build.kernel(&[40], vec![load], plain(SUM, DType::F32, 0), output);
    check(&build);
}
