//! A program on a GPU.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use loom_codegen_wgsl::{Arithmetic, Binding, Target, WgslKernel, codes_form, generate_stored, generate_turns};
use loom_ir::kernel::{BufferKind, Program, Step, Verified};

use super::device::{Context, Pipeline, Shader, check_limit, codegen_error};
use super::memory::{Memory, Place};
use super::open::GpuDevice;
use super::parallel;
use super::submitted::Run;
use super::trial::Trials;
use crate::executor::tier::Tier;
use crate::executor::{ExecuteError, Executor, Profile, Submitted, WeightBits, stored_forms, weight_bits};
use crate::fp_env::FpEnv;

/// A program made ready on a GPU: pipelines, weights, memory and staging buffers are made once.
pub struct GpuExecutor {
    device: Arc<GpuDevice>,
    ready: Ready,
}

impl fmt::Debug for GpuExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = &self.ready.program.name;
        f.debug_struct("GpuExecutor").field("program", program).field("device", self.device.info()).finish()
    }
}

impl GpuExecutor {
    /// Makes a program ready on a device, with the shapes that suit it.
    pub fn new(
        device: Arc<GpuDevice>,
        program: Arc<Verified>,
        weights: Arc<dyn WeightBits>,
    ) -> Result<GpuExecutor, ExecuteError> {
        let target = device.target().clone();
        GpuExecutor::with_target(device, program, weights, &target)
    }

    /// The same with shapes of the caller's choice: for tests of templates that the device would not choose.
    pub fn with_target(
        device: Arc<GpuDevice>,
        program: Arc<Verified>,
        weights: Arc<dyn WeightBits>,
        target: &Target,
    ) -> Result<GpuExecutor, ExecuteError> {
        let trials = Trials { adapter: &device.info().adapter, certificates: &device.certificates };
        let trials = (target.arithmetic == Arithmetic::Guarded).then_some(trials);
        // naga and drivers fold arithmetic on constants with the processor's own.
        let ready = FpEnv::run(|| Ready::new(&device.context, program, &*weights, target, trials))?;
        Ok(GpuExecutor { device, ready })
    }
}

impl Executor for GpuExecutor {
    fn program(&self) -> &Program {
        &self.ready.program
    }

    fn description(&self) -> String {
        let adapter = &self.device.info().adapter;
        format!("{}, {} {}, tier {}", adapter.name, adapter.driver, adapter.driver_info, self.device.tier())
    }

    fn tier(&self) -> Option<Tier> {
        Some(self.device.tier())
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        // A software device may compute on this thread.
        FpEnv::run(|| self.ready.run(&self.device.context, inputs, outputs))
    }

    fn submit(&mut self, inputs: &[&[u32]]) -> Result<Option<Box<dyn Submitted + '_>>, ExecuteError> {
        let run = FpEnv::run(|| Run::new(&self.device.context, &mut self.ready, inputs))?;
        Ok(Some(Box::new(run)))
    }

    fn profile(&mut self, inputs: &[&[u32]], rounds: usize) -> Result<Option<Profile>, ExecuteError> {
        FpEnv::run(|| self.ready.profile(&self.device.context, inputs, rounds))
    }

    fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError> {
        self.ready.trace(&self.device.context, inputs, observe)
    }
}

/// The executor without its device, so that a device can be probed before it is one.
pub(super) struct Ready {
    program: Arc<Verified>,
    memory: Memory,
    dispatches: Vec<Dispatch>,
    /// Which dispatch a kernel is. A loop of which a dispatch makes many steps has one, that of its first kernel.
    numbers: BTreeMap<usize, usize>,
    /// How many steps a dispatch makes of the loop that begins with a kernel, where there are many.
    turns: BTreeMap<usize, u64>,
    /// Of each input with elements: the buffer that the host writes, and where it goes.
    uploads: Vec<Staging>,
    /// Of each output with elements: the buffer that the host reads, and where it comes from.
    downloads: Vec<Staging>,
    /// Whether the host can write `uploads`; false while a run has them.
    writable: bool,
}

/// A kernel, ready to be dispatched.
pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
    /// In a loop: the binding of its index.
    turn: Option<wgpu::BindGroup>,
    /// The digest of its shader.
    pub digest: String,
}

/// Bytes from one index of a loop to the next: the least alignment that WebGPU lets a device ask of a dynamic offset.
const TURN_STRIDE: u64 = 256;

struct Staging {
    buffer: wgpu::Buffer,
    place: Place,
    /// Its position among the inputs or outputs.
    index: usize,
}

impl Ready {
    pub fn new(
        context: &Context,
        program: Arc<Verified>,
        weights: &dyn WeightBits,
        target: &Target,
        trials: Option<Trials<'_>>,
    ) -> Result<Ready, ExecuteError> {
        let mut forms = stored_forms(&program, weights);
        for (number, (id, buffer)) in program.weights().enumerate() {
            if matches!(buffer.kind, BufferKind::Codes(_)) {
                forms.extend(codes_form(weight_bits(weights, number, buffer)?).map(|form| (id, form)));
            }
        }
        let mut kernels: BTreeMap<usize, WgslKernel> =
            generate_stored(&program, &forms, target).map_err(codegen_error)?.into_iter().enumerate().collect();
        let mut turns = BTreeMap::new();
        for many in generate_turns(&program, &forms, target).map_err(codegen_error)? {
            let first = many.kernels.start;
            many.kernels.for_each(|number| drop(kernels.remove(&number)));
            kernels.insert(first, many.kernel);
            turns.insert(first, many.steps);
        }
        let numbers = kernels.keys().copied().zip(0..).collect();
        let kernels: Vec<WgslKernel> = kernels.into_values().collect();
        let memory = Memory::new(context, &program, &forms)?;
        let dispatches = make_dispatches(context, &program, &memory, &kernels, target.arithmetic)?;
        context.keep_pipelines();
        if let Some(trials) = trials {
            trials.run(context, (&program, &forms), &memory, &dispatches)?;
        }
        memory.upload_weights(context, (&program, &forms), weights)?;
        let stage = |ids: Vec<_>, usage: wgpu::BufferUsages, mapped: bool| -> Result<Vec<Staging>, ExecuteError> {
            let mut list = Vec::new();
            for (index, id) in ids.into_iter().enumerate() {
                let place = memory.place(id).clone();
                if place.bytes > 0 {
                    let buffer = context.buffer("staging", place.bytes, usage, mapped)?;
                    list.push(Staging { buffer, place, index });
                }
            }
            Ok(list)
        };
        let inputs = program.inputs().map(|(id, _)| id).collect();
        let outputs = program.outputs().map(|(id, _)| id).collect();
        let uploads = stage(inputs, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC, true)?;
        let downloads = stage(outputs, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST, false)?;
        Ok(Ready { program, memory, dispatches, numbers, turns, uploads, downloads, writable: true })
    }

    pub fn run(
        &mut self,
        context: &Context,
        inputs: &[&[u32]],
        outputs: &mut [&mut [u32]],
    ) -> Result<(), ExecuteError> {
        self.check_outputs(outputs)?;
        self.submit(context, inputs)?;
        map(context, self.mappings())?;
        self.take_back();
        self.read(outputs)
    }

    /// Hands a run to the device.
    pub fn submit(&mut self, context: &Context, inputs: &[&[u32]]) -> Result<wgpu::SubmissionIndex, ExecuteError> {
        self.write_inputs(context, inputs)?;
        context.scoped(|| {
            let mut encoder = encoder(context);
            self.encode_uploads(&mut encoder);
            self.encode(&mut compute_pass(&mut encoder, None), self.program.steps());
            for download in &self.downloads {
                let Staging { buffer, place, .. } = download;
                encoder.copy_buffer_to_buffer(&place.buffer, place.offset, buffer, 0, place.bytes);
            }
            context.queue.submit([encoder.finish()])
        })
    }

    /// What is to be mapped after a run: outputs to be read, and inputs for the next one.
    pub fn mappings(&self) -> impl Iterator<Item = (&wgpu::Buffer, wgpu::MapMode)> {
        let reads = self.downloads.iter().map(|download| (&download.buffer, wgpu::MapMode::Read));
        reads.chain(self.uploads.iter().map(|upload| (&upload.buffer, wgpu::MapMode::Write)))
    }

    /// All of that is mapped.
    pub fn take_back(&mut self) {
        self.writable = true;
    }

    /// Reads the outputs of a run, which are mapped.
    pub fn read(&self, outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        self.check_outputs(outputs)?;
        for download in &self.downloads {
            read(&download.buffer, outputs[download.index])?;
        }
        Ok(())
    }

    /// Unmaps the outputs of a run that nobody reads, and where it has not ended, all else that will be mapped.
    pub fn unmap(&self, ended: bool) {
        let uploads = self.uploads.iter().filter(|_| !ended);
        self.downloads.iter().chain(uploads).for_each(|staging| staging.buffer.unmap());
    }

    fn check_outputs(&self, outputs: &[&mut [u32]]) -> Result<(), ExecuteError> {
        let lengths = outputs.iter().map(|output| output.len());
        check_lengths("output", lengths, self.program.outputs().map(|(_, buffer)| buffer.shape.elements()))
    }

    pub fn trace(
        &mut self,
        context: &Context,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError> {
        FpEnv::run(|| {
            self.write_inputs(context, inputs)?;
            context.scoped(|| {
                let mut encoder = encoder(context);
                self.encode_uploads(&mut encoder);
                context.queue.submit([encoder.finish()]);
            })
        })?;
        let mut bits = Vec::new();
        for step in self.program.steps() {
            // Not around `observe`, which is the caller's.
            FpEnv::run(|| {
                context.scoped(|| {
                    let mut encoder = encoder(context);
                    self.encode(&mut compute_pass(&mut encoder, None), [step.clone()]);
                    context.queue.submit([encoder.finish()]);
                })
            })?;
            for number in step.kernels() {
                let place = self.memory.place(self.program.kernels[number].output.buffer);
                FpEnv::run(|| fetch(context, place, &mut bits))?;
                if observe(number, &bits).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Puts the inputs where the device will fetch them.
    pub fn write_inputs(&mut self, context: &Context, inputs: &[&[u32]]) -> Result<(), ExecuteError> {
        let lengths = inputs.iter().map(|input| input.len());
        check_lengths("input", lengths, self.program.inputs().map(|(_, buffer)| buffer.shape.elements()))?;
        context.check()?;
        if !self.writable {
            map(context, self.uploads.iter().map(|upload| (&upload.buffer, wgpu::MapMode::Write)))?;
        }
        self.writable = false;
        for upload in &self.uploads {
            let mut view = upload.buffer.get_mapped_range_mut(..).map_err(mapping_error)?;
            view.copy_from_slice(bytemuck::cast_slice(inputs[upload.index]));
            drop(view);
            upload.buffer.unmap();
        }
        Ok(())
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Encodes dispatches into a pass; wgpu puts the barriers between them.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, steps: impl IntoIterator<Item = Step>) {
        let mut dispatch = |kernel: usize, index: u64| self.dispatches[self.numbers[&kernel]].encode(pass, index);
        for step in steps {
            match step {
                Step::Kernel(kernel) => dispatch(kernel, 0),
                Step::Loop { kernels, count } => match self.turns.get(&kernels.start) {
                    Some(&steps) => {
                        (0..count).step_by(steps as usize).for_each(|first| dispatch(kernels.start, first));
                    }
                    None => {
                        for index in 0..count {
                            kernels.clone().for_each(|kernel| dispatch(kernel, index));
                        }
                    }
                },
            }
        }
    }

    pub fn encode_uploads(&self, encoder: &mut wgpu::CommandEncoder) {
        for Staging { buffer, place, .. } in &self.uploads {
            encoder.copy_buffer_to_buffer(buffer, 0, &place.buffer, place.offset, place.bytes);
        }
    }
}

/// Bytes of what [`make_turns`] makes.
pub(super) fn turn_bytes(program: &Program) -> u64 {
    longest_loop(program).saturating_mul(TURN_STRIDE)
}

/// Indices of the longest loop.
fn longest_loop(program: &Program) -> u64 {
    let counts = program.steps().map(|step| match step {
        Step::Kernel(_) => 0,
        Step::Loop { count, .. } => count,
    });
    counts.max().unwrap_or(0)
}

/// The numbers from 0 on, as many as the longest loop has indices: uniform buffers one after another.
fn make_turns(context: &Context, program: &Program) -> Result<wgpu::Buffer, ExecuteError> {
    let (count, bytes) = (longest_loop(program), turn_bytes(program));
    let most = context.limits.max_buffer_size.min(u32::MAX.into());
    check_limit(|| "the indices of a loop".to_string(), bytes, most)?;
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = context.buffer("turns", bytes, usage, false)?;
    // A piece at a time: a program may name a loop as long as a buffer may be.
    const PIECE: u64 = 4096;
    for first in (0..count).step_by(PIECE as usize) {
        let mut words = vec![0u32; (PIECE.min(count - first) * TURN_STRIDE / 4) as usize];
        for (turn, index) in words.chunks_mut((TURN_STRIDE / 4) as usize).zip(first..) {
            turn[0] = index as u32;
        }
        context.scoped(|| {
            context.queue.write_buffer(&buffer, first * TURN_STRIDE, bytemuck::cast_slice(&words));
            context.queue.submit([]);
        })?;
    }
    Ok(buffer)
}

/// What lies in a place.
pub(super) fn fetch(context: &Context, place: &Place, bits: &mut Vec<u32>) -> Result<(), ExecuteError> {
    bits.clear();
    if place.bytes == 0 {
        return Ok(());
    }
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = context.buffer("trace", place.bytes, usage, false)?;
    context.scoped(|| {
        let mut encoder = encoder(context);
        encoder.copy_buffer_to_buffer(&place.buffer, place.offset, &staging, 0, place.bytes);
        context.queue.submit([encoder.finish()]);
    })?;
    map(context, [(&staging, wgpu::MapMode::Read)])?;
    bits.resize((place.bytes / 4) as usize, 0);
    read(&staging, bits)
}

/// Runs one kernel, of a loop for this index, and gives what lies where it wrote.
pub(super) fn run_alone(
    context: &Context,
    dispatch: &Dispatch,
    index: u64,
    place: &Place,
    bits: &mut Vec<u32>,
) -> Result<(), ExecuteError> {
    context.scoped(|| {
        let mut encoder = encoder(context);
        dispatch.encode(&mut compute_pass(&mut encoder, None), index);
        context.queue.submit([encoder.finish()]);
    })?;
    fetch(context, place, bits)
}

impl Dispatch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, index: u64) {
        let [x, y, z] = self.workgroups;
        if x > 0 {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            if let Some(turn) = &self.turn {
                pass.set_bind_group(1, turn, &[(index * TURN_STRIDE) as u32]);
            }
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// Makes the pipelines, one for kernels whose shaders are the same, and binds the buffers. All processors take part.
pub(super) fn make_dispatches(
    context: &Context,
    program: &Program,
    memory: &Memory,
    kernels: &[WgslKernel],
    arithmetic: Arithmetic,
) -> Result<Vec<Dispatch>, ExecuteError> {
    let turns = make_turns(context, program)?;
    let shaders = parallel::each(kernels, |kernel| context.shader(kernel, arithmetic))?;
    // Temporary buffers are ranges of an arena that the same kernel may write: see the code generator's documentation of
    // memory.
    let read_only = |kernel: &WgslKernel| -> Vec<bool> {
        let temporary = |binding: &Binding| program.buffer(binding.buffer).kind == BufferKind::Temp;
        kernel.bindings.iter().map(|binding| binding.read_only && !temporary(binding)).collect()
    };
    let keys: Vec<(Shader, Vec<bool>)> =
        shaders.into_iter().zip(kernels).map(|(shader, kernel)| (shader, read_only(kernel))).collect();
    let mut distinct: BTreeMap<&(Shader, Vec<bool>), &WgslKernel> = BTreeMap::new();
    for (key, kernel) in keys.iter().zip(kernels) {
        distinct.entry(key).or_insert(kernel);
    }
    let distinct: Vec<_> = distinct.into_iter().collect();
    let made = parallel::each(&distinct, |((shader, read_only), kernel)| {
        let begun = Instant::now();
        let pipeline = context.pipeline(kernel, shader, read_only)?;
        tracing::debug!(kernel = kernel.name, time = ?begun.elapsed(), "pipeline");
        Ok(pipeline)
    })?;
    let pipelines: BTreeMap<_, _> = distinct.iter().map(|(key, _)| *key).zip(&made).collect();
    let mut dispatches = Vec::with_capacity(kernels.len());
    for (kernel, key) in kernels.iter().zip(&keys) {
        let Pipeline { pipeline, layout, turn } = pipelines[key];
        let entries: Vec<wgpu::BindGroupEntry<'_>> = kernel
            .bindings
            .iter()
            .enumerate()
            .map(|(number, binding)| wgpu::BindGroupEntry {
                binding: number as u32,
                resource: memory.place(binding.buffer).binding(),
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(&kernel.name), layout, entries: &entries };
        let bindings = context.scoped(|| context.device.create_bind_group(&descriptor))?;
        let turn = match turn {
            None => None,
            Some(layout) => {
                let index = wgpu::BufferBinding { buffer: &turns, offset: 0, size: wgpu::BufferSize::new(16) };
                let entry = wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(index) };
                let descriptor =
                    wgpu::BindGroupDescriptor { label: Some("turn"), layout, entries: std::slice::from_ref(&entry) };
                Some(context.scoped(|| context.device.create_bind_group(&descriptor))?)
            }
        };
        let (pipeline, digest) = (pipeline.clone(), key.0.digest());
        dispatches.push(Dispatch { pipeline, bindings, workgroups: kernel.workgroups, turn, digest });
    }
    Ok(dispatches)
}

/// A compute pass, with timestamps before and after it where they are asked for.
pub(super) fn compute_pass<'a>(
    encoder: &'a mut wgpu::CommandEncoder,
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
) -> wgpu::ComputePass<'a> {
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("loom"), timestamp_writes })
}

pub(super) fn encoder(context: &Context) -> wgpu::CommandEncoder {
    context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("loom") })
}

/// How long to wait for a mapping after the device says that all is done.
const MAPPING_PATIENCE: Duration = Duration::from_secs(60);

/// Maps buffers and waits until they, and all work before them, are done.
fn map<'a>(
    context: &Context,
    buffers: impl IntoIterator<Item = (&'a wgpu::Buffer, wgpu::MapMode)>,
) -> Result<(), ExecuteError> {
    let failed = || ExecuteError::Device("memory could not be mapped".to_string());
    let (sender, answers) = mpsc::channel();
    let count = context.scoped(|| {
        let mut count = 0;
        for (buffer, mode) in buffers {
            let sender = sender.clone();
            // Nobody listens any more where an earlier buffer has failed.
            buffer.map_async(mode, .., move |result| drop(sender.send(result)));
            count += 1;
        }
        count
    })?;
    drop(sender);
    context.wait()?;
    for _ in 0..count {
        // Another executor's thread, waiting for the same device, may be the one that calls back, a little later.
        match answers.recv_timeout(MAPPING_PATIENCE) {
            Ok(Ok(())) => {}
            _ => return context.check().and(Err(failed())),
        }
    }
    Ok(())
}

/// Copies a mapped buffer out and unmaps it.
fn read(buffer: &wgpu::Buffer, bits: &mut [u32]) -> Result<(), ExecuteError> {
    let view = buffer.get_mapped_range(..).map_err(mapping_error)?;
    bytemuck::cast_slice_mut::<u32, u8>(bits).copy_from_slice(&view);
    drop(view);
    buffer.unmap();
    Ok(())
}

fn mapping_error(error: wgpu::MapRangeError) -> ExecuteError {
    ExecuteError::Device(error.to_string())
}

/// The caller's tensors must be as many and as long as the program's.
fn check_lengths(
    what: &str,
    found: impl ExactSizeIterator<Item = usize>,
    expected: impl Iterator<Item = u64>,
) -> Result<(), ExecuteError> {
    let found: Vec<u64> = found.map(|length| length as u64).collect();
    let expected: Vec<u64> = expected.collect();
    if found == expected {
        Ok(())
    } else {
        Err(ExecuteError::Internal(format!("{what}s of {found:?} elements, the program has {expected:?}")))
    }
}
