//! What one element of a kernel's output is made of: every value that is loaded for it.

use crate::kernel::{Access, Arg, Body, BufferId, Gather, Kernel, Lambda};

use super::program::Memory;
use super::scalar::evaluate;

/// The values that made an element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operands {
    /// The element's index on the kernel's axes, those that are reduced left out.
    pub index: Vec<u64>,
    /// The values in the order in which the interpreter loads them: the terms of reductions, then the rest.
    pub list: Vec<Operand>,
    /// How many terms are not in the list because there are too many.
    pub left_out: u64,
}

/// A value that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// For what.
    pub role: Role,
    /// From which buffer.
    pub buffer: BufferId,
    /// Which element of it; `None` where a guard keeps it from being touched and a fill stands for it.
    pub element: Option<u64>,
    /// The value's bits.
    pub bits: u32,
}

/// What a value is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The function that gives the element: the map's, or what follows a reduction.
    Result,
    /// A term of a reduction.
    Term {
        /// The reduction's stage.
        stage: usize,
        /// The term's number.
        term: u64,
    },
    /// The number of the row that a gather takes.
    Row,
    /// The left factor of a product.
    Left(u64),
    /// The right factor of a product.
    Right(u64),
}

/// What made an element of a verified kernel's output, whose inputs are in `memory`. Of terms, the first `most` are listed.
///
/// `element` must be below the output's number of elements. What a loop writes again for each index of its first axis must
/// be in `memory` as it was for the element's.
pub fn operands(kernel: &Kernel, memory: &Memory, element: u64, most: usize) -> Operands {
    let index = index_of(kernel, element);
    let mut found = Operands { index: index[..kernel.output_axes()].to_vec(), ..Operands::default() };
    let at = |role: Role, lambda: &Lambda, index: &[u64]| -> Vec<Operand> {
        let access = |arg: &Arg| match *arg {
            Arg::Load(load) => kernel.loads.get(load as usize),
            Arg::Index(_) | Arg::Reduced(_) => None,
        };
        lambda.args.iter().filter_map(access).map(|access| load(access, memory, role, index)).collect()
    };
    let (result, reduced) = match &kernel.body {
        Body::Map(lambda) => (lambda, kernel.axes.len()),
        Body::Reduce(reduce) => (&reduce.result, kernel.axes.len() - reduce.reduced),
        Body::Contract(contract) => (&contract.epilogue, kernel.output_axes()),
        Body::Gather(gather) => return gathered(kernel, gather, &index, found, &at),
        Body::Attend(attend) => (&attend.result, kernel.output_axes()),
    };
    // Of an attention the terms are keys, each with its weight's operands: what its score is contracted of is left out.
    let terms_end = match &kernel.body {
        Body::Attend(attend) => reduced + attend.keys,
        _ => kernel.axes.len(),
    };
    let (row, extents) = (&index[..reduced], &kernel.axes[reduced..terms_end]);
    let terms = extents.iter().fold(1u64, |product, &extent| product.saturating_mul(extent));
    let shown = terms.min(most as u64);
    let index_of_first = vec![0; kernel.axes.len() - terms_end];
    for term in 0..shown {
        let index = [row, &unrank(term, extents)].concat();
        match &kernel.body {
            Body::Map(_) | Body::Gather(_) => {}
            Body::Reduce(reduce) => {
                for (stage, part) in reduce.stages.iter().enumerate() {
                    found.list.extend(at(Role::Term { stage, term }, &part.input, &index));
                }
            }
            Body::Contract(contract) => {
                found.list.extend(at(Role::Left(term), &contract.lhs, &index));
                found.list.extend(at(Role::Right(term), &contract.rhs, &index));
            }
            Body::Attend(attend) => {
                let index = [&index[..], &index_of_first].concat();
                found.list.extend(at(Role::Left(term), &attend.score, &index));
                for (stage, part) in attend.stages.iter().enumerate() {
                    found.list.extend(at(Role::Term { stage, term }, &part.input, &index));
                }
                found.list.extend(at(Role::Left(term), &attend.weight, &index));
                found.list.extend(at(Role::Right(term), &attend.value, &index));
            }
        }
    }
    found.list.extend(at(Role::Result, result, &index));
    found.left_out = terms - shown;
    found
}

/// What a lambda loads at an index.
type Loaded<'a> = dyn Fn(Role, &Lambda, &[u64]) -> Vec<Operand> + 'a;

/// What a gather's element is made of: what names the row, then what is read of it, if there is such a row.
fn gathered(kernel: &Kernel, gather: &Gather, index: &[u64], mut found: Operands, at: &Loaded<'_>) -> Operands {
    let named = at(Role::Row, &gather.index, index);
    let mut loaded = named.iter();
    let args: Vec<u32> = gather
        .index
        .args
        .iter()
        .map(|&arg| match arg {
            Arg::Load(_) => loaded.next().map_or(0, |operand| operand.bits),
            Arg::Index(axis) => index[axis as usize] as u32,
            Arg::Reduced(_) => 0,
        })
        .collect();
    let row = u64::from(evaluate(&gather.index.function, &args, &mut Vec::new()));
    found.list.extend(named);
    if let Some((_, outer)) = index.split_last()
        && kernel.axes.last().is_some_and(|&rows| row < rows)
    {
        found.list.extend(at(Role::Result, &gather.result, &[outer, &[row]].concat()));
    }
    found
}

fn load(access: &Access, memory: &Memory, role: Role, index: &[u64]) -> Operand {
    let element = access.element(index);
    let bits = element.map_or(access.fill, |element| memory.buffers[access.buffer.index()][element as usize]);
    Operand { role, buffer: access.buffer, element, bits }
}

/// The index at which a verified kernel writes an element; 0 on the axes that do not move its output.
pub fn index_of(kernel: &Kernel, element: u64) -> Vec<u64> {
    let linear = kernel.output.linear();
    let stride = |axis: usize| linear.coefficients.get(axis).map_or(0, |&stride| stride.unsigned_abs());
    let mut axes: Vec<usize> = (0..kernel.output_axes()).filter(|&axis| kernel.axes[axis] > 1).collect();
    // The verifier saw that the axes, sorted by stride, count through the buffer.
    axes.sort_unstable_by_key(|&axis| std::cmp::Reverse(stride(axis)));
    let mut index = vec![0; kernel.axes.len()];
    let mut rest = element;
    for axis in axes {
        let stride = stride(axis).max(1);
        index[axis] = rest / stride;
        rest %= stride;
    }
    index
}

/// The index with this number in row-major order.
fn unrank(number: u64, extents: &[u64]) -> Vec<u64> {
    let mut rest = number;
    let mut index: Vec<u64> = extents
        .iter()
        .rev()
        .map(|&extent| {
            let i = rest % extent.max(1);
            rest /= extent.max(1);
            i
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Affine, Contract, Guard};
    use crate::numerics::reduction::Products;
    use crate::types::{DType, Shape};

    /// `y[column, row] = Σ_k x[row, k - 1] · w[k, column]`, written transposed, `x` padded before its first column.
    fn kernel() -> Kernel {
        let axis = |axis: usize| Affine::axis(axis, 3);
        let access = |buffer: u32, shape: [u64; 2], coords: [Affine; 2]| Access {
            buffer: BufferId(buffer),
            shape: Shape::from(shape),
            coords: coords.to_vec(),
            guards: Vec::new(),
            fill: 0,
        };
        let mut padded = access(0, [2, 3], [axis(0), axis(2).shifted(-1)]);
        padded.guards = vec![Guard { expr: axis(2).shifted(-1), extent: 3 }];
        padded.fill = 0x7f80_0000;
        let factor = |load: u32| Lambda::identity(Arg::Load(load), DType::F32);
        Kernel {
            name: "contract".to_string(),
            axes: vec![2, 5, 4],
            loads: vec![padded, access(1, [4, 5], [axis(2), axis(1)])],
            body: Body::Contract(Contract {
                batch: 0,
                rows: 1,
                columns: 1,
                lhs: factor(0),
                rhs: factor(1),
                products: Products::default(),
                epilogue: Lambda::identity(Arg::Reduced(0), DType::F32),
            }),
            output: access(2, [5, 2], [axis(1), axis(0)]),
            in_loop: None,
        }
    }

    #[test]
    fn terms_of_a_transposed_padded_product() {
        let memory = Memory { buffers: vec![(100..106).collect(), (200..220).collect(), vec![0; 10]] };
        // y[3, 1]: row 1, column 3.
        let found = operands(&kernel(), &memory, 7, 3);
        assert_eq!((found.index, found.left_out), (vec![1, 3], 1));
        let buffers = |number: u32| BufferId(number);
        let left = |term: u64, element: Option<u64>, bits| Operand {
            role: Role::Left(term),
            buffer: buffers(0),
            element,
            bits,
        };
        let right = |term: u64, element: u64| Operand {
            role: Role::Right(term),
            buffer: buffers(1),
            element: Some(element),
            bits: 200 + element as u32,
        };
        let expected = [
            left(0, None, 0x7f80_0000),
            right(0, 3),
            left(1, Some(3), 103),
            right(1, 8),
            left(2, Some(4), 104),
            right(2, 13),
        ];
        assert_eq!(found.list, expected);
    }

    #[test]
    fn a_gather_is_made_of_its_place_and_what_lies_there() {
        let access = |buffer: u32, shape: Shape, coords: Vec<Affine>| Access {
            buffer: BufferId(buffer),
            shape,
            coords,
            guards: Vec::new(),
            fill: 0,
        };
        let kernel = Kernel {
            name: "gather".to_string(),
            axes: vec![2, 3],
            loads: vec![
                access(0, Shape::from([2]), vec![Affine::axis(0, 2)]),
                access(1, Shape::from([3]), vec![Affine::axis(1, 2)]),
            ],
            body: Body::Gather(Gather {
                index: Lambda::identity(Arg::Load(0), DType::U32),
                result: Lambda::identity(Arg::Load(1), DType::F32),
            }),
            output: access(2, Shape::from([2]), vec![Affine::axis(0, 2)]),
            in_loop: None,
        };
        let memory = Memory { buffers: vec![vec![2, 9], vec![10, 11, 12], vec![0; 2]] };
        let place = |element: u64, bits| Operand { role: Role::Row, buffer: BufferId(0), element: Some(element), bits };
        let there = Operand { role: Role::Result, buffer: BufferId(1), element: Some(2), bits: 12 };
        assert_eq!(operands(&kernel, &memory, 0, 9).list, [place(0, 2), there]);
        assert_eq!(operands(&kernel, &memory, 1, 9).list, [place(1, 9)], "there is no row 9");
    }

    #[test]
    fn endless_rows_are_cut() {
        let mut kernel = kernel();
        kernel.axes[2] = 1 << 30;
        kernel.loads[1].coords[0] = Affine::constant(0, 3);
        let memory = Memory { buffers: vec![vec![0; 6], vec![0; 20], vec![0; 10]] };
        let found = operands(&kernel, &memory, 0, 4);
        assert_eq!((found.list.len(), found.left_out), (8, (1 << 30) - 4));
    }
}
