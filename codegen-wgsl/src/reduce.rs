//! Reductions of rows.
//!
//! A sum of `f32` keeps the order of LN1 section 4: blocks of 4096 terms, 32 lanes a block that add every 32nd term
//! from +0.0, lanes folded by halves, and the block sums reduced by the same rule. Integers wrap or are compared, so
//! their order is free.
//!
//! Two facts save work without touching a bit. A lane begins at +0.0, and in round-to-nearest neither +0.0 + x nor
//! x + (-x) is ever -0.0, so no lane and no sum of lanes is -0.0, and adding the +0.0 of an empty lane to it changes
//! nothing: such additions may be left out. For the same reason a missing term may be added as +0.0.
//!
//! Templates: [`serial`] gives a short row to one invocation, [`row`] one of up to a block to a workgroup, [`team`] any
//! to a workgroup.

mod hoist;
mod row;
mod serial;
mod team;

use std::collections::BTreeSet;
use std::ops::Range;

use loom_ir::kernel::{Kernel, Lambda, Reduce, ReduceOp};
use loom_ir::types::DType;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::unflatten;
use crate::lambda::{Function, Module};
use crate::target::Target;

use self::hoist::{Hoisted, hoist};

/// Terms of a block: the only spec that the verifier lets through.
pub(crate) const BLOCK: u64 = 4096;
/// Lanes of a block.
pub(crate) const LANES: u32 = 32;

/// A reduction with its functions written.
struct Rows {
    stages: Vec<StageFunction>,
    /// What is computed before the elements of a row's result.
    once: Vec<Once>,
    result: Function,
    per_element: bool,
    /// The axes of the rows.
    row_axes: Range<usize>,
    /// The reduced axes.
    reduced_axes: Range<usize>,
    /// Terms of a row.
    terms: u64,
}

pub(crate) struct StageFunction {
    /// What is computed before the terms of a row.
    pub once: Vec<Once>,
    pub input: Function,
    pub op: ReduceOp,
}

/// A value that is the same for all terms of a row.
pub(crate) struct Once {
    /// It is called like a stage's result, by a number that no stage has.
    pub number: usize,
    pub function: Function,
}

/// Takes apart what a lambda computes once a row, writes the functions for it, and gives the rest. `types` are those of
/// all stages' results and of what was taken apart before.
pub(crate) fn once_a_row(
    module: &mut Module<'_>,
    lambda: &Lambda,
    types: &mut Vec<DType>,
) -> Result<(Vec<Once>, Lambda), Error> {
    let Hoisted { parts, rest } = hoist(lambda, types.len() as u32)?;
    let mut once = Vec::new();
    for (part, dtype) in parts {
        let number = types.len();
        let function = module.function(&format!("once{number}"), &part, types)?;
        types.push(dtype);
        once.push(Once { number, function });
    }
    Ok((once, rest))
}

/// Declares what is computed once a row.
fn declare(module: &mut Module<'_>, once: &[Once]) {
    for Once { number, function } in once {
        module.text.line(format!("let r{number} = {};", function.call()));
    }
}

pub(crate) fn generate(module: &mut Module<'_>, reduce: &Reduce, target: &Target) -> Result<Grid, Error> {
    let axes = &module.kernel.axes;
    let rows = axes.len() - reduce.reduced;
    let terms = product(&axes[rows..]);
    let serial = terms <= u64::from(target.shapes.serial_terms).min(BLOCK);
    let (loads, of_terms) = (row::shared_loads(reduce), row::kept_terms(module, reduce));
    let numbers = loads.len() + usize::from(of_terms.is_some());
    let row = if serial { None } else { row::size(terms, numbers as u64, target) };
    let mut kept = row::Kept::default();
    let mut result = reduce.result.clone();
    if row.is_some() {
        for load in loads {
            kept.loads.push((load, module.keep_load(load)?));
        }
        if let Some(((stage, number), of_terms)) = of_terms {
            module.keep_value(number, DType::F32);
            kept.terms = Some((stage, number));
            result = of_terms;
        }
    }
    let mut types = Vec::new();
    for stage in &reduce.stages {
        types.push(stage.input.function.result_type().map_err(|error| Error::Invalid(error.to_string()))?);
    }
    let mut stages: Vec<StageFunction> = Vec::new();
    for (number, stage) in reduce.stages.iter().enumerate() {
        let (once, rest) = once_a_row(module, &stage.input, &mut types)?;
        let input = module.function(&format!("term{number}"), &rest, &types)?;
        stages.push(StageFunction { once, input, op: stage.op });
    }
    let (once, result) = if reduce.per_element {
        let (once, rest) = once_a_row(module, &result, &mut types)?;
        (once, module.function("element", &rest, &types)?)
    } else {
        (Vec::new(), module.function("result", &result, &types)?)
    };
    let rows = Rows {
        stages,
        once,
        result,
        per_element: reduce.per_element,
        row_axes: module.covered(0..rows),
        reduced_axes: rows..axes.len(),
        terms,
    };
    match row {
        _ if serial => serial::generate(module, &rows, target),
        Some(size) => row::generate(module, &rows, &kept, size, target),
        None => team::generate(module, &rows, target),
    }
}

impl Rows {
    /// How many.
    fn count(&self, kernel: &Kernel) -> u64 {
        product(&kernel.axes[self.row_axes.clone()])
    }

    /// The axes that the functions and the store need.
    fn used_axes(&self, module: &Module<'_>) -> BTreeSet<usize> {
        let mut used: BTreeSet<usize> = module.output_axes();
        used.extend(&self.result.axes);
        for stage in &self.stages {
            used.extend(&stage.input.axes);
        }
        used
    }

    /// Declares the row's indices from its number.
    fn row_indices(&self, module: &mut Module<'_>, row: &str) {
        let used = self.used_axes(module);
        unflatten(&mut module.text, row, &module.kernel.axes, self.row_axes.clone(), &used);
    }

    /// Declares the reduced indices that a stage's term needs from the term's number `k`, and the `term` itself.
    fn term(&self, module: &mut Module<'_>, stage: &StageFunction) {
        unflatten(&mut module.text, "k", &module.kernel.axes, self.reduced_axes.clone(), &stage.input.axes);
        module.text.line(format!("let term = {};", stage.input.call()));
    }

    /// Stores the row's result, or its elements: those from `first` in steps of `step`.
    fn store(&self, module: &mut Module<'_>, first: &str, step: u32) {
        declare(module, &self.once);
        if self.per_element {
            let terms = self.terms;
            module.text.open(format!("for (var k = {first}; k < {terms}u; k += {step}u)"));
            let mut used = module.output_axes();
            used.extend(&self.result.axes);
            unflatten(&mut module.text, "k", &module.kernel.axes, self.reduced_axes.clone(), &used);
        }
        module.store(&self.result.call(), self.result.result);
        if self.per_element {
            module.text.close();
        }
    }
}

impl StageFunction {
    /// What a row without terms gives, as an expression.
    pub fn empty(&self, module: &Module<'_>) -> &'static str {
        match (self.op, self.input.result) {
            (ReduceOp::Sum(_), DType::F32) => module.zero(),
            (ReduceOp::Sum(_), DType::I32) => "0i",
            (ReduceOp::Max, DType::I32) => "i32(-2147483648)",
            (ReduceOp::Min, DType::I32) => "2147483647i",
            (ReduceOp::Min, _) => "4294967295u",
            _ => "0u",
        }
    }

    /// Two values combined, as an expression.
    pub fn combine(&self, module: &mut Module<'_>, a: &str, b: &str) -> String {
        match self.op {
            ReduceOp::Sum(_) if self.is_ordered() => module.add(a, b),
            ReduceOp::Sum(_) => format!("{a} + {b}"),
            ReduceOp::Max => format!("max({a}, {b})"),
            ReduceOp::Min => format!("min({a}, {b})"),
        }
    }

    /// Whether the order of the terms is that of a sum of floats.
    pub fn is_ordered(&self) -> bool {
        self.input.result == DType::F32
    }

    /// The array in workgroup memory, one for all stages of a type.
    pub fn lanes(&self, module: &Module<'_>) -> String {
        format!("lanes_{}", module.dtype(self.input.result))
    }

    /// Folds by halves within groups of `width` lanes, in which the invocation is number `lane`.
    pub fn fold(&self, module: &mut Module<'_>, lane: &str, width: u32) {
        let name = self.lanes(module);
        module.text.line("workgroupBarrier();");
        module.text.open(format!("for (var width = {}u; width > 0u; width = width >> 1u)", width / 2));
        module.text.open(format!("if ({lane} < width)"));
        let folded = self.combine(module, &format!("{name}[local]"), &format!("{name}[local + width]"));
        module.text.line(format!("{name}[local] = {folded};"));
        module.text.close();
        module.text.line("workgroupBarrier();");
        module.text.close();
    }
}
