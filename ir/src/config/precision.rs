//! The number format that a layer's weights and results have.

use super::context::Reported;
use super::error::ConfigError;
use super::fields::{self, Fields};
use super::schema;
use crate::kernel::scalar::UnaryOp;
use crate::numerics::formats::Storage;

/// The number format of a layer: of its weights, and of what it gives. It computes in `f32` all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Precision {
    /// `float32`: nothing is rounded further.
    #[default]
    F32,
    /// `float16`.
    F16,
    /// `bfloat16`.
    Bf16,
    /// `float8`: E4M3.
    F8,
    /// `float4`: E2M1.
    F4,
}

impl Precision {
    /// Every format.
    pub const ALL: [Precision; 5] = [Precision::F32, Precision::F16, Precision::Bf16, Precision::F8, Precision::F4];

    /// The spelling in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::F16 => "float16",
            Precision::Bf16 => "bfloat16",
            Precision::F8 => "float8",
            Precision::F4 => "float4",
        }
    }

    /// The format of this name, or of another spelling of it, such as `f16` or `half`.
    pub fn from_name(name: &str) -> Option<Precision> {
        let storage = Storage::from_name(name)?;
        Precision::ALL.into_iter().find(|precision| precision.storage() == storage)
    }

    /// The format as one of storage.
    pub const fn storage(self) -> Storage {
        match self {
            Precision::F32 => Storage::F32,
            Precision::F16 => Storage::F16,
            Precision::Bf16 => Storage::Bf16,
            Precision::F8 => Storage::F8,
            Precision::F4 => Storage::F4,
        }
    }

    /// What rounds an `f32` to it, where it is narrower.
    pub const fn rounding(self) -> Option<UnaryOp> {
        match self {
            Precision::F32 => None,
            Precision::F16 => Some(UnaryOp::RoundF16),
            Precision::Bf16 => Some(UnaryOp::RoundBf16),
            Precision::F8 => Some(UnaryOp::RoundF8),
            Precision::F4 => Some(UnaryOp::RoundF4),
        }
    }
}

/// The `dtype` of a network or of a layer.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Option<Precision>, Reported> {
    let Some(name) = fields.optional(schema::DTYPE, fields::string)? else { return Ok(None) };
    match Precision::from_name(&name.value) {
        Some(precision) => Ok(Some(precision)),
        None => {
            let known: Vec<&'static str> = Precision::ALL.iter().map(|precision| precision.name()).collect();
            let what = "dtype";
            Err(fields.report(if Storage::from_name(&name.value).is_some() {
                ConfigError::Unsupported { what, name, known }
            } else {
                ConfigError::UnknownName { what, name, spellings: known.clone(), known }
            }))
        }
    }
}
