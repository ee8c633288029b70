//! Contractions: chunks, tiles, windows, prologues and epilogues.

use loom_ir::kernel::scalar::CompareOp;
use loom_ir::kernel::{Arg, Body, Contract, Lambda};
use loom_ir::numerics::reduction::{IntegerSpec, Products};
use loom_ir::types::DType;
use loom_runtime::executor::gpu::{ContractShape, Tile};

use crate::build::{Build, COST, Data, check, check_on, guarded, lambda, run, target, tiled};

/// A batched product of matrices, the right one transposed or not.
pub fn matrices(batch: u64, rows: u64, columns: u64, terms: u64, transposed: bool) -> Build {
    products([batch, rows, columns, terms], transposed, Products::default())
}

/// The same of floats, or of integers, whose low 8 bits count.
fn products([batch, rows, columns, terms]: [u64; 4], transposed: bool, products: Products) -> Build {
    let dtype = products.dtype();
    let mut build = Build::new();
    let a = build.input(dtype, &[batch, rows, terms]);
    let b = build.input(dtype, &if transposed { [batch, columns, terms] } else { [batch, terms, columns] });
    let y = build.output(dtype, &[batch, rows, columns]);
    let (column, term): (&[i64], &[i64]) = (&[0, 0, 1, 0], &[0, 0, 0, 1]);
    let first: &[i64] = &[1, 0, 0, 0];
    let lhs = build.access(a, &[(0, first), (0, &[0, 1, 0, 0]), (0, term)]);
    let inner = if transposed { [(0, column), (0, term)] } else { [(0, term), (0, column)] };
    let rhs = build.access(b, &[(0, first), inner[0], inner[1]]);
    let output = build.access(y, &[(0, first), (0, &[0, 1, 0, 0]), (0, column)]);
    let body = Body::Contract(Contract {
        batch: 1,
        rows: 1,
        columns: 1,
        lhs: Lambda::identity(Arg::Load(0), dtype),
        rhs: Lambda::identity(Arg::Load(1), dtype),
        products,
        epilogue: Lambda::identity(Arg::Reduced(0), dtype),
    });
    build.kernel(&[batch, rows, columns, terms], vec![lhs, rhs], body, output);
    build
}

/// Packed by fours where the terms are whole fours: one, several, those of a chunk and more; and one by one.
#[test]
fn integers_in_tiles_of_every_kind() {
    let integers = |sizes, transposed| products(sizes, transposed, Products::Integer(IntegerSpec::default()));
    for terms in [1, 3, 4, 8, 255, 256, 260, 1028] {
        check(&integers([2, 5, 7, terms], terms > 4));
    }
    for tile in tiles() {
        check_tile(&integers([1, 17, 20, 1028], tile.teams == 1), tile);
    }
}

#[test]
fn chunks_of_every_length() {
    for terms in [0, 1, 3, 255, 256, 257, 512, 600] {
        check(&matrices(2, 5, 7, terms, false));
        check(&matrices(1, 9, 4, terms, true));
    }
}

#[test]
fn sums_of_very_many_terms() {
    // More loop iterations than some devices make.
    let target = target();
    check_on(&matrices(1, 2, 3, 70_001, true), Data::Plain, "own", &target);
}

#[test]
fn matrices_of_every_shape() {
    for (rows, columns) in [(1, 1), (1, 33), (33, 1), (4, 6), (8, 8), (17, 19)] {
        check(&matrices(3, rows, columns, 20, rows > columns));
    }
}

#[test]
fn the_tiles_of_gpus() {
    let build = matrices(1, 70, 90, 300, true);
    let mut target = target();
    for shape in [tiled(16, 16, 2, 2, 32), tiled(16, 16, 4, 4, 16)] {
        target.shapes.contract = vec![shape];
        check_on(&build, Data::Small, "tiled", &target);
    }
}

/// Tiles of every kind: numbers and vectors, one buffer and two, terms repeated in the text, teams.
fn tiles() -> Vec<Tile> {
    let tile = |teams, threads: [u32; 2], own: [u32; 2], step, unrolled, buffers| Tile {
        teams,
        threads_rows: threads[0],
        threads_columns: threads[1],
        rows: own[0],
        columns: own[1],
        step,
        unrolled,
        buffers,
    };
    vec![
        tile(1, [4, 4], [4, 4], 16, 1, 1),
        tile(1, [2, 4], [4, 8], 8, 2, 2),
        tile(1, [4, 2], [1, 4], 4, 4, 2),
        tile(4, [2, 4], [4, 4], 16, 1, 1),
        tile(3, [2, 2], [3, 5], 2, 1, 2),
        tile(16, [1, 16], [1, 1], 16, 1, 1),
        tile(16, [16, 1], [1, 4], 16, 1, 1),
    ]
}

#[test]
fn tiles_of_every_kind() {
    // Whole vectors or not, a last chunk that is whole, short or one term, chunks past the last, a transposed operand.
    let shapes = [(1, 64, 64, 512, true), (2, 17, 20, 516, true), (1, 20, 24, 257, false), (3, 5, 36, 64, false)];
    for tile in tiles() {
        for (batch, rows, columns, terms, transposed) in shapes {
            check_tile(&matrices(batch, rows, columns, terms, transposed), tile);
        }
        check_tile(&convolution(true), tile);
        // Step by step: the first axis is a loop's.
        let mut steps = matrices(4, 5, 36, 300, true);
        steps.program.kernels[0].in_loop = Some(0);
        check_tile(&steps, tile);
    }
}

/// Checks a tile in native arithmetic, which alone has vectors; in the others too where compilers bear with it.
fn check_tile(build: &Build, tile: Tile) {
    let mut target = target();
    target.shapes.contract = vec![ContractShape::Tiled { tile, cost: COST }];
    let name = format!("{tile:?}");
    run(build, Data::Small, &name, &target);
    run(build, Data::Special, &name, &target);
    if tile.rows * tile.columns == 1 {
        check_on(build, Data::Special, &name, &target);
    }
}

#[test]
fn a_matrix_with_itself() {
    // One buffer for both operands, in vectors of terms and, where the epilogue reads it too, in numbers.
    for epilogue_reads in [false, true] {
        let mut build = Build::new();
        let a = build.input(DType::F32, &[20, 260]);
        let y = build.output(DType::F32, &[20, 20]);
        let lhs = build.access(a, &[(0, &[1, 0, 0]), (0, &[0, 0, 1])]);
        let rhs = build.access(a, &[(0, &[0, 1, 0]), (0, &[0, 0, 1])]);
        let own = build.access(a, &[(0, &[1, 0, 0]), (0, &[0, 1, 0])]);
        let output = build.identity(y, 3);
        let plain = |load| Lambda::identity(Arg::Load(load), DType::F32);
        let epilogue = if epilogue_reads {
            lambda(&[(Arg::Reduced(0), DType::F32), (Arg::Load(2), DType::F32)], |f, v| f.add(v[0], v[1]))
        } else {
            Lambda::identity(Arg::Reduced(0), DType::F32)
        };
        let (lhs_fn, rhs_fn, products) = (plain(0), plain(1), Products::default());
        let body =
            Body::Contract(Contract { batch: 0, rows: 1, columns: 1, lhs: lhs_fn, rhs: rhs_fn, products, epilogue });
        let loads = if epilogue_reads { vec![lhs, rhs, own] } else { vec![lhs, rhs] };
        build.kernel(&[20, 20, 260], loads, body, output);
        tiles().into_iter().for_each(|tile| check_tile(&build, tile));
    }
}

/// A convolution in two dimensions with padding, stride and dilation, channels last; a bias and a relu after it.
fn convolution(prepared: bool) -> Build {
    let (batch, height, width, channels, filters) = (2, 9, 7, 5, 6);
    let (out_height, out_width) = (5, 4);
    let mut build = Build::new();
    let x = build.input(DType::F32, &[batch, height, width, channels]);
    let w = build.input(DType::F32, &[filters, 3, 3, channels]);
    let bias = build.input(DType::F32, &[filters]);
    let y = build.output(DType::F32, &[batch, filters, out_height, out_width]);
    // Axes: rows are batch and position (0, 1, 2), the column is the filter (3), terms are taps and channels (4, 5, 6).
    let lhs = build.access(
        x,
        &[
            (0, &[1, 0, 0, 0, 0, 0, 0]),
            (-2, &[0, 2, 0, 0, 2, 0, 0]),
            (-1, &[0, 0, 2, 0, 0, 1, 0]),
            (0, &[0, 0, 0, 0, 0, 0, 1]),
        ],
    );
    let rhs = build.access(
        w,
        &[
            (0, &[0, 0, 0, 1, 0, 0, 0]),
            (0, &[0, 0, 0, 0, 1, 0, 0]),
            (0, &[0, 0, 0, 0, 0, 1, 0]),
            (0, &[0, 0, 0, 0, 0, 0, 1]),
        ],
    );
    let bias = build.access(bias, &[(0, &[0, 0, 0, 1, 0, 0, 0])]);
    let output = build.access(
        y,
        &[
            (0, &[1, 0, 0, 0, 0, 0, 0]),
            (0, &[0, 0, 0, 1, 0, 0, 0]),
            (0, &[0, 1, 0, 0, 0, 0, 0]),
            (0, &[0, 0, 1, 0, 0, 0, 0]),
        ],
    );
    let one = 1.0f32.to_bits();
    let loads = vec![guarded(lhs, if prepared { one } else { 0 }), rhs, bias];
    let plain = |load| Lambda::identity(Arg::Load(load), DType::F32);
    let (lhs, rhs) = if prepared {
        // Scaled by the channel's number on one side, masked by it on the other.
        let lhs = lambda(&[(Arg::Load(0), DType::F32), (Arg::Index(6), DType::U32)], |f, v| {
            let channel = f.convert(DType::F32, v[1]);
            f.mul(v[0], channel)
        });
        let rhs = lambda(&[(Arg::Load(1), DType::F32), (Arg::Index(6), DType::U32)], |f, v| {
            let (three, zero) = (f.u32(3), f.f32(0.0));
            let keep = f.compare(CompareOp::Lt, v[1], three);
            f.select(keep, v[0], zero)
        });
        (lhs, rhs)
    } else {
        (plain(0), plain(1))
    };
    let epilogue = lambda(&[(Arg::Reduced(0), DType::F32), (Arg::Load(2), DType::F32)], |f, v| {
        let sum = f.add(v[0], v[1]);
        let zero = f.f32(0.0);
        f.binary(loom_ir::kernel::scalar::BinaryOp::Max, sum, zero)
    });
    let products = Products::default();
    let body = Body::Contract(Contract { batch: 0, rows: 3, columns: 1, lhs, rhs, products, epilogue });
    build.kernel(&[batch, out_height, out_width, filters, 3, 3, channels], loads, body, output);
    build
}

#[test]
fn convolutions_with_padding_and_stride() {
    check(&convolution(false));
    check(&convolution(true));
}

#[test]
fn epilogues_change_the_type() {
    let mut build = matrices(1, 6, 5, 40, false);
    build.program.buffers[2].dtype = DType::Bool;
    if let Body::Contract(contract) = &mut build.program.kernels[0].body {
        contract.epilogue = lambda(&[(Arg::Reduced(0), DType::F32), (Arg::Index(2), DType::U32)], |f, v| {
            let column = f.convert(DType::F32, v[1]);
            f.compare(CompareOp::Gt, v[0], column)
        });
    }
    check(&build);
}
