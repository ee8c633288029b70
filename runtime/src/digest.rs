//! Digests of outputs: what people compare between machines.

use std::fmt::Write;

use loom_ir::numerics::order::CANONICAL_NAN;
use loom_ir::types::DType;
use sha2::{Digest, Sha256};

use crate::tensors::Tensor;

/// The bits of an `f32` with every NaN made the one that outputs hold (LN1 section 2).
pub const fn canonical(bits: u32) -> u32 {
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { CANONICAL_NAN } else { bits }
}

/// Makes every NaN of a tensor of this type the same.
pub fn canonicalise(dtype: DType, bits: &mut [u32]) {
    if dtype == DType::F32 {
        for bits in bits {
            *bits = canonical(*bits);
        }
    }
}

/// `sha256:` and the hexadecimal SHA-256 of the tensors' elements, 4 bytes each, little-endian, one tensor after another.
pub fn digest<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> String {
    let mut hash = Sha256::new();
    for tensor in tensors {
        hash.update(bytemuck::cast_slice::<u32, u8>(tensor.bits()));
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
