//! Numbers as the predecessor packs them.

use loom_ir::numerics::formats::{Number, Storage};

/// The numbers of a tensor in the predecessor's safetensors, by the type's name there. No scale is stored: integers
/// stand for themselves. None for types that it does not write, and where the bytes are no whole elements.
pub fn from_safetensors(dtype: &str, bytes: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        "F64" => all(bytes, |b| f64::from_le_bytes(b) as f32),
        "F32" => all(bytes, f32::from_le_bytes),
        "F16" => all(bytes, |b| half(u16::from_le_bytes(b))),
        "BF16" => all(bytes, |b| bfloat(u16::from_le_bytes(b))),
        "F4" => Some(bytes.iter().flat_map(|&byte| [four_bits(byte & 15), four_bits(byte >> 4)]).collect()),
        "I64" => all(bytes, |b| i64::from_le_bytes(b) as f32),
        "I32" => all(bytes, |b| i32::from_le_bytes(b) as f32),
        "I16" => all(bytes, |b| f32::from(i16::from_le_bytes(b))),
        "I8" => all(bytes, |b| f32::from(i8::from_le_bytes(b))),
        "U64" => all(bytes, |b| u64::from_le_bytes(b) as f32),
        "U32" => all(bytes, |b| u32::from_le_bytes(b) as f32),
        "U16" => all(bytes, |b| f32::from(u16::from_le_bytes(b))),
        "U8" => all(bytes, |[b]| f32::from(b)),
        _ => None,
    }
}

/// The numbers in a bundle of version 2, by the name that the bundle has for their type, and its scale. Two numbers of
/// 4 bits share a byte, so of those there may be one more than were packed.
pub(crate) fn from_bundle(dtype: &str, scale: f32, bytes: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        "float32" => all(bytes, f32::from_le_bytes),
        "float64" => all(bytes, |b| f64::from_le_bytes(b) as f32),
        "float16" => all(bytes, |b| half(u16::from_le_bytes(b))),
        "bfloat16" => all(bytes, |b| bfloat(u16::from_le_bytes(b))),
        "float8" => all(bytes, |[b]| eight_bits(b)),
        "float4" => Some(nibbles(bytes).map(|q| (q / 7.5 - 1.0) * scale).collect()),
        "int4" => Some(nibbles(bytes).map(|q| (q - 8.0) * 8.0 / scale).collect()),
        "int8" => all(bytes, |b| f32::from(i8::from_le_bytes(b)) / scale),
        "int16" => all(bytes, |b| f32::from(i16::from_le_bytes(b)) / scale),
        "int32" => all(bytes, |b| i32::from_le_bytes(b) as f32 / scale),
        "int64" => all(bytes, |b| i64::from_le_bytes(b) as f32 / scale),
        "uint8" => all(bytes, |[b]| around_zero(f64::from(b), 127.5)),
        "uint16" => all(bytes, |b| around_zero(f64::from(u16::from_le_bytes(b)), 32_767.5)),
        "uint32" => all(bytes, |b| around_zero(f64::from(u32::from_le_bytes(b)), 2_147_483_647.5)),
        "uint64" => all(bytes, |b| around_zero(u64::from_le_bytes(b) as f64, 9.223_372e18)),
        _ => None,
    }
}

fn all<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
    let (elements, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| elements.iter().map(|&element| number(element)).collect())
}

/// An unsigned number as one from -1 to 1.
fn around_zero(number: f64, half: f64) -> f32 {
    (number / half - 1.0) as f32
}

/// Halves of bytes, the high one first.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.iter().flat_map(|&byte| [f32::from(byte >> 4), f32::from(byte & 15)])
}

/// An IEEE half.
fn half(bits: u16) -> f32 {
    match Storage::F16.widen(bits.into()) {
        Number::Float(number) => number as f32,
        Number::Integer(_) => 0.0,
    }
}

/// The upper half of an `f32`.
fn bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Sign, four bits of exponent with a bias of 7, three of mantissa; an exponent of 0 is 0, and nothing is infinite.
fn eight_bits(bits: u8) -> f32 {
    let (sign, exponent, mantissa) = (u32::from(bits >> 7), u32::from(bits >> 3 & 15), u32::from(bits & 7));
    match exponent {
        0 => f32::from_bits(sign << 31),
        _ => f32::from_bits(sign << 31 | exponent.saturating_add(120) << 23 | mantissa << 20),
    }
}

/// Sign, two bits of exponent, one of mantissa; the least that is not 0 reads as 0.75.
fn four_bits(bits: u8) -> f32 {
    let sign = if bits >> 3 & 1 == 1 { -1.0 } else { 1.0 };
    sign * match bits & 7 {
        0 => 0.0,
        1 => 0.75,
        2 => 1.0,
        3 => 1.5,
        4 => 2.0,
        5 => 3.0,
        6 => f32::INFINITY,
        _ => f32::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        for (bits, number) in [
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0xfbff, -65504.0),
        ] {
            assert_eq!(half(bits), number);
        }
        assert_eq!(half(0x8000).to_bits(), (-0.0f32).to_bits());
        assert_eq!((half(0x7c00), half(0x7c01).is_nan()), (f32::INFINITY, true));
    }

    #[test]
    fn parts_of_elements_are_none() {
        assert_eq!(from_safetensors("F32", &[0; 5]), None);
        assert_eq!(from_safetensors("F8_E4M3", &[0]), None);
        assert_eq!(from_bundle("int16", 1.0, &[0; 3]), None);
        assert_eq!(from_bundle("float128", 1.0, &[]), None);
    }
}
