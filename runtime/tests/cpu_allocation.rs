//! A run on one thread allocates nothing, and weights that are stored in few bits take few bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Reduce, ReduceOp,
    Stage, Verified, verify,
};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::numerics::reduction::{Products, SumSpec};
use loom_ir::types::{DType, Shape};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert_in_memory};
use loom_runtime::tensors::{Part, TensorFile, container};
use loom_runtime::weights::Weights;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated and not freed; and the most there were since it was set.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn hold(bytes: isize) {
    HELD.with(|held| {
        held.set(held.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: everything is left to the system's allocator; the counts are thread-locals without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        hold(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
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

fn dense(batch: usize) -> Arc<Verified> {
    let config = format!(
        r#"{{"batch_size": {batch}, "layers":
            [{{"type": "dense", "input_size": 1024, "output_size": 1024, "activation": "linear"}}]}}"#
    );
    let network = loom_ir::config::parse(&config).unwrap();
    Arc::new(loom_passes::compile(&network, &loom_passes::PipelineOptions::default()).unwrap())
}

/// The layer's weights in a file, whose bytes are not an executor's.
fn stored(storage: Storage, granularity: Granularity) -> Arc<Weights> {
    let program = dense(1);
    let drawn = Weights::initialise(&program, 1).unwrap();
    let parts: Vec<Part<'_>> = drawn.tensors().iter().map(Part::from).collect();
    let mut bytes = Vec::new();
    container(&mut bytes, &BTreeMap::new(), &parts).unwrap();
    let file = |bytes| TensorFile::from_bytes(Path::new("weights"), bytes).unwrap();
    let scheme = Scheme::Affine;
    let conversion = Conversion { default: Some(storage), rules: Vec::new(), scaled: true, scheme, granularity };
    let stored = convert_in_memory(&StoredFile::of(&file(bytes)).unwrap(), &conversion).unwrap();
    Arc::new(Weights::from_tensors(&file(stored), &program).unwrap())
}

/// The most bytes that an executor of a dense layer holds while it is made and runs.
fn peak_bytes(batch: usize, weights: &Arc<Weights>, level: Level) -> isize {
    let program = dense(batch);
    let (input, mut output) = (vec![0x3f80_0000u32; batch * 1024], vec![0u32; batch * 1024]);
    let options = CpuOptions { threads: Some(1), codegen: Options::at(level).unwrap(), ..CpuOptions::default() };
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let mut executor = CpuExecutor::with_options(program, weights.clone(), &options).unwrap();
    executor.run(&[&input], &mut [&mut output]).unwrap();
    PEAK.with(Cell::get) - before
}

#[test]
fn stored_weights_take_about_their_stored_size() {
    /// What is not the weights: panels' scales, scratch memory, code on its way, tables.
    const REST: isize = 3 << 18;
    let elements = 1024 * 1024;
    let levels = || Level::ALL.into_iter().filter(|level| level.is_available());
    for (storage, granularity) in [
        (Storage::Bf16, Granularity::Channel),
        (Storage::F16, Granularity::Channel),
        (Storage::F8, Granularity::Channel),
        (Storage::I8, Granularity::Channel),
        (Storage::U8, Granularity::Tensor),
        (Storage::I4, Granularity::Channel),
        (Storage::F4, Granularity::Channel),
    ] {
        let weights = stored(storage, granularity);
        for (level, batch) in levels().flat_map(|level| [(level, 1), (level, 64)]) {
            let limit = elements * storage.bits() as isize / 8 + REST;
            let found = peak_bytes(batch, &weights, level);
            assert!(found < limit, "{storage}, {batch} samples at {level}: {found} bytes, not {limit}");
        }
    }
    let floats = peak_bytes(1, &stored(Storage::F32, Granularity::Channel), Level::Portable);
    assert!(floats > 4 * elements, "panels of f32 are counted: {floats}");
}
