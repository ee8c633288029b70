//! Programs: an ordered list of kernels over buffers, with a plan of where the buffers lie.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::scalar::{BinaryOp, Inst, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::quantise::CodeFormat;
use crate::numerics::reduction::{ContractSpec, IntegerSpec, Products, SumSpec};
use crate::types::{DType, Shape};

/// A buffer of a [`Program`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BufferId(pub u32);

impl BufferId {
    /// Position in [`Program::buffers`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// What a network computes, to the last bit. Kernels run in order; each is a loop nest that writes one buffer whole.
/// ([`Program::steps`] tells of those that take turns.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The network's name.
    pub name: String,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// The kernels, in the order of execution.
    pub kernels: Vec<Kernel>,
    /// Where the temporary buffers lie, once planned.
    pub plan: Option<MemoryPlan>,
}

/// A row-major tensor in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Unique; of an input, output or weight the name that the user knows.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
    /// Who fills it.
    pub kind: BufferKind,
}

impl Buffer {
    /// Bytes of the elements.
    pub fn bytes(&self) -> u64 {
        self.shape.elements() * self.dtype.size()
    }
}

/// Who fills a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// The caller, before a run.
    Input,
    /// The weights file, once.
    Weight,
    /// The weights file, once: the codes of a quantised weight (`i32`). The weight of this name with `.scale` at its end has
    /// what they are multiplied by.
    Codes(CodeFormat),
    /// The compiler: the elements' bits.
    Constant(Vec<u32>),
    /// A kernel; the caller reads it after a run.
    Output,
    /// A kernel; free once its last reader has run.
    Temp,
}

impl BufferKind {
    /// The word in printed programs.
    pub fn name(&self) -> &'static str {
        match self {
            BufferKind::Input => "input",
            BufferKind::Weight => "weight",
            BufferKind::Codes(format) => format.buffer_name(),
            BufferKind::Constant(_) => "constant",
            BufferKind::Output => "output",
            BufferKind::Temp => "temp",
        }
    }

    /// Whether the caller fills it.
    pub fn is_input(&self) -> bool {
        *self == BufferKind::Input
    }

    /// Whether the weights file fills it.
    pub fn is_weight(&self) -> bool {
        matches!(self, BufferKind::Weight | BufferKind::Codes(_))
    }

    /// Whether kernels write it.
    pub fn is_written(&self) -> bool {
        matches!(self, BufferKind::Output | BufferKind::Temp)
    }
}

/// Places of the temporary buffers in one arena.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Size of the arena in bytes.
    pub arena_bytes: u64,
    /// For every buffer its first byte in the arena; `None` where it is not a temporary one.
    pub offsets: Vec<Option<u64>>,
}

/// One fused loop nest.
///
/// `axes` are the extents of its loops, outermost first, in groups by role: see [`Body`]. Every element of the output is
/// written exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Unique in the program: the layer's path and what it does.
    pub name: String,
    /// Loop extents.
    pub axes: Vec<u64>,
    /// What is read, over all axes.
    pub loads: Vec<Access>,
    /// What is computed.
    pub body: Body,
    /// Where the result goes: no guards, and each element of the buffer exactly once.
    pub output: Access,
    /// The loop that the kernel is a part of: neighbouring kernels with the same number take turns, for each index of
    /// their first axis in order. See [`Program::steps`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_loop: Option<u32>,
}

/// What runs next in a [`Program`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One kernel, by number.
    Kernel(usize),
    /// For each index of the first axis, below `count`: these kernels in order, each for that index alone.
    Loop {
        /// The kernels' numbers.
        kernels: std::ops::Range<usize>,
        /// The extent of the first axis of each.
        count: u64,
    },
}

impl Step {
    /// The kernels' numbers.
    pub fn kernels(&self) -> std::ops::Range<usize> {
        match self {
            Step::Kernel(kernel) => *kernel..*kernel + 1,
            Step::Loop { kernels, .. } => kernels.clone(),
        }
    }
}

/// The computation of a kernel, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// One result for each index of the axes.
    Map(Lambda),
    /// Reductions of rows.
    Reduce(Reduce),
    /// A batched matrix product over prepared operands.
    Contract(Contract),
    /// Elements of rows, by their numbers.
    Gather(Gather),
    /// Sums weighted by what a row of products becomes.
    Attend(Box<Attend>),
}

impl Body {
    /// The word in printed programs.
    pub fn name(&self) -> &'static str {
        match self {
            Body::Map(_) => "map",
            Body::Reduce(_) => "reduce",
            Body::Contract(_) => "contract",
            Body::Gather(_) => "gather",
            Body::Attend(_) => "attend",
        }
    }
}

/// Reductions over the last `reduced` axes, for each index of the others.
///
/// Stages run one after another over the same row; a stage's function may use the results of the earlier ones (softmax:
/// a maximum, then a sum of exponentials). Then `result` gives one element a row, or, if `per_element`, one for each
/// index of all axes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduce {
    /// How many trailing axes are reduced, in row-major order.
    pub reduced: usize,
    /// At least one.
    pub stages: Vec<Stage>,
    /// The epilogue.
    pub result: Lambda,
    /// Whether `result` runs for every element of the row.
    pub per_element: bool,
}

/// One reduction of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The term at an index.
    pub input: Lambda,
    /// How terms are combined.
    pub op: ReduceOp,
}

/// How a row becomes one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceOp {
    /// Sum. Of `f32` in the order of the spec; of integers wrapping, in any order.
    Sum(SumSpec),
    /// Integer maximum; 0 or `i32::MIN` of an empty row. Floats are compared through [`crate::numerics::order`].
    Max,
    /// Integer minimum; `u32::MAX` or `i32::MAX` of an empty row.
    Min,
}

/// `epilogue(Σ_k lhs[batch, row, k] · rhs[batch, column, k])`, the sum in the order of the spec.
///
/// The kernel's axes are the batch axes, the row axes, the column axes and, last, the reduced ones, in row-major order.
/// `lhs` does not depend on columns nor `rhs` on rows; the epilogue depends on no reduced axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// How many axes are batch axes.
    pub batch: usize,
    /// How many follow as row axes.
    pub rows: usize,
    /// How many follow as column axes.
    pub columns: usize,
    /// The left operand, of the products' type.
    pub lhs: Lambda,
    /// The right operand, of the products' type.
    pub rhs: Lambda,
    /// What is multiplied, and in which order it is added.
    #[serde(rename = "spec")]
    pub products: Products,
    /// What happens to the total, [`Arg::Reduced`]`(0)`, of the products' type.
    pub epilogue: Lambda,
}

/// `result[.., index[..]]`: a value along the kernel's last axis, at the place that the data names.
///
/// Where the place is not less than the axis's extent the result is zero, and nothing is loaded. The kernel's other axes are
/// the output's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gather {
    /// The place (`u32`); it does not depend on the last axis.
    pub index: Lambda,
    /// The value at an index of all axes.
    pub result: Lambda,
}

/// Attention, and whatever has its form: a contraction, reductions of its rows, and a contraction with what these leave.
///
/// For each batch and row there is a row of scores, one a key: `score(Σ_i query[row, i] · key[key, i])`. Stages reduce it, as
/// those of a [`Reduce`] do. Then `result(Σ_k weight(k) · value[column, k])` for each column: both sums in the order of the
/// spec, the stages' in theirs. Scores and weights exist nowhere but on the way, so that no device needs memory for a row of
/// them times all rows.
///
/// The kernel's axes are the batch axes, the row axes, the column axes, the keys' axes and, last, those that queries and keys
/// are contracted over, all in row-major order. Each function depends on nothing but the axes of its indices above; the
/// result on no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attend {
    /// How many axes are batch axes.
    pub batch: usize,
    /// How many follow as row axes.
    pub rows: usize,
    /// How many follow as column axes.
    pub columns: usize,
    /// How many follow as the keys' axes.
    pub keys: usize,
    /// The left operand of a score (`f32`).
    pub query: Lambda,
    /// The right operand of a score (`f32`).
    pub key: Lambda,
    /// The score (`f32`), of their product [`Arg::Reduced`]`(0)`.
    pub score: Lambda,
    /// Reductions of the row of scores. [`Arg::Reduced`]`(0)` is the score, those after it are the results of the earlier
    /// stages.
    pub stages: Vec<Stage>,
    /// The weight of a key (`f32`), with the arguments that a further stage would have.
    pub weight: Lambda,
    /// What is weighted (`f32`).
    pub value: Lambda,
    /// The order of both contractions.
    pub spec: ContractSpec,
    /// What happens to a weighted sum, [`Arg::Reduced`]`(0)`. Those after it are the results of the stages.
    pub result: Lambda,
}

/// A scalar function and where its arguments come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lambda {
    /// One a parameter.
    pub args: Vec<Arg>,
    /// The function.
    pub function: ScalarFn,
}

/// An argument of a [`Lambda`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arg {
    /// The element that an access of the kernel names.
    Load(u32),
    /// The index of an axis, as `u32`.
    Index(u32),
    /// The result of an earlier stage of a [`Reduce`], or (0) the total of a [`Contract`].
    Reduced(u32),
}

impl Lambda {
    /// The lambda that gives one argument back.
    pub fn identity(arg: Arg, dtype: DType) -> Lambda {
        Lambda { args: vec![arg], function: ScalarFn::identity(dtype) }
    }

    /// The accesses it uses, by number.
    pub fn loads(&self) -> impl Iterator<Item = u32> + '_ {
        self.args.iter().filter_map(|arg| match *arg {
            Arg::Load(load) => Some(load),
            _ => None,
        })
    }
}

impl Kernel {
    /// All lambdas, in the order of their execution.
    pub fn lambdas(&self) -> Vec<&Lambda> {
        match &self.body {
            Body::Map(lambda) => vec![lambda],
            Body::Reduce(reduce) => reduce.stages.iter().map(|stage| &stage.input).chain([&reduce.result]).collect(),
            Body::Contract(contract) => vec![&contract.lhs, &contract.rhs, &contract.epilogue],
            Body::Gather(gather) => vec![&gather.index, &gather.result],
            Body::Attend(attend) => {
                let stages = attend.stages.iter().map(|stage| &stage.input);
                let before = [&attend.query, &attend.key, &attend.score].into_iter();
                before.chain(stages).chain([&attend.weight, &attend.value, &attend.result]).collect()
            }
        }
    }

    /// How many leading axes index the output: all of them for a map or a per-element reduction, else those that are
    /// neither reduced nor gathered from, nor keys.
    pub fn output_axes(&self) -> usize {
        match &self.body {
            Body::Map(_) => self.axes.len(),
            Body::Reduce(reduce) if reduce.per_element => self.axes.len(),
            Body::Reduce(reduce) => self.axes.len() - reduce.reduced,
            Body::Contract(contract) => contract.batch + contract.rows + contract.columns,
            Body::Gather(_) => self.axes.len().saturating_sub(1),
            Body::Attend(attend) => attend.batch + attend.rows + attend.columns,
        }
    }

    /// The distinct buffers it touches: those read, in order of first use, then the output.
    pub fn buffers(&self) -> Vec<BufferId> {
        let mut buffers: Vec<BufferId> = Vec::new();
        for access in self.loads.iter().chain([&self.output]) {
            if !buffers.contains(&access.buffer) {
                buffers.push(access.buffer);
            }
        }
        buffers
    }
}

impl Contract {
    /// Both operands as what is multiplied: of integers the low bits, with their sign, so that plain products of what they
    /// give are the contraction's.
    pub fn factors(&self) -> [Cow<'_, Lambda>; 2] {
        [&self.lhs, &self.rhs].map(|operand| match self.products {
            Products::Float(_) => Cow::Borrowed(operand),
            Products::Integer(spec) => Cow::Owned(low_bits(operand, spec)),
        })
    }

    /// The kernel's axes split into batch, row, column and reduced extents.
    pub fn split<'a>(&self, axes: &'a [u64]) -> (&'a [u64], &'a [u64], &'a [u64], &'a [u64]) {
        let (batch, rest) = axes.split_at(self.batch);
        let (rows, rest) = rest.split_at(self.rows);
        let (columns, reduced) = rest.split_at(self.columns);
        (batch, rows, columns, reduced)
    }
}

/// The lambda with only the low bits of its result, and their sign.
fn low_bits(operand: &Lambda, spec: IntegerSpec) -> Lambda {
    let mut b = ScalarFnBuilder::new();
    let params: Vec<Value> = operand.function.params.iter().map(|&dtype| b.param(dtype)).collect();
    let value = b.call(&operand.function, &params);
    let unused = b.inst(Inst::Const(DType::I32, u64::from(32 - spec.bits)));
    let high = b.binary(BinaryOp::Shl, value, unused);
    let result = b.binary(BinaryOp::Shr, high, unused);
    Lambda { args: operand.args.clone(), function: b.finish(result) }
}

impl Attend {
    /// The kernel's axes: batch, row, column, key and contracted ones.
    pub fn groups(&self, axes: usize) -> [Range<usize>; 5] {
        let mut end = 0;
        let mut next = |count: usize| {
            end += count;
            end - count..end
        };
        let [batch, rows, columns, keys] = [self.batch, self.rows, self.columns, self.keys].map(&mut next);
        [batch, rows, columns, keys.clone(), keys.end..axes]
    }
}

impl Program {
    /// A buffer. The program must be verified.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// The buffers of a kind, with their numbers.
    pub fn buffers_where<'a>(
        &'a self,
        mut keep: impl FnMut(&BufferKind) -> bool + 'a,
    ) -> impl Iterator<Item = (BufferId, &'a Buffer)> + 'a {
        self.buffers
            .iter()
            .enumerate()
            .filter(move |(_, buffer)| keep(&buffer.kind))
            .map(|(index, buffer)| (BufferId(index as u32), buffer))
    }

    /// The kernels in the order of execution, those of a loop together.
    ///
    /// A loop is what a recurrence becomes: its kernels may read what they or later ones wrote at earlier indices of the
    /// first axis, and what earlier ones wrote at the same index. The verifier proves that they read nothing else of it.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let kernel = self.kernels.get(next)?;
            let first = next;
            next += 1;
            if kernel.in_loop.is_none() {
                return Some(Step::Kernel(first));
            }
            while self.kernels.get(next).is_some_and(|other| other.in_loop == kernel.in_loop) {
                next += 1;
            }
            Some(Step::Loop { kernels: first..next, count: kernel.axes.first().copied().unwrap_or(0) })
        })
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (BufferId, &Buffer)> {
        self.buffers_where(|kind| matches!(kind, BufferKind::Input))
    }

    /// The weights, in order.
    pub fn weights(&self) -> impl Iterator<Item = (BufferId, &Buffer)> {
        self.buffers_where(BufferKind::is_weight)
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = (BufferId, &Buffer)> {
        self.buffers_where(|kind| matches!(kind, BufferKind::Output))
    }
}
