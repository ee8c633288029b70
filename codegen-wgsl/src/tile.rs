//! The tiles of contractions.

use crate::target::{Class, ContractShape, Limits};

/// The shape of a tiled contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Teams: parts of the workgroup that add the terms of the same outputs, chunk by chunk in turn.
    pub teams: u32,
    /// Invocations of a team along the rows.
    pub threads_rows: u32,
    /// Invocations of a team along the columns.
    pub threads_columns: u32,
    /// Rows an invocation.
    pub rows: u32,
    /// Columns an invocation.
    pub columns: u32,
    /// Reduced terms a step; with the number of buffers it divides the chunk of 256.
    pub step: u32,
    /// Terms that the text of a step's loop holds; divides the step.
    pub unrolled: u32,
    /// Steps in workgroup memory, 1 or 2: the one that is computed, and the one that comes.
    pub buffers: u32,
}

impl Tile {
    /// Invocations of a team.
    pub const fn members(&self) -> u32 {
        self.threads_rows * self.threads_columns
    }

    /// Invocations of the workgroup.
    pub const fn invocations(&self) -> u32 {
        self.teams * self.members()
    }

    /// Output rows of the workgroup.
    pub const fn height(&self) -> u32 {
        self.threads_rows * self.rows
    }

    /// Output columns of the workgroup.
    pub const fn width(&self) -> u32 {
        self.threads_columns * self.columns
    }

    /// Outputs of the workgroup.
    pub const fn outputs(&self) -> u32 {
        self.height() * self.width()
    }

    /// Bytes of workgroup memory, at most: strips of words of up to four numbers, padded by one, and the teams' sums.
    pub const fn storage(&self) -> u32 {
        let strips = (self.height() + self.width() + 8) * self.step * self.buffers * self.teams;
        let sums = if self.teams > 1 { self.teams * self.outputs() } else { 0 };
        4 * (strips + sums)
    }
}

/// What a template takes of one of the device's units, in picoseconds on the GPU that they were measured on (an H100,
/// docs/performance-gpu.md). Only how they compare matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// For each product.
    pub product: u32,
    /// For each output, however few its terms are.
    pub output: u32,
}

/// A tile of one team of 16 x 16 invocations.
const fn square(own: u32, step: u32, unrolled: u32, buffers: u32) -> Tile {
    Tile { teams: 1, threads_rows: 16, threads_columns: 16, rows: own, columns: own, step, unrolled, buffers }
}

/// A tile of several teams.
const fn split(teams: u32, threads: (u32, u32), own: (u32, u32), step: u32) -> Tile {
    let ((threads_rows, threads_columns), (rows, columns)) = (threads, own);
    Tile { teams, threads_rows, threads_columns, rows, columns, step, unrolled: 4, buffers: 1 }
}

const fn cost(product: u32, output: u32) -> Cost {
    Cost { product, output }
}

/// Tiles for GPUs with their own memory: of many outputs, of few outputs of many terms, and of a few rows or columns,
/// which wait for memory.
const DISCRETE: [(Tile, Cost); 8] = [
    (square(8, 16, 8, 2), cost(10, 2000)),
    (Tile { columns: 8, ..square(4, 16, 8, 1) }, cost(11, 900)),
    (square(4, 16, 1, 1), cost(11, 1000)),
    (split(8, (4, 8), (4, 2), 16), cost(25, 1000)),
    (split(8, (1, 16), (1, 1), 32), cost(180, 1000)),
    (split(4, (1, 32), (4, 1), 32), cost(80, 1000)),
    (split(8, (16, 1), (1, 1), 32), cost(180, 1000)),
    (split(4, (32, 1), (1, 4), 32), cost(80, 1000)),
];
/// Tiles for GPUs that share the CPU's memory.
const INTEGRATED: [(Tile, Cost); 2] = [(square(4, 16, 1, 1), cost(11, 1000)), (square(2, 32, 1, 1), cost(20, 1000))];
/// An invocation alone, with neighbours that read neighbouring words.
const DIRECT: Cost = cost(80, 0);

/// The shapes of contractions for a class within limits.
pub(crate) fn shapes(class: Class, limits: &Limits) -> Vec<ContractShape> {
    let tiles: &[(Tile, Cost)] = match class {
        Class::Software => &[],
        Class::Integrated => &INTEGRATED,
        Class::Discrete => &DISCRETE,
    };
    let fits = |tile: &Tile| {
        tile.invocations() <= limits.invocations_per_workgroup && tile.storage() <= limits.workgroup_storage
    };
    let tiled = tiles.iter().filter(|(tile, _)| fits(tile)).map(|&(tile, cost)| ContractShape::Tiled { tile, cost });
    tiled.chain([ContractShape::Direct { cost: DIRECT }]).collect()
}
