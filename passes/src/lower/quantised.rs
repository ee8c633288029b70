//! Products of integers: the input's codes times the weights' codes, and what their total stands for.
//!
//! ```text
//! s = max(max|x| / 127, 2^-149)                      # of a row, or given
//! q = i32(min(max(round(x / s), -127), 127))
//! y = (f32(Σ q · w) · scale) · s                     # of groups: sum over them of f32(Σ q · w) · scale, then · s
//! ```
//!
//! A row that holds a number that isn't finite has such an s, so that all of its codes are 0 and all of its results NaN.
//!
//! With a zero point z, and w's sums as a tensor of their own:
//!
//! ```text
//! q = i32(min(max(round(x / s), -128 - z), 127 - z)) + z
//! y = (f32(Σ q · w - z · Σ w) · scale) · s           # the difference is Σ (q - z) · w, exactly
//! ```

use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{BinaryOp, UnaryOp};
use loom_ir::numerics::quantise::Coding;
use loom_ir::types::{DType, Shape};

use crate::shapes::{Quantised, channel_groups, groups_of};

/// The greatest code of an input whose rows have scales of their own.
const GREATEST: f32 = 127.0;

/// A tensor's codes, and what each row's are multiplied by.
struct Codes {
    codes: NodeId,
    scale: Scale,
    /// The code of 0.
    zero_point: i8,
}

enum Scale {
    Given(f32),
    /// One a row: the leading axes.
    Rows(NodeId),
}

/// A value of codes and what they stand for.
pub(super) struct Arriving {
    pub codes: NodeId,
    coding: Coding,
}

impl Arriving {
    /// f32(codes - z) · s
    pub fn meaning(&self, b: &mut Builder<'_>) -> NodeId {
        let steps = match self.coding.zero_point {
            Some(zero_point) => {
                let zero = splat_code(b, zero_point, self.codes);
                b.binary(BinaryOp::Sub, self.codes, zero)
            }
            None => self.codes,
        };
        let steps = b.op(Op::Convert(DType::F32), &[steps]);
        let scale = b.splat_like(self.coding.scale, steps);
        b.mul(steps, scale)
    }

    /// max(codes, z): what relu gives of what they stand for.
    pub fn relu(&mut self, b: &mut Builder<'_>) {
        let zero = splat_code(b, self.coding.zero_point.unwrap_or_default(), self.codes);
        self.codes = b.binary(BinaryOp::Max, self.codes, zero);
    }
}

/// A code repeated over the shape of others.
fn splat_code(b: &mut Builder<'_>, code: i8, like: NodeId) -> NodeId {
    let shape = b.graph().shape(like).clone();
    b.splat_bits(i32::from(code) as u32, DType::I32, &shape)
}

/// x as codes, and what these stand for.
pub(super) fn quantise(b: &mut Builder<'_>, x: NodeId, coding: Coding) -> NodeId {
    let codes = codes(b, x, 0, Some(coding)).codes;
    Arriving { codes, coding }.meaning(b)
}

/// The number that a value repeats.
fn repeated(b: &Builder<'_>, value: NodeId) -> Option<u32> {
    let graph = b.graph();
    let Op::Broadcast { .. } = &graph.node(value).op else { return None };
    match &graph.node(*graph.operands(value).first()?).op {
        Op::Constant(bits) => <[u32; 1]>::try_from(&**bits).ok().map(|[bits]| bits),
        _ => None,
    }
}

/// The codes of a value that is what [`Arriving::meaning`] gives, or has the same elements elsewhere. (Nothing else is an `i32`
/// times a number: totals are multiplied by the weights' scales first.)
pub(super) fn arriving(b: &mut Builder<'_>, x: NodeId) -> Option<Arriving> {
    let graph = b.graph();
    let (op, operands) = (&graph.node(x).op, graph.operands(x));
    match (op, operands.as_slice()) {
        (Op::Binary(BinaryOp::Mul), &[steps, scale]) => {
            let Op::Convert(DType::F32) = &graph.node(steps).op else { return None };
            let scale = f32::from_bits(repeated(b, scale)?);
            let &[steps] = graph.operands(steps).as_slice() else { return None };
            if graph.node(steps).ty.dtype != DType::I32 {
                return None;
            }
            let (codes, zero_point) = match (&graph.node(steps).op, graph.operands(steps).as_slice()) {
                (Op::Binary(BinaryOp::Sub), &[codes, zero]) => {
                    (codes, Some(i8::try_from(repeated(b, zero)? as i32).ok()?))
                }
                _ => (steps, None),
            };
            Some(Arriving { codes, coding: Coding { scale, zero_point } })
        }
        (Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } | Op::Broadcast { .. }, &[operand]) => {
            let op = op.clone();
            let mut value = arriving(b, operand)?;
            value.codes = b.op(op, &[value.codes]);
            Some(value)
        }
        _ => None,
    }
}

/// The codes of x. Its rows are the axes from number `first` on. Codes that arrive are taken as they are, unless others are asked for.
fn codes(b: &mut Builder<'_>, x: NodeId, first: usize, given: Option<Coding>) -> Codes {
    if let Some(value) = arriving(b, x).filter(|value| given.is_none_or(|given| given == value.coding)) {
        let Coding { scale, zero_point } = value.coding;
        return Codes { codes: value.codes, scale: Scale::Given(scale), zero_point: zero_point.unwrap_or_default() };
    }
    let axes: Vec<usize> = (first..b.graph().shape(x).rank()).collect();
    let (scale, divisor) = match given {
        Some(Coding { scale, .. }) => (Scale::Given(scale), b.splat_like(scale, x)),
        None => {
            let size = b.unary(UnaryOp::Abs, x);
            let greatest = b.reduce(ReduceKind::Max, size, &axes);
            let steps = b.splat_like(GREATEST, greatest);
            let scale = b.div(greatest, steps);
            let least = b.splat_like(f32::from_bits(1), scale);
            let scale = b.binary(BinaryOp::Max, scale, least);
            (Scale::Rows(scale), b.spread(scale, x, &axes))
        }
    };
    let quotient = b.div(x, divisor);
    let nearest = b.unary(UnaryOp::Round, quotient);
    let (least, most) = given.map_or((-GREATEST, GREATEST), |given| {
        let (least, most) = given.steps();
        (f32::from(least), f32::from(most))
    });
    let [least, most] = [least, most].map(|end| b.splat_like(end, nearest));
    let kept = b.binary(BinaryOp::Max, nearest, least);
    let kept = b.binary(BinaryOp::Min, kept, most);
    let codes = b.op(Op::Convert(DType::I32), &[kept]);
    let zero_point = given.and_then(|given| given.zero_point).unwrap_or_default();
    let codes = match zero_point {
        0 => codes,
        _ => {
            let zero = splat_code(b, zero_point, codes);
            b.binary(BinaryOp::Add, codes, zero)
        }
    };
    Codes { codes, scale, zero_point }
}

/// y times the scale of its rows, which are its leading axes.
fn times_scale(b: &mut Builder<'_>, y: NodeId, scale: &Scale) -> NodeId {
    let scale = match *scale {
        Scale::Given(scale) => b.splat_like(scale, y),
        Scale::Rows(scale) => {
            let (shape, rows) = (b.graph().shape(y).clone(), b.graph().shape(scale).rank());
            b.broadcast(scale, &shape, &(0..rows).collect::<Vec<_>>())
        }
    };
    b.mul(y, scale)
}

/// The codes of a weight, and what the totals of its products are put right and multiplied by: `[outputs]` or `[outputs, groups]`.
struct Weight {
    codes: NodeId,
    scale: NodeId,
    /// z · Σ codes, where the other factor has a zero point.
    offset: Option<NodeId>,
}

impl Weight {
    fn new(
        b: &mut Builder<'_>,
        role: &str,
        shape: Vec<u64>,
        scales: Vec<u64>,
        quantised: &Quantised,
        zero_point: i8,
    ) -> Weight {
        let [codes, scale] = b.codes(role, shape, quantised.format, scales.clone());
        let offset = (zero_point != 0).then(|| {
            let sums = b.code_sums(role, scales);
            let zero = splat_code(b, zero_point, sums);
            b.mul(sums, zero)
        });
        Weight { codes, scale, offset }
    }

    /// f32(totals - offset) · scale, both of these under another form and then repeated along all axes but `axes`.
    fn rescaled(
        &self,
        b: &mut Builder<'_>,
        totals: NodeId,
        axes: &[usize],
        form: impl Fn(&mut Builder<'_>, NodeId) -> NodeId,
    ) -> NodeId {
        let shape = b.graph().shape(totals).clone();
        let spread = |b: &mut Builder<'_>, value: NodeId| {
            let value = form(b, value);
            b.broadcast(value, &shape, axes)
        };
        let totals = match self.offset {
            Some(offset) => {
                let offset = spread(b, offset);
                b.binary(BinaryOp::Sub, totals, offset)
            }
            None => totals,
        };
        let totals = b.op(Op::Convert(DType::F32), &[totals]);
        let scale = spread(b, self.scale);
        b.mul(totals, scale)
    }
}

/// The product over the last axis of x with a weight `[outputs, inputs]`: with `steps`, at each index of x's first axis, which
/// has so many.
pub(super) fn linear(
    b: &mut Builder<'_>,
    x: NodeId,
    role: &str,
    [outputs, inputs]: [u64; 2],
    (quantised, coding): (&Quantised, Option<Coding>),
    steps: Option<u64>,
) -> NodeId {
    let last = b.graph().shape(x).rank() - 1;
    let x = codes(b, x, last, coding);
    let (groups, size) = groups_of(inputs, quantised.group_size);
    let repeated = |b: &mut Builder<'_>, weight: NodeId| match steps {
        Some(steps) => {
            let dims = b.graph().shape(weight).dims().to_vec();
            let shape = Shape::from([&[steps], &*dims].concat());
            b.broadcast(weight, &shape, &(1..=dims.len()).collect::<Vec<_>>())
        }
        None => weight,
    };
    // The steps are the first axis of both and of the totals.
    let first = usize::from(steps.is_some());
    let batch = |groups: Option<usize>| (0..first).chain(groups).collect::<Vec<usize>>();
    let y = if groups == 1 {
        let weight = Weight::new(b, role, vec![outputs, inputs], vec![outputs], quantised, x.zero_point);
        let axes = ContractAxes {
            lhs_batch: batch(None),
            rhs_batch: batch(None),
            lhs_reduced: vec![last],
            rhs_reduced: vec![first + 1],
        };
        let codes = repeated(b, weight.codes);
        let totals = b.op(Op::Contract(axes), &[x.codes, codes]);
        weight.rescaled(b, totals, &[last], |_, value| value)
    } else {
        let weight = Weight::new(b, role, vec![outputs, inputs], vec![outputs, groups], quantised, x.zero_point);
        let [lhs, rhs] = [x.codes, weight.codes].map(|codes| grouped(b, codes, groups, size));
        // Groups are the next axis of the totals.
        let axes = ContractAxes {
            lhs_batch: batch(Some(last)),
            rhs_batch: batch(Some(first + 1)),
            lhs_reduced: vec![last + 1],
            rhs_reduced: vec![first + 2],
        };
        let rhs = repeated(b, rhs);
        let totals = b.op(Op::Contract(axes), &[lhs, rhs]);
        let turned = |b: &mut Builder<'_>, value| b.op(Op::Transpose(vec![1, 0]), &[value]);
        let parts = weight.rescaled(b, totals, &[first, last + 1], turned);
        b.reduce(ReduceKind::Sum, parts, &[first])
    };
    times_scale(b, y, &x.scale)
}

/// The last axis as groups of a size, the last one filled up with zeros.
fn grouped(b: &mut Builder<'_>, codes: NodeId, groups: u64, size: u64) -> NodeId {
    let mut dims = b.graph().shape(codes).dims().to_vec();
    let (rank, length) = (dims.len(), dims.pop().unwrap_or(1));
    let codes = if length == groups * size {
        codes
    } else {
        let mut high = vec![0; rank];
        high[rank - 1] = groups * size - length;
        b.op(Op::Pad { low: vec![0; rank], high, value: 0 }, &[codes])
    };
    dims.extend([groups, size]);
    b.reshape(codes, dims)
}

/// What a convolution multiplies and what gives its totals their meaning.
pub(super) struct Convolution {
    /// The input's codes.
    pub input: NodeId,
    /// The code of 0, which padding is.
    pub zero_point: i8,
    /// The weight's codes.
    pub weight: NodeId,
    /// The groups of each filter's weights, which are of whole channels.
    pub groups: u64,
    scales: Weight,
    input_scale: Scale,
}

/// The codes of a convolution's operands: x has a row for each sample, the weight a scale for each filter, or for each group of its
/// channels.
pub(super) fn convolution(b: &mut Builder<'_>, x: NodeId, weight: Vec<u64>, quantised: &Quantised) -> Convolution {
    let x = codes(b, x, 1, quantised.input);
    let (filters, channels, volume) = (weight[0], weight[1], weight[2..].iter().product());
    // That there is room for a channel shape inference has checked.
    let (groups, _) = channel_groups(channels, volume, quantised.group_size).unwrap_or((1, channels));
    let sizes = if groups == 1 { vec![filters] } else { vec![filters, groups] };
    let scales = Weight::new(b, "weight", weight, sizes, quantised, x.zero_point);
    let Codes { codes: input, scale: input_scale, zero_point } = x;
    Convolution { input, zero_point, weight: scales.codes, groups, scales, input_scale }
}

impl Convolution {
    /// What totals `[batch, parts, groups, filters of a part, positions…]` stand for, as `[batch, filters, positions…]`. (Parts are
    /// those that a grouped convolution has.)
    pub fn meaning(&self, b: &mut Builder<'_>, totals: NodeId, parts: u64) -> NodeId {
        let dims = b.graph().shape(totals).dims().to_vec();
        let (batch, positions) = (dims[0], &dims[4..]);
        let each = dims[3];
        let result = [&[batch, parts * each], positions].concat();
        let y = if self.groups == 1 {
            let totals = b.reshape(totals, result);
            self.scales.rescaled(b, totals, &[1], |_, value| value)
        } else {
            let groups = self.groups;
            let form = |b: &mut Builder<'_>, value| {
                let value = b.reshape(value, [parts, each, groups]);
                b.op(Op::Transpose(vec![0, 2, 1]), &[value])
            };
            let terms = self.scales.rescaled(b, totals, &[1, 2, 3], form);
            let y = b.reduce(ReduceKind::Sum, terms, &[2]);
            b.reshape(y, result)
        };
        times_scale(b, y, &self.input_scale)
    }
}
