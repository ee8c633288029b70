//! Attention: one workgroup a tile of rows, which goes through the keys several times.
//!
//! An invocation has a few neighbouring rows and, of each 32 keys, one: its number among them is its lane, so that what it
//! adds up of a row's terms is that lane of LN1's sum. It goes through the keys once for each stage that others need first (a
//! softmax's maximum, then its sum) and once for the weights, with the stages that nobody waits for. The scores of few keys
//! stay in workgroup memory from the first time on; of many they are computed anew each time, so that what a workgroup keeps
//! does not grow with the number of keys. Of the weights 32 keys' at a time stand in workgroup memory, where the invocations
//! that have their rows take them for the columns: every 32nd is an invocation's own. No matrix of scores exists in any
//! buffer.
//!
//! Workgroup memory is read in vectors: queries and weights by an invocation's rows, keys by four terms. Between weights it
//! holds what the lanes fold, which is of other types: so it has their bits.

mod shape;

use std::collections::BTreeSet;

use loom_ir::kernel::{Arg, Attend, Lambda};
use loom_ir::types::DType;

use crate::contract::CHUNK;
use crate::error::Error;
use crate::generate::{Grid, limit, product};
use crate::index::unflatten;
use crate::lambda::{Function, Module};
use crate::reduce::{BLOCK, LANES, Once, StageFunction, once_a_row};
use crate::target::Target;

use self::shape::{COLUMNS, Shape, Sizes, VECTOR};

/// Keys at a time.
const KEYS: u64 = LANES as u64;
/// Keys in one round of the text of the weighted sums.
const UNROLLED: u64 = 4;

/// An attention with its functions written.
struct Rows {
    query: Function,
    key: Function,
    score: Function,
    stages: Vec<StageFunction>,
    /// What the weights need once a row.
    once: Vec<Once>,
    weight: Function,
    value: Function,
    result: Function,
    /// The number of the score, and of the weighted sum, among what functions are given.
    given: u32,
    /// The stages that each going through the keys computes; the weights are computed with the last.
    passes: Vec<Vec<usize>>,
    axes: [std::ops::Range<usize>; 5],
    rows: u64,
    columns: u64,
    keys: u64,
    inner: u64,
    shape: Shape,
}

pub(crate) fn generate(module: &mut Module<'_>, attend: &Attend, target: &Target) -> Result<Grid, Error> {
    let axes = attend.groups(module.kernel.axes.len());
    let [batches, rows, columns, keys, inner] = axes.clone().map(|range| product(&module.kernel.axes[range]));
    // Sums of blocks are lanes of the one block above them.
    limit(module.kernel, "keys of an attention", keys, BLOCK * u64::from(LANES))?;

    let query = module.function("query", &attend.query, &[])?;
    let key = module.function("key", &attend.key, &[])?;
    let value = module.function("value", &attend.value, &[])?;
    let given = module.free_number();
    module.keep_value(given, DType::F32);
    // The score is no stage's result: those are the same for a row.
    let of_row = |lambda: &Lambda| {
        let args = lambda.args.iter().map(|&arg| match arg {
            Arg::Reduced(0) => Arg::Load(given),
            Arg::Reduced(stage) => Arg::Reduced(stage - 1),
            other => other,
        });
        Lambda { args: args.collect(), function: lambda.function.clone() }
    };
    let score = module.function("score", &of_row(&attend.score), &[])?;
    let mut types = Vec::new();
    for stage in &attend.stages {
        types.push(stage.input.function.result_type().map_err(|error| Error::Invalid(error.to_string()))?);
    }
    let mut stages = Vec::new();
    for (number, stage) in attend.stages.iter().enumerate() {
        let (once, rest) = once_a_row(module, &of_row(&stage.input), &mut types)?;
        let input = module.function(&format!("term{number}"), &rest, &types)?;
        stages.push(StageFunction { once, input, op: stage.op });
    }
    let (once, rest) = once_a_row(module, &of_row(&attend.weight), &mut types)?;
    let weight = module.function("weight", &rest, &types)?;
    let result = module.function("result", &of_row(&attend.result), &types)?;

    let sizes = Sizes { rows, columns, keys, inner };
    let shape = Shape::choose(sizes, target);
    limit(module.kernel, "bytes of workgroup memory", shape.storage().into(), target.limits.workgroup_storage.into())?;
    let rows = Rows {
        query,
        key,
        score,
        stages,
        once,
        weight,
        value,
        result,
        given,
        passes: passes(attend),
        axes,
        rows,
        columns,
        keys,
        inner,
        shape,
    };
    limit(module.kernel, "loop iterations", rows.iterations(), target.quirks.loop_iterations)?;
    let float = module.dtype(DType::F32);
    let vector = shape.vector(float);
    module.text.line(format!("var<workgroup> queries: array<{vector}, {}>;", shape.step * shape.stride()));
    module.text.line(format!("var<workgroup> keys: array<vec4<{float}>, {}>;", LANES * shape.key_stride()));
    let words = shape.vector(DType::U32);
    module.text.line(format!("var<workgroup> weights: array<{words}, {}>;", LANES * shape.stride()));
    if shape.staged > 0 {
        module.text.line(format!("var<workgroup> values: array<{float}, {}>;", LANES * shape.width()));
    }
    if shape.kept > 0 {
        module.text.line(format!("var<workgroup> scores: array<{vector}, {}>;", shape.kept * shape.invocations()));
    }
    module.text.line("");

    let (down, across) = (rows.rows.div_ceil(shape.rows().into()), columns.div_ceil(KEYS * COLUMNS));
    let grid = Grid::new(module.kernel, batches * down * across, shape.invocations(), target)?;
    grid.over_workgroups(module, "number");
    rows.main(module, down, across);
    module.text.close();
    Ok(grid)
}

/// Groups of stages that one going through the keys can compute, since none needs another: those before the weights', and
/// what is left for the weights' own.
fn passes(attend: &Attend) -> Vec<Vec<usize>> {
    let needs = |lambda: &Lambda, group: &[usize]| {
        let stage = |arg: &Arg| match *arg {
            Arg::Reduced(number) => (number as usize).checked_sub(1),
            _ => None,
        };
        lambda.args.iter().filter_map(stage).any(|stage| group.contains(&stage))
    };
    let mut passes: Vec<Vec<usize>> = vec![Vec::new()];
    for (number, lambda) in attend.stages.iter().map(|stage| &stage.input).chain([&attend.weight]).enumerate() {
        let last = passes.len() - 1;
        if needs(lambda, &passes[last]) {
            passes.push(Vec::new());
        }
        if number < attend.stages.len() {
            let last = passes.len() - 1;
            passes[last].push(number);
        }
    }
    passes
}

impl Rows {
    /// A bound on an invocation's loop iterations.
    fn iterations(&self) -> u64 {
        let (step, invocations) = (u64::from(self.shape.step), u64::from(self.shape.invocations()));
        let (vector, groups) = (u64::from(VECTOR), u64::from(self.shape.groups));
        let brought = (step * groups).div_ceil(invocations) + (step / vector * KEYS).div_ceil(invocations);
        let scores = self.inner.div_ceil(step) * (1 + brought + step / vector);
        let staged = u64::from(LANES * self.shape.width()).div_ceil(invocations);
        let folds = self.stages.len() as u64 * u64::from(LANES.ilog2());
        let blocks = self.keys.div_ceil(KEYS);
        let passes = self.passes.len() as u64;
        let computed = if self.shape.kept > 0 { 1 } else { passes };
        let all = blocks * (passes + computed * scores) + blocks * (KEYS / UNROLLED + staged) + KEYS;
        all + folds * (self.keys.div_ceil(BLOCK) + 1)
    }

    /// Whether all queries of the tile stand in workgroup memory from the beginning.
    fn keeps_queries(&self) -> bool {
        self.inner <= self.shape.step.into()
    }

    fn own_columns(&self) -> u64 {
        let Rows { rows, columns, keys, inner, .. } = *self;
        Sizes { rows, columns, keys, inner }.own_columns()
    }

    /// Declares the axes of a group that a function needs, from a number: 0 batch, 1 rows, 2 columns, 3 keys, 4 inner.
    fn indices(&self, module: &mut Module<'_>, name: &str, group: usize, functions: &[&Function]) {
        let mut used: BTreeSet<usize> = functions.iter().flat_map(|function| function.axes.iter().copied()).collect();
        used.extend(module.output_axes());
        unflatten(&mut module.text, name, &module.kernel.axes, self.axes[group].clone(), &used);
    }

    fn all(&self) -> Vec<&Function> {
        let stages = self.stages.iter().map(|stage| &stage.input);
        [&self.query, &self.key, &self.score, &self.weight, &self.value, &self.result]
            .into_iter()
            .chain(stages)
            .collect()
    }

    /// Declares an invocation's row, and the results of stages that it has so far.
    fn row(&self, module: &mut Module<'_>, own: u32, function: &Function, declared: &[usize]) {
        module.text.line(format!("let row = min(own_row + {own}u, {}u);", self.rows - 1));
        self.indices(module, "row", 1, &[function]);
        for number in declared {
            module.text.line(format!("let r{number} = r{number}_{own};"));
        }
    }

    /// Computes what is the same for a row from the stages declared so far.
    fn once(&self, module: &mut Module<'_>, once: &[Once], declared: &mut Vec<usize>) {
        for Once { number, function } in once {
            let dtype = module.dtype(function.result);
            for own in 0..self.shape.own {
                module.text.line(format!("var r{number}_{own}: {dtype};"));
                module.text.open_scope();
                self.row(module, own, function, declared);
                module.text.line(format!("r{number}_{own} = {};", function.call()));
                module.text.close();
            }
            declared.push(*number);
        }
    }

    fn main(&self, module: &mut Module<'_>, down: u64, across: u64) {
        let Shape { own, .. } = self.shape;
        let text = &mut module.text;
        text.line(format!("let first_column = number % {across}u * {}u;", KEYS * COLUMNS));
        text.line(format!("let first_row = number / {across}u % {down}u * {}u;", self.shape.rows()));
        text.line(format!("let batch = number / {}u;", across * down));
        text.line(format!("let lane = local % {LANES}u;"));
        text.line(format!("let team = local / {LANES}u;"));
        text.line(format!("let own_row = first_row + team * {own}u;"));
        self.indices(module, "batch", 0, &self.all());
        if self.keeps_queries() {
            module.text.line("let inner = 0u;");
            self.bring_queries(module);
        }
        let zero = module.zero();
        let last = self.passes.len() - 1;
        let outputs: Vec<(u32, u64)> =
            (0..own).flat_map(|row| (0..self.own_columns()).map(move |column| (row, column))).collect();
        for (row, column) in &outputs {
            module.text.line(format!("var sum_{row}_{column} = {zero};"));
            if self.keys > CHUNK {
                module.text.line(format!("var total_{row}_{column} = {zero};"));
            }
        }
        let mut declared = Vec::new();
        for (number, pass) in self.passes.iter().enumerate() {
            for &stage in pass {
                self.once(module, &self.stages[stage].once, &mut declared);
                self.begin_stage(module, stage);
            }
            if number == last {
                self.once(module, &self.once, &mut declared);
            }
            module.text.open(format!("for (var first = 0u; first < {}u; first += {KEYS}u)", self.keys));
            self.scores(module, number == 0);
            module.text.line(format!("let number = min(first + lane, {}u);", self.keys - 1));
            let given: Vec<&Function> = pass.iter().map(|&stage| &self.stages[stage].input).collect();
            self.indices(module, "number", 3, &[&given[..], &[&self.weight]].concat());
            module.text.open(format!("if (first + lane < {}u)", self.keys));
            for &stage in pass {
                self.add_terms(module, stage, &declared);
            }
            module.text.close();
            if self.keys > BLOCK {
                self.end_blocks(module, pass);
            }
            if number == last {
                self.weighted(module, &declared, &outputs);
            }
            module.text.close();
            for &stage in pass {
                self.end_stage(module, stage);
                declared.push(stage);
            }
        }
        self.store(module, &declared, &outputs);
    }

    /// Brings the terms of the tile's rows from `inner` on to workgroup memory.
    fn bring_queries(&self, module: &mut Module<'_>) {
        let Shape { own, groups, step, .. } = self.shape;
        let (float, size) = (module.dtype(DType::F32), self.shape.invocations());
        module.text.open(format!("for (var place = local; place < {}u; place += {size}u)", step * groups));
        module.text.line(format!("let k = place % {step}u;"));
        for row in 0..own {
            self.element(module, &format!("element_{row}"), "inner + k", &self.query, |rows, module| {
                let place = format!("first_row + place / {step}u * {own}u + {row}u");
                module.text.line(format!("let row = min({place}, {}u);", rows.rows - 1));
                rows.indices(module, "row", 1, &[&rows.query]);
            });
        }
        let vector = self.shape.gathered(float, |row| format!("element_{row}"));
        module.text.line(format!("queries[k * {}u + place / {step}u] = {vector};", self.shape.stride()));
        module.text.close();
    }

    /// Brings the terms of the keys from `first` on, from `inner` on, to workgroup memory.
    fn bring_keys(&self, module: &mut Module<'_>) {
        let (float, size) = (module.dtype(DType::F32), self.shape.invocations());
        let vectors = self.shape.step / VECTOR;
        module.text.open(format!("for (var place = local; place < {}u; place += {size}u)", LANES * vectors));
        module.text.line(format!("let line = place / {vectors}u;"));
        module.text.line(format!("let k = place % {vectors}u;"));
        module.text.line(format!("let number = min(first + line, {}u);", self.keys - 1));
        self.indices(module, "number", 3, &[&self.key]);
        for term in 0..VECTOR {
            let place = format!("inner + k * {VECTOR}u + {term}u");
            self.element(module, &format!("element_{term}"), &place, &self.key, |_, _| {});
        }
        let elements: Vec<String> = (0..VECTOR).map(|term| format!("element_{term}")).collect();
        let place = format!("line * {}u + k", self.shape.key_stride());
        module.text.line(format!("keys[{place}] = vec{VECTOR}<{float}>({});", elements.join(", ")));
        module.text.close();
    }

    /// Declares the variable `name`: what a function gives for a term, where its other axes are declared by `indices`. Past
    /// the last term it is +0.0.
    fn element(
        &self,
        module: &mut Module<'_>,
        name: &str,
        term: &str,
        function: &Function,
        indices: impl FnOnce(&Rows, &mut Module<'_>),
    ) {
        let (zero, float) = (module.zero(), module.dtype(DType::F32));
        module.text.line(format!("var {name}: {float} = {zero};"));
        module.text.open(format!("if ({term} < {}u)", self.inner));
        indices(self, module);
        module.text.line(format!("let term = {term};"));
        self.indices(module, "term", 4, &[function]);
        module.text.line(format!("{name} = {};", function.call()));
        module.text.close();
    }

    /// Declares `score_{own}`: the scores of the invocation's rows with its key, of those from `first` on.
    fn scores(&self, module: &mut Module<'_>, first: bool) {
        let own = self.shape.own;
        let kept = format!("scores[first / {KEYS}u * {}u + local]", self.shape.invocations());
        if self.shape.kept > 0 && !first {
            // The invocation's own, which it wrote itself.
            module.text.line(format!("let score = {kept};"));
            for row in 0..own {
                module.text.line(format!("let score_{row} = {};", self.shape.part("score", row)));
            }
            return;
        }
        self.products_of_keys(module);
        module.text.open_scope();
        module.text.line(format!("let number = min(first + lane, {}u);", self.keys - 1));
        self.indices(module, "number", 3, &[&self.score]);
        for row in 0..own {
            module.text.open_scope();
            self.row(module, row, &self.score, &[]);
            let product = format!("score_{row}");
            let chunked = self.inner > CHUNK;
            let total = if chunked { module.add(&format!("product_{row}"), &product) } else { product };
            module.text.line(format!("let l{} = {total};", self.given));
            module.text.line(format!("score_{row} = {};", self.score.call()));
            module.text.close();
        }
        module.text.close();
        if self.shape.kept > 0 {
            let scores = self.shape.gathered(module.dtype(DType::F32), |row| format!("score_{row}"));
            module.text.line(format!("{kept} = {scores};"));
        }
    }

    /// Declares `score_{own}`, the products of the invocation's rows with its key, or of many terms those of the last chunk, and
    /// `product_{own}` what is before it.
    fn products_of_keys(&self, module: &mut Module<'_>) {
        let Shape { own, step, .. } = self.shape;
        let zero = module.zero();
        let chunked = self.inner > CHUNK;
        for row in 0..own {
            module.text.line(format!("var score_{row} = {zero};"));
            if chunked {
                module.text.line(format!("var product_{row} = {zero};"));
            }
        }
        module.text.open(format!("for (var inner = 0u; inner < {}u; inner += {step}u)", self.inner));
        if chunked {
            module.text.open(format!("if (inner > 0u && inner % {CHUNK}u == 0u)"));
            for row in 0..own {
                let total = module.add(&format!("product_{row}"), &format!("score_{row}"));
                module.text.line(format!("product_{row} = {total};"));
                module.text.line(format!("score_{row} = {zero};"));
            }
            module.text.close();
        }
        // All are done with what stood there.
        module.text.line("workgroupBarrier();");
        if !self.keeps_queries() {
            self.bring_queries(module);
        }
        self.bring_keys(module);
        module.text.line("workgroupBarrier();");
        module.text.open(format!("for (var k = 0u; k < {}u; k += 1u)", step / VECTOR));
        module.text.line(format!("let key = keys[lane * {}u + k];", self.shape.key_stride()));
        for term in 0..VECTOR {
            module.text.open_scope();
            let place = format!("(k * {VECTOR}u + {term}u) * {}u + team", self.shape.stride());
            module.text.line(format!("let query = queries[{place}];"));
            for row in 0..own {
                let product = module.mul(&self.shape.part("query", row), &format!("key[{term}]"));
                let sum = module.add(&format!("score_{row}"), &product);
                module.text.line(format!("score_{row} = {sum};"));
            }
            module.text.close();
        }
        module.text.close();
        module.text.close();
    }

    /// Declares what the invocation adds up of a stage.
    fn begin_stage(&self, module: &mut Module<'_>, stage: usize) {
        let empty = self.stages[stage].empty(module);
        let dtype = module.dtype(self.stages[stage].input.result);
        for own in 0..self.shape.own {
            module.text.line(format!("var all{stage}_{own}: {dtype} = {empty};"));
            if self.has_blocks(stage) {
                module.text.line(format!("var blocks{stage}_{own}: {dtype} = {empty};"));
            }
        }
    }

    fn has_blocks(&self, stage: usize) -> bool {
        self.keys > BLOCK && self.stages[stage].is_ordered()
    }

    fn add_terms(&self, module: &mut Module<'_>, stage: usize, declared: &[usize]) {
        let function = &self.stages[stage];
        for own in 0..self.shape.own {
            module.text.open_scope();
            self.row(module, own, &function.input, declared);
            module.text.line(format!("let l{} = score_{own};", self.given));
            module.text.line(format!("let term = {};", function.input.call()));
            let all = format!("all{stage}_{own}");
            let combined = function.combine(module, &all, "term");
            module.text.line(format!("{all} = {combined};"));
            module.text.close();
        }
    }

    /// Folds the lanes of what the invocations have of a stage for their rows, by halves; declares `{target}_{own}`.
    fn fold(&self, module: &mut Module<'_>, stage: usize, value: &str, target: &str) {
        let function = &self.stages[stage];
        let dtype = module.dtype(function.input.result);
        let stride = self.shape.stride();
        let gathered = |name: &str| self.shape.gathered(dtype, |row| format!("{name}_{row}"));
        let part = |vector: &str, row: u32| self.shape.part(vector, row);
        // All are done with what stood there.
        module.text.line("workgroupBarrier();");
        let own = self.bits(dtype, &gathered(&format!("{value}{stage}")));
        module.text.line(format!("weights[lane * {stride}u + team] = {own};"));
        module.text.line("workgroupBarrier();");
        module.text.open(format!("for (var half = {}u; half > 0u; half = half >> 1u)", LANES / 2));
        module.text.open("if (lane < half)");
        for (name, lane) in [("low", "lane"), ("high", "(lane + half)")] {
            let vector = self.of_bits(dtype, &format!("weights[{lane} * {stride}u + team]"));
            module.text.line(format!("let {name} = {vector};"));
        }
        for row in 0..self.shape.own {
            let both = function.combine(module, &part("low", row), &part("high", row));
            module.text.line(format!("let both_{row} = {both};"));
        }
        let both = self.bits(dtype, &gathered("both"));
        module.text.line(format!("weights[lane * {stride}u + team] = {both};"));
        module.text.close();
        module.text.line("workgroupBarrier();");
        module.text.close();
        module.text.line(format!("let {target} = {};", self.of_bits(dtype, "weights[team]")));
        for row in 0..self.shape.own {
            module.text.line(format!("let {target}_{row} = {};", part(target, row)));
        }
    }

    /// A vector of rows as bits.
    fn bits(&self, dtype: DType, vector: &str) -> String {
        let words = self.shape.vector(DType::U32);
        if dtype == DType::U32 { vector.to_string() } else { format!("bitcast<{words}>({vector})") }
    }

    /// The vector of rows that has these bits.
    fn of_bits(&self, dtype: DType, words: &str) -> String {
        let vector = self.shape.vector(dtype);
        if dtype == DType::U32 { words.to_string() } else { format!("bitcast<{vector}>({words})") }
    }

    /// Where a block of keys ends, its sum becomes a term of the lane above that has the block's number.
    fn end_blocks(&self, module: &mut Module<'_>, pass: &[usize]) {
        let zero = module.zero();
        for &stage in pass.iter().filter(|&&stage| self.has_blocks(stage)) {
            module.text.open(format!(
                "if (first % {BLOCK}u == {}u || first + {KEYS}u >= {}u)",
                BLOCK - KEYS,
                self.keys
            ));
            self.fold(module, stage, "all", "block");
            for own in 0..self.shape.own {
                module.text.open(format!("if (lane == first / {BLOCK}u)"));
                let sum = module.add(&format!("blocks{stage}_{own}"), &format!("block_{own}"));
                module.text.line(format!("blocks{stage}_{own} = {sum};"));
                module.text.close();
                module.text.line(format!("all{stage}_{own} = {zero};"));
            }
            module.text.close();
        }
    }

    /// Declares the stage's results of the invocation's rows.
    fn end_stage(&self, module: &mut Module<'_>, stage: usize) {
        let value = if self.has_blocks(stage) { "blocks" } else { "all" };
        self.fold(module, stage, value, &format!("r{stage}"));
    }

    /// Adds the values of 32 keys by their weights.
    fn weighted(&self, module: &mut Module<'_>, declared: &[usize], outputs: &[(u32, u64)]) {
        let zero = module.zero();
        if self.inner == 0 || self.shape.kept > 0 {
            // Else scores waited until all are done with the weights before.
            module.text.line("workgroupBarrier();");
        }
        let float = module.dtype(DType::F32);
        if self.shape.staged > 0 {
            self.bring_values(module);
        }
        for own in 0..self.shape.own {
            module.text.line(format!("var weight_{own}: {float};"));
            module.text.open_scope();
            self.row(module, own, &self.weight, declared);
            module.text.line(format!("let l{} = score_{own};", self.given));
            module.text.line(format!("weight_{own} = {};", self.weight.call()));
            module.text.close();
        }
        let weights = self.bits(float, &self.shape.gathered(float, |row| format!("weight_{row}")));
        module.text.line(format!("weights[lane * {}u + team] = {weights};", self.shape.stride()));
        module.text.line("workgroupBarrier();");
        if self.keys > CHUNK {
            module.text.open(format!("if (first > 0u && first % {CHUNK}u == 0u)"));
            for (row, column) in outputs {
                let total = module.add(&format!("total_{row}_{column}"), &format!("sum_{row}_{column}"));
                module.text.line(format!("total_{row}_{column} = {total};"));
                module.text.line(format!("sum_{row}_{column} = {zero};"));
            }
            module.text.close();
        }
        let whole = self.keys - self.keys % KEYS;
        if whole > 0 {
            module.text.open(format!("if (first < {whole}u)"));
            module.text.open(format!("for (var k = 0u; k < {KEYS}u; k += {UNROLLED}u)"));
            for term in 0..UNROLLED {
                self.values(module, term, &format!("k + {term}u"));
            }
            for term in 0..UNROLLED {
                self.products(module, term, outputs);
            }
            module.text.close();
            module.text.close();
        }
        if whole < self.keys {
            module.text.open(format!("if (first == {whole}u)"));
            module.text.open(format!("for (var k = 0u; k < {}u; k += 1u)", self.keys - whole));
            self.values(module, 0, "k");
            self.products(module, 0, outputs);
            module.text.close();
            module.text.close();
        }
    }

    /// Brings the values of the keys from `first` on to workgroup memory.
    fn bring_values(&self, module: &mut Module<'_>) {
        let (width, size) = (self.shape.width(), self.shape.invocations());
        module.text.open(format!("for (var place = local; place < {}u; place += {size}u)", LANES * width));
        self.value(module, &format!("place / {width}u"), &format!("place % {width}u"), "let element = ");
        module.text.line("values[place] = element;");
        module.text.close();
    }

    /// Declares `value_{term}_{column}`, the values of a key in the invocation's columns, and `key_{term}`, its number.
    fn values(&self, module: &mut Module<'_>, term: u64, key: &str) {
        let float = module.dtype(DType::F32);
        module.text.line(format!("let key_{term} = {key};"));
        for column in 0..self.own_columns() {
            let (name, place) = (format!("value_{term}_{column}"), format!("lane + {}u", column * KEYS));
            if self.shape.staged > 0 {
                module.text.line(format!("let {name} = values[key_{term} * {}u + {place}];", self.shape.width()));
                continue;
            }
            module.text.line(format!("var {name}: {float};"));
            module.text.open_scope();
            self.value(module, &format!("key_{term}"), &place, &format!("{name} = "));
            module.text.close();
        }
    }

    /// Writes the statement that begins with `statement` and takes the value of a key, counted from `first`, in a column of the
    /// tile. Past the last key or column it is that of the last one.
    fn value(&self, module: &mut Module<'_>, key: &str, column: &str, statement: &str) {
        module.text.line(format!("let number = min(first + {key}, {}u);", self.keys - 1));
        self.indices(module, "number", 3, &[&self.value]);
        module.text.line(format!("let column = min(first_column + {column}, {}u);", self.columns - 1));
        self.indices(module, "column", 2, &[&self.value]);
        module.text.line(format!("{statement}{};", self.value.call()));
    }

    fn products(&self, module: &mut Module<'_>, term: u64, outputs: &[(u32, u64)]) {
        let float = module.dtype(DType::F32);
        let weights = self.of_bits(float, &format!("weights[key_{term} * {}u + team]", self.shape.stride()));
        module.text.line(format!("let weight_{term} = {weights};"));
        for &(row, column) in outputs {
            let weight = self.shape.part(&format!("weight_{term}"), row);
            let product = module.mul(&weight, &format!("value_{term}_{column}"));
            let sum = module.add(&format!("sum_{row}_{column}"), &product);
            module.text.line(format!("sum_{row}_{column} = {sum};"));
        }
    }

    fn store(&self, module: &mut Module<'_>, declared: &[usize], outputs: &[(u32, u64)]) {
        for (own, column) in outputs {
            let place = format!("first_column + lane + {}u", column * KEYS);
            module.text.open(format!("if (own_row + {own}u < {}u && {place} < {}u)", self.rows, self.columns));
            self.row(module, *own, &self.result, declared);
            module.text.line(format!("let column = {place};"));
            self.indices(module, "column", 2, &[&self.result]);
            let sum = format!("sum_{own}_{column}");
            let total = if self.keys > CHUNK { module.add(&format!("total_{own}_{column}"), &sum) } else { sum };
            module.text.line(format!("let l{} = {total};", self.given));
            module.store(&self.result.call(), self.result.result);
            module.text.close();
        }
    }
}
