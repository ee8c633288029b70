//! Maps: every operation, and every way to reach an element.

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, UnaryOp, Value, binary_accepts, unary_type};
use loom_ir::kernel::{Affine, Arg, Body, BufferKind, Guard, Lambda};
use loom_ir::types::DType;

use crate::build::{Build, Data, SPECIAL, check, check_on, guarded, lambda, target};

const NUMBERS: [DType; 3] = [DType::F32, DType::I32, DType::U32];

/// Operations of two operands, on every pair of these.
fn operands(dtype: DType) -> Vec<u32> {
    match dtype {
        DType::F32 => SPECIAL.to_vec(),
        DType::Bool => vec![0, 1],
        _ => {
            vec![0, 1, 2, 3, 5, 31, 32, 33, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX, u32::MAX - 1, 0x1234_5678]
        }
    }
}

/// One kernel an instruction, over all pairs of operands: `inst` makes the instruction of the operands' values.
struct Pairs {
    build: Build,
}

impl Pairs {
    fn new() -> Pairs {
        Pairs { build: Build::new() }
    }

    fn add(&mut self, dtype: DType, inst: Inst) {
        let values = operands(dtype);
        let count = values.len() as u64;
        let build = &mut self.build;
        let constant = BufferKind::Constant(values);
        let buffer = match build.program.buffers.iter().position(|buffer| buffer.kind == constant) {
            Some(index) if build.program.buffers[index].dtype == dtype => loom_ir::kernel::BufferId(index as u32),
            _ => build.buffer(constant, dtype, &[count]),
        };
        let (a, b) = (build.access(buffer, &[(0, &[1, 0])]), build.access(buffer, &[(0, &[0, 1])]));
        let args = [(Arg::Load(0), dtype), (Arg::Load(1), dtype)];
        let lambda = lambda(&args, |f, _| f.inst(inst));
        let result = lambda.function.result_type().expect("well typed");
        let output = build.output(result, &[count, count]);
        let output = build.identity(output, 2);
        build.kernel(&[count, count], vec![a, b], Body::Map(lambda), output);
    }

    fn check(self) {
        check_on(&self.build, Data::Plain, "own", &target());
    }
}

#[test]
fn every_unary_operation_is_exact() {
    let mut pairs = Pairs::new();
    for dtype in DType::ALL {
        for &op in UnaryOp::ALL {
            if unary_type(op, dtype).is_some() {
                pairs.add(dtype, Inst::Unary(op, Value(0)));
            }
        }
    }
    pairs.check();
}

#[test]
fn every_binary_operation_is_exact() {
    let mut pairs = Pairs::new();
    for dtype in DType::ALL {
        for &op in BinaryOp::ALL {
            if binary_accepts(op, dtype) {
                pairs.add(dtype, Inst::Binary(op, Value(0), Value(1)));
            }
        }
    }
    pairs.check();
}

#[test]
fn every_comparison_is_exact() {
    let mut pairs = Pairs::new();
    for dtype in DType::ALL {
        for &op in CompareOp::ALL {
            if dtype != DType::Bool || matches!(op, CompareOp::Eq | CompareOp::Ne) {
                pairs.add(dtype, Inst::Compare(op, Value(0), Value(1)));
            }
        }
    }
    pairs.check();
}

#[test]
fn every_conversion_is_exact() {
    let mut pairs = Pairs::new();
    for from in DType::ALL {
        for to in DType::ALL {
            pairs.add(from, Inst::Convert(to, Value(0)));
            if from != DType::Bool && to != DType::Bool {
                pairs.add(from, Inst::Bitcast(to, Value(1)));
            }
        }
    }
    pairs.check();
}

#[test]
fn constants_keep_their_bits() {
    let mut build = Build::new();
    for dtype in NUMBERS {
        for bits in operands(dtype) {
            let output = build.output(dtype, &[]);
            let output = build.identity(output, 0);
            let body = Body::Map(lambda(&[], |f, _| f.inst(Inst::Const(dtype, bits.into()))));
            build.kernel(&[], vec![], body, output);
        }
    }
    check_on(&build, Data::Plain, "own", &target());
}

#[test]
fn selects_choose() {
    let mut build = Build::new();
    for dtype in DType::ALL {
        let condition = build.input(DType::Bool, &[37]);
        let (a, b) = (build.input(dtype, &[37]), build.input(dtype, &[37]));
        let loads = [condition, a, b].map(|buffer| build.identity(buffer, 1)).to_vec();
        let args = [(Arg::Load(0), DType::Bool), (Arg::Load(1), dtype), (Arg::Load(2), dtype)];
        let body = Body::Map(lambda(&args, |f, v| f.select(v[0], v[1], v[2])));
        let output = build.output(dtype, &[37]);
        let output = build.identity(output, 1);
        build.kernel(&[37], loads, body, output);
    }
    check(&build);
}

#[test]
fn views_reach_their_elements() {
    let mut build = Build::new();
    let x = build.input(DType::F32, &[5, 7]);
    let row = build.input(DType::F32, &[7]);
    let args = [(Arg::Load(0), DType::F32), (Arg::Load(1), DType::F32)];
    let product = |f: &mut loom_ir::kernel::scalar::ScalarFnBuilder, v: &[Value]| f.mul(v[0], v[1]);
    // Transposed, times a broadcast row, written transposed again.
    let loads = vec![build.access(x, &[(0, &[0, 1]), (0, &[1, 0])]), build.access(row, &[(0, &[1, 0])])];
    let y = build.output(DType::F32, &[5, 7]);
    let output = build.access(y, &[(0, &[0, 1]), (0, &[1, 0])]);
    build.kernel(&[7, 5], loads, Body::Map(lambda(&args, product)), output);
    // Reversed, with a stride, and a part of it.
    let loads = vec![build.access(x, &[(4, &[-2, 0]), (6, &[0, -3])]), build.access(row, &[(2, &[1, 1])])];
    let z = build.output(DType::F32, &[3, 3]);
    let output = build.identity(z, 2);
    build.kernel(&[3, 3], loads, Body::Map(lambda(&args, product)), output);
    check(&build);
}

#[test]
fn windows_are_filled_outside() {
    let mut build = Build::new();
    for (dtype, fill) in [(DType::F32, 0xff80_0000), (DType::F32, 0x7fc0_0000), (DType::I32, 5), (DType::Bool, 1)] {
        let x = build.input(dtype, &[6, 9]);
        // A window of 3 over both axes, stride 2, padding 2 and 1.
        let load = guarded(build.access(x, &[(-2, &[2, 0, 1, 0]), (-1, &[0, 2, 0, 1])]), fill);
        let y = build.output(dtype, &[4, 5, 3, 3]);
        let output = build.identity(y, 4);
        build.kernel(&[4, 5, 3, 3], vec![load], Body::Map(Lambda::identity(Arg::Load(0), dtype)), output);
    }
    check(&build);
}

#[test]
fn guards_may_look_elsewhere() {
    // A mask by two indices (causal): the element is in bounds anyway.
    let mut build = Build::new();
    let x = build.input(DType::F32, &[9, 9]);
    let mut load = build.identity(x, 2);
    load.guards = vec![Guard { expr: Affine { offset: 0, coefficients: vec![1, -1] }, extent: 100 }];
    load.fill = 0xff80_0000;
    let y = build.output(DType::F32, &[9, 9]);
    let output = build.identity(y, 2);
    build.kernel(&[9, 9], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    // Guards that never hold.
    let mut load = build.access(x, &[(0, &[1, 0]), (0, &[0, 1])]);
    load.guards = vec![Guard { expr: Affine { offset: -9, coefficients: vec![1, 0] }, extent: 4 }];
    let y = build.output(DType::F32, &[9, 9]);
    let output = build.identity(y, 2);
    build.kernel(&[9, 9], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    check(&build);
}

#[test]
fn indices_are_arguments() {
    let mut build = Build::new();
    let args = [(Arg::Index(0), DType::U32), (Arg::Index(1), DType::U32), (Arg::Index(2), DType::U32)];
    let body = Body::Map(lambda(&args, |f, v| {
        let hundred = f.u32(100);
        let sum = f.mul(v[0], hundred);
        let sum = f.add(sum, v[1]);
        let sum = f.mul(sum, hundred);
        f.add(sum, v[2])
    }));
    let y = build.output(DType::U32, &[3, 1, 50]);
    let output = build.identity(y, 3);
    build.kernel(&[3, 1, 50], vec![], body, output);
    check(&build);
}

#[test]
fn more_elements_than_one_dimension_dispatches() {
    let mut build = Build::new();
    let x = build.input(DType::F32, &[2500]);
    let y = build.output(DType::F32, &[2500]);
    let (load, output) = (build.identity(x, 1), build.identity(y, 1));
    build.kernel(&[2500], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    // The target `tiny` has 300 groups of 8 to a dimension.
    check(&build);
}

#[test]
fn empty_tensors_run() {
    let mut build = Build::new();
    let x = build.input(DType::F32, &[0, 4]);
    let y = build.output(DType::F32, &[0, 4]);
    let (load, output) = (build.identity(x, 2), build.identity(y, 2));
    build.kernel(&[0, 4], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    check(&build);
}

#[test]
fn a_value_compared_with_itself() {
    // True for all but NaN, though compilers think otherwise.
    let mut build = Build::new();
    let x = build.input(DType::F32, &[64]);
    for &op in CompareOp::ALL {
        let body = lambda(&[(Arg::Load(0), DType::F32)], |f, v| f.compare(op, v[0], v[0]));
        let y = build.output(DType::Bool, &[64]);
        let (load, output) = (build.identity(x, 1), build.identity(y, 1));
        build.kernel(&[64], vec![load], Body::Map(body), output);
    }
    check(&build);
}
