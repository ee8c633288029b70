use loom_ir::kernel::scalar::BinaryOp;
use loom_ir::kernel::{Access, Arg, Body, BufferId, Contract, Lambda};
use loom_ir::numerics::reduction::Products;
use loom_ir::types::{DType, Shape};

use crate::support::{Net, Values, function, of_loads};

fn load(number: u32) -> Lambda {
    Lambda::identity(Arg::Load(number), DType::F32)
}

fn contract(batch: usize, rows: usize, columns: usize, epilogue: Lambda) -> Body {
    let (lhs, rhs) = (load(0), load(1));
    Body::Contract(Contract { batch, rows, columns, lhs, rhs, products: Products::default(), epilogue })
}

fn plain() -> Lambda {
    Lambda::identity(Arg::Reduced(0), DType::F32)
}

/// The total plus load 2, through relu.
fn biased() -> Lambda {
    let function = function(2, |b, p| {
        let sum = b.add(p[0], p[1]);
        let zero = b.f32(0.0);
        b.binary(BinaryOp::Max, sum, zero)
    });
    Lambda { args: vec![Arg::Reduced(0), Arg::Load(2)], function }
}

/// `y[m, n] = x[m, k] · w[n, k] + b[n]`
pub fn dense(net: &mut Net, (m, n, k): (u64, u64, u64), weights: bool) {
    let x = net.input(&[m, k]);
    let w = if weights { net.weight(&[n, k]) } else { net.input(&[n, k]) };
    let (b, y) = (net.weight(&[n]), net.output(&[m, n]));
    let loads = vec![
        net.access(x, &[(0, &[1, 0, 0]), (0, &[0, 0, 1])]),
        net.access(w, &[(0, &[0, 1, 0]), (0, &[0, 0, 1])]),
        net.access(b, &[(0, &[0, 1, 0])]),
    ];
    net.kernel(&[m, n, k], loads, contract(0, 1, 1, biased()), Access::identity(y, Shape::from([m, n]), 3));
}

#[test]
fn lengths_of_chunks_and_beyond() {
    for k in [0, 1, 2, 3, 4, 5, 255, 256, 257, 511, 512, 513, 600] {
        for (m, n) in [(1, 5), (5, 9)] {
            let mut net = Net::new();
            dense(&mut net, (m, n, k), true);
            net.check();
        }
    }
}

#[test]
fn rows_and_columns_of_every_tail() {
    for m in 1..=17 {
        for n in [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 65] {
            let mut net = Net::new();
            dense(&mut net, (m, n, 19), (m + n) % 2 == 0);
            net.check_with(Values::Ordinary);
        }
    }
}

#[test]
fn empty_contractions() {
    for shape in [(0, 4, 3), (4, 0, 3), (0, 0, 0), (3, 3, 0)] {
        let mut net = Net::new();
        dense(&mut net, shape, true);
        net.check();
    }
}

#[test]
fn enough_tiles_for_groups_and_stretches() {
    let mut net = Net::new();
    dense(&mut net, (70, 300, 40), true);
    dense(&mut net, (300, 70, 300), true);
    dense(&mut net, (150, 150, 20), false);
    net.check_with(Values::Ordinary);
}

/// A batched product in any layout of the operands and the output.
#[test]
fn batches_and_transposes() {
    for (m, n) in [(5, 6), (1, 9), (9, 1), (16, 12)] {
        let (batch, k) = (3, 21);
        let mut net = Net::new();
        let (x, w) = (net.input(&[k, batch, m]), net.input(&[batch, k, n]));
        let axes = [batch, m, n, k];
        let loads = || {
            vec![
                net.access(x, &[(0, &[0, 0, 0, 1]), (0, &[1, 0, 0, 0]), (0, &[0, 1, 0, 0])]),
                net.access(w, &[(0, &[1, 0, 0, 0]), (0, &[0, 0, 0, 1]), (0, &[0, 0, 1, 0])]),
            ]
        };
        let loads = [loads(), loads()];
        let [first, second] = loads;
        let y = net.output(&[batch, m, n]);
        net.kernel(&axes, first, contract(1, 1, 1, plain()), Access::identity(y, Shape::from([batch, m, n]), 4));
        // Columns before rows, batches last.
        let z = net.output(&[n, m, batch]);
        let output = net.access(z, &[(0, &[0, 0, 1, 0]), (0, &[0, 1, 0, 0]), (0, &[1, 0, 0, 0])]);
        net.kernel(&axes, second, contract(1, 1, 1, plain()), output);
        net.check();
    }
}

pub struct Conv {
    pub samples: u64,
    pub groups: u64,
    pub channels: u64,
    pub filters: u64,
    pub size: u64,
    pub window: u64,
    pub stride: u64,
    pub pad: u64,
    pub channels_last: bool,
}

/// Groups are batch axes, filters rows, positions columns; `k = position · C + c`.
pub fn convolution(net: &mut Net, c: &Conv) {
    let out = (c.size + 2 * c.pad - c.window) / c.stride + 1;
    let (s, p) = (c.stride as i64, c.pad as i64);
    let (in_channels, filters) = (c.channels * c.groups, c.filters * c.groups);
    // Axes: sample, group, filter, y, x, dy, dx, channel.
    let axes = [c.samples, c.groups, c.filters, out, out, c.window, c.window, c.channels];
    let sample: (i64, &[i64]) = (0, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let channel = [0, c.channels as i64, 0, 0, 0, 0, 0, 1];
    let row = [0, 0, 0, s, 0, 1, 0, 0];
    let column = [0, 0, 0, 0, s, 0, 1, 0];
    let filter = [0, c.filters as i64, 1, 0, 0, 0, 0, 0];
    let y = [0, 0, 0, 1, 0, 0, 0, 0];
    let x = [0, 0, 0, 0, 1, 0, 0, 0];
    let (image, output): (BufferId, BufferId);
    let (load_image, store);
    if c.channels_last {
        image = net.input(&[c.samples, c.size, c.size, in_channels]);
        output = net.output(&[c.samples, out, out, filters]);
        load_image = net.padded(image, &[sample, (-p, &row), (-p, &column), (0, &channel)], 0);
        store = net.access(output, &[sample, (0, &y), (0, &x), (0, &filter)]);
    } else {
        image = net.input(&[c.samples, in_channels, c.size, c.size]);
        output = net.output(&[c.samples, filters, out, out]);
        load_image = net.padded(image, &[sample, (0, &channel), (-p, &row), (-p, &column)], 0);
        store = net.access(output, &[sample, (0, &filter), (0, &y), (0, &x)]);
    }
    let weights = net.weight(&[filters, c.channels, c.window, c.window]);
    let bias = net.weight(&[filters]);
    let loads = vec![
        net.access(
            weights,
            &[
                (0, &filter),
                (0, &[0, 0, 0, 0, 0, 0, 0, 1]),
                (0, &[0, 0, 0, 0, 0, 1, 0, 0]),
                (0, &[0, 0, 0, 0, 0, 0, 1, 0]),
            ],
        ),
        load_image,
        net.access(bias, &[(0, &filter)]),
    ];
    net.kernel(&axes, loads, contract(2, 1, 2, biased()), store);
}

#[test]
fn convolutions() {
    let base = Conv {
        samples: 2,
        groups: 1,
        channels: 3,
        filters: 5,
        size: 9,
        window: 3,
        stride: 1,
        pad: 1,
        channels_last: false,
    };
    let shapes = [
        Conv { ..base },
        Conv { channels_last: true, ..base },
        Conv { stride: 2, ..base },
        Conv { stride: 2, channels_last: true, ..base },
        Conv { groups: 2, ..base },
        Conv { groups: 3, channels: 1, filters: 1, channels_last: true, ..base },
        Conv { channels: 1, filters: 8, size: 28, ..base },
        Conv { channels: 40, filters: 9, size: 10, pad: 0, samples: 1, ..base },
        Conv { window: 1, pad: 0, channels: 33, ..base },
        Conv { window: 5, pad: 4, size: 6, ..base },
        Conv { window: 7, pad: 3, size: 4, stride: 3, filters: 1, ..base },
        Conv { size: 13, pad: 0, filters: 2, samples: 1, ..base },
    ];
    for shape in &shapes {
        let mut net = Net::new();
        convolution(&mut net, shape);
        net.check();
    }
}

#[test]
fn prologues_and_rich_epilogues() {
    let (m, n, k) = (7, 10, 30);
    let mut net = Net::new();
    let (x, scale, w, residual, y) =
        (net.input(&[m, k]), net.weight(&[k]), net.weight(&[n, k]), net.input(&[n, m]), net.output(&[m, n]));
    let loads = vec![
        net.access(x, &[(0, &[1, 0, 0]), (0, &[0, 0, 1])]),
        net.access(scale, &[(0, &[0, 0, 1])]),
        net.access(w, &[(0, &[0, 1, 0]), (0, &[0, 0, 1])]),
        net.access(residual, &[(0, &[0, 1, 0]), (0, &[1, 0, 0])]),
    ];
    let lhs = of_loads(2, |b, p| {
        let half = b.f32(0.5);
        let product = b.mul(p[0], p[1]);
        b.add(product, half)
    });
    let rhs = Lambda { args: vec![Arg::Load(2), Arg::Load(1)], function: function(2, |b, p| b.sub(p[0], p[1])) };
    let mut b = loom_ir::kernel::scalar::ScalarFnBuilder::new();
    let (total, residual, row, column) =
        (b.param(DType::F32), b.param(DType::F32), b.param(DType::U32), b.param(DType::U32));
    let (row, column) = (b.convert(DType::F32, row), b.convert(DType::F32, column));
    let sum = b.add(total, residual);
    let product = b.mul(row, column);
    let result = b.sub(sum, product);
    let epilogue =
        Lambda { args: vec![Arg::Reduced(0), Arg::Load(3), Arg::Index(0), Arg::Index(1)], function: b.finish(result) };
    let body = Contract { batch: 0, rows: 1, columns: 1, lhs, rhs, products: Products::default(), epilogue };
    net.kernel(&[m, n, k], loads, Body::Contract(body), Access::identity(y, Shape::from([m, n]), 3));
    net.check();
}

#[test]
fn an_outer_product_has_no_shared_axis() {
    let mut net = Net::new();
    let (x, w, y) = (net.input(&[6]), net.input(&[5]), net.output(&[6, 5]));
    let loads = vec![net.access(x, &[(0, &[1, 0])]), net.access(w, &[(0, &[0, 1])])];
    net.kernel(&[6, 5], loads, contract(0, 1, 1, plain()), Access::identity(y, Shape::from([6, 5]), 2));
    net.check();
}
