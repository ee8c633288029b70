use loom_ir::kernel::scalar::{BinaryOp, ScalarFnBuilder, UnaryOp};
use loom_ir::kernel::{Access, Arg, Body, BufferKind, Lambda, Reduce, ReduceOp, Stage};
use loom_ir::numerics::order;
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::{DType, Shape};

use crate::support::{Net, Values, of_loads};

const SUM: ReduceOp = ReduceOp::Sum(SumSpec { block: 4096, lanes: 32 });

fn sum_of(input: Lambda, reduced: usize) -> Body {
    let result = Lambda::identity(Arg::Reduced(0), DType::F32);
    Body::Reduce(Reduce { reduced, stages: vec![Stage { input, op: SUM }], result, per_element: false })
}

fn load() -> Lambda {
    Lambda::identity(Arg::Load(0), DType::F32)
}

/// Costly enough not to be written eight times.
fn heavy() -> Lambda {
    of_loads(1, |b, p| {
        let mut x = p[0];
        for _ in 0..9 {
            let square = b.mul(x, p[0]);
            x = b.sub(square, p[0]);
        }
        x
    })
}

const LENGTHS: [u64; 20] = [0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 36, 63, 64, 100, 4095, 4096, 4097, 8192, 10000];

#[test]
fn sums_along_rows_of_every_length() {
    for n in LENGTHS {
        for term in [load(), heavy()] {
            let mut net = Net::new();
            let (x, y) = (net.input(&[3, n]), net.output(&[3]));
            let loads = vec![net.access(x, &[(0, &[1, 0]), (0, &[0, 1])])];
            net.kernel(&[3, n], loads, sum_of(term, 1), net.access(y, &[(0, &[1, 0])]));
            net.check();
        }
    }
}

#[test]
fn sums_across_rows_of_every_length() {
    for n in LENGTHS {
        for rows in [1, 3, 4, 6] {
            if n * rows > 40_000 && rows != 6 {
                continue;
            }
            let mut net = Net::new();
            sums(&mut net, rows, n, false);
            net.check();
        }
    }
}

/// Sums of rows that lie along memory or across it.
pub fn sums(net: &mut Net, rows: u64, n: u64, along: bool) {
    let (shape, coords): ([u64; 2], [(i64, &[i64]); 2]) =
        if along { ([rows, n], [(0, &[1, 0]), (0, &[0, 1])]) } else { ([n, rows], [(0, &[0, 1]), (0, &[1, 0])]) };
    let (x, y) = (net.input(&shape), net.output(&[rows]));
    let loads = vec![net.access(x, &coords)];
    net.kernel(&[rows, n], loads, sum_of(load(), 1), net.access(y, &[(0, &[1, 0])]));
}

#[test]
fn negative_zeros_sum_to_positive_zero() {
    for n in [1, 2, 31, 33] {
        let mut net = Net::new();
        let kind = BufferKind::Constant(vec![0x8000_0000; n as usize * 5]);
        let x = net.buffer(kind, DType::F32, &[5, n]);
        let (y, z) = (net.output(&[5]), net.output(&[n]));
        let loads = vec![net.access(x, &[(0, &[1, 0]), (0, &[0, 1])])];
        net.kernel(&[5, n], loads, sum_of(load(), 1), net.access(y, &[(0, &[1, 0])]));
        let loads = vec![net.access(x, &[(0, &[0, 1]), (0, &[1, 0])])];
        net.kernel(&[n, 5], loads, sum_of(load(), 1), net.access(z, &[(0, &[1, 0])]));
        net.check();
    }
}

#[test]
#[ignore = "two levels of block sums take the interpreter a while: run with --ignored"]
fn sums_of_three_levels() {
    let n = 4096 * 4096 + 5;
    for along in [true, false] {
        let mut net = Net::new();
        sums(&mut net, 1, n, along);
        net.check_with(Values::Ordinary);
    }
}

/// Average pooling, with padding zeros counted: `(channels, size)`, `(window, stride, pad)`.
pub fn pooling(net: &mut Net, (channels, size): (u64, u64), (window, stride, pad): (u64, u64, u64)) {
    let (axes, coords) = windows((channels, size), (window, stride, pad));
    let x = net.input(&[2, channels, size, size]);
    let y = net.output(&axes[..4]);
    let coords: Vec<(i64, &[i64])> = coords.iter().map(|(offset, list)| (*offset, list.as_slice())).collect();
    let loads = vec![net.padded(x, &coords, 0)];
    net.kernel(&axes, loads, sum_of(load(), 2), Access::identity(y, Shape::new(&axes[..4]), 6));
}

type Coords = Vec<(i64, [i64; 6])>;

/// Axes and coordinates of windows over two images: sample, channel, y, x, dy, dx.
fn windows((channels, size): (u64, u64), (window, stride, pad): (u64, u64, u64)) -> ([u64; 6], Coords) {
    let out = (size + 2 * pad - window) / stride + 1;
    let (s, p) = (stride as i64, pad as i64);
    let coords =
        vec![(0, [1, 0, 0, 0, 0, 0]), (0, [0, 1, 0, 0, 0, 0]), (-p, [0, 0, s, 0, 1, 0]), (-p, [0, 0, 0, s, 0, 1])];
    ([2, channels, out, out, window, window], coords)
}

#[test]
fn windows_over_images() {
    // Average and maximum pooling, padded, strided, channels first.
    for (size, window, stride, pad) in [(8, 2, 2, 0), (9, 3, 2, 1), (13, 3, 1, 1), (7, 5, 3, 2), (3, 7, 1, 3)] {
        let mut net = Net::new();
        pooling(&mut net, (3, size), (window, stride, pad));
        let (axes, coords) = windows((3, size), (window, stride, pad));
        let x = net.input(&[2, 3, size, size]);
        let z = net.output(&axes[..4]);
        let coords: Vec<(i64, &[i64])> = coords.iter().map(|(offset, list)| (*offset, list.as_slice())).collect();
        let loads = vec![net.padded(x, &coords, 0xff80_0000)];
        let input = Lambda { args: vec![Arg::Load(0)], function: order::single().max_key.clone() };
        let result = Lambda { args: vec![Arg::Reduced(0)], function: order::single().from_max_key.clone() };
        let stages = vec![Stage { input, op: ReduceOp::Max }];
        let body = Body::Reduce(Reduce { reduced: 2, stages, result, per_element: false });
        net.kernel(&axes, loads, body, Access::identity(z, Shape::new(&axes[..4]), 6));
        net.check();
    }
}

#[test]
fn means_of_channels_last_images() {
    for (size, channels) in [(3, 5), (8, 4), (9, 13), (70, 6)] {
        let mut net = Net::new();
        let (x, y) = (net.input(&[2, size, size, channels]), net.output(&[2, channels]));
        let coords: [(i64, &[i64]); 4] =
            [(0, &[1, 0, 0, 0]), (0, &[0, 0, 1, 0]), (0, &[0, 0, 0, 1]), (0, &[0, 1, 0, 0])];
        let loads = vec![net.access(x, &coords)];
        let axes = [2, channels, size, size];
        net.kernel(&axes, loads, sum_of(load(), 2), Access::identity(y, Shape::from([2, channels]), 4));
        net.check();
    }
}

/// softmax: a maximum by keys, a sum of functions of it, a quotient for each element.
pub fn softmax(net: &mut Net, rows: u64, n: u64, along: bool) {
    let (shape, coords): ([u64; 2], [(i64, &[i64]); 2]) =
        if along { ([rows, n], [(0, &[1, 0]), (0, &[0, 1])]) } else { ([n, rows], [(0, &[0, 1]), (0, &[1, 0])]) };
    let x = net.input(&shape);
    let y = net.output(&shape);
    let loads = vec![net.access(x, &coords)];
    let key = Lambda { args: vec![Arg::Load(0)], function: order::single().max_key.clone() };
    let with_max = |b: &mut ScalarFnBuilder| {
        let (value, key) = (b.param(DType::F32), b.param(order::single().from_max_key.params[0]));
        let most = b.call(&order::single().from_max_key, &[key]);
        let difference = b.sub(value, most);
        b.unary(UnaryOp::Exp, difference)
    };
    let mut b = ScalarFnBuilder::new();
    let exp = with_max(&mut b);
    let exp = Lambda { args: vec![Arg::Load(0), Arg::Reduced(0)], function: b.finish(exp) };
    let mut b = ScalarFnBuilder::new();
    let (value, key_param, sum) =
        (b.param(DType::F32), b.param(order::single().from_max_key.params[0]), b.param(DType::F32));
    let most = b.call(&order::single().from_max_key, &[key_param]);
    let difference = b.sub(value, most);
    let e = b.unary(UnaryOp::Exp, difference);
    let quotient = b.div(e, sum);
    let result = Lambda { args: vec![Arg::Load(0), Arg::Reduced(0), Arg::Reduced(1)], function: b.finish(quotient) };
    let stages = vec![Stage { input: key, op: ReduceOp::Max }, Stage { input: exp, op: SUM }];
    let body = Body::Reduce(Reduce { reduced: 1, stages, result, per_element: true });
    let output = net.access(y, &coords);
    net.kernel(&[rows, n], loads, body, output);
}

#[test]
fn softmaxes() {
    for n in [1, 3, 5, 10, 33, 130, 4100] {
        for along in [true, false] {
            let mut net = Net::new();
            softmax(&mut net, 6, n, along);
            // And with its results the other way round in memory than what it reads.
            let shape = if along { [n, 6] } else { [6, n] };
            let z = net.output(&shape);
            let coords: [(i64, &[i64]); 2] =
                if along { [(0, &[0, 1]), (0, &[1, 0])] } else { [(0, &[1, 0]), (0, &[0, 1])] };
            let mut kernel = net.program.kernels[0].clone();
            kernel.name = "turned".to_string();
            kernel.output = net.access(z, &coords);
            net.program.kernels.push(kernel);
            net.check();
        }
    }
}

#[test]
fn integer_reductions() {
    for dtype in [DType::I32, DType::U32] {
        for op in [SUM, ReduceOp::Max, ReduceOp::Min] {
            for n in [0, 1, 5, 8, 41] {
                for along in [true, false] {
                    let mut net = Net::new();
                    let (shape, coords): ([u64; 2], [(i64, &[i64]); 2]) = if along {
                        ([5, n], [(0, &[1, 0]), (0, &[0, 1])])
                    } else {
                        ([n, 5], [(0, &[0, 1]), (0, &[1, 0])])
                    };
                    let x = net.buffer(BufferKind::Input, dtype, &shape);
                    let y = net.buffer(BufferKind::Output, dtype, &[5]);
                    let loads = vec![net.access(x, &coords)];
                    let stages = vec![Stage { input: Lambda::identity(Arg::Load(0), dtype), op }];
                    let result = Lambda::identity(Arg::Reduced(0), dtype);
                    let body = Body::Reduce(Reduce { reduced: 1, stages, result, per_element: false });
                    net.kernel(&[5, n], loads, body, net.access(y, &[(0, &[1, 0])]));
                    net.check();
                }
            }
        }
    }
}

#[test]
fn no_terms_still_have_an_epilogue() {
    // The sum of nothing plus a guarded bias: the guard depends on the row, which is not empty.
    let mut net = Net::new();
    let (x, bias, y) = (net.input(&[6, 0]), net.weight(&[3]), net.output(&[6]));
    let loads = vec![net.access(x, &[(0, &[1, 0]), (0, &[0, 1])]), net.padded(bias, &[(-1, &[1, 0])], 0x4000_0000)];
    let stages = vec![Stage { input: load(), op: SUM }];
    let mut b = ScalarFnBuilder::new();
    let (sum, bias) = (b.param(DType::F32), b.param(DType::F32));
    let both = b.binary(BinaryOp::Add, sum, bias);
    let result = Lambda { args: vec![Arg::Reduced(0), Arg::Load(1)], function: b.finish(both) };
    let body = Body::Reduce(Reduce { reduced: 1, stages, result, per_element: false });
    net.kernel(&[6, 0], loads, body, net.access(y, &[(0, &[1, 0])]));
    net.check();
}
