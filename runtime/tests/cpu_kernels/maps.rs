use loom_ir::kernel::scalar::{BinaryOp, CompareOp, ScalarFnBuilder, UnaryOp, Value};
use loom_ir::kernel::{Access, Arg, Body, BufferKind, Lambda, Reduce, ReduceOp, Stage};
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::{DType, Shape};

use crate::support::{Net, of_loads};

#[test]
fn elementwise_of_every_length() {
    for n in [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 4095, 4096, 4097, 9001] {
        let mut net = Net::new();
        let (x, y, z) = (net.input(&[n]), net.weight(&[n]), net.output(&[n]));
        let loads = vec![net.access(x, &[(0, &[1])]), net.access(y, &[(0, &[1])])];
        let body = of_loads(2, |b, p| {
            let product = b.mul(p[0], p[1]);
            let zero = b.f32(0.0);
            let relu = b.binary(BinaryOp::Max, product, zero);
            b.add(relu, p[0])
        });
        net.kernel(&[n], loads, Body::Map(body), Access::identity(z, Shape::from([n]), 1));
        net.check();
    }
}

#[test]
fn scalars_without_axes() {
    let mut net = Net::new();
    let (x, z) = (net.input(&[]), net.output(&[]));
    let loads = vec![net.access(x, &[])];
    net.kernel(&[], loads, Body::Map(of_loads(1, |b, p| b.unary(UnaryOp::Neg, p[0]))), net.access(z, &[]));
    net.check();
}

#[test]
fn transposes_broadcasts_and_reversals() {
    let mut net = Net::new();
    let (x, bias, y) = (net.input(&[5, 7, 6]), net.weight(&[7]), net.output(&[6, 7, 5]));
    let loads = vec![
        net.access(x, &[(0, &[0, 0, 1]), (6, &[0, -1, 0]), (0, &[1, 0, 0])]),
        net.access(bias, &[(0, &[0, 1, 0])]),
    ];
    let body = Body::Map(of_loads(2, |b, p| b.sub(p[0], p[1])));
    net.kernel(&[6, 7, 5], loads, body, Access::identity(y, Shape::from([6, 7, 5]), 3));
    // The output transposed: the innermost axis in memory is the first.
    let z = net.output(&[5, 6]);
    let loads = vec![net.access(x, &[(0, &[0, 1]), (3, &[0, 0]), (0, &[1, 0])])];
    let output = net.access(z, &[(0, &[0, 1]), (0, &[1, 0])]);
    net.kernel(&[6, 5], loads, Body::Map(of_loads(1, |b, p| b.unary(UnaryOp::Abs, p[0]))), output);
    net.check();
}

#[test]
fn padding_slices_and_strides() {
    for (n, pad) in [(1, 0), (3, 1), (4, 2), (9, 3), (17, 1)] {
        let mut net = Net::new();
        let (out_h, out_w) = (n + pad as u64 + 1, n + 2 * pad as u64);
        let (x, y) = (net.input(&[n, n]), net.output(&[out_h, out_w]));
        let load = net.padded(x, &[(-pad, &[1, 0]), (-pad, &[0, 1])], 0xbf80_0000);
        let identity = Body::Map(Lambda::identity(Arg::Load(0), DType::F32));
        net.kernel(&[out_h, out_w], vec![load], identity.clone(), Access::identity(y, Shape::from([out_h, out_w]), 2));
        let every = n.div_ceil(2);
        let z = net.output(&[every]);
        let load = net.access(x, &[(0, &[2]), (0, &[0])]);
        net.kernel(&[every], vec![load], identity, Access::identity(z, Shape::from([every]), 1));
        net.check();
    }
}

#[test]
fn guards_across_axes_and_on_empty_buffers() {
    let mut net = Net::new();
    let (x, empty, y) = (net.input(&[10]), net.input(&[0]), net.output(&[6, 9]));
    // A triangle: 0 <= i + j - 4 < 10; and a buffer that can't be read at all.
    let loads = vec![net.padded(x, &[(-4, &[1, 1])], 7), net.padded(empty, &[(-3, &[0, 1])], 0x3f80_0000)];
    let body = Body::Map(of_loads(2, |b, p| b.add(p[0], p[1])));
    net.kernel(&[6, 9], loads, body, Access::identity(y, Shape::from([6, 9]), 2));
    net.check();
}

#[test]
fn indices_bools_and_integers() {
    let mut net = Net::new();
    let mask = net.buffer(BufferKind::Input, DType::Bool, &[3, 11]);
    let count = net.buffer(BufferKind::Input, DType::I32, &[11]);
    let (x, y) = (net.input(&[3, 11]), net.output(&[3, 11]));
    let flags = net.buffer(BufferKind::Output, DType::Bool, &[3, 11]);
    let loads = vec![
        net.access(x, &[(0, &[1, 0]), (0, &[0, 1])]),
        net.access(mask, &[(0, &[1, 0]), (0, &[0, 1])]),
        net.access(count, &[(0, &[0, 1])]),
    ];
    let mut b = ScalarFnBuilder::new();
    let params = [DType::F32, DType::Bool, DType::I32, DType::U32, DType::U32].map(|dtype| b.param(dtype));
    let [x0, m, c, i, j] = params;
    let (i, c) = (b.convert(DType::F32, i), b.convert(DType::F32, c));
    let j = b.convert(DType::F32, j);
    let sum = b.add(i, c);
    let product = b.mul(sum, j);
    let chosen = b.select(m, product, x0);
    let args = vec![Arg::Load(0), Arg::Load(1), Arg::Load(2), Arg::Index(0), Arg::Index(1)];
    let body = Lambda { args: args.clone(), function: b.clone().finish(chosen) };
    net.kernel(&[3, 11], loads.clone(), Body::Map(body), Access::identity(y, Shape::from([3, 11]), 2));
    let less = b.compare(CompareOp::Lt, x0, product);
    let flag = b.binary(BinaryOp::Xor, less, m);
    let body = Lambda { args, function: b.finish(flag) };
    net.kernel(&[3, 11], loads, Body::Map(body), Access::identity(flags, Shape::from([3, 11]), 2));
    // Bools through memory, with a guard.
    let shifted = net.buffer(BufferKind::Output, DType::Bool, &[3, 11]);
    let load = net.padded(flags, &[(0, &[1, 0]), (-2, &[0, 1])], 1);
    let output = Access::identity(shifted, Shape::from([3, 11]), 2);
    net.kernel(&[3, 11], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::Bool)), output);
    net.check();
}

/// More values and conditions at once than there are registers of either kind, from more streams than have an address in a
/// register, and from values that are the same along a row.
#[test]
fn more_values_than_registers() {
    for n in [5, 16, 100] {
        let mut net = Net::new();
        let mut loads = Vec::new();
        for load in 0..7 {
            let (shape, coords): (&[u64], &[(i64, &[i64])]) =
                if load < 5 { (&[3, n], &[(0, &[1, 0]), (0, &[0, 1])]) } else { (&[3], &[(0, &[1, 0])]) };
            let x = net.input(shape);
            loads.push(net.access(x, coords));
        }
        let body = of_loads(7, |b, p| {
            let value = |b: &mut ScalarFnBuilder, i: usize| {
                let scale = b.f32(1.0 + i as f32 / 64.0);
                let scaled = b.mul(p[i % 7], scale);
                b.sub(scaled, p[(i + 3) % 7])
            };
            let values: Vec<Value> = (0..48).map(|i| value(b, i)).collect();
            let conditions: Vec<Value> = values.iter().map(|&value| b.compare(CompareOp::Lt, value, p[5])).collect();
            let mut sum = p[6];
            for i in 0..48 {
                let chosen = b.select(conditions[47 - i], values[i], values[(i * 7) % 48]);
                sum = b.add(sum, chosen);
            }
            sum
        });
        let z = net.output(&[3, n]);
        net.kernel(&[3, n], loads, Body::Map(body), Access::identity(z, Shape::from([3, n]), 2));
        net.check();
    }
}

/// Bools and indices, one after another and the same along a row, in maps and in reductions of every kind.
#[test]
fn bools_and_indices_along_rows() {
    let n = 45;
    let mut net = Net::new();
    let x = net.input(&[3, n]);
    let flags = net.buffer(BufferKind::Input, DType::Bool, &[3, n]);
    let row_flag = net.buffer(BufferKind::Input, DType::Bool, &[3]);
    let along: &[(i64, &[i64])] = &[(0, &[1, 0]), (0, &[0, 1])];
    let loads = vec![net.access(x, along), net.access(flags, along), net.access(row_flag, &[(0, &[1, 0])])];
    let args = vec![Arg::Load(0), Arg::Load(1), Arg::Load(2), Arg::Index(0), Arg::Index(1)];
    let build = |to: DType| {
        let mut b = ScalarFnBuilder::new();
        let [x, flag, row_flag] = [DType::F32, DType::Bool, DType::Bool].map(|dtype| b.param(dtype));
        let [row, column] = [DType::U32; 2].map(|dtype| b.param(dtype));
        let both = b.binary(BinaryOp::Xor, flag, row_flag);
        let sum = b.add(row, column);
        let number = b.convert(DType::F32, sum);
        let product = b.mul(x, number);
        let chosen = b.select(both, product, x);
        let result = if to == DType::Bool { both } else { b.convert(to, chosen) };
        b.finish(result)
    };
    for to in DType::ALL {
        let lambda = Lambda { args: args.clone(), function: build(to) };
        let z = net.buffer(BufferKind::Output, to, &[3, n]);
        net.kernel(&[3, n], loads.clone(), Body::Map(lambda.clone()), Access::identity(z, Shape::from([3, n]), 2));
        let sum = ReduceOp::Sum(SumSpec { block: 4096, lanes: 32 });
        let ops: &[ReduceOp] = match to {
            DType::Bool => &[],
            DType::F32 => &[sum],
            _ => &[sum, ReduceOp::Max, ReduceOp::Min],
        };
        for &op in ops {
            let y = net.buffer(BufferKind::Output, to, &[3]);
            let result = Lambda::identity(Arg::Reduced(0), to);
            let stages = vec![Stage { input: lambda.clone(), op }];
            let body = Body::Reduce(Reduce { reduced: 1, stages, result, per_element: false });
            net.kernel(&[3, n], loads.clone(), body, net.access(y, &[(0, &[1, 0])]));
        }
    }
    net.check();
}
