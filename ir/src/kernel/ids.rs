//! Inputs that hold row numbers.
//!
//! A gather gives zero for a row that there isn't, on every device. A caller who asks for such a row has made a mistake
//! all the same, and can be told before anything runs: the program itself says which inputs hold the numbers of rows.

use std::collections::BTreeMap;

use super::program::{Body, BufferId, BufferKind, Lambda, Program};
use super::scalar::Inst;

/// The inputs whose elements do nothing but name rows to gather, or are copied and converted to such names, with the
/// number of rows of the smallest table that each is used for. The program must be verified.
pub fn rows_named(program: &Program) -> BTreeMap<BufferId, u64> {
    // For each buffer the numbers in it, by the smallest table; found from the last kernel to the first.
    let mut named: BTreeMap<BufferId, u64> = BTreeMap::new();
    for kernel in program.kernels.iter().rev() {
        let (lambda, rows) = match &kernel.body {
            Body::Gather(gather) => (&gather.index, kernel.axes.last().copied()),
            Body::Map(lambda) => (lambda, named.get(&kernel.output.buffer).copied()),
            Body::Reduce(_) | Body::Contract(_) | Body::Attend(_) => continue,
        };
        if let (Some(rows), true) = (rows, only_converts(lambda)) {
            for load in lambda.loads() {
                let least = named.entry(kernel.loads[load as usize].buffer).or_insert(rows);
                *least = rows.min(*least);
            }
        }
    }
    named.retain(|id, _| program.buffer(*id).kind == BufferKind::Input);
    named
}

/// Whether the result is the argument, converted.
fn only_converts(lambda: &Lambda) -> bool {
    lambda.args.len() == 1 && lambda.function.insts.iter().all(|inst| matches!(inst, Inst::Convert(..)))
}
