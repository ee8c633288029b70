//! The generated microkernel: see [`crate::abi::Microkernel`] for what it computes.
//!
//! Any shape whose `nr` is a multiple of 4. `mr · nr / 4` accumulators stay in registers through a chunk of 256; at its
//! end they become the tile, or are added to it. Integers go the same way: their sums wrap, so any order will do.

use cranelift_codegen::ir::{InstBuilder, Type, Value};
use loom_ir::numerics::reduction::ContractSpec;
use loom_ir::types::DType;

use super::scalar::Lanes;
use super::{Gen, flags};

/// LN1's order, the only one that the verifier lets pass.
const SPEC: ContractSpec = ContractSpec { chunk: 256, mac: loom_ir::numerics::reduction::Mac::Split };
const CHUNK: u64 = SPEC.chunk as u64;
/// Steps of `k` in one round of the loop.
const UNROLL: u64 = 4;

/// Writes the body: `params` are the length, the narrow panel, the wide panel and the tile.
pub(crate) fn emit(g: &mut Gen<'_>, dtype: DType, (mr, nr): (u64, u64), params: [Value; 4]) {
    let [length, narrow, wide, tile] = params;
    let shape = Shape { dtype, mr, nr };
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
            let total = g.b.ins().load(shape.vector(), flags(), tile, position as i32 * 16);
            let total = shape.add(g, total, sum);
            g.b.ins().store(flags(), total, tile, position as i32 * 16);
        }
        end
    });
}

struct Shape {
    dtype: DType,
    mr: u64,
    nr: u64,
}

impl Shape {
    fn vector(&self) -> Type {
        Lanes::Four.value_type(self.dtype)
    }

    fn add(&self, g: &mut Gen<'_>, a: Value, b: Value) -> Value {
        match self.dtype {
            DType::F32 => g.b.ins().fadd(a, b),
            _ => g.b.ins().iadd(a, b),
        }
    }

    fn mul(&self, g: &mut Gen<'_>, a: Value, b: Value) -> Value {
        match self.dtype {
            DType::F32 => g.b.ins().fmul(a, b),
            _ => g.b.ins().imul(a, b),
        }
    }

    fn chunk(&self, g: &mut Gen<'_>, panels: (Value, Value), range: (Value, Value)) -> Vec<Value> {
        let zero = g.constant(self.dtype, 0, Lanes::Four);
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
            .map(|j| g.b.ins().load(self.vector(), flags(), wide, (step * self.nr * 4 + j * 16) as i32))
            .collect();
        let mut next = Vec::with_capacity(sums.len());
        for i in 0..self.mr {
            let scalar = Lanes::One.value_type(self.dtype);
            let scalar = g.b.ins().load(scalar, flags(), narrow, ((step * self.mr + i) * 4) as i32);
            let row = g.b.ins().splat(self.vector(), scalar);
            for &vector in &vectors {
                let product = self.mul(g, row, vector);
                let sum = self.add(g, sums[next.len()], product);
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
