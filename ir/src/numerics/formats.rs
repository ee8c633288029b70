//! The number formats in which tensors are stored, and what it means to go from one to another (LN1, "Storage").
//!
//! A number is widened exactly and narrowed by one rounding. All of it is integer arithmetic on bits: no conversion of the
//! processor's is trusted, and none of its settings has a part in it.

mod float;
mod integer;

#[cfg(test)]
mod tests;

use std::fmt;

pub use float::{FloatFormat, Overflow};

/// A number format of stored elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// 4 bits of exponent, 3 of mantissa; no infinities (OCP's E4M3).
    F8,
    /// 2 bits of exponent, 1 of mantissa; no infinities, no NaN (OCP's E2M1).
    F4,
    /// Two's complement, 64 bits.
    I64,
    /// Two's complement, 32 bits.
    I32,
    /// Two's complement, 16 bits.
    I16,
    /// Two's complement, 8 bits.
    I8,
    /// Two's complement, 4 bits.
    I4,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
}

/// A number, exactly: what any format's bits stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Of a float format: every one of them widens exactly. A NaN is `7ff8000000000000`.
    Float(f64),
    /// Of an integer format.
    Integer(i128),
}

impl Storage {
    /// Every format.
    pub const ALL: [Storage; 15] = [
        Storage::F64,
        Storage::F32,
        Storage::F16,
        Storage::Bf16,
        Storage::F8,
        Storage::F4,
        Storage::I64,
        Storage::I32,
        Storage::I16,
        Storage::I8,
        Storage::I4,
        Storage::U64,
        Storage::U32,
        Storage::U16,
        Storage::U8,
    ];

    /// The name on the command line and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Storage::F64 => "f64",
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::Bf16 => "bf16",
            Storage::F8 => "f8",
            Storage::F4 => "f4",
            Storage::I64 => "i64",
            Storage::I32 => "i32",
            Storage::I16 => "i16",
            Storage::I8 => "i8",
            Storage::I4 => "i4",
            Storage::U64 => "u64",
            Storage::U32 => "u32",
            Storage::U16 => "u16",
            Storage::U8 => "u8",
        }
    }

    /// The format with this [`name`](Self::name), or a longer one in use: `float16`, `half`, `bfloat16`, `int8`, `uint8` and
    /// the like.
    pub fn from_name(name: &str) -> Option<Storage> {
        let short = match name {
            "double" => "f64",
            "float" => "f32",
            "half" => "f16",
            "f8_e4m3" => "f8",
            "f4_e2m1" => "f4",
            _ => name,
        };
        let short = [("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")]
            .iter()
            .find_map(|(long, short_form)| short.strip_prefix(long).map(|bits| format!("{short_form}{bits}")))
            .unwrap_or_else(|| short.to_string());
        Storage::ALL.into_iter().find(|storage| storage.name() == short)
    }

    /// Bits of an element.
    pub const fn bits(self) -> u32 {
        match self {
            Storage::F64 | Storage::I64 | Storage::U64 => 64,
            Storage::F32 | Storage::I32 | Storage::U32 => 32,
            Storage::F16 | Storage::Bf16 | Storage::I16 | Storage::U16 => 16,
            Storage::F8 | Storage::I8 | Storage::U8 => 8,
            Storage::F4 | Storage::I4 => 4,
        }
    }

    /// The float format; none for integers.
    pub const fn float(self) -> Option<FloatFormat> {
        match self {
            Storage::F64 => Some(FloatFormat::F64),
            Storage::F32 => Some(FloatFormat::F32),
            Storage::F16 => Some(FloatFormat::F16),
            Storage::Bf16 => Some(FloatFormat::BF16),
            Storage::F8 => Some(FloatFormat::F8_E4M3),
            Storage::F4 => Some(FloatFormat::F4_E2M1),
            _ => None,
        }
    }

    /// Whether it has negative numbers.
    pub const fn is_signed(self) -> bool {
        !matches!(self, Storage::U64 | Storage::U32 | Storage::U16 | Storage::U8)
    }

    /// The least and the greatest number of an integer format.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        if self.float().is_some() {
            return None;
        }
        let span = 1i128 << self.bits();
        Some(if self.is_signed() { (-span / 2, span / 2 - 1) } else { (0, span - 1) })
    }

    /// The greatest finite number.
    pub fn greatest(self) -> f64 {
        match (self.float(), self.integer_range()) {
            (Some(float), _) => float.greatest(),
            (None, Some((_, greatest))) => integer::to_float(greatest, FloatFormat::F64),
            (None, None) => 0.0,
        }
    }

    /// What the low [`bits`](Self::bits) of a word stand for; the others are not looked at.
    pub fn widen(self, bits: u64) -> Number {
        match self.float() {
            Some(float) => Number::Float(float.widen(bits)),
            None => Number::Integer(integer::widen(bits, self.bits(), self.is_signed())),
        }
    }

    /// The bits for a number: a float rounded once, to nearest and ties to even; an integer kept in its low bits (it wraps);
    /// a float as an integer cut off towards zero, at the ends of the format's range, and 0 for NaN.
    pub fn narrow(self, number: Number) -> u64 {
        let mask = u64::MAX >> (64 - self.bits());
        match (self.float(), number) {
            (Some(float), Number::Float(value)) => float.narrow(value),
            (Some(float), Number::Integer(value)) => integer::to_format(value, float),
            (None, Number::Integer(value)) => (value as u64) & mask,
            (None, Number::Float(value)) => {
                let (least, greatest) = self.integer_range().unwrap_or_default();
                (integer::truncated(value).clamp(least, greatest) as u64) & mask
            }
        }
    }

    /// Bytes of so many elements; those of less than a byte lie two to a byte, the first in the low half, and an odd last
    /// one's other half is zero. `None` if that overflows.
    pub const fn bytes(self, elements: u64) -> Option<u64> {
        match elements.checked_mul(self.bits() as u64) {
            Some(bits) => Some(bits.div_ceil(8)),
            None => None,
        }
    }

    /// The bits of element `index` of packed little-endian bytes; zero where they end before it.
    pub fn read(self, bytes: &[u8], index: usize) -> u64 {
        if self.bits() == 4 {
            let byte = bytes.get(index / 2).copied().unwrap_or(0);
            return u64::from(if index.is_multiple_of(2) { byte & 15 } else { byte >> 4 });
        }
        let size = (self.bits() / 8) as usize;
        let element = index.checked_mul(size).and_then(|begin| bytes.get(begin..)?.get(..size)).unwrap_or(&[]);
        element.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// Appends elements, given as bits, to packed bytes. Of a format of 4 bits, bytes must end with a whole one.
    pub fn pack(self, elements: impl IntoIterator<Item = u64>, bytes: &mut Vec<u8>) {
        let mut elements = elements.into_iter();
        if self.bits() == 4 {
            while let Some(low) = elements.next() {
                let high = elements.next().unwrap_or(0);
                bytes.push((low & 15) as u8 | (high << 4) as u8);
            }
            return;
        }
        let size = (self.bits() / 8) as usize;
        for element in elements {
            bytes.extend(element.to_le_bytes().into_iter().take(size));
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
