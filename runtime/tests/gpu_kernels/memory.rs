//! Programs of several kernels: temporaries in an arena, weights, constants, limits.

use std::sync::Arc;

use loom_ir::kernel::{Arg, Body, BufferKind, Lambda, MemoryPlan, verify};
use loom_ir::types::DType;
use loom_runtime::executor::gpu::GpuExecutor;
use loom_runtime::executor::{ExecuteError, Executor};

use crate::build::{Build, check, lambda};
use crate::device;

/// A chain of kernels that each add a weight to what came before, temporaries sharing two places in turn.
fn chain(planned: bool) -> Build {
    const LENGTH: u64 = 77;
    let mut build = Build::new();
    let mut last = build.input(DType::F32, &[LENGTH]);
    let weight = build.buffer(BufferKind::Weight, DType::F32, &[LENGTH]);
    let constant = build.buffer(BufferKind::Constant(vec![0x3fc0_0000; LENGTH as usize]), DType::F32, &[LENGTH]);
    let mut offsets = vec![None; 3];
    for step in 0..6 {
        let kind = if step == 5 { BufferKind::Output } else { BufferKind::Temp };
        let next = build.buffer(kind, DType::F32, &[LENGTH]);
        offsets.push((step < 5).then_some(512 * (step % 2)));
        let other = if step % 2 == 0 { weight } else { constant };
        let loads = vec![build.identity(last, 1), build.identity(other, 1)];
        let args = [(Arg::Load(0), DType::F32), (Arg::Load(1), DType::F32)];
        let body = Body::Map(lambda(&args, |f, v| {
            let product = f.mul(v[0], v[1]);
            f.add(product, v[0])
        }));
        let output = build.identity(next, 1);
        build.kernel(&[LENGTH], loads, body, output);
        last = next;
    }
    if planned {
        build.program.plan = Some(MemoryPlan { arena_bytes: 1024, offsets });
    }
    build
}

#[test]
fn temporaries_share_an_arena() {
    check(&chain(false));
    check(&chain(true));
}

#[test]
fn outputs_are_read_by_later_kernels() {
    let mut build = chain(true);
    let last = loom_ir::kernel::BufferId(build.program.buffers.len() as u32 - 1);
    let next = build.output(DType::F32, &[77]);
    if let Some(plan) = &mut build.program.plan {
        plan.offsets.push(None);
    }
    let (load, output) = (build.identity(last, 1), build.identity(next, 1));
    build.kernel(&[77], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    check(&build);
}

#[test]
fn too_large_a_buffer_is_refused_by_name() {
    let mut build = Build::new();
    // Only the first element is read: no memory of that size is ever touched.
    let elements = (1 << 31) - 1;
    let x = build.input(DType::F32, &[elements]);
    let y = build.output(DType::F32, &[]);
    let load = build.access(x, &[(0, &[])]);
    let output = build.access(y, &[]);
    build.kernel(&[], vec![load], Body::Map(Lambda::identity(Arg::Load(0), DType::F32)), output);
    let program = Arc::new(verify(build.program).unwrap_or_else(|error| panic!("{error}")));
    let result = GpuExecutor::new(device(), program, Arc::new(Vec::<Vec<u32>>::new()));
    match result {
        Err(ExecuteError::Limit { what, need, .. }) => {
            assert_eq!((what.as_str(), need), ("buffer `input0`", elements * 4));
        }
        // A device of more than 8 GiB a binding has nothing to refuse.
        Ok(_) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn tensors_of_the_wrong_length_are_an_error() {
    let program = Arc::new(verify(chain(true).program).unwrap_or_else(|error| panic!("{error}")));
    let weights = vec![vec![0u32; 77]];
    let mut executor =
        GpuExecutor::new(device(), Arc::clone(&program), Arc::new(weights)).unwrap_or_else(|error| panic!("{error}"));
    let mut output = vec![0u32; 77];
    let error = executor.run(&[&[0; 76]], &mut [&mut output]);
    assert!(matches!(error, Err(ExecuteError::Internal(_))), "{error:?}");
    let wrong = GpuExecutor::new(device(), program, Arc::new(vec![vec![0u32; 3]]));
    assert!(matches!(wrong, Err(ExecuteError::Internal(_))));
    // The executor still works.
    assert!(executor.run(&[&[0; 77]], &mut [&mut output]).is_ok());
}
