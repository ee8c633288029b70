//! Decisions of a generator, from a seed or from bytes.
//!
//! A fuzzer mutates bytes, and a generator that reads its decisions from them makes every input a valid graph, close to the
//! one before. Where the bytes end, every decision is 0 and [`Choices::more`] is false, so that generators end.

use crate::values::Random;

/// A source of decisions.
#[derive(Debug, Clone)]
pub struct Choices<'a>(Source<'a>);

#[derive(Debug, Clone)]
enum Source<'a> {
    Seed(Random),
    Bytes(&'a [u8]),
}

impl<'a> Choices<'a> {
    /// Decisions without end, which follow from the seed.
    pub fn from_seed(seed: u64) -> Choices<'static> {
        Choices(Source::Seed(Random(seed)))
    }

    /// The decisions that these bytes hold.
    pub fn from_bytes(bytes: &'a [u8]) -> Choices<'a> {
        Choices(Source::Bytes(bytes))
    }

    /// Whether there is anything left to decide by.
    pub fn more(&self) -> bool {
        !matches!(self.0, Source::Bytes([]))
    }

    /// The next `count` (at most 8) bytes as a number, little-endian; missing ones are 0.
    fn number(&mut self, count: usize) -> u64 {
        match &mut self.0 {
            Source::Seed(random) => random.word(),
            Source::Bytes(bytes) => {
                let (head, rest) = bytes.split_at(count.min(bytes.len()));
                *bytes = rest;
                head.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
            }
        }
    }

    /// Any 64 bits.
    pub fn word(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let bytes = if end <= 1 << 8 { 1 } else { 4 };
        self.number(bytes) % end.max(1)
    }

    /// True once in so many times, and never where the bytes have ended.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.more() && self.below(times) == times - 1
    }

    /// An element of a list, which must not be empty.
    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A random order of the numbers below `count`.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_and_end() {
        let mut choices = Choices::from_bytes(&[7, 1, 0, 0, 0, 9]);
        assert_eq!([choices.below(5), choices.below(1000), choices.below(10)], [2, 1, 9]);
        assert!(!choices.more() && !choices.once_in(1));
        assert_eq!([choices.below(3), choices.word()], [0, 0]);
        assert_eq!(choices.permutation(3).len(), 3);
    }
}
