//! The epilogue rule: a map joins the contraction or reduction whose result it alone reads.

use loom_ir::kernel::{Access, Affine, Arg, Body, Kernel, Lambda, Program};

use super::compose::{compose, shift_loads, tidied};
use super::{Readers, bare_axes, joined_name, plain_output};

/// Joins the consumer, a map, with the producer of one of its loads, if that is possible.
pub fn fuse(program: &Program, readers: &Readers, consumer: usize) -> Option<Kernel> {
    let kernel = &program.kernels[consumer];
    let Body::Map(lambda) = &kernel.body else { return None };
    (0..kernel.loads.len()).find_map(|load| {
        let buffer = kernel.loads[load].buffer;
        let producer = &program.kernels[readers.producer(program, buffer)?];
        let together = producer.in_loop == kernel.in_loop;
        let grows = matches!(producer.body, Body::Reduce(_) | Body::Contract(_)) && together;
        let whole = grows && plain_output(producer);
        // One load, so that one result is all that the map needs.
        if !whole || !readers.loads(buffer).eq([(consumer, load)]) {
            return None;
        }
        let indexed = |kernel: &Kernel| {
            kernel.lambdas().iter().any(|lambda| lambda.args.iter().any(|arg| matches!(arg, Arg::Index(_))))
        };
        let nest = SharedNest::find(producer, kernel, &kernel.loads[load])?;
        // Where axes were split, an index of the old ones is none of the new ones.
        if nest.is_split() && (indexed(producer) || indexed(kernel)) {
            return None;
        }
        Some(joined(producer, kernel, lambda, load, &nest))
    })
}

/// One loop nest for both kernels.
struct SharedNest {
    /// The extents that stand for each axis of the producer: one, or the pieces of a split.
    pieces: Vec<Vec<u64>>,
    /// The producer's axes over the new ones.
    producer: Vec<Affine>,
    /// The consumer's axes over the new ones.
    consumer: Vec<Affine>,
}

impl SharedNest {
    fn find(producer: &Kernel, consumer: &Kernel, access: &Access) -> Option<SharedNest> {
        if !access.guards.is_empty() {
            return None;
        }
        SharedNest::permuted(producer, consumer, access).or_else(|| SharedNest::split(producer, consumer, access))
    }

    /// The consumer's axes are the producer's in some order.
    fn permuted(producer: &Kernel, consumer: &Kernel, access: &Access) -> Option<SharedNest> {
        let axes = bare_axes(access, &consumer.axes)?;
        if access.shape != producer.output.shape || axes.len() != consumer.axes.len() {
            return None;
        }
        let count = producer.axes.len();
        let mut places = vec![Affine::constant(0, count); consumer.axes.len()];
        for (dim, &axis) in axes.iter().enumerate() {
            places[axis] = Affine::axis(dim, count);
        }
        Some(SharedNest {
            pieces: producer.axes.iter().map(|&extent| vec![extent]).collect(),
            producer: (0..count).map(|axis| Affine::axis(axis, count)).collect(),
            consumer: places,
        })
    }

    /// Both walk the buffer in row-major order, under different extents: split the producer's axes where the consumer's
    /// begin.
    fn split(producer: &Kernel, consumer: &Kernel, access: &Access) -> Option<SharedNest> {
        let outputs = producer.output_axes();
        if !runs_through(access, &consumer.axes) || producer.axes.contains(&0) {
            return None;
        }
        let pieces = refined(&producer.axes[..outputs], &consumer.axes)?;
        let reduced = &producer.axes[outputs..];
        let flat: Vec<u64> = pieces.iter().flatten().copied().collect();
        let count = flat.len() + reduced.len();
        let mut producer_axes = Vec::new();
        let mut next = 0;
        for piece in &pieces {
            producer_axes.push(joined_axes(&flat, next..next + piece.len(), count));
            next += piece.len();
        }
        producer_axes.extend((0..reduced.len()).map(|axis| Affine::axis(flat.len() + axis, count)));
        let mut consumer_axes = Vec::new();
        let mut next = 0;
        for &extent in &consumer.axes {
            let start = next;
            let mut product = 1;
            while product < extent {
                product *= flat.get(next)?;
                next += 1;
            }
            if product != extent {
                return None;
            }
            consumer_axes.push(joined_axes(&flat, start..next, count));
        }
        let pieces = pieces.into_iter().chain(reduced.iter().map(|&extent| vec![extent])).collect();
        Some(SharedNest { pieces, producer: producer_axes, consumer: consumer_axes })
    }

    /// Whether an axis of either kernel is not one of the new ones.
    fn is_split(&self) -> bool {
        self.producer.iter().chain(&self.consumer).any(|axis| axis.as_axis().is_none())
    }

    /// How many new axes stand for a run of the producer's.
    fn count(&self, axes: std::ops::Range<usize>) -> usize {
        self.pieces[axes].iter().map(Vec::len).sum()
    }
}

/// One axis over a run of pieces in row-major order.
fn joined_axes(flat: &[u64], run: std::ops::Range<usize>, count: usize) -> Affine {
    let mut affine = Affine::constant(0, count);
    let mut stride = 1;
    for axis in run.rev() {
        affine.coefficients[axis] = stride;
        stride *= flat[axis] as i64;
    }
    affine
}

/// Whether an access over axes of these extents visits its buffer from the first to the last element.
fn runs_through(access: &Access, extents: &[u64]) -> bool {
    let linear = access.linear();
    let mut stride = 1;
    for (axis, &extent) in extents.iter().enumerate().rev() {
        if extent != 1 && linear.coefficients.get(axis) != Some(&stride) {
            return false;
        }
        stride *= extent as i64;
    }
    linear.offset == 0 && stride as u64 == access.shape.elements()
}

/// Splits each of `axes` so that the pieces of all also make up `other`; `None` where the extents do not nest.
fn refined(axes: &[u64], other: &[u64]) -> Option<Vec<Vec<u64>>> {
    // Strides at which an axis of either list begins, in descending order.
    let starts = |extents: &[u64]| {
        let mut stride = 1u64;
        let mut starts = vec![1];
        for &extent in extents.iter().rev() {
            stride *= extent;
            starts.push(stride);
        }
        starts
    };
    let mut cuts = starts(axes);
    cuts.extend(starts(other));
    cuts.sort_unstable();
    cuts.dedup();
    if cuts.windows(2).any(|pair| pair[1] % pair[0] != 0) {
        return None;
    }
    let mut stride = axes.iter().product::<u64>();
    Some(
        axes.iter()
            .map(|&extent| {
                let high = stride;
                let low = high / extent;
                stride = low;
                let inside: Vec<u64> = cuts.iter().copied().filter(|&cut| low <= cut && cut <= high).collect();
                if extent == 1 { vec![1] } else { inside.windows(2).rev().map(|pair| pair[1] / pair[0]).collect() }
            })
            .collect(),
    )
}

fn joined(producer: &Kernel, consumer: &Kernel, lambda: &Lambda, load: usize, nest: &SharedNest) -> Kernel {
    let axes: Vec<u64> = nest.pieces.iter().flatten().copied().collect();
    let count = axes.len();
    let mut kernel = producer.clone();
    kernel.name = joined_name(&producer.name, &consumer.name);
    kernel.loads = producer.loads.iter().map(|access| access.substitute(&nest.producer, count)).collect();
    let first = kernel.loads.len();
    kernel.loads.extend(consumer.loads.iter().map(|access| access.substitute(&nest.consumer, count)));
    kernel.output = consumer.output.substitute(&nest.consumer, count);
    let outer = shift_loads(lambda, first);
    // Axes that were not split are the same ones in another order.
    let outer = compose(
        &outer,
        &outer,
        |_| false,
        |arg| match arg {
            Arg::Index(axis) => Arg::Index(nest.consumer[axis as usize].as_axis().unwrap_or_default() as u32),
            other => other,
        },
    );
    let taken = Arg::Load((first + load) as u32);
    let compose_with = |inner: &Lambda| compose(&outer, inner, |arg| arg == taken, |arg| arg);
    match &mut kernel.body {
        Body::Map(_) | Body::Gather(_) | Body::Attend(_) => {
            unreachable!("maps are inlined, a gather's zero comes after its result, and the attend rule is the last")
        }
        Body::Reduce(reduce) => {
            let rows = producer.axes.len() - reduce.reduced;
            reduce.reduced = nest.count(rows..producer.axes.len());
            reduce.result = compose_with(&reduce.result);
        }
        Body::Contract(contract) => {
            let (rows, columns) = (contract.batch, contract.batch + contract.rows);
            let end = columns + contract.columns;
            contract.epilogue = compose_with(&contract.epilogue);
            (contract.batch, contract.rows, contract.columns) =
                (nest.count(0..rows), nest.count(rows..columns), nest.count(columns..end));
        }
    }
    kernel.axes = axes;
    tidied(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refinement_cuts_at_both_lists() {
        assert_eq!(refined(&[2, 12], &[2, 3, 4]), Some(vec![vec![2], vec![3, 4]]));
        assert_eq!(refined(&[2, 3, 4], &[24]), Some(vec![vec![2], vec![3], vec![4]]));
        assert_eq!(refined(&[6, 4], &[2, 12]), Some(vec![vec![2, 3], vec![4]]));
        assert_eq!(refined(&[1, 6], &[6, 1]), Some(vec![vec![1], vec![6]]));
        assert_eq!(refined(&[4, 6], &[6, 4]), None);
    }
}
