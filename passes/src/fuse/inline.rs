//! The inline rule: a map is computed where its elements are read.

use loom_ir::kernel::scalar::{BinaryOp, Inst, UnaryOp};
use loom_ir::kernel::{Arg, Body, Kernel, Lambda, Program};

use super::compose::{compose, map_lambdas, shift_loads, tidied};
use super::{Readers, joined_name, plain_output};

/// A function of at most this many instructions, none of them costly, may be computed again for every reader: about what
/// a load costs.
const CHEAP_INSTRUCTIONS: usize = 4;

/// Inlines one producer into the consumer, if any may be.
pub fn fuse(program: &Program, readers: &Readers, consumer: usize) -> Option<Kernel> {
    let kernel = &program.kernels[consumer];
    (0..kernel.loads.len()).find_map(|load| {
        let producer = readers.producer(program, kernel.loads[load].buffer)?;
        let producer = &program.kernels[producer];
        let Body::Map(lambda) = &producer.body else { return None };
        let allowed = if is_cheap(lambda) {
            // Only if the producer goes away for it.
            readers
                .loads(producer.output.buffer)
                .all(|(reader, load)| can_inline(&program.kernels[reader], load, producer))
        } else {
            readers.loads(producer.output.buffer).count() == 1 && read_once(program, kernel, load)
        };
        (allowed && can_inline(kernel, load, producer)).then(|| inlined(kernel, load, producer, lambda))
    })
}

fn is_cheap(lambda: &Lambda) -> bool {
    let costly = |inst: &Inst| match inst {
        Inst::Unary(op, _) => op.is_library() || *op == UnaryOp::Sqrt,
        Inst::Binary(op, ..) => op.is_library() || matches!(op, BinaryOp::Div | BinaryOp::Rem),
        _ => false,
    };
    let function = &lambda.function;
    let working = function.insts.iter().filter(|inst| !matches!(inst, Inst::Const(..))).count();
    working <= CHEAP_INSTRUCTIONS && !function.insts.iter().any(costly)
}

/// Whether the load's place lets the producer's function stand for it.
fn can_inline(consumer: &Kernel, load: usize, producer: &Kernel) -> bool {
    let access = &consumer.loads[load];
    let Body::Map(lambda) = &producer.body else { return false };
    // The operands of a contraction are read many times over: they stay in memory.
    let operand = match &consumer.body {
        Body::Contract(contract) => {
            contract.lhs.loads().chain(contract.rhs.loads()).any(|number| number as usize == load)
        }
        _ => false,
    };
    let bare = |arg: &Arg| match *arg {
        Arg::Index(axis) => access.coords[axis as usize].as_axis().is_some(),
        _ => true,
    };
    !operand
        && access.guards.is_empty()
        && plain_output(producer)
        && access.shape == producer.output.shape
        && lambda.args.iter().all(bare)
}

/// Whether the consumer computes with each element of the buffer at most once.
fn read_once(program: &Program, consumer: &Kernel, load: usize) -> bool {
    let elements = program.buffer(consumer.loads[load].buffer).shape.elements();
    let outputs: u64 = consumer.axes[..consumer.output_axes()].iter().product();
    let all: u64 = consumer.axes.iter().product();
    let uses = |lambda: &Lambda| lambda.loads().any(|number| number as usize == load);
    let times = match &consumer.body {
        Body::Map(_) => all,
        Body::Reduce(reduce) => {
            let stages = reduce.stages.iter().filter(|stage| uses(&stage.input)).count() as u64;
            stages * all + if uses(&reduce.result) { outputs } else { 0 }
        }
        Body::Contract(_) => outputs,
        // An element may be named any number of times.
        Body::Gather(gather) if uses(&gather.result) => u64::MAX,
        Body::Gather(_) => outputs,
        // Made after all else.
        Body::Attend(_) => u64::MAX,
    };
    times <= elements
}

fn inlined(consumer: &Kernel, load: usize, producer: &Kernel, lambda: &Lambda) -> Kernel {
    let access = &consumer.loads[load];
    let mut kernel = consumer.clone();
    kernel.name = joined_name(&producer.name, &consumer.name);
    let first = kernel.loads.len();
    // The producer's axes are the coordinates at which the consumer reads.
    let count = consumer.axes.len();
    kernel.loads.extend(producer.loads.iter().map(|inner| inner.substitute(&access.coords, count)));
    let mut lambda = shift_loads(lambda, first);
    for arg in &mut lambda.args {
        if let Arg::Index(axis) = *arg
            && let Some(axis) = access.coords[axis as usize].as_axis()
        {
            *arg = Arg::Index(axis as u32);
        }
    }
    let taken = Arg::Load(load as u32);
    map_lambdas(&mut kernel.body, |outer| compose(outer, &lambda, |arg| arg == taken, |arg| arg));
    tidied(kernel)
}
