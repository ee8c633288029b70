//! A run on one thread allocates nothing, and weights that are stored in few bits take few bytes, which don't lie in memory
//! twice.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Reduce, ReduceOp,
    Stage, Verified, verify,
};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::numerics::reduction::{Products, SumSpec};
use loom_ir::numerics::stored::{Form, View};
use loom_ir::types::{DType, Shape};
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions, Pool, rayon};
use loom_runtime::executor::{Executor, WeightBits};
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

fn dense(batch: usize, layers: usize) -> Arc<Verified> {
    let layer = r#"{"type": "dense", "input_size": 1024, "output_size": 1024, "activation": "linear"}"#;
    let config = format!(r#"{{"batch_size": {batch}, "layers": [{}]}}"#, vec![layer; layers].join(", "));
    let network = loom_ir::config::parse(&config).unwrap();
    Arc::new(loom_passes::compile(&network, &loom_passes::PipelineOptions::default()).unwrap())
}

/// A program's weights in a file, whose bytes are not an executor's.
fn stored(program: &Verified, storage: Storage, granularity: Granularity) -> Arc<Weights> {
    let drawn = Weights::initialise(program, 1).unwrap();
    let parts: Vec<Part<'_>> = drawn.tensors().iter().map(Part::from).collect();
    let mut bytes = Vec::new();
    container(&mut bytes, &BTreeMap::new(), &parts).unwrap();
    let file = |bytes| TensorFile::from_bytes(Path::new("weights"), bytes).unwrap();
    let scheme = Scheme::Affine;
    let conversion = Conversion { default: Some(storage), rules: Vec::new(), scaled: true, scheme, granularity };
    let stored = convert_in_memory(&StoredFile::of(&file(bytes)).unwrap(), &conversion).unwrap();
    Arc::new(Weights::from_tensors(&file(stored), program).unwrap())
}

/// The most bytes that an executor of a dense layer holds while it is made and runs.
fn peak_bytes(batch: usize, weights: &Arc<Weights>, level: Level) -> isize {
    let program = dense(batch, 1);
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
        let weights = stored(&dense(1, 1), storage, granularity);
        for (level, batch) in levels().flat_map(|level| [(level, 1), (level, 64)]) {
            let limit = elements * storage.bits() as isize / 8 + REST;
            let found = peak_bytes(batch, &weights, level);
            assert!(found < limit, "{storage}, {batch} samples at {level}: {found} bytes, not {limit}");
        }
    }
    let floats = peak_bytes(1, &stored(&dense(1, 1), Storage::F32, Granularity::Channel), Level::Portable);
    assert!(floats > 4 * elements, "panels of f32 are counted: {floats}");
}

/// Panels of a few terms have more padding than codes.
#[test]
fn a_depthwise_weight_takes_no_more_for_being_stored() {
    for kernel in [1, 2, 3] {
        let layer = r#"{"type": "conv2d", "filters": 4096, "groups": 4096, "activation": "linear", "kernel_size":"#;
        let config = format!(r#"{{"input_shape": [4096, 3, 3], "layers": [{layer} {kernel}}}]}}"#);
        let network = loom_ir::config::parse(&config).unwrap();
        let program = Arc::new(loom_passes::compile(&network, &loom_passes::PipelineOptions::default()).unwrap());
        let peak = |storage: Storage| {
            let weights = stored(&program, storage, Granularity::Channel);
            let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
            let before = HELD.with(Cell::get);
            PEAK.with(|peak| peak.set(before));
            CpuExecutor::with_options(Arc::clone(&program), weights, &options).unwrap();
            PEAK.with(Cell::get) - before
        };
        // Weights that are widened are in memory as such, too.
        let floats = peak(Storage::F32) + 4096 * kernel * kernel * 4;
        for storage in [Storage::Bf16, Storage::F8, Storage::I16, Storage::I8, Storage::I4] {
            let found = peak(storage);
            assert!(found <= floats + (1 << 14), "{storage}, {kernel}x{kernel}: {found} bytes, {floats} as f32");
        }
    }
}

#[test]
fn a_pool_whose_threads_are_busy_queues_few_calls_for_them() {
    let rayon = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let options = CpuOptions { pool: Some(Pool::of(Arc::clone(&rayon))), worth_threads: 0, ..CpuOptions::default() };
    let program = dense(64, 1);
    let weights = Arc::new(Weights::initialise(&program, 1).unwrap());
    let mut executor = CpuExecutor::with_options(program, weights, &options).unwrap();
    let (input, mut output) = (vec![0x3f80_0000u32; 64 * 1024], vec![0u32; 64 * 1024]);
    let (release, held) = (Barrier::new(3), Barrier::new(3));
    rayon.in_place_scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|_| {
                held.wait();
                release.wait();
            });
        }
        held.wait();
        let before = HELD.with(Cell::get);
        for _ in 0..500 {
            executor.run(&[&input], &mut [&mut output]).unwrap();
        }
        let more = HELD.with(Cell::get) - before;
        release.wait();
        assert!(more < 8 << 10, "{more} bytes wait for the threads");
    });
    // They come back: a call in the queue finds the job of its time.
    executor.run(&[&input], &mut [&mut output]).unwrap();
}

/// Weights that write down what is asked of them.
#[derive(Debug)]
struct Watched {
    weights: Arc<Weights>,
    calls: Mutex<Vec<Call>>,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Call {
    Read(usize),
    Release(usize),
}

impl WeightBits for Watched {
    fn bits(&self, index: usize) -> &[u32] {
        self.calls.lock().unwrap().push(Call::Read(index));
        self.weights.bits(index)
    }

    fn release(&self, index: usize) {
        self.calls.lock().unwrap().push(Call::Release(index));
    }

    fn stored(&self, index: usize) -> Option<(View<'_>, Form)> {
        self.calls.lock().unwrap().push(Call::Read(index));
        self.weights.stored(index)
    }
}

#[test]
fn a_stored_weight_is_let_go_before_the_next_is_read() {
    let program = dense(1, 3);
    let weights = stored(&program, Storage::Bf16, Granularity::Channel);
    let watched = Arc::new(Watched { weights, calls: Mutex::default() });
    let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
    let executor = CpuExecutor::with_options(Arc::clone(&program), watched.clone(), &options).unwrap();
    drop(executor);
    let calls = watched.calls.lock().unwrap();
    let matrices = program.weights().enumerate().filter(|(_, (_, buffer))| buffer.shape.elements() == 1024 * 1024);
    let matrices: Vec<usize> = matrices.map(|(number, _)| number).collect();
    assert_eq!(matrices.len(), 3);
    let last = |call: Call| calls.iter().rposition(|&other| other == call).unwrap();
    for pair in matrices.windows(2) {
        let first = calls.iter().position(|&call| call == Call::Release(pair[1])).unwrap();
        let before = calls[..first].iter().rposition(|&call| call == Call::Read(pair[1])).unwrap();
        assert!(last(Call::Release(pair[0])) < before, "{calls:?}");
    }
    // A large one goes piece by piece.
    for &number in &matrices {
        assert!(calls.iter().filter(|&&call| call == Call::Release(number)).count() >= 4, "{calls:?}");
    }
}
