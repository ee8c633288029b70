//! The numerics contract LN1 as data: one compiled network, the same bits on every device.
//!
//! The interpreter and all code generators read the contract from here; none has a second opinion. `docs/numerics.md`
//! states it in words, with the measured errors of the library.
//!
//! - [`reduction`]: the order of contractions and sums;
//! - [`library`]: exp, tanh and the rest, each one straight-line program over exact operations;
//! - [`expand`]: division, square root and other exact operations as such programs too, and the pass that puts programs
//!   in the place of operations a device isn't trusted with;
//! - [`soft`]: every operation on floats as a program of integers, for devices whose floats aren't trusted at all;
//! - [`formats`]: how numbers are stored, and what it means to widen and to narrow them;
//! - [`quantise`], [`groups`], [`stored`], [`widen`]: numbers of few bits with scales, and tensors of them as they lie in files;
//! - [`order`]: integer keys for maxima and minima, and the one NaN.
//!
//! # What a scalar instruction may mean
//!
//! IEEE 754 binary32, rounded to nearest even after *every* add, sub and mul (none fused, none reordered), subnormals
//! kept as operands and results. NaN has no identity: a program whose result would depend on a payload is wrong. The
//! programs here test for NaN by a comparison that is false for it, or by its bits, and keep payloads out of numbers.

mod emit;
pub mod expand;
pub mod formats;
pub mod groups;
pub mod library;
pub mod order;
pub mod philox;
pub mod quantise;
pub mod reduction;
pub mod rotary;
pub mod soft;
pub mod stored;
pub mod widen;
