//! Sums of `f32` in the order of LN1 section 4: blocks of 4096, 32 lanes a block, folds by halves, then the blocks' sums
//! by the same rule.
//!
//! There are two ways to use vectors, with the same bits:
//!
//! - *along*: one row whose consecutive terms come four at a time. The 32 lanes are 8 vectors;
//! - *across*: one row, or four rows side by side, term by term. The 32 lanes are 32 values in scratch memory.
//!
//! A lane that no term reaches stays +0.0, and adding it changes nothing: a lane with terms began as +0.0 plus a term and
//! so is never -0.0. Short rows leave such lanes out.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::DType;

use super::scalar::Lanes;
use super::{Gen, flags};

/// LN1's order, the only one that the verifier lets pass.
const SPEC: SumSpec = SumSpec { block: 4096, lanes: 32 };
const BLOCK: u64 = SPEC.block as u64;
const LANES: u64 = SPEC.lanes as u64;
/// Scratch bytes for the lanes of one block, or of four side by side.
const LANE_BYTES: u64 = LANES * 16;

/// Scratch memory for sums of `n` terms, with `lanes` rows side by side: the lanes, then the blocks' sums, level by level.
pub(crate) fn scratch_bytes(n: u64, lanes: Lanes) -> u64 {
    let (mut bytes, mut count) = (LANE_BYTES, n);
    while count > BLOCK {
        count = count.div_ceil(BLOCK);
        bytes += level_bytes(count, lanes);
    }
    bytes
}

fn level_bytes(count: u64, lanes: Lanes) -> u64 {
    (count * 4 * lanes.count()).next_multiple_of(16)
}

/// The term number `k` of a row, or those from `k` on.
pub(crate) type AlongTerm<'t> = &'t mut dyn FnMut(&mut Gen<'_>, Value, Lanes) -> Value;
/// The term number `k`, whose index is given.
pub(crate) type AcrossTerm<'t> = &'t mut dyn FnMut(&mut Gen<'_>, Value, &[Value]) -> Value;

impl Gen<'_> {
    /// The sum of `n` consecutive terms, given the sum of at most a block of them, from one number to another.
    pub(crate) fn sum_blocks(
        &mut self,
        n: u64,
        scratch: Value,
        block: &mut dyn FnMut(&mut Self, (Value, Value)) -> Value,
    ) -> Value {
        let sums = self.b.ins().iadd_imm_u(scratch, LANE_BYTES as i64);
        self.blocks_level(n, scratch, sums, block)
    }

    /// The sum of `n` consecutive terms. `light` terms are cheap enough to be written eight times.
    pub(crate) fn sum_along(&mut self, n: u64, scratch: Value, light: bool, term: AlongTerm<'_>) -> Value {
        let sums = self.b.ins().iadd_imm_u(scratch, LANE_BYTES as i64);
        self.along_level(n, scratch, sums, light, term)
    }

    fn along_level(&mut self, n: u64, lanes: Value, sums: Value, light: bool, term: AlongTerm<'_>) -> Value {
        self.blocks_level(n, lanes, sums, &mut |g, range| g.along_block(n, lanes, range, light, term))
    }

    fn blocks_level(
        &mut self,
        n: u64,
        lanes: Value,
        sums: Value,
        block: &mut dyn FnMut(&mut Self, (Value, Value)) -> Value,
    ) -> Value {
        let (zero, end) = (self.index(0), self.index(n));
        if n == 0 {
            return self.constant(DType::F32, 0, Lanes::One);
        }
        if n <= BLOCK {
            return block(self, (zero, end));
        }
        let blocks = n.div_ceil(BLOCK);
        let count = self.index(blocks);
        self.count_to(count, 1, |g, number| {
            let first = g.element_number(number, BLOCK);
            let next = g.b.ins().iadd_imm_u(first, BLOCK as i64);
            let next = g.least(next, end);
            let sum = block(g, (first, next));
            let place = g.element(sums, number, 4);
            g.b.ins().store(flags(), sum, place, 0);
        });
        let upper = self.b.ins().iadd_imm_u(sums, level_bytes(blocks, Lanes::One) as i64);
        self.along_level(blocks, lanes, upper, true, &mut |g, k, lanes| {
            let place = g.element(sums, k, 4);
            g.b.ins().load(lanes.value_type(DType::F32), flags(), place, 0)
        })
    }

    /// One block. `n` is the length of the whole row: what it is a multiple of, so is the block's length.
    fn along_block(
        &mut self,
        n: u64,
        lanes: Value,
        (begin, end): (Value, Value),
        light: bool,
        term: AlongTerm<'_>,
    ) -> Value {
        let zero = self.constant(DType::F32, 0, Lanes::Four);
        let mut vectors = vec![zero; 8];
        let mut next = begin;
        if light && n >= LANES {
            (next, vectors) = self.count_up((begin, end), LANES, &vectors, |g, index, vectors| {
                let add = |(position, &vector): (usize, &Value)| {
                    let k = g.b.ins().iadd_imm_u(index, position as i64 * 4);
                    let term = term(g, k, Lanes::Four);
                    g.b.ins().fadd(vector, term)
                };
                vectors.iter().enumerate().map(add).collect()
            });
            if n.is_multiple_of(LANES) {
                return self.fold_vectors(vectors);
            }
        }
        for (position, &vector) in vectors.iter().enumerate() {
            self.b.ins().store(flags(), vector, lanes, position as i32 * 16);
        }
        let add = |g: &mut Self, index: Value, width: Lanes, term: AlongTerm<'_>| {
            // Blocks begin at multiples of 4096, so that the lane is the number's low bits.
            let lane = g.b.ins().band_imm_u(index, LANES as i64 - 1);
            let place = g.element(lanes, lane, 4);
            let sum = g.b.ins().load(width.value_type(DType::F32), flags(), place, 0);
            let value = term(g, index, width);
            let sum = g.b.ins().fadd(sum, value);
            g.b.ins().store(flags(), sum, place, 0);
        };
        if n >= 4 {
            (next, _) = self.count_up((next, end), 4, &[], |g, index, _| {
                add(g, index, Lanes::Four, term);
                Vec::new()
            });
        }
        if !n.is_multiple_of(4) {
            self.count_up((next, end), 1, &[], |g, index, _| {
                add(g, index, Lanes::One, term);
                Vec::new()
            });
        }
        let vectors = (0..8).map(|position| self.b.ins().load(types::F32X4, flags(), lanes, position * 16)).collect();
        self.fold_vectors(vectors)
    }

    /// Folds 32 lanes in 8 vectors by halves.
    fn fold_vectors(&mut self, mut vectors: Vec<Value>) -> Value {
        while vectors.len() > 1 {
            let upper = vectors.split_off(vectors.len() / 2);
            for (low, high) in vectors.iter_mut().zip(upper) {
                *low = self.b.ins().fadd(*low, high);
            }
        }
        let lane = |g: &mut Self, lane: u8| g.b.ins().extractlane(vectors[0], lane);
        let (a, b, c, d) = (lane(self, 0), lane(self, 1), lane(self, 2), lane(self, 3));
        let (low, high) = (self.b.ins().fadd(a, c), self.b.ins().fadd(b, d));
        self.b.ins().fadd(low, high)
    }

    /// The sum of terms in the row-major order of `extents`, in one or four rows side by side. Short rows may be `unrolled`.
    pub(crate) fn sum_across(
        &mut self,
        extents: &[u64],
        width: Lanes,
        scratch: Value,
        unrolled: bool,
        term: AcrossTerm<'_>,
    ) -> Value {
        let sums = self.b.ins().iadd_imm_u(scratch, LANE_BYTES as i64);
        self.across_level(extents, width, (scratch, sums), unrolled, term)
    }

    fn across_level(
        &mut self,
        extents: &[u64],
        width: Lanes,
        (lanes, sums): (Value, Value),
        unrolled: bool,
        term: AcrossTerm<'_>,
    ) -> Value {
        let n: u64 = extents.iter().product();
        if n == 0 {
            return self.constant(DType::F32, 0, width);
        }
        if n <= LANES && unrolled {
            return self.across_unrolled(extents, n, width, term);
        }
        let start = vec![self.index(0); extents.len()];
        let end = self.index(n);
        if n <= BLOCK {
            let zero = self.index(0);
            return self.across_block(extents, width, lanes, (zero, end), &start, term).0;
        }
        let bytes = 4 * width.count();
        let blocks = n.div_ceil(BLOCK);
        let (zero, count) = (self.index(0), self.index(blocks));
        self.count_up((zero, count), 1, &start, |g, block, index| {
            let first = g.element_number(block, BLOCK);
            let next = g.b.ins().iadd_imm_u(first, BLOCK as i64);
            let next = g.least(next, end);
            let (sum, index) = g.across_block(extents, width, lanes, (first, next), index, term);
            let place = g.element(sums, block, bytes);
            g.b.ins().store(flags(), sum, place, 0);
            index
        });
        let upper = self.b.ins().iadd_imm_u(sums, level_bytes(blocks, width) as i64);
        self.across_level(&[blocks], width, (lanes, upper), false, &mut |g, k, _| {
            let place = g.element(sums, k, bytes);
            g.b.ins().load(width.value_type(DType::F32), flags(), place, 0)
        })
    }

    /// At most 32 terms: each its own lane, and the folds of the lanes that are there.
    fn across_unrolled(&mut self, extents: &[u64], n: u64, width: Lanes, term: AcrossTerm<'_>) -> Value {
        let zero = self.constant(DType::F32, 0, width);
        let mut sums = Vec::new();
        for k in 0..n {
            let mut rest = k;
            let mut index: Vec<u64> = Vec::new();
            for &extent in extents.iter().rev() {
                index.push(rest % extent);
                rest /= extent;
            }
            let index: Vec<Value> = index.iter().rev().map(|&i| self.index(i)).collect();
            let number = self.index(k);
            let value = term(self, number, &index);
            // +0.0 plus the term, which differs from the term where that is -0.0.
            sums.push(self.b.ins().fadd(zero, value));
        }
        let mut half = LANES as usize / 2;
        while half > 0 {
            for lane in half..sums.len() {
                sums[lane - half] = self.b.ins().fadd(sums[lane - half], sums[lane]);
            }
            sums.truncate(half);
            half /= 2;
        }
        sums[0]
    }

    /// One block; gives also the index after it.
    fn across_block(
        &mut self,
        extents: &[u64],
        width: Lanes,
        lanes: Value,
        range: (Value, Value),
        index: &[Value],
        term: AcrossTerm<'_>,
    ) -> (Value, Vec<Value>) {
        let bytes = 4 * width.count();
        let ty = width.value_type(DType::F32);
        let (zero, count) = (self.constant(DType::F32, 0, width), self.index(LANES));
        self.count_to(count, 1, |g, lane| {
            let place = g.element(lanes, lane, bytes);
            g.b.ins().store(flags(), zero, place, 0);
        });
        let (_, index) = self.count_up(range, 1, index, |g, k, index| {
            let value = term(g, k, index);
            let lane = g.b.ins().band_imm_u(k, LANES as i64 - 1);
            let place = g.element(lanes, lane, bytes);
            let sum = g.b.ins().load(ty, flags(), place, 0);
            let sum = g.b.ins().fadd(sum, value);
            g.b.ins().store(flags(), sum, place, 0);
            g.advance(index, extents)
        });
        let mut half = LANES / 2;
        while half > 0 {
            let count = self.index(half);
            self.count_to(count, 1, |g, lane| {
                let place = g.element(lanes, lane, bytes);
                let low = g.b.ins().load(ty, flags(), place, 0);
                let high = g.b.ins().load(ty, flags(), place, (half * bytes) as i32);
                let sum = g.b.ins().fadd(low, high);
                g.b.ins().store(flags(), sum, place, 0);
            });
            half /= 2;
        }
        (self.b.ins().load(ty, flags(), lanes, 0), index)
    }

    fn element_number(&mut self, block: Value, size: u64) -> Value {
        self.b.ins().imul_imm_u(block, size as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_ln1s() {
        assert_eq!(SPEC, SumSpec::default());
    }

    #[test]
    fn scratch_holds_every_level() {
        assert_eq!(scratch_bytes(4096, Lanes::Four), LANE_BYTES);
        assert_eq!(scratch_bytes(4097, Lanes::One), LANE_BYTES + 16);
        assert_eq!(scratch_bytes(4096 * 4096 + 1, Lanes::Four), LANE_BYTES + 4097 * 16 + 2 * 16);
    }
}
