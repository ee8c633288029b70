//! Gathers: rows in and out of range, of every type, with and without a place shared by four elements.

use loom_ir::kernel::scalar::ScalarFnBuilder;
use loom_ir::kernel::{Access, Arg, Body, BufferKind, Gather, Lambda};
use loom_ir::types::{DType, Shape};

use super::support::Net;

/// `index % more`: rows that are there, and some that aren't.
fn remainder(more: u32) -> Lambda {
    let mut b = ScalarFnBuilder::new();
    let index = b.param(DType::U32);
    let bound = b.u32(more);
    let place = b.binary(loom_ir::kernel::scalar::BinaryOp::Rem, index, bound);
    Lambda { args: vec![Arg::Load(0)], function: b.finish(place) }
}

#[test]
fn rows_of_a_table() {
    for dtype in DType::ALL {
        for (rows, size) in [(5, 1), (5, 3), (7, 4), (1, 9), (6, 70), (0, 5)] {
            let mut net = Net::new();
            let index = net.buffer(BufferKind::Input, DType::U32, &[2, 3]);
            let table = net.buffer(BufferKind::Input, dtype, &[rows, size]);
            let y = net.buffer(BufferKind::Output, dtype, &[2, 3, size]);
            let loads = vec![
                net.access(index, &[(0, &[1, 0, 0, 0]), (0, &[0, 1, 0, 0])]),
                net.access(table, &[(0, &[0, 0, 0, 1]), (0, &[0, 0, 1, 0])]),
            ];
            let result = Lambda::identity(Arg::Load(1), dtype);
            let body = Body::Gather(Gather { index: remainder(rows as u32 + 2), result });
            net.kernel(&[2, 3, size, rows], loads, body, Access::identity(y, Shape::from([2, 3, size]), 4));
            net.check();
        }
    }
}

#[test]
fn places_that_move_along_the_innermost_axis() {
    for count in [1, 4, 7, 5000] {
        let mut net = Net::new();
        let index = net.buffer(BufferKind::Input, DType::U32, &[count]);
        let (table, y) = (net.input(&[11]), net.output(&[count]));
        let loads = vec![net.access(index, &[(0, &[1, 0])]), net.padded(table, &[(-2, &[0, 1])], 0x4040_0000)];
        // The value uses the row's number, and a guard that fails for some rows.
        let mut b = ScalarFnBuilder::new();
        let (x, row, at) = (b.param(DType::F32), b.param(DType::U32), b.param(DType::U32));
        let number = b.add(row, at);
        let number = b.convert(DType::F32, number);
        let sum = b.add(x, number);
        let result = Lambda { args: vec![Arg::Load(1), Arg::Index(1), Arg::Index(0)], function: b.finish(sum) };
        let body = Body::Gather(Gather { index: remainder(15), result });
        net.kernel(&[count, 13], loads, body, Access::identity(y, Shape::from([count]), 2));
        net.check();
    }
}

#[test]
fn one_element() {
    let mut net = Net::new();
    let index = net.buffer(BufferKind::Input, DType::U32, &[]);
    let (table, y) = (net.input(&[3]), net.output(&[]));
    let loads = vec![net.access(index, &[]), net.access(table, &[(0, &[1])])];
    let result = Lambda::identity(Arg::Load(1), DType::F32);
    let body = Body::Gather(Gather { index: remainder(4), result });
    net.kernel(&[3], loads, body, Access::identity(y, Shape::from([]), 1));
    net.check();
}
