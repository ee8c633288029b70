//! The text of a graph. [`super::parse`] reads it back.
//!
//! ```text
//! graph "tiny" {
//!   %0 = input "input" : f32[2, 3]
//!   %1 = weight "layers.0.bias" : f32[3] @layers.0
//!   %2 = broadcast %1 shape=[2, 3] axes=[1] : f32[2, 3] @layers.0
//!   %3 = add %0 %2 : f32[2, 3] @layers.0
//!   output "output" %3
//! }
//! ```
//!
//! Nodes are numbered in topological order; the second operand of `recur` may be a later node. Constants are printed as bits, so that nothing is lost.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use super::{Graph, NodeId, Op};

impl Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} {{", Quoted(&self.name))?;
        let order = self.topological();
        let numbers: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(number, &id)| (id, number)).collect();
        for (number, &id) in order.iter().enumerate() {
            let node = self.node(id);
            write!(f, "  %{number} = {}", node.op.name())?;
            for operand in self.operands(id) {
                write!(f, " %{}", numbers[&operand])?;
            }
            attributes(f, &node.op)?;
            write!(f, " : {}", node.ty)?;
            if !node.origin.is_empty() {
                write!(f, " @{}", node.origin)?;
            }
            writeln!(f)?;
        }
        for (name, id) in self.outputs() {
            writeln!(f, "  output {} %{}", Quoted(name), numbers[id])?;
        }
        writeln!(f, "}}")
    }
}

fn attributes(f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
    match op {
        Op::Input(name) | Op::Weight(name) => write!(f, " {}", Quoted(name)),
        Op::Codes(name, format) => write!(f, " {} format={}", Quoted(name), format.name()),
        Op::Constant(bits) => {
            f.write_str(" [")?;
            for (position, bits) in bits.iter().enumerate() {
                write!(f, "{}0x{bits:08x}", if position > 0 { ", " } else { "" })?;
            }
            f.write_str("]")
        }
        Op::Convert(dtype) => write!(f, " to={dtype}"),
        Op::Broadcast { shape, axes } => write!(f, " shape={shape} axes={axes:?}"),
        Op::Reshape(shape) => write!(f, " shape={shape}"),
        Op::Transpose(permutation) => write!(f, " permutation={permutation:?}"),
        Op::Slice { starts, ends, steps } => write!(f, " starts={starts:?} ends={ends:?} steps={steps:?}"),
        Op::Pad { low, high, value } => write!(f, " low={low:?} high={high:?} value=0x{value:08x}"),
        Op::Window(window) => write!(
            f,
            " axes={:?} size={:?} stride={:?} dilation={:?} low={:?} high={:?} fill=0x{:08x}",
            window.axes, window.size, window.stride, window.dilation, window.low, window.high, window.fill
        ),
        Op::Contract(axes) => write!(
            f,
            " lhs_batch={:?} rhs_batch={:?} lhs_reduced={:?} rhs_reduced={:?}",
            axes.lhs_batch, axes.rhs_batch, axes.lhs_reduced, axes.rhs_reduced
        ),
        Op::Reduce { op, axes } => write!(f, " op={} axes={axes:?}", op.name()),
        Op::Recur(steps) => write!(f, " steps={steps}"),
        Op::Iota | Op::Gather | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select => Ok(()),
    }
}

/// A name as a JSON string: any name prints on one line and reads back.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde_json::Value::from(self.0).fmt(f)
    }
}
