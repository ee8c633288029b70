//! The generated microkernel: see [`crate::abi::Microkernel`] for what it computes.
//!
//! Any shape whose `nr` is a multiple of 4. `mr · nr / 4` accumulators stay in registers through a chunk of 256; at its
//! end they become the tile, or are added to it.
//!
//! Bytes are widened to 16 bits, and products of these added in pairs, none of which leaves 32 bits; so there are two accumulators for
//! four columns, each with two sums for two of them, which are added at the end. Sums wrap, so any order will do.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use loom_ir::numerics::reduction::ContractSpec;
use loom_ir::types::DType;

use super::bytes::TERMS;
use super::scalar::Lanes;
use super::{Gen, flags};
use crate::abi::Factors;

/// LN1's order, the only one that the verifier lets pass.
const SPEC: ContractSpec = ContractSpec { chunk: 256, mac: loom_ir::numerics::reduction::Mac::Split };
const CHUNK: u64 = SPEC.chunk as u64;
/// Steps of `k` in one round of the loop.
const UNROLL: u64 = 4;

/// Writes the body: `params` are the length, the narrow panel, the wide panel and the tile.
pub(crate) fn emit(g: &mut Gen<'_>, factors: Factors, shape: (u64, u64), params: [Value; 4]) {
    match factors {
        Factors::F32 => floats(g, shape, params),
        Factors::I8 => bytes(g, shape, params),
    }
}

fn bytes(g: &mut Gen<'_>, (mr, nr): (u64, u64), [length, narrow, wide, tile]: [Value; 4]) {
    let rounded = g.b.ins().iadd_imm_u(length, TERMS as i64 - 1);
    let steps = g.b.ins().ushr_imm_u(rounded, i64::from(TERMS.trailing_zeros()));
    let vectors = nr / 4;
    let zero = g.constant(DType::I32, 0, Lanes::Four);
    let sums = vec![zero; (mr * vectors * 2) as usize];
    let begin = g.index(0);
    let (_, sums) = g.count_up((begin, steps), 1, &sums, |g, step, sums| {
        let (narrow, wide) = (g.element(narrow, step, mr * TERMS), g.element(wide, step, nr * TERMS));
        // Of each vector of four columns the halves of two, eight terms of 16 bits.
        let halves: Vec<Value> = (0..vectors)
            .flat_map(|j| {
                let codes = g.b.ins().load(types::I8X16, flags(), wide, (j * 16) as i32);
                [g.b.ins().swiden_low(codes), g.b.ins().swiden_high(codes)]
            })
            .collect();
        let mut next = Vec::with_capacity(sums.len());
        for i in 0..mr {
            let word = g.b.ins().load(types::I32, flags(), narrow, (i * TERMS) as i32);
            let words = g.b.ins().splat(types::I32X4, word);
            let codes = g.bitcast(types::I8X16, words);
            let row = g.b.ins().swiden_low(codes);
            for &half in &halves {
                let products = pairs(g, row, half);
                let sum = g.b.ins().iadd(sums[next.len()], products);
                next.push(sum);
            }
        }
        next
    });
    for (position, halves) in sums.chunks(2).enumerate() {
        let sum = g.b.ins().iadd_pairwise(halves[0], halves[1]);
        g.b.ins().store(flags(), sum, tile, position as i32 * 16);
    }
}

/// The sums of neighbouring products of 16-bit numbers.
fn pairs(g: &mut Gen<'_>, a: Value, b: Value) -> Value {
    let [low, high] = [[a, b].map(|v| g.b.ins().swiden_low(v)), [a, b].map(|v| g.b.ins().swiden_high(v))];
    let [low, high] = [low, high].map(|[a, b]| g.b.ins().imul(a, b));
    g.b.ins().iadd_pairwise(low, high)
}

fn floats(g: &mut Gen<'_>, (mr, nr): (u64, u64), params: [Value; 4]) {
    let [length, narrow, wide, tile] = params;
    let shape = Shape { mr, nr };
    let zero = g.index(0);
    let chunk = g.index(CHUNK);
    // The first chunk's sums are the tile, also where there's no term at all.
    let first = g.least(length, chunk);
    let sums = shape.chunk(g, (narrow, wide), (zero, first));
    for (position, &sum) in sums.iter().enumerate() {
        g.b.ins().store(flags(), sum, tile, position as i32 * 16);
    }
    g.walk(first, length, |g, begin| {
        let end = g.b.ins().iadd_imm_u(begin, CHUNK as i64);
        let end = g.least(end, length);
        let sums = shape.chunk(g, (narrow, wide), (begin, end));
        for (position, &sum) in sums.iter().enumerate() {
            let total = g.b.ins().load(types::F32X4, flags(), tile, position as i32 * 16);
            let total = g.b.ins().fadd(total, sum);
            g.b.ins().store(flags(), total, tile, position as i32 * 16);
        }
        end
    });
}

struct Shape {
    mr: u64,
    nr: u64,
}

impl Shape {
    fn chunk(&self, g: &mut Gen<'_>, panels: (Value, Value), range: (Value, Value)) -> Vec<Value> {
        let zero = g.constant(DType::F32, 0, Lanes::Four);
        let sums = vec![zero; (self.mr * self.nr / 4) as usize];
        let (next, sums) = g.count_up(range, UNROLL, &sums, |g, k, sums| {
            let (narrow, wide) = self.at(g, panels, k);
            (0..UNROLL).fold(sums.to_vec(), |sums, step| self.step(g, (narrow, wide), step, &sums))
        });
        let (_, sums) = g.count_up((next, range.1), 1, &sums, |g, k, sums| {
            let panels = self.at(g, panels, k);
            self.step(g, panels, 0, sums)
        });
        sums
    }

    fn at(&self, g: &mut Gen<'_>, (narrow, wide): (Value, Value), k: Value) -> (Value, Value) {
        (g.element(narrow, k, self.mr * 4), g.element(wide, k, self.nr * 4))
    }

    /// `sums + narrow[step] · wide[step]`, product and sum rounded.
    fn step(&self, g: &mut Gen<'_>, (narrow, wide): (Value, Value), step: u64, sums: &[Value]) -> Vec<Value> {
        let vectors: Vec<Value> = (0..self.nr / 4)
            .map(|j| g.b.ins().load(types::F32X4, flags(), wide, (step * self.nr * 4 + j * 16) as i32))
            .collect();
        let mut next = Vec::with_capacity(sums.len());
        for i in 0..self.mr {
            let scalar = g.b.ins().load(types::F32, flags(), narrow, ((step * self.mr + i) * 4) as i32);
            let row = g.b.ins().splat(types::F32X4, scalar);
            for &vector in &vectors {
                let product = g.b.ins().fmul(row, vector);
                let sum = g.b.ins().fadd(sums[next.len()], product);
                next.push(sum);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_ln1s() {
        assert_eq!(SPEC, ContractSpec::default());
    }
}
