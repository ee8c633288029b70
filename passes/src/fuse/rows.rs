//! The rows rule: a reduction becomes a stage of the kernel that uses its result along the same rows. If it has a result
//! for each element, that is computed again wherever the kernel uses it.

use loom_ir::eval::cost;
use loom_ir::kernel::{Access, Affine, Arg, Body, Kernel, Lambda, Program, Reduce, Stage};

use super::compose::{compose, shift_loads, tidied};
use super::{Readers, bare_axes, joined_name, plain_output};

/// A row longer than this is written by a kernel of its own: one worker a row would leave the others idle.
const LONGEST_ROW: u64 = 1 << 16;

/// Operations on an element that may be done again to save writing it and reading it back, for all uses but the first
/// together. An exponential is some thirty, which take about as long as the element's eight bytes on their way to memory and
/// back; backends keep a sum's terms for the results that are made of them, and do not compute them again at all.
const MOST_AGAIN: u64 = 64;

/// Joins the consumer with the reduction behind one of its loads, if that is possible.
pub fn fuse(program: &Program, readers: &Readers, consumer: usize) -> Option<Kernel> {
    let kernel = &program.kernels[consumer];
    kernel.loads.iter().find_map(|access| {
        let producer = &program.kernels[readers.producer(program, access.buffer)?];
        let Body::Reduce(reduce) = &producer.body else { return None };
        let together = producer.in_loop == kernel.in_loop;
        let usable = plain_output(producer) && readers.only(access.buffer, consumer) && together;
        if !usable {
            return None;
        }
        if !reduce.per_element {
            let kernel = with_rows_first(kernel, producer, reduce)?;
            return joined(producer, reduce, &kernel);
        }
        let worth = reads_the_elements(kernel, producer, reduce) && again(kernel, access, &reduce.result) <= MOST_AGAIN;
        if worth { joined(producer, reduce, kernel) } else { None }
    })
}

/// Whether the consumer reduces the same rows, and reads each of the producer's elements at its own index.
fn reads_the_elements(consumer: &Kernel, producer: &Kernel, reduce: &Reduce) -> bool {
    let same_rows = match &consumer.body {
        Body::Reduce(own) => own.reduced == reduce.reduced && consumer.axes == producer.axes,
        Body::Map(_) | Body::Contract(_) | Body::Gather(_) | Body::Attend(_) => false,
    };
    let in_order = |access: &Access| {
        let axes = bare_axes(access, &consumer.axes);
        access.guards.is_empty() && axes.is_some_and(|axes| axes.into_iter().eq(0..consumer.axes.len()))
    };
    same_rows && consumer.loads.iter().filter(|access| access.buffer == producer.output.buffer).all(in_order)
}

/// How many operations on an element are done again if each function that reads it computes it. What is the same for a row
/// is not counted: it is computed once.
fn again(consumer: &Kernel, access: &Access, element: &Lambda) -> u64 {
    let reads = |lambda: &&Lambda| lambda.loads().any(|load| consumer.loads[load as usize].buffer == access.buffer);
    let uses = consumer.lambdas().into_iter().filter(reads).count() as u64;
    let mut varies: Vec<bool> = element.args.iter().map(|arg| !matches!(arg, Arg::Reduced(_))).collect();
    let mut operations = 0;
    for inst in &element.function.insts {
        let own = inst.operands().any(|operand| varies[operand.index()]);
        varies.push(own);
        operations += if own { cost::operations_of(inst) } else { 0 };
    }
    uses.saturating_sub(1).saturating_mul(operations)
}

/// The consumer with the producer's rows as its leading axes and the producer's reduced axes after them, provided that
/// it reads the producer's result by nothing but its row.
fn with_rows_first(consumer: &Kernel, producer: &Kernel, reduce: &Reduce) -> Option<Kernel> {
    let rows = producer.axes.len() - reduce.reduced;
    let mut loads = consumer.loads.iter().filter(|access| access.buffer == producer.output.buffer);
    let first = loads.next()?;
    if loads.any(|other| other != first) || !first.guards.is_empty() || first.shape != producer.output.shape {
        return None;
    }
    let row_axes = bare_axes(first, &consumer.axes)?;
    let rest = (0..consumer.axes.len()).filter(|axis| !row_axes.contains(axis));
    let order: Vec<usize> = row_axes.iter().copied().chain(rest).collect();
    let extents: Vec<u64> = order.iter().map(|&axis| consumer.axes[axis]).collect();
    if extents != producer.axes {
        return None;
    }
    match &consumer.body {
        Body::Map(_) if extents[rows..].iter().product::<u64>() <= LONGEST_ROW => Some(permuted(consumer, &order)),
        Body::Reduce(own) if own.reduced == reduce.reduced && order.is_sorted() => Some(consumer.clone()),
        _ => None,
    }
}

/// The map with its axes in another order.
fn permuted(kernel: &Kernel, order: &[usize]) -> Kernel {
    let count = order.len();
    let mut places = vec![Affine::constant(0, count); count];
    for (to, &from) in order.iter().enumerate() {
        places[from] = Affine::axis(to, count);
    }
    let mut kernel = kernel.clone();
    kernel.axes = order.iter().map(|&axis| kernel.axes[axis]).collect();
    let moved = |access: &Access| access.substitute(&places, count);
    kernel.loads = kernel.loads.iter().map(moved).collect();
    kernel.output = moved(&kernel.output);
    super::compose::map_lambdas(&mut kernel.body, |lambda| {
        let rename = |arg| match arg {
            Arg::Index(axis) => {
                Arg::Index(order.iter().position(|&from| from == axis as usize).unwrap_or_default() as u32)
            }
            other => other,
        };
        compose(lambda, lambda, |_| false, rename)
    });
    kernel
}

fn joined(producer: &Kernel, reduce: &Reduce, consumer: &Kernel) -> Option<Kernel> {
    let first = producer.loads.len();
    let stages = reduce.stages.len();
    let is_result = |arg: Arg| match arg {
        Arg::Load(load) => consumer.loads[load as usize - first].buffer == producer.output.buffer,
        _ => false,
    };
    // The consumer's own stages come after the producer's.
    let take = |lambda: &Lambda| {
        compose(
            &shift_loads(lambda, first),
            &reduce.result,
            |arg| is_own_load(arg, first) && is_result(arg),
            |arg| match arg {
                Arg::Reduced(stage) => Arg::Reduced(stage + stages as u32),
                other => other,
            },
        )
    };
    let mut all = reduce.stages.clone();
    let (result, per_element) = match &consumer.body {
        Body::Map(lambda) => (take(lambda), true),
        Body::Reduce(own) => {
            all.extend(own.stages.iter().map(|stage| Stage { input: take(&stage.input), op: stage.op }));
            (take(&own.result), own.per_element)
        }
        Body::Contract(_) | Body::Gather(_) | Body::Attend(_) => return None,
    };
    let mut kernel = consumer.clone();
    kernel.name = joined_name(&producer.name, &consumer.name);
    kernel.loads = producer.loads.iter().chain(&consumer.loads).cloned().collect();
    kernel.body = Body::Reduce(Reduce { reduced: reduce.reduced, stages: all, result, per_element });
    Some(tidied(kernel))
}

fn is_own_load(arg: Arg, first: usize) -> bool {
    matches!(arg, Arg::Load(load) if load as usize >= first)
}
