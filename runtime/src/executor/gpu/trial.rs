//! Trials: in the tier guarded, a kernel shows that it is exact before it is used.
//!
//! There the probe alone proves little: nothing in plain WGSL keeps a compiler from rewriting in one kernel what it left
//! alone in another. So every kernel's own code, as compiled for its own shapes, runs once on pinned inputs, and elements
//! spread over its whole output are compared with the interpreter's. What passes gets a certificate, by the digest of
//! its shader. It is still evidence and no proof, which is why the tier stands below strict.

use std::collections::BTreeSet;

use loom_codegen_wgsl::{codes_words, stored_words};
use loom_ir::eval::program::{Memory as HostMemory, element};
use loom_ir::kernel::{Body, BufferId, BufferKind, Forms, Kernel, Program};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::stored::{Form, Scales, View};
use loom_ir::types::DType;

use super::adapter::AdapterInfo;
use super::certificate::{Certificate, Certificates};
use super::device::Context;
use super::executor::{Dispatch, run_alone};
use super::ladder::Form as TierForm;
use super::memory::Memory;
use super::probe::inputs::{EXTREME, RARE, Random};
use crate::digest::canonical;
use crate::executor::ExecuteError;
use crate::executor::tier::Tier;

/// The terms that the interpreter computes of a kernel in each round, at most, unless there are fewer than
/// [`LEAST_ELEMENTS`]: some 10 ms.
const TERMS: u64 = 1 << 15;
/// Elements that are compared in each round, at least.
const LEAST_ELEMENTS: u64 = 8;
/// Elements that are compared in each round, at most.
const MOST_ELEMENTS: u64 = 1 << 10;

/// What the inputs are in a round of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Numbers near 1, whose sums and products round in every step.
    Plain,
    /// The same, and small ones, whose products are subnormal.
    Small,
    /// The same as the first, and now and then a zero, an infinity, a subnormal or NaN.
    Special,
}

/// Whose kernels are tried, and what need not be tried again.
pub(super) struct Trials<'a> {
    pub adapter: &'a AdapterInfo,
    pub certificates: &'a Certificates,
}

impl Trials<'_> {
    /// Tries the kernels of a program, each shader once. What is in the program's buffers is lost, but for constants.
    pub fn run(
        &self,
        context: &Context,
        (program, forms): (&Program, &Forms),
        memory: &Memory,
        dispatches: &[Dispatch],
    ) -> Result<(), ExecuteError> {
        let mut passed = BTreeSet::new();
        for (kernel, dispatch) in program.kernels.iter().zip(dispatches) {
            let nothing = program.buffer(kernel.output.buffer).bytes() == 0;
            if nothing || passed.contains(&dispatch.digest) {
                continue;
            }
            let certificate = Certificate::new(self.adapter, Tier::Guarded, TierForm::GUARDED, &dispatch.digest);
            if !self.certificates.hold(&certificate) {
                for round in [Round::Plain, Round::Small, Round::Special] {
                    try_kernel(context, (program, forms), kernel, memory, dispatch, round)?;
                }
                self.certificates.add(&certificate);
            }
            passed.insert(&dispatch.digest);
        }
        Ok(())
    }
}

/// One round of one kernel.
fn try_kernel(
    context: &Context,
    (program, forms): (&Program, &Forms),
    kernel: &Kernel,
    memory: &Memory,
    dispatch: &Dispatch,
    round: Round,
) -> Result<(), ExecuteError> {
    let mut host = HostMemory { buffers: vec![Vec::new(); program.buffers.len()] };
    let terms = terms(kernel);
    // A kernel of a loop may read what it wrote at an earlier index.
    let reads = |id: &BufferId| kernel.loads.iter().any(|load| load.buffer == *id);
    for id in kernel.buffers().into_iter().filter(reads) {
        let buffer = program.buffer(id);
        host.buffers[id.index()] = match &buffer.kind {
            BufferKind::Constant(bits) => bits.clone(),
            _ => {
                let bits = pinned(buffer.dtype, buffer.shape.elements(), id.0, round, terms);
                match forms.get(&id) {
                    None => {
                        memory.place(id).write(context, &bits)?;
                        bits
                    }
                    Some(_) if buffer.dtype == DType::I32 => {
                        let codes: Vec<u32> = bits.iter().map(|&bits| bits as i8 as u32).collect();
                        memory.place(id).write(context, &codes_words(&codes))?;
                        codes
                    }
                    Some(form) => {
                        let stored = Pinned::new(form, &bits);
                        memory.place(id).write(context, &stored_words(&stored.view(), form, bits.len() as u64))?;
                        (0..bits.len()).map(|index| stored.view().bits(index)).collect()
                    }
                }
            }
        };
    }
    let output = program.buffer(kernel.output.buffer);
    let mut found = Vec::new();
    // Of a loop its last index, which has one before it.
    let turn = kernel.in_loop.map(|_| kernel.axes[0].saturating_sub(1));
    run_alone(context, dispatch, turn.unwrap_or(0), memory.place(kernel.output.buffer), &mut found)?;
    // NaN is one value.
    let value = |bits: u32| if output.dtype == DType::F32 { canonical(bits) } else { bits };
    let axes = &kernel.axes[turn.iter().len()..kernel.output_axes()];
    for number in sample(axes.iter().product(), terms) {
        let whole: Vec<u64> = turn.into_iter().chain(index(axes, number)).collect();
        let (place, expected) = element(program, kernel, &host, &whole);
        let found = found[place as usize];
        if value(found) != value(expected) {
            let (kernel, tier) = (kernel.name.clone(), Tier::Guarded);
            return Err(ExecuteError::Inexact { kernel, tier, element: place, expected, found });
        }
    }
    Ok(())
}

/// Terms of one element of a kernel's output.
fn terms(kernel: &Kernel) -> u64 {
    let inner = |axes: usize| kernel.axes[kernel.axes.len() - axes..].iter().product::<u64>().max(1);
    match &kernel.body {
        Body::Map(_) => 1,
        Body::Reduce(reduce) => inner(reduce.reduced) * reduce.stages.len() as u64,
        Body::Gather(_) => 1,
        Body::Contract(_) => inner(kernel.axes.len() - kernel.output_axes()),
        // A row of scores, each a sum, and their weighted sum.
        Body::Attend(attend) => {
            let [_, _, _, keys, inner] = attend.groups(kernel.axes.len());
            let terms = |group: std::ops::Range<usize>| kernel.axes[group].iter().product::<u64>().max(1);
            terms(keys) * (terms(inner) + attend.stages.len() as u64 + 1)
        }
    }
}

/// The numbers of some of `count` elements, spread evenly, the first and the last among them.
fn sample(count: u64, terms: u64) -> impl Iterator<Item = u64> {
    let wanted = (TERMS / terms).clamp(LEAST_ELEMENTS, MOST_ELEMENTS).min(count);
    (0..wanted).map(move |number| if wanted > 1 { number * (count - 1) / (wanted - 1) } else { 0 })
}

/// The index of an element by its number, row-major.
fn index(axes: &[u64], mut number: u64) -> Vec<u64> {
    let mut index = vec![0; axes.len()];
    for (index, extent) in index.iter_mut().zip(axes).rev() {
        *index = number % extent;
        number /= extent;
    }
    index
}

/// The pinned elements of a buffer.
fn pinned(dtype: DType, count: u64, seed: u32, round: Round, terms: u64) -> Vec<u32> {
    let mut random = Random::new(64 + seed);
    // Rare enough that some sums are spared.
    let rarity = (4 * terms).clamp(8, 1024) as u32;
    let mut float = || {
        let word = random.word();
        let plain = (word & 0x807f_ffff) | ((125 + (random.word() >> 8) % 4) << 23);
        let chance = random.word() >> 8;
        match round {
            Round::Special if chance.is_multiple_of(rarity) => {
                let all = EXTREME.len() + RARE.len();
                let place = (word >> 8) as usize % all;
                EXTREME.get(place).copied().unwrap_or_else(|| RARE[place - EXTREME.len()])
            }
            Round::Small if chance.is_multiple_of(2) => (word & 0x807f_ffff) | (((word >> 7) % 72) << 23),
            _ => plain,
        }
    };
    match dtype {
        DType::F32 => (0..count).map(|_| float()).collect(),
        DType::Bool => (0..count).map(|_| random.word() >> 31).collect(),
        _ => (0..count).map(|_| random.word()).collect(),
    }
}

/// The pinned elements of a weight that is kept as it is stored.
struct Pinned {
    form: Form,
    data: Vec<u8>,
    scale: Vec<u8>,
    zero_point: Vec<u8>,
}

impl Pinned {
    /// Floats are narrowed; the low bits of all others are codes already. Scales are numbers near 1, and round products.
    fn new(form: &Form, bits: &[u32]) -> Pinned {
        let float = form.storage.float().is_some();
        let code = |&bits: &u32| match float {
            true => form.storage.narrow(Storage::F32.widen(bits.into())),
            false => bits.into(),
        };
        let mut pinned = Pinned { form: *form, data: Vec::new(), scale: Vec::new(), zero_point: Vec::new() };
        form.storage.pack(bits.iter().map(code), &mut pinned.data);
        let groups = form.groups.filter(|_| !bits.is_empty()).map_or(0, |groups| groups.of_element(bits.len() - 1) + 1);
        let mut random = Random::new(groups as u32);
        for _ in 0..groups {
            let word = random.word();
            pinned.scale.extend((word & 0x007f_ffff | 125 << 23).to_le_bytes());
            pinned.zero_point.push(random.word() as u8);
        }
        pinned
    }

    fn view(&self) -> View<'_> {
        let scales = self.form.groups.map(|groups| Scales {
            groups,
            scale: &self.scale,
            zero_point: self.form.zero_points.then_some((Storage::I8, &self.zero_point[..])),
        });
        View { storage: self.form.storage, data: &self.data, scales }
    }
}

#[cfg(test)]
mod tests {
    use loom_codegen_wgsl::{Arithmetic, generate};
    use loom_ir::kernel::scalar::ScalarFnBuilder;
    use loom_ir::kernel::{Access, Arg, Buffer, BufferId, Lambda, Verified, verify};
    use loom_ir::types::Shape;

    use super::super::executor::make_dispatches;
    use super::super::open::{GpuDevice, GpuOptions};
    use super::*;

    /// The sum of three inputs, grouped one way or the other.
    fn sum(left_first: bool) -> Verified {
        let shape = Shape::from([64]);
        let buffer = |(name, kind): (&str, BufferKind)| Buffer {
            name: name.to_string(),
            dtype: DType::F32,
            shape: shape.clone(),
            kind,
        };
        let (input, output) = (BufferKind::Input, BufferKind::Output);
        let buffers = [("a", input.clone()), ("b", input.clone()), ("c", input), ("sum", output)].map(buffer);
        let mut builder = ScalarFnBuilder::new();
        let [a, b, c] = [DType::F32; 3].map(|dtype| builder.param(dtype));
        let result = if left_first {
            let left = builder.add(a, b);
            builder.add(left, c)
        } else {
            let right = builder.add(b, c);
            builder.add(a, right)
        };
        let access = |id| Access::identity(BufferId(id), shape.clone(), 1);
        let kernel = Kernel {
            name: "three".to_string(),
            axes: vec![64],
            loads: (0..3).map(access).collect(),
            body: Body::Map(Lambda { args: (0..3).map(Arg::Load).collect(), function: builder.finish(result) }),
            output: access(3),
            in_loop: None,
        };
        verify(Program { name: "sum".to_string(), buffers: buffers.into(), kernels: vec![kernel], plan: None }).unwrap()
    }

    /// Needs a Vulkan adapter.
    #[test]
    fn a_kernel_that_is_compiled_into_another_is_found() {
        let device = GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }).unwrap();
        let (context, trials) =
            (&device.context, Trials { adapter: &device.info().adapter, certificates: &device.certificates });
        // Which arithmetic does not matter here; this one is exact on every device.
        let target = device.target().clone().with_arithmetic(Arithmetic::Soft);
        let right = sum(true);
        let forms = Forms::new();
        let memory = Memory::new(context, &right, &forms).unwrap();
        let kernels = generate(&right, &target).unwrap();
        let dispatches = make_dispatches(context, &right, &memory, &kernels, target.arithmetic).unwrap();
        trials.run(context, (&right, &forms), &memory, &dispatches).unwrap();
        // What the device runs now regroups, as it were, what the program says.
        let error = trials.run(context, (&sum(false), &forms), &memory, &dispatches).unwrap_err();
        let ExecuteError::Inexact { kernel, expected, found, .. } = error else { panic!("{error}") };
        assert_eq!(kernel, "three");
        assert_ne!(expected, found);
    }

    #[test]
    fn samples_reach_from_end_to_end() {
        assert_eq!(sample(1, 1).collect::<Vec<_>>(), [0]);
        assert_eq!(sample(5, 1).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let many: Vec<u64> = sample(1 << 30, 1 << 20).collect();
        assert_eq!((many.len() as u64, many.first(), many.last()), (LEAST_ELEMENTS, Some(&0), Some(&((1 << 30) - 1))));
        assert_eq!(index(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(index(&[2, 3, 4], 5), [0, 1, 1]);
        assert_eq!(index(&[], 0), [0u64; 0]);
    }

    #[test]
    fn inputs_suit_their_round() {
        let floats = |round, terms| {
            let bits = pinned(DType::F32, 4096, 1, round, terms);
            bits.into_iter().map(f32::from_bits).collect::<Vec<f32>>()
        };
        assert!(floats(Round::Plain, 1).iter().all(|x| (0.25..4.0).contains(&x.abs())));
        let small = floats(Round::Small, 1);
        assert!(small.iter().zip(&small[1..]).any(|(x, y)| (x * y).is_subnormal()));
        assert!(floats(Round::Special, 1).iter().any(|x| x.is_nan()));
        let rare = floats(Round::Special, 1 << 20).iter().filter(|x| !(0.25..4.0).contains(&x.abs())).count();
        assert!(0 < rare && rare < 16, "{rare}");
        assert!(pinned(DType::Bool, 64, 1, Round::Plain, 1).iter().all(|&bit| bit < 2));
    }
}
