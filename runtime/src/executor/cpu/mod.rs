//! The processor, running generated code.
//!
//! Everything is prepared once: code, the arena of temporary buffers, packed weights, scratch memory of each thread and
//! the tables of addresses. A run fills in where the caller's tensors lie and calls the kernels in order; on one thread
//! it allocates nothing and makes no system call. The number of threads doesn't change a bit.

mod memory;
mod parallel;
mod pool;
mod profile;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::ptr;
use std::sync::Arc;

pub use loom_codegen_cpu::Level;
use loom_codegen_cpu::abi::{KernelLayout, PackTime, PanelsLayout};
use loom_codegen_cpu::{JitProgram, Options, UnknownLevel, compile_stored};
use loom_ir::kernel::memory::ARENA_ALIGNMENT;
use loom_ir::kernel::{Buffer, BufferId, BufferKind, Program, Step, Verified};
pub use pool::Pool;
pub use rayon;
use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use super::{ExecuteError, Executor, Profile, WeightBits, stored_forms, weight_bits};
use crate::fp_env::FpEnv;
use memory::Block;
use parallel::{Job, Target};

/// How a program runs on the processor. None of it changes a bit.
#[derive(Debug, Clone)]
pub struct CpuOptions {
    /// Number of threads; as many as the machine has where there's none given.
    pub threads: Option<usize>,
    /// The threads themselves, in place of a number: a host's own.
    pub pool: Option<Pool>,
    /// A kernel that takes less time (`KernelLayout::cost`) stays on one thread.
    pub worth_threads: u64,
    /// For the code generator.
    pub codegen: Options,
}

/// Bytes of panels that are packed before the weight's memory is let go, and how often that happens for one weight at
/// most: where its elements lie in another order than the panels', each piece reads all of its pages again.
const PIECE: u64 = 256 << 10;
const MOST_PIECES: u64 = 8;

/// About how many bytes of panels are packed in a nanosecond.
const BYTES_A_NANOSECOND: u64 = 4;

/// The environment variable that [`CpuOptions::from_environment`] reads.
const LEVEL_VARIABLE: &str = "LOOM_CPU";

impl CpuOptions {
    /// The default options; where the environment variable `LOOM_CPU` names a [`Level`], code keeps to it. It's an error
    /// if there's no such level or this processor does not have it.
    pub fn from_environment() -> Result<CpuOptions, ExecuteError> {
        match std::env::var(LEVEL_VARIABLE) {
            Ok(name) if !name.is_empty() => CpuOptions::at(&name),
            _ => Ok(CpuOptions::default()),
        }
    }

    fn at(name: &str) -> Result<CpuOptions, ExecuteError> {
        let refused = |why: String| ExecuteError::NoDevice(format!("{LEVEL_VARIABLE}={name}: {why}"));
        let level: Level = name.parse().map_err(|error: UnknownLevel| refused(error.to_string()))?;
        let codegen = Options::at(level).ok_or_else(|| refused("this processor does not have it".to_string()))?;
        Ok(CpuOptions { codegen, ..CpuOptions::default() })
    }
}

impl Default for CpuOptions {
    /// The threshold is 20 microseconds: to split a kernel over threads and to wait for them takes about 5 (measured), which
    /// two threads must save first.
    fn default() -> CpuOptions {
        CpuOptions { threads: None, pool: None, worth_threads: 20_000, codegen: Options::native() }
    }
}

/// A program on the processor.
pub struct CpuExecutor {
    program: Arc<Verified>,
    steps: Vec<Step>,
    weights: Arc<dyn WeightBits>,
    code: JitProgram,
    arena: Block,
    /// By buffer: the offset of a temporary one in the arena.
    offsets: Vec<Option<u64>>,
    /// By kernel: its packed operand.
    panels: Vec<Option<Block>>,
    /// One a thread.
    scratch: Vec<Block>,
    /// Only if a kernel is worth threads.
    pool: Option<Pool>,
    /// How many threads were asked for.
    threads: usize,
    worth_threads: u64,
    addresses: Addresses,
}

/// The inputs and outputs of a run.
type Tensors<'a, 'b> = (&'a [&'a [u32]], &'a mut [&'b mut [u32]]);

/// Where the buffers lie. The addresses hold for the run that filled them in.
struct Addresses {
    /// By buffer.
    buffers: Vec<*mut u8>,
    /// By kernel: the buffers in the order of its table.
    order: Vec<Vec<usize>>,
    /// By kernel: the table that its code is called with, the panels last.
    tables: Vec<Vec<*mut u8>>,
}

// SAFETY: the addresses are written before each use, from what the run was given; nobody else uses them.
unsafe impl Send for Addresses {}

impl CpuExecutor {
    /// Compiles the program, packs its weights and allocates all that its runs will need.
    ///
    /// Without a number of `threads`, there are as many as the machine has; with one, nothing is spawned. The other
    /// options are those of [`CpuOptions::from_environment`].
    pub fn new(
        program: Arc<Verified>,
        weights: Arc<dyn WeightBits>,
        threads: Option<usize>,
    ) -> Result<CpuExecutor, ExecuteError> {
        CpuExecutor::with_options(program, weights, &CpuOptions { threads, ..CpuOptions::from_environment()? })
    }

    /// The same, with all options.
    pub fn with_options(
        program: Arc<Verified>,
        weights: Arc<dyn WeightBits>,
        options: &CpuOptions,
    ) -> Result<CpuExecutor, ExecuteError> {
        let machine = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let given = options.pool.as_ref().map(Pool::threads);
        let threads = given.or(options.threads).unwrap_or_else(machine).max(1);
        let mut codegen = options.codegen.clone();
        // A host that gives its own threads wants no others.
        codegen.threads = if given.is_some() { 1 } else { threads };
        let forms = stored_forms(&program, &*weights);
        let code = compile_stored(&program, &forms, &codegen).map_err(|error| match error {
            loom_codegen_cpu::Error::Target(why) => ExecuteError::NoDevice(why),
            loom_codegen_cpu::Error::Memory { kernel, what, bytes } => {
                ExecuteError::Memory { what: format!("{what} of kernel `{kernel}`"), bytes }
            }
            other => ExecuteError::Internal(other.to_string()),
        })?;
        let (offsets, arena_bytes) = place_buffers(&program);
        let layouts = || layouts_of(&code);
        let worth = |layout: &KernelLayout| worth_threads(layout, options.worth_threads);
        let pool = match &options.pool {
            _ if threads == 1 || !layouts().any(worth) => None,
            Some(pool) => Some(pool.clone()),
            None => Some(Pool::shared(threads)?),
        };
        let working = if pool.is_some() { threads } else { 1 };
        let scratch_bytes = layouts().map(|layout| layout.scratch_bytes).max().unwrap_or(0);
        let scratch: Result<_, _> = (0..working).map(|_| Block::new(scratch_bytes, "scratch memory")).collect();
        let panels: Result<_, _> = layouts()
            .map(|layout| layout.panels.map(|panels| Block::new(panels.bytes(), "packed operands")).transpose())
            .collect();
        let order: Vec<Vec<usize>> = program
            .kernels
            .iter()
            .map(|kernel| kernel.buffers().iter().map(|buffer| buffer.index()).collect())
            .collect();
        let tables = order.iter().map(|order| vec![ptr::null_mut(); order.len() + 1]).collect();
        let mut executor = CpuExecutor {
            addresses: Addresses { buffers: vec![ptr::null_mut(); program.buffers.len()], order, tables },
            arena: Block::new(arena_bytes, "temporary buffers")?,
            panels: panels?,
            scratch: scratch?,
            steps: program.steps().collect(),
            program,
            weights,
            code,
            offsets,
            pool,
            threads,
            worth_threads: options.worth_threads,
        };
        executor.bind(None)?;
        let mut done_with = only_packed(&executor.program, layouts_of(&executor.code));
        FpEnv::run(|| {
            for kernel in 0..executor.program.kernels.len() {
                // Runs read the panels: a mapped weight shall not lie in memory twice.
                let done_with = done_with.remove(&kernel).unwrap_or_default();
                for panels in executor.pieces(kernel) {
                    match executor.code.kernels()[kernel].stored {
                        Some(_) => executor.pack_stored(kernel, panels),
                        // SAFETY: weights and constants are bound, which is all that a pack function of this time reads.
                        None => unsafe { executor.pack_panels(kernel, panels) },
                    }
                    done_with.iter().for_each(|&weight| executor.weights.release(weight));
                }
            }
        });
        Ok(executor)
    }

    /// Fills in all addresses; those of inputs and outputs are null without `tensors`.
    fn bind(&mut self, mut tensors: Option<Tensors<'_, '_>>) -> Result<(), ExecuteError> {
        let (mut input, mut weight, mut output) = (0, 0, 0);
        for (index, buffer) in self.program.buffers.iter().enumerate() {
            // Generated code writes only outputs and temporaries (verified), although all addresses have one type.
            let (address, found) = match &buffer.kind {
                BufferKind::Constant(bits) => (bits.as_ptr().cast_mut(), Some(bits.len())),
                BufferKind::Weight | BufferKind::Codes(_) => {
                    let id = BufferId(index as u32);
                    let only_stored = self.weights.stored(weight).is_some() && !self.code.reads_widened(id);
                    let address = match only_stored {
                        // Its panels are all that code reads.
                        true => ptr::null_mut(),
                        false => weight_bits(&*self.weights, weight, buffer)?.as_ptr().cast_mut(),
                    };
                    weight += 1;
                    (address, None)
                }
                BufferKind::Input => {
                    let bits = tensors.as_ref().map(|(inputs, _)| inputs.get(input).copied().unwrap_or_default());
                    input += 1;
                    (bits.map_or(ptr::null_mut(), |bits| bits.as_ptr().cast_mut()), bits.map(<[u32]>::len))
                }
                BufferKind::Output => {
                    let bits = tensors.as_mut().and_then(|(_, outputs)| outputs.get_mut(output));
                    output += 1;
                    match bits {
                        Some(bits) => (bits.as_mut_ptr(), Some(bits.len())),
                        None => (ptr::null_mut(), None),
                    }
                }
                BufferKind::Temp => {
                    let offset = self.offsets[index].unwrap_or(0) as usize;
                    (self.arena.address().wrapping_add(offset).cast(), None)
                }
            };
            if let Some(found) = found
                && found as u64 != buffer.shape.elements()
            {
                let name = &buffer.name;
                return Err(ExecuteError::Internal(format!("the tensor `{name}` came with {found} elements")));
            }
            self.addresses.buffers[index] = address.cast();
        }
        if let Some((inputs, outputs)) = tensors
            && (inputs.len(), outputs.len()) != (input, output)
        {
            let (inputs, outputs) = (inputs.len(), outputs.len());
            return Err(ExecuteError::Internal(format!(
                "{input} inputs and {output} outputs are needed, {inputs} and {outputs} were given"
            )));
        }
        let Addresses { buffers, order, tables } = &mut self.addresses;
        for ((table, order), panels) in tables.iter_mut().zip(order).zip(&self.panels) {
            let all = order.iter().map(|&buffer| buffers[buffer]);
            let panels = panels.as_ref().map_or(ptr::null_mut(), Block::address);
            for (entry, address) in table.iter_mut().zip(all.chain([panels])) {
                *entry = address;
            }
        }
        Ok(())
    }

    /// Writes these panels of a weight that is kept as it is stored.
    fn pack_stored(&mut self, kernel: usize, panels: Range<u64>) {
        let (Some(pack), Some(block)) = (&self.code.kernels()[kernel].stored, &mut self.panels[kernel]) else { return };
        let number = self.program.weights().position(|(id, _)| id == pack.weight());
        let Some((view, _)) = number.and_then(|number| self.weights.stored(number)) else { return };
        let bytes = pack.panel_bytes().max(1);
        let out = &mut block.bytes_mut()[(panels.start * bytes) as usize..(panels.end * bytes) as usize];
        match &self.pool {
            None => pack.write(&view, panels, out),
            Some(pool) => pool.rayon().install(|| {
                let share = (panels.end - panels.start).div_ceil(self.scratch.len() as u64).max(1);
                let chunks = out.par_chunks_mut((share * bytes) as usize);
                chunks.enumerate().for_each(|(number, out)| {
                    let first = panels.start + number as u64 * share;
                    pack.write(&view, first..panels.end.min(first + share), out);
                });
            }),
        }
    }

    /// The panels of a kernel that are packed once, in pieces, after each of which the weight's memory can be let go.
    fn pieces(&self, kernel: usize) -> impl Iterator<Item = Range<u64>> + use<> {
        let code = &self.code.kernels()[kernel];
        let panels = code.layout.panels.filter(|panels| panels.when == PackTime::Load);
        let count = panels.map_or(0, |panels| panels.panels);
        let pieces = panels.map_or(0, |panels| panels.bytes() / PIECE).clamp(1, MOST_PIECES);
        let size = count.div_ceil(pieces).max(1);
        (0..count).step_by(size as usize).map(move |begin| begin..count.min(begin + size))
    }

    /// Packs these of a kernel's panels.
    ///
    /// # Safety
    /// The kernel's table is filled in with all that the pack function reads, for memory that nobody writes to.
    unsafe fn pack_panels(&self, kernel: usize, items: Range<u64>) {
        let code = &self.code.kernels()[kernel];
        let (Some(panels), Some(pack), Some(block)) = (code.layout.panels, code.pack, &self.panels[kernel]) else {
            return;
        };
        let job = Job {
            code: pack,
            table: self.addresses.tables[kernel].as_ptr(),
            cost: (items.end - items.start) * panels.panel_bytes / BYTES_A_NANOSECOND,
            items,
            target: Target::Panels { start: block.address(), bytes: panels.panel_bytes },
            scratch: &self.scratch,
            worth_threads: self.worth_threads,
        };
        // SAFETY: the caller's promise; the panels are this executor's own and large enough.
        unsafe { job.run(self.pool.as_ref()) };
    }

    /// Runs one step of the program.
    ///
    /// This thread is in LN1's floating-point environment, as for all that runs generated code.
    ///
    /// # Safety
    /// As for `run_kernel`.
    unsafe fn run_step(&self, step: &Step) {
        match step {
            // SAFETY: the caller's promise.
            Step::Kernel(kernel) => unsafe { self.run_kernel(*kernel, 0) },
            Step::Loop { kernels, count } => {
                for index in 0..*count {
                    for kernel in kernels.clone() {
                        // SAFETY: the caller's promise; the kernels of a loop take turns as its ABI asks for.
                        unsafe { self.run_kernel(kernel, index) };
                    }
                }
            }
        }
    }

    /// Runs one kernel; of a kernel in a loop its items for this index.
    ///
    /// # Safety
    /// All addresses are filled in, for memory that nobody else writes to, or reads if the kernel writes it.
    unsafe fn run_kernel(&self, kernel: usize, index: u64) {
        let code = &self.code.kernels()[kernel];
        if let Some(panels) = code.layout.panels.filter(|panels| panels.when == PackTime::Run) {
            // SAFETY: the caller's promise.
            unsafe { self.pack_panels(kernel, slice(panels.panels, panels.slices, index)) };
        }
        let job = Job {
            code: code.entry,
            table: self.addresses.tables[kernel].as_ptr(),
            items: slice(code.layout.items, code.layout.slices, index),
            cost: code.layout.cost / code.layout.slices.max(1),
            target: Target::Scratch,
            scratch: &self.scratch,
            worth_threads: self.worth_threads,
        };
        // SAFETY: the caller's promise; each thread's scratch memory is large enough for every kernel.
        unsafe { job.run(self.pool.as_ref()) };
    }
}

impl Executor for CpuExecutor {
    fn program(&self) -> &Program {
        &self.program
    }

    fn description(&self) -> String {
        let threads = self.threads;
        format!("{}, {threads} thread{}", std::env::consts::ARCH, if threads == 1 { "" } else { "s" })
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        self.bind(Some((inputs, outputs)))?;
        // Once for all kernels: a step of a recurrence takes little longer than changing the environment twice.
        FpEnv::run(|| {
            for step in &self.steps {
                // SAFETY: `bind` has filled in memory of the right sizes: the caller's tensors, borrowed for this call
                // and the outputs mutably; the weights, borrowed from what this executor holds; the rest is its own. The
                // verifier has proved every access in bounds and the temporaries apart from each other.
                unsafe { self.run_step(step) };
            }
        });
        Ok(())
    }

    fn shows_one_nan(&self) -> bool {
        true
    }

    fn profile(&mut self, inputs: &[&[u32]], rounds: usize) -> Result<Option<Profile>, ExecuteError> {
        self.profile_steps(inputs, rounds).map(Some)
    }

    fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError> {
        let mut outputs: Vec<Vec<u32>> =
            self.program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
        let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.bind(Some((inputs, &mut slices)))?;
        for step in &self.steps {
            // SAFETY: as in `run`.
            FpEnv::run(|| unsafe { self.run_step(step) });
            for number in step.kernels() {
                let buffer = self.program.kernels[number].output.buffer;
                let elements = self.program.buffer(buffer).shape.elements() as usize;
                let address = self.addresses.buffers[buffer.index()].cast::<u32>();
                // SAFETY: the kernel's output: an aligned buffer of that many elements, all written (they were zero
                // before), which nothing writes to while `observe` looks at it.
                let bits = unsafe { std::slice::from_raw_parts(address, elements) };
                if observe(number, bits).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn layouts_of(code: &JitProgram) -> impl Iterator<Item = &KernelLayout> {
    code.kernels().iter().map(|kernel| &kernel.layout)
}

/// The weights that no run reads, by the last kernel that packs them.
fn only_packed<'a>(program: &Program, layouts: impl Iterator<Item = &'a KernelLayout>) -> BTreeMap<usize, Vec<usize>> {
    let mut last: Vec<Option<usize>> = vec![None; program.buffers.len()];
    let mut is_read = vec![false; program.buffers.len()];
    for (number, (kernel, layout)) in program.kernels.iter().zip(layouts).enumerate() {
        for (place, buffer) in kernel.buffers().into_iter().enumerate() {
            is_read[buffer.index()] |= !layout.only_packs(place);
            last[buffer.index()] = Some(number);
        }
    }
    let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (weight, (id, _)) in program.weights().enumerate() {
        if let (Some(kernel), false) = (last[id.index()], is_read[id.index()]) {
            found.entry(kernel).or_default().push(weight);
        }
    }
    found
}

/// Whether a kernel's items, or those of its pack function, may be worth threads.
fn worth_threads(layout: &KernelLayout, worth: u64) -> bool {
    let kernel = layout.items / layout.slices.max(1) > 1 && layout.cost / layout.slices.max(1) >= worth;
    let pack =
        layout.panels.is_some_and(|panels| panels.panels / panels.slices.max(1) > 1 && pack_cost(&panels) >= worth);
    kernel || pack
}

/// What packing the panels of one index takes.
fn pack_cost(panels: &PanelsLayout) -> u64 {
    panels.bytes() / panels.slices.max(1) / BYTES_A_NANOSECOND
}

/// The items of one index, of `slices` equal runs.
fn slice(items: u64, slices: u64, index: u64) -> Range<u64> {
    let size = items.checked_div(slices).unwrap_or(0);
    let index = if slices == 1 { 0 } else { index };
    index * size..(index + 1) * size
}

/// The offset of every temporary buffer and the size of the arena: the program's plan, or one place after another.
fn place_buffers(program: &Program) -> (Vec<Option<u64>>, u64) {
    if let Some(plan) = &program.plan {
        return (plan.offsets.clone(), plan.arena_bytes);
    }
    let mut bytes = 0;
    let place = |buffer: &Buffer| {
        (buffer.kind == BufferKind::Temp).then(|| {
            let offset = bytes;
            bytes += buffer.bytes().next_multiple_of(ARENA_ALIGNMENT);
            offset
        })
    };
    let offsets = program.buffers.iter().map(place).collect();
    (offsets, bytes)
}
