//! The order of sums, as data (LN1 sections 3 and 4).

use serde::{Deserialize, Serialize};

/// How a product joins an accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mac {
    /// The product is rounded, then the sum.
    #[default]
    Split,
}

/// The order of a contraction's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContractSpec {
    /// Terms are added in order, from +0.0, within chunks of this many; then the chunks' sums are added in order.
    pub chunk: u32,
    /// How a product joins the accumulator.
    pub mac: Mac,
}

impl Default for ContractSpec {
    fn default() -> ContractSpec {
        ContractSpec { chunk: 256, mac: Mac::Split }
    }
}

/// The order of a sum of `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SumSpec {
    /// Blocks of this many consecutive terms are summed on their own; their sums are a new row.
    pub block: u32,
    /// Lane `l` of a block adds terms `l`, `l + lanes`, … in order from +0.0; then lanes fold by halves.
    pub lanes: u32,
}

impl Default for SumSpec {
    fn default() -> SumSpec {
        SumSpec { block: 4096, lanes: 32 }
    }
}

/// `Σ a·b` over the pairs, in the order of the spec.
pub fn contract(pairs: impl IntoIterator<Item = (f32, f32)>, spec: ContractSpec) -> f32 {
    let Mac::Split = spec.mac;
    let mut total = None;
    let mut chunk = 0.0f32;
    let mut count = 0;
    for (a, b) in pairs {
        if count == spec.chunk {
            total = Some(add_chunk(total, chunk));
            (chunk, count) = (0.0, 0);
        }
        chunk += a * b;
        count += 1;
    }
    add_chunk(total, chunk)
}

/// The first chunk's sum is the total itself; the others are added to it.
fn add_chunk(total: Option<f32>, chunk: f32) -> f32 {
    total.map_or(chunk, |total| total + chunk)
}

/// The sum of the values in the order of the spec.
pub fn sum(values: &[f32], spec: SumSpec) -> f32 {
    let sums: Vec<f32> = values.chunks(spec.block as usize).map(|block| sum_block(block, spec.lanes)).collect();
    match sums.as_slice() {
        [] => 0.0,
        [sum] => *sum,
        sums => self::sum(sums, spec),
    }
}

/// One block: lanes, then folds by halves.
fn sum_block(block: &[f32], lanes: u32) -> f32 {
    let mut sums = vec![0.0f32; lanes as usize];
    for (index, &value) in block.iter().enumerate() {
        sums[index % lanes as usize] += value;
    }
    let mut width = lanes as usize;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}
