//! A small network for tests: dense, relu, then a scaling.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::kernel::scalar::{BinaryOp, ScalarFnBuilder};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Verified, verify,
};
use loom_ir::types::{DType, Shape};
use loom_runtime::artifact::{Artifact, KernelText, Target};
use loom_runtime::tensors::{Tensor, write_tensors};
use loom_runtime::weights::Weights;

pub const BATCH: u64 = 4;

fn buffer(name: &str, shape: impl Into<Shape>, kind: BufferKind) -> Buffer {
    Buffer { name: name.to_string(), dtype: DType::F32, shape: shape.into(), kind }
}

fn access(buffer: u32, shape: impl Into<Shape>, axes: &[usize], count: usize) -> Access {
    Access {
        buffer: BufferId(buffer),
        shape: shape.into(),
        coords: axes.iter().map(|&axis| Affine::axis(axis, count)).collect(),
        guards: Vec::new(),
        fill: 0,
    }
}

/// `output[n, o] = 0.5 · max(Σ input[n, i] · weight[o, i] + bias[o], 0)`, in two kernels.
pub fn program() -> Verified {
    let mut b = ScalarFnBuilder::new();
    let (sum, bias) = (b.param(DType::F32), b.param(DType::F32));
    let biased = b.binary(BinaryOp::Add, sum, bias);
    let zero = b.f32(0.0);
    let relu = b.binary(BinaryOp::Max, biased, zero);
    let epilogue = Lambda { args: vec![Arg::Reduced(0), Arg::Load(2)], function: b.finish(relu) };
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let half = b.f32(0.5);
    let scaled = b.binary(BinaryOp::Mul, x, half);
    let scale = Lambda { args: vec![Arg::Load(0)], function: b.finish(scaled) };
    let program = Program {
        name: "tiny".to_string(),
        buffers: vec![
            buffer("input", [BATCH, 3], BufferKind::Input),
            buffer("layers.0.weight", [2, 3], BufferKind::Weight),
            buffer("layers.0.bias", [2], BufferKind::Weight),
            buffer("layers.0", [BATCH, 2], BufferKind::Temp),
            buffer("output", [BATCH, 2], BufferKind::Output),
        ],
        kernels: vec![
            Kernel {
                name: "layers.0 dense".to_string(),
                axes: vec![BATCH, 2, 3],
                loads: vec![access(0, [BATCH, 3], &[0, 2], 3), access(1, [2, 3], &[1, 2], 3), access(2, [2], &[1], 3)],
                body: Body::Contract(Contract {
                    batch: 0,
                    rows: 1,
                    columns: 1,
                    lhs: Lambda::identity(Arg::Load(0), DType::F32),
                    rhs: Lambda::identity(Arg::Load(1), DType::F32),
                    products: Default::default(),
                    epilogue,
                }),
                output: access(3, [BATCH, 2], &[0, 1], 3),
                in_loop: None,
            },
            Kernel {
                name: "layers.1 scale".to_string(),
                axes: vec![BATCH, 2],
                loads: vec![access(3, [BATCH, 2], &[0, 1], 2)],
                body: Body::Map(scale),
                output: access(4, [BATCH, 2], &[0, 1], 2),
                in_loop: None,
            },
        ],
        plan: None,
    };
    verify(program).expect("the program is well formed")
}

pub fn artifact() -> Artifact {
    let program = Arc::new(program());
    let weights = Weights::initialise(&program, 7).expect("the roles are known");
    let kernels = vec![KernelText { name: "layers.0 dense".to_string(), source: "fn main() {}\n".to_string() }];
    Artifact::new(program, weights, Target::Wgsl, kernels).with_seed(7).with_metadata("author", "a test")
}

pub fn artifact_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    artifact().write(&mut bytes).expect("memory does not fail");
    bytes
}

pub fn tensor(name: &str, shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_f32(name, shape.into(), values).expect("as many values as the shape says")
}

/// `count` samples of three numbers.
pub fn input(count: u64) -> Tensor {
    let values: Vec<f32> = (0..count * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    tensor("input", [count, 3], &values)
}

pub fn weights_file(folder: &Path, tensors: &[Tensor]) -> PathBuf {
    let path = folder.join("weights.safetensors");
    write_tensors(&path, tensors).expect("the folder is writable");
    path
}
