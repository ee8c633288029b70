//! The attend rule: a contraction, reductions of its rows and a contraction with what these leave become one kernel, which
//! keeps no matrix of the first one's results.

use loom_ir::kernel::{Access, Affine, Arg, Attend, Body, BufferId, Contract, Kernel, Lambda, Program, Reduce, Stage};
use loom_ir::numerics::reduction::Products;

use super::compose::{compose, shift_loads, tidied};
use super::{Readers, bare_axes, joined_name, plain_output};

/// With fewer rows of scores a batch the matrix is about as small as the operands, and contractions of their own use devices
/// better: a step of a decoder is of this kind.
const LEAST_ROWS: u64 = 8;
/// Keys that every device can do with one more level of block sums in one pass: 32 blocks.
const MOST_KEYS: u64 = 1 << 17;

/// Joins the kernels behind the left operand of a contraction, if they are attention's.
pub fn fuse(program: &Program, readers: &Readers, consumer: usize) -> Option<Kernel> {
    let parts = Parts::find(program, readers, consumer)?;
    parts.joined()
}

/// The kernels of an attention.
struct Parts<'a> {
    scores: (&'a Kernel, &'a Contract),
    /// Gives the weights, by stages of the scores.
    weights: (&'a Kernel, &'a Reduce),
    /// Reductions of the weights that the result uses.
    sums: Vec<(&'a Kernel, &'a Reduce)>,
    values: (&'a Kernel, &'a Contract),
}

impl<'a> Parts<'a> {
    fn find(program: &'a Program, readers: &Readers, consumer: usize) -> Option<Parts<'a>> {
        let last = &program.kernels[consumer];
        let Body::Contract(values) = &last.body else { return None };
        let [Arg::Load(load)] = values.lhs.args[..] else { return None };
        let buffer = last.loads[load as usize].buffer;
        let weights = &program.kernels[readers.producer(program, buffer)?];
        let Body::Reduce(reduce) = &weights.body else { return None };
        let by_contraction = |access: &Access| {
            let kernel = &program.kernels[readers.producer(program, access.buffer)?];
            match &kernel.body {
                Body::Contract(contract) => Some((kernel, contract)),
                _ => None,
            }
        };
        let number = readers.producer(program, buffer)?;
        let scores = weights.loads.iter().find_map(|access| {
            let read = weights.loads.iter().filter(|other| other.buffer == access.buffer).count() == 1;
            by_contraction(access).filter(|_| read && readers.only(access.buffer, number) && in_order(access, weights))
        })?;
        let mut sums = Vec::new();
        for (reader, load) in readers.loads(buffer).filter(|&(reader, _)| reader != consumer) {
            let kernel = &program.kernels[reader];
            let Body::Reduce(sum) = &kernel.body else { return None };
            let same = kernel.axes == weights.axes && sum.reduced == reduce.reduced && !sum.per_element;
            let of_result =
                values.epilogue.loads().any(|load| last.loads[load as usize].buffer == kernel.output.buffer);
            let usable = same && of_result && plain_output(kernel) && in_order(&kernel.loads[load], kernel);
            let temporary = readers.producer(program, kernel.output.buffer) == Some(reader);
            if !usable || !temporary || !readers.only(kernel.output.buffer, consumer) {
                return None;
            }
            if !sums.iter().any(|&(known, _): &(&Kernel, &Reduce)| known.output.buffer == kernel.output.buffer) {
                sums.push((kernel, sum));
            }
        }
        let parts = Parts { scores, weights: (weights, reduce), sums, values: (last, values) };
        let alone = parts.kernels().all(|kernel| kernel.in_loop.is_none());
        let plain = reduce.per_element && plain_output(weights) && plain_output(scores.0);
        (alone && plain).then_some(parts)
    }

    fn kernels(&self) -> impl Iterator<Item = &'a Kernel> + '_ {
        let sums = self.sums.iter().map(|(kernel, _)| *kernel);
        [self.scores.0, self.weights.0].into_iter().chain(sums).chain([self.values.0])
    }

    /// The kernel of all. Its axes are those of the contraction with the values, then those of the scores' own.
    fn joined(&self) -> Option<Kernel> {
        let (scores, first) = self.scores;
        let (weights, reduce) = self.weights;
        let (last, values) = self.values;
        let (batch, rows, columns, keys) = values.split(&last.axes);
        let leading = batch.len() + rows.len();
        let inner = &scores.axes[scores.output_axes()..];
        let axes = [&last.axes, inner].concat();
        let count = axes.len();
        // The weights' axes among the kernel's: batch, rows and keys in order.
        let own: Vec<usize> = (0..leading).chain(leading + columns.len()..last.axes.len()).collect();
        let [Arg::Load(load)] = values.lhs.args[..] else { return None };
        let ordered = reads_at(&last.loads[load as usize], last, own.iter().copied());
        let (score_batch, score_rows, score_columns, _) = first.split(&scores.axes);
        let alike = (score_batch, score_rows, score_columns) == (batch, rows, keys) && reduce.reduced == keys.len();
        let product = |axes: &[u64]| axes.iter().product::<u64>();
        let sizes = product(rows) >= LEAST_ROWS && (1..=MOST_KEYS).contains(&product(keys)) && product(columns) > 0;
        if !ordered || !alike || !sizes {
            return None;
        }
        let of_scores: Vec<usize> = own.iter().copied().chain(last.axes.len()..count).collect();
        let mut loads = Loads { places: Vec::new(), count };
        let of_last: Vec<usize> = (0..last.axes.len()).collect();
        let last_at = loads.add(last, &of_last);
        let scores_at = loads.add(scores, &of_scores);
        let weights_at = loads.add(weights, &own);

        // A lambda of one of the kernels: its loads and indices are the joined kernel's, results of stages shifted.
        let moved = |lambda: &Lambda, at: usize, axes: &[usize], stages: u32| {
            let shifted = shift_loads(lambda, at);
            compose(
                &shifted,
                &shifted,
                |_| false,
                |arg| match arg {
                    Arg::Index(axis) => Arg::Index(axes[axis as usize] as u32),
                    Arg::Reduced(stage) => Arg::Reduced(stage + stages),
                    other => other,
                },
            )
        };
        // What reads a score is given it.
        let of_row = |lambda: &Lambda| {
            let lambda = moved(lambda, weights_at, &own, 1);
            let given = |arg| if loads.is_of(arg, scores.output.buffer) { Arg::Reduced(0) } else { arg };
            compose(&lambda, &lambda, |_| false, given)
        };
        let mut stages: Vec<Stage> =
            reduce.stages.iter().map(|stage| Stage { input: of_row(&stage.input), op: stage.op }).collect();
        let weight = of_row(&reduce.result);
        let mut result = moved(&values.epilogue, last_at, &of_last, 0);
        for &(kernel, sum) in &self.sums {
            let at = loads.add(kernel, &own);
            let before = stages.len() as u32;
            let of_weight = |arg| loads.is_of(arg, weights.output.buffer);
            for stage in &sum.stages {
                let input = moved(&stage.input, at, &own, 1 + before);
                stages.push(Stage { input: compose(&input, &weight, of_weight, |arg| arg), op: stage.op });
            }
            let sum_result = moved(&sum.result, at, &own, 1 + before);
            let buffer = kernel.output.buffer;
            let mut reads = last.loads.iter().filter(|access| access.buffer == buffer);
            let by_row = reads.all(|access| reads_at(access, last, 0..leading));
            let elsewhere = values.rhs.loads().any(|load| last.loads[load as usize].buffer == buffer);
            if !by_row || elsewhere {
                return None;
            }
            result = compose(&result, &sum_result, |arg| loads.is_of(arg, buffer), |arg| arg);
        }
        // Of integers there are no such sums: their factors are quantised between.
        let (Products::Float(spec), Products::Float(_)) = (values.products, first.products) else { return None };
        let attend = Attend {
            batch: batch.len(),
            rows: rows.len(),
            columns: columns.len(),
            keys: keys.len(),
            query: moved(&first.lhs, scores_at, &of_scores, 0),
            key: moved(&first.rhs, scores_at, &of_scores, 0),
            score: moved(&first.epilogue, scores_at, &of_scores, 0),
            stages,
            weight: compose(&moved(&values.lhs, last_at, &of_last, 0), &weight, |_| true, |arg| arg),
            value: moved(&values.rhs, last_at, &of_last, 0),
            spec,
            result,
        };
        let output = last.output.substitute(&affines(&of_last, count), count);
        let names = self.kernels().map(|kernel| kernel.name.clone());
        let name = names.reduce(|name, next| joined_name(&name, &next)).unwrap_or_default();
        let body = Body::Attend(Box::new(attend));
        Some(tidied(Kernel { name, axes, loads: loads.places, body, output, in_loop: None }))
    }
}

/// The joined kernel's loads.
struct Loads {
    places: Vec<Access>,
    count: usize,
}

impl Loads {
    /// Adds a kernel's loads, whose axes are these of the joined kernel's, and gives the number of the first.
    fn add(&mut self, kernel: &Kernel, axes: &[usize]) -> usize {
        let (first, axes) = (self.places.len(), affines(axes, self.count));
        self.places.extend(kernel.loads.iter().map(|access| access.substitute(&axes, self.count)));
        first
    }

    fn is_of(&self, arg: Arg, buffer: BufferId) -> bool {
        matches!(arg, Arg::Load(load) if self.places[load as usize].buffer == buffer)
    }
}

fn affines(axes: &[usize], count: usize) -> Vec<Affine> {
    axes.iter().map(|&axis| Affine::axis(axis, count)).collect()
}

/// Whether a kernel reads a buffer at the index of its own axes.
fn in_order(access: &Access, kernel: &Kernel) -> bool {
    reads_at(access, kernel, 0..kernel.axes.len())
}

/// Whether a kernel reads a whole buffer at the indices of these axes.
fn reads_at(access: &Access, kernel: &Kernel, axes: impl IntoIterator<Item = usize>) -> bool {
    let read = bare_axes(access, &kernel.axes);
    access.guards.is_empty() && read.is_some_and(|read| read.into_iter().eq(axes))
}
