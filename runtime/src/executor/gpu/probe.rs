//! The probe: small kernels on pinned inputs, compared with the interpreter's answers bit for bit.
//!
//! Each is something that drivers were seen to get wrong when they are not told otherwise (LN1 section 1): products fused
//! into sums, sums rewritten, subnormals flushed. A device that has the float controls passes; the probe is there for
//! one that only claims to.

use std::sync::Arc;

use loom_ir::eval::program::{Memory, run as interpret};
use loom_ir::kernel::scalar::{CompareOp, ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{Access, Arg, Body, Buffer, BufferId, BufferKind, Kernel, Lambda, Program, verify};
use loom_ir::types::{DType, Shape};
use serde::Serialize;

use super::device::Context;
use super::executor::Ready;
use crate::executor::ExecuteError;

/// How a device did on one part of the probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: &'static str,
    /// Whether every bit was right.
    pub passed: bool,
}

/// A part of the probe: a function of three floats.
struct Case {
    name: &'static str,
    function: fn(&mut ScalarFnBuilder, Value, Value, Value) -> Value,
}

const CASES: [Case; 12] = [
    Case {
        name: "a product is rounded before it is added",
        function: |f, a, b, c| {
            let product = f.mul(a, b);
            f.add(product, c)
        },
    },
    Case {
        name: "the error of a sum is computed as written",
        function: |f, a, b, _| {
            let sum = f.add(a, b);
            let b_part = f.sub(sum, a);
            let a_part = f.sub(sum, b_part);
            let b_error = f.sub(b, b_part);
            let a_error = f.sub(a, a_part);
            f.add(a_error, b_error)
        },
    },
    Case {
        name: "a common factor stays where it is",
        function: |f, a, b, c| {
            let left = f.mul(a, b);
            let right = f.mul(a, c);
            f.add(left, right)
        },
    },
    Case {
        name: "factors are not multiplied ahead",
        function: |f, a, _, _| {
            let (third, fifth) = (f.f32(1.0 / 3.0), f.f32(0.2));
            let product = f.mul(a, third);
            f.mul(product, fifth)
        },
    },
    Case {
        name: "adding and taking away a large number rounds",
        function: |f, a, _, _| {
            let large = f.f32(12_582_912.0);
            let sum = f.add(a, large);
            f.sub(sum, large)
        },
    },
    Case {
        name: "subnormal sums are kept",
        function: |f, a, b, _| {
            let tiny = f.f32(f32::from_bits(0x0080_0000));
            let (a, b) = (f.mul(a, tiny), f.mul(b, tiny));
            f.sub(a, b)
        },
    },
    Case {
        name: "subnormal products are kept",
        function: |f, a, b, _| {
            let small = f.f32(f32::from_bits(0x2000_0000));
            let (a, b) = (f.mul(a, small), f.mul(b, small));
            f.mul(a, b)
        },
    },
    Case {
        name: "comparisons see subnormals and the sign of zero is kept",
        function: |f, a, b, c| {
            let tiny = f.f32(f32::from_bits(0x0000_4000));
            let (a, b) = (f.mul(a, tiny), f.mul(b, tiny));
            let less = f.compare(CompareOp::Lt, a, b);
            let zero = f.f32(-0.0);
            let c = f.mul(c, zero);
            let greater = f.select(less, b, a);
            let equal = f.compare(CompareOp::Eq, greater, c);
            f.select(equal, c, greater)
        },
    },
    Case {
        name: "a choice by comparison is no maximum: it keeps NaN and the order of zeros",
        function: |f, a, b, c| {
            // Infinities, NaN (infinity times zero) and zeros of both signs.
            let x = f.mul(a, b);
            let zero = f.f32(0.0);
            let less = f.compare(CompareOp::Lt, x, zero);
            let most = f.select(less, zero, x);
            let less = f.compare(CompareOp::Lt, most, c);
            f.select(less, c, most)
        },
    },
    Case {
        name: "a constant +0.0 is added",
        function: |f, a, _, _| {
            let zero = f.f32(0.0);
            f.add(zero, a)
        },
    },
    Case {
        name: "a product with a constant zero is computed",
        function: |f, a, _, _| {
            let zero = f.f32(0.0);
            f.mul(a, zero)
        },
    },
    Case { name: "the difference of a value and itself is computed", function: |f, a, _, _| f.sub(a, a) },
];

/// Values a parameter of the probe.
const VALUES: u64 = 256;

/// Runs the probe. An error is one of the device's; a wrong answer is none.
pub(super) fn run(context: &Context) -> Result<Vec<Probe>, ExecuteError> {
    let inputs: Vec<Vec<u32>> = (0..3).map(pinned).collect();
    let program = Arc::new(verify(program()).map_err(|error| ExecuteError::Internal(error.to_string()))?);

    let mut expected = Memory::new(&program);
    expected.buffers[..inputs.len()].clone_from_slice(&inputs);
    interpret(&program, &mut expected);

    let mut answers = vec![vec![0u32; VALUES as usize]; CASES.len()];
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [u32]> = answers.iter_mut().map(Vec::as_mut_slice).collect();
    Ready::new(context, Arc::clone(&program), &Vec::new(), &context.target)?.run(context, &inputs, &mut outputs)?;

    let same = |a: &[u32], b: &[u32]| a.iter().zip(b).all(|(&a, &b)| canonical(a) == canonical(b));
    let probes = CASES.iter().zip(answers.iter().zip(&expected.buffers[inputs.len()..]));
    Ok(probes.map(|(case, (answer, right))| Probe { name: case.name, passed: same(answer, right) }).collect())
}

/// One map a case, over the same three inputs.
fn program() -> Program {
    let shape = Shape::from([VALUES]);
    let buffer = |name: String, kind| Buffer { name, dtype: DType::F32, shape: shape.clone(), kind };
    let mut buffers: Vec<Buffer> =
        ["a", "b", "c"].iter().map(|name| buffer(name.to_string(), BufferKind::Input)).collect();
    let mut kernels = Vec::new();
    for case in &CASES {
        let output = BufferId(buffers.len() as u32);
        buffers.push(buffer(case.name.to_string(), BufferKind::Output));
        let access = |buffer| Access::identity(buffer, shape.clone(), 1);
        kernels.push(Kernel {
            name: case.name.to_string(),
            axes: vec![VALUES],
            loads: (0..3).map(|input| access(BufferId(input))).collect(),
            body: Body::Map(Lambda { args: (0..3).map(Arg::Load).collect(), function: function(case) }),
            output: access(output),
            in_loop: None,
        });
    }
    Program { name: "probe".to_string(), buffers, kernels, plan: None }
}

fn function(case: &Case) -> ScalarFn {
    let mut builder = ScalarFnBuilder::new();
    let [a, b, c] = [DType::F32; 3].map(|dtype| builder.param(dtype));
    let result = (case.function)(&mut builder, a, b, c);
    builder.finish(result)
}

/// Values that no compiler sees, one in eight.
const RARE: [u32; 8] = [
    0x0000_0000, // +0
    0x8000_0000, // -0
    0x7f80_0000, // +infinity
    0xff80_0000, // -infinity
    0x0000_0001, // the least subnormal
    0x807f_ffff, // the greatest, negative
    0x7f7f_ffff, // the greatest number
    0x3f80_0000, // 1
];

/// Values of moderate size and either sign, from a congruential generator with fixed seeds, and rare ones at places that
/// meet those of the other parameters.
fn pinned(parameter: u32) -> Vec<u32> {
    let mut state = 0x9e37_79b9u32.wrapping_mul(parameter + 1) | 1;
    (0..VALUES as u32)
        .map(|index| {
            state = state.wrapping_mul(0x915f_77f5).wrapping_add(1);
            if state >> 29 == 0 || index.is_multiple_of(16) {
                return RARE[(((index / 16) >> parameter) + parameter) as usize % RARE.len()];
            }
            // An exponent near that of 1, any mantissa: contraction and reassociation then show in the last bits.
            let exponent = 126 + index % 4;
            (state & 0x807f_ffff) | (exponent << 23)
        })
        .collect()
}

/// NaN is one value.
fn canonical(bits: u32) -> u32 {
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0_0000 } else { bits }
}
