//! A run on one thread allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Reduce, ReduceOp,
    Stage, verify,
};
use loom_ir::numerics::reduction::{Products, SumSpec};
use loom_ir::types::{DType, Shape};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::CpuExecutor;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; the count is a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn runs_allocate_nothing() {
    let buffer = |name: &str, kind, shape: &[u64]| Buffer {
        name: name.to_string(),
        dtype: DType::F32,
        shape: Shape::new(shape),
        kind,
    };
    let buffers = vec![
        buffer("x", BufferKind::Input, &[9, 300]),
        buffer("w", BufferKind::Weight, &[50, 300]),
        buffer("h", BufferKind::Temp, &[9, 50]),
        buffer("s", BufferKind::Temp, &[9]),
        buffer("y", BufferKind::Output, &[9]),
    ];
    let access = |id: u32, axes: &[usize], count: usize| {
        let mut access = Access::identity(BufferId(id), buffers[id as usize].shape.clone(), count);
        access.coords = axes.iter().map(|&axis| Affine::axis(axis, count)).collect();
        access
    };
    let load = |number: u32| Lambda::identity(Arg::Load(number), DType::F32);
    let reduced = Lambda::identity(Arg::Reduced(0), DType::F32);
    let contract = Contract {
        batch: 0,
        rows: 1,
        columns: 1,
        lhs: load(0),
        rhs: load(1),
        products: Products::default(),
        epilogue: reduced.clone(),
    };
    let stages = vec![Stage { input: load(0), op: ReduceOp::Sum(SumSpec::default()) }];
    let kernel = |name: &str, axes: &[u64], loads, body, output| Kernel {
        name: name.to_string(),
        axes: axes.to_vec(),
        loads,
        body,
        output,
        in_loop: None,
    };
    let kernels = vec![
        kernel(
            "product",
            &[9, 50, 300],
            vec![access(0, &[0, 2], 3), access(1, &[1, 2], 3)],
            Body::Contract(contract),
            access(2, &[0, 1], 3),
        ),
        kernel(
            "sum",
            &[9, 50],
            vec![access(2, &[0, 1], 2)],
            Body::Reduce(Reduce { reduced: 1, stages, result: reduced, per_element: false }),
            access(3, &[0], 2),
        ),
        kernel("copy", &[9], vec![access(3, &[0], 1)], Body::Map(load(0)), access(4, &[0], 1)),
    ];
    let program = Program { name: "test".to_string(), buffers, kernels, plan: None };
    let program = Arc::new(verify(program).unwrap());
    let weights = Arc::new(vec![vec![0x3f80_0000u32; 50 * 300]]);
    let mut executor = CpuExecutor::new(program, weights, Some(1)).unwrap();
    let (input, mut output) = (vec![0x3f80_0000u32; 9 * 300], vec![0u32; 9]);
    let before = COUNT.with(Cell::get);
    executor.run(&[&input], &mut [&mut output]).unwrap();
    executor.run(&[&input], &mut [&mut output]).unwrap();
    assert_eq!(COUNT.with(Cell::get), before, "a run allocated");
    assert_eq!(output, [15000f32.to_bits(); 9]);
}
