//! Which template a contraction takes: the one that should be done first, by a rule that knows no clock.
//!
//! A device is so many units, each of which takes one workgroup at a time, and a template takes the same for every
//! product and every output of a tile, whether they lie inside the matrices or not. What a product costs was measured
//! once, on a large GPU; only the order of what comes out matters.

use crate::target::{ContractShape, Target};
use crate::tile::{Cost, Tile};

/// How much longer an invocation alone takes where its neighbours' operands lie apart.
const APART: u32 = 5;

/// The sizes of a contraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub batches: u64,
    pub rows: u64,
    pub columns: u64,
    pub terms: u64,
    /// Terms of a chunk.
    pub chunk: u64,
    /// Whether outputs that are neighbours have an operand that is no neighbour in memory.
    pub apart: bool,
}

/// The shape of least cost among those of the target, the first of equals; `None` stands for an invocation alone.
pub(super) fn choose(target: &Target, sizes: Sizes) -> Option<Tile> {
    if sizes.terms == 0 {
        return None;
    }
    match target.shapes.contract.iter().min_by_key(|shape| estimate(target, sizes, shape))? {
        ContractShape::Direct { .. } => None,
        ContractShape::Tiled { tile, .. } => Some(*tile),
    }
}

/// The least cost, in picoseconds.
pub(super) fn least(target: &Target, sizes: Sizes) -> u128 {
    target.shapes.contract.iter().map(|shape| estimate(target, sizes, shape)).min().unwrap_or(0)
}

fn estimate(target: &Target, sizes: Sizes, shape: &ContractShape) -> u128 {
    let Sizes { batches, rows, columns, terms, chunk, apart } = sizes;
    match *shape {
        ContractShape::Direct { cost } => {
            let workgroup = u64::from(target.shapes.workgroup);
            let workgroups = (batches * rows * columns).div_ceil(workgroup);
            let product = if apart { cost.product * APART } else { cost.product };
            turns(target, workgroups) * time(workgroup, terms, Cost { product, ..cost })
        }
        ContractShape::Tiled { tile, cost } => {
            let (down, across) = (rows.div_ceil(tile.height().into()), columns.div_ceil(tile.width().into()));
            let terms = own_terms(tile, terms, chunk) * u64::from(tile.teams);
            turns(target, batches * down * across) * time(tile.outputs().into(), terms, cost)
        }
    }
}

/// What a workgroup takes for so many outputs of so many terms.
fn time(outputs: u64, terms: u64, cost: Cost) -> u128 {
    u128::from(outputs) * (u128::from(terms) * u128::from(cost.product) + u128::from(cost.output))
}

/// How often the device's units take a workgroup.
fn turns(target: &Target, workgroups: u64) -> u128 {
    workgroups.div_ceil(target.shapes.units.into()).into()
}

/// The terms of an output that one team goes through.
fn own_terms(tile: Tile, terms: u64, chunk: u64) -> u64 {
    let terms = terms.next_multiple_of(tile.step.into());
    let rounds = terms.div_ceil(chunk * u64::from(tile.teams));
    terms.min(rounds * chunk)
}

#[cfg(test)]
mod tests {
    use super::super::CHUNK;
    use super::*;
    use crate::target::{Class, Limits};

    /// The tile for operands that lie apart where there are rows to lie apart.
    fn chosen(batches: u64, rows: u64, columns: u64, terms: u64) -> Option<Tile> {
        let large = Limits { workgroup_storage: 49152, invocations_per_workgroup: 1024, ..Limits::PORTABLE };
        let apart = rows > 1;
        choose(&Target::new(Class::Discrete, large), Sizes { batches, rows, columns, terms, chunk: CHUNK, apart })
    }

    #[test]
    fn many_outputs_take_large_tiles_and_few_take_teams() {
        let (large, middle) = (chosen(1, 4096, 4096, 4096).unwrap(), chosen(1, 1024, 1024, 1024).unwrap());
        assert!(large.outputs() > middle.outputs() && middle.teams == 1, "{large:?}, {middle:?}");
        let (row, column) = (chosen(1, 1, 4096, 4096).unwrap(), chosen(1, 4096, 1, 4096).unwrap());
        assert!(row.teams > 1 && row.height() == 1, "{row:?}");
        assert_eq!((column.height(), column.width()), (row.width(), row.height()));
        // 49 chunks of few outputs.
        assert!(chosen(1, 256, 128, 12544).unwrap().teams > 1);
    }

    #[test]
    fn small_sums_are_left_to_invocations_alone() {
        // A convolution of one channel, whose windows are neighbours; sums without terms.
        let windows = Sizes { batches: 256, rows: 8, columns: 784, terms: 25, chunk: CHUNK, apart: false };
        assert_eq!(choose(&Target::new(Class::Discrete, Limits::PORTABLE), windows), None);
        assert_eq!(chosen(1, 4096, 4096, 0), None);
    }

    #[test]
    fn the_largest_sizes_have_a_cost() {
        assert!(chosen(1, 1 << 30, 1, 1 << 30).is_some());
        assert!(chosen(1 << 15, 1 << 15, 1, 1 << 30).is_some());
    }
}
