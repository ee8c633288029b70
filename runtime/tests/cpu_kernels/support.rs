//! Small programs built by hand, and their comparison on the interpreter and the processor.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom_codegen_cpu::{Level, Options};
use loom_ir::eval::program::{Memory, run};
use loom_ir::kernel::scalar::{ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Guard, Kernel, Lambda, Program, Verified, verify,
};
use loom_ir::types::{DType, Shape};
use loom_runtime::digest::canonical;
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};

/// A program that grows.
pub struct Net {
    pub program: Program,
}

impl Net {
    pub fn new() -> Net {
        Net { program: Program { name: "test".to_string(), buffers: vec![], kernels: vec![], plan: None } }
    }

    pub fn buffer(&mut self, kind: BufferKind, dtype: DType, shape: &[u64]) -> BufferId {
        let name = format!("{}{}", kind.name(), self.program.buffers.len());
        self.program.buffers.push(Buffer { name, dtype, shape: Shape::new(shape), kind });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    pub fn input(&mut self, shape: &[u64]) -> BufferId {
        self.buffer(BufferKind::Input, DType::F32, shape)
    }

    pub fn weight(&mut self, shape: &[u64]) -> BufferId {
        self.buffer(BufferKind::Weight, DType::F32, shape)
    }

    pub fn output(&mut self, shape: &[u64]) -> BufferId {
        self.buffer(BufferKind::Output, DType::F32, shape)
    }

    pub fn kernel(&mut self, axes: &[u64], loads: Vec<Access>, body: Body, output: Access) {
        let name = format!("kernel{}", self.program.kernels.len());
        self.program.kernels.push(Kernel { name, axes: axes.to_vec(), loads, body, output, in_loop: None });
    }

    /// An access whose coordinates are combinations of axes: `(offset, coefficients)` each.
    pub fn access(&self, buffer: BufferId, coords: &[(i64, &[i64])]) -> Access {
        let coords = coords.iter().map(|&(offset, coefficients)| affine(offset, coefficients)).collect();
        Access { buffer, shape: self.program.buffer(buffer).shape.clone(), coords, guards: vec![], fill: 0 }
    }

    /// The same with a guard on each coordinate that keeps it in bounds.
    pub fn padded(&self, buffer: BufferId, coords: &[(i64, &[i64])], fill: u32) -> Access {
        let mut access = self.access(buffer, coords);
        let bounds = access.coords.iter().zip(access.shape.dims());
        access.guards = bounds.map(|(coord, &extent)| Guard { expr: coord.clone(), extent }).collect();
        access.fill = fill;
        access
    }

    pub fn check(self) {
        self.check_with(Values::Ordinary);
        self.check_with_program(Values::Special);
    }

    pub fn check_with(&self, values: Values) {
        self.check_with_program(values);
    }

    fn check_with_program(&self, values: Values) {
        let program = match verify(self.program.clone()) {
            Ok(program) => Arc::new(program),
            Err(error) => panic!("{error}\n{}", self.program),
        };
        check_program(&program, values);
    }
}

pub fn affine(offset: i64, coefficients: &[i64]) -> Affine {
    Affine { offset, coefficients: coefficients.to_vec() }
}

/// A function of some `f32` arguments.
pub fn function(params: usize, build: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let params: Vec<Value> = (0..params).map(|_| b.param(DType::F32)).collect();
    let result = build(&mut b, &params);
    b.finish(result)
}

/// A lambda of the first loads.
pub fn of_loads(loads: u32, build: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) -> Lambda {
    Lambda { args: (0..loads).map(Arg::Load).collect(), function: function(loads as usize, build) }
}

/// What inputs hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Finite numbers of many sizes, so that every order of a sum has its own bits.
    Ordinary,
    /// The same, and now and then NaN, infinities, zeros of both signs and subnormals.
    Special,
}

pub const SPECIAL: [u32; 16] = [
    0x7fc0_0000,
    0x7f80_0000,
    0xff80_0000,
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x3f80_0000,
    0xbf80_0000,
    0x4f00_0000,
    0xcf00_0000,
    0x3f00_0000,
];

/// Reproducible bits: xorshift.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }

    pub fn bits(&mut self, dtype: DType, values: Values) -> u32 {
        let bits = self.next();
        let special = values == Values::Special && self.below(24) == 0;
        match dtype {
            DType::Bool => bits & 1,
            DType::F32 if special => SPECIAL[self.below(16) as usize],
            // Exponents from 2^-6 to 2^5.
            DType::F32 => (bits & 0x807f_ffff) | (121 + self.below(11)) << 23,
            _ if special => [0, 1, u32::MAX, 0x8000_0000, 0x7fff_ffff][self.below(5) as usize],
            _ => bits,
        }
    }
}

/// Compares every kernel's output and the program's outputs: interpreter; one thread, with the instructions of each level
/// that this processor has, and with all of its instructions in generated code alone; two threads, with all it has.
pub fn check_program(program: &Arc<Verified>, values: Values) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut memory = Memory::new(program);
    for (index, buffer) in program.buffers.iter().enumerate() {
        if matches!(buffer.kind, BufferKind::Input | BufferKind::Weight) {
            for bits in &mut memory.buffers[index] {
                *bits = random.bits(buffer.dtype, values);
            }
        }
    }
    let of = |memory: &Memory, wanted: &BufferKind| -> Vec<Vec<u32>> {
        let buffers = program.buffers_where(|kind| kind == wanted);
        buffers.map(|(id, _)| memory.buffers[id.index()].clone()).collect()
    };
    let inputs = of(&memory, &BufferKind::Input);
    let weights = Arc::new(of(&memory, &BufferKind::Weight));
    run(program, &mut memory);

    // Callers' tensors are aligned to 4 bytes only.
    let inputs: Vec<Vec<u32>> = inputs.into_iter().map(|bits| [vec![0], bits].concat()).collect();
    let inputs: Vec<&[u32]> = inputs.iter().map(|bits| &bits[1..]).collect();
    let levels = Level::ALL.into_iter().filter_map(Options::at).map(|codegen| (1, codegen));
    for (threads, codegen) in levels.chain([(1, Options::default()), (2, Options::native())]) {
        // Every kernel is worth threads here.
        let options = CpuOptions { threads: Some(threads), worth_threads: 0, codegen, ..CpuOptions::default() };
        let mut executor = match CpuExecutor::with_options(program.clone(), weights.clone(), &options) {
            Ok(executor) => executor,
            Err(error) => panic!("{error}\n{}", ***program),
        };
        let traced = executor.trace(&inputs, &mut |number, bits| {
            let kernel = &program.kernels[number];
            let expected = &memory.buffers[kernel.output.buffer.index()];
            let dtype = program.buffer(kernel.output.buffer).dtype;
            compare(&format!("{threads} threads, {kernel}"), dtype, bits, expected);
            ControlFlow::Continue(())
        });
        assert!(traced.is_ok(), "{traced:?}");
        let mut outputs: Vec<Vec<u32>> =
            program.outputs().map(|(_, buffer)| vec![0xdead_beef; buffer.shape.elements() as usize + 1]).collect();
        // Twice: nothing may be left over from the first run.
        for _ in 0..2 {
            let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(|bits| &mut bits[1..]).collect();
            let result = executor.run(&inputs, &mut slices);
            assert!(result.is_ok(), "{result:?}");
        }
        for ((id, buffer), bits) in program.outputs().zip(&outputs) {
            assert!(executor.shows_one_nan());
            if buffer.dtype == DType::F32 {
                let other = bits[1..].iter().find(|&&bits| canonical(bits) != bits);
                assert_eq!(other, None, "a NaN of its own in {}", buffer.name);
            }
            compare(
                &format!("{threads} threads, {}", buffer.name),
                buffer.dtype,
                &bits[1..],
                &memory.buffers[id.index()],
            );
        }
    }
}

fn compare(what: &str, dtype: DType, found: &[u32], expected: &[u32]) {
    let canonical = |bits: u32| if dtype == DType::F32 { canonical(bits) } else { bits };
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = (0..found.len()).find(|&index| canonical(found[index]) != canonical(expected[index]));
    if let Some(index) = differs {
        let (found, expected) = (found[index], expected[index]);
        panic!(
            "element {index} is {found:08x} ({}), not {expected:08x} ({}): {what}",
            f32::from_bits(found),
            f32::from_bits(expected)
        );
    }
}
