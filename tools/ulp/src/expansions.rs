//! The programs of the exact operations against the processor's instructions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use loom_ir::kernel::scalar::ScalarFn;

use loom_ir::eval::batch::{Batch, Block, LANES};

/// Disagreements found.
#[derive(Debug, Clone, Default)]
pub struct Disagreements {
    /// Operands tried.
    pub tried: u64,
    /// Of these, with another result.
    pub wrong: u64,
    /// One of them.
    pub example: Vec<u32>,
}

/// Tries `blocks` blocks of operands, made by `operands` from the block's number; `agrees` looks at operands and result.
pub fn compare(
    function: &ScalarFn,
    blocks: u64,
    threads: u64,
    progress: &AtomicU64,
    operands: impl Fn(u64, &mut [Block]) + Sync,
    agrees: impl Fn(&[u32], u32) -> bool + Sync,
) -> Disagreements {
    let next = AtomicU64::new(0);
    let arity = function.params.len();
    let mut sum = Disagreements::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = Batch::new(function);
                    let mut found = Disagreements::default();
                    let mut arguments = vec![[0; LANES]; arity];
                    loop {
                        let block = next.fetch_add(1, Ordering::Relaxed);
                        if block >= blocks {
                            return found;
                        }
                        operands(block, &mut arguments);
                        for (index, argument) in arguments.iter().enumerate() {
                            *batch.param(index) = *argument;
                        }
                        let results = batch.run(LANES);
                        for (lane, &got) in results.iter().enumerate() {
                            let at: [u32; 2] = [arguments[0][lane], arguments[arity - 1][lane]];
                            found.tried += 1;
                            if !agrees(&at[..arity], got) {
                                found.wrong += 1;
                                found.example = at[..arity].to_vec();
                            }
                        }
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for worker in workers {
            let found = worker.join().expect("a worker does not panic");
            sum.tried += found.tried;
            sum.wrong += found.wrong;
            if !found.example.is_empty() {
                sum.example = found.example;
            }
        }
    });
    sum
}

/// Whether bits are those of a float, all NaN being one.
pub fn is(bits: u32, want: f32) -> bool {
    bits == want.to_bits() || f32::from_bits(bits).is_nan() && want.is_nan()
}

/// Every float, for a function of one.
pub fn all_floats(block: u64, operands: &mut [Block]) {
    for (lane, operand) in operands[0].iter_mut().enumerate() {
        *operand = (block * LANES as u64 + lane as u64) as u32;
    }
}

/// Pairs for a division: every pair of exponents comes up, again and again, with mantissas that are random, near each
/// other, or such that the quotient is next to a midpoint.
pub fn division_pairs(block: u64, operands: &mut [Block]) {
    let [numerators, denominators] = operands else { unreachable!("a division has two operands") };
    for (lane, (numerator, denominator)) in numerators.iter_mut().zip(denominators).enumerate() {
        let number = block * LANES as u64 + lane as u64;
        let exponents = number % 65_536;
        let random = scramble(number);
        let (n_exponent, d_exponent) = ((exponents / 256) as u32, (exponents % 256) as u32);
        let d_mantissa = random as u32 & 0x7f_ffff;
        let n_mantissa = match (random >> 23) % 3 {
            0 => (random >> 32) as u32 & 0x7f_ffff,
            1 => d_mantissa.wrapping_add((random >> 32) as u32 % 9).wrapping_sub(4) & 0x7f_ffff,
            _ => {
                // The top bits of (an odd quotient of some bits) times the divisor.
                let bits = 1 + (random >> 25) % 25;
                let quotient = ((random >> 32) | 1 << 31) >> (32 - bits) << 1 | 1;
                let product = quotient * u64::from(d_mantissa | 0x80_0000);
                let top = product << product.leading_zeros() >> 40;
                (top as u32).wrapping_add((random >> 30) as u32 % 3).wrapping_sub(1) & 0x7f_ffff
            }
        };
        let signs = (random >> 62) as u32;
        *numerator = (signs & 1) << 31 | n_exponent << 23 | n_mantissa;
        *denominator = (signs >> 1) << 31 | d_exponent << 23 | d_mantissa;
    }
}

/// The same pairs with exponents that the quick division covers.
pub fn ordinary_pairs(block: u64, operands: &mut [Block]) {
    division_pairs(block, operands);
    // From 2^-64 on, of which there are 128, and from 2^-32, of which there are 64.
    for (operand, (least, count)) in operands.iter_mut().zip([(63, 128), (95, 64)]) {
        for bits in operand {
            *bits = *bits & 0x807f_ffff | (least + (*bits >> 23 & 255) % count) << 23;
        }
    }
}

/// A fixed permutation of 64-bit numbers that looks random (the finish of splitmix64).
pub fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
