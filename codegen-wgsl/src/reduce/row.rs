//! One workgroup a row of at most one block, which stays in registers from stage to stage.
//!
//! An invocation has every so many terms of the row. What more than one function loads of them is loaded once, by all
//! invocations together, and handed to the functions; so are the terms of a sum that the results are made of. Terms of an
//! ordered sum go to workgroup memory, from where the 32 lanes add them in order; where the workgroup is the lanes, each has
//! its own already.

use std::collections::{BTreeMap, BTreeSet};

use loom_ir::kernel::terms::of_terms;
use loom_ir::kernel::{Arg, Lambda, Reduce};
use loom_ir::types::DType;

use super::{BLOCK, LANES, Rows, StageFunction, declare};
use crate::error::Error;
use crate::generate::Grid;
use crate::index::unflatten;
use crate::lambda::{Function, Module};
use crate::target::{Arithmetic, Target};

/// What an invocation keeps of its terms, at best: enough loads at a time to wait for memory once, and few enough for the
/// registers of many invocations.
const KEPT: u64 = 16;
/// Terms that an invocation has, at most: what it keeps of them must fit its registers.
const MOST_TERMS: u64 = 32;
/// Terms that a lane loads before it adds them, at most.
const AHEAD: u64 = 64;

/// The invocations of a workgroup for rows of so many terms, of each of which so many numbers are kept; `None` where this
/// template does not do them.
pub(super) fn size(terms: u64, kept: u64, target: &Target) -> Option<u32> {
    let most = target.shapes.row;
    if most < LANES || terms > BLOCK {
        return None;
    }
    let size = (terms * kept.max(1)).div_ceil(KEPT).next_power_of_two().clamp(LANES.into(), most.into()) as u32;
    // The terms, and lanes of each of the three types.
    let storage = 4 * (terms + 3 * u64::from(size));
    let fits = terms.div_ceil(size.into()) <= MOST_TERMS && storage <= target.limits.workgroup_storage.into();
    fits.then_some(size)
}

/// The loads along the row that more than one of a reduction's functions use.
pub(super) fn shared_loads(reduce: &Reduce) -> BTreeSet<u32> {
    let result = reduce.per_element.then_some(&reduce.result);
    let mut uses: BTreeMap<u32, usize> = BTreeMap::new();
    for lambda in reduce.stages.iter().map(|stage| &stage.input).chain(result) {
        for load in lambda.loads().collect::<BTreeSet<u32>>() {
            *uses.entry(load).or_default() += 1;
        }
    }
    // What only the result of a whole row loads has no term to belong to.
    let alone = |lambda: &Lambda| lambda.loads().collect::<BTreeSet<u32>>();
    let outside = if reduce.per_element { BTreeSet::new() } else { alone(&reduce.result) };
    uses.into_iter().filter(|(load, uses)| *uses > 1 && !outside.contains(load)).map(|(load, _)| load).collect()
}

/// What stays in registers from stage to stage: an invocation's own of each.
#[derive(Default)]
pub(super) struct Kept {
    /// Loads, by number, with the functions that make them.
    pub loads: Vec<(u32, Function)>,
    /// The terms of a stage, by its number, and the number of the load that they pass for.
    pub terms: Option<(usize, u32)>,
}

impl Kept {
    /// The numbers of what is given to functions.
    fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.loads.iter().map(|(load, _)| *load).chain(self.terms.map(|(_, number)| number))
    }
}

/// The first sum whose terms the results are made of: its stage and the number that its terms get; and what then gives the
/// results.
pub(super) fn kept_terms(module: &Module<'_>, reduce: &Reduce) -> Option<((usize, u32), Lambda)> {
    if !reduce.per_element {
        return None;
    }
    let number = module.free_number();
    let result = (&reduce.result.args[..], &reduce.result.function);
    reduce.stages.iter().enumerate().find_map(|(stage, terms)| {
        let terms = (&terms.input.args[..], &terms.input.function);
        let float = terms.1.result_type() == Ok(DType::F32);
        let (args, function) = of_terms(result, terms, Arg::Load(number)).filter(|_| float)?;
        Some(((stage, number), Lambda { args, function }))
    })
}

pub(super) fn generate(
    module: &mut Module<'_>,
    rows: &Rows,
    kept: &Kept,
    size: u32,
    target: &Target,
) -> Result<Grid, Error> {
    let types: BTreeSet<DType> = rows.stages.iter().map(|stage| module.dtype(stage.input.result)).collect();
    for dtype in &types {
        module.text.line(format!("var<workgroup> lanes_{dtype}: array<{dtype}, {size}>;"));
    }
    let row = Row { rows, size, kept };
    if rows.stages.iter().any(|stage| row.is_staged(stage)) {
        let dtype = module.dtype(DType::F32);
        module.text.line(format!("var<workgroup> terms: array<{dtype}, {}>;", rows.terms));
    }
    module.text.line("");

    let grid = Grid::new(module.kernel, rows.count(module.kernel), size, target)?;
    grid.over_workgroups(module, "row");
    let mut used: BTreeSet<usize> = kept.loads.iter().flat_map(|(_, function)| function.axes.iter().copied()).collect();
    used.extend(rows.used_axes(module));
    unflatten(&mut module.text, "row", &module.kernel.axes, rows.row_axes.clone(), &used);
    let loads = kept.loads.iter().map(|(load, function)| (*load, function.result));
    for (number, dtype) in loads.chain(kept.terms.map(|(_, number)| (number, DType::F32))) {
        let dtype = module.dtype(dtype);
        for own in 0..row.own() {
            module.text.line(format!("var l{number}_{own}: {dtype};"));
        }
    }
    if !kept.loads.is_empty() {
        row.each(module, &kept.loads.iter().map(|(_, function)| function).collect::<Vec<_>>(), |module, own| {
            for (load, function) in &kept.loads {
                module.text.line(format!("l{load}_{own} = {};", function.call()));
            }
        });
    }
    for (number, stage) in rows.stages.iter().enumerate() {
        let dtype = module.dtype(stage.input.result);
        module.text.line(format!("var r{number}: {dtype};"));
        module.text.open_scope();
        declare(module, &stage.once);
        row.stage(module, stage, number);
        module.text.close();
        // All have read the result before the next stage writes there.
        if number + 1 < rows.stages.len() {
            module.text.line("workgroupBarrier();");
        }
    }
    if rows.per_element {
        declare(module, &rows.once);
        row.each(module, &[&rows.result], |module, _| module.store(&rows.result.call(), rows.result.result));
    } else {
        module.text.open("if (local == 0u)");
        rows.store(module, "0u", 1);
        module.text.close();
    }
    module.text.close();
    Ok(grid)
}

struct Row<'a> {
    rows: &'a Rows,
    /// Invocations of the workgroup.
    size: u32,
    kept: &'a Kept,
}

impl Row<'_> {
    /// How many terms an invocation has, at most.
    fn own(&self) -> u32 {
        self.rows.terms.div_ceil(self.size.into()) as u32
    }

    /// Whether the terms of a stage go through workgroup memory.
    fn is_staged(&self, stage: &StageFunction) -> bool {
        stage.is_ordered() && self.size > LANES
    }

    /// Writes statements for each of the invocation's terms, with the indices that functions need of it and what is
    /// kept of it.
    fn each(&self, module: &mut Module<'_>, functions: &[&Function], mut statements: impl FnMut(&mut Module<'_>, u32)) {
        let terms = self.rows.terms;
        let mut used: BTreeSet<usize> = functions.iter().flat_map(|function| function.axes.iter().copied()).collect();
        used.extend(module.output_axes());
        for own in 0..self.own() {
            let first = own * self.size;
            if u64::from(first + self.size) > terms {
                module.text.open(format!("if (local + {first}u < {terms}u)"));
            } else {
                module.text.open_scope();
            }
            module.text.line(format!("let k = local + {first}u;"));
            unflatten(&mut module.text, "k", &module.kernel.axes, self.rows.reduced_axes.clone(), &used);
            for number in self.kept.numbers().filter(|&number| functions.iter().any(|f| f.takes(number))) {
                module.text.line(format!("let l{number} = l{number}_{own};"));
            }
            statements(module, own);
            module.text.close();
        }
    }

    /// Reduces the terms of a stage into the result `r{number}`.
    fn stage(&self, module: &mut Module<'_>, stage: &StageFunction, number: usize) {
        let lanes = stage.lanes(module);
        let kept = self.kept.terms.filter(|(kept, _)| *kept == number).map(|(_, number)| number);
        let term = |module: &mut Module<'_>, own: u32| {
            module.text.line(format!("let term = {};", stage.input.call()));
            if let Some(kept) = kept {
                module.text.line(format!("l{kept}_{own} = term;"));
            }
        };
        if self.is_staged(stage) {
            self.each(module, &[&stage.input], |module, own| {
                term(module, own);
                module.text.line("terms[k] = term;");
            });
            module.text.line("workgroupBarrier();");
            module.text.open(format!("if (local < {LANES}u)"));
            self.lane(module);
            module.text.line(format!("{lanes}[local] = sum;"));
            module.text.close();
            return self.fold(module, stage, number, LANES);
        }
        let empty = stage.empty(module);
        let combined = stage.combine(module, "all", "term");
        module.text.line(format!("var all = {empty};"));
        self.each(module, &[&stage.input], |module, own| {
            term(module, own);
            module.text.line(format!("all = {combined};"));
        });
        module.text.line(format!("{lanes}[local] = all;"));
        self.fold(module, stage, number, self.size);
    }

    /// Folds the first lanes, `width` of them, into the result `r{number}`.
    ///
    /// Every invocation folds the last 32 by itself, which needs no barrier from half to half. In integers that play
    /// floats a fold is long, and one invocation for each is enough.
    fn fold(&self, module: &mut Module<'_>, stage: &StageFunction, number: usize, width: u32) {
        let lanes = stage.lanes(module);
        if module.arithmetic() == Arithmetic::Soft {
            stage.fold(module, "local", width);
            module.text.line(format!("r{number} = {lanes}[0];"));
            return;
        }
        module.text.line("workgroupBarrier();");
        if width > LANES {
            module.text.open(format!("if (local < {LANES}u)"));
            module.text.line(format!("var one = {lanes}[local];"));
            for lane in (LANES..width).step_by(LANES as usize) {
                let combined = stage.combine(module, "one", &format!("{lanes}[local + {lane}u]"));
                module.text.line(format!("one = {combined};"));
            }
            module.text.line(format!("{lanes}[local] = one;"));
            module.text.close();
            module.text.line("workgroupBarrier();");
        }
        for lane in 0..LANES {
            module.text.line(format!("var lane_{lane} = {lanes}[{lane}];"));
        }
        for half in (0..LANES.ilog2()).rev().map(|power| 1 << power) {
            for lane in 0..half {
                let combined = stage.combine(module, &format!("lane_{lane}"), &format!("lane_{}", lane + half));
                module.text.line(format!("lane_{lane} = {combined};"));
            }
        }
        module.text.line(format!("r{number} = lane_0;"));
    }

    /// Adds a lane's terms into `sum`.
    fn lane(&self, module: &mut Module<'_>) {
        let terms = self.rows.terms;
        let lanes = u64::from(LANES);
        // At least two rounds, so that not all is in the text.
        let ahead = (terms / lanes / 2).clamp(1, AHEAD);
        let whole = terms - terms % (lanes * ahead);
        module.text.line(format!("var sum = {};", module.zero()));
        if whole > 0 {
            module.text.open(format!("for (var k = local; k < {whole}u; k += {}u)", lanes * ahead));
            for term in 0..ahead {
                module.text.line(format!("let term_{term} = terms[k + {}u];", term * lanes));
            }
            for term in 0..ahead {
                let sum = module.add("sum", &format!("term_{term}"));
                module.text.line(format!("sum = {sum};"));
            }
            module.text.close();
        }
        if whole < terms {
            module.text.open(format!("for (var k = {whole}u + local; k < {terms}u; k += {LANES}u)"));
            let sum = module.add("sum", "terms[k]");
            module.text.line(format!("sum = {sum};"));
            module.text.close();
        }
    }
}
