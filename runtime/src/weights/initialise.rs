//! Weights and inputs drawn from a seed.

use std::collections::BTreeMap;

use loom_ir::kernel::ids::rows_named;
use loom_ir::kernel::states::States;
use loom_ir::kernel::{Buffer, BufferId, BufferKind, Program};
use loom_ir::numerics::philox::{Stream, symmetric};
use loom_ir::types::{DType, Shape};

use super::codes::coded;
use crate::fp_env::FpEnv;
use crate::tensors::Tensor;

/// Why weights or inputs can't be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitialiseError {
    /// A weight whose name does not tell what it is.
    #[error("no initialiser for the weight `{name}` {dtype} {shape}: give the weights in a file")]
    Role {
        /// The weight.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
    },
    /// An input that isn't `f32`.
    #[error("the input `{name}` is {dtype}, only f32 can be drawn: give it in a file")]
    Input {
        /// The input.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// Too large for this machine.
    #[error("no memory for `{name}` {shape}")]
    Memory {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Shape,
    },
}

/// All weights of a program: see [`super::Weights::initialise`]. Those that are multiplied as integers are drawn as numbers
/// and quantised.
pub(super) fn weights(program: &Program, seed: u64) -> Result<Vec<Tensor>, InitialiseError> {
    let mut made = BTreeMap::new();
    for (_, coded) in coded(program) {
        let numbers = Buffer { dtype: DType::F32, kind: BufferKind::Weight, ..coded.codes.clone() };
        let numbers = weight(&numbers, seed)?;
        let tensors = coded.quantised(numbers.bits()).map_err(|_| InitialiseError::Memory {
            name: coded.codes.name.clone(),
            shape: coded.codes.shape.clone(),
        })?;
        made.extend(tensors.into_iter().map(|tensor| (tensor.name().to_string(), tensor)));
    }
    program.weights().map(|(_, buffer)| made.remove(&buffer.name).map_or_else(|| weight(buffer, seed), Ok)).collect()
}

/// One weight of floats.
fn weight(buffer: &Buffer, seed: u64) -> Result<Tensor, InitialiseError> {
    let (path, role) = buffer.name.rsplit_once('.').unwrap_or(("", &buffer.name));
    let unknown =
        || InitialiseError::Role { name: buffer.name.clone(), dtype: buffer.dtype, shape: buffer.shape.clone() };
    if buffer.dtype != DType::F32 {
        return Err(unknown());
    }
    match role {
        role if role == "weight" || role.ends_with("_weight") || role.starts_with("weight_") => {
            let limit = glorot_limit(&buffer.shape).ok_or_else(unknown)?;
            fill(buffer, Stream::new(seed, path, role).words().map(|word| (symmetric(word) * limit).to_bits()))
        }
        "cluster_centers" => fill(buffer, Stream::new(seed, path, role).words().map(|word| symmetric(word).to_bits())),
        role if role == "bias" || role.ends_with("_bias") || role.starts_with("bias_") => {
            fill(buffer, std::iter::repeat(0))
        }
        role if role.starts_with("initial_") => fill(buffer, std::iter::repeat(0)),
        "beta" | "running_mean" => fill(buffer, std::iter::repeat(0)),
        "gamma" | "running_var" => fill(buffer, std::iter::repeat(1.0f32.to_bits())),
        _ => Err(unknown()),
    }
}

/// Inputs for a program, each number uniform in [-1, 1): the words of the stream `NAME/input`, `2u - 1` each. Of an input
/// that holds row numbers each is `word · rows / 2^32`, rounded down. What is carried from run to run is not drawn: it begins as
/// zeros.
pub fn draw_inputs(program: &Program, seed: u64) -> Result<Vec<Tensor>, InitialiseError> {
    let ids = rows_named(program);
    let draw = |(id, buffer): (BufferId, &Buffer)| {
        if buffer.dtype != DType::F32 {
            return Err(InitialiseError::Input { name: buffer.name.clone(), dtype: buffer.dtype });
        }
        let words = Stream::new(seed, &buffer.name, "input").words();
        match ids.get(&id) {
            // Fewer than 2^31 rows; where a float can't hold the number it is not of a layer's making.
            Some(rows) => fill(buffer, words.map(|word| (((u64::from(word) * rows) >> 32) as f32).to_bits())),
            None => fill(buffer, words.map(|word| symmetric(word).to_bits())),
        }
    };
    let states = States::of(program);
    let drawn = program.inputs().filter(|(id, _)| states.as_ref().is_none_or(|states| !states.has(*id)));
    FpEnv::run(|| drawn.map(draw).collect())
}

/// `sqrt(6 / (fan_in + fan_out))`; `None` for a shape without an `out` and an `in`, or without elements.
fn glorot_limit(shape: &Shape) -> Option<f32> {
    let [out, input, receptive @ ..] = shape.dims() else { return None };
    let receptive = receptive.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent))?;
    let fans = out.checked_mul(receptive)?.checked_add(input.checked_mul(receptive)?)?;
    // Below 2^32, so exact in f64; division and square root are correctly rounded.
    Some(if fans == 0 { 0.0 } else { (6.0 / fans as f64).sqrt() as f32 })
}

fn fill(buffer: &Buffer, words: impl Iterator<Item = u32>) -> Result<Tensor, InitialiseError> {
    let memory = || InitialiseError::Memory { name: buffer.name.clone(), shape: buffer.shape.clone() };
    let count = buffer.shape.checked_elements().and_then(|count| usize::try_from(count).ok()).ok_or_else(memory)?;
    let mut bits = Vec::new();
    bits.try_reserve_exact(count).map_err(|_| memory())?;
    bits.extend(words.take(count));
    Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), bits).ok_or_else(memory)
}

#[cfg(test)]
mod tests {
    use loom_ir::kernel::BufferKind;

    use super::*;

    fn buffer(name: &str, shape: impl Into<Shape>) -> Buffer {
        Buffer { name: name.to_string(), dtype: DType::F32, shape: shape.into(), kind: BufferKind::Weight }
    }

    #[test]
    fn glorot_counts_the_receptive_field() {
        assert_eq!(glorot_limit(&[64, 784].into()), Some((6.0f64 / 848.0).sqrt() as f32));
        assert_eq!(glorot_limit(&[8, 1, 5, 5].into()), Some((6.0f64 / 225.0).sqrt() as f32));
        assert_eq!(glorot_limit(&[8].into()), None);
    }

    #[test]
    fn weights_are_pinned() {
        // Words and limit recomputed with Python: (2 · (0xA7BCA3F8 >> 8) · 2^-24 - 1) · f32(sqrt(1)).
        let tensor = weight(&buffer("layers.0.weight", [3, 3]), 42);
        let bits = tensor.map(|tensor| tensor.bits().to_vec());
        let first = symmetric(0xA7BC_A3F8);
        assert_eq!(bits.as_ref().map(|bits| bits.first().copied()), Ok(Some(first.to_bits())));
    }

    #[test]
    fn roles() {
        let ones = weight(&buffer("layers.3.gamma", [4]), 1).map(|tensor| tensor.bits().to_vec());
        assert_eq!(ones, Ok(vec![0x3F80_0000; 4]));
        let zeros = weight(&buffer("layers.3.branches.1.bias", [4]), 1).map(|tensor| tensor.bits().to_vec());
        assert_eq!(zeros, Ok(vec![0; 4]));
        let weight_of =
            |name: &str, shape: &[u64]| weight(&buffer(name, shape.to_vec()), 1).map(|tensor| tensor.bits().to_vec());
        assert_eq!(weight_of("layers.3.up_bias", &[2]), Ok(vec![0; 2]));
        assert_eq!(weight_of("layers.3.running_mean", &[2]), Ok(vec![0; 2]));
        assert_eq!(weight_of("layers.3.running_var", &[2]), Ok(vec![0x3F80_0000; 2]));
        // Each weight of a layer has a stream of its own.
        assert_ne!(weight_of("layers.3.up_weight", &[4, 4]), weight_of("layers.3.gate_weight", &[4, 4]));
        let word = Stream::new(1, "layers.3", "cluster_centers").word(0);
        let centre = weight_of("layers.3.cluster_centers", &[1]);
        assert_eq!(centre, Ok(vec![symmetric(word).to_bits()]));
        assert!(matches!(weight(&buffer("layers.3.table", [4]), 1), Err(InitialiseError::Role { .. })));
        assert!(matches!(weight(&buffer("layers.3.weight", [4]), 1), Err(InitialiseError::Role { .. })));
    }
}
