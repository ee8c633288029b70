//! The primitive tensor operations and the shape rule of each.

use std::sync::Arc;

use crate::kernel::scalar::{self, BinaryOp, CompareOp, UnaryOp};
use crate::numerics::quantise::CodeFormat;
use crate::types::{DType, Shape, ShapeLimit};

/// What a node computes. Shapes that the operands do not determine stand in the operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// A tensor that the caller gives, by name.
    Input(String),
    /// A tensor of the weights file, by name.
    Weight(String),
    /// The codes (`i32`) of a quantised weight of the weights file, by name; the weight of this name with `.scale` at its
    /// end has what they are multiplied by.
    Codes(String, CodeFormat),
    /// Elements known to the compiler, as bits.
    Constant(Arc<[u32]>),
    /// The numbers from 0 on, as a `u32` of one axis.
    Iota,
    /// Elementwise, one operand.
    Unary(UnaryOp),
    /// Elementwise, two operands of one shape and type.
    Binary(BinaryOp),
    /// Elementwise comparison.
    Compare(CompareOp),
    /// Elementwise `if condition { then } else { otherwise }`.
    Select,
    /// Elementwise conversion by value.
    Convert(DType),
    /// Repeats elements along new axes: operand axis `i` becomes axis `axes[i]` of a tensor of this shape; `axes` ascend,
    /// and an operand axis of extent 1 is repeated too.
    Broadcast {
        /// The result's shape.
        shape: Shape,
        /// Where the operand's axes go.
        axes: Vec<usize>,
    },
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// Axis `i` of the result is the operand's axis `permutation[i]`.
    Transpose(Vec<usize>),
    /// Every `steps[i]`-th index of each axis, from `starts[i]`, below `ends[i]`.
    Slice {
        /// First index of each axis.
        starts: Vec<u64>,
        /// One past the last index of each axis.
        ends: Vec<u64>,
        /// Distance of the indices, at least 1.
        steps: Vec<u64>,
    },
    /// Elements of one value before and after each axis.
    Pad {
        /// How many before.
        low: Vec<u64>,
        /// How many after.
        high: Vec<u64>,
        /// Their bits.
        value: u32,
    },
    /// Sliding windows: each of `axes` becomes the axis of window positions, and the window's own axes follow at the
    /// end, so that `y[.., o, .., k] = x[.., o·stride + k·dilation - low, ..]`. Outside the operand is `fill`.
    Window(Window),
    /// Sums of products over pairs of axes: of `f32` in LN1's order; of `i32` the low 8 bits of each element, with their
    /// sign, are multiplied, and sums wrap. The result's axes are the batch axes, the rest of the left
    /// operand's, the rest of the right operand's.
    Contract(ContractAxes),
    /// Rows of a table, the first operand, by their numbers, the second (`u32`): `y[i.., j..] = x[k[i..], j..]`, and zero
    /// where `k` is no row of it.
    Gather,
    /// One value for each index of the axes that are not reduced. The order is LN1's over the reduced axes in row-major
    /// order.
    Reduce {
        /// How.
        op: ReduceKind,
        /// Ascending.
        axes: Vec<usize>,
    },
    /// The values of a recurrence before each of its steps: operand 0 and then all but the last slice of operand 1, along
    /// a new first axis of this extent. Operand 1, the values after each step, may be computed from the result, slice by
    /// slice; it's the one way in which a graph may have a cycle.
    Recur(u64),
}

/// The geometry of [`Op::Window`]; all lists have one entry a windowed axis.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The operand's axes that are windowed, ascending.
    pub axes: Vec<usize>,
    /// Elements in a window.
    pub size: Vec<u64>,
    /// Distance of windows, at least 1.
    pub stride: Vec<u64>,
    /// Distance of a window's elements, at least 1.
    pub dilation: Vec<u64>,
    /// Elements before the operand's first that windows may cover.
    pub low: Vec<u64>,
    /// Elements after the operand's last that windows may cover.
    pub high: Vec<u64>,
    /// The bits of an element outside the operand.
    pub fill: u32,
}

/// The axes of [`Op::Contract`], left and right, pairwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContractAxes {
    /// Batch axes of the left operand.
    pub lhs_batch: Vec<usize>,
    /// Batch axes of the right operand.
    pub rhs_batch: Vec<usize>,
    /// Reduced axes of the left operand, outermost first: their order is the order of the sum.
    pub lhs_reduced: Vec<usize>,
    /// Reduced axes of the right operand.
    pub rhs_reduced: Vec<usize>,
}

/// How [`Op::Reduce`] combines elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Greatest in the total order of LN1; NaN wins.
    Max,
    /// Least in the total order of LN1; NaN wins.
    Min,
}

impl ReduceKind {
    /// All of them.
    pub const ALL: [ReduceKind; 3] = [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min];

    /// The word in graph text.
    pub const fn name(self) -> &'static str {
        match self {
            ReduceKind::Sum => "sum",
            ReduceKind::Max => "max",
            ReduceKind::Min => "min",
        }
    }
}

/// Element type and shape of a node's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

impl TensorType {
    /// A type.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> TensorType {
        TensorType { dtype, shape: shape.into() }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// Why an operation does not take its operands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The wrong number of operands.
    #[error("takes {expected} operands, has {found}")]
    Arity {
        /// Needed.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Operands of types that the operation does not take.
    #[error("does not take {0}")]
    Types(String),
    /// An attribute that doesn't fit the operand's shape.
    #[error("{rule}, the operand is {shape}")]
    Attribute {
        /// What must hold.
        rule: &'static str,
        /// The operand's shape.
        shape: Shape,
    },
    /// A result too large.
    #[error("{0}")]
    Limit(#[from] ShapeLimit),
}

impl Op {
    /// How many operands it takes.
    pub fn arity(&self) -> usize {
        match self {
            Op::Input(_) | Op::Weight(_) | Op::Codes(..) | Op::Constant(_) | Op::Iota => 0,
            Op::Binary(_) | Op::Compare(_) | Op::Contract(_) | Op::Gather | Op::Recur(_) => 2,
            Op::Select => 3,
            _ => 1,
        }
    }

    /// The word in graph text and kernel names.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Weight(_) => "weight",
            Op::Codes(..) => "codes",
            Op::Constant(_) => "constant",
            Op::Iota => "iota",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Convert(_) => "convert",
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Window(_) => "window",
            Op::Contract(_) => "contract",
            Op::Gather => "gather",
            Op::Reduce { .. } => "reduce",
            Op::Recur(_) => "recur",
        }
    }

    /// Whether the result holds the operand's elements, only elsewhere (or a fill).
    pub fn is_view(&self) -> bool {
        matches!(
            self,
            Op::Broadcast { .. }
                | Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Slice { .. }
                | Op::Pad { .. }
                | Op::Window(_)
        )
    }

    /// Whether slice `t` of the result along its first axis takes slice `t` of this operand alone, for each `t`: what a
    /// recurrence asks of all that is between its two ends.
    pub fn is_slicewise(&self, operand: usize, operands: &[&TensorType], result: &TensorType) -> bool {
        let Some(steps) = result.shape.dims().first() else { return false };
        let kept = operands.get(operand).is_some_and(|ty| ty.shape.dims().first() == Some(steps));
        kept && match self {
            Op::Input(_) | Op::Weight(_) | Op::Codes(..) | Op::Constant(_) | Op::Iota | Op::Recur(_) => false,
            // The rows that are named, not the table.
            Op::Gather => operand == 1,
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) | Op::Reshape(_) => true,
            Op::Broadcast { axes, .. } => axes.first() == Some(&0),
            Op::Transpose(permutation) => permutation.first() == Some(&0),
            Op::Slice { starts, steps, .. } => starts[0] == 0 && steps[0] == 1,
            Op::Pad { low, high, .. } => low[0] == 0 && high[0] == 0,
            Op::Window(window) => !window.axes.contains(&0),
            Op::Contract(axes) => {
                let batch = if operand == 0 { &axes.lhs_batch } else { &axes.rhs_batch };
                batch.first() == Some(&0)
            }
            Op::Reduce { axes, .. } => !axes.contains(&0),
        }
    }

    /// The result's type for operands of these types. Inputs, weights and constants have no rule: their type is given.
    pub fn result_type(&self, operands: &[&TensorType]) -> Result<TensorType, OpError> {
        if operands.len() != self.arity() {
            return Err(OpError::Arity { expected: self.arity(), found: operands.len() });
        }
        let refused = || {
            let list: Vec<String> = operands.iter().map(ToString::to_string).collect();
            OpError::Types(list.join(" and "))
        };
        let elementwise = |dtype: Option<DType>| match dtype {
            Some(dtype) if operands.iter().all(|operand| operand.shape == operands[0].shape) => {
                Ok(TensorType::new(dtype, operands[0].shape.clone()))
            }
            _ => Err(refused()),
        };
        let moved = |shape: Result<Vec<u64>, OpError>| {
            Ok(TensorType { dtype: operands[0].dtype, shape: Shape::checked(shape?)? })
        };
        match self {
            Op::Input(_) | Op::Weight(_) | Op::Codes(..) | Op::Constant(_) | Op::Iota => Err(refused()),
            Op::Unary(op) => elementwise(scalar::unary_type(*op, operands[0].dtype)),
            Op::Binary(op) => {
                let dtype = operands[0].dtype;
                let fits = dtype == operands[1].dtype && scalar::binary_accepts(*op, dtype);
                elementwise(fits.then_some(dtype))
            }
            Op::Compare(_) => {
                let fits = operands[0].dtype == operands[1].dtype && operands[0].dtype != DType::Bool;
                elementwise(fits.then_some(DType::Bool))
            }
            Op::Select => {
                let fits = operands[0].dtype == DType::Bool && operands[1].dtype == operands[2].dtype;
                elementwise(fits.then_some(operands[1].dtype))
            }
            Op::Convert(dtype) => elementwise(Some(*dtype)),
            Op::Broadcast { shape, axes } => moved(broadcast_shape(&operands[0].shape, shape, axes)),
            Op::Reshape(shape) => moved(reshape_shape(&operands[0].shape, shape)),
            Op::Transpose(permutation) => moved(transpose_shape(&operands[0].shape, permutation)),
            Op::Slice { starts, ends, steps } => moved(slice_shape(&operands[0].shape, starts, ends, steps)),
            Op::Pad { low, high, value } => {
                fill_fits(*value, operands[0])?;
                moved(pad_shape(&operands[0].shape, low, high))
            }
            Op::Window(window) => {
                fill_fits(window.fill, operands[0])?;
                moved(window.shape(&operands[0].shape))
            }
            Op::Contract(axes) => {
                let dtype = operands[0].dtype;
                if !matches!(dtype, DType::F32 | DType::I32) || operands[1].dtype != dtype {
                    return Err(refused());
                }
                moved(axes.shape(&operands[0].shape, &operands[1].shape))
            }
            Op::Recur(steps) => {
                let dims = [&[*steps], operands[0].shape.dims()].concat();
                let ty = TensorType { dtype: operands[0].dtype, shape: Shape::checked(dims)? };
                if ty == *operands[1] { Ok(ty) } else { Err(refused()) }
            }
            Op::Gather => {
                let (table, indices) = (operands[0], operands[1]);
                if indices.dtype != DType::U32 {
                    return Err(refused());
                }
                rule(table.shape.rank() > 0, "a table has rows", &table.shape)?;
                moved(Ok([indices.shape.dims(), &table.shape.dims()[1..]].concat()))
            }
            Op::Reduce { axes, .. } => {
                if operands[0].dtype == DType::Bool {
                    return Err(refused());
                }
                moved(reduce_shape(&operands[0].shape, axes))
            }
        }
    }
}

/// An error about an operand's shape, unless `holds`.
fn rule(holds: bool, rule: &'static str, shape: &Shape) -> Result<(), OpError> {
    if holds { Ok(()) } else { Err(OpError::Attribute { rule, shape: shape.clone() }) }
}

fn ascending(axes: &[usize], rank: usize) -> bool {
    axes.windows(2).all(|pair| pair[0] < pair[1]) && axes.iter().all(|&axis| axis < rank)
}

fn broadcast_shape(operand: &Shape, shape: &Shape, axes: &[usize]) -> Result<Vec<u64>, OpError> {
    let fits = axes.len() == operand.rank()
        && ascending(axes, shape.rank())
        && axes.iter().zip(operand.dims()).all(|(&axis, &dim)| dim == 1 || dim == shape.dims()[axis]);
    rule(fits, "each operand axis goes to a later axis of its own extent, or has extent 1", operand)?;
    Ok(shape.dims().to_vec())
}

fn reshape_shape(operand: &Shape, shape: &Shape) -> Result<Vec<u64>, OpError> {
    let fits = shape.checked_elements().is_some() && shape.checked_elements() == operand.checked_elements();
    rule(fits, "a reshape keeps the number of elements", operand)?;
    Ok(shape.dims().to_vec())
}

fn transpose_shape(operand: &Shape, permutation: &[usize]) -> Result<Vec<u64>, OpError> {
    let mut seen = vec![false; operand.rank()];
    let all = permutation.len() == operand.rank()
        && permutation.iter().all(|&axis| axis < seen.len() && !std::mem::replace(&mut seen[axis], true));
    rule(all, "a permutation names each axis once", operand)?;
    Ok(permutation.iter().map(|&axis| operand.dims()[axis]).collect())
}

fn slice_shape(operand: &Shape, starts: &[u64], ends: &[u64], steps: &[u64]) -> Result<Vec<u64>, OpError> {
    let rank = operand.rank();
    rule([starts.len(), ends.len(), steps.len()] == [rank; 3], "a slice has one range an axis", operand)?;
    (0..rank)
        .map(|axis| {
            let (start, end, step) = (starts[axis], ends[axis], steps[axis]);
            let fits = (1..1 << 31).contains(&step) && start <= end && end <= operand.dims()[axis];
            rule(fits, "0 <= start <= end <= extent and step >= 1", operand)?;
            Ok((end - start).div_ceil(step))
        })
        .collect()
}

fn fill_fits(fill: u32, operand: &TensorType) -> Result<(), OpError> {
    rule(operand.dtype != DType::Bool || fill <= 1, "a bool is filled up with 0 or 1", &operand.shape)
}

fn pad_shape(operand: &Shape, low: &[u64], high: &[u64]) -> Result<Vec<u64>, OpError> {
    let rank = operand.rank();
    rule(low.len() == rank && high.len() == rank, "padding has one count an axis and side", operand)?;
    (0..rank)
        .map(|axis| padded(operand.dims()[axis], low[axis], high[axis]).ok_or_else(|| too_large(operand)))
        .collect()
}

fn padded(dim: u64, low: u64, high: u64) -> Option<u64> {
    dim.checked_add(low)?.checked_add(high).filter(|&sum| sum < 1 << 31)
}

fn too_large(operand: &Shape) -> OpError {
    OpError::Attribute { rule: "a padded extent is below 2^31", shape: operand.clone() }
}

fn reduce_shape(operand: &Shape, axes: &[usize]) -> Result<Vec<u64>, OpError> {
    rule(ascending(axes, operand.rank()), "reduced axes ascend and exist", operand)?;
    Ok((0..operand.rank()).filter(|axis| !axes.contains(axis)).map(|axis| operand.dims()[axis]).collect())
}

impl Window {
    /// The extent of window positions along an axis of extent `dim`: `floor((dim + low + high - reach) / stride) + 1`
    /// with `reach = dilation·(size - 1) + 1`; `None` where no window fits.
    pub fn positions(dim: u64, size: u64, stride: u64, dilation: u64, low: u64, high: u64) -> Option<u64> {
        let reach = size.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        padded(dim, low, high)?.checked_sub(reach)?.checked_div(stride)?.checked_add(1)
    }

    fn shape(&self, operand: &Shape) -> Result<Vec<u64>, OpError> {
        let count = self.axes.len();
        let lists = [self.size.len(), self.stride.len(), self.dilation.len(), self.low.len(), self.high.len()];
        rule(lists == [count; 5], "a window has one number of each kind an axis", operand)?;
        rule(ascending(&self.axes, operand.rank()), "windowed axes ascend and exist", operand)?;
        let small = self.stride.iter().chain(&self.dilation).all(|&step| (1..1 << 31).contains(&step));
        rule(small, "strides and dilations are at least 1", operand)?;
        let (mut dims, mut covered) = (operand.dims().to_vec(), operand.dims().to_vec());
        for (i, &axis) in self.axes.iter().enumerate() {
            let positions = Window::positions(
                dims[axis],
                self.size[i],
                self.stride[i],
                self.dilation[i],
                self.low[i],
                self.high[i],
            );
            dims[axis] = positions
                .ok_or(OpError::Attribute { rule: "a window fits into its padded axis", shape: operand.clone() })?;
        }
        // What windows may cover is limited as a tensor is, so that places in it are small numbers.
        for (i, &axis) in self.axes.iter().enumerate() {
            covered[axis] = padded(covered[axis], self.low[i], self.high[i]).ok_or_else(|| too_large(operand))?;
        }
        Shape::checked(covered)?;
        dims.extend(&self.size);
        Ok(dims)
    }
}

impl ContractAxes {
    /// The axes of an operand of `rank` axes that are neither batch nor reduced.
    pub fn free(rank: usize, batch: &[usize], reduced: &[usize]) -> Vec<usize> {
        (0..rank).filter(|axis| !batch.contains(axis) && !reduced.contains(axis)).collect()
    }

    fn shape(&self, lhs: &Shape, rhs: &Shape) -> Result<Vec<u64>, OpError> {
        let distinct = |batch: &[usize], reduced: &[usize], shape: &Shape| {
            let mut seen = vec![false; shape.rank()];
            let all = batch.iter().chain(reduced);
            all.clone().all(|&axis| axis < shape.rank() && !std::mem::replace(&mut seen[axis], true))
        };
        rule(distinct(&self.lhs_batch, &self.lhs_reduced, lhs), "contracted axes exist once", lhs)?;
        rule(distinct(&self.rhs_batch, &self.rhs_reduced, rhs), "contracted axes exist once", rhs)?;
        let same = |left: &[usize], right: &[usize]| {
            left.len() == right.len() && left.iter().zip(right).all(|(&l, &r)| lhs.dims()[l] == rhs.dims()[r])
        };
        rule(same(&self.lhs_batch, &self.rhs_batch), "batch axes have equal extents", lhs)?;
        rule(same(&self.lhs_reduced, &self.rhs_reduced), "contracted axes have equal extents", lhs)?;
        let left = ContractAxes::free(lhs.rank(), &self.lhs_batch, &self.lhs_reduced);
        let right = ContractAxes::free(rhs.rank(), &self.rhs_batch, &self.rhs_reduced);
        let batch = self.lhs_batch.iter().map(|&axis| lhs.dims()[axis]);
        let rows = left.iter().map(|&axis| lhs.dims()[axis]);
        Ok(batch.chain(rows).chain(right.iter().map(|&axis| rhs.dims()[axis])).collect())
    }
}
