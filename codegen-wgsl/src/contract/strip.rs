//! The strips of a tiled contraction: what a step needs of one operand, from memory through registers into workgroup
//! memory.
//!
//! A strip lies in workgroup memory terms outermost, in words: numbers, or vectors of four lines where an invocation
//! has that many neighbouring ones. An operand comes in units: single numbers, or vectors of four where those that are
//! neighbours in the matrix are neighbours in memory. Each team has a strip of its own.
//!
//! Vectors are for native arithmetic. Invocations write parts of the same vector there, which SPIR-V keeps apart, and
//! which languages that plain WGSL is translated to may not.

use std::ops::Range;

use loom_ir::kernel::{Arg, BufferId, Lambda};
use loom_ir::types::DType;

use super::{Axes, Matrices};
use crate::index::{Guarded, Place, unflatten};
use crate::lambda::{Function, Module};
use crate::target::Arithmetic;
use crate::tile::Tile;

/// Numbers of a vector.
const VECTOR: u32 = 4;
/// Their names.
const COMPONENTS: [&str; VECTOR as usize] = ["x", "y", "z", "w"];
/// Words between the end of a term's lines and the next's: neighbouring invocations that write the terms of one line
/// meet other banks of workgroup memory.
pub(super) const PADDING: u32 = 1;

/// In what units an operand is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Numbers. Neighbouring invocations fetch neighbouring terms, or else neighbouring lines.
    Numbers { along_terms: bool },
    /// Four terms of a line.
    Terms,
    /// Four lines of a term.
    Lines,
}

impl Units {
    /// The units of both operands. Buffers that are fetched in vectors become buffers of vectors.
    pub fn both(module: &mut Module<'_>, [lhs, rhs]: [&Lambda; 2], axes: &Axes, tile: Tile) -> [Units; 2] {
        let sides = [(lhs, &axes.rows, tile.rows), (rhs, &axes.columns, tile.columns)];
        let units = sides.map(|(lambda, lines, own)| Units::of(module, lambda, axes, lines, own, tile));
        // A buffer has one type: where anything else takes numbers of it, an operand does too.
        let kernel = module.kernel;
        let buffer = |load: u32| kernel.loads[load as usize].buffer;
        let vectors: Vec<u32> = sides
            .iter()
            .zip(units)
            .filter(|(_, units)| units.are_vectors())
            .flat_map(|((lambda, ..), _)| lambda.loads())
            .collect();
        let numbers: Vec<BufferId> =
            (0..kernel.loads.len() as u32).filter(|load| !vectors.contains(load)).map(buffer).collect();
        let shared = |module: &Module<'_>, load| numbers.contains(&buffer(load)) || module.is_shared(buffer(load));
        let mut chosen = units;
        for (units, (lambda, ..)) in chosen.iter_mut().zip(sides) {
            if units.are_vectors() && lambda.loads().any(|load| shared(module, load)) {
                *units = Units::numbers(module, lambda, axes);
            } else if units.are_vectors() {
                module.take_vectors(lambda.loads().map(buffer));
            }
        }
        chosen
    }

    fn of(module: &Module<'_>, lambda: &Lambda, axes: &Axes, lines: &Range<usize>, own: u32, tile: Tile) -> Units {
        let extents = &module.kernel.axes;
        let vectors = |axes: &Range<usize>| {
            let last = axes.clone().rev().find(|&axis| extents[axis] > 1);
            last.is_some_and(|axis| in_vectors(module, lambda, axis))
        };
        let native = module.arithmetic() == Arithmetic::Native;
        if native && tile.step.is_multiple_of(VECTOR) && vectors(&axes.reduced) {
            Units::Terms
        } else if native && own.is_multiple_of(VECTOR) && vectors(lines) {
            Units::Lines
        } else {
            Units::numbers(module, lambda, axes)
        }
    }

    /// Numbers along whichever axis lies closer together in memory: along the terms if the last reduced axis moves the
    /// operand's first load by one element.
    pub fn numbers(module: &Module<'_>, lambda: &Lambda, axes: &Axes) -> Units {
        let extents = &module.kernel.axes;
        let first = lambda.loads().next().map(|load| Place::of(&module.kernel.loads[load as usize], extents));
        let last = axes.reduced.clone().rev().find(|&axis| extents[axis] > 1);
        let along_terms = matches!((first, last), (Some(place), Some(axis)) if place.coefficient(axis) == 1);
        Units::Numbers { along_terms }
    }

    fn are_vectors(self) -> bool {
        matches!(self, Units::Terms | Units::Lines)
    }
}

/// Whether a lambda is a load whose elements, taken by fours along an axis, are vectors in memory.
fn in_vectors(module: &Module<'_>, lambda: &Lambda, axis: usize) -> bool {
    let extents = &module.kernel.axes;
    let (&[Arg::Load(load)], []) = (lambda.args.as_slice(), lambda.function.insts.as_slice()) else { return false };
    let access = &module.kernel.loads[load as usize];
    let place = Place::of(access, extents);
    let mut others = (0..extents.len()).filter(|&other| other != axis);
    module.program.buffer(access.buffer).dtype == DType::F32
        && Guarded::of(&module.kernel.name, access, extents) == Ok(Guarded::Always)
        && extents[axis].is_multiple_of(VECTOR.into())
        && place.coefficient(axis) == 1
        && place.offset().is_multiple_of(VECTOR)
        && others.all(|other| place.coefficient(other).is_multiple_of(VECTOR))
}

/// One operand's strip of a step. Its lines are rows of the left operand, columns of the right one.
pub(super) struct Strip<'a> {
    /// The operand, in names.
    pub name: &'static str,
    /// The variable with the invocation's place among those along the lines.
    pub thread: &'static str,
    /// The variable that names the tile's first line.
    first: &'static str,
    function: &'a Function,
    /// The type of its numbers in the text.
    number: DType,
    /// The axes that its lines count through, and their product.
    axes: Range<usize>,
    extent: u64,
    /// Lines of the tile, of an invocation, and invocations along them.
    lines: u32,
    own: u32,
    threads: u32,
    /// Whether words are vectors.
    wide: bool,
    units: Units,
    /// The batch axes that it depends on.
    batch: Vec<usize>,
}

impl<'a> Strip<'a> {
    /// The strips of both operands.
    pub fn both(module: &Module<'_>, matrices: &'a Matrices, tile: Tile) -> [Strip<'a>; 2] {
        let native = module.arithmetic() == Arithmetic::Native;
        let axes = &matrices.axes;
        let batch = |function: &Function| {
            axes.batch.clone().filter(|axis| function.axes.contains(axis)).collect::<Vec<usize>>()
        };
        let [lhs, rhs] = matrices.units;
        let number = matrices.factor(module);
        [
            Strip {
                name: "lhs",
                thread: "row",
                first: "first_row",
                function: &matrices.lhs,
                number,
                axes: axes.rows.clone(),
                extent: matrices.rows,
                lines: tile.height(),
                own: tile.rows,
                threads: tile.threads_rows,
                wide: native && tile.rows.is_multiple_of(VECTOR),
                units: lhs,
                batch: batch(&matrices.lhs),
            },
            Strip {
                name: "rhs",
                thread: "column",
                first: "first_column",
                function: &matrices.rhs,
                number,
                axes: axes.columns.clone(),
                extent: matrices.columns,
                lines: tile.width(),
                own: tile.columns,
                threads: tile.threads_columns,
                wide: native && tile.columns.is_multiple_of(VECTOR),
                units: rhs,
                batch: batch(&matrices.rhs),
            },
        ]
    }

    /// Words from one term to the next in workgroup memory.
    fn stride(&self) -> u32 {
        if self.wide { self.lines / VECTOR + PADDING } else { self.lines + PADDING }
    }

    /// Words of the strip.
    fn words(&self, tile: Tile) -> u32 {
        self.stride() * tile.step
    }

    /// The invocation's first word in a buffer of the array, as an expression of the buffer's number.
    fn base(&self, tile: Tile, buffer: &str) -> String {
        let words = self.words(tile);
        match tile.teams {
            1 => format!("{buffer} * {words}u"),
            teams => format!("({buffer} * {teams}u + team) * {words}u"),
        }
    }

    /// Units of the strip.
    fn count(&self, tile: Tile) -> u32 {
        let numbers = self.lines * tile.step;
        if self.units.are_vectors() { numbers / VECTOR } else { numbers }
    }

    /// Writes the strip's array and the functions `fetch_…` of a unit and `keep_…`, which puts one into the array.
    pub fn define(&self, module: &mut Module<'_>, matrices: &Matrices, tile: Tile) {
        let Strip { name, lines, number, .. } = *self;
        let step = tile.step;
        let word = if self.wide { format!("vec4<{number}>") } else { number.to_string() };
        let unit = if self.units.are_vectors() { format!("vec4<{number}>") } else { number.to_string() };
        let zero = matrices.no_factor(module);
        module.text.line(format!(
            "var<workgroup> {name}_tile: array<{word}, {}>;",
            self.words(tile) * tile.buffers * tile.teams
        ));
        module.text.line("");

        let (own_line, own_term) = match self.units {
            Units::Numbers { along_terms: true } => (format!("unit / {step}u"), format!("unit % {step}u")),
            Units::Numbers { along_terms: false } => (format!("unit % {lines}u"), format!("unit / {lines}u")),
            Units::Terms => {
                let across = step / VECTOR;
                (format!("unit / {across}u"), format!("unit % {across}u * {VECTOR}u"))
            }
            Units::Lines => {
                let across = lines / VECTOR;
                (format!("unit % {across}u * {VECTOR}u"), format!("unit / {across}u"))
            }
        };
        let batch: String = self.batch.iter().map(|axis| format!("i{axis}: u32, ")).collect();
        module.text.open(format!("fn fetch_{name}({batch}unit: u32, first: u32, step: u32) -> {unit}"));
        module.turn();
        module.text.line(format!("let line = first + {own_line};"));
        module.text.line(format!("let k = step + {own_term};"));
        let mut inside = Vec::new();
        if !self.extent.is_multiple_of(u64::from(lines)) {
            inside.push(format!("(line < {}u)", self.extent));
        }
        // With teams, a round may begin chunks past the last.
        let whole = if tile.teams > 1 { matrices.chunk * u64::from(tile.teams) } else { step.into() };
        if !matrices.terms.is_multiple_of(whole) {
            inside.push(format!("(k < {}u)", matrices.terms));
        }
        if !inside.is_empty() {
            module.text.line(format!("var value = {unit}({zero});"));
            module.text.open(format!("if ({})", inside.join(" & ")));
        }
        let used = &self.function.axes;
        unflatten(&mut module.text, "line", &matrices.extents, self.axes.clone(), used);
        unflatten(&mut module.text, "k", &matrices.extents, matrices.axes.reduced.clone(), used);
        if inside.is_empty() {
            module.text.line(format!("return {};", self.function.call()));
        } else {
            module.text.line(format!("value = {};", self.function.call()));
            module.text.close();
            module.text.line("return value;");
        }
        module.text.close();
        module.text.line("");

        module.text.open(format!("fn keep_{name}(unit: u32, base: u32, value: {unit})"));
        let stride = self.stride();
        module.text.line(format!("let line = {own_line};"));
        module.text.line(format!("let place = base + ({own_term}) * {stride}u;"));
        let array = format!("{name}_tile");
        let part = format!("[line % {VECTOR}u]");
        match self.units {
            Units::Lines => module.text.line(format!("{array}[place + line / {VECTOR}u] = value;")),
            Units::Terms => {
                for (term, component) in (0..).zip(COMPONENTS) {
                    let offset = term * stride;
                    module.text.line(if self.wide {
                        format!("{array}[place + line / {VECTOR}u + {offset}u]{part} = value.{component};")
                    } else {
                        format!("{array}[place + line + {offset}u] = value.{component};")
                    });
                }
            }
            Units::Numbers { .. } if self.wide => {
                module.text.line(format!("{array}[place + line / {VECTOR}u]{part} = value;"));
            }
            Units::Numbers { .. } => module.text.line(format!("{array}[place + line] = value;")),
        }
        module.text.close();
        module.text.line("");
    }

    /// The units that an invocation brings: their numbers, each with the condition under which there is one.
    fn own_units(&self, tile: Tile) -> impl Iterator<Item = (u32, Option<String>)> {
        let (count, members) = (self.count(tile), tile.members());
        (0..count.div_ceil(members)).map(move |index| {
            let surplus = (index + 1) * members > count;
            (index, surplus.then(|| format!("if (member < {}u)", count - index * members)))
        })
    }

    /// Fetches a step into variables, which the first call declares.
    pub fn fetch(&self, module: &mut Module<'_>, tile: Tile, step: &str, declare: bool) {
        let Strip { name, first, number, .. } = *self;
        let batch: String = self.batch.iter().map(|axis| format!("i{axis}, ")).collect();
        for (index, condition) in self.own_units(tile) {
            let unit = format!("member + {}u", index * tile.members());
            let call = format!("fetch_{name}({batch}{unit}, {first}, {step})");
            let variable = format!("{name}_next_{index}");
            if declare && condition.is_none() {
                module.text.line(format!("var {variable} = {call};"));
                continue;
            }
            if declare {
                let dtype = if self.units.are_vectors() { format!("vec4<{number}>") } else { number.to_string() };
                module.text.line(format!("var {variable}: {dtype};"));
            }
            within(module, condition, &format!("{variable} = {call};"));
        }
    }

    /// Puts what was fetched into a buffer of the array.
    pub fn keep(&self, module: &mut Module<'_>, tile: Tile, buffer: &str) {
        let name = self.name;
        for (index, condition) in self.own_units(tile) {
            let (unit, base) = (index * tile.members(), self.base(tile, buffer));
            let call = format!("keep_{name}(member + {unit}u, {base}, {name}_next_{index});");
            within(module, condition, &call);
        }
    }

    /// Declares where the invocation's first operand lies in a buffer.
    pub fn begin(&self, module: &mut Module<'_>, tile: Tile, buffer: &str) {
        let base = self.base(tile, buffer);
        module.text.line(format!("let {}_base = {base} + {};", self.name, self.thread));
    }

    /// Declares the invocation's operands of the term `k + term`.
    pub fn operands(&self, module: &mut Module<'_>, term: u32) {
        let Strip { name, threads, .. } = *self;
        let words = if self.wide { self.own / VECTOR } else { self.own };
        for word in 0..words {
            let place = term * self.stride() + word * threads;
            let stride = self.stride();
            module
                .text
                .line(format!("let {name}_{term}_{word} = {name}_tile[{name}_base + k * {stride}u + {place}u];"));
        }
    }

    /// The operand of an own line in a term.
    pub fn operand(&self, line: u32, term: u32) -> String {
        let name = self.name;
        if self.wide {
            let component = COMPONENTS[(line % VECTOR) as usize];
            format!("{name}_{term}_{}.{component}", line / VECTOR)
        } else {
            format!("{name}_{term}_{line}")
        }
    }

    /// An own line's place in the tile.
    pub fn own_line(&self, line: u32) -> String {
        let Strip { thread, threads, .. } = *self;
        if self.wide {
            format!("{VECTOR}u * {thread} + {}u", line / VECTOR * threads * VECTOR + line % VECTOR)
        } else {
            format!("{thread} + {}u", line * threads)
        }
    }
}

/// A statement, under a condition where there is one.
fn within(module: &mut Module<'_>, condition: Option<String>, statement: &str) {
    match condition {
        None => module.text.line(statement),
        Some(condition) => {
            module.text.open(condition);
            module.text.line(statement);
            module.text.close();
        }
    }
}
