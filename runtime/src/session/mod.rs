//! Compiled networks made ready on a device.
//!
//! A network is compiled for a fixed batch: the leading extent of its inputs. A session runs any number of samples, in
//! slices of that many, the last one filled up with samples of zeros. That changes no bit of the others, because a
//! row's result does not depend on the batch it stands in (LN1 section 5; no network of this release reduces over the
//! batch axis).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom_ir::kernel::ids::rows_named;
use loom_ir::kernel::states::States;
use loom_ir::kernel::{BufferId, Program, Verified};
use loom_ir::types::Shape;

use crate::artifact::Artifact;
use crate::digest::canonicalise;
use crate::executor::flip::{Flip, FlipExecutor};
use crate::executor::tier::Tier;
use crate::executor::{Executor, Profile};
use crate::tensors::Tensor;

mod error;
mod open;
mod slices;
mod state;

pub use error::{RunError, SessionError};
pub use slices::Slices;
pub use state::State;

/// What runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Machine code on the processor.
    Cpu,
    /// A GPU through wgpu.
    Gpu,
    /// The reference interpreter: slow, and right by definition.
    Interp,
}

impl Device {
    /// Every device.
    pub const ALL: [Device; 3] = [Device::Cpu, Device::Gpu, Device::Interp];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Gpu => "gpu",
            Device::Interp => "interp",
        }
    }

    /// Whether this build has the device's backend.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Device::Cpu => cfg!(feature = "cpu"),
            Device::Gpu => cfg!(feature = "gpu"),
            Device::Interp => true,
        }
    }
}

impl Default for Device {
    /// The processor; in a build without it, the interpreter.
    fn default() -> Device {
        if Device::Cpu.is_compiled_in() { Device::Cpu } else { Device::Interp }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Device, String> {
        Device::ALL
            .into_iter()
            .find(|device| device.name() == name)
            .ok_or_else(|| format!("there is no device `{name}`, only `cpu`, `gpu` and `interp`"))
    }
}

/// How a network is made ready.
///
/// On the CPU, the environment variable `LOOM_CPU` may name the instructions that code keeps to: `portable`, what every
/// processor of the architecture has, `avx2` or `avx512`. No level changes a bit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// On which device.
    pub device: Device,
    /// CPU: how many threads; left out, one a processor. No number changes a bit. Sessions of the same number share their
    /// threads, and a network too small for threads has none.
    pub threads: Option<usize>,
    /// CPU: the threads themselves, in place of a number: see [`Pool`](crate::executor::cpu::Pool).
    #[cfg(feature = "cpu")]
    pub pool: Option<crate::executor::cpu::Pool>,
    /// GPU: which adapter, by a part of its name; left out, the one that the environment variable `LOOM_ADAPTER` names,
    /// or else the fastest.
    pub adapter: Option<String>,
    /// GPU: the tier of exactness; left out, the first that holds for the adapter and the network. No tier changes a
    /// bit.
    pub gpu_tier: Option<Tier>,
    /// A fault put in on purpose, for tests of comparisons.
    pub flip: Option<Flip>,
}

impl SessionOptions {
    /// The defaults on a device.
    pub fn on(device: Device) -> SessionOptions {
        SessionOptions { device, ..SessionOptions::default() }
    }
}

/// A network made ready on a device.
pub struct Session {
    executor: Box<dyn Executor>,
    program: Arc<Verified>,
    device: Device,
    batch: Option<u64>,
    /// The inputs that hold row numbers, with how many rows there are.
    ids: BTreeMap<BufferId, u64>,
    /// What is carried from run to run, if anything.
    states: Option<States>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?} on {})", self.program.name, self.device)
    }
}

impl Session {
    /// Makes a network ready on a device.
    pub fn new(artifact: &Artifact, options: SessionOptions) -> Result<Session, SessionError> {
        let mut executor = open::executor(artifact, &options)?;
        if let Some(flip) = &options.flip {
            executor = match FlipExecutor::new(executor, flip) {
                Some(executor) => Box::new(executor),
                None => return Err(SessionError::NoFlip(flip.clone())),
            };
        }
        Ok(Session::with_executor(artifact, options.device, executor))
    }

    /// A session on an executor that was made elsewhere from the artifact's program and weights: to share a device
    /// between sessions, say. `device` is what messages call it.
    pub fn with_executor(artifact: &Artifact, device: Device, executor: Box<dyn Executor>) -> Session {
        let program = Arc::clone(artifact.program());
        let batch = slices::batch(&program);
        let ids = rows_named(&program);
        let states = States::of(&program);
        Session { executor, program, device, batch, ids, states }
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the device is, for people: the processor, or the adapter with its driver and tier.
    pub fn description(&self) -> String {
        self.executor.description()
    }

    /// The tier of exactness that the device runs in, where it has tiers.
    pub fn tier(&self) -> Option<Tier> {
        self.executor.tier()
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How many samples the device computes at a time; `None` if inputs and outputs have no common leading extent, so
    /// that the network runs on exactly its own shapes.
    pub fn batch(&self) -> Option<u64> {
        self.batch
    }

    /// Runs a network of one `f32` input and one `f32` output on any number of samples, one after another.
    pub fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, RunError> {
        let (one, another) = (self.program.inputs().next(), self.program.inputs().nth(1));
        let (Some((_, buffer)), None, 1) = (one, another, self.program.outputs().count()) else {
            return Err(RunError::NotSimple { inputs: self.program.inputs().count() });
        };
        let shape = slices::shape_of(&buffer.shape, self.batch, input.len() as u64)?;
        let tensor = Tensor::from_f32(&buffer.name, shape, input).ok_or(RunError::TooManyElements)?;
        let outputs = self.run_tensors(&[tensor])?;
        let values = outputs.first().and_then(Tensor::as_f32);
        values.map(<[f32]>::to_vec).ok_or(RunError::NotSimple { inputs: 1 })
    }

    /// Runs the network on tensors that are named and shaped like its inputs but for the number of samples, and gives
    /// all outputs, in the program's order, for as many samples.
    ///
    /// A network with caches runs on whole sequences, from their beginning: the tensors have any number of times the
    /// positions of a run along axis 1, and what is carried is neither asked for nor given. ([`Session::step`] goes on
    /// from a [`State`] instead.) Where the tensors hold all that is carried, it's an input like any other.
    pub fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.run_tensors_with(inputs, &mut |_, _| {})
    }

    /// The same, telling after each run how many of how many are done.
    pub fn run_tensors_with(
        &mut self,
        inputs: &[Tensor],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Tensor>, RunError> {
        complete(self.run_all(inputs, Waiting::Here, progress))
    }

    /// Like [`run_tensors`](Self::run_tensors), but waits for a GPU as a future does: whoever polls it is woken when there
    /// is something to do, by a thread that the device has for this. It needs no executor of any kind. On the devices `cpu`
    /// and `interp` it is the thread that polls which computes, and it is done at the first time.
    ///
    /// Nothing happens before it is first polled. If it is dropped, what the device was given is still done, and nobody
    /// reads it; the session can run again, and what was carried is as it was. Sessions that share a device have their runs
    /// made one after another, and any number of them may be under way.
    pub async fn run_async(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.run_all(inputs, Waiting::Woken, |_, _| {}).await
    }

    /// Runs once on zeros and forgets what comes out: what a device does at its first run is done then.
    pub fn warm_up(&mut self) -> Result<(), RunError> {
        let zeros = |buffer: &loom_ir::kernel::Buffer| vec![0u32; buffer.shape.elements() as usize];
        let inputs: Vec<Vec<u32>> = self.program.inputs().map(|(_, buffer)| zeros(buffer)).collect();
        let mut outputs: Vec<Vec<u32>> = self.program.outputs().map(|(_, buffer)| zeros(buffer)).collect();
        let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        Ok(self.executor.run(&inputs, &mut outputs)?)
    }

    async fn run_all(
        &mut self,
        inputs: &[Tensor],
        waiting: Waiting,
        progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Tensor>, RunError> {
        let slices = self.slices(inputs)?;
        let mut state = if slices.carries() { Some(self.start()?) } else { None };
        self.run_slices(&slices, state.as_mut(), waiting, progress).await
    }

    /// The same for one batch of sequences, of which there may be fewer than the program takes, from a state on. Where a
    /// run fails, the state is that before it.
    pub fn continue_tensors_with(
        &mut self,
        state: &mut State,
        inputs: &[Tensor],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Tensor>, RunError> {
        let slices = self.slices(inputs)?;
        if !slices.carries() || slices.first(slices.count() - 1) > 0 {
            return Err(RunError::OtherState);
        }
        complete(self.run_slices(&slices, Some(state), Waiting::Here, progress))
    }

    async fn run_slices(
        &mut self,
        slices: &Slices,
        mut state: Option<&mut State>,
        waiting: Waiting,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Tensor>, RunError> {
        let mut outputs = slices.outputs(&self.program)?;
        let mut scratch = slices.scratch();
        // What a run computes of more samples or fewer positions than lie together; it goes here first.
        let mut apart: Vec<Vec<u32>> = Vec::new();
        for index in 0..slices.count() {
            let inputs = slices.inputs(index, &mut scratch);
            if let Some(state) = state.as_mut().filter(|_| index > 0 && slices.first(index) == index) {
                state.reset();
            }
            let ranges = slices.output_ranges(index, &self.program);
            if ranges.is_none() && apart.is_empty() {
                let elements = slices.wanted(&self.program).map(|(_, buffer)| buffer.shape.elements() as usize);
                apart.extend(elements.map(|elements| vec![0; elements]));
            }
            let mut views: Vec<&mut [u32]> = match &ranges {
                Some(ranges) => outputs.iter_mut().zip(ranges).map(|(bits, range)| &mut bits[range.clone()]).collect(),
                None => apart.iter_mut().map(Vec::as_mut_slice).collect(),
            };
            match &mut state {
                Some(state) => self.step_as(state, &inputs, &mut views, waiting).await?,
                None => self.run_as(&inputs, &mut views, waiting).await?,
            }
            if ranges.is_none() {
                outputs.iter_mut().zip(&apart).for_each(|(all, computed)| slices.put(index, computed, all));
            }
            progress(index + 1, slices.count());
        }
        let named = slices.wanted(&self.program).zip(outputs).map(|((_, buffer), bits)| {
            Tensor::new(&buffer.name, buffer.dtype, slices.shape(buffer), bits).ok_or(RunError::TooManyElements)
        });
        named.collect()
    }

    /// Runs exactly one batch without allocating: bits in and out, in the order and with the lengths of the program's
    /// inputs and outputs.
    pub fn run_into(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), RunError> {
        complete(self.run_as(inputs, outputs, Waiting::Here))
    }

    async fn run_as(
        &mut self,
        inputs: &[&[u32]],
        outputs: &mut [&mut [u32]],
        waiting: Waiting,
    ) -> Result<(), RunError> {
        self.check(inputs, Some(outputs))?;
        let submitted = waiting == Waiting::Woken && self.run_submitted(inputs, outputs).await?;
        if !submitted {
            self.executor.run(inputs, outputs)?;
        }
        if !self.executor.shows_one_nan() {
            for ((_, buffer), bits) in self.program.outputs().zip(outputs) {
                canonicalise(buffer.dtype, bits);
            }
        }
        Ok(())
    }

    /// Has the device run a batch and waits to be woken; false where the device is the thread that polls.
    async fn run_submitted(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<bool, RunError> {
        let Some(mut run) = self.executor.submit(inputs)? else { return Ok(false) };
        std::future::poll_fn(|context| run.poll(context.waker())).await?;
        run.read(outputs)?;
        Ok(true)
    }

    /// Runs exactly one batch kernel by kernel and shows what each wrote: its number and the bits, as on the device
    /// (a NaN may have any payload). Stops when `observe` breaks.
    pub fn trace(
        &mut self,
        inputs: &[&[u32]],
        observe: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), RunError> {
        self.check(inputs, None)?;
        Ok(self.executor.trace(inputs, observe)?)
    }

    /// Runs exactly one batch for so many rounds, at least one, and gives how long each step took by the device's own
    /// clock; `None` where it has none.
    pub fn profile(&mut self, inputs: &[&[u32]], rounds: usize) -> Result<Option<Profile>, RunError> {
        self.check(inputs, None)?;
        Ok(self.executor.profile(inputs, rounds)?)
    }

    /// Lets inputs name rows that a table does not have. Where an input is what a kernel of a network computed, that is no
    /// mistake of the caller's.
    pub(crate) fn take_any_rows(&mut self) {
        self.ids.clear();
    }

    /// Checks tensors against the network's inputs and cuts them into batches.
    pub fn slices(&self, inputs: &[Tensor]) -> Result<Slices, RunError> {
        Slices::new(&self.program, &self.ids, self.states.as_ref(), self.batch, inputs)
    }

    /// Checks the bits of one batch: the lengths, that bools are bools and row numbers those of rows.
    fn check(&self, inputs: &[&[u32]], outputs: Option<&[&mut [u32]]>) -> Result<(), RunError> {
        let wrong = |buffer: &loom_ir::kernel::Buffer, found: usize| RunError::Length {
            tensor: buffer.name.clone(),
            expected: buffer.shape.elements(),
            found: found as u64,
        };
        let mut count = 0;
        for ((id, buffer), bits) in self.program.inputs().zip(inputs) {
            if bits.len() as u64 != buffer.shape.elements() {
                return Err(wrong(buffer, bits.len()));
            }
            slices::check_bools(buffer, bits)?;
            self.check_room(id, bits)?;
            if let Some(&rows) = self.ids.get(&id) {
                slices::check_ids(buffer, rows, bits)?;
            }
            count += 1;
        }
        let needed = self.program.inputs().count();
        if count != needed || inputs.len() != needed {
            return Err(RunError::Count { what: "inputs", expected: needed, found: inputs.len() });
        }
        let Some(outputs) = outputs else { return Ok(()) };
        let needed = self.program.outputs().count();
        if outputs.len() != needed {
            return Err(RunError::Count { what: "outputs", expected: needed, found: outputs.len() });
        }
        let mut pairs = self.program.outputs().zip(outputs);
        match pairs.find(|((_, buffer), bits)| bits.len() as u64 != buffer.shape.elements()) {
            Some(((_, buffer), bits)) => Err(wrong(buffer, bits.len())),
            None => Ok(()),
        }
    }
}

/// How a run waits for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The thread waits.
    Here,
    /// Whoever polls is woken.
    Woken,
}

/// The result of a future in which nothing is woken, only [`Waiting::Here`]: it has one at the first time.
fn complete<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

/// A shape with its leading extent replaced.
pub(crate) fn with_samples(shape: &Shape, samples: u64) -> Shape {
    let rest = shape.dims().iter().skip(1).copied();
    Shape::new([samples].into_iter().chain(rest).collect::<Vec<u64>>())
}
