//! Programs by hand, data for them, and the comparison.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom_ir::eval::program::{Memory, run_kernel};
use loom_ir::kernel::scalar::{ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Guard, Kernel, Lambda, Program, verify,
};
use loom_ir::types::{DType, Shape};
use loom_runtime::executor::Executor;
use loom_runtime::executor::gpu::{Arithmetic, Class, ContractShape, Cost, GpuExecutor, Quirks, Target, Tile};

use crate::device;

/// A program under construction.
#[derive(Debug, Clone)]
pub struct Build {
    pub program: Program,
}

impl Build {
    pub fn new() -> Build {
        let program = Program { name: "test".to_string(), buffers: Vec::new(), kernels: Vec::new(), plan: None };
        Build { program }
    }

    pub fn buffer(&mut self, kind: BufferKind, dtype: DType, dims: &[u64]) -> BufferId {
        let id = BufferId(self.program.buffers.len() as u32);
        let name = format!("{}{}", kind.name(), id.0);
        self.program.buffers.push(Buffer { name, dtype, shape: Shape::new(dims), kind });
        id
    }

    pub fn input(&mut self, dtype: DType, dims: &[u64]) -> BufferId {
        self.buffer(BufferKind::Input, dtype, dims)
    }

    pub fn output(&mut self, dtype: DType, dims: &[u64]) -> BufferId {
        self.buffer(BufferKind::Output, dtype, dims)
    }

    /// The whole buffer by its own axes, which are the kernel's first.
    pub fn identity(&self, buffer: BufferId, axes: usize) -> Access {
        Access::identity(buffer, self.program.buffer(buffer).shape.clone(), axes)
    }

    /// An access by (offset, coefficients) a coordinate.
    pub fn access(&self, buffer: BufferId, coords: &[(i64, &[i64])]) -> Access {
        let coords = coords.iter().map(|&(offset, c)| Affine { offset, coefficients: c.to_vec() }).collect();
        let shape = self.program.buffer(buffer).shape.clone();
        Access { buffer, shape, coords, guards: Vec::new(), fill: 0 }
    }

    pub fn kernel(&mut self, axes: &[u64], loads: Vec<Access>, body: Body, output: Access) {
        let name = format!("kernel{}", self.program.kernels.len());
        self.program.kernels.push(Kernel { name, axes: axes.to_vec(), loads, body, output, in_loop: None });
    }
}

/// Guards every coordinate of an access by its own extent.
pub fn guarded(mut access: Access, fill: u32) -> Access {
    let extents = access.shape.dims().to_vec();
    access.guards =
        access.coords.iter().zip(extents).map(|(coord, extent)| Guard { expr: coord.clone(), extent }).collect();
    access.fill = fill;
    access
}

/// A lambda over typed arguments.
pub fn lambda(args: &[(Arg, DType)], body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) -> Lambda {
    Lambda {
        args: args.iter().map(|&(arg, _)| arg).collect(),
        function: function(&args.iter().map(|&(_, dtype)| dtype).collect::<Vec<_>>(), body),
    }
}

pub fn function(params: &[DType], body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) -> ScalarFn {
    let mut builder = ScalarFnBuilder::new();
    let params: Vec<Value> = params.iter().map(|&dtype| builder.param(dtype)).collect();
    let result = body(&mut builder, &params);
    builder.finish(result)
}

/// Numbers from a seed (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

/// Bits of floats that arithmetic goes wrong on.
pub const SPECIAL: [u32; 24] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f00_0000,
    0x4020_0000,
    0xc020_0000,
    0x3eaa_aaab,
    0x4b00_0000,
    0xcb00_0001,
    0x4eff_ffff,
    0x4f00_0000,
    0xcf00_0000,
    0x4f7f_ffff,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
];

/// What floats an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Finite numbers near 1, whose sums round in every step.
    Plain,
    /// The same with zeros of both signs, subnormals and small numbers among them.
    Small,
    /// The same with infinities, NaN and large numbers among them.
    Special,
}

/// Elements for a buffer.
pub fn elements(dtype: DType, count: u64, data: Data, seed: u64) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    (0..count)
        .map(|_| {
            let bits = numbers.next();
            let rare = numbers.next().is_multiple_of(16);
            match dtype {
                DType::Bool => bits & 1,
                DType::I32 | DType::U32 if rare => [0, 1, u32::MAX, 1 << 31, i32::MAX as u32][bits as usize % 5],
                DType::F32 => {
                    let plain = (bits & 0x807f_ffff) | ((120 + bits % 10) << 23);
                    match data {
                        Data::Small if rare => SPECIAL[bits as usize % 8],
                        Data::Special if rare => SPECIAL[bits as usize % SPECIAL.len()],
                        _ => plain,
                    }
                }
                _ => bits,
            }
        })
        .collect()
}

/// The device's own target and its limits.
pub fn target() -> Target {
    device().target().clone()
}

/// Targets that reach every template, whatever the device would choose: tiny workgroups in two dimensions, rows by one
/// invocation or by teams, small tiles.
pub fn targets() -> Vec<(&'static str, Target)> {
    let own = target();
    let mut tiny = own.clone();
    tiny.limits.workgroups_per_dimension = 300;
    tiny.shapes.workgroup = 8;
    tiny.shapes.serial_terms = 4096;
    tiny.shapes.contract = vec![tiled(2, 2, 2, 3, 4)];
    // Of the shapes for large GPUs, with the quirks of the device at hand.
    let mut teams = Target { quirks: own.quirks, ..Target::new(Class::Discrete, own.limits) };
    teams.shapes.serial_terms = 0;
    teams.shapes.blocks = 4;
    teams.shapes.contract = vec![tiled(4, 4, 2, 2, 16)];
    // Rows by workgroups of several sizes.
    tiny.shapes.row = 32;
    let mut rows = teams.clone();
    rows.shapes.row = 256;
    teams.shapes.row = 0;
    let mut alone = teams.clone();
    alone.shapes.blocks = 1;
    alone.shapes.contract = vec![ContractShape::Direct { cost: COST }];
    vec![("own", own), ("tiny", tiny), ("rows", rows), ("teams", teams), ("alone", alone)]
}

/// Where there is one shape, what it costs is nothing.
pub const COST: Cost = Cost { product: 0, output: 0 };

pub fn tiled(threads_rows: u32, threads_columns: u32, rows: u32, columns: u32, step: u32) -> ContractShape {
    let tile = Tile { teams: 1, threads_rows, threads_columns, rows, columns, step, unrolled: 1, buffers: 1 };
    ContractShape::Tiled { tile, cost: COST }
}

/// Runs a program for every target and kind of data and compares every kernel's output with the interpreter's.
pub fn check(build: &Build) {
    for (name, target) in targets() {
        for data in [Data::Plain, Data::Small] {
            run(build, data, name, &target);
        }
        // Special data holds what the others do: enough for the slower arithmetics.
        check_on(build, Data::Special, name, &target);
    }
}

/// The same for one kind of data and the shapes of one target, in every arithmetic that the device may be used in.
pub fn check_on(build: &Build, data: Data, name: &str, target: &Target) {
    for arithmetic in Arithmetic::ALL {
        // Hardware may flush subnormals in plain WGSL; the software devices at hand don't.
        if arithmetic == Arithmetic::Guarded && target.quirks != Quirks::of(Class::Software) {
            continue;
        }
        let name = format!("{name}, {}", arithmetic.name());
        run(build, data, &name, &Target { arithmetic, ..target.clone() });
    }
}

/// The same in the target's arithmetic alone.
pub fn run(build: &Build, data: Data, name: &str, target: &Target) {
    let program = verify(build.program.clone()).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(&program);
    for (id, buffer) in program.buffers_where(|kind| !kind.is_written()) {
        if !matches!(buffer.kind, BufferKind::Constant(_)) {
            memory.buffers[id.index()] = elements(buffer.dtype, buffer.shape.elements(), data, 1000 + u64::from(id.0));
        }
    }
    let inputs: Vec<Vec<u32>> = program.inputs().map(|(id, _)| memory.buffers[id.index()].clone()).collect();
    let weights: Vec<Vec<u32>> = program.weights().map(|(id, _)| memory.buffers[id.index()].clone()).collect();
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let program = Arc::new(program);
    let mut executor = GpuExecutor::with_target(device(), Arc::clone(&program), Arc::new(weights), target)
        .unwrap_or_else(|error| panic!("{error} (target {name})\n{}", **program));

    let mut outputs: Vec<Vec<u32>> =
        program.outputs().map(|(_, buffer)| vec![0xdead_beef; buffer.shape.elements() as usize]).collect();
    let mut expected = Vec::new();
    for kernel in &program.kernels {
        run_kernel(&program, kernel, &mut memory);
        expected.push(memory.buffers[kernel.output.buffer.index()].clone());
    }
    // Twice, so that what a run leaves behind is seen.
    for _ in 0..2 {
        let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        executor.run(&inputs, &mut slices).unwrap_or_else(|error| panic!("{error}"));
        for ((id, buffer), output) in program.outputs().zip(&outputs) {
            let what = format!("{} with {data:?} data, target {name}", buffer.name);
            compare(&what, buffer.dtype, output, &memory.buffers[id.index()], &program);
        }
    }
    let mut traced = 0;
    let observed = executor.trace(&inputs, &mut |number, bits| {
        let kernel = &program.kernels[number];
        let what = format!("{} with {data:?} data, target {name}", kernel.name);
        compare(&what, program.buffer(kernel.output.buffer).dtype, bits, &expected[number], &program);
        traced += 1;
        ControlFlow::Continue(())
    });
    observed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(traced, program.kernels.len());
}

fn compare(what: &str, dtype: DType, found: &[u32], expected: &[u32], program: &Program) {
    // NaN is one value; its payload is nobody's business before a program's end.
    let canonical = |bits: u32| match dtype {
        DType::F32 if bits & 0x7fff_ffff > 0x7f80_0000 => 0x7fc0_0000,
        _ => bits,
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = |(&a, &b): (&u32, &u32)| canonical(a) != canonical(b);
    if let Some(place) = found.iter().zip(expected).position(differs) {
        let count = found.iter().zip(expected).filter(|&pair| differs(pair)).count();
        let (found, expected) = (found[place], expected[place]);
        panic!("{what}: {count} differ, first [{place}]: {found:08x}, the interpreter {expected:08x}\n{program}");
    }
}
