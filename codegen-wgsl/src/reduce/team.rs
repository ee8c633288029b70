//! One workgroup a row.
//!
//! The workgroup is one team of 32 lanes, or several where a row has more than one block: each team sums a block of its
//! own. Sums of blocks go to the lanes of the next level as they come, in order: lane `l` of that level is kept by
//! invocation `l`, and adds the sums of blocks `l`, `l + 32`, …

use std::collections::BTreeSet;

use loom_ir::types::DType;

use super::{BLOCK, LANES, Rows, StageFunction, declare};
use crate::error::Error;
use crate::generate::{Grid, limit};
use crate::lambda::Module;
use crate::target::Target;

pub(super) fn generate(module: &mut Module<'_>, rows: &Rows, target: &Target) -> Result<Grid, Error> {
    let blocks = rows.terms.div_ceil(BLOCK);
    let mut teams = blocks.min(target.shapes.blocks.into()).next_power_of_two() as u32;
    let most = target.quirks.loop_iterations;
    while rows.iterations(teams) > most && teams < LANES && 2 * teams * LANES <= target.limits.invocations_per_workgroup
    {
        teams *= 2;
    }
    limit(module.kernel, "loop iterations", rows.iterations(teams), most)?;
    let size = teams * LANES;
    let types: BTreeSet<DType> = rows.stages.iter().map(|stage| module.dtype(stage.input.result)).collect();
    let storage = types.len() as u64 * u64::from(size) * 4;
    limit(module.kernel, "bytes of workgroup memory", storage, target.limits.workgroup_storage.into())?;
    for dtype in types {
        module.text.line(format!("var<workgroup> lanes_{dtype}: array<{dtype}, {size}>;"));
    }
    module.text.line("");

    let grid = Grid::new(module.kernel, rows.count(module.kernel), size, target)?;
    grid.over_workgroups(module, "row");
    rows.row_indices(module, "row");
    let team = Team { rows, teams };
    if teams > 1 {
        module.text.line(format!("let lane = local % {LANES}u;"));
        module.text.line(format!("let team = local / {LANES}u;"));
    }
    for (number, stage) in rows.stages.iter().enumerate() {
        module.text.open_scope();
        declare(module, &stage.once);
        if stage.is_ordered() {
            // How often sums must be made of sums until one is left.
            let mut level = 1;
            let mut count = blocks;
            while count > 1 {
                count = count.div_ceil(BLOCK);
                level += 1;
            }
            team.sum(module, stage, level, "0u", &format!("{}u", team.values(level)));
        } else {
            team.unordered(module, stage);
        }
        module.text.close();
        // All have read the result before the next stage writes there.
        let lanes = stage.lanes(module);
        module.text.line(format!("let r{number} = {lanes}[0];"));
        module.text.line("workgroupBarrier();");
    }
    if rows.per_element {
        rows.store(module, "local", size);
    } else {
        module.text.open("if (local == 0u)");
        rows.store(module, "0u", 1);
        module.text.close();
    }
    module.text.close();
    Ok(grid)
}

impl Rows {
    /// A bound on the loop iterations of an invocation, all stages together.
    fn iterations(&self, teams: u32) -> u64 {
        let size = u64::from(teams * LANES);
        let folds = u64::from(size.ilog2());
        let blocks = self.terms.div_ceil(BLOCK);
        let steps = blocks.div_ceil(teams.into());
        let step = BLOCK.min(self.terms).div_ceil(LANES.into()) + folds + u64::from(teams) + 1;
        // The levels above the blocks: one step and one fold for each block of sums, far fewer than the steps below.
        let above = blocks.div_ceil(BLOCK) * 2 * (folds + 1);
        let stages = self
            .stages
            .iter()
            .map(|stage| if stage.is_ordered() { steps * step + above } else { self.terms.div_ceil(size) + folds });
        stages.sum::<u64>() + if self.per_element { self.terms.div_ceil(size) } else { 0 }
    }
}

struct Team<'a> {
    rows: &'a Rows,
    /// Blocks at a time.
    teams: u32,
}

impl Team<'_> {
    /// Terms of level 1, blocks of terms of level 2, and so on.
    fn values(&self, level: u32) -> u64 {
        (1..level).fold(self.rows.terms, |count, _| count.div_ceil(BLOCK))
    }

    /// The invocation's lane within its team.
    fn lane(&self) -> &'static str {
        if self.teams > 1 { "lane" } else { "local" }
    }

    /// Sums values `first .. end` of a level, at most a block of them, into the first lane.
    fn sum(&self, module: &mut Module<'_>, stage: &StageFunction, level: u32, first: &str, end: &str) {
        if level == 1 {
            self.block(module, stage, first, end);
            return;
        }
        let sum = format!("sum{level}");
        let lanes = stage.lanes(module);
        module.text.line(format!("var {sum} = {};", module.zero()));
        let block = format!("block{}", level - 1);
        if level > 2 {
            module.text.open(format!("for (var {block} = {first}; {block} < {end}; {block} += 1u)"));
            let (inner, inner_end) = (format!("first{}", level - 1), format!("end{}", level - 1));
            module.text.line(format!("let {inner} = {block} * {BLOCK}u;"));
            module.text.line(format!("let {inner_end} = min({inner} + {BLOCK}u, {}u);", self.values(level - 1)));
            self.sum(module, stage, level - 1, &inner, &inner_end);
            module.text.open(format!("if (local == {block} % {LANES}u)"));
            let added = module.add(&sum, &format!("{lanes}[0]"));
            module.text.line(format!("{sum} = {added};"));
            module.text.close();
        } else {
            // A step of the teams at once. A team past the last block adds no term, and its +0.0 changes nothing.
            let teams = self.teams;
            module.text.open(format!("for (var {block} = {first}; {block} < {end}; {block} += {teams}u)"));
            let own = if teams > 1 { format!("({block} + team)") } else { block.clone() };
            module.text.line(format!("let first1 = {own} * {BLOCK}u;"));
            module.text.line(format!("let end1 = min(first1 + {BLOCK}u, {}u);", self.rows.terms));
            self.block(module, stage, "first1", "end1");
            if teams > 1 {
                module.text.open(format!("for (var other = 0u; other < {teams}u; other += 1u)"));
                module.text.open(format!("if (local == ({block} + other) % {LANES}u)"));
                let added = module.add(&sum, &format!("{lanes}[other * {LANES}u]"));
                module.text.line(format!("{sum} = {added};"));
            } else {
                module.text.open(format!("if (local == {block} % {LANES}u)"));
                let added = module.add(&sum, &format!("{lanes}[0]"));
                module.text.line(format!("{sum} = {added};"));
            }
            module.text.close();
            if teams > 1 {
                module.text.close();
            }
        }
        module.text.line("workgroupBarrier();");
        module.text.close();
        // The lanes of this level; invocations past them hold +0.0, in places that no fold of team 0 reads.
        module.text.line(format!("{lanes}[local] = {sum};"));
        stage.fold(module, self.lane(), LANES);
    }

    /// Sums terms `first .. end` of each team's block into the team's first lane.
    fn block(&self, module: &mut Module<'_>, stage: &StageFunction, first: &str, end: &str) {
        let from = if first == "0u" { self.lane().to_string() } else { format!("{first} + {}", self.lane()) };
        module.text.line(format!("var sum1 = {};", module.zero()));
        module.text.open(format!("for (var k = {from}; k < {end}; k += {LANES}u)"));
        self.rows.term(module, stage);
        let sum = module.add("sum1", "term");
        module.text.line(format!("sum1 = {sum};"));
        module.text.close();
        let lanes = stage.lanes(module);
        module.text.line(format!("{lanes}[local] = sum1;"));
        stage.fold(module, self.lane(), LANES);
    }

    /// Reduces integers, in any order, into the first lane.
    fn unordered(&self, module: &mut Module<'_>, stage: &StageFunction) {
        let (terms, size) = (self.rows.terms, self.teams * LANES);
        let lanes = stage.lanes(module);
        let empty = stage.empty(module);
        module.text.line(format!("var all = {empty};"));
        module.text.open(format!("for (var k = local; k < {terms}u; k += {size}u)"));
        self.rows.term(module, stage);
        let combined = stage.combine(module, "all", "term");
        module.text.line(format!("all = {combined};"));
        module.text.close();
        module.text.line(format!("{lanes}[local] = all;"));
        stage.fold(module, "local", size);
    }
}
