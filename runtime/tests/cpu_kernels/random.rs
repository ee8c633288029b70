//! Random kernels: shapes, layouts, windows and guards that nobody thought of.

use loom_ir::kernel::scalar::{Inst, ScalarFnBuilder, UnaryOp};
use loom_ir::kernel::{Access, Arg, Body, Contract, Lambda, Reduce, ReduceOp, Stage};
use loom_ir::numerics::reduction::{IntegerSpec, Products, SumSpec};
use loom_ir::types::DType;
use proptest::prelude::*;

use crate::support::{Net, Random, Values, function};

/// A buffer of up to three axes, read through random affine coordinates over the kernel's axes that `may` be used, with
/// guards.
fn random_load(net: &mut Net, random: &mut Random, axes: &[u64], may: &[bool]) -> Access {
    let rank = 1 + random.below(3) as usize;
    let shape: Vec<u64> = (0..rank).map(|_| 1 + u64::from(random.below(9))).collect();
    let buffer = if random.below(2) == 0 { net.input(&shape) } else { net.weight(&shape) };
    let mut coords = Vec::new();
    for _ in 0..rank {
        let coefficients: Vec<i64> = may
            .iter()
            .map(|&may| if may && random.below(2) == 0 { i64::from(random.below(5)) - 1 } else { 0 })
            .collect();
        coords.push((i64::from(random.below(7)) - 3, coefficients));
    }
    // The last axis often walks through memory.
    if let (Some(axis), true) = (may.iter().rposition(|&may| may), random.below(3) > 0) {
        let last = coords.len() - 1;
        coords[last] = (0, vec![0; axes.len()]);
        coords[last].1[axis] = 1;
    }
    let coords: Vec<(i64, &[i64])> = coords.iter().map(|(offset, list)| (*offset, list.as_slice())).collect();
    net.padded(buffer, &coords, 0x3fc0_0000)
}

fn random_axes(random: &mut Random, count: usize) -> Vec<u64> {
    (0..count).map(|_| [1, 2, 3, 4, 5, 8, 9, 13, 40][random.below(9) as usize]).collect()
}

/// An output over the first axes in a random order.
fn random_output(net: &mut Net, random: &mut Random, axes: &[u64], count: usize) -> Access {
    let mut order: Vec<usize> = (0..count).collect();
    if random.below(2) == 0 {
        for last in (1..count).rev() {
            order.swap(last, random.below(last as u32 + 1) as usize);
        }
    }
    let shape: Vec<u64> = order.iter().map(|&axis| axes[axis]).collect();
    let buffer = net.output(&shape);
    let coords: Vec<(i64, Vec<i64>)> =
        order.iter().map(|&axis| (0, (0..axes.len()).map(|other| i64::from(other == axis)).collect())).collect();
    let coords: Vec<(i64, &[i64])> = coords.iter().map(|(offset, list)| (*offset, list.as_slice())).collect();
    net.access(buffer, &coords)
}

fn arithmetic(loads: std::ops::Range<u32>, more: &[Arg]) -> Lambda {
    let args: Vec<Arg> = loads.map(Arg::Load).chain(more.iter().copied()).collect();
    let function = function(args.len(), |b, p| {
        let mut value = p[0];
        for &param in &p[1..] {
            let product = b.mul(value, param);
            value = b.sub(product, param);
        }
        b.unary(UnaryOp::Neg, value)
    });
    Lambda { args, function }
}

fn check_map(seed: u64) {
    let mut random = Random(seed | 1);
    let mut net = Net::new();
    let count = random.below(4) as usize;
    let axes = random_axes(&mut random, count);
    let may = vec![true; count];
    let loads = (0..2).map(|_| random_load(&mut net, &mut random, &axes, &may)).collect();
    let output = random_output(&mut net, &mut random, &axes, count);
    net.kernel(&axes, loads, Body::Map(arithmetic(0..2, &[])), output);
    net.check_with(if random.below(2) == 0 { Values::Ordinary } else { Values::Special });
}

fn check_reduce(seed: u64) {
    let mut random = Random(seed | 1);
    let mut net = Net::new();
    let (rows, reduced) = (random.below(3) as usize, 1 + random.below(2) as usize);
    let axes = random_axes(&mut random, rows + reduced);
    let all = vec![true; axes.len()];
    let outer: Vec<bool> = (0..axes.len()).map(|axis| axis < rows).collect();
    let per_element = random.below(2) == 0;
    let last = if per_element { &all } else { &outer };
    let loads = vec![
        random_load(&mut net, &mut random, &axes, &all),
        random_load(&mut net, &mut random, &axes, &all),
        random_load(&mut net, &mut random, &axes, last),
    ];
    let op = ReduceOp::Sum(SumSpec::default());
    let stages =
        vec![Stage { input: arithmetic(0..2, &[]), op }, Stage { input: arithmetic(1..2, &[Arg::Reduced(0)]), op }];
    let result = arithmetic(2..3, &[Arg::Reduced(0), Arg::Reduced(1)]);
    let count = if per_element { axes.len() } else { rows };
    let output = random_output(&mut net, &mut random, &axes, count);
    net.kernel(&axes, loads, Body::Reduce(Reduce { reduced, stages, result, per_element }), output);
    net.check_with(if random.below(4) > 0 { Values::Ordinary } else { Values::Special });
}

/// The bits of a load as an integer.
fn bits_of(load: u32) -> Lambda {
    let mut b = ScalarFnBuilder::new();
    let value = b.param(DType::F32);
    let bits = b.inst(Inst::Bitcast(DType::I32, value));
    Lambda { args: vec![Arg::Load(load)], function: b.finish(bits) }
}

/// A total of integers times load 2.
fn scaled_total() -> Lambda {
    let mut b = ScalarFnBuilder::new();
    let (total, scale) = (b.param(DType::I32), b.param(DType::F32));
    let total = b.convert(DType::F32, total);
    let result = b.mul(total, scale);
    Lambda { args: vec![Arg::Reduced(0), Arg::Load(2)], function: b.finish(result) }
}

fn check_contract(seed: u64, integers: bool) {
    let mut random = Random(seed | 1);
    let mut net = Net::new();
    let [batch, rows, columns, reduced] = [(); 4].map(|()| random.below(3) as usize);
    let outer = batch + rows + columns;
    let axes = random_axes(&mut random, outer + reduced);
    let group = |axis: usize| (axis >= batch) as u8 + (axis >= batch + rows) as u8 + (axis >= outer) as u8;
    let may = |groups: [bool; 4]| -> Vec<bool> { (0..axes.len()).map(|axis| groups[group(axis) as usize]).collect() };
    if axes.iter().product::<u64>() > 200_000 {
        return;
    }
    let shared = random.below(2) == 0;
    let loads = vec![
        random_load(&mut net, &mut random, &axes, &may([shared, true, false, true])),
        random_load(&mut net, &mut random, &axes, &may([true, false, true, true])),
        random_load(&mut net, &mut random, &axes, &may([true, true, true, false])),
    ];
    let lhs = Lambda::identity(Arg::Load(0), DType::F32);
    let rhs = if random.below(2) == 0 { arithmetic(1..2, &[]) } else { Lambda::identity(Arg::Load(1), DType::F32) };
    let epilogue = arithmetic(2..3, &[Arg::Reduced(0)]);
    let body = match integers {
        false => Contract { batch, rows, columns, lhs, rhs, products: Products::default(), epilogue },
        true => {
            let (lhs, rhs, epilogue) = (bits_of(0), bits_of(1), scaled_total());
            let products = Products::Integer(IntegerSpec::default());
            Contract { batch, rows, columns, lhs, rhs, products, epilogue }
        }
    };
    let output = random_output(&mut net, &mut random, &axes, outer);
    net.kernel(&axes, loads, Body::Contract(body), output);
    net.check_with(if random.below(4) > 0 { Values::Ordinary } else { Values::Special });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn maps(seed: u64) {
        check_map(seed);
    }

    #[test]
    fn reductions(seed: u64) {
        check_reduce(seed);
    }

    #[test]
    fn contractions(seed: u64) {
        check_contract(seed, false);
    }

    #[test]
    fn contractions_of_integers(seed: u64) {
        check_contract(seed, true);
    }
}
