//! Every scalar operation, in four lanes and in one, on pairs of special values.

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFnBuilder, UnaryOp, Value, binary_accepts, unary_type};
use loom_ir::kernel::{Access, Arg, Body, BufferKind, Lambda};
use loom_ir::types::{DType, Shape};

use crate::support::{Net, Random, SPECIAL, Values};

fn values(dtype: DType) -> Vec<u32> {
    match dtype {
        DType::F32 => {
            let more = [0x3f00_0001, 0xbf00_0000, 0x4b00_0001, 0x4b80_0000, 0x5f00_0000, 0x7fa0_0001, 0xffc0_0000];
            let tenths = [2.5f32, -2.5, 1.5, -0.3, 0.1, 88.8, -104.0, 1e-3, 3.0].map(f32::to_bits);
            SPECIAL.into_iter().chain(more).chain(tenths).collect()
        }
        DType::Bool => vec![0, 1],
        _ => {
            vec![0, 1, 2, 3, 7, 31, 32, 33, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX, u32::MAX - 6, 0x1234_5678]
        }
    }
}

/// All pairs of values.
fn check(dtype: DType, insts: &[Inst]) {
    let values = values(dtype);
    check_pairs(dtype, insts, values.iter().flat_map(|&a| values.iter().map(move |&b| [a, b])).collect());
}

/// A program with one output an instruction: of all pairs in one vectorised loop, and in a loop too short for vectors.
fn check_pairs(dtype: DType, insts: &[Inst], mut pairs: Vec<[u32; 2]>) {
    while !pairs.len().is_multiple_of(3) {
        pairs.push(pairs[0]);
    }
    let n = pairs.len() as u64;
    let constants = [0, 1].map(|side| BufferKind::Constant(pairs.iter().map(|pair| pair[side]).collect()));
    for &inst in insts {
        let mut net = Net::new();
        let [a, b] = constants.clone().map(|kind| net.buffer(kind, dtype, &[n]));
        let mut builder = ScalarFnBuilder::new();
        let (p, q) = (builder.param(dtype), builder.param(dtype));
        let result = builder.inst(inst.map_operands(|operand| if operand == Value(0) { p } else { q }));
        let result_type = builder.type_of(result);
        let lambda = Lambda { args: vec![Arg::Load(0), Arg::Load(1)], function: builder.finish(result) };
        let (y, z) = (
            net.buffer(BufferKind::Output, result_type, &[n]),
            net.buffer(BufferKind::Output, result_type, &[n / 3, 3]),
        );
        let loads = vec![net.access(a, &[(0, &[1])]), net.access(b, &[(0, &[1])])];
        net.kernel(&[n], loads, Body::Map(lambda.clone()), Access::identity(y, Shape::from([n]), 1));
        let by_columns: &[i64] = &[1, n as i64 / 3];
        let loads = vec![net.access(a, &[(0, by_columns)]), net.access(b, &[(0, by_columns)])];
        net.kernel(&[n / 3, 3], loads, Body::Map(lambda), Access::identity(z, Shape::from([n / 3, 3]), 2));
        net.check_with(Values::Ordinary);
    }
}

#[test]
fn unary() {
    for dtype in DType::ALL {
        let ops = UnaryOp::ALL.iter().filter(|&&op| unary_type(op, dtype).is_some());
        check(dtype, &ops.map(|&op| Inst::Unary(op, Value(0))).collect::<Vec<_>>());
    }
}

#[test]
fn binary() {
    for dtype in DType::ALL {
        let ops = BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, dtype));
        check(dtype, &ops.map(|&op| Inst::Binary(op, Value(0), Value(1))).collect::<Vec<_>>());
    }
}

/// Any bits, and bits of numbers of ordinary size.
#[test]
fn random_arguments() {
    let mut random = Random(1);
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        let mut bits = |any: bool| if any { random.next() } else { random.bits(dtype, Values::Ordinary) };
        let pairs: Vec<[u32; 2]> = (0..6000).map(|number| [bits(number % 2 == 0), bits(number % 3 == 0)]).collect();
        let unary = UnaryOp::ALL.iter().filter(|&&op| unary_type(op, dtype).is_some());
        let binary = BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, dtype));
        let mut insts: Vec<Inst> = unary.map(|&op| Inst::Unary(op, Value(0))).collect();
        insts.extend(binary.map(|&op| Inst::Binary(op, Value(0), Value(1))));
        insts.extend(CompareOp::ALL.iter().map(|&op| Inst::Compare(op, Value(0), Value(1))));
        insts.extend(DType::ALL.map(|to| Inst::Convert(to, Value(0))));
        check_pairs(dtype, &insts, pairs);
    }
}

#[test]
fn comparisons_and_conversions() {
    for dtype in DType::ALL {
        let ordered = dtype != DType::Bool;
        let compares = CompareOp::ALL.iter().filter(|op| ordered || matches!(op, CompareOp::Eq | CompareOp::Ne));
        let mut insts: Vec<Inst> = compares.map(|&op| Inst::Compare(op, Value(0), Value(1))).collect();
        insts.extend(DType::ALL.map(|to| Inst::Convert(to, Value(0))));
        check(dtype, &insts);
    }
}

#[test]
fn selects_shifts_by_constants_and_bit_casts() {
    let n = 37;
    let mut net = Net::new();
    let x = net.buffer(BufferKind::Input, DType::I32, &[n]);
    let y = net.buffer(BufferKind::Output, DType::I32, &[n]);
    let z = net.buffer(BufferKind::Output, DType::Bool, &[n]);
    let mut b = ScalarFnBuilder::new();
    let p = b.param(DType::I32);
    let mut sum = p;
    for amount in [0, 1, 31, 32, 45] {
        let amount = b.i32(amount);
        let left = b.binary(BinaryOp::Shl, p, amount);
        let right = b.binary(BinaryOp::Shr, p, amount);
        let logical = b.bitcast(DType::U32, p);
        let unsigned = b.bitcast(DType::U32, amount);
        let logical = b.binary(BinaryOp::Shr, logical, unsigned);
        let logical = b.bitcast(DType::I32, logical);
        let less = b.compare(CompareOp::Lt, left, right);
        let chosen = b.select(less, left, logical);
        sum = b.add(sum, chosen);
    }
    // A bit pattern without NaN as a float, and back.
    let mask = b.i32(0x3fff_ffff);
    let masked = b.binary(BinaryOp::And, sum, mask);
    let float = b.bitcast(DType::F32, masked);
    let doubled = b.add(float, float);
    let back = b.bitcast(DType::I32, doubled);
    let flag = b.compare(CompareOp::Gt, back, p);
    let truth = b.compare(CompareOp::Ne, p, sum);
    let not = b.unary(UnaryOp::Not, flag);
    let bools = b.select(flag, truth, not);
    for (result, output) in [(back, y), (bools, z)] {
        let loads = vec![net.access(x, &[(0, &[1])])];
        let lambda = Lambda { args: vec![Arg::Load(0)], function: b.clone().finish(result) };
        net.kernel(&[n], loads, Body::Map(lambda), Access::identity(output, Shape::from([n]), 1));
    }
    net.check();
}
