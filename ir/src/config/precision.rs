//! The number format that a layer's weights and results have, and how a layer of integers is quantised.

use super::context::Reported;
use super::error::ConfigError;
use super::fields::{self, Fields};
use super::schema::{self, Key};
use super::spanned::Spanned;
use crate::kernel::scalar::UnaryOp;
use crate::numerics::formats::Storage;
use crate::numerics::quantise::{CodeFormat, Coding};

/// The number format of a layer. Of a float: of its weights, and of what it gives; it computes in `f32` all the same. Of an
/// integer: of its weights' codes, which are multiplied with codes of its input; what it gives is `f32`.
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
    /// `int8`
    Int8,
    /// `int4`
    Int4,
}

impl Precision {
    /// Every format.
    pub const ALL: [Precision; 7] = [
        Precision::F32,
        Precision::F16,
        Precision::Bf16,
        Precision::F8,
        Precision::F4,
        Precision::Int8,
        Precision::Int4,
    ];

    /// The spelling in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::F16 => "float16",
            Precision::Bf16 => "bfloat16",
            Precision::F8 => "float8",
            Precision::F4 => "float4",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
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
            Precision::Int8 => Storage::I8,
            Precision::Int4 => Storage::I4,
        }
    }

    /// The format of the weights' codes, of integers.
    pub const fn codes(self) -> Option<CodeFormat> {
        match self {
            Precision::Int8 => Some(CodeFormat::I8),
            Precision::Int4 => Some(CodeFormat::I4),
            _ => None,
        }
    }

    /// What rounds an `f32` to it, where it is a narrower float.
    pub const fn rounding(self) -> Option<UnaryOp> {
        match self {
            Precision::F32 | Precision::Int8 | Precision::Int4 => None,
            Precision::F16 => Some(UnaryOp::RoundF16),
            Precision::Bf16 => Some(UnaryOp::RoundBf16),
            Precision::F8 => Some(UnaryOp::RoundF8),
            Precision::F4 => Some(UnaryOp::RoundF4),
        }
    }
}

/// How a layer of integers is quantised, as far as it says. In any other format only what is said of the result means anything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quantisation {
    /// Weights of one output that share a scale, at most; all of them where it isn't given.
    pub group_size: Option<Spanned<u64>>,
    /// The input's codes; where they aren't given, each row has a scale of its own.
    pub input: Option<GivenCoding>,
    /// The same for what the layer's last product takes, where that isn't the input; of a recurrent layer for the state.
    pub inner: Option<GivenCoding>,
    /// The codes that the result becomes, of a layer of any format; without them the result stays as it is.
    pub output: Option<GivenCoding>,
}

/// A [`Coding`] as a file says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GivenCoding {
    /// The scale.
    pub scale: Spanned<f32>,
    /// The zero point.
    pub zero_point: Option<Spanned<i8>>,
}

impl GivenCoding {
    /// What is said.
    pub fn coding(&self) -> Coding {
        Coding { scale: self.scale.value, zero_point: self.zero_point.map(|zero_point| zero_point.value) }
    }
}

/// The keys of [`Quantisation`].
pub(super) fn read_quantisation(fields: &mut Fields<'_, '_>) -> Result<Quantisation, Reported> {
    let group_size = fields.optional(schema::GROUP_SIZE, fields::size);
    let [input, inner, output] = [
        (schema::INPUT_SCALE, schema::INPUT_ZERO_POINT),
        (schema::INNER_SCALE, schema::INNER_ZERO_POINT),
        (schema::OUTPUT_SCALE, schema::OUTPUT_ZERO_POINT),
    ]
    .map(|keys| read_coding(fields, keys));
    Ok(Quantisation { group_size: group_size?, input: input?, inner: inner?, output: output? })
}

/// A scale of codes, and maybe their zero point.
pub(super) fn read_coding(
    fields: &mut Fields<'_, '_>,
    (scale, zero_point): (Key, Key),
) -> Result<Option<GivenCoding>, Reported> {
    let given = fields.optional(scale, fields::positive);
    let zero_point_given = fields.optional(zero_point, fields::code);
    match (given?, zero_point_given?) {
        (Some(scale), zero_point) => {
            let scale = Spanned::new(scale.value as f32, scale.span);
            Ok(Some(GivenCoding { scale, zero_point }))
        }
        (None, Some(given)) => {
            let at = fields.object.at(Some(zero_point.name.to_owned()));
            let rule = "a zero point says nothing without the scale that it goes with";
            Err(fields.report(ConfigError::Rule { at, rule, span: given.span }))
        }
        (None, None) => Ok(None),
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
