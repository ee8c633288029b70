//! The text of a program, for people and golden files.

use std::fmt::{self, Display, Write};

use super::program::{Arg, Body, Kernel, Lambda, Program, ReduceOp, Stage};
use crate::numerics::reduction::Products;

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program \"{}\" {{", self.name)?;
        for (index, buffer) in self.buffers.iter().enumerate() {
            let kind = buffer.kind.name();
            write!(f, "  b{index}: {kind} \"{}\" {}{}", buffer.name, buffer.dtype, buffer.shape)?;
            if let Some(offset) = self.plan.as_ref().and_then(|plan| plan.offsets.get(index).copied().flatten()) {
                write!(f, " at {offset}")?;
            }
            writeln!(f)?;
        }
        for kernel in &self.kernels {
            writeln!(f)?;
            for line in kernel.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        if let Some(plan) = &self.plan {
            writeln!(f, "\n  arena {} bytes", plan.arena_bytes)?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel \"{}\" {}", self.name, self.body.name())?;
        if let Some(number) = self.in_loop {
            write!(f, " in loop {number}")?;
        }
        let group = |f: &mut fmt::Formatter<'_>, name: &str, range: std::ops::Range<usize>| -> fmt::Result {
            if !name.is_empty() {
                write!(f, " {name}")?;
            }
            f.write_str(" (")?;
            for (position, axis) in range.enumerate() {
                write!(f, "{}i{axis}: {}", if position > 0 { ", " } else { "" }, self.axes[axis])?;
            }
            f.write_str(")")
        };
        let axes = self.axes.len();
        match &self.body {
            Body::Map(_) => group(f, "", 0..axes)?,
            Body::Reduce(reduce) => {
                let rows = axes - reduce.reduced;
                group(f, "", 0..rows)?;
                group(f, "over", rows..axes)?;
            }
            Body::Gather(_) => {
                let outputs = self.output_axes();
                group(f, "", 0..outputs)?;
                group(f, "from", outputs..axes)?;
            }
            Body::Contract(contract) => {
                let rows = contract.batch + contract.rows;
                let columns = rows + contract.columns;
                group(f, "batch", 0..contract.batch)?;
                group(f, "rows", contract.batch..rows)?;
                group(f, "columns", rows..columns)?;
                group(f, "over", columns..axes)?;
            }
            Body::Attend(attend) => {
                let names = ["batch", "rows", "columns", "keys", "over"];
                for (name, range) in names.into_iter().zip(attend.groups(axes)) {
                    group(f, name, range)?;
                }
            }
        }
        writeln!(f, " {{")?;
        for (index, load) in self.loads.iter().enumerate() {
            writeln!(f, "  l{index} = {load}")?;
        }
        match &self.body {
            Body::Map(lambda) => writeln!(f, "  result {}", Applied(lambda))?,
            Body::Reduce(reduce) => {
                stages(f, &reduce.stages, 0)?;
                let name = if reduce.per_element { "each" } else { "result" };
                writeln!(f, "  {name} {}", Applied(&reduce.result))?;
            }
            Body::Gather(gather) => {
                writeln!(f, "  i{} = {}", axes.saturating_sub(1), Applied(&gather.index))?;
                writeln!(f, "  result {}", Applied(&gather.result))?;
            }
            Body::Contract(contract) => {
                writeln!(f, "  lhs {}", Applied(&contract.lhs))?;
                writeln!(f, "  rhs {}", Applied(&contract.rhs))?;
                match contract.products {
                    Products::Float(spec) => writeln!(f, "  r0 = sum<chunk {}, split> lhs * rhs", spec.chunk)?,
                    Products::Integer(spec) => writeln!(f, "  r0 = sum<i{}> lhs * rhs", spec.bits)?,
                }
                writeln!(f, "  result {}", Applied(&contract.epilogue))?;
            }
            Body::Attend(attend) => {
                let chunk = attend.spec.chunk;
                writeln!(f, "  query {}", Applied(&attend.query))?;
                writeln!(f, "  key {}", Applied(&attend.key))?;
                writeln!(f, "  r0 = sum<chunk {chunk}, split> query * key")?;
                writeln!(f, "  r0 = score {}", Applied(&attend.score))?;
                stages(f, &attend.stages, 1)?;
                writeln!(f, "  weight {}", Applied(&attend.weight))?;
                writeln!(f, "  value {}", Applied(&attend.value))?;
                writeln!(f, "  r0 = sum<chunk {chunk}, split> weight * value")?;
                writeln!(f, "  result {}", Applied(&attend.result))?;
            }
        }
        writeln!(f, "  {} := result", self.output)?;
        f.write_char('}')
    }
}

/// Reductions, whose results are numbered from `first` on.
fn stages(f: &mut fmt::Formatter<'_>, stages: &[Stage], first: usize) -> fmt::Result {
    for (index, stage) in stages.iter().enumerate() {
        let op = match stage.op {
            ReduceOp::Sum(spec) => format!("sum<block {}, lanes {}>", spec.block, spec.lanes),
            ReduceOp::Max => "max".to_string(),
            ReduceOp::Min => "min".to_string(),
        };
        writeln!(f, "  r{} = {op} {}", first + index, Applied(&stage.input))?;
    }
    Ok(())
}

/// A lambda with its arguments: `(l0, r0) (v0: f32, v1: f32) { … }`, or the bare argument where it only passes it on.
struct Applied<'a>(&'a Lambda);

impl Display for Applied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lambda { args, function } = self.0;
        if let ([arg], true) = (args.as_slice(), function.is_identity()) {
            return arg.fmt(f);
        }
        f.write_char('(')?;
        for (position, arg) in args.iter().enumerate() {
            write!(f, "{}{arg}", if position > 0 { ", " } else { "" })?;
        }
        write!(f, ") -> {function}")
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arg::Load(load) => write!(f, "l{load}"),
            Arg::Index(axis) => write!(f, "i{axis}"),
            Arg::Reduced(stage) => write!(f, "r{stage}"),
        }
    }
}
