//! Machine code of our own for scalar functions over contiguous elements, in vectors of 256 and 512 bits.
//!
//! Cranelift's widest vectors have 128 bits. What a kernel does to each element is a straight line of instructions without
//! memory or control flow, for which a small compiler is enough: [`lower`] chooses instructions, [`allocate`] registers,
//! [`encode`] writes bytes, and [`function`] puts loops around them. The code computes what Cranelift's would, bit for bit:
//! each scalar instruction has one IEEE or integer instruction, or a short exact sequence.
//!
//! A function has the System V convention, whatever the host's, and takes four 64-bit arguments:
//!
//! - the table: an address for each operand. Of a [`Feed::Stream`] that of the first element; of a [`Feed::Value`] that of
//!   the value; of a [`Feed::Ramp`] that of the first index, of 32 bits. Elements have 4 bytes, and bools are words, of
//!   which 0 is false;
//! - where the results go: the elements of a map, the one result of a reduction;
//! - the number of elements;
//! - where terms go that are kept.
//!
//! It reads no elements but these, writes nothing but the results and the terms, and calls nothing.

mod allocate;
mod encode;
mod function;
mod idioms;
mod lower;

use loom_ir::kernel::ReduceOp;
use loom_ir::kernel::scalar::ScalarFn;
use loom_ir::types::DType;

pub(crate) use encode::Isa;

/// Where a parameter of a function comes from, whose number is its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Feed {
    /// One element after another.
    Stream,
    /// The same for every element.
    Value,
    /// An index that grows by one.
    Ramp,
}

/// What is done with a function's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They are written, one after another.
    Map,
    /// At most a block of them is added in the order of LN1, from +0.0. Terms that are kept are written, too.
    Sum { keep: bool },
    /// They are reduced as integers of this type, beginning with these bits.
    Integers(ReduceOp, DType, u32),
}

/// A function to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wide {
    /// Without library operations.
    pub function: ScalarFn,
    /// By parameter.
    pub feeds: Vec<Feed>,
    pub purpose: Purpose,
}

impl Wide {
    /// The code, or `None` if it needs an operation that vectors don't have, or too much of the stack.
    pub(crate) fn compile(&self, isa: Isa) -> Option<Vec<u8>> {
        let lowered = lower::lower(&self.function, &self.feeds, isa)?;
        function::emit(&lowered, &self.feeds, self.purpose, isa)
    }
}

/// The wide functions of a program.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Without one, there are no wide functions.
    isa: Option<Isa>,
    known: Vec<(Wide, Option<Vec<u8>>)>,
}

impl Pool {
    pub(crate) fn new(isa: Option<Isa>) -> Pool {
        Pool { isa, known: Vec::new() }
    }

    /// The number of a function, if it can be compiled. Equal ones have the same.
    pub(crate) fn add(&mut self, wide: Wide) -> Option<usize> {
        let isa = self.isa?;
        let number = self.known.iter().position(|(known, _)| *known == wide).unwrap_or_else(|| {
            let code = wide.compile(isa);
            self.known.push((wide, code));
            self.known.len() - 1
        });
        self.known[number].1.is_some().then_some(number)
    }

    /// The code of all functions, by number. What can't be compiled is empty, and isn't called.
    pub(crate) fn into_codes(self) -> impl Iterator<Item = Vec<u8>> {
        self.known.into_iter().map(|(_, code)| code.unwrap_or_default())
    }
}
