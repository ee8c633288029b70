//! Gathers: rows in and out of range, of every type.

use loom_ir::kernel::scalar::BinaryOp;
use loom_ir::kernel::{Arg, Body, Gather, Lambda};
use loom_ir::types::DType;

use crate::build::{Build, check, guarded, lambda};

/// `index % more`: rows that are there, and some that aren't.
fn remainder(more: u32) -> Lambda {
    lambda(&[(Arg::Load(0), DType::U32)], |f, v| {
        let bound = f.u32(more);
        f.binary(BinaryOp::Rem, v[0], bound)
    })
}

#[test]
fn rows_of_a_table() {
    let mut build = Build::new();
    for dtype in DType::ALL {
        for (rows, size) in [(5, 1), (7, 4), (1, 9), (0, 5)] {
            let (index, table) = (build.input(DType::U32, &[2, 3]), build.input(dtype, &[rows, size]));
            let y = build.output(dtype, &[2, 3, size]);
            let loads = vec![
                build.access(index, &[(0, &[1, 0, 0, 0]), (0, &[0, 1, 0, 0])]),
                build.access(table, &[(0, &[0, 0, 0, 1]), (0, &[0, 0, 1, 0])]),
            ];
            let result = Lambda::identity(Arg::Load(1), dtype);
            let body = Body::Gather(Gather { index: remainder(rows as u32 + 2), result });
            let output = build.identity(y, 4);
            build.kernel(&[2, 3, size, rows], loads, body, output);
        }
    }
    check(&build);
}

#[test]
fn places_and_values_of_their_own_indices() {
    let mut build = Build::new();
    for count in [1, 50] {
        let (index, table) = (build.input(DType::U32, &[count]), build.input(DType::F32, &[11]));
        let y = build.output(DType::F32, &[count]);
        let loads =
            vec![build.access(index, &[(0, &[1, 0])]), guarded(build.access(table, &[(-2, &[0, 1])]), 0x4040_0000)];
        let args = [(Arg::Load(1), DType::F32), (Arg::Index(1), DType::U32), (Arg::Index(0), DType::U32)];
        let result = lambda(&args, |f, v| {
            let number = f.add(v[1], v[2]);
            let number = f.convert(DType::F32, number);
            f.add(v[0], number)
        });
        let body = Body::Gather(Gather { index: remainder(15), result });
        let output = build.identity(y, 2);
        build.kernel(&[count, 13], loads, body, output);
    }
    check(&build);
}
