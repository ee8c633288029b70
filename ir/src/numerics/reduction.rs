//! The order of sums, as data (LN1 sections 3 and 4).
//!
//! Floating-point addition isn't associative: the order is the result. It's a function of the number of terms alone,
//! never of batch size, tile, thread count or device, and appending terms that are +0.0 changes nothing.
//!
//! A contraction of K terms ([`ContractSpec`], chunk = 256):
//!
//! ```text
//! for c in 0 .. ceil(K/chunk):
//!     acc[c] = +0.0
//!     for k in c*chunk .. min(K, (c+1)*chunk):
//!         acc[c] = acc[c] + a[k]*b[k]         # two roundings
//! total = acc[0]; total = total + acc[1]; ... # K = 0: +0.0
//! ```
//!
//! A sum of N terms ([`SumSpec`], block = 4096, lanes = 32):
//!
//! ```text
//! repeat                                      # once at least, unless N = 0: +0.0
//!     for each block of the row:
//!         lane[l] = +0.0 + x[l] + x[l+lanes] + ...   # l counted from the block's start
//!         for half in lanes/2, lanes/4 .. 1: lane[l] = lane[l] + lane[l+half] for l < half
//!         emit lane[0]
//!     row = what was emitted
//! until one value is left
//! ```
//!
//! [`contract`] and [`sum`] are these, slow and obvious, of `f32` and of `f64`: what executors are tested against.

use std::ops::{Add, Mul};

use serde::{Deserialize, Serialize};

use crate::types::DType;

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

/// The contraction of integers: of each factor the low bits, with their sign, products and sums of 32 bits, wrapping. Sums
/// wrap, so their order is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerSpec {
    /// How many low bits of a factor count.
    pub bits: u32,
}

impl Default for IntegerSpec {
    fn default() -> IntegerSpec {
        IntegerSpec { bits: 8 }
    }
}

impl IntegerSpec {
    /// The most terms of which no sum leaves 32 bits: each is at most 2^14 in size.
    pub const MOST_TERMS: u64 = (i32::MAX as u64) >> 14;

    /// The same where one factor is a code less a zero point, so that it is at most 255 in size.
    pub const MOST_AFFINE_TERMS: u64 = (i32::MAX as u64) / (255 << 7);

    /// The low bits of a factor, with their sign.
    pub const fn factor(self, value: i32) -> i32 {
        let unused = 32 - self.bits;
        (value << unused) >> unused
    }
}

/// What a contraction multiplies, and how the products are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Products {
    /// `f32`, in this order.
    Float(ContractSpec),
    /// Small integers, in `i32`.
    Integer(IntegerSpec),
}

impl Default for Products {
    fn default() -> Products {
        Products::Float(ContractSpec::default())
    }
}

impl Products {
    /// The type of factors and totals.
    pub const fn dtype(self) -> DType {
        match self {
            Products::Float(_) => DType::F32,
            Products::Integer(_) => DType::I32,
        }
    }

    /// The bits of a total, from the bits of its factors.
    pub fn total(self, pairs: impl IntoIterator<Item = (u32, u32)>) -> u32 {
        match self {
            Products::Float(spec) => {
                let pairs = pairs.into_iter().map(|(a, b)| (f32::from_bits(a), f32::from_bits(b)));
                contract(pairs, spec).to_bits()
            }
            Products::Integer(spec) => {
                let products = pairs.into_iter().map(|(a, b)| spec.factor(a as i32) * spec.factor(b as i32));
                products.fold(0i32, i32::wrapping_add) as u32
            }
        }
    }
}

/// The order of a sum of floats.
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

/// A float that is summed: `f32` or `f64`, each operation rounded to it.
pub trait Float: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// +0.
    const ZERO: Self;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
}

/// `Σ a·b` over the pairs, in the order of the spec.
pub fn contract<T: Float>(pairs: impl IntoIterator<Item = (T, T)>, spec: ContractSpec) -> T {
    let Mac::Split = spec.mac;
    let mut total = None;
    let mut chunk = T::ZERO;
    let mut count = 0;
    for (a, b) in pairs {
        if count == spec.chunk {
            total = Some(add_chunk(total, chunk));
            (chunk, count) = (T::ZERO, 0);
        }
        chunk = chunk + a * b;
        count += 1;
    }
    add_chunk(total, chunk)
}

/// The first chunk's sum is the total itself; the others are added to it.
fn add_chunk<T: Float>(total: Option<T>, chunk: T) -> T {
    total.map_or(chunk, |total| total + chunk)
}

/// The sum of the values in the order of the spec.
pub fn sum<T: Float>(values: &[T], spec: SumSpec) -> T {
    let sums: Vec<T> = values.chunks(spec.block as usize).map(|block| sum_block(block, spec.lanes)).collect();
    match sums.as_slice() {
        [] => T::ZERO,
        [sum] => *sum,
        sums => self::sum(sums, spec),
    }
}

/// One block: lanes, then folds by halves.
fn sum_block<T: Float>(block: &[T], lanes: u32) -> T {
    let mut sums = vec![T::ZERO; lanes as usize];
    for (index, &value) in block.iter().enumerate() {
        let lane = index % lanes as usize;
        sums[lane] = sums[lane] + value;
    }
    let mut width = lanes as usize;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] = sums[lane] + sums[lane + width];
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values whose sums round, so that another order gives other bits.
    fn values(count: usize) -> Vec<f32> {
        (0..count as u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 8) as f32 / 65_536.0 - 100.0).collect()
    }

    /// The rule once more, with explicit indices and no helper in common.
    fn sum_by_index(values: &[f32], block: usize, lanes: usize) -> f32 {
        let mut row = values.to_vec();
        if row.is_empty() {
            return 0.0;
        }
        loop {
            let mut next = Vec::new();
            for start in (0..row.len()).step_by(block) {
                let end = row.len().min(start + block);
                let mut lane = vec![0.0f32; lanes];
                for (l, sum) in lane.iter_mut().enumerate() {
                    let mut index = start + l;
                    while index < end {
                        *sum += row[index];
                        index += lanes;
                    }
                }
                while lane.len() > 1 {
                    let upper = lane.split_off(lane.len() / 2);
                    lane.iter_mut().zip(upper).for_each(|(low, high)| *low += high);
                }
                next.push(lane[0]);
            }
            row = next;
            if row.len() == 1 {
                return row[0];
            }
        }
    }

    #[test]
    fn sums_follow_the_rule_at_every_boundary() {
        for count in [0, 1, 2, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097, 8192, 8193, 3 * 4096 + 5] {
            let values = values(count);
            let got = sum(&values, SumSpec::default());
            assert_eq!(got.to_bits(), sum_by_index(&values, 4096, 32).to_bits(), "{count} values");
        }
    }

    /// The same order in `f64`: of the terms widened, so few bits that no sum rounds, the sums are exact; one huge pair among
    /// them tells where the two of it meet, by what the numbers between them lose.
    #[test]
    fn doubles_are_summed_in_the_same_order() {
        for count in [1, 31, 33, 4096, 4097, 9000] {
            let exact: Vec<f64> = (0..count).map(|k| f64::from(k % 1000 + 1)).collect();
            assert_eq!(sum(&exact, SumSpec::default()), exact.iter().sum::<f64>(), "{count} values");
        }
        // Lane 0 of the first block has the huge one, the number 3.0 and then what takes it back; lane 1 the number 5.0.
        let huge = f64::powi(2.0, 60);
        let mut values = vec![0.0; 65];
        (values[0], values[1], values[32], values[64]) = (huge, 5.0, 3.0, -huge);
        assert_eq!(sum(&values, SumSpec::default()), 5.0);
        let ones = |count: usize| std::iter::repeat_n(1.0, count);
        // Chunks of 256: what follows the huge product in its chunk is lost, what comes in the next is not.
        let a: Vec<f64> = [huge].into_iter().chain(ones(254)).chain([-huge]).chain(ones(10)).collect();
        assert_eq!(contract(a.iter().map(|&a| (a, 1.0)), ContractSpec::default()), 10.0);
    }

    #[test]
    fn block_sums_are_summed_by_the_same_rule() {
        // Three levels from 65 values on, as 4096^2 + 1 has in the real specification.
        let spec = SumSpec { block: 8, lanes: 4 };
        for count in [1, 7, 8, 9, 63, 64, 65, 511, 512, 513] {
            let values = values(count);
            assert_eq!(sum(&values, spec).to_bits(), sum_by_index(&values, 8, 4).to_bits(), "{count} values");
        }
        // By hand: the ninth value makes a block of its own, its sum the second term of the next row.
        let values: Vec<f32> = (1..=9).map(|k| 1.0 / k as f32).collect();
        let v = |k: usize| values[k - 1];
        let first = ((v(1) + v(5)) + (v(3) + v(7))) + ((v(2) + v(6)) + (v(4) + v(8)));
        assert_eq!(sum(&values, spec).to_bits(), (first + v(9)).to_bits());
    }

    #[test]
    fn a_sum_begins_with_plus_zero() {
        for count in [0, 1, 32, 33, 4097] {
            let got = sum(&vec![-0.0f32; count], SumSpec::default());
            assert_eq!(got.to_bits(), 0, "{count} values -0.0");
        }
        assert_eq!(contract([(-0.0f32, 1.0)], ContractSpec::default()).to_bits(), 0);
        assert_eq!(contract::<f32>([], ContractSpec::default()).to_bits(), 0);
        assert_eq!(contract([(-0.0, 1.0)], ContractSpec::default()), 0.0f64);
        assert_eq!(sum::<f64>(&[], SumSpec::default()).to_bits(), 0);
    }

    #[test]
    fn appended_zeros_change_nothing() {
        let spec = SumSpec { block: 8, lanes: 4 };
        for count in [1, 5, 8, 60, 64] {
            let mut values = values(count);
            let want = sum(&values, spec);
            for _ in 0..200 {
                values.push(0.0);
                assert_eq!(sum(&values, spec).to_bits(), want.to_bits(), "{count} of {}", values.len());
            }
        }
    }

    #[test]
    fn a_contraction_adds_its_chunks_in_order() {
        let a = values(1000);
        let b: Vec<f32> = a.iter().rev().copied().collect();
        for count in [1, 255, 256, 257, 512, 513, 1000] {
            let mut total: Option<f32> = None;
            for start in (0..count).step_by(256) {
                let mut chunk = 0.0f32;
                for k in start..count.min(start + 256) {
                    chunk += a[k] * b[k];
                }
                total = Some(total.map_or(chunk, |total| total + chunk));
            }
            let pairs = a.iter().copied().zip(b.iter().copied()).take(count);
            let got = contract(pairs, ContractSpec::default());
            assert_eq!(Some(got.to_bits()), total.map(f32::to_bits), "{count} terms");
        }
    }

    #[test]
    fn products_are_rounded_before_they_are_added() {
        // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term is lost in the product, so that nothing is left.
        let a = 1.0 + 1.0 / 4096.0;
        let got = contract([(1.0 + 1.0 / 2048.0, -1.0), (a, a)], ContractSpec::default());
        assert_eq!(f32::to_bits(got), 0);
        // In f64 it is not lost; there (1 + 2^-27)^2 loses its 2^-54.
        let a = 1.0 + 1.0 / 4096.0;
        let got = contract([(1.0 + 1.0 / 2048.0, -1.0), (a, a)], ContractSpec::default());
        assert_eq!(got, f64::powi(2.0, -24));
        let a = 1.0 + f64::powi(2.0, -27);
        let got = contract([(1.0 + f64::powi(2.0, -26), -1.0), (a, a)], ContractSpec::default());
        assert_eq!(got.to_bits(), 0);
    }

    #[test]
    fn integers_count_by_their_low_bits() {
        let integers = Products::Integer(IntegerSpec::default());
        let total = |pairs: &[(i32, i32)]| integers.total(pairs.iter().map(|&(a, b)| (a as u32, b as u32))) as i32;
        assert_eq!(total(&[(-128, -128), (127, -128), (0x1_7f, 0x80)]), 128 * 128 - 127 * 128 - 127 * 128);
        // The greatest sum that fits, and the first that does not.
        let most = IntegerSpec::MOST_TERMS as usize;
        assert_eq!(most, 131_071);
        assert_eq!(total(&vec![(-128, -128); most]), 131_071 << 14);
        assert_eq!(total(&vec![(-128, -128); most + 1]), i32::MIN);
        assert_eq!(total(&[]), 0);
    }

    #[test]
    fn specifications_are_data() {
        let text = serde_json::to_string(&ContractSpec::default()).expect("serialises");
        assert_eq!(text, r#"{"chunk":256,"mac":"split"}"#);
        let text = serde_json::to_string(&SumSpec::default()).expect("serialises");
        assert_eq!(text, r#"{"block":4096,"lanes":32}"#);
        assert_eq!(serde_json::from_str::<SumSpec>(&text).expect("reads back"), SumSpec::default());
        for products in [Products::default(), Products::Integer(IntegerSpec::default())] {
            let text = serde_json::to_string(&products).expect("serialises");
            assert_eq!(serde_json::from_str::<Products>(&text).expect("reads back"), products, "{text}");
        }
    }
}
